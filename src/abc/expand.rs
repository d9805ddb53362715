//! Playing a tune: exact onsets and durations of every note, with repeats, endings, parts and ties carried out.

use super::chord_symbol::ChordSymbol;
use super::diagnostic::{Code, Diagnostics, Span};
use super::fraction::Fraction;
use super::key::Key;
use super::meter::{Meter, Tempo};
use super::repeats::{MAX_STEPS, Section, sections};
use super::tune::{Element, ElementKind, Note, Tune};

/// The most notes that a tune may play; the performance stops there (`E031`).
pub const MAX_NOTES: usize = 200_000;

/// A note as played. Times are in whole notes from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoteEvent {
    /// When it starts.
    pub onset: Fraction,
    /// How long it sounds, ties included.
    pub duration: Fraction,
    /// MIDI number.
    pub pitch: u8,
    /// Index into [`Tune::voices`].
    pub voice: usize,
    /// Where it is written.
    pub span: Span,
}

/// A chord symbol as played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChordEvent {
    /// When it starts, in whole notes.
    pub onset: Fraction,
    /// Which chord.
    pub symbol: ChordSymbol,
    /// Where it is written.
    pub span: Span,
}

/// A bar of the first voice as played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarEvent {
    /// When it starts, in whole notes.
    pub onset: Fraction,
    /// How long it lasts, in whole notes.
    pub duration: Fraction,
    /// The meter in force.
    pub meter: Meter,
}

/// A whole tune as played.
#[derive(Debug, Clone, Default)]
pub struct Performance {
    /// Every note, by onset, then voice, then pitch.
    pub notes: Vec<NoteEvent>,
    /// Every chord symbol, by onset.
    pub chords: Vec<ChordEvent>,
    /// The first voice's bars.
    pub bars: Vec<BarEvent>,
    /// Meters from their onset on, the first at 0 if the tune has one.
    pub meters: Vec<(Fraction, Meter)>,
    /// Keys from their onset on.
    pub keys: Vec<(Fraction, Key)>,
    /// Tempos from their onset on.
    pub tempos: Vec<(Fraction, Tempo)>,
    /// When the longest voice ends, in whole notes.
    pub length: Option<Fraction>,
    /// What went wrong in playing.
    pub diagnostics: Diagnostics,
}

impl Performance {
    /// The length in whole notes.
    pub fn whole_notes(&self) -> Fraction {
        self.length.unwrap_or(Fraction::ZERO)
    }

    /// The length in seconds, every change of tempo counted.
    pub fn seconds(&self) -> f64 {
        let mut seconds = 0.0;
        let mut from = Fraction::ZERO;
        let mut tempo = Tempo::DEFAULT;
        let end = self.whole_notes();
        for (onset, next) in self.tempos.iter().copied().chain(std::iter::once((end, tempo))) {
            let onset = onset.min(end);
            seconds += (onset.as_f64() - from.as_f64()).max(0.0) * 60.0 / tempo.whole_notes_per_minute;
            (from, tempo) = (onset, next);
        }
        seconds
    }
}

/// Plays a tune. Bounded: at most [`MAX_NOTES`] notes and [`MAX_STEPS`] elements a voice.
pub fn expand(tune: &Tune) -> Performance {
    let mut performance = Performance::default();
    if let Some(meter) = tune.meter {
        performance.meters.push((Fraction::ZERO, meter));
    }
    if let Some(key) = &tune.key {
        performance.keys.push((Fraction::ZERO, key.clone()));
    }
    if let Some(tempo) = tune.tempo {
        performance.tempos.push((Fraction::ZERO, tempo));
    }
    for (index, voice) in tune.voices.iter().enumerate() {
        let mut player = Player::new(tune, index, &mut performance);
        player.play_voice(&voice.elements);
    }
    performance.notes.sort_by_key(|n| (n.onset, n.voice, n.pitch));
    performance.chords.sort_by_key(|c| c.onset);
    performance.tempos.sort_by_key(|t| t.0);
    performance.tempos.dedup();
    performance.diagnostics.sort();
    performance
}

/// A tie waiting for its second note.
#[derive(Debug, Clone, Copy)]
struct OpenTie {
    pitch: u8,
    event: usize,
    end: Fraction,
}

#[derive(Debug)]
struct Player<'p> {
    tune: &'p Tune,
    voice: usize,
    performance: &'p mut Performance,
    now: Fraction,
    bar_start: Fraction,
    /// The end of the longest overlay in this bar.
    layers_end: Fraction,
    meter: Meter,
    ties: Vec<OpenTie>,
    steps: usize,
    stopped: bool,
}

impl<'p> Player<'p> {
    fn new(tune: &'p Tune, voice: usize, performance: &'p mut Performance) -> Self {
        Player {
            tune,
            voice,
            performance,
            now: Fraction::ZERO,
            bar_start: Fraction::ZERO,
            layers_end: Fraction::ZERO,
            meter: tune.meter.unwrap_or(Meter::FREE),
            ties: Vec::new(),
            steps: 0,
            stopped: false,
        }
    }

