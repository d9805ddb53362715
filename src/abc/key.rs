//! Keys: tonic and mode, explicit accidentals, the pipes' keys, and the clef words that move the octave.

/// The alteration of each scale step under a key, and what a score or MIDI file wants to know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Semitones added to each step C D E F G A B.
    pub alterations: [i8; 7],
    /// Sharps (positive) or flats (negative) of the signature, -7 to 7, before explicit accidentals.
    pub fifths: i8,
    /// Whether the mode's third is minor.
    pub minor: bool,
    /// Semitones added to every note: `transpose=`, `octave=`, or a clef such as `treble-8`.
    pub shift: i8,
}

impl Key {
    /// C major: no accidentals.
    pub const C_MAJOR: Key = Key { alterations: [0; 7], fifths: 0, minor: false, shift: 0 };

    /// The key of a number of sharps (positive) or flats (negative).
    fn from_fifths(fifths: i8, minor: bool) -> Key {
        // The order in which sharps come: F C G D A E B; flats come in the reverse order.
        const SHARPS: [usize; 7] = [3, 0, 4, 1, 5, 2, 6];
        let mut alterations = [0i8; 7];
        for n in 0..usize::from(fifths.unsigned_abs()) {
            if fifths > 0 {
                alterations[SHARPS[n % 7]] += 1;
            } else {
                alterations[SHARPS[6 - n % 7]] -= 1;
            }
        }
        Key { alterations, fifths: fifths.clamp(-7, 7), minor, shift: 0 }
    }
}

/// Reads the text of a `K:` field. `before` is the key in force, kept where the field names only a clef.
///
/// # Errors
/// A sentence saying what is wrong with the field.
pub fn parse_key(text: &str, before: &Key) -> Result<Key, String> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix("HP").or_else(|| text.strip_prefix("Hp")) {
        // The pipes' scale is fixed (C and F sharp, G natural); `HP` only hides the signature.
        let mut key = Key::from_fifths(2, false);
        apply_words(rest, &mut key)?;
        return Ok(key);
    }
    let mut chars = text.char_indices().peekable();
    let tonic = match chars.peek() {
        None => return Ok(Key::C_MAJOR),
        // `K:bass` and `K:clef=alto` start with a letter too: a tonic is a capital A-G.
        Some((_, c @ 'A'..='G')) => *c,
        Some(_) => {
            let (mut key, rest) = match text.get(..4) {
                Some(word) if word.eq_ignore_ascii_case("none") => {
                    (Key::C_MAJOR, text.get(4..).unwrap_or(""))
                }
                // A field with nothing but accidentals starts from a bare signature; nothing but a clef keeps it.
                _ if text.starts_with(['^', '_', '=']) => (Key::C_MAJOR, text),
                _ => (Key { shift: 0, ..before.clone() }, text),
            };
            apply_words(rest, &mut key)?;
            return Ok(key);
        }
    };
    chars.next();
    let mut fifths: i8 = match tonic {
        'F' => -1,
        'C' => 0,
        'G' => 1,
        'D' => 2,
        'A' => 3,
        'E' => 4,
        _ => 5,
    };
    match chars.peek() {
        Some((_, '#' | '♯')) => {
            fifths += 7;
            chars.next();
        }
        Some((_, 'b' | '♭')) => {
            fifths -= 7;
            chars.next();
        }
        _ => {}
    }
    let rest = text.get(chars.peek().map_or(text.len(), |(i, _)| *i)..).unwrap_or("");
    let trimmed = rest.trim_start();
    let word_end = trimmed.find(|c: char| !c.is_alphabetic()).unwrap_or(trimmed.len());
    let (word, after) = trimmed.split_at(word_end);
    // A word that is followed by `=` (`clef=bass`) is no mode.
    let mode = if after.starts_with('=') { None } else { mode_of(word) };
    let (offset, minor, explicit, rest) = match mode {
        Some((offset, minor, explicit)) => (offset, minor, explicit, after),
        None => (0, false, false, trimmed),
    };
    let fifths = fifths.saturating_add(offset);
    let mut key = if explicit { Key::C_MAJOR } else { Key::from_fifths(fifths, minor) };
    apply_words(rest, &mut key)?;
    Ok(key)
}

/// The change in fifths, whether the third is minor, and whether only explicit accidentals count.
fn mode_of(word: &str) -> Option<(i8, bool, bool)> {
    // The case of a mode does not matter to the standard, so `EM` is E minor, as its writers meant.
    if word.eq_ignore_ascii_case("m") {
        return Some((-3, true, false));
    }
    let head: String = word.chars().take(3).flat_map(char::to_lowercase).collect();
    Some(match head.as_str() {
        "maj" | "ion" => (0, false, false),
        "min" | "aeo" => (-3, true, false),
        "mix" => (-1, false, false),
        "dor" => (-2, true, false),
        "phr" => (-4, true, false),
        "lyd" => (1, false, false),
        "loc" => (-5, true, false),
        "exp" => (0, false, true),
        _ => return None,
    })
}

