//! Built-in binary labels of every character of a tune. A label belongs to the character that was just read: it is held
//! against the activation after that character. Total: any text gets its labels.

use crate::abc::{CharClass, body_start, classify, parse_tune};

/// A label that a character has or has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// As a key: `chord_symbol`.
    pub key: &'static str,
    /// For people, fit for a sentence: `inside a chord symbol`.
    pub name: &'static str,
    /// Labels of one family say nearly the same; a report speaks of one of them.
    pub family: &'static str,
}

const fn label(key: &'static str, name: &'static str, family: &'static str) -> Label {
    Label { key, name, family }
}

/// All labels; bit k of a character's [`bits`] is the k-th.
pub const LABELS: [Label; 13] = [
    label("header", "in the header", "header"),
    label("field_letter", "at a field's letter and colon", "field"),
    label("title", "in the text of a title", "title"),
    label("bar_line", "at a bar line", "bar"),
    label("bar_first_quarter", "in the first quarter of a bar", "position"),
    label("bar_last_quarter", "in the last quarter of a bar", "position"),
    label("chord_symbol", "inside a chord symbol", "chord"),
    label("accidental", "at an accidental", "accidental"),
    label("octave_mark", "at an octave mark", "octave"),
    label("duration", "at the length of a note", "duration"),
    label("repeat_ending", "at a repeat or the number of an ending", "repeat"),
    label("end_tenth", "in the last tenth of the tune", "end"),
    label("end_20", "in the last 20 characters of the tune", "end"),
];

const HEADER: u16 = 1;
const FIELD_LETTER: u16 = 1 << 1;
const TITLE: u16 = 1 << 2;
const BAR_LINE: u16 = 1 << 3;
const FIRST_QUARTER: u16 = 1 << 4;
const LAST_QUARTER: u16 = 1 << 5;
const CHORD_SYMBOL: u16 = 1 << 6;
const ACCIDENTAL: u16 = 1 << 7;
const OCTAVE_MARK: u16 = 1 << 8;
const DURATION: u16 = 1 << 9;
const REPEAT_ENDING: u16 = 1 << 10;
const END_TENTH: u16 = 1 << 11;
const END_20: u16 = 1 << 12;

/// The labels of every `char` of a tune's text, one bit a label in the order of [`LABELS`].
///
/// - `header`: up to and with the line break after the first `K:` line; no character where there is no such line.
/// - `chord_symbol`: from the opening quote on, without the closing one: who has read that is outside again.
///   Annotations in quotes count.
/// - `bar_line`: the strokes, colons and brackets of a bar line; `repeat_ending`: repeat bar lines and the numbers of
///   endings, strokes included.
/// - `bar_first_quarter`, `bar_last_quarter`: by the onset of the note (rest, chord) that the character belongs to or
///   stands before, as a share of the time of all notes between two bar lines, lengths as the ABC parser gives them:
///   below 1/4; from 3/4 on. Characters of bar lines and fields, and bars in which the parser finds no time, have neither.
/// - `end_tenth`: the last 10% of the characters; `end_20`: the last 20.
pub fn bits(text: &str) -> Vec<u16> {
    let chars: Vec<char> = text.chars().collect();
    let classes = classify(text);
    let mut bits: Vec<u16> = chars.iter().zip(&classes).map(|(&c, &class)| of_class(class, c)).collect();
    let n = bits.len();
    for bit in bits.iter_mut().take(header_end(text, n)) {
        *bit |= HEADER;
    }
    titles(&chars, &classes, &mut bits);
    chord_symbols(&chars, &classes, &mut bits);
    bar_positions(text, &classes, &mut bits);
    for (at, bit) in bits.iter_mut().enumerate() {
        if (n - at) * 10 <= n {
            *bit |= END_TENTH;
        }
        if n - at <= 20 {
            *bit |= END_20;
        }
    }
    bits
}

fn of_class(class: CharClass, c: char) -> u16 {
    match class {
        CharClass::FieldName => FIELD_LETTER,
        CharClass::Accidental => ACCIDENTAL,
        CharClass::OctaveMark => OCTAVE_MARK,
        CharClass::Duration => DURATION,
        CharClass::BarLine => BAR_LINE,
        CharClass::Repeat if matches!(c, '|' | ':' | '[' | ']') => BAR_LINE | REPEAT_ENDING,
        CharClass::Repeat => REPEAT_ENDING,
        _ => 0,
    }
}

/// How many characters the header has.
fn header_end(text: &str, chars: usize) -> usize {
    match body_start(text) {
        Some(start) => start,
        // A `K:` line behind which nothing stands: all of it.
        None if text.split('\n').any(|line| line.starts_with("K:")) => chars,
        None => 0,
    }
}

/// The text behind `T:`.
fn titles(chars: &[char], classes: &[CharClass], bits: &mut [u16]) {
    let mut inside = false;
    for (at, class) in classes.iter().enumerate() {
        match class {
            CharClass::FieldName => inside = chars[at] == 'T' || (inside && chars[at] == ':'),
            CharClass::FieldText if inside => bits[at] |= TITLE,
            _ => inside = false,
        }
    }
}

/// A chord symbol without its closing quote.
fn chord_symbols(chars: &[char], classes: &[CharClass], bits: &mut [u16]) {
    let mut open = false;
    for (at, class) in classes.iter().enumerate() {
        if *class != CharClass::ChordSymbol {
            open = false;
            continue;
        }
        if chars[at] == '"' {
            open = !open;
        }
        if open {
            bits[at] |= CHORD_SYMBOL;
        }
    }
}

