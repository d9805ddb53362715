//! Setting a run up: a new folder or an old one, its lock, its configuration, its data, its engine, its last state.
//!
//! `config.toml` is written before anything slow happens, and completed (vocabulary, checksums) once the text is
//! packed; so a run that was killed at any moment after its first millisecond can be resumed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::TrainError;
use super::checkpoint::Checkpoint;
use super::data::{self, TrainData};
use super::lock::{LOCK, RunLock};
use super::metrics::METRICS;
use super::ngram::Counts;
use super::progress::{Progress, short};
use super::state::{Finish, LoopState};
use super::trainer::Trainer;
use crate::config::{CONFIG, RunConfig};
use crate::corpus::{TrainStreams, Vocab};
use crate::engine::{Device, Engine, EngineError, EngineInfo, EngineSpec, EngineState};
use crate::model::file::LAST;
use crate::model::init;

/// What makes an engine for a run: [`crate::engine::build`], or a test's own.
pub type EngineBuilder<'a> = dyn Fn(&EngineSpec) -> Result<Box<dyn Engine>, EngineError> + 'a;

/// A run that is ready to go on; its folder is locked as long as this lives.
pub struct Session {
    /// The loop.
    pub trainer: Trainer,
    _lock: RunLock,
}

/// Begins a new run in `out`, or in the next free number under `runs/`.
pub fn new(
    config: RunConfig,
    out: Option<&Path>,
    build: &EngineBuilder<'_>,
    progress: Progress,
) -> Result<Session, TrainError> {
    let (folder, made) = match out {
        Some(folder) => {
            let made = !folder.exists();
            fs::create_dir_all(folder).map_err(|source| io_error("make the folder", folder, source))?;
            (folder.to_path_buf(), made)
        }
        None => (next_run(Path::new("runs"))?, true),
    };
    // Before the lock, so that a folder of something else gets no file from us; and again under it.
    if folder.join(CONFIG).exists() {
        // Where a trainer is at work there, that is the thing to say.
        drop(RunLock::take(&folder)?);
    }
    refuse_occupied(&folder)?;
    let lock = RunLock::take(&folder)?;
    refuse_occupied(&folder)?;
    progress.say(&format!("run folder: {}", folder.display()));
    let begun =
        write_config(&folder, &config).and_then(|()| assemble(folder.clone(), config, lock, build, progress));
    if begun.is_err() && !folder.join(LAST).exists() {
        remove_stillborn(&folder, made);
    }
    begun
}

/// Removes what a start that failed has written, so that nothing half-made stays behind.
fn remove_stillborn(folder: &Path, made: bool) {
    for name in [CONFIG, METRICS, LOCK].iter().chain(data::FILES) {
        let _ = fs::remove_file(folder.join(name));
    }
    // These succeed only where nothing else lies in them.
    let _ = fs::remove_dir(folder.join("samples"));
    if made {
        let _ = fs::remove_dir(folder);
    }
}

/// Goes on with the run in `folder`. `adjust` takes over the flags that may change and refuses the others.
pub fn resumed(
    folder: &Path,
    adjust: &dyn Fn(&mut RunConfig) -> Result<(), TrainError>,
    build: &EngineBuilder<'_>,
    progress: Progress,
) -> Result<Session, TrainError> {
    let path = folder.join(CONFIG);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            let problem = "no run to resume here: it has no config.toml; name a folder that `train` made (under runs/, or its --out)";
            return Err(TrainError::Run { path: folder.into(), problem: problem.into() });
        }
        Err(source) => return Err(io_error("read", &path, source)),
    };
    let lock = RunLock::take(folder)?;
    let stored = RunConfig::from_toml(&text).map_err(|problem| TrainError::Run {
        path: path.clone(),
        problem: format!("damaged, or of another version: {}", problem.trim()),
    })?;
    let mut config = stored.clone();
    adjust(&mut config)?;
    if config != stored {
        write_config(folder, &config)?;
    }
    assemble(folder.to_path_buf(), config, lock, build, progress)
}

/// The first free number under `runs`, as a new folder.
fn next_run(runs: &Path) -> Result<PathBuf, TrainError> {
    fs::create_dir_all(runs).map_err(|source| io_error("make the folder", runs, source))?;
    let entries = fs::read_dir(runs).map_err(|source| io_error("read the folder", runs, source))?;
    let taken = entries.filter_map(Result::ok).filter_map(|e| e.file_name().to_str()?.parse::<u64>().ok());
    let mut number = taken.max().unwrap_or(0);
    loop {
        number = number.saturating_add(1);
        let folder = runs.join(number.to_string());
        // Making it is the test whether it is free: two trainers started together get two folders.
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < u64::MAX => {}
            Err(source) => return Err(io_error("make the folder", &folder, source)),
        }
    }
}

