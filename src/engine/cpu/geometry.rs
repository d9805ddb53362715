//! How a model and a batch are laid out for one instruction set.
//!
//! Batch rows lie in SIMD lanes. A *slice* is W = NV * LANES streams; each slice runs a whole chunk on one thread.
//! Activations are [T][unit][W], so that every product is "broadcast one weight, multiply W streams". Gates are
//! interleaved per unit: row j = u * G + g. Weight gradients are one product over T x B in panels of PW columns j.

use super::short::Products;
use super::simd::ROW_CHUNK;
use crate::engine::Precision;
use crate::model::{CellKind, ModelShape};

/// The instruction set that kernels run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust.
    Portable,
    /// AVX2, FMA, F16C.
    Avx2,
    /// AVX-512F and DQ.
    Avx512,
    /// AVX-512 with dot products of bf16 pairs; f32 and f16 run as on `Avx512`.
    Avx512Bf16,
    /// AMX tiles of bf16 and AVX-512; f32 and f16 likewise.
    Amx,
}

impl Isa {
    /// The best that this machine has, or what the environment variable `SONGRNN_CPU` (`portable`, `avx2`, `avx512`,
    /// `avx512bf16`, `amx`) asks for; refused where that is none of them or the machine lacks it.
    pub fn detect() -> Result<Isa, String> {
        match std::env::var("SONGRNN_CPU") {
            Ok(asked) if !asked.is_empty() => Isa::named(&asked),
            _ => {
                let worth = |isa: &Isa| isa.products().is_none_or(Products::pay);
                Ok(Isa::available().into_iter().rfind(worth).unwrap_or(Isa::Portable))
            }
        }
    }

    fn named(asked: &str) -> Result<Isa, String> {
        let isa = match asked {
            "portable" => Isa::Portable,
            "avx2" => Isa::Avx2,
            "avx512" => Isa::Avx512,
            "avx512bf16" => Isa::Avx512Bf16,
            "amx" => Isa::Amx,
            _ => {
                let expected = "expected portable, avx2, avx512, avx512bf16 or amx";
                return Err(format!("SONGRNN_CPU={asked}: {expected}"));
            }
        };
        if Isa::available().contains(&isa) {
            Ok(isa)
        } else {
            Err(format!(
                "SONGRNN_CPU={asked}: this machine does not have {isa}; unset it to use the best there is"
            ))
        }
    }

    /// All that this machine has; in order of speed, but that `Avx512Bf16` may be slower than f32.
    pub fn available() -> Vec<Isa> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
        let mut all = vec![Isa::Portable];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            all.push(Isa::Avx2);
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
                all.push(Isa::Avx512);
                for (products, isa) in [(Products::Dot, Isa::Avx512Bf16), (Products::Amx, Isa::Amx)] {
                    if products.available() {
                        all.push(isa);
                    }
                }
            }
        }
        all
    }

    /// What runs a precision on this set: sets with bf16 products are AVX-512 in other precisions.
    pub fn running(self, precision: Precision) -> Isa {
        match self {
            Isa::Avx512Bf16 | Isa::Amx if precision != Precision::Bf16 => Isa::Avx512,
            _ => self,
        }
    }

    /// The products of bf16 pairs, where the set has them.
    pub fn products(self) -> Option<Products> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => Some(Products::Dot),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => Some(Products::Amx),
            _ => None,
        }
    }

    /// The products of f32 in parts of bf16, where the set has them.
    pub fn products_of_parts(self) -> Option<Products> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => Some(Products::Split),
            _ => None,
        }
    }

    /// Whether vectors are AVX-512's.
    fn wide(self) -> bool {
        matches!(self, Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx)
    }

    /// The name in records of speed: `portable`, `avx2`, `avx512`, `avx512bf16`, `amx`.
    pub fn tier(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512bf16",
            Isa::Amx => "amx",
        }
    }

    /// f32 a vector.
    pub fn lanes(self) -> usize {
        if self.wide() { 16 } else { 8 }
    }

    /// MR: rows of the register tile of head, backward and weight-gradient products (times two vectors).
    pub fn tile_rows(self) -> usize {
        if self.wide() { 12 } else { 6 }
    }

    /// UB: units of the forward register tile (times G gates, times NV vectors).
    pub fn unit_block(self, cell: CellKind) -> usize {
        match (self.wide(), cell) {
            (true, CellKind::Lstm) => 3,
            (true, CellKind::Gru) => 4,
            (true, CellKind::Rnn) => 12,
            (_, CellKind::Lstm) => 1,
            (_, CellKind::Gru) => 2,
            (_, CellKind::Rnn) => 6,
        }
    }

    /// PW: columns of a weight-gradient panel (two vectors).
    pub fn panel(self) -> usize {
        2 * self.lanes()
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2+fma",
            Isa::Avx512 => "avx512f",
            Isa::Avx512Bf16 => "avx512bf16",
            Isa::Amx => "amx",
        })
    }
}

