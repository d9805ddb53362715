//! Device memory of a chunk: inputs, activations, gradients of activations; and the carried state.

use std::sync::Arc;

use super::driver::{Address, Buffer, Driver, DriverError};
use super::layout::Layout;
use super::params::{HEAD_MAX_CLASSES, StepHyper};
use super::pieces::Pieces;
use crate::engine::{Chunk, Precision};

/// Streams are padded to a multiple of this.
pub const STREAM_GROUP: usize = 8;

/// Bytes of logits that the head works on at once where it is not one kernel.
const LOGIT_BYTES: usize = 64 << 20;

/// Offsets in the block that is uploaded with every chunk: hyper-parameters, ids, targets, resets, and for a library of
/// recurrent layers the sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// T.
    pub steps: usize,
    /// B padded.
    pub streams: usize,
    /// Whether a library of recurrent layers runs the chunk.
    pub library: bool,
}

/// What is uploaded of the sequences, i32 each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequencePart {
    /// Lengths; all T where the chunk is not cut.
    Lengths = 0,
    /// See [`Pieces`]; not written where the chunk is not cut, like the following.
    Order = 1,
    /// See [`Pieces`].
    From = 2,
    /// See [`Pieces`].
    To = 3,
}

impl Input {
    fn rows(&self) -> usize {
        self.steps * self.streams
    }

    /// Of ids [T, B], u16.
    pub fn ids(&self) -> usize {
        size_of::<StepHyper>().next_multiple_of(64)
    }

    /// Of targets [T, B], u16.
    pub fn targets(&self) -> usize {
        (self.ids() + 2 * self.rows()).next_multiple_of(64)
    }

    /// Of resets [T, B], u8.
    pub fn resets(&self) -> usize {
        (self.targets() + 2 * self.rows()).next_multiple_of(64)
    }

    /// Of a part of the sequences: T*B numbers are room for any.
    pub fn sequences(&self, part: SequencePart) -> usize {
        (self.resets() + self.rows()).next_multiple_of(64)
            + part as usize * (4 * self.rows()).next_multiple_of(64)
    }

    /// All of it.
    pub fn bytes(&self) -> usize {
        let parts = if self.library { 4 } else { 0 };
        self.sequences(SequencePart::Lengths) + parts * (4 * self.rows()).next_multiple_of(64)
    }

    /// Lays a chunk out in `block`; padded streams have id 0, no target and a reset at every step.
    pub fn fill(&self, block: &mut [u8], chunk: &Chunk, hyper: &StepHyper, pieces: Option<&Pieces>) {
        block[..size_of::<StepHyper>()].copy_from_slice(bytemuck::bytes_of(hyper));
        let real = chunk.streams;
        for t in 0..self.steps {
            let from = t * real..(t + 1) * real;
            let row = t * self.streams;
            for (offset, values, padding) in
                [(self.ids(), &chunk.ids, 0u16), (self.targets(), &chunk.targets, u16::MAX)]
            {
                let to = &mut block[offset + 2 * row..][..2 * self.streams];
                to[..2 * real].copy_from_slice(bytemuck::cast_slice(&values[from.clone()]));
                to[2 * real..].fill((padding & 0xff) as u8);
            }
            let to = &mut block[self.resets() + row..][..self.streams];
            to[..real].copy_from_slice(&chunk.resets[from]);
            to[real..].fill(1);
        }
        if !self.library {
            return;
        }
        let mut put = |part: SequencePart, values: &[i32]| {
            block[self.sequences(part)..][..4 * values.len()].copy_from_slice(bytemuck::cast_slice(values));
        };
        match pieces {
            None => put(SequencePart::Lengths, &vec![self.steps as i32; self.streams]),
            Some(pieces) => {
                put(SequencePart::Lengths, &pieces.lengths);
                put(SequencePart::Order, &pieces.order);
                put(SequencePart::From, &pieces.from);
                put(SequencePart::To, &pieces.to);
            }
        }
    }
}

/// One layer's activations; see `RecurrentParams` in `kernels/params.h` for the shapes.
pub struct LayerSpace {
    /// [T][B][H][S]
    pub gates: Buffer,
    /// float [T+1][B][H]; empty without a cell state.
    pub c: Buffer,
    /// E [T+1][B][H]
    pub hp: Buffer,
    /// E [T][B][H]
    pub y: Buffer,
}