/// A new run never overwrites anything: its folder is empty but for the lock, or what a start that was killed before
/// its config.toml left behind.
fn refuse_occupied(folder: &Path) -> Result<(), TrainError> {
    if folder.join(CONFIG).exists() {
        return Err(TrainError::Usage(format!(
            "{} already holds a run; go on with it (--resume {}) or choose another --out",
            folder.display(),
            folder.display()
        )));
    }
    let entries = fs::read_dir(folder).map_err(|source| io_error("read the folder", folder, source))?;
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if name != LOCK && !(text.starts_with('.') && text.contains(CONFIG)) {
            return Err(TrainError::Usage(format!(
                "{} is not empty (it holds {text}); choose a new or empty folder as --out",
                folder.display()
            )));
        }
    }
    Ok(())
}

fn write_config(folder: &Path, config: &RunConfig) -> Result<(), TrainError> {
    let path = folder.join(CONFIG);
    let text = config.to_toml().map_err(|problem| TrainError::Run { path: path.clone(), problem })?;
    Ok(crate::files::write_atomic(&path, text.as_bytes())?)
}

/// Data, engine and state of a run whose folder is locked and has a configuration.
fn assemble(
    folder: PathBuf,
    mut config: RunConfig,
    lock: RunLock,
    build: &EngineBuilder<'_>,
    progress: Progress,
) -> Result<Session, TrainError> {
    let samples = folder.join("samples");
    fs::create_dir_all(&samples).map_err(|source| io_error("make the folder", &samples, source))?;
    let before = config.clone();
    let data = data::prepare(&mut config, &folder, &progress)?;
    choose_batch(&mut config, data.train.tunes.len(), &progress)?;
    let checkpoint = Checkpoint::load(&folder)?;
    if let Some(checkpoint) = &checkpoint {
        refuse_other(&folder, checkpoint, &config, &data.vocab)?;
    }
    config.check().map_err(TrainError::Usage)?;
    let training = &config.training;
    let mut spec = training.engine(config.model).map_err(TrainError::Usage)?;
    if checkpoint.is_some() {
        // A run that goes on keeps its kernels; where none were chosen by timing, the rule that chose is asked again.
        spec.chunk = None;
    }
    if spec.chunk.is_some() && spec.device != Device::Cpu && crate::engine::gpus().is_ok() {
        progress.say("choosing kernels; where this shape is new on this GPU each way is timed once, which can take a minute");
    }
    let mut engine = build(&spec)?;
    if let Some(chosen) = engine.info().chosen {
        config.training.chosen_kernels = Some(chosen);
    }
    if config != before {
        write_config(&folder, &config)?;
    }
    let training = &config.training;
    let streams = TrainStreams::new(
        data.train.pack.clone(),
        data.train.tunes.clone(),
        data.train.map.clone(),
        training.batch.unwrap_or(1),
        training.seed,
    );
    let (mut state, good, fresh) = match checkpoint {
        Some(checkpoint) => {
            engine.load_state(&checkpoint.engine)?;
            (checkpoint.state, checkpoint.good, false)
        }
        None => {
            engine.load_params(&init::uniform(&config.model, training.seed))?;
            (LoopState::new(streams.cursor()), None::<EngineState>, true)
        }
    };
    describe(&config, &data, engine.info(), &progress);
    if state.finished.is_some() && !over_again(&state, &config) {
        state.finished = None;
    }
    if !fresh {
        progress.say(&format!("resumed after step {}", state.step));
    }
    let mut trainer = Trainer::new(folder, config, engine, data, state, good, streams, progress)?;
    if fresh {
        count_ngrams(&mut trainer)?;
        // A checkpoint before the first step: a full disk shows now, and there is something to resume from.
        trainer.checkpoint()?;
    }
    Ok(Session { trainer, _lock: lock })
}

/// Whether a finished run is still over under its (perhaps extended) configuration.
fn over_again(state: &LoopState, config: &RunConfig) -> bool {
    let training = &config.training;
    match state.finished {
        Some(Finish::Patience) => {
            training.patience.is_some_and(|patience| state.evals_since_best >= patience)
        }
        _ => {
            training.steps.is_some_and(|steps| state.step >= steps)
                || training.epochs.is_some_and(|epochs| state.epochs >= epochs)
        }
    }
}

/// The default batch is lowered to the number of training tunes; a batch that was asked for is not.
fn choose_batch(config: &mut RunConfig, tunes: usize, progress: &Progress) -> Result<(), TrainError> {
    const DEFAULT: usize = 64;
    match config.training.batch {
        Some(batch) if batch > tunes => Err(TrainError::Usage(format!(
            "--batch {batch}: there are only {tunes} training tunes, and each stream needs one; use --batch {tunes} or less, or more tunes"
        ))),
        Some(_) => Ok(()),
        None => {
            config.training.batch = Some(DEFAULT.min(tunes));
            if tunes < DEFAULT {
                progress.say(&format!(
                    "note: --batch {tunes} instead of {DEFAULT}, as there are {tunes} training tunes"
                ));
            }
            Ok(())
        }
    }
}

