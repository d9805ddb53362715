//! Networks against counting, training against validation tunes, and this study against published figures.

use super::words::{count, list, long_list, mean_spread, range, signed_size, size};
use super::{BOTH, every, section};
use crate::study::names;
use crate::study::published::{self, Measured};
use crate::study::results::{Protocol, Results, Trial};
use crate::study::statistics::usable;
use crate::study::statistics::{
    Compared, Difference, Interval, Summary, compare, difference, holm, trials_of,
};
use crate::study::tables::{self, best_ngram, plain};
use crate::viz::page::data::Section;

/// Which variants are better than the best n-gram.
pub(super) fn ngrams(results: &Results) -> Section {
    section("Networks and n-grams", BOTH.map(|protocol| against_ngram(results, protocol)).to_vec())
}

fn against_ngram(results: &Results, protocol: Protocol) -> String {
    let all = every(results, protocol);
    let Some((order, nats)) = best_ngram(results, protocol).filter(|_| !all.is_empty()) else {
        return String::new();
    };
    let score = |trial: &Trial| matches!(protocol, Protocol::Contract) && trial.validation.is_none();
    if results.trials.iter().filter(|trial| trial.protocol == protocol).all(score) {
        // The n-gram's loss is over validation tunes; a training loss cannot stand beside it.
        return String::new();
    }
    let mut differences: Vec<Difference> = all
        .iter()
        .map(|one| {
            let values: Vec<f64> = one.scores.iter().map(|score| score.1).collect();
            let mean = one.summary.map_or(f64::NAN, |summary| summary.mean) - nats;
            Interval::from_constant(&values, nats)
                .map_or(Difference::SpreadUnknown(mean), |interval| Difference::Measured(interval, false))
        })
        .collect();
    holm(differences.iter_mut());
    let (mut better, mut worse, mut open, mut unknown) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (one, difference) in all.iter().zip(&differences) {
        let name = names::full(&one.variant);
        match difference {
            Difference::Measured(interval, true) if interval.mean < 0.0 => better.push((name, *interval)),
            Difference::Measured(interval, true) => worse.push((name, *interval)),
            Difference::Measured(interval, false) => open.push(format!("{name} ({})", signed_size(interval))),
            Difference::SpreadUnknown(mean) => unknown.push((name, *mean)),
        }
    }
    let mut text = format!(
        "Counting alone, without any network, reaches {nats:.3} nats a character under the {} protocol (the best \
         n-gram, n = {order}).",
        names::protocol(protocol)
    );
    let group = |side: &str, group: &[(String, Interval)]| match group {
        [] => String::new(),
        // Few enough to be told one by one.
        [..] if group.len() <= 3 => {
            let each: Vec<String> =
                group.iter().map(|(name, interval)| format!("{name}, by {}", size(interval))).collect();
            format!(" Distinguishably {side} than that: {}.", long_list(&each, "and"))
        }
        _ => {
            let means: Vec<f64> = group.iter().map(|(_, interval)| interval.mean.abs()).collect();
            let each: Vec<String> = group.iter().map(|(name, _)| name.clone()).collect();
            let all = if group.len() == differences.len() {
                format!("All {} variants are", group.len())
            } else {
                format!("{} variants are", group.len())
            };
            format!(
                " {all} distinguishably {side}, by {} nats: {}.",
                range(&means, 3),
                long_list(&each, "and")
            )
        }
    };
    text += &group("better", &better);
    text += &group("worse", &worse);
    if !open.is_empty() {
        text += &format!(" Not distinguishable from it: {}.", long_list(&open, "and"));
    }
    for (below, words) in [(true, "below"), (false, "at or above")] {
        let names: Vec<String> =
            unknown.iter().filter(|one| (one.1 < 0.0) == below).map(|one| one.0.clone()).collect();
        if !names.is_empty() {
            let spread = "spread over seeds unknown, so not claimed";
            text += &format!(" The mean is {words} it for {} ({spread}).", long_list(&names, "and"));
        }
    }
    text
}

/// The gap between training and validation loss, early stopping, and what came after the best epoch.
pub(super) fn fit(results: &Results) -> Section {
    section("Fit and early stopping", vec![gap(results), dropout(results), stopping(results)])
}

/// Seed and validation minus training loss.
fn gaps(trials: &[&Trial]) -> Vec<(u64, f64)> {
    let gap = |trial: &&Trial| Some((trial.seed, trial.validation?.nats - trial.train?.nats));
    trials.iter().filter_map(gap).filter(|gap| usable(gap.1)).collect()
}

