//! The parameters, their gradients and moments in the order of the plan, and their way from and to the arena.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::buffer::Buffer;
use super::super::math::stored_scalar;
use super::plan::Plan;
use crate::engine::{EngineError, Precision};

/// See the module's documentation.
#[derive(Debug)]
pub struct Store {
    /// Master weights.
    pub params: Buffer,
    /// Weights as stored in a short precision; empty for f32, whose masters serve.
    pub short: Buffer,
    /// Gradients; empty until a chunk is trained on. Rows of characters that did not occur hold what they held.
    pub grads: Buffer,
    /// Moments; empty until the first update.
    pub moments: [Buffer; 2],
    /// A row of zeros, the gradient of a character that did not occur.
    pub zeros: Buffer,
    /// Which characters occurred in the chunk [V].
    pub seen: Vec<bool>,
    /// Whether position r of the chunk is its character's first [R].
    pub first: Vec<bool>,
    /// Partial sums of the gradient's squares, bits of f64.
    squares: Vec<AtomicU64>,
}

impl Store {
    /// Room for the parameters of a model.
    pub fn new(plan: &Plan, precision: Precision) -> Result<Store, EngineError> {
        let short = if precision == Precision::F32 { 0 } else { plan.len };
        let empty = || Buffer::zeros(0, "");
        Ok(Store {
            params: Buffer::zeros(plan.len, "packed weights")?,
            short: Buffer::zeros(short, "packed weights")?,
            grads: empty()?,
            moments: [empty()?, empty()?],
            zeros: Buffer::zeros(plan.columns, "packed weights")?,
            seen: vec![false; plan.shape.vocab],
            first: Vec::new(),
            squares: (0..plan.squares).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// What the products read.
    pub fn weights(&self) -> *const f32 {
        if self.short.len() > 0 { self.short.ptr() } else { self.params.ptr() }
    }

    /// Room for gradients and moments.
    pub fn prepare(&mut self, plan: &Plan) -> Result<(), EngineError> {
        if self.grads.len() == 0 {
            self.grads = Buffer::zeros(plan.len, "weight gradients")?;
            for moment in self.moments.iter_mut().filter(|moment| moment.len() == 0) {
                *moment = Buffer::zeros(plan.len, "optimiser moments")?;
            }
        }
        Ok(())
    }

    /// Notes which characters a chunk has.
    pub fn look(&mut self, ids: &[u16]) {
        self.seen.fill(false);
        self.first.clear();
        for &id in ids {
            let seen = &mut self.seen[usize::from(id)];
            self.first.push(!*seen);
            *seen = true;
        }
    }

    /// Keeps a partial sum of the gradient's squares.
    pub fn set_square(&self, slot: usize, sum: f64) {
        self.squares[slot].store(sum.to_bits(), Ordering::Relaxed);
    }

    /// The gradient's norm: partial sums in their order.
    pub fn norm(&self) -> f64 {
        self.squares.iter().map(|s| f64::from_bits(s.load(Ordering::Relaxed))).sum::<f64>().sqrt()
    }

    /// Takes parameters and moments (empty: zero) from the arena.
    pub fn import(
        &mut self,
        plan: &Plan,
        precision: Precision,
        params: &[f32],
        moments: &[Vec<f32>; 2],
    ) -> Result<(), EngineError> {
        let copy = |to: &mut Buffer, from: &[f32]| {
            let to = to.as_mut_slice();
            plan.each(|here, there| to[here] = from[there]);
        };
        copy(&mut self.params, params);
        for (to, from) in self.moments.iter_mut().zip(moments) {
            if !from.is_empty() {
                if to.len() == 0 {
                    *to = Buffer::zeros(plan.len, "optimiser moments")?;
                }
                copy(to, from);
            } else if to.len() > 0 {
                to.as_mut_slice().fill(0.0);
            }
        }
        if self.short.len() > 0 {
            let short = self.short.as_mut_slice();
            for (short, master) in short.iter_mut().zip(self.params.as_slice()) {
                *short = stored_scalar(precision, *master);
            }
        }
        Ok(())
    }

    /// A buffer in arena order.
    pub fn export(&self, plan: &Plan, buffer: &Buffer, to: &mut [f32]) {
        let from = buffer.as_slice();
        plan.each(|here, there| to[there] = from[here]);
    }

    /// The gradients in arena order: those of characters that did not occur are zero.
    pub fn export_grads(&self, plan: &Plan, to: &mut [f32]) {
        self.export(plan, &self.grads, to);
        let (input, vocab) = (plan.shape.layer_ranges(0).weight_ih, plan.shape.vocab);
        for row in to[input].chunks_exact_mut(vocab) {
            for (value, seen) in row.iter_mut().zip(&self.seen) {
                if !seen {
                    *value = 0.0;
                }
            }
        }
    }
}
