//! Results for people and programs: a table for a terminal, Markdown, JSON, CSV, and files of records that only grow.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::peers::{Beside, Peers};
use super::provenance::Provenance;
use super::record::{self, Row};
use super::result::{CaseResult, Line};
use crate::files::{FileError, write_atomic};

/// Headings of the table's columns and whether they are numbers.
const HEADINGS: [(&str, bool); 13] = [
    ("what", false),
    ("model", false),
    ("B", true),
    ("T", true),
    ("format", false),
    ("engine", false),
    ("chars/s", true),
    ("ms/step", true),
    ("+-", true),
    ("us/rec.step", true),
    ("GFLOP/s", true),
    ("peak", true),
    ("MB", true),
];

type Cells = [String; HEADINGS.len()];

/// A rate for people: `1.23 M`, `456 k`.
pub fn human(value: f64) -> String {
    for (unit, name) in [(1e9, " G"), (1e6, " M"), (1e3, " k")] {
        if value >= unit {
            return record::significant(value / unit, 3) + name;
        }
    }
    record::significant(value, 3)
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".into(), |value| record::significant(value, digits))
}

fn first_cells(row: &Row) -> [String; 6] {
    let count = |n: Option<u64>| n.map_or("-".into(), |n| n.to_string());
    let engine =
        if row.tier.is_empty() { row.engine.clone() } else { format!("{} {}", row.engine, row.tier) };
    [
        row.what.clone(),
        format!("{} {}x{}", row.cell, count(row.layers), count(row.hidden)),
        count(row.batch),
        count(row.seq_len),
        row.precision.clone(),
        engine,
    ]
}

fn cells(row: &Row, line: Option<&Line>) -> Cells {
    let [what, model, batch, seq_len, precision, engine] = first_cells(row);
    let recurrent = match (row.ms_per_step, row.seq_len, row.layers) {
        (Some(ms), Some(t), Some(l)) if t * l > 0 => Some(ms * 1e3 / (t * l) as f64),
        _ => None,
    };
    [
        what,
        model,
        batch,
        seq_len,
        precision,
        engine,
        row.chars_per_second.map_or("-".into(), human),
        number(row.ms_per_step, 4),
        number(row.ms_spread, 2),
        number(recurrent, 3),
        number(line.and_then(|line| line.gflops), 3),
        line.and_then(Line::share).map_or("-".into(), |share| format!("{:.0}%", share * 100.0)),
        row.peak_mb.map_or("-".into(), |mb| format!("{mb:.0}")),
    ]
}

/// A line of the table, and what follows it in words.
struct Printed {
    cells: Cells,
    words: Vec<String>,
}

fn printed(results: &[CaseResult], peers: &Peers, from: &Provenance) -> Vec<Printed> {
    let mut all = Vec::new();
    for result in results {
        if result.lines.is_empty() {
            for row in result.rows(from) {
                all.push(Printed { cells: cells(&row, None), words: vec![row.note.clone()] });
            }
        }
        for line in &result.lines {
            all.push(Printed {
                cells: cells(&line.row, Some(line)),
                words: line.busy().into_iter().collect(),
            });
            for beside in peers.beside(&line.row) {
                all.push(Printed { cells: cells(&beside.row, None), words: vec![beside.describe()] });
            }
        }
        if let Some(versus) = &result.versus {
            let rows = versus.peer_rows(&result.case, from);
            all.extend(rows.iter().map(|row| Printed { cells: cells(row, None), words: Vec::new() }));
            if let Some(last) = all.last_mut() {
                last.words.extend(versus.describe());
            }
        }
    }
    all
}

/// The parts of the lines' notes, each told once.
fn notes(results: &[CaseResult]) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for line in results.iter().flat_map(|result| &result.lines) {
        // What differs from line to line already stands in its columns.
        let parts = line
            .row
            .note
            .split("; ")
            .filter(|part| !part.contains("GFLOP/s") && line.busy().is_none_or(|busy| busy != *part));
        for part in parts {
            if !seen.iter().any(|known| known == part) {
                seen.push(part.into());
            }
        }
    }
    seen
}

