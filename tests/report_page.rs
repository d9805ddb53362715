//! The report page in a real browser: headless Chromium from disk, driven by real keys and a real mouse. Where no
//! Chromium is installed these tests say SKIP. Set `SONGRNN_SCREENSHOTS` to a folder to keep pictures of the page.

#[path = "report_page/browser.rs"]
mod browser;
#[path = "report_page/pages.rs"]
mod pages;

use std::sync::{Mutex, MutexGuard, PoisonError};

use browser::Browser;
use serde_json::{Value, json};
use songrnn_fast::abc;
use songrnn_fast::viz::page::data::{PageData, Section, TunePage};
use songrnn_fast::viz::page::{RenderOptions, render};

/// One browser at a time: sound needs its time slices.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A browser and the folder of its page; None after saying why not.
fn start(test: &str) -> Option<(Browser, tempfile::TempDir)> {
    let Some(program) = browser::find() else {
        println!("SKIP {test}: no chromium, chromium-browser or google-chrome is installed");
        return None;
    };
    Some((Browser::start(&program, 1280, 900), tempfile::tempdir().unwrap()))
}

fn open(browser: &mut Browser, folder: &tempfile::TempDir, data: &PageData, options: &RenderOptions) -> usize {
    let html = render(data, options);
    let file = folder.path().join("report.html");
    std::fs::write(&file, &html).unwrap();
    browser.open(&file);
    html.len()
}

/// Keeps what every oscillator was told, and what it would have sounded.
const RECORD: &str = "
    window.sounds = [];
    const create = BaseAudioContext.prototype.createOscillator;
    BaseAudioContext.prototype.createOscillator = function () {
      const oscillator = create.call(this);
      const start = oscillator.start.bind(oscillator);
      const stop = oscillator.stop.bind(oscillator);
      const sound = {start: null, stop: null};
      oscillator.start = (at) => {
        sound.start = at;
        sound.frequency = oscillator.frequency.value;
        window.sounds.push(sound);
        start(at);
      };
      oscillator.stop = (at) => { sound.stop = at; stop(at); };
      return oscillator;
    };";

/// How long an oscillator fades after its note's end, seconds: `TAIL` of player.js.
const TAIL: f64 = 0.15;
/// The page's clock against exact arithmetic, seconds of the audio clock.
const EXACT: f64 = 1e-4;

/// What sounded: from, to (audio clock), pitch; by onset and pitch. What was taken back before it began is left out.
fn sounded(browser: &mut Browser) -> Vec<(f64, f64, f64)> {
    let sounds = browser.eval("window.sounds");
    let mut out: Vec<(f64, f64, f64)> = sounds
        .as_array()
        .unwrap()
        .iter()
        .map(|s| {
            let pitch = 69.0 + 12.0 * (s["frequency"].as_f64().unwrap() / 440.0).log2();
            (s["start"].as_f64().unwrap(), s["stop"].as_f64().unwrap() - TAIL, pitch)
        })
        .filter(|s| s.1 > s.0)
        .collect();
    out.sort_by(|a, b| (a.0 + a.2 * 1e-7).total_cmp(&(b.0 + b.2 * 1e-7)));
    out
}

fn tunes_page(tunes: Vec<TunePage>) -> PageData {
    PageData { title: "Tunes".to_owned(), tunes, ..PageData::default() }
}

#[test]
fn the_page_is_quiet_and_whole_in_both_themes_and_widths() {
    let _turn = turn();
    let Some((mut browser, folder)) = start("the page in both themes and widths") else { return };
    let data = pages::full();
    open(&mut browser, &folder, &data, &RenderOptions::default());
    for id in ["discussion", "experiments", "ngrams", "measures", "tunes", "neurons"] {
        assert_eq!(browser.eval(&format!("document.querySelectorAll('section#{id}').length")), 1, "{id}");
    }
    assert_eq!(browser.text("document.querySelector('h1').textContent"), data.title);
    let mut papers = Vec::new();
    for (scheme, width, height) in
        [("light", 1280, 900), ("dark", 1280, 900), ("light", 375, 812), ("dark", 375, 812)]
    {
        browser.scheme(scheme);
        browser.size(width, height);
        browser.eval("new Promise((done) => setTimeout(done, 250))");
        papers.push(browser.text("getComputedStyle(document.body).backgroundColor"));
        let wide = browser.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assert_eq!(wide, 0, "the page scrolls sideways at {width}");
        if let Some(shots) = std::env::var_os("SONGRNN_SCREENSHOTS") {
            let name = format!("{scheme}-{width}.png");
            std::fs::write(std::path::Path::new(&shots).join(name), browser.screenshot()).unwrap();
        }
    }
    assert_ne!(papers[0], papers[1], "dark is another paper than light");
    assert_eq!(papers[..2], papers[2..]);
    // The button turns what the system says.
    browser.size(1280, 900);
    browser.click("button[aria-label='Light colours']");
    assert_eq!(browser.text("getComputedStyle(document.body).backgroundColor"), papers[0]);
    browser.assert_quiet();
}

#[test]
fn an_empty_page_has_no_empty_parts() {
    let _turn = turn();
    let Some((mut browser, folder)) = start("an empty page") else { return };
    open(&mut browser, &folder, &PageData::default(), &RenderOptions::default());
    assert_eq!(browser.eval("document.querySelectorAll('section').length"), 0);
    browser.key(" ");
    browser.key("ArrowRight");
    browser.assert_quiet();
}
