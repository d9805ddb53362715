//! The CPU engine against the f64 reference, against itself in smaller chunks and on other numbers of threads.

mod common;

use common::{CELLS, nmse, part, plain, random_chunk, weights};
use songrnn_fast::engine::cpu::{CpuEngine, Isa};
use songrnn_fast::engine::reference::ReferenceEngine;
use songrnn_fast::engine::{Engine, EngineSpec, Hyper, Precision};
use songrnn_fast::model::{CellKind, ModelShape};
use songrnn_fast::optim::Optimizer;

/// NMSE of every gradient tensor and the losses in f32. Measured: at most 8e-13,
/// but for a tanh network of one unit, whose sums cancel: 7.6e-12.
const F32_BOUND: f64 = 1e-11;
/// The same with h, gates and their gradients stored in bf16 and f16. Measured: at most 4.0e-5 and 5.7e-7.
const SHORT_BOUND: f64 = 1e-4;

fn cpu(shape: ModelShape, precision: Precision, threads: usize, isa: Isa) -> CpuEngine {
    let mut engine = CpuEngine::on(&EngineSpec::cpu(shape, precision, threads), isa).unwrap();
    engine.load_params(&weights(&shape, 3)).unwrap();
    engine
}

fn reference(shape: ModelShape) -> ReferenceEngine {
    let mut engine = ReferenceEngine::new(shape);
    engine.load_params(&weights(&shape, 3)).unwrap();
    engine
}

/// Two chunks (the second from a carried state) on both engines: loss and every gradient tensor. Prints the
/// largest error of each case.
fn compare(
    shape: ModelShape,
    steps: usize,
    streams: usize,
    hyper: &Hyper,
    precision: Precision,
    isa: Isa,
    bound: f64,
) {
    let mut worst = 0.0f64;
    let case = format!("{isa} {precision} {shape} T{steps} B{streams} dropout {}", hyper.dropout);
    let (mut fast, mut exact) = (cpu(shape, precision, 2, isa), reference(shape));
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
    println!("{case}: {worst:e}");
}

#[test]
fn f32_equals_the_reference_on_ragged_shapes() {
    for isa in Isa::available() {
        for cell in CELLS {
            for (hidden, vocab, layers) in [(1, 3, 1), (31, 17, 2), (33, 7, 3), (12, 96, 1)] {
                for (steps, streams) in [(1, 1), (7, 1), (7, 3), (1, 17), (18, 17), (5, 33)] {
                    let shape = ModelShape { cell, vocab, hidden, layers };
                    compare(shape, steps, streams, &plain(0.0), Precision::F32, isa, F32_BOUND);
                }
            }
        }
    }
}

#[test]
fn f32_equals_the_reference_at_the_papers_width() {
    for cell in CELLS {
        let shape = ModelShape { cell, vocab: 97, hidden: 150, layers: 1 };
        compare(shape, 7, 17, &plain(0.0), Precision::F32, Isa::detect().unwrap(), F32_BOUND);
    }
}

#[test]
fn dropout_uses_the_same_masks_as_the_reference() {
    for isa in Isa::available() {
        for cell in CELLS {
            let hyper = Hyper { dropout: 0.3, time: 1000, seed: 9, ..plain(0.0) };
            for layers in [1, 2] {
                let shape = ModelShape { cell, vocab: 9, hidden: 30, layers };
                compare(shape, 7, 19, &hyper, Precision::F32, isa, F32_BOUND);
            }
        }
    }
}

#[test]
fn short_precisions_stay_near_the_reference() {
    for isa in Isa::available() {
        for cell in CELLS {
            for precision in [Precision::Bf16, Precision::F16] {
                let shape = ModelShape { cell, vocab: 31, hidden: 50, layers: 2 };
                compare(shape, 12, 17, &plain(0.0), precision, isa, SHORT_BOUND);
            }
        }
    }
}

#[test]
fn rounding_to_short_types_happens() {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 31, hidden: 50, layers: 1 };
    let chunk = random_chunk(1, 31, 5, 4);
    let state = |precision| {
        let mut engine = cpu(shape, precision, 1, Isa::detect().unwrap());
        engine.grad_chunk(&chunk, &plain(0.0)).unwrap();
        engine.save_state().unwrap().h
    };
    assert!(state(Precision::Bf16).iter().all(|h| h.to_bits() & 0xffff == 0), "h is stored in bf16");
    assert!(state(Precision::F16).iter().all(|h| h.to_bits() & 0x1fff == 0), "h is stored in f16");
    assert!(state(Precision::F32).iter().any(|h| h.to_bits() & 0xffff != 0));
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

/// NMSE of the parameters' movement over ten steps. Adam divides by gradients near zero, so rounding counts more
/// than in a gradient. Measured: at most 3.3e-10.
const MOVEMENT_BOUND: f64 = 1e-8;

