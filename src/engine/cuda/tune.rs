//! Which kernels run the recurrent layers fastest: each way that serves is timed on whole training steps, once for a shape,
//! size of chunk, device, driver and library, and the answer is remembered in a file.
//!
//! The chunk that is timed has tunes start as often as training has, every 350 characters of a stream: cuDNN pays for those, our own
//! kernels do not. A way whose loss or gradient differs from our stepwise kernels' is not taken, whatever its speed.

mod memory;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use memory::{CHOICES, Remembered, Verdict, is_off};

use super::CudaEngine;
use super::driver::Driver;
use super::rnn::cudnn::{self, Choice};
use super::rnn::{RnnPlan, Wanted, fused, stepwise};
use crate::engine::{Chunk, Engine, EngineError, Hyper, Kernel, Precision, Stats};
use crate::model::{ModelShape, init};
use crate::optim::Optimizer;

/// One way to run the recurrent layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelChoice {
    /// Recurrent weights on the chip.
    Fused,
    /// A product and a pointwise kernel a step.
    Stepwise,
    /// cuDNN, in one of its ways.
    Cudnn(Choice),
}

impl fmt::Display for KernelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelChoice::Fused => f.write_str("fused"),
            KernelChoice::Stepwise => f.write_str("stepwise"),
            KernelChoice::Cudnn(choice) => write!(f, "cudnn ({choice})"),
        }
    }
}

impl KernelChoice {
    /// Whether `--kernel` allows it.
    pub fn is_of(&self, kernel: Kernel) -> bool {
        match (kernel, self) {
            (Kernel::Auto, KernelChoice::Cudnn(choice)) => !choice.tf32,
            (Kernel::Auto, _) | (Kernel::Fused, KernelChoice::Fused) => true,
            (Kernel::Stepwise, KernelChoice::Stepwise) => true,
            (Kernel::Cudnn, KernelChoice::Cudnn(choice)) => !choice.tf32,
            (Kernel::CudnnTf32, KernelChoice::Cudnn(choice)) => choice.tf32,
            _ => false,
        }
    }

    /// The plan, or why it does not serve.
    pub fn plan(&self, wanted: &Wanted) -> Result<Box<dyn RnnPlan>, String> {
        match self {
            KernelChoice::Fused => fused::plan(wanted),
            KernelChoice::Stepwise => stepwise::plan(wanted),
            KernelChoice::Cudnn(choice) => cudnn::plan_as(wanted, *choice),
        }
    }
}

/// Every way that `kernel` allows, the likely fastest first.
pub fn ways(shape: &ModelShape, precision: Precision, kernel: Kernel) -> Vec<KernelChoice> {
    let tf32 = kernel == Kernel::CudnnTf32 && precision == Precision::F32;
    let mut all = vec![KernelChoice::Fused];
    all.extend(cudnn::choices(shape, tf32).into_iter().map(KernelChoice::Cudnn));
    all.push(KernelChoice::Stepwise);
    all.retain(|way| way.is_of(kernel));
    all
}

/// The size of the chunks that a model is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChunkSize {
    /// T.
    pub steps: usize,
    /// B.
    pub streams: usize,
    /// Characters of a stream from one tune's start to the next; 0: none starts.
    pub tune: usize,
}

impl ChunkSize {
    /// For training on tunes of the usual length.
    pub fn of_tunes(steps: usize, streams: usize) -> ChunkSize {
        ChunkSize { steps, streams, tune: TUNE }
    }
}

/// What timing a way gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// Median milliseconds of a training step.
    pub milliseconds: f64,
    /// Mean loss of the first step.
    pub loss: f64,
    /// Norm of the first step's gradient.
    pub norm: f64,
}

/// Characters of a tune, about: a session's jigs and reels have 250 on average, O'Neill's 390, the assignment's 470.
const TUNE: usize = 350;
/// Rounds of a way, and steps in a round.
const ROUNDS: usize = 5;
const STEPS: usize = 5;
/// Steps until f16's loss scale must have found its place.
const LOSS_SCALES: usize = 20;
/// A way whose first round takes so many times the best so far is not timed further.
const HOPELESS: f64 = 3.0;

/// How far two right ways may differ in loss and in the gradient's norm, relatively: their roundings, and cuDNN's
/// TF32 and short weight gradients. A swapped gate differs by more than all of them.
fn tolerance(precision: Precision, tf32: bool) -> (f64, f64) {
    match precision {
        Precision::F32 if !tf32 => (1e-5, 1e-3),
        _ => (1e-2, 5e-2),
    }
}

