//! A block's sums, the streams whose they are, and what becomes of them.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // The contract of `step::run`.

use std::arch::x86_64::*;

use super::space::Space;
use super::tiles::{GROUP, ROW};
use super::weights::{COLUMNS, DIGITS, Matrix};

/// A vector.
pub type V = __m512;

/// i32 of a group's sums of a block [column][digit][stream][16].
pub const GROUP_SUMS: usize = COLUMNS * DIGITS * GROUP * 16;

/// Unaligned load.
#[inline(always)]
pub unsafe fn load(p: *const f32) -> V {
    _mm512_loadu_ps(p)
}

/// The digits of a layer before a step (0) or after it (1).
#[inline(always)]
pub fn digits(space: &Space, layer: usize, after: usize) -> *mut i8 {
    space.layers[layer].digits[space.now ^ after].shared().cast()
}

/// What a stream's sums of a column come to, with its bias.
#[inline(always)]
pub unsafe fn total(sums: *const i32, n: usize, column: usize, scale: V, bias: *const f32) -> V {
    let first = sums.wrapping_add(column * DIGITS * n * 16);
    let (second, third) = (first.wrapping_add(n * 16), first.wrapping_add(2 * n * 16));
    let part = _mm512_set1_ps(1.0 / 256.0);
    let sum = _mm512_fmadd_ps(whole(third), part, whole(second));
    let sum = _mm512_fmadd_ps(sum, part, whole(first));
    _mm512_fmadd_ps(sum, scale, _mm512_loadu_ps(bias.add(column * 16)))
}

#[inline(always)]
unsafe fn whole(sums: *const i32) -> V {
    _mm512_cvtepi32_ps(_mm512_loadu_si512(sums.cast()))
}

/// Stores the digits of sixteen units' states times [`ONE`](super::weights::ONE), `apart` bytes from digit to digit.
#[inline(always)]
unsafe fn store_digits(to: *mut i8, apart: usize, together: *const i32, h: V) {
    let whole = _mm512_cvtps_epi32(h);
    // Bytes from -128 to 127: what is 128 or more carries one into the next.
    let half = _mm512_set1_epi32(0x80_8080);
    let bytes = _mm512_xor_si512(_mm512_add_epi32(whole, half), half);
    // Of each four numbers the third bytes, the second, the first; then of all sixteen.
    let fours = _mm512_set4_epi32(0x0f0b_0703, 0x0c08_0400, 0x0d09_0501, 0x0e0a_0602);
    let sorted = _mm512_shuffle_epi8(bytes, fours);
    let sorted = _mm512_permutexvar_epi32(_mm512_loadu_si512(together.cast()), sorted);
    _mm_storeu_si128(to.cast(), _mm512_castsi512_si128(sorted));
    _mm_storeu_si128(to.wrapping_add(apart).cast(), _mm512_extracti32x4_epi32::<1>(sorted));
    _mm_storeu_si128(to.wrapping_add(2 * apart).cast(), _mm512_extracti32x4_epi32::<2>(sorted));
}

/// Numbers 0, 4, 8, 12, then 1, 5 and so on.
static TOGETHER: [i32; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];

/// Where a layer's cells read and write.
#[derive(Clone, Copy)]
pub struct Layer {
    /// Streams a group, and groups.
    pub n: usize,
    pub groups: usize,
    hidden: usize,
    /// Units a block.
    units: usize,
    scale: *const f32,
    bias: *const f32,
    /// From one character's biases to the next one's, and the streams' characters; 0 above the first layer.
    table: usize,
    ids: *const u16,
    /// [stream][width]
    values: *mut f32,
    width: usize,
    /// The first stream's largest digits after the step, and bytes from one 64 units to the next, from group to group.
    digits: *mut i8,
    tile: usize,
    group: usize,
    /// [`TOGETHER`], which the compiler must not see: it would make three shuffles of one.
    together: *const i32,
}

