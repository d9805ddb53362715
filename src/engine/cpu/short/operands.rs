//! What the weight gradients of f32 in parts multiply, on its way from f32 to parts, streams in pairs: in small pieces, which are
//! done beside products.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use std::mem::MaybeUninit;

use super::WIDTH;
use super::lanes::{self, V, add, load, parts, splat, store, transposed};
use super::products::{Pieces, Product, Split, TILE};

/// The most steps that are multiplied together.
pub const MOST_STEPS: usize = 4;

/// 32 gate rows (or classes) of some steps.
pub struct Rows {
    /// The first step's [32][W], and f32 from one step to the next.
    pub from: *const f32,
    pub step: usize,
    pub steps: usize,
    /// Parts [steps][parts][32][16].
    pub to: *mut f32,
    /// Sums over streams [32][16].
    pub bias: *mut f32,
    /// Sums by character [V][32], or null, and characters [steps][W].
    pub table: *mut f32,
    pub ids: *const i32,
    /// The next piece.
    pub piece: usize,
}

/// Pieces of a step: two rows each.
const TWOS: usize = 16;
/// Pieces of a step's characters: sixteen rows of sixteen streams.
const SQUARES: usize = 2 * WIDTH / 16;

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
    pub fn left(&self) -> usize {
        self.steps * self.each() - self.piece
    }

    /// The next one.
    #[inline(always)]
    pub unsafe fn next<P: Product>(&mut self) {
        let piece = self.piece;
        if piece < TWOS {
            for row in 2 * piece..2 * piece + 2 {
                let x = self.from.add(row * WIDTH);
                let (a, b) = (load(x), load(x.add(16)));
                // The rows after these are the next ones.
                lanes::ahead(x.wrapping_add(32 * WIDTH));
                lanes::ahead(x.wrapping_add(32 * WIDTH + 16));
                let bias = self.bias.add(row * 16);
                store(bias, add(load(bias), add(a, b)));
                let (a, b) = (parts::<P>(a), parts::<P>(b));
                for part in 0..P::PARTS {
                    store(self.to.add(part * TILE + row * 16), lanes::join_row(a[part], b[part]));
                }
            }
        } else {
            let (row, lane) = ((piece - TWOS) % 2 * 16, (piece - TWOS) / 2 * 16);
            let mut rows = [splat(0.0); 16];
            for i in 0..16 {
                rows[i] = load(self.from.add((row + i) * WIDTH + lane));
            }
            let streams = transposed(rows);
            // Those of padding are zeros.
            for i in 0..16 {
                let to = self.table.add(*self.ids.add(lane + i) as usize * 32 + row);
                store(to, add(load(to), streams[i]));
            }
        }
        self.piece += 1;
        if self.piece == self.each() {
            (self.piece, self.steps) = (0, self.steps - 1);
            self.from = self.from.wrapping_add(self.step);
            self.to = self.to.wrapping_add(P::PARTS * TILE);
            self.ids = self.ids.wrapping_add(WIDTH);
        }
    }
}

/// States of some steps, of the layer and of what is below it.
pub struct States {
    /// [hidden][W], those of a step after one another.
    from: [*const f32; 2 * MOST_STEPS],
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
    pub fn new(from: [*const f32; 2 * MOST_STEPS], n: usize, hidden: usize, to: *mut f32) -> States {
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
            let from = self.from[self.which];
            for i in 2 * self.piece..2 * self.piece + 2 {
                let unit = self.unit + i;
                let mut row = [splat(0.0); 3];
                if unit < self.hidden {
                    let x = from.add(unit * WIDTH);
                    let (a, b) = (parts::<P>(load(x)), parts::<P>(load(x.add(16))));
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
pub struct Beside<'a> {
    pub rows: &'a mut Rows,
    pub states: &'a mut States,
    /// Of the states.
    pub some: usize,
}

impl Beside<'_> {
    /// See [`super::beside::Beside`] for why it is a call.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16,avx2,fma,f16c")]
    unsafe fn next(&mut self) {
        if self.rows.left() > 0 {
            self.rows.next::<Split>();
        } else {
            self.states.next::<Split>();
        }
    }

    /// All at once.
    #[inline(always)]
    pub unsafe fn all(&mut self) {
        for _ in 0..self.pieces() {
            self.next();
        }
    }
}

impl Pieces for Beside<'_> {
    #[inline(always)]
    fn pieces(&self) -> usize {
        self.rows.left() + self.some
    }

    #[inline(always)]
    unsafe fn piece(&mut self) {
        self.next();
    }
}
