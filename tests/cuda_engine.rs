//! The CUDA engine against the f64 reference, against itself in smaller chunks, and against the CPU engine. Runs on the
//! emulated device, or with `SONGRNN_TEST_DEVICE=cuda` on a GPU.

mod common;
#[path = "common/device.rs"]
mod device;

use common::{CELLS, nmse, part, plain, random_chunk, weights};
use device::{device, quick};
use songrnn_fast::engine::cuda::CudaEngine;
use songrnn_fast::engine::reference::ReferenceEngine;
use songrnn_fast::engine::{Engine, Hyper, Kernel, Precision};
use songrnn_fast::model::{CellKind, ModelShape};
use songrnn_fast::optim::Optimizer;

/// NMSE of the losses and every gradient tensor.
const F32_BOUND: f64 = 1e-11;
/// The same with h, gates and their gradients stored in bf16 and f16.
const SHORT_BOUND: f64 = 1e-4;

const PRECISIONS: [(Precision, f64); 3] =
    [(Precision::F32, F32_BOUND), (Precision::Bf16, SHORT_BOUND), (Precision::F16, SHORT_BOUND)];

/// Number formats with their bounds; quick: without f16, whose kernels are bf16's with another type.
fn precisions() -> &'static [(Precision, f64)] {
    if quick() { &PRECISIONS[..2] } else { &PRECISIONS }
}

/// An engine on an emulated device of that capability; None where the tests' device cannot be had, or (said) where the
/// tier does not serve the shape there.
fn cuda(
    shape: ModelShape,
    precision: Precision,
    kernel: Kernel,
    (major, seed): (u32, u64),
) -> Option<CudaEngine> {
    match CudaEngine::new(device(major, seed)?, shape, precision, kernel) {
        Ok(mut engine) => {
            engine.load_params(&weights(&shape, 3)).unwrap();
            Some(engine)
        }
        Err(why) => {
            println!("SKIP {} kernels, {shape}, {precision}: {why}", kernel.name());
            None
        }
    }
}

fn reference(shape: ModelShape) -> ReferenceEngine {
    let mut engine = ReferenceEngine::new(shape);
    engine.load_params(&weights(&shape, 3)).unwrap();
    engine
}

/// Two chunks (the second from a carried state): losses, every gradient tensor, the carried state.
fn compare(
    shape: ModelShape,
    (steps, streams): (usize, usize),
    hyper: &Hyper,
    (precision, bound): (Precision, f64),
    kernel: Kernel,
    on: (u32, u64),
) {
    let Some(mut fast) = cuda(shape, precision, kernel, on) else { return };
    let case = format!(
        "sm_{}0 order {} {} {precision} {shape} T{steps} B{streams} dropout {}",
        on.0,
        on.1,
        fast.tier(),
        hyper.dropout
    );
    hold(&mut fast, (steps, streams), hyper, bound, &case);
}

/// The same for an engine whose parameters are `weights(shape, 3)`.
fn hold(fast: &mut CudaEngine, (steps, streams): (usize, usize), hyper: &Hyper, bound: f64, case: &str) {
    let shape = fast.shape();
    let mut exact = reference(shape);
    let mut worst = 0.0f64;
    for seed in [31, 32] {
        let chunk = random_chunk(seed, shape.vocab, steps, streams);
        let (stats, grads) = fast.grad_chunk(&chunk, hyper).unwrap();
        let (expected, expected_grads) = exact.gradient(&chunk, hyper).unwrap();
        assert_eq!(stats.predicted, expected.predicted);
        let error = ((stats.loss_sum - expected.loss_sum) / expected.loss_sum.max(1e-9)).powi(2);
        worst = worst.max(error);
        assert!(error < bound, "{case}: loss {} expected {}", stats.loss_sum, expected.loss_sum);
        for tensor in shape.tensors() {
            let error = nmse(&grads[tensor.range.clone()], &expected_grads[tensor.range]);
            worst = worst.max(error);
            assert!(error < bound, "{case}: gradient of {}: NMSE {error:e}", tensor.name);
        }
    }
    let state = fast.save_state().unwrap();
    let expected = exact.training_state();
    let expected_h: Vec<f64> = expected.h.iter().flatten().flatten().copied().collect();
    let expected_c: Vec<f64> = expected.c.iter().flatten().flatten().copied().collect();
    assert!(nmse(&state.h, &expected_h) < bound, "{case}: carried h");
    assert!(nmse(&state.c, &expected_c) < bound, "{case}: carried c");
    device::no_races(case);
    println!("{case}: {worst:e}");
}

