//! A trial under the assignment's protocol: raw characters, one random 30-character slice of every song an epoch, one
//! Adam update a song, state zeroed; validation on one random slice of every validation song; the best epoch counts.
//!
//! It runs on the processor, on one thread: at one slice an update there is nothing to share out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::StudyError;
use super::folder::io_error;
use super::losses::{self, Sum};
use super::results::{CurvePoint, PartLoss, Trial};
use super::schedule::Context;
use super::songs::{Draw, SLICE, Songs, slice};
use super::trial::{self, Job};
use crate::engine::{Chunk, Engine, EngineSpec, EngineState, Hyper};
use crate::model::file::{ModelFile, ModelFileError, ModelProblem};
use crate::model::tensors::{TensorFile, TensorRef};
use crate::model::{ModelShape, init};
use crate::optim::Optimizer;
use crate::rng;
use crate::train::progress::{Observer, Seen};
use crate::train::state::{Counters, Exact};

/// Learning rate of Adam.
pub const LR: f32 = 1e-3;

/// File name of the checkpoint. Not a model file's: its vocabulary spells `<start>` and `<end>` out, so `sample` would
/// begin with tokens that it was never shown.
pub const CHECKPOINT: &str = "checkpoint.safetensors";

/// Metadata key of the loop's state in the checkpoint.
const STATE: &str = "assignment";

/// Seconds between checkpoints. What is saved when changes no result.
const SAVE_EVERY: Duration = Duration::from_secs(20);

/// The most slices evaluated at once.
const STREAMS: usize = 256;

/// Where the loop stands.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct State {
    /// Epochs completed.
    epoch: u64,
    /// Songs of the running epoch that are done.
    next: usize,
    /// Their loss, nats, and their predicted characters.
    loss_sum: Exact,
    predicted: u64,
    /// Of each completed epoch: training loss, validation loss.
    curve: Vec<(Exact, Option<Exact>)>,
    /// The best epoch (from 1) and its loss.
    best: Option<(u64, Exact)>,
    /// Seconds of training, all sessions.
    seconds: f64,
    /// The engine's.
    counters: Counters,
    /// What is trained: a checkpoint of anything else is refused.
    seed: u64,
    dropout: Exact,
}

/// A trial in progress.
struct Loop<'a> {
    folder: PathBuf,
    job: &'a Job,
    songs: &'a Songs,
    shape: ModelShape,
    engine: Box<dyn Engine>,
    state: State,
    /// Weights of the best epoch.
    best: Vec<f32>,
    began: Instant,
    saved: Instant,
}

/// Trains, or goes on training, and evaluates. None where the study was asked to stop: what is done is saved.
pub fn run(
    context: &Context<'_>,
    songs: &Songs,
    job: &Job,
    observer: Arc<Observer>,
) -> Result<Option<Trial>, StudyError> {
    let folder = context.folder.out.join(job.folder());
    fs::create_dir_all(&folder).map_err(|source| io_error("make the folder", &folder, source))?;
    let epochs = context.grid.assignment_epochs;
    let variant = &job.variant;
    let shape = ModelShape {
        cell: variant.cell,
        vocab: songs.vocab.len(),
        hidden: variant.hidden,
        layers: variant.layers,
    };
    let engine = (context.build)(&EngineSpec::cpu(shape, context.grid.precision, 1))?;
    let mut this = Loop::begin(folder, job, songs, shape, engine)?;
    let before = this.state.seconds;
    let all = this.songs.train.len() as u64;
    let total = epochs * all;
    let mut order = rng::permutation(job.seed, this.state.epoch, this.songs.train.len());
    while this.state.epoch < epochs {
        while let Some(&song) = order.get(this.state.next) {
            if (context.stop)() {
                this.save(before)?;
                return Ok(None);
            }
            this.step(song as usize)?;
            observer(Seen { step: this.state.epoch * all + this.state.next as u64, total });
            if this.saved.elapsed() >= SAVE_EVERY {
                this.save(before)?;
            }
        }
        this.end_epoch()?;
        order = rng::permutation(job.seed, this.state.epoch, this.songs.train.len());
    }
    this.save(before)?;
    let seconds = this.state.seconds;
    let Some(whole) = this.whole_songs(context.stop)? else { return Ok(None) };
    let curve = (1..).zip(&this.state.curve).map(|(epoch, (train, validation))| CurvePoint {
        epoch: f64::from(epoch),
        train: Some(train.0),
        validation: validation.map(|loss| loss.0),
    });
    let best = this.state.best.map_or((0, None), |(epoch, loss)| (epoch, Some(loss.0)));
    let trial = Trial {
        protocol: job.protocol,
        variant: job.variant,
        seed: job.seed,
        parameters: shape.params() as u64,
        folder: job.folder(),
        epochs: this.state.epoch as f64,
        best_epoch: best.0 as f64,
        stopped_early: false,
        curve: curve.collect(),
        train: None,
        validation: whole,
        test: None,
        slices: best.1.filter(|_| !songs.val.is_empty()),
        classes: Vec::new(),
        chars_per_second: (total * SLICE as u64) as f64 / seconds.max(1e-9),
        seconds,
        threads: 1,
    };
    trial::store(&context.folder.out, job, &trial).map(Some)
}