/// Sizes derived from a model's shape and an instruction set.
#[derive(Debug, Clone, Copy)]
pub struct Geometry {
    /// The model.
    pub shape: ModelShape,
    /// The instruction set.
    pub isa: Isa,
    /// The products of bf16 pairs, where the `short` kernels run.
    pub short: Option<Products>,
    /// G.
    pub gates: usize,
    /// H rounded up to a multiple of every tile and of 8 (transposition), and of 32 for the short kernels: rows of
    /// unit-major buffers.
    pub units: usize,
    /// V rounded up likewise.
    pub classes: usize,
    /// Values a unit leaves for the backward pass: LSTM i f g o c tanh(c); GRU r z n and the recurrent part of n.
    pub record: usize,
}

impl Geometry {
    /// Derives the sizes; `isa` is what runs the precision. Forward passes of f32 have the bits of few streams' (`narrow`).
    pub fn new(shape: ModelShape, isa: Isa) -> Geometry {
        Geometry::of(shape, isa, isa.products())
    }

    /// Of f32 in tiles of bf16, where that is faster for some number of streams.
    pub fn split(shape: ModelShape, isa: Isa) -> Option<Geometry> {
        let products = isa.products_of_parts()?;
        Some(Geometry::of(shape, isa, Some(products))).filter(|geo| geo.splits(usize::MAX))
    }

    /// Whether it trains so many streams: more than one slice of sixteen, for the threads of one would have to pass on half as
    /// many bytes again as in f32, of models from 64 units on (a tanh network 96). Slices of sixteen, of no more than 32 streams,
    /// use weights half as often: models from 96 units on whose weights stay in the second-level cache. Measured on Sapphire
    /// Rapids. It may depend on nothing but the streams and the model: sums have another order than elsewhere.
    pub fn splits(&self, streams: usize) -> bool {
        let ModelShape { cell, hidden, layers, .. } = self.shape;
        let lanes = self.isa.lanes();
        let pays = match cell {
            CellKind::Lstm | CellKind::Gru => hidden >= 64,
            CellKind::Rnn => hidden >= 96,
        };
        // A GRU's weights are for four rows where it has three.
        let inputs = if cell == CellKind::Gru && layers > 1 { 2 * hidden } else { hidden };
        let few = hidden >= 96 && self.slots() * hidden * inputs <= 512 * 512;
        self.has_parts() && pays && (streams > 2 * lanes || streams > lanes && few)
    }

    /// Whether the short kernels' numbers have parts.
    pub fn has_parts(&self) -> bool {
        self.short.is_some_and(|products| products.parts() > 1)
    }

    fn of(shape: ModelShape, isa: Isa, short: Option<Products>) -> Geometry {
        let parts = short.is_some_and(|products| products.parts() > 1);
        let record = match shape.cell {
            // tanh(c) is sooner computed again than brought from beyond the caches.
            CellKind::Lstm if parts => 5,
            CellKind::Lstm => 6,
            CellKind::Gru => 4,
            CellKind::Rnn => 0,
        };
        // For both kinds of kernels where both run.
        let padded = |n: usize| {
            let (plain, tiles) = (n.next_multiple_of(24), n.next_multiple_of(32));
            match short {
                Some(_) if !parts => tiles,
                None if !isa.wide() => plain,
                _ => plain.max(tiles),
            }
        };
        Geometry {
            shape,
            isa,
            short,
            gates: shape.cell.gates(),
            units: padded(shape.hidden),
            classes: padded(shape.vocab),
            record,
        }
    }

