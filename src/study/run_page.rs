//! The page of a single run: its loss curve, tunes that its best weights write, its neurons.

use std::fs;
use std::path::Path;

use super::after::{self, Options, Shown};
use super::results::{NgramTable, Protocol};
use super::{StudyError, contract, folder::io_error, names, results::Variant, tables};
use crate::config::{CONFIG, RunConfig};
use crate::measures::{Reference, name_of};
use crate::neurons::tunes::RankingTunes;
use crate::sample::{self, SampleOptions};
use crate::train::evaluate::bits;
use crate::train::metrics::METRICS;
use crate::viz::page::data::{Curve, ExperimentPage, PageData, Table};
use crate::viz::page::tunes::tune_page;
use crate::viz::page::{RenderOptions, render};

/// Temperature of the tunes.
const TEMPERATURE: f32 = 0.8;

/// The page of the run in `folder`, and notes that the user should read.
pub fn make(folder: &Path, options: &Options) -> Result<(String, Vec<String>), StudyError> {
    let path = folder.join(CONFIG);
    let text = fs::read_to_string(&path).map_err(|source| io_error("read", &path, source))?;
    let config = RunConfig::from_toml(&text).map_err(|problem| StudyError::Damaged {
        path,
        problem: format!("damaged, or of another version: {}", problem.trim()),
    })?;
    let weights = crate::model::locate(Some(folder))?;
    let (mut engine, model) = after::open(&weights, options)?;
    let variant = Variant {
        cell: config.model.cell,
        hidden: config.model.hidden,
        layers: config.model.layers,
        dropout: config.training.dropout,
    };
    let name = format!("{}, seed {}", names::full(&variant), config.training.seed);
    let mut notes = Vec::new();
    let tunes = RankingTunes::of_run(&weights).unwrap_or_else(|why| {
        notes.push(format!("neurons are ranked, and copies looked for, on the built-in tunebook: {why}"));
        RankingTunes::built_in()
    });
    let named: Vec<(String, String)> =
        (1..).zip(&tunes.find).map(|(number, text)| (name_of(text, number), text.clone())).collect();
    let reference = Reference::new(&named, &tunes.held_out);
    notes.extend(reference.notes().iter().cloned());
    let asked = SampleOptions {
        tunes: options.tunes,
        choice: sample::Choice { temperature: TEMPERATURE, ..Default::default() },
        ..SampleOptions::default()
    };
    let written =
        sample::tunes(engine.as_mut(), &model.vocab, &asked).map_err(super::tunes::SetError::from)?;
    let pages: Vec<_> = (1..)
        .zip(&written)
        .map(|(number, tune)| {
            let origin = format!("temperature {TEMPERATURE}, tune {number}");
            tune_page(&tune.text, tune.closed, number, &origin, Some(&reference))
        })
        .collect();
    let mut shown: Vec<Shown> = (1..)
        .zip(&tunes.held_out)
        .take(2)
        .map(|(number, text)| {
            (
                crate::abc::parse_tune(text).title().to_string(),
                format!("held-out tune {number}"),
                text.clone(),
            )
        })
        .collect();
    shown.extend(
        pages
            .iter()
            .zip(&written)
            .take(2)
            .map(|(page, tune)| (page.title.clone(), page.origin.clone(), tune.text.clone())),
    );
    let (ranking, neurons) =
        after::look(engine.as_mut(), &model, &name, &tunes.find, &tunes.held_out, &shown)?;
    notes.extend(ranking.notes);
    let page = PageData {
        title: format!("{} ({})", names::full(&variant), folder_name(folder)),
        facts: vec![
            format!(
                "{} parameters, vocabulary {}, seed {}; batch {}, {} characters a chunk, learning rate {}, {}.",
                tables::thousands(config.model.params() as u64),
                config.model.vocab,
                config.training.seed,
                config.training.batch.unwrap_or(0),
                config.training.seq_len,
                config.training.lr,
                config.training.precision,
            ),
            format!("songrnn-fast {}.", config.version),
        ],
        experiments: training(folder, &name, config.training.seed)?.into_iter().collect(),
        tunes: pages,
        neurons: Some(neurons),
        ..PageData::default()
    };
    Ok((render(&page, &RenderOptions { abcjs: options.abcjs.clone() }), notes))
}

fn folder_name(folder: &Path) -> String {
    let whole = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf());
    whole.file_name().map_or("run".into(), |name| name.to_string_lossy().into_owned())
}

/// The loss curve and its lowest points; None before the first validation.
fn training(folder: &Path, name: &str, seed: u64) -> Result<Option<ExperimentPage>, StudyError> {
    let curve = contract::curve(folder)?;
    if curve.points.is_empty() {
        return Ok(None);
    }
    let path = folder.join(METRICS);
    let text = fs::read_to_string(&path).map_err(|source| io_error("read", &path, source))?;
    let event = |name: &str| {
        let mut events =
            text.lines().rev().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        events.find(|event| event["event"] == name)
    };
    let ngram = event("ngram").and_then(|event| {
        let nats = event["nats_per_char"].as_array()?.iter().filter_map(serde_json::Value::as_f64).collect();
        NgramTable { protocol: Protocol::Contract, of: "validation".into(), nats, body_nats: None }.best()
    });
    let lowest = |of: fn(&super::results::CurvePoint) -> Option<f64>| {
        curve.points.iter().filter_map(|p| Some((p.epoch, of(p)?))).min_by(|a, b| a.1.total_cmp(&b.1))
    };
    let mut rows = Vec::new();
    let mut row = |what: &str, nats: f64, at: String| {
        rows.push(vec![what.to_string(), format!("{nats:.4}"), format!("{:.4}", bits(nats)), at]);
    };
    if let Some((epoch, nats)) = lowest(|p| p.train) {
        row("lowest training loss, dropout on, weights moving", nats, format!("{epoch:.1}"));
    }
    if let Some((epoch, nats)) = lowest(|p| p.validation) {
        row("lowest validation loss", nats, format!("{epoch:.1}"));
    }
    if let Some(nats) = event("test").and_then(|event| event["nats_per_char"].as_f64()) {
        row("test loss of the best weights", nats, String::new());
    }
    if let Some((order, nats)) = ngram {
        row(&format!("{order}-gram, no network, on validation"), nats, String::new());
    }
    Ok(Some(ExperimentPage {
        title: "Training".into(),
        caption:
            "Mean cross-entropy a predicted character; validation: every tune from a zero state, no dropout."
                .into(),
        curves: vec![Curve {
            name: name.into(),
            seed,
            epoch: curve.points.iter().map(|p| p.epoch).collect(),
            train: curve.points.iter().map(|p| p.train).collect(),
            validation: curve.points.iter().map(|p| p.validation).collect(),
        }],
        table: Table {
            columns: ["loss", "nats", "bits", "epoch"].map(String::from).to_vec(),
            rows,
            note: String::new(),
        },
        lines: ngram.map(|(order, nats)| (format!("{order}-gram, no network"), nats)).into_iter().collect(),
    }))
}