impl Layer {
    /// Of layer `number`.
    pub fn new(space: &Space, matrix: &Matrix, number: usize) -> Layer {
        Layer {
            n: space.streams,
            groups: space.groups,
            hidden: matrix.outputs,
            units: matrix.rows.outputs(),
            scale: matrix.scale.ptr(),
            bias: matrix.bias.ptr(),
            table: if number == 0 { matrix.blocks() * COLUMNS * 16 } else { 0 },
            ids: space.ids.as_ptr(),
            values: space.layers[number].values.shared(),
            width: matrix.outputs.next_multiple_of(16),
            digits: digits(space, number, 1).wrapping_add(space.zeros()),
            tile: space.tile_bytes(),
            group: space.group_bytes(),
            together: std::hint::black_box(TOGETHER.as_ptr()),
        }
    }
}

/// N streams of a block; more than one are of a full group.
pub struct Streams<'a, const N: usize> {
    pub layer: &'a Layer,
    block: usize,
    /// The block's.
    sums: *const i32,
    /// The first of the streams, and what is theirs: sums of the first column, biases, values, digits after the step.
    pub stream: usize,
    own: *const i32,
    bias: [*const f32; N],
    values: *mut f32,
    digits: *mut i8,
}

impl<'a, const N: usize> Streams<'a, N> {
    /// The first ones.
    #[inline(always)]
    pub unsafe fn new(layer: &'a Layer, block: usize, sums: *const i32) -> Streams<'a, N> {
        let none = std::ptr::null_mut();
        let (own, bias) = (sums, [std::ptr::null(); N]);
        let mut streams =
            Streams { layer, block, sums, stream: 0, own, bias, values: none, digits: none.cast() };
        streams.find();
        streams
    }

    /// Streams a group.
    #[inline(always)]
    fn n(&self) -> usize {
        if N == 1 { self.layer.n } else { GROUP }
    }

    /// What is theirs.
    #[inline(always)]
    pub unsafe fn find(&mut self) {
        let Layer { bias, table, ids, values, width, digits, tile, group, units, .. } = *self.layer;
        let (number, stream) = (self.stream / self.n(), self.stream % self.n());
        self.own = self.sums.wrapping_add(number * GROUP_SUMS + stream * 16);
        for s in 0..N {
            let id = usize::from(*ids.wrapping_add(self.stream + s));
            self.bias[s] = bias.wrapping_add(id * table + self.block * COLUMNS * 16);
        }
        self.values = values.wrapping_add(self.stream * width + self.block * 16);
        let unit = self.block * units;
        self.digits = digits.wrapping_add(number * group + unit / ROW * tile + stream * ROW + unit % ROW);
    }

    /// What a column comes to.
    #[inline(always)]
    pub unsafe fn column(&self, column: usize) -> [V; N] {
        let scale = _mm512_loadu_ps(self.layer.scale.add((self.block * COLUMNS + column) * 16));
        let mut z = [_mm512_setzero_ps(); N];
        for s in 0..N {
            let sums = self.own.wrapping_add(s * 16);
            z[s] = total(sums, self.n(), column, scale, self.bias[s]);
        }
        z
    }

    /// Sixteen units' values of a stream.
    #[inline(always)]
    pub unsafe fn values(&self, s: usize) -> *mut f32 {
        self.values.wrapping_add(s * self.layer.width)
    }

    /// Stores the new states, times [`ONE`](super::weights::ONE), of the sixteen units of a column (the first one's where a
    /// block has sixteen). Beyond the last unit they are 0, as weights and biases are.
    #[inline(always)]
    pub unsafe fn store(&self, column: usize, h: [V; N]) {
        let Layer { hidden, units, together, .. } = *self.layer;
        let unit = self.block * units + column * 16;
        if unit >= hidden {
            return;
        }
        let (to, apart) = (self.digits.wrapping_add(column * 16), self.n() * ROW);
        for s in 0..N {
            store_digits(to.wrapping_add(s * ROW), apart, together, h[s]);
        }
    }
}
