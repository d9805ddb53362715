//! Products in AMX tiles: of bf16, and of f32 in three parts of bf16.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `products.rs`.

use std::arch::asm;

use super::products::{Between, Pairs, Product};

/// `tdpbf16ps`: two by two tiles of sums, two of each operand.
pub struct Amx;

/// How eight tiles are laid out.
#[repr(C, align(64))]
pub struct TileConfig {
    palette: u8,
    start: u8,
    zero: [u8; 14],
    /// Bytes of a tile's row; 0 of a tile that is not there.
    pub bytes: [u16; 16],
    /// Rows of a tile; likewise.
    pub rows: [u8; 16],
}

impl TileConfig {
    /// Sixteen rows of 64 bytes each.
    pub const FULL: TileConfig = TileConfig {
        palette: 1,
        start: 0,
        zero: [0; 14],
        bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };
}

static CONFIG: TileConfig = TileConfig::FULL;

/// Assembler, because the intrinsics are not stable. Sums stay in tiles from one piece to the next: the compiler does not
/// know of these registers, and keeps nothing in them.
macro_rules! tiles {
    ($a:expr, $b:expr, $($turn:expr),+) => {
        asm!(
            "/* {a} {b} {row_a} {row_b} */", // Named, for not every piece uses all of them.
            $($turn,)+
            a = in(reg) $a,
            b = in(reg) $b,
            row_a = in(reg) 64_usize,
            row_b = in(reg) 4 * Self::WIDTH,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, preserves_flags, readonly),
        )
    };
}

/// The tiles of the sums, loaded from or stored to 32 rows of `c`.
macro_rules! all_sums {
    ($c:expr, $stride:expr, $($step:literal),+) => {
        asm!(
            $($step,)+
            row_c = in(reg) $stride * 4,
            c = in(reg) $c,
            d = in(reg) $c.add(16 * $stride),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack, preserves_flags),
        )
    };
}

/// Two tiles of `a`, whose first begins `at` bytes on, into tmm4 and tmm5, and their products with tmm6 and tmm7.
macro_rules! rows_at {
    ($at:literal) => {
        concat!(
            "tileloadd tmm4, [{a} + {row_a}*1 + ",
            $at,
            "]\n",
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            "tileloadd tmm5, [{a} + {row_a}*1 + ",
            $at,
            " + 1024]\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            "tdpbf16ps tmm3, tmm5, tmm7",
        )
    };
}