#[test]
fn stepwise_kernels_equal_the_reference_on_ragged_shapes() {
    for &kind in precisions() {
        for cell in CELLS {
            for (hidden, vocab, layers) in [(1, 3, 1), (31, 17, 2), (33, 7, 3)] {
                for size in [(1, 1), (7, 3), (5, 17)] {
                    // One unit's gradient is one short number: nothing averages its rounding.
                    if (quick() && size != (7, 3)) || (hidden == 1 && kind.0 != Precision::F32) {
                        continue;
                    }
                    let shape = ModelShape { cell, vocab, hidden, layers };
                    compare(shape, size, &plain(0.0), kind, Kernel::Stepwise, (8, 1));
                }
            }
        }
    }
}

#[test]
fn fused_kernels_equal_the_reference_on_ragged_shapes() {
    for &kind in precisions() {
        for cell in CELLS {
            for (hidden, vocab, layers) in [(1, 3, 1), (31, 17, 2), (33, 7, 3)] {
                for size in [(1, 1), (7, 3), (4, 17)] {
                    if (quick() && size != (7, 3)) || (hidden == 1 && kind.0 != Precision::F32) {
                        continue;
                    }
                    let shape = ModelShape { cell, vocab, hidden, layers };
                    compare(shape, size, &plain(0.0), kind, Kernel::Fused, (9, 2));
                }
            }
        }
    }
}

#[test]
fn every_kernel_equals_the_reference_at_the_papers_width() {
    for &kind in precisions() {
        for cell in CELLS {
            let shape = ModelShape { cell, vocab: 97, hidden: 150, layers: 1 };
            for (kernel, on) in [(Kernel::Stepwise, (8, 3)), (Kernel::Fused, (8, 4)), (Kernel::Fused, (9, 5))]
            {
                if quick() && (kernel == Kernel::Stepwise || cell == CellKind::Rnn) {
                    continue;
                }
                compare(shape, (7, if quick() { 8 } else { 17 }), &plain(0.0), kind, kernel, on);
            }
        }
    }
}

#[test]
fn fused_kernels_equal_the_reference_in_several_orders_of_their_threads() {
    for seed in 10..if quick() { 11 } else { 15 } {
        for &kind in precisions() {
            for cell in CELLS {
                let shape = ModelShape { cell, vocab: 12, hidden: 64, layers: 1 };
                compare(shape, (6, 9), &plain(0.0), kind, Kernel::Fused, (9, seed));
            }
        }
    }
}

#[test]
fn clusters_equal_the_reference_at_256_and_512_units() {
    for &kind in precisions() {
        for (cell, hidden) in [
            (CellKind::Lstm, 256),
            (CellKind::Gru, 250),
            (CellKind::Rnn, 256),
            (CellKind::Lstm, 512),
            (CellKind::Rnn, 500),
        ] {
            if quick() && hidden > 256 {
                continue;
            }
            let shape = ModelShape { cell, vocab: 9, hidden, layers: 1 };
            compare(shape, (4, 8), &plain(0.0), kind, Kernel::Fused, (9, 6));
        }
    }
}

#[test]
fn large_tiles_equal_the_reference() {
    // On a device of one multiprocessor every product is large enough for them.
    for precision in [Precision::Bf16, Precision::F16] {
        let Some(driver) = device::emulated(|facts| facts.multiprocessors = 1) else { return };
        let shape = ModelShape { cell: CellKind::Lstm, vocab: 150, hidden: 60, layers: 2 };
        let mut engine = CudaEngine::new(driver, shape, precision, Kernel::Auto).unwrap();
        engine.load_params(&weights(&shape, 3)).unwrap();
        hold(&mut engine, (9, 16), &plain(0.0), SHORT_BOUND, &format!("large tiles {precision}"));
    }
}

