//! Sampling: how a character is chosen, priming, and what is written.

pub mod choice;

pub use choice::Choice;

use crate::engine::{Engine, EngineError, SampleRequest, SampledTune};

/// Whole tunes through [`Engine::step`].
pub fn by_steps(_engine: &mut dyn Engine, _request: &SampleRequest) -> Result<Vec<SampledTune>, EngineError> {
    todo!()
}
