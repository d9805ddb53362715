//! Neurons over one tune as pictures and as a table of numbers: what `heatmap` writes and a report shows.

use std::fmt::Write as _;

use super::tapped::{self, Kind};
use crate::corpus::Vocab;
use crate::engine::{Engine, EngineError, LayerActivations};
use crate::model::CellKind;
use crate::study::results::NeuronScore;
use crate::viz::heatmap::{self, Heatmap};

/// Of a longer text the beginning is read: activations of all units are in memory at once.
pub const MOST_CHARS: usize = 20_000;

/// What of a unit is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// h or tanh(c).
    One(Kind),
    /// Every gate, a picture each.
    Gates,
}

/// A neuron to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Neuron {
    /// Layer, from 0.
    pub layer: usize,
    /// Unit, from 0.
    pub unit: usize,
    /// What of it.
    pub what: What,
    /// What was found out about it.
    pub score: Option<NeuronScore>,
}

impl Neuron {
    /// A ranked one, as the kind of activation that it was ranked for.
    pub fn of(score: &NeuronScore) -> Neuron {
        let kind = if score.kind == "c" { Kind::C } else { Kind::H };
        Neuron { layer: score.layer, unit: score.unit, what: What::One(kind), score: Some(score.clone()) }
    }
}

/// One picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// For file names, counted from 1: `layer1-unit38-h`, `layer2-unit5-gate-f`.
    pub name: String,
    /// As SVG.
    pub svg: String,
}

/// Pictures and the numbers in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// One a neuron, or one a gate.
    pub pictures: Vec<Picture>,
    /// Columns `position` (from 1), `character` (line break as `\n`, tabulator `\t`, backslash `\\`), and one a picture.
    pub csv: String,
    /// How many of the text's characters were read.
    pub chars: usize,
}

/// Letters and names of a cell's gates, in the order of [`LayerActivations::gates`]; none for a plain RNN.
pub fn gates(cell: CellKind) -> &'static [(&'static str, &'static str)] {
    match cell {
        CellKind::Lstm => {
            &[("i", "input gate i"), ("f", "forget gate f"), ("g", "candidate g"), ("o", "output gate o")]
        }
        CellKind::Gru => &[("r", "reset gate r"), ("z", "update gate z"), ("n", "candidate n")],
        CellKind::Rnn => &[],
    }
}

/// Draws neurons over a text. `model` and `origin` (which text it is) are shown as text; neurons that the model has not,
/// and gates of a cell without any, are left out.
pub fn draw(
    engine: &mut dyn Engine,
    vocab: &Vocab,
    model: &str,
    text: &str,
    origin: &str,
    neurons: &[Neuron],
) -> Result<Drawn, EngineError> {
    let shape = engine.shape();
    let chars: Vec<char> = text.chars().take(MOST_CHARS).collect();
    let layers = if chars.is_empty() {
        vec![LayerActivations::default(); shape.layers]
    } else {
        tapped::tap(engine, vocab, &chars.iter().collect::<String>())?
    };
    let mut columns: Vec<(String, Vec<f32>)> = Vec::new();
    let mut pictures = Vec::new();
    for neuron in neurons.iter().filter(|n| n.layer < shape.layers && n.unit < shape.hidden) {
        let layer = &layers[neuron.layer];
        let unit = format!("layer{}-unit{}", neuron.layer + 1, neuron.unit + 1);
        let one = |values: &[f32]| values.iter().skip(neuron.unit).step_by(shape.hidden).copied().collect();
        let series: Vec<(String, &str, Vec<f32>)> = match neuron.what {
            What::One(kind) => {
                vec![(format!("{unit}-{}", kind.key()), kind.name(), one(&kind.values(layer)))]
            }
            What::Gates => {
                let gates = gates(shape.cell);
                let series = gates.iter().enumerate().map(|(gate, (letter, name))| {
                    // [T, G, H]: every G-th row is this gate's.
                    let rows = layer.gates.chunks_exact(shape.hidden).skip(gate).step_by(gates.len());
                    let values = rows.map(|row| row[neuron.unit]).collect();
                    (format!("{unit}-gate-{letter}"), *name, values)
                });
                series.collect()
            }
        };
        for (name, quantity, values) in series {
            let svg = picture(model, origin, neuron, quantity, &chars, &values);
            pictures.push(Picture { name: name.clone(), svg });
            columns.push((name, values));
        }
    }
    Ok(Drawn { pictures, csv: csv(&chars, &columns), chars: chars.len() })
}

fn picture(
    model: &str,
    origin: &str,
    neuron: &Neuron,
    quantity: &str,
    chars: &[char],
    values: &[f32],
) -> String {
    let title = format!("Unit {} of layer {}: {quantity}", neuron.unit + 1, neuron.layer + 1);
    let mut subtitle = String::new();
    let mut captions = Vec::new();
    if let Some(score) = &neuron.score {
        let of =
            if matches!(neuron.what, What::Gates) { format!(" (of {})", score.kind) } else { String::new() };
        let mut name = score.label_name.chars();
        let first = name.next().into_iter().flat_map(char::to_uppercase);
        subtitle = format!(
            "{}{of}: held-out AUC {:.3}, shuffled labels {:.3}",
            first.chain(name).collect::<String>(),
            score.held_out,
            score.control
        );
        captions.push(score.sentence.clone());
    }
    captions.push(format!("{model}, over {origin}"));
    let (title, subtitle, captions) = (title.as_str(), subtitle.as_str(), captions.as_slice());
    heatmap::svg(&Heatmap { title, subtitle, captions, quantity, text: chars, values })
}

fn csv(chars: &[char], columns: &[(String, Vec<f32>)]) -> String {
    let mut out = String::from("position,character");
    for (name, _) in columns {
        let _ = write!(out, ",{name}");
    }
    out.push('\n');
    for (at, c) in chars.iter().enumerate() {
        let shown = match c {
            '\n' => "\\n".to_owned(),
            '\t' => "\\t".to_owned(),
            '\\' => "\\\\".to_owned(),
            c => c.to_string(),
        };
        let _ = write!(out, "{},{}", at + 1, quoted(&shown));
        for (_, values) in columns {
            let _ = write!(out, ",{}", values.get(at).copied().unwrap_or(f32::NAN));
        }
        out.push('\n');
    }
    out
}

/// The ranking as CSV, best first; layers and units from 1.
pub fn ranking_csv(scores: &[NeuronScore], chosen: &[usize]) -> String {
    let mut out = String::from(
        "layer,unit,kind,label,direction,found_auc,held_out_auc,control_auc,mean_on,mean_off,chosen,sentence\n",
    );
    for (at, score) in scores.iter().enumerate() {
        let _ = writeln!(
            out,
            "{},{},{},{},{},{:.6},{:.6},{:.6},{:.6},{:.6},{},{}",
            score.layer + 1,
            score.unit + 1,
            score.kind,
            score.label,
            if score.positive { "higher" } else { "lower" },
            score.found,
            score.held_out,
            score.control,
            score.mean_on,
            score.mean_off,
            if chosen.contains(&at) { "yes" } else { "no" },
            quoted(&score.sentence)
        );
    }
    out
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.into()
    }
}
