//! Charts as SVG: panels with axes, lines with bands, points with error bars, reference lines, and a legend that stands
//! beside or below the data, never on it. [`crate::viz::svg::png`] makes a PNG of one.
//!
//! What is drawn can be read in grey (markers and dashes besides Okabe and Ito's colours) and at half its width, as on
//! a phone. Values that are not finite are gaps; no coordinate ever is.

mod axis;
mod layout;
mod panel;
mod shapes;

pub use axis::{Axis, Scale, Unit};
pub use shapes::{Dash, Marker};

use std::fmt::Write as _;

use super::svg::{FONT, escape, text};
use layout::{fit, text_width, wrap};

/// Width of every figure, pixels.
pub const WIDTH: f64 = 720.0;
/// Sizes of text, pixels; halved on a phone.
const TITLE_SIZE: f64 = 21.0;
const SIZE: f64 = 17.0;
const NOTE_SIZE: f64 = 15.5;
/// Room at a figure's edges, pixels.
const EDGE: f64 = 16.0;
/// Most points of a series that are drawn.
const MOST_POINTS: usize = 20_000;

/// A picture: a title, panels beside and below each other, a legend, a note.
#[derive(Debug, Clone, Default)]
pub struct Figure {
    /// Above everything.
    pub title: String,
    /// Under the title, smaller; wrapped.
    pub subtitle: String,
    /// Panels beside each other, at least 1.
    pub columns: usize,
    /// From left to right, then down.
    pub panels: Vec<Panel>,
    /// Entries of the legend besides those of the series (a band, an error bar), in words and a swatch.
    pub keys: Vec<(String, Swatch)>,
    /// Below everything, wrapped.
    pub note: String,
}

/// One frame with its axes.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Above the frame.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// Height of the frame, pixels.
    pub height: f64,
    /// What it shows.
    pub series: Vec<Series>,
    /// Lines across it.
    pub references: Vec<Reference>,
    /// Whether series and horizontal references are named at the right of the frame instead of in the legend.
    pub direct: bool,
}

/// A line across a panel at a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Its name and value, ready to read.
    pub name: String,
    /// Where it is.
    pub value: f64,
    /// Whether it is a value of the vertical axis (a horizontal line) or of the horizontal one.
    pub horizontal: bool,
}

/// Points that belong together.
#[derive(Debug, Clone)]
pub struct Series {
    /// For the legend; empty: in none.
    pub name: String,
    /// Index of its colour among [`COLOURS`]; None: grey.
    pub colour: Option<usize>,
    /// Whether its points are joined, and how.
    pub line: Option<Dash>,
    /// What stands at its points.
    pub marker: Option<Marker>,
    /// Whether markers are hollow.
    pub hollow: bool,
    /// Whether the points' vertical spans are drawn as a shaded band instead of error bars.
    pub band: bool,
    /// Drawn thin and pale: one of many behind a mean.
    pub faint: bool,
    /// In order.
    pub points: Vec<Point>,
}

impl Default for Series {
    fn default() -> Series {
        Series {
            name: String::new(),
            colour: Some(0),
            line: None,
            marker: None,
            hollow: false,
            band: false,
            faint: false,
            points: Vec::new(),
        }
    }
}

/// A point in its panel's units; a category's place is its index. A coordinate that is not finite is a gap.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Point {
    /// Horizontally.
    pub x: f64,
    /// Vertically.
    pub y: f64,
    /// From and to, horizontally.
    pub x_span: Option<(f64, f64)>,
    /// From and to, vertically.
    pub y_span: Option<(f64, f64)>,
}

/// What a key of the legend looks like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Swatch {
    /// A piece of a line and its marker.
    Line(Option<usize>, Option<Dash>, Option<Marker>, bool),
    /// A piece of a band.
    Band,
    /// A marker with an error bar.
    Bar,
    /// A piece of a reference line.
    Reference,
}

/// Okabe and Ito's colours but yellow, which is too faint for a line on white.
pub const COLOURS: [&str; 7] = [
    super::svg::COLOURS[0],
    super::svg::COLOURS[1],
    super::svg::COLOURS[2],
    super::svg::COLOURS[3],
    super::svg::COLOURS[4],
    super::svg::COLOURS[5],
    super::svg::COLOURS[6],
];

/// Of what has no colour of its own.
const GREY: &str = "#666";

fn colour(index: Option<usize>) -> &'static str {
    index.map_or(GREY, |index| COLOURS[index % COLOURS.len()])
}

