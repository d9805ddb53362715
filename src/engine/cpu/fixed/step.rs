//! One step of all streams: products in tiles, and behind each block's its cells.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // The contract of `run`.

use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::math::one_and_exp2;
use super::super::short::{Pieces, Spread};
use super::super::simd::{Avx512, Simd};
use super::super::team::Meeting;
use super::space::Space;
use super::tiles::{self, FEW, GROUP, Groups, ROW};
use super::weights::{COLUMNS, DIGITS, Matrix, ONE, Weights};
use crate::model::CellKind;

/// What a step is given.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// The model.
    pub weights: &'a Weights,
    /// The streams; the states after the step are in the other half of the digits.
    pub space: &'a Space,
    /// Whether logits are wanted.
    pub logits: bool,
    /// Of the threads that share the step.
    pub meeting: &'a Meeting,
}

/// i32 of a group's sums of a block [column][digit][stream][16].
const GROUP_SUMS: usize = COLUMNS * DIGITS * GROUP * 16;

/// Sums of two blocks: of one that is multiplied, and of the one before, whose cells are computed meanwhile.
#[repr(align(64))]
struct Sums(MaybeUninit<[[i32; 2 * GROUP_SUMS]; 2]>);

/// A vector.
type V = __m512;

/// A member's part of a step. Member 0 has called [`tiles::begin`] for the space's streams; others do here.
///
/// # Safety
/// The machine has AMX with bytes and AVX-512 with F, DQ and BW, and this process may use the tiles. Every member of the meeting
/// runs the same step once, and nothing else uses its space.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx2,fma,f16c")]
pub unsafe fn run(step: &Step, member: usize) {
    let Step { weights, space, meeting, .. } = *step;
    let share = |blocks: usize| {
        let of = meeting.members;
        blocks * member / of..blocks * (member + 1) / of
    };
    let mut sums = Sums(MaybeUninit::uninit());
    let first: *mut i32 = sums.0.as_mut_ptr().cast();
    let sums = [first, first.add(2 * GROUP_SUMS)];
    if member > 0 {
        tiles::begin(space.streams, weights.head.depth);
    }
    for (layer, matrix) in weights.layers.iter().enumerate() {
        let blocks = share(matrix.blocks());
        match (weights.shape.cell, space.streams) {
            (CellKind::Lstm, GROUP) => layer_of::<Lstm, 4>(step, layer, matrix, blocks, sums),
            (CellKind::Lstm, _) => layer_of::<Lstm, 1>(step, layer, matrix, blocks, sums),
            (CellKind::Gru, GROUP) => layer_of::<Gru, 4>(step, layer, matrix, blocks, sums),
            (CellKind::Gru, _) => layer_of::<Gru, 1>(step, layer, matrix, blocks, sums),
            (CellKind::Rnn, GROUP) => layer_of::<Rnn, 4>(step, layer, matrix, blocks, sums),
            (CellKind::Rnn, _) => layer_of::<Rnn, 1>(step, layer, matrix, blocks, sums),
        }
        meeting.barrier();
    }
    if step.logits {
        head(step, share(weights.head.blocks()), sums);
    }
    if member > 0 {
        tiles::end();
    }
}

/// The digits of a layer before a step (0) or after it (1).
#[inline(always)]
fn digits(space: &Space, layer: usize, after: usize) -> *mut i8 {
    space.layers[layer].digits[space.now ^ after].shared().cast()
}

