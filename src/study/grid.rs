//! Which trials a study has: variants, seeds, protocols and how they are trained. The defaults are the paper's
//! experiments; a TOML file describes others (its reading and writing: `grid_file.rs`).

use serde::Serialize;

use super::results::{Experiment, Protocol, Variant};
use super::trial::Job;
use crate::config::{DataConfig, RunConfig, TrainingConfig};
use crate::engine::{Device, Precision};
use crate::model::{CellKind, ModelShape};
use crate::optim::{Optimizer, Schedule};

/// The most variants of an experiment, and the most trials of a study: more are a mistake in the file.
pub const MOST: usize = 10_000;

/// A study, resolved. As TOML it is what [`Grid::from_toml`] reads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Grid {
    /// Whether the numbers are a quick look: fewer epochs and seeds.
    pub quick: bool,
    /// Which protocols the variants are trained under.
    pub protocols: Vec<Protocol>,
    /// Contract: seeds of every variant.
    pub seeds: Vec<u64>,
    /// Contract: the most epochs.
    pub epochs: u64,
    /// Contract: validations without a better loss after which a trial stops; 0: never.
    pub patience: u64,
    /// Contract: B, parallel streams; lowered to the number of training tunes where there are fewer.
    pub batch: usize,
    /// Contract: T, characters a stream between two updates.
    pub seq_len: usize,
    /// Contract: learning rate of Adam.
    pub lr: f64,
    /// Contract: gradient norm to clip to; 0: no clipping.
    pub clip: f64,
    /// Number format, both protocols.
    pub precision: Precision,
    /// Assignment: epochs, the best of which counts.
    pub assignment_epochs: u64,
    /// Assignment: seeds of every variant.
    pub assignment_seeds: Vec<u64>,
    /// What experiments vary.
    pub baseline: Variant,
    /// What is varied.
    #[serde(rename = "experiment")]
    pub experiments: Vec<Varied>,
}

/// An experiment: the product of four lists, the last one varying fastest. None of them is empty.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Varied {
    /// A key: letters, digits, `-` and `_`; it names files.
    pub name: String,
    /// For headings.
    pub title: String,
    /// Recurrent cells.
    pub cell: Vec<CellKind>,
    /// H: units a layer.
    pub hidden: Vec<usize>,
    /// L: layers.
    pub layers: Vec<usize>,
    /// Dropout probabilities.
    pub dropout: Vec<f64>,
}

impl Varied {
    /// One variant, to be varied by the caller.
    fn around(name: &str, title: &str, baseline: &Variant) -> Varied {
        Varied {
            name: name.into(),
            title: title.into(),
            cell: vec![baseline.cell],
            hidden: vec![baseline.hidden],
            layers: vec![baseline.layers],
            dropout: vec![baseline.dropout],
        }
    }

    /// How many variants there are.
    pub fn len(&self) -> usize {
        [self.cell.len(), self.hidden.len(), self.layers.len(), self.dropout.len()]
            .iter()
            .fold(1, |product: usize, &n| product.saturating_mul(n))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The variants in the order of the tables.
    pub fn variants(&self) -> Vec<Variant> {
        let mut variants = Vec::with_capacity(self.len().min(MOST));
        for &cell in &self.cell {
            for &hidden in &self.hidden {
                for &layers in &self.layers {
                    for &dropout in &self.dropout {
                        variants.push(Variant { cell, hidden, layers, dropout });
                    }
                }
            }
        }
        variants
    }
}

/// The paper's baseline: LSTM 1x150.
pub const BASELINE: Variant = Variant { cell: CellKind::Lstm, hidden: 150, layers: 1, dropout: 0.0 };

impl Grid {
    /// The paper's experiments.
    pub fn paper() -> Grid {
        Grid {
            quick: false,
            protocols: vec![Protocol::Contract, Protocol::Assignment],
            seeds: vec![1, 2, 3],
            epochs: 40,
            patience: 10,
            batch: 32,
            seq_len: 100,
            lr: 2e-3,
            clip: 5.0,
            precision: Precision::F32,
            assignment_epochs: 100,
            assignment_seeds: vec![1, 2, 3],
            baseline: BASELINE,
            experiments: Grid::papers_experiments(&BASELINE),
        }
    }

    /// The paper's four experiments around a baseline.
    pub fn papers_experiments(baseline: &Variant) -> Vec<Varied> {
        let around = |name, title| Varied::around(name, title, baseline);
        vec![
            Varied {
                cell: vec![CellKind::Lstm, CellKind::Gru, CellKind::Rnn],
                ..around("cell", "RNN and GRU against LSTM")
            },
            Varied { hidden: vec![50, 100, 150, 200, 250], ..around("units", "Number of units") },
            Varied { layers: vec![1, 2, 3], ..around("layers", "Number of layers") },
            Varied { dropout: vec![0.0, 0.1, 0.2, 0.3], ..around("dropout", "Dropout") },
        ]
    }

