//! A tune as the page shows and plays it: its text, its notes in seconds with the place each is written at, and what was
//! found out about it.

use super::data::{NoteMark, TunePage};
use crate::abc::{self, MidiOptions, Played, PlayedNote};
use crate::measures::{Reference, structure};

/// The longest message or title in a verdict, in characters.
const MAX_WORDS: usize = 100;

/// A tune of a set for the page. `text` is as the model (or the corpus) wrote it, `closed` whether it was ended rather
/// than cut off; the tune becomes number `number` of the page. Its notes are those of the MIDI file that
/// [`crate::sample::judge_all`] makes of it; a tune without notes has none. With `reference` the verdict names the
/// training tune that most is copied from.
pub fn tune_page(
    text: &str,
    closed: bool,
    number: usize,
    origin: &str,
    reference: Option<&Reference>,
) -> TunePage {
    let numbered = abc::as_numbered_abc(text, number);
    let tune = abc::parse_tune(&numbered);
    let mut page = TunePage {
        title: tune.title().to_owned(),
        origin: origin.to_owned(),
        verdict: verdict(text, closed, reference),
        written: if text == numbered { String::new() } else { text.to_owned() },
        ..TunePage::default()
    };
    if let Ok(played) = abc::played(&tune, &MidiOptions::default()) {
        let units = Utf16::of(&numbered);
        for note in played.voices.iter().flat_map(|(_, notes)| notes) {
            let place = (units.at(note.span.start), units.at(note.span.end));
            page.notes.push(mark(&played, note, Some(place)));
        }
        page.notes.sort_by(|a, b| a.at.total_cmp(&b.at).then(a.pitch.cmp(&b.pitch)));
        page.chords = played.chords.iter().map(|note| mark(&played, note, None)).collect();
        page.bars = played.bars.iter().map(|&bar| played.seconds(bar)).collect();
        page.seconds = played.seconds(played.end);
        let value = format!("{:.0} s", page.seconds);
        page.verdict.push(("length".into(), value));
    } else {
        page.verdict.push(("length".into(), "nothing to play".into()));
    }
    page.abc = numbered;
    page
}

fn mark(played: &Played, note: &PlayedNote, place: Option<(u32, u32)>) -> NoteMark {
    let at = played.seconds(note.start);
    NoteMark {
        at,
        length: played.seconds(note.end) - at,
        pitch: note.pitch,
        from: place.map(|place| place.0),
        to: place.map(|place| place.1),
    }
}

/// What there is to say about the text as it was written.
fn verdict(text: &str, closed: bool, reference: Option<&Reference>) -> Vec<(String, String)> {
    let tune = abc::parse_tune(text);
    let verdict = abc::judge_tune(&tune);
    let mut lines = Vec::new();
    let mut say = |name: &str, value: String| lines.push((name.to_owned(), value));
    let error = verdict.diagnostics.iter().find(|d| d.severity() == abc::Severity::Error);
    say(
        "parses",
        match (verdict.parses, error) {
            (true, _) => "yes".into(),
            (false, Some(first)) => {
                format!("no, {}: {}", counted(verdict.errors, "error"), shortened(&first.message))
            }
            (false, None) => format!("no, {}", counted(verdict.errors, "error")),
        },
    );
    let fields = [
        (verdict.has_reference, "X"),
        (verdict.has_title, "T"),
        (verdict.has_meter, "M"),
        (verdict.has_key, "K"),
    ];
    let missing: Vec<&str> = fields.iter().filter(|(has, _)| !has).map(|(_, field)| *field).collect();
    say(
        "complete",
        match (closed, missing.as_slice()) {
            (true, []) => "yes".into(),
            (true, missing) => format!("no, without {}", missing.join(", ")),
            (false, []) => "no, cut off".into(),
            (false, missing) => format!("no, cut off, without {}", missing.join(", ")),
        },
    );
    if verdict.bars > 0 {
        say("bars filled", format!("{} of {}", verdict.full_bars, verdict.bars));
    }
    let (inside, notes) = structure::notes_in_key(&tune);
    if notes > 0 {
        say("notes inside the key", format!("{inside} of {notes}"));
    }
    if let Some(reference) = reference {
        let copied = match reference.source_of(text) {
            Some(copied) => {
                format!("{} from {}", counted(copied.chars, "character"), shortened(&copied.from))
            }
            None => "none".into(),
        };
        say("longest run copied", copied);
    }
    lines
}

fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

fn shortened(words: &str) -> String {
    let mut short: String = words.chars().take(MAX_WORDS).collect();
    if short.len() < words.len() {
        short.push('…');
    }
    short
}

/// Offsets in UTF-16 units of a text's bytes.
struct Utf16 {
    /// The bytes behind each character that is not ASCII, and how many bytes more than units there are up to there.
    /// Empty for ASCII.
    wide: Vec<(usize, usize)>,
    units: usize,
    bytes: usize,
}

impl Utf16 {
    fn of(text: &str) -> Utf16 {
        let mut wide = Vec::new();
        let mut more = 0;
        for (at, c) in text.char_indices().filter(|(_, c)| !c.is_ascii()) {
            more += c.len_utf8() - c.len_utf16();
            wide.push((at + c.len_utf8(), more));
        }
        Utf16 { wide, units: text.len() - more, bytes: text.len() }
    }

    /// The unit at a byte that begins a character, or the text's end.
    fn at(&self, byte: usize) -> u32 {
        let before = self.wide.partition_point(|(end, _)| *end <= byte);
        let more = before.checked_sub(1).map_or(0, |i| self.wide[i].1);
        let unit = if byte >= self.bytes { self.units } else { byte - more };
        u32::try_from(unit).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
#[path = "tunes_tests.rs"]
mod tests;
