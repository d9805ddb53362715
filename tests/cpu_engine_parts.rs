//! f32 trained in AMX tiles, each number three of bf16: as near to the f64 reference as the multiply-adds of f32, on ragged
//! shapes, with dropout and tunes that start anywhere; the same bits on any number of threads; and its seams with what
//! trains fewer streams.

mod common;

use common::contract::{self, F32_BOUND};
use common::{CELLS, plain, random_chunk, weights};
use songrnn_fast::engine::cpu::{CpuEngine, Isa};
use songrnn_fast::engine::{Engine, EngineSpec, EngineState, Hyper, Precision};
use songrnn_fast::model::{CellKind, ModelShape};
use songrnn_fast::optim::Optimizer;

/// Whether this machine has it; prints a line where it does not.
fn is_there() -> bool {
    let there = Isa::available().contains(&Isa::Amx);
    if !there {
        println!("SKIP f32 in parts of bf16: this machine has no AMX, or the system does not permit it");
    }
    there
}

fn engine(shape: ModelShape, threads: usize, isa: Isa) -> CpuEngine {
    let mut engine = CpuEngine::on(&EngineSpec::cpu(shape, Precision::F32, threads), isa).unwrap();
    engine.load_params(&weights(&shape, 3)).unwrap();
    engine
}

/// Cells and layers.
fn models() -> impl Iterator<Item = (CellKind, usize)> {
    CELLS.into_iter().flat_map(|cell| [(cell, 1), (cell, 2)])
}

#[test]
fn gradients_equal_the_reference_on_ragged_shapes() {
    if !is_there() {
        return;
    }
    for (cell, layers) in models() {
        for (hidden, vocab) in [(64, 3), (65, 96), (97, 33), (128, 300)] {
            // Slices of sixteen streams, whose steps are multiplied by twos, and of thirty-two.
            for (steps, streams) in [(1, 17), (6, 32), (9, 25), (1, 33), (6, 64), (5, 70)] {
                if hidden < 96 && (streams < 33 || cell == CellKind::Rnn) {
                    continue;
                }
                let shape = ModelShape { cell, vocab, hidden, layers };
                let mut tiles = engine(shape, 2, Isa::Amx);
                let case = format!("{shape} T{steps} B{streams}");
                contract::gradients_are_the_references(
                    &mut tiles,
                    (steps, streams),
                    &plain(0.0),
                    F32_BOUND,
                    &case,
                );
                assert_eq!(tiles.info().tier, Some("amx"), "{case}");
            }
        }
    }
}

#[test]
fn dropout_uses_the_same_masks_as_the_reference() {
    if !is_there() {
        return;
    }
    let hyper = Hyper { dropout: 0.3, time: 1000, seed: 9, ..plain(0.0) };
    for (cell, layers) in models() {
        let shape = ModelShape { cell, vocab: 21, hidden: 98, layers };
        for streams in [20, 40] {
            let mut tiles = engine(shape, 2, Isa::Amx);
            let case = format!("{shape} B{streams}");
            contract::gradients_are_the_references(&mut tiles, (7, streams), &hyper, F32_BOUND, &case);
            assert_eq!(tiles.info().tier, Some("amx"), "{case}");
        }
    }
}

/// A few updates from `from` to `to`.
fn train(engine: &mut CpuEngine, from: u64, to: u64, streams: usize) {
    for step in from..to {
        let hyper = Hyper {
            optimizer: Optimizer::ADAM,
            lr: 5e-3,
            clip: 1.0,
            dropout: 0.2,
            time: 9 * step,
            ..plain(0.0)
        };
        let ticket = engine.train_chunk(&random_chunk(step as u32, 21, 9, streams), &hyper).unwrap();
        engine.sync(ticket).unwrap();
    }
}

/// With two slices and more threads, several of them share a slice.
#[test]
fn neither_threads_nor_resuming_change_a_bit() {
    if !is_there() {
        return;
    }
    for ((cell, layers), streams) in models().flat_map(|model| [(model, 20), (model, 40)]) {
        let shape = ModelShape { cell, vocab: 21, hidden: 101, layers };
        let trained = |threads: usize| {
            let mut engine = engine(shape, threads, Isa::Amx);
            train(&mut engine, 0, 4, streams);
            engine.save_state().unwrap()
        };
        let one = trained(1);
        for threads in [2, 4, 5, 6] {
            assert!(one == trained(threads), "{shape} B{streams}: {threads} threads");
        }
        let mut first = engine(shape, 2, Isa::Amx);
        train(&mut first, 0, 2, streams);
        let state: EngineState = first.save_state().unwrap();
        let mut second = engine(shape, 2, Isa::Amx);
        second.load_state(&state).unwrap();
        train(&mut second, 2, 4, streams);
        assert!(one == second.save_state().unwrap(), "{shape} B{streams}: resumed");
    }
}

