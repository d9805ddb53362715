//! The CUDA engine's cuDNN tier against the f64 reference: on a GPU with `SONGRNN_TEST_DEVICE=cuda`, and everywhere else on
//! fakes of libcuda and libcudnn (`fake_cuda/`) that run the emulated kernels and cuDNN's equations, in a process of its own.

mod common;
#[path = "common/device.rs"]
mod device;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use common::contract::{self, F32_BOUND, SHORT_BOUND, reference};
use common::{CELLS, nmse, part, plain, random_chunk, weights};
use device::quick;
use songrnn_fast::engine::cuda::CudaEngine;
use songrnn_fast::engine::cuda::driver::recurrent::Algorithm;
use songrnn_fast::engine::cuda::driver::{Driver, real::RealDriver};
use songrnn_fast::engine::cuda::images;
use songrnn_fast::engine::cuda::rnn::cudnn::Choice;
use songrnn_fast::engine::cuda::rnn::{Wanted, cudnn};
use songrnn_fast::engine::cuda::tune::{self, ChunkSize, KernelChoice};
use songrnn_fast::engine::{Chunk, Engine, Hyper, Kernel, Precision};
use songrnn_fast::model::{CellKind, ModelShape};

const PRECISIONS: [(Precision, f64); 3] =
    [(Precision::F32, F32_BOUND), (Precision::Bf16, SHORT_BOUND), (Precision::F16, SHORT_BOUND)];

/// cuDNN's persistent kernels come less near in f32 than its STANDARD does and than ours do. Measured on an H200 with cuDNN 9.14: LSTM 2.0e-11, tanh 9.4e-11; STANDARD at most 1.8e-13.
const PERSISTENT_F32_BOUND: f64 = 3e-10;

/// A GPU, or the fake of one, that has cuDNN; None elsewhere: `on_fakes` runs these tests there.
fn gpu() -> Option<Arc<dyn Driver>> {
    if !device::on_gpu() {
        return None;
    }
    let driver: Arc<dyn Driver> = Arc::new(RealDriver::open(0).unwrap());
    if let Err(why) = driver.rnn_library() {
        println!("SKIP: {why}");
        return None;
    }
    Some(driver)
}

/// Whether the tests run on the fakes, whose every call is known.
fn fake() -> bool {
    std::env::var_os("FAKE_CUDA_KERNELS").is_some()
}

fn with_choice(
    driver: &Arc<dyn Driver>,
    shape: ModelShape,
    precision: Precision,
    choice: Choice,
) -> Result<CudaEngine, String> {
    let wanted = Wanted { shape, precision, facts: driver.facts(), driver: Some(driver) };
    let plan = cudnn::plan_as(&wanted, choice)?;
    let mut engine = CudaEngine::with_plan(driver.clone(), shape, precision, plan).unwrap();
    engine.load_params(&weights(&shape, 3)).unwrap();
    Ok(engine)
}

/// The default choice.
fn engine(shape: ModelShape, precision: Precision) -> Option<CudaEngine> {
    Some(with_choice(&gpu()?, shape, precision, cudnn::default_choice(&shape, false)).unwrap())
}

/// A chunk in which tunes start at its first step only.
fn uncut(seed: u32, vocab: usize, steps: usize, streams: usize) -> Chunk {
    let mut chunk = random_chunk(seed, vocab, steps, streams);
    chunk.resets[streams..].fill(0);
    chunk
}

fn standard(width: usize, call_a_layer: bool) -> Choice {
    Choice { algorithm: Algorithm::Standard, width, call_a_layer, tf32: false }
}

/// The least that touches every call: what the tests of failures run.
#[test]
fn one_small_model_equals_the_reference() {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 7, hidden: 11, layers: 2 };
    let Some(mut engine) = engine(shape, Precision::F32) else { return };
    contract::gradients_are_the_references(&mut engine, (5, 3), &plain(0.0), F32_BOUND, "small");
}

