//! bf16 on the instruction sets that multiply it (AMX tiles, AVX512-BF16): against the f64 reference, against the
//! software rounding of the other sets, against itself in smaller chunks and on other numbers of threads.

mod common;

use common::contract::{self, SHORT_BOUND};
use common::{CELLS, nmse, plain, random_chunk, weights};
use songrnn_fast::engine::cpu::{CpuEngine, Isa};
use songrnn_fast::engine::{Engine, EngineSpec, Hyper, Precision};
use songrnn_fast::model::{CellKind, ModelShape};
use songrnn_fast::optim::Optimizer;

/// The sets to be tested; prints a line where this machine has none.
fn sets() -> Vec<Isa> {
    let found: Vec<Isa> =
        Isa::available().into_iter().filter(|isa| ["avx512bf16", "amx"].contains(&isa.tier())).collect();
    for (isa, name) in [(Isa::Avx512Bf16, "avx512bf16"), (Isa::Amx, "amx")] {
        if !found.contains(&isa) {
            println!("SKIP {name}: this machine does not have it");
        }
    }
    found
}

fn engine(shape: ModelShape, precision: Precision, threads: usize, isa: Isa) -> CpuEngine {
    let mut engine = CpuEngine::on(&EngineSpec::cpu(shape, precision, threads), isa).unwrap();
    engine.load_params(&weights(&shape, 3)).unwrap();
    engine
}

/// NMSE of a model of one unit, whose every gradient is a sum of few numbers that cancel. Measured: at most 6.8e-3 (tanh,
/// one stream of seven steps), where software rounding has 1.3e-3.
const ONE_UNIT_BOUND: f64 = 1e-2;

/// Of three tanh layers of 33 units, above `SHORT_BOUND`: rounding adds up along so long a chain, in software to 8.7e-5, here
/// to 1.02e-4 (18 steps of 17 streams) and, over the few sums of one step of 9 streams, about 1.2e-4. All others stay within it.
const THREE_TANH_LAYERS_BOUND: f64 = 1.2e-4;

fn near_the_reference(shape: ModelShape, steps: usize, streams: usize, hyper: &Hyper, isa: Isa) {
    let case = format!("{isa} {shape} T{steps} B{streams} dropout {}", hyper.dropout);
    let mut fast = engine(shape, Precision::Bf16, 2, isa);
    let bound = match (shape.cell, shape.hidden, shape.layers) {
        (_, 1, _) => ONE_UNIT_BOUND,
        (CellKind::Rnn, 33, 3) => THREE_TANH_LAYERS_BOUND,
        _ => SHORT_BOUND,
    };
    contract::gradients_are_the_references(&mut fast, (steps, streams), hyper, bound, &case);
}

#[test]
fn ragged_shapes_are_near_the_reference() {
    for isa in sets() {
        for cell in CELLS {
            for (hidden, vocab, layers) in [(1, 3, 1), (31, 17, 2), (33, 7, 3), (12, 96, 1), (64, 32, 2)] {
                // More streams than are trained with units in lanes.
                for (steps, streams) in [(1, 9), (7, 10), (1, 17), (18, 17), (5, 33)] {
                    near_the_reference(
                        ModelShape { cell, vocab, hidden, layers },
                        steps,
                        streams,
                        &plain(0.0),
                        isa,
                    );
                }
            }
        }
    }
}

#[test]
fn the_papers_width_and_large_vocabularies_are_near_the_reference() {
    for isa in sets() {
        for cell in CELLS {
            for (hidden, vocab, layers) in [(150, 97, 1), (20, 300, 2)] {
                near_the_reference(ModelShape { cell, vocab, hidden, layers }, 17, 33, &plain(0.0), isa);
            }
        }
    }
}

#[test]
fn dropout_uses_the_same_masks_as_the_reference() {
    for isa in sets() {
        for cell in CELLS {
            let hyper = Hyper { dropout: 0.3, time: 1000, seed: 9, ..plain(0.0) };
            for layers in [1, 2] {
                near_the_reference(ModelShape { cell, vocab: 9, hidden: 30, layers }, 7, 19, &hyper, isa);
            }
        }
    }
}

