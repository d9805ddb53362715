//! Products of bytes in AMX tiles, summed as integers: exactly, so that neither their order matters nor which of the two
//! ways was taken.
//!
//! A number has three digits, and of the nine products of two numbers' digits six are summed, in three sums: that of the
//! largest digits, those worth a 256th of it, those worth a 256th of these.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // The contracts of the functions.

use std::arch::asm;

use super::super::short::{Between, TileConfig};
use super::weights::{Columns, DIGITS, Depth};

/// Streams in a group of [`many`]: rows of a tile.
pub const GROUP: usize = 16;
/// The most streams of [`few`], whose digits are rows of one tile.
pub const FEW: usize = 5;
/// Bytes of a tile's row.
pub const ROW: usize = 64;
/// Bytes of a tile.
const TILE: usize = 16 * ROW;

/// For [`few`]: sums in tiles 0 to 3; digits of whole tiles of depth in 4, of the rest in 5; weights in 6 and 7.
fn config_of_few(streams: usize, depth: Depth) -> TileConfig {
    let mut config = TileConfig::FULL;
    config.rows[..6].fill((DIGITS * streams) as u8);
    if depth.rest == 0 {
        // Tiles that are not there.
        (config.rows[5], config.bytes[5], config.rows[7], config.bytes[7]) = (0, 0, 0, 0);
    } else {
        (config.bytes[5], config.rows[7]) = (4 * depth.rest as u16, depth.rest as u8);
    }
    config
}

/// Before the first product of so many streams a group.
///
/// # Safety
/// AMX is there and permitted; [`end`] follows on the same thread, after the last product.
#[inline(always)]
pub unsafe fn begin(streams: usize, depth: Depth) {
    let config = if streams > FEW { TileConfig::FULL } else { config_of_few(streams, depth) };
    asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, preserves_flags, readonly));
}

/// After the last product.
///
/// # Safety
/// As [`begin`].
#[inline(always)]
pub unsafe fn end() {
    asm!("tilerelease", options(nostack, nomem, preserves_flags));
}

/// Some columns of a matrix, and the streams that they are multiplied with.
#[derive(Clone, Copy)]
pub struct Operands {
    /// Weights [tile of depth][digit][column][row][16][4].
    pub w: *const i8,
    /// Digits of the streams [tile of depth][digit][stream][64], the largest first; for [`few`] as many rows of zeros as there
    /// are smaller digits before them.
    pub a: *const i8,
    /// Bytes from one tile of depth to the next of `a`.
    pub tile: usize,
    /// Where the columns' sums are.
    pub columns: Columns,
}

// Assembler, because the intrinsics are not stable. Sums stay in tiles from one statement to the next: the compiler does not
// know of these registers, and keeps nothing in them.

/// Loads a tile from rows `stride` bytes apart.
macro_rules! load {
    ($tile:tt, $from:expr, $stride:expr) => {
        asm!(
            concat!("tileloadd ", $tile, ", [{from} + {stride}*1]"),
            from = in(reg) $from, stride = in(reg) $stride,
            out($tile) _, options(nostack, preserves_flags, readonly),
        )
    };
}

/// Stores a tile to rows that follow one another.
macro_rules! store {
    ($tile:tt, $to:expr) => {
        asm!(
            concat!("tilestored [{to} + {stride}*1], ", $tile),
            to = in(reg) $to, stride = in(reg) ROW,
            out($tile) _, options(nostack, preserves_flags),
        )
    };
}

/// Makes tiles zero.
macro_rules! zero {
    ($($tile:tt)+) => { $(asm!(concat!("tilezero ", $tile), out($tile) _, options(nostack, nomem, preserves_flags));)+ };
}

/// `sums += a * b`
macro_rules! multiply {
    ($sums:tt, $a:tt, $b:tt) => {
        asm!(concat!("tdpbssd ", $sums, ", ", $a, ", ", $b), out($sums) _, options(nostack, nomem, preserves_flags))
    };
}

/// A tile of depth of [`few`]: with the weights' first digit all three of the streams' are multiplied, with the second the rows
/// are a digit further on, and with the third two, so that every product comes into the row that it belongs to.
macro_rules! few_tile {
    ($a:tt, $b:tt, $first:expr, $w:expr, $size:expr, $n:expr, $between:expr) => {
        for digit in 0..DIGITS {
            load!($a, $first.wrapping_sub(digit * $n * ROW), ROW);
            let w = $w.wrapping_add(digit * C::COUNT * $size);
            load!($b, w, ROW);
            multiply!("tmm0", $a, $b);
            if C::HAS[1] {
                load!($b, w.wrapping_add($size), ROW);
                multiply!("tmm1", $a, $b);
            }
            if C::HAS[2] {
                load!($b, w.wrapping_add(2 * $size), ROW);
                multiply!("tmm2", $a, $b);
            }
            if C::HAS[3] {
                load!($b, w.wrapping_add((C::COUNT - 1) * $size), ROW);
                multiply!("tmm3", $a, $b);
            }
            $between.turn();
        }
    };
}

/// [`Columns`] that the compiler knows.
trait Known {
    const COUNT: usize;
    const HAS: [bool; 4];
}

struct First<const N: usize>;

