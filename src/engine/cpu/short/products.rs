//! The one product of the short kernels: 32 rows times 32 columns of bf16 pairs, summed in f32; by AMX tiles, or by
//! the dot products of AVX512-BF16.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // The contract of `Product` throughout.

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::OnceLock;

/// u32 pairs of a tile of 32 rows x 16 pairs, and of 16 pairs x 32 columns.
pub const TILE: usize = 512;

/// Which instructions multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Products {
    /// `vdpbf16ps`.
    Dot,
    /// `tdpbf16ps`.
    Amx,
}

impl Products {
    /// Whether this machine has them, and the system lets this process use them.
    pub fn available(self) -> bool {
        // BW: words are permuted. F16C, FMA and AVX2 are asked for as in the f32 kernels.
        let dot = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512bf16")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        match self {
            Products::Dot => dot,
            Products::Amx => dot && *PERMITTED.get_or_init(amx_is_permitted),
        }
    }
}

impl Products {
    /// Whether they are faster than f32. Dot products are, twice, on AMD's processors (measured on Zen 5); on Intel's they
    /// take twice as long as the f32 multiply-adds they stand for (measured on Sapphire Rapids).
    pub fn pay(self) -> bool {
        let vendor = __cpuid(0);
        self == Products::Amx || (vendor.ebx, vendor.edx, vendor.ecx) == AMD
    }
}

/// `AuthenticAMD` as the processor spells it.
const AMD: (u32, u32, u32) =
    (u32::from_le_bytes(*b"Auth"), u32::from_le_bytes(*b"enti"), u32::from_le_bytes(*b"cAMD"));

static PERMITTED: OnceLock<bool> = OnceLock::new();

