//! Do the bars fill the meter? Pickups, and bars that a repeat, an ending or a double bar splits in two, are full when
//! their halves add up.

use super::diagnostic::Span;
use super::fraction::Fraction;
use super::tune::{Element, ElementKind, Tune, Voice};

/// A bar as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarCheck {
    /// From its first element to its last.
    pub span: Span,
    /// How long it lasts, in whole notes.
    pub duration: Fraction,
    /// How long the meter says; `None` in free meter.
    pub expected: Option<Fraction>,
    /// Whether it is full, alone or with its other half.
    pub full: bool,
}

/// What stands on either side of a bar.
#[derive(Debug, Clone, Copy, Default)]
struct Edges {
    /// A repeat, a double bar, an ending or the tune's start on the left.
    left: bool,
    /// The same, or the tune's end, on the right.
    right: bool,
    /// The first bar of the voice.
    first: bool,
    /// The index of the bar that starts the section (after the last repeat or double bar).
    section: usize,
    /// The index of the bar before the first of a group of endings.
    before_endings: Option<usize>,
}

/// Every bar of every voice that has any time in it, in the order of the text.
pub fn check_bars(tune: &Tune) -> Vec<BarCheck> {
    tune.voices.iter().flat_map(|voice| check_voice(tune, voice)).collect()
}

fn check_voice(tune: &Tune, voice: &Voice) -> Vec<BarCheck> {
    let (mut bars, edges) = collect(tune, voice);
    let mut partner_found = vec![false; bars.len()];
    for i in 0..bars.len() {
        let Some(expected) = bars[i].expected else {
            bars[i].full = true;
            continue;
        };
        if bars[i].duration >= expected {
            bars[i].full |= bars[i].duration == expected;
            continue;
        }
        let edge = edges[i];
        // A pickup needs no partner: many tunes end on a whole bar all the same.
        if edge.first {
            bars[i].full = true;
        }
        let adds_up = |j: usize| {
            j != i && bars.get(j).is_some_and(|b| b.duration.checked_add(bars[i].duration) == Some(expected))
        };
        // The second half may follow at once, open the section (a repeat leads back there), or open the tune; an
        // ending's first half stands before the first ending.
        let candidates = [
            edge.right.then_some(i + 1).filter(|j| edges.get(*j).is_some_and(|e| e.left)),
            edge.right.then_some(edge.section),
            edge.right.then_some(0),
            edge.left.then_some(edge.before_endings).flatten(),
        ];
        for j in candidates.into_iter().flatten() {
            if adds_up(j) {
                partner_found[i] = true;
                partner_found[j] = true;
            }
        }
    }
    for (bar, found) in bars.iter_mut().zip(partner_found) {
        bar.full |= found;
    }
    bars
}

/// Cuts a voice at its bar lines.
fn collect(tune: &Tune, voice: &Voice) -> (Vec<BarCheck>, Vec<Edges>) {
    let meter = tune.meter.and_then(|m| m.bar_length());
    let mut cut = Cutter { meter, bar_meter: meter, ..Cutter::default() };
    cut.open.left = true;
    for element in &voice.elements {
        match &element.kind {
            ElementKind::Bar(bar) => {
                cut.close(bar.is_section());
                if bar.is_section() {
                    cut.section_line();
                    if bar.start_repeat > 0
                        || (bar.double && bar.end_repeat == 0)
                        || cut.before_endings.is_none()
                    {
                        cut.section = cut.bars.len();
                        cut.before_endings = None;
                    }
                }
                cut.bar_meter = cut.meter;
            }
            ElementKind::Ending(numbers) => {
                if cut.open.duration.is_zero() {
                    cut.section_line();
                }
                if numbers.contains(1) || cut.before_endings.is_none() {
                    cut.before_endings = cut.bars.len().checked_sub(1);
                }
            }
            ElementKind::Overlay => {
                cut.open.layers = cut.open.layers.max(cut.open.duration);
                cut.open.duration = Fraction::ZERO;
            }
            ElementKind::Meter(new) => {
                cut.meter = new.bar_length();
                if cut.open.duration.is_zero() {
                    cut.bar_meter = cut.meter;
                }
            }
            ElementKind::Part(_) => {
                cut.close(true);
                cut.section_line();
                cut.section = cut.bars.len();
            }
            _ => cut.open.add(element),
        }
    }
    cut.close(true);
    (cut.bars, cut.edges)
}

