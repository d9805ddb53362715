//! Instructions that multiply bf16: AMX tiles or AVX512-BF16 dot products. The same passes as the f32 kernels', with
//! every operand of a product kept as bf16 pairs in the order in which tiles are read.
//!
//! They serve bf16, and on AMX the passes of f32 over many streams as well, each of whose numbers is three of bf16
//! ([`tiles::Split`]): where that is so, operands of products have three parts, but what cells keep, states and
//! gradients are f32 in memory.
//!
//! A slice is 32 streams wide, or 16 where there are few and numbers have parts. Operands are pairs along the summed index: h along units, gate gradients along gate
//! rows, and for the weight gradients along streams. All are 32 rows or columns at a time, padded with zeros.
//! LSTM and GRU have four rows a unit (a GRU: r, z, the recurrent part of n, the input part of n), RNN one, so that
//! one product each fills all pre-activations, and a GRU needs one set of gate gradients.

#![allow(unsafe_code)]

mod along;
mod backward;
mod beside;
mod cells;
mod collect;
mod forward;
mod gates;
mod gradient;
mod gradient_parts;
mod head;
mod lanes;
mod operands;
mod order;
mod products;
mod softmax;
mod tiles;
mod weights;

use super::buffer::Buffer;
use super::dispatch::Work;
use super::forward::{Part, Pass};
use super::geometry::Geometry;
use super::profile::Pass as Timed;
use super::space::Slice;
use crate::engine::{EngineError, LayerActivations};
use crate::model::CellKind;
use along::Along;
pub use collect::{head as collect_head_along, layers as collect_layers_along};
pub use gradient::{Job, collect_head, collect_layers, jobs};
pub use gradient_parts::{
    Group, collect_head as collect_head_of_parts, collect_layers as collect_layers_of_parts, groups,
};
pub use lanes::transpose16;
pub use products::{Between, Pieces, Products, Spread};
use products::{Dot, Product};
pub use tiles::TileConfig;
use tiles::{Amx, Split, Split16};
pub use weights::Weights;

/// W of most slices.
pub const WIDTH: usize = 32;

/// Sizes of the short kernels, all padded to 32.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// W.
    pub width: usize,
    /// Gate rows a unit.
    pub slots: usize,
    /// Units.
    pub units: usize,
    /// Gate rows.
    pub rows: usize,
    /// Classes, and characters.
    pub classes: usize,
    /// Columns of a state's gradient operand: units and one of ones, which sums the bias's gradient.
    pub columns: usize,
    /// Vectors of 32 f32 (or pairs) that a unit leaves for the backward pass. LSTM (i, f) (g, o) c; GRU (r, z) n and the
    /// recurrent part of n; in f32 as [`Geometry::record`].
    pub record: usize,
    /// Parts of an operand's numbers.
    pub parts: usize,
    /// f32 of one step's state [units][W], padded as [`Geometry::units`].
    pub state: usize,
}

impl Sizes {
    /// Of a model, for the slices of some products.
    pub fn of<P: Product>(geo: &Geometry) -> Sizes {
        Sizes::new(geo, P::WIDTH)
    }

    /// Of a model, for slices of `width` streams.
    pub fn new(geo: &Geometry, width: usize) -> Sizes {
        let parts = geo.short.map_or(1, Products::parts);
        let (slots, record) = match (geo.shape.cell, parts) {
            (CellKind::Lstm | CellKind::Gru, 1) => (4, 3),
            (CellKind::Rnn, 1) => (1, 0),
            (CellKind::Rnn, _) => (1, geo.record),
            (CellKind::Lstm | CellKind::Gru, _) => (4, geo.record),
        };
        Sizes {
            width,
            slots,
            units: geo.shape.hidden.next_multiple_of(32),
            rows: (slots * geo.shape.hidden).next_multiple_of(32),
            classes: geo.shape.vocab.next_multiple_of(32),
            columns: (geo.shape.hidden + 1).next_multiple_of(32),
            record,
            parts,
            state: geo.units * width,
        }
    }

    /// u32 of one step's state as pairs of units.
    fn pairs(&self) -> usize {
        self.units / 2 * self.width * self.parts
    }

