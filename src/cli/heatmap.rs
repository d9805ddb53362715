//! `songrnn-fast heatmap`: what neurons do at every character of a tune, as pictures and numbers.

mod folder;
mod select;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use clap::Args;

use self::select::Selection;
use super::{Outcome, UsageError};
use crate::engine::{self, Engine, EngineError, EngineSpec, Kernel, Precision};
use crate::model::{self, ModelFile};
use crate::neurons::draw::{self, What};
use crate::neurons::{Kind, Ranking, RankingTunes, rank_kinds};
use crate::sample::{self, Choice, SampleError, SampleOptions, prime};
use crate::study::results::NeuronScore;
use crate::train::data::open_all;
use crate::viz::svg;

/// File of the numbers.
const ACTIVATIONS: &str = "activations.csv";
/// File of the ranking.
const RANKING: &str = "ranking.csv";
/// The most pictures of neurons at once.
const MOST: usize = 64;

/// What is drawn of a neuron.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shown {
    /// Output, the hidden state
    H,
    /// Cell state of an LSTM, as tanh(c)
    C,
    /// Every gate: i, f, g, o of an LSTM, r, z, n of a GRU
    Gates,
}

/// Draw what neurons do at every character of a tune: SVG, PNG and CSV
///
/// By itself it finds the neurons that best tell built-in labels apart (header, bar line, chord symbol, ...), scored on
/// tunes they were not found with, beside shuffled labels. Layers and units are counted from 1. See docs/heatmap.md.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  songrnn-fast heatmap                                  a tune that the newest run writes
  songrnn-fast heatmap tunes.abc --tune 7 --top 5       tune 7 of a file
  songrnn-fast heatmap tunes.abc --neurons 1:38,2:5 --what gates --format svg")]
pub struct HeatmapArgs {
    /// Files or folders of .abc and .txt tunes, or one packed corpus; none: a tune that the model writes
    pub data: Vec<PathBuf>,
    /// A run folder (its best model is taken) or a model file; without it, the newest run under runs/
    #[arg(long, value_name = "RUN|FILE")]
    pub model: Option<PathBuf>,
    /// Which tune of DATA, counted from 1 [default: 1]
    #[arg(long, value_name = "N", requires = "data", allow_negative_numbers = true)]
    pub tune: Option<usize>,
    /// Seed of the tune that the model writes, and of the shuffled labels
    #[arg(long, value_name = "SEED", default_value_t = 1, allow_negative_numbers = true)]
    pub seed: u64,
    /// How daring the model writes, as in `sample` [default: 0.8]
    #[arg(long, value_name = "T", conflicts_with = "data", allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// The beginning of the tune that the model writes, as in `sample`
    #[arg(long, value_name = "TEXT|@FILE", conflicts_with = "data", allow_hyphen_values = true)]
    pub prime: Option<String>,
    /// auto: those that best tell labels apart; or a list, each LAYER:UNIT counted from 1, as in 1:38,2:5
    #[arg(long, value_name = "LIST", default_value = "auto")]
    pub neurons: Selection,
    /// How many neurons auto draws [default: 3]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub top: Option<usize>,
    /// What of a neuron [default: h; for auto whichever of h and c tells the label apart better]
    #[arg(long)]
    pub what: Option<Shown>,
    /// Folder for the files; without it, a new one: heatmaps/MODEL
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// What to write: svg and png (a picture a neuron), csv (the activations)
    #[arg(long, value_name = "LIST", default_value = "png,svg,csv")]
    pub format: Formats,
    /// auto, cpu or cuda[:N] [default: auto]
    #[arg(long)]
    pub device: Option<String>,
    /// Threads; 0 = one a core
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub threads: usize,
}

/// Which files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats {
    png: bool,
    svg: bool,
    csv: bool,
}

impl FromStr for Formats {
    type Err = String;

    fn from_str(list: &str) -> Result<Formats, String> {
        let mut formats = Formats { png: false, svg: false, csv: false };
        for name in list.split(',').map(str::trim) {
            match name.to_ascii_lowercase().as_str() {
                "png" => formats.png = true,
                "svg" => formats.svg = true,
                "csv" => formats.csv = true,
                _ => {
                    return Err(format!(
                        "{name:?} is no format; expected png, svg, csv or several, as in svg,csv"
                    ));
                }
            }
        }
        Ok(formats)
    }
}

