//! One panel: its frame, its axes, what lies in it, and the labels at its right.

use std::fmt::Write as _;

use super::axis::{Axis, Ruled, Scale};
use super::layout::{fit, spread, text_width, wrap};
use super::shapes::{self, Dash};
use super::{MOST_POINTS, Panel, Point, SIZE, Series, bold, colour};
use crate::viz::svg::{escape, text};

/// Most of a panel's width that names of categories or labels at the right may take.
const NAMES: f64 = 0.4;
/// Between a tick's label and the frame.
const GAP: f64 = 8.0;
/// Markers of a line are so many pixels apart at least.
const MARKERS_APART: f64 = 56.0;

/// Where a panel goes, pixels: its column, the room above the frame, and the room at its right.
pub(super) struct Place {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub head: f64,
    pub right: f64,
}

/// A panel's frame and its two axes.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x: Ruled,
    y: Ruled,
    /// Categories on the vertical axis read from above.
    down: bool,
}

impl Frame {
    fn x(&self, value: f64) -> Option<f64> {
        self.x.place(value).map(|place| self.left + place.clamp(-9.0, 9.0) * (self.right - self.left))
    }

    fn y(&self, value: f64) -> Option<f64> {
        let place = self.y.place(value)?.clamp(-9.0, 9.0);
        let place = if self.down { place } else { 1.0 - place };
        Some(self.top + place * (self.bottom - self.top))
    }

    fn at(&self, point: &Point) -> Option<(f64, f64)> {
        self.x(point.x).zip(self.y(point.y))
    }

    fn has(&self, (x, y): (f64, f64)) -> bool {
        (self.left - 0.5..=self.right + 0.5).contains(&x) && (self.top - 0.5..=self.bottom + 0.5).contains(&y)
    }
}

impl Panel {
    /// Room above the frame for the title and the names of upright references, pixels.
    pub(super) fn head(&self, width: f64) -> f64 {
        let lines = wrap(&self.title, SIZE * 1.06, width - GAP, 2).len();
        let upright = self.references.iter().filter(|line| !line.horizontal).count();
        lines as f64 * SIZE * 1.3 + upright as f64 * SIZE * 1.25 + 8.0
    }

    /// Room that the names at the right need, pixels.
    pub(super) fn tail(&self, width: f64) -> f64 {
        let names = self.labels();
        let widest = names.iter().map(|label| text_width(&label.0, SIZE)).fold(0.0, f64::max);
        // A tick's label at the very end stands out by half its width.
        if names.is_empty() { 22.0 } else { widest.min(width * NAMES) + 34.0 }
    }

    /// Draws the panel; gives its lower edge.
    pub(super) fn draw(&self, out: &mut String, place: Place) -> f64 {
        let Place { left, top, width, head, right } = place;
        let points = || self.series.iter().flat_map(|one| one.points.iter().take(MOST_POINTS));
        let values = |horizontal: bool| {
            let of = move |p: &Point| {
                let (value, span) = if horizontal { (p.x, p.x_span) } else { (p.y, p.y_span) };
                [Some(value), span.map(|s| s.0), span.map(|s| s.1)]
            };
            let lines = self.references.iter().filter(move |line| line.horizontal != horizontal);
            points().flat_map(of).flatten().chain(lines.map(|line| line.value))
        };
        let y = self.y.ruled(values(false), (self.height / 55.0) as usize);
        let most = width * NAMES;
        let widest = |names: &[(f64, String)]| {
            names.iter().map(|tick| text_width(&tick.1, SIZE)).fold(0.0, f64::max).min(most)
        };
        let turned = if self.y.label.is_empty() { 0.0 } else { SIZE * 1.5 };
        let frame_left = left + turned + widest(&y.ticks) + GAP;
        let labels = self.labels();
        let frame_right = (left + width - right).max(frame_left + 40.0);
        let x = self.x.ruled(values(true), ((frame_right - frame_left) / 90.0) as usize);
        let (frame_top, frame_bottom) = (top + head, top + head + self.height);
        let down = matches!(self.y.scale, Scale::Categories(_));
        let frame =
            Frame { left: frame_left, right: frame_right, top: frame_top, bottom: frame_bottom, x, y, down };

        let mut line = top;
        for words in wrap(&self.title, SIZE * 1.06, width - GAP, 2) {
            line += SIZE * 1.3;
            bold(out, left, line - 5.0, SIZE, &words);
        }
        let bottom = self.axes(out, &frame, left, most);
        self.references(out, &frame, line);
        // Bands lie below all lines, lines below markers.
        for one in self.series.iter().filter(|one| one.band) {
            band(out, &frame, one);
        }
        for one in &self.series {
            joined(out, &frame, one);
        }
        for (i, one) in self.series.iter().enumerate() {
            dots(out, &frame, one, i);
        }
        if !points().any(|point| frame.at(point).is_some()) {
            let middle = (0.5 * (frame.left + frame.right), 0.5 * (frame.top + frame.bottom));
            text(out, middle.0, middle.1, "middle", SIZE, "no values");
        }
        self.names_at_the_right(out, &frame, &labels, left + width);
        bottom
    }