impl<'a> Loop<'a> {
    /// From the folder's checkpoint, or from the seed's initial weights.
    fn begin(
        folder: PathBuf,
        job: &'a Job,
        songs: &'a Songs,
        shape: ModelShape,
        engine: Box<dyn Engine>,
    ) -> Result<Loop<'a>, StudyError> {
        let now = Instant::now();
        let state = State { seed: job.seed, dropout: Exact(job.variant.dropout), ..State::default() };
        let mut this =
            Loop { folder, job, songs, shape, engine, state, best: Vec::new(), began: now, saved: now };
        if !this.load()? {
            this.engine.load_params(&init::uniform(&shape, job.seed))?;
        }
        Ok(this)
    }

    /// One slice of a song, one update.
    fn step(&mut self, song: usize) -> Result<(), StudyError> {
        let (job, state) = (self.job, &mut self.state);
        let chunk = chunk_of(&[slice(&self.songs.train[song], job.seed, Draw::Train, state.epoch, song)]);
        let updates = state.epoch * self.songs.train.len() as u64 + state.next as u64;
        let hyper = Hyper {
            optimizer: Optimizer::ADAM,
            lr: LR,
            clip: 0.0,
            weight_decay: 0.0,
            dropout: job.variant.dropout as f32,
            seed: job.seed,
            time: updates.wrapping_mul(SLICE as u64),
            skip_above: f32::INFINITY,
        };
        let ticket = self.engine.train_chunk(&chunk, &hyper)?;
        let stats = self.engine.sync(ticket)?;
        state.loss_sum.0 += stats.loss_sum;
        state.predicted += stats.predicted;
        state.next += 1;
        Ok(())
    }

    /// Validation on this epoch's slices; the best weights are remembered.
    fn end_epoch(&mut self) -> Result<(), StudyError> {
        let epoch = self.state.epoch;
        let train = self.state.loss_sum.0 / self.state.predicted.max(1) as f64;
        let validation = self.slices(epoch)?;
        let loss = validation.unwrap_or(train);
        if !train.is_finite() || !loss.is_finite() {
            return Err(StudyError::Diverged { epoch: epoch + 1 });
        }
        if self.state.best.is_none_or(|(_, best)| loss < best.0) {
            self.state.best = Some((epoch + 1, Exact(loss)));
            self.best = self.engine.export_params()?;
        }
        self.state.curve.push((Exact(train), validation.map(Exact)));
        self.state.epoch += 1;
        self.state.next = 0;
        self.state.loss_sum = Exact(0.0);
        self.state.predicted = 0;
        Ok(())
    }

    /// Mean loss over one slice of every validation song; None without such songs.
    fn slices(&mut self, epoch: u64) -> Result<Option<f64>, StudyError> {
        let mut sum = Sum::default();
        let draw =
            |(index, song): (usize, &'a Vec<u16>)| slice(song, self.job.seed, Draw::Validation, epoch, index);
        let slices: Vec<&[u16]> = self.songs.val.iter().enumerate().map(draw).collect();
        for some in slices.chunks(STREAMS) {
            let ticket = self.engine.eval_chunk(&chunk_of(some))?;
            let stats = self.engine.sync(ticket)?;
            sum.nats += stats.loss_sum;
            sum.chars += stats.predicted;
        }
        Ok(sum.mean())
    }

    /// The best weights over whole validation songs: the outer None where `stop` said so, the inner without songs.
    #[allow(clippy::option_option)]
    fn whole_songs(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Option<PartLoss>>, StudyError> {
        let (songs, bodies) = (&self.songs.val, &self.songs.val_bodies);
        if songs.is_empty() {
            return Ok(Some(None));
        }
        self.engine.load_params(&self.best)?;
        let (mut whole, mut body) = (Sum::default(), Sum::default());
        let mut read = |song: usize, tokens: &mut Vec<u16>| tokens.extend_from_slice(&songs[song]);
        let mut see = |song: usize, at: usize, nats: f64| {
            whole.add(nats);
            if bodies[song].is_some_and(|start| at >= start) {
                body.add(nats);
            }
        };
        if !losses::each(self.engine.as_mut(), songs.len(), &mut read, &mut see, stop)? {
            return Ok(None);
        }
        Ok(Some(Some(PartLoss {
            nats: whole.mean().unwrap_or(0.0),
            body_nats: body.mean(),
            chars: whole.chars,
            tunes: songs.len() as u64,
        })))
    }

    /// Writes the checkpoint; `before` are the seconds of earlier sessions.
    fn save(&mut self, before: f64) -> Result<(), StudyError> {
        let engine = self.engine.save_state()?;
        self.state.counters = Counters::of(&engine);
        self.state.seconds = before + self.began.elapsed().as_secs_f64();
        let path = self.folder.join(CHECKPOINT);
        let text = serde_json::to_string(&self.state).map_err(|error| damaged(&path, &error.to_string()))?;
        let more = [
            tensor("optim.moment1", &engine.moments[0]),
            tensor("optim.moment2", &engine.moments[1]),
            tensor("best.params", &self.best),
        ];
        let model = ModelFile {
            shape: self.shape,
            vocab: self.songs.vocab.clone(),
            config: json!({ "model": self.shape, "protocol": "assignment", "seed": self.job.seed }),
            params: engine.params,
        };
        model.save_with(&path, &BTreeMap::from([(STATE.to_string(), text)]), &more)?;
        self.saved = Instant::now();
        Ok(())
    }

    /// Reads the checkpoint, where there is one.
    fn load(&mut self) -> Result<bool, StudyError> {
        let path = self.folder.join(CHECKPOINT);
        let (model, mut file) = match ModelFile::load_with(&path) {
            Ok(loaded) => loaded,
            Err(ModelFileError { problem: ModelProblem::NotFound, .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let text = file.metadata().get(STATE).ok_or_else(|| damaged(&path, "it has no `assignment`"))?;
        let state: State = serde_json::from_str(text).map_err(|error| damaged(&path, &error.to_string()))?;
        let same = (state.seed, state.dropout) == (self.state.seed, self.state.dropout)
            && model.shape == self.shape
            && model.vocab == self.songs.vocab;
        if !same {
            return Err(damaged(&path, "it is another trial's, or one of other songs"));
        }
        if state.next > self.songs.train.len() || state.curve.len() as u64 != state.epoch {
            return Err(damaged(&path, "its epochs do not fit the songs"));
        }
        let mut engine = EngineState {
            moments: [read(&mut file, &path, "optim.moment1")?, read(&mut file, &path, "optim.moment2")?],
            params: model.params,
            ..EngineState::default()
        };
        state.counters.into(&mut engine);
        let best = read(&mut file, &path, "best.params")?;
        if state.best.is_some() && best.len() != self.shape.params() {
            return Err(damaged(&path, "its best weights do not fit its shape"));
        }
        self.engine.load_state(&engine)?;
        self.best = best;
        self.state = state;
        Ok(true)
    }
}

fn damaged(path: &Path, problem: &str) -> StudyError {
    StudyError::Damaged {
        path: path.to_path_buf(),
        problem: format!("{problem}; remove the file, the trial is then trained anew"),
    }
}

/// A tensor of one dimension.
fn tensor<'a>(name: &str, data: &'a [f32]) -> TensorRef<'a> {
    TensorRef { name: name.into(), dims: vec![data.len()], data }
}

fn read(file: &mut TensorFile, path: &Path, name: &str) -> Result<Vec<f32>, StudyError> {
    let length = match file.dims(name) {
        Some(&[length]) => length,
        _ => return Err(damaged(path, &format!("it has no tensor `{name}` of one dimension"))),
    };
    file.read(name, &[length]).map_err(|error| damaged(path, &error.to_string()))
}

/// Slices side by side, each from a zero state: a slice of n characters gives n - 1 predictions.
pub fn chunk_of(slices: &[&[u16]]) -> Chunk {
    let steps = slices.iter().map(|slice| slice.len().saturating_sub(1)).max().unwrap_or(0);
    let mut chunk = Chunk::new(steps, slices.len());
    for (stream, slice) in slices.iter().enumerate() {
        for (step, pair) in slice.windows(2).enumerate() {
            let at = step * slices.len() + stream;
            (chunk.ids[at], chunk.targets[at]) = (pair[0], pair[1]);
            chunk.resets[at] = u8::from(step == 0);
        }
    }
    chunk
}
