//! A study's plots as SVG: loss curves and final losses of every experiment and protocol, measures against temperature,
//! loss by class of character. Pure functions of the results.

mod tunes;

pub use tunes::{classes, temperature};

use std::collections::BTreeSet;

use super::names;
use super::published::{self, Measured};
use super::results::{CurvePoint, Experiment, Protocol, Results, Trial};
use super::statistics::{Compared, Summary, compare};
use super::tables::{best_ngram, ngram};
use crate::viz::chart::{Axis, Dash, Figure, Marker, Panel, Point, Reference, Series, Swatch};

/// Every plot that the results have numbers for: file stem and SVG. Stems are unique and safe as file names.
pub fn all(results: &Results) -> Vec<(String, String)> {
    let mut plots: Vec<(String, Figure)> = Vec::new();
    for experiment in &results.experiments {
        let name = safe(&experiment.name);
        for protocol in [Protocol::Contract, Protocol::Assignment] {
            let key = names::protocol(protocol);
            plots.extend(curves(results, experiment, protocol).map(|p| (format!("curves-{name}-{key}"), p)));
            plots
                .extend(final_loss(results, experiment, protocol).map(|p| (format!("loss-{name}-{key}"), p)));
        }
    }
    plots.extend(temperature(results).map(|plot| ("temperature".to_string(), plot)));
    plots.extend(classes(results).map(|plot| ("classes".to_string(), plot)));
    let mut taken = BTreeSet::new();
    plots
        .into_iter()
        .map(|(stem, plot)| {
            // Two experiments may have names that are equal once they are safe.
            let free = (1..).map(|n| if n == 1 { stem.clone() } else { format!("{stem}-{n}") });
            let stem = free.into_iter().find(|stem| taken.insert(stem.clone())).unwrap_or(stem);
            (stem, plot.svg())
        })
        .collect()
}

/// A name as part of a file's name on any system.
fn safe(name: &str) -> String {
    let kept: String = name
        .chars()
        .take(60)
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let kept = kept.trim_matches('-').to_string();
    if kept.is_empty() { "experiment".into() } else { kept }
}

/// A trial's value at an epoch, between points linearly; None outside of its points and beside gaps.
fn value_at(curve: &[CurvePoint], epoch: f64, of: fn(&CurvePoint) -> Option<f64>) -> Option<f64> {
    let finite = |point: &CurvePoint| of(point).filter(|value| value.is_finite());
    let next = curve.iter().position(|point| point.epoch >= epoch - 1e-9)?;
    if (curve[next].epoch - epoch).abs() <= 1e-9 {
        return finite(&curve[next]);
    }
    let before = next.checked_sub(1)?;
    let (a, b) = (finite(&curve[before])?, finite(&curve[next])?);
    let share = (epoch - curve[before].epoch) / (curve[next].epoch - curve[before].epoch);
    Some(a + share * (b - a))
}

/// Mean over seeds with their range at every epoch at which all of them have a value.
fn mean_curve(trials: &[&Trial], of: fn(&CurvePoint) -> Option<f64>) -> Vec<Point> {
    // A trial that has no such loss at all does not take part.
    let has = |trial: &&&Trial| trial.curve.iter().any(|point| of(point).is_some_and(f64::is_finite));
    let trials: Vec<&&Trial> = trials.iter().filter(has).collect();
    let mut epochs: Vec<f64> = trials
        .iter()
        .flat_map(|trial| trial.curve.iter())
        .filter(|point| of(point).is_some())
        .map(|point| point.epoch)
        .collect();
    epochs.retain(|epoch| epoch.is_finite());
    epochs.sort_by(f64::total_cmp);
    epochs.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
    let mut points = Vec::new();
    for x in epochs {
        let values: Vec<f64> = trials.iter().filter_map(|trial| value_at(&trial.curve, x, of)).collect();
        let all = Summary::of(values.iter().copied()).filter(|_| values.len() == trials.len());
        points.push(match all {
            Some(all) => {
                let span = (all.n > 1).then_some((all.min, all.max));
                Point { x, y: all.mean, x_span: None, y_span: span }
            }
            None => Point { x, y: f64::NAN, x_span: None, y_span: None },
        });
    }
    points
}

