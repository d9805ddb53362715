//! What every engine must do, whichever it is: the checks that `cpu_engine.rs` and `cuda_engine.rs` share. Engines come
//! with the parameters `weights(shape, 3)`.
#![allow(dead_code)]

use songrnn_fast::engine::reference::ReferenceEngine;
use songrnn_fast::engine::{Chunk, Engine, Hyper};
use songrnn_fast::model::ModelShape;
use songrnn_fast::optim::Optimizer;

use super::{nmse, part, plain, random_chunk, weights};

/// NMSE of losses, gradients, logits and activations in f32. Measured: cpu at most 8e-13, but for a tanh network of one
/// unit, whose sums cancel: 7.6e-12; cuda at most 1.1e-12 (emulated), on an H200 6.5e-12 (an LSTM of one unit).
pub const F32_BOUND: f64 = 1e-11;
/// The same with h, gates and their gradients stored in bf16 and f16. Measured: cpu at most 4.0e-5 and 5.7e-7, cuda
/// 8.9e-5 (three tanh layers of 33 units) and 1.8e-6.
pub const SHORT_BOUND: f64 = 1e-4;
/// NMSE of the parameters' movement over ten steps. Adam divides by gradients near zero, so rounding counts more
/// than in a gradient. Measured: at most 3.3e-10.
pub const MOVEMENT_BOUND: f64 = 1e-8;

