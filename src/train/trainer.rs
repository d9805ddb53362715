//! The loop: chunks to the engine, statistics back one chunk later, evaluations, good states, checkpoints.
//!
//! Every decision that touches the mathematics depends on the step's number and on statistics alone. Time and signals
//! decide only when a checkpoint is written, and a checkpoint changes nothing: so a resumed run is the undisturbed one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use super::TrainError;
use super::checkpoint::Checkpoint;
use super::data::TrainData;
use super::evaluate::{bits, evaluate};
use super::metrics::Metrics;
use super::progress::Progress;
use super::state::{Best, Exact, Finish, LoopState, Unread, Window};
use super::watch::Verdict;
use crate::config::RunConfig;
use crate::corpus::TrainStreams;
use crate::engine::{Chunk, Engine, EngineState, Hyper, Ticket};
use crate::model::file::{BEST, ModelFile};
use crate::optim::LearningRate;
use crate::sample::{self, SampleOptions, TuneText};

/// Steps between lines of metrics.
const LOG_EVERY: u64 = 25;

/// Steps between good states (besides those at evaluations).
const KEEP_EVERY: u64 = 500;

/// The first checkpoint of a session is written after at most so many seconds.
const FIRST_SAVE: f64 = 30.0;

/// A sampled tune is shown at most this often.
const SHOW_EVERY: Duration = Duration::from_secs(5);

/// Characters of a tune sampled on the way or at the end.
const SAMPLE_CHARS: usize = 1000;

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The run is over.
    Finished(Finish),
    /// It was asked to stop, and has saved.
    Interrupted,
}

/// A chunk given to the engine whose statistics have not been acted upon.
#[derive(Debug, Clone)]
enum InFlight {
    /// Not read yet: ticket, step, limit.
    Ticket(Ticket, u64, f32),
    /// Read for a checkpoint.
    Read(Unread),
}

/// A run in progress.
pub struct Trainer {
    /// The run folder.
    pub folder: PathBuf,
    /// Its configuration, with batch and vocabulary known.
    pub config: RunConfig,
    /// The engine.
    pub engine: Box<dyn Engine>,
    /// The text.
    pub data: TrainData,
    /// Counters and averages.
    pub state: LoopState,
    /// What people see.
    pub progress: Progress,
    /// `metrics.jsonl`.
    pub metrics: Metrics,
    streams: TrainStreams,
    rate: LearningRate,
    good: EngineState,
    in_flight: Option<InFlight>,
    per_epoch: u64,
    began: Instant,
    seconds_before: f64,
    next_save: f64,
    /// When a sampled tune was shown last.
    shown: Option<Instant>,
}

impl Trainer {
    /// A trainer that continues from `state`; `engine` holds its weights, `good` is what a rollback goes back to
    /// (none: the engine's present state).
    pub fn new(
        folder: PathBuf,
        config: RunConfig,
        engine: Box<dyn Engine>,
        data: TrainData,
        state: LoopState,
        good: Option<EngineState>,
        mut streams: TrainStreams,
        progress: Progress,
    ) -> Result<Trainer, TrainError> {
        streams.seek(&state.cursor)?;
        let metrics = Metrics::open(&folder, state.metrics_bytes)?;
        let per_epoch = streams.predictions_per_epoch().max(1);
        let rate = config.training.learning_rate(per_epoch);
        let good = match good {
            Some(good) => good,
            None => without_hidden(engine.save_state()?),
        };
        let in_flight = state.unread.clone().map(InFlight::Read);
        let seconds_before = state.seconds;
        let next_save = config.training.save_every.min(FIRST_SAVE);
        Ok(Trainer {
            folder,
            config,
            engine,
            data,
            state,
            progress,
            metrics,
            streams,
            rate,
            good,
            in_flight,
            per_epoch,
            began: Instant::now(),
            seconds_before,
            next_save,
            shown: None,
        })
    }