/// What a seed trained beyond the last epoch of the mean.
fn tail(trial: &Trial, last: f64, of: fn(&CurvePoint) -> Option<f64>) -> Vec<Point> {
    let from = value_at(&trial.curve, last, of).map(|y| (last, y));
    let beyond = trial.curve.iter().filter(|point| point.epoch > last + 1e-9);
    let beyond = beyond.map(|point| (point.epoch, of(point).unwrap_or(f64::NAN)));
    let points: Vec<(f64, f64)> = from.into_iter().chain(beyond).collect();
    let points = if points.len() > 1 { points } else { Vec::new() };
    points.into_iter().map(|(x, y)| Point { x, y, ..Point::default() }).collect()
}

/// Loss curves of an experiment: mean over seeds with the range of seeds, validation solid, training dashed.
pub fn curves(results: &Results, experiment: &Experiment, protocol: Protocol) -> Option<Figure> {
    let compared = compare(results, experiment, protocol);
    let mut series: Vec<Series> = Vec::new();
    let (mut any_band, mut any_tail, mut both) = (false, false, [false, false]);
    for (i, one) in compared.iter().enumerate() {
        let validation = mean_curve(&one.trials, |point| point.validation);
        let train = mean_curve(&one.trials, |point| point.train);
        // The name goes to the validation curve, or to the training curve where there is no other.
        let drawn = |points: &[Point]| points.iter().any(|point| point.y.is_finite());
        let named = if drawn(&validation) { 0 } else { 1 };
        type Read = fn(&CurvePoint) -> Option<f64>;
        let reads: [Read; 2] = [|point| point.validation, |point| point.train];
        for (k, mut points) in [validation, train].into_iter().enumerate() {
            if !drawn(&points) {
                continue;
            }
            both[k] = true;
            if k == 1 {
                points.iter_mut().for_each(|point| point.y_span = None);
            }
            let last = points.iter().rev().find(|point| point.y.is_finite()).map_or(0.0, |point| point.x);
            let dash = if k == 0 { Dash::Solid } else { Dash::Short };
            any_band |= k == 0 && points.iter().any(|point| point.y_span.is_some());
            for trial in one.trials.iter().filter(|_| k == 0) {
                let points = tail(trial, last, reads[k]);
                any_tail |= points.len() > 1;
                series.push(Series {
                    colour: Some(i),
                    line: Some(dash),
                    faint: true,
                    points,
                    ..Series::default()
                });
            }
            series.push(Series {
                name: if k == named { names::short(experiment, &one.variant) } else { String::new() },
                colour: Some(i),
                line: Some(dash),
                marker: (k == named).then(|| Marker::ALL[i % Marker::ALL.len()]),
                band: k == 0,
                points,
                ..Series::default()
            });
        }
    }
    if !both.contains(&true) {
        return None;
    }
    let references: Vec<Reference> = best_ngram(results, protocol)
        .map(|(n, value)| Reference { name: format!("{n}-gram {value:.3}"), value, horizontal: true })
        .into_iter()
        .collect();
    let (to, cut) = upper(&series, &references, 0.35);
    let longest = series.iter().map(|one| one.name.chars().count()).max().unwrap_or(0);
    let named = series.iter().filter(|one| !one.name.is_empty()).count();
    let mut keys: Vec<(String, Swatch)> = Vec::new();
    if both[0] {
        keys.push(("validation".into(), Swatch::Line(None, Some(Dash::Solid), None, false)));
    }
    if both[1] {
        keys.push(("training".into(), Swatch::Line(None, Some(Dash::Short), None, false)));
    }
    if any_band {
        keys.push(("lowest to highest seed".into(), Swatch::Band));
    }
    let mut note = vec![match protocol {
        Protocol::Contract => {
            "Training loss is the mean while the weights moved, with dropout where there is any."
        }
        Protocol::Assignment => {
            "Losses of one epoch are over one random slice of 30 characters of every song."
        }
    }];
    if any_tail {
        note.push("Means end where the first seed stops; thin lines are the seeds that trained on.");
    }
    if cut {
        note.push("The first epochs lie above the frame.");
    }
    let direct = longest <= 15 && named <= 8;
    let panel = |title: &str, to, height, series, references| Panel {
        title: title.into(),
        x: Axis::linear("epoch"),
        y: Axis { to, ..Axis::linear("nats a character") },
        height,
        series,
        references,
        direct,
    };
    let mut panels = Vec::new();
    if both == [true; 2] && named > 1 {
        // Variants lie close together beside the way down; here they are told apart.
        let near: Vec<Series> = series.iter().filter(|one| one.line == Some(Dash::Solid)).cloned().collect();
        let (to, _) = upper(&near, &[], 0.05);
        let near_enough = |line: &&Reference| to.is_some_and(|to| line.value < to);
        let lines = references.iter().filter(near_enough).cloned().collect();
        panels.push(panel(
            "training and validation",
            upper(&series, &references, 0.35).0,
            330.0,
            series,
            references,
        ));
        panels.push(panel("validation, closer", to, 330.0, near, lines));
    } else {
        panels.push(panel("", to, 400.0, series, references));
    }
    Some(Figure {
        title: names::title(experiment),
        subtitle: format!("Loss curves, {} protocol{}", names::protocol(protocol), seeds(&compared)),
        columns: 1,
        panels,
        keys,
        note: note.join(" "),
    })
}

