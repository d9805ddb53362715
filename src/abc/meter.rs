//! Meters (`M:`), unit note lengths (`L:`) and tempos (`Q:`).

use super::fraction::Fraction;

/// The largest number taken for either part of a meter, a unit length or a tempo's beat.
const MAX_PART: u32 = 4096;

/// A meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meter {
    /// Beats; 0 for free meter.
    pub beats: u32,
    /// What a beat is: 4 for a quarter note.
    pub beat_unit: u32,
}

impl Meter {
    /// `M:none`.
    pub const FREE: Meter = Meter { beats: 0, beat_unit: 4 };
    /// `M:4/4`.
    pub const COMMON: Meter = Meter { beats: 4, beat_unit: 4 };

    /// The length of a bar in whole notes; `None` in free meter.
    pub fn bar_length(self) -> Option<Fraction> {
        (self.beats > 0).then(|| Fraction::ratio(self.beats, self.beat_unit))
    }

    /// The unit note length that the standard deduces: 1/16 below 3/4 of a whole note, else 1/8.
    pub fn default_unit(self) -> Fraction {
        match self.bar_length() {
            Some(length) if length < Fraction::ratio(3, 4) => Fraction::ratio(1, 16),
            _ => Fraction::ratio(1, 8),
        }
    }

    /// Whether beats group in threes (6/8, 9/8, 12/8, but not 3/4 or 3/8).
    pub fn is_compound(self) -> bool {
        self.beats > 3 && self.beats.is_multiple_of(3) && self.beat_unit >= 8
    }
}

/// Reads the text of an `M:` field: `4/4`, `C`, `C|`, `none`, `(2+3)/8`, `2+3/8`.
///
/// # Errors
/// A sentence saying what is wrong with the field.
pub fn parse_meter(text: &str) -> Result<Meter, String> {
    let text = text.trim();
    match text {
        "C" | "c" => return Ok(Meter::COMMON),
        "C|" | "c|" => return Ok(Meter { beats: 2, beat_unit: 2 }),
        "" => return Ok(Meter::FREE),
        _ if text.eq_ignore_ascii_case("none") => return Ok(Meter::FREE),
        _ => {}
    }
    let wrong = || format!("`{text}` is no meter; a meter looks like 4/4, 6/8, C, C| or none");
    let (top, bottom) = text.split_once('/').ok_or_else(wrong)?;
    // Words may follow: `M:6/8 "double jig"`. What counts is the first number below the line.
    let bottom = bottom.trim_start();
    let digits = bottom.find(|c: char| !c.is_ascii_digit()).unwrap_or(bottom.len());
    let beat_unit: u32 = bottom.get(..digits).unwrap_or("").parse().map_err(|_| wrong())?;
    let mut beats = 0u32;
    for term in top.trim().trim_matches(['(', ')']).split('+') {
        let term: u32 = term.trim().parse().map_err(|_| wrong())?;
        beats = beats.saturating_add(term);
    }
    if beats == 0 || beats > MAX_PART || !beat_unit.is_power_of_two() || beat_unit > MAX_PART {
        return Err(wrong());
    }
    Ok(Meter { beats, beat_unit })
}

/// Reads the text of an `L:` field: `1/8`, or `1`.
///
/// # Errors
/// A sentence saying what is wrong with the field.
pub fn parse_unit_length(text: &str) -> Result<Fraction, String> {
    let text = text.trim();
    parse_fraction(text)
        .filter(|f| !f.is_zero())
        .ok_or_else(|| format!("`{text}` is no unit note length; one looks like 1/8"))
}

fn parse_fraction(text: &str) -> Option<Fraction> {
    let (top, bottom) = text.split_once('/').unwrap_or((text, "1"));
    let (num, den): (u32, u32) = (top.trim().parse().ok()?, bottom.trim().parse().ok()?);
    (num <= MAX_PART && den > 0 && den <= MAX_PART).then(|| Fraction::ratio(num, den))
}

/// A tempo.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tempo {
    /// Whole notes a minute.
    pub whole_notes_per_minute: f64,
}

impl Tempo {
    /// What is played without a `Q:` field: 120 quarter notes a minute.
    pub const DEFAULT: Tempo = Tempo { whole_notes_per_minute: 30.0 };

    /// Microseconds for a quarter note, within MIDI's 24 bits.
    pub fn microseconds_per_quarter(self) -> u32 {
        let micros = 60e6 / (self.whole_notes_per_minute * 4.0);
        // `as` saturates, and the bounds also take care of zero and infinity.
        (micros.round() as u32).clamp(1, 0x00ff_ffff)
    }
}

