//! Time against hidden units, log-log, as SVG: a panel a kind of case, a line an engine, tier and number format.
//!
//! Colours tell engine and tier (Okabe and Ito's palette, told apart by people with any kind of colour vision), dashes
//! and markers the number format, so that a grey print can be read as well.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::record::{Row, significant};
pub use crate::viz::svg::png;
use crate::viz::svg::{ADVANCE, COLOURS, FONT, escape, text};

/// Width of a panel's frame, and of what is around it for labels, pixels.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 62.0;
/// Room above the panels for the title, and a line of the legend.
const TITLE: f64 = 44.0;
const LEGEND: f64 = 22.0;
/// Most panels beside each other.
const ACROSS: usize = 3;
/// One line of a panel: H and ms of its points, in order of H.
type Points = Vec<(f64, f64)>;

/// Panels by title, lines by (engine and tier, format).
type Panels = BTreeMap<(String, String, [u64; 4]), BTreeMap<(String, String), Points>>;

fn gather(rows: &[Row]) -> Panels {
    let mut panels = Panels::new();
    for row in rows {
        let (Some(hidden), Some(ms)) = (row.hidden, row.ms_per_step) else { continue };
        if hidden == 0 || ms <= 0.0 {
            continue;
        }
        let sizes = [row.layers, row.batch, row.seq_len, row.vocab].map(Option::unwrap_or_default);
        let panel = panels.entry((row.what.clone(), row.cell.clone(), sizes)).or_default();
        let engine =
            if row.tier.is_empty() { row.engine.clone() } else { format!("{} {}", row.engine, row.tier) };
        panel.entry((engine, row.precision.clone())).or_default().push((hidden as f64, ms));
    }
    for line in panels.values_mut().flat_map(BTreeMap::values_mut) {
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    panels
}

/// What an axis shows: from, to, and where its ticks are.
struct Axis {
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Axis {
    /// Ticks where the values are, for the few sizes that are measured.
    fn at(values: &[f64]) -> Axis {
        let mut ticks = values.to_vec();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        let (low, high) = (ticks.first().copied().unwrap_or(1.0), ticks.last().copied().unwrap_or(1.0));
        let room = if low == high { 2.0 } else { 1.12 };
        // Labels of neighbours closer than a tenth of the axis would overlap.
        let (from, to) = (low / room, high * room);
        let apart = (to / from).ln() * 0.1;
        let mut kept: Vec<f64> = Vec::new();
        for tick in ticks {
            if kept.last().is_none_or(|last| (tick / last).ln() >= apart) {
                kept.push(tick);
            }
        }
        Axis { from, to, ticks: kept }
    }

    /// Ticks at 1, 2 and 5 times the powers of ten, or at the powers alone over more than three of them.
    fn decades(values: &[f64]) -> Axis {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(0.0, f64::max);
        let (from, to) = (low / 1.3, high * 1.3);
        let steps: &[f64] = if to / from > 1e3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let powers = (from.log10().floor() as i32)..=(to.log10().ceil() as i32);
        let all = powers.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
        let mut ticks: Vec<f64> = all.filter(|&tick| tick >= from && tick <= to).collect();
        if ticks.len() < 2 {
            ticks = if low == high { vec![low] } else { vec![low, high] };
        }
        Axis { from, to, ticks }
    }

    /// Where a value lies, 0 to 1.
    fn place(&self, value: f64) -> f64 {
        (value / self.from).ln() / (self.to / self.from).ln()
    }
}

/// A tick's label: sizes in full, times in few digits, no trailing zeros.
fn label(value: f64) -> String {
    if value.fract() == 0.0 {
        return format!("{value}");
    }
    let text = significant(value, 3);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

/// The marker of a number format around a point.
fn marker(out: &mut String, precision: &str, x: f64, y: f64, colour: &str) {
    let shape = match precision {
        "bf16" => format!(r#"<rect x="{:.1}" y="{:.1}" width="8" height="8""#, x - 4.0, y - 4.0),
        "f16" => {
            let points = [(x, y - 5.0), (x - 5.0, y + 4.0), (x + 5.0, y + 4.0)];
            let points = points.map(|(x, y)| format!("{x:.1},{y:.1}")).join(" ");
            format!(r#"<polygon points="{points}""#)
        }
        "tf32" => {
            let points = [(x, y - 5.5), (x - 5.5, y), (x, y + 5.5), (x + 5.5, y)];
            let points = points.map(|(x, y)| format!("{x:.1},{y:.1}")).join(" ");
            format!(r#"<polygon points="{points}""#)
        }
        _ => format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="4.2""#),
    };
    let _ = writeln!(out, r##"{shape} fill="{colour}" stroke="#fff" stroke-width="0.8"/>"##);
}

fn dashes(precision: &str) -> &'static str {
    match precision {
        "bf16" => r#" stroke-dasharray="8 4""#,
        "f16" => r#" stroke-dasharray="2 4""#,
        "tf32" => r#" stroke-dasharray="10 3 2 3""#,
        _ => "",
    }
}

/// The plot of all rows that have a time; Err where none has.
pub fn svg(rows: &[Row], caption: &str) -> Result<String, String> {
    let panels = gather(rows);
    if panels.is_empty() {
        return Err("nothing was measured: there is nothing to plot".into());
    }
    let mut lines: Vec<&(String, String)> = panels.values().flat_map(BTreeMap::keys).collect();
    lines.sort();
    lines.dedup();
    let mut engines: Vec<&str> = lines.iter().map(|line| line.0.as_str()).collect();
    engines.dedup();
    let colour = |engine: &str| {
        let place = engines.iter().position(|known| *known == engine).unwrap_or(0);
        COLOURS[place % COLOURS.len()]
    };
    let across = panels.len().min(ACROSS);
    let (cell_width, cell_height) = (LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM);
    let words = LEFT + ADVANCE * 17.0 * caption.chars().count() as f64 + RIGHT;
    let width = (across as f64 * cell_width).max(words);

    // The legend, wrapped.
    let (mut legend, mut x, mut y) = (String::new(), LEFT, TITLE + 12.0);
    for (engine, precision) in lines.iter().copied() {
        let words = if precision.is_empty() { engine.clone() } else { format!("{engine}, {precision}") };
        let room = 44.0 + ADVANCE * 13.0 * words.chars().count() as f64 + 18.0;
        if x + room > width && x > LEFT {
            (x, y) = (LEFT, y + LEGEND);
        }
        stroke(&mut legend, &[(x, y - 4.0), (x + 34.0, y - 4.0)], colour(engine), precision);
        marker(&mut legend, precision, x + 17.0, y - 4.0, colour(engine));
        text(&mut legend, x + 42.0, y, "start", 13.0, &words);
        x += room;
    }
    let head = y + 14.0;
    let height = head + panels.len().div_ceil(across) as f64 * cell_height;

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"{FONT}\">\n<title>{}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        escape(caption)
    );
    text(&mut out, LEFT, 27.0, "start", 17.0, caption);
    out.push_str(&legend);
    for (i, ((what, cell, [layers, batch, seq_len, _]), lines)) in panels.iter().enumerate() {
        let left = (i % across) as f64 * cell_width + LEFT;
        let top = head + (i / across) as f64 * cell_height + TOP;
        let title = format!("{what}: {cell}, {layers} layers, B {batch}, T {seq_len}")
            .replace(" 1 layers", " 1 layer");
        text(&mut out, left, top - 10.0, "start", 14.0, &title);
        panel(&mut out, left, top, lines, &colour);
    }
    out.push_str("</svg>\n");
    Ok(out)
}

fn stroke(out: &mut String, points: &[(f64, f64)], colour: &str, precision: &str) {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let (points, dashes) = (points.join(" "), dashes(precision));
    let _ = writeln!(
        out,
        r#"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>"#
    );
}

fn panel(
    out: &mut String,
    left: f64,
    top: f64,
    lines: &BTreeMap<(String, String), Points>,
    colour: &dyn Fn(&str) -> &'static str,
) {
    let all: Vec<(f64, f64)> = lines.values().flatten().copied().collect();
    let horizontal = Axis::at(&all.iter().map(|point| point.0).collect::<Vec<_>>());
    let vertical = Axis::decades(&all.iter().map(|point| point.1).collect::<Vec<_>>());
    let x = |value: f64| left + horizontal.place(value) * WIDTH;
    let y = |value: f64| top + (1.0 - vertical.place(value)) * HEIGHT;
    let (bottom, right) = (top + HEIGHT, left + WIDTH);
    let mut rule = |x1: f64, y1: f64, x2: f64, y2: f64| {
        let _ = writeln!(
            out,
            r##"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="#ddd" stroke-width="1"/>"##
        );
    };
    horizontal.ticks.iter().for_each(|&tick| rule(x(tick), top, x(tick), bottom));
    vertical.ticks.iter().for_each(|&tick| rule(left, y(tick), right, y(tick)));
    for &tick in &horizontal.ticks {
        text(out, x(tick), bottom + 18.0, "middle", 12.0, &label(tick));
    }
    for &tick in &vertical.ticks {
        text(out, left - 8.0, y(tick) + 4.0, "end", 12.0, &label(tick));
    }
    let _ = writeln!(
        out,
        r##"<rect x="{left:.1}" y="{top:.1}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#444"/>"##
    );
    text(out, left + WIDTH / 2.0, bottom + 40.0, "middle", 13.0, "hidden units H (log)");
    let (axis_x, axis_y) = (left - 58.0, top + HEIGHT / 2.0);
    let _ = writeln!(
        out,
        r##"<text transform="translate({axis_x:.1} {axis_y:.1}) rotate(-90)" text-anchor="middle" font-size="13" fill="#222">time a step, ms (log)</text>"##
    );
    for ((engine, precision), points) in lines {
        let placed: Vec<(f64, f64)> = points.iter().map(|&(h, ms)| (x(h), y(ms))).collect();
        stroke(out, &placed, colour(engine), precision);
        for (x, y) in placed {
            marker(out, precision, x, y, colour(engine));
        }
    }
}

#[cfg(test)]
#[path = "plot_tests.rs"]
mod tests;
