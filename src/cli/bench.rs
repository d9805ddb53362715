//! `songrnn-fast bench`: flags as typed, resolved into cases; results shown and written after every case.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{Outcome, UsageError};
use crate::bench::cases::{Case, Set, Wanted, What};
use crate::bench::measure::Budget;
use crate::bench::peers::Peers;
use crate::bench::provenance::Provenance;
use crate::bench::record::Row;
use crate::bench::result::CaseResult;
use crate::bench::roofline::Ceilings;
use crate::bench::{self, export, plot};
use crate::engine::{self, Device, Kernel, Precision};
use crate::files::write_atomic;
use crate::machine;
use crate::model::CellKind;
use crate::pinning;

/// Characters of a stream after which a tune starts when training is measured, where nothing else is asked for: about
/// the length of a tune.
const TUNE: usize = 350;

/// Vocabulary entries that are possible: three are never sampled, ids have two bytes.
const VOCAB: std::ops::RangeInclusive<usize> = 4..=65_000;

/// The most that a size, repeats or pairs may be.
const MOST: usize = 1_000_000;

/// What is typed after `bench`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  songrnn-fast bench train                                   the paper's LSTM, whole training steps
  songrnn-fast bench train --cases a,b,c --device cuda --precision f32,bf16,f16 --kernel fused,cudnn,stepwise
  songrnn-fast bench layer --hidden 64,128,256 --plot layers.png --csv layers.csv
  songrnn-fast bench sample --batch 1,64,1056 --seq-len 500
  songrnn-fast bench train --vs pytorch --threads 2          in turn with PyTorch, and the ratio")]
pub struct BenchArgs {
    /// What to measure
    pub what: What,

    /// Named sets of cases in the place of --hidden, --layers, --batch and --seq-len
    #[arg(long, value_name = "SET", value_delimiter = ',', help_heading = "Cases",
          conflicts_with_all = ["hidden", "layers", "batch", "seq_len"])]
    pub cases: Vec<Set>,
    /// Recurrent cells; several values of a flag, separated by commas, make the product [default: lstm, or the set's]
    #[arg(long, value_delimiter = ',', help_heading = "Cases")]
    pub cell: Vec<CellKind>,
    /// Units a layer
    #[arg(long, value_name = "H", value_delimiter = ',', default_value = "150", help_heading = "Cases")]
    pub hidden: Vec<usize>,
    /// Recurrent layers
    #[arg(long, value_name = "L", value_delimiter = ',', default_value = "1", help_heading = "Cases")]
    pub layers: Vec<usize>,
    /// Streams; for sample: tunes
    #[arg(long, value_name = "B", value_delimiter = ',', default_value = "64", help_heading = "Cases")]
    pub batch: Vec<usize>,
    /// Characters a stream, of a step or a tune
    #[arg(long, value_name = "T", value_delimiter = ',', default_value = "100", help_heading = "Cases")]
    pub seq_len: Vec<usize>,
    /// Vocabulary entries
    #[arg(long, value_name = "V", default_value_t = 96, help_heading = "Cases")]
    pub vocab: usize,
    /// Number formats [default: f32, or the set's]
    #[arg(long, value_delimiter = ',', help_heading = "Cases")]
    pub precision: Vec<Precision>,
    /// train, layer: a tune starts every N characters of a stream, at staggered places; 0: none does
    /// [default: 350 for train, 0 for layer]
    #[arg(long, value_name = "N", help_heading = "Cases")]
    pub tune_starts: Option<usize>,

    /// auto, cpu or cuda[:N] [default: auto]
    #[arg(long, help_heading = "Machine")]
    pub device: Option<String>,
    /// CUDA kernels
    #[arg(long, value_delimiter = ',', default_value = "auto", help_heading = "Machine")]
    pub kernel: Vec<Kernel>,
    /// Threads, ours and the peer's; 0: one a core
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "0", help_heading = "Machine")]
    pub threads: Vec<usize>,
    /// Keep threads on processors of their own, ours and the peer's
    #[arg(long, help_heading = "Machine")]
    pub pin: bool,
    /// Exactly so many measurements a case (pairs with --vs, at least 5) [default: what fits --seconds, 3 to 200]
    #[arg(long, value_name = "N", help_heading = "Machine")]
    pub repeats: Option<usize>,
    /// Time for the measurements of a case, once it is warm
    #[arg(
        long,
        value_name = "S",
        default_value_t = 5.0,
        help_heading = "Machine",
        allow_negative_numbers = true
    )]
    pub seconds: f64,

    /// Print JSON: an object for one case, an array for several
    #[arg(long, help_heading = "Results")]
    pub json: bool,
    /// train: print where a step's time goes, where the engine tells
    #[arg(long, help_heading = "Results")]
    pub phases: bool,
    /// Write the rows, in the columns of the speed records
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub csv: Option<PathBuf>,
    /// Write the table in Markdown
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub markdown: Option<PathBuf>,
    /// Write a plot of time against H, .svg or .png
    #[arg(long, value_name = "FILE", help_heading = "Results")]
    pub plot: Option<PathBuf>,
    /// Append the rows to DIR/DATE-train.csv (-layer, -sample, -vs-pytorch)
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    pub record: Option<PathBuf>,
    /// The machine's name in the rows [default: made of the processor's]
    #[arg(long, value_name = "NAME", help_heading = "Results")]
    pub machine: Option<String>,
    /// Print the cases, one JSON object a line, as the peers' scripts read them, and run none
    #[arg(long, help_heading = "Results")]
    pub list: bool,

    /// Peers' rows, in the columns of the speed records, to show beside ours with the ratio of times
    #[arg(long, value_name = "FILE", value_delimiter = ',', help_heading = "Peers")]
    pub peers: Vec<PathBuf>,
    /// Run a peer and this program in turn
    #[arg(long, value_name = "PEER", help_heading = "Peers")]
    pub vs: Option<Peer>,
    /// Python with PyTorch
    #[arg(
        long,
        value_name = "PATH",
        default_value = "python3",
        env = "SONGRNN_TORCH_PYTHON",
        hide_env_values = true,
        help_heading = "Peers"
    )]
    pub python: PathBuf,
}