    /// u32 of one step's state as pairs of streams.
    fn streams(&self) -> usize {
        self.columns * self.width / 2
    }

    /// u32 of a row's streams for the weight gradients: pairs; where numbers have parts, f32 that are brought into pairs later.
    fn row(&self) -> usize {
        if self.parts > 1 { self.width } else { self.width / 2 }
    }

    /// u32 of one step's logits' gradients for the weight gradients.
    fn stream_classes(&self) -> usize {
        self.classes * self.row()
    }

    /// The place of step `t` among a state's pairs: where numbers have parts, the next step alone reads them.
    fn slot(&self, t: usize) -> usize {
        if self.parts == 1 { t } else { t % 2 }
    }

    /// u32 of one step's gate gradients as pairs of gate rows.
    fn gates(&self) -> usize {
        self.rows / 2 * self.width * self.parts
    }

    /// u32 of one step's characters, one-hot as pairs of streams.
    fn one_hot(&self) -> usize {
        self.classes * self.width / 2
    }

    /// u32 of one step's records; its gate gradients as pairs of streams [rows][16] are written over them.
    fn records(&self) -> usize {
        (self.units * self.record * self.width).max(self.rows * self.width / 2)
    }
}

/// One form of a state over time: for the products of the passes, and for the weight gradients. Where numbers have parts,
/// these are half as large again as f32, of which there is enough to write as it is: pairs are of two steps, there are no
/// streams, and whoever needs them later makes them from f32 ([`operands`]).
#[derive(Debug)]
pub struct Operand {
    /// [T][units/32][parts][16][W]; see [`Sizes::slot`].
    pairs: Buffer,
    /// [T][columns/32][16][32]; empty in inference.
    streams: Buffer,
}

/// A layer's memory.
#[derive(Debug)]
pub struct LayerSpace {
    /// h, slot 0 before the chunk.
    h: Operand,
    /// h masked where tunes start.
    masked: Operand,
    /// The output after dropout; empty without.
    dropped: Operand,
    /// See [`Sizes::records`]; empty where numbers have parts.
    records: Buffer,
}

/// A slice's memory beside what it shares with the f32 kernels: h, c, their masks, logits, losses, dx.
#[derive(Debug)]
pub struct Space {
    layers: Vec<LayerSpace>,
    /// One step's characters, one-hot as pairs along characters [classes/2][W].
    characters: Buffer,
    /// All steps' characters, one-hot as pairs of streams [T][classes/32][16][32]; empty where numbers have parts.
    one_hot: Buffer,
    /// Where numbers have parts, one step's state on its way into a layer or the head [units/32][parts][16][W].
    input: Buffer,
    /// Gate gradients of two successive steps as pairs along gate rows [2][rows/32][parts][16][W].
    gates: Buffer,
    /// Logits' gradients of one step as pairs along classes [classes/32][parts][16][W].
    class_pairs: Buffer,
    /// Logits' gradients as pairs of streams [T][classes][16]; where numbers have parts as f32 [T][classes][W].
    class_streams: Buffer,
    /// A state's rows as pairs of streams, on their way into columns [columns][16]; the row behind the units is ones.
    stage: Buffer,
    /// Where weight gradients are summed along the backward pass.
    along: Option<Along>,
}

/// Two bf16 ones.
const ONES: u32 = 0x3f80_3f80;

