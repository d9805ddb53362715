//! The recurrent layers' kernels, in tiers: each says which shapes, precisions and devices it serves, and why not.
//!
//! *fused*: a block, or a cluster of blocks, owns eight streams and keeps every recurrent weight on the chip for the
//! whole chunk. *stepwise*: a matrix product and a pointwise kernel a step; serves everything.

pub mod fused;
pub mod stepwise;

use super::driver::{Address, Driver, DriverError, Facts};
use super::params::RecurrentParams;
use super::queue::Queue;
use crate::engine::{EngineError, Kernel, Precision};
use crate::model::ModelShape;

/// One way to run the recurrent layers of a model.
pub trait RnnPlan: Send {
    /// `fused` or `stepwise`.
    fn tier(&self) -> &'static str;
    /// What serves a batch of `streams`, for people.
    fn detail(&self, streams: usize) -> String;
    /// H padded: what the layout must have.
    fn units(&self) -> usize;
    /// Floats of scratch for a batch of `streams` (padded).
    fn scratch(&self, streams: usize) -> usize;
    /// One layer forward over a chunk.
    fn forward(&self, queue: &Queue, layer: &RecurrentParams, scratch: Address) -> Result<(), DriverError>;
    /// One layer backward over a chunk.
    fn backward(&self, queue: &Queue, layer: &RecurrentParams, scratch: Address) -> Result<(), DriverError>;
}

/// What a plan is made for.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The model.
    pub shape: ModelShape,
    /// E.
    pub precision: Precision,
    /// The device.
    pub facts: &'a Facts,
    /// Asked whether clusters fit on the device; without it the facts alone are looked at.
    pub driver: Option<&'a dyn Driver>,
}

/// A tier's answer: a plan, or why there is none.
pub type Answer = Result<Box<dyn RnnPlan>, String>;

/// Every tier's answer, the fastest first.
pub fn survey(wanted: &Wanted) -> Vec<(&'static str, Answer)> {
    vec![
        ("fused", fused::plan(wanted)),
        ("cudnn", Err("this build has no cuDNN tier yet".into())),
        ("stepwise", stepwise::plan(wanted)),
    ]
}

/// The plan for `kernel`: the first tier that serves, or the one that is asked for.
pub fn plan(wanted: &Wanted, kernel: Kernel) -> Result<Box<dyn RnnPlan>, EngineError> {
    let mut reasons = Vec::new();
    for (tier, answer) in survey(wanted) {
        if kernel != Kernel::Auto && kernel.name() != tier {
            continue;
        }
        match answer {
            Ok(plan) => return Ok(plan),
            Err(why) => reasons.push(format!("{tier}: {why}")),
        }
    }
    Err(EngineError::Unsupported(format!(
        "no CUDA kernels for {} in {}: {}; leave --kernel out to let the program choose",
        wanted.shape,
        wanted.precision,
        reasons.join("; ")
    )))
}
