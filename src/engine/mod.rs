//! The engine seam: everything above it speaks host types and whole chunks, nothing above it knows a number format,
//! a thread, a stream or a memory layout.
//!
//! An engine owns the parameters, the optimiser's moments, the workspace and the carried hidden state. Whole chunks
//! cross the seam because a tensor-op seam costs thousands of launches a step and cannot keep the recurrent weights
//! in registers. Reading [`Stats`] with [`Engine::sync`] is the only synchronisation.

pub mod cpu;
pub mod cuda;
mod device;
mod measure;
pub mod reference;

pub use cuda::tune::{ChunkSize, KernelChoice};
pub use device::{Device, Kernel, build, check as check_device, cuda as open_cuda, gpus};

use serde::{Deserialize, Serialize};

use crate::model::ModelShape;
use crate::optim::Optimizer;

/// f16's dynamic loss scale at the start.
const FIRST_LOSS_SCALE: f32 = 65_536.0;

/// A target that is not predicted: no loss, no gradient.
pub const IGNORE: u16 = u16::MAX;

/// A chunk of T characters of B parallel streams, time-major.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    /// T: characters a stream.
    pub steps: usize,
    /// B: streams.
    pub streams: usize,
    /// Input characters [T, B], each below V.
    pub ids: Vec<u16>,
    /// Characters to predict [T, B], each below V, or [`IGNORE`].
    pub targets: Vec<u16>,
    /// [T, B]: 1 where a tune starts, so that the state before this character is zero; else 0.
    pub resets: Vec<u8>,
}

impl Chunk {
    /// An empty chunk of the given size: ids 0, every target ignored, no reset.
    pub fn new(steps: usize, streams: usize) -> Chunk {
        let n = steps * streams;
        Chunk { steps, streams, ids: vec![0; n], targets: vec![IGNORE; n], resets: vec![0; n] }
    }

    /// How many characters are predicted.
    pub fn predicted(&self) -> usize {
        self.targets.iter().filter(|&&t| t != IGNORE).count()
    }

    /// Checks that T and B are at least 1, lengths, and that every id and target lies below `vocab`.
    pub fn check(&self, vocab: usize) -> Result<(), EngineError> {
        let n = self.steps * self.streams;
        if n == 0 {
            return Err(EngineError::Chunk(format!(
                "T = {}, B = {}; expected at least 1",
                self.steps, self.streams
            )));
        }
        for (name, len) in
            [("ids", self.ids.len()), ("targets", self.targets.len()), ("resets", self.resets.len())]
        {
            if len != n {
                return Err(EngineError::Chunk(format!("{name} has {len} entries, expected T*B = {n}")));
            }
        }
        let bad = |&&id: &&u16| usize::from(id) >= vocab;
        if let Some(id) = self.ids.iter().find(bad) {
            return Err(EngineError::Chunk(format!(
                "character id {id}, expected below the vocabulary's {vocab}"
            )));
        }
        if let Some(id) = self.targets.iter().filter(|&&t| t != IGNORE).find(bad) {
            return Err(EngineError::Chunk(format!(
                "target id {id}, expected below the vocabulary's {vocab}"
            )));
        }
        Ok(())
    }
}

/// Hyper-parameters of one training step; they may change from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hyper {
    /// The optimiser and its constants.
    pub optimizer: Optimizer,
    /// Learning rate of this step.
    pub lr: f32,
    /// Gradients are scaled down to this global L2 norm, as `torch.nn.utils.clip_grad_norm_`; 0 = no clipping.
    pub clip: f32,
    /// Weight decay: decoupled for AdamW, added to the gradient (L2) for the others, as PyTorch.
    pub weight_decay: f32,
    /// Dropout probability between layers and on the top layer's output, in [0, 1).
    pub dropout: f32,
    /// Seed of the dropout masks.
    pub seed: u64,
    /// Characters per stream trained on before this chunk (the dropout counter's time of the chunk's first step).
    pub time: u64,
    /// The update is skipped where the chunk's mean loss is not finite or above this (infinity = never above).
    pub skip_above: f32,
}

