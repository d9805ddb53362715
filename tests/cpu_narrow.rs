//! The CPU engine's path for few streams: against the f64 reference, against streams in lanes bit for bit, and against
//! itself on other numbers of threads.

#![allow(unsafe_code)] // An allocator that counts.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::contract::{self, F32_BOUND, SHORT_BOUND};
use common::{CELLS, below, part, plain, random_chunk, weights};
use songrnn_fast::engine::cpu::{CpuEngine, Isa};
use songrnn_fast::engine::{Chunk, Engine, EngineSpec, EngineState, Hyper, Precision, SampleRequest};
use songrnn_fast::model::{CellKind, ModelShape};
use songrnn_fast::optim::Optimizer;
use songrnn_fast::sample::Choice;

/// Numbers of streams that the path serves on every instruction set.
const FEW: [usize; 3] = [1, 2, 3];
/// A number that it serves on none.
const MANY: usize = 40;

fn cpu(shape: ModelShape, precision: Precision, threads: usize, isa: Isa) -> CpuEngine {
    let mut engine = CpuEngine::on(&EngineSpec::cpu(shape, precision, threads), isa).unwrap();
    engine.load_params(&weights(&shape, 3)).unwrap();
    engine
}

fn compare(
    shape: ModelShape,
    size: (usize, usize),
    hyper: &Hyper,
    precision: Precision,
    isa: Isa,
    bound: f64,
) {
    let (steps, streams) = size;
    let case = format!("{isa} {precision} {shape} T{steps} B{streams} dropout {}", hyper.dropout);
    let mut fast = cpu(shape, precision, 2, isa);
    contract::gradients_are_the_references(&mut fast, size, hyper, bound, &case);
}

#[test]
fn gradients_equal_the_reference_on_ragged_shapes() {
    for isa in Isa::available() {
        for cell in CELLS {
            for (hidden, vocab, layers) in [(1, 3, 1), (31, 17, 3), (33, 7, 2), (150, 97, 1)] {
                for steps in [1, 7, 30] {
                    for streams in FEW.into_iter().chain([4]) {
                        // The reference is slow; one unit's sums cancel over many steps.
                        if hidden == 150 && (streams > 1 || steps < 30) || hidden == 1 && steps == 30 {
                            continue;
                        }
                        let shape = ModelShape { cell, vocab, hidden, layers };
                        compare(shape, (steps, streams), &plain(0.0), Precision::F32, isa, F32_BOUND);
                    }
                }
            }
        }
    }
}

/// Several parts, two and more of them a thread.
#[test]
fn gradients_equal_the_reference_where_units_are_split() {
    for isa in Isa::available() {
        for cell in CELLS {
            let shape = ModelShape {
                cell,
                vocab: 19,
                hidden: if cell == CellKind::Rnn { 330 } else { 200 },
                layers: 2,
            };
            compare(shape, (4, 3), &plain(0.0), Precision::F32, isa, F32_BOUND);
        }
    }
}

#[test]
fn dropout_uses_the_same_masks_as_the_reference() {
    for isa in Isa::available() {
        for cell in CELLS {
            let hyper = Hyper { dropout: 0.3, time: 1000, seed: 9, ..plain(0.0) };
            for layers in [1, 2] {
                for streams in FEW {
                    let shape = ModelShape { cell, vocab: 9, hidden: 30, layers };
                    compare(shape, (7, streams), &hyper, Precision::F32, isa, F32_BOUND);
                }
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
                compare(shape, (12, 2), &plain(0.0), precision, isa, SHORT_BOUND);
            }
        }
    }
}

/// Columns `0..few` of a chunk.
fn columns(chunk: &Chunk, few: usize) -> Chunk {
    let mut out = Chunk::new(chunk.steps, few);
    for t in 0..chunk.steps {
        for b in 0..few {
            let (to, from) = (t * few + b, t * chunk.streams + b);
            out.ids[to] = chunk.ids[from];
            out.targets[to] = chunk.targets[from];
            out.resets[to] = chunk.resets[from];
        }
    }
    out
}