/// A text and which one it is.
struct Text {
    text: String,
    origin: String,
}

/// Runs the command.
pub fn run(args: &HeatmapArgs) -> anyhow::Result<Outcome> {
    check(args)?;
    let device = super::train::device(args.device.as_deref(), Kernel::Auto).map_err(UsageError)?;
    let path = model::locate(args.model.as_deref())?;
    let model = ModelFile::load(&path)?;
    args.neurons.check(&model.shape).map_err(UsageError)?;
    select::check_cell(args.what, model.shape.cell).map_err(UsageError)?;
    let given = match args.data.as_slice() {
        [] => None,
        data => Some(tune_of(data, args.tune.unwrap_or(1))?),
    };
    let spec = EngineSpec { device, ..EngineSpec::cpu(model.shape, Precision::F32, args.threads) };
    let mut engine = engine::build(&spec)?;
    engine.load_params(&model.params)?;
    eprintln!("{}: {}; {} engine, {}", path.display(), model.shape, engine.info().name, engine.info().detail);
    if let Some(note) = engine.info().note {
        eprintln!("{note}");
    }
    let text = match given {
        Some(text) => text,
        None => generate(args, engine.as_mut(), &model)?,
    };
    let unknown = crate::neurons::tapped::encode(&model.vocab, &text.text).1;
    if unknown > 0 {
        eprintln!("{unknown} characters that the model does not know are read as <unk>");
    }

    let threads = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build();
    let threads = threads.context("cannot start threads; try --threads 1")?;
    let ranking = match args.neurons {
        Selection::Auto => Some(threads.install(|| ranked(args, &path, engine.as_mut(), &model))?),
        Selection::List(_) => None,
    };
    let neurons = args.neurons.neurons(args.what, args.top.unwrap_or(3), ranking.as_ref());
    let name = format!(
        "{} {}x{}",
        model.shape.cell.to_string().to_uppercase(),
        model.shape.layers,
        model.shape.hidden
    );
    let drawn = draw::draw(engine.as_mut(), &model.vocab, &name, &text.text, &text.origin, &neurons)?;
    if drawn.chars < text.text.chars().count() {
        eprintln!("the text is long: its first {} characters are read", drawn.chars);
    }

    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for picture in &drawn.pictures {
        if args.format.png {
            let png = svg::png(&picture.svg).map_err(anyhow::Error::msg)?;
            files.insert(format!("{}.png", picture.name), png);
        }
        if args.format.svg {
            files.insert(format!("{}.svg", picture.name), picture.svg.clone().into_bytes());
        }
    }
    if args.format.csv && !drawn.pictures.is_empty() {
        files.insert(ACTIVATIONS.into(), drawn.csv.into_bytes());
    }
    if let Some(ranking) = &ranking {
        files.insert(RANKING.into(), draw::ranking_csv(&ranking.scores, &ranking.chosen).into_bytes());
    }
    let folder = folder::write(args.out.as_deref(), &path, &files)?;

    let mut out = std::io::stdout().lock();
    let scores: Vec<&NeuronScore> = neurons.iter().filter_map(|neuron| neuron.score.as_ref()).collect();
    if !scores.is_empty() {
        write!(out, "{}", select::table(&scores))?;
    }
    if let Some(ranking) = &ranking {
        for note in &ranking.notes {
            writeln!(out, "note: {note}")?;
        }
    }
    writeln!(out, "{}: {}", folder.display(), folder::tell(&files))?;
    // Asked for neurons and there are none to show: the answer is "no".
    Ok(if neurons.is_empty() { Outcome::Failed } else { Outcome::Done })
}

