//! `songrnn-fast study`: the paper's experiments, or a grid of one's own, from training to the report.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::{Outcome, UsageError};
use crate::engine::{Kernel, Precision};
use crate::machine::Others;
use crate::sound::SoundFont;
use crate::study::after::{self, Options};
use crate::study::folder::StudyData;
use crate::study::grid::Grid;
use crate::study::results::{Protocol, Results};
use crate::study::{StudyError, names, schedule, statistics};
use crate::train::interrupt;

/// The most tunes at each temperature.
pub const MAX_TUNES: usize = 1000;

/// Where other programs take a larger share of the processors, speeds are no measurements.
const BUSY: f64 = 0.1;

/// The most bytes of an abcjs build; the real one has half a megabyte.
const MAX_ABCJS: u64 = 8 << 20;

/// Where abcjs lies in an npm install.
const ABCJS: [&str; 3] = [
    "dist/abcjs-basic-min.js",
    "abcjs/dist/abcjs-basic-min.js",
    "node_modules/abcjs/dist/abcjs-basic-min.js",
];

/// What is typed after `study`.
#[derive(Debug, Args)]
pub struct StudyArgs {
    /// Training tunes: files or folders of .abc and .txt, or one packed corpus; without it, the built-in tunebook
    pub data: Vec<PathBuf>,
    /// Validation tunes; without it, 5% of DATA are for validation and 5% for testing
    #[arg(long, value_name = "F", num_args = 1)]
    pub val: Vec<PathBuf>,
    /// Test tunes
    #[arg(long, value_name = "F", num_args = 1)]
    pub test: Vec<PathBuf>,
    /// The study's folder; where it holds the same study, what is done there is not done again
    #[arg(long, value_name = "DIR", default_value = "study")]
    pub out: PathBuf,

    /// Another grid than the paper's, as TOML (docs/study.md)
    #[arg(long, value_name = "FILE", help_heading = "Grid")]
    pub grid: Option<PathBuf>,
    /// Fewer seeds and epochs: every experiment in some minutes
    #[arg(long, help_heading = "Grid")]
    pub quick: bool,
    /// How trials are trained: this program's way, the assignment's (raw characters, 30-character slices, batch 1), or each
    /// both ways [default: both, or the grid's]
    #[arg(long, help_heading = "Grid")]
    pub protocol: Option<ProtocolName>,
    /// Seeds of every variant [default: 1,2,3, or the grid's]
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Grid")]
    pub seeds: Vec<u64>,
    /// The most epochs of this program's way [default: 40, or the grid's]
    #[arg(long, value_name = "N", help_heading = "Grid")]
    pub epochs: Option<u64>,
    /// Number format [default: f32, or the grid's]
    #[arg(long, help_heading = "Grid")]
    pub precision: Option<Precision>,

    /// Tunes sampled at each temperature
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Report")]
    pub tunes: usize,
    /// Make sound files (.wav) of tunes with this SoundFont 2 file
    #[arg(long, value_name = "FILE.sf2", help_heading = "Report")]
    pub soundfont: Option<PathBuf>,
    /// Put abcjs into the report, which engraves scores: its file abcjs-basic-min.js, or a folder into which npm
    /// installed it
    #[arg(long, value_name = "FILE|DIR", help_heading = "Report")]
    pub abcjs: Option<PathBuf>,

    /// auto, cpu or cuda[:N] [default: auto]
    #[arg(long, help_heading = "Machine")]
    pub device: Option<String>,
    /// Cores to use, several trials at once; 0: all; no result depends on it
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Machine")]
    pub threads: usize,
}

/// Protocols as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProtocolName {
    /// Parallel streams, state carried, whole tunes evaluated.
    Contract,
    /// The assignment's.
    Assignment,
    /// One after the other.
    Both,
}

/// Runs `study`.
pub fn run(args: &StudyArgs) -> anyhow::Result<Outcome> {
    let grid = grid(args)?;
    let device = super::train::device(args.device.as_deref(), Kernel::Auto).map_err(UsageError)?;
    let options = Options {
        device,
        threads: args.threads,
        tunes: tunes(args.tunes)?,
        font: args.soundfont.as_deref().map(SoundFont::load).transpose()?,
        abcjs: args.abcjs.as_deref().map(abcjs).transpose()?,
    };
    if let Err(error) = interrupt::install() {
        eprintln!("note: Ctrl-C will not save before it stops ({error})");
    }
    let data = StudyData { train: args.data.clone(), val: args.val.clone(), test: args.test.clone() };
    let others = Others::than(&[]);
    let mut ended =
        schedule::run(&grid, &data, &args.out, args.threads, device, &interrupt::requested).map_err(usage)?;
    let stopped = || {
        eprintln!(
            "stopped; what is done is saved, and the same command with --out {} goes on from there",
            args.out.display()
        );
        Ok(Outcome::Interrupted)
    };
    if ended.interrupted {
        return stopped();
    }
    let busy = others.share().filter(|&share| share > BUSY && ended.reused < ended.results.trials.len());
    if let Some(share) = busy {
        eprintln!(
            "note: other programs took {:.0}% of the processors' time: the trials' characters a second are too low, their losses are not touched",
            100.0 * share
        );
    }
    let texts = ended.folder.texts();
    let results = &mut ended.results;
    let made = on_threads(args.threads, || {
        after::make(results, &texts, &args.out, &options, &mut interrupt::requested)
    })?;
    let made = made.map_err(usage)?;
    let Some(notes) = made else { return stopped() };
    notes.iter().for_each(|note| eprintln!("note: {note}"));
    for failed in &ended.incomplete {
        eprintln!("incomplete: {} failed: {}", failed.job, failed.problem);
    }
    let mut out = std::io::stdout().lock();
    write!(out, "{}", summary(&ended.results, &args.out))?;
    if ended.incomplete.is_empty() {
        return Ok(Outcome::Done);
    }
    writeln!(
        out,
        "the study is incomplete: {} of its trials failed; the same command tries them again",
        ended.incomplete.len()
    )?;
    Ok(Outcome::Failed)
}