/// Three chunks of one size: direct, captured, replayed; or enqueued one by one where the library's calls cannot be captured,
/// which is told.
#[test]
fn chunks_are_captured_or_enqueued_one_by_one() {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 7, hidden: 11, layers: 1 };
    let Some(mut engine) = engine(shape, Precision::F32) else { return };
    let chunks = [51, 52, 53, 54].map(|seed| uncut(seed, 7, 4, 3));
    contract::gradients_over_chunks(&mut engine, &chunks, &plain(0.0), F32_BOUND, "captured or not");
    println!("note: {:?}", engine.info().note);
}

#[test]
fn cut_chunks_equal_the_reference() {
    let Some(driver) = gpu() else { return };
    for (precision, bound) in PRECISIONS {
        for cell in CELLS {
            for (hidden, vocab, layers) in [(31, 17, 2), (33, 7, 3), (48, 9, 1)] {
                for size in [(7, 3), (5, 17)] {
                    if (quick() || precision != Precision::F32) && size != (7, 3) {
                        continue;
                    }
                    let shape = ModelShape { cell, vocab, hidden, layers };
                    for choice in [standard(hidden, false), standard(64, true)] {
                        let mut engine = with_choice(&driver, shape, precision, choice).unwrap();
                        let case = format!("{choice}: {precision} {shape} T{} B{} cut", size.0, size.1);
                        contract::gradients_are_the_references(&mut engine, size, &plain(0.0), bound, &case);
                    }
                }
            }
        }
    }
}

#[test]
fn chunks_without_starts_equal_the_reference_with_every_algorithm() {
    let Some(driver) = gpu() else { return };
    let mut served = 0;
    let kinds = CELLS.map(|cell| (cell, PRECISIONS[0])).into_iter();
    for (cell, (precision, bound)) in kinds.chain(PRECISIONS[1..].iter().map(|&kind| (CellKind::Lstm, kind)))
    {
        let shape = ModelShape { cell, vocab: 20, hidden: 30, layers: 2 };
        for choice in cudnn::choices(&shape, false) {
            // On our side an algorithm is a number: one kind of model sees all four.
            let two = [Algorithm::Standard, Algorithm::PersistStatic];
            if (cell, precision) != (CellKind::Lstm, Precision::F32)
                && fake()
                && !two.contains(&choice.algorithm)
            {
                continue;
            }
            let case = format!("{choice}: {precision} {shape}");
            let persistent = choice.algorithm != Algorithm::Standard;
            let bound = if persistent { f64::max(bound, PERSISTENT_F32_BOUND) } else { bound };
            // Three times the same size: direct, captured, replayed; from a carried state.
            let chunks = [41, 42, 43].map(|seed| uncut(seed, 20, 4, 5));
            let tried = with_choice(&driver, shape, precision, choice).and_then(|mut engine| {
                let tried = engine.grad_chunk(&chunks[0], &plain(0.0));
                tried.map(|_| engine).map_err(|why| why.to_string())
            });
            match tried {
                Ok(mut engine) => {
                    engine.load_params(&weights(&shape, 3)).unwrap();
                    contract::gradients_over_chunks(&mut engine, &chunks, &plain(0.0), bound, &case);
                    served += 1;
                }
                Err(why) => {
                    let known = choice.algorithm != Algorithm::Standard && choice.width % 32 != 0;
                    assert!(known || !fake(), "{case}: {why}");
                    println!("SKIP {case}: {why}");
                }
            }
        }
    }
    // STANDARD in six ways, for each of five kinds, is the least.
    assert!(served >= 5 * 6, "{served} ways served");
}