impl Figure {
    /// As an SVG document.
    pub fn svg(&self) -> String {
        let mut body = String::new();
        let inner = WIDTH - 2.0 * EDGE;
        let mut y = EDGE;
        for line in wrap(&self.title, TITLE_SIZE * 1.06, inner, 3) {
            y += TITLE_SIZE * 1.2;
            bold(&mut body, EDGE, y - 4.0, TITLE_SIZE, &line);
        }
        for line in wrap(&self.subtitle, SIZE, inner, 4) {
            y += SIZE * 1.3;
            text(&mut body, EDGE, y - 2.0, "start", SIZE, &line);
        }
        y += 12.0;
        let columns = self.columns.clamp(1, 3);
        let across = inner / columns as f64;
        // Frames below each other end at the same place.
        let right = self.panels.iter().map(|one| one.tail(across)).fold(0.0, f64::max);
        for row in self.panels.chunks(columns) {
            let mut lowest = y;
            // Panels beside each other start their frames at the same height.
            let head = row.iter().map(|one| one.head(across)).fold(0.0, f64::max);
            for (i, one) in row.iter().enumerate() {
                let left = EDGE + i as f64 * across;
                let bottom = one.draw(&mut body, panel::Place { left, top: y, width: across, head, right });
                lowest = lowest.max(bottom);
            }
            y = lowest + 24.0;
        }
        y = self.legend(&mut body, y);
        for line in wrap(&self.note, NOTE_SIZE, inner, 8) {
            y += NOTE_SIZE * 1.35;
            text(&mut body, EDGE, y - 3.0, "start", NOTE_SIZE, &line);
        }
        let height = (y + EDGE).ceil();
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {WIDTH:.0} {height:.0}\" font-family=\"{FONT}\" role=\"img\">\n\
             <title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n",
            escape(&self.title)
        )
    }

    /// Names of series in the order of their first panel, then references, then the figure's own keys.
    fn keys(&self) -> Vec<(String, Swatch)> {
        let mut keys: Vec<(String, Swatch)> = Vec::new();
        for panel in self.panels.iter().filter(|panel| !panel.direct) {
            for one in panel.series.iter().filter(|one| !one.name.is_empty()) {
                keys.push((one.name.clone(), Swatch::Line(one.colour, one.line, one.marker, one.hollow)));
            }
            for line in panel.references.iter().filter(|line| line.horizontal && !line.name.is_empty()) {
                keys.push((line.name.clone(), Swatch::Reference));
            }
        }
        keys.extend(self.keys.iter().cloned());
        let mut unique: Vec<(String, Swatch)> = Vec::new();
        for key in keys {
            if !unique.contains(&key) {
                unique.push(key);
            }
        }
        unique
    }

    /// Draws the legend from `y` down, wrapped; gives where it ends.
    fn legend(&self, out: &mut String, y: f64) -> f64 {
        const SWATCH: f64 = 38.0;
        let keys = self.keys();
        if keys.is_empty() {
            return y;
        }
        let (mut x, mut y) = (EDGE, y + SIZE);
        for (name, swatch) in keys {
            let name = fit(&name, SIZE, WIDTH - 2.0 * EDGE - SWATCH - 8.0);
            let room = SWATCH + 8.0 + text_width(&name, SIZE) + 20.0;
            if x > EDGE && x + room - 20.0 > WIDTH - EDGE {
                (x, y) = (EDGE, y + SIZE * 1.5);
            }
            let middle = y - SIZE * 0.33;
            match swatch {
                Swatch::Line(index, dash, marker, hollow) => {
                    if let Some(dash) = dash {
                        let ends = [(x, middle), (x + SWATCH, middle)];
                        shapes::polyline(out, &ends, colour(index), 2.4, dash, 1.0);
                    }
                    if let Some(marker) = marker {
                        shapes::marker(out, marker, x + SWATCH / 2.0, middle, 5.5, colour(index), hollow);
                    }
                }
                Swatch::Band => {
                    let _ = writeln!(
                        out,
                        r#"<rect x="{x:.1}" y="{:.1}" width="{SWATCH}" height="14" fill="{GREY}" fill-opacity="0.25"/>"#,
                        middle - 7.0
                    );
                }
                Swatch::Bar => {
                    let centre = x + SWATCH / 2.0;
                    shapes::error_bar(out, (x + 4.0, middle), (x + SWATCH - 4.0, middle), GREY);
                    shapes::marker(out, Marker::Circle, centre, middle, 5.5, GREY, false);
                }
                Swatch::Reference => {
                    shapes::polyline(out, &[(x, middle), (x + SWATCH, middle)], "#333", 1.6, Dash::Long, 1.0);
                }
            }
            text(out, x + SWATCH + 8.0, y, "start", SIZE, &name);
            x += room;
        }
        y + 12.0
    }
}

fn bold(out: &mut String, x: f64, y: f64, size: f64, words: &str) {
    let words = escape(words);
    let _ = writeln!(
        out,
        r##"<text x="{x:.1}" y="{y:.1}" font-size="{size}" font-weight="bold" fill="#222">{words}</text>"##
    );
}

#[cfg(test)]
mod tests;
