//! What a run is: `config.toml` in its folder, and as JSON in the metadata of its model files.
//!
//! Flags as typed (`cli::train`) are resolved once into a [`RunConfig`]; nothing below reads a flag. Numbers that
//! steer training are float64 here, because TOML gives those back bit for bit.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::engine::{ChunkSize, EngineSpec, Kernel, KernelChoice, Precision};
use crate::model::ModelShape;
use crate::optim::{LearningRate, Optimizer, Schedule};

/// File name of the configuration in a run folder.
pub const CONFIG: &str = "config.toml";

/// A run's whole configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunConfig {
    /// Version of the program that began the run.
    pub version: String,
    /// How it is trained.
    pub training: TrainingConfig,
    /// The model's shape; `vocab` is 0 until the data has been read.
    pub model: ModelShape,
    /// What it is trained on.
    pub data: DataConfig,
}

/// Where the text comes from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DataConfig {
    /// Files and folders as given, made absolute; none: the built-in tunebook.
    pub train: Vec<PathBuf>,
    /// The same for `--val`; none: 5% of the tunes of `train`.
    pub val: Vec<PathBuf>,
    /// The same for `--test`.
    pub test: Vec<PathBuf>,
    /// Whether tunes that occur twice are trained on twice.
    pub keep_duplicates: bool,
    /// Checksum of the packed training text, once packed.
    pub corpus_checksum: Option<String>,
    /// Checksum of the packed validation text, once packed.
    pub val_checksum: Option<String>,
    /// Checksum of the packed test text, once packed.
    pub test_checksum: Option<String>,
    /// Every file that was read, with its checksum.
    pub sources: Vec<Source>,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Which data it belongs to: `data`, `--val` or `--test`.
    pub of: String,
    /// Its path.
    pub path: PathBuf,
    /// XXH3 of its bytes, hexadecimal.
    pub checksum: String,
}

/// How a model is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingConfig {
    /// B: parallel streams; none until the data has been read: then the default, or the number of tunes if that is less.
    pub batch: Option<usize>,
    /// T: characters a stream in one chunk.
    pub seq_len: usize,
    /// Epochs to train; exactly one of this and `steps` is given.
    pub epochs: Option<u64>,
    /// Steps to train.
    pub steps: Option<u64>,
    /// Learning rate after warm-up.
    pub lr: f64,
    /// The lowest learning rate a schedule falls to.
    pub min_lr: f64,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// How the learning rate falls.
    pub schedule: Schedule,
    /// Schedule `step`: multiply by `decay` every so many epochs.
    pub decay_every: u64,
    /// Schedule `step`: the factor.
    pub decay: f64,
    /// Global gradient norm to clip to; 0 = none.
    pub clip: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Dropout probability.
    pub dropout: f64,
    /// Stop after so many validations without a better loss.
    pub patience: Option<u64>,
    /// Validate every so many steps; none: after each epoch.
    pub eval_every: Option<u64>,
    /// Seed of initial weights, order of tunes, dropout and sampled tunes.
    pub seed: u64,
    /// Number format.
    pub precision: Precision,
    /// Threads; 0 = one a core. Does not change the result.
    pub threads: usize,
    /// `auto`, `cpu` or `cuda[:N]`. Engines differ in rounding.
    #[serde(default = "auto")]
    pub device: String,
    /// Which CUDA kernels: `auto`, `fused`, `cudnn`, `cudnn-tf32` or `stepwise`.
    #[serde(default = "auto")]
    pub kernel: String,
    /// Seconds between checkpoints. Does not change the result.
    pub save_every: f64,
    /// The CUDA kernels that timing chose when the run began; a run that goes on keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_kernels: Option<KernelChoice>,
    /// The optimiser and its constants.
    pub optimizer: Optimizer,
}

fn auto() -> String {
    "auto".into()
}

