//! The tables that are not of an experiment: n-grams by order, measures by temperature, loss by class of character,
//! neurons.

use super::{Column, DASH, assemble, plain, spread, thousands};
use crate::abc::CharClass;
use crate::study::names;
use crate::study::results::{Protocol, Results, TuneSet, Variant};
use crate::study::statistics::{Summary, trials_of, usable};
use crate::viz::page::data::Table;

/// N-grams: a row a protocol and set, a column an order.
pub fn ngrams(results: &Results) -> Option<Table> {
    let orders = results.ngrams.iter().map(|table| table.nats.len()).max().filter(|&orders| orders > 0)?;
    let mut rows: Vec<(String, &[f64])> = Vec::new();
    for table in &results.ngrams {
        let name = format!("{}, {}", names::protocol(table.protocol), table.of);
        rows.push((name.clone(), &table.nats));
        if let Some(body) = &table.body_nats {
            rows.push((format!("{name}, music only"), body));
        }
    }
    let mut columns = vec![Column {
        head: "loss over".into(),
        cells: rows.iter().map(|row| Some(row.0.clone())).collect(),
    }];
    for order in 0..orders {
        let cell = |row: &(String, &[f64])| {
            let nats = row.1.get(order).copied().filter(|nats| nats.is_finite())?;
            let best = row.1.iter().all(|other| !other.is_finite() || *other >= nats);
            Some(format!("{nats:.3}{}", if best { " *" } else { "" }))
        };
        columns.push(Column { head: format!("n = {}", order + 1), cells: rows.iter().map(cell).collect() });
    }
    let note =
        "Nats a character of n-grams counted in the training tunes; no network. * marks each row's lowest.";
    Some(assemble(columns, vec![note.into()]))
}

/// A measured value in its unit with its error: `92.1% ± 2.0`, `1.234 ± 0.010`.
pub fn measured(unit: &str, value: f64, error: Option<f64>) -> String {
    let (factor, places, sign) = match unit {
        "share" => (100.0, 1, "%"),
        "nats" | "bits" => (1.0, 3, ""),
        "chars" => (1.0, 0, ""),
        _ => (1.0, 1, ""),
    };
    let text = format!("{}{sign}", plain(value * factor, places));
    match error.filter(|error| error.is_finite()) {
        Some(error) => format!("{text} \u{b1} {:.*}", places, error * factor),
        None => text,
    }
}

/// Measures of the sampled tunes: a row a measure, a column a temperature, the corpus at the end.
pub fn temperatures(results: &Results) -> Option<Table> {
    let sets: Vec<&TuneSet> = results.tune_sets.iter().filter(|set| set.temperature.is_finite()).collect();
    let mut keys: Vec<(&str, &str, &str)> = Vec::new();
    for measure in sets.iter().flat_map(|set| &set.measures) {
        if !keys.iter().any(|key| key.0 == measure.key) {
            keys.push((&measure.key, &measure.name, &measure.unit));
        }
    }
    if keys.is_empty() {
        return None;
    }
    let name = |key: &(&str, &str, &str)| match key.2 {
        "share" => key.1.to_string(),
        unit => format!("{} ({unit})", key.1),
    };
    let mut columns =
        vec![Column { head: "measure".into(), cells: keys.iter().map(|key| Some(name(key))).collect() }];
    let find = |set: usize, key: &str| sets[set].measures.iter().find(|measure| measure.key == key);
    for (i, set) in sets.iter().enumerate() {
        let cell = |key: &(&str, &str, &str)| {
            let measure = find(i, key.0)?;
            Some(measured(key.2, measure.value.filter(|value| usable(*value))?, measure.error))
        };
        let head = format!("temperature {}", set.temperature);
        columns.push(Column { head, cells: keys.iter().map(cell).collect() });
    }
    let corpus = |key: &(&str, &str, &str)| {
        let value = (0..sets.len()).find_map(|i| find(i, key.0)?.corpus.filter(|value| value.is_finite()))?;
        Some(measured(key.2, value, None))
    };
    columns.push(Column { head: "corpus".into(), cells: keys.iter().map(corpus).collect() });
    let counts: Vec<String> =
        sets.iter().map(|set| format!("{} at {}", set.tunes, set.temperature)).collect();
    let note = format!(
        "Values \u{b1} standard error over tunes, all sampled from one trained model. Tunes: {}.",
        counts.join(", ")
    );
    Some(assemble(columns, vec![note]))
}

/// The loss over one class of character for the study's first baseline and for its best variant.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassRow {
    /// Which.
    pub class: CharClass,
    /// Validation characters of it.
    pub chars: u64,
    /// Their share of all, 0 to 1.
    pub share: f64,
    /// Seed and nats of the baseline's trials.
    pub baseline: Vec<(u64, f64)>,
    /// The same of the best variant's; empty where that is the baseline.
    pub best: Vec<(u64, f64)>,
}

