//! A study's tables: losses of every experiment under both protocols with n-grams and published figures beside them,
//! as Markdown that reads well raw, as CSV, and as the page's tables. Pure functions of the results.
//!
//! A column without a value in any row is left out; a missing value is a dash, and the note below says what is missing.

mod csv;
pub(super) mod markdown_text;
mod others;

pub use csv::csv;
pub use markdown_text::markdown;
pub use others::{ClassRow, classes, classes_by, measured, neurons, ngrams, temperatures};

use super::names;
use super::published;
use super::results::{Experiment, NgramTable, PartLoss, Protocol, Results, Settings, Trial};
use super::statistics::{Compared, Difference, Summary, compare, usable};
use crate::viz::page::data::Table;

/// Where a value is missing.
pub const DASH: &str = "\u{2013}";

/// Bits in so many nats.
pub fn bits(nats: f64) -> f64 {
    nats / std::f64::consts::LN_2
}

/// A signed number with so many places; what rounds to zero has no minus.
pub fn signed(value: f64, places: usize) -> String {
    let text = format!("{:.*}", places, value.abs());
    let zero = !text.contains(|c| matches!(c, '1'..='9'));
    let sign = if zero {
        ""
    } else if value < 0.0 {
        "\u{2212}"
    } else {
        "+"
    };
    format!("{sign}{text}")
}

/// A number with so many places and a real minus sign.
pub fn plain(value: f64, places: usize) -> String {
    signed(value, places).trim_start_matches('+').to_string()
}

/// `1.712 ± 0.008`: mean and standard deviation; the mean alone of one value.
pub fn spread(summary: &Summary, places: usize) -> String {
    match summary.sd {
        Some(sd) => format!("{} \u{b1} {:.*}", plain(summary.mean, places), places, sd),
        None => plain(summary.mean, places),
    }
}

/// The same with bits behind, in brackets.
fn loss(summary: &Summary) -> String {
    format!("{} ({:.3})", spread(summary, 3), bits(summary.mean))
}

/// `12,345`.
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Cells below their head, None where there is no value.
struct Column {
    head: String,
    cells: Vec<Option<String>>,
}

/// A table of the columns that have a value; the first always stays.
fn assemble(columns: Vec<Column>, notes: Vec<String>) -> Table {
    let kept: Vec<Column> = columns
        .into_iter()
        .enumerate()
        .filter(|(i, column)| *i == 0 || column.cells.iter().any(Option::is_some))
        .map(|(_, column)| column)
        .collect();
    let rows = kept.first().map_or(0, |column| column.cells.len());
    let cell = |column: &Column, row: usize| {
        column.cells.get(row).cloned().flatten().unwrap_or_else(|| DASH.to_string())
    };
    Table {
        columns: kept.iter().map(|column| column.head.clone()).collect(),
        rows: (0..rows).map(|row| kept.iter().map(|column| cell(column, row)).collect()).collect(),
        note: notes.join(" "),
    }
}

/// The n-gram table of a protocol over `of`.
pub fn ngram<'a>(results: &'a Results, protocol: Protocol, of: &str) -> Option<&'a NgramTable> {
    let one = results.ngrams.iter().find(|table| table.protocol == protocol && table.of == of)?;
    one.nats.iter().any(|nats| nats.is_finite()).then_some(one)
}

/// What a protocol's scores are over in the n-gram tables.
pub fn ngram_of(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Contract => "validation",
        Protocol::Assignment => "slices",
    }
}

/// The best order of the n-gram that a protocol's scores are compared with, and its nats.
pub fn best_ngram(results: &Results, protocol: Protocol) -> Option<(usize, f64)> {
    best_order(ngram(results, protocol, ngram_of(protocol))?)
}

fn best_order(table: &NgramTable) -> Option<(usize, f64)> {
    let finite = (1..).zip(table.nats.iter().copied()).filter(|(_, nats)| usable(*nats));
    finite.min_by(|a, b| a.1.total_cmp(&b.1))
}

