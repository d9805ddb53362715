//! How a tune is built, as written: notes inside the key, repeats that are balanced, lengths of sections.

use crate::abc::{ElementKind, EndingNumbers, Key, Meter, Note, Tune, Voice};

/// Semitones of C D E F G A B above C.
const STEPS: [i32; 7] = [0, 2, 4, 5, 7, 9, 11];

/// Notes whose pitch class belongs to the scale of the key in force, and all notes; grace notes are left out. (0, 0)
/// for a tune without a key. A voice's own `transpose=` is not taken into account.
pub fn notes_in_key(tune: &Tune) -> (usize, usize) {
    let Some(key) = &tune.key else { return (0, 0) };
    let (mut inside, mut all) = (0, 0);
    for voice in &tune.voices {
        let mut scale = scale(key);
        let mut count = |notes: &[Note], scale: &[bool; 12]| {
            inside += notes.iter().filter(|note| scale[usize::from(note.pitch % 12)]).count();
            all += notes.len();
        };
        for element in &voice.elements {
            match &element.kind {
                ElementKind::Note(note) => count(std::slice::from_ref(note), &scale),
                ElementKind::Chord(notes) => count(notes, &scale),
                ElementKind::Key(key) => scale = self::scale(key),
                _ => {}
            }
        }
    }
    (inside, all)
}

/// The pitch classes of a key as they sound.
fn scale(key: &Key) -> [bool; 12] {
    let mut scale = [false; 12];
    for (step, alteration) in STEPS.iter().zip(key.alterations) {
        let class = (step + i32::from(alteration) + i32::from(key.shift)).rem_euclid(12);
        scale[class as usize] = true;
    }
    scale
}

/// Whether the repeats and endings of every voice are balanced: every `:|` has music since the last one, `|:`, or the
/// start; every `|:` is closed before the next one or the end; endings are numbered from 1 without a gap and are at
/// least two. None for a tune without repeats or endings.
pub fn repeats_balanced(tune: &Tune) -> Option<bool> {
    let mut found = false;
    let mut balanced = true;
    for voice in &tune.voices {
        let mut state = Repeats { good: true, ..Repeats::default() };
        for element in &voice.elements {
            state.read(&element.kind, !element.duration.is_zero());
        }
        state.end_section();
        found |= state.found;
        balanced &= state.good;
    }
    found.then_some(balanced)
}

/// Walks over a voice.
#[derive(Debug, Default)]
struct Repeats {
    found: bool,
    good: bool,
    /// A `|:` waits for its `:|`.
    open: bool,
    /// Music since the section began, or since the ending did.
    music: bool,
    /// Passes that the section's endings so far are for.
    endings: u32,
    /// An ending is over: another one, or a new section, must follow.
    ending_over: bool,
}

impl Repeats {
    fn read(&mut self, kind: &ElementKind, timed: bool) {
        match kind {
            ElementKind::Bar(bar) => {
                if bar.end_repeat > 0 {
                    self.found = true;
                    self.good &= self.music;
                    if self.endings == 0 {
                        self.open = false;
                    }
                    self.music = false;
                    self.ending_over = self.endings != 0;
                } else if bar.double && self.endings != 0 {
                    self.ending_over = true;
                }
                if bar.start_repeat > 0 {
                    self.found = true;
                    self.end_section();
                    self.open = true;
                }
            }
            ElementKind::Ending(numbers) => {
                self.found = true;
                if numbers.contains(1) && self.endings != 0 {
                    self.end_section();
                }
                self.endings |= numbers.0;
                self.ending_over = false;
                self.music = false;
            }
            ElementKind::Part(_) => self.end_section(),
            _ if timed => {
                if self.ending_over {
                    self.end_section();
                }
                self.music = true;
            }
            _ => {}
        }
    }

