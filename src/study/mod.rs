//! The paper's experiments as one resumable grid, what they found ([`results`]), and what is said about it.

pub mod results;
pub mod tunes;

pub use results::Results;