/// Asks Linux for the tiles' registers, for all threads of this process: they are off until asked for.
fn amx_is_permitted() -> bool {
    const TILES: u32 = 1 << 24;
    const BF16: u32 = 1 << 22;
    if __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & (TILES | BF16) != TILES | BF16 {
        return false;
    }
    #[cfg(target_os = "linux")]
    {
        const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
        const XFEATURE_XTILEDATA: i64 = 18;
        // SAFETY: takes two numbers and gives one; an older kernel refuses.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// A run of tiles of one operand.
#[derive(Clone, Copy)]
pub struct Tiles {
    /// The first.
    pub at: *const u32,
    /// u32 from one to the next.
    pub step: usize,
}

impl Tiles {
    /// Tiles that follow one another from `at` on.
    pub fn dense(at: *const u32) -> Tiles {
        Tiles { at, step: TILE }
    }
}

/// The product.
///
/// # Safety
/// The machine has the implementor's instructions; tiles are readable, sums readable and writable; every `block` lies
/// between a `begin` and an `end` of the same thread.
pub unsafe trait Product: 'static {
    /// Before the first product.
    unsafe fn begin();
    /// c[i][j] (+)= sum over n tiles, pairs p of 16 and their two halves of a[i][p] * b[p][j], i and j below 32. `a` tiles
    /// are [32][16] pairs, `b` tiles [16][32], rows of `c` lie `stride` f32 apart. With ADD to what `c` holds.
    unsafe fn block<const ADD: bool>(c: *mut f32, stride: usize, a: Tiles, b: Tiles, n: usize);
    /// After the last.
    unsafe fn end();
}

/// `vdpbf16ps`: eight rows of two vectors at a time.
pub struct Dot;

// SAFETY: registers and the pointers that the contract covers.
unsafe impl Product for Dot {
    #[inline(always)]
    unsafe fn begin() {}

    #[inline(always)]
    unsafe fn block<const ADD: bool>(c: *mut f32, stride: usize, a: Tiles, b: Tiles, n: usize) {
        const ROWS: usize = 8;
        for first in (0..32).step_by(ROWS) {
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            if ADD {
                for (i, sum) in sums.iter_mut().enumerate() {
                    let row = c.add((first + i) * stride);
                    *sum = [_mm512_loadu_ps(row), _mm512_loadu_ps(row.add(16))];
                }
            }
            for tile in 0..n {
                let a = a.at.add(tile * a.step + first * 16);
                let b = b.at.add(tile * b.step);
                for p in 0..16 {
                    let (b0, b1) = (pairs(b.add(p * 32)), pairs(b.add(p * 32 + 16)));
                    for (i, sum) in sums.iter_mut().enumerate() {
                        let weight = bf16(_mm512_set1_epi32(*a.add(i * 16 + p) as i32));
                        sum[0] = _mm512_dpbf16_ps(sum[0], weight, b0);
                        sum[1] = _mm512_dpbf16_ps(sum[1], weight, b1);
                    }
                }
            }
            for (i, sum) in sums.iter().enumerate() {
                let row = c.add((first + i) * stride);
                _mm512_storeu_ps(row, sum[0]);
                _mm512_storeu_ps(row.add(16), sum[1]);
            }
        }
    }

    #[inline(always)]
    unsafe fn end() {}
}

#[inline(always)]
unsafe fn pairs(p: *const u32) -> __m512bh {
    bf16(_mm512_loadu_si512(p.cast()))
}

#[inline(always)]
unsafe fn bf16(bits: __m512i) -> __m512bh {
    std::mem::transmute(bits)
}

/// `tdpbf16ps`: two by two tiles of sums, two of each operand.
pub struct Amx;

/// Eight tiles of sixteen rows of 64 bytes.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start: u8,
    zero: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: TileConfig = TileConfig {
    palette: 1,
    start: 0,
    zero: [0; 14],
    bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Assembler, because the intrinsics are not stable; the eight tiles live within it.
macro_rules! tiles {
    ($c:ident, $stride:ident, $a:ident, $b:ident, $n:ident, $($first:literal),+) => {
        asm!(
            $($first,)+
            "2:",
            "tileloadd tmm4, [{a} + {row_a}*1]",
            "tileloadd tmm6, [{b} + {row_b}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {row_b}*1 + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a} + {row_a}*1 + 1024]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, {step_a}",
            "add {b}, {step_b}",
            "dec {n}",
            "jnz 2b",
            "tilestored [{c} + {row_c}*1], tmm0",
            "tilestored [{c} + {row_c}*1 + 64], tmm1",
            "tilestored [{d} + {row_c}*1], tmm2",
            "tilestored [{d} + {row_c}*1 + 64], tmm3",
            a = inout(reg) $a.at => _,
            b = inout(reg) $b.at => _,
            n = inout(reg) $n => _,
            step_a = in(reg) $a.step * 4,
            step_b = in(reg) $b.step * 4,
            row_a = in(reg) 64_usize,
            row_b = in(reg) 128_usize,
            row_c = in(reg) $stride * 4,
            c = in(reg) $c,
            d = in(reg) $c.add(16 * $stride),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

// SAFETY: the assembler reads and writes what the contract covers, and no register but those it names.
unsafe impl Product for Amx {
    #[inline(always)]
    unsafe fn begin() {
        asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, preserves_flags, readonly));
    }

    #[inline(always)]
    unsafe fn block<const ADD: bool>(c: *mut f32, stride: usize, a: Tiles, b: Tiles, n: usize) {
        debug_assert!(n > 0);
        if ADD {
            tiles!(
                c,
                stride,
                a,
                b,
                n,
                "tileloadd tmm0, [{c} + {row_c}*1]",
                "tileloadd tmm1, [{c} + {row_c}*1 + 64]",
                "tileloadd tmm2, [{d} + {row_c}*1]",
                "tileloadd tmm3, [{d} + {row_c}*1 + 64]"
            );
        } else {
            tiles!(c, stride, a, b, n, "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3");
        }
    }

    #[inline(always)]
    unsafe fn end() {
        asm!("tilerelease", options(nostack, nomem, preserves_flags));
    }
}