    /// Whether weight gradients are the f32 kernels'.
    pub fn has_plain_gradients(&self) -> bool {
        self.short.is_none()
    }

    /// Whether the short kernels of bf16 sum the weights' gradients as the backward pass goes along, each slice its own sums: what is
    /// multiplied comes out of the caches then. Where those hold the sums beside it; no layer's are more than this.
    pub fn sums_along(&self) -> bool {
        const MOST: usize = 768 << 10;
        let ModelShape { hidden, layers, vocab, .. } = self.shape;
        let (rows, columns) = (self.slots() * hidden, hidden.next_multiple_of(32));
        let above = if layers > 1 { columns } else { 0 };
        let floats = (rows * (columns + vocab.max(above))).max(vocab * columns);
        self.short.is_some() && !self.has_parts() && 4 * floats <= MOST
    }

    /// Gate rows a unit of the short kernels: a GRU's n has two.
    pub fn slots(&self) -> usize {
        if self.shape.cell == CellKind::Rnn { 1 } else { 4 }
    }

    /// f32 of logits that a thread works on, for slices of `width` streams.
    pub fn logits(&self, width: usize) -> usize {
        if self.has_parts() { 2 * self.classes * 32 } else { self.classes * width }
    }

    /// NV: vectors a slice. It may depend on the batch alone, never on the number of threads: it decides the order in
    /// which weight gradients are summed.
    pub fn vectors(&self, streams: usize) -> usize {
        let tiles = self.short.is_some() && !self.has_parts();
        if tiles || streams > 2 * self.isa.lanes() { self.most_vectors() } else { 1 }
    }

    /// The most vectors that a slice can have.
    pub fn most_vectors(&self) -> usize {
        // Plain Rust has sixteen registers of four lanes: two vectors of eight would not fit.
        if self.isa == Isa::Portable { 1 } else { 2 }
    }

    /// Elements from row to row of the first layer's table [unit][G][V].
    pub fn row_stride(&self) -> usize {
        self.shape.vocab.next_multiple_of(ROW_CHUNK)
    }

    /// Panels of the gate rows' gradient tiles.
    pub fn gate_panels(&self) -> usize {
        (self.gates * self.shape.hidden).div_ceil(self.isa.panel())
    }

    /// Panels of the logits' gradient tiles.
    pub fn class_panels(&self) -> usize {
        self.shape.vocab.div_ceil(self.isa.panel())
    }

    /// Sets of gradient tiles a layer has: a GRU's gradients differ before the input and the recurrent product.
    pub fn tile_sets(&self) -> usize {
        if self.shape.cell == CellKind::Gru { 2 } else { 1 }
    }

    /// Elements of one time step of a layer's records, for slices of `width` streams. When a step's records have
    /// been used in the backward pass, its gradient tiles, or its gate rows' gradients as f32 (of parts), are written over them.
    pub fn record_step(&self, width: usize) -> usize {
        let rows = match self.has_parts() {
            true => (self.slots() * self.shape.hidden).next_multiple_of(32),
            false => self.tile_sets() * self.gate_panels() * self.isa.panel(),
        };
        (self.units * self.record).max(rows) * width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_set_that_is_not_there_is_refused() {
        assert_eq!(Isa::named("portable"), Ok(Isa::Portable));
        assert!(
            Isa::named("sse9").unwrap_err().contains("expected portable, avx2, avx512, avx512bf16 or amx")
        );
        for (name, isa) in [("avx512", Isa::Avx512), ("avx512bf16", Isa::Avx512Bf16), ("amx", Isa::Amx)] {
            assert_eq!(Isa::named(name).is_ok(), Isa::available().contains(&isa), "{name}");
        }
    }
}
