//! The one product of the short kernels: 32 rows times 32 columns of bf16 pairs, summed in f32; by AMX tiles (`tiles`), or by
//! the dot products of AVX512-BF16; and the same of f32, each number three of bf16.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // The contract of `Product` throughout.

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
    /// The same, of numbers of f32 in three parts of bf16.
    Split,
}

impl Products {
    /// Parts of a number: three of eight bits hold the twenty-four of f32.
    pub fn parts(self) -> usize {
        if self == Products::Split { 3 } else { 1 }
    }

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
            Products::Amx | Products::Split => dot && *PERMITTED.get_or_init(amx_is_permitted),
        }
    }
}

impl Products {
    /// Whether they are faster than f32. Dot products are, twice, on AMD's processors (measured on Zen 5); on Intel's they
    /// take twice as long as the f32 multiply-adds they stand for (measured on Sapphire Rapids).
    pub fn pay(self) -> bool {
        let vendor = __cpuid(0);
        self != Products::Dot || (vendor.ebx, vendor.edx, vendor.ecx) == AMD
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

/// f32 from one row of sums to the next, where they are a slice's.
pub const ROW: usize = 32;

/// f32 of 32 rows of 32 sums.
pub const SUMS: usize = 32 * ROW;

/// A run of tiles of one operand.
#[derive(Clone, Copy)]
pub struct Tiles {
    /// The first.
    pub at: *const u32,
    /// u32 from one to the next.
    pub step: usize,
}

impl Tiles {
    /// Tiles that follow one another from `at` on, each of a product's parts.
    pub fn dense<P: Product>(at: *const u32) -> Tiles {
        Tiles { at, step: P::PARTS * TILE }
    }

    /// The same of W columns.
    pub fn columns<P: Product>(at: *const u32) -> Tiles {
        Tiles { at, step: P::COLUMNS }
    }
}

/// Two runs of tiles that are multiplied.
#[derive(Clone, Copy)]
pub struct Pairs {
    /// Tiles of [32][16] pairs.
    pub a: Tiles,
    /// As many of [16][32].
    pub b: Tiles,
    /// How many.
    pub n: usize,
}

impl Pairs {
    /// None.
    pub const NONE: Pairs = {
        let none = Tiles { at: std::ptr::null(), step: 0 };
        Pairs { a: none, b: none, n: 0 }
    };
}

/// What is done while tiles are multiplied: no product, and nothing to its sums. Not a closure, for those do not take over
/// the instructions that their callers may use.
pub trait Between {
    /// A share of it; called [`Product::PIECES`] times a tile.
    ///
    /// # Safety
    /// The implementor's.
    unsafe fn turn(&mut self);
}

/// Nothing.
impl Between for () {
    #[inline(always)]
    unsafe fn turn(&mut self) {}
}

/// Work in small pieces.
pub trait Pieces {
    /// How many there are.
    fn pieces(&self) -> usize;

    /// Does the next one.
    ///
    /// # Safety
    /// The implementor's; called as often as there are pieces.
    unsafe fn piece(&mut self);

    /// All of them, from the first one.
    ///
    /// # Safety
    /// The implementor's.
    #[inline(always)]
    unsafe fn all(&mut self) {
        for _ in 0..self.pieces() {
            self.piece();
        }
    }
}

/// Pieces of work, shared out over the turns of products.
pub struct Spread<'a, W> {
    work: &'a mut W,
    pieces: usize,
    turns: usize,
    /// What has added up, in pieces times turns.
    due: usize,
}

impl<'a, W: Pieces> Spread<'a, W> {
    /// All of `work` over the turns of `tiles` tiles.
    #[inline(always)]
    pub fn over<P: Product>(work: &'a mut W, tiles: usize) -> Spread<'a, W> {
        Spread { pieces: work.pieces(), work, turns: tiles * P::PIECES, due: 0 }
    }

    /// All of `work` over so many turns, each piece in the middle of its share of them.
    #[inline(always)]
    pub fn early(work: &'a mut W, turns: usize) -> Spread<'a, W> {
        Spread { pieces: work.pieces(), work, turns, due: turns / 2 }
    }
}

impl<W: Pieces> Between for Spread<'_, W> {
    #[inline(always)]
    unsafe fn turn(&mut self) {
        self.due += self.pieces;
        while self.due >= self.turns {
            self.due -= self.turns;
            self.work.piece();
        }
    }
}

/// The product.
///
/// # Safety
/// The machine has the implementor's instructions; tiles are readable, sums readable and writable; every product lies
/// between a `begin` and an `end` of the same thread.
pub unsafe trait Product: 'static {
    /// Parts of a number; those of a tile's numbers are tiles that follow one another, the largest first.
    const PARTS: usize;
    /// Vectors a slice, and W: streams a slice.
    const VECTORS: usize = 2;
    const WIDTH: usize = 16 * Self::VECTORS;
    /// u32 from one tile of 16 pairs of W columns to the next.
    const COLUMNS: usize = Self::PARTS * 16 * Self::WIDTH;
    /// In how many pieces a tile of `pairs` is multiplied.
    const PIECES: usize;
    /// Before the first product.
    unsafe fn begin();
    /// c[i][j] (+)= sum over tiles of both `pairs`, pairs p of 16 and their two halves of a[i][p] * b[p][j], i and j below 32.
    /// Rows of `c` lie `stride` f32 apart. Where W is 16, what is to be summed is c[i][j] + c[i][16 + j].
    /// With ADD to what `c` holds. What `between` does is done while tiles are multiplied, where another unit of the processor
    /// multiplies.
    unsafe fn sums<const ADD: bool>(
        c: *mut f32,
        stride: usize,
        pairs: [Pairs; 2],
        between: &mut impl Between,
    );
    /// The same of one of them, and nothing between.
    #[inline(always)]
    unsafe fn block<const ADD: bool>(c: *mut f32, stride: usize, a: Tiles, b: Tiles, n: usize) {
        Self::sums::<ADD>(c, stride, [Pairs { a, b, n }, Pairs::NONE], &mut ());
    }
    /// After the last.
    unsafe fn end();
}

/// `vdpbf16ps`: eight rows of two vectors at a time.
pub struct Dot;

/// Rows of [`Dot`]'s sums that are in registers.
const ROWS: usize = 8;

// SAFETY: registers and the pointers that the contract covers.
unsafe impl Product for Dot {
    const PARTS: usize = 1;
    const PIECES: usize = 1;

