//! Sampling in fixed point on processors that have no tiles: nothing of it can be made.

use super::team::{Pace, Team};
use crate::engine::{EngineError, SampleRequest, SampledTune};
use crate::model::ModelShape;

/// There is none.
pub enum Fixed {}

impl Fixed {
    /// None.
    pub fn new(_: ModelShape) -> Result<Option<Fixed>, EngineError> {
        Ok(None)
    }

    /// Of none.
    pub fn pack(&mut self, _: &[f32]) {
        match *self {}
    }

    /// None does.
    pub fn serves(&self) -> bool {
        match *self {}
    }

    /// None does.
    pub fn sample(&self, _: &SampleRequest) -> Result<Vec<SampledTune>, EngineError> {
        match *self {}
    }

    /// None does.
    pub fn sample_one(
        &self,
        _: &mut Team,
        _: &mut Pace,
        _: &SampleRequest,
    ) -> Result<Vec<SampledTune>, EngineError> {
        match *self {}
    }
}
