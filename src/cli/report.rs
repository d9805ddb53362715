//! `songrnn-fast report`: the page of a run, or of a study that has been run.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::study::{abcjs, on_threads, tunes, usage};
use super::{Outcome, UsageError};
use crate::config::CONFIG;
use crate::engine::Kernel;
use crate::sound::SoundFont;
use crate::study::after::{self, Options};
use crate::study::results::{RESULTS, Results};
use crate::study::{folder, run_page};
use crate::train::interrupt;
use crate::train::lock::RunLock;

/// What is typed after `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A folder that `train` or `study` made
    #[arg(value_name = "RUN|STUDY")]
    pub folder: PathBuf,
    /// The page of a run [default: report.html in its folder]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Tunes: of a run, on its page [default: 8]; of a study, at each temperature [default: 64]
    #[arg(long, value_name = "N")]
    pub tunes: Option<usize>,
    /// Make sound files (.wav) of a study's tunes with this SoundFont 2 file
    #[arg(long, value_name = "FILE.sf2")]
    pub soundfont: Option<PathBuf>,
    /// Put abcjs into the page, which engraves scores: its file abcjs-basic-min.js, or a folder into which npm installed it
    #[arg(long, value_name = "FILE|DIR")]
    pub abcjs: Option<PathBuf>,
    /// auto, cpu or cuda[:N] [default: auto]
    #[arg(long)]
    pub device: Option<String>,
    /// Threads; 0: one a core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
}

/// Runs `report`.
pub fn run(args: &ReportArgs) -> anyhow::Result<Outcome> {
    let device = super::train::device(args.device.as_deref(), Kernel::Auto).map_err(UsageError)?;
    if args.threads > 1024 {
        return Err(UsageError(format!("--threads {}: expected 0 (one a core) to 1024", args.threads)).into());
    }
    let results = args.folder.join(RESULTS);
    let study = results.exists();
    let options = Options {
        device,
        threads: args.threads,
        tunes: tunes(args.tunes.unwrap_or(if study { 64 } else { 8 }))?,
        font: args.soundfont.as_deref().map(SoundFont::load).transpose()?,
        abcjs: args.abcjs.as_deref().map(abcjs).transpose()?,
    };
    if study {
        return of_study(args, &options);
    }
    if args.folder.join(folder::STUDY).exists() {
        return Err(UsageError(format!(
            "{}: this study has no results yet; the `study` command that began it goes on with it and makes the report",
            args.folder.display()
        ))
        .into());
    }
    if !args.folder.join(CONFIG).exists() {
        return Err(UsageError(format!(
            "{}: neither a run ({CONFIG}) nor a study ({RESULTS}) lies here; name a folder that `train` or `study` made",
            args.folder.display()
        ))
        .into());
    }
    if args.soundfont.is_some() {
        return Err(UsageError(
            "--soundfont is for a study's tunes; for a run use `sample --soundfont`, the page itself plays without one".into(),
        )
        .into());
    }
    let (html, notes) =
        on_threads(args.threads, || run_page::make(&args.folder, &options))?.map_err(usage)?;
    notes.iter().for_each(|note| eprintln!("note: {note}"));
    let path = args.out.clone().unwrap_or_else(|| args.folder.join(after::PAGE));
    crate::files::write_atomic(&path, html.as_bytes())?;
    writeln!(std::io::stdout().lock(), "{}", path.display())?;
    Ok(Outcome::Done)
}

/// Everything of a study that is not training, once more.
fn of_study(args: &ReportArgs, options: &Options) -> anyhow::Result<Outcome> {
    let refuse = "--out is for a run's page; a study's lies in its folder";
    if args.out.is_some() {
        return Err(UsageError(refuse.into()).into());
    }
    let path = args.folder.join(RESULTS);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut results: Results = serde_json::from_str(&text).with_context(|| {
        format!(
            "{} is damaged, or of another version; run the `study` command again, which makes it anew",
            path.display()
        )
    })?;
    let _lock = RunLock::take(&args.folder)?;
    if let Err(error) = interrupt::install() {
        eprintln!("note: Ctrl-C will not clean up ({error})");
    }
    let texts = folder::data_texts(&args.folder).map_err(usage)?;
    let made = on_threads(args.threads, || {
        after::make(&mut results, &texts, &args.folder, options, &mut interrupt::requested)
    })?;
    let made = made.map_err(usage)?;
    let Some(notes) = made else {
        eprintln!("stopped; the same command makes the report");
        return Ok(Outcome::Interrupted);
    };
    notes.iter().for_each(|note| eprintln!("note: {note}"));
    write!(std::io::stdout().lock(), "{}", super::study::summary(&results, &args.folder))?;
    Ok(Outcome::Done)
}