/// What the trials' score is called.
pub fn score_name(results: &Results, protocol: Protocol) -> &'static str {
    let validated = results.trials.iter().any(|t| t.protocol == protocol && t.validation.is_some());
    match protocol {
        Protocol::Assignment => "validation loss of the best epoch over random slices",
        Protocol::Contract if validated => "validation loss",
        Protocol::Contract => "training loss (there are no validation tunes)",
    }
}

/// How a protocol's trials were trained, in a sentence or two.
pub fn caption(results: &Results, protocol: Protocol) -> String {
    let Settings { batch, seq_len, epochs, patience, lr, precision, engine, assignment_epochs } =
        &results.settings;
    match protocol {
        Protocol::Contract => {
            let stop = match patience {
                Some(1) => ", stopping at the first validation without a better loss".to_string(),
                Some(n) => format!(", stopping after {n} validations without a better loss"),
                None => ", without early stopping".to_string(),
            };
            format!(
                "Contract protocol: {batch} parallel streams of {seq_len} characters, state carried on, at most \
                 {epochs} epochs{stop}; Adam at {lr}, {precision} on {engine}. Losses are those of the best weights \
                 over whole tunes, without dropout."
            )
        }
        Protocol::Assignment => format!(
            "Assignment protocol: raw characters, one random slice of 30 characters of every song an epoch, batch 1, \
             zero state, {assignment_epochs} epochs. Best slices: the lowest epoch's mean loss over one random slice \
             of every validation song, which flatters, since it is the best of many noisy ones. Whole songs: the \
             best weights over all characters, deterministic."
        ),
    }
}

/// The table of one experiment under one protocol; None where nothing of it was trained so.
pub fn experiment(results: &Results, experiment: &Experiment, protocol: Protocol) -> Option<Table> {
    let compared = compare(results, experiment, protocol);
    if compared.iter().all(|one| one.trials.is_empty()) {
        return None;
    }
    let best = best_ngram(results, protocol);
    let order = best.map(|best| best.0);
    let column = |head: &str, cell: &dyn Fn(&Compared) -> Option<String>, counted: Option<String>| {
        let mut cells: Vec<Option<String>> = compared.iter().map(cell).collect();
        if best.is_some() {
            // What no variant has is not a column for the n-gram alone.
            let any = cells.iter().any(Option::is_some);
            cells.push(counted.filter(|_| any));
        }
        Column { head: head.to_string(), cells }
    };
    let part = |head: &str, part: &dyn Fn(&Trial) -> Option<f64>, counted: Option<f64>| {
        let of = |one: &Compared| summary(one, part).as_ref().map(loss);
        let counted = counted.filter(|nats| nats.is_finite());
        column(head, &of, counted.map(|nats| format!("{nats:.3} ({:.3})", bits(nats))))
    };
    // The n-gram's numbers are those of the one order that is best by the score.
    let at = |of: &str, body: bool| {
        let table = ngram(results, protocol, of)?;
        let nats = if body { table.body_nats.as_ref()? } else { &table.nats };
        nats.get(order? - 1).copied()
    };
    let whole = |of: fn(&Trial) -> Option<PartLoss>| move |trial: &Trial| of(trial).map(|loss| loss.nats);
    let body = |trial: &Trial| trial.validation.and_then(|loss| loss.body_nats);
    let mut columns = vec![
        column(
            "variant",
            &|one| Some(names::full(&one.variant)),
            order.map(|n| format!("{n}-gram, no network")),
        ),
        column("parameters", &|one| Some(thousands(one.trials.first()?.parameters)), None),
        column("seeds", &|one| Some(seeds(results, one)), None),
    ];
    match protocol {
        Protocol::Contract => columns.extend([
            part("training loss", &whole(|trial| trial.train), at("train", false)),
            part("validation loss", &whole(|trial| trial.validation), at("validation", false)),
            part("test loss", &whole(|trial| trial.test), at("test", false)),
            part("validation, music only", &body, at("validation", true)),
        ]),
        Protocol::Assignment => columns.extend([
            part("best slices", &|trial| trial.slices, at("slices", false)),
            part("whole songs", &whole(|trial| trial.validation), at("validation", false)),
            part("music only", &body, at("validation", true)),
        ]),
    }
    let number = |one: &Compared, of: &dyn Fn(&Trial) -> f64, places: usize| {
        summary(one, &|trial| Some(of(trial))).map(|summary| spread(&summary, places))
    };
    let speed = |one: &Compared| {
        let summary = summary(one, &|trial| Some(trial.chars_per_second))?;
        Some(thousands(summary.mean.clamp(0.0, 1e15).round() as u64))
    };
    columns.push(column("difference to the baseline [95%]", &|one| Some(difference(one)), None));
    columns.push(column("best epoch", &|one| number(one, &|trial| trial.best_epoch, 1), None));
    columns.push(column("characters/s", &speed, None));
    if protocol == Protocol::Assignment {
        columns.extend(published_columns(&compared, best.is_some()));
    }
    Some(assemble(columns, notes(results, &compared, protocol)))
}

