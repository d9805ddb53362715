//! The seam to a library of recurrent layers, which is cuDNN: what the engine asks of it, in host types and device
//! addresses. Calls are enqueued on the driver's stream, in order with everything else.
//!
//! Sequences are packed: rows of step 0 of all sequences, then of step 1 of those that have one, longest first, so that
//! sequences of equal length are a plain [T, B, C].

use super::{Address, DriverError};
use crate::engine::Precision;
use crate::model::CellKind;

/// The library's algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// A product and a pointwise kernel a step; serves everything.
    Standard,
    /// Recurrent weights stay on the chip.
    PersistStatic,
    /// The same for few units.
    PersistSmall,
    /// Compiled for the batch when it is first used.
    PersistDynamic,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 4] =
        [Algorithm::Standard, Algorithm::PersistStatic, Algorithm::PersistSmall, Algorithm::PersistDynamic];

    /// `STANDARD`, `PERSIST_STATIC`, ...: as the library calls it.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Standard => "STANDARD",
            Algorithm::PersistStatic => "PERSIST_STATIC",
            Algorithm::PersistSmall => "PERSIST_STATIC_SMALL_H",
            Algorithm::PersistDynamic => "PERSIST_DYNAMIC",
        }
    }
}

/// Recurrent layers that the library is asked for; one kind of cell, two biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RnnSpec {
    /// The cell.
    pub cell: CellKind,
    /// Type of data, weights and states; sums are float.
    pub precision: Precision,
    /// Whether products of f32 may round their inputs to TF32.
    pub tf32: bool,
    /// How.
    pub algorithm: Algorithm,
    /// C of layer 0's input.
    pub inputs: usize,
    /// H.
    pub units: usize,
    /// L.
    pub layers: usize,
}

/// A handle on layers that the library was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RnnId(pub u64);

/// Where one matrix and its bias lie in a weight space; offsets in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightPlace {
    /// The layer.
    pub layer: usize,
    /// Which product: the input's gates in the order of the contract, then the recurrent ones.
    pub product: usize,
    /// Of the matrix, row-major [H, columns].
    pub matrix: usize,
    /// C of the layer for input gates, H for recurrent ones.
    pub columns: usize,
    /// Of the bias `[H]`.
    pub bias: usize,
}

/// A weight space: its size in bytes and what lies where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightSpace {
    /// Bytes.
    pub bytes: usize,
    /// Every matrix with its bias.
    pub places: Vec<WeightPlace>,
}

/// Sequences: at least one, lengths at least 1 and falling.
#[derive(Debug, Clone, Copy)]
pub struct Sequences<'a> {
    /// The lengths.
    pub lengths: &'a [i32],
    /// The same on the device.
    pub device: Address,
}

/// Bytes of scratch for one call, and of what a forward pass keeps for the backward pass (0 without training).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RnnSpace {
    /// For one call.
    pub work: usize,
    /// From forward to backward.
    pub reserve: usize,
}

/// What a forward and a backward pass both look at; states are [L, sequences, H].
#[derive(Debug, Clone, Copy)]
pub struct RnnData {
    /// Input [rows, C].
    pub x: Address,
    /// Output [rows, H].
    pub y: Address,
    /// State before.
    pub hx: Address,
    /// Cell state before; 0 without one.
    pub cx: Address,
    /// The weight space.
    pub weights: Address,
    /// Scratch.
    pub work: Address,
    /// Kept for the backward pass; 0 without training.
    pub reserve: Address,
    /// Their sizes.
    pub space: RnnSpace,
}

/// A backward pass.
#[derive(Debug, Clone, Copy)]
pub struct RnnGradients {
    /// Of the output [rows, H].
    pub dy: Address,
    /// Of the input [rows, C]: written.
    pub dx: Address,
    /// Of the last states: zeros, both for h and c.
    pub zeros: Address,
    /// Of the first states: written and not used; two planes like `zeros`.
    pub dhx: Address,
    /// See `dhx`; 0 without a cell state.
    pub dcx: Address,
    /// Of the weight space: added to.
    pub dweights: Address,
}

/// A library's recurrent layers on the driver's stream. [`DriverError::Unsupported`]: the library does not serve this.
pub trait RnnLibrary: Send + Sync {
    /// `cuDNN 9.21.0`.
    fn version(&self) -> &str;
    /// Layers as described.
    fn open(&self, spec: &RnnSpec) -> Result<RnnId, DriverError>;
    /// Forgets them.
    fn close(&self, rnn: RnnId);
    /// Their weight space.
    fn weight_space(&self, rnn: RnnId) -> Result<WeightSpace, DriverError>;
    /// Memory for sequences of these lengths. May compile code for that many sequences.
    fn space(&self, rnn: RnnId, lengths: &[i32], training: bool) -> Result<RnnSpace, DriverError>;
    /// Enqueues a forward pass; the last states are written to `hy` and `cy` (0 without a cell state). Training where
    /// `data.reserve` is not 0.
    fn forward(
        &self,
        rnn: RnnId,
        sequences: Sequences,
        data: &RnnData,
        hy: Address,
        cy: Address,
    ) -> Result<(), DriverError>;
    /// Enqueues a backward pass after a forward pass in training over the same data.
    fn backward(
        &self,
        rnn: RnnId,
        sequences: Sequences,
        data: &RnnData,
        gradients: &RnnGradients,
    ) -> Result<(), DriverError>;
}
