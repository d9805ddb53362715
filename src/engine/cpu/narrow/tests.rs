//! Tests of what is private to the narrow path; the rest is in `tests/cpu_narrow.rs`.
#![allow(unsafe_code)]

use super::super::simd::{Portable, Simd};
use super::*;
use crate::model::CellKind;
use crate::optim::Optimizer;

const CELLS: [CellKind; 3] = [CellKind::Lstm, CellKind::Gru, CellKind::Rnn];

fn chunk(vocab: usize, steps: usize, streams: usize) -> Chunk {
    let mut chunk = Chunk::new(steps, streams);
    for i in 0..steps * streams {
        chunk.ids[i] = (i * 5 % vocab) as u16;
        chunk.targets[i] = (i * 3 % vocab) as u16;
        chunk.resets[i] = u8::from(i % 7 == 3);
    }
    chunk
}

/// More members than cores, each with parts of its own: the same bits, and it ends.
#[test]
fn members_do_not_change_a_bit() {
    for cell in CELLS {
        let hidden = if cell == CellKind::Rnn { 1300 } else { 300 };
        let shape = ModelShape { cell, vocab: 17, hidden, layers: 2 };
        let params = crate::model::init::uniform(&shape, 3);
        let hyper = Hyper {
            optimizer: Optimizer::ADAM,
            lr: 1e-3,
            clip: 0.1,
            weight_decay: 0.0,
            dropout: 0.1,
            seed: 1,
            time: 0,
            skip_above: f32::INFINITY,
        };
        let mut found = Vec::new();
        for members in [1, 2, 3, 4] {
            let isa = Isa::detect().unwrap();
            let mut narrow = Narrow::new(shape, isa, Precision::F32, 8);
            assert!(narrow.plan.parts.len() >= 4, "{cell}: {} parts", narrow.plan.parts.len());
            narrow.members = members;
            narrow.paces = std::array::from_fn(|_| Pace::never_alone());
            narrow.import(&params, &Default::default()).unwrap();
            let mut out = vec![0.0; params.len()];
            let mut moments = [Vec::new(), Vec::new()];
            for update in 1..=2 {
                let rule = Rule { hyper, update, accepts: |_, _| true };
                let stats = narrow.train(&chunk(17, 5, 2), &hyper, 1.0, Some(rule)).unwrap();
                assert!(stats.updated && stats.grad_norm > 0.0);
            }
            narrow.export(&mut out, &mut moments);
            assert!(out != params);
            found.push((out, moments, narrow.training_state()));
        }
        assert!(found.iter().all(|other| *other == found[0]), "{cell}");
    }
}

/// Every parameter has one place, padding apart, and nothing overlaps.
#[test]
fn the_plan_is_a_permutation() {
    for isa in Isa::available() {
        for cell in CELLS {
            for (hidden, vocab, layers) in [(1, 3, 1), (33, 17, 2), (150, 97, 1), (513, 5, 2)] {
                let shape = ModelShape { cell, vocab, hidden, layers };
                let plan = Plan::new(shape, isa);
                let (mut here, mut there) = (vec![false; plan.len], vec![false; shape.params()]);
                plan.each(|a, b| {
                    assert!(!here[a] && !there[b], "{isa} {shape}: {a} {b}");
                    (here[a], there[b]) = (true, true);
                });
                assert!(there.iter().all(|&seen| seen), "{isa} {shape}");
                for members in 1..=plan.parts.len() {
                    let units: usize = (0..members).map(|m| plan.units_of(m, members).len()).sum();
                    assert_eq!(units, plan.units, "{isa} {shape}");
                }
            }
        }
    }
}

/// Sums of lanes, and the near square root and quotient: (largest relative errors).
fn near<S: Simd>() -> [f64; 2] {
    let mut rows = [[0.0f32; 16]; 8];
    for (i, row) in rows.iter_mut().enumerate() {
        for (lane, x) in row.iter_mut().enumerate() {
            *x = (i * 100 + lane * lane) as f32;
        }
    }
    let mut sums = [0.0f32; 8];
    // SAFETY: instantiated for instruction sets that are there; the arrays hold 16 lanes.
    unsafe {
        let mut vectors = [S::splat(0.0); 8];
        for i in 0..8 {
            vectors[i] = S::load(rows[i].as_ptr());
        }
        S::sums8(&vectors, sums.as_mut_ptr());
    }
    for i in 0..8 {
        assert_eq!(sums[i], rows[i][..S::LANES].iter().sum::<f32>(), "row {i}");
    }
    let mut worst = [0.0f64; 2];
    for e in -3700..3800 {
        let x = (f64::from(e) / 100.0).exp2() as f32 * 1.3;
        for a in [x * x, x] {
            let mut out = [[0.0f32; 16]; 2];
            // SAFETY: as above.
            unsafe {
                S::store(out[0].as_mut_ptr(), S::sqrt_near(S::splat(a)));
                S::store(out[1].as_mut_ptr(), S::div_near(S::splat(-0.7), S::splat(a)));
            }
            let exact = [f64::from(a).sqrt(), -0.7f32 as f64 / f64::from(a)];
            for i in 0..2 {
                worst[i] = worst[i].max((f64::from(out[i][0]) / exact[i] - 1.0).abs());
            }
        }
    }
    let mut zero = [[1.0f32; 16]; 2];
    // SAFETY: as above.
    unsafe {
        S::store(zero[0].as_mut_ptr(), S::sqrt_near(S::splat(0.0)));
        S::store(zero[1].as_mut_ptr(), S::div_near(S::splat(0.0), S::splat(1e-8)));
    }
    assert_eq!((zero[0][0], zero[1][0]), (0.0, 0.0));
    // SAFETY: as above.
    unsafe {
        S::store(zero[0].as_mut_ptr(), S::div_near(S::splat(1.0), S::sqrt_near(S::splat(f32::INFINITY))))
    };
    assert!(zero[0][0].abs() < 1e-18, "1 / sqrt(infinity) = {}", zero[0][0]);
    worst
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn near_avx2() -> [f64; 2] {
    near::<super::super::simd::Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
unsafe fn near_avx512() -> [f64; 2] {
    near::<super::super::simd::Avx512>()
}

#[test]
fn near_roots_and_quotients_are_near() {
    let mut found = vec![near::<Portable>()];
    #[cfg(target_arch = "x86_64")]
    for isa in Isa::available() {
        match isa {
            Isa::Portable => {}
            // SAFETY: just detected.
            Isa::Avx2 => found.push(unsafe { near_avx2() }),
            // SAFETY: just detected.
            _ => found.push(unsafe { near_avx512() }),
        }
    }
    println!("{found:?}");
    assert!(found.iter().flatten().all(|&error| error < 3e-7), "{found:?}");
}