/// What a chunk gave.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stats {
    /// Sum of the cross-entropy of the predicted characters, nats.
    pub loss_sum: f64,
    /// Predicted characters.
    pub predicted: u64,
    /// Global L2 norm of the gradient before clipping; 0 for evaluation.
    pub grad_norm: f32,
    /// Whether the parameters were updated: false where loss or gradient was not finite, or the loss above `skip_above`.
    pub updated: bool,
    /// The loss scale in force (1 where the precision needs none).
    pub loss_scale: f32,
}

impl Stats {
    /// Mean cross-entropy in nats a character; 0 where nothing was predicted.
    pub fn mean_loss(&self) -> f64 {
        if self.predicted == 0 { 0.0 } else { self.loss_sum / self.predicted as f64 }
    }
}

/// A handle on a chunk given to an engine; [`Engine::sync`] turns it into [`Stats`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub u64);

/// Which numbers h, gates and shadow weights are stored in. Master weights, moments, cell state, softmax, loss, norms
/// and accumulators are float32 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float32 throughout.
    F32,
    /// bfloat16 storage.
    Bf16,
    /// IEEE half storage with dynamic loss scaling.
    F16,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        })
    }
}

/// All that resuming needs from an engine, bit for bit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EngineState {
    /// Master weights, arena order `[params]`.
    pub params: Vec<f32>,
    /// The optimiser's moments, each `[params]` (Adam: m, v; SGD: momentum, empty; RMSprop: square average, momentum).
    pub moments: [Vec<f32>; 2],
    /// Updates applied so far (Adam's t).
    pub updates: u64,
    /// Carried hidden state [L, B, H].
    pub h: Vec<f32>,
    /// Carried cell state [L, B, H]; empty for cells without one.
    pub c: Vec<f32>,
    /// Dynamic loss scale; 1 where the precision needs none.
    pub loss_scale: f32,
    /// Good steps since the loss scale last changed.
    pub good_steps: u32,
}

/// What to sample: whole tunes, each a function of (model, seed, its index, these options) alone.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRequest {
    /// How many tunes.
    pub tunes: usize,
    /// Index of the first tune in the seed's stream.
    pub first_index: u64,
    /// Seed.
    pub seed: u64,
    /// How a character is chosen.
    pub choice: crate::sample::Choice,
    /// Characters every tune begins with, `<start>` first. Never empty.
    pub prime: Vec<u16>,
    /// The most characters a tune may have, its prime included (without `<start>` and `<end>`).
    pub max_chars: usize,
    /// Id of `<end>`: a tune stops when it is chosen.
    pub end: u16,
    /// Ids that are never chosen (`<start>`, `<unk>`).
    pub banned: Vec<u16>,
}

/// A sampled tune.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampledTune {
    /// Its characters without `<start>` and `<end>`, prime included.
    pub ids: Vec<u16>,
    /// Whether `<end>` was chosen before `max_chars`.
    pub closed: bool,
}

/// Activations over a text, one layer: each [T, H] (gates: [T, G, H], after their nonlinearity).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LayerActivations {
    /// Hidden state [T, H].
    pub h: Vec<f32>,
    /// Cell state [T, H]; empty for cells without one.
    pub c: Vec<f32>,
    /// Gates [T, G, H].
    pub gates: Vec<f32>,
}

/// What a device and its software call themselves; None where there is no such thing or it is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceFacts {
    /// `cpu`, `NVIDIA H100 80GB HBM3`, `emulated sm_90`.
    pub name: String,
    /// The CUDA version that the driver speaks, `13.0`.
    pub cuda: Option<String>,
    /// cuDNN's version, where it was found.
    pub cudnn: Option<String>,
}

impl DeviceFacts {
    /// This machine's processor.
    pub fn cpu() -> DeviceFacts {
        DeviceFacts { name: "cpu".into(), ..DeviceFacts::default() }
    }
}

/// What an engine is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// `reference`, `cpu`, ...
    pub name: &'static str,
    /// Which code serves this machine: `avx2+fma, 2 threads`, ...
    pub detail: String,
    /// Which kernels run the recurrent layers: `avx512`, `fused`, ...; None where there is but one kind.
    pub tier: Option<&'static str>,
    /// The device, as far as it is known.
    pub device: DeviceFacts,
    /// Storage precision.
    pub precision: Precision,
    /// Why this engine was chosen, where the choice was left to the program and there is something to say.
    pub note: Option<String>,
    /// The CUDA kernels that were chosen by timing them.
    pub chosen: Option<KernelChoice>,
}

