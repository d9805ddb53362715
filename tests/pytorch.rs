//! The engines against PyTorch: forward, gradients and ten training steps of the golden files in `tests/golden/`,
//! which its README describes. No Python here: `torch_eval.rs` is the test that runs PyTorch itself.

use std::collections::HashMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use songrnn_fast::engine::reference::ReferenceEngine;
use songrnn_fast::engine::{Chunk, Engine, EngineSpec, Hyper, IGNORE, Precision, build};
use songrnn_fast::model::{CellKind, ModelShape};
use songrnn_fast::optim::Optimizer;

/// Largest relative difference, in the Euclidean norm of a tensor, between the reference engine and PyTorch's float64.
/// Measured: 7.2e-16 forward and gradients, 1.9e-15 after ten steps.
const REFERENCE_BOUND: f64 = 1e-12;
/// `Stats::grad_norm` is float32: half its last place is 6e-8. Measured: 3.2e-8.
const ROUNDED_NORM_BOUND: f64 = 1e-7;
/// The same for the cpu engine in float32. Measured: 4.0e-7 forward and gradients, 3.3e-7 after ten steps of Adam, AdamW
/// and SGD, 2.5e-6 of RMSprop. PyTorch's own float32: 3.0e-7, 2.6e-7, 1.7e-6.
const CPU_BOUND: f64 = 1e-5;

/// One golden file.
struct Golden {
    name: String,
    shape: ModelShape,
    metadata: HashMap<String, String>,
    /// Float tensors, flat.
    floats: HashMap<String, Vec<f64>>,
    /// Integer tensors, flat.
    integers: HashMap<String, Vec<i32>>,
    streams: usize,
    steps: usize,
}

impl Golden {
    fn read(path: &Path) -> Golden {
        let bytes = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap();
        let (mut floats, mut integers) = (HashMap::new(), HashMap::new());
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            match view.dtype() {
                Dtype::F64 => {
                    let values =
                        view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap()));
                    floats.insert(name, values.collect());
                }
                Dtype::I32 => {
                    let values =
                        view.data().chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap()));
                    integers.insert(name, values.collect());
                }
                other => panic!("{name} is {other:?}"),
            }
        }
        let number = |key: &str| metadata[key].parse::<usize>().unwrap();
        let cell = match metadata["cell"].as_str() {
            "lstm" => CellKind::Lstm,
            "gru" => CellKind::Gru,
            "rnn" => CellKind::Rnn,
            other => panic!("unknown cell {other}"),
        };
        assert_eq!(number("ignore"), usize::from(IGNORE));
        Golden {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            shape: ModelShape {
                cell,
                vocab: number("vocab"),
                hidden: number("hidden"),
                layers: number("layers"),
            },
            streams: number("streams"),
            steps: number("steps"),
            metadata,
            floats,
            integers,
        }
    }

    /// Every case. Fails where there are fewer than the script makes.
    fn all() -> Vec<Golden> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        paths.retain(|p| p.extension().is_some_and(|e| e == "safetensors"));
        paths.sort();
        assert_eq!(paths.len(), 6, "three cells, one and two layers");
        paths.iter().map(|p| Golden::read(p)).collect()
    }

    /// The tensors `PREFIX.NAME` of every trained parameter, in arena order.
    fn arena(&self, prefix: &str) -> Vec<f64> {
        let mut arena = vec![f64::NAN; self.shape.params()];
        for spec in self.shape.tensors() {
            arena[spec.range].copy_from_slice(&self.floats[&format!("{prefix}.{}", spec.name)]);
        }
        arena
    }

    /// The initial parameters, which are exact in float32.
    fn params(&self) -> Vec<f32> {
        let params = self.arena("param");
        assert!(params.iter().all(|&p| f64::from(p as f32) == p));
        params.iter().map(|&p| p as f32).collect()
    }

    /// Chunk `k` of training; chunk 0 is also the one of the forward and gradient tensors.
    fn chunk(&self, k: usize) -> Chunk {
        let n = self.steps * self.streams;
        let part = |name: &str| self.integers[name][k * n..(k + 1) * n].iter().copied();
        let chunk = Chunk {
            steps: self.steps,
            streams: self.streams,
            ids: part("train.ids").map(|i| u16::try_from(i).unwrap()).collect(),
            targets: part("train.targets").map(|i| u16::try_from(i).unwrap()).collect(),
            resets: part("train.resets").map(|i| u8::try_from(i).unwrap()).collect(),
        };
        if k == 0 {
            assert!(
                chunk.resets[self.streams..].contains(&1) && chunk.targets.contains(&IGNORE),
                "what a case has"
            );
        }
        chunk
    }

    fn chunks(&self) -> usize {
        self.metadata["chunks"].parse().unwrap()
    }

    /// The hyper-parameters of the training steps with `kind`.
    fn hyper(&self, kind: &str) -> Hyper {
        let constants: serde_json::Value =
            serde_json::from_str(&self.metadata[&format!("optimizer.{kind}")]).unwrap();
        let get = |key: &str| constants[key].as_f64().unwrap() as f32;
        let beta = |i: usize| constants["betas"][i].as_f64().unwrap() as f32;
        Hyper {
            optimizer: match kind {
                "adam" => Optimizer::Adam { beta1: beta(0), beta2: beta(1), eps: get("eps") },
                "adamw" => Optimizer::AdamW { beta1: beta(0), beta2: beta(1), eps: get("eps") },
                "sgd" => Optimizer::Sgd { momentum: get("momentum") },
                "rmsprop" => {
                    Optimizer::RmsProp { alpha: get("alpha"), eps: get("eps"), momentum: get("momentum") }
                }
                other => panic!("unknown optimiser {other}"),
            },
            lr: self.metadata["lr"].parse::<f64>().unwrap() as f32,
            clip: self.metadata["clip"].parse::<f64>().unwrap() as f32,
            weight_decay: get("weight_decay"),
            dropout: 0.0,
            seed: 0,
            time: 0,
            skip_above: f32::INFINITY,
        }
    }
}

