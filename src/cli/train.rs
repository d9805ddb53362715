//! `songrnn-fast train`: flags as typed, resolved once into a [`RunConfig`].

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Outcome, UsageError};
use crate::config::{DataConfig, RunConfig, TrainingConfig};
use crate::engine::{self, Device, Kernel, Precision};
use crate::model::{CellKind, ModelShape};
use crate::optim::{Optimizer, Schedule};
use crate::train::progress::Progress;
use crate::train::trainer::Ended;
use crate::train::{TrainError, begin, finish, interrupt};

/// Epochs where neither --epochs nor --steps is given.
const EPOCHS: u64 = 40;

/// The same for the built-in tunebook: under two minutes on two cores, and tunes that look like tunes.
const BUILT_IN_EPOCHS: u64 = 120;

/// Streams for the built-in tunebook, which has fewer tunes than a default batch has streams.
const BUILT_IN_BATCH: usize = 16;

/// Train a model; Ctrl-C saves and stops, --resume goes on
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  songrnn-fast train                                   the built-in tunebook
  songrnn-fast train tunes/ --epochs 100 --patience 5  a folder of .abc and .txt files
  songrnn-fast train a.txt --val b.txt --cell gru --hidden 256 --layers 2 --dropout 0.2
  songrnn-fast train --resume runs/1                   go on after Ctrl-C, a crash or a power cut
  songrnn-fast train --resume runs/1 --epochs 200      go on beyond the end")]
pub struct TrainArgs {
    /// Files or folders of .abc and .txt tunes, or one packed corpus; none: the built-in tunebook
    pub data: Vec<PathBuf>,
    /// Validation tunes; without it 5% of the tunes are kept for validation and 5% for testing
    #[arg(long, value_name = "FILE")]
    pub val: Vec<PathBuf>,
    /// Test tunes: their loss under the best weights is told at the end
    #[arg(long, value_name = "FILE")]
    pub test: Vec<PathBuf>,
    /// The run folder to make; default: the next free number under runs/
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub out: Option<PathBuf>,
    /// Go on with the run in this folder, bit for bit; needs no other argument
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
    /// Train on every copy of a tune that occurs more than once
    #[arg(long)]
    pub keep_duplicates: bool,

    /// Recurrent cell [default: lstm]
    #[arg(long, help_heading = "Model")]
    pub cell: Option<CellKind>,
    /// Units a layer [default: 150]
    #[arg(long, value_name = "H", help_heading = "Model")]
    pub hidden: Option<usize>,
    /// Recurrent layers [default: 1]
    #[arg(long, value_name = "L", help_heading = "Model")]
    pub layers: Option<usize>,
    /// Dropout probability, between layers and before the output [default: 0]
    #[arg(long, value_name = "P", help_heading = "Model", allow_negative_numbers = true)]
    pub dropout: Option<f64>,

    /// Parallel streams, at most the number of training tunes [default: 64, or 16 for the built-in tunebook]
    #[arg(long, value_name = "B", help_heading = "Training")]
    pub batch: Option<usize>,
    /// Characters a stream between two updates, through which gradients flow [default: 100]
    #[arg(long, value_name = "T", help_heading = "Training")]
    pub seq_len: Option<usize>,
    /// Passes over the training tunes [default: 40, or 120 for the built-in tunebook]
    #[arg(long, value_name = "N", help_heading = "Training", conflicts_with = "steps")]
    pub epochs: Option<u64>,
    /// Updates to make, instead of --epochs
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub steps: Option<u64>,
    /// Learning rate [default: 2e-3]
    #[arg(long, value_name = "RATE", help_heading = "Training", allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// The lowest learning rate that a schedule falls to [default: 0]
    #[arg(long, value_name = "RATE", help_heading = "Training", allow_negative_numbers = true)]
    pub min_lr: Option<f64>,
    /// Steps over which the learning rate rises to --lr [default: 0]
    #[arg(long, value_name = "STEPS", help_heading = "Training")]
    pub warmup: Option<u64>,
    /// How the learning rate falls afterwards [default: constant]
    #[arg(long, help_heading = "Training")]
    pub schedule: Option<Schedule>,
    /// --schedule step: lower the rate every so many epochs [default: 10]
    #[arg(long, value_name = "EPOCHS", help_heading = "Training")]
    pub decay_every: Option<u64>,
    /// --schedule step: multiply the rate by this [default: 0.5]
    #[arg(long, value_name = "FACTOR", help_heading = "Training", allow_negative_numbers = true)]
    pub decay: Option<f64>,
    /// Optimiser [default: adam]
    #[arg(long, help_heading = "Training")]
    pub optimizer: Option<OptimizerName>,
    /// Momentum of sgd [default: 0.9] and rmsprop [default: 0]
    #[arg(long, value_name = "M", help_heading = "Training", allow_negative_numbers = true)]
    pub momentum: Option<f64>,
    /// Clip the gradient to this norm; 0 does not [default: 5]
    #[arg(long, value_name = "NORM", help_heading = "Training", allow_negative_numbers = true)]
    pub clip: Option<f64>,
    /// Weight decay (decoupled for adamw) [default: 0]
    #[arg(long, value_name = "W", help_heading = "Training", allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,
    /// Stop after so many validations without a better loss [default: never]
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub patience: Option<u64>,
    /// Validate every so many steps [default: after each epoch]
    #[arg(long, value_name = "STEPS", help_heading = "Training")]
    pub eval_every: Option<u64>,
    /// Seed of weights, order, dropout and sampled tunes [default: 1]
    #[arg(long, help_heading = "Training")]
    pub seed: Option<u64>,

