//! Sampling: how a character is chosen, priming, and what is written.

pub mod choice;

pub use choice::Choice;
