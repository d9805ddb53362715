//! What the report page shows, as the JSON that its script reads. Nothing in here is HTML: every text is shown as text.

use serde::Serialize;

use crate::study::results::{NeuronScore, NgramTable, TuneSet};

/// A whole page. Parts that are empty are left out of the page.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PageData {
    /// Its heading.
    pub title: String,
    /// Lines of facts under the heading: data, machine, version, date.
    pub facts: Vec<String>,
    /// The written discussion.
    pub discussion: Vec<Section>,
    /// Experiments with their tables.
    pub experiments: Vec<ExperimentPage>,
    /// Baselines without a network.
    pub ngrams: Vec<NgramTable>,
    /// Measures of tunes by temperature.
    pub tune_sets: Vec<TuneSet>,
    /// Tunes to read, see and hear.
    pub tunes: Vec<TunePage>,
    /// Neurons to look into.
    pub neurons: Option<NeuronPage>,
}

/// A heading and paragraphs of plain text.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// Paragraphs.
    pub paragraphs: Vec<String>,
}

/// One experiment under one protocol: its curves are drawn from its trials, its table is given.
#[derive(Debug, Clone, Serialize)]
pub struct ExperimentPage {
    /// Heading.
    pub title: String,
    /// Under it: how it was trained.
    pub caption: String,
    /// Loss curves, one a variant and seed.
    pub curves: Vec<Curve>,
    /// The table.
    pub table: Table,
    /// Horizontal lines in the plot: name and nats (the best n-gram, a published figure).
    pub lines: Vec<(String, f64)>,
}

/// One trial's loss curve.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    /// Variant as people read it: `LSTM 1x150`; the same for all of its seeds.
    pub name: String,
    /// Seed.
    pub seed: u64,
    /// Epochs.
    pub epoch: Vec<f64>,
    /// Training loss at these, nats.
    pub train: Vec<Option<f64>>,
    /// Validation loss at these, nats.
    pub validation: Vec<Option<f64>>,
}

/// A table: cells are text, numbers ready to read.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Table {
    /// Column heads.
    pub columns: Vec<String>,
    /// Rows, each as long as `columns`.
    pub rows: Vec<Vec<String>>,
    /// What a reader must know to read it.
    pub note: String,
}

/// A tune to read, see and hear.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TunePage {
    /// Its title; may be anything at all.
    pub title: String,
    /// Where it comes from: `temperature 0.5, tune 3`, `validation tune 17`.
    pub origin: String,
    /// As ABC, numbered and repaired: what the notes were read from.
    pub abc: String,
    /// As the model wrote it; empty where that is `abc`.
    pub written: String,
    /// What was found out about it, ready to read: name and value (`bars filled`, `14 of 16`).
    pub verdict: Vec<(String, String)>,
    /// Melody as played, repeats carried out, by onset. Equal to the MIDI file's notes.
    pub notes: Vec<NoteMark>,
    /// The accompaniment's notes as played.
    pub chords: Vec<NoteMark>,
    /// Onsets of the bars, seconds.
    pub bars: Vec<f64>,
    /// Length in seconds at the tune's own tempo.
    pub seconds: f64,
}

/// A note as played, at the tune's own tempo.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NoteMark {
    /// Onset, seconds.
    pub at: f64,
    /// Length, seconds.
    pub length: f64,
    /// MIDI number.
    pub pitch: u8,
    /// Where it is written in `abc`: offsets from and to in UTF-16 units, as JavaScript counts; none for chords.
    pub from: Option<u32>,
    /// See `from`.
    pub to: Option<u32>,
}

/// Activations of a model over some texts.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NeuronPage {
    /// The model: `LSTM 1x150, seed 2`.
    pub model: String,
    /// L: layers.
    pub layers: usize,
    /// H: units a layer.
    pub hidden: usize,
    /// What was recorded, in the order of `values`: `h`, `c` (as tanh(c)).
    pub kinds: Vec<String>,
    /// The texts.
    pub texts: Vec<NeuronText>,
    /// Neurons by how well they tell labels apart, best first.
    pub ranking: Vec<NeuronScore>,
    /// Indices into `ranking` of those that the report speaks of.
    pub chosen: Vec<usize>,
    /// What was left out for want of room; empty where nothing was.
    pub note: String,
}

/// One text and what the model did at each of its characters.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NeuronText {
    /// Its title.
    pub title: String,
    /// `validation tune 17`, `temperature 0.5, tune 3`.
    pub origin: String,
    /// T characters, as a list, since a character may be several UTF-16 units.
    pub chars: Vec<String>,
    /// Nats of each character given those before it `[T]`.
    pub surprisal: Vec<f32>,
    /// The five most probable characters before each was seen, with their probabilities `[T][5]`; `<end>` as `"<end>"`.
    pub top: Vec<Vec<(String, f32)>>,
    /// Activations after each character was read, -1 to 1 as -127 to 127, base64 of int8 `[kinds][layers][T][H]`.
    pub values: String,
}