/// The fastest of `ways`, each timed by `time`, which is told the best so far. `truth` is what a right way gives.
pub fn fastest(
    ways: &[KernelChoice],
    precision: Precision,
    truth: &Timing,
    time: &mut dyn FnMut(&KernelChoice, f64) -> Result<Timing, String>,
) -> Result<Verdict, EngineError> {
    let mut measured: Vec<(KernelChoice, Result<f64, String>)> = Vec::new();
    let mut best: Option<(KernelChoice, f64)> = None;
    for way in ways {
        let tf32 = matches!(way, KernelChoice::Cudnn(choice) if choice.tf32);
        let (loss, norm) = tolerance(precision, tf32);
        let far = |found: f64, right: f64, bound: f64| {
            let far = (found - right).abs() > bound * right.abs().max(1e-6);
            far || !found.is_finite()
        };
        let limit = best.map_or(f64::INFINITY, |(_, milliseconds)| milliseconds);
        let result = time(way, limit).and_then(|timing| {
            if far(timing.loss, truth.loss, loss) || far(timing.norm, truth.norm, norm) {
                return Err(format!(
                    "computes something else: loss {:.6} and gradient norm {:.6}, expected {:.6} and {:.6}",
                    timing.loss, timing.norm, truth.loss, truth.norm
                ));
            }
            Ok(timing.milliseconds)
        });
        if let Ok(milliseconds) = result
            && milliseconds < limit
        {
            best = Some((*way, milliseconds));
        }
        measured.push((*way, result));
    }
    let Some((chosen, milliseconds)) = best else {
        let reasons: Vec<String> = measured
            .iter()
            .filter_map(|(way, result)| result.as_ref().err().map(|why| format!("{way}: {why}")))
            .collect();
        return Err(EngineError::Unsupported(format!("no kernels serve: {}", reasons.join("; "))));
    };
    Ok(Verdict { chosen, milliseconds, measured })
}

/// Chooses for a device: from the file where this was asked before, else by timing. Gives an engine with zero parameters.
pub fn engine(
    driver: &Arc<dyn Driver>,
    shape: ModelShape,
    precision: Precision,
    kernel: Kernel,
    size: ChunkSize,
) -> Result<CudaEngine, EngineError> {
    let ways = ways(&shape, precision, kernel);
    let wanted = Wanted { shape, precision, facts: driver.facts(), driver: Some(driver) };
    let mut remembered = Remembered::open();
    let key = memory::key(driver.facts(), &shape, precision, kernel, size);
    if let Some(verdict) = remembered.find(&key).filter(|verdict| verdict.chosen.is_of(kernel))
        && let Ok(plan) = verdict.chosen.plan(&wanted)
    {
        let mut engine = CudaEngine::with_plan(driver.clone(), shape, precision, plan)?;
        engine.chose(verdict.chosen, format!("{} ({})", verdict.in_words(), remembered.place()));
        return Ok(engine);
    }
    let plan = |way: &KernelChoice| way.plan(&wanted);
    let mut time = |way: &KernelChoice, limit: f64| -> Result<Timing, String> {
        let engine = CudaEngine::with_plan(driver.clone(), shape, precision, plan(way)?);
        let mut engine = engine.map_err(|error| error.to_string())?;
        steps(&mut engine, size, limit).map_err(|error| error.to_string())
    };
    // Our own kernels, which the tests hold against the reference, say what is right.
    let truth = time(&KernelChoice::Stepwise, 0.0).map_err(EngineError::Unsupported)?;
    let verdict = fastest(&ways, precision, &truth, &mut time)?;
    let kept = remembered.keep(&key, &verdict);
    let place = match &kept {
        Ok(()) => remembered.place(),
        Err(why) => format!("not remembered: {why}"),
    };
    let mut engine = CudaEngine::with_plan(
        driver.clone(),
        shape,
        precision,
        plan(&verdict.chosen).map_err(EngineError::Unsupported)?,
    )?;
    engine.chose(verdict.chosen, format!("{} ({place})", verdict.in_words()));
    Ok(engine)
}

/// The chunk that is timed: tunes start at staggered places, every character is predicted.
pub fn timed_chunk(vocab: usize, size: ChunkSize) -> Chunk {
    let mut chunk = Chunk::new(size.steps, size.streams);
    for t in 0..size.steps {
        for b in 0..size.streams {
            let i = t * size.streams + b;
            // Not in step with the streams: a stream's characters differ from its neighbour's.
            chunk.ids[i] = ((i * 7 + b * 13 + t * t) % vocab) as u16;
            chunk.targets[i] = ((i * 5 + t + 1) % vocab) as u16;
            chunk.resets[i] = u8::from(size.tune > 0 && (t + b * 89).is_multiple_of(size.tune));
        }
    }
    chunk
}