/// Memory for chunks of one size.
pub struct Workspace {
    /// The size.
    pub input: Input,
    /// Whether a backward pass can follow.
    pub training: bool,
    /// The uploaded block.
    pub block: Buffer,
    /// Training: one a layer; else two that alternate.
    layers: Vec<LayerSpace>,
    /// Training: E [T][B][H], gradients of y; else empty.
    pub dy: Buffer,
    /// Training: E [T][B][classes]; else empty.
    pub dlogits: Buffer,
    /// float [logit_rows][classes]; empty where the head is one kernel and nobody asks for logits.
    pub logits: Buffer,
    /// Rows of `logits`.
    pub logit_rows: usize,
    /// float `[T*B]`
    pub losses: Buffer,
    /// Scratch of the recurrent plan, bytes as it asked for.
    pub scratch: Buffer,
}

impl Workspace {
    /// Allocates.
    pub fn new(
        driver: &Arc<dyn Driver>,
        layout: &Layout,
        precision: Precision,
        input: Input,
        training: bool,
        scratch: usize,
    ) -> Result<Workspace, DriverError> {
        let size = if precision == Precision::F32 { 4 } else { 2 };
        let (rows, units) = (input.rows(), layout.units);
        let cells = if layout.shape.cell.has_cell_state() { 4 * (rows + input.streams) * units } else { 0 };
        // A library keeps gates and states in memory of its own.
        let own = |bytes: usize| if input.library { 0 } else { bytes };
        let spaces = if training { layout.shape.layers } else { layout.shape.layers.min(2) };
        let layers = (0..spaces)
            .map(|_| {
                Ok(LayerSpace {
                    gates: Buffer::new(driver, own(rows * layout.gate_columns() * size))?,
                    c: Buffer::new(driver, own(cells))?,
                    hp: Buffer::new(driver, own((rows + input.streams) * units * size))?,
                    y: Buffer::new(driver, rows * units * size)?,
                })
            })
            .collect::<Result<Vec<_>, DriverError>>()?;
        let classes = layout.classes;
        let logit_rows = if classes > HEAD_MAX_CLASSES || input.steps == 1 {
            rows.min((LOGIT_BYTES / (4 * classes)).next_multiple_of(64))
        } else {
            0
        };
        let training_bytes = |bytes: usize| if training { bytes } else { 0 };
        Ok(Workspace {
            input,
            training,
            block: Buffer::new(driver, input.bytes())?,
            layers,
            dy: Buffer::zeroed(driver, training_bytes(rows * units * size))?,
            dlogits: Buffer::new(driver, training_bytes(rows * classes * size))?,
            logits: Buffer::new(driver, 4 * logit_rows * classes)?,
            logit_rows,
            losses: Buffer::new(driver, 4 * rows)?,
            scratch: Buffer::new(driver, scratch)?,
        })
    }

    /// Layer `layer`'s activations.
    pub fn layer(&self, layer: usize) -> &LayerSpace {
        &self.layers[layer % self.layers.len()]
    }

    /// T*B.
    pub fn rows(&self) -> usize {
        self.input.rows()
    }

    /// Addresses in the uploaded block: hyper-parameters, ids, targets, resets.
    pub fn hyper(&self) -> Address {
        self.block.at()
    }

    /// See [`Workspace::hyper`].
    pub fn ids(&self) -> Address {
        self.block.at() + self.input.ids() as u64
    }

    /// See [`Workspace::hyper`].
    pub fn targets(&self) -> Address {
        self.block.at() + self.input.targets() as u64
    }

    /// See [`Workspace::hyper`].
    pub fn resets(&self) -> Address {
        self.block.at() + self.input.resets() as u64
    }

    /// See [`Workspace::hyper`].
    pub fn sequences(&self, part: SequencePart) -> Address {
        self.block.at() + self.input.sequences(part) as u64
    }
}

/// A state that is carried from chunk to chunk.
pub struct Carried {
    /// B.
    pub real: usize,
    /// B padded.
    pub streams: usize,
    /// E [L][B][H]
    pub h: Buffer,
    /// float [L][B][H]; empty without a cell state.
    pub c: Buffer,
}

impl Carried {
    /// The zero state.
    pub fn zero(
        driver: &Arc<dyn Driver>,
        layout: &Layout,
        precision: Precision,
        real: usize,
    ) -> Result<Carried, DriverError> {
        let streams = real.next_multiple_of(STREAM_GROUP);
        let n = layout.shape.layers * streams * layout.units;
        let cells = if layout.shape.cell.has_cell_state() { n } else { 0 };
        Ok(Carried {
            real,
            streams,
            h: Buffer::zeroed(driver, n * if precision == Precision::F32 { 4 } else { 2 })?,
            c: Buffer::zeroed(driver, 4 * cells)?,
        })
    }

    /// Zeroes it.
    pub fn clear(&self, driver: &Arc<dyn Driver>) -> Result<(), DriverError> {
        for buffer in [&self.h, &self.c] {
            if buffer.bytes() > 0 {
                driver.zero(buffer.at(), buffer.bytes())?;
            }
        }
        Ok(())
    }
}