/// The mean over seeds of something that trials have.
fn summary(one: &Compared, of: &dyn Fn(&Trial) -> Option<f64>) -> Option<Summary> {
    Summary::of(one.trials.iter().filter_map(|trial| of(trial)))
}

/// `3`, or `2 of 3` where a seed is missing or diverged.
fn seeds(results: &Results, one: &Compared) -> String {
    let (done, all) = (one.scores.len(), results.seeds.len());
    if done >= all { done.to_string() } else { format!("{done} of {all}") }
}

fn difference(one: &Compared) -> String {
    if one.baseline {
        return "baseline".into();
    }
    match &one.difference {
        None => DASH.into(),
        Some(Difference::SpreadUnknown(mean)) => format!("{}, spread unknown", signed(*mean, 3)),
        Some(Difference::Measured(interval, counts)) => {
            let star = if *counts { " *" } else { "" };
            let ends = [interval.low, interval.high].map(|end| signed(end, 3));
            format!("{} [{}, {}]{star}", signed(interval.mean, 3), ends[0], ends[1])
        }
    }
}

/// Reported figures by source; the n-gram's row has the reported 4-gram.
fn published_columns(compared: &[Compared], counted: bool) -> Vec<Column> {
    let column = |(source, one): (usize, &published::Source)| {
        let of = |compared: &Compared| {
            let figure =
                published::of(&compared.variant).into_iter().find(|figure| figure.source == source)?;
            Some(figure.text())
        };
        let mut cells: Vec<Option<String>> = compared.iter().map(of).collect();
        let any = cells.iter().any(Option::is_some);
        if counted {
            // The re-run counted as well, both ways.
            let rerun = any && source >= 2;
            cells.push(rerun.then(|| format!("{:.3}", published::four_gram(one.measured))));
        }
        Column { head: one.label.to_string(), cells }
    };
    published::SOURCES.iter().enumerate().map(column).collect()
}