/// Losses and gradients of an engine that has trained few streams, evaluated, and trained many before are those of a fresh one
/// with its parameters.
#[test]
fn the_numbers_of_streams_may_change() {
    if !is_there() {
        return;
    }
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 21, hidden: 100, layers: 2 };
    let mut old = engine(shape, 2, Isa::Amx);
    for (step, streams) in [40, 20, 3, 64, 33, 16, 20, 32].into_iter().enumerate() {
        let chunk = random_chunk(step as u32, 21, 9, streams);
        let mut fresh = engine(shape, 2, Isa::Amx);
        fresh.load_params(&old.export_params().unwrap()).unwrap();
        let losses = fresh.eval_each(&chunk).unwrap();
        let (stats, grads) = fresh.grad_chunk(&chunk, &plain(0.0)).unwrap();
        assert!(grads == old.grad_chunk(&chunk, &plain(0.0)).unwrap().1, "B{streams}");
        assert!(losses == old.eval_each(&chunk).unwrap(), "B{streams}");
        // Training and evaluation sum in different orders, and agree to f32's rounding.
        let sum: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
        assert!((sum - stats.loss_sum).abs() < 1e-5 * sum, "B{streams}: {sum} {}", stats.loss_sum);
        train(&mut old, step as u64, step as u64 + 1, streams);
    }
}

/// The error of the gradient is not above that of the multiply-adds of f32: tiles sum thirty-two products before they round.
/// Measured: 0.24 to 0.47 times.
#[test]
fn parts_are_as_near_as_multiply_adds() {
    if !is_there() {
        return;
    }
    for (cell, streams) in CELLS.into_iter().flat_map(|cell| [(cell, 32), (cell, 64)]) {
        let shape = ModelShape { cell, vocab: 96, hidden: 150, layers: 1 };
        let chunk = random_chunk(5, 96, 20, streams);
        let (_, exact) = contract::reference(shape).gradient(&chunk, &plain(0.0)).unwrap();
        let error = |isa: Isa| {
            let (_, grads) = engine(shape, 2, isa).grad_chunk(&chunk, &plain(0.0)).unwrap();
            common::nmse(&grads, &exact)
        };
        let (parts, plain) = (error(Isa::Amx), error(Isa::Avx512));
        println!("{shape} B{streams}: NMSE {parts:.2e} in parts, {plain:.2e} by multiply-adds");
        assert!(parts < plain, "{shape} B{streams}: {parts:e}, by multiply-adds {plain:e}");
    }
}

/// What is not trained in tiles says so, and has the bits of multiply-adds: few streams, few units, many units of no more
/// than two slices of sixteen streams, the other precisions.
#[test]
fn everything_else_is_left_alone() {
    if !is_there() {
        return;
    }
    for (cell, hidden, layers, streams, precision) in [
        (CellKind::Lstm, 100, 1, 16, Precision::F32),
        (CellKind::Lstm, 95, 1, 32, Precision::F32),
        (CellKind::Lstm, 257, 1, 32, Precision::F32),
        (CellKind::Gru, 182, 2, 32, Precision::F32),
        (CellKind::Lstm, 63, 1, 40, Precision::F32),
        (CellKind::Rnn, 95, 1, 40, Precision::F32),
        (CellKind::Lstm, 64, 1, 40, Precision::F16),
    ] {
        let shape = ModelShape { cell, vocab: 21, hidden, layers };
        let grads = |isa: Isa| {
            let mut engine = CpuEngine::on(&EngineSpec::cpu(shape, precision, 2), isa).unwrap();
            engine.load_params(&weights(&shape, 3)).unwrap();
            let grads = engine.grad_chunk(&random_chunk(1, 21, 9, streams), &plain(0.0)).unwrap().1;
            assert_eq!(engine.info().tier, Some("avx512"), "{shape} B{streams} {precision}");
            grads
        };
        assert!(grads(Isa::Amx) == grads(Isa::Avx512), "{shape} B{streams} {precision}");
    }
}

/// Numbers that are none, and infinite ones, do not get lost on their way through parts: the update is refused.
#[test]
fn explosions_are_seen() {
    if !is_there() {
        return;
    }
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 21, hidden: 96, layers: 1 };
    let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38];
    for (bad, streams) in bad.into_iter().flat_map(|bad| [(bad, 20), (bad, 40)]) {
        let mut tiles = engine(shape, 2, Isa::Amx);
        let mut params = weights(&shape, 3);
        let at = shape.layer_ranges(0).weight_hh.start + 70;
        params[at] = bad;
        params[at + 1] = -bad;
        tiles.load_params(&params).unwrap();
        let hyper = Hyper { lr: 1e-3, ..plain(0.0) };
        let ticket = tiles.train_chunk(&random_chunk(1, 21, 9, streams), &hyper).unwrap();
        let stats = tiles.sync(ticket).unwrap();
        let expected = {
            let mut plain_engine = engine(shape, 2, Isa::Avx512);
            plain_engine.load_params(&params).unwrap();
            let ticket = plain_engine.train_chunk(&random_chunk(1, 21, 9, streams), &hyper).unwrap();
            plain_engine.sync(ticket).unwrap()
        };
        assert_eq!(
            stats.updated, expected.updated,
            "{bad} B{streams}: {stats:?}, by multiply-adds {expected:?}"
        );
    }
}