/// Two tiles of `b` into tmm6 and tmm7, and their products with tmm4 and tmm5.
macro_rules! columns_at {
    ($at:literal) => {
        concat!(
            "tileloadd tmm6, [{b} + {row_b}*1 + ",
            $at,
            "]\n",
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tileloadd tmm7, [{b} + {row_b}*1 + ",
            $at,
            " + 64]\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            "tdpbf16ps tmm3, tmm5, tmm7",
        )
    };
}

/// Two tiles of both, and their products.
macro_rules! both_at {
    ($a:literal, $b:literal) => {
        concat!(
            "tileloadd tmm4, [{a} + {row_a}*1 + ",
            $a,
            "]\n",
            "tileloadd tmm6, [{b} + {row_b}*1 + ",
            $b,
            "]\n",
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tileloadd tmm7, [{b} + {row_b}*1 + ",
            $b,
            " + 64]\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            "tileloadd tmm5, [{a} + {row_a}*1 + ",
            $a,
            " + 1024]\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            "tdpbf16ps tmm3, tmm5, tmm7",
        )
    };
}

/// A product in tiles: what is done, in pieces, with each tile.
macro_rules! product {
    ($c:ident, $stride:ident, $pairs:ident, $between:ident, [$($turn:expr),+]) => {
        if ADD {
            all_sums!($c, $stride,
                "tileloadd tmm0, [{c} + {row_c}*1]",
                "tileloadd tmm1, [{c} + {row_c}*1 + 64]",
                "tileloadd tmm2, [{d} + {row_c}*1]",
                "tileloadd tmm3, [{d} + {row_c}*1 + 64]"
            );
        } else {
            all_sums!($c, $stride,
                "tilezero tmm0 /* {c} {d} {row_c} */", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3");
        }
        for Pairs { a, b, n } in $pairs {
            for i in 0..n {
                let (a, b) = (a.at.add(i * a.step), b.at.add(i * b.step));
                $(
                    tiles!(a, b, $turn);
                    $between.turn();
                )+
            }
        }
        all_sums!($c, $stride,
            "tilestored [{c} + {row_c}*1], tmm0",
            "tilestored [{c} + {row_c}*1 + 64], tmm1",
            "tilestored [{d} + {row_c}*1], tmm2",
            "tilestored [{d} + {row_c}*1 + 64], tmm3"
        );
    };
}

/// A kind of products in tiles: parts, vectors, pieces, and what is done in them.
macro_rules! in_tiles {
    ($name:ident, $parts:literal, $vectors:literal, $pieces:literal, $turns:tt) => {
        // SAFETY: the assembler reads and writes what the contract covers, and no register but those it names.
        unsafe impl Product for $name {
            const PARTS: usize = $parts;
            const VECTORS: usize = $vectors;
            const PIECES: usize = $pieces;

            #[inline(always)]
            unsafe fn begin() {
                asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, preserves_flags, readonly));
            }

            #[inline(always)]
            unsafe fn sums<const ADD: bool>(
                c: *mut f32,
                stride: usize,
                pairs: [Pairs; 2],
                between: &mut impl Between,
            ) {
                product!(c, stride, pairs, between, $turns);
            }

            #[inline(always)]
            unsafe fn end() {
                asm!("tilerelease", options(nostack, nomem, preserves_flags));
            }
        }
    };
}

in_tiles!(Amx, 1, 2, 1, [both_at!(0, 0)]);

/// f32 by the same instruction: a number is the sum of three of bf16, exactly, and of the nine products of parts the six
/// that are not below f32's own rounding are summed.
pub struct Split;

// Large by small, large by middle, and so on: with each pair of parts one operand stays.
in_tiles!(
    Split,
    3,
    2,
    6,
    [both_at!(0, 4096), columns_at!(2048), rows_at!(2048), columns_at!(0), rows_at!(4096), rows_at!(0)]
);

/// The same for slices of sixteen streams: two rows of sums of one tile, each in two, for a product takes longer than two of them
/// are apart.
pub struct Split16;

/// A tile of each of two parts of `b`, and products with tmm4 and tmm5: the first part's into one sum, the second's into the other.
macro_rules! two_parts_at {
    ($a:literal, $first:literal, $second:literal) => {
        concat!(
            "tileloadd tmm4, [{a} + {row_a}*1 + ",
            $a,
            "]\n",
            "tileloadd tmm6, [{b} + {row_b}*1 + ",
            $first,
            "]\n",
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tileloadd tmm5, [{a} + {row_a}*1 + ",
            $a,
            " + 1024]\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            "tileloadd tmm7, [{b} + {row_b}*1 + ",
            $second,
            "]\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            "tdpbf16ps tmm3, tmm5, tmm7",
        )
    };
}

/// Two tiles of `a`, and their products with tmm7 into the first sums and with the first part of `b`, which is loaded, into the second.
macro_rules! middle_rows_at {
    ($a:literal) => {
        concat!(
            "tileloadd tmm4, [{a} + {row_a}*1 + ",
            $a,
            "]\n",
            "tdpbf16ps tmm0, tmm4, tmm7\n",
            "tileloadd tmm5, [{a} + {row_a}*1 + ",
            $a,
            " + 1024]\n",
            "tdpbf16ps tmm2, tmm5, tmm7\n",
            "tileloadd tmm6, [{b} + {row_b}*1]\n",
            "tdpbf16ps tmm1, tmm4, tmm6\n",
            "tdpbf16ps tmm3, tmm5, tmm6",
        )
    };
}

/// Two tiles of two parts of `a`, and their products with tmm6.
macro_rules! two_rows_at {
    ($first:literal, $second:literal) => {
        concat!(
            "tileloadd tmm4, [{a} + {row_a}*1 + ",
            $first,
            "]\n",
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tileloadd tmm5, [{a} + {row_a}*1 + ",
            $first,
            " + 1024]\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            "tileloadd tmm4, [{a} + {row_a}*1 + ",
            $second,
            "]\n",
            "tdpbf16ps tmm1, tmm4, tmm6\n",
            "tileloadd tmm5, [{a} + {row_a}*1 + ",
            $second,
            " + 1024]\n",
            "tdpbf16ps tmm3, tmm5, tmm6",
        )
    };
}

in_tiles!(Split16, 3, 1, 3, [two_parts_at!(0, 2048, 1024), middle_rows_at!(2048), two_rows_at!(4096, 0)]);
