//! State and activations between the device's layout and the model's: save, load, tap.

use super::driver::Buffer;
use super::network::{Pass, Training};
use super::params::{Scaler, StepHyper};
use super::workspace::Carried;
use super::{CudaEngine, Place, Purpose, values};
use crate::engine::{Chunk, Engine, EngineError, EngineState, LayerActivations};
use crate::model::CellKind;

impl CudaEngine {
    /// Activations of every layer over one text from a zero state.
    pub(super) fn activations(&mut self, ids: &[u16]) -> Result<Vec<LayerActivations>, EngineError> {
        let mut chunk = Chunk::new(ids.len(), 1);
        chunk.ids.copy_from_slice(ids);
        chunk.check(self.layout.shape.vocab)?;
        let (driver, precision) = (&self.queue.driver, self.queue.precision);
        let mut place = Place::default();
        let purpose = Purpose { training: true, gates: true };
        CudaEngine::fit(driver, &self.layout, &*self.plan, precision, &mut place, &chunk, purpose)?;
        let (Some(space), Some(carried)) = (&place.space, &place.carried) else {
            return Err(EngineError::Device("activations without memory".into()));
        };
        self.uploads.send(driver, space, &chunk, &StepHyper::default(), None)?;
        let (layout, plan) = (&self.layout, &*self.plan);
        let pass = Pass {
            queue: &self.queue,
            plan,
            layout,
            memory: &self.memory,
            space,
            carried,
            dropout: false,
            pieces: None,
        };
        pass.forward(true)?;
        let shape = self.layout.shape;
        let (hidden, units, slots, streams) = (shape.hidden, layout.units, layout.slots, space.input.streams);
        let steps = ids.len();
        (0..shape.layers)
            .map(|layer| {
                let space = space.layer(layer);
                let mut out = LayerActivations::default();
                let rows = streams * units;
                let y = values::read(&space.y, precision, 0, steps * rows)?;
                let gates =
                    values::read(&space.gates, values::gate_precision(precision), 0, steps * rows * slots)?;
                let cells = shape.cell.has_cell_state();
                let c: Vec<f32> = if cells { space.c.read(rows, steps * rows)? } else { Vec::new() };
                for t in 0..steps {
                    // Stream 0 is the first row.
                    out.h.extend(&y[t * rows..][..hidden]);
                    if cells {
                        out.c.extend(&c[t * rows..][..hidden]);
                    }
                    for gate in 0..shape.cell.gates() {
                        out.gates.extend((0..hidden).map(|unit| {
                            if shape.cell == CellKind::Rnn {
                                y[t * rows + unit]
                            } else {
                                gates[(t * rows + unit) * slots + gate]
                            }
                        }));
                    }
                }
                Ok(out)
            })
            .collect()
    }

    /// All that resuming needs, in the model's order and without padding.
    pub(super) fn saved(&self) -> Result<EngineState, EngineError> {
        let scaler = self.scaler()?;
        let shape = self.layout.shape;
        let moments = match &self.memory.training {
            Some(training) => {
                let read = |buffer: &Buffer| -> Result<Vec<f32>, EngineError> {
                    Ok(self.layout.unpack(&buffer.read(0, self.layout.len)?))
                };
                [read(&training.moments[0])?, read(&training.moments[1])?]
            }
            None => [Vec::new(), Vec::new()],
        };
        let (mut h, mut c) = (Vec::new(), Vec::new());
        if let Some(carried) = &self.training.carried {
            let (units, plane) = (self.layout.units, carried.streams * self.layout.units);
            let strip = |padded: &[f32], out: &mut Vec<f32>| {
                for layer in padded.chunks_exact(plane) {
                    for row in layer.chunks_exact(units).take(carried.real) {
                        out.extend(&row[..shape.hidden]);
                    }
                }
            };
            strip(&values::read(&carried.h, self.queue.precision, 0, shape.layers * plane)?, &mut h);
            if shape.cell.has_cell_state() {
                strip(&carried.c.read::<f32>(0, shape.layers * plane)?, &mut c);
            }
        }
        Ok(EngineState {
            params: Engine::export_params(self)?,
            moments,
            updates: scaler.updates,
            h,
            c,
            loss_scale: scaler.loss_scale,
            good_steps: scaler.good_steps,
        })
    }

    /// The reverse of [`CudaEngine::saved`], bit for bit.
    pub(super) fn restore(&mut self, state: &EngineState) -> Result<(), EngineError> {
        let streams = crate::engine::check_state(&self.layout.shape, state)?;
        self.set_params(&state.params)?;
        let (driver, shape) = (self.queue.driver.clone(), self.layout.shape);
        self.memory.scaler.write(&[Scaler {
            updates: state.updates,
            loss_scale: state.loss_scale,
            good_steps: state.good_steps,
        }])?;
        if state.moments.iter().any(|m| !m.is_empty()) || self.memory.training.is_some() {
            let training = match self.memory.training.take() {
                Some(training) => training,
                None => Training::zeroed(&driver, &self.layout)?,
            };
            for (buffer, moment) in training.moments.iter().zip(&state.moments) {
                if moment.is_empty() {
                    driver.zero(buffer.at(), buffer.bytes())?;
                } else {
                    buffer.write(&self.layout.pack(moment))?;
                }
            }
            self.memory.training = Some(training);
        }
        self.training = Place::default();
        if streams > 0 {
            let carried = Carried::zero(&driver, &self.layout, self.queue.precision, streams)?;
            let (units, plane) = (self.layout.units, carried.streams * self.layout.units);
            let pad = |values: &[f32]| {
                let mut padded = vec![0.0; shape.layers * plane];
                for (i, row) in values.chunks_exact(shape.hidden).enumerate() {
                    let at = i / streams * plane + i % streams * units;
                    padded[at..at + shape.hidden].copy_from_slice(row);
                }
                padded
            };
            values::write(&carried.h, self.queue.precision, &pad(&state.h))?;
            if shape.cell.has_cell_state() {
                carried.c.write(&pad(&state.c))?;
            }
            self.training.carried = Some(carried);
        }
        Ok(())
    }
}