/// What can be wrong in what was typed.
fn check(args: &HeatmapArgs) -> anyhow::Result<()> {
    let usage = |message: String| Err(UsageError(message).into());
    if args.tune == Some(0) {
        return usage("--tune 0: tunes are counted from 1".into());
    }
    if args.threads > 1024 {
        return usage(format!("--threads {}: expected 0 (one a core) to 1024", args.threads));
    }
    match (&args.neurons, args.top) {
        (Selection::List(_), Some(_)) => {
            return usage("--top is for --neurons auto; leave it or the list out".into());
        }
        (_, Some(top)) if top == 0 || top > MOST => {
            return usage(format!("--top {top}: expected 1 to {MOST}"));
        }
        (Selection::List(list), _) if list.len() > MOST => {
            return usage(format!("--neurons lists {} neurons, expected at most {MOST}", list.len()));
        }
        _ => {}
    }
    if let Some(folder) = &args.out {
        if folder.exists() && !folder.is_dir() {
            return usage(format!("--out {}: a folder is expected, this is a file", folder.display()));
        }
        // The pictures' names are known after the ranking; these before.
        let known = [(args.format.csv, ACTIVATIONS), (args.neurons == Selection::Auto, RANKING)];
        for (_, name) in known.iter().filter(|(written, _)| *written) {
            folder::refuse_existing(&folder.join(name))?;
        }
    }
    choice(args).check().map_err(UsageError)?;
    Ok(())
}

fn choice(args: &HeatmapArgs) -> Choice {
    Choice { temperature: args.temperature.unwrap_or(0.8), ..Choice::default() }
}

/// Tune `number` of DATA.
fn tune_of(data: &[PathBuf], number: usize) -> anyhow::Result<Text> {
    let pack = open_all(data)?;
    if number > pack.tunes() {
        return Err(UsageError(format!("--tune {number}: DATA has {} tunes", pack.tunes())).into());
    }
    let text = pack.text(number - 1);
    let name = data.first().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    let more = if data.len() > 1 { " and others" } else { "" };
    Ok(Text { text, origin: format!("tune {number} of {}{more}", name.unwrap_or("DATA".into())) })
}

/// A tune that the model writes.
fn generate(args: &HeatmapArgs, engine: &mut dyn Engine, model: &ModelFile) -> anyhow::Result<Text> {
    let prime = prime::resolve(args.prime.as_deref().unwrap_or(""))?;
    let options = SampleOptions { seed: args.seed, choice: choice(args), prime, ..SampleOptions::default() };
    let tunes = sample::tunes(engine, &model.vocab, &options).map_err(|error| match error {
        SampleError::Prime(error) => UsageError(error.to_string()).into(),
        SampleError::Engine(EngineError::Unsupported(message)) => UsageError(message).into(),
        SampleError::Engine(error) => anyhow::Error::from(error),
    })?;
    let text = tunes.into_iter().next().map(|tune| tune.text).unwrap_or_default();
    let origin =
        format!("a tune of its own (seed {}, temperature {})", args.seed, args.temperature.unwrap_or(0.8));
    Ok(Text { text, origin })
}

/// Ranks neurons on the run's own tunes, else on DATA, else on the built-in tunebook.
fn ranked(
    args: &HeatmapArgs,
    path: &Path,
    engine: &mut dyn Engine,
    model: &ModelFile,
) -> anyhow::Result<Ranking> {
    let tunes = match RankingTunes::of_run(path) {
        Ok(tunes) => tunes,
        Err(why) => {
            let tunes = match args.data.as_slice() {
                [] => RankingTunes::built_in(),
                data => RankingTunes::of_pack(&open_all(data)?, "DATA".into()),
            };
            eprintln!("not ranked on a run's own tunes: {why}");
            tunes
        }
    };
    let kinds = match args.what {
        Some(Shown::H) => &[Kind::H][..],
        Some(Shown::C) => &[Kind::C],
        _ => Kind::of(model.shape.cell),
    };
    let ranking = rank_kinds(engine, &model.vocab, &tunes.find, &tunes.held_out, args.seed, kinds)?;
    eprintln!(
        "neurons ranked on {}: found with {} characters, scored on {} held-out ones",
        tunes.origin, ranking.find_chars, ranking.held_out_chars
    );
    Ok(ranking)
}

impl Shown {
    fn what(self) -> What {
        match self {
            Shown::H => What::One(Kind::H),
            Shown::C => What::One(Kind::C),
            Shown::Gates => What::Gates,
        }
    }
}
