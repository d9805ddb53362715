//! What the weight gradients of f32 in parts multiply, on its way from f32 to parts, streams in pairs: in small pieces, which are
//! done beside products.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::lanes::{self, V, add, load, parts, splat, store, transposed};
use super::products::{Pieces, Product, TILE};

/// The most tiles that are multiplied together.
pub const MOST_TILES: usize = 4;

/// 32 gate rows (or classes) of some steps; a *tile* is of 32 streams: of one step, or of two where W is 16.
pub struct Rows {
    /// The first step's [32][W], and f32 from one step to the next.
    pub from: *const f32,
    pub step: usize,
    /// How many remain.
    pub steps: usize,
    /// Parts [tiles][parts][32][16].
    pub to: *mut f32,
    /// Sums over streams [32][16].
    pub bias: *mut f32,
    /// Sums by character [V][32], or null, and characters [steps][W].
    pub table: *mut f32,
    pub ids: *const i32,
    /// The next piece of a tile.
    pub piece: usize,
}

/// Steps a tile.
pub fn steps_a_tile(width: usize) -> usize {
    32 / width
}

/// Pieces of a tile: two rows each.
const TWOS: usize = 16;
/// Pieces of a tile's characters: sixteen rows of sixteen streams.
const SQUARES: usize = 4;

impl Rows {
    /// Nothing.
    pub const NONE: Rows = Rows {
        from: std::ptr::null(),
        step: 0,
        steps: 0,
        to: std::ptr::null_mut(),
        bias: std::ptr::null_mut(),
        table: std::ptr::null_mut(),
        ids: std::ptr::null(),
        piece: 0,
    };

    #[inline(always)]
    fn each(&self) -> usize {
        TWOS + if self.table.is_null() { 0 } else { SQUARES }
    }

    /// Pieces that remain.
    #[inline(always)]
    pub fn left<P: Product>(&self) -> usize {
        self.steps.div_ceil(steps_a_tile(P::WIDTH)) * self.each() - self.piece
    }

    /// The next one.
    #[inline(always)]
    pub unsafe fn next<P: Product>(&mut self) {
        let piece = self.piece;
        // From a row's first sixteen streams to its second ones, where there are any.
        let second = if P::VECTORS == 2 { 16 } else { self.step };
        let whole = P::VECTORS == 2 || self.steps > 1;
        if piece < TWOS {
            for row in 2 * piece..2 * piece + 2 {
                let x = self.from.add(row * P::WIDTH);
                let (a, b) = (load(x), if whole { load(x.add(second)) } else { splat(0.0) });
                // The rows after these are the next ones.
                lanes::ahead(x.wrapping_add(32 * P::WIDTH));
                lanes::ahead(x.wrapping_add(32 * P::WIDTH + second));
                let bias = self.bias.add(row * 16);
                store(bias, add(load(bias), add(a, b)));
                let (a, b) = (parts::<P>(a), parts::<P>(b));
                for part in 0..P::PARTS {
                    store(self.to.add(part * TILE + row * 16), lanes::join_row(a[part], b[part]));
                }
            }
        } else {
            let (row, half) = ((piece - TWOS) % 2 * 16, (piece - TWOS) / 2);
            let from = self.from.add(row * P::WIDTH + half * if whole { second } else { 0 });
            let mut rows = [splat(0.0); 16];
            for i in 0..16 {
                rows[i] = load(from.add(i * P::WIDTH));
            }
            let streams = transposed(rows);
            // Those of padding are zeros.
            for i in 0..if whole || half == 0 { 16 } else { 0 } {
                let to = self.table.add(*self.ids.add(16 * half + i) as usize * 32 + row);
                store(to, add(load(to), streams[i]));
            }
        }
        self.piece += 1;
        if self.piece == self.each() {
            let steps = steps_a_tile(P::WIDTH);
            (self.piece, self.steps) = (0, self.steps.saturating_sub(steps));
            self.from = self.from.wrapping_add(steps * self.step);
            self.to = self.to.wrapping_add(P::PARTS * TILE);
            self.ids = self.ids.wrapping_add(32);
        }
    }
}

