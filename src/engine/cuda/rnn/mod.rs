//! The recurrent layers' kernels, in tiers: each says which shapes, precisions and devices it serves, and why not.
//!
//! *fused*: a block, or a cluster of blocks, owns eight streams and keeps every recurrent weight on the chip for the
//! whole chunk. *cudnn*: NVIDIA's library runs all layers. *stepwise*: a matrix product and a pointwise kernel a step;
//! serves everything.

pub mod cudnn;
pub mod fused;
pub mod stepwise;

use std::sync::Arc;

use super::driver::{Address, Driver, DriverError, Facts};
use super::layout::Layout;
use super::network::{Pass, Training};
use super::params::RecurrentParams;
use super::queue::Queue;
use super::workspace::Input;
use crate::engine::{EngineError, Kernel, Precision};
use crate::model::ModelShape;

/// One way to run the recurrent layers of a model.
pub trait RnnPlan: Send {
    /// `fused`, `cudnn` or `stepwise`.
    fn tier(&self) -> &'static str;
    /// What serves a batch of `streams`, for people.
    fn detail(&self, streams: usize) -> String;
    /// H padded: what the layout must have.
    fn units(&self) -> usize;
    /// Kernels of our own for a layer at a time. A library's plan has them too: for single steps, and to look at gates.
    fn layers(&self) -> &dyn LayerKernels;
    /// The library that runs whole chunks in the place of [`RnnPlan::layers`].
    fn library(&self) -> Option<&dyn WholeStack> {
        None
    }
}

/// Kernels of our own that run one layer over a chunk.
pub trait LayerKernels {
    /// Bytes of scratch for a batch of `streams` (padded).
    fn scratch(&self, streams: usize) -> usize;
    /// Forward.
    fn forward(&self, queue: &Queue, layer: &RecurrentParams, scratch: Address) -> Result<(), DriverError>;
    /// Backward.
    fn backward(&self, queue: &Queue, layer: &RecurrentParams, scratch: Address) -> Result<(), DriverError>;
}

/// A library that runs all layers of a chunk, input products and weight gradients included.
pub trait WholeStack {
    /// Bytes of scratch for chunks of this size that are not cut; what is needed is found out on the device.
    fn scratch(&self, layout: &Layout, input: Input, training: bool) -> Result<usize, DriverError>;
    /// From the ids to the top layer's y, dropped out; the state is carried.
    fn forward(&self, pass: &Pass, store: bool) -> Result<(), DriverError>;
    /// From the gradient of the top layer's output to those of every recurrent parameter.
    fn backward(&self, pass: &Pass, training: &Training) -> Result<(), DriverError>;
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
    pub driver: Option<&'a Arc<dyn Driver>>,
}

/// A tier's answer: a plan, or why there is none.
pub type Answer = Result<Box<dyn RnnPlan>, String>;

/// Every tier's answer, in the order in which they are tried.
pub fn survey(wanted: &Wanted) -> Vec<(&'static str, Answer)> {
    TIERS.map(|tier| (tier.name(), answer(wanted, tier))).into()
}

/// The tiers in the order in which they are tried where nothing was measured.
const TIERS: [Kernel; 3] = [Kernel::Fused, Kernel::Stepwise, Kernel::Cudnn];

/// One tier's answer.
fn answer(wanted: &Wanted, tier: Kernel) -> Answer {
    match tier {
        Kernel::Fused => fused::plan(wanted),
        Kernel::Cudnn => cudnn::plan(wanted, false),
        Kernel::CudnnTf32 if wanted.precision == Precision::F32 => cudnn::plan(wanted, true),
        Kernel::CudnnTf32 => Err(format!("TF32 rounds f32 products; this is {}", wanted.precision)),
        Kernel::Stepwise => stepwise::plan(wanted),
        Kernel::Auto => Err("not a tier".into()),
    }
}

/// The plan for `kernel`: the first tier that serves, or the one that is asked for.
pub fn plan(wanted: &Wanted, kernel: Kernel) -> Result<Box<dyn RnnPlan>, EngineError> {
    let mut reasons = Vec::new();
    let asked = [kernel];
    let tiers = if kernel == Kernel::Auto { &TIERS[..] } else { &asked };
    for &tier in tiers {
        match answer(wanted, tier) {
            Ok(plan) => return Ok(plan),
            Err(why) => reasons.push(format!("{}: {why}", tier.name())),
        }
    }
    Err(EngineError::Unsupported(format!(
        "no CUDA kernels for {} in {}: {}; leave --kernel out to let the program choose",
        wanted.shape,
        wanted.precision,
        reasons.join("; ")
    )))
}
