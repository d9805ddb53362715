//! Whole training steps of the CPU engine: `cargo bench --bench train_step [-- H L B T THREADS]`.
//!
//! Prints one CSV row a case in the columns of `benches/record/` (median of the repeats), for a person to commit with
//! the machine and commit filled in. Nothing here is a test.

use std::time::Instant;

use songrnn_fast::engine::{self, Chunk, EngineSpec, Hyper, Precision};
use songrnn_fast::model::{CellKind, ModelShape, init};
use songrnn_fast::optim::Optimizer;

const VOCAB: usize = 96;

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    println!(
        "what,engine,detail,precision,cell,hidden,layers,batch,seq_len,vocab,chars_per_second,ms_per_step,ms_spread,gflops"
    );
    match numbers[..] {
        [hidden, layers, batch, steps, threads] => {
            measure(CellKind::Lstm, hidden, layers, batch, steps, threads, Precision::F32)
        }
        _ => {
            for cell in [CellKind::Lstm, CellKind::Gru, CellKind::Rnn] {
                measure(cell, 150, 1, 64, 100, 0, Precision::F32);
            }
            measure(CellKind::Lstm, 150, 1, 64, 100, 0, Precision::Bf16);
            measure(CellKind::Lstm, 512, 3, 64, 128, 0, Precision::F32);
        }
    }
}

fn measure(
    cell: CellKind,
    hidden: usize,
    layers: usize,
    batch: usize,
    steps: usize,
    threads: usize,
    precision: Precision,
) {
    let shape = ModelShape { cell, vocab: VOCAB, hidden, layers };
    let mut engine = engine::build(&EngineSpec { shape, precision, threads }).expect("an engine");
    engine.load_params(&init::uniform(&shape, 1)).expect("parameters");
    let mut chunk = Chunk::new(steps, batch);
    for i in 0..steps * batch {
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
    let mut times = Vec::new();
    let begun = Instant::now();
    while times.len() < 7 || (begun.elapsed().as_secs_f64() < 5.0 && times.len() < 200) {
        let start = Instant::now();
        let ticket = engine.train_chunk(&chunk, &hyper).expect("a step");
        engine.sync(ticket).expect("its statistics");
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.drain(..2); // Warm-up: memory is touched for the first time.
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let spread = times[times.len() * 3 / 4] - times[times.len() / 4];
    // Products only: forward, backward and weight gradients; a one-hot input costs none.
    let above = (layers - 1) * 2 * cell.gates() * hidden * hidden;
    let products = cell.gates() * hidden * hidden + above + VOCAB * hidden;
    let gflops = 6.0 * (products * steps * batch) as f64 / (median * 1e6);
    let info = engine.info();
    println!(
        "train,{},{},{precision},{cell},{hidden},{layers},{batch},{steps},{VOCAB},{:.0},{median:.3},{spread:.3},{gflops:.1}",
        info.name,
        info.detail.replace(", ", "/"),
        (steps * batch) as f64 / (median / 1e3),
    );
}