    /// Trains until the run is over or `stop` says so; saved in both cases.
    pub fn run(&mut self, stop: &mut dyn FnMut() -> bool) -> Result<Ended, TrainError> {
        let batch = self.config.training.batch.unwrap_or(1);
        let mut chunk = Chunk::new(self.config.training.seq_len, batch);
        self.progress.begin(self.state.step, self.rate.total_steps);
        loop {
            if self.state.eval_due && !self.evaluate(stop)? {
                self.checkpoint()?;
                return Ok(Ended::Interrupted);
            }
            if let Some(finish) = self.over() {
                self.drain()?;
                self.state.finished = Some(finish);
                self.checkpoint()?;
                return Ok(Ended::Finished(finish));
            }
            if stop() {
                self.checkpoint()?;
                return Ok(Ended::Interrupted);
            }
            self.step(&mut chunk)?;
            let ends_epoch =
                self.state.cursor.predicted >= (self.state.epochs + 1).saturating_mul(self.per_epoch);
            if ends_epoch {
                self.state.epochs = self.state.cursor.predicted / self.per_epoch;
            }
            let every = self.config.training.eval_every;
            let due = every.map_or(ends_epoch, |every| self.state.step.is_multiple_of(every));
            if due || self.complete() {
                self.drain()?;
                self.state.eval_due = true;
            } else if self.state.step.is_multiple_of(KEEP_EVERY) {
                self.drain()?;
                self.keep()?;
            }
            if self.began.elapsed().as_secs_f64() >= self.next_save {
                self.checkpoint()?;
            }
        }
    }

    /// One chunk: give it, then read the one before.
    fn step(&mut self, chunk: &mut Chunk) -> Result<(), TrainError> {
        self.streams.fill(chunk);
        self.state.cursor = self.streams.cursor();
        let skip_above = self.state.watch.skip_above();
        let training = &self.config.training;
        let hyper = Hyper {
            optimizer: training.optimizer,
            lr: (self.rate.at(self.state.step) * self.state.lr_factor.0) as f32,
            clip: training.clip as f32,
            weight_decay: training.weight_decay as f32,
            dropout: training.dropout as f32,
            seed: training.seed,
            time: self.state.step.wrapping_mul(training.seq_len as u64),
            skip_above,
        };
        let ticket = self.engine.train_chunk(chunk, &hyper)?;
        self.state.step += 1;
        let before = self.in_flight.replace(InFlight::Ticket(ticket, self.state.step, skip_above));
        if let Some(before) = before {
            self.absorb(before)?;
        }
        Ok(())
    }

    /// Whether all epochs or steps are done.
    fn complete(&self) -> bool {
        let training = &self.config.training;
        training.steps.is_some_and(|steps| self.state.step >= steps)
            || training.epochs.is_some_and(|epochs| self.state.epochs >= epochs)
    }

    /// Why the run is over, where it is.
    fn over(&self) -> Option<Finish> {
        if self.complete() {
            return Some(Finish::Complete);
        }
        let patience = self.config.training.patience?;
        (self.state.evals_since_best >= patience).then_some(Finish::Patience)
    }

    fn read(&mut self, chunk: InFlight) -> Result<Unread, TrainError> {
        match chunk {
            InFlight::Read(stats) => Ok(stats),
            InFlight::Ticket(ticket, step, limit) => Ok(Unread::new(step, &self.engine.sync(ticket)?, limit)),
        }
    }

    /// Reads and acts upon the chunk in flight.
    fn drain(&mut self) -> Result<(), TrainError> {
        match self.in_flight.take() {
            Some(chunk) => self.absorb(chunk),
            None => Ok(()),
        }
    }

    /// Takes in a chunk's statistics.
    fn absorb(&mut self, chunk: InFlight) -> Result<(), TrainError> {
        let stats = self.read(chunk)?;
        self.state.window.add(&stats);
        self.state.since_eval.add(&stats);
        let verdict = self.state.watch.see(&stats);
        if verdict != Verdict::Fine {
            self.log_skip(&stats)?;
        }
        match verdict {
            Verdict::Fine | Verdict::Skipped => {}
            Verdict::RollBack => self.roll_back()?,
            Verdict::Hopeless => {
                return Err(TrainError::Diverged {
                    rollbacks: self.state.watch.rollbacks - 1,
                    lr: self.rate.at(stats.step) * self.state.lr_factor.0,
                    step: stats.step,
                    folder: self.folder.clone(),
                });
            }
        }
        let epoch = self.epoch_of(stats.step);
        if stats.step.is_multiple_of(LOG_EVERY) {
            let window = std::mem::take(&mut self.state.window);
            self.metrics.write(&json!({
                "event": "train",
                "step": stats.step,
                "epoch": epoch,
                "nats_per_char": window.mean_loss(),
                "lr": self.lr_of(stats.step),
                "grad_norm": window.mean_norm(),
                "skipped": window.skipped,
                "loss_scale": stats.loss_scale.0,
                "seconds": self.seconds(),
                "chars_per_second": self.progress.rate(),
            }))?;
        }
        self.progress.step(stats.step, epoch, self.state.watch.average(), stats.predicted);
        Ok(())
    }