    /// Number format [default: f32]
    #[arg(long, help_heading = "Machine")]
    pub precision: Option<Precision>,
    /// Short for --precision f16
    #[arg(long, help_heading = "Machine", conflicts_with_all = ["precision", "bf16"])]
    pub fp16: bool,
    /// Short for --precision bf16
    #[arg(long, help_heading = "Machine", conflicts_with = "precision")]
    pub bf16: bool,
    /// auto, cpu or cuda[:N] [default: auto]
    #[arg(long, help_heading = "Machine")]
    pub device: Option<String>,
    /// Which CUDA kernels: auto (the fastest, timed once and remembered), fused, cudnn, cudnn-tf32 or stepwise [default: auto]
    #[arg(long, help_heading = "Machine")]
    pub kernel: Option<Kernel>,
    /// Threads; 0: one a core; the result does not depend on it [default: 0]
    #[arg(long, value_name = "N", help_heading = "Machine")]
    pub threads: Option<usize>,
    /// Seconds between checkpoints (one is also written after each validation); the result does not depend on it
    /// [default: 60]
    #[arg(long, value_name = "SECONDS", help_heading = "Machine", allow_negative_numbers = true)]
    pub save_every: Option<f64>,
}

/// Optimisers by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OptimizerName {
    /// Kingma and Ba 2015.
    Adam,
    /// Adam with decoupled weight decay.
    Adamw,
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Tieleman and Hinton 2012.
    Rmsprop,
}

/// Runs `train`.
pub fn run(args: &TrainArgs) -> anyhow::Result<Outcome> {
    match train(args) {
        Ok(outcome) => Ok(outcome),
        Err(TrainError::Usage(message)) => Err(UsageError(message).into()),
        Err(error) => Err(error.into()),
    }
}

fn train(args: &TrainArgs) -> Result<Outcome, TrainError> {
    let progress = Progress::new();
    if let Err(error) = interrupt::install() {
        progress.say(&format!("note: Ctrl-C will not save before it stops ({error})"));
    }
    let mut session = match &args.resume {
        Some(folder) => begin::resumed(folder, &|config| adjust(args, config), &engine::build, progress)?,
        None => {
            let config = resolve(args)?;
            begin::new(config, args.out.as_deref(), &engine::build, progress)?
        }
    };
    let ended = session.trainer.run(&mut interrupt::requested);
    session.trainer.progress.end();
    match ended? {
        Ended::Interrupted => {
            let folder = session.trainer.folder.display().to_string();
            session.trainer.progress.say(&format!(
                "stopped and saved after step {}; go on with: songrnn-fast train --resume {folder}",
                session.trainer.state.step
            ));
            Ok(Outcome::Interrupted)
        }
        Ended::Finished(why) => finish::finish(&mut session.trainer, why, &mut interrupt::requested),
    }
}