    /// The paper's experiments in minutes.
    pub fn quick() -> Grid {
        Grid::paper().quicken()
    }

    /// The same experiments with at most two seeds and few epochs under the contract's protocol, and one seed under the
    /// assignment's, whose epochs stay so that its numbers can be held against the published ones: a look in minutes.
    pub fn quicken(mut self) -> Grid {
        self.quick = true;
        self.seeds.truncate(QUICK_SEEDS);
        self.epochs = self.epochs.min(QUICK_EPOCHS);
        self.assignment_seeds.truncate(1);
        self.assignment_epochs = self.assignment_epochs.min(QUICK_ASSIGNMENT_EPOCHS);
        self
    }

    /// The experiments with their variants. An experiment's baseline is the study's where that is among its variants,
    /// else its first.
    pub fn experiments(&self) -> Vec<Experiment> {
        let resolve = |varied: &Varied| {
            let variants = varied.variants();
            let first = variants.first().copied().unwrap_or(self.baseline);
            let baseline = if variants.contains(&self.baseline) { self.baseline } else { first };
            Experiment { name: varied.name.clone(), title: varied.title.clone(), variants, baseline }
        };
        self.experiments.iter().map(resolve).collect()
    }

    /// Every variant once, in the order in which experiments name them.
    pub fn variants(&self) -> Vec<Variant> {
        let mut variants: Vec<Variant> = Vec::new();
        for variant in self.experiments.iter().flat_map(Varied::variants) {
            if !variants.contains(&variant) {
                variants.push(variant);
            }
        }
        variants
    }

    /// Every trial once.
    pub fn jobs(&self) -> Vec<Job> {
        let variants = self.variants();
        let mut jobs = Vec::new();
        for &protocol in &self.protocols {
            let seeds = match protocol {
                Protocol::Contract => &self.seeds,
                Protocol::Assignment => &self.assignment_seeds,
            };
            for &variant in &variants {
                jobs.extend(seeds.iter().map(|&seed| Job { protocol, variant, seed }));
            }
        }
        jobs
    }

    /// Patience as a run has it.
    pub fn patience(&self) -> Option<u64> {
        (self.patience > 0).then_some(self.patience)
    }

    /// The configuration of a trial under the contract's protocol.
    pub fn run_config(
        &self,
        variant: &Variant,
        seed: u64,
        data: DataConfig,
        threads: usize,
        device: Device,
    ) -> RunConfig {
        RunConfig {
            version: env!("CARGO_PKG_VERSION").into(),
            model: ModelShape {
                cell: variant.cell,
                vocab: 0,
                hidden: variant.hidden,
                layers: variant.layers,
            },
            data,
            training: TrainingConfig {
                batch: Some(self.batch),
                seq_len: self.seq_len,
                epochs: Some(self.epochs),
                steps: None,
                lr: self.lr,
                min_lr: 0.0,
                warmup: 0,
                schedule: Schedule::Constant,
                decay_every: 10,
                decay: 0.5,
                clip: self.clip,
                weight_decay: 0.0,
                dropout: variant.dropout,
                patience: self.patience(),
                eval_every: None,
                seed,
                precision: self.precision,
                threads,
                device: device.to_string(),
                kernel: "auto".into(),
                save_every: 60.0,
                chosen_kernels: None,
                optimizer: Optimizer::ADAM,
            },
        }
    }

    /// What differs from another grid in how trials are trained: one line each, `what: ours, theirs`. Trials of two
    /// grids that differ in nothing here are the same trials.
    pub fn differences(&self, other: &Grid) -> Vec<String> {
        let all = |grid: &Grid| {
            [
                ("epochs", grid.epochs.to_string()),
                ("patience", grid.patience.to_string()),
                ("batch", grid.batch.to_string()),
                ("seq_len", grid.seq_len.to_string()),
                ("lr", grid.lr.to_string()),
                ("clip", grid.clip.to_string()),
                ("precision", grid.precision.to_string()),
                ("assignment_epochs", grid.assignment_epochs.to_string()),
            ]
        };
        let pairs = all(self).into_iter().zip(all(other));
        pairs
            .filter(|(ours, theirs)| ours.1 != theirs.1)
            .map(|(ours, theirs)| format!("{}: the study has {}, asked for {}", ours.0, ours.1, theirs.1))
            .collect()
    }
}

/// Seeds of a quick study.
const QUICK_SEEDS: usize = 2;

/// Epochs of a quick study under the contract's protocol.
const QUICK_EPOCHS: u64 = 6;

/// Epochs of a quick study under the assignment's protocol.
const QUICK_ASSIGNMENT_EPOCHS: u64 = 100;

#[cfg(test)]
#[path = "grid_tests.rs"]
mod tests;
