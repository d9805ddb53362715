//! What a study found: every number that its tables, plots, discussion and page are made of, and nothing else. Kept as
//! `results.json`; whoever wants to check a table needs this file alone.
//!
//! Losses are nats a predicted token; bits are nats / ln 2.

use serde::{Deserialize, Serialize};

use crate::abc::CharClass;
use crate::model::CellKind;

/// File name of the results in a study's folder.
pub const RESULTS: &str = "results.json";

/// How trials are trained and what their loss means.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// This program's own: parallel streams, state carried, whole tunes evaluated from a zero state.
    Contract,
    /// The assignment's: raw characters, a random 30-character slice of every song an epoch, batch 1, zero state.
    Assignment,
}

/// What distinguishes one trial from another but for its seed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// Recurrent cell.
    pub cell: CellKind,
    /// H: units a layer.
    pub hidden: usize,
    /// L: layers.
    pub layers: usize,
    /// Dropout probability.
    pub dropout: f64,
}

impl Variant {
    /// `lstm-1x150`, `lstm-1x150-dropout0.2`: a name for folders and tables' keys.
    pub fn key(&self) -> String {
        let name = format!("{}-{}x{}", self.cell, self.layers, self.hidden);
        if self.dropout > 0.0 { format!("{name}-dropout{}", self.dropout) } else { name }
    }
}

/// Some of a study's variants, compared with one another in one thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// What is varied, as a key: `cell`, `units`, `layers`, `dropout`, or a name of the user's.
    pub name: String,
    /// For headings: `RNN and GRU against LSTM`.
    pub title: String,
    /// The variants in the order of the tables, the baseline among them.
    pub variants: Vec<Variant>,
    /// The one that the others are compared with.
    pub baseline: Variant,
}

/// A point of a trial's loss curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Passes over the training tunes.
    pub epoch: f64,
    /// Mean training loss since the last point, with dropout, while the weights moved; None where nothing was trained.
    pub train: Option<f64>,
    /// Validation loss; None without validation tunes.
    pub validation: Option<f64>,
}

/// A loss over some tunes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PartLoss {
    /// Nats a predicted token, headers included.
    pub nats: f64,
    /// Nats a predicted token after the `K:` line of every tune's header; None where nothing stands there.
    pub body_nats: Option<f64>,
    /// Predicted tokens.
    pub chars: u64,
    /// Tunes.
    pub tunes: u64,
}

/// The loss over the validation characters of one class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassLoss {
    /// Which.
    pub class: CharClass,
    /// Nats a predicted character of this class.
    pub nats: f64,
    /// How many there are.
    pub chars: u64,
}

/// One trained model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// How it was trained.
    pub protocol: Protocol,
    /// What was trained.
    pub variant: Variant,
    /// Seed of weights, order and dropout.
    pub seed: u64,
    /// Trained parameters.
    pub parameters: u64,
    /// Its folder, relative to the study's.
    pub folder: String,
    /// Epochs trained.
    pub epochs: f64,
    /// Epoch of the best weights, whose losses stand below.
    pub best_epoch: f64,
    /// Whether early stopping ended it.
    pub stopped_early: bool,
    /// Its losses on the way.
    pub curve: Vec<CurvePoint>,
    /// Best weights: training tunes, evaluated without dropout. Assignment: None.
    pub train: Option<PartLoss>,
    /// Best weights: validation tunes. Assignment: whole songs, raw characters, deterministic. Contract without
    /// validation tunes: None.
    pub validation: Option<PartLoss>,
    /// Best weights: test tunes; None without.
    pub test: Option<PartLoss>,
    /// Assignment only: the best epoch's mean loss over one random slice of every validation song.
    pub slices: Option<f64>,
    /// Best weights: validation loss by class of character. Empty for the assignment's protocol.
    pub classes: Vec<ClassLoss>,
    /// Training characters a second, with `threads` threads beside the study's other trials.
    pub chars_per_second: f64,
    /// Seconds of training.
    pub seconds: f64,
    /// Threads it trained with.
    pub threads: usize,
}

impl Trial {
    /// The loss that its table ranks by: validation loss (contract), best slices (assignment), else training loss.
    pub fn score(&self) -> Option<f64> {
        match self.protocol {
            Protocol::Assignment => self.slices,
            Protocol::Contract => self.validation.or(self.train).map(|loss| loss.nats),
        }
    }
}

/// What counting alone achieves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NgramTable {
    /// Under which protocol's definition of loss.
    pub protocol: Protocol,
    /// `validation`, `test`, or `slices` (assignment: one random slice a validation song).
    pub of: String,
    /// Nats a predicted token, orders 1 to 6.
    pub nats: Vec<f64>,
    /// The same after the header, where it was asked for.
    pub body_nats: Option<Vec<f64>>,
}

