//! Plots of the best model's tunes against temperature, and of the loss by class of character.

use crate::study::names;
use crate::study::results::{Measure, Results, TuneSet, Variant};
use crate::study::statistics::Summary;
use crate::study::tables::classes_by;
use crate::viz::chart::{Axis, Dash, Figure, Marker, Panel, Point, Reference, Scale, Series, Swatch, Unit};

/// Of a 95% interval, in standard errors of a normal distribution.
const NORMAL: f64 = 1.96;

/// Measures of the sampled tunes against temperature, a panel each, with the corpus's own value.
pub fn temperature(results: &Results) -> Option<Figure> {
    let sets = &results.tune_sets;
    let mut panels: Vec<Panel> = Vec::new();
    let mut done: Vec<&str> = Vec::new();
    let mut bars = false;
    for measure in sets.iter().flat_map(|set| &set.measures) {
        if done.contains(&measure.key.as_str()) {
            continue;
        }
        done.push(&measure.key);
        let find = || {
            let same = |set: &'_ TuneSet| {
                set.measures
                    .iter()
                    .find(|other| other.key == measure.key)
                    .map(|other| (set.temperature, other.clone()))
            };
            sets.iter().filter_map(same)
        };
        let point = |(x, one): (f64, Measure)| {
            let y = one.value.unwrap_or(f64::NAN);
            let reach = one.error.filter(|error| error.is_finite()).map(|error| NORMAL * error);
            Point { x, y, x_span: None, y_span: reach.map(|reach| (y - reach, y + reach)) }
        };
        let points: Vec<Point> = find().map(point).collect();
        if !points.iter().any(|point| point.y.is_finite()) {
            continue;
        }
        bars |= points.iter().any(|point| point.y_span.is_some());
        let corpus = find().find_map(|(_, one)| one.corpus.filter(|value| value.is_finite()));
        let share = measure.unit == "share";
        let unit = if share { Unit::Percent } else { Unit::Number };
        // Shares are seen whole; others from their lowest to their highest.
        let (from, to) = if share { (Some(-0.04), Some(1.04)) } else { (None, None) };
        let name = if share { measure.name.clone() } else { format!("{}, {}", measure.name, measure.unit) };
        panels.push(Panel {
            title: name,
            x: Axis::linear("temperature"),
            y: Axis { unit, from, to, scale: Scale::Linear, label: String::new() },
            height: 170.0,
            series: vec![Series {
                name: "sampled tunes".into(),
                line: Some(Dash::Solid),
                marker: Some(Marker::Circle),
                points,
                ..Series::default()
            }],
            references: corpus
                .map(|value| Reference { name: "the corpus itself".into(), value, horizontal: true })
                .into_iter()
                .collect(),
            direct: false,
        });
    }
    if panels.is_empty() {
        return None;
    }
    let model = results
        .best
        .map_or_else(String::new, |(best, _)| format!(" of the best model, {}", names::full(&best)));
    Some(Figure {
        title: "Sampled tunes against temperature".into(),
        subtitle: format!("Tunes{model}"),
        columns: 2,
        panels,
        keys: if bars { vec![("95% interval over tunes".into(), Swatch::Bar)] } else { Vec::new() },
        note: String::new(),
    })
}

/// Whole percents, but for shares that would be none.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 1.0 { format!("{percent:.1}%") } else { format!("{percent:.0}%") }
}

/// Loss by class of character, the first baseline against the best variant, and each class's part of the whole.
pub fn classes(results: &Results) -> Option<Figure> {
    let (baseline, best, rows) = classes_by(results)?;
    let labels: Vec<String> =
        rows.iter().map(|row| format!("{} ({})", row.class.name(), percent(row.share))).collect();
    let series = |variant: &Variant, i: usize, weighted: bool| {
        let place = match (best.is_some(), i) {
            (false, _) => 0.0,
            (true, 0) => -0.14,
            (true, _) => 0.14,
        };
        let points = rows.iter().enumerate().filter_map(|(row, one)| {
            let values = if i == 0 { &one.baseline } else { &one.best };
            let factor = if weighted { one.share } else { 1.0 };
            let all = Summary::of(values.iter().map(|value| value.1 * factor))?;
            let x_span = all.sd.map(|sd| (all.mean - sd, all.mean + sd));
            Some(Point { x: all.mean, y: row as f64 + place, x_span, y_span: None })
        });
        Series {
            name: if i == 0 {
                format!("baseline, {}", names::full(variant))
            } else {
                format!("best, {}", names::full(variant))
            },
            colour: Some(i),
            marker: Some([Marker::Circle, Marker::Square][i]),
            points: points.collect(),
            ..Series::default()
        }
    };
    let panel = |title: &str, x: &str, weighted: bool| Panel {
        title: title.into(),
        // From zero, since a class's place on the whole way is what is read.
        x: Axis { from: Some(0.0), ..Axis::linear(x) },
        y: Axis::categories(labels.clone()),
        height: 32.0 * labels.len() as f64 + 16.0,
        series: [Some(series(&baseline, 0, weighted)), best.map(|best| series(&best, 1, weighted))]
            .into_iter()
            .flatten()
            .collect(),
        ..Panel::default()
    };
    Some(Figure {
        title: "Loss by class of character".into(),
        subtitle: "Contract protocol, validation tunes; in brackets the share of characters".into(),
        columns: 1,
        panels: vec![
            panel("How hard a character of the class is to predict", "nats a character of the class", false),
            panel("What the class adds to the loss over all characters", "nats a character of all", true),
        ],
        keys: Vec::new(),
        note: "Means over seeds, with standard deviations where there are several. The parts below add up to the loss."
            .into(),
    })
}
