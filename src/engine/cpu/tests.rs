//! Tests of what is private to the CPU engine; against the reference it is held in `tests/cpu_engine.rs`.
#![allow(unsafe_code)]

use super::math;
use super::simd::{Portable, Simd};

/// Largest absolute error of sigmoid and tanh, and relative error of exp, over a grid.
fn errors<S: Simd>() -> [f64; 3] {
    let mut worst = [0.0f64; 3];
    let mut i = -8_700_000i64;
    while i < 8_700_000 {
        let x = i as f32 / 100_000.0;
        let mut out = [[0.0f32; 16]; 3];
        // SAFETY: instantiated below only for instruction sets that are there; the arrays hold 16 lanes.
        unsafe {
            S::store(out[0].as_mut_ptr(), math::exp::<S>(S::splat(x)));
            S::store(out[1].as_mut_ptr(), math::sigmoid::<S>(S::splat(x)));
            S::store(out[2].as_mut_ptr(), math::tanh::<S>(S::splat(x)));
        }
        let x = f64::from(x);
        let exact = [x.exp(), 1.0 / (1.0 + (-x).exp()), x.tanh()];
        worst[0] = worst[0].max((f64::from(out[0][0]) - exact[0]).abs() / exact[0]);
        worst[1] = worst[1].max((f64::from(out[1][0]) - exact[1]).abs());
        worst[2] = worst[2].max((f64::from(out[2][0]) - exact[2]).abs());
        i += 1_313;
    }
    worst
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn errors_avx2() -> [f64; 3] {
    errors::<super::simd::Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
unsafe fn errors_avx512() -> [f64; 3] {
    errors::<super::simd::Avx512>()
}

#[test]
fn activations_are_within_their_bounds() {
    let mut found = vec![("portable", errors::<Portable>())];
    #[cfg(target_arch = "x86_64")]
    {
        let available = super::Isa::available();
        if available.contains(&super::Isa::Avx2) {
            // SAFETY: just detected.
            found.push(("avx2", unsafe { errors_avx2() }));
        } else {
            println!("SKIP avx2: this machine does not have it");
        }
        if available.contains(&super::Isa::Avx512) {
            // SAFETY: just detected.
            found.push(("avx512", unsafe { errors_avx512() }));
        } else {
            println!("SKIP avx512: this machine does not have it");
        }
    }
    for (name, [exp, sigmoid, tanh]) in found {
        println!("{name}: exp {exp:e} sigmoid {sigmoid:e} tanh {tanh:e}");
        assert!(exp < 3e-7 && sigmoid < 2e-7 && tanh < 3e-7, "{name}: {exp:e} {sigmoid:e} {tanh:e}");
    }
}

/// Sigmoid and tanh of NaN, minus and plus infinity, numbers whose exponentials are out of range, and 0.
fn extremes<S: Simd>() -> [[f32; 2]; 6] {
    [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, -1e30, 1e30, 0.0].map(|x| {
        let mut out = [[0.0f32; 16]; 2];
        // SAFETY: as in `errors`.
        unsafe {
            S::store(out[0].as_mut_ptr(), math::sigmoid::<S>(S::splat(x)));
            S::store(out[1].as_mut_ptr(), math::tanh::<S>(S::splat(x)));
        }
        [out[0][0], out[1][0]]
    })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn extremes_avx2() -> [[f32; 2]; 6] {
    extremes::<super::simd::Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
unsafe fn extremes_avx512() -> [[f32; 2]; 6] {
    extremes::<super::simd::Avx512>()
}

/// Exact at 0: activations lie around it, most of all early in training. A tanh that was 4e-5 off there, far less than
/// bf16 rounds by, cost a model 0.04 nats of validation loss, because it was off in one direction.
#[test]
fn not_a_number_stays_one_infinities_saturate_and_zero_is_exact() {
    let mut found = vec![("portable", extremes::<Portable>())];
    #[cfg(target_arch = "x86_64")]
    {
        let available = super::Isa::available();
        if available.contains(&super::Isa::Avx2) {
            // SAFETY: just detected.
            found.push(("avx2", unsafe { extremes_avx2() }));
        }
        if available.contains(&super::Isa::Avx512) {
            // SAFETY: just detected.
            found.push(("avx512", unsafe { extremes_avx512() }));
        }
    }
    for (name, [nan, low, high, lower, higher, zero]) in found {
        assert_eq!(zero, [0.5, 0.0], "{name}");
        assert!(nan.iter().all(|x| x.is_nan()), "{name}: {nan:?}");
        for (low, high) in [(low, high), (lower, higher)] {
            assert!((0.0..1e-30).contains(&low[0]) && low[1] == -1.0, "{name}: {low:?}");
            assert!(high == [1.0, 1.0], "{name}: {high:?}");
        }
    }
}

/// The layers alone give the states of a whole step and, from the same gradient of their output, the same weight
/// gradients, bit for bit; the head's are left alone.
#[test]
fn layers_alone_do_what_a_whole_step_does_to_them() {
    use super::{Chunk, CpuEngine, Engine, EngineSpec, Precision};
    use crate::model::{CellKind, ModelShape, init};
    let cells = [CellKind::Lstm, CellKind::Gru, CellKind::Rnn];
    for (cell, precision) in
        cells.into_iter().flat_map(|cell| [(cell, Precision::F32), (cell, Precision::Bf16)])
    {
        let shape = ModelShape { cell, vocab: 11, hidden: 19, layers: 1 };
        let mut engine = CpuEngine::new(&EngineSpec::cpu(shape, precision, 2)).unwrap();
        let params = init::uniform(&shape, 3);
        engine.load_params(&params).unwrap();
        let mut chunk = Chunk::new(7, 20); // More than the narrow path takes.
        for i in 0..140 {
            chunk.ids[i] = (i * 5 % 11) as u16;
            chunk.targets[i] = (i * 3 % 11) as u16;
        }
        chunk.resets[53] = 1;
        let hyper = super::super::Hyper {
            optimizer: crate::optim::Optimizer::ADAM,
            lr: 0.0,
            clip: 0.0,
            weight_decay: 0.0,
            dropout: 0.0,
            seed: 1,
            time: 0,
            skip_above: f32::INFINITY,
        };
        let (_, whole) = engine.grad_chunk(&chunk, &hyper).unwrap();
        let states = engine.save_state().unwrap();
        engine.load_params(&params).unwrap();
        engine.grads.fill(7.0);
        engine.jobs.fill(7.0);
        engine.training.slices.iter_mut().filter_map(|slice| slice.short.as_mut()).for_each(|s| s.fill(7.0));
        engine.layers(&chunk, true).unwrap();
        let head = shape.head_ranges().0.start;
        assert_eq!(engine.grads[..head], whole[..head], "{cell}");
        assert!(engine.grads[head..].iter().all(|&g| g == 7.0), "{cell}");
        assert_eq!(engine.save_state().unwrap(), states, "{cell}");
        engine.load_params(&params).unwrap();
        engine.layers(&chunk, false).unwrap();
        assert_eq!(engine.save_state().unwrap(), states, "{cell}, forward alone");
    }
}
