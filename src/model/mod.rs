//! What a model is: its shape and tensors in one flat arena, its initial weights, its file.

pub mod file;
pub mod init;
pub mod shape;
pub mod tensors;

pub use file::{ModelFile, ModelFileError, ModelProblem, locate};
pub use shape::{CellKind, ModelShape, TensorSpec};
