//! All tables as one Markdown file whose columns are aligned, so that it reads well raw.

use super::{beside, caption, classes, experiment, neurons, ngrams, temperatures};
use crate::study::names;
use crate::study::results::{Protocol, Results};
use crate::viz::page::data::Table;

/// The whole file: what was read and how, then every table with its caption. Parts without a number are left out.
pub fn markdown(results: &Results) -> String {
    let mut out = String::from("# Tables\n\n");
    out.push_str(&paragraph(&facts(results)));
    for one in &results.experiments {
        let contract = experiment(results, one, Protocol::Contract);
        let assignment = experiment(results, one, Protocol::Assignment);
        out.push_str(&format!("## {}\n\n", inline(&names::title(one))));
        if contract.is_none() && assignment.is_none() {
            out.push_str("No trial of this experiment is done.\n\n");
        }
        for (protocol, table) in [(Protocol::Contract, contract), (Protocol::Assignment, assignment)] {
            if let Some(found) = table {
                out.push_str(&paragraph(&caption(results, protocol)));
                out.push_str(&table_text(&found));
            }
        }
        if let Some(both) = beside(results, one) {
            out.push_str("Both protocols beside each other:\n\n");
            out.push_str(&table_text(&both));
        }
    }
    for (title, table) in [
        ("N-grams", ngrams(results)),
        ("Tunes by temperature", temperatures(results)),
        ("Loss by class of character", classes(results)),
        ("Neurons", neurons(results)),
    ] {
        if let Some(table) = table {
            out.push_str(&format!("## {title}\n\n"));
            out.push_str(&table_text(&table));
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn facts(results: &Results) -> String {
    let data = &results.data;
    let mut parts = vec![format!(
        "{} training tunes ({} characters)",
        data.train_tunes,
        super::thousands(data.train_chars)
    )];
    for (what, tunes, chars) in
        [("validation", data.val_tunes, data.val_chars), ("test", data.test_tunes, data.test_chars)]
    {
        parts.push(match tunes {
            0 => format!("no {what} tunes"),
            _ => format!("{tunes} {what} tunes ({})", super::thousands(chars)),
        });
    }
    let seeds = match results.seeds.len() {
        1 => "one seed".to_string(),
        n => format!("{n} seeds"),
    };
    let quick = if results.quick { " Quick: fewer epochs and seeds than the full study." } else { "" };
    let commit = results.commit.as_ref().map_or_else(String::new, |commit| format!(" ({commit})"));
    format!(
        "{}; vocabulary of {}; {seeds}.{quick} songrnn-fast {}{commit}, {}, {}.",
        parts.join(", "),
        data.vocab,
        results.version,
        results.machine,
        results.date
    )
}

/// Text as it may stand in a line of Markdown: nothing in it is markup, HTML or a link.
pub(crate) fn inline(text: &str) -> String {
    let mut out = String::new();
    for c in text.split_whitespace().collect::<Vec<_>>().join(" ").chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '&' => out.extend(['\\', c]),
            // What svg::escape replaces as well: control characters and those that turn the direction of writing.
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{200e}' | '\u{200f}' => out.push('\u{fffd}'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A paragraph of plain text, escaped and wrapped.
pub(crate) fn paragraph(text: &str) -> String {
    const ACROSS: usize = 110;
    let text = inline(text);
    let (mut out, mut column) = (String::new(), 0);
    for word in text.split(' ') {
        let length = word.chars().count();
        // At the start of a line these would begin a list, a heading or a rule.
        let marks = word.trim_end_matches(['.', ')']).chars().all(|c| c.is_ascii_digit())
            || word.starts_with(['-', '+', '=']);
        if column > 0 && column + 1 + length > ACROSS && !marks {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out + "\n\n"
}

/// The table with every column as wide as its widest cell, the first to the left, the others to the right; then the
/// note.
fn table_text(table: &Table) -> String {
    let clean = |cells: &[String]| -> Vec<String> { cells.iter().map(|cell| cell_text(cell)).collect() };
    let head = clean(&table.columns);
    let rows: Vec<Vec<String>> = table.rows.iter().map(|row| clean(row)).collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|i| {
            rows.iter().chain([&head]).filter_map(|row| row.get(i)).map(|cell| cell.chars().count()).max()
        })
        .map(|width| width.unwrap_or(0).max(3))
        .collect();
    let line = |cells: &[String]| {
        let mut out = String::from("|");
        for (i, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let gap = " ".repeat(width - cell.chars().count());
            out.push_str(&if i == 0 { format!(" {cell}{gap} |") } else { format!(" {gap}{cell} |") });
        }
        out + "\n"
    };
    let mut out = line(&head);
    out.push('|');
    for (i, width) in widths.iter().enumerate() {
        let dashes = "-".repeat(*width);
        out.push_str(&if i == 0 { format!(" {dashes} |") } else { format!(" {}: |", &dashes[1..]) });
    }
    out.push('\n');
    rows.iter().for_each(|row| out.push_str(&line(row)));
    out.push('\n');
    if !table.note.is_empty() {
        out.push_str(&paragraph(&table.note));
    }
    out
}

/// A cell: as [`inline`], but marks of this file's own making stay readable.
fn cell_text(cell: &str) -> String {
    let text = inline(cell).replace(" \\*", " *");
    // Brackets are harmless where nothing can make a link of them.
    if cell.contains("](") || cell.contains("][") {
        text
    } else {
        text.replace("\\[", "[").replace("\\]", "]")
    }
}