/// The forward pass gives the bits of the path with streams in lanes: losses, logits, carried states; of training not
/// where bf16 is native there.
#[test]
fn few_streams_give_the_bits_of_many() {
    for isa in Isa::available() {
        for cell in CELLS {
            for (hidden, layers) in [(1, 1), (33, 2), (150, 1), (170, 2)] {
                for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
                    let shape = ModelShape { cell, vocab: 23, hidden, layers };
                    let chunk = random_chunk(8, 23, 9, MANY);
                    let mut many = cpu(shape, precision, 2, isa);
                    let all = many.eval_each(&chunk).unwrap();
                    let mut z = vec![0.0; MANY * 23];
                    let mut expected = Vec::new();
                    for t in 0..3 {
                        let one = part(&chunk, t, 1);
                        many.step(&one.ids, &one.resets, &mut z).unwrap();
                        expected.push(z.clone());
                    }
                    many.grad_chunk(&chunk, &plain(0.0)).unwrap();
                    let states = many.save_state().unwrap();
                    for few in FEW {
                        let case = format!("{isa} {precision} {shape} B{few}");
                        let some = columns(&chunk, few);
                        let mut engine = cpu(shape, precision, 2, isa);
                        let losses = engine.eval_each(&some).unwrap();
                        for (i, loss) in losses.iter().enumerate() {
                            let other = all[i / few * MANY + i % few];
                            assert_eq!(loss.to_bits(), other.to_bits(), "{case}: loss {i}");
                        }
                        for (t, expected) in expected.iter().enumerate() {
                            let one = part(&some, t, 1);
                            let mut z = vec![0.0; few * 23];
                            engine.step(&one.ids, &one.resets, &mut z).unwrap();
                            assert_eq!(z, expected[..few * 23], "{case}: logits {t}");
                        }
                        // Nor where f32 is trained in parts of bf16.
                        let in_parts = isa == Isa::Amx && precision == Precision::F32 && hidden >= 64;
                        if in_parts || isa.running(precision).products().is_some() {
                            continue;
                        }
                        engine.grad_chunk(&some, &plain(0.0)).unwrap();
                        let state = engine.save_state().unwrap();
                        for layer in 0..layers {
                            let (a, b) = (layer * few * hidden, layer * MANY * hidden);
                            let n = few * hidden;
                            assert_eq!(state.h[a..a + n], states.h[b..b + n], "{case}: h of layer {layer}");
                            if cell == CellKind::Lstm {
                                assert_eq!(
                                    state.c[a..a + n],
                                    states.c[b..b + n],
                                    "{case}: c of layer {layer}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

/// States field by field: whole ones are too long to read.
fn assert_same(a: &EngineState, b: &EngineState) {
    let differing = |a: &[f32], b: &[f32]| a.iter().zip(b).position(|(a, b)| a.to_bits() != b.to_bits());
    assert_eq!((a.updates, a.loss_scale, a.good_steps), (b.updates, b.loss_scale, b.good_steps));
    for (name, a, b) in [
        ("h", &a.h, &b.h),
        ("c", &a.c, &b.c),
        ("params", &a.params, &b.params),
        ("first moments", &a.moments[0], &b.moments[0]),
        ("second moments", &a.moments[1], &b.moments[1]),
    ] {
        assert_eq!(a.len(), b.len(), "{name}");
        assert_eq!(differing(a, b), None, "{name}");
    }
}

fn request(tunes: usize, first_index: u64) -> SampleRequest {
    SampleRequest {
        tunes,
        first_index,
        seed: 11,
        choice: Choice { temperature: 0.9, top_k: 0, top_p: 1.0 },
        prime: vec![0, 5, 6],
        max_chars: 60,
        end: 1,
        banned: vec![0, 2],
    }
}

#[test]
fn a_tune_does_not_depend_on_how_many_are_sampled() {
    for isa in Isa::available() {
        for cell in CELLS {
            for precision in [Precision::F32, Precision::Bf16] {
                let shape = ModelShape { cell, vocab: 23, hidden: 70, layers: 2 };
                let mut engine = cpu(shape, precision, 2, isa);
                let many = engine.sample(&request(64, 0)).unwrap();
                assert!(many.iter().any(|tune| tune.closed) && many.iter().any(|tune| tune.ids.len() > 20));
                for threads in [1, 2, 3] {
                    let mut engine = cpu(shape, precision, threads, isa);
                    for few in [1, 2, 3, 5, 8] {
                        assert_eq!(
                            engine.sample(&request(few, 0)).unwrap(),
                            many[..few],
                            "{isa} {shape} {few}"
                        );
                    }
                    assert_eq!(engine.sample(&request(1, 40)).unwrap(), many[40..41], "{isa} {shape}");
                }
            }
        }
    }
}

/// Parameters and everything carried after chunks of `streams` streams, one number for each step.
fn trained(engine: &mut CpuEngine, steps: std::ops::Range<u64>, streams: impl Fn(u64) -> usize) {
    let vocab = engine.shape().vocab;
    for step in steps {
        let hyper = Hyper {
            optimizer: Optimizer::ADAM,
            lr: 5e-3,
            clip: 0.5,
            dropout: 0.2,
            time: 12 * step,
            ..plain(0.0)
        };
        let chunk = random_chunk(step as u32, vocab, 12, streams(step));
        let ticket = engine.train_chunk(&chunk, &hyper).unwrap();
        engine.sync(ticket).unwrap();
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for cell in CELLS {
        for precision in [Precision::F32, Precision::Bf16] {
            let shape = ModelShape { cell, vocab: 21, hidden: 180, layers: 2 };
            for streams in [1, 3] {
                let state = |threads| {
                    let mut engine = cpu(shape, precision, threads, Isa::detect().unwrap());
                    trained(&mut engine, 0..4, |_| streams);
                    engine.save_state().unwrap()
                };
                let one = state(1);
                assert_same(&one, &state(2));
                assert_same(&one, &state(4));
            }
        }
    }
}

#[test]
fn resuming_does_not_change_a_bit() {
    for precision in [Precision::F32, Precision::F16] {
        for cell in CELLS {
            let shape = ModelShape { cell, vocab: 21, hidden: 90, layers: 2 };
            let make = || cpu(shape, precision, 2, Isa::detect().unwrap());
            let (mut whole, mut first, mut second) = (make(), make(), make());
            trained(&mut whole, 0..8, |_| 2);
            trained(&mut first, 0..4, |_| 2);
            second.load_state(&first.save_state().unwrap()).unwrap();
            trained(&mut second, 4..8, |_| 2);
            assert_same(&whole.save_state().unwrap(), &second.save_state().unwrap());
            assert_eq!(whole.export_params().unwrap(), whole.save_state().unwrap().params);
        }
    }
}

/// Parameters and moments follow from path to path, and evaluation and sampling see them wherever they are.
#[test]
fn the_paths_hand_over_to_each_other() {
    let shape = ModelShape { cell: CellKind::Gru, vocab: 23, hidden: 40, layers: 2 };
    let make = || cpu(shape, Precision::F32, 2, Isa::detect().unwrap());
    let sizes = |step: u64| if step.is_multiple_of(3) { MANY } else { 1 };
    let mut engine = make();
    trained(&mut engine, 0..7, sizes);
    // The same by way of a saved state after each step.
    let mut other = make();
    for step in 0..7 {
        let state = other.save_state().unwrap();
        let mut next = make();
        next.load_state(&state).unwrap();
        trained(&mut next, step..step + 1, sizes);
        other = next;
    }
    let state = engine.save_state().unwrap();
    assert_same(&state, &other.save_state().unwrap());
    assert!(state.updates == 7 && state.moments[0].iter().any(|&m| m != 0.0));
    let mut fresh = make();
    fresh.load_params(&state.params).unwrap();
    for streams in [1, MANY] {
        trained(&mut engine, 7..8, |_| streams);
        fresh.load_params(&engine.export_params().unwrap()).unwrap();
        let chunk = random_chunk(3, 23, 5, MANY);
        for chunk in [columns(&chunk, 1), chunk] {
            let (a, b) = (engine.eval_each(&chunk).unwrap(), fresh.eval_each(&chunk).unwrap());
            assert_eq!(a, b);
        }
        for tunes in [1, 64] {
            assert_eq!(engine.sample(&request(tunes, 0)).unwrap(), fresh.sample(&request(tunes, 0)).unwrap());
        }
        assert_eq!(engine.tap(&[1, 2, 3]).unwrap(), fresh.tap(&[1, 2, 3]).unwrap());
    }
}

/// The state is zero again when the number of streams has changed, and after new parameters.
#[test]
fn another_number_of_streams_starts_from_zero() {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 9, hidden: 13, layers: 1 };
    let make = || cpu(shape, Precision::F32, 2, Isa::detect().unwrap());
    let mut without = random_chunk(4, 9, 6, MANY);
    without.resets.fill(0);
    for (first, second) in [(1, MANY), (MANY, 1), (1, 2), (2, 2)] {
        let (mut engine, mut fresh) = (make(), make());
        let (a, b) = (columns(&without, first), columns(&without, second));
        engine.eval_each(&a).unwrap();
        engine.grad_chunk(&a, &plain(0.0)).unwrap();
        if first == second {
            engine.load_params(&weights(&shape, 3)).unwrap();
        }
        assert_eq!(engine.eval_each(&b).unwrap(), fresh.eval_each(&b).unwrap(), "{first} {second}");
        let (a, b) =
            (engine.grad_chunk(&b, &plain(0.0)).unwrap(), fresh.grad_chunk(&b, &plain(0.0)).unwrap());
        assert_eq!(a, b, "{first} {second}");
    }
}

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: the system's allocator, with a count beside it that allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_step_allocates_nothing_once_its_shape_is_known() {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 21, hidden: 150, layers: 2 };
    let mut engine = cpu(shape, Precision::F16, 2, Isa::detect().unwrap());
    let hyper = Hyper { optimizer: Optimizer::ADAM, clip: 1.0, dropout: 0.1, ..plain(1e-3) };
    let chunk = random_chunk(1, 21, 12, 2);
    let mut step = || {
        let before = ALLOCATIONS.get();
        let ticket = engine.train_chunk(&chunk, &hyper).unwrap();
        engine.sync(ticket).unwrap();
        ALLOCATIONS.get() - before
    };
    assert!(step() > 0, "the first makes room");
    step();
    assert_eq!((0..20).map(|_| step()).sum::<usize>(), 0);
}

fn small(precision: Precision, isa: Isa) -> CpuEngine {
    cpu(ModelShape { cell: CellKind::Lstm, vocab: 9, hidden: 13, layers: 2 }, precision, 2, isa)
}

#[test]
fn ten_steps_of_every_optimizer_equal_the_reference() {
    for isa in Isa::available() {
        contract::ten_steps_of(2, &|| Box::new(small(Precision::F32, isa)));
    }
}

#[test]
fn chunks_compose() {
    for isa in Isa::available() {
        for cell in CELLS {
            let shape = ModelShape { cell, vocab: 11, hidden: 37, layers: 2 };
            contract::chunks_compose(&|| Box::new(cpu(shape, Precision::F32, 2, isa)), 64);
        }
    }
}

#[test]
fn updates_are_skipped_on_explosion_and_the_state_is_mended() {
    let isa = Isa::detect().unwrap();
    contract::explosions_are_skipped(&mut small(Precision::F32, isa));
    contract::the_loss_scale_adapts(&mut small(Precision::F16, isa));
}

/// The layers alone move the state as a whole step does, and leave the parameters alone.
#[test]
fn layers_alone_carry_the_state_of_a_whole_step() {
    for cell in CELLS {
        let shape = ModelShape { cell, vocab: 11, hidden: 100, layers: 2 };
        let chunk = random_chunk(2, 11, 7, 1 + below(1, 1, 2));
        let mut engine = cpu(shape, Precision::F32, 2, Isa::detect().unwrap());
        engine.grad_chunk(&chunk, &plain(0.0)).unwrap();
        let whole = engine.save_state().unwrap();
        for backward in [false, true] {
            engine.load_params(&whole.params).unwrap();
            engine.layers(&chunk, backward).unwrap();
            assert_eq!(engine.save_state().unwrap(), whole, "{cell} {backward}");
        }
    }
}
