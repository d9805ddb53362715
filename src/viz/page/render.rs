//! [`PageData`] to one HTML file: style, data and script put together, and a policy that lets nothing else run.
//!
//! The page is plain HTML, CSS and JavaScript from `assets/`, one file a purpose, joined in the order of [`SCRIPTS`] in
//! one function. Data never becomes markup: it stands as JSON in an element that is not run, and the script makes text
//! nodes of it. The Content-Security-Policy names the hash of every style and script, so that nothing that slipped in
//! could run, and allows no request but for abcjs ([`ABCJS_URL`]), which is only made when a button is pressed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::data::PageData;
use crate::viz::svg::escape;

/// The build of abcjs that the page offers to load: one version, whose bytes must have [`ABCJS_INTEGRITY`].
const ABCJS_URL: &str = "https://cdn.jsdelivr.net/npm/abcjs@6.7.2/dist/abcjs-basic-min.js";
/// SHA-384 of the file `dist/abcjs-basic-min.js` of abcjs 6.7.2 as npm has it.
const ABCJS_INTEGRITY: &str = "sha384-Krv/BCaWJLV9H685MWfrINhbvpWvnnBfQds5IVDXSsFtjUG5UzAV9x1dvqNhASXV";
/// What abcjs puts in a `<style>` of every score. The policy allows this text and no other.
const ABCJS_STYLE: &str = ".abcjs-dragging-in-progress text, .abcjs-dragging-in-progress tspan \
    {-webkit-touch-callout: none; -webkit-user-select: none; -khtml-user-select: none; \
    -moz-user-select: none; -ms-user-select: none; user-select: none;}";

/// The style, in order.
const STYLES: [&str; 3] =
    [include_str!("assets/base.css"), include_str!("assets/parts.css"), include_str!("assets/media.css")];

/// The script, in order: each may use what stands before it, and inside functions what stands after it.
const SCRIPTS: [&str; 13] = [
    include_str!("assets/dom.js"),
    include_str!("assets/data.js"),
    include_str!("assets/theme.js"),
    include_str!("assets/tables.js"),
    include_str!("assets/curves.js"),
    include_str!("assets/measures.js"),
    include_str!("assets/player.js"),
    include_str!("assets/pianoroll.js"),
    include_str!("assets/score.js"),
    include_str!("assets/tunes.js"),
    include_str!("assets/neurons.js"),
    include_str!("assets/keys.js"),
    include_str!("assets/main.js"),
];

/// What a page may be made with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RenderOptions {
    /// Source text of a build of abcjs (`dist/abcjs-basic-min.js`) to put into the page, so that scores are engraved
    /// without a network. None: the page offers to load it.
    pub abcjs: Option<String>,
}

/// A page as one HTML file that needs nothing beside it.
///
/// Every text of `data` may be anything at all. Numbers that are not finite are shown as missing.
pub fn render(data: &PageData, options: &RenderOptions) -> String {
    let json = match serde_json::to_string(data) {
        Ok(json) => json,
        // No value of `PageData` is known for which this happens; if one is found, the page says so.
        Err(why) => serde_json::json!({
            "title": "This report could not be written",
            "facts": [format!("its data cannot be put as JSON: {why}")],
        })
        .to_string(),
    };
    let style = STYLES.concat();
    let script = format!("(() => {{\n'use strict';\n{}}})();\n", SCRIPTS.concat());
    let abcjs = options.abcjs.as_deref().map(script_text);
    let mut scripts = vec![hash(&script)];
    scripts.extend(abcjs.as_deref().map(hash));
    if abcjs.is_none() {
        scripts.push(ABCJS_URL.to_owned());
    }
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {} {}; style-src-attr 'unsafe-inline'; base-uri 'none'; form-action 'none'",
        scripts.join(" "),
        hash(&style),
        hash(ABCJS_STYLE),
    );
    let title = escape(&data.title);
    let inlined = abcjs.map(|source| format!("<script id=\"abcjs\">{source}</script>\n")).unwrap_or_default();
    let shell = include_str!("assets/shell.html");
    // The parts are put in one by one between the marks of the shell, so that no part is searched for marks.
    let mut page =
        String::with_capacity(shell.len() + json.len() + style.len() + script.len() + inlined.len() + 4096);
    for piece in shell.split("{{") {
        let (mark, rest) = piece.split_once("}}").unwrap_or(("", piece));
        match mark {
            "policy" => page.push_str(&policy),
            "title" => page.push_str(&title),
            "style" => page.push_str(&style),
            "data" => page.push_str(&script_json(&json)),
            "abcjs" => page.push_str(&inlined),
            "abcjs-url" => page.push_str(ABCJS_URL),
            "abcjs-integrity" => page.push_str(ABCJS_INTEGRITY),
            "script" => page.push_str(&script),
            _ => {}
        }
        page.push_str(rest);
    }
    page
}

/// JSON as it may stand in a script element. These characters only occur inside JSON's strings, where an escape means
/// the same.
fn script_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + json.len() / 64);
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// JavaScript as it may stand in a script element and as a browser reads it from there: no end tag, no comment that
/// would hide one (in strings and regular expressions an escaped character is the same), line ends as HTML has them.
fn script_text(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n").replace('\0', "\u{fffd}");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(at) = rest.find('<') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = &from[1..];
        let tag =
            after.get(..7).is_some_and(|t| t.eq_ignore_ascii_case("/script")) || after.starts_with("!--");
        out.push_str(if tag { "\\x3c" } else { "<" });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The source expression of an inline style or script.
fn hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
