//! A neuron over a tune: the text in its own lines, every character on the colour of the activation after it was read.

use std::fmt::Write as _;

use super::diverging::{hex, ink, rgb};
use super::svg::{ADVANCE, FONT, MONO, escape, text};

/// Characters of a line; what is longer goes on below, behind a mark.
pub const COLUMNS: usize = 64;

/// The most lines of a picture, so that a page can hold it and a PNG has room in memory.
pub const ROWS: usize = 250;

const CELL: f64 = 11.0;
const ROW: f64 = 24.0;
const GLYPH: f64 = 16.0;
const LEFT: f64 = 34.0;
/// One cell more than [`COLUMNS`]: the mark of a line's end may hang over.
const WIDTH: f64 = LEFT + (COLUMNS as f64 + 1.0) * CELL + 24.0;
const BAR: f64 = 260.0;

/// What is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Heatmap<'a> {
    /// Which neuron, in one line or a few.
    pub title: &'a str,
    /// Below it: the label and its scores; may be empty.
    pub subtitle: &'a str,
    /// Small print: the sentence, which text this is. One paragraph each.
    pub captions: &'a [String],
    /// What the colours show: `h`, `tanh(c)`, `forget gate f`.
    pub quantity: &'a str,
    /// The text \[T\].
    pub text: &'a [char],
    /// Activation after each character \[T\], -1 to 1.
    pub values: &'a [f32],
}

/// Where a character stands: row and column from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    row: usize,
    column: usize,
}

/// Rows of the text: a place for every character, and the rows that go on from the one before.
fn places(text: &[char]) -> (Vec<Place>, Vec<usize>) {
    let (mut row, mut column) = (0, 0);
    let (mut places, mut continued) = (Vec::with_capacity(text.len()), Vec::new());
    for &c in text {
        if column == COLUMNS && c != '\n' {
            (row, column) = (row + 1, 0);
            continued.push(row);
        }
        places.push(Place { row, column });
        column += 1;
        if c == '\n' {
            (row, column) = (row + 1, 0);
        }
    }
    (places, continued)
}

/// How many of the first characters of a text fit into [`ROWS`].
pub fn fitting(text: &[char]) -> usize {
    let (places, _) = places(text);
    places.iter().take_while(|place| place.row < ROWS).count()
}

/// The picture; of a text that needs more than [`ROWS`] rows the beginning, and it says so.
pub fn svg(map: &Heatmap) -> String {
    let shown = fitting(map.text).min(map.values.len());
    let (places, continued) = places(&map.text[..shown]);
    let rows = places.last().map_or(1, |place| place.row + 1);
    let mut body = String::new();
    let mut y = 14.0;
    let mut lines = |size: f64, paragraph: &str| {
        for line in wrap(paragraph, ((WIDTH - 2.0 * 24.0) / (size * ADVANCE * 0.9)) as usize) {
            y += size * 1.35;
            text(&mut body, 24.0, y, "start", size, &line);
        }
    };
    lines(20.0, map.title);
    lines(16.0, map.subtitle);
    map.captions.iter().for_each(|caption| lines(13.0, caption));
    if shown < map.text.len() {
        lines(13.0, &format!("The first {shown} of {} characters.", map.text.len()));
    }
    y += 22.0;
    colour_bar(&mut body, y, map.quantity);
    y += 52.0;
    cells(&mut body, y, map, &places);
    for row in continued {
        let y = y + row as f64 * ROW + 0.72 * ROW;
        let _ = writeln!(
            body,
            r##"<text x="{:.1}" y="{y:.1}" text-anchor="end" font-family="{MONO}" font-size="{GLYPH}" fill="#777">↪</text>"##,
            LEFT - 5.0
        );
    }
    let height = y + rows as f64 * ROW + 20.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         font-family=\"{FONT}\" role=\"img\">\n<title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n",
        escape(map.title)
    )
}