/// With three layers in calls of their own every buffer of gradients is used in turn; units that are only ours (the width as it
/// is, 13, is stored in rows of 16) stay zero through updates.
#[test]
fn buffers_in_turn_and_padded_rows_equal_the_reference() {
    let Some(driver) = gpu() else { return };
    let shape = ModelShape { cell: CellKind::Gru, vocab: 9, hidden: 20, layers: 3 };
    let mut engine = with_choice(&driver, shape, Precision::F32, standard(32, true)).unwrap();
    let chunks = [uncut(32, 9, 4, 5), random_chunk(33, 9, 4, 5)];
    contract::gradients_over_chunks(&mut engine, &chunks, &plain(0.0), F32_BOUND, "three layers");
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 9, hidden: 13, layers: 2 };
    contract::ten_steps_are_the_references(&|| {
        Box::new(with_choice(&driver, shape, Precision::F32, standard(13, false)).unwrap())
    });
}

#[test]
fn dropout_has_the_references_masks() {
    let Some(driver) = gpu() else { return };
    for (precision, bound) in PRECISIONS {
        for cell in CELLS {
            let hyper = Hyper { dropout: 0.3, time: 1000, seed: 9, ..plain(0.0) };
            let shape = ModelShape { cell, vocab: 9, hidden: 32, layers: 2 };
            for choice in [standard(32, false), standard(30 + 2, true), standard(128, false)] {
                let mut engine = with_choice(&driver, shape, precision, choice).unwrap();
                let case = format!("{choice}: {precision} {shape} dropout");
                let chunks = [random_chunk(31, 9, 7, 11), uncut(32, 9, 7, 11), uncut(33, 9, 7, 11)];
                contract::gradients_over_chunks(&mut engine, &chunks, &hyper, bound, &case);
            }
        }
    }
}

#[test]
fn the_papers_width_equals_the_reference() {
    let Some(driver) = gpu() else { return };
    for (precision, bound) in PRECISIONS {
        let shape = ModelShape { cell: CellKind::Lstm, vocab: 97, hidden: 150, layers: 1 };
        for choice in [standard(150, false), standard(160, false)] {
            let mut engine = with_choice(&driver, shape, precision, choice).unwrap();
            let chunks = [random_chunk(31, 97, 7, 17), uncut(32, 97, 7, 17)];
            contract::gradients_over_chunks(
                &mut engine,
                &chunks,
                &plain(0.0),
                bound,
                &format!("{choice} {precision}"),
            );
        }
    }
}

#[test]
fn it_keeps_the_contract_of_an_engine() {
    let lstm = ModelShape { cell: CellKind::Lstm, vocab: 9, hidden: 13, layers: 2 };
    if gpu().is_none() {
        return;
    }
    contract::ten_steps_are_the_references(&|| Box::new(engine(lstm, Precision::F32).unwrap()));
    let one = ModelShape { layers: 1, ..lstm };
    contract::explosions_are_skipped(&mut engine(one, Precision::F32).unwrap());
    contract::the_loss_scale_adapts(&mut engine(one, Precision::F16).unwrap());
    contract::malformed_input_is_refused(&mut engine(one, Precision::F32).unwrap());
    for cell in CELLS {
        let shape = ModelShape { cell, vocab: 11, hidden: 19, layers: 2 };
        contract::taps_are_the_references(&mut engine(shape, Precision::F32).unwrap(), 12, F32_BOUND);
    }
}

/// Chunks of any length, single steps (on our own kernels) among them, carry the same state.
#[test]
fn chunks_compose() {
    for cell in CELLS {
        let shape = ModelShape { cell, vocab: 11, hidden: 37, layers: 2 };
        let whole = random_chunk(77, 11, 16, 3);
        let expected: Vec<f64> =
            reference(shape).eval_each(&whole).unwrap().into_iter().map(f64::from).collect();
        for sizes in [&[16][..], &[8, 8], &[1, 14, 1], &[5, 5, 5, 1]] {
            let Some(mut engine) = engine(shape, Precision::F32) else { return };
            let (mut at, mut losses) = (0, Vec::new());
            for &size in sizes {
                losses.extend(engine.eval_each(&part(&whole, at, size)).unwrap());
                at += size;
            }
            assert!(nmse(&losses, &expected) < F32_BOUND, "{cell} {sizes:?}");
        }
    }
}