impl TrainingConfig {
    /// The engine that is asked for.
    pub fn engine(&self, shape: ModelShape) -> Result<EngineSpec, String> {
        let kernel = Kernel::from_str(&self.kernel, false).map_err(|_| {
            format!("--kernel {}: expected auto, fused, cudnn, cudnn-tf32 or stepwise", self.kernel)
        })?;
        let device = self.device.parse()?;
        let chunk = self.batch.map(|streams| ChunkSize::of_tunes(self.seq_len, streams));
        Ok(EngineSpec {
            shape,
            precision: self.precision,
            threads: self.threads,
            device,
            kernel,
            chunk,
            chosen: self.chosen_kernels,
        })
    }

    /// The learning rates of a run over `per_epoch` characters an epoch.
    pub fn learning_rate(&self, per_epoch: u64) -> LearningRate {
        let chunk = (self.seq_len as f64 * self.batch.unwrap_or(1) as f64).max(1.0);
        let steps_per_epoch = per_epoch as f64 / chunk;
        LearningRate {
            base: self.lr,
            min: self.min_lr,
            warmup: self.warmup,
            schedule: self.schedule,
            total_steps: self.total_steps(per_epoch),
            steps_per_epoch,
            decay_every: self.decay_every,
            decay: self.decay,
        }
    }

    /// Steps of the whole run: every chunk predicts T*B characters.
    pub fn total_steps(&self, per_epoch: u64) -> u64 {
        if let Some(steps) = self.steps {
            return steps;
        }
        let chunk = (self.seq_len as u64).saturating_mul(self.batch.unwrap_or(1) as u64).max(1);
        per_epoch.saturating_mul(self.epochs.unwrap_or(0)).div_ceil(chunk)
    }

    /// Refuses values that mean nothing: one sentence that names the flag, the value and what is expected.
    pub fn check(&self) -> Result<(), String> {
        let whole = |flag: &str, value: u64, most: u64| {
            if (1..=most).contains(&value) {
                Ok(())
            } else {
                Err(format!("--{flag} {value}: expected 1 to {most}"))
            }
        };
        let range = |flag: &str, value: f64, good: bool, expected: &str| {
            if value.is_finite() && good {
                Ok(())
            } else {
                Err(format!("--{flag} {value}: expected {expected}"))
            }
        };
        if let Some(batch) = self.batch {
            whole("batch", batch as u64, 65_536)?;
        }
        whole("seq-len", self.seq_len as u64, 1 << 20)?;
        match (self.epochs, self.steps) {
            (Some(epochs), None) => whole("epochs", epochs, 1_000_000_000)?,
            (None, Some(steps)) => whole("steps", steps, 1_000_000_000_000)?,
            _ => return Err("give one of --epochs and --steps".into()),
        }
        range("lr", self.lr, self.lr > 0.0 && self.lr <= 1e6, "a number above 0")?;
        let least = self.min_lr >= 0.0 && self.min_lr <= self.lr;
        range("min-lr", self.min_lr, least, &format!("a number from 0 to --lr {}", self.lr))?;
        whole("decay-every", self.decay_every, 1_000_000_000)?;
        range("decay", self.decay, self.decay > 0.0 && self.decay <= 1.0, "a number above 0, at most 1")?;
        range("clip", self.clip, self.clip >= 0.0, "0 (no clipping) or a number above")?;
        range("weight-decay", self.weight_decay, self.weight_decay >= 0.0, "0 or a number above")?;
        let dropout = (0.0..1.0).contains(&self.dropout);
        range("dropout", self.dropout, dropout, "a probability from 0 up to, not including, 1")?;
        if let Some(patience) = self.patience {
            whole("patience", patience, 1_000_000_000)?;
        }
        if let Some(every) = self.eval_every {
            whole("eval-every", every, 1_000_000_000_000)?;
        }
        range("save-every", self.save_every, self.save_every >= 0.0, "seconds, 0 or above")?;
        if self.threads > 1024 {
            return Err(format!("--threads {}: expected 0 (one a core) to 1024", self.threads));
        }
        if self.seed > i64::MAX as u64 {
            return Err(format!("--seed {}: expected 0 to {}", self.seed, i64::MAX));
        }
        let momentum = match self.optimizer {
            Optimizer::Sgd { momentum } | Optimizer::RmsProp { momentum, .. } => f64::from(momentum),
            Optimizer::Adam { .. } | Optimizer::AdamW { .. } => 0.0,
        };
        range("momentum", momentum, (0.0..1.0).contains(&momentum), "a number from 0 up to, not including, 1")
    }
}