fn colour_bar(out: &mut String, y: f64, quantity: &str) {
    const STEPS: usize = 65;
    let step = BAR / STEPS as f64;
    for at in 0..STEPS {
        let fill = hex(rgb(at as f64 / (STEPS - 1) as f64 * 2.0 - 1.0));
        // Each a little wider than its step: no seams between them.
        let x = LEFT + at as f64 * step;
        let _ = writeln!(
            out,
            r##"<rect x="{x:.1}" y="{y:.1}" width="{:.1}" height="14" fill="{fill}"/>"##,
            if at + 1 < STEPS { step + 0.6 } else { step }
        );
    }
    let _ = writeln!(
        out,
        r##"<rect x="{LEFT}" y="{y:.1}" width="{BAR}" height="14" fill="none" stroke="#555" stroke-width="0.8"/>"##
    );
    for (place, tick) in [(0.0, "−1"), (0.25, "−0.5"), (0.5, "0"), (0.75, "0.5"), (1.0, "1")] {
        let x = LEFT + place * BAR;
        let _ = writeln!(
            out,
            r##"<line x1="{x:.1}" y1="{:.1}" x2="{x:.1}" y2="{:.1}" stroke="#555" stroke-width="0.8"/>"##,
            y + 14.0,
            y + 19.0
        );
        text(out, x, y + 33.0, "middle", 13.0, tick);
    }
    let words = format!("{quantity} after each character was read");
    text(out, LEFT + BAR + 22.0, y + 12.0, "start", 13.0, &words);
}

