//! Where the time of training steps goes: each slice times its own passes, the engine what its threads do together.

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use super::forward::Part;
use super::space::Slice;
use crate::engine::Phase;

/// A pass of one slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Products and cells of all layers, forward.
    Forward,
    /// Logits, softmax, loss and their gradient.
    Head,
    /// Products and cells backward, and their gradients' tiles.
    Backward,
}

/// What the threads do one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The slices' passes.
    Slices,
    /// Weights' gradients.
    Gradients,
    /// Gradients into the order of the parameters, their norm, carrying the state.
    Collect,
    /// Clipping and the optimiser.
    Update,
    /// Packing weights for the next step.
    Pack,
}

/// The time of one slice's passes, told by the first of its threads.
#[derive(Debug, Default)]
pub struct Clock(Mutex<Times>);

#[derive(Debug, Default)]
struct Times {
    last: Option<Instant>,
    seconds: [f64; 3],
}

impl Clock {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// From now on.
    pub fn start(&self, part: &Part) {
        if part.rank == 0 {
            self.times().last = Some(Instant::now());
        }
    }

    /// What has passed since the last call was `pass`, on all of the slice's threads.
    pub fn lap(&self, pass: Pass, part: &Part) {
        if part.rank > 0 {
            return;
        }
        let (now, mut times) = (Instant::now(), self.times());
        if let Some(last) = times.last.replace(now) {
            times.seconds[pass as usize] += (now - last).as_secs_f64() * part.of as f64;
        }
    }
}

/// The time of the steps since it was last read.
#[derive(Debug, Default)]
pub struct Profile {
    stages: [f64; 5],
}

impl Profile {
    /// Runs a stage and adds its time.
    pub fn time<R>(&mut self, stage: Stage, work: impl FnOnce() -> R) -> R {
        let begun = Instant::now();
        let result = work();
        self.stages[stage as usize] += begun.elapsed().as_secs_f64();
        result
    }

    /// Phases since the last reading, in seconds of the wall: the slices' passes are averages over `threads` threads, and
    /// what is missing to their stage's time is waiting: for the slowest slice, for threads to begin.
    pub fn take(&mut self, slices: &mut [Slice], threads: usize) -> Vec<Phase> {
        let mut passes = [0.0; 3];
        for slice in slices {
            for (sum, seconds) in passes.iter_mut().zip(std::mem::take(&mut slice.clock.times().seconds)) {
                *sum += seconds / threads as f64;
            }
        }
        let [slices, gradients, collect, update, pack] = std::mem::take(&mut self.stages);
        let waiting = (slices - passes.iter().sum::<f64>()).max(0.0);
        let [forward, head, backward] = passes;
        // Where slices sum their own along the way, nothing is done afterwards.
        let along = gradients == 0.0;
        let backward_name = if along { "layers backward, weights' gradients" } else { "layers backward" };
        let phases = [
            ("layers forward", forward),
            ("head and loss", head),
            (backward_name, backward),
            ("waiting for the last slice", waiting),
            ("weights' gradients", gradients),
            ("norm, carried state", collect),
            ("update", update),
            ("packing weights", pack),
        ];
        if phases.iter().all(|(_, seconds)| *seconds == 0.0) {
            return Vec::new(); // The path for few streams keeps no time.
        }
        let all = phases.into_iter().filter(|(name, _)| !along || *name != "weights' gradients");
        all.map(|(name, seconds)| Phase { name, seconds }).collect()
    }
}
