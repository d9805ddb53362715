//! What an axis shows: from where to where, and its ticks in round numbers.

/// How values lie on an axis.
#[derive(Debug, Clone, PartialEq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By their logarithm; values up to 0 (and below 1e-12) are gaps.
    Log,
    /// One place each, named; on a vertical axis from above. A point's value is the index.
    Categories(Vec<String>),
}

/// How ticks are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// As numbers.
    #[default]
    Number,
    /// Shares as percent.
    Percent,
}

/// One of a panel's two.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Its label.
    pub label: String,
    /// How values lie on it.
    pub scale: Scale,
    /// How its ticks are written.
    pub unit: Unit,
    /// Where it begins; None: at the lowest value, with some room.
    pub from: Option<f64>,
    /// Where it ends; None: at the highest value, with some room. Lines beyond are cut at the frame.
    pub to: Option<f64>,
}

impl Axis {
    /// Linear over the values.
    pub fn linear(label: &str) -> Axis {
        Axis { label: label.into(), scale: Scale::Linear, unit: Unit::Number, from: None, to: None }
    }

    /// Named places.
    pub fn categories(names: Vec<String>) -> Axis {
        Axis { scale: Scale::Categories(names), ..Axis::linear("") }
    }

    /// The axis for these values, finite or not, with about `count` ticks.
    pub(super) fn ruled(&self, values: impl IntoIterator<Item = f64>, count: usize) -> Ruled {
        let log = self.scale == Scale::Log;
        if let Scale::Categories(names) = &self.scale {
            let ticks = names.iter().enumerate().map(|(i, name)| (i as f64, name.clone())).collect();
            return Ruled { from: -0.6, to: names.len().max(1) as f64 - 0.4, log: false, ticks };
        }
        let good = |value: &f64| drawable(*value) && (!log || *value >= LEAST);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().chain(self.from).chain(self.to).filter(good) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = if log { (1.0, 10.0) } else { (0.0, 1.0) };
        }
        let asked = |end: Option<f64>| end.filter(good);
        // What lies beyond an end that was asked for is not seen, so it needs no room at the other end.
        if let (None, Some(to)) = (self.from, asked(self.to))
            && to > low
        {
            high = high.min(to);
        }
        if log {
            let room = if low == high { 2.0 } else { (high / low).powf(0.04) };
            let (from, to) = (asked(self.from).unwrap_or(low / room), asked(self.to).unwrap_or(high * room));
            let (from, to) = if from < to { (from, to) } else { (low / 2.0, low * 2.0) };
            return Ruled { from, to, log, ticks: self.labelled(decades(from, to)) };
        }
        let room = if low == high { (low.abs() * 0.1).max(0.05) } else { (high - low) * 0.05 };
        let (from, to) = (asked(self.from).unwrap_or(low - room), asked(self.to).unwrap_or(high + room));
        let (from, to) = if from < to { (from, to) } else { (from - room, from + room) };
        Ruled { from, to, log, ticks: self.labelled(round_ticks(from, to, count)) }
    }

    fn labelled(&self, ticks: Vec<f64>) -> Vec<(f64, String)> {
        let percent = self.unit == Unit::Percent;
        let factor = if percent { 100.0 } else { 1.0 };
        // As many places as tell neighbours apart, the same for all.
        let places = (0..9).find(|&places| {
            let scale = 10f64.powi(places) * factor;
            ticks.iter().all(|tick| {
                let scaled = tick * scale;
                (scaled - scaled.round()).abs() < 1e-6 * scaled.abs().max(1.0)
            })
        });
        let write = |tick: f64| {
            let value = tick * factor;
            let text = if value != 0.0 && (value.abs() >= 1e6 || value.abs() < 1e-6) {
                format!("{value:e}")
            } else {
                format!("{value:.*}", places.unwrap_or(9) as usize)
            };
            // A zero that came out as -0.0 is still zero.
            let text = if text.starts_with('-') && !text.contains(|c| matches!(c, '1'..='9')) {
                text[1..].into()
            } else {
                text
            };
            if percent { format!("{text}%") } else { text }
        };
        ticks.iter().map(|&tick| (tick, write(tick))).collect()
    }
}

/// The least value of a logarithmic axis: a ratio of two drawable values stays finite.
const LEAST: f64 = 1e-12;