/// `, mean of 3 seeds`.
fn seeds(compared: &[Compared]) -> String {
    let most = compared.iter().map(|one| one.trials.len()).max().unwrap_or(0);
    match most {
        0 | 1 => ", one seed".into(),
        n => format!(", mean of {n} seeds"),
    }
}

/// Where the loss axis ends so that the first epochs do not squeeze what matters, and whether that cuts anything.
/// `least` is the least room above the highest end.
fn upper(series: &[Series], references: &[Reference], least: f64) -> (Option<f64>, bool) {
    let ends = |one: &Series| one.points.iter().rev().map(|point| point.y).find(|y| y.is_finite());
    let last =
        || series.iter().filter(|one| !one.faint).filter_map(ends).chain(references.iter().map(|l| l.value));
    let high = last().filter(|value| value.is_finite()).fold(f64::NEG_INFINITY, f64::max);
    let all =
        || series.iter().flat_map(|one| one.points.iter()).map(|point| point.y).filter(|y| y.is_finite());
    let low = all().fold(f64::INFINITY, f64::min);
    let highest = all().fold(f64::NEG_INFINITY, f64::max);
    // As much above the highest end as lies between it and the lowest value.
    let to = high + (high - low).max(least);
    if to.is_finite() && highest > to + 0.1 * (to - low) { (Some(to), true) } else { (None, false) }
}