/// The bar being read.
#[derive(Debug, Default)]
struct Open {
    span: Option<Span>,
    duration: Fraction,
    /// The longest overlay so far.
    layers: Fraction,
    left: bool,
    has_notes: bool,
    overflow: bool,
}

impl Open {
    fn add(&mut self, element: &Element) {
        if element.duration.is_zero() {
            return;
        }
        let start = self.span.map_or(element.span.start, |s| s.start);
        self.span = Some(Span::new(start, element.span.end));
        self.has_notes |= !matches!(element.kind, ElementKind::Rest);
        match self.duration.checked_add(element.duration) {
            Some(sum) => self.duration = sum,
            None => self.overflow = true,
        }
    }
}

#[derive(Debug, Default)]
struct Cutter {
    bars: Vec<BarCheck>,
    edges: Vec<Edges>,
    open: Open,
    /// The meter in force, and the one that held when the bar began.
    meter: Option<Fraction>,
    bar_meter: Option<Fraction>,
    /// See [`Edges`].
    section: usize,
    before_endings: Option<usize>,
}

impl Cutter {
    /// A line that parts sections stands here.
    fn section_line(&mut self) {
        if let Some(last) = self.edges.last_mut() {
            last.right = true;
        }
        self.open.left = true;
    }

    fn close(&mut self, right: bool) {
        let Some(span) = self.open.span else { return };
        let open = std::mem::take(&mut self.open);
        let duration = open.duration.max(open.layers);
        // Whole bars of rest (Z4) are full however many they are.
        let whole_rests = !open.has_notes
            && self.bar_meter.and_then(|e| duration.checked_div(e)).is_some_and(|n| n.denominator() == 1);
        self.edges.push(Edges {
            left: open.left,
            right,
            first: self.bars.is_empty(),
            section: self.section,
            before_endings: self.before_endings,
        });
        let expected = self.bar_meter.filter(|_| !open.overflow);
        self.bars.push(BarCheck { span, duration, expected, full: whole_rests });
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_tune;
    use super::*;

    /// `#` for a full bar, `-` for another.
    fn marks(meter: &str, body: &str) -> String {
        let tune = parse_tune(&format!("X:1\nT:t\nM:{meter}\nL:1/4\nK:C\n{body}\n"));
        check_bars(&tune).iter().map(|b| if b.full { '#' } else { '-' }).collect()
    }

    #[test]
    fn plain_bars() {
        assert_eq!(marks("4/4", "CDEF|CDE|CDEFG|z4|]"), "#--#");
        assert_eq!(marks("none", "C|CD|CDE|]"), "###");
        assert_eq!(marks("3/4", "CDE|Z4|CDE|]"), "###");
        assert_eq!(marks("4/4", "CDEF|[M:3/4]CDE|CDEF|]"), "##-");
        assert_eq!(marks("4/4", "C2E2 & E4|CDEF|]"), "##");
    }

    #[test]
    fn pickups_and_split_bars() {
        assert_eq!(marks("4/4", "C|CDEF|CDE|]"), "###");
        assert_eq!(marks("4/4", "C|CDEF|CDE:|F|CDEF|CDE:|"), "######");
        assert_eq!(marks("4/4", "CDEF|CD:|EF|CDEF|]"), "####");
        assert_eq!(marks("4/4", "|:C|CDEF|1CDE:|2CDE|]"), "####");
        assert_eq!(marks("4/4", "CDEF|CD|1EF:|2GA|]"), "####");
        assert_eq!(marks("4/4", "CDEF|CD|EF|CDEF|]"), "#--#", "a plain bar line splits nothing");
        assert_eq!(marks("4/4", "CDEF|CDEF|CD|]"), "##-");
    }
}
