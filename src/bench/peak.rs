//! What this processor could do at most, measured: fused multiply-adds a second of an instruction set with everything
//! in registers, dot products of bf16 pairs where there are such, and the rate at which memory is copied.
// Only x86's loops are written; elsewhere nothing is measured.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
#![allow(unsafe_code)] // Functions that carry `target_feature` are called where the feature was detected.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::Instant;

use crate::engine::cpu::bare::Bare;

/// Accumulators: enough independent chains to fill two units of a latency of four or five cycles, and they fit the
/// 32 registers of AVX-512 (the 16 of AVX2 hold 12).
const WIDE: usize = 24;
const NARROW: usize = 12;

/// Rounds a peak is measured in; the median counts.
const ROUNDS: usize = 5;

/// Floating-point operations of one turn of a loop.
type Loop = (fn(usize), f64);

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;

    use crate::engine::cpu::Isa;

    use super::{NARROW, WIDE, black_box};

    #[target_feature(enable = "avx512f")]
    fn fma512(turns: usize) {
        let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
        let mut sums = [_mm512_setzero_ps(); WIDE];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,fma")]
    fn fma256(turns: usize) {
        let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
        let mut sums = [_mm256_setzero_ps(); NARROW];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn dot512(turns: usize) {
        let (a, b) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(0.01)));
        let (a, b) = (_mm512_cvtne2ps_pbh(a, a), _mm512_cvtne2ps_pbh(b, b));
        let mut sums = [_mm512_setzero_ps(); WIDE];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, a, b);
            }
        }
        black_box(sums);
    }

    pub fn avx512(turns: usize) {
        assert!(is_x86_feature_detected!("avx512f"), "asked for only where it is there");
        // SAFETY: just detected.
        unsafe { fma512(turns) }
    }

    pub fn avx2(turns: usize) {
        assert!(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"), "as above");
        // SAFETY: just detected.
        unsafe { fma256(turns) }
    }

    pub fn bf16(turns: usize) {
        assert!(is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16"), "as above");
        // SAFETY: just detected.
        unsafe { dot512(turns) }
    }

    /// Eight tiles of sixteen rows of 64 bytes: palette 1, columns' bytes from 16 on, rows from 48 on.
    #[repr(align(64))]
    struct TileConfig([u8; 64]);

    static TILES: TileConfig = {
        let mut config = [0; 64];
        config[0] = 1;
        let mut tile = 0;
        while tile < 8 {
            config[16 + 2 * tile] = 64;
            config[48 + tile] = 16;
            tile += 1;
        }
        TileConfig(config)
    };

    /// `turns`: at least one.
    pub fn amx(turns: usize) {
        assert!(Isa::available().contains(&Isa::Amx), "as above");
        // SAFETY: just detected, which asks the system for the tiles; nothing but tiles and the counter is written.
        unsafe {
            asm!(
                "ldtilecfg [{config}]",
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                "2:",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "dec {turns}",
                "jnz 2b",
                "tilerelease",
                config = in(reg) TILES.0.as_ptr(),
                turns = inout(reg) turns.max(1) => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly),
            );
        }
    }

    pub fn has_amx() -> bool {
        Isa::available().contains(&Isa::Amx)
    }

    pub fn has_bf16() -> bool {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
    }
}

/// GFLOP/s of bf16 products of AMX tiles over `threads` threads; None where there are none.
pub fn amx_gflops(threads: usize, seconds: f64) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    {
        x86::has_amx().then(|| gflops((x86::amx, (4 * 16 * 16 * 32 * 2) as f64), threads, seconds))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (threads, seconds);
        None
    }
}

/// GFLOP/s of f32 fused multiply-adds of an engine's tier (`avx512`, `avx2`) over `threads` threads; None for others.
pub fn f32_gflops(tier: &str, threads: usize, seconds: f64) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    {
        let found: Loop = match tier {
            "avx512" | "avx512bf16" | "amx" if is_x86_feature_detected!("avx512f") => {
                (x86::avx512, (WIDE * 16 * 2) as f64)
            }
            "avx2" if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => {
                (x86::avx2, (NARROW * 8 * 2) as f64)
            }
            _ => return None,
        };
        Some(gflops(found, threads, seconds))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (tier, threads, seconds);
        None
    }
}