/// Reads the text of a `Q:` field: `1/4=120`, `120`, `"Allegro" 1/4=120`, `1/4 3/8 1/4=40`, `C=100`, `"Andante"`.
/// `Ok(None)` is a tempo in words only. A bare number counts beats of `unit` in the old way (`Q:120` is L=120).
///
/// # Errors
/// A sentence saying what is wrong with the field.
pub fn parse_tempo(text: &str, unit: Fraction) -> Result<Option<Tempo>, String> {
    let wrong = || format!("`{}` is no tempo; a tempo looks like 1/4=120", text.trim());
    // Quoted words may stand before or after.
    let mut plain = String::new();
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            _ if !quoted => plain.push(c),
            _ => {}
        }
    }
    let plain = plain.trim();
    if plain.is_empty() {
        return Ok(None);
    }
    let (beats, rate) = match plain.split_once('=') {
        Some((left, right)) => {
            let mut sum = Fraction::ZERO;
            for word in left.split_whitespace() {
                // The old `C=100` and `C3=40`: C is the unit length.
                let beat = match word.strip_prefix(['C', 'c']) {
                    Some("") => unit,
                    Some(times) => {
                        parse_fraction(times).and_then(|t| t.checked_mul(unit)).ok_or_else(wrong)?
                    }
                    None => parse_fraction(word).ok_or_else(wrong)?,
                };
                sum = sum.checked_add(beat).ok_or_else(wrong)?;
            }
            (if sum.is_zero() { unit } else { sum }, right)
        }
        None => (unit, plain),
    };
    let rate: f64 = rate.split_whitespace().next().unwrap_or("").parse().map_err(|_| wrong())?;
    if !(rate > 0.0 && rate <= 10_000.0) {
        return Err(wrong());
    }
    let whole_notes_per_minute = rate * beats.as_f64();
    Ok(Some(Tempo { whole_notes_per_minute: whole_notes_per_minute.clamp(0.01, 1e6) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn meters() {
        assert_eq!(parse_meter("6/8"), Ok(Meter { beats: 6, beat_unit: 8 }));
        assert_eq!(parse_meter("C|").unwrap().bar_length(), Some(Fraction::ONE));
        assert_eq!(parse_meter("C"), Ok(Meter::COMMON));
        assert_eq!(parse_meter("none").unwrap().bar_length(), None);
        assert_eq!(parse_meter("(2+3+2)/8"), Ok(Meter { beats: 7, beat_unit: 8 }));
        assert_eq!(parse_meter("2+3/8"), Ok(Meter { beats: 5, beat_unit: 8 }));
        for wrong in ["4", "4/0", "0/4", "4/5", "x/4", "4/", "99999999999/4", "-3/4"] {
            assert!(parse_meter(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn default_unit_lengths() {
        for (meter, unit) in [("2/4", 16), ("3/4", 8), ("6/8", 8), ("C", 8), ("3/8", 16), ("none", 8)] {
            assert_eq!(parse_meter(meter).unwrap().default_unit(), Fraction::ratio(1, unit), "{meter}");
        }
        assert!(parse_meter("6/8").unwrap().is_compound() && !parse_meter("3/4").unwrap().is_compound());
    }

    #[test]
    fn unit_lengths() {
        assert_eq!(parse_unit_length(" 1/8 "), Ok(Fraction::ratio(1, 8)));
        assert_eq!(parse_unit_length("1"), Ok(Fraction::ONE));
        for wrong in ["", "0", "1/0", "a", "1/99999", "-1/8"] {
            assert!(parse_unit_length(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tempos() {
        let eighth = Fraction::ratio(1, 8);
        let quarters = |text: &str| {
            parse_tempo(text, eighth).unwrap().map(|t| (t.whole_notes_per_minute * 4.0).round() as i64)
        };
        assert_eq!(quarters("1/4=120"), Some(120));
        assert_eq!(quarters("120"), Some(60));
        assert_eq!(quarters("\"Allegro\" 1/4=120"), Some(120));
        assert_eq!(quarters("3/8=60"), Some(90));
        assert_eq!(quarters("1/4 3/8 1/4=40"), Some(140));
        assert_eq!(quarters("C=100"), Some(50));
        assert_eq!(quarters("C3=100"), Some(150));
        assert_eq!(quarters("\"Slowly\""), None);
        for wrong in ["fast", "1/4=", "1/4=0", "1/4=-1", "1/4=nan", "1/4=1e99", "x=3"] {
            assert!(parse_tempo(wrong, eighth).is_err(), "{wrong}");
        }
        assert_eq!(Tempo::DEFAULT.microseconds_per_quarter(), 500_000);
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "\\PC*") {
            let _ = (parse_meter(&text), parse_unit_length(&text), parse_tempo(&text, Fraction::ONE));
        }
    }
}