/// Both round what is stored; between them lie the logits' gradient, which only products need in bf16, and activations
/// that are as exact as bf16. Measured: at most 2.1e-5.
#[test]
fn the_software_rounding_gives_nearly_the_same() {
    for isa in sets() {
        for cell in CELLS {
            let shape = ModelShape { cell, vocab: 31, hidden: 50, layers: 2 };
            let chunk = random_chunk(8, 31, 18, 40);
            let gradient =
                |isa| engine(shape, Precision::Bf16, 2, isa).grad_chunk(&chunk, &plain(0.0)).unwrap();
            let ((stats, found), (software, expected)) = (gradient(isa), gradient(Isa::Portable));
            let expected: Vec<f64> = expected.iter().map(|&x| f64::from(x)).collect();
            let error = nmse(&found, &expected);
            println!("{isa} {cell}: {error:e}");
            assert!(error < SHORT_BOUND, "{isa} {cell}: {error:e}");
            assert!(error > 0.0, "{isa} {cell}: the software rounding ran");
            assert!((stats.loss_sum - software.loss_sum).abs() < 1e-4 * software.loss_sum, "{isa} {cell}");
        }
    }
}

/// Tiles are sixteen wide at least: few streams would leave them empty, and are trained on the other path, which rounds
/// in software. Losses, logits and tunes are the tiles' all the same, however few there are.
#[test]
fn few_streams_are_trained_with_software_rounding() {
    for isa in sets() {
        for cell in CELLS {
            let shape = ModelShape { cell, vocab: 31, hidden: 50, layers: 2 };
            let chunk = random_chunk(8, 31, 18, 2);
            let trained = |isa| {
                let mut engine = engine(shape, Precision::Bf16, 2, isa);
                let (_, gradient) = engine.grad_chunk(&chunk, &plain(0.0)).unwrap();
                let hyper = Hyper { lr: 1e-2, optimizer: Optimizer::ADAM, ..plain(0.0) };
                let ticket = engine.train_chunk(&chunk, &hyper).unwrap();
                assert!(engine.sync(ticket).unwrap().updated);
                (gradient, engine)
            };
            let ((gradient, mut native), (other, software)) = (trained(isa), trained(Isa::Avx512));
            assert_eq!(gradient, other, "{isa} {cell}");
            assert_eq!(native.export_params().unwrap(), software.export_params().unwrap(), "{isa} {cell}");
            // After such training, evaluation is that of an engine that was given the weights.
            let mut fresh = CpuEngine::on(&EngineSpec::cpu(shape, Precision::Bf16, 2), isa).unwrap();
            fresh.load_params(&native.export_params().unwrap()).unwrap();
            let losses = native.eval_each(&chunk).unwrap();
            assert_eq!(losses, fresh.eval_each(&chunk).unwrap(), "{isa} {cell}");
            let wide = random_chunk(8, 31, 18, 40);
            assert_eq!(native.eval_each(&wide).unwrap(), fresh.eval_each(&wide).unwrap(), "{isa} {cell}");
        }
    }
}

/// A short training run.
fn trained(threads: usize, isa: Isa, cell: CellKind) -> CpuEngine {
    let mut engine =
        engine(ModelShape { cell, vocab: 21, hidden: 41, layers: 2 }, Precision::Bf16, threads, isa);
    run(&mut engine, 0, 6);
    engine
}

fn run(engine: &mut CpuEngine, from: u64, to: u64) {
    for step in from..to {
        let hyper = Hyper {
            optimizer: Optimizer::ADAM,
            lr: 5e-3,
            clip: 1.0,
            dropout: 0.2,
            time: 19 * step,
            ..plain(0.0)
        };
        let ticket = engine.train_chunk(&random_chunk(step as u32, 21, 19, 70), &hyper).unwrap();
        assert!(engine.sync(ticket).unwrap().updated);
    }
}

