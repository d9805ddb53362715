//! The neuron browser: real arrow keys and a real pointer; how much of the page a flip touches.

use serde_json::json;
use songrnn_fast::viz::page::RenderOptions;
use songrnn_fast::viz::page::data::PageData;

use super::browser::Browser;
use super::pages;
use super::setup::{open, start, turn};

#[test]
fn arrow_keys_flip_neurons_and_pointing_tells_what_was_expected() {
    let _turn = turn();
    let Some((mut browser, folder)) = start("the neuron browser") else { return };
    let texts = vec![
        ("A".to_owned(), "X:1\nK:D\n\"G\"AB c|\nd e".to_owned()),
        ("B".to_owned(), "X:2\nK:G\nGAB|".to_owned()),
    ];
    let neurons = pages::neurons(2, 40, &texts);
    let ranking = neurons.ranking.clone();
    let data =
        PageData { title: "Neurons".to_owned(), neurons: Some(neurons.clone()), ..PageData::default() };
    open(&mut browser, &folder, &data, &RenderOptions::default());
    let unit = |b: &mut Browser| {
        let at = b.eval("[document.querySelectorAll('.pick select')[1].selectedIndex, Number(document.querySelector('input[type=number]').value) - 1]");
        (at[0].as_u64().unwrap() as usize, at[1].as_u64().unwrap() as usize)
    };
    let value = |b: &mut Browser| b.text("document.querySelectorAll('.info dd')[1].textContent");
    let shown = |kind: usize, layer: usize, t: usize, unit: usize| {
        let v = f64::from(pages::activation(kind, layer, t, unit)) / 127.0;
        format!("{v:.2}").replace('-', "\u{2212}")
    };
    // It begins with the first neuron that the report speaks of.
    assert_eq!(unit(&mut browser), (ranking[0].layer, ranking[0].unit));
    let kind = |i: usize| usize::from(ranking[i].kind == "c");

    let named = browser.text("document.querySelector('.ranking tbody th').textContent");
    assert!(named.starts_with(&format!("{}:{} ", ranking[0].layer + 1, ranking[0].unit + 1)), "{named}");

    // A real pointer over the eleventh character.
    browser.hover(".cells span:nth-of-type(11)");
    let (layer, u) = unit(&mut browser);
    assert_eq!(value(&mut browser), shown(kind(0), layer, 10, u));
    let surprisal = browser.text("document.querySelectorAll('.info dd')[2].textContent");
    assert_eq!(surprisal, format!("{:.2} nats", neurons.texts[0].surprisal[10]));
    let names = browser.eval("[...document.querySelectorAll('.info li .name')].map((n) => n.textContent)");
    assert_eq!(
        names,
        json!([neurons.texts[0].chars[10], "\u{21b5} line end", "end of tune", "\u{2423} space", "A"])
    );
    let p = browser.text("document.querySelector('.info li .value').textContent");
    assert_eq!(p, format!("{:.2}", neurons.texts[0].top[10][0].1));

    // Left and right, from a page where nothing has the focus; the value under the pointer follows.
    let colours =
        browser.eval("[...document.querySelectorAll('.cells span')].map((s) => s.style.background)");
    browser.key("ArrowRight");
    assert_eq!(unit(&mut browser), (layer, u + 1));
    assert_eq!(value(&mut browser), shown(kind(0), layer, 10, u + 1));
    let others = browser.eval("[...document.querySelectorAll('.cells span')].map((s) => s.style.background)");
    assert_ne!(colours, others);
    browser.key("ArrowLeft");
    browser.key("ArrowLeft");
    assert_eq!(unit(&mut browser), if u == 0 { (1, 39) } else { (layer, u - 1) }, "round the end");
    browser.key("ArrowRight");

    // After a click in the text: up and down through the ranking.
    browser.click(".cells span:nth-of-type(11)");
    for i in 1..5 {
        browser.key("ArrowDown");
        assert_eq!(unit(&mut browser), (ranking[i].layer, ranking[i].unit));
        assert_eq!(value(&mut browser), shown(kind(i), ranking[i].layer, 10, ranking[i].unit));
        assert_eq!(browser.text("document.querySelector('.sentence').textContent"), ranking[i].sentence);
    }
    browser.key("ArrowUp");
    assert_eq!(unit(&mut browser), (ranking[3].layer, ranking[3].unit));

    // h and tanh(c).
    let other = if kind(3) == 0 { 2 } else { 1 };
    browser.click(&format!(".choice label:nth-of-type({other}) span"));
    assert_eq!(value(&mut browser), shown(other - 1, ranking[3].layer, 10, ranking[3].unit));

    // The caret by the keyboard alone: Tab into the text, then arrows; down one line keeps the column.
    browser.hover_at(2.0, 2.0);
    browser.eval("document.querySelector('.cells').focus()");
    browser.key("Home");
    browser.key("ArrowRight");
    browser.key("ArrowDown");
    browser.key("ArrowDown");
    // "X:1\nK:D\n" are eight characters; the second of the third line is the ninth of the text, counted from 0.
    assert_eq!(browser.text("document.querySelector('.info dd').textContent"), "G");
    assert_eq!(
        browser.eval(
            "[...document.querySelectorAll('.cells span')].findIndex((s) => s.classList.contains('at'))"
        ),
        9
    );
    assert_eq!(browser.text("document.querySelector('.info').getAttribute('aria-live')"), "polite");

    // A row of the ranking opens its neuron; another text shows the same neuron.
    browser.click("tr[data-row='7'] td:nth-child(5)");
    assert_eq!(unit(&mut browser), (ranking[7].layer, ranking[7].unit));
    browser.click(".cards .card:nth-child(2)");
    assert_eq!(unit(&mut browser), (ranking[1].layer, ranking[1].unit));
    browser.eval("document.querySelector('.pick select').focus()");
    browser.key("ArrowDown");
    browser.until("document.querySelector('.cells').textContent.startsWith('X:2')");
    browser.hover(".cells span:nth-of-type(3)");
    assert_eq!(value(&mut browser), shown(kind(1), ranking[1].layer, 2, ranking[1].unit));
    browser.assert_quiet();
}

