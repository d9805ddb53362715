//! A trial under this program's own protocol: an ordinary training run in a folder of the study, then the losses of
//! its best weights over training, validation and test tunes.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::StudyError;
use super::losses;
use super::results::{ClassLoss, CurvePoint, PartLoss, Trial};
use super::schedule::Context;
use super::trial::{self, Job};
use crate::config::{CONFIG, RunConfig};
use crate::engine::Engine;
use crate::model::file::{BEST, LAST, ModelFile};
use crate::train::evaluate::Part;
use crate::train::metrics::METRICS;
use crate::train::progress::{Observer, Progress};
use crate::train::state::Finish;
use crate::train::trainer::{Ended, Trainer};
use crate::train::{TrainError, begin};

/// Trains, or goes on training, and evaluates. None where the study was asked to stop: what is done is saved.
pub fn run(
    context: &Context<'_>,
    job: &Job,
    threads: usize,
    observer: Arc<Observer>,
) -> Result<Option<Trial>, StudyError> {
    let folder = context.folder.out.join(job.folder());
    let config = context.grid.run_config(
        &job.variant,
        job.seed,
        context.folder.config.clone(),
        threads,
        context.device,
    );
    let build = |spec: &crate::engine::EngineSpec| (context.build)(spec);
    let progress = Progress::observed(observer);
    let mut session = if folder.join(CONFIG).exists() {
        begin::resumed(&folder, &|stored| adjust(&folder, stored, &config), &build, progress)?
    } else {
        begin::new(config, Some(&folder), &build, progress)?
    };
    let trainer = &mut session.trainer;
    let why = match trainer.run(&mut || (context.stop)())? {
        Ended::Interrupted => return Ok(None),
        Ended::Finished(why) => why,
    };
    // Of the training alone: what follows is an evaluation.
    let seconds = trainer.state.seconds;
    let best = folder.join(if trainer.state.best.is_some() { BEST } else { LAST });
    trainer.engine.load_params(&ModelFile::load(&best)?.params)?;
    let (train, validation, test) = {
        let Trainer { engine, data, .. } = trainer;
        let mut of =
            |part: Option<&Part>, classes: bool| evaluate(engine.as_mut(), part, classes, context.stop);
        let (Some(train), Some(validation), Some(test)) =
            (of(Some(&data.train), false)?, of(data.val.as_ref(), true)?, of(data.test.as_ref(), false)?)
        else {
            return Ok(None);
        };
        (train, validation, test)
    };
    let curve = curve(&folder)?;
    let (validation, classes) =
        validation.map_or((None, Vec::new()), |(loss, classes)| (Some(loss), classes));
    let trial = Trial {
        protocol: job.protocol,
        variant: job.variant,
        seed: job.seed,
        parameters: trainer.config.model.params() as u64,
        folder: job.folder(),
        epochs: curve.points.last().map_or(0.0, |point| point.epoch),
        best_epoch: curve.best,
        stopped_early: why == Finish::Patience,
        curve: curve.points,
        train: train.map(|(loss, _)| loss),
        validation,
        test: test.map(|(loss, _)| loss),
        slices: None,
        classes,
        chars_per_second: trainer.state.cursor.predicted as f64 / seconds.max(1e-9),
        seconds,
        threads: trainer.config.training.threads,
    };
    trial::store(&context.folder.out, job, &trial).map(Some)
}

/// The losses of a part where there is one; the outer None where the study was asked to stop.
#[allow(clippy::type_complexity)]
fn evaluate(
    engine: &mut dyn Engine,
    part: Option<&Part>,
    classes: bool,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Option<(PartLoss, Vec<ClassLoss>)>>, StudyError> {
    match part {
        None => Ok(Some(None)),
        Some(part) => Ok(losses::of_part(engine, part, classes, stop)?.map(Some)),
    }
}

/// What may differ between two sessions of a trial is taken over; a run of anything else is refused.
fn adjust(folder: &Path, stored: &mut RunConfig, asked: &RunConfig) -> Result<(), TrainError> {
    let same = {
        let (has, wants) = (&stored.training, &asked.training);
        let mut wants = wants.clone();
        // These change no result, or are completed when the run begins.
        wants.threads = has.threads;
        wants.device = has.device.clone();
        wants.save_every = has.save_every;
        wants.chosen_kernels = has.chosen_kernels;
        let shape = |config: &RunConfig| (config.model.cell, config.model.hidden, config.model.layers);
        *has == wants && shape(stored) == shape(asked)
    };
    if !same {
        return Err(TrainError::Run {
            path: folder.into(),
            problem: "the run in this folder is not this trial's (its config.toml says otherwise); move the folder away, the trial is then trained anew".into(),
        });
    }
    stored.training.threads = asked.training.threads;
    stored.training.device = asked.training.device.clone();
    // The study may have been moved.
    stored.data.train = asked.data.train.clone();
    stored.data.val = asked.data.val.clone();
    stored.data.test = asked.data.test.clone();
    Ok(())
}

struct LossCurve {
    points: Vec<CurvePoint>,
    /// Epoch of the best weights.
    best: f64,
}

/// The validations of a run, from its metrics.
fn curve(folder: &Path) -> Result<LossCurve, StudyError> {
    let path = folder.join(METRICS);
    let text = fs::read_to_string(&path).map_err(|source| super::folder::io_error("read", &path, source))?;
    let mut curve = LossCurve { points: Vec::new(), best: 0.0 };
    for (number, line) in (1..).zip(text.lines()) {
        let event: Value = serde_json::from_str(line).map_err(|error| StudyError::Damaged {
            path: path.clone(),
            problem: format!(
                "line {number} is no JSON ({error}); move the trial's folder away, it is then trained anew"
            ),
        })?;
        if event["event"] != "validation" {
            continue;
        }
        let epoch = event["epoch"].as_f64().unwrap_or(0.0);
        if event["best"] == true {
            curve.best = epoch;
        }
        curve.points.push(CurvePoint {
            epoch,
            train: event["train_nats_per_char"].as_f64(),
            validation: event["nats_per_char"].as_f64(),
        });
    }
    Ok(curve)
}