/// Refuses a checkpoint that does not belong to this configuration and data, with every difference.
fn refuse_other(
    folder: &Path,
    checkpoint: &Checkpoint,
    config: &RunConfig,
    vocab: &Vocab,
) -> Result<(), TrainError> {
    let mut differences = Vec::new();
    if checkpoint.shape != config.model {
        differences
            .push(format!("shape: last.safetensors has {}, config.toml {}", checkpoint.shape, config.model));
    }
    if checkpoint.vocab != *vocab {
        let lacks = |a: &Vocab, b: &Vocab| -> String {
            let missing: Vec<String> =
                a.tokens().iter().filter(|t| !b.tokens().contains(t)).map(|t| format!("{t:?}")).collect();
            if missing.is_empty() { "none".into() } else { missing.join(" ") }
        };
        differences.push(format!(
            "vocabulary: last.safetensors has {} tokens, the corpus {}; only in the run: {}; only in the corpus: {}",
            checkpoint.vocab.len(),
            vocab.len(),
            lacks(&checkpoint.vocab, vocab),
            lacks(vocab, &checkpoint.vocab),
        ));
    }
    if checkpoint.state.cursor.streams.len() != config.training.batch.unwrap_or(0) {
        differences.push(format!(
            "batch: last.safetensors has {} streams, config.toml {}",
            checkpoint.state.cursor.streams.len(),
            config.training.batch.unwrap_or(0)
        ));
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(TrainError::Run {
        path: folder.into(),
        problem: format!("the parts of this run do not fit each other:\n  {}", differences.join("\n  ")),
    })
}

fn describe(config: &RunConfig, data: &TrainData, engine: EngineInfo, progress: &Progress) {
    let of = |part: &Option<super::evaluate::Part>| part.as_ref().map_or(0, |part| part.tunes.len());
    progress.say(&format!(
        "data: {} training tunes ({} characters), {} for validation, {} for testing",
        data.train.tunes.len(),
        short(data.train.predictions() as f64),
        of(&data.val),
        of(&data.test),
    ));
    progress.say(&format!(
        "model: {} ({} parameters); engine: {} ({}), {}; batch {}, sequence {}",
        config.model,
        short(config.model.params() as f64),
        engine.name,
        engine.detail,
        engine.precision,
        config.training.batch.unwrap_or(0),
        config.training.seq_len,
    ));
    if let Some(note) = engine.note {
        progress.say(&format!("note: {note}"));
    }
    if data.val.is_none() {
        progress.say(
            "note: no validation tunes; best.safetensors will be the weights of the lowest training loss",
        );
    }
    for (name, part) in [("validation", &data.val), ("test", &data.test)] {
        let Some(part) = part else { continue };
        let (count, characters) = part.unknown(&data.vocab);
        if count > 0 {
            let list: String = characters.iter().take(20).collect();
            progress.say(&format!(
                "note: {count} {name} characters are not in the training tunes and are read as <unk>: {list:?}"
            ));
        }
    }
}

/// What counting alone achieves on the validation tunes.
fn count_ngrams(trainer: &mut Trainer) -> Result<(), TrainError> {
    let Some(val) = &trainer.data.val else { return Ok(()) };
    let mut counts = Counts::new(trainer.data.vocab.len());
    for tokens in trainer.data.train.tokens() {
        if !counts.add(&tokens) || super::interrupt::requested() {
            break;
        }
    }
    let loss = counts.evaluate(val.tokens().map(std::borrow::Cow::Owned));
    let best = loss.best().map_or(0, |(order, _)| order);
    let list: Vec<String> = (1..)
        .zip(&loss.nats_per_char)
        .map(|(order, nats)| format!("{order}: {nats:.4}{}", if order == best { "*" } else { "" }))
        .collect();
    let mut line = format!("n-grams (no network) on validation, nats by order: {}", list.join("  "));
    if loss.partial {
        line += &format!("; counted on the first {} training characters", short(loss.counted as f64));
    }
    if loss.evaluated_partial {
        line += &format!("; over the first {} validation characters", short(loss.evaluated as f64));
    }
    trainer.progress.say(&line);
    trainer.metrics.write(&serde_json::json!({
        "event": "ngram",
        "nats_per_char": loss.nats_per_char,
        "best_order": best,
        "counted": loss.counted,
        "partial": loss.partial,
        "evaluated": loss.evaluated,
    }))?;
    trainer.state.ngram = Some(loss);
    Ok(())
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> TrainError {
    TrainError::Io { action, path: path.into(), source }
}