/// `--device` as typed (left out: auto), refused where it cannot be had here.
pub fn device(asked: Option<&str>, kernel: Kernel) -> Result<Device, String> {
    let device = asked.unwrap_or("auto").parse()?;
    engine::check_device(device, kernel)?;
    Ok(device)
}

fn precision(args: &TrainArgs) -> Option<Precision> {
    match (args.fp16, args.bf16) {
        (true, _) => Some(Precision::F16),
        (_, true) => Some(Precision::Bf16),
        _ => args.precision,
    }
}

fn optimizer(name: OptimizerName, momentum: Option<f64>) -> Result<Optimizer, TrainError> {
    let given = momentum.map(|m| m as f32);
    match (name, given) {
        (OptimizerName::Adam | OptimizerName::Adamw, Some(_)) => {
            Err(TrainError::Usage("--momentum is for --optimizer sgd and rmsprop; adam has its own".into()))
        }
        (OptimizerName::Adam, None) => Ok(Optimizer::ADAM),
        (OptimizerName::Adamw, None) => Ok(Optimizer::ADAMW),
        (OptimizerName::Sgd, given) => Ok(Optimizer::Sgd { momentum: given.unwrap_or(0.9) }),
        (OptimizerName::Rmsprop, given) => {
            Ok(Optimizer::RmsProp { alpha: 0.99, eps: 1e-8, momentum: given.unwrap_or(0.0) })
        }
    }
}

fn absolute(paths: &[PathBuf]) -> Result<Vec<PathBuf>, TrainError> {
    paths
        .iter()
        .map(|path| {
            std::path::absolute(path).map_err(|source| TrainError::Io {
                action: "find",
                path: path.clone(),
                source,
            })
        })
        .collect()
}

/// Flags -> configuration of a new run.
fn resolve(args: &TrainArgs) -> Result<RunConfig, TrainError> {
    let built_in = args.data.is_empty();
    let epochs = if args.steps.is_some() {
        None
    } else {
        Some(args.epochs.unwrap_or(if built_in { BUILT_IN_EPOCHS } else { EPOCHS }))
    };
    let config = RunConfig {
        version: env!("CARGO_PKG_VERSION").into(),
        model: ModelShape {
            cell: args.cell.unwrap_or(CellKind::Lstm),
            vocab: 0,
            hidden: args.hidden.unwrap_or(150),
            layers: args.layers.unwrap_or(1),
        },
        data: DataConfig {
            train: absolute(&args.data)?,
            val: absolute(&args.val)?,
            test: absolute(&args.test)?,
            keep_duplicates: args.keep_duplicates,
            ..DataConfig::default()
        },
        training: TrainingConfig {
            batch: args.batch.or(built_in.then_some(BUILT_IN_BATCH)),
            seq_len: args.seq_len.unwrap_or(100),
            epochs,
            steps: args.steps,
            lr: args.lr.unwrap_or(2e-3),
            min_lr: args.min_lr.unwrap_or(0.0),
            warmup: args.warmup.unwrap_or(0),
            schedule: args.schedule.unwrap_or(Schedule::Constant),
            decay_every: args.decay_every.unwrap_or(10),
            decay: args.decay.unwrap_or(0.5),
            clip: args.clip.unwrap_or(5.0),
            weight_decay: args.weight_decay.unwrap_or(0.0),
            dropout: args.dropout.unwrap_or(0.0),
            patience: args.patience,
            eval_every: args.eval_every,
            seed: args.seed.unwrap_or(1),
            precision: precision(args).unwrap_or(Precision::F32),
            threads: args.threads.unwrap_or(0),
            device: device(args.device.as_deref(), args.kernel.unwrap_or_default())
                .map_err(TrainError::Usage)?
                .to_string(),
            kernel: args.kernel.unwrap_or_default().name().into(),
            save_every: args.save_every.unwrap_or(60.0),
            chosen_kernels: None,
            optimizer: optimizer(args.optimizer.unwrap_or(OptimizerName::Adam), args.momentum)?,
        },
    };
    config.check().map_err(TrainError::Usage)?;
    Ok(config)
}