fn cells(out: &mut String, top: f64, map: &Heatmap, places: &[Place]) {
    for ((place, &c), &value) in places.iter().zip(map.text).zip(map.values) {
        let colour = rgb(f64::from(value));
        let (x, y) = (LEFT + place.column as f64 * CELL, top + place.row as f64 * ROW);
        let (fill, ink) = (hex(colour), ink(colour));
        let _ = writeln!(
            out,
            r##"<rect x="{x}" y="{y:.1}" width="{CELL}" height="{}" fill="{fill}"/>"##,
            ROW - 1.0
        );
        let (shown, size, faint) = match c {
            ' ' => continue,
            '\n' => ("↵".to_owned(), GLYPH - 3.0, true),
            '\t' => ("⇥".to_owned(), GLYPH - 3.0, true),
            c => (c.to_string(), GLYPH, false),
        };
        let opacity = if faint { r##" fill-opacity="0.75""## } else { "" };
        // A character an element: none can turn, join or move its neighbours.
        let _ = writeln!(
            out,
            r##"<text x="{:.1}" y="{:.1}" text-anchor="middle" font-family="{MONO}" font-size="{size}" fill="{ink}"{opacity}>{}</text>"##,
            x + CELL / 2.0,
            y + 0.7 * ROW,
            escape(&shown)
        );
    }
}

/// A paragraph in lines of at most `columns` characters, broken at blanks where there are any.
fn wrap(paragraph: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for word in paragraph.split_whitespace() {
        let chars: Vec<char> = word.chars().collect();
        for (at, piece) in chars.chunks(columns.max(1)).enumerate() {
            let blank = usize::from(at == 0 && length > 0);
            if length + blank + piece.len() > columns && length > 0 {
                lines.push(std::mem::take(&mut line));
                length = 0;
            }
            if at == 0 && length > 0 {
                line.push(' ');
                length += 1;
            }
            line.extend(piece);
            length += piece.len();
        }
    }
    if length > 0 {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::viz::svg::png;

    fn draw(text: &str, title: &str) -> String {
        let text: Vec<char> = text.chars().collect();
        let values: Vec<f32> = (0..text.len()).map(|t| (t as f32 * 0.7).sin()).collect();
        let captions = [title.to_owned()];
        svg(&Heatmap {
            title,
            subtitle: title,
            captions: &captions,
            quantity: "h",
            text: &text,
            values: &values,
        })
    }

    /// Elements of a kind.
    fn count(svg: &str, what: &str) -> usize {
        svg.matches(what).count()
    }

    #[test]
    fn lines_are_the_text_s_own() {
        let chars: Vec<char> = format!("ab\n\n{}\nc", "x".repeat(COLUMNS)).chars().collect();
        let (found, continued) = places(&chars);
        let at = |row, column| Place { row, column };
        assert_eq!(found[..4], [at(0, 0), at(0, 1), at(0, 2), at(1, 0)]);
        assert_eq!(found[4..6], [at(2, 0), at(2, 1)]);
        assert_eq!(found[4 + COLUMNS], at(2, COLUMNS), "the mark of the line's end hangs over");
        assert_eq!(found[5 + COLUMNS], at(3, 0));
        assert!(continued.is_empty());
        let chars: Vec<char> = "y".repeat(2 * COLUMNS + 1).chars().collect();
        let (found, continued) = places(&chars);
        assert_eq!((found[COLUMNS], found[2 * COLUMNS]), (at(1, 0), at(2, 0)));
        assert_eq!(continued, [1, 2]);
        assert_eq!(count(&draw(&"y".repeat(2 * COLUMNS + 1), "t"), "↪"), 2);
    }

    #[test]
    fn every_character_has_its_cell_and_colour() {
        let text: Vec<char> = "K:D\nA b".chars().collect();
        let values = [-1.0, 1.0, 0.0, 0.5, -0.5, 1.0, f32::NAN];
        let map =
            Heatmap { title: "", subtitle: "", captions: &[], quantity: "h", text: &text, values: &values };
        let svg = svg(&map);
        let cells: Vec<&str> = svg.lines().filter(|line| line.contains("width=\"11\"")).collect();
        assert_eq!(cells.len(), text.len());
        for (cell, value) in cells.iter().zip(values) {
            assert!(cell.contains(&hex(rgb(f64::from(value)))), "{cell} {value}");
        }
        let row =
            |at: usize| cells[at].split("y=\"").nth(1).unwrap().split('"').next().unwrap().parse::<f64>();
        assert_eq!(row(4).unwrap() - row(0).unwrap(), ROW, "A stands in the second line");
        for tick in ["−1", "−0.5", ">0<", "0.5", "↵"] {
            assert!(svg.contains(tick), "{tick}");
        }
    }

    #[test]
    fn hostile_text_is_text() {
        let hostile = "T:<script>alert(\"1\")</script>'&\u{202e}\u{0}\u{7}\tא\u{301}中\u{1f600}]]>";
        let svg = draw(hostile, hostile);
        assert!(!svg.contains("<script") && !svg.contains('\u{202e}') && !svg.contains('\0'), "{svg}");
        let tree = resvg::usvg::roxmltree::Document::parse(&svg).unwrap();
        let names: std::collections::BTreeSet<&str> =
            tree.descendants().filter(|n| n.is_element()).map(|n| n.tag_name().name()).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["line", "rect", "svg", "text", "title"]);
        png(&svg).unwrap();
    }

    #[test]
    fn a_picture_is_narrow_and_not_endless() {
        let svg = draw(&"A\n".repeat(5000), "long");
        let size = |name: &str| {
            svg.split(&format!("{name}=\""))
                .nth(1)
                .unwrap()
                .split('"')
                .next()
                .unwrap()
                .parse::<f64>()
                .unwrap()
        };
        assert!(size("width") <= 1000.0 && size("height") < ROWS as f64 * ROW + 400.0);
        assert!(svg.contains("The first 500 of 10000 characters."));
        assert!(png(&draw("", "")).is_ok(), "nothing to draw");
    }

    #[test]
    fn a_png_has_its_words() {
        let pixels = |text: &str| {
            let png = png(&draw(text, "Unit 1")).unwrap();
            let image = resvg::tiny_skia::Pixmap::decode_png(&png).unwrap();
            (image.width(), image.data().to_vec())
        };
        let ((wide, with), (_, without)) = (pixels("ABCDEFGH"), pixels("        "));
        assert!(wide > 1000, "{wide}");
        let differ = with.chunks(4).zip(without.chunks(4)).filter(|(a, b)| a != b).count();
        // Eight letters of some 16 by 32 pixels, of which ink covers a part.
        assert!(differ > 500, "{differ} pixels of ink");
        let all = with.chunks(4).filter(|pixel| pixel[..3] == [0x22; 3]).count();
        assert!(all > 100, "the title: {all}");
    }

    #[test]
    fn paragraphs_are_broken() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh i", 3), ["abc", "def", "gh", "i"]);
        assert!(wrap("", 5).is_empty());
    }
}