    #[inline(always)]
    unsafe fn begin() {}

    #[inline(always)]
    unsafe fn sums<const ADD: bool>(
        c: *mut f32,
        stride: usize,
        pairs: [Pairs; 2],
        between: &mut impl Between,
    ) {
        for first in (0..32).step_by(ROWS) {
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            if ADD {
                for (i, sum) in sums.iter_mut().enumerate() {
                    let row = c.add((first + i) * stride);
                    *sum = [_mm512_loadu_ps(row), _mm512_loadu_ps(row.add(16))];
                }
            }
            for Pairs { a, b, n } in pairs {
                for tile in 0..n {
                    let a = a.at.add(tile * a.step + first * 16);
                    let b = b.at.add(tile * b.step);
                    for p in 0..16 {
                        let (b0, b1) = (bf16_pairs(b.add(p * 32)), bf16_pairs(b.add(p * 32 + 16)));
                        for (i, sum) in sums.iter_mut().enumerate() {
                            let weight = bf16(_mm512_set1_epi32(*a.add(i * 16 + p) as i32));
                            sum[0] = _mm512_dpbf16_ps(sum[0], weight, b0);
                            sum[1] = _mm512_dpbf16_ps(sum[1], weight, b1);
                        }
                    }
                }
            }
            for (i, sum) in sums.iter().enumerate() {
                let row = c.add((first + i) * stride);
                _mm512_storeu_ps(row, sum[0]);
                _mm512_storeu_ps(row.add(16), sum[1]);
            }
        }
        for _ in 0..pairs[0].n + pairs[1].n {
            between.turn();
        }
    }

    #[inline(always)]
    unsafe fn end() {}
}

#[inline(always)]
unsafe fn bf16_pairs(p: *const u32) -> __m512bh {
    bf16(_mm512_loadu_si512(p.cast()))
}

#[inline(always)]
unsafe fn bf16(bits: __m512i) -> __m512bh {
    std::mem::transmute(bits)
}