const OPTIMIZERS: [&str; 4] = ["adam", "adamw", "sgd", "rmsprop"];

/// Compares tensors and remembers the largest difference, for the messages and for the figures in the constants.
struct Judge<'a> {
    case: &'a str,
    worst: (f64, String),
}

impl Judge<'_> {
    fn new(case: &str) -> Judge<'_> {
        Judge { case, worst: (0.0, "nothing compared".into()) }
    }

    /// Relative difference in the Euclidean norm, at most `bound`.
    fn near(&mut self, what: &str, found: &[f64], expected: &[f64], bound: f64) {
        assert_eq!(found.len(), expected.len(), "{} {what}: length", self.case);
        let error: f64 = found.iter().zip(expected).map(|(a, b)| (a - b) * (a - b)).sum();
        let power: f64 = expected.iter().map(|b| b * b).sum();
        assert!(power > 0.0, "{} {what}: a zero tensor shows nothing", self.case);
        let relative = (error / power).sqrt();
        assert!(
            relative <= bound,
            "{} {what}: relative difference {relative:.2e}, at most {bound:.0e}",
            self.case
        );
        if relative >= self.worst.0 {
            self.worst = (relative, what.into());
        }
    }

    /// Every tensor of an arena by itself, so that a small one cannot hide behind a large one.
    fn arena(&mut self, golden: &Golden, prefix: &str, found: &[f64], bound: f64) {
        for spec in golden.shape.tensors() {
            let name = format!("{prefix}.{}", spec.name);
            self.near(&name, &found[spec.range], &golden.floats[&name], bound);
        }
    }
}

