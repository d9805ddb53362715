//! Chunks on their way to the device: pinned memory, two blocks in turn, and the hyper-parameters as the kernels read them.

use std::sync::Arc;

use super::driver::{Driver, DriverError, Event, Pinned};
use super::params::StepHyper;
use super::pieces::Pieces;
use super::workspace::Workspace;
use crate::engine::{Chunk, Hyper};
use crate::optim::Optimizer;
use crate::rng;

/// Pinned memory that chunks are uploaded from, two in turn.
#[derive(Default)]
pub struct Uploads {
    slots: [Option<(Pinned, Event)>; 2],
    turn: usize,
}

/// The hyper-parameters as the kernels read them.
pub fn step_hyper(hyper: Option<&Hyper>, predicted: usize) -> StepHyper {
    let Some(hyper) = hyper else { return StepHyper { predicted: predicted as u32, ..StepHyper::default() } };
    let (optimizer, [k0, k1, k2]) = match hyper.optimizer {
        Optimizer::Adam { beta1, beta2, eps } => (0, [beta1, beta2, eps]),
        Optimizer::AdamW { beta1, beta2, eps } => (1, [beta1, beta2, eps]),
        Optimizer::Sgd { momentum } => (2, [momentum, 0.0, 0.0]),
        Optimizer::RmsProp { alpha, eps, momentum } => (3, [alpha, eps, momentum]),
    };
    StepHyper {
        lr: hyper.lr,
        clip: hyper.clip,
        weight_decay: hyper.weight_decay,
        skip_above: hyper.skip_above,
        predicted: predicted as u32,
        optimizer,
        k0,
        k1,
        k2,
        dropout_threshold: rng::dropout_threshold(hyper.dropout),
        dropout_scale: 1.0 / (1.0 - hyper.dropout),
        seed_lo: hyper.seed as u32,
        seed_hi: (hyper.seed >> 32) as u32,
        time: hyper.time as u32,
    }
}

impl Uploads {
    /// Lays a chunk out and enqueues its upload into `space`.
    pub fn send(
        &mut self,
        driver: &Arc<dyn Driver>,
        space: &Workspace,
        chunk: &Chunk,
        hyper: &StepHyper,
        pieces: Option<&Pieces>,
    ) -> Result<(), DriverError> {
        let bytes = space.input.bytes();
        self.turn = 1 - self.turn;
        let slot = &mut self.slots[self.turn];
        // The copy from this memory two chunks ago has happened before it is written again.
        let mut pinned = match slot.take() {
            Some((pinned, event)) => {
                event.wait()?;
                if pinned.bytes().len() >= bytes { pinned } else { Pinned::new(driver, bytes)? }
            }
            None => Pinned::new(driver, bytes)?,
        };
        space.input.fill(pinned.bytes_mut(), chunk, hyper, pieces);
        pinned.enqueue_upload(space.block.at(), bytes)?;
        *slot = Some((pinned, Event::record(driver)?));
        Ok(())
    }
}
