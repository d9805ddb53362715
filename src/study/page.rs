//! The report page's experiments: curves, table, caption and reference lines of each under each protocol.

use super::names;
use super::published::{self, Measured};
use super::results::{CurvePoint, Experiment, Protocol, Results, Trial};
use super::statistics::compare;
use super::tables;
use crate::viz::page::data::{Curve, ExperimentPage};

/// One page an experiment and protocol that has trials, in the study's order, contract first.
pub fn experiment_pages(results: &Results) -> Vec<ExperimentPage> {
    let both = [Protocol::Contract, Protocol::Assignment];
    let pairs = results.experiments.iter().flat_map(|experiment| both.map(|protocol| (experiment, protocol)));
    pairs.filter_map(|(experiment, protocol)| page(results, experiment, protocol)).collect()
}

fn page(results: &Results, experiment: &Experiment, protocol: Protocol) -> Option<ExperimentPage> {
    let table = tables::experiment(results, experiment, protocol)?;
    let compared = compare(results, experiment, protocol);
    let curves = compared.iter().flat_map(|one| &one.trials).map(|trial| curve(trial)).collect();
    let mut lines: Vec<(String, f64)> = tables::best_ngram(results, protocol)
        .map(|(n, nats)| (format!("{n}-gram, no network"), nats))
        .into_iter()
        .collect();
    if protocol == Protocol::Assignment
        && published::comparable(results.data.train_tunes, results.data.val_tunes)
    {
        let slices =
            |figure: &&published::Figure| published::SOURCES[figure.source].measured == Measured::Slices;
        for figure in published::of(&experiment.baseline).into_iter().filter(slices) {
            let name =
                format!("{}: {}", published::SOURCES[figure.source].label, names::full(&figure.variant));
            lines.push((name, 0.5 * (figure.low + figure.high)));
        }
    }
    Some(ExperimentPage {
        title: format!("{}, {} protocol", names::title(experiment), names::protocol(protocol)),
        caption: tables::caption(results, protocol),
        curves,
        table,
        lines,
    })
}

/// What is not finite is left out, as JSON has no such numbers.
fn curve(trial: &Trial) -> Curve {
    let points: Vec<&CurvePoint> = trial.curve.iter().filter(|point| point.epoch.is_finite()).collect();
    let read = |of: fn(&CurvePoint) -> Option<f64>| -> Vec<Option<f64>> {
        points.iter().map(|point| of(point).filter(|value| value.is_finite())).collect()
    };
    Curve {
        name: names::full(&trial.variant),
        seed: trial.seed,
        epoch: points.iter().map(|point| point.epoch).collect(),
        train: read(|point| point.train),
        validation: read(|point| point.validation),
    }
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
