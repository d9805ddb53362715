//! The table that tells how a set of tunes turned out.

use std::fmt::Write;

use super::Judged;

/// Characters of a title that are shown.
const TITLE: usize = 32;

/// One row a tune and a line that sums up, each ending in a line break.
pub fn table(tunes: &[Judged]) -> String {
    let mut out = String::new();
    let title = tunes.iter().map(|tune| shown(&tune.title).chars().count()).max().unwrap_or(0).max(5);
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:>4}  {:<title$}  {:<6}  {:<6}  {:>9}  {:>5}  {:>7}",
        "tune", "title", "parses", "closed", "bars", "chars", "seconds"
    );
    for (i, tune) in tunes.iter().enumerate() {
        let seconds = tune.seconds.map_or("no midi".into(), |seconds| format!("{seconds:.0}"));
        let _ = writeln!(
            out,
            "{:>4}  {:<title$}  {:<6}  {:<6}  {:>9}  {:>5}  {seconds:>7}",
            i + 1,
            shown(&tune.title),
            yes(tune.parses),
            yes(tune.closed),
            format!("{}/{}", tune.full_bars, tune.bars),
            tune.text.chars().count(),
        );
    }
    out + &summary(tunes)
}

fn summary(tunes: &[Judged]) -> String {
    let count =
        |what: fn(&Judged) -> bool| percent(tunes.iter().filter(|tune| what(tune)).count(), tunes.len());
    let full: usize = tunes.iter().map(|tune| tune.full_bars).sum();
    let bars: usize = tunes.iter().map(|tune| tune.bars).sum();
    let chars: usize = tunes.iter().map(|tune| tune.text.chars().count()).sum();
    format!(
        "{} tune{}: {} parse, {} closed, {} of bars right ({full}/{bars}), {} have MIDI, {} characters on average\n",
        tunes.len(),
        if tunes.len() == 1 { "" } else { "s" },
        count(|tune| tune.parses),
        count(|tune| tune.closed),
        percent(full, bars),
        count(|tune| tune.midi.is_some()),
        chars.checked_div(tunes.len()).unwrap_or(0),
    )
}

fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// A share as percent; a dash where there is nothing to share.
fn percent(part: usize, whole: usize) -> String {
    if whole == 0 { "-".into() } else { format!("{:.0}%", 100.0 * part as f64 / whole as f64) }
}

/// A title fit for one cell: no control characters (a model may write anything), cut where it is long.
fn shown(title: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = title.trim().chars().take(TITLE).map(clean).collect();
    if title.trim().chars().count() > TITLE {
        shown.pop();
        shown.push('…');
    }
    if shown.is_empty() { "-".into() } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_summary() {
        let good = Judged {
            title: "The Blackbird".into(),
            text: "X:1\né".into(),
            closed: true,
            parses: true,
            full_bars: 15,
            bars: 16,
            midi: Some(vec![1]),
            seconds: Some(31.6),
            ..Judged::default()
        };
        let bad = Judged { title: "a\u{1b}[31m".to_owned() + &"b".repeat(90), ..Judged::default() };
        let out = table(&[good, bad]);
        let lines: Vec<&str> = out.lines().collect();
        assert!(
            lines[1].contains("The Blackbird") && lines[1].contains("15/16") && lines[1].ends_with(" 32")
        );
        assert!(lines[2].contains("b…") && lines[2].ends_with("no midi") && !out.contains('\u{1b}'));
        assert_eq!(
            lines[3],
            "2 tunes: 50% parse, 50% closed, 94% of bars right (15/16), 50% have MIDI, 2 characters on average"
        );
        assert_eq!(table(&[]).lines().last().unwrap().matches('-').count(), 4);
    }
}