/// Final losses of an experiment: every seed's point, the mean, and the standard deviation over seeds.
pub fn final_loss(results: &Results, experiment: &Experiment, protocol: Protocol) -> Option<Figure> {
    let compared = compare(results, experiment, protocol);
    compared.iter().find(|one| one.summary.is_some())?;
    let labels: Vec<String> = compared.iter().map(|one| names::short(experiment, &one.variant)).collect();
    type Part = (&'static str, Option<Measured>, &'static str, fn(&Trial) -> Option<f64>);
    let validated = compared.iter().flat_map(|one| &one.trials).any(|trial| trial.validation.is_some());
    let parts: Vec<Part> = match protocol {
        Protocol::Contract if validated => vec![
            ("validation loss", None, "validation", |trial| trial.validation.map(|loss| loss.nats)),
            ("test loss", None, "test", |trial| trial.test.map(|loss| loss.nats)),
        ],
        Protocol::Contract => vec![
            ("training loss (no validation tunes)", None, "train", |trial| trial.train.map(|loss| loss.nats)),
            ("test loss", None, "test", |trial| trial.test.map(|loss| loss.nats)),
        ],
        Protocol::Assignment => vec![
            ("best epoch over random slices", Some(Measured::Slices), "slices", |trial| trial.slices),
            ("whole songs, deterministic", Some(Measured::WholeSongs), "validation", |trial| {
                trial.validation.map(|loss| loss.nats)
            }),
        ],
    };
    let ours = published::comparable(results.data.train_tunes, results.data.val_tunes);
    let mut any_published = false;
    let mut panels = Vec::new();
    for (title, measured, of, read) in parts {
        let dots = |one: &Compared| -> Vec<f64> {
            one.trials.iter().filter_map(|trial| read(trial)).filter(|value| value.is_finite()).collect()
        };
        let (mut single, mut means) = (Vec::new(), Vec::new());
        let mut others: Vec<(usize, Point)> = Vec::new();
        for (i, one) in compared.iter().enumerate() {
            let (values, row) = (dots(one), i as f64);
            let Some(all) = Summary::of(values.iter().copied()) else { continue };
            let x_span = all.sd.map(|sd| (all.mean - sd, all.mean + sd));
            means.push(Point { x: all.mean, y: row, x_span, y_span: None });
            if all.n > 1 {
                // Below the mean, so that neither hides the other.
                single.extend(values.iter().map(|&x| Point { x, y: row + 0.26, ..Point::default() }));
            }
            let published = published::of(&one.variant).into_iter().filter(|_| ours);
            for figure in published.filter(|f| Some(published::SOURCES[f.source].measured) == measured) {
                let (low, high) = (figure.low, figure.high);
                let x_span = (low < high).then_some((low, high));
                let point = Point { x: 0.5 * (low + high), y: row - 0.26, x_span, y_span: None };
                others.push((figure.source, point));
            }
        }
        if means.is_empty() {
            continue;
        }
        any_published |= !others.is_empty();
        let several = !single.is_empty();
        let mut series = vec![Series {
            name: if several { "mean \u{b1} standard deviation".into() } else { "one seed".into() },
            marker: Some(Marker::Circle),
            points: means,
            ..Series::default()
        }];
        if several {
            series.push(Series {
                name: "each seed".into(),
                marker: Some(Marker::Tick),
                points: single,
                ..Series::default()
            });
        }
        for (source, one) in published::SOURCES.iter().enumerate() {
            let points: Vec<Point> =
                others.iter().filter(|other| other.0 == source).map(|other| other.1).collect();
            if !points.is_empty() {
                series.push(Series {
                    name: format!("published {}", one.label),
                    colour: Some(1 + source),
                    marker: Some([Marker::Cross, Marker::Plus, Marker::Diamond, Marker::Square][source]),
                    hollow: true,
                    points,
                    ..Series::default()
                });
            }
        }
        let best = best_ngram(results, protocol).filter(|_| of == super::tables::ngram_of(protocol));
        let other = || ngram(results, protocol, of)?.best().filter(|best| best.1.is_finite());
        let reference = best.or_else(other).map(|(n, value)| Reference {
            name: format!("{n}-gram {value:.3}"),
            value,
            horizontal: false,
        });
        panels.push(Panel {
            title: title.to_string(),
            x: Axis::linear("nats a character"),
            y: Axis::categories(labels.clone()),
            height: 46.0 * labels.len() as f64 + 20.0,
            series,
            references: reference.into_iter().collect(),
            ..Panel::default()
        });
    }
    if panels.is_empty() {
        return None;
    }
    let note = match (protocol, any_published) {
        (Protocol::Assignment, true) => {
            "Best slices are the lowest of many noisy epochs and flatter. Published: what reports and a re-run of \
             the same assignment give, on the same songs."
        }
        (Protocol::Assignment, false) => "Best slices are the lowest of many noisy epochs and flatter.",
        _ => "Best weights over whole tunes, without dropout.",
    };
    Some(Figure {
        title: names::title(experiment),
        subtitle: format!("Final loss, {} protocol (lower is better)", names::protocol(protocol)),
        columns: 1,
        panels,
        keys: Vec::new(),
        note: note.into(),
    })
}

#[cfg(test)]
#[path = "plots_tests.rs"]
mod tests;
