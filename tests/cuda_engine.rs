//! The CUDA engine against the f64 reference, against itself in smaller chunks, and against the CPU engine. Runs on the
//! emulated device, or with `SONGRNN_TEST_DEVICE=cuda` on a GPU.

mod common;
#[path = "common/device.rs"]
mod device;

use common::contract::{self, F32_BOUND, SHORT_BOUND, reference};
use common::{CELLS, nmse, plain, random_chunk, weights};
use device::{device, quick};
use songrnn_fast::engine::cuda::CudaEngine;
use songrnn_fast::engine::{Engine, Hyper, Kernel, Precision};
use songrnn_fast::model::{CellKind, ModelShape};
use songrnn_fast::optim::Optimizer;

const PRECISIONS: [(Precision, f64); 3] =
    [(Precision::F32, F32_BOUND), (Precision::Bf16, SHORT_BOUND), (Precision::F16, SHORT_BOUND)];

/// Number formats with their bounds; quick: without f16, whose kernels are bf16's with another type.
fn precisions() -> &'static [(Precision, f64)] {
    if quick() { &PRECISIONS[..2] } else { &PRECISIONS }
}

/// What no fused kernel serves on an emulated device, and the only refusals that tests let pass: f32 weights that fit
/// neither a block of an Ampere card nor the largest cluster.
const REFUSED: [(CellKind, usize, u32); 4] =
    [(CellKind::Lstm, 150, 8), (CellKind::Gru, 150, 8), (CellKind::Rnn, 150, 8), (CellKind::Lstm, 512, 9)];

/// An engine on an emulated device of that capability; None where the tests' device cannot be had, or (said) where it is
/// known that the tier does not serve the shape there. What a GPU that is not an H100 refuses is said too.
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
            let known = precision == Precision::F32
                && kernel == Kernel::Fused
                && REFUSED.contains(&(shape.cell, shape.hidden, major));
            assert!(known || device::on_gpu(), "{} kernels, {shape}, {precision}: {why}", kernel.name());
            println!("SKIP {} kernels, {shape}, {precision}: {why}", kernel.name());
            None
        }
    }
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
    contract::gradients_are_the_references(&mut fast, (steps, streams), hyper, bound, &case);
    device::no_races(&case);
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
        let case = format!("large tiles {precision}");
        contract::gradients_are_the_references(&mut engine, (9, 16), &plain(0.0), SHORT_BOUND, &case);
        device::no_races(&case);
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

/// A small LSTM on the fastest tier.
fn small(precision: Precision) -> Option<CudaEngine> {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 9, hidden: 13, layers: 1 };
    cuda(shape, precision, Kernel::Auto, (9, 1))
}

#[test]
fn ten_steps_of_every_optimizer_equal_the_reference() {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 9, hidden: 13, layers: 2 };
    let make = || cuda(shape, Precision::F32, Kernel::Auto, (9, 1));
    if make().is_some() {
        contract::ten_steps_are_the_references(&|| Box::new(make().unwrap()));
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
            let make = || cuda(shape, Precision::F32, kernel, (9, 1));
            if make().is_some() {
                contract::chunks_compose(&|| Box::new(make().unwrap()), 16);
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
                let Some(mut engine) = cuda(shape, precision, kernel, (9, 1)) else { continue };
                contract::taps_are_the_references(&mut engine, 12, bound);
            }
        }
    }
}

#[test]
fn updates_are_skipped_on_explosion_and_the_state_is_mended() {
    let Some(mut engine) = small(Precision::F32) else { return };
    contract::explosions_are_skipped(&mut engine);
}

#[test]
fn f16_halves_its_loss_scale_on_overflow_and_doubles_it_after_good_steps() {
    let Some(mut engine) = small(Precision::F16) else { return };
    contract::the_loss_scale_adapts(&mut engine);
}

#[test]
fn malformed_input_is_refused() {
    let Some(mut engine) = small(Precision::F32) else { return };
    contract::malformed_input_is_refused(&mut engine);
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