/// The sums of a block; `from`: the digits that each of its parts is multiplied with. `beside` is done meanwhile.
#[inline(always)]
unsafe fn products(
    space: &Space,
    matrix: &Matrix,
    block: usize,
    from: [*const i8; 2],
    sums: *mut i32,
    beside: &mut impl Pieces,
) {
    let (n, zeros, tile) = (space.streams, space.zeros(), space.tile_bytes());
    let first = matrix.operands(block, 0, from[0].wrapping_add(zeros), tile);
    let operands = [first, matrix.operands(block, matrix.parts - 1, from[1].wrapping_add(zeros), tile)];
    let operands = &operands[..matrix.parts];
    let turns = 3 * matrix.depth.tiles();
    if n <= FEW {
        let mut beside = Spread::early(beside, turns * operands.len());
        return tiles::few(operands, matrix.depth, n, sums, &mut beside);
    }
    let mut columns = 0;
    for operands in operands {
        columns += operands.columns.count();
    }
    let mut beside = Spread::early(beside, turns * columns);
    let groups = Groups { digits: space.group_bytes(), sums: GROUP_SUMS };
    for column in 0..COLUMNS {
        let to = sums.wrapping_add(column * DIGITS * GROUP * 16);
        if space.groups == 1 {
            tiles::many::<false>(operands, column, matrix.depth, groups, to, &mut beside);
        } else {
            tiles::many::<true>(operands, column, matrix.depth, groups, to, &mut beside);
        }
    }
}