/// The table for a terminal.
pub fn table(results: &[CaseResult], peers: &Peers, from: &Provenance) -> String {
    let lines = printed(results, peers, from);
    let mut widths = HEADINGS.map(|(name, _)| name.len());
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(&line.cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let aligned = |cells: [&str; HEADINGS.len()]| {
        let mut out = String::new();
        for ((cell, width), (_, is_number)) in cells.iter().zip(widths).zip(HEADINGS) {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (left, right) = if is_number { (pad.as_str(), "") } else { ("", pad.as_str()) };
            let _ = write!(out, "{left}{cell}{right}  ");
        }
        out.trim_end().to_string() + "\n"
    };
    let mut out = aligned(HEADINGS.map(|(name, _)| name));
    for line in &lines {
        out.push_str(&aligned(line.cells.each_ref().map(String::as_str)));
        for word in &line.words {
            let _ = writeln!(out, "    {word}");
        }
    }
    for note in notes(results) {
        let _ = writeln!(out, "note: {note}");
    }
    let ceilings = results.iter().flat_map(|result| &result.lines).filter_map(|line| line.ceiling);
    let mut told: Vec<String> = Vec::new();
    for peak in ceilings {
        let products = peak.products.map_or(String::new(), |gflops| {
            format!("; product loops of these sizes alone {gflops:.0} ({:.0}%)", 100.0 * gflops / peak.gflops)
        });
        let line = format!(
            "peak: {:.0} GFLOP/s of {}{products}; {:.1} GB/s of copying; measured in this run",
            peak.gflops, peak.of, peak.copy_gb_s
        );
        if !told.contains(&line) {
            told.push(line);
        }
    }
    for line in told {
        let _ = writeln!(out, "{line}");
    }
    out
}

/// Where the time of training steps went, a block a case.
pub fn phases(results: &[CaseResult]) -> String {
    let mut out = String::new();
    for result in results.iter().filter(|result| !result.phases.is_empty()) {
        let _ = writeln!(out, "\n{}: milliseconds a step", result.case.describe());
        let total: f64 = result.phases.iter().map(|(_, ms)| ms).sum();
        for (name, ms) in result.phases.iter().filter(|(_, ms)| *ms > 0.0) {
            let share = 100.0 * ms / total;
            let _ = writeln!(out, "  {name:<28}{:>9}  {share:>3.0}%", record::significant(*ms, 4));
        }
    }
    out
}

/// A table in Markdown.
pub fn markdown(results: &[CaseResult], peers: &Peers, from: &Provenance) -> String {
    let escaped = |cell: &str| cell.replace('|', "\\|").replace('\n', " ");
    let mut text = String::from("| ");
    text.push_str(&HEADINGS.map(|(name, _)| name).join(" | "));
    text.push_str(" | note |\n|");
    for (_, is_number) in HEADINGS {
        text.push_str(if is_number { "---:|" } else { "---|" });
    }
    text.push_str("---|\n");
    for line in printed(results, peers, from) {
        let cells = line.cells.map(|cell| escaped(&cell)).join(" | ");
        let _ = writeln!(text, "| {cells} | {} |", escaped(&line.words.join("; ")));
    }
    for note in notes(results) {
        let _ = write!(text, "\n{note}.\n");
    }
    text
}

/// JSON: an object for one case, an array for several.
pub fn json(results: &[CaseResult], peers: &Peers, from: &Provenance) -> Value {
    let one = |result: &CaseResult| {
        let beside: Vec<Value> = result
            .lines
            .iter()
            .flat_map(|line| peers.beside(&line.row))
            .map(|Beside { row, ratio }| json!({"row": row, "ratio": ratio}))
            .collect();
        result.to_json(from, &beside)
    };
    match results {
        [result] => one(result),
        results => Value::Array(results.iter().map(one).collect()),
    }
}

/// Rows as CSV, header first.
pub fn csv(rows: &[Row]) -> String {
    rows.iter().fold(record::header(), |text, row| text + &row.to_csv())
}

/// Appends rows to a file of records, written anew under a temporary name; refuses a file of other columns.
pub fn append(path: &Path, rows: &[Row]) -> Result<(), FileError> {
    let mut text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(why) if why.kind() == io::ErrorKind::NotFound => String::new(),
        Err(why) => return Err(FileError::new("read", path, why)),
    };
    if text.is_empty() {
        text = record::header();
    } else if text.lines().next() != Some(record::header().trim_end()) {
        let why = io::Error::other("its first line is not that of a speed record; choose another folder");
        return Err(FileError::new("append to", path, why));
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    rows.iter().for_each(|row| text.push_str(&row.to_csv()));
    write_atomic(path, text.as_bytes())
}

/// `DIR/DATE-TOPIC.csv`.
pub fn record_path(folder: &Path, date: &str, topic: &str) -> PathBuf {
    folder.join(format!("{date}-{topic}.csv"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_told_in_units() {
        for (value, text) in
            [(1_234_567.0, "1.23 M"), (45_600.0, "45.6 k"), (12.0, "12.0"), (2.5e9, "2.50 G")]
        {
            assert_eq!(human(value), text);
        }
    }

    #[test]
    fn records_grow_and_other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = record_path(folder.path(), "2026-11-25", "train");
        assert!(path.ends_with("2026-11-25-train.csv"));
        let row = |what: &str| Row { what: what.into(), engine: "x".into(), ..Row::default() };
        append(&path, &[row("train")]).unwrap();
        append(&path, &[row("sample"), row("train")]).unwrap();
        let rows = record::read_file(&path).unwrap();
        assert_eq!(rows.iter().map(|r| r.what.as_str()).collect::<Vec<_>>(), ["train", "sample", "train"]);
        std::fs::write(&path, "a,b\n").unwrap();
        let error = append(&path, &[row("train")]).unwrap_err();
        assert!(
            std::error::Error::source(&error).unwrap().to_string().contains("not that of a speed record")
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a,b\n");
    }
}
