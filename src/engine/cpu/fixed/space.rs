//! The state of the streams that a thread samples.

use super::super::buffer::Buffer;
use super::tiles::{FEW, GROUP, ROW};
use super::weights::{COLUMNS, DIGITS, Weights};
use crate::engine::EngineError;
use crate::model::CellKind;

/// The most streams side by side.
pub const MOST: usize = 2 * GROUP;

/// A layer's.
#[derive(Debug)]
pub struct State {
    /// h as digits, before and after a step [group][64 units][zeros, digit][stream][64], zero where there is no unit.
    pub digits: [Buffer; 2],
    /// An LSTM's c, a GRU's h [stream][units, padded to 16]; else empty.
    pub values: Buffer,
}

/// The streams'.
#[derive(Debug)]
pub struct Space {
    /// Streams a group: what there are, up to five; else sixteen, some of which may be nobody's.
    pub streams: usize,
    /// One or two.
    pub groups: usize,
    /// One a layer.
    pub layers: Vec<State>,
    /// Logits [stream][classes, padded].
    pub logits: Buffer,
    /// The next input's character, one a stream.
    pub ids: Vec<u16>,
    /// Which of [`State::digits`] is the state before the next step.
    pub now: usize,
    /// Tiles of 64 units.
    tiles: usize,
}

impl Space {
    /// Zero states of so many streams, [`MOST`] at most.
    pub fn new(weights: &Weights, streams: usize) -> Result<Space, EngineError> {
        let (groups, each) = match streams {
            ..=FEW => (1, streams.max(1)),
            _ => (streams.div_ceil(GROUP), GROUP),
        };
        let hidden = weights.shape.hidden;
        let tiles = weights.head.depth.tiles();
        let all = groups * each;
        let zeros = |n| Buffer::zeros(n, "states of streams");
        let mut space = Space {
            streams: each,
            groups,
            layers: Vec::new(),
            logits: zeros(all * weights.head.blocks() * COLUMNS * 16)?,
            ids: vec![0; all],
            now: 0,
            tiles,
        };
        let digits = groups * space.group_bytes() / 4;
        let values = if weights.shape.cell == CellKind::Rnn { 0 } else { all * hidden.next_multiple_of(16) };
        for _ in 0..weights.shape.layers {
            let state = State { digits: [zeros(digits)?, zeros(digits)?], values: zeros(values)? };
            space.layers.push(state);
        }
        Ok(space)
    }

    /// Streams that there is room for.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.groups * self.streams
    }

    /// Bytes of zeros before the digits of each tile; see [`super::tiles::Operands`].
    #[inline]
    pub fn zeros(&self) -> usize {
        if self.streams <= FEW { (DIGITS - 1) * self.streams * ROW } else { 0 }
    }

    /// Bytes of a group's digits of 64 units, zeros among them.
    #[inline]
    pub fn tile_bytes(&self) -> usize {
        self.zeros() + DIGITS * self.streams * ROW
    }

    /// Bytes of a group's digits.
    #[inline]
    pub fn group_bytes(&self) -> usize {
        self.tiles * self.tile_bytes()
    }

    /// Where a stream's digits of one kind begin, of each 64 units, in words.
    fn rows(&self, stream: usize) -> impl Iterator<Item = usize> + use<> {
        let (group, number) = (stream / self.streams, stream % self.streams);
        let (first, tile) = (group * self.group_bytes() + self.zeros(), self.tile_bytes());
        let (tiles, each) = (self.tiles, self.streams * ROW);
        (0..tiles)
            .flat_map(move |t| (0..DIGITS).map(move |d| (first + t * tile + d * each + number * ROW) / 4))
    }

    /// f32 of a stream's values.
    fn width(&self) -> usize {
        self.layers[0].values.len() / self.capacity()
    }

    /// Zeroes a stream's state.
    pub fn reset(&mut self, stream: usize) {
        let (width, now) = (self.width(), self.now);
        for at in self.rows(stream) {
            for layer in &mut self.layers {
                layer.digits[now].as_mut_slice()[at..][..ROW / 4].fill(0.0);
            }
        }
        for layer in &mut self.layers {
            layer.values.as_mut_slice()[stream * width..][..width].fill(0.0);
        }
    }

    /// Takes over the state of another space's stream.
    fn take(&mut self, stream: usize, from: &Space, other: usize) {
        let (width, now) = (self.width(), self.now);
        for (to, at) in self.rows(stream).zip(from.rows(other)) {
            for (layer, other) in self.layers.iter_mut().zip(&from.layers) {
                let row = &other.digits[from.now].as_slice()[at..][..ROW / 4];
                layer.digits[now].as_mut_slice()[to..][..ROW / 4].copy_from_slice(row);
            }
        }
        for (layer, from) in self.layers.iter_mut().zip(&from.layers) {
            let from = &from.values.as_slice()[other * width..][..width];
            layer.values.as_mut_slice()[stream * width..][..width].copy_from_slice(from);
        }
    }

    /// Only these streams go on, in this order, where fewer are faster: true then. Where there is no memory for it, all do.
    pub fn shrink(&mut self, weights: &Weights, keep: &[usize]) -> bool {
        let faster = match self.streams {
            ..=FEW => keep.len() < self.streams,
            _ => keep.len() <= FEW || keep.len().div_ceil(GROUP) < self.groups,
        };
        if !faster || keep.is_empty() {
            return false;
        }
        let Ok(mut smaller) = Space::new(weights, keep.len()) else { return false };
        for (stream, &other) in keep.iter().enumerate() {
            smaller.take(stream, self, other);
            smaller.ids[stream] = self.ids[other];
        }
        *self = smaller;
        true
    }

    /// A stream's logits.
    pub fn logits(&mut self, stream: usize, vocab: usize) -> &mut [f32] {
        let width = self.logits.len() / self.capacity();
        &mut self.logits.as_mut_slice()[stream * width..][..vocab]
    }
}
