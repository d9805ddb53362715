//! What every character of a tune is for: header or music, and in the music note, accidental, octave mark, duration,
//! bar line, repeat, chord symbol and so on. Total: any text gets a class for each of its characters.

use serde::{Deserialize, Serialize};

/// The part a character plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CharClass {
    /// A field's letter and its colon at the start of a line: `K:`, `w:` in the music too.
    FieldName,
    /// The text of a field, of a comment, and inline fields `[K:D]`.
    FieldText,
    /// A line break.
    LineBreak,
    /// A blank between notes.
    Blank,
    /// A note's letter `A`-`g`, or a rest.
    Note,
    /// `^`, `_`, `=`.
    Accidental,
    /// `'` and `,`.
    OctaveMark,
    /// Digits and slashes of a length, `>` and `<`.
    Duration,
    /// A plain or double bar line.
    BarLine,
    /// Repeat bar lines and the numbers of endings.
    Repeat,
    /// Inside `"..."`, quotes included.
    ChordSymbol,
    /// Everything else in the music: decorations, ties, slurs, grace notes, tuplets, chord brackets.
    Other,
    /// `<end>`: the tune is over.
    End,
}

impl CharClass {
    /// All of them, in the order of tables.
    pub const ALL: [CharClass; 13] = [
        CharClass::FieldName,
        CharClass::FieldText,
        CharClass::LineBreak,
        CharClass::Blank,
        CharClass::Note,
        CharClass::Accidental,
        CharClass::OctaveMark,
        CharClass::Duration,
        CharClass::BarLine,
        CharClass::Repeat,
        CharClass::ChordSymbol,
        CharClass::Other,
        CharClass::End,
    ];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            CharClass::FieldName => "field letter",
            CharClass::FieldText => "field text",
            CharClass::LineBreak => "line break",
            CharClass::Blank => "blank",
            CharClass::Note => "note or rest",
            CharClass::Accidental => "accidental",
            CharClass::OctaveMark => "octave mark",
            CharClass::Duration => "duration",
            CharClass::BarLine => "bar line",
            CharClass::Repeat => "repeat, ending",
            CharClass::ChordSymbol => "chord symbol",
            CharClass::Other => "other music",
            CharClass::End => "end of tune",
        }
    }
}

/// The class of every `char` of one tune's text (without `<start>` and `<end>`), in order.
pub fn classify(text: &str) -> Vec<CharClass> {
    let mut classes = Vec::with_capacity(text.len());
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            classes.push(CharClass::LineBreak);
        }
        let chars: Vec<char> = line.chars().collect();
        // `G:|` is a note before a repeat.
        if let [letter, ':', ..] = chars[..]
            && letter.is_ascii_alphabetic()
            && chars.get(2).is_none_or(|&next| next != '|')
        {
            classes.extend([CharClass::FieldName; 2]);
            classes.resize(classes.len() + chars.len() - 2, CharClass::FieldText);
        } else {
            music_line(&chars, &mut classes);
        }
    }
    classes
}

/// Index of the first `char` of a tune's music: after the line break that ends the first `K:` line. None where the text
/// has no such line, or nothing stands after it.
pub fn body_start(text: &str) -> Option<usize> {
    let mut at = 0;
    for line in text.split('\n') {
        let after = at + line.chars().count() + 1;
        if line.starts_with("K:") {
            return (text.chars().count() > after).then_some(after);
        }
        at = after;
    }
    None
}