/// What a stream's sums of a column come to, with its bias.
#[inline(always)]
unsafe fn total(sums: *const i32, n: usize, column: usize, scale: V, bias: *const f32) -> V {
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

/// Stores the digits of sixteen units' states times [`ONE`], as far as `kept` keeps them, `apart` bytes from digit to digit.
#[inline(always)]
unsafe fn store_digits(to: *mut i8, apart: usize, kept: __m512i, together: *const i32, h: V) {
    let whole = _mm512_cvtps_epi32(h);
    // Bytes from -128 to 127: what is 128 or more carries one into the next.
    let half = _mm512_set1_epi32(0x80_8080);
    let bytes = _mm512_xor_si512(_mm512_add_epi32(whole, half), half);
    // Of each four numbers the third bytes, the second, the first; then of all sixteen.
    let fours = _mm512_set4_epi32(0x0f0b_0703, 0x0c08_0400, 0x0d09_0501, 0x0e0a_0602);
    let sorted = _mm512_and_si512(_mm512_shuffle_epi8(bytes, fours), kept);
    let sorted = _mm512_permutexvar_epi32(_mm512_loadu_si512(together.cast()), sorted);
    _mm_storeu_si128(to.cast(), _mm512_castsi512_si128(sorted));
    _mm_storeu_si128(to.wrapping_add(apart).cast(), _mm512_extracti32x4_epi32::<1>(sorted));
    _mm_storeu_si128(to.wrapping_add(2 * apart).cast(), _mm512_extracti32x4_epi32::<2>(sorted));
}

/// Numbers 0, 4, 8, 12, then 1, 5 and so on.
static TOGETHER: [i32; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];

/// For [`store_digits`], in the order of its bytes before the last step: those of the first `n` units of sixteen.
#[inline(always)]
unsafe fn first(n: usize) -> __m512i {
    // Lane i of four has units 4 i to 4 i + 3, each digit's beside one another.
    let fours = _mm512_set_epi32(12, 12, 12, 12, 8, 8, 8, 8, 4, 4, 4, 4, 0, 0, 0, 0);
    let four = _mm512_set1_epi32(0x0302_0100);
    let units = _mm512_add_epi8(_mm512_mullo_epi32(fours, _mm512_set1_epi32(0x0101_0101)), four);
    _mm512_movm_epi8(_mm512_cmplt_epi8_mask(units, _mm512_set1_epi8(n.min(16) as i8)))
}

/// Where a layer's cells read and write.
#[derive(Clone, Copy)]
struct Layer {
    /// Streams a group, and groups.
    n: usize,
    groups: usize,
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
    fn new(space: &Space, matrix: &Matrix, number: usize) -> Layer {
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
struct Streams<'a, const N: usize> {
    layer: &'a Layer,
    block: usize,
    /// The block's.
    sums: *const i32,
    /// The first of the streams, and what is theirs: sums of the first column, biases, values, digits after the step.
    stream: usize,
    own: *const i32,
    bias: [*const f32; N],
    values: *mut f32,
    digits: *mut i8,
}

impl<'a, const N: usize> Streams<'a, N> {
    /// The first ones.
    #[inline(always)]
    unsafe fn new(layer: &'a Layer, block: usize, sums: *const i32) -> Streams<'a, N> {
        let none = std::ptr::null_mut();
        let (own, bias) = (sums, [std::ptr::null(); N]);
        let mut streams = Streams { layer, block, sums, stream: 0, own, bias, values: none, digits: none.cast() };
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
    unsafe fn find(&mut self) {
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
    unsafe fn column(&self, column: usize) -> [V; N] {
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
    unsafe fn values(&self, s: usize) -> *mut f32 {
        self.values.wrapping_add(s * self.layer.width)
    }

    /// Stores the new states, times [`ONE`], of the sixteen units of a column (the first one's where a block has sixteen).
    #[inline(always)]
    unsafe fn store(&self, column: usize, h: [V; N]) {
        let Layer { hidden, units, together, .. } = *self.layer;
        let unit = self.block * units + column * 16;
        if unit >= hidden {
            return;
        }
        let (to, apart) = (self.digits.wrapping_add(column * 16), self.n() * ROW);
        let kept = first(hidden - unit);
        for s in 0..N {
            store_digits(to.wrapping_add(s * ROW), apart, kept, together, h[s]);
        }
    }
}

/// A cell's arithmetic, in stages, none of them long: they are done between the pieces of a product.
trait Cell {
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

struct Lstm;

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

struct Gru;

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

struct Rnn;

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
struct Cells<'a, C, const N: usize> {
    streams: Streams<'a, N>,
    stage: usize,
    kept: [[V; N]; 3],
    pieces: usize,
    of: PhantomData<C>,
}

impl<'a, C: Cell, const N: usize> Cells<'a, C, N> {
    /// Of a block, or of none.
    #[inline(always)]
    unsafe fn new(layer: &'a Layer, block: Option<usize>, sums: *const i32) -> Cells<'a, C, N> {
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

/// Some blocks of a layer.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx2,fma,f16c")]
unsafe fn layer_of<C: Cell, const N: usize>(
    step: &Step,
    layer: usize,
    matrix: &Matrix,
    blocks: Range<usize>,
    sums: [*mut i32; 2],
) {
    let space = step.space;
    let before: *const i8 = digits(space, layer, 0);
    let from = if layer == 0 { [before; 2] } else { [digits(space, layer - 1, 1).cast_const(), before] };
    let layer = Layer::new(space, matrix, layer);
    let mut last = Cells::<C, N>::new(&layer, None, sums[0]);
    for block in blocks {
        let sums = sums[block % 2];
        products(space, matrix, block, from, sums, &mut last);
        last = Cells::new(&layer, Some(block), sums);
    }
    last.all();
}

/// The logits of a block's columns: in pieces of a stream.
struct Logits<'a> {
    space: &'a Space,
    matrix: &'a Matrix,
    block: usize,
    sums: *const i32,
    next: usize,
    streams: usize,
}

impl Pieces for Logits<'_> {
    #[inline(always)]
    fn pieces(&self) -> usize {
        self.streams
    }

    #[inline(always)]
    unsafe fn piece(&mut self) {
        let Logits { space, matrix, block, sums, next, .. } = *self;
        self.next += 1;
        let n = space.streams;
        let sums = sums.wrapping_add(next / n * GROUP_SUMS + next % n * 16);
        let at = block * COLUMNS * 16;
        let (scale, bias) = (matrix.scale.ptr().add(at), matrix.bias.ptr().add(at));
        let to = space.logits.shared().add(next * matrix.blocks() * COLUMNS * 16 + at);
        for column in 0..COLUMNS {
            let scale = _mm512_loadu_ps(scale.add(column * 16));
            _mm512_storeu_ps(to.add(column * 16), total(sums, n, column, scale, bias));
        }
    }
}

/// Some blocks of the logits.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx2,fma,f16c")]
unsafe fn head(step: &Step, blocks: Range<usize>, sums: [*mut i32; 2]) {
    let (space, matrix) = (step.space, &step.weights.head);
    let from: *const i8 = digits(space, space.layers.len() - 1, 1);
    let mut last = Logits { space, matrix, block: 0, sums: sums[0], next: 0, streams: 0 };
    for block in blocks {
        let sums = sums[block % 2];
        products(space, matrix, block, [from; 2], sums, &mut last);
        last = Logits { block, sums, next: 0, streams: space.capacity(), ..last };
    }
    last.all();
}
