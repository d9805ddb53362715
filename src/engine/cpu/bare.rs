//! The kernels' product loop with nothing around it, to be measured: how much of the processor's peak such a loop can have
//! where weights come from the caches, and so how much of it a whole step could have at most.

use super::Isa;
use super::buffer::Buffer;
use super::dispatch::run_bare;
use crate::engine::EngineError;

/// The products of one step of a recurrent layer for two vectors of streams.
#[derive(Debug)]
pub struct Bare {
    isa: Isa,
    depth: usize,
    blocks: usize,
    weights: Buffer,
    x: Buffer,
    out: Buffer,
}

impl Bare {
    /// `rows` gate rows by `depth`, on the instruction set of a tier (see [`Isa::tier`]); None where this machine lacks it
    /// or slices have no two vectors.
    pub fn new(tier: &str, rows: usize, depth: usize) -> Result<Option<Bare>, EngineError> {
        let Some(isa) = Isa::available().into_iter().find(|isa| isa.tier() == tier && *isa != Isa::Portable)
        else {
            return Ok(None);
        };
        let (tile, width) = (isa.tile_rows(), 2 * isa.lanes());
        let blocks = rows.div_ceil(tile);
        let what = "a measured product";
        let mut bare = Bare {
            isa,
            depth,
            blocks,
            weights: Buffer::zeros(blocks * tile * depth, what)?,
            x: Buffer::zeros(depth * width, what)?,
            out: Buffer::zeros(blocks * tile * width, what)?,
        };
        // Pages that were never written are all one.
        bare.weights.as_mut_slice().fill(0.01);
        bare.x.as_mut_slice().fill(0.5);
        Ok(Some(bare))
    }

    /// Floating-point operations of a run.
    pub fn operations(&self) -> f64 {
        2.0 * (self.blocks * self.isa.tile_rows() * self.depth * 2 * self.isa.lanes()) as f64
    }

    /// Runs all of them once.
    pub fn run(&mut self) {
        run_bare(self.isa, self.blocks, self.depth, &self.weights, &self.x, &mut self.out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_products() {
        let mut ran = 0;
        for tier in ["portable", "avx2", "avx512", "no such"] {
            let Some(mut bare) = Bare::new(tier, 20, 7).unwrap() else { continue };
            bare.run();
            assert!(bare.out.as_slice().iter().all(|&sum| (sum - 7.0 * 0.005).abs() < 1e-6));
            assert_eq!(bare.operations(), 2.0 * (24 * 7 * 2 * bare.isa.lanes()) as f64);
            ran += 1;
        }
        assert!(ran > 0 || Isa::available() == [Isa::Portable]);
    }
}