/// States of some steps, of the layer and of what is below it.
pub struct States {
    /// [hidden][W], those of a tile's first step after one another; and of its second step, or null.
    from: [[*const f32; 2]; 2 * MOST_TILES],
    /// How many there are, and which is next.
    n: usize,
    which: usize,
    hidden: usize,
    /// Its next sixteen units, and the next piece of these.
    unit: usize,
    piece: usize,
    /// Parts [n][units/32][parts][16][32].
    to: *mut f32,
    /// Sixteen units' rows, of each part.
    rows: MaybeUninit<[[V; 16]; 3]>,
}

/// Pieces of sixteen units: eight of rows, and a transposition a part.
const PIECES: usize = 11;

impl States {
    /// Of the first `n`.
    #[inline(always)]
    pub fn new(from: [[*const f32; 2]; 2 * MOST_TILES], n: usize, hidden: usize, to: *mut f32) -> States {
        States { from, n, which: 0, hidden, unit: 0, piece: 0, to, rows: MaybeUninit::uninit() }
    }

    /// Pieces that remain.
    #[inline(always)]
    pub fn left(&self) -> usize {
        let sixteens = self.hidden.div_ceil(32) * 2;
        ((self.n - self.which) * sixteens - self.unit / 16) * PIECES - self.piece
    }

    /// The next one.
    #[inline(always)]
    pub unsafe fn next<P: Product>(&mut self) {
        let rows = self.rows.as_mut_ptr().cast::<f32>();
        if self.piece < 8 {
            let [from, second] = self.from[self.which];
            let second = if P::VECTORS == 2 { from.wrapping_add(16) } else { second };
            for i in 2 * self.piece..2 * self.piece + 2 {
                let unit = self.unit + i;
                let mut row = [splat(0.0); 3];
                if unit < self.hidden {
                    let at = unit * P::WIDTH;
                    let b = if second.is_null() { splat(0.0) } else { load(second.add(at)) };
                    let (a, b) = (parts::<P>(load(from.add(at))), parts::<P>(b));
                    for part in 0..P::PARTS {
                        row[part] = lanes::join_row(a[part], b[part]);
                    }
                }
                for part in 0..P::PARTS {
                    store(rows.add((part * 16 + i) * 16), row[part]);
                }
            }
        } else {
            let part = self.piece - 8;
            let to = self.to.add(part * TILE + self.unit % 32);
            lanes::transpose16(rows.add(part * 256), 16, to, 32);
        }
        self.piece += 1;
        if self.piece == PIECES {
            (self.piece, self.unit) = (0, self.unit + 16);
            if self.unit.is_multiple_of(32) {
                self.to = self.to.wrapping_add(P::PARTS * TILE);
                if self.unit >= self.hidden {
                    (self.unit, self.which) = (0, self.which + 1);
                }
            }
        }
    }
}

/// Some pieces of both.
pub struct Beside<'a, P> {
    rows: &'a mut Rows,
    states: &'a mut States,
    /// In all.
    pieces: usize,
    of: PhantomData<P>,
}

impl<'a, P: Product> Beside<'a, P> {
    /// All of the rows', and some of the states'.
    #[inline(always)]
    pub fn new(rows: &'a mut Rows, states: &'a mut States, some: usize) -> Beside<'a, P> {
        Beside { pieces: rows.left::<P>() + some, rows, states, of: PhantomData }
    }

    /// See [`super::beside::Beside`] for why it is a call.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16,avx2,fma,f16c")]
    unsafe fn next(&mut self) {
        if self.rows.left::<P>() > 0 {
            self.rows.next::<P>();
        } else {
            self.states.next::<P>();
        }
    }
}

impl<P: Product> Pieces for Beside<'_, P> {
    #[inline(always)]
    fn pieces(&self) -> usize {
        self.pieces
    }

    #[inline(always)]
    unsafe fn piece(&mut self) {
        self.next();
    }
}
