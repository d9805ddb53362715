//! The engraved score: with abcjs in the page, and on request.

use serde_json::Value;
use songrnn_fast::viz::page::RenderOptions;
use songrnn_fast::viz::page::data::TunePage;

use super::pages;
use super::setup::{open, start, tunes_page, turn};

/// abcjs 6.7.2 from npm, into a folder that is kept between runs.
fn abcjs() -> Option<String> {
    let folder = std::env::temp_dir().join("songrnn-fast-abcjs-6.7.2");
    let file = folder.join("node_modules/abcjs/dist/abcjs-basic-min.js");
    if !file.exists() {
        std::fs::create_dir_all(&folder).ok()?;
        let npm = "timeout 120 npm install --silent --no-audit --no-fund --ignore-scripts abcjs@6.7.2 >/dev/null 2>&1";
        std::process::Command::new("sh").args(["-c", npm]).current_dir(&folder).status().ok()?;
    }
    std::fs::read_to_string(file).ok()
}

#[test]
fn an_inlined_abcjs_engraves_and_the_cursor_moves_in_the_score() {
    let _turn = turn();
    let Some((mut browser, folder)) = start("the score") else { return };
    let Some(source) = abcjs() else {
        println!("SKIP the score: npm could not install abcjs");
        return;
    };
    let texts = pages::tunebook(3);
    let mut tunes: Vec<TunePage> = [1usize, 0].iter().map(|&i| pages::tune(&texts[i], "").0).collect();
    tunes.push(
        pages::tune("X:1\nT:<img src=x onerror=alert(1)>\u{202e}\nK:D\n\"<b>hi</b>\"ABcd|]]{{(((|\n", "").0,
    );
    open(&mut browser, &folder, &tunes_page(tunes.clone()), &RenderOptions { abcjs: Some(source) });
    let notes = browser.eval("document.querySelectorAll('.score svg .abcjs-note').length").as_u64().unwrap();
    let written: std::collections::BTreeSet<_> = tunes[0].notes.iter().map(|n| n.from).collect();
    assert_eq!(notes, written.len() as u64, "every written note is engraved");
    browser.key(" ");
    // In three places: what is lit in the score is what is lit in the text, by its place among the written notes.
    let mut places = std::collections::BTreeSet::new();
    for _ in 0..3 {
        browser.until(
            "document.querySelector('.score .on') !== null && document.querySelector('.abc .on') !== null",
        );
        let both = browser.eval(
            "(() => { const at = (all, on) => [...document.querySelectorAll(all)].findIndex((n) => n.matches('.on')); \
             return [at('.score svg .abcjs-note'), at('.abc .played')]; })()",
        );
        assert_eq!(both[0], both[1]);
        places.insert(both[0].as_u64().unwrap());
        browser.eval("new Promise((done) => setTimeout(done, 900))");
    }
    assert!(places.len() > 1, "the cursor moves: {places:?}");
    if let Some(shots) = std::env::var_os("SONGRNN_SCREENSHOTS") {
        browser.scheme("dark");
        std::fs::write(std::path::Path::new(&shots).join("score.png"), browser.screenshot()).unwrap();
    }
    browser.key("Escape");
    browser.eval("document.querySelector('[role=tab]').focus()");
    browser.key("End");
    assert_eq!(browser.eval("document.querySelectorAll('img, b').length"), 0);
    browser.assert_quiet();
}

#[test]
fn without_abcjs_nothing_is_asked_for_until_the_button_is_pressed() {
    let _turn = turn();
    let Some((mut browser, folder)) = start("abcjs on request") else { return };
    let texts = pages::tunebook(2);
    open(&mut browser, &folder, &tunes_page(vec![pages::tune(&texts[0], "").0]), &RenderOptions::default());
    browser.assert_quiet();
    browser.click(".ask button");
    browser.until("document.querySelector('.ask .note').textContent.startsWith('abcjs could not be loaded')");
    let asked: Vec<&Value> = browser
        .events
        .iter()
        .filter(|(method, _)| method == "Network.requestWillBeSent")
        .map(|(_, what)| &what["request"]["url"])
        .filter(|url| !url.as_str().unwrap().starts_with("file:"))
        .collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].as_str().unwrap().starts_with("https://cdn.jsdelivr.net/npm/abcjs@6.7.2/"), "{asked:?}");
    // The policy let it through: it failed for want of a network and nothing else.
    let blocked = browser.events.iter().any(|(_, what)| what.to_string().contains("Content Security Policy"));
    assert!(!blocked);
    assert_eq!(
        browser.eval("document.querySelector('.ask button').disabled"),
        false,
        "it can be tried again"
    );
}
