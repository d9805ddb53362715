//! The CPU engine.

use super::*;

/// The CPU engine.
pub struct CpuEngine;

impl CpuEngine {
    /// Builds it.
    pub fn new(_spec: &EngineSpec) -> Result<CpuEngine, EngineError> {
        todo!()
    }
}

impl Engine for CpuEngine {
    fn info(&self) -> EngineInfo {
        todo!()
    }
    fn shape(&self) -> ModelShape {
        todo!()
    }
    fn load_params(&mut self, _: &[f32]) -> Result<(), EngineError> {
        todo!()
    }
    fn export_params(&self) -> Vec<f32> {
        todo!()
    }
    fn train_chunk(&mut self, _: &Chunk, _: &Hyper) -> Result<Ticket, EngineError> {
        todo!()
    }
    fn grad_chunk(&mut self, _: &Chunk, _: &Hyper) -> Result<(Stats, Vec<f32>), EngineError> {
        todo!()
    }
    fn eval_chunk(&mut self, _: &Chunk) -> Result<Ticket, EngineError> {
        todo!()
    }
    fn eval_each(&mut self, _: &Chunk) -> Result<Vec<f32>, EngineError> {
        todo!()
    }
    fn step(&mut self, _: &[u16], _: &[u8], _: &mut [f32]) -> Result<(), EngineError> {
        todo!()
    }
    fn sample(&mut self, _: &SampleRequest) -> Result<Vec<SampledTune>, EngineError> {
        todo!()
    }
    fn tap(&mut self, _: &[u16]) -> Result<Vec<LayerActivations>, EngineError> {
        todo!()
    }
    fn save_state(&self) -> EngineState {
        todo!()
    }
    fn load_state(&mut self, _: &EngineState) -> Result<(), EngineError> {
        todo!()
    }
    fn sync(&mut self, _: Ticket) -> Result<Stats, EngineError> {
        todo!()
    }
}
