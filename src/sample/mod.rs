//! Sampling: how a character is chosen, priming, and what is written.

pub mod choice;
pub mod steps;
pub mod stream;

pub use choice::{Choice, Scratch};
pub use steps::by_steps;
pub use stream::{Input, Stream, check_request};
