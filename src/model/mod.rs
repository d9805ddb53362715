//! What a model is: its shape and tensors in one flat arena, its initial weights, its file.

pub mod init;
pub mod shape;

pub use shape::{CellKind, ModelShape, TensorSpec};