/// Times training steps of an engine with zero parameters; beyond `limit` times [`HOPELESS`] only one round.
fn steps(engine: &mut CudaEngine, size: ChunkSize, limit: f64) -> Result<Timing, EngineError> {
    let shape = engine.shape();
    engine.load_params(&init::uniform(&shape, 1))?;
    let chunk = timed_chunk(shape.vocab, size);
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
    // f16 halves its loss scale until a step is good: the first good one is compared.
    let mut first = Stats::default();
    for _ in 0..LOSS_SCALES {
        let ticket = engine.train_chunk(&chunk, &hyper)?;
        first = engine.sync(ticket)?;
        if first.updated {
            break;
        }
    }
    for _ in 0..2 {
        let ticket = engine.train_chunk(&chunk, &hyper)?;
        engine.sync(ticket)?;
    }
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begun = engine.mark()?;
        let mut last = None;
        for _ in 0..STEPS {
            last = Some(engine.train_chunk(&chunk, &hyper)?);
        }
        let ended = engine.mark()?;
        if let Some(ticket) = last {
            engine.sync(ticket)?;
        }
        times.push(engine.between(begun, ended)? / STEPS as f64);
        if times[0] > HOPELESS * limit {
            break;
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(Timing {
        milliseconds: times[times.len() / 2],
        loss: first.mean_loss(),
        norm: f64::from(first.grad_norm),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cuda::driver::recurrent::Algorithm;
    use crate::model::CellKind;

    const SHAPE: ModelShape = ModelShape { cell: CellKind::Lstm, vocab: 96, hidden: 150, layers: 2 };
    const TRUTH: Timing = Timing { milliseconds: 9.0, loss: 4.5, norm: 0.3 };

    #[test]
    fn every_way_is_timed_and_the_fastest_right_one_is_taken() {
        let all = ways(&SHAPE, Precision::F16, Kernel::Auto);
        // Three widths (150, 160, 256), two groupings, four algorithms; fused and stepwise.
        assert_eq!(all.len(), 3 * 2 * 4 + 2);
        let mut limits = Vec::new();
        let verdict = fastest(&all, Precision::F16, &TRUTH, &mut |way, limit| {
            limits.push(limit);
            match way {
                KernelChoice::Fused => Ok(Timing { milliseconds: 2.0, ..TRUTH }),
                KernelChoice::Stepwise => Ok(Timing { milliseconds: 3.0, ..TRUTH }),
                KernelChoice::Cudnn(choice) => match choice.algorithm {
                    Algorithm::PersistStatic => Err("not supported".into()),
                    // Fast, but wrong.
                    Algorithm::PersistSmall => Ok(Timing { milliseconds: 0.1, loss: 4.6, ..TRUTH }),
                    Algorithm::PersistDynamic => Ok(Timing { milliseconds: 0.2, norm: f64::NAN, ..TRUTH }),
                    Algorithm::Standard => {
                        Ok(Timing { milliseconds: if choice.width == 256 { 1.0 } else { 1.5 }, ..TRUTH })
                    }
                },
            }
        })
        .unwrap();
        let KernelChoice::Cudnn(choice) = verdict.chosen else { panic!("{:?}", verdict.chosen) };
        assert_eq!((choice.algorithm, choice.width), (Algorithm::Standard, 256));
        assert_eq!(limits[0], f64::INFINITY);
        assert!(limits[1..].iter().all(|&limit| limit <= 2.0));
        assert_eq!(verdict.measured.len(), all.len());
        let words = verdict.in_words();
        for word in ["fused 2.000 ms", "stepwise 3.000 ms", "STANDARD", "1.000 ms"] {
            assert!(words.contains(word), "{words}");
        }
        let wrong = verdict
            .measured
            .iter()
            .filter(|(_, result)| result.as_ref().is_err_and(|why| why.contains("computes something else")));
        assert_eq!(wrong.count(), 12);
    }

    #[test]
    fn where_nothing_serves_every_reason_is_told() {
        let all = ways(&SHAPE, Precision::F32, Kernel::Cudnn);
        let error = fastest(&all, Precision::F32, &TRUTH, &mut |_, _| Err("no library".into()))
            .unwrap_err()
            .to_string();
        assert_eq!(error.matches("no library").count(), all.len());
    }

    #[test]
    fn tf32_is_only_taken_where_it_is_asked_for() {
        let tf32 = |way: &KernelChoice| matches!(way, KernelChoice::Cudnn(choice) if choice.tf32);
        assert!(!ways(&SHAPE, Precision::F32, Kernel::Auto).iter().any(tf32));
        assert!(!ways(&SHAPE, Precision::F32, Kernel::Cudnn).iter().any(tf32));
        let asked = ways(&SHAPE, Precision::F32, Kernel::CudnnTf32);
        assert!(!asked.is_empty() && asked.iter().all(tf32));
        assert!(ways(&SHAPE, Precision::Bf16, Kernel::CudnnTf32).is_empty());
    }
}
