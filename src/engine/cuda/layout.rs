//! Where each parameter lies on the device.
//!
//! Masters, gradients, moments and the short copy have one index. Units are padded to `units`, classes to `classes`, gates
//! are interleaved per unit in S slots (see `kernels/params.h`); layer 0's input weights lie transposed, a row a
//! character, because they are gathered. What is padding is zero and stays zero.

use std::ops::Range;

use crate::model::{CellKind, ModelShape};

/// One layer's ranges in the device arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerPlaces {
    /// Layer 0: `[classes][units][S]`; above: `[units][S][units]`.
    pub weight_ih: Range<usize>,
    /// `[units][S][units]`
    pub weight_hh: Range<usize>,
    /// `[units][S]`
    pub bias_ih: Range<usize>,
    /// `[units][S]` for a GRU, empty else.
    pub bias_hh: Range<usize>,
}

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The model.
    pub shape: ModelShape,
    /// H padded.
    pub units: usize,
    /// V padded.
    pub classes: usize,
    /// S.
    pub slots: usize,
    /// Each layer's places.
    pub layers: Vec<LayerPlaces>,
    /// `[classes][units]`
    pub head_weight: Range<usize>,
    /// `[classes]`
    pub head_bias: Range<usize>,
    /// Elements of the arena, a multiple of 16.
    pub len: usize,
}

/// S: slots a unit.
pub fn slots(cell: CellKind) -> usize {
    if cell == CellKind::Rnn { 1 } else { 4 }
}

/// The slot of a gate of W_ih or b_ih.
fn input_slot(gate: usize) -> usize {
    gate
}

/// The slot of a gate of W_hh or b_hh: a GRU's recurrent part of n has one of its own.
pub fn recurrent_slot(cell: CellKind, gate: usize) -> usize {
    if cell == CellKind::Gru && gate == 2 { 3 } else { gate }
}

impl Layout {
    /// For `units` padded units.
    pub fn new(shape: ModelShape, units: usize) -> Layout {
        assert!(units >= shape.hidden && units.is_multiple_of(16));
        let slots = slots(shape.cell);
        let classes = shape.vocab.next_multiple_of(16);
        let mut end = 0;
        let mut take = |len: usize| {
            let range = end..end + len;
            end += len;
            range
        };
        let layers = (0..shape.layers)
            .map(|layer| LayerPlaces {
                weight_ih: take(units * slots * if layer == 0 { classes } else { units }),
                weight_hh: take(units * slots * units),
                bias_ih: take(units * slots),
                bias_hh: take(if shape.cell.trains_recurrent_bias() { units * slots } else { 0 }),
            })
            .collect();
        let head_weight = take(classes * units);
        let head_bias = take(classes);
        Layout { shape, units, classes, slots, layers, head_weight, head_bias, len: end }
    }

    /// H*S padded: the width of a row of gates.
    pub fn gate_columns(&self) -> usize {
        self.units * self.slots
    }

    /// Calls `each` with (index in the model's arena, index on the device) for every parameter.
    pub fn pairs(&self, mut each: impl FnMut(usize, usize)) {
        let shape = &self.shape;
        let (hidden, columns) = (shape.hidden, self.gate_columns());
        for (layer, places) in self.layers.iter().enumerate() {
            let ranges = shape.layer_ranges(layer);
            for gate in 0..shape.cell.gates() {
                let (input, recurrent) = (input_slot(gate), recurrent_slot(shape.cell, gate));
                for unit in 0..hidden {
                    let row = gate * hidden + unit;
                    let inputs = shape.inputs(layer);
                    for k in 0..inputs {
                        let at = if layer == 0 {
                            k * columns + unit * self.slots + input
                        } else {
                            (unit * self.slots + input) * self.units + k
                        };
                        each(ranges.weight_ih.start + row * inputs + k, places.weight_ih.start + at);
                    }
                    for k in 0..hidden {
                        let at = (unit * self.slots + recurrent) * self.units + k;
                        each(ranges.weight_hh.start + row * hidden + k, places.weight_hh.start + at);
                    }
                    each(ranges.bias_ih.start + row, places.bias_ih.start + unit * self.slots + input);
                    if !ranges.bias_hh.is_empty() {
                        each(
                            ranges.bias_hh.start + row,
                            places.bias_hh.start + unit * self.slots + recurrent,
                        );
                    }
                }
            }
        }
        let (weight, bias) = shape.head_ranges();
        for class in 0..shape.vocab {
            for k in 0..hidden {
                each(weight.start + class * hidden + k, self.head_weight.start + class * self.units + k);
            }
            each(bias.start + class, self.head_bias.start + class);
        }
    }

    /// A vector in the model's order, laid out for the device; padding is zero.
    pub fn pack(&self, values: &[f32]) -> Vec<f32> {
        let mut packed = vec![0.0; self.len];
        self.pairs(|from, to| packed[to] = values[from]);
        packed
    }

    /// The reverse.
    pub fn unpack(&self, packed: &[f32]) -> Vec<f32> {
        let mut values = vec![0.0; self.shape.params()];
        self.pairs(|to, from| values[to] = packed[from]);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_has_a_place_of_its_own() {
        for cell in [CellKind::Lstm, CellKind::Gru, CellKind::Rnn] {
            for layers in 1..4 {
                let shape = ModelShape { cell, vocab: 21, hidden: 19, layers };
                let layout = Layout::new(shape, 32);
                let values: Vec<f32> = (1..=shape.params()).map(|i| i as f32).collect();
                let packed = layout.pack(&values);
                assert_eq!(packed.iter().filter(|&&x| x != 0.0).count(), shape.params());
                assert_eq!(layout.unpack(&packed), values);
                assert!(layout.len.is_multiple_of(16));
            }
        }
    }
}