fn music_line(chars: &[char], classes: &mut Vec<CharClass>) {
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let rest = &chars[at..];
        // What runs to a closing character on the same line, or is one character alone where none closes it.
        let until = |close: char| rest.iter().skip(1).position(|&c| c == close).map(|n| n + 2);
        let (class, length) = match c {
            '%' => (CharClass::FieldText, rest.len()),
            '"' => until('"').map_or((CharClass::Other, 1), |n| (CharClass::ChordSymbol, n)),
            '[' if matches!(rest, [_, letter, ':', ..] if letter.is_ascii_alphabetic()) => {
                until(']').map_or((CharClass::Other, 1), |n| (CharClass::FieldText, n))
            }
            '!' | '+' => (CharClass::Other, until(c).unwrap_or(1)),
            '[' | '|' | ':' | ']' => bar(rest),
            '^' | '_' | '=' => (CharClass::Accidental, 1),
            'A'..='G' | 'a'..='g' | 'z' | 'x' | 'Z' | 'X' => (CharClass::Note, 1),
            '\'' | ',' => (CharClass::OctaveMark, 1),
            '(' if matches!(rest, [_, digit, ..] if digit.is_ascii_digit()) => {
                let more = rest[1..].iter().take_while(|c| c.is_ascii_digit() || **c == ':').count();
                (CharClass::Other, 1 + more)
            }
            '0'..='9' | '/' | '>' | '<' => (CharClass::Duration, 1),
            c if c.is_whitespace() => (CharClass::Blank, 1),
            _ => (CharClass::Other, 1),
        };
        classes.resize(classes.len() + length, class);
        at += length;
    }
}

/// A bar line with its repeat marks and the number of an ending behind it, from its first character on.
fn bar(rest: &[char]) -> (CharClass, usize) {
    let mut length = rest.iter().take_while(|c| matches!(c, '|' | ':' | ']')).count();
    if rest[0] == '[' {
        match rest.get(1) {
            Some('|') => length = 1 + rest[1..].iter().take_while(|c| matches!(c, '|' | ':' | ']')).count(),
            Some(digit) if digit.is_ascii_digit() => length = 1,
            // The bracket of a chord.
            _ => return (CharClass::Other, 1),
        }
    } else if rest[0] == ']' && length == 1 {
        return (CharClass::Other, 1);
    }
    let numbers = rest[length..].iter().take_while(|c| c.is_ascii_digit() || matches!(c, ',' | '-')).count();
    let numbers = if rest.get(length).is_some_and(char::is_ascii_digit) { numbers } else { 0 };
    let repeats = rest[..length].contains(&':') || numbers > 0;
    (if repeats { CharClass::Repeat } else { CharClass::BarLine }, length + numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A letter a class, so that a text and its classes can be read below each other.
    fn letters(text: &str) -> String {
        let letter = |class: &CharClass| match class {
            CharClass::FieldName => 'F',
            CharClass::FieldText => 't',
            CharClass::LineBreak => '/',
            CharClass::Blank => ' ',
            CharClass::Note => 'n',
            CharClass::Accidental => 'a',
            CharClass::OctaveMark => 'o',
            CharClass::Duration => 'd',
            CharClass::BarLine => 'b',
            CharClass::Repeat => 'r',
            CharClass::ChordSymbol => 'c',
            CharClass::Other => '.',
            CharClass::End => 'E',
        };
        classify(text).iter().map(letter).collect()
    }

    #[test]
    fn every_character_has_its_class() {
        for (text, expected) in [
            ("X:1\nK:D", "FFt/FFt"),
            ("^A,2 _b'/2|", "anod anoddb"),
            ("\"Am7\"A>B|:c2:|1d:|2", "cccccndnrrndrrrnrrr"),
            ("[CE]2||[1z|]", ".nn.dbbrrnbb"),
            ("[K:D] (3abc (3:2:3a", "ttttt ..nnn ......n"),
            ("!trill!A ~B-|% rest", ".......n .n.btttttt"),
            ("\"open A", "...n. n"),
            ("w:la\n\nG:|", "FFtt//nrr"),
            ("", ""),
        ] {
            assert_eq!(letters(text), expected, "{text}");
        }
    }

    #[test]
    fn as_many_classes_as_characters() {
        for text in ["é\u{202e}|:[", "[[[]]]::||\"", "[1", "[", "X", ":", "(3", "!", "[K:", "\n\n\n"] {
            assert_eq!(classify(text).len(), text.chars().count(), "{text:?}");
        }
    }

    #[test]
    fn the_body_begins_after_the_key() {
        assert_eq!(body_start("X:1\nK:D\nAB"), Some(8));
        assert_eq!(body_start("T:é\nK:D\nAB"), Some(8));
        assert_eq!(body_start("X:1\nK:D"), None);
        assert_eq!(body_start("X:1\nK:D\n"), None);
        assert_eq!(body_start("AB"), None);
    }
}
