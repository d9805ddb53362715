//! From a file's bytes to its tunes: encodings, tunebooks, and text between `<start>` and `<end>` lines.

use std::borrow::Cow;

use super::diagnostic::Span;
use super::parse::parse_tune_in;
use super::tune::Tune;

/// How a file's bytes became text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8, with or without a byte order mark.
    Utf8,
    /// Not UTF-8: every byte was taken as its Latin-1 character.
    Latin1,
}

/// A file's text.
#[derive(Debug, Clone)]
pub struct Decoded<'a> {
    /// The text, without a byte order mark.
    pub text: Cow<'a, str>,
    /// Where it came from.
    pub encoding: Encoding,
}

/// Decodes a file: UTF-8, else Latin-1. A byte order mark is left out, and lone carriage returns (old Macintosh
/// files) become line feeds.
pub fn decode(bytes: &[u8]) -> Decoded<'_> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (text, encoding) = match std::str::from_utf8(bytes) {
        Ok(text) => (Cow::Borrowed(text), Encoding::Utf8),
        Err(_) => (Cow::Owned(bytes.iter().map(|b| char::from(*b)).collect()), Encoding::Latin1),
    };
    let text =
        if text.contains('\r') && !text.contains('\n') { Cow::Owned(text.replace('\r', "\n")) } else { text };
    Decoded { text, encoding }
}

/// Where the tunes of a text are. With a line `<start>` in it, the tunes are what stands between `<start>` and
/// `<end>` lines; else each goes from an `X:` line to the next blank line or `X:` line. Lazy: a tunebook of any size
/// can be walked in constant memory.
pub fn split(text: &str) -> Tunes<'_> {
    Tunes { text, pos: 0, delimited: lines(text, 0).any(|(_, line)| line == "<start>") }
}

/// The spans of a text's tunes; see [`split`].
#[derive(Debug, Clone)]
pub struct Tunes<'t> {
    text: &'t str,
    pos: usize,
    delimited: bool,
}

impl Iterator for Tunes<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        let mut begin: Option<usize> = None;
        for (start, line) in lines(self.text, self.pos) {
            let after = next_line(self.text, start);
            match begin {
                None if self.delimited && line == "<start>" => begin = Some(after),
                None if !self.delimited && line.starts_with("X:") => begin = Some(start),
                Some(first) => {
                    let over = if self.delimited {
                        line == "<end>" || line == "<start>"
                    } else {
                        line.is_empty() || line.starts_with("X:")
                    };
                    if over {
                        self.pos = if line == "<end>" { after } else { start };
                        return Some(Span::new(first, start));
                    }
                }
                None => {}
            }
        }
        self.pos = self.text.len();
        begin.map(|first| Span::new(first, self.text.len()))
    }
}

/// Lines with the offset of their start, trailing blanks and carriage returns removed.
fn lines(text: &str, from: usize) -> impl Iterator<Item = (usize, &str)> {
    let mut pos = from;
    std::iter::from_fn(move || {
        let start = pos;
        let rest = text.get(start..).filter(|r| !r.is_empty())?;
        pos = next_line(text, start);
        Some((start, rest.split('\n').next().unwrap_or("").trim_end()))
    })
}

/// The offset behind the line that starts at `start`.
fn next_line(text: &str, start: usize) -> usize {
    let rest = text.get(start..).unwrap_or("");
    rest.find('\n').map_or(text.len(), |i| start + i + 1)
}

/// Reads every tune of a tunebook (or of `<start>`/`<end>` text). Spans are offsets into `text`. For very large
/// books walk [`split`] and call [`parse_tune_in`] on each instead of holding all tunes.
pub fn parse_tunebook(text: &str) -> Vec<Tune> {
    split(text).map(|span| parse_tune_in(text, span)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<&str> {
        split(text).map(|s| &text[s.start..s.end]).collect()
    }

    #[test]
    fn tunebooks_are_cut_at_blank_lines_and_x_fields() {
        let text = "% a book\n\nM:4/4\n\nX:1\nK:C\nCDE|\n\nfree text\nX:2\nK:D\nX:3\r\nK:E\r\n \t\r\nx";
        assert_eq!(pieces(text), ["X:1\nK:C\nCDE|\n", "X:2\nK:D\n", "X:3\r\nK:E\r\n"]);
        assert!(pieces("").is_empty() && pieces("no tune\n").is_empty());
    }

    #[test]
    fn delimited_text_is_cut_at_its_marks() {
        let text = "<start>\nX:1\nK:C\nC|\n<end>\n<start>\r\n\nT:x\n<end>\r\nX:9\n<start>\nabc";
        assert_eq!(pieces(text), ["X:1\nK:C\nC|\n", "\nT:x\n", "abc"]);
    }

    #[test]
    fn bytes_become_text() {
        assert_eq!(decode(b"\xef\xbb\xbfX:1").text, "X:1");
        let latin = decode(b"T:Caf\xe9");
        assert_eq!((latin.text.as_ref(), latin.encoding), ("T:Café", Encoding::Latin1));
        assert_eq!(decode(b"X:1\rK:C\rC").text, "X:1\nK:C\nC");
        assert_eq!(decode(b"X:1\r\nK:C").text, "X:1\r\nK:C");
    }
}