    /// Nothing may be left open: not a `|:`, not an ending without its partner.
    fn end_section(&mut self) {
        if self.endings != 0 {
            let passes = EndingNumbers(self.endings).last();
            // Bits 1 to `passes`, all of them.
            let complete = self.endings == (1u64 << (passes + 1)) as u32 - 2;
            self.good &= complete && passes >= 2;
        } else if self.open && self.music {
            self.good = false;
        }
        self.endings = 0;
        self.ending_over = false;
        self.open = false;
        self.music = false;
    }
}

/// Sections of the first voice that are 4 bars or a multiple of 8 bars long, and all sections. Sections end at repeats,
/// double bars and parts; of a group of endings the first counts. Their length is that of the music in bars of the
/// meter, rounded, so that pickups do not matter; what rounds to no bar is no section. (0, 0) in free meter.
pub fn regular_sections(tune: &Tune) -> (usize, usize) {
    let Some(voice) = tune.voices.first() else { return (0, 0) };
    let lengths = section_bars(tune, voice);
    let regular = |bars: &&u64| **bars == 4 || **bars % 8 == 0;
    (lengths.iter().filter(regular).count(), lengths.len())
}

/// The sections' lengths in bars, rounded.
fn section_bars(tune: &Tune, voice: &Voice) -> Vec<u64> {
    let mut cut = Sections { meter: tune.meter.unwrap_or(Meter::FREE), ..Sections::default() };
    for element in &voice.elements {
        match &element.kind {
            ElementKind::Bar(bar) => {
                cut.end_bar();
                if bar.is_section() {
                    // The line behind an ending ends no section: another ending may follow.
                    if cut.in_ending && bar.start_repeat == 0 {
                        cut.ending_over = true;
                    } else {
                        cut.end_section();
                    }
                }
            }
            ElementKind::Ending(numbers) => {
                if numbers.contains(1) && cut.in_ending {
                    cut.end_section();
                }
                (cut.in_ending, cut.ending_over) = (true, false);
                cut.skipped = !numbers.contains(1);
            }
            ElementKind::Part(_) => {
                cut.end_bar();
                cut.end_section();
            }
            ElementKind::Meter(new) => cut.meter = *new,
            ElementKind::Overlay => {
                cut.layers = cut.layers.max(cut.bar);
                cut.bar = 0.0;
            }
            _ if !element.duration.is_zero() => {
                if cut.ending_over {
                    cut.end_section();
                }
                if let Some(length) = cut.meter.bar_length().filter(|_| !cut.skipped) {
                    cut.bar += element.duration.as_f64() / length.as_f64();
                }
            }
            _ => {}
        }
    }
    cut.end_bar();
    cut.end_section();
    cut.lengths
}

/// A voice being cut into sections.
#[derive(Debug)]
struct Sections {
    lengths: Vec<u64>,
    meter: Meter,
    /// Bars of the section before the open bar, of the open bar, and of its longest overlay.
    bars: f64,
    bar: f64,
    layers: f64,
    in_ending: bool,
    ending_over: bool,
    /// Inside an ending other than the first.
    skipped: bool,
}

impl Default for Sections {
    fn default() -> Sections {
        Sections {
            lengths: Vec::new(),
            meter: Meter::FREE,
            bars: 0.0,
            bar: 0.0,
            layers: 0.0,
            in_ending: false,
            ending_over: false,
            skipped: false,
        }
    }
}

impl Sections {
    fn end_bar(&mut self) {
        self.bars += self.bar.max(self.layers);
        (self.bar, self.layers) = (0.0, 0.0);
    }

