//! `songrnn-fast pack DATA... -o FILE`: files of tunes as one packed, checksummed file.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use super::Outcome;
use crate::corpus::{CorpusError, PackOptions, PackSummary, Progress, Split, pack_to};

/// Pack files of tunes into one file that the trainer maps into memory.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files of ABC or <start>/<end> text, or folders: every .abc and .txt file below them.
    #[arg(required = true, value_name = "DATA")]
    pub data: Vec<PathBuf>,
    /// The packed file to write; one that is there is replaced when the new one is whole.
    #[arg(short, long, value_name = "FILE")]
    pub out: PathBuf,
    /// Keep tunes whose body (the lines after K:, but for white space) has been met before.
    #[arg(long)]
    pub keep_duplicates: bool,
    /// Threads; 0 = one a core.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
}

/// The most notes shown; a folder of ten thousand Latin-1 files needs no ten thousand lines.
const MOST_NOTES: usize = 20;

/// Set by Ctrl-C and SIGTERM.
static STOP: AtomicBool = AtomicBool::new(false);

/// A flag that Ctrl-C and SIGTERM set from now on, so that packing cleans up behind itself.
pub fn stop_flag() -> Option<&'static AtomicBool> {
    // Where another handler is installed already, that one is in charge.
    ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed)).ok().map(|()| &STOP)
}

/// Packs and prints a summary.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let options =
        PackOptions { keep_duplicates: args.keep_duplicates, threads: args.threads, stop: stop_flag() };
    let bar = Bar::new();
    let started = Instant::now();
    let result = pack_to(&args.out, &args.data, &options, &|progress| bar.show(progress));
    bar.clear();
    let summary = match result {
        Err(CorpusError::Stopped) => {
            eprintln!("{}", CorpusError::Stopped);
            return Ok(Outcome::Interrupted);
        }
        result => result?,
    };
    print_notes(&summary.notes);
    let seconds = started.elapsed().as_secs_f64();
    let mut out = std::io::stdout().lock();
    out.write_all(describe(&summary, args, seconds).as_bytes())?;
    out.flush()?;
    Ok(Outcome::Done)
}

/// A bar of bytes on standard error, where that is a terminal.
pub struct Bar(Option<ProgressBar>);

impl Bar {
    /// A bar at nothing.
    pub fn new() -> Bar {
        Bar(std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style =
                ProgressStyle::with_template("packing {bar:40} {percent:>3}% {binary_bytes_per_sec} {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        }))
    }

    /// Moves it.
    pub fn show(&self, progress: Progress) {
        if let Some(bar) = &self.0 {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        }
    }

    /// Takes it away.
    pub fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Default for Bar {
    fn default() -> Self {
        Bar::new()
    }
}

/// Says the notes on standard error, the first ones where there are many.
pub fn print_notes(notes: &[String]) {
    for note in notes.iter().take(MOST_NOTES) {
        eprintln!("note: {note}");
    }
    if notes.len() > MOST_NOTES {
        eprintln!("note: {} more notes like these", notes.len() - MOST_NOTES);
    }
}

fn describe(summary: &PackSummary, args: &Args, seconds: f64) -> String {
    let tunes: u64 = summary.tunes.iter().sum();
    let parts: Vec<String> = Split::ALL
        .iter()
        .map(|&split| format!("{} {}", split.name(), summary.tunes[split as usize]))
        .collect();
    let fate = if summary.duplicates_kept { "kept" } else { "dropped" };
    let rate = summary.bytes as f64 / 1e6 / seconds.max(1e-9);
    format!(
        "packed      {} ({} bytes)\n\
         from        {} files, {} bytes, {seconds:.2} s, {rate:.0} MB/s\n\
         tunes       {tunes} ({})\n\
         characters  {}\n\
         vocabulary  {} tokens\n\
         duplicates  {} {fate}\n\
         empty       {} left out\n",
        args.out.display(),
        summary.pack_bytes,
        summary.files,
        summary.bytes,
        parts.join(", "),
        summary.characters,
        summary.vocab,
        summary.duplicates,
        summary.empty,
    )
}