/// The grid that is asked for.
fn grid(args: &StudyArgs) -> anyhow::Result<Grid> {
    let mut grid = match &args.grid {
        None => Grid::paper(),
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            Grid::from_toml(&text).map_err(|problem| UsageError(format!("{}: {problem}", path.display())))?
        }
    };
    if args.quick {
        grid = grid.quicken();
    }
    match args.protocol {
        None => {}
        Some(ProtocolName::Contract) => grid.protocols = vec![Protocol::Contract],
        Some(ProtocolName::Assignment) => grid.protocols = vec![Protocol::Assignment],
        Some(ProtocolName::Both) => grid.protocols = vec![Protocol::Contract, Protocol::Assignment],
    }
    if !args.seeds.is_empty() {
        grid.seeds.clone_from(&args.seeds);
        grid.assignment_seeds.clone_from(&args.seeds);
    }
    grid.epochs = args.epochs.unwrap_or(grid.epochs);
    grid.precision = args.precision.unwrap_or(grid.precision);
    grid.check().map_err(UsageError)?;
    Ok(grid)
}

/// Does what is measured and ranked after training on so many threads; 0: one a core.
pub fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    Ok(pool.context("cannot start threads; try --threads 1")?.install(work))
}

/// `--tunes`, checked.
pub fn tunes(tunes: usize) -> anyhow::Result<usize> {
    if tunes == 0 || tunes > MAX_TUNES {
        return Err(UsageError(format!("--tunes {tunes}: expected 1 to {MAX_TUNES}")).into());
    }
    Ok(tunes)
}

/// The source text of abcjs from its file or an npm install's folder.
pub fn abcjs(path: &Path) -> anyhow::Result<String> {
    let file = if path.is_dir() {
        let found = ABCJS.iter().map(|name| path.join(name)).find(|file| file.is_file());
        found.ok_or_else(|| {
            UsageError(format!(
                "--abcjs {}: no abcjs in this folder (expected {}); run `npm install abcjs` in it, or leave --abcjs out",
                path.display(),
                ABCJS[2]
            ))
        })?
    } else {
        path.to_path_buf()
    };
    let refuse = |problem: String| UsageError(format!("--abcjs {}: {problem}", file.display()));
    let size = fs::metadata(&file).map_err(|error| refuse(error.to_string()))?.len();
    if size > MAX_ABCJS {
        return Err(refuse(format!("{size} bytes; expected abcjs-basic-min.js, at most {MAX_ABCJS}")).into());
    }
    let text = fs::read_to_string(&file).map_err(|error| refuse(error.to_string()))?;
    if !text.contains("ABCJS") {
        return Err(refuse("this is not abcjs; expected its dist/abcjs-basic-min.js".into()).into());
    }
    Ok(text)
}

/// A mistake in what was typed is exit code 2, the rest 1.
pub fn usage(error: StudyError) -> anyhow::Error {
    match error {
        StudyError::Usage(message) => UsageError(message).into(),
        StudyError::Train(crate::train::TrainError::Usage(message)) => UsageError(message).into(),
        error => error.into(),
    }
}

/// The scores of every variant and where everything lies.
pub fn summary(results: &Results, out: &Path) -> String {
    let mut text = String::new();
    for experiment in &results.experiments {
        for protocol in [Protocol::Contract, Protocol::Assignment] {
            let compared = statistics::compare(results, experiment, protocol);
            if compared.iter().all(|one| one.summary.is_none()) {
                continue;
            }
            let score = crate::study::tables::score_name(results, protocol);
            text +=
                &format!("{} ({} protocol), {score}, nats\n", experiment.title, names::protocol(protocol));
            for one in compared {
                let Some(summary) = one.summary else { continue };
                text += &format!(
                    "  {:<28} {}\n",
                    names::full(&one.variant),
                    crate::study::tables::spread(&summary, 4)
                );
            }
        }
    }
    let folder = out.display();
    if let Some((variant, seed)) = &results.best {
        text += &format!(
            "best model:  {}, seed {seed}: {folder}/trials/{}-seed{seed}\n",
            names::full(variant),
            variant.key()
        );
        text += &format!("tunes:       {folder}/tunes/ at temperatures 0.5, 1 and 2; measures.csv\n");
        text += &format!("neurons:     {folder}/neurons/\n");
    }
    text +=
        &format!("tables:      {folder}/tables.md, results.csv, results.json; plots in {folder}/plots/\n");
    text += &format!("discussion:  {folder}/discussion.md\n");
    text += &format!(
        "report:      {folder}/{} (open it in a browser; it needs nothing beside it)\n",
        after::PAGE
    );
    text
}