/// GFLOP/s of the engine's f32 product loop alone, `rows` gate rows by `depth` for two vectors of streams a thread, weights
/// coming from the caches as in training; None where the tier has none.
pub fn product_gflops(tier: &str, rows: usize, depth: usize, threads: usize, seconds: f64) -> Option<f64> {
    let bares: Vec<_> =
        (0..threads).map(|_| Some(Mutex::new(Bare::new(tier, rows, depth).ok()??))).collect::<Option<_>>()?;
    let own = |index: usize| bares[index].lock().unwrap_or_else(PoisonError::into_inner);
    let flop = own(0).operations();
    // The first run touches the memory.
    own(0).run();
    let begun = Instant::now();
    own(0).run();
    let once = begun.elapsed().as_secs_f64().max(1e-9);
    let turns = ((seconds / ROUNDS as f64 / once) as usize).clamp(1, 1_000_000);
    let taken = AtomicUsize::new(0);
    Some(median((0..ROUNDS).map(|_| {
        taken.store(0, Ordering::SeqCst);
        let took = slowest(threads, || {
            let mut bare = own(taken.fetch_add(1, Ordering::SeqCst));
            (0..turns).for_each(|_| bare.run());
        });
        flop * (turns * threads) as f64 / took / 1e9
    })))
}

/// GFLOP/s of bf16 dot products with f32 sums (AVX512-BF16) over `threads` threads; None where there are none.
pub fn bf16_gflops(threads: usize, seconds: f64) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    {
        x86::has_bf16().then(|| gflops((x86::bf16, (WIDE * 32 * 2) as f64), threads, seconds))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (threads, seconds);
        None
    }
}

/// The rate of a loop run by all threads at once, in about `seconds` in all: median of the rounds.
fn gflops((work, flop): Loop, threads: usize, seconds: f64) -> f64 {
    // As many turns as fill a round.
    let mut turns = 1000;
    loop {
        let begun = Instant::now();
        work(turns);
        let took = begun.elapsed().as_secs_f64();
        if took * ROUNDS as f64 >= seconds || turns >= 1 << 40 {
            break;
        }
        turns *= 2;
    }
    median((0..ROUNDS).map(|_| {
        let took = slowest(threads, || work(turns));
        threads as f64 * turns as f64 * flop / took / 1e9
    }))
}

/// GB/s of copying (bytes read and written) by `threads` threads, each between two buffers of `bytes`.
pub fn copy_gb_s(threads: usize, bytes: usize) -> f64 {
    let buffers: Vec<_> = (0..threads).map(|_| Mutex::new((vec![1u8; bytes], vec![2u8; bytes]))).collect();
    let taken = AtomicUsize::new(0);
    median((0..ROUNDS).map(|_| {
        taken.store(0, Ordering::SeqCst);
        let took = slowest(threads, || {
            let mine = taken.fetch_add(1, Ordering::SeqCst);
            let mut pair = buffers[mine].lock().unwrap_or_else(PoisonError::into_inner);
            let (from, to) = &mut *pair;
            to.copy_from_slice(black_box(from));
            black_box(to);
        });
        2.0 * (threads * bytes) as f64 / took / 1e9
    }))
}

/// Seconds of the slowest of `threads` threads that begin together.
fn slowest(threads: usize, work: impl Fn() + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let run = &|index: usize| {
        crate::pinning::pin_thread(index);
        barrier.wait();
        let begun = Instant::now();
        work();
        begun.elapsed().as_secs_f64()
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|index| scope.spawn(move || run(index))).collect();
        all.into_iter().filter_map(|thread| thread.join().ok()).fold(0.0, f64::max)
    })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    super::stats::Summary::of(&values.collect::<Vec<_>>()).map_or(f64::NAN, |summary| summary.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_positive_where_there_are_any() {
        for tier in ["avx512", "avx2", "portable", "fused"] {
            let peak = f32_gflops(tier, 2, 0.001);
            assert!(peak.is_none_or(|p| p > 0.0), "{tier}: {peak:?}");
            assert!(peak.is_none() || tier.starts_with("avx"), "{tier}");
        }
        assert!(bf16_gflops(1, 0.001).is_none_or(|p| p > 0.0));
        assert!(copy_gb_s(2, 1 << 16) > 0.0);
    }
}