/// What a reader must know, and what is missing.
fn notes(results: &Results, compared: &[Compared], protocol: Protocol) -> Vec<String> {
    let mut notes = Vec::new();
    let several = compared.iter().any(|one| one.trials.len() > 1);
    notes.push(if several {
        "Losses: mean \u{b1} standard deviation over seeds, nats a character (bits in brackets).".to_string()
    } else {
        "Losses: nats a character (bits in brackets). One seed: the spread is unknown, so no difference is called \
         one."
            .to_string()
    });
    let measured = |one: &&Compared| matches!(one.difference, Some(Difference::Measured(..)));
    if let Some(one) = compared.iter().find(measured) {
        let paired = matches!(one.difference, Some(Difference::Measured(interval, _)) if interval.paired);
        let how = if paired { "paired by seed" } else { "Welch's" };
        notes.push(format!(
            "Differences are of the {}, {how}, with a 95% confidence interval; * marks those that are distinguishable \
             from none after Holm's correction over this table's comparisons (p below 0.05 for the table as a whole).",
            score_name(results, protocol)
        ));
    }
    let absent: Vec<String> =
        compared.iter().filter(|one| one.trials.is_empty()).map(|one| names::full(&one.variant)).collect();
    if !absent.is_empty() {
        notes.push(format!("Not trained: {}.", absent.join("; ")));
    }
    let diverged: usize = compared.iter().map(|one| one.trials.len() - one.scores.len()).sum();
    match diverged {
        0 => {}
        1 => notes.push("One trial has no finite loss and is left out of the means.".into()),
        n => notes.push(format!("{n} trials have no finite loss and are left out of the means.")),
    }
    let trials = || compared.iter().flat_map(|one| one.trials.iter());
    if protocol == Protocol::Contract && trials().next().is_some() {
        if trials().all(|trial| trial.validation.is_none()) {
            notes.push("There are no validation tunes: variants are compared by their training loss.".into());
        }
        if trials().all(|trial| trial.test.is_none()) {
            notes.push("There are no test tunes.".into());
        }
    }
    if protocol == Protocol::Assignment {
        let any = compared.iter().any(|one| !published::of(&one.variant).is_empty());
        if any {
            let sources: Vec<String> = published::SOURCES
                .iter()
                .map(|source| format!("{}: {}", source.label, source.note))
                .collect();
            notes.push(format!("Published validation losses at the right: {}.", sources.join("; ")));
            if !published::comparable(results.data.train_tunes, results.data.val_tunes) {
                notes.push(other_data(results));
            }
        }
    }
    notes
}

/// That published figures are of other tunes than this study's.
pub fn other_data(results: &Results) -> String {
    format!(
        "They are of {} training and {} validation songs; this study read {} and {}, so they are not comparable \
         with its losses.",
        published::SONGS.0,
        published::SONGS.1,
        results.data.train_tunes,
        results.data.val_tunes
    )
}

/// Both protocols of one experiment beside each other; None where only one was trained.
pub fn beside(results: &Results, experiment: &Experiment) -> Option<Table> {
    let [contract, assignment] =
        [Protocol::Contract, Protocol::Assignment].map(|protocol| compare(results, experiment, protocol));
    let any = |compared: &[Compared]| compared.iter().any(|one| one.summary.is_some());
    if !any(&contract) || !any(&assignment) {
        return None;
    }
    let counted = [
        (Protocol::Contract, "validation"),
        (Protocol::Assignment, "slices"),
        (Protocol::Assignment, "validation"),
    ]
    .map(|(protocol, of)| ngram(results, protocol, of).and_then(best_order));
    let row = counted.iter().any(Option::is_some);
    let column = |head: &str, mut cells: Vec<Option<String>>, last: Option<String>| {
        if row {
            cells.push(last);
        }
        Column { head: head.to_string(), cells }
    };
    let score = |one: &Compared| one.summary.as_ref().map(loss);
    let songs = |one: &Compared| {
        let of = |trial: &Trial| trial.validation.map(|loss| loss.nats);
        summary(one, &of).as_ref().map(loss)
    };
    let gram =
        |best: Option<(usize, f64)>| best.map(|(n, nats)| format!("{nats:.3} ({:.3}), {n}-gram", bits(nats)));
    let columns = vec![
        column(
            "variant",
            contract.iter().map(|one| Some(names::full(&one.variant))).collect(),
            Some("best n-gram, no network".into()),
        ),
        column("contract", contract.iter().map(score).collect(), gram(counted[0])),
        column("assignment, best slices", assignment.iter().map(score).collect(), gram(counted[1])),
        column("assignment, whole songs", assignment.iter().map(songs).collect(), gram(counted[2])),
    ];
    let note = "Validation loss, nats a character (bits in brackets). The protocols predict different characters from \
                different starts, so compare within a column; what may be compared across columns is the order.";
    Some(assemble(columns, vec![note.into()]))
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