    fn end_section(&mut self) {
        let bars = std::mem::take(&mut self.bars).round();
        if (1.0..1e9).contains(&bars) {
            self.lengths.push(bars as u64);
        }
        (self.in_ending, self.ending_over, self.skipped) = (false, false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abc::parse_tune;

    fn tune(key: &str, body: &str) -> Tune {
        parse_tune(&format!("X:1\nT:t\nM:4/4\nL:1/4\nK:{key}\n{body}\n"))
    }

    #[test]
    fn keys() {
        for (key, body, expected) in [
            ("C", "CDE^F|[CE_B]z|", (5, 7)),
            ("D", "FC =F c|", (3, 4)),
            ("Ador", "ABcd e^fgG|", (8, 8)),
            ("G treble-8", "GABF|", (4, 4)),
            ("C", "F^F[K:G]F=F|", (2, 4)),
            ("C", "^E {^f}C|", (2, 2)),
            ("C transpose=2", "CDE^F|", (3, 4)),
        ] {
            assert_eq!(notes_in_key(&tune(key, body)), expected, "{key} {body}");
        }
        assert_eq!(notes_in_key(&parse_tune("X:1\nCDE^F|\n")), (0, 0));
    }

    #[test]
    fn repeats() {
        for (body, expected) in [
            ("CDEF|GABc|]", None),
            ("|:CDEF:|", Some(true)),
            ("CDEF:|GABc:|", Some(true)),
            ("|:CDEF::GABc:|", Some(true)),
            ("CDEF|:GABc:|CDEF", Some(true)),
            ("|:CDEF|1G4:|2A4|]", Some(true)),
            ("|:CDEF|1G4:|2A4:|", Some(true)),
            ("CDEF|[1G4:|[2A4||CDEF:|", Some(true)),
            ("|:C4|1,3D4:|2E4:|", Some(true)),
            ("|:C4|1D4:|2E4|:F4|1G4:|2A4|]", Some(true)),
            ("|:CDEF|GABc|]", Some(false)),
            ("|:CDEF|:GABc:|", Some(false)),
            ("CDEF:|:|", Some(false)),
            (":|CDEF|", Some(false)),
            ("|:CDEF|1G4:|A4|]", Some(false)),
            ("|:CDEF|1G4:|", Some(false)),
            ("CDEF:|2A4|]", Some(false)),
            ("|:C4|1D4:|3E4|]", Some(false)),
            ("|:C4|1D4:|1E4:|2F4|]", Some(false)),
            ("|:C4|1D4:|2E4|:F4|]", Some(false)),
        ] {
            assert_eq!(repeats_balanced(&tune("C", body)), expected, "{body}");
        }
        let voices = "V:1\n|:C4:|\nV:2\n|:C4|]\n";
        assert_eq!(repeats_balanced(&tune("C", voices)), Some(false));
    }

    #[test]
    fn sections() {
        let bars = |n: usize| "CDEF|".repeat(n);
        let lengths = |body: &str| {
            let tune = tune("C", body);
            section_bars(&tune, &tune.voices[0])
        };
        assert_eq!(lengths(&format!("|:{}:|:{}:|", bars(8), bars(7))), [8, 7]);
        // A pickup and its short last bar; a pickup that nothing makes up for.
        assert_eq!(lengths(&format!("C|{}CDE||C|{}|]", bars(7), bars(8))), [8, 8]);
        let endings = format!("|:{}|1 C4:|2 D4||{}|]", bars(7), bars(4));
        assert_eq!(lengths(&endings), [8, 4]);
        assert_eq!(lengths(&format!("|:{}|1 C4:|2 D4:|{}:|", bars(7), bars(5))), [8, 5]);
        assert_eq!(lengths(&format!("|:{}|1 C4:|2 D4|:{}:|", bars(7), bars(5))), [8, 5]);
        assert_eq!(lengths("C4 & D4|E4 & F2|"), [2]);
        assert_eq!(lengths("CDEF|[M:2/4]CD|EF|"), [3]);
        assert!(lengths("|::||:").is_empty());
        assert_eq!(regular_sections(&tune("C", &format!("{}||{}||{}", bars(4), bars(16), bars(12)))), (2, 3));
        assert_eq!(regular_sections(&parse_tune("X:1\nM:none\nK:C\nCDEF||GABc|]\n")), (0, 0));
    }
}