/// Whether a value can be put on an axis: finite, and not so large that a range of such values overflows.
pub(super) fn drawable(value: f64) -> bool {
    value.is_finite() && value.abs() < 1e12
}

/// An axis with its ends and ticks settled.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ruled {
    pub from: f64,
    pub to: f64,
    log: bool,
    /// Values and their labels.
    pub ticks: Vec<(f64, String)>,
}

impl Ruled {
    /// Where a value lies, 0 (from) to 1 (to), beyond for those outside; None where it has no place.
    pub fn place(&self, value: f64) -> Option<f64> {
        if !drawable(value) || (self.log && value < LEAST) {
            return None;
        }
        let place = if self.log {
            (value / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        place.is_finite().then_some(place)
    }
}

/// Multiples of 1, 2 or 5 times a power of ten within the range, `count` of them or a few more.
fn round_ticks(from: f64, to: f64, count: usize) -> Vec<f64> {
    let rough = (to - from) / count.max(2) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| *step >= rough * 0.75);
    let step = step.unwrap_or(10.0 * power);
    if !(step > 0.0 && step.is_finite()) {
        return vec![from];
    }
    let slack = step * 1e-6;
    let first = ((from - slack) / step).ceil();
    let ticks = (0..100).map(|i| (first + i as f64) * step);
    ticks.take_while(|tick| *tick <= to + slack).collect()
}

/// 1, 2 and 5 times the powers of ten, or the powers alone over more than three of them.
fn decades(from: f64, to: f64) -> Vec<f64> {
    let steps: &[f64] = if to / from > 1e3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let powers = (from.log10().floor() as i32)..=(to.log10().ceil() as i32);
    let all = powers.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
    let ticks: Vec<f64> = all.filter(|&tick| tick >= from && tick <= to).collect();
    if ticks.len() < 2 { vec![from, to] } else { ticks }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, values: &[f64]) -> Vec<String> {
        axis.ruled(values.iter().copied(), 5).ticks.into_iter().map(|tick| tick.1).collect()
    }

    #[test]
    fn ticks_are_round_and_as_exact_as_needed() {
        let axis = Axis::linear("");
        assert_eq!(labels(&axis, &[1.62, 2.11]), ["1.6", "1.7", "1.8", "1.9", "2.0", "2.1"]);
        assert_eq!(labels(&axis, &[0.0, 100.0]), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(
            labels(&axis, &[1.652, 1.655]),
            ["1.6520", "1.6525", "1.6530", "1.6535", "1.6540", "1.6545", "1.6550"]
        );
        assert_eq!(labels(&axis, &[-1.0, 1.0]), ["-1.0", "-0.5", "0.0", "0.5", "1.0"]);
        let percent = Axis { unit: Unit::Percent, from: Some(0.0), to: Some(1.0), ..axis.clone() };
        assert_eq!(labels(&percent, &[0.3]), ["0%", "20%", "40%", "60%", "80%", "100%"]);
        let log = Axis { scale: Scale::Log, ..axis };
        assert_eq!(labels(&log, &[1.0, 10.0, -5.0, 0.0]), ["1", "2", "5", "10"]);
    }

    #[test]
    fn any_values_give_an_axis() {
        let hard = [0.0, f64::NAN, f64::INFINITY, 1e308, -1e308, 1e-320, 5.0, -5.0, 1e11, f64::MIN_POSITIVE];
        for scale in [Scale::Linear, Scale::Log, Scale::Categories(Vec::new())] {
            let axis = Axis { scale, ..Axis::linear("") };
            for a in hard {
                for b in hard {
                    for (from, to) in [(None, None), (Some(a), Some(b)), (Some(b), None)] {
                        let ruled = Axis { from, to, ..axis.clone() }.ruled([a, b], 5);
                        let here = (&axis, a, b, &ruled);
                        assert!(ruled.from < ruled.to && ruled.ticks.len() < 110, "{here:?}");
                        let places = ruled.ticks.iter().map(|tick| ruled.place(tick.0));
                        let inside = |p: Option<f64>| p.is_some_and(|p| (-0.01..=1.01).contains(&p));
                        assert!(places.into_iter().all(inside), "{here:?}");
                    }
                }
            }
        }
    }
}