impl NgramTable {
    /// The best order and its nats.
    pub fn best(&self) -> Option<(usize, f64)> {
        (1..).zip(self.nats.iter().copied()).min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

/// What the study read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DataFacts {
    /// Names of the training files (no folders); empty: the built-in tunebook.
    pub train_names: Vec<String>,
    /// The same for `--val`.
    pub val_names: Vec<String>,
    /// The same for `--test`.
    pub test_names: Vec<String>,
    /// Training tunes and the tokens to predict in them.
    pub train_tunes: u64,
    /// See `train_tunes`.
    pub train_chars: u64,
    /// Validation tunes.
    pub val_tunes: u64,
    /// Tokens to predict in them.
    pub val_chars: u64,
    /// Test tunes.
    pub test_tunes: u64,
    /// Tokens to predict in them.
    pub test_chars: u64,
    /// V: vocabulary of the training tunes.
    pub vocab: usize,
    /// Share of validation characters that stand in headers, 0 to 1.
    pub header_share: f64,
}

/// How the contract's trials were trained, for captions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// B.
    pub batch: usize,
    /// T.
    pub seq_len: usize,
    /// The most epochs.
    pub epochs: u64,
    /// Validations without a better loss after which a trial stops; None: never.
    pub patience: Option<u64>,
    /// Learning rate of Adam.
    pub lr: f64,
    /// Number format.
    pub precision: String,
    /// The engine as it calls itself.
    pub engine: String,
    /// Epochs of the assignment's protocol.
    pub assignment_epochs: u64,
}

/// The measured value of one thing over a set of tunes, and what the corpus has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// As a key: `parses`, `closes`, `bars_filled`, ...
    pub key: String,
    /// For people: `parse without an error`.
    pub name: String,
    /// `share` (0 to 1), `nats`, `bits`, `chars`, `seconds`, `bars`: how `value` is printed.
    pub unit: String,
    /// Over the tunes.
    pub value: Option<f64>,
    /// Standard error of `value` over tunes; None where it means nothing.
    pub error: Option<f64>,
    /// The same over the corpus; None where it means nothing.
    pub corpus: Option<f64>,
}

/// Tunes sampled at one temperature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TuneSet {
    /// Temperature.
    pub temperature: f64,
    /// How many.
    pub tunes: usize,
    /// Folder of the files, relative to the study's; None where they were measured and not written.
    pub folder: Option<String>,
    /// What was measured.
    pub measures: Vec<Measure>,
}

/// A neuron and the label that it tells apart best.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeuronScore {
    /// Layer, from 0.
    pub layer: usize,
    /// Unit, from 0.
    pub unit: usize,
    /// `h` or `c`.
    pub kind: String,
    /// The label's key.
    pub label: String,
    /// For people: `inside a chord symbol`.
    pub label_name: String,
    /// Whether the neuron is higher (true) or lower where the label holds.
    pub positive: bool,
    /// How well it separates, 0.5 (not at all) to 1 (area under the ROC curve), on the tunes it was found with.
    pub found: f64,
    /// The same on held-out tunes: the number to trust.
    pub held_out: f64,
    /// The same on held-out tunes for the neuron that is best for shuffled labels: what chance reaches.
    pub control: f64,
    /// Mean activation on held-out characters where the label holds.
    pub mean_on: f64,
    /// Mean activation on the others.
    pub mean_off: f64,
    /// A sentence that these numbers support.
    pub sentence: String,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Version of the program.
    pub version: String,
    /// Commit it was built from, where known.
    pub commit: Option<String>,
    /// Day, `2026-11-25`.
    pub date: String,
    /// Processor or GPU.
    pub machine: String,
    /// What it read.
    pub data: DataFacts,
    /// How it trained.
    pub settings: Settings,
    /// Seeds of every variant.
    pub seeds: Vec<u64>,
    /// Whether this was `--quick`: fewer epochs and seeds.
    pub quick: bool,
    /// The experiments, in order.
    pub experiments: Vec<Experiment>,
    /// All trials that are done.
    pub trials: Vec<Trial>,
    /// Baselines without a network.
    pub ngrams: Vec<NgramTable>,
    /// Key of the best variant by mean validation loss (contract), and its best seed.
    pub best: Option<(Variant, u64)>,
    /// Tunes of the best model by temperature, ascending.
    pub tune_sets: Vec<TuneSet>,
    /// Neurons of the best model, best first.
    pub neurons: Vec<NeuronScore>,
}

impl Results {
    /// The trials of a variant under a protocol, by seed.
    pub fn of(&self, protocol: Protocol, variant: &Variant) -> Vec<&Trial> {
        let mut trials: Vec<&Trial> =
            self.trials.iter().filter(|t| t.protocol == protocol && t.variant == *variant).collect();
        trials.sort_by_key(|trial| trial.seed);
        trials
    }
}