/// First and last quarter of every bar.
fn bar_positions(text: &str, classes: &[CharClass], bits: &mut [u16]) {
    let bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let tune = parse_tune(text);
    // (first byte, byte behind the last, length) of all that takes time.
    let mut timed: Vec<(usize, usize, f64)> = tune
        .voices
        .iter()
        .flat_map(|voice| &voice.elements)
        .map(|element| (element.span.start, element.span.end, element.duration.as_f64()))
        .filter(|(_, _, length)| *length > 0.0)
        .collect();
    timed.sort_by_key(|(start, ..)| *start);
    let is_bar = |class: &CharClass| matches!(class, CharClass::BarLine | CharClass::Repeat);
    let mut next = 0;
    let mut from = 0;
    while from < classes.len() {
        if is_bar(&classes[from]) {
            from += 1;
            continue;
        }
        let to = classes[from..].iter().position(is_bar).map_or(classes.len(), |n| from + n);
        let end = bytes.get(to).copied().unwrap_or(text.len());
        next += timed[next..].iter().take_while(|(start, ..)| *start < bytes[from]).count();
        let bar = &timed[next..][..timed[next..].iter().take_while(|(start, ..)| *start < end).count()];
        next += bar.len();
        let total: f64 = bar.iter().map(|(_, _, length)| length).sum();
        if total > 0.0 {
            mark_bar(&bytes[from..to], &classes[from..to], bar, total, &mut bits[from..to]);
        }
        from = to;
    }
}

fn mark_bar(
    bytes: &[usize],
    classes: &[CharClass],
    bar: &[(usize, usize, f64)],
    total: f64,
    bits: &mut [u16],
) {
    let (mut over, mut onset) = (0, 0.0);
    for ((&byte, class), bit) in bytes.iter().zip(classes).zip(bits) {
        while let Some((_, end, length)) = bar.get(over)
            && *end <= byte
        {
            onset += length;
            over += 1;
        }
        if matches!(class, CharClass::FieldName | CharClass::FieldText | CharClass::LineBreak) {
            continue;
        }
        // Thirds and sixths of a whole do not sum to it exactly.
        let share = onset / total + 1e-9;
        if share < 0.25 {
            *bit |= FIRST_QUARTER;
        } else if share >= 0.75 {
            *bit |= LAST_QUARTER;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `x` where the label holds, `.` elsewhere.
    fn mask(text: &str, key: &str) -> String {
        let k = LABELS.iter().position(|label| label.key == key).unwrap();
        bits(text).iter().map(|bit| if bit >> k & 1 == 1 { 'x' } else { '.' }).collect()
    }

    #[test]
    fn labels_of_a_small_tune() {
        let text = "X:1\nT:Ab\nL:1/8\nM:4/4\nK:D\n\"Am\"^A2B,2 c4|1dcBA dcBA:|";
        for (key, expected) in [
            ("header", "xxxxxxxxxxxxxxxxxxxxxxxxx.........................."),
            ("field_letter", "xx..xx...xx....xx....xx............................"),
            ("title", "......xx..........................................."),
            ("chord_symbol", ".........................xxx......................."),
            ("accidental", ".............................x....................."),
            ("octave_mark", ".................................x................."),
            ("duration", "...............................x..x..x............."),
            ("bar_line", "......................................x..........xx"),
            ("repeat_ending", "......................................xx.........xx"),
            ("bar_first_quarter", ".........................xxxxxxx........xx........."),
            ("bar_last_quarter", "...............................................xx.."),
            ("end_20", "...............................xxxxxxxxxxxxxxxxxxxx"),
            ("end_tenth", "..............................................xxxxx"),
        ] {
            assert_eq!(mask(text, key), expected, "{key}\n{}", text.replace('\n', "/"));
        }
    }

    #[test]
    fn positions_count_time_and_not_characters() {
        // A dotted pair is 3/4 and 1/4 of its beats; its mark stands before the second.
        assert_eq!(mask("L:1/4\nK:C\nA3B|", "bar_last_quarter"), "............x.");
        let text = "M:2/4\nL:1/4\nK:C\nA>B|z/z/z/z/|\"C\"|";
        let body = |key| mask(text, key)[16..].to_owned();
        assert_eq!(body("bar_first_quarter"), "x...xx...........");
        assert_eq!(body("bar_last_quarter"), ".xx.......xx.....");
    }

    #[test]
    fn any_text_has_labels() {
        for text in [
            "",
            "\n",
            "K:",
            "K:D",
            "T:",
            "\"",
            "|:\u{202e}é|[",
            "[1",
            "<script>\"'\u{0}",
            "Z9999999|",
            "X:1\n\n\nT:",
        ] {
            assert_eq!(bits(text).len(), text.chars().count(), "{text:?}");
        }
        assert_eq!(mask("T:a\nK:D", "header"), "xxxxxxx");
        assert_eq!(mask("ab", "header"), "..");
        assert_eq!(mask("K:C\nT:ab\nA", "title"), "......xx..", "a title in the music is one too");
        assert_eq!(mask("K:C\n\"open A", "chord_symbol"), "...........", "nothing closes it");
    }
}
