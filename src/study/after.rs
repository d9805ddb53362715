//! What comes after a study's trials: tunes of its best model, its neurons, tables, plots, the discussion, the page.
//! Everything here is made anew from the trials' results and weights each time; nothing is trained.

use std::fs;
use std::path::{Path, PathBuf};

use super::results::{RESULTS, Results};
use super::trial::Job;
use super::tunes::{Made, SetOptions, make_sets};
use super::{StudyError, discussion, folder::Texts, names, page, plots, results::Protocol, tables};
use crate::engine::{self, Device, Engine, EngineSpec, Precision};
use crate::files::write_atomic;
use crate::measures::Reference;
use crate::model::{self, ModelFile};
use crate::neurons::draw::{self, Neuron};
use crate::neurons::{self, Ranking};
use crate::sound::SoundFont;
use crate::viz::page::data::{NeuronPage, PageData};
use crate::viz::page::{RenderOptions, neurons as browser, render};
use crate::viz::svg::png;

/// File name of the page.
pub const PAGE: &str = "report.html";

/// Folder of the plots in a study's folder.
const PLOTS: &str = "plots";

/// Folder of the neurons' pictures and numbers.
const NEURONS: &str = "neurons";

/// The most bytes of activations in a page: with everything else it stays under ten million.
pub const ACTIVATIONS: usize = 9_000_000;

/// Seed of the ranking's shuffles.
const RANKING_SEED: u64 = 1;

/// Held-out tunes of so many characters are shown to the neurons: long enough to see a form, short enough for a page.
const SHOWN_CHARS: std::ops::RangeInclusive<usize> = 180..=600;

/// How the later parts are made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where the best model runs.
    pub device: Device,
    /// Threads; 0 = one a core.
    pub threads: usize,
    /// Tunes at each temperature.
    pub tunes: usize,
    /// What sound is made with; None: no sound.
    pub font: Option<SoundFont>,
    /// Source text of abcjs to put into the page.
    pub abcjs: Option<String>,
}

/// A text that neurons are shown over: title, origin, text.
pub type Shown = (String, String, String);

/// Makes all of it in the study's folder `out` and completes `results`, telling its steps on standard error; notes that the
/// user should read. None where
/// `stop` said so: what was there before is still there, or has been replaced file by file.
pub fn make(
    results: &mut Results,
    texts: &Texts,
    out: &Path,
    options: &Options,
    stop: &mut dyn FnMut() -> bool,
) -> Result<Option<Vec<String>>, StudyError> {
    let mut notes = Vec::new();
    let mut page = PageData::default();
    match results.best {
        None => notes.push(
            "no tunes and no neurons: no trial of the contract's protocol is done, and only its models write tunes".into(),
        ),
        Some((variant, seed)) => {
            let job = Job { protocol: Protocol::Contract, variant, seed };
            let name = format!("{}, seed {seed}", names::full(&variant));
            let (mut engine, model) = open(&model::locate(Some(&out.join(job.folder())))?, options)?;
            eprintln!("tunes of the best model ({name}) at temperatures from 0.3 to 2");
            let held_out: Vec<String> = texts.held_out.iter().map(|(_, text)| text.clone()).collect();
            let reference = Reference::new(&texts.train, &held_out);
            let sets = SetOptions { tunes: options.tunes, font: options.font.clone(), ..SetOptions::new(out) };
            let Some(made) = make_sets(engine.as_mut(), &model.vocab, &reference, &sets, stop)? else {
                return Ok(None);
            };
            eprintln!("neurons of the best model: which tell what apart");
            let find: Vec<String> = texts.train.iter().map(|(_, text)| text.clone()).collect();
            let shown = shown(&texts.held_out, &made);
            let (ranking, browser) = look(engine.as_mut(), &model, &name, &find, &held_out, &shown)?;
            notes.extend(made.notes.iter().chain(&ranking.notes).cloned());
            pictures(engine.as_mut(), &model, &name, &ranking, &shown, &out.join(NEURONS))?;
            results.neurons = browser.chosen.iter().map(|&i| browser.ranking[i].clone()).collect();
            results.neurons.extend(
                (0..).zip(&browser.ranking).filter(|(i, _)| !browser.chosen.contains(i)).map(|(_, score)| score.clone()),
            );
            results.tune_sets = made.sets;
            page.tunes = made.pages;
            page.neurons = Some(browser);
        }
    }
    if stop() {
        return Ok(None);
    }
    eprintln!("tables, plots, discussion, page");
    let json = serde_json::to_vec_pretty(results).map_err(|error| drawing(RESULTS, error.to_string()))?;
    write_atomic(&out.join(RESULTS), &json)?;
    write_atomic(&out.join("results.csv"), tables::csv(results).as_bytes())?;
    write_atomic(&out.join("tables.md"), tables::markdown(results).as_bytes())?;
    write_atomic(&out.join("discussion.md"), discussion::markdown(results).as_bytes())?;
    let folder = emptied(&out.join(PLOTS), &["curves-", "loss-", "temperature.", "classes."])?;
    for (name, svg) in plots::all(results) {
        write_picture(&folder, &name, &svg)?;
    }
    page.title = title(results);
    page.facts = facts(results);
    page.discussion = discussion::write(results);
    page.experiments = page::experiment_pages(results);
    page.ngrams = results.ngrams.clone();
    page.tune_sets = results.tune_sets.clone();
    let html = render(&page, &RenderOptions { abcjs: options.abcjs.clone() });
    write_atomic(&out.join(PAGE), html.as_bytes())?;
    Ok(Some(notes))
}