impl Space {
    /// Room for `steps`.
    pub fn new(
        geo: &Geometry,
        width: usize,
        (training, dropout): (bool, bool),
        steps: usize,
    ) -> Result<Space, EngineError> {
        let sizes = Sizes::new(geo, width);
        let zeros = |n| Buffer::zeros(n, "activations of a chunk");
        let if_ = |condition: bool, n: usize| if condition { n } else { 0 };
        let parts = sizes.parts > 1;
        let operand = |steps: usize| {
            Ok::<_, EngineError>(Operand {
                pairs: zeros(if parts { steps.min(2) } else { steps } * sizes.pairs())?,
                streams: zeros(if_(training && !parts, steps * sizes.streams()))?,
            })
        };
        let layers = (0..geo.shape.layers)
            .map(|_| {
                Ok(LayerSpace {
                    h: operand(steps + 1)?,
                    masked: operand(steps)?,
                    dropped: operand(if_(dropout && !parts, steps))?,
                    records: zeros(if_(training && !parts, steps * sizes.records()))?,
                })
            })
            .collect::<Result<_, EngineError>>()?;
        let mut stage = zeros(if_(!parts, sizes.streams()))?;
        if !parts {
            stage.as_mut_slice()[geo.shape.hidden * width / 2..][..width / 2].fill(f32::from_bits(ONES));
        }
        Ok(Space {
            layers,
            characters: zeros(sizes.classes / 2 * width)?,
            one_hot: zeros(if_(training && !parts, steps * sizes.one_hot()))?,
            input: zeros(if_(parts, sizes.pairs()))?,
            gates: zeros(if_(training, 2 * sizes.gates()))?,
            class_pairs: zeros(if_(training, sizes.classes / 2 * width * sizes.parts))?,
            class_streams: zeros(if_(training, steps * sizes.stream_classes()))?,
            stage,
            along: match training && geo.sums_along() {
                true => Some(Along::new(geo, &sizes)?),
                false => None,
            },
        })
    }

    /// All sums along the backward pass `value`.
    #[cfg(test)]
    pub fn fill(&mut self, value: f32) {
        self.along.iter_mut().for_each(|along| along.fill(value));
    }

    /// A layer's records, and u32 from a step's to the next's.
    fn records<P: Product>(&self, sizes: &Sizes, slice: &Slice, layer: usize) -> (*mut f32, usize) {
        if P::PARTS == 1 {
            (self.layers[layer].records.shared(), sizes.records())
        } else {
            (slice.layers[layer].records.shared(), slice.record_stride)
        }
    }

    /// The state before step `t` of a layer, masked, and where in it the step is.
    fn before(&self, any_reset: &[bool], layer: usize, t: usize) -> &Operand {
        if any_reset[t] { &self.layers[layer].masked } else { &self.layers[layer].h }
    }

    /// The output of a layer, after dropout, and the slot of step `t`.
    fn output(&self, layer: usize, t: usize) -> (&Operand, usize) {
        let layer = &self.layers[layer];
        if layer.dropped.pairs.len() > 0 { (&layer.dropped, t) } else { (&layer.h, t + 1) }
    }
}

/// What a slice does, on one kind of products.
///
/// # Safety
/// The machine has P's instructions and AVX-512F, DQ, BW and BF16; the slice was made for the pass's geometry, with room.
#[inline(always)]
unsafe fn slice<P: Product>(
    work: Work,
    pass: &Pass,
    weights: &Weights,
    slice: &Slice,
    space: &Space,
    part: &Part,
) {
    // SAFETY: the caller's.
    unsafe {
        P::begin();
        slice.clock.start(part);
        forward::forward::<P>(pass, weights, slice, space, part);
        slice.clock.lap(Timed::Forward, part);
        match work {
            Work::Train => {
                head::losses::<P, true>(pass, weights, slice, space, part);
                part.meet();
                slice.clock.lap(Timed::Head, part);
                backward::backward::<P>(pass, weights, slice, space, part, true);
                slice.clock.lap(Timed::Backward, part);
            }
            Work::Layers => backward::backward::<P>(pass, weights, slice, space, part, false),
            Work::Evaluate => head::losses::<P, false>(pass, weights, slice, space, part),
            Work::Logits if part.rank == 0 => {
                let t = pass.steps - 1;
                head::logits::<P>(pass, weights, space, t, slice.logits.shared())
            }
            Work::Logits | Work::States => {}
        }
        P::end();
    }
}

/// The functions that carry `target_feature`.
macro_rules! entrances {
    ($($module:ident $P:ty, $gradient:ident of $Job:ty;)+) => {
        $(mod $module {
            use super::*;

            #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16,avx2,fma,f16c")]
            pub unsafe fn run(work: Work, pass: &Pass, weights: &Weights, s: &Slice, space: &Space, part: &Part) {
                // SAFETY: the caller's.
                unsafe { slice::<$P>(work, pass, weights, s, space, part) }
            }

            #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16,avx2,fma,f16c")]
            pub unsafe fn gradient(geo: &Geometry, slices: &[Slice], steps: usize, job: &mut $Job) {
                // SAFETY: the caller's.
                unsafe { $gradient::run::<$P>(geo, slices, steps, job) }
            }
        })+
    };
}

