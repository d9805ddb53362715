//! The report page in a real browser: headless Chromium from disk, driven by real keys and a real mouse. Where no
//! Chromium is installed these tests say SKIP. Set `SONGRNN_SCREENSHOTS` to a folder to keep pictures of the page.

#[path = "report_page/browser.rs"]
mod browser;
#[path = "report_page/neurons.rs"]
mod neurons;
#[path = "report_page/pages.rs"]
mod pages;
#[path = "report_page/player.rs"]
mod player;
#[path = "report_page/score.rs"]
mod score;
#[path = "report_page/setup.rs"]
mod setup;

use browser::Browser;
use serde_json::json;
use setup::{open, start, turn};
use songrnn_fast::viz::page::RenderOptions;
use songrnn_fast::viz::page::data::{PageData, Section};

#[test]
fn the_page_is_quiet_and_whole_in_both_themes_and_widths() {
    let _turn = turn();
    let Some((mut browser, folder)) = start("the page in both themes and widths") else { return };
    let data = pages::full();
    open(&mut browser, &folder, &data, &RenderOptions::default());
    for id in ["summary", "discussion", "experiments", "ngrams", "measures", "tunes", "neurons"] {
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
        let wide =
            browser.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assert_eq!(wide, 0, "the page scrolls sideways at {width}");
        if let Some(shots) = std::env::var_os("SONGRNN_SCREENSHOTS") {
            let name = format!("{scheme}-{width}.png");
            std::fs::write(std::path::Path::new(&shots).join(name), browser.screenshot()).unwrap();
        }
    }
    if let Some(shots) = std::env::var_os("SONGRNN_SCREENSHOTS") {
        // What a pointer shows, and the page in print.
        let shots = std::path::Path::new(&shots);
        browser.hover(".cells span:nth-of-type(60)");
        std::fs::write(shots.join("pointed-375.png"), browser.screenshot_window()).unwrap();
        browser.size(1280, 900);
        browser.hover(".cells span:nth-of-type(60)");
        std::fs::write(shots.join("pointed-1280.png"), browser.screenshot_window()).unwrap();
        browser.call("Emulation.setEmulatedMedia", json!({"media": "print"}));
        browser.size(700, 1000);
        browser.eval("new Promise((done) => setTimeout(done, 250))");
        std::fs::write(shots.join("print.png"), browser.screenshot()).unwrap();
        browser.scheme("dark");
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

#[test]
fn hostile_texts_make_no_element_and_open_nothing() {
    let _turn = turn();
    let Some((mut browser, folder)) = start("hostile texts") else { return };
    let evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`&amp;{{data}}\u{202e}txet\u{2028}\u{2066}<!--";
    let clean = evil.replace(['\u{202e}', '\u{2066}'], "\u{fffd}");
    let abc = format!("X:1\nT:{}\nK:D\n\"<b>\"ABcd|\n", evil.replace('\u{2028}', ""));
    let (mut tune, _) = pages::tune(&abc, evil);
    tune.title = evil.to_owned();
    tune.written = evil.to_owned();
    tune.verdict = vec![(evil.to_owned(), evil.to_owned())];
    let mut data = pages::full();
    data.title = evil.to_owned();
    data.facts = vec![evil.to_owned()];
    data.discussion = vec![Section { title: evil.to_owned(), paragraphs: vec![evil.to_owned()] }];
    data.experiments[0].title = evil.to_owned();
    data.experiments[0].caption = evil.to_owned();
    data.experiments[0].table.columns[1] = evil.to_owned();
    data.experiments[0].table.rows[1][0] = evil.to_owned();
    data.experiments[0].curves[0].name = evil.to_owned();
    data.experiments[0].lines[0].0 = evil.to_owned();
    data.ngrams[0].of = evil.to_owned();
    data.tune_sets.iter_mut().for_each(|set| set.measures[0].name = evil.to_owned());
    data.tunes.insert(0, tune);
    let neurons = data.neurons.as_mut().unwrap();
    neurons.model = evil.to_owned();
    neurons.texts[0].title = evil.to_owned();
    neurons.texts[0].chars[3] = "<img src=x onerror=alert(3)>".to_owned();
    neurons.texts[0].top[3][0].0 = evil.to_owned();
    neurons.ranking[0].label_name = evil.to_owned();
    neurons.ranking[0].sentence = evil.to_owned();
    open(&mut browser, &folder, &data, &RenderOptions::default());
    browser.hover(".cells span:nth-of-type(4)");
    let count = browser.eval("document.querySelectorAll('img, b, script:not(#data), iframe, object').length");
    assert_eq!(count, 1, "the page's own script and nothing else");
    assert_eq!(browser.text("document.title"), clean);
    for place in [
        "h1 bdi",
        ".tune h3 bdi",
        ".origin bdi",
        ".sentence",
        "ul.facts bdi",
        "#discussion h3 bdi",
        ".verdict dt bdi",
    ] {
        assert_eq!(browser.text(&format!("document.querySelector('{place}').textContent")), clean, "{place}");
    }
    let isolated = browser.eval(
        "[...document.querySelectorAll('bdi')].every((b) => getComputedStyle(b).unicodeBidi === 'isolate') && \
         !/[\\u202a-\\u202e\\u2066-\\u2069]/.test(document.body.innerText)",
    );
    assert_eq!(isolated, true);
    browser.key(" ");
    browser.until("document.querySelector('.abc .on') !== null");
    let sounding = browser.text("document.querySelector('.abc .on').textContent");
    assert!(
        ["A", "B", "c", "d"].contains(&sounding.trim()),
        "{sounding}: offsets count the characters replaced"
    );
    browser.key(" ");
    let wide = browser.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert_eq!(wide, 0);
    browser.size(375, 812);
    browser.eval("new Promise((done) => setTimeout(done, 250))");
    let wide = browser.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert_eq!(wide, 0);
    browser.assert_quiet();
}

#[test]
fn curves_tell_values_and_tables_sort() {
    let _turn = turn();
    let Some((mut browser, folder)) = start("curves and tables") else { return };
    let data = pages::full();
    open(&mut browser, &folder, &data, &RenderOptions::default());
    let where_ = |b: &mut Browser| b.text("document.querySelector('.where').textContent");
    let value = |b: &mut Browser| b.text("document.querySelector('.legend .value').textContent");
    let lowest = value(&mut browser);
    assert!(where_(&mut browser).starts_with("Lowest"));
    browser.hover(".plotbox");
    let hovered = where_(&mut browser);
    assert!(hovered.starts_with("Epoch "), "{hovered}");
    let epoch: f64 = hovered.split([' ', ':']).nth(1).unwrap().parse().unwrap();
    let curves: Vec<_> = data.experiments[0].curves.iter().filter(|c| c.name == "LSTM 1x150").collect();
    let at = curves[0].epoch.iter().position(|e| *e == epoch).unwrap();
    let mean = curves.iter().map(|c| c.validation[at].unwrap()).sum::<f64>() / curves.len() as f64;
    assert_eq!(value(&mut browser), format!("{mean:.3}"));
    assert_ne!(value(&mut browser), lowest);
    // The keyboard does the same.
    browser.hover_at(2.0, 2.0);
    browser.eval("document.querySelector('.plotbox').focus()");
    browser.key("Home");
    browser.key("ArrowRight");
    assert!(where_(&mut browser).starts_with("Epoch 0.5:"), "{}", where_(&mut browser));
    browser.key("Escape");
    // A line off and on; training curves.
    let lines = "document.querySelector('.plotbox').querySelectorAll('path.mean').length";
    assert_eq!(browser.eval(lines), 3);
    browser.click(".legend button");
    assert_eq!(browser.eval(lines), 2);
    browser.click(".legend button");
    browser.click(".toggles label:nth-of-type(2) input");
    assert_eq!(browser.eval(lines), 6);
    assert_eq!(browser.eval("document.querySelectorAll('.plotbox text.reference').length >= 2"), true);
    // Tables.
    let first = "document.querySelector('#experiments article:nth-of-type(2) tbody th').textContent";
    let head = "#experiments article:nth-of-type(2) thead th:nth-child(3) button";
    assert_eq!(browser.text(first), "LSTM 1x50");
    browser.click(head);
    assert_eq!(browser.text(first), "LSTM 1x250", "ascending by loss");
    browser.eval(&format!("document.querySelector({}).focus()", json!(head)));
    browser.key("Enter");
    assert_eq!(browser.text(first), "LSTM 1x50");
    let sorted = browser.text("document.querySelector('#experiments [aria-sort]').getAttribute('aria-sort')");
    assert_eq!(sorted, "descending");
    // The help opens and closes by keys.
    browser.eval("document.activeElement.blur()");
    browser.key("?");
    assert_eq!(browser.eval("document.querySelector('dialog').open"), true);
    browser.key("Escape");
    assert_eq!(browser.eval("document.querySelector('dialog').open"), false);
    browser.assert_quiet();
}
