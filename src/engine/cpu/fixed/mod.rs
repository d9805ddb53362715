//! Sampling f32 in fixed point, in AMX tiles of bytes.
//!
//! A state lies between -1 and 1, and a row's weights between its largest and that one's negative: both are whole numbers of 23
//! bits and a sign, which is as precise as f32 where numbers are of one size (`weights`). Their products are exact sums of
//! integers (`tiles`), so that one tune has the same bits as many. In f32 it could not: a stream alone would be multiplied by
//! other instructions, in another order. Biases and cells are f32, as is the softmax. A weight is three bytes, not four, and
//! of bytes tiles multiply 32 times as many as multiply-adds do f32, for six products of digits.
//!
//! A thread samples up to 32 streams side by side (`sampler`, `space`, `step`).
#![allow(unsafe_code)]

mod block;
mod cells;
mod choices;
mod sampler;
mod space;
mod step;
#[cfg(test)]
mod tests;
mod tiles;
mod weights;

use std::arch::x86_64::__cpuid_count;

use super::short::Products;
use super::team::{Pace, Team};
use crate::engine::{EngineError, SampleRequest, SampledTune};
use crate::model::{CellKind, ModelShape};
use step::Step;
use weights::Weights;

/// Larger parameters than this may come to no number, or an infinite one, which whole numbers are not.
const LARGEST: f32 = 1e18;

/// Whether this machine multiplies bytes in tiles, and the system lets this process use them.
fn available() -> bool {
    const BYTES: u32 = 1 << 25;
    Products::Amx.available() && __cpuid_count(7, 0).edx & BYTES != 0
}

/// Whether it pays, for however many tunes, and sums of whole numbers have room. One tune of a smaller model would wait for the
/// tiles' results, one product behind the other. Measured on Sapphire Rapids: one tune of 150 units by an LSTM is as fast as by
/// multiply-adds, by a GRU and a tanh network a sixth and a quarter slower; 64 take a quarter to a third less time.
fn pays(shape: ModelShape) -> bool {
    // Three products of digits of two matrices are summed, each 2^14 at most: below 2^31.
    const MOST: usize = 21_845;
    let least = if shape.cell == CellKind::Lstm { 96 } else { 128 };
    (least..=MOST).contains(&shape.hidden)
}

/// A model in fixed point.
pub struct Fixed {
    weights: Weights,
    /// Whether its parameters can be.
    serves: bool,
}

impl Fixed {
    /// Room for a model, where the machine has what it takes and it pays.
    pub fn new(shape: ModelShape) -> Result<Option<Fixed>, EngineError> {
        if !available() || !pays(shape) {
            return Ok(None);
        }
        Ok(Some(Fixed { weights: Weights::new(shape)?, serves: false }))
    }

    /// Takes the parameters.
    pub fn pack(&mut self, params: &[f32]) {
        // Not a number is not smaller than anything.
        self.serves = params.iter().all(|x| x.abs() < LARGEST);
        if self.serves {
            self.weights.pack(params);
        }
    }

    /// Whether the parameters that were taken can be whole numbers.
    pub fn serves(&self) -> bool {
        self.serves
    }

    /// Samples whole tunes, on the threads of the pool that this runs in.
    pub fn sample(&self, request: &SampleRequest) -> Result<Vec<SampledTune>, EngineError> {
        sampler::sample(&self.weights, request)
    }

    /// Samples a single tune on a team.
    pub fn sample_one(
        &self,
        team: &mut Team,
        pace: &mut Pace,
        request: &SampleRequest,
    ) -> Result<Vec<SampledTune>, EngineError> {
        sampler::sample_one(&self.weights, team, pace, request)
    }
}

/// The calling thread's tiles, set up for the streams of the steps that it runs as member 0.
#[derive(Default)]
struct Tiles {
    streams: usize,
}

impl Tiles {
    /// A step of a thread alone.
    fn step(&mut self, step: &Step) {
        self.prepare(step);
        work(step, 0);
    }

    /// Before steps of these streams, on the thread that will be member 0.
    fn prepare(&mut self, step: &Step) {
        if self.streams != step.space.streams {
            self.streams = step.space.streams;
            // SAFETY: a model in fixed point is there only where tiles are; they are released below.
            unsafe { tiles::begin(self.streams, step.weights.head.depth) };
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        if self.streams > 0 {
            // SAFETY: begun above.
            unsafe { tiles::end() };
        }
    }
}

/// A member's part of a step; member 0's thread has [`Tiles`].
fn work(step: &Step, member: usize) {
    // SAFETY: what is used here has been made by `Fixed::new`, which looked what the machine has; every member of a team runs
    // it once.
    unsafe { step::run(step, member) }
}