#[test]
fn ten_steps_of_every_optimizer_equal_the_reference() {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 9, hidden: 13, layers: 2 };
    for (optimizer, weight_decay) in all_optimizers() {
        let (mut fast, mut exact) = (cpu(shape, Precision::F32, 2, Isa::detect().unwrap()), reference(shape));
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

/// A short training run: parameters and everything carried, after `steps` chunks.
fn trained(threads: usize, precision: Precision, steps: u64) -> CpuEngine {
    let shape = ModelShape { cell: CellKind::Gru, vocab: 21, hidden: 40, layers: 2 };
    let mut engine = cpu(shape, precision, threads, Isa::detect().unwrap());
    run(&mut engine, 0, steps);
    engine
}

fn run(engine: &mut CpuEngine, from: u64, to: u64) {
    for step in from..to {
        let hyper = Hyper {
            optimizer: Optimizer::ADAM,
            lr: 5e-3,
            clip: 1.0,
            dropout: 0.2,
            time: 12 * step,
            ..plain(0.0)
        };
        let ticket = engine.train_chunk(&random_chunk(step as u32, 21, 12, 50), &hyper).unwrap();
        engine.sync(ticket).unwrap();
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for precision in [Precision::F32, Precision::Bf16] {
        let one = trained(1, precision, 6).save_state().unwrap();
        assert_eq!(one, trained(2, precision, 6).save_state().unwrap());
        assert_eq!(one, trained(4, precision, 6).save_state().unwrap());
    }
}

#[test]
fn resuming_does_not_change_a_bit() {
    for precision in [Precision::F32, Precision::F16] {
        let whole = trained(2, precision, 8);
        let first = trained(2, precision, 4);
        let mut second = cpu(first.shape(), precision, 2, Isa::detect().unwrap());
        second.load_state(&first.save_state().unwrap()).unwrap();
        run(&mut second, 4, 8);
        assert_eq!(whole.save_state().unwrap(), second.save_state().unwrap());
    }
}

#[test]
fn chunks_compose() {
    for cell in CELLS {
        let shape = ModelShape { cell, vocab: 11, hidden: 37, layers: 2 };
        let whole = random_chunk(77, 11, 64, 3);
        let each = |sizes: &[usize]| {
            let mut engine = cpu(shape, Precision::F32, 2, Isa::detect().unwrap());
            let mut at = 0;
            let mut losses = Vec::new();
            for &size in sizes {
                losses.extend(engine.eval_each(&part(&whole, at, size)).unwrap());
                at += size;
            }
            losses
        };
        let one = each(&[64]);
        assert_eq!(one, each(&[32, 32]), "{cell}");
        assert_eq!(one, each(&[1, 62, 1]), "{cell}");
        let expected = reference(shape).eval_each(&whole).unwrap();
        let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
        assert!(nmse(&one, &expected) < F32_BOUND);
        // And one character at a time.
        let mut engine = cpu(shape, Precision::F32, 2, Isa::detect().unwrap());
        let mut exact = reference(shape);
        for t in 0..64 {
            let one = part(&whole, t, 1);
            let (mut z, mut expected) = (vec![0.0; 33], vec![0.0; 33]);
            engine.step(&one.ids, &one.resets, &mut z).unwrap();
            exact.step(&one.ids, &one.resets, &mut expected).unwrap();
            let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
            assert!(nmse(&z, &expected) < F32_BOUND, "{cell} step {t}");
        }
    }
}

#[test]
fn taps_equal_the_reference() {
    for cell in CELLS {
        let shape = ModelShape { cell, vocab: 11, hidden: 19, layers: 2 };
        let ids: Vec<u16> = random_chunk(5, 11, 30, 1).ids;
        let found = cpu(shape, Precision::F32, 1, Isa::detect().unwrap()).tap(&ids).unwrap();
        let expected = reference(shape).tap(&ids).unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            for (found, expected) in
                [(&found.h, &expected.h), (&found.c, &expected.c), (&found.gates, &expected.gates)]
            {
                let expected: Vec<f64> = expected.iter().map(|&x| f64::from(x)).collect();
                assert!(nmse(found, &expected) < F32_BOUND, "{cell}");
            }
        }
        assert!(cpu(shape, Precision::F32, 1, Isa::detect().unwrap()).tap(&[]).is_err());
    }
}

#[test]
fn updates_are_skipped_on_explosion_and_the_state_is_mended() {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 9, hidden: 13, layers: 1 };
    let mut engine = cpu(shape, Precision::F32, 2, Isa::detect().unwrap());
    let chunk = random_chunk(1, 9, 5, 3);
    let before = engine.export_params().unwrap();
    let ticket = engine.train_chunk(&chunk, &Hyper { skip_above: 0.01, ..plain(0.1) }).unwrap();
    assert!(!engine.sync(ticket).unwrap().updated);
    assert_eq!(before, engine.export_params().unwrap());
    assert!(engine.sync(ticket).is_err(), "a ticket is read once");
    // A poisoned parameter: no update, and no NaN left in the carried state.
    let mut poisoned = before.clone();
    poisoned[0] = f32::NAN;
    engine.load_params(&poisoned).unwrap();
    let mut everywhere = chunk.clone();
    everywhere.ids.fill(0);
    let ticket = engine.train_chunk(&everywhere, &plain(0.1)).unwrap();
    let stats = engine.sync(ticket).unwrap();
    assert!(!stats.updated && !stats.mean_loss().is_finite());
    assert!(engine.save_state().unwrap().h.iter().all(|h| h.is_finite()));
    // Evaluation meets the NaN too, and forgets it with the parameters and where a tune starts.
    engine.eval_each(&everywhere).unwrap();
    engine.load_params(&before).unwrap();
    let mut fresh = chunk;
    fresh.resets[..3].fill(1);
    assert!(engine.eval_each(&fresh).unwrap().iter().all(|x| x.is_finite()));
}

#[test]
fn f16_halves_its_loss_scale_on_overflow() {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 9, hidden: 13, layers: 1 };
    let mut engine = cpu(shape, Precision::F16, 1, Isa::detect().unwrap());
    let mut state = engine.save_state().unwrap();
    state.loss_scale = 2.0f32.powi(40);
    engine.load_state(&state).unwrap();
    let ticket = engine.train_chunk(&random_chunk(1, 9, 5, 3), &plain(0.1)).unwrap();
    assert!(!engine.sync(ticket).unwrap().updated);
    assert_eq!(engine.save_state().unwrap().loss_scale, 2.0f32.powi(39));
}

#[test]
fn malformed_input_is_refused() {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 9, hidden: 13, layers: 1 };
    let mut engine = cpu(shape, Precision::F32, 1, Isa::detect().unwrap());
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