#[test]
fn resuming_does_not_change_a_bit() {
    let shape = ModelShape { cell: CellKind::Gru, vocab: 21, hidden: 40, layers: 2 };
    let train = |engine: &mut CudaEngine, from: u32, to: u32| {
        for step in from..to {
            let hyper = Hyper { dropout: 0.2, time: u64::from(12 * step), clip: 1.0, ..plain(0.05) };
            let ticket = engine.train_chunk(&random_chunk(step, 21, 12, 10), &hyper).unwrap();
            assert!(engine.sync(ticket).unwrap().updated);
        }
    };
    for precision in [Precision::F32, Precision::Bf16] {
        let Some(mut whole) = engine(shape, precision) else { return };
        train(&mut whole, 0, 6);
        let mut first = engine(shape, precision).unwrap();
        train(&mut first, 0, 3);
        let mut second = engine(shape, precision).unwrap();
        second.load_state(&first.save_state().unwrap()).unwrap();
        train(&mut second, 3, 6);
        assert_eq!(whole.save_state().unwrap(), second.save_state().unwrap(), "{precision}");
    }
}

/// Timing chooses something that serves, remembers it, and takes it without timing the next time.
#[test]
fn timing_chooses_and_remembers() {
    let Some(driver) = gpu() else { return };
    let Some(path) = std::env::var_os(tune::CHOICES).filter(|value| value != "off") else {
        println!("SKIP: {} names no file", tune::CHOICES);
        return;
    };
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 12, hidden: 24, layers: 2 };
    let size = ChunkSize { steps: 6, streams: 5, tune: 4 };
    for kernel in [Kernel::Auto, Kernel::Cudnn] {
        let first = tune::engine(&driver, shape, Precision::F32, kernel, size).unwrap();
        let chosen = first.info().chosen.unwrap();
        assert!(chosen.is_of(kernel));
        let note = first.info().note.unwrap();
        assert!(note.contains("timed") && note.contains("remembered in"), "{note}");
        // What is remembered is taken, even where it is not what timing would say.
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(&format!("; {}\"", kernel.name())), "{text}");
        let second = tune::engine(&driver, shape, Precision::F32, kernel, size).unwrap();
        assert_eq!(second.info().chosen, Some(chosen));
    }
    let text = std::fs::read_to_string(&path).unwrap();
    if fake() {
        // The fake refuses what cuDNN refuses, in words that are kept.
        assert!(text.contains("NOT_SUPPORTED"), "{text}");
    }
    let wanted = Wanted { shape, precision: Precision::F32, facts: driver.facts(), driver: Some(&driver) };
    for way in tune::ways(&shape, Precision::F32, Kernel::Auto) {
        if let (KernelChoice::Cudnn(_), Ok(plan)) = (way, way.plan(&wanted)) {
            assert!(plan.detail(8).contains("cuDNN 9."), "{}", plan.detail(8));
        }
    }
}

/// The fakes and the emulated kernels, made in `folder`; None, said, where something is missing.
fn fakes(folder: &Path) -> Option<PathBuf> {
    if images::built().is_err() {
        println!("SKIP: this build has no CUDA kernels, so no device can be opened");
        return None;
    }
    let root = env!("CARGO_MANIFEST_DIR");
    let made = Command::new("bash").arg(format!("{root}/scripts/fake-cuda.sh")).arg(folder).output().unwrap();
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    match made.status.code() {
        Some(0) => {}
        Some(3) => {
            println!("SKIP the fake libraries: {said}");
            return None;
        }
        _ => panic!("scripts/fake-cuda.sh failed: {said}"),
    }
    device::library_file()
}