impl<const N: usize> Known for First<N> {
    const COUNT: usize = N;
    const HAS: [bool; 4] = [true, N > 1, N > 2, N > 3];
}

struct Input;

impl Known for Input {
    const COUNT: usize = 3;
    const HAS: [bool; 4] = [true, true, false, true];
}

/// The products of one matrix, for [`few`].
#[inline(always)]
unsafe fn few_of<C: Known>(operands: &Operands, depth: Depth, n: usize, between: &mut impl Between) {
    let Operands { mut w, mut a, tile, .. } = *operands;
    for _ in 0..depth.full {
        few_tile!("tmm4", "tmm6", a, w, TILE, n, between);
        w = w.wrapping_add(DIGITS * C::COUNT * TILE);
        a = a.wrapping_add(tile);
    }
    if depth.rest > 0 {
        few_tile!("tmm5", "tmm7", a, w, depth.rest * ROW, n, between);
    }
}

/// Sums of up to four columns for up to five streams: to [column][digit][stream][16].
///
/// # Safety
/// Between [`begin`] for `n` streams and [`end`]; operands are of `depth`, `to` has room for four columns. `between` has three
/// turns a tile.
#[inline(always)]
pub unsafe fn few(operands: &[Operands], depth: Depth, n: usize, to: *mut i32, between: &mut impl Between) {
    zero!("tmm0" "tmm1" "tmm2" "tmm3");
    for operands in operands {
        match operands.columns {
            Columns::First(1) => few_of::<First<1>>(operands, depth, n, between),
            Columns::First(2) => few_of::<First<2>>(operands, depth, n, between),
            Columns::First(3) => few_of::<First<3>>(operands, depth, n, between),
            Columns::First(_) => few_of::<First<4>>(operands, depth, n, between),
            Columns::Input => few_of::<Input>(operands, depth, n, between),
        }
    }
    let column = DIGITS * n * 16;
    store!("tmm0", to);
    store!("tmm1", to.wrapping_add(column));
    store!("tmm2", to.wrapping_add(2 * column));
    store!("tmm3", to.wrapping_add(3 * column));
}

/// A tile of streams' digits, and its product into the sums of one group or of both.
macro_rules! many_rows {
    ($both:expr, $first:tt, $second:tt, $a:expr, $group:expr) => {
        load!("tmm6", $a, ROW);
        multiply!($first, "tmm6", "tmm7");
        if $both {
            load!("tmm6", $a.wrapping_add($group), ROW);
            multiply!($second, "tmm6", "tmm7");
        }
    };
}

/// Where sums of [`many`] go, and the digits of the streams are.
#[derive(Clone, Copy)]
pub struct Groups {
    /// Bytes from the first group's digits to the second's.
    pub digits: usize,
    /// Sums from the first group's to the second's.
    pub sums: usize,
}

/// Sums of column `column` of the four for one group of sixteen streams, or for two: to [digit][16][16] each. Where depth has a
/// rest, weights are read up to a tile beyond it, and multiplied with the zeros beyond the streams' digits.
///
/// # Safety
/// As [`few`], for sixteen streams; `between` has three turns a tile of each operand that has the column.
#[inline(always)]
pub unsafe fn many<const BOTH: bool>(
    operands: &[Operands],
    column: usize,
    depth: Depth,
    groups: Groups,
    to: *mut i32,
    between: &mut impl Between,
) {
    let Groups { digits, sums } = groups;
    zero!("tmm0" "tmm1" "tmm2");
    if BOTH {
        zero!("tmm3" "tmm4" "tmm5");
    }
    for operands in operands {
        let columns = operands.columns;
        let Some(place) = columns.place(column) else { continue };
        let mut w = operands.w;
        for tile in 0..depth.tiles() {
            let size = if tile < depth.full { TILE } else { depth.rest * ROW };
            let digit = columns.count() * size;
            let at = w.wrapping_add(place * size);
            let first = operands.a.wrapping_add(tile * operands.tile);
            let second = first.wrapping_add(GROUP * ROW);
            load!("tmm7", at, ROW);
            many_rows!(BOTH, "tmm0", "tmm3", first, digits);
            many_rows!(BOTH, "tmm1", "tmm4", second, digits);
            between.turn();
            many_rows!(BOTH, "tmm2", "tmm5", second.wrapping_add(GROUP * ROW), digits);
            load!("tmm7", at.wrapping_add(digit), ROW);
            many_rows!(BOTH, "tmm1", "tmm4", first, digits);
            between.turn();
            many_rows!(BOTH, "tmm2", "tmm5", second, digits);
            load!("tmm7", at.wrapping_add(2 * digit), ROW);
            many_rows!(BOTH, "tmm2", "tmm5", first, digits);
            between.turn();
            w = w.wrapping_add(DIGITS * digit);
        }
    }
    let digit = GROUP * 16;
    store!("tmm0", to);
    store!("tmm1", to.wrapping_add(digit));
    store!("tmm2", to.wrapping_add(2 * digit));
    if BOTH {
        let to = to.wrapping_add(sums);
        store!("tmm3", to);
        store!("tmm4", to.wrapping_add(digit));
        store!("tmm5", to.wrapping_add(2 * digit));
    }
}