/// The model in a file, on an engine.
pub fn open(path: &Path, options: &Options) -> Result<(Box<dyn Engine>, ModelFile), StudyError> {
    let model = ModelFile::load(path)?;
    let spec = EngineSpec {
        device: options.device,
        ..EngineSpec::cpu(model.shape, Precision::F32, options.threads)
    };
    let mut engine = engine::build(&spec)?;
    engine.load_params(&model.params)?;
    Ok((engine, model))
}

/// Ranks neurons and records what they do over the shown texts.
pub fn look(
    engine: &mut dyn Engine,
    model: &ModelFile,
    name: &str,
    find: &[String],
    held_out: &[String],
    shown: &[Shown],
) -> Result<(Ranking, NeuronPage), StudyError> {
    let ranking = neurons::rank(engine, &model.vocab, find, held_out, RANKING_SEED)?;
    let page = browser::page(engine, &model.vocab, name.to_string(), shown, &ranking, ACTIVATIONS)?;
    Ok((ranking, page))
}

/// Two held-out tunes and two of the model's own.
fn shown(held_out: &[(String, String)], made: &Made) -> Vec<Shown> {
    let fits = |text: &str| SHOWN_CHARS.contains(&text.chars().count());
    let mut shown: Vec<Shown> = (1..)
        .zip(held_out)
        .filter(|(_, (_, text))| fits(text))
        .take(2)
        .map(|(number, (name, text))| (name.clone(), format!("held-out tune {number}"), text.clone()))
        .collect();
    let own = made.pages.iter().map(|tune| {
        let text = if tune.written.is_empty() { &tune.abc } else { &tune.written };
        (tune.title.clone(), tune.origin.clone(), text.clone())
    });
    let own: Vec<Shown> = own.collect();
    let fitting = own.iter().filter(|(_, _, text)| fits(text));
    let others = own.iter().filter(|(_, _, text)| !fits(text));
    shown.extend(fitting.chain(others).take(2).cloned());
    shown
}

/// The chosen neurons over the shown texts, as pictures and numbers, and the whole ranking.
fn pictures(
    engine: &mut dyn Engine,
    model: &ModelFile,
    name: &str,
    ranking: &Ranking,
    shown: &[Shown],
    folder: &Path,
) -> Result<(), StudyError> {
    let folder = emptied(folder, &["tune", "ranking.csv"])?;
    let csv = draw::ranking_csv(&ranking.scores, &ranking.chosen);
    write_atomic(&folder.join("ranking.csv"), csv.as_bytes())?;
    let chosen: Vec<Neuron> =
        ranking.chosen.iter().filter_map(|&i| ranking.scores.get(i)).map(Neuron::of).collect();
    for (number, (_, origin, text)) in (1..).zip(shown) {
        let drawn = draw::draw(engine, &model.vocab, name, text, origin, &chosen)?;
        for picture in &drawn.pictures {
            write_picture(&folder, &format!("tune{number}-{}", picture.name), &picture.svg)?;
        }
        write_atomic(&folder.join(format!("tune{number}-activations.csv")), drawn.csv.as_bytes())?;
    }
    Ok(())
}

fn write_picture(folder: &Path, name: &str, svg: &str) -> Result<(), StudyError> {
    let pixels = png(svg).map_err(|problem| drawing(name, problem))?;
    write_atomic(&folder.join(format!("{name}.svg")), svg.as_bytes())?;
    Ok(write_atomic(&folder.join(format!("{name}.png")), &pixels)?)
}

fn drawing(what: &str, problem: String) -> StudyError {
    StudyError::Drawing { what: what.into(), problem }
}

/// A folder without the pictures and tables of an earlier time: those whose names begin as ours do. What else lies in it
/// is left alone.
fn emptied(folder: &Path, begin: &[&str]) -> Result<PathBuf, StudyError> {
    let failed = |action| move |source| super::folder::io_error(action, folder, source);
    fs::create_dir_all(folder).map_err(failed("make the folder"))?;
    for entry in fs::read_dir(folder).map_err(failed("read the folder"))?.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = [".svg", ".png", ".csv"].iter().any(|kind| name.ends_with(kind));
        if kind && begin.iter().any(|begin| name.starts_with(begin)) && path.is_file() {
            fs::remove_file(&path).map_err(failed("clear the folder"))?;
        }
    }
    Ok(folder.to_path_buf())
}

fn title(results: &Results) -> String {
    let data = &results.data.train_names;
    let name = match data.as_slice() {
        [] => "the built-in tunebook".to_string(),
        [one] => one.clone(),
        [one, others @ ..] => format!("{one} and {} more", others.len()),
    };
    format!("Character-level recurrent nets on {name}")
}

fn facts(results: &Results) -> Vec<String> {
    let data = &results.data;
    let part = |what: &str, tunes: u64, chars: u64| {
        (tunes > 0).then(|| {
            format!("{} tunes, {} characters for {what}", tables::thousands(tunes), tables::thousands(chars))
        })
    };
    let parts: Vec<String> = [
        part("training", data.train_tunes, data.train_chars),
        part("validation", data.val_tunes, data.val_chars),
        part("testing", data.test_tunes, data.test_chars),
    ]
    .into_iter()
    .flatten()
    .collect();
    let commit = results.commit.as_ref().map_or(String::new(), |commit| format!(", commit {commit}"));
    let quick = if results.quick { " A quick study: fewer epochs and seeds than the full one." } else { "" };
    vec![
        format!("{}; vocabulary of {}.", parts.join("; "), data.vocab),
        format!(
            "{} trials on {}; {}, {}.{quick}",
            results.trials.len(),
            results.machine,
            results.settings.engine,
            results.settings.precision
        ),
        format!("songrnn-fast {}{commit}, {}.", results.version, results.date),
    ]
}