/// With --resume: takes over what may change (how long, how often saved, threads) and refuses, with every difference
/// shown, what may not.
fn adjust(args: &TrainArgs, config: &mut RunConfig) -> Result<(), TrainError> {
    let mut differences = Vec::new();
    {
        let run = &config.training;
        let mut compare = |flag: &str, has: String, asked: Option<String>| {
            if let Some(asked) = asked.filter(|asked| *asked != has) {
                differences.push(format!("{flag}: run has {has}, asked for {asked}"));
            }
        };
        let show = |value: Option<f64>| value.map(|value| value.to_string());
        compare("--cell", config.model.cell.to_string(), args.cell.map(|v| v.to_string()));
        compare("--hidden", config.model.hidden.to_string(), args.hidden.map(|v| v.to_string()));
        compare("--layers", config.model.layers.to_string(), args.layers.map(|v| v.to_string()));
        compare("--dropout", run.dropout.to_string(), show(args.dropout));
        let batch = run.batch.map_or("the default".into(), |batch| batch.to_string());
        compare("--batch", batch, args.batch.map(|v| v.to_string()));
        compare("--seq-len", run.seq_len.to_string(), args.seq_len.map(|v| v.to_string()));
        compare("--lr", run.lr.to_string(), show(args.lr));
        compare("--min-lr", run.min_lr.to_string(), show(args.min_lr));
        compare("--warmup", run.warmup.to_string(), args.warmup.map(|v| v.to_string()));
        compare("--schedule", run.schedule.to_string(), args.schedule.map(|v| v.to_string()));
        compare("--decay-every", run.decay_every.to_string(), args.decay_every.map(|v| v.to_string()));
        compare("--decay", run.decay.to_string(), show(args.decay));
        compare("--clip", run.clip.to_string(), show(args.clip));
        compare("--weight-decay", run.weight_decay.to_string(), show(args.weight_decay));
        let every = run.eval_every.map_or("each epoch".into(), |every| every.to_string());
        compare("--eval-every", every, args.eval_every.map(|v| v.to_string()));
        compare("--seed", run.seed.to_string(), args.seed.map(|v| v.to_string()));
        compare("--precision", run.precision.to_string(), precision(args).map(|v| v.to_string()));
        if let Some(name) = args.optimizer {
            let asked = optimizer(name, args.momentum)?;
            compare("--optimizer", format!("{:?}", run.optimizer), Some(format!("{asked:?}")));
        } else if args.momentum.is_some() {
            let has = match run.optimizer {
                Optimizer::Sgd { momentum } | Optimizer::RmsProp { momentum, .. } => momentum.to_string(),
                Optimizer::Adam { .. } | Optimizer::AdamW { .. } => "none".into(),
            };
            compare("--momentum", has, args.momentum.map(|m| (m as f32).to_string()));
        }
        let list = |paths: &[PathBuf]| {
            let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            if names.is_empty() { "the built-in tunebook".to_string() } else { names.join(" ") }
        };
        for (flag, has, asked) in [
            ("DATA", &config.data.train, &args.data),
            ("--val", &config.data.val, &args.val),
            ("--test", &config.data.test, &args.test),
        ] {
            let asked = absolute(asked)?;
            let has = if has.is_empty() && flag != "DATA" { "none".into() } else { list(has) };
            compare(flag, has, (!asked.is_empty()).then(|| list(&asked)));
        }
        if args.keep_duplicates && !config.data.keep_duplicates {
            differences.push("--keep-duplicates: run leaves duplicates out, asked to keep them".into());
        }
    }
    if !differences.is_empty() {
        return Err(TrainError::Usage(format!(
            "this run cannot be resumed with other settings; leave these flags out, or begin a new run with --out:\n  {}",
            differences.join("\n  ")
        )));
    }
    let run = &mut config.training;
    if let Some(epochs) = args.epochs {
        (run.epochs, run.steps) = (Some(epochs), None);
    }
    if let Some(steps) = args.steps {
        (run.epochs, run.steps) = (None, Some(steps));
    }
    run.patience = args.patience.or(run.patience);
    run.threads = args.threads.unwrap_or(run.threads);
    if let Some(kernel) = args.kernel {
        run.kernel = kernel.name().into();
    }
    if let Some(asked) = args.device.as_deref() {
        let kernel = args.kernel.unwrap_or_default();
        run.device = device(Some(asked), kernel).map_err(TrainError::Usage)?.to_string();
    }
    run.save_every = args.save_every.unwrap_or(run.save_every);
    config.check().map_err(TrainError::Usage)
}
