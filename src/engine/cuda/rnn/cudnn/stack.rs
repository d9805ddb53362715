//! A model's layers as the library has them: descriptors, weight spaces, and where each of our matrices lies in them.

use std::sync::Arc;

use super::super::super::driver::recurrent::{RnnId, RnnSpec, WeightPlace};
use super::super::super::driver::{Buffer, Driver, DriverError};
use super::super::super::layout::{self, Layout};
use super::super::super::params::LibraryTensor;
use crate::engine::Precision;

/// Layers that one call runs.
pub struct Group {
    /// The library's handle.
    pub rnn: RnnId,
    /// The first layer.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// Of its weight space in the stack's, bytes.
    pub offset: usize,
}

/// See the module's documentation.
pub struct Stack {
    driver: Arc<dyn Driver>,
    /// From the bottom up.
    pub groups: Vec<Group>,
    /// All weight spaces. What no matrix of ours is written to is zero: padding, and second biases that are not trained.
    pub weights: Buffer,
    /// Their gradients.
    pub gradients: Buffer,
    /// `LibraryTensor` [count].
    pub tensors: Buffer,
    /// How many.
    pub count: usize,
    /// Elements of the largest.
    pub largest: usize,
}

impl Stack {
    /// `whole` describes all layers; with `call_a_layer` each becomes a group of its own.
    pub fn new(
        driver: &Arc<dyn Driver>,
        layout: &Layout,
        whole: &RnnSpec,
        call_a_layer: bool,
    ) -> Result<Stack, DriverError> {
        let library = driver.rnn_library().map_err(DriverError::Missing)?;
        let count = if call_a_layer { 1 } else { whole.layers };
        let mut opened = Opened { driver, groups: Vec::new() };
        let (mut bytes, mut tensors) = (0, Vec::new());
        for first in (0..whole.layers).step_by(count) {
            let inputs = if first == 0 { whole.inputs } else { whole.units };
            let rnn = library.open(&RnnSpec { inputs, layers: count, ..*whole })?;
            opened.groups.push(Group { rnn, first, count, offset: bytes });
            let space = library.weight_space(rnn)?;
            let size = if whole.precision == Precision::F32 { 4 } else { 2 };
            for place in &space.places {
                tensors.extend(of_place(layout, first, place, bytes, size));
            }
            bytes += space.bytes.next_multiple_of(256);
        }
        let table = Buffer::new(driver, size_of_val(&tensors[..]))?;
        table.write(&tensors)?;
        Ok(Stack {
            driver: driver.clone(),
            groups: std::mem::take(&mut opened.groups),
            weights: Buffer::zeroed(driver, bytes)?,
            gradients: Buffer::zeroed(driver, bytes)?,
            tensors: table,
            count: tensors.len(),
            largest: tensors.iter().map(|t| (t.rows * t.columns) as usize).max().unwrap_or(0),
        })
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        drop(Opened { driver: &self.driver, groups: std::mem::take(&mut self.groups) });
    }
}

/// Closes what it still has, also where a later layer was refused.
struct Opened<'a> {
    driver: &'a Arc<dyn Driver>,
    groups: Vec<Group>,
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        if let Ok(library) = self.driver.rnn_library() {
            self.groups.iter().for_each(|group| library.close(group.rnn));
        }
    }
}

/// The matrix and the bias of one product. A recurrent bias that is not trained has no place in our arena.
fn of_place(
    layout: &Layout,
    first: usize,
    place: &WeightPlace,
    offset: usize,
    size: usize,
) -> impl Iterator<Item = LibraryTensor> {
    let shape = &layout.shape;
    let (layer, gates) = (first + place.layer, shape.cell.gates());
    let places = &layout.layers[layer];
    let recurrent = place.product >= gates;
    let gate = place.product % gates;
    let slot = if recurrent { layout::recurrent_slot(shape.cell, gate) } else { gate };
    let (units, slots) = (layout.units, layout.slots);
    let matrix = match (recurrent, layer) {
        // A row a character.
        (false, 0) => LibraryTensor {
            ours: (places.weight_ih.start + slot) as i64,
            row_stride: slots as i64,
            column_stride: layout.gate_columns() as i64,
            columns: shape.vocab as i32,
            ..LibraryTensor::default()
        },
        _ => LibraryTensor {
            ours: (if recurrent { &places.weight_hh } else { &places.weight_ih }.start + slot * units) as i64,
            row_stride: (slots * units) as i64,
            column_stride: 1,
            columns: shape.hidden as i32,
            ..LibraryTensor::default()
        },
    };
    let matrix = LibraryTensor {
        theirs: ((offset + place.matrix) / size) as i64,
        their_stride: place.columns as i64,
        rows: shape.hidden as i32,
        ..matrix
    };
    let biases = if recurrent { &places.bias_hh } else { &places.bias_ih };
    let bias = (!biases.is_empty()).then(|| LibraryTensor {
        ours: (biases.start + slot) as i64,
        row_stride: slots as i64,
        column_stride: 0,
        theirs: ((offset + place.bias) / size) as i64,
        their_stride: 1,
        rows: shape.hidden as i32,
        columns: 1,
    });
    [Some(matrix), bias].into_iter().flatten()
}
