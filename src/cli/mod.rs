//! The command line: one file per subcommand. Arguments are kept as typed here and resolved into plain
//! configuration structs before anything runs.

mod bench;
mod check;
mod completions;
mod doctor;
mod eval;
mod heatmap;
mod inspect;
mod inspect_model;
mod man;
mod midi;
mod pack;
mod report;
mod sample;
mod study;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Train and sample character-level recurrent nets on ABC music.
#[derive(Debug, Parser)]
#[command(name = "songrnn-fast", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model; Ctrl-C saves and stops, --resume goes on
    Train(Box<train::TrainArgs>),
    /// Write tunes with a trained model: ABC, MIDI and text
    ///
    /// A tune depends on the model, the seed, its number and the options alone: tune 5 of 8 is tune 5 of 64, on one
    /// thread or many.
    Sample(sample::SampleArgs),
    /// Tell a model's loss over some tunes
    Eval(eval::EvalArgs),
    /// Draw what neurons do at every character of a tune: SVG, PNG and CSV
    ///
    /// By itself it finds the neurons that best tell built-in labels apart (header, bar line, chord symbol, ...), scored on
    /// tunes they were not found with, beside shuffled labels. Layers and units are counted from 1. See docs/heatmap.md.
    Heatmap(Box<heatmap::HeatmapArgs>),
    /// The paper's experiments, or a grid of your own: trained, compared, plotted, discussed, and a report to open
    ///
    /// Trains every variant with several seeds, side by side on the cores that there are, and makes tables, plots, tunes with
    /// their measures, neurons, a written discussion and one HTML page of it. Ctrl-C saves; the same command goes on.
    Study(Box<study::StudyArgs>),
    /// Make the page of a run, or make a study's results anew: curves, tunes to hear, neurons to look into
    Report(report::ReportArgs),
    /// Measure training, sampling and the recurrent layers alone, beside other programs where asked to
    ///
    /// Medians over repeats of whole steps. What can be measured, how, and what stands beside it: docs/benchmarks.md.
    Bench(Box<bench::BenchArgs>),
    /// Pack files of tunes into one file that the trainer maps into memory
    Pack(pack::Args),
    /// Tell what is in a packed corpus, in files of tunes, or in a model: tunes, characters, vocabulary, splits, shape
    Inspect(inspect::Args),
    /// Say what is wrong with ABC files: line, column, and a caret under the place
    Check(check::Args),
    /// Convert the tunes of ABC files to MIDI
    Midi(midi::Args),
    /// Tell what this machine offers and which engine would run on it
    Doctor(doctor::DoctorArgs),
    /// Print a completion script for a shell
    ///
    /// For bash: songrnn-fast completions bash > ~/.local/share/bash-completion/completions/songrnn-fast
    Completions(completions::CompletionsArgs),
    /// Print the manual page, or write the pages of all commands into a folder
    Man(man::ManArgs),
}

/// How a command that did not fail ended; see [`Outcome::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything asked for was done.
    Done,
    /// The command did its work and the answer is "no": `check` found errors.
    Failed,
    /// Stopped by a signal, after saving.
    Interrupted,
}

impl Outcome {
    /// Exit codes: 0 done, 1 failed, 130 interrupted after saving. (2, wrong usage, is [`UsageError`]'s.)
    pub fn code(self) -> u8 {
        match self {
            Outcome::Done => 0,
            Outcome::Failed => 1,
            Outcome::Interrupted => 130,
        }
    }
}

/// A mistake in what was typed (a flag's value out of range, flags that contradict each other): exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Parses the command line, runs the command, prints one chain for an error, and returns the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(outcome) => ExitCode::from(outcome.code()),
        Err(error) => {
            // A reader that closed the pipe (`songrnn-fast inspect | head`) has what it wanted.
            if is_broken_pipe(&error) {
                return ExitCode::SUCCESS;
            }
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<Outcome> {
    match &cli.command {
        Command::Train(args) => train::run(args),
        Command::Sample(args) => sample::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Heatmap(args) => heatmap::run(args),
        Command::Study(args) => study::run(args),
        Command::Report(args) => report::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Pack(args) => pack::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Check(args) => check::run(args),
        Command::Midi(args) => midi::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}
