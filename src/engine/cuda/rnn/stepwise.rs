//! A product and a pointwise kernel for every step: any shape, any device from compute capability 8.0 on.

use super::super::driver::{Address, DriverError, Form};
use super::super::params::{CellStepParams, RecurrentParams};
use super::super::queue::{Matrix, Queue};
use super::{Answer, LayerKernels, RnnPlan, Wanted};
use crate::model::CellKind;

/// See the module's documentation.
pub struct Stepwise {
    cell: CellKind,
    units: usize,
    slots: usize,
}

/// Serves whatever the device can.
pub fn plan(wanted: &Wanted) -> Answer {
    if wanted.facts.capability.0 < 8 {
        let (major, minor) = wanted.facts.capability;
        return Err(format!("compute capability {major}.{minor}, 8.0 or above is needed"));
    }
    let cell = wanted.shape.cell;
    let units = wanted.shape.hidden.next_multiple_of(16);
    Ok(Box::new(Stepwise::of(cell, units)))
}

impl Stepwise {
    /// For any width, a multiple of 16.
    pub fn of(cell: CellKind, units: usize) -> Stepwise {
        Stepwise { cell, units, slots: super::super::layout::slots(cell) }
    }

    fn cells(&self, queue: &Queue, name: &str, layer: &RecurrentParams) -> (String, [usize; 3]) {
        let kernel = queue.named(&format!("stepwise_{name}_{}", self.cell));
        (kernel, [(layer.streams as usize * self.units).div_ceil(256), 1, 1])
    }
}

impl RnnPlan for Stepwise {
    fn tier(&self) -> &'static str {
        "stepwise"
    }

    fn detail(&self, _: usize) -> String {
        "a product and a pointwise kernel a step".into()
    }

    fn units(&self) -> usize {
        self.units
    }

    fn layers(&self) -> &dyn LayerKernels {
        self
    }
}

impl LayerKernels for Stepwise {
    fn scratch(&self, streams: usize) -> usize {
        4 * streams * self.units * self.slots.max(3)
    }

    fn forward(&self, queue: &Queue, layer: &RecurrentParams, scratch: Address) -> Result<(), DriverError> {
        let (streams, columns) = (layer.streams as usize, self.units * self.slots);
        let (kernel, grid) = self.cells(queue, "forward", layer);
        queue.run(&queue.named("stepwise_begin"), grid, 256, layer)?;
        let w = Matrix { at: layer.w, stride: self.units };
        for t in 0..layer.steps {
            let hp = layer.hp + (t as usize * streams * self.units * queue.size()) as u64;
            let (a, c) = (Matrix { at: hp, stride: self.units }, Matrix { at: scratch, stride: columns });
            queue.product(Form::Nt, a, w, c, 0, true, [streams, columns, self.units])?;
            let params = CellStepParams { r: *layer, product: scratch, dc: 0, dh_direct: 0, t, pad: 0 };
            queue.run(&kernel, grid, 256, &params)?;
        }
        Ok(())
    }

    fn backward(&self, queue: &Queue, layer: &RecurrentParams, scratch: Address) -> Result<(), DriverError> {
        let (streams, columns) = (layer.streams as usize, self.units * self.slots);
        let (kernel, grid) = self.cells(queue, "backward", layer);
        let plane = (4 * streams * self.units) as u64;
        let w = Matrix { at: layer.w, stride: self.units };
        for t in (0..layer.steps).rev() {
            let params = CellStepParams {
                r: *layer,
                product: scratch,
                dc: scratch + plane,
                dh_direct: scratch + 2 * plane,
                t,
                pad: 0,
            };
            queue.run(&kernel, grid, 256, &params)?;
            if t > 0 {
                let gates = layer.gates + (t as usize * streams * columns * queue.size()) as u64;
                let (a, c) =
                    (Matrix { at: gates, stride: columns }, Matrix { at: scratch, stride: self.units });
                queue.product(Form::Nn, a, w, c, 0, true, [streams, self.units, columns])?;
            }
        }
        Ok(())
    }
}