#[test]
fn a_large_model_stays_small_and_flipping_only_restyles_one_text() {
    let _turn = turn();
    let Some((mut browser, folder)) = start("a 3x512 model") else { return };
    let line = "GABc dedB | \"Am\"cdef g2fe | ^F2A2 d'2c' | z4 ||\n";
    let texts: Vec<(String, String)> = (0..4)
        .map(|i| (format!("Tune {i}"), format!("X:{i}\nK:D\n{}", line.repeat(9))[..400].to_owned()))
        .collect();
    let mut data = pages::full();
    data.neurons = Some(pages::neurons(3, 512, &texts));
    let size = open(&mut browser, &folder, &data, &RenderOptions::default());
    assert!(size < 10_000_000, "{size} bytes");
    assert!(size > 6_500_000, "{size} bytes: all values are there");
    browser.eval("document.querySelector('.stage').focus()");
    browser.eval(
        "window.changes = {attributes: 0, childList: 0, nodes: new Set()}; \
         new MutationObserver((list) => list.forEach((m) => { window.changes[m.type]++; window.changes.nodes.add(m.target); })) \
           .observe(document, {attributes: true, childList: true, characterData: true, subtree: true})",
    );
    for _ in 0..50 {
        browser.key("ArrowRight");
    }
    let work = browser.eval("[window.changes.attributes, window.changes.childList, [...window.changes.nodes].filter((n) => n.matches?.('.cells span')).length]");
    // A flip touches each of the text's 400 characters once at most, and some thirty other things.
    assert!(work[0].as_u64().unwrap() <= 50 * 430, "{work}");
    assert!(work[0].as_u64().unwrap() >= 50 * 100, "{work}: it does flip");
    assert!(work[1].as_u64().unwrap() <= 50 * 30, "{work}: no text is built anew");
    // The first character's made-up values are the same for all units.
    assert_eq!(work[2], 399, "{work}");
    assert!(browser.text("document.querySelector('.place').textContent").ends_with(" of 1536"));
    browser.assert_quiet();
}