#[test]
fn running_out_of_memory_tells_what_was_needed_and_what_to_do() {
    let Some(driver) = device::emulated(|facts| facts.memory = 24 << 20) else { return };
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 9, hidden: 20, layers: 1 };
    let mut engine = CudaEngine::new(driver, shape, Precision::F32, Kernel::Auto).unwrap();
    engine.load_params(&weights(&shape, 3)).unwrap();
    let error = engine.train_chunk(&random_chunk(1, 9, 200, 64), &plain(0.1)).unwrap_err().to_string();
    for word in ["out of GPU memory", "bytes more were needed", "halve --batch or --seq-len"] {
        assert!(error.contains(word), "{error}");
    }
    // And the engine goes on with less.
    let ticket = engine.train_chunk(&random_chunk(1, 9, 20, 8), &plain(0.1)).unwrap();
    assert!(engine.sync(ticket).unwrap().updated);
}

#[test]
fn a_large_vocabulary_equals_the_reference() {
    for &kind in precisions() {
        let shape = ModelShape { cell: CellKind::Gru, vocab: 777, hidden: 20, layers: 1 };
        compare(shape, (3, 5), &plain(0.0), kind, Kernel::Auto, (9, 7));
    }
}

#[test]
fn dropout_uses_the_same_masks_as_the_reference() {
    for &kind in precisions() {
        for cell in CELLS {
            let hyper = Hyper { dropout: 0.3, time: 1000, seed: 9, ..plain(0.0) };
            let shape = ModelShape { cell, vocab: 9, hidden: 30, layers: 2 };
            compare(shape, (7, 11), &hyper, kind, Kernel::Auto, (9, 8));
        }
    }
}

fn all_optimizers() -> [(Optimizer, f32); 5] {
    [
        (Optimizer::ADAM, 0.0),
        (Optimizer::Adam { beta1: 0.8, beta2: 0.95, eps: 1e-6 }, 0.01),
        (Optimizer::ADAMW, 0.02),
        (Optimizer::SGD, 0.01),
        (Optimizer::RmsProp { alpha: 0.9, eps: 1e-6, momentum: 0.5 }, 0.01),
    ]
}

/// NMSE of the parameters' movement over ten steps; see `cpu_engine.rs`.
const MOVEMENT_BOUND: f64 = 1e-8;

#[test]
fn ten_steps_of_every_optimizer_equal_the_reference() {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 9, hidden: 13, layers: 2 };
    for (optimizer, weight_decay) in all_optimizers() {
        let Some(mut fast) = cuda(shape, Precision::F32, Kernel::Auto, (9, 1)) else { return };
        let mut exact = reference(shape);
        let start = fast.export_params().unwrap();
        for step in 0..10u64 {
            let hyper = Hyper {
                optimizer,
                weight_decay,
                lr: 1e-2,
                clip: 0.05,
                time: 7 * step,
                dropout: 0.1,
                ..plain(0.0)
            };
            let chunk = random_chunk(50 + step as u32, 9, 7, 5);
            let (a, b) =
                (fast.train_chunk(&chunk, &hyper).unwrap(), exact.train_chunk(&chunk, &hyper).unwrap());
            let (a, b) = (fast.sync(a).unwrap(), exact.sync(b).unwrap());
            assert!(a.updated && b.updated && a.grad_norm > 0.05, "clipping is active");
            assert!(((a.grad_norm - b.grad_norm) / b.grad_norm).abs() < 1e-4, "{optimizer:?} step {step}");
            assert!(
                (a.mean_loss() - b.mean_loss()).abs() < 1e-4 * b.mean_loss(),
                "{optimizer:?} step {step}"
            );
        }
        let moved =
            |end: &[f64]| -> Vec<f64> { end.iter().zip(&start).map(|(e, s)| e - f64::from(*s)).collect() };
        let expected = moved(&exact.params);
        let end: Vec<f64> = fast.export_params().unwrap().iter().map(|&x| f64::from(x)).collect();
        let found: Vec<f32> = moved(&end).iter().map(|&x| x as f32).collect();
        let error = nmse(&found, &expected);
        println!("{optimizer:?}: NMSE {error:e}");
        assert!(error < MOVEMENT_BOUND, "{optimizer:?}: NMSE {error:e}");
    }
}