impl RunConfig {
    /// Refuses a configuration that means nothing, as one sentence.
    pub fn check(&self) -> Result<(), String> {
        for (flag, value, most) in
            [("hidden", self.model.hidden, 65_536usize), ("layers", self.model.layers, 64)]
        {
            if value == 0 || value > most {
                return Err(format!("--{flag} {value}: expected 1 to {most}"));
            }
        }
        self.training.check()?;
        let vocab = self.model.vocab.max(1);
        ModelShape { vocab, ..self.model }.check()
    }

    /// As TOML text.
    pub fn to_toml(&self) -> Result<String, String> {
        toml::to_string(self).map_err(|error| {
            format!("the configuration cannot be written ({error}); is a path not valid Unicode?")
        })
    }

    /// From TOML text; refuses what means nothing.
    pub fn from_toml(text: &str) -> Result<RunConfig, String> {
        let config: RunConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    /// As JSON, for a model file's metadata.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::CellKind;

    /// A small, valid configuration.
    pub(crate) fn small() -> RunConfig {
        RunConfig {
            version: "0".into(),
            model: ModelShape { cell: CellKind::Lstm, vocab: 20, hidden: 8, layers: 1 },
            data: DataConfig::default(),
            training: TrainingConfig {
                batch: Some(4),
                seq_len: 10,
                epochs: Some(3),
                steps: None,
                lr: 2e-3,
                min_lr: 0.0,
                warmup: 0,
                schedule: Schedule::Constant,
                decay_every: 10,
                decay: 0.5,
                clip: 5.0,
                weight_decay: 0.0,
                dropout: 0.0,
                patience: None,
                eval_every: None,
                seed: 1,
                precision: Precision::F32,
                threads: 1,
                device: auto(),
                kernel: auto(),
                save_every: 60.0,
                chosen_kernels: None,
                optimizer: Optimizer::ADAM,
            },
        }
    }

    #[test]
    fn toml_gives_back_every_bit() {
        let mut config = small();
        config.training.lr = 0.1 + 0.2;
        config.training.clip = 1.0 / 3.0;
        config.training.seed = i64::MAX as u64;
        config.data.train = vec!["/a b/ü.abc".into()];
        let text = config.to_toml().unwrap();
        assert_eq!(RunConfig::from_toml(&text).unwrap(), config, "{text}");
    }

    #[test]
    fn absurd_values_are_refused_by_name() {
        type Change = fn(&mut RunConfig);
        let cases: [(&str, Change); 14] = [
            ("--hidden 0", |c| c.model.hidden = 0),
            ("--layers 65", |c| c.model.layers = 65),
            ("--batch 0", |c| c.training.batch = Some(0)),
            ("--seq-len 0", |c| c.training.seq_len = 0),
            ("--epochs 0", |c| c.training.epochs = Some(0)),
            ("--lr NaN", |c| c.training.lr = f64::NAN),
            ("--lr -1", |c| c.training.lr = -1.0),
            ("--min-lr 1", |c| c.training.min_lr = 1.0),
            ("--dropout 1.5", |c| c.training.dropout = 1.5),
            ("--dropout 1", |c| c.training.dropout = 1.0),
            ("--clip -1", |c| c.training.clip = -1.0),
            ("--weight-decay inf", |c| c.training.weight_decay = f64::INFINITY),
            ("--patience 0", |c| c.training.patience = Some(0)),
            ("--momentum 1", |c| c.training.optimizer = Optimizer::Sgd { momentum: 1.0 }),
        ];
        for (start, change) in cases {
            let mut config = small();
            change(&mut config);
            let error = config.check().unwrap_err();
            assert!(error.starts_with(&format!("{start}:")), "{start}: {error}");
        }
        assert_eq!(small().check(), Ok(()));
    }

    #[test]
    fn steps_of_a_run() {
        let mut config = small().training;
        assert_eq!(config.total_steps(100), 8, "3 epochs of 100 characters in chunks of 40");
        config.steps = Some(5);
        assert_eq!(config.total_steps(100), 5);
    }
}
