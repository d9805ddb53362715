//! What the first lane of a slice did, from what its passes left: `Engine::tap`.

use super::geometry::Geometry;
use super::space::Slice;
use crate::engine::LayerActivations;
use crate::model::CellKind;

/// Of every layer over the first `steps` steps.
pub fn of(geo: &Geometry, slice: &Slice, steps: usize) -> Vec<LayerActivations> {
    let (hidden, gates, cell) = (geo.shape.hidden, geo.gates, geo.shape.cell);
    let (width, rows) = (slice.width, geo.units * slice.width);
    let layers = slice.layers.iter().map(|space| {
        let mut out = LayerActivations::default();
        for t in 0..steps {
            let h = |unit: usize| space.h.as_slice()[(t + 1) * rows + unit * width];
            let record = |unit: usize, slot: usize| {
                space.records.as_slice()[t * slice.record_stride + (unit * geo.record + slot) * width]
            };
            out.h.extend((0..hidden).map(h));
            if cell == CellKind::Lstm {
                out.c.extend((0..hidden).map(|unit| record(unit, 4)));
            }
            for gate in 0..gates {
                out.gates
                    .extend((0..hidden).map(|u| if cell == CellKind::Rnn { h(u) } else { record(u, gate) }));
            }
        }
        out
    });
    layers.collect()
}
