//! The CPU engine against the f64 reference, against itself in smaller chunks and on other numbers of threads.

mod common;

use common::contract::{self, F32_BOUND, SHORT_BOUND};
use common::{CELLS, plain, random_chunk, weights};
use songrnn_fast::engine::cpu::{CpuEngine, Isa};
use songrnn_fast::engine::{Engine, EngineSpec, Hyper, Precision};
use songrnn_fast::model::{CellKind, ModelShape};
use songrnn_fast::optim::Optimizer;

/// Streams in lanes, and not so few that units are (`cpu_narrow.rs`).
const STREAMS: usize = 19;

fn cpu(shape: ModelShape, precision: Precision, threads: usize, isa: Isa) -> CpuEngine {
    let mut engine = CpuEngine::on(&EngineSpec::cpu(shape, precision, threads), isa).unwrap();
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
    let case = format!("{isa} {precision} {shape} T{steps} B{streams} dropout {}", hyper.dropout);
    let mut fast = cpu(shape, precision, 2, isa);
    contract::gradients_are_the_references(&mut fast, (steps, streams), hyper, bound, &case);
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
    let chunk = random_chunk(1, 31, 5, STREAMS);
    let state = |precision| {
        let mut engine = cpu(shape, precision, 1, Isa::detect().unwrap());
        engine.grad_chunk(&chunk, &plain(0.0)).unwrap();
        engine.save_state().unwrap().h
    };
    assert!(state(Precision::Bf16).iter().all(|h| h.to_bits() & 0xffff == 0), "h is stored in bf16");
    assert!(state(Precision::F16).iter().all(|h| h.to_bits() & 0x1fff == 0), "h is stored in f16");
    assert!(state(Precision::F32).iter().any(|h| h.to_bits() & 0xffff != 0));
}

/// A small LSTM on the best instruction set.
fn small(precision: Precision, layers: usize) -> CpuEngine {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 9, hidden: 13, layers };
    cpu(shape, precision, 2, Isa::detect().unwrap())
}

#[test]
fn ten_steps_of_every_optimizer_equal_the_reference() {
    contract::ten_steps_of(STREAMS, &|| Box::new(small(Precision::F32, 2)));
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

/// Where there are fewer slices than threads, several work on one.
#[test]
fn threads_that_share_a_slice_do_not_change_a_bit() {
    for isa in Isa::available() {
        for cell in CELLS {
            for (streams, precision) in [
                (11, Precision::F32),
                (16, Precision::F16),
                (33, Precision::F32),
                (12, Precision::Bf16),
                (40, Precision::Bf16),
            ] {
                let shape = ModelShape { cell, vocab: 21, hidden: 101, layers: 2 };
                let of = |threads: usize| {
                    let mut engine = cpu(shape, precision, threads, isa);
                    for step in 0..3 {
                        let hyper = Hyper { lr: 5e-3, clip: 1.0, dropout: 0.2, time: 9 * step, ..plain(0.0) };
                        let chunk = random_chunk(step as u32, 21, 9, streams);
                        let ticket = engine.train_chunk(&chunk, &hyper).unwrap();
                        engine.sync(ticket).unwrap();
                    }
                    let losses = engine.eval_each(&random_chunk(7, 21, 9, streams)).unwrap();
                    (engine.save_state().unwrap(), losses)
                };
                let one = of(1);
                for threads in [2, 3, 5] {
                    assert!(one == of(threads), "{isa} {cell:?} {precision} B{streams}: {threads} threads");
                }
            }
        }
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
        contract::chunks_compose_of(
            STREAMS,
            &|| Box::new(cpu(shape, Precision::F32, 2, Isa::detect().unwrap())),
            64,
            F32_BOUND,
        );
    }
}

#[test]
fn taps_equal_the_reference() {
    for cell in CELLS {
        let shape = ModelShape { cell, vocab: 11, hidden: 19, layers: 2 };
        let mut engine = cpu(shape, Precision::F32, 1, Isa::detect().unwrap());
        contract::taps_are_the_references(&mut engine, 30, F32_BOUND);
    }
}

#[test]
fn updates_are_skipped_on_explosion_and_the_state_is_mended() {
    contract::explosions_are_skipped_of(STREAMS, &mut small(Precision::F32, 1));
}

#[test]
fn f16_halves_its_loss_scale_on_overflow_and_doubles_it_after_good_steps() {
    contract::the_loss_scale_adapts_of(STREAMS, &mut small(Precision::F16, 1));
}

#[test]
fn malformed_input_is_refused() {
    contract::malformed_input_is_refused(&mut small(Precision::F32, 1));
}