    fn play_voice(&mut self, elements: &[Element]) {
        let parts: Vec<(char, usize)> = elements
            .iter()
            .enumerate()
            .filter_map(|(i, e)| if let ElementKind::Part(p) = e.kind { Some((p, i)) } else { None })
            .collect();
        if self.tune.parts.is_empty() || parts.is_empty() {
            self.play_range(elements, 0..elements.len());
        } else {
            // What stands before the first part is played once.
            self.play_range(elements, 0..parts.first().map_or(0, |p| p.1));
            for part in &self.tune.parts {
                let Some(at) = parts.iter().position(|(letter, _)| letter == part) else {
                    if self.voice == 0 {
                        self.performance.diagnostics.push(Code::BadParts, self.tune.span, || {
                            format!("the order of parts names {part}, which the tune does not have")
                        });
                    }
                    continue;
                };
                let start = parts.get(at).map_or(0, |p| p.1);
                let end = parts.get(at + 1).map_or(elements.len(), |p| p.1);
                self.play_range(elements, start..end);
            }
        }
        self.end_bar();
        let end = self.performance.whole_notes().max(self.now);
        self.performance.length = Some(end);
    }

    fn play_range(&mut self, elements: &[Element], range: std::ops::Range<usize>) {
        if self.stopped {
            return;
        }
        let mut meter_before = None;
        for section in sections(elements, range, &mut self.performance.diagnostics) {
            self.play_section(elements, &section, &mut meter_before);
            if self.stopped {
                return;
            }
        }
    }

    fn play_section(&mut self, elements: &[Element], section: &Section, meter_before: &mut Option<Meter>) {
        // A repeat starts in the meter that held when its start was first reached.
        let at_start = *meter_before.get_or_insert(self.meter);
        for pass in 1..=section.passes {
            if pass > 1 && self.meter != at_start {
                self.set_meter(at_start);
            }
            for i in section.ranges(pass).into_iter().flatten() {
                let Some(element) = elements.get(i) else { continue };
                self.steps += 1;
                if self.steps > MAX_STEPS || self.performance.notes.len() >= MAX_NOTES {
                    self.stop(Code::ExpansionTooLong, element.span, || {
                        format!("played out, the tune has more than {MAX_NOTES} notes; it stops here")
                    });
                }
                if self.stopped {
                    return;
                }
                self.play(element);
            }
        }
        *meter_before = Some(self.meter);
    }

    fn stop(&mut self, code: Code, span: Span, message: impl FnOnce() -> String) {
        if !self.stopped {
            self.stopped = true;
            self.performance.diagnostics.push(code, span, message);
        }
    }

    fn play(&mut self, element: &Element) {
        match &element.kind {
            ElementKind::Note(note) => {
                self.notes(std::slice::from_ref(note), element);
                self.advance(element);
            }
            ElementKind::Chord(notes) => {
                self.notes(notes, element);
                self.advance(element);
            }
            ElementKind::Rest => self.advance(element),
            ElementKind::Bar(_) => self.end_bar(),
            ElementKind::Overlay => {
                self.layers_end = self.layers_end.max(self.now);
                self.now = self.bar_start;
            }
            ElementKind::ChordSymbol(symbol) => {
                let event = ChordEvent { onset: self.now, symbol: *symbol, span: element.span };
                self.performance.chords.push(event);
            }
            ElementKind::Meter(meter) => self.set_meter(*meter),
            ElementKind::Key(key) if self.voice == 0 => {
                self.performance.keys.push((self.now, (**key).clone()))
            }
            ElementKind::Tempo(tempo) => self.performance.tempos.push((self.now, *tempo)),
            _ => {}
        }
    }

    fn set_meter(&mut self, meter: Meter) {
        self.meter = meter;
        if self.voice == 0 {
            self.performance.meters.push((self.now, meter));
        }
    }

    fn notes(&mut self, notes: &[Note], element: &Element) {
        let now = self.now;
        self.ties.retain(|t| t.end >= now);
        for note in notes {
            let Some(end) = now.checked_add(note.duration) else {
                self.overflow(element.span);
                return;
            };
            let open = self.ties.iter().position(|t| t.pitch == note.pitch && t.end == now);
            let event = match open.filter(|_| note.continues) {
                Some(tie) => {
                    let event = self.ties.swap_remove(tie).event;
                    if let Some(first) = self.performance.notes.get_mut(event)
                        && let Some(duration) = end.checked_sub(first.onset)
                    {
                        first.duration = duration;
                    }
                    event
                }
                None => {
                    self.performance.notes.push(NoteEvent {
                        onset: now,
                        duration: note.duration,
                        pitch: note.pitch,
                        voice: self.voice,
                        span: element.span,
                    });
                    self.performance.notes.len() - 1
                }
            };
            if note.tied {
                self.ties.retain(|t| t.pitch != note.pitch);
                self.ties.push(OpenTie { pitch: note.pitch, event, end });
            }
        }
    }

    fn advance(&mut self, element: &Element) {
        match self.now.checked_add(element.duration) {
            Some(now) => self.now = now,
            None => self.overflow(element.span),
        }
    }

    fn overflow(&mut self, span: Span) {
        self.stop(Code::TimeOverflow, span, || {
            "time is too long or too finely divided for exact arithmetic; playing stops here".to_owned()
        });
    }

    /// A bar line: overlays end together, and the bar is noted down.
    fn end_bar(&mut self) {
        self.now = self.now.max(self.layers_end);
        if self.voice == 0
            && self.now > self.bar_start
            && let Some(duration) = self.now.checked_sub(self.bar_start)
        {
            self.performance.bars.push(BarEvent { onset: self.bar_start, duration, meter: self.meter });
        }
        self.bar_start = self.now;
        self.layers_end = self.now;
    }
}