    /// Grid, frame, ticks and labels of both axes; gives the lower edge.
    fn axes(&self, out: &mut String, frame: &Frame, left: f64, most: f64) -> f64 {
        let (l, r, t, b) = (frame.left, frame.right, frame.top, frame.bottom);
        let mut rule = |x1: f64, y1: f64, x2: f64, y2: f64| {
            let _ = writeln!(
                out,
                r##"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="#e2e2e2" stroke-width="1"/>"##
            );
        };
        for x in frame.x.ticks.iter().filter_map(|tick| frame.x(tick.0)) {
            rule(x, t, x, b);
        }
        for y in frame.y.ticks.iter().filter_map(|tick| frame.y(tick.0)) {
            rule(l, y, r, y);
        }
        let _ = writeln!(
            out,
            r##"<rect x="{l:.1}" y="{t:.1}" width="{:.1}" height="{:.1}" fill="none" stroke="#444"/>"##,
            r - l,
            b - t
        );
        let mut lowest = b;
        if !frame.x.ticks.is_empty() {
            lowest += SIZE * 1.3;
            // Labels that would touch are left out, the last first kept.
            let mut free = f64::NEG_INFINITY;
            let room = (r - l) / frame.x.ticks.len() as f64;
            let named = matches!(self.x.scale, Scale::Categories(_));
            for (value, label) in &frame.x.ticks {
                let Some(x) = frame.x(*value) else { continue };
                let label = if named { fit(label, SIZE, room - 6.0) } else { label.clone() };
                let half = text_width(&label, SIZE) / 2.0;
                if x - half > free {
                    text(out, x, lowest - 3.0, "middle", SIZE, &label);
                    free = x + half + 6.0;
                }
            }
        }
        let mut free = f64::INFINITY;
        let mut ticks: Vec<(f64, &String)> =
            frame.y.ticks.iter().filter_map(|(value, label)| Some((frame.y(*value)?, label))).collect();
        ticks.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (y, label) in ticks {
            if y + SIZE * 0.5 <= free {
                text(out, l - GAP, y + SIZE * 0.35, "end", SIZE, &fit(label, SIZE, most));
                free = y - SIZE * 0.5;
            }
        }
        if !self.x.label.is_empty() {
            lowest += SIZE * 1.3;
            text(out, 0.5 * (l + r), lowest - 3.0, "middle", SIZE, &fit(&self.x.label, SIZE, r - left));
        }
        if !self.y.label.is_empty() {
            let (x, y) = (left + SIZE * 0.9, 0.5 * (t + b));
            let words = escape(&fit(&self.y.label, SIZE, b - t + 60.0));
            let _ = writeln!(
                out,
                r##"<text transform="translate({x:.1} {y:.1}) rotate(-90)" text-anchor="middle" font-size="{SIZE}" fill="#222">{words}</text>"##
            );
        }
        lowest
    }

    /// Lines across the frame; upright ones are named above it, one below the other from `line` on.
    fn references(&self, out: &mut String, frame: &Frame, mut line: f64) {
        for one in &self.references {
            let grey = "#333";
            if one.horizontal {
                let Some(y) = frame.y(one.value).filter(|&y| frame.has((frame.left, y))) else { continue };
                shapes::polyline(out, &[(frame.left, y), (frame.right, y)], grey, 1.6, Dash::Long, 1.0);
                continue;
            }
            let Some(x) = frame.x(one.value).filter(|&x| frame.has((x, frame.top))) else { continue };
            line += SIZE * 1.25;
            shapes::polyline(out, &[(x, line), (x, frame.bottom)], grey, 1.6, Dash::Long, 1.0);
            // On the side with more room, so that no name leaves the frame.
            let (after, before) = (frame.right - x, x - frame.left);
            let words = fit(&one.name, SIZE, after.max(before) - GAP);
            if after >= before {
                text(out, x + 6.0, line, "start", SIZE, &words);
            } else {
                text(out, x - 6.0, line, "end", SIZE, &words);
            }
        }
    }

    /// What is named at the right: words, colour, and the value at which it ends.
    fn labels(&self) -> Vec<(String, &'static str, f64)> {
        if !self.direct {
            return Vec::new();
        }
        let of = |one: &Series| {
            let last = one.points.iter().rev().find(|point| point.x.is_finite() && point.y.is_finite())?;
            (!one.name.is_empty()).then(|| (one.name.clone(), colour(one.colour), last.y))
        };
        let lines = self.references.iter().filter(|line| line.horizontal && line.value.is_finite());
        self.series
            .iter()
            .filter_map(of)
            .chain(lines.map(|line| (line.name.clone(), "#333", line.value)))
            .collect()
    }