    fn log_skip(&mut self, stats: &Unread) -> Result<(), TrainError> {
        let limit = Some(stats.skip_above.0).filter(|limit| limit.is_finite());
        let loss = Some(stats.mean_loss()).filter(|loss| loss.is_finite());
        self.metrics.write(&json!({
            "event": "skip",
            "step": stats.step,
            "nats_per_char": loss,
            "limit": limit,
            "grad_norm": Some(stats.grad_norm.0).filter(|norm| norm.is_finite()),
            "loss_scale": stats.loss_scale.0,
        }))?;
        let why = match (loss, limit) {
            (None, _) => "its loss is not a number".to_string(),
            (Some(loss), Some(limit)) if loss > limit => {
                format!("its loss {loss:.3} is above {limit:.3}")
            }
            _ if stats.loss_scale.0 != 1.0 => "its gradient overflowed; the loss scale is halved".to_string(),
            _ => "its gradient is not a number".to_string(),
        };
        self.progress.say(&format!("step {}: no update, {why}", stats.step));
        Ok(())
    }

    /// Back to the last good weights and moments, with half the learning rate. The data goes on from where it is,
    /// past whatever did the harm.
    fn roll_back(&mut self) -> Result<(), TrainError> {
        // The chunk in flight ran on the weights that are thrown away.
        if let Some(InFlight::Ticket(ticket, ..)) = self.in_flight.take() {
            self.engine.sync(ticket)?;
        }
        let mut state = self.engine.save_state()?;
        state.params.clone_from(&self.good.params);
        state.moments.clone_from(&self.good.moments);
        state.updates = self.good.updates;
        // A loss scale that has come down because of overflows stays down.
        state.loss_scale = state.loss_scale.min(self.good.loss_scale);
        state.good_steps = 0;
        state.h.fill(0.0);
        state.c.fill(0.0);
        self.engine.load_state(&state)?;
        self.state.lr_factor.0 *= 0.5;
        let lr = self.lr_of(self.state.step + 1);
        self.metrics.write(&json!({
            "event": "rollback", "step": self.state.step, "to_step": self.state.good_step, "lr": lr,
        }))?;
        self.progress.say(&format!(
            "step {}: several steps in a row went wrong; back to the weights of step {}, learning rate halved to {lr:.2e}",
            self.state.step, self.state.good_step
        ));
        Ok(())
    }

    /// Remembers the present weights as good, where they are.
    fn keep(&mut self) -> Result<(), TrainError> {
        if self.state.watch.calm() {
            let state = without_hidden(self.engine.save_state()?);
            if state.params.iter().all(|value| value.is_finite()) {
                self.good = state;
                self.state.good_step = self.state.step;
                self.state.watch.kept();
            }
        }
        Ok(())
    }

    /// Validation (or, without validation tunes, the training loss since the last time), a sampled tune, a good state,
    /// a checkpoint. False where it was interrupted: it is then still due.
    fn evaluate(&mut self, stop: &mut dyn FnMut() -> bool) -> Result<bool, TrainError> {
        let train = self.state.since_eval.mean_loss();
        let (loss, validation) = match &self.data.val {
            Some(part) => match evaluate(self.engine.as_mut(), part, stop)? {
                Some(reported) => (Some(reported.nats_per_char), true),
                None => return Ok(false),
            },
            None => (train, false),
        };
        let loss = loss.filter(|loss| loss.is_finite());
        let step = self.state.step;
        let better = loss.is_some_and(|loss| self.state.best.as_ref().is_none_or(|best| loss < best.loss.0));
        if better && let Some(loss) = loss {
            self.save_best(loss, validation)?;
            self.state.best = Some(Best { loss: Exact(loss), step, epoch: self.state.epochs });
            self.state.evals_since_best = 0;
        } else {
            self.state.evals_since_best += 1;
        }
        self.metrics.write(&json!({
            "event": "validation",
            "step": step,
            "epoch": self.epoch_of(step),
            "train_nats_per_char": train,
            "nats_per_char": loss.filter(|_| validation),
            "bits_per_char": loss.filter(|_| validation).map(bits),
            "best": better,
            "lr": self.lr_of(step),
            "seconds": self.seconds(),
            "chars_per_second": self.progress.rate(),
        }))?;
        self.say_evaluation(train, loss.filter(|_| validation), better);
        self.sample_one()?;
        self.state.evals += 1;
        self.state.eval_due = false;
        self.state.since_eval = Window::default();
        self.keep()?;
        self.checkpoint()?;
        Ok(true)
    }