/// The truth.
pub fn reference(shape: ModelShape) -> ReferenceEngine {
    let mut engine = ReferenceEngine::new(shape);
    engine.load_params(&weights(&shape, 3)).unwrap();
    engine
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// Two chunks (the second from a carried state), with tunes that start anywhere: losses, every gradient tensor, the carried
/// state. Prints the largest error.
pub fn gradients_are_the_references(
    fast: &mut dyn Engine,
    (steps, streams): (usize, usize),
    hyper: &Hyper,
    bound: f64,
    case: &str,
) {
    let vocab = fast.shape().vocab;
    let chunks = [31, 32].map(|seed| random_chunk(seed, vocab, steps, streams));
    gradients_over_chunks(fast, &chunks, hyper, bound, case);
}

/// The same over given chunks.
pub fn gradients_over_chunks(fast: &mut dyn Engine, chunks: &[Chunk], hyper: &Hyper, bound: f64, case: &str) {
    let shape = fast.shape();
    let mut exact = reference(shape);
    let mut worst = 0.0f64;
    for chunk in chunks {
        let (stats, grads) = fast.grad_chunk(chunk, hyper).unwrap();
        let (expected, expected_grads) = exact.gradient(chunk, hyper).unwrap();
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

fn all_optimizers() -> [(Optimizer, f32); 5] {
    [
        (Optimizer::ADAM, 0.0),
        (Optimizer::Adam { beta1: 0.8, beta2: 0.95, eps: 1e-6 }, 0.01),
        (Optimizer::ADAMW, 0.02),
        (Optimizer::SGD, 0.01),
        (Optimizer::RmsProp { alpha: 0.9, eps: 1e-6, momentum: 0.5 }, 0.01),
    ]
}

/// Ten steps of every optimiser on a fresh f32 engine of `make`, dropout and clipping on.
pub fn ten_steps_are_the_references(make: &dyn Fn() -> Box<dyn Engine>) {
    ten_steps_of(5, make);
}

/// The same on chunks of `streams` streams.
pub fn ten_steps_of(streams: usize, make: &dyn Fn() -> Box<dyn Engine>) {
    for (optimizer, weight_decay) in all_optimizers() {
        let mut fast = make();
        let mut exact = reference(fast.shape());
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
            let chunk = random_chunk(50 + step as u32, exact.shape().vocab, 7, streams);
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
        let found: Vec<f32> =
            moved(&wide(&fast.export_params().unwrap())).iter().map(|&x| x as f32).collect();
        let error = nmse(&found, &expected);
        println!("{optimizer:?}: NMSE {error:e}");
        assert!(error < MOVEMENT_BOUND, "{optimizer:?}: NMSE {error:e}");
    }
}

/// A chunk of `steps` on a fresh f32 engine of `make`, the same in parts with the state carried (bit-equal), and in
/// single steps.
pub fn chunks_compose(make: &dyn Fn() -> Box<dyn Engine>, steps: usize) {
    chunks_compose_of(3, make, steps, F32_BOUND);
}

/// The same of `streams` streams on an engine of any precision: bit-equal in parts, and within `bound` of the reference.
pub fn chunks_compose_of(streams: usize, make: &dyn Fn() -> Box<dyn Engine>, steps: usize, bound: f64) {
    let shape = make().shape();
    let whole = random_chunk(77, shape.vocab, steps, streams);
    let each = |sizes: &[usize]| {
        let mut engine = make();
        let mut at = 0;
        let mut losses = Vec::new();
        for &size in sizes {
            losses.extend(engine.eval_each(&part(&whole, at, size)).unwrap());
            at += size;
        }
        losses
    };
    let one = each(&[steps]);
    assert_eq!(one, each(&[steps / 2, steps - steps / 2]), "{shape}");
    assert_eq!(one, each(&[1, steps - 2, 1]), "{shape}");
    assert!(nmse(&one, &wide(&reference(shape).eval_each(&whole).unwrap())) < bound);
    let (mut engine, mut exact) = (make(), reference(shape));
    for t in 0..steps {
        let one = part(&whole, t, 1);
        let (mut z, mut expected) = (vec![0.0; streams * shape.vocab], vec![0.0; streams * shape.vocab]);
        engine.step(&one.ids, &one.resets, &mut z).unwrap();
        exact.step(&one.ids, &one.resets, &mut expected).unwrap();
        assert!(nmse(&z, &wide(&expected)) < bound, "{shape} step {t}");
    }
}

/// Activations over a text of `steps`.
pub fn taps_are_the_references(engine: &mut dyn Engine, steps: usize, bound: f64) {
    let shape = engine.shape();
    let ids: Vec<u16> = random_chunk(5, shape.vocab, steps, 1).ids;
    let found = engine.tap(&ids).unwrap();
    let expected = reference(shape).tap(&ids).unwrap();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        for (found, expected) in
            [(&found.h, &expected.h), (&found.c, &expected.c), (&found.gates, &expected.gates)]
        {
            assert!(nmse(found, &wide(expected)) < bound, "{shape}");
        }
    }
    assert!(engine.tap(&[]).is_err());
}

/// The update is skipped above a loss and where a number is not finite; no NaN stays in the carried state. `engine`: f32.
pub fn explosions_are_skipped(engine: &mut dyn Engine) {
    explosions_are_skipped_of(3, engine);
}

/// The same for `streams` streams.
pub fn explosions_are_skipped_of(streams: usize, engine: &mut dyn Engine) {
    let chunk = random_chunk(1, engine.shape().vocab, 5, streams);
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
    fresh.resets[..streams].fill(1);
    assert!(engine.eval_each(&fresh).unwrap().iter().all(|x| x.is_finite()));
}

/// The dynamic loss scale of an f16 engine: halved on overflow, doubled after 2000 good steps.
pub fn the_loss_scale_adapts(engine: &mut dyn Engine) {
    the_loss_scale_adapts_of(3, engine);
}

/// The same for `streams` streams.
pub fn the_loss_scale_adapts_of(streams: usize, engine: &mut dyn Engine) {
    let chunk = random_chunk(1, engine.shape().vocab, 5, streams);
    let mut state = engine.save_state().unwrap();
    assert_eq!(state.loss_scale, 65_536.0);
    state.loss_scale = 2.0f32.powi(40);
    engine.load_state(&state).unwrap();
    let ticket = engine.train_chunk(&chunk, &plain(0.1)).unwrap();
    assert!(!engine.sync(ticket).unwrap().updated);
    assert_eq!(engine.save_state().unwrap().loss_scale, 2.0f32.powi(39));
    (state.loss_scale, state.good_steps) = (1024.0, 1999);
    engine.load_state(&state).unwrap();
    let ticket = engine.train_chunk(&chunk, &plain(0.1)).unwrap();
    assert_eq!(engine.sync(ticket).unwrap().loss_scale, 1024.0);
    assert_eq!(engine.save_state().unwrap().loss_scale, 2048.0);
}

/// Ids beyond the vocabulary, wrong lengths, nothing at all.
pub fn malformed_input_is_refused(engine: &mut dyn Engine) {
    let shape = engine.shape();
    let mut chunk = random_chunk(1, shape.vocab, 5, 3);
    chunk.ids[0] = shape.vocab as u16;
    let error = engine.train_chunk(&chunk, &plain(0.1)).unwrap_err().to_string();
    assert!(error.contains(&format!("vocabulary's {}", shape.vocab)), "{error}");
    chunk.ids.pop();
    assert!(engine.eval_chunk(&chunk).is_err());
    assert!(engine.load_params(&[0.0]).is_err());
    let mut state = engine.save_state().unwrap();
    state.h = vec![0.0; shape.hidden + 1];
    assert!(engine.load_state(&state).is_err());
    assert!(engine.step(&[0], &[0, 0], &mut vec![0.0; shape.vocab]).is_err());
    assert!(engine.step(&[], &[], &mut []).is_err());
}
