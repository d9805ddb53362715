//! Whole training steps, and on a GPU sampling: `cargo bench --bench train_step [-- [--device D] [H L B T THREADS]]`.
//!
//! Prints one CSV row a case in the columns of `benches/record/` (median of the repeats), for a person to commit with
//! the machine and commit filled in. On a GPU the cases are the shapes A, B and C of `docs/cuda.md`, each beside the
//! time that is conceivable there. Nothing here is a test.

use std::time::Instant;

use songrnn_fast::engine::{
    self, Chunk, Device, Engine, EngineSpec, Hyper, Kernel, Precision, SampleRequest,
};
use songrnn_fast::model::{CellKind, ModelShape, init};
use songrnn_fast::optim::Optimizer;
use songrnn_fast::sample::Choice;

const VOCAB: usize = 96;

/// One case: a cell, its sizes, a number format and what runs it.
#[derive(Clone, Copy)]
struct Case {
    cell: CellKind,
    hidden: usize,
    layers: usize,
    batch: usize,
    steps: usize,
    threads: usize,
    precision: Precision,
    device: Device,
    kernel: Kernel,
    /// Milliseconds a step that are conceivable on an H100 (an estimate); NaN where none was made.
    floor: f64,
}

const PAPER: Case = Case {
    cell: CellKind::Lstm,
    hidden: 150,
    layers: 1,
    batch: 64,
    steps: 100,
    threads: 0,
    precision: Precision::F32,
    device: Device::Cpu,
    kernel: Kernel::Auto,
    floor: f64::NAN,
};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let device: Device = match args.iter().position(|a| a == "--device") {
        Some(at) => {
            args.get(at + 1).map_or("", String::as_str).parse().expect("--device auto, cpu or cuda[:N]")
        }
        None => Device::Cpu,
    };
    let numbers: Vec<usize> = args.iter().filter_map(|a| a.parse().ok()).collect();
    println!(
        "what,engine,detail,precision,cell,hidden,layers,batch,seq_len,vocab,chars_per_second,ms_per_step,ms_spread,\
         gflops,floor_ms"
    );
    let on = Case { device, ..PAPER };
    match numbers[..] {
        [hidden, layers, batch, steps, threads] => {
            train(Case { hidden, layers, batch, steps, threads, ..on })
        }
        _ if device == Device::Cpu => {
            for cell in [CellKind::Lstm, CellKind::Gru, CellKind::Rnn] {
                train(Case { cell, ..on });
            }
            train(Case { precision: Precision::Bf16, ..on });
            train(Case { hidden: 512, layers: 3, steps: 128, ..on });
        }
        _ => {
            let a = Case { floor: 0.12, ..on };
            let b = Case { hidden: 512, layers: 3, batch: 128, steps: 256, floor: 2.3, ..on };
            let c = Case { hidden: 1024, batch: 256, steps: 512, floor: 6.4, ..on };
            for case in [a, b, c] {
                for precision in [Precision::F16, Precision::Bf16, Precision::F32] {
                    for kernel in [Kernel::Auto, Kernel::Stepwise] {
                        train(Case { precision, kernel, ..case });
                    }
                }
            }
            for cell in [CellKind::Gru, CellKind::Rnn] {
                train(Case { cell, precision: Precision::F16, ..on });
            }
            for precision in [Precision::F32, Precision::F16] {
                for tunes in [1, 64, 1056] {
                    sample(Case { precision, ..on }, tunes);
                }
            }
        }
    }
}

/// The engine of a case with initial weights; None, said, where it cannot be had.
fn engine_of(case: &Case) -> Option<Box<dyn Engine>> {
    let shape = ModelShape { cell: case.cell, vocab: VOCAB, hidden: case.hidden, layers: case.layers };
    let spec = EngineSpec {
        device: case.device,
        kernel: case.kernel,
        ..EngineSpec::cpu(shape, case.precision, case.threads)
    };
    match engine::build(&spec) {
        Ok(mut engine) => {
            engine.load_params(&init::uniform(&shape, 1)).expect("parameters");
            Some(engine)
        }
        Err(why) => {
            eprintln!("SKIP {shape} {} {}: {why}", case.precision, case.kernel.name());
            None
        }
    }
}