/// Runs tests of this file on the fakes with settings; gives what they printed and cuDNN's calls.
fn on_the_fakes(tests: &[&str], settings: &[(&str, &str)]) -> Option<(bool, String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let kernels = fakes(folder.path())?;
    let log = folder.path().join("calls.txt");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(tests)
        .args(["--nocapture", "--test-threads=1"])
        .env("LD_LIBRARY_PATH", folder.path())
        .env("FAKE_CUDA_KERNELS", kernels)
        .env("FAKE_CUDNN_LOG", &log)
        .env("SONGRNN_TEST_DEVICE", "cuda")
        .env(tune::CHOICES, folder.path().join("kernels.json"))
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let calls = std::fs::read_to_string(&log).unwrap_or_default();
    Some((output.status.success(), text.into_owned(), calls))
}

#[test]
fn on_fakes() {
    if device::on_gpu() {
        return;
    }
    let Some((good, text, calls)) = on_the_fakes(&["--skip", "fakes"], &[]) else { return };
    assert!(good, "{text}");
    assert!(text.contains("11 passed"), "{text}");
    for complaint in ["fake cuda:", "fake cudnn:"] {
        assert!(!text.contains(complaint), "{text}");
    }
    // Order: weights gradients follow data gradients follow a forward pass in training, always.
    let mut before = "";
    for line in calls.lines() {
        let name = line.split_whitespace().next().unwrap_or("");
        match name {
            "RNNBackwardWeights_v8" => assert_eq!(before, "RNNBackwardData_v8", "{line}"),
            "RNNForward" | "RNNBackwardData_v8" => {}
            _ => continue,
        }
        before = name;
    }
    assert!(calls.contains("RNNBackwardWeights"), "{}", &calls[..calls.len().min(2000)]);
}

#[test]
fn a_library_that_is_missing_old_wrong_or_failing_is_told_of_on_fakes() {
    if device::on_gpu() {
        return;
    }
    // Gates swapped: the tests must see it.
    let one = ["--exact", "one_small_model_equals_the_reference"];
    let Some((good, ..)) = on_the_fakes(&one, &[("FAKE_CUDNN_WRONG", "gates")]) else { return };
    assert!(!good, "swapped gates were not noticed");
    // And timing must not choose it: every cuDNN way is said to compute something else.
    let choose = ["--exact", "timing_chooses_and_remembers"];
    let (good, text, _) = on_the_fakes(&choose, &[("FAKE_CUDNN_WRONG", "gates")]).unwrap();
    assert!(!good && text.contains("computes something else"), "{text}");
    // The second forward pass of a size is the one that is captured.
    let captured = ["--exact", "chunks_are_captured_or_enqueued_one_by_one"];
    let (good, text, _) = on_the_fakes(&captured, &[("FAKE_CUDNN_FAIL", "cudnnRNNForward:2:5000")]).unwrap();
    assert!(good && text.contains("are enqueued one by one: cudnnRNNForward failed"), "{text}");
    let (good, text, _) = on_the_fakes(&captured, &[]).unwrap();
    assert!(good && text.contains("note: None"), "{text}");
    let (good, text, _) = on_the_fakes(&one, &[("FAKE_CUDNN_VERSION", "8907")]).unwrap();
    assert!(good && text.contains("SKIP: cuDNN 8.9 is too old"), "{text}");
    for (call, words) in [
        ("cudnnCreate:1:5000", "SKIP: cuDNN 9"),
        ("cudnnSetRNNDescriptor_v8:1:3000", "cudnnSetRNNDescriptor_v8"),
        ("cudnnGetRNNTempSpaceSizes:1:2000", "cudnnGetRNNTempSpaceSizes"),
        ("cudnnRNNForward:1:5000", "cudnnRNNForward failed"),
        ("cudnnRNNBackwardData_v8:1:4000", "cudnnRNNBackwardData_v8 failed"),
        ("cudnnRNNBackwardWeights_v8:1:3000", "cudnnRNNBackwardWeights_v8"),
    ] {
        let (_, text, _) = on_the_fakes(&one, &[("FAKE_CUDNN_FAIL", call)]).unwrap();
        assert!(text.contains(words), "{call}: {text}");
        // A descriptor or a buffer that was lost shows when the libraries are closed.
        assert!(!text.contains("alive") && !text.contains("left over"), "{call}: {text}");
    }
}