fn gap(results: &Results) -> String {
    let of = |one: &Compared| {
        let summary = Summary::of(gaps(&one.trials).iter().map(|gap| gap.1))?;
        Some((names::full(&one.variant), summary))
    };
    let all: Vec<(String, Summary)> = every(results, Protocol::Contract).iter().filter_map(of).collect();
    let by_mean = |a: &&(String, Summary), b: &&(String, Summary)| a.1.mean.total_cmp(&b.1.mean);
    let (Some(least), Some(most)) = (all.iter().min_by(by_mean), all.iter().max_by(by_mean)) else {
        return String::new();
    };
    let amount = |summary: &Summary| match summary.sd {
        Some(sd) => format!("{} \u{b1} {sd:.3} nats", tables::signed(summary.mean, 3)),
        None => format!("{} nats", tables::signed(summary.mean, 3)),
    };
    let mut text = if all.len() == 1 {
        format!(
            "At the best weights, evaluated without dropout, validation minus training loss of {} is {}.",
            least.0,
            amount(&least.1)
        )
    } else {
        format!(
            "At each trial's best weights, evaluated without dropout, validation minus training loss runs from {} \
             ({}) to {} ({}).",
            amount(&least.1),
            least.0,
            amount(&most.1),
            most.0
        )
    };
    if most.1.mean > 0.0 {
        text += " Such a gap is not over-fitting alone: validation tunes that are of another repertoire than the \
                 training tunes are harder for any model.";
    }
    text
}

/// Whether dropout changes the gap, in every experiment that varies nothing else.
fn dropout(results: &Results) -> String {
    let mut texts = Vec::new();
    for experiment in &results.experiments {
        let Some(("dropout", read)) = names::numeric(experiment) else { continue };
        let with_gap = |variant: &&crate::study::results::Variant| {
            !gaps(&trials_of(results, Protocol::Contract, variant)).is_empty()
        };
        let mut variants: Vec<_> = experiment.variants.iter().filter(with_gap).collect();
        variants.sort_by(|a, b| read(a).total_cmp(&read(b)));
        let (Some(low), Some(high)) = (variants.first(), variants.last()) else { continue };
        let [a, b] = [low, high].map(|variant| gaps(&trials_of(results, Protocol::Contract, variant)));
        if low == high {
            continue;
        }
        let (from, to) = (low.dropout, high.dropout);
        texts.push(match difference(&b, &a) {
            Some(Difference::Measured(change, told)) => format!(
                "From dropout {from} to {to} this gap becomes {} by {}, which is {}distinguishable from no change.",
                if change.mean < 0.0 { "smaller" } else { "larger" },
                size(&change),
                if told { "" } else { "not " }
            ),
            Some(Difference::SpreadUnknown(change)) => format!(
                "From dropout {from} to {to} this gap changes by {} nats, with an unknown spread over seeds.",
                tables::signed(change, 3)
            ),
            None => String::new(),
        });
    }
    texts.join(" ")
}

fn stopping(results: &Results) -> String {
    let trials: Vec<&Trial> = results
        .trials
        .iter()
        .filter(|t| t.protocol == Protocol::Contract && usable(t.best_epoch) && usable(t.epochs))
        .filter(|t| t.validation.is_some())
        .collect();
    if trials.is_empty() {
        return String::new();
    }
    let stopped = trials.iter().filter(|trial| trial.stopped_early).count();
    let best: Vec<f64> = trials.iter().map(|trial| trial.best_epoch).collect();
    let of = format!("of {}", count(trials.len(), "trial"));
    let mut text = match (results.settings.patience, stopped) {
        (None, 0) => {
            format!("There was no early stopping; the best weights are those of epoch {}.", range(&best, 0))
        }
        (_, n) => format!(
            "Early stopping ended {n} {of} before the limit of {} epochs; the best weights are those of epoch {}.",
            results.settings.epochs,
            range(&best, 0)
        ),
    };
    let last =
        trials.iter().filter(|trial| !trial.stopped_early && trial.best_epoch >= trial.epochs - 1e-6).count();
    if last > 0 {
        text += &format!(
            " In {last} {of} the last epoch was the best: {} still improving, and more epochs could change the \
             order.",
            if last == 1 { "it was" } else { "they were" }
        );
    }
    let after: Vec<(f64, Option<f64>)> = trials.iter().filter_map(|trial| after_best(trial)).collect();
    if let Some(rise) = Summary::of(after.iter().map(|one| one.0)) {
        let moved = |value: f64, up: &str, down: &str| {
            format!("{} by {} nats", if value < 0.0 { down } else { up }, plain(value.abs(), 3))
        };
        let which = if rise.n == trials.len() { "all" } else { "the" };
        text += &format!(
            " In {which} {} that trained on after the best epoch the validation loss {} on average until the end",
            count(rise.n, "trial"),
            moved(rise.mean, "rose", "fell")
        );
        text += &match Summary::of(after.iter().filter_map(|one| one.1)) {
            Some(train) if rise.mean > 0.0 && train.mean < 0.0 => format!(
                ", while the training loss {}. That is what over-fitting looks like, though some rise is certain, since \
                 the best epoch is the lowest by choice.",
                moved(train.mean, "rose", "fell")
            ),
            Some(train) => format!(", and the training loss {}.", moved(train.mean, "rose", "fell")),
            None => ".".into(),
        };
    }
    text
}