/// Peers that can be run in turn with this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// torch.nn.LSTM, GRU and RNN
    Pytorch,
}

/// Runs the command.
pub fn run(args: &BenchArgs) -> anyhow::Result<Outcome> {
    let cases = resolve(args).map_err(UsageError)?;
    let mut out = std::io::stdout().lock();
    if args.list {
        for case in &cases {
            writeln!(out, "{}", case.to_json())?;
        }
        return Ok(Outcome::Done);
    }
    let peers = Peers::read(&args.peers).map_err(|why| UsageError(format!("--peers: {why}")))?;
    if cfg!(debug_assertions) {
        eprintln!("note: this is a debug build; its speed says nothing (cargo build --release)");
    }
    if args.pin {
        pinning::pin_engines().map_err(|why| UsageError(format!("--pin: {why}")))?;
    }
    let from = Provenance::here(args.machine.as_deref());
    let budget = Budget { repeats: args.repeats, seconds: args.seconds };
    let mut ceilings = Ceilings::new(args.seconds);
    let mut results: Vec<CaseResult> = Vec::new();
    for (i, case) in cases.iter().enumerate() {
        let kernel = if case.device == Device::Cpu { "" } else { case.kernel.name() };
        eprintln!("[{}/{}] {} {kernel}", i + 1, cases.len(), case.describe());
        let result = match args.vs {
            None => bench::run(case, &budget, &mut ceilings, &from),
            Some(Peer::Pytorch) => bench::run_versus(case, &args.python, &budget, &mut ceilings, &from),
        };
        report(&result);
        results.push(result);
        // After every case: what was measured is not lost if the next one ends the program.
        save(args, &results, &peers, &from)?;
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&export::json(&results, &peers, &from))?)?;
    } else {
        write!(out, "{}", export::table(&results, &peers, &from))?;
        if args.phases {
            write!(out, "{}", export::phases(&results))?;
            if results.iter().any(|result| !result.lines.is_empty() && result.phases.is_empty()) {
                writeln!(
                    out,
                    "note: --phases: some cases have none: they are told for training many streams on the processor"
                )?;
            }
        }
    }
    if let Some(path) = &args.plot {
        draw(path, &results, &peers, &from)?;
    }
    let measured = results.iter().any(|result| !result.lines.is_empty());
    Ok(if measured { Outcome::Done } else { Outcome::Failed })
}

/// A line of progress, and a warning where other processes spoilt it.
fn report(result: &CaseResult) {
    if let Some(busy) = result.lines.first().and_then(|line| line.busy()) {
        eprintln!("    {busy}");
    }
    match (&result.error, result.whole.as_ref().or(result.lines.first()).and_then(|line| line.ms)) {
        (Some(why), _) => eprintln!("    not measured: {why}"),
        (None, Some(ms)) => {
            eprintln!("    {:.4} ms a step, spread {:.4}, {} times", ms.median, ms.spread(), ms.count)
        }
        (None, None) => eprintln!("    no figure"),
    }
}

