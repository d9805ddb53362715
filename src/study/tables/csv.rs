//! Every trial as one row of CSV (RFC 4180, UTF-8, a head line), all numbers in full.

use crate::abc::CharClass;
use crate::study::names;
use crate::study::results::{PartLoss, Results, Trial};

/// One row a trial, in the results' order. What is missing or not finite is an empty cell.
pub fn csv(results: &Results) -> String {
    let mut out = line(&head());
    for trial in &results.trials {
        out.push_str(&line(&row(results, trial)));
    }
    out
}

/// Keys of a part's columns, and of a class: `note_nats`.
fn head() -> Vec<String> {
    let mut head: Vec<String> = [
        "protocol",
        "experiments",
        "variant",
        "cell",
        "hidden",
        "layers",
        "dropout",
        "seed",
        "parameters",
        "folder",
        "epochs",
        "best_epoch",
        "stopped_early",
    ]
    .map(String::from)
    .to_vec();
    for part in ["train", "validation", "test"] {
        head.extend(["nats", "body_nats", "chars", "tunes"].map(|what| format!("{part}_{what}")));
    }
    head.push("slices_nats".into());
    for class in CharClass::ALL {
        let key = class.name().replace(", ", "_").replace(' ', "_");
        head.extend([format!("class_{key}_nats"), format!("class_{key}_chars")]);
    }
    head.extend(["chars_per_second", "seconds", "threads"].map(String::from));
    head
}

fn row(results: &Results, trial: &Trial) -> Vec<String> {
    let variant = &trial.variant;
    let experiments: Vec<&str> = results
        .experiments
        .iter()
        .filter(|experiment| experiment.variants.contains(variant))
        .map(|experiment| experiment.name.as_str())
        .collect();
    let mut row = vec![
        names::protocol(trial.protocol).to_string(),
        experiments.join(" "),
        variant.key(),
        variant.cell.to_string(),
        variant.hidden.to_string(),
        variant.layers.to_string(),
        number(Some(variant.dropout)),
        trial.seed.to_string(),
        trial.parameters.to_string(),
        trial.folder.clone(),
        number(Some(trial.epochs)),
        number(Some(trial.best_epoch)),
        trial.stopped_early.to_string(),
    ];
    for part in [trial.train, trial.validation, trial.test] {
        let count = |of: fn(PartLoss) -> u64| part.map_or_else(String::new, |part| of(part).to_string());
        row.push(number(part.map(|part| part.nats)));
        row.push(number(part.and_then(|part| part.body_nats)));
        row.push(count(|part| part.chars));
        row.push(count(|part| part.tunes));
    }
    row.push(number(trial.slices));
    for class in CharClass::ALL {
        let one = trial.classes.iter().find(|one| one.class == class);
        row.push(number(one.map(|one| one.nats)));
        row.push(one.map_or_else(String::new, |one| one.chars.to_string()));
    }
    row.extend([
        number(Some(trial.chars_per_second)),
        number(Some(trial.seconds)),
        trial.threads.to_string(),
    ]);
    row
}

fn number(value: Option<f64>) -> String {
    value.filter(|value| value.is_finite()).map_or_else(String::new, |value| value.to_string())
}

fn line(cells: &[String]) -> String {
    let quoted = |cell: &String| {
        if cell.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.clone()
        }
    };
    cells.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n"
}