/// What an engine can refuse with.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A malformed chunk.
    #[error("malformed chunk: {0}")]
    Chunk(String),
    /// A shape, precision or device that this engine does not serve, and why.
    #[error("{0}")]
    Unsupported(String),
    /// A state or parameter vector of the wrong length.
    #[error("{what} has {found} elements, expected {expected}")]
    Length {
        /// Which vector.
        what: &'static str,
        /// Elements expected.
        expected: usize,
        /// Elements found.
        found: usize,
    },
    /// Not enough memory.
    #[error("out of memory: {needed} bytes needed for {what}; a smaller --batch or --seq-len needs less")]
    OutOfMemory {
        /// What for.
        what: &'static str,
        /// Bytes.
        needed: u64,
    },
    /// Not enough memory on the device.
    #[error(
        "out of GPU memory: {needed} bytes more were needed, {available} of {total} are free; halve --batch or --seq-len, \
         either halves what a step needs (or use --device cpu)"
    )]
    OutOfDeviceMemory {
        /// Bytes asked for.
        needed: u64,
        /// Bytes free.
        available: u64,
        /// Bytes there are.
        total: u64,
    },
    /// The device failed.
    #[error("the GPU failed: {0}")]
    Device(String),
    /// A ticket that was never given out or has been read already.
    #[error("no such ticket: {0}")]
    Ticket(u64),
}

/// A place in an engine's work, for measuring; see [`Engine::mark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(pub u64);

/// Memory that an engine holds, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUse {
    /// `device`: what the engine allocated on a GPU; `process`: all of this process.
    pub of: &'static str,
    /// Now.
    pub now: u64,
    /// The most there ever was.
    pub peak: u64,
}

/// A part of the work of training steps, for measuring; see [`Engine::phases`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Phase {
    /// What is done.
    pub name: &'static str,
    /// Time of the wall.
    pub seconds: f64,
}

/// A training and sampling engine for one model. Object-safe; host types only.
///
/// Three hidden states are kept apart: the carried state of training (`train_chunk`), of evaluation (`eval_chunk`)
/// and of stepping (`step`). Each is zero at first and again when the number of streams changes.
pub trait Engine: Send {
    /// What this is.
    fn info(&self) -> EngineInfo;
    /// The model's shape.
    fn shape(&self) -> ModelShape;
    /// Replaces all parameters (arena order `[params]`) and zeroes every carried state; moments are kept.
    fn load_params(&mut self, params: &[f32]) -> Result<(), EngineError>;
    /// The master weights, arena order `[params]`.
    fn export_params(&self) -> Result<Vec<f32>, EngineError>;
    /// Forward, backward, clip and update over one chunk, state carried in and out. Where the update is skipped, a
    /// carried state that is not finite is zeroed.
    fn train_chunk(&mut self, chunk: &Chunk, hyper: &Hyper) -> Result<Ticket, EngineError>;
    /// Forward and backward without an update (the training state is carried all the same): the gradient of the
    /// chunk's mean loss in arena order `[params]`, before clipping, unscaled.
    fn grad_chunk(&mut self, chunk: &Chunk, hyper: &Hyper) -> Result<(Stats, Vec<f32>), EngineError>;
    /// Forward only, no dropout, on the evaluation state: the loss of a chunk.
    fn eval_chunk(&mut self, chunk: &Chunk) -> Result<Ticket, EngineError>;
    /// The loss of every position of a chunk [T, B] in nats (0 where ignored), on the evaluation state.
    fn eval_each(&mut self, chunk: &Chunk) -> Result<Vec<f32>, EngineError>;
    /// One character for each of B streams: ids `[B]`, resets `[B]` (1: zero the stream's state first), logits [B, V].
    fn step(&mut self, ids: &[u16], resets: &[u8], logits: &mut [f32]) -> Result<(), EngineError>;
    /// Whole tunes.
    fn sample(&mut self, request: &SampleRequest) -> Result<Vec<SampledTune>, EngineError>;
    /// Activations of every layer over one text from a zero state: ids `[T]`.
    fn tap(&mut self, ids: &[u16]) -> Result<Vec<LayerActivations>, EngineError>;
    /// All that resuming needs.
    fn save_state(&self) -> Result<EngineState, EngineError>;
    /// Restores what `save_state` gave, bit for bit.
    fn load_state(&mut self, state: &EngineState) -> Result<(), EngineError>;
    /// Waits for a chunk and reads its statistics. Each ticket can be read once.
    fn sync(&mut self, ticket: Ticket) -> Result<Stats, EngineError>;
    /// The recurrent layers of a chunk alone, for measuring: forward in training mode on the training state, and with
    /// `backward` the gradients of their weights from a gradient of their output that is zero or left from before.
    fn layers(&mut self, chunk: &Chunk, backward: bool) -> Result<(), EngineError> {
        let _ = (chunk, backward);
        Err(EngineError::Unsupported(format!(
            "the {} engine does not run its layers alone",
            self.info().name
        )))
    }
    /// Marks the end of all work given so far. Engines that return only when work is done need not implement it.
    fn mark(&mut self) -> Result<Mark, EngineError> {
        Ok(Mark(measure::host_nanoseconds()))
    }
    /// Milliseconds from one mark to a later one, on a GPU by its own clock; waits for the later one.
    fn between(&mut self, from: Mark, to: Mark) -> Result<f64, EngineError> {
        Ok((to.0 - from.0) as f64 / 1e6)
    }
    /// Where the time of training steps since the last call went; empty where the engine does not tell.
    fn phases(&mut self) -> Vec<Phase> {
        Vec::new()
    }
    /// Memory in use; None where it cannot be told.
    fn memory(&self) -> Option<MemoryUse> {
        measure::process_memory()
    }
}

