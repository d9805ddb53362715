//! From trials to [`Results`]: what was read, how it was trained, what counting achieves, which model is best.

use std::path::PathBuf;

use super::folder::StudyData;
use super::ngrams;
use super::results::{DataFacts, Protocol, Results, Settings, Trial, Variant};
use super::schedule::Context;
use super::songs::Songs;
use crate::abc;
use crate::bench::provenance::Provenance;
use crate::engine::EngineSpec;
use crate::machine;
use crate::model::ModelShape;
use crate::train::data::TrainData;
use crate::train::evaluate::Part;

/// The results of the trials that are done.
pub fn results(context: &Context<'_>, songs: Option<&Songs>, trials: Vec<Trial>) -> Results {
    let (grid, data) = (context.grid, &context.folder.data);
    let here = Provenance::here(None);
    let (engine, device) = engine(context);
    let mut tables = Vec::new();
    if grid.protocols.contains(&Protocol::Contract) {
        tables.extend(ngrams::of_contract(data));
    }
    if let Some(songs) = songs {
        tables.extend(ngrams::of_assignment(songs));
    }
    Results {
        version: env!("CARGO_PKG_VERSION").into(),
        commit: Some(here.commit).filter(|commit| !commit.is_empty()),
        date: here.date,
        machine: device.unwrap_or_else(processor),
        data: facts(&context.folder.asked, data),
        settings: Settings {
            batch: grid.batch,
            seq_len: grid.seq_len,
            epochs: grid.epochs,
            patience: grid.patience(),
            lr: grid.lr,
            precision: grid.precision.to_string(),
            engine,
            assignment_epochs: grid.assignment_epochs,
        },
        seeds: grid.seeds.clone(),
        quick: grid.quick,
        experiments: grid.experiments(),
        best: best(&trials),
        trials,
        ngrams: tables,
        tune_sets: Vec::new(),
        neurons: Vec::new(),
    }
}

/// The engine as it calls itself, without its threads, and the GPU where it is on one. Where none can be made any more,
/// the numbers of trials that are done are worth telling all the same.
fn engine(context: &Context<'_>) -> (String, Option<String>) {
    let shape = ModelShape {
        cell: context.grid.baseline.cell,
        vocab: context.folder.data.vocab.len(),
        hidden: 8,
        layers: 1,
    };
    let spec = EngineSpec { device: context.device, ..EngineSpec::cpu(shape, context.grid.precision, 1) };
    let info = match (context.build)(&spec) {
        Ok(engine) => engine.info(),
        Err(error) => return (format!("none now: {error}"), None),
    };
    let detail = info.detail.split(", ").next().unwrap_or_default();
    let gpu = (info.device.name != "cpu").then_some(info.device.name);
    (format!("{} ({detail})", info.name), gpu)
}

fn processor() -> String {
    let model = machine::cpu_model(&machine::cpuinfo()).unwrap_or_else(|| "unknown processor".into());
    format!("{model}, {} threads", machine::threads())
}

fn facts(asked: &StudyData, data: &TrainData) -> DataFacts {
    let names = |paths: &[PathBuf]| {
        let name =
            |path: &PathBuf| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        paths.iter().map(name).collect()
    };
    let tunes = |part: &Option<Part>| part.as_ref().map_or(0, |part| part.tunes.len() as u64);
    let chars = |part: &Option<Part>| part.as_ref().map_or(0, Part::predictions);
    DataFacts {
        train_names: names(&asked.train),
        val_names: names(&asked.val),
        test_names: names(&asked.test),
        train_tunes: data.train.tunes.len() as u64,
        train_chars: data.train.predictions(),
        val_tunes: tunes(&data.val),
        val_chars: chars(&data.val),
        test_tunes: tunes(&data.test),
        test_chars: chars(&data.test),
        vocab: data.vocab.len(),
        header_share: data.val.as_ref().map_or(0.0, header_share),
    }
}

/// Share of a part's predicted tokens that stand before their tune's body.
fn header_share(part: &Part) -> f64 {
    let header = |&tune: &u32| {
        let tokens = part.pack.token_count(tune as usize).saturating_sub(1);
        abc::body_start(&part.pack.text(tune as usize)).unwrap_or(tokens) as f64
    };
    part.tunes.iter().map(header).sum::<f64>() / part.predictions().max(1) as f64
}

/// The variant of the lowest mean score over the seeds that there are, and the seed of its lowest score. Of the
/// contract's protocol: its models are the ones that write tunes.
pub fn best(trials: &[Trial]) -> Option<(Variant, u64)> {
    let scored: Vec<(&Trial, f64)> = trials
        .iter()
        .filter(|trial| trial.protocol == Protocol::Contract)
        .filter_map(|trial| Some((trial, trial.score()?)))
        .collect();
    let mean = |variant: &Variant| {
        let of = || scored.iter().filter(|(trial, _)| trial.variant == *variant).map(|(_, score)| score);
        of().sum::<f64>() / of().count().max(1) as f64
    };
    let lowest = scored.iter().min_by(|(a, x), (b, y)| {
        (mean(&a.variant), *x).partial_cmp(&(mean(&b.variant), *y)).unwrap_or(std::cmp::Ordering::Equal)
    });
    lowest.map(|(trial, _)| (trial.variant, trial.seed))
}