/// Rows in the order of the classes, and the variants they are of: the baseline (or, without trials of it, the best
/// variant), and the best where it is another. None where no trial has losses by class.
pub fn classes_by(results: &Results) -> Option<(Variant, Option<Variant>, Vec<ClassRow>)> {
    let told = |variant: &Variant| {
        let trials = trials_of(results, Protocol::Contract, variant);
        trials.iter().any(|trial| !trial.classes.is_empty())
    };
    let best = results.best.map(|best| best.0).filter(told);
    let baseline = results.experiments.iter().map(|experiment| experiment.baseline).find(told).or(best)?;
    let best = best.filter(|best| *best != baseline);
    let losses = |variant: &Variant, class: CharClass| -> Vec<(u64, f64)> {
        let trials = trials_of(results, Protocol::Contract, variant);
        let of = |seed: u64, classes: &[crate::study::results::ClassLoss]| {
            let one = classes.iter().find(|one| one.class == class && one.chars > 0)?;
            usable(one.nats).then_some((seed, one.nats))
        };
        trials.iter().filter_map(|trial| of(trial.seed, &trial.classes)).collect()
    };
    let counts = |class: CharClass| {
        let trials = trials_of(results, Protocol::Contract, &baseline);
        let count = |classes: &[crate::study::results::ClassLoss]| {
            classes.iter().find(|one| one.class == class).map(|one| one.chars)
        };
        trials.iter().find_map(|trial| count(&trial.classes)).unwrap_or(0)
    };
    let all: u64 = CharClass::ALL.iter().fold(0, |sum, class| sum.saturating_add(counts(*class)));
    let rows = CharClass::ALL
        .iter()
        .map(|&class| ClassRow {
            class,
            chars: counts(class),
            share: counts(class) as f64 / all.max(1) as f64,
            baseline: losses(&baseline, class),
            best: best.map_or_else(Vec::new, |best| losses(&best, class)),
        })
        .filter(|row| row.chars > 0 && !(row.baseline.is_empty() && row.best.is_empty()))
        .collect::<Vec<_>>();
    (!rows.is_empty()).then_some((baseline, best, rows))
}

/// Loss by class of character.
pub fn classes(results: &Results) -> Option<Table> {
    let (baseline, best, rows) = classes_by(results)?;
    let mean = |values: &[(u64, f64)]| Summary::of(values.iter().map(|value| value.1));
    let loss = |values: &[(u64, f64)]| mean(values).map(|summary| spread(&summary, 3));
    let of = |values: fn(&ClassRow) -> &[(u64, f64)]| rows.iter().map(|row| loss(values(row))).collect();
    let column = |head: &str, cell: &dyn Fn(&ClassRow) -> Option<String>| Column {
        head: head.to_string(),
        cells: rows.iter().map(cell).collect(),
    };
    let mut columns = vec![
        column("class", &|row| Some(row.class.name().into())),
        column("characters", &|row| Some(thousands(row.chars))),
        column("share", &|row| Some(format!("{:.1}%", row.share * 100.0))),
        Column { head: names::full(&baseline), cells: of(|row| &row.baseline) },
        column("its part of the loss", &|row| Some(format!("{:.3}", mean(&row.baseline)?.mean * row.share))),
    ];
    if let Some(best) = best {
        columns.push(Column { head: names::full(&best), cells: of(|row| &row.best) });
        let part = |row: &ClassRow| Some(format!("{:.3}", mean(&row.best)?.mean * row.share));
        columns.push(column("its part of the loss", &part));
    }
    let note = "Validation loss by class of character, nats a character of the class, mean \u{b1} standard deviation \
                over seeds. Part of the loss: that times the class's share; the parts add up to the loss over all.";
    Some(assemble(columns, vec![note.into()]))
}

/// The best model's neurons, best first.
pub fn neurons(results: &Results) -> Option<Table> {
    if results.neurons.is_empty() {
        return None;
    }
    let auc = |value: f64| if value.is_finite() { format!("{value:.3}") } else { DASH.to_string() };
    let mean = |value: f64| if value.is_finite() { plain(value, 2) } else { DASH.to_string() };
    let rows = results.neurons.iter().map(|one| {
        vec![
            format!("{}[{}] of layer {}", one.kind, one.unit, one.layer + 1),
            one.label_name.clone(),
            auc(one.found),
            auc(one.held_out),
            auc(one.control),
            mean(one.mean_on),
            mean(one.mean_off),
        ]
    });
    Some(Table {
        columns: ["neuron", "tells apart", "found", "held out", "control", "mean where it holds", "mean elsewhere"]
            .map(String::from)
            .to_vec(),
        rows: rows.collect(),
        note: "Area under the ROC curve (0.5: no better than chance, 1: perfect) on the tunes the neuron was found \
               with, on held-out tunes (the number to trust), and on held-out tunes for the best neuron for shuffled \
               labels."
            .into(),
    })
}
