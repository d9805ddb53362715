//! What every picture here is made with: escaping, text, colours, room for words, and SVG to PNG.

use std::fmt::Write as _;

/// Okabe and Ito 2008: told apart by people with any kind of colour vision. Yellow last: it is faint on white.
pub const COLOURS: [&str; 8] =
    ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00", "#F0E442"];

/// Family of the font; a PNG is drawn with the first.
pub const FONT: &str = "DejaVu Sans, Verdana, sans-serif";

/// Family of the font for tunes; a PNG is drawn with the first.
pub const MONO: &str = "DejaVu Sans Mono, Menlo, Consolas, monospace";

/// Average advance of a character of [`FONT`], in em: what room a label needs.
pub const ADVANCE: f64 = 0.62;

/// Advance of every character of [`MONO`], in em.
pub const MONO_ADVANCE: f64 = 0.602;

/// Text as it may stand in SVG and HTML, between tags and in quoted attributes. Characters that XML 1.0 forbids become
/// U+FFFD, and so do those that turn the direction of writing, so that no title can rearrange a page.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(c),
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.push('\u{fffd}')
            }
            c => out.push(c),
        }
    }
    out
}

/// Appends words at a place; `anchor` is `start`, `middle` or `end`.
pub fn text(out: &mut String, x: f64, y: f64, anchor: &str, size: f64, words: &str) {
    let words = escape(words);
    let _ = writeln!(
        out,
        r##"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}" fill="#222">{words}</text>"##
    );
}

/// An SVG as PNG, twice as many pixels each way. The fonts are carried along: none of the system's is needed.
pub fn png(svg: &str) -> Result<Vec<u8>, String> {
    use resvg::{tiny_skia, usvg};
    const SCALE: f32 = 2.0;
    let mut options = usvg::Options { font_family: "DejaVu Sans".into(), ..usvg::Options::default() };
    let fonts = options.fontdb_mut();
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.load_font_data(dejavu::sans::bold().to_vec());
    fonts.load_font_data(dejavu::sans_mono::regular().to_vec());
    let tree = usvg::Tree::from_str(svg, &options).map_err(|why| format!("the plot's SVG: {why}"))?;
    let size = tree.size().to_int_size().scale_by(SCALE).ok_or("the plot has no size")?;
    let mut pixels =
        tiny_skia::Pixmap::new(size.width(), size.height()).ok_or("the plot is too large for memory")?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|why| format!("the plot's PNG: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_title_is_markup_or_turns_the_line() {
        let hostile = "</text><script>alert('1')</script> & \"q\" \u{202e}abc\u{0}\u{7}";
        let safe = escape(hostile);
        assert!(!safe.contains(['<', '>', '"', '\'', '\u{202e}', '\0', '\u{7}']), "{safe}");
        let mut out = String::new();
        text(&mut out, 1.0, 2.0, "start", 12.0, hostile);
        let svg = format!("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9\" height=\"9\">{out}</svg>");
        assert!(png(&svg).is_ok(), "{svg}");
        assert_eq!(escape("Tÿ א\tok"), "Tÿ א\tok");
    }
}