/// What is asked of an engine; see [`build`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineSpec {
    /// The model's shape.
    pub shape: ModelShape,
    /// Storage precision.
    pub precision: Precision,
    /// Threads; 0 = one a core.
    pub threads: usize,
    /// Where it runs.
    pub device: Device,
    /// Which CUDA kernels.
    pub kernel: Kernel,
    /// The size of the chunks it will be trained on; where it is told, kernels are chosen by timing them.
    pub chunk: Option<ChunkSize>,
    /// What was chosen before: a run that goes on must not change its kernels.
    pub chosen: Option<KernelChoice>,
}

impl EngineSpec {
    /// The CPU engine.
    pub fn cpu(shape: ModelShape, precision: Precision, threads: usize) -> EngineSpec {
        EngineSpec {
            shape,
            precision,
            threads,
            device: Device::Cpu,
            kernel: Kernel::Auto,
            chunk: None,
            chosen: None,
        }
    }
}

/// A vector's length against what is expected of it.
fn check_length(what: &'static str, expected: usize, found: usize) -> Result<(), EngineError> {
    if expected == found { Ok(()) } else { Err(EngineError::Length { what, expected, found }) }
}

/// Checks a state's lengths against a shape; gives the number of streams B (0 where no state was carried).
fn check_state(shape: &ModelShape, state: &EngineState) -> Result<usize, EngineError> {
    let n = shape.params();
    check_length("params", n, state.params.len())?;
    for moment in &state.moments {
        if !moment.is_empty() {
            check_length("moments", n, moment.len())?;
        }
    }
    let row = shape.layers * shape.hidden;
    let streams = state.h.len() / row;
    check_length("carried h", streams * row, state.h.len())?;
    let cells = if shape.cell.has_cell_state() { streams * row } else { 0 };
    check_length("carried c", cells, state.c.len())?;
    Ok(streams)
}

/// The arguments of [`Engine::step`] as a chunk of one step, checked.
fn step_chunk(shape: &ModelShape, ids: &[u16], resets: &[u8], logits: &[f32]) -> Result<Chunk, EngineError> {
    let mut chunk = Chunk::new(1, ids.len());
    chunk.ids.copy_from_slice(ids);
    chunk.resets = resets.to_vec();
    chunk.check(shape.vocab)?;
    check_length("logits", ids.len() * shape.vocab, logits.len())?;
    Ok(chunk)
}
