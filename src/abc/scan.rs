//! A cursor over one line of music: bytes to look at, numbers and note lengths to take. It never leaves its range.

use super::diagnostic::Span;
use super::fraction::Fraction;

/// The largest numerator or denominator of a written note length.
pub(super) const MAX_LENGTH_PART: u32 = 4096;

/// The cursor. Positions are byte offsets into the whole text.
#[derive(Debug, Clone)]
pub(super) struct Scanner<'t> {
    text: &'t str,
    pub pos: usize,
    pub end: usize,
}

impl<'t> Scanner<'t> {
    /// Over `text[start..end]`.
    pub fn new(text: &'t str, start: usize, end: usize) -> Self {
        let end = end.min(text.len());
        Scanner { text, pos: start.min(end), end }
    }

    /// The byte under the cursor.
    pub fn peek(&self) -> Option<u8> {
        self.peek_at(0)
    }

    /// The byte `ahead` bytes on.
    pub fn peek_at(&self, ahead: usize) -> Option<u8> {
        let at = self.pos.checked_add(ahead)?;
        if at < self.end { self.text.as_bytes().get(at).copied() } else { None }
    }

    /// Moves past the byte under the cursor.
    pub fn bump(&mut self) {
        self.pos = (self.pos + 1).min(self.end);
    }

    /// Moves past `byte` when it is next.
    pub fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.bump();
        }
        found
    }

    /// Moves past every `byte` that is next and counts them.
    pub fn count(&mut self, byte: u8) -> u32 {
        let mut n = 0u32;
        while self.take(byte) {
            n = n.saturating_add(1);
        }
        n
    }

    /// The whole character under the cursor, moving past it.
    pub fn take_char(&mut self) -> Option<char> {
        let c = self.text.get(self.pos..self.end)?.chars().next()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    /// Digits as a number (saturating); `None` when there is no digit.
    pub fn number(&mut self) -> Option<u32> {
        let mut value: Option<u32> = None;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = Some(value.unwrap_or(0).saturating_mul(10).saturating_add(u32::from(digit - b'0')));
            self.bump();
        }
        value
    }

    /// A note length: `2`, `3/2`, `/`, `//`, `3/`, `/4`. `Err` with the nearest length when it is out of bounds.
    pub fn length(&mut self) -> Result<Fraction, Fraction> {
        let num = self.number();
        let mut den: u32 = 1;
        while self.take(b'/') {
            den = den.saturating_mul(self.number().unwrap_or(2));
        }
        let num = num.unwrap_or(1);
        let bounded = Fraction::ratio(num.clamp(1, MAX_LENGTH_PART), den.clamp(1, MAX_LENGTH_PART));
        if (1..=MAX_LENGTH_PART).contains(&num) && (1..=MAX_LENGTH_PART).contains(&den) {
            Ok(bounded)
        } else {
            Err(bounded)
        }
    }

    /// The text from `start` to the cursor.
    pub fn since(&self, start: usize) -> &'t str {
        self.text.get(start..self.pos).unwrap_or("")
    }

    /// The span from `start` to the cursor.
    pub fn span(&self, start: usize) -> Span {
        Span::new(start, self.pos)
    }

    /// The offset of the next `byte` at or after the cursor, on this line.
    pub fn find(&self, byte: u8) -> Option<usize> {
        let rest = self.text.as_bytes().get(self.pos..self.end)?;
        rest.iter().position(|b| *b == byte).map(|i| self.pos + i)
    }

    /// Whether nothing but blanks is left.
    pub fn only_blanks_left(&self) -> bool {
        self.text.get(self.pos..self.end).unwrap_or("").trim_start().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        let length = |text: &str| Scanner::new(text, 0, text.len()).length();
        for (text, num, den) in
            [("", 1, 1), ("2", 2, 1), ("/", 1, 2), ("//", 1, 4), ("3/2", 3, 2), ("3/", 3, 2), ("/4", 1, 4)]
        {
            assert_eq!(length(text), Ok(Fraction::ratio(num, den)), "{text}");
        }
        for wrong in ["0", "/0", "99999999999999", "2/99999", &"/".repeat(1000)] {
            assert!(length(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_cursor_stays_on_its_range() {
        let mut s = Scanner::new("ab|é", 1, 2);
        assert_eq!((s.peek(), s.peek_at(1), s.find(b'|')), (Some(b'b'), None, None));
        s.bump();
        s.bump();
        assert_eq!((s.pos, s.take_char()), (2, None));
        let mut s = Scanner::new("é", 0, 99);
        assert_eq!((s.take_char(), s.peek()), (Some('é'), None));
    }
}