fn row(what: &str, engine: &dyn Engine, case: &Case, chars: usize, times: &mut [f64], gflop: f64) {
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let spread = times[times.len() * 3 / 4] - times[times.len() / 4];
    let info = engine.info();
    println!(
        "{what},{},{},{},{},{},{},{},{},{VOCAB},{:.0},{median:.4},{spread:.4},{:.1},{}",
        info.name,
        info.detail.replace(", ", "/"),
        case.precision,
        case.cell,
        case.hidden,
        case.layers,
        case.batch,
        case.steps,
        chars as f64 / (median / 1e3),
        gflop / (median / 1e3),
        if case.floor.is_nan() { String::new() } else { case.floor.to_string() },
    );
}

fn train(case: Case) {
    let Some(mut engine) = engine_of(&case) else { return };
    let mut chunk = Chunk::new(case.steps, case.batch);
    for i in 0..case.steps * case.batch {
        chunk.ids[i] = (i * 7 % VOCAB) as u16;
        chunk.targets[i] = (i * 7 % VOCAB) as u16;
    }
    let hyper = Hyper {
        optimizer: Optimizer::ADAM,
        lr: 1e-4,
        clip: 5.0,
        weight_decay: 0.0,
        dropout: 0.0,
        seed: 1,
        time: 0,
        skip_above: f32::INFINITY,
    };
    // A GPU's statistics are read every so many steps, as the trainer does.
    let together = if case.device == Device::Cpu { 1 } else { 20 };
    let mut times = Vec::new();
    let begun = Instant::now();
    while times.len() < 7 || (begun.elapsed().as_secs_f64() < 5.0 && times.len() < 200) {
        let start = Instant::now();
        let mut last = None;
        for _ in 0..together {
            match engine.train_chunk(&chunk, &hyper) {
                Ok(ticket) => last = Some(ticket),
                Err(why) => {
                    return eprintln!("SKIP {}x{} {}: {why}", case.layers, case.hidden, case.precision);
                }
            }
        }
        engine.sync(last.expect("a step")).expect("its statistics");
        times.push(start.elapsed().as_secs_f64() * 1e3 / f64::from(together));
    }
    times.drain(..2); // Warm-up: memory is touched, graphs are captured.
    // Products only: forward, backward and weight gradients; a one-hot input costs none.
    let above = (case.layers - 1) * 2 * case.cell.gates() * case.hidden * case.hidden;
    let products = case.cell.gates() * case.hidden * case.hidden + above + VOCAB * case.hidden;
    let chars = case.steps * case.batch;
    row("train", engine.as_ref(), &case, chars, &mut times, 6e-9 * (products * chars) as f64);
}

/// Tunes of 500 characters, none of which ends by itself.
fn sample(case: Case, tunes: usize) {
    let Some(mut engine) = engine_of(&case) else { return };
    let request = SampleRequest {
        tunes,
        first_index: 0,
        seed: 1,
        choice: Choice { temperature: 0.8, ..Choice::default() },
        prime: vec![0],
        max_chars: 500,
        end: 1,
        banned: vec![0, 1, 2],
    };
    let mut times = Vec::new();
    for _ in 0..7 {
        let start = Instant::now();
        engine.sample(&request).expect("tunes");
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.drain(..2);
    let case = Case { batch: tunes, steps: 500, ..case };
    let products = case.cell.gates() * case.hidden * case.hidden + VOCAB * case.hidden;
    row("sample", engine.as_ref(), &case, tunes * 500, &mut times, 2e-9 * (products * tunes * 500) as f64);
}