impl Drop for Judge<'_> {
    fn drop(&mut self) {
        println!("{}: largest relative difference {:.1e} ({})", self.case, self.worst.0, self.worst.1);
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn reference_forward_and_gradients() {
    for golden in Golden::all() {
        let mut judge = Judge::new(&golden.name);
        let mut engine = ReferenceEngine::new(golden.shape);
        engine.params = golden.arena("param");
        let chunk = golden.chunk(0);
        let forward = engine.forward(&chunk).unwrap();
        let logits: Vec<f64> = forward.logits.iter().flatten().flatten().copied().collect();
        judge.near("logits", &logits, &golden.floats["logits"], REFERENCE_BOUND);
        let (stats, gradient) = engine.gradient(&chunk, &golden.hyper("sgd")).unwrap();
        judge.near("loss", &[stats.mean_loss()], &golden.floats["loss"], REFERENCE_BOUND);
        judge.arena(&golden, "grad", &gradient, REFERENCE_BOUND);
        let state = engine.training_state();
        let flat = |s: &Vec<Vec<Vec<f64>>>| s.iter().flatten().flatten().copied().collect::<Vec<_>>();
        judge.near("h", &flat(&state.h), &golden.floats["h"], REFERENCE_BOUND);
        if golden.shape.cell.has_cell_state() {
            judge.near("c", &flat(&state.c), &golden.floats["c"], REFERENCE_BOUND);
        }
    }
}

#[test]
fn reference_trains() {
    for golden in Golden::all() {
        for kind in OPTIMIZERS {
            let case = format!("{} {kind}", golden.name);
            let mut judge = Judge::new(&case);
            let mut engine = ReferenceEngine::new(golden.shape);
            engine.params = golden.arena("param");
            let (mut losses, mut norms) = (Vec::new(), Vec::new());
            for k in 0..golden.chunks() {
                let ticket = engine.train_chunk(&golden.chunk(k), &golden.hyper(kind)).unwrap();
                let stats = engine.sync(ticket).unwrap();
                losses.push(stats.mean_loss());
                norms.push(f64::from(stats.grad_norm));
            }
            judge.near("losses", &losses, &golden.floats[&format!("{kind}.losses")], REFERENCE_BOUND);
            judge.arena(&golden, &format!("{kind}.param"), &engine.params, REFERENCE_BOUND);
            let case = format!("{case} norms, as float32");
            let expected = &golden.floats[&format!("{kind}.norms")];
            Judge::new(&case).near("norms", &norms, expected, ROUNDED_NORM_BOUND);
        }
    }
}

fn cpu(golden: &Golden, threads: usize) -> Box<dyn Engine> {
    let mut engine = build(&EngineSpec::cpu(golden.shape, Precision::F32, threads)).unwrap();
    engine.load_params(&golden.params()).unwrap();
    engine
}

#[test]
fn cpu_forward_and_gradients() {
    for golden in Golden::all() {
        let mut judge = Judge::new(&golden.name);
        let mut engine = cpu(&golden, 1);
        let chunk = golden.chunk(0);
        let mut logits = Vec::new();
        for t in 0..chunk.steps {
            let row = t * chunk.streams..(t + 1) * chunk.streams;
            let mut z = vec![f32::NAN; chunk.streams * golden.shape.vocab];
            engine.step(&chunk.ids[row.clone()], &chunk.resets[row], &mut z).unwrap();
            logits.extend(wide(&z));
        }
        judge.near("logits", &logits, &golden.floats["logits"], CPU_BOUND);
        let ticket = engine.eval_chunk(&chunk).unwrap();
        let evaluated = engine.sync(ticket).unwrap().mean_loss();
        judge.near("evaluated loss", &[evaluated], &golden.floats["loss"], CPU_BOUND);
        let (stats, gradient) = engine.grad_chunk(&chunk, &golden.hyper("sgd")).unwrap();
        judge.near("loss", &[stats.mean_loss()], &golden.floats["loss"], CPU_BOUND);
        judge.arena(&golden, "grad", &wide(&gradient), CPU_BOUND);
        let state = engine.save_state().unwrap();
        judge.near("h", &wide(&state.h), &golden.floats["h"], CPU_BOUND);
        if golden.shape.cell.has_cell_state() {
            judge.near("c", &wide(&state.c), &golden.floats["c"], CPU_BOUND);
        }
    }
}

#[test]
fn cpu_trains() {
    for golden in Golden::all() {
        for kind in OPTIMIZERS {
            let case = format!("{} {kind}", golden.name);
            let mut judge = Judge::new(&case);
            let mut engine = cpu(&golden, 2);
            let (mut losses, mut norms) = (Vec::new(), Vec::new());
            for k in 0..golden.chunks() {
                let ticket = engine.train_chunk(&golden.chunk(k), &golden.hyper(kind)).unwrap();
                let stats = engine.sync(ticket).unwrap();
                assert!(stats.updated, "{case}: step {k} was skipped");
                losses.push(stats.mean_loss());
                norms.push(f64::from(stats.grad_norm));
            }
            judge.near("losses", &losses, &golden.floats[&format!("{kind}.losses")], CPU_BOUND);
            judge.near("norms", &norms, &golden.floats[&format!("{kind}.norms")], CPU_BOUND);
            judge.arena(
                &golden,
                &format!("{kind}.param"),
                &wide(&engine.export_params().unwrap()),
                CPU_BOUND,
            );
        }
    }
}