entrances!(
    dot Dot, gradient of Job; amx Amx, gradient of Job;
    split Split, gradient_parts of Group; split16 Split16, gradient_parts of Group;
);

/// Runs a thread's part of a slice.
///
/// # Safety
/// As [`super::dispatch::run_part`].
pub unsafe fn run_part(work: Work, pass: &Pass, weights: &Weights, slice: &Slice, part: &Part) {
    assert!(pass.steps >= 1 && pass.steps <= slice.steps, "the slice has room for the chunk");
    let Some(space) = &slice.short else { unreachable!("slices of this geometry have short memory") };
    // SAFETY: `Products` come from detection; the slice was made by `Slice::new` for this geometry.
    unsafe {
        match pass.geo.short {
            Some(Products::Amx) => amx::run(work, pass, weights, slice, space, part),
            Some(Products::Split) if slice.width == Split16::WIDTH => {
                split16::run(work, pass, weights, slice, space, part);
            }
            Some(Products::Split) => split::run(work, pass, weights, slice, space, part),
            _ => dot::run(work, pass, weights, slice, space, part),
        }
    }
}

/// Runs a gradient job over slices that have been trained on.
pub fn run_gradient(geo: &Geometry, slices: &[Slice], steps: usize, job: &mut Job) {
    assert!(slices.iter().all(|s| steps <= s.steps && s.short.is_some()), "slices for training");
    // SAFETY: as in `run_part`.
    unsafe {
        match geo.short {
            Some(Products::Amx) => amx::gradient(geo, slices, steps, job),
            _ => dot::gradient(geo, slices, steps, job),
        }
    }
}

/// Runs a group of f32 in parts over slices that have been trained on.
pub fn run_group(geo: &Geometry, slices: &[Slice], steps: usize, group: &mut Group) {
    assert!(slices.iter().all(|s| steps <= s.steps && s.short.is_some()), "slices for training");
    // SAFETY: as in `run_part`.
    unsafe {
        match slices.first() {
            Some(slice) if slice.width == Split16::WIDTH => split16::gradient(geo, slices, steps, group),
            _ => split::gradient(geo, slices, steps, group),
        }
    }
}

/// What the first lane of a slice did, from what its passes left: `Engine::tap`. In bf16.
pub fn activations(geo: &Geometry, slice: &Slice, steps: usize) -> Vec<LayerActivations> {
    let (sizes, hidden) = (Sizes::new(geo, slice.width), geo.shape.hidden);
    let Some(space) = &slice.short else { return Vec::new() };
    let layers = space.layers.iter().map(|short| {
        let mut out = LayerActivations::default();
        for t in 0..steps {
            let record = |unit: usize, slot: usize| {
                short.records.as_slice()[t * sizes.records() + (unit * sizes.record + slot) * slice.width]
            };
            let low = |x: f32| f32::from_bits(x.to_bits() << 16);
            let high = |x: f32| f32::from_bits(x.to_bits() & 0xffff_0000);
            let h = |unit: usize| {
                let pair = short.h.pairs.as_slice()[(t + 1) * sizes.pairs() + unit / 2 * slice.width];
                if unit % 2 == 1 { high(pair) } else { low(pair) }
            };
            out.h.extend((0..hidden).map(h));
            if geo.shape.cell == CellKind::Lstm {
                out.c.extend((0..hidden).map(|unit| record(unit, 2)));
            }
            for gate in 0..geo.gates {
                out.gates.extend((0..hidden).map(|unit| match (geo.shape.cell, gate) {
                    (CellKind::Rnn, _) => h(unit),
                    (CellKind::Gru, 2) => record(unit, 1),
                    (_, 0 | 2) => low(record(unit, gate / 2)),
                    _ => high(record(unit, gate / 2)),
                }));
            }
        }
        out
    });
    layers.collect()
}