    fn say_evaluation(&self, train: Option<f64>, validation: Option<f64>, better: bool) {
        let number = |loss: Option<f64>| loss.map_or("-".to_string(), |loss| format!("{loss:.4}"));
        let mut line = format!(
            "epoch {:.2}, step {}: training {}",
            self.epoch_of(self.state.step),
            self.state.step,
            number(train)
        );
        if self.data.val.is_some() {
            line += &format!(", validation {} nats", number(validation));
            if let Some(loss) = validation {
                line += &format!(" ({:.4} bits)", bits(loss));
            }
            if let Some((order, ngram)) = self.state.ngram.as_ref().and_then(|ngram| ngram.best()) {
                line += &format!(", {order}-gram {ngram:.4}");
            }
        }
        line += if better { ", best" } else { "" };
        self.progress.say(&line);
    }

    /// Plain tunes from `<start>`, the first of them number `first_index` of the run's seed.
    pub fn sample(&mut self, first_index: u64, tunes: usize) -> Result<Vec<TuneText>, TrainError> {
        let seed = self.config.training.seed;
        let options =
            SampleOptions { tunes, first_index, seed, max_chars: SAMPLE_CHARS, ..SampleOptions::default() };
        Ok(sample::tunes(self.engine.as_mut(), &self.data.vocab, &options)?)
    }

    /// Samples a tune, writes it to `samples/` and shows its beginning.
    fn sample_one(&mut self) -> Result<(), TrainError> {
        let text = self.sample(self.state.evals, 1)?.pop().map(|tune| tune.text).unwrap_or_default();
        let path = self.folder.join("samples").join(format!("step-{:08}.txt", self.state.step));
        crate::files::write_atomic(&path, format!("{text}\n").as_bytes())?;
        // Written each time, shown now and then: what is shown changes nothing.
        let shown = self.shown.replace(Instant::now());
        if shown.is_some_and(|at| at.elapsed() < SHOW_EVERY) {
            self.shown = shown;
            return Ok(());
        }
        let mut lines = text.lines();
        for line in lines.by_ref().take(6) {
            let shown: String = line.chars().take(96).collect();
            self.progress.say(&format!("    {shown}"));
        }
        if lines.next().is_some() {
            self.progress.say(&format!("    ... ({})", path.display()));
        }
        Ok(())
    }

    fn save_best(&self, loss: f64, validation: bool) -> Result<(), TrainError> {
        let mut config = self.config.to_json();
        let of = if validation { "validation" } else { "training" };
        config["best"] = json!({ "nats_per_char": loss, "of": of, "step": self.state.step });
        let model = ModelFile {
            shape: self.config.model,
            vocab: self.data.vocab.clone(),
            config,
            params: self.engine.export_params()?,
        };
        Ok(model.save(&self.folder.join(BEST))?)
    }

    /// Writes `last.safetensors`; changes nothing about the run.
    pub fn checkpoint(&mut self) -> Result<(), TrainError> {
        let save_every = self.config.training.save_every;
        self.next_save = self.began.elapsed().as_secs_f64() + save_every;
        self.state.unread = match self.in_flight.take() {
            Some(chunk) => Some(self.read(chunk)?),
            None => None,
        };
        self.in_flight = self.state.unread.clone().map(InFlight::Read);
        let engine = self.engine.save_state()?;
        if engine.params.iter().any(|value| !value.is_finite()) {
            // The next steps will be skipped and rolled back; until then the last checkpoint is the better one.
            self.progress.say("no checkpoint now: some weights are not finite; the last one is kept");
            return Ok(());
        }
        self.state.metrics_bytes = self.metrics.sync()?;
        self.state.seconds = self.seconds();
        let same = self.state.good_step == self.state.step && self.state.unread.is_none();
        let good = (!same).then(|| self.good.clone());
        let checkpoint = Checkpoint {
            vocab: self.data.vocab.clone(),
            engine,
            good,
            state: self.state.clone(),
            config: self.config.to_json(),
            shape: self.config.model,
        };
        Ok(checkpoint.save(&self.folder)?)
    }

    fn lr_of(&self, step: u64) -> f64 {
        self.rate.at(step.saturating_sub(1)) * self.state.lr_factor.0
    }

    fn epoch_of(&self, step: u64) -> f64 {
        // Every chunk predicts T*B characters.
        step as f64 / self.rate.steps_per_epoch.max(1e-9)
    }

    /// Seconds of training, all sessions.
    pub fn seconds(&self) -> f64 {
        self.seconds_before + self.began.elapsed().as_secs_f64()
    }
}

/// The part of an engine's state that a rollback brings back.
fn without_hidden(state: EngineState) -> EngineState {
    EngineState { h: Vec::new(), c: Vec::new(), ..state }
}