/// Explicit accidentals (`^f _b =c`), clefs and their octaves, `octave=` and `transpose=`; other `name=value` words
/// concern print only.
fn apply_words(text: &str, key: &mut Key) -> Result<(), String> {
    for word in text.split_whitespace() {
        if word.starts_with(['^', '_', '=']) {
            explicit_accidentals(word, key)?;
            continue;
        }
        if let Some((name, value)) = word.split_once('=') {
            match name.to_ascii_lowercase().as_str() {
                "clef" => key.shift = key.shift.saturating_add(clef_shift(value)),
                "octave" => {
                    let octaves: i8 = value.parse().map_err(|_| format!("octave={value} is not a number"))?;
                    key.shift = key.shift.saturating_add(octaves.clamp(-9, 9) * 12);
                }
                "transpose" | "t" => {
                    let semitones: i8 =
                        value.parse().map_err(|_| format!("transpose={value} is not a number"))?;
                    key.shift = key.shift.saturating_add(semitones.clamp(-60, 60));
                }
                "middle" | "m" | "stafflines" | "staffscale" | "style" | "name" | "nm" | "snm" | "sname"
                | "subname" | "cue" | "stem" | "stems" | "gstem" | "dyn" | "lyrics" | "gchord" | "score"
                | "sound" | "shift" | "instrument" | "program" | "merge" | "up" | "down" | "bracket"
                | "brace" => {}
                _ => return Err(format!("`{word}` is not part of a key")),
            }
            continue;
        }
        if is_clef(word) {
            key.shift = key.shift.saturating_add(clef_shift(word));
        } else if mode_of(word).is_none() {
            return Err(format!("`{word}` is no key, mode, accidental or clef"));
        }
    }
    Ok(())
}

/// The octaves of all `clef=`, `octave=` and `transpose=` words of a `V:` field, in semitones.
pub fn voice_shift(text: &str) -> i8 {
    let mut key = Key::C_MAJOR;
    for word in text.split_whitespace() {
        // Names, brackets and whatever else a voice may say are not ours to judge.
        if is_clef(word) || word.contains('=') {
            let _ = apply_words(word, &mut key);
        }
    }
    key.shift
}

fn is_clef(word: &str) -> bool {
    let name = word.trim_end_matches(['+', '-', '8', '1', '5', '2', '3', '4']);
    [
        "treble",
        "alto",
        "tenor",
        "bass",
        "perc",
        "none",
        "soprano",
        "mezzosoprano",
        "baritone",
        "auto",
        "C",
        "F",
        "G",
    ]
    .contains(&name)
}

fn clef_shift(word: &str) -> i8 {
    if word.ends_with("-8") {
        -12
    } else if word.ends_with("+8") {
        12
    } else {
        0
    }
}

fn explicit_accidentals(word: &str, key: &mut Key) -> Result<(), String> {
    let mut alteration: Option<i8> = None;
    for c in word.chars() {
        match c {
            '^' => alteration = Some(alteration.unwrap_or(0).saturating_add(1).min(2)),
            '_' => alteration = Some(alteration.unwrap_or(0).saturating_sub(1).max(-2)),
            '=' => alteration = Some(0),
            'a'..='g' | 'A'..='G' => {
                let Some(semitones) = alteration.take() else {
                    return Err(format!("`{word}`: the note `{c}` has no accidental"));
                };
                if let Some(step) = super::pitch::step_of(c) {
                    key.alterations[usize::from(step)] = semitones;
                }
            }
            _ => return Err(format!("`{word}` is not an accidental and a note")),
        }
    }
    if alteration.is_some() { Err(format!("`{word}` names no note")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(text: &str) -> Key {
        parse_key(text, &Key::C_MAJOR).unwrap()
    }

    #[test]
    fn modes_share_signatures() {
        for (text, fifths, minor) in [
            ("C", 0, false),
            ("", 0, false),
            ("G", 1, false),
            ("Em", 1, true),
            ("E Minor", 1, true),
            ("D Mixolydian", 1, false),
            ("Ador", 1, true),
            ("A dorian", 1, true),
            ("D mix", 1, false),
            ("Bphr", 1, true),
            ("C lyd", 1, false),
            ("F#loc", 1, true),
            ("EM", 1, true),
            ("Bb", -2, false),
            ("Gm clef=bass", -2, true),
            ("D maj", 2, false),
            ("C#", 7, false),
            ("Cb", -7, false),
            ("Ebminor", -6, true),
            ("HP", 2, false),
            ("Hp", 2, false),
            ("none", 0, false),
        ] {
            let key = key(text);
            assert_eq!((key.fifths, key.minor), (fifths, minor), "{text}");
            assert_eq!(
                key.alterations.iter().map(|a| i32::from(*a)).sum::<i32>(),
                i32::from(fifths),
                "{text}"
            );
        }
    }

    #[test]
    fn explicit_accidentals_change_steps() {
        assert_eq!(key("D Phr ^f").alterations, [0, 0, -1, 1, 0, 0, -1]);
        assert_eq!(key("G exp _b ^c").alterations, [1, 0, 0, 0, 0, 0, -1]);
        assert_eq!(key("^f^c").alterations, [1, 0, 0, 1, 0, 0, 0]);
        assert_eq!(key("D =c").alterations, [0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn clefs_move_octaves_and_keep_the_key() {
        assert_eq!(key("G treble-8").shift, -12);
        assert_eq!(key("C clef=treble+8 octave=-1").shift, 0);
        let g = key("G");
        assert_eq!(parse_key("clef=bass", &g).unwrap().alterations, g.alterations);
        assert_eq!(parse_key("bass", &g).unwrap().fifths, 1);
        assert_eq!(voice_shift("name=\"x\" clef=bass-8 transpose=-2"), -14);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["H", "quux", "G blob", "D ^", "D ^x", "x=3", "C octave=q"] {
            assert!(parse_key(text, &Key::C_MAJOR).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "\\PC*") {
            let _ = parse_key(&text, &Key::C_MAJOR);
            let _ = voice_shift(&text);
        }

        #[test]
        fn texts_like_keys_are_safe(text in "[A-H][#bm]{0,3} ?[a-z]{0,4}[ =_^a-g0-9+-]{0,12}") {
            let _ = parse_key(&text, &Key::C_MAJOR);
        }
    }
}
