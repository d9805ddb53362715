//! How tables, plots and prose call variants and protocols.

use super::results::{Experiment, Protocol, Variant};
use crate::model::CellKind;

/// `LSTM`, `GRU`, `RNN`.
pub fn cell(kind: CellKind) -> String {
    kind.to_string().to_uppercase()
}

/// In full: `LSTM 1x150`, `LSTM 1x150 with dropout 0.2`.
pub fn full(variant: &Variant) -> String {
    let name = format!("{} {}x{}", cell(variant.cell), variant.layers, variant.hidden);
    if variant.dropout == 0.0 { name } else { format!("{name} with dropout {}", variant.dropout) }
}

/// What tells a variant from the others of its experiment: `GRU`, `200 units`, `2 layers`, `dropout 0.2`.
pub fn short(experiment: &Experiment, variant: &Variant) -> String {
    let varied = varied(experiment);
    let plural = |n: usize, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
    let parts: Vec<String> = [
        varied.cell.then(|| cell(variant.cell)),
        varied.layers.then(|| plural(variant.layers, "layer")),
        varied.hidden.then(|| plural(variant.hidden, "unit")),
        varied.dropout.then(|| format!("dropout {}", variant.dropout)),
    ]
    .into_iter()
    .flatten()
    .collect();
    match parts.len() {
        0 => full(variant),
        1 => parts.concat(),
        // Many numbers are read faster the way they are always written.
        _ if varied.layers && varied.hidden => full(variant),
        _ => parts.join(", "),
    }
}

/// What an experiment varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Varied {
    /// The cell.
    pub cell: bool,
    /// Units a layer.
    pub hidden: bool,
    /// Layers.
    pub layers: bool,
    /// Dropout.
    pub dropout: bool,
}

/// Which of a variant's parts differ within an experiment.
pub fn varied(experiment: &Experiment) -> Varied {
    let base = &experiment.baseline;
    let any = |differs: fn(&Variant, &Variant) -> bool| experiment.variants.iter().any(|v| differs(v, base));
    Varied {
        cell: any(|a, b| a.cell != b.cell),
        hidden: any(|a, b| a.hidden != b.hidden),
        layers: any(|a, b| a.layers != b.layers),
        dropout: any(|a, b| a.dropout != b.dropout),
    }
}

/// Reads a number of a variant.
pub type ReadNumber = fn(&Variant) -> f64;

/// The one number that an experiment varies, with a function that reads it; None where it varies the cell or several.
pub fn numeric(experiment: &Experiment) -> Option<(&'static str, ReadNumber)> {
    match varied(experiment) {
        Varied { cell: false, hidden: true, layers: false, dropout: false } => {
            Some(("units", |v| v.hidden as f64))
        }
        Varied { cell: false, hidden: false, layers: true, dropout: false } => {
            Some(("layers", |v| v.layers as f64))
        }
        Varied { cell: false, hidden: false, layers: false, dropout: true } => {
            Some(("dropout", |v| v.dropout))
        }
        _ => None,
    }
}

/// As an adjective in captions: `contract`, `assignment`.
pub fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Contract => "contract",
        Protocol::Assignment => "assignment",
    }
}

/// An experiment's title on one line, of bearable length; its name where it has none.
pub fn title(experiment: &Experiment) -> String {
    const LONGEST: usize = 120;
    let clean = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let title = Some(clean(&experiment.title)).filter(|title| !title.is_empty());
    let title = title.unwrap_or_else(|| clean(&experiment.name));
    if title.chars().count() <= LONGEST {
        return title;
    }
    title.chars().take(LONGEST - 1).chain(['\u{2026}']).collect()
}
