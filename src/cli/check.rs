//! `songrnn-fast check`: diagnostics of ABC files, compiler style or as JSON.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::Outcome;
use crate::abc::{self, Diagnostic, Encoding, LineIndex, Severity, Summary, Verdict};

/// The widest source line shown; longer ones are cut around the place.
const MAX_WIDTH: usize = 110;

/// Arguments as typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// ABC tunebooks, or text with tunes between `<start>` and `<end>` lines
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Serialize)]
struct FileReport {
    path: String,
    /// `utf-8` or `latin-1`.
    encoding: &'static str,
    tunes: Vec<TuneReport>,
}

#[derive(Debug, Serialize)]
struct TuneReport {
    line: usize,
    reference: Option<u64>,
    title: String,
    #[serde(flatten)]
    summary: Summary,
    diagnostics: Vec<DiagnosticReport>,
}

#[derive(Debug, Serialize)]
struct DiagnosticReport {
    code: &'static str,
    severity: &'static str,
    line: usize,
    column: usize,
    message: String,
}

#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Total {
    files: usize,
    tunes: usize,
    tunes_with_errors: usize,
    errors: usize,
    warnings: usize,
    bars: usize,
    full_bars: usize,
}

impl Total {
    fn add(&mut self, verdict: &Verdict) {
        self.tunes += 1;
        self.tunes_with_errors += usize::from(!verdict.parses);
        self.errors += verdict.errors;
        self.warnings += verdict.warnings;
        self.bars += verdict.bars;
        self.full_bars += verdict.full_bars;
    }
}

/// Checks every file. [`Outcome::Failed`] when errors were found.
///
/// # Errors
/// When a file cannot be read, or standard output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut total = Total::default();
    let mut reports = Vec::new();
    for path in &args.files {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let decoded = abc::decode(&bytes);
        if decoded.encoding == Encoding::Latin1 && !args.json {
            eprintln!("{}: not UTF-8, read as Latin-1", path.display());
        }
        total.files += 1;
        let index = LineIndex::new(&decoded.text);
        let mut report = FileReport {
            path: path.display().to_string(),
            encoding: if decoded.encoding == Encoding::Utf8 { "utf-8" } else { "latin-1" },
            tunes: Vec::new(),
        };
        let before = total.tunes;
        for span in abc::split(&decoded.text) {
            let tune = abc::parse_tune_in(&decoded.text, span);
            let verdict = abc::judge_tune(&tune);
            total.add(&verdict);
            if args.json {
                report.tunes.push(tune_report(&tune, &verdict, &index));
            } else {
                print_tune(&mut out, path, &tune, &verdict, &index)?;
            }
        }
        if total.tunes == before && !args.json {
            eprintln!("{}: no tune in it (a tune starts with an X: line, or a <start> line)", path.display());
        }
        reports.push(report);
    }
    if args.json {
        let whole = serde_json::json!({ "files": reports, "total": total });
        writeln!(out, "{}", serde_json::to_string_pretty(&whole)?)?;
    } else {
        writeln!(
            out,
            "{} tunes, {} with errors; {} errors, {} warnings; {} of {} bars full",
            total.tunes, total.tunes_with_errors, total.errors, total.warnings, total.full_bars, total.bars
        )?;
    }
    out.flush()?;
    Ok(if total.errors > 0 { Outcome::Failed } else { Outcome::Done })
}

fn severity_name(diagnostic: &Diagnostic) -> &'static str {
    match diagnostic.severity() {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn tune_report(tune: &abc::Tune, verdict: &Verdict, index: &LineIndex<'_>) -> TuneReport {
    let diagnostics = verdict.diagnostics.iter().map(|d| {
        let (line, column) = index.position(d.span.start);
        DiagnosticReport {
            code: d.code.as_str(),
            severity: severity_name(d),
            line,
            column,
            message: d.message.to_string(),
        }
    });
    TuneReport {
        line: index.position(tune.span.start).0,
        reference: tune.reference,
        title: tune.title().to_owned(),
        summary: verdict.summary(),
        diagnostics: diagnostics.collect(),
    }
}

fn print_tune(
    out: &mut impl Write,
    path: &Path,
    tune: &abc::Tune,
    verdict: &Verdict,
    index: &LineIndex<'_>,
) -> std::io::Result<()> {
    for diagnostic in &verdict.diagnostics {
        let (line, column) = index.position(diagnostic.span.start);
        writeln!(
            out,
            "{}:{line}:{column}: {} {}: {}",
            path.display(),
            severity_name(diagnostic),
            diagnostic.code,
            diagnostic.message
        )?;
        let (text, start) = index.line(line);
        let end = diagnostic.span.end.clamp(diagnostic.span.start, start + text.len());
        let width = index.position(end).1.saturating_sub(column).max(1);
        let (shown, at) = window(text, column - 1);
        let carets = width.min(shown.chars().count().saturating_sub(at).max(1));
        writeln!(out, "  {shown}\n  {}{}", " ".repeat(at), "^".repeat(carets))?;
    }
    let untold = (verdict.errors + verdict.warnings).saturating_sub(verdict.diagnostics.len());
    if untold > 0 {
        writeln!(out, "{}: {untold} more in the tune {:?}", path.display(), tune.title())?;
    }
    Ok(())
}

/// At most [`MAX_WIDTH`] characters of `line` around character `at`, control characters and tabs shown as blanks, and
/// where `at` is in them.
fn window(line: &str, at: usize) -> (String, usize) {
    let from = if at < MAX_WIDTH * 3 / 4 { 0 } else { at - MAX_WIDTH / 2 };
    let shown = line.chars().skip(from).take(MAX_WIDTH).map(|c| if c.is_control() { ' ' } else { c });
    (shown.collect(), at - from)
}
