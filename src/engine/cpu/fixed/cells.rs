//! The cells, in stages that are done between the pieces of a product.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // The contract of `step::run`.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::super::math::one_and_exp2;
use super::super::short::Pieces;
use super::super::simd::{Avx512, Simd};
use super::block::{Layer, Streams, V};
use super::weights::{COLUMNS, ONE};

/// A cell's arithmetic, in stages, none of them long: they are done between the pieces of a product.
pub trait Cell {
    /// How many; each is done once.
    const STAGES: usize;
    /// A stage of N streams; `kept` is what the stages before it have left.
    unsafe fn stage<const N: usize>(streams: &Streams<N>, stage: usize, kept: &mut [[V; N]; 3]);
}

/// The largest exponent of [`power`]: three of them multiplied are below 2^126, and one over 2^41 is nothing beside 1.
const MOST: f32 = 41.0;

/// 1 + 2^t.
#[inline(always)]
unsafe fn power<const N: usize>(t: [V; N]) -> [V; N] {
    let [p] = one_and_exp2::<Avx512, 1, N>([t], MOST);
    p
}

#[inline(always)]
unsafe fn reciprocal(x: V) -> V {
    <Avx512 as Simd>::reciprocal(x)
}

/// (b - 2) times `by`: with b = [`power`], tanh is (b - 2) / b.
#[inline(always)]
unsafe fn less_two(b: V, by: f32) -> V {
    _mm512_fmadd_ps(b, _mm512_set1_ps(by), _mm512_set1_ps(-2.0 * by))
}

/// i, f, g, o.
pub struct Lstm;

/// With I, F, O = 1 + 2^t the gates are 1 / I and so on, and with G likewise g is (G - 2) / G: one division for the new c, and
/// one for the new h.
impl Cell for Lstm {
    const STAGES: usize = 5;

    #[inline(always)]
    unsafe fn stage<const N: usize>(streams: &Streams<N>, stage: usize, kept: &mut [[V; N]; 3]) {
        match stage {
            0 => kept[0] = power(streams.column(0)),
            1 => kept[1] = power(streams.column(1)),
            2 => {
                let g = power(streams.column(2));
                for s in 0..N {
                    let (at, forget) = (streams.values(s), kept[1][s]);
                    let both = _mm512_mul_ps(kept[0][s], g[s]);
                    let new = _mm512_mul_ps(less_two(g[s], 1.0), forget);
                    let c = _mm512_fmadd_ps(_mm512_loadu_ps(at), both, new);
                    let c = _mm512_mul_ps(c, reciprocal(_mm512_mul_ps(both, forget)));
                    _mm512_storeu_ps(at, c);
                    kept[2][s] = c;
                }
            }
            3 => kept[0] = power(streams.column(3)),
            _ => {
                let mut t = kept[2];
                for s in 0..N {
                    t[s] = _mm512_mul_ps(t[s], _mm512_set1_ps(2.0 * std::f32::consts::LOG2_E));
                }
                let mut h = power(t);
                for s in 0..N {
                    let over = reciprocal(_mm512_mul_ps(kept[0][s], h[s]));
                    h[s] = _mm512_mul_ps(less_two(h[s], ONE), over);
                }
                streams.store(0, h);
            }
        }
    }
}

/// r, z, n.
pub struct Gru;

/// The same: with Z and N the new h is ((N - 2) (Z - 1) + N h) / (N Z).
impl Cell for Gru {
    const STAGES: usize = 3;

    #[inline(always)]
    unsafe fn stage<const N: usize>(streams: &Streams<N>, stage: usize, kept: &mut [[V; N]; 3]) {
        match stage {
            0 => kept[0] = power(streams.column(0)),
            1 => kept[1] = power(streams.column(1)),
            _ => {
                let (recurrent, mut t) = (streams.column(2), streams.column(3));
                for s in 0..N {
                    t[s] = _mm512_fmadd_ps(reciprocal(kept[0][s]), recurrent[s], t[s]);
                }
                let n = power(t);
                let mut h = n;
                for s in 0..N {
                    let (at, z) = (streams.values(s), kept[1][s]);
                    let new = _mm512_mul_ps(less_two(n[s], 1.0), _mm512_sub_ps(z, _mm512_set1_ps(1.0)));
                    let sum = _mm512_fmadd_ps(n[s], _mm512_loadu_ps(at), new);
                    let after = _mm512_mul_ps(sum, reciprocal(_mm512_mul_ps(n[s], z)));
                    _mm512_storeu_ps(at, after);
                    h[s] = _mm512_mul_ps(after, _mm512_set1_ps(ONE));
                }
                streams.store(0, h);
            }
        }
    }
}

/// tanh.
pub struct Rnn;

impl Cell for Rnn {
    const STAGES: usize = COLUMNS;

    #[inline(always)]
    unsafe fn stage<const N: usize>(streams: &Streams<N>, stage: usize, _: &mut [[V; N]; 3]) {
        let mut h = power(streams.column(stage));
        for s in 0..N {
            h[s] = _mm512_fmadd_ps(reciprocal(h[s]), _mm512_set1_ps(-2.0 * ONE), _mm512_set1_ps(ONE));
        }
        streams.store(stage, h);
    }
}

/// The cells of a block, whose sums are there: in pieces of a stage of N streams; of one stream in a single one.
pub struct Cells<'a, C, const N: usize> {
    streams: Streams<'a, N>,
    stage: usize,
    kept: [[V; N]; 3],
    pieces: usize,
    of: PhantomData<C>,
}

impl<'a, C: Cell, const N: usize> Cells<'a, C, N> {
    /// Of a block, or of none.
    #[inline(always)]
    pub unsafe fn new(layer: &'a Layer, block: Option<usize>, sums: *const i32) -> Cells<'a, C, N> {
        let stages = if N == 1 { 1 } else { C::STAGES };
        Cells {
            streams: Streams::new(layer, block.unwrap_or(0), sums),
            stage: 0,
            kept: [[_mm512_setzero_ps(); N]; 3],
            pieces: if block.is_some() { layer.n * layer.groups / N * stages } else { 0 },
            of: PhantomData,
        }
    }

    /// The next piece. A call, for a copy of it at each turn of a product would not fit into the instructions' cache.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx2,fma,f16c")]
    unsafe fn next(&mut self) {
        if N == 1 {
            for stage in 0..C::STAGES {
                C::stage::<N>(&self.streams, stage, &mut self.kept);
            }
        } else {
            C::stage::<N>(&self.streams, self.stage, &mut self.kept);
            self.stage += 1;
            if self.stage < C::STAGES {
                return;
            }
        }
        self.stage = 0;
        self.streams.stream += N;
        if self.streams.stream < self.streams.layer.n * self.streams.layer.groups {
            self.streams.find();
        }
    }
}

impl<C: Cell, const N: usize> Pieces for Cells<'_, C, N> {
    #[inline(always)]
    fn pieces(&self) -> usize {
        self.pieces
    }

    #[inline(always)]
    unsafe fn piece(&mut self) {
        self.next();
    }
}