#[test]
fn neither_threads_nor_resuming_change_a_bit() {
    for isa in sets() {
        for cell in CELLS {
            let one = trained(1, isa, cell);
            let state = one.save_state().unwrap();
            assert_eq!(state, trained(2, isa, cell).save_state().unwrap(), "{isa} {cell}");
            assert_eq!(state, trained(4, isa, cell).save_state().unwrap(), "{isa} {cell}");
            let mut first = engine(one.shape(), Precision::Bf16, 2, isa);
            run(&mut first, 0, 2);
            let mut second = engine(one.shape(), Precision::Bf16, 2, isa);
            second.load_state(&first.save_state().unwrap()).unwrap();
            run(&mut second, 2, 6);
            assert_eq!(state, second.save_state().unwrap(), "{isa} {cell}");
        }
    }
}

#[test]
fn chunks_compose() {
    for isa in sets() {
        for cell in CELLS {
            let shape = ModelShape { cell, vocab: 11, hidden: 37, layers: 2 };
            let make = || -> Box<dyn Engine> { Box::new(engine(shape, Precision::Bf16, 2, isa)) };
            contract::chunks_compose_of(3, &make, 64, SHORT_BOUND);
        }
    }
}

#[test]
fn taps_are_near_the_reference() {
    for isa in sets() {
        for cell in CELLS {
            let shape = ModelShape { cell, vocab: 11, hidden: 19, layers: 2 };
            contract::taps_are_the_references(&mut engine(shape, Precision::Bf16, 1, isa), 30, SHORT_BOUND);
        }
    }
}

#[test]
fn explosions_are_skipped_and_malformed_input_is_refused() {
    for isa in sets() {
        let shape = ModelShape { cell: CellKind::Lstm, vocab: 9, hidden: 13, layers: 1 };
        contract::explosions_are_skipped(&mut engine(shape, Precision::Bf16, 2, isa));
        contract::malformed_input_is_refused(&mut engine(shape, Precision::Bf16, 2, isa));
    }
}

/// f32 and f16 do not change with the sets: they run as on AVX-512.
#[test]
fn other_precisions_are_those_of_avx512() {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 31, hidden: 50, layers: 2 };
    let chunk = random_chunk(1, 31, 5, 40);
    for isa in sets() {
        for precision in [Precision::F32, Precision::F16] {
            let gradient = |isa| engine(shape, precision, 1, isa).grad_chunk(&chunk, &plain(0.0)).unwrap().1;
            assert_eq!(gradient(isa), gradient(Isa::Avx512), "{isa} {precision}");
            assert_eq!(engine(shape, precision, 1, isa).info().tier, Some("avx512"));
        }
        assert_eq!(engine(shape, Precision::Bf16, 1, isa).info().tier, Some(isa.tier()));
    }
}

/// The sampler, whose lanes are refilled as tunes end, and single steps of all tunes at once give the same tunes, on any
/// number of threads.
#[test]
fn a_tune_does_not_depend_on_its_lane() {
    use songrnn_fast::corpus::Vocab;
    use songrnn_fast::model::init;
    use songrnn_fast::sample::{SampleOptions, by_steps};
    let vocab = Vocab::from_chars("X:1\nK:DABCdefg|".chars());
    for isa in sets() {
        for cell in CELLS {
            let shape = ModelShape { cell, vocab: vocab.len(), hidden: 33, layers: 2 };
            let options = SampleOptions { tunes: 140, max_chars: 90, ..SampleOptions::default() };
            let request = options.request(&vocab).unwrap();
            let sampled = [1, 2, 3].map(|threads| {
                let mut engine = engine(shape, Precision::Bf16, threads, isa);
                engine.load_params(&init::uniform(&shape, 2)).unwrap();
                (engine.sample(&request).unwrap(), by_steps(&mut engine, &request).unwrap())
            });
            for (own, steps) in &sampled {
                assert_eq!(own, &sampled[0].0, "{isa} {cell}");
                assert_eq!(own, steps, "{isa} {cell}");
            }
        }
    }
}
