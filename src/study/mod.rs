//! The paper's experiments as one resumable grid, what they found ([`results`]), and what is said about it.

pub mod discussion;
pub mod names;
pub mod page;
pub mod plots;
pub mod published;
pub mod results;
pub mod statistics;
pub mod tables;

#[cfg(test)]
pub(crate) mod testing;

pub use results::Results;