/// How validation and training loss changed from a trial's best epoch to its last.
fn after_best(trial: &Trial) -> Option<(f64, Option<f64>)> {
    let at = |point: &&crate::study::results::CurvePoint| (point.epoch - trial.best_epoch).abs() < 1e-6;
    let best = trial.curve.iter().find(at)?;
    let finite = |value: Option<f64>| value.filter(|value| usable(*value));
    let last = trial.curve.iter().rev().find(|point| finite(point.validation).is_some())?;
    if last.epoch <= trial.best_epoch + 1e-6 {
        return None;
    }
    let train = finite(last.train).zip(finite(best.train)).map(|(last, best)| last - best);
    Some((finite(last.validation)? - finite(best.validation)?, train))
}

/// This study's assignment trials beside what others reported.
pub(super) fn published(results: &Results) -> Section {
    section("Against the published figures", against_published(results))
}

fn against_published(results: &Results) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    let mut rows: Vec<(usize, String)> = Vec::new();
    let mut variants = Vec::new();
    for experiment in &results.experiments {
        for one in compare(results, experiment, Protocol::Assignment) {
            if !one.trials.is_empty() && !seen.contains(&one.variant.key()) {
                seen.push(one.variant.key());
                variants.push(one);
            }
        }
    }
    for one in &variants {
        for figure in published::of(&one.variant) {
            let read = |trial: &&Trial| match published::SOURCES[figure.source].measured {
                Measured::Slices => trial.slices,
                Measured::WholeSongs => trial.validation.map(|loss| loss.nats),
            };
            let Some(ours) = Summary::of(one.trials.iter().filter_map(read)) else { continue };
            let here = plain(ours.mean, 3);
            let side = if ours.max < figure.low {
                format!("{} lower", plain(figure.low - ours.mean, 3))
            } else if ours.min > figure.high {
                format!("{} higher", plain(ours.mean - figure.high, 3))
            } else {
                "not apart".to_string()
            };
            rows.push((
                figure.source,
                format!("{} {here} here, {} there ({side})", names::full(&one.variant), figure.text()),
            ));
        }
    }
    if rows.is_empty() {
        return Vec::new();
    }
    if !published::comparable(results.data.train_tunes, results.data.val_tunes) {
        return vec![format!(
            "Losses for this protocol have been published. {}",
            tables::other_data(results)
        )];
    }
    let mut texts: Vec<String> = Vec::new();
    for (source, one) in published::SOURCES.iter().enumerate() {
        let here: Vec<String> = rows.iter().filter(|row| row.0 == source).map(|row| row.1.clone()).collect();
        if !here.is_empty() {
            texts.push(format!("Beside {}: {}.", one.note, long_list(&here, "and")));
        }
    }
    let mut last = "\u{201c}Lower\u{201d} is this study's mean below the published figure. \u{201c}Not apart\u{201d} \
                    means that the figure, or its range, meets the range of this study's seeds. Figures without a spread \
                    allow no test."
        .to_string();
    let distance = |trial: &Trial| Some(trial.validation?.nats - trial.slices?);
    let assigned = results.trials.iter().filter(|trial| trial.protocol == Protocol::Assignment);
    if let Some(summary) = Summary::of(assigned.filter_map(distance)) {
        last += &format!(
            " The best of {} epochs over random slices lies {} nats {} the same weights' loss over whole songs, on \
             average over {}. Two things work against each other there: the short context of a slice, which raises it, \
             and the choice of the lowest of many noisy epochs, which lowers it.",
            results.settings.assignment_epochs,
            plain(summary.mean.abs(), 3),
            if summary.mean < 0.0 { "above" } else { "below" },
            count(summary.n, "trial")
        );
    }
    texts.push(last);
    texts.extend(handout(results));
    texts
}

/// The handout's own bar.
fn handout(results: &Results) -> Option<String> {
    let baseline = results.experiments.first()?.baseline;
    let trials = trials_of(results, Protocol::Assignment, &baseline);
    let ours = Summary::of(trials.iter().filter_map(|trial| trial.slices))?;
    let side = if ours.max < published::HANDOUT {
        "below that with every seed"
    } else if ours.min > published::HANDOUT {
        "above that with every seed"
    } else {
        "on both sides of that, depending on the seed"
    };
    let side =
        if ours.n == 1 { side.replace(" with every seed", " with its one seed") } else { side.to_string() };
    Some(format!(
        "The assignment's handout calls {} nats a decent baseline; {} is {side}, at {}.",
        published::HANDOUT,
        names::full(&baseline),
        list(&[mean_spread(&ours)], "")
    ))
}
