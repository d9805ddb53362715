//! Chord symbols such as `Am7/G`: which notes an accompanist would play.

use super::pitch::{SEMITONES, step_of};

/// A chord symbol's notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChordSymbol {
    /// Pitch class of the root, 0-11 with C = 0.
    pub root: u8,
    /// Pitch class of the bass note: the root unless `/x` names another.
    pub bass: u8,
    /// Semitones above the root, the root's own 0 first.
    pub intervals: &'static [u8],
}

/// Qualities by name, as written after the root.
const QUALITIES: &[(&str, &[u8])] = &[
    ("", &[0, 4, 7]),
    ("maj", &[0, 4, 7]),
    ("M", &[0, 4, 7]),
    ("m", &[0, 3, 7]),
    ("min", &[0, 3, 7]),
    ("mi", &[0, 3, 7]),
    ("-", &[0, 3, 7]),
    ("7", &[0, 4, 7, 10]),
    ("m7", &[0, 3, 7, 10]),
    ("min7", &[0, 3, 7, 10]),
    ("-7", &[0, 3, 7, 10]),
    ("maj7", &[0, 4, 7, 11]),
    ("M7", &[0, 4, 7, 11]),
    ("mM7", &[0, 3, 7, 11]),
    ("mmaj7", &[0, 3, 7, 11]),
    ("6", &[0, 4, 7, 9]),
    ("maj6", &[0, 4, 7, 9]),
    ("m6", &[0, 3, 7, 9]),
    ("9", &[0, 4, 7, 10, 14]),
    ("m9", &[0, 3, 7, 10, 14]),
    ("maj9", &[0, 4, 7, 11, 14]),
    ("M9", &[0, 4, 7, 11, 14]),
    ("11", &[0, 4, 7, 10, 14, 17]),
    ("m11", &[0, 3, 7, 10, 14, 17]),
    ("13", &[0, 4, 7, 10, 14, 21]),
    ("6/9", &[0, 4, 7, 9, 14]),
    ("add9", &[0, 4, 7, 14]),
    ("dim", &[0, 3, 6]),
    ("o", &[0, 3, 6]),
    ("°", &[0, 3, 6]),
    ("dim7", &[0, 3, 6, 9]),
    ("o7", &[0, 3, 6, 9]),
    ("°7", &[0, 3, 6, 9]),
    ("m7b5", &[0, 3, 6, 10]),
    ("ø", &[0, 3, 6, 10]),
    ("ø7", &[0, 3, 6, 10]),
    ("aug", &[0, 4, 8]),
    ("+", &[0, 4, 8]),
    ("aug7", &[0, 4, 8, 10]),
    ("7+", &[0, 4, 8, 10]),
    ("+7", &[0, 4, 8, 10]),
    ("7#5", &[0, 4, 8, 10]),
    ("7b5", &[0, 4, 6, 10]),
    ("7b9", &[0, 4, 7, 10, 13]),
    ("7#9", &[0, 4, 7, 10, 15]),
    ("sus", &[0, 5, 7]),
    ("sus4", &[0, 5, 7]),
    ("sus2", &[0, 2, 7]),
    ("sus9", &[0, 2, 7]),
    ("7sus", &[0, 5, 7, 10]),
    ("7sus4", &[0, 5, 7, 10]),
    ("7sus2", &[0, 2, 7, 10]),
    ("9sus4", &[0, 5, 7, 10, 14]),
    ("5", &[0, 7]),
];

/// Reads a chord symbol; `None` when it is none. A part in round brackets (`Am(G)`, an alternative) is left out.
pub fn parse(text: &str) -> Option<ChordSymbol> {
    let text = text.trim();
    let text = text.split_once('(').map_or(text, |(before, _)| before).trim_end();
    let mut chars = text.chars();
    let root = pitch_class(&mut chars)?;
    let rest = chars.as_str();
    if let Some(intervals) = quality(rest) {
        return Some(ChordSymbol { root, bass: root, intervals });
    }
    let (name, bass) = rest.rsplit_once('/')?;
    let mut bass_chars = bass.chars();
    let bass = pitch_class(&mut bass_chars).filter(|_| bass_chars.as_str().is_empty())?;
    Some(ChordSymbol { root, bass, intervals: quality(name)? })
}

fn quality(name: &str) -> Option<&'static [u8]> {
    let name = name.trim();
    QUALITIES.iter().find(|(known, _)| *known == name).map(|(_, intervals)| *intervals)
}

fn pitch_class(chars: &mut std::str::Chars<'_>) -> Option<u8> {
    let step = step_of(chars.next()?)?;
    let mut semitones = SEMITONES.get(usize::from(step)).copied()?;
    let mut ahead = chars.clone();
    match ahead.next() {
        Some('#' | '♯') => semitones += 1,
        Some('b' | '♭') => semitones -= 1,
        _ => return u8::try_from(semitones.rem_euclid(12)).ok(),
    }
    *chars = ahead;
    u8::try_from(semitones.rem_euclid(12)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn symbols() {
        for (text, root, bass, intervals) in [
            ("G", 7, 7, &[0, 4, 7][..]),
            ("Am", 9, 9, &[0, 3, 7]),
            ("Bb7", 10, 10, &[0, 4, 7, 10]),
            ("F#m7b5", 6, 6, &[0, 3, 6, 10]),
            ("D/F#", 2, 6, &[0, 4, 7]),
            ("Cmaj7/B", 0, 11, &[0, 4, 7, 11]),
            ("Em (G)", 4, 4, &[0, 3, 7]),
            ("Bdim", 11, 11, &[0, 3, 6]),
            ("Cb", 11, 11, &[0, 4, 7]),
            ("C6/9", 0, 0, &[0, 4, 7, 9, 14]),
        ] {
            assert_eq!(parse(text), Some(ChordSymbol { root, bass, intervals }), "{text}");
        }
        for text in ["", "H", "Fine", "Coda", "D.C.", "G/", "G/Fine", "(G)"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