    fn names_at_the_right(
        &self,
        out: &mut String,
        frame: &Frame,
        labels: &[(String, &'static str, f64)],
        edge: f64,
    ) {
        let ends: Vec<f64> = labels
            .iter()
            .map(|label| frame.y(label.2).unwrap_or(frame.top).clamp(frame.top, frame.bottom))
            .collect();
        let places = spread(&ends, SIZE * 1.15, frame.top + 4.0, frame.bottom - 4.0);
        for (((words, colour, _), end), place) in labels.iter().zip(&ends).zip(places) {
            // From where the line meets the frame to its name.
            let ends = [(frame.right + 2.0, *end), (frame.right + 22.0, place)];
            shapes::polyline(out, &ends, colour, 1.4, Dash::Solid, 1.0);
            let words = fit(words, SIZE, edge - frame.right - 26.0);
            text(out, frame.right + 26.0, place + SIZE * 0.35, "start", SIZE, &words);
        }
    }
}

/// The points' vertical spans as a region, in as many pieces as there are gaps.
fn band(out: &mut String, frame: &Frame, one: &Series) {
    let (mut upper, mut lower) = (Vec::new(), Vec::new());
    let mut close = |upper: &mut Vec<(f64, f64)>, lower: &mut Vec<(f64, f64)>| {
        if upper.len() > 1 {
            shapes::band(out, upper, lower, colour(one.colour));
        }
        upper.clear();
        lower.clear();
    };
    for point in one.points.iter().take(MOST_POINTS) {
        let span = point.y_span.and_then(|(low, high)| frame.y(low).zip(frame.y(high)));
        let place = frame.x(point.x).filter(|x| (frame.left - 0.5..=frame.right + 0.5).contains(x));
        match place.zip(span) {
            Some((x, (low, high))) => {
                upper.push((x, high.clamp(frame.top, frame.bottom)));
                lower.push((x, low.clamp(frame.top, frame.bottom)));
            }
            None => close(&mut upper, &mut lower),
        }
    }
    close(&mut upper, &mut lower);
}

fn joined(out: &mut String, frame: &Frame, one: &Series) {
    let Some(dash) = one.line else { return };
    let within = |at: &(f64, f64)| (frame.left - 0.5..=frame.right + 0.5).contains(&at.0);
    let points: Vec<Option<(f64, f64)>> =
        one.points.iter().take(MOST_POINTS).map(|point| frame.at(point).filter(within)).collect();
    let (width, opacity) = if one.faint { (1.2, 0.55) } else { (2.4, 1.0) };
    for piece in shapes::cut(&points, frame.top, frame.bottom) {
        if piece.len() > 1 {
            shapes::polyline(out, &piece, colour(one.colour), width, dash, opacity);
        }
    }
}

/// Error bars and markers. Markers on a line keep a distance, each series at places of its own.
fn dots(out: &mut String, frame: &Frame, one: &Series, index: usize) {
    let paint = colour(one.colour);
    let mut free =
        frame.left + if one.line.is_some() { (index % 4) as f64 * MARKERS_APART / 4.0 } else { 0.0 };
    let thin = one.line.is_some() && one.points.len() > 12;
    for point in one.points.iter().take(MOST_POINTS) {
        let Some((x, y)) = frame.at(point).filter(|&at| frame.has(at)) else { continue };
        if !one.band {
            let across = |end: f64| frame.x(end).map(|x| x.clamp(frame.left, frame.right));
            if let Some((from, to)) = point.x_span.and_then(|(a, b)| across(a).zip(across(b))) {
                shapes::error_bar(out, (from, y), (to, y), paint);
            }
            let along = |end: f64| frame.y(end).map(|y| y.clamp(frame.top, frame.bottom));
            if let Some((from, to)) = point.y_span.and_then(|(a, b)| along(a).zip(along(b)))
                && from != to
            {
                shapes::error_bar(out, (x, from), (x, to), paint);
            }
        }
        if let Some(kind) = one.marker
            && (!thin || x >= free)
        {
            shapes::marker(out, kind, x, y, if one.faint { 3.6 } else { 5.5 }, paint, one.hollow);
            free = x + MARKERS_APART;
        }
    }
}

/// A panel over two linear axes with nothing in it yet.
impl Default for Panel {
    fn default() -> Panel {
        Panel {
            title: String::new(),
            x: Axis::linear(""),
            y: Axis::linear(""),
            height: 300.0,
            series: Vec::new(),
            references: Vec::new(),
            direct: false,
        }
    }
}