/// Trains `engine` on the chunks of steps `from..to`; the statistics are read late, as a trainer does.
fn run(engine: &mut CudaEngine, from: u64, to: u64) {
    let mut tickets = Vec::new();
    for step in from..to {
        let hyper = Hyper {
            optimizer: Optimizer::ADAM,
            lr: 5e-3,
            clip: 1.0,
            dropout: 0.2,
            time: 12 * step,
            ..plain(0.0)
        };
        let vocab = engine.shape().vocab;
        tickets.push(engine.train_chunk(&random_chunk(step as u32, vocab, 12, 10), &hyper).unwrap());
    }
    for ticket in tickets {
        assert!(engine.sync(ticket).unwrap().updated);
    }
}

#[test]
fn resuming_and_the_order_of_threads_do_not_change_a_bit() {
    for (precision, cell) in
        [(Precision::F32, CellKind::Gru), (Precision::F16, CellKind::Lstm), (Precision::Bf16, CellKind::Rnn)]
    {
        let shape = ModelShape { cell, vocab: 21, hidden: 40, layers: 2 };
        let Some(mut whole) = cuda(shape, precision, Kernel::Auto, (9, 1)) else { return };
        run(&mut whole, 0, 6);
        let mut first = cuda(shape, precision, Kernel::Auto, (9, 2)).unwrap();
        run(&mut first, 0, 3);
        let mut second = cuda(shape, precision, Kernel::Auto, (9, 3)).unwrap();
        second.load_state(&first.save_state().unwrap()).unwrap();
        run(&mut second, 3, 6);
        assert_eq!(whole.save_state().unwrap(), second.save_state().unwrap(), "{precision} {cell}");
    }
}

#[test]
fn chunks_compose() {
    for kernel in [Kernel::Stepwise, Kernel::Fused] {
        for cell in CELLS {
            let shape = ModelShape { cell, vocab: 11, hidden: 37, layers: 2 };
            let whole = random_chunk(77, 11, 16, 3);
            let each = |sizes: &[usize]| {
                let mut engine = cuda(shape, Precision::F32, kernel, (9, 1))?;
                let mut at = 0;
                let mut losses = Vec::new();
                for &size in sizes {
                    losses.extend(engine.eval_each(&part(&whole, at, size)).unwrap());
                    at += size;
                }
                Some(losses)
            };
            let Some(one) = each(&[16]) else { continue };
            assert_eq!(one, each(&[8, 8]).unwrap(), "{cell}");
            assert_eq!(one, each(&[1, 14, 1]).unwrap(), "{cell}");
            let expected = reference(shape).eval_each(&whole).unwrap();
            let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
            assert!(nmse(&one, &expected) < F32_BOUND);
            let mut engine = cuda(shape, Precision::F32, kernel, (9, 1)).unwrap();
            let mut exact = reference(shape);
            for t in 0..16 {
                let one = part(&whole, t, 1);
                let (mut z, mut expected) = (vec![0.0; 33], vec![0.0; 33]);
                engine.step(&one.ids, &one.resets, &mut z).unwrap();
                exact.step(&one.ids, &one.resets, &mut expected).unwrap();
                let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
                assert!(nmse(&z, &expected) < F32_BOUND, "{cell} step {t}");
            }
        }
    }
}

#[test]
fn taps_equal_the_reference() {
    for kernel in [Kernel::Stepwise, Kernel::Fused] {
        for &(precision, bound) in precisions() {
            for cell in CELLS {
                let shape = ModelShape { cell, vocab: 11, hidden: 19, layers: 2 };
                let ids: Vec<u16> = random_chunk(5, 11, 12, 1).ids;
                let Some(mut engine) = cuda(shape, precision, kernel, (9, 1)) else { continue };
                let found = engine.tap(&ids).unwrap();
                let expected = reference(shape).tap(&ids).unwrap();
                for (found, expected) in found.iter().zip(&expected) {
                    for (found, expected) in
                        [(&found.h, &expected.h), (&found.c, &expected.c), (&found.gates, &expected.gates)]
                    {
                        let expected: Vec<f64> = expected.iter().map(|&x| f64::from(x)).collect();
                        assert!(nmse(found, &expected) < bound, "{cell} {precision}");
                    }
                }
                assert!(engine.tap(&[]).is_err());
            }
        }
    }
}

