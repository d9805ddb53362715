//! Everything a run carries from step to step besides the engine's own state: counters, averages, decisions. It
//! travels as JSON in the checkpoint's metadata; numbers that steer training are stored as their bits.

use serde::{Deserialize, Serialize};

use super::ngram::NgramLoss;
use super::watch::Watch;
use crate::corpus::Cursor;
use crate::engine::{EngineState, Stats};

/// A float64 that survives JSON bit for bit (a decimal parser may be one unit in the last place off).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Exact(pub f64);

impl Serialize for Exact {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.to_bits().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Exact, D::Error> {
        u64::deserialize(deserializer).map(|bits| Exact(f64::from_bits(bits)))
    }
}

/// The statistics of a chunk that have been read but not acted upon yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unread {
    /// The chunk's step, from 1.
    pub step: u64,
    /// Sum of its loss, nats.
    pub loss_sum: Exact,
    /// Characters it predicted.
    pub predicted: u64,
    /// Gradient norm.
    pub grad_norm: Exact,
    /// Whether the update was made.
    pub updated: bool,
    /// Loss scale in force.
    pub loss_scale: Exact,
    /// The limit above which its update was to be skipped.
    pub skip_above: Exact,
}

impl Unread {
    /// From an engine's statistics.
    pub fn new(step: u64, stats: &Stats, skip_above: f32) -> Unread {
        Unread {
            step,
            loss_sum: Exact(stats.loss_sum),
            predicted: stats.predicted,
            grad_norm: Exact(f64::from(stats.grad_norm)),
            updated: stats.updated,
            loss_scale: Exact(f64::from(stats.loss_scale)),
            skip_above: Exact(f64::from(skip_above)),
        }
    }

    /// Mean loss in nats a character.
    pub fn mean_loss(&self) -> f64 {
        if self.predicted == 0 { 0.0 } else { self.loss_sum.0 / self.predicted as f64 }
    }
}

/// Sums over some steps whose update was made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Window {
    /// Sum of loss, nats.
    pub loss_sum: Exact,
    /// Characters predicted.
    pub predicted: u64,
    /// Sum of gradient norms.
    pub grad_norm_sum: Exact,
    /// Steps.
    pub steps: u64,
    /// Steps whose update was skipped (not in the sums).
    pub skipped: u64,
}

impl Window {
    /// Takes in one chunk.
    pub fn add(&mut self, stats: &Unread) {
        if stats.updated {
            self.loss_sum.0 += stats.loss_sum.0;
            self.predicted += stats.predicted;
            self.grad_norm_sum.0 += stats.grad_norm.0;
            self.steps += 1;
        } else {
            self.skipped += 1;
        }
    }

    /// Mean loss in nats a character; none where no step was taken.
    pub fn mean_loss(&self) -> Option<f64> {
        (self.predicted > 0).then(|| self.loss_sum.0 / self.predicted as f64)
    }

    /// Mean gradient norm.
    pub fn mean_norm(&self) -> f64 {
        self.grad_norm_sum.0 / self.steps.max(1) as f64
    }
}

/// The best evaluation so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Its loss, nats a character.
    pub loss: Exact,
    /// Step it was taken after.
    pub step: u64,
    /// Epochs completed then.
    pub epoch: u64,
}

/// Why a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// All epochs or steps are done.
    Complete,
    /// No better loss for `--patience` validations.
    Patience,
}

/// An engine's counters: the part of [`EngineState`] that is not a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Updates applied.
    pub updates: u64,
    /// Bits of the loss scale.
    pub loss_scale_bits: u32,
    /// Good steps since the loss scale changed.
    pub good_steps: u32,
}

impl Counters {
    /// Those of `state`.
    pub fn of(state: &EngineState) -> Counters {
        Counters {
            updates: state.updates,
            loss_scale_bits: state.loss_scale.to_bits(),
            good_steps: state.good_steps,
        }
    }

    /// Puts them into `state`.
    pub fn into(self, state: &mut EngineState) {
        state.updates = self.updates;
        state.loss_scale = f32::from_bits(self.loss_scale_bits);
        state.good_steps = self.good_steps;
    }
}

/// The loop's state between two steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoopState {
    /// Chunks given to the engine.
    pub step: u64,
    /// Where the training streams are.
    pub cursor: Cursor,
    /// Epochs completed.
    pub epochs: u64,
    /// The learning rate is multiplied by this (halved at every rollback).
    pub lr_factor: Exact,
    /// Watches for explosions.
    pub watch: Watch,
    /// The last chunk's statistics, not acted upon yet: decisions lag one chunk behind, so that an engine that works
    /// beside us is never waited for, and a checkpoint must not change that.
    pub unread: Option<Unread>,
    /// Since the last line of metrics.
    pub window: Window,
    /// Since the last evaluation.
    pub since_eval: Window,
    /// An evaluation is due before the next chunk.
    pub eval_due: bool,
    /// Evaluations made.
    pub evals: u64,
    /// Evaluations since the best one.
    pub evals_since_best: u64,
    /// The best evaluation.
    pub best: Option<Best>,
    /// What counting alone achieves.
    pub ngram: Option<NgramLoss>,
    /// Step of the last good state (what a rollback goes back to).
    pub good_step: u64,
    /// Bytes of metrics.jsonl that belong to this state.
    pub metrics_bytes: u64,
    /// Why the run is over, where it is.
    pub finished: Option<Finish>,
    /// Seconds of training so far, all sessions.
    pub seconds: f64,
}

impl LoopState {
    /// Before the first step.
    pub fn new(cursor: Cursor) -> LoopState {
        LoopState {
            step: 0,
            cursor,
            epochs: 0,
            lr_factor: Exact(1.0),
            watch: Watch::default(),
            unread: None,
            window: Window::default(),
            since_eval: Window::default(),
            eval_due: false,
            evals: 0,
            evals_since_best: 0,
            best: None,
            ngram: None,
            good_step: 0,
            metrics_bytes: 0,
            finished: None,
            seconds: 0.0,
        }
    }
}