/// Writes the files that grow with every case.
fn save(args: &BenchArgs, results: &[CaseResult], peers: &Peers, from: &Provenance) -> anyhow::Result<()> {
    if let Some(path) = &args.csv {
        let rows: Vec<Row> = results.iter().flat_map(|result| result.rows(from)).collect();
        write_atomic(path, export::csv(&rows).as_bytes())?;
    }
    if let Some(path) = &args.markdown {
        write_atomic(path, export::markdown(results, peers, from).as_bytes())?;
    }
    if let (Some(folder), Some(last)) = (&args.record, results.last()) {
        if last.lines.is_empty() {
            eprintln!("    no row is recorded");
        } else {
            std::fs::create_dir_all(folder)
                .map_err(|why| crate::files::FileError::new("create", folder, why))?;
            let topic = if args.vs.is_some() { "vs-pytorch" } else { args.what.name() };
            export::append(&export::record_path(folder, &from.date, topic), &last.rows(from))?;
        }
    }
    Ok(())
}

fn draw(path: &Path, results: &[CaseResult], peers: &Peers, from: &Provenance) -> anyhow::Result<()> {
    let mut rows: Vec<Row> = Vec::new();
    for result in results {
        rows.extend(result.rows(from));
        for line in &result.lines {
            rows.extend(peers.beside(&line.row).into_iter().map(|beside| beside.row));
        }
    }
    let device = rows.first().map_or(String::new(), |row| row.device.clone());
    let emulated = rows.iter().any(|row| row.device.starts_with("emulated"));
    let warning = if emulated { " (says nothing about a GPU)" } else { "" };
    let caption = format!("songrnn-fast bench on {device}{warning}, machine {}, {}", from.machine, from.date);
    let svg = match plot::svg(&rows, &caption) {
        Ok(svg) => svg,
        Err(why) => {
            eprintln!("--plot {}: not written: {why}", path.display());
            return Ok(());
        }
    };
    let bytes = if is_png(path) { plot::png(&svg).map_err(anyhow::Error::msg)? } else { svg.into_bytes() };
    Ok(write_atomic(path, &bytes)?)
}

fn is_png(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"))
}

/// Every value of a flag lies in a range.
fn within(flag: &str, values: &[usize], range: std::ops::RangeInclusive<usize>) -> Result<(), String> {
    match values.iter().find(|value| !range.contains(value)) {
        None => Ok(()),
        Some(value) => Err(format!("--{flag} {value}: expected {} to {}", range.start(), range.end())),
    }
}

/// Flags -> cases.
fn resolve(args: &BenchArgs) -> Result<Vec<Case>, String> {
    within("hidden", &args.hidden, 1..=MOST)?;
    within("layers", &args.layers, 1..=MOST)?;
    within("batch", &args.batch, 1..=MOST)?;
    within("seq-len", &args.seq_len, 1..=MOST)?;
    within("vocab", &[args.vocab], VOCAB)?;
    within("threads", &args.threads, 0..=1024)?;
    within("repeats", args.repeats.as_slice(), 1..=MOST)?;
    within("tune-starts", args.tune_starts.as_slice(), 0..=MOST)?;
    if !(args.seconds > 0.0 && args.seconds <= 1e6) {
        return Err(format!("--seconds {}: expected more than 0, such as 5", args.seconds));
    }
    if args.what == What::Sample && args.tune_starts.is_some() {
        return Err("--tune-starts is for train and layer; every sampled tune starts once".into());
    }
    if let Some(path) = &args.plot {
        let svg = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg"));
        if !svg && !is_png(path) {
            return Err(format!("--plot {}: expected a name that ends in .svg or .png", path.display()));
        }
    }
    let device = super::train::device(args.device.as_deref(), Kernel::Auto)?;
    let device = match device {
        Device::Auto => match engine::gpus() {
            Ok(_) => Device::Cuda(0),
            Err(why) => {
                eprintln!("note: the processor is measured: {why}");
                Device::Cpu
            }
        },
        device => device,
    };
    let some = |given: &[_]| (!given.is_empty()).then(|| given.to_vec());
    let threads = args.threads.iter().map(|&n| if n == 0 { machine::threads() } else { n }).collect();
    let default_starts = if args.what == What::Train { TUNE } else { 0 };
    Ok(Wanted {
        what: args.what,
        sets: args.cases.clone(),
        cells: (!args.cell.is_empty()).then(|| args.cell.clone()),
        hidden: args.hidden.clone(),
        layers: args.layers.clone(),
        batch: args.batch.clone(),
        seq_len: args.seq_len.clone(),
        vocab: args.vocab,
        precisions: some(&args.precision),
        device,
        kernels: args.kernel.clone(),
        threads,
        tune_starts: args.tune_starts.unwrap_or(default_starts),
    }
    .cases())
}