#[test]
fn updates_are_skipped_on_explosion_and_the_state_is_mended() {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 9, hidden: 13, layers: 1 };
    let Some(mut engine) = cuda(shape, Precision::F32, Kernel::Auto, (9, 1)) else { return };
    let chunk = random_chunk(1, 9, 5, 3);
    let before = engine.export_params().unwrap();
    let ticket = engine.train_chunk(&chunk, &Hyper { skip_above: 0.01, ..plain(0.1) }).unwrap();
    assert!(!engine.sync(ticket).unwrap().updated);
    assert_eq!(before, engine.export_params().unwrap());
    assert!(engine.sync(ticket).is_err(), "a ticket is read once");
    let mut poisoned = before.clone();
    poisoned[0] = f32::NAN;
    engine.load_params(&poisoned).unwrap();
    let mut everywhere = chunk.clone();
    everywhere.ids.fill(0);
    let ticket = engine.train_chunk(&everywhere, &plain(0.1)).unwrap();
    let stats = engine.sync(ticket).unwrap();
    assert!(!stats.updated && !stats.mean_loss().is_finite());
    assert!(engine.save_state().unwrap().h.iter().all(|h| h.is_finite()));
    engine.eval_each(&everywhere).unwrap();
    engine.load_params(&before).unwrap();
    let mut fresh = chunk;
    fresh.resets[..3].fill(1);
    assert!(engine.eval_each(&fresh).unwrap().iter().all(|x| x.is_finite()));
}

#[test]
fn f16_halves_its_loss_scale_on_overflow_and_doubles_it_after_good_steps() {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 9, hidden: 13, layers: 1 };
    let Some(mut engine) = cuda(shape, Precision::F16, Kernel::Auto, (9, 1)) else { return };
    let mut state = engine.save_state().unwrap();
    assert_eq!(state.loss_scale, 65_536.0);
    state.loss_scale = 2.0f32.powi(40);
    engine.load_state(&state).unwrap();
    let ticket = engine.train_chunk(&random_chunk(1, 9, 5, 3), &plain(0.1)).unwrap();
    assert!(!engine.sync(ticket).unwrap().updated);
    assert_eq!(engine.save_state().unwrap().loss_scale, 2.0f32.powi(39));
    (state.loss_scale, state.good_steps) = (1024.0, 1999);
    engine.load_state(&state).unwrap();
    let ticket = engine.train_chunk(&random_chunk(1, 9, 5, 3), &plain(0.1)).unwrap();
    assert_eq!(engine.sync(ticket).unwrap().loss_scale, 1024.0);
    assert_eq!(engine.save_state().unwrap().loss_scale, 2048.0);
}

#[test]
fn malformed_input_is_refused() {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 9, hidden: 13, layers: 1 };
    let Some(mut engine) = cuda(shape, Precision::F32, Kernel::Auto, (9, 1)) else { return };
    let mut chunk = random_chunk(1, 9, 5, 3);
    chunk.ids[0] = 9;
    assert!(engine.train_chunk(&chunk, &plain(0.1)).unwrap_err().to_string().contains("vocabulary's 9"));
    chunk.ids.pop();
    assert!(engine.eval_chunk(&chunk).is_err());
    assert!(engine.load_params(&[0.0]).is_err());
    let mut state = engine.save_state().unwrap();
    state.h = vec![0.0; 14];
    assert!(engine.load_state(&state).is_err());
    assert!(engine.step(&[0], &[0, 0], &mut [0.0; 9]).is_err());
    assert!(engine.step(&[], &[], &mut []).is_err());
}

#[test]
fn changing_shapes_of_chunks_does_not_disturb_what_is_carried() {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 11, hidden: 20, layers: 1 };
    let Some(mut engine) = cuda(shape, Precision::F32, Kernel::Auto, (9, 1)) else { return };
    let mut exact = reference(shape);
    // The same shape three times (direct, captured, replayed), another length, fewer streams, and back.
    for (i, (steps, streams)) in
        [(5, 9), (5, 9), (5, 9), (2, 9), (5, 9), (5, 3), (5, 9)].into_iter().enumerate()
    {
        let chunk = random_chunk(i as u32, 11, steps, streams);
        let expected = exact.eval_each(&chunk).unwrap();
        let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
        assert!(nmse(&engine.eval_each(&chunk).unwrap(), &expected) < F32_BOUND, "chunk {i}");
    }
}
