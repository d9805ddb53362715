//! The report page in a real browser: headless Chromium from disk, driven by real keys and a real mouse. Where no
//! Chromium is installed these tests say SKIP. Set `SONGRNN_SCREENSHOTS` to a folder to keep pictures of the page.

#[path = "report_page/browser.rs"]
mod browser;
#[path = "report_page/pages.rs"]
mod pages;

use std::sync::{Mutex, MutexGuard, PoisonError};

use browser::Browser;
use serde_json::{Value, json};
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

#[test]
fn the_player_plays_the_notes_of_the_tune_and_of_its_midi_file() {
    let _turn = turn();
    let Some((mut browser, folder)) = start("the player's notes") else { return };
    // With chord symbols, repeats and pickups; and without.
    let texts = pages::tunebook(3);
    let (tune, midi) = pages::tune(&texts[1], "tune 2");
    browser.before_load(RECORD);
    open(&mut browser, &folder, &tunes_page(vec![tune.clone()]), &RenderOptions::default());
    // 400 % by the keyboard: the End of the slider. Then Space from the tune's tab.
    browser.click("input[aria-label=Tempo]");
    browser.key("End");
    assert_eq!(browser.text("document.querySelector('.slider output').textContent"), "400 %");
    browser.eval("document.querySelector('[role=tab]').focus()");
    browser.key(" ");
    assert_eq!(browser.text("document.querySelector('.primary').textContent"), "Pause");
    // While it plays, roll and text show what sounds, in step with one another.
    browser.until("document.querySelectorAll('.roll .note.on').length > 0 && document.querySelectorAll('.abc .on').length > 0");
    let step = browser.eval(
        "(() => { const x = Number(document.querySelector('.now').getAttribute('x1')); \
         return [...document.querySelectorAll('.roll .note.on')].every((r) => { \
           const from = Number(r.getAttribute('x')); const to = from + Number(r.getAttribute('width')); \
           return from - 2 <= x && x <= to + 2; }); })()",
    );
    assert_eq!(step, true, "the cursor stands in the notes that are lit");
    browser.until("document.querySelector('.primary').textContent === 'Play'");
    assert_eq!(browser.eval("document.querySelectorAll('.on').length"), 0);

    let heard = sounded(&mut browser);
    let (melody, chords) = pages::midi_notes(&midi);
    let mut expected: Vec<_> = melody.iter().chain(&chords).copied().collect();
    expected.sort_by(|a, b| (a.at + f64::from(a.pitch) * 1e-7).total_cmp(&(b.at + f64::from(b.pitch) * 1e-7)));
    assert!(expected.len() > 200 && !chords.is_empty());
    assert_eq!(heard.len(), expected.len());
    assert_eq!(tune.notes.len(), melody.len());
    for (sound, note) in heard.iter().zip(&expected) {
        let (at, length) = ((sound.0 - heard[0].0) * 4.0, (sound.1 - sound.0) * 4.0);
        assert!((at - note.at + expected[0].at).abs() < EXACT * 4.0, "{sound:?} {note:?}");
        assert!((length - note.length).abs() < EXACT * 4.0, "{length} {note:?}");
        assert!((sound.2 - f64::from(note.pitch)).abs() < 1e-3, "{sound:?} {note:?}");
    }
    browser.assert_quiet();
}

/// Whether every sound of a list is one of the tune's notes at a tempo, struck anew at `from` where it was under way.
fn keeps_to_the_score(sounds: &[(f64, f64, f64)], tune: &TunePage, rate: f64, chords: bool) {
    // The first of them says where in the tune it began; all others must agree with that.
    let notes: Vec<_> = tune.notes.iter().chain(tune.chords.iter().filter(|_| chords)).collect();
    let fits = |from: f64| {
        sounds.iter().all(|sound| {
            notes.iter().any(|note| {
                let (at, end) = ((note.at.max(from) - from) / rate, (note.at + note.length - from) / rate);
                (sound.2 - f64::from(note.pitch)).abs() < 1e-3
                    && (sound.0 - sounds[0].0 - at).abs() < 1e-3
                    && (sound.1 - sounds[0].0 - end < 1e-3)
            })
        })
    };
    let starts = notes.iter().flat_map(|note| {
        (0..200).map(move |i| note.at + note.length * f64::from(i) / 200.0).filter(move |_| note.length > 0.0)
    });
    // An onset exactly, or inside a note: its end tells where.
    let inside = notes.iter().map(|note| note.at + note.length - (sounds[0].1 - sounds[0].0) * rate);
    assert!(
        notes.iter().map(|n| n.at).chain(inside).chain(starts).any(fits),
        "{} sounds keep to no place of the tune; the first is {:?}",
        sounds.len(),
        sounds[0]
    );
}

#[test]
fn pausing_seeking_and_changing_the_tempo_keep_to_the_score() {
    let _turn = turn();
    let Some((mut browser, folder)) = start("pause, seek, tempo") else { return };
    let texts = pages::tunebook(4);
    let tunes: Vec<TunePage> = (0..3).map(|i| pages::tune(&texts[i], "").0).collect();
    browser.before_load(RECORD);
    open(&mut browser, &folder, &tunes_page(tunes.clone()), &RenderOptions::default());
    let place = |browser: &mut Browser| browser.eval("Number(document.querySelector('.rollbox').getAttribute('aria-valuenow'))").as_f64().unwrap();

    // Pause: what was to come is taken back; what resumes is what was left.
    browser.key(" ");
    browser.until("window.sounds.length > 3 && document.querySelector('.abc .on') !== null");
    browser.eval("new Promise((done) => setTimeout(done, 1100))");
    browser.key(" ");
    assert_eq!(browser.text("document.querySelector('.primary').textContent"), "Play");
    let before = sounded(&mut browser);
    keeps_to_the_score(&before, &tunes[0], 1.0, true);
    let stood = browser.text("document.querySelector('.time').textContent");
    browser.eval("new Promise((done) => setTimeout(done, 400))");
    assert_eq!(browser.text("document.querySelector('.time').textContent"), stood, "a pause stands still");
    let scheduled = browser.eval("window.sounds.length");
    browser.eval("window.sounds.length = 0");
    browser.key(" ");
    browser.until("window.sounds.length > 3");
    browser.eval("new Promise((done) => setTimeout(done, 700))");
    browser.key(" ");
    assert!(scheduled.as_u64().unwrap() > before.len() as u64, "notes ahead were scheduled and taken back");
    let after = sounded(&mut browser);
    keeps_to_the_score(&after, &tunes[0], 1.0, true);
    let last = before.iter().map(|s| s.1).fold(0.0, f64::max);
    assert!(after[0].0 >= last - 1e-3, "nothing overlaps");

    // Seek with the mouse in the roll: it goes on from the bar that was clicked.
    browser.eval("window.sounds.length = 0");
    let (x, y) = browser.middle(".lane");
    browser.click_at(x, y);
    let seconds = browser.eval("Number(document.querySelector('.now').getAttribute('x1')) / Number(document.querySelector('.roll').getAttribute('width'))").as_f64().unwrap() * tunes[0].seconds;
    assert!(seconds > 3.0, "{seconds}");
    browser.eval("document.activeElement.blur()");
    browser.key(" ");
    browser.until("window.sounds.length > 3");
    browser.eval("new Promise((done) => setTimeout(done, 600))");
    browser.key(" ");
    let sought = sounded(&mut browser);
    keeps_to_the_score(&sought, &tunes[0], 1.0, true);
    let first = tunes[0].notes.iter().filter(|n| n.at + n.length > seconds + 1e-3).min_by(|a, b| a.at.total_cmp(&b.at)).unwrap();
    assert!((sought[0].2 - f64::from(first.pitch)).abs() < 1e-3, "{sought:?} after {seconds}: {first:?}");

    // Bars with the arrow keys, on the focused roll.
    browser.key("Escape");
    browser.eval("document.querySelector('.rollbox').focus()");
    browser.key("ArrowRight");
    browser.key("ArrowRight");
    browser.key("ArrowRight");
    assert_eq!(place(&mut browser), tunes[0].bars[3].round());
    browser.key("Home");
    assert_eq!(place(&mut browser), 0.0);

    // Tempo while playing: onsets before at the old tempo, after at the new one; nothing twice, nothing lost.
    browser.eval("window.sounds.length = 0; document.activeElement.blur()");
    browser.key(" ");
    browser.until("document.querySelector('.abc .on') !== null");
    browser.eval("new Promise((done) => setTimeout(done, 900))");
    for _ in 0..30 {
        browser.key("]");
    }
    assert_eq!(browser.text("document.querySelector('.slider output').textContent"), "400 %");
    browser.eval("new Promise((done) => setTimeout(done, 1500))");
    browser.key(" ");
    let changed = sounded(&mut browser);
    let pitches: Vec<u8> = changed.iter().map(|s| s.2.round() as u8).collect();
    let written: Vec<u8> = tunes[0].notes.iter().map(|n| n.pitch).take(pitches.len()).collect();
    assert!(pitches.len() > 12, "{pitches:?}");
    assert_eq!(pitches, written, "every note once, in order");
    for (pair, notes) in changed.windows(2).zip(tunes[0].notes.windows(2)) {
        let ratio = (notes[1].at - notes[0].at) / (pair[1].0 - pair[0].0);
        assert!((0.99..4.05).contains(&ratio), "{ratio}");
    }
    let fast = changed.len() - 6;
    let rate = (tunes[0].notes[fast + 5].at - tunes[0].notes[fast].at) / (changed[fast + 5].0 - changed[fast].0);
    assert!((rate - 4.0).abs() < 0.01, "{rate}");

    // Another tune stops the one that plays.
    browser.eval("document.querySelector('[role=tab]').focus()");
    browser.key(" ");
    browser.until("document.querySelector('.primary').textContent === 'Pause'");
    browser.key("ArrowDown");
    assert_eq!(browser.text("document.querySelector('.tune h3 bdi').textContent"), tunes[1].title);
    assert_eq!(browser.text("document.querySelector('.primary').textContent"), "Play");
    // Chords off: only the melody is heard.
    browser.eval("window.sounds.length = 0");
    browser.click(".player .check input");
    browser.eval("document.querySelector('[role=tab][aria-selected=true]').focus()");
    browser.key(" ");
    browser.until("window.sounds.length > 5");
    browser.key("Escape");
    let melody = browser.eval("window.sounds.every((s) => s.frequency > 240)");
    assert_eq!(melody, true, "no bass");
    browser.assert_quiet();
}

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
    let data = PageData { title: "Neurons".to_owned(), neurons: Some(neurons.clone()), ..PageData::default() };
    open(&mut browser, &folder, &data, &RenderOptions::default());
    let unit = |b: &mut Browser| {
        let at = b.eval("[document.querySelectorAll('.pick select')[1].selectedIndex, Number(document.querySelector('input[type=number]').value)]");
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

    // A real pointer over the eleventh character.
    browser.hover(".cells span:nth-of-type(11)");
    let (layer, u) = unit(&mut browser);
    assert_eq!(value(&mut browser), shown(kind(0), layer, 10, u));
    let surprisal = browser.text("document.querySelectorAll('.info dd')[2].textContent");
    assert_eq!(surprisal, format!("{:.2} nats", neurons.texts[0].surprisal[10]));
    let names = browser.eval("[...document.querySelectorAll('.info li .name')].map((n) => n.textContent)");
    assert_eq!(names, json!([neurons.texts[0].chars[10], "\u{21b5} line end", "end of tune", "\u{2423} space", "A"]));
    let p = browser.text("document.querySelector('.info li .value').textContent");
    assert_eq!(p, format!("{:.2}", neurons.texts[0].top[10][0].1));

    // Left and right, from a page where nothing has the focus; the value under the pointer follows.
    let colours = browser.eval("[...document.querySelectorAll('.cells span')].map((s) => s.style.background)");
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
    assert_eq!(browser.eval("[...document.querySelectorAll('.cells span')].findIndex((s) => s.classList.contains('at'))"), 9);
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
    let texts: Vec<(String, String)> =
        (0..4).map(|i| (format!("Tune {i}"), format!("X:{i}\nK:D\n{}", line.repeat(9))[..400].to_owned())).collect();
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
    assert_eq!(work[2], 400, "{work}");
    assert!(browser.text("document.querySelector('.place').textContent").ends_with(" of 1536"));
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
    assert_eq!(browser.text("document.title"), clean.replace('\u{2028}', "\u{2028}"));
    for place in ["h1 bdi", ".tune h3 bdi", ".origin bdi", ".sentence", "ul.facts bdi", "#discussion h3 bdi", ".verdict dt bdi"] {
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
    assert!(["A", "B", "c", "d"].contains(&sounding.trim()), "{sounding}: offsets count the characters replaced");
    browser.key(" ");
    let wide = browser.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert_eq!(wide, 0);
    browser.size(375, 812);
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
    let lines = "document.querySelectorAll('.plotbox path.mean').length";
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

/// The newest abcjs, from npm, into a folder that is kept between runs.
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
    tunes.push(pages::tune("X:1\nT:<img src=x onerror=alert(1)>\u{202e}\nK:D\n\"<b>hi</b>\"ABcd|]]{{(((|\n", "").0);
    open(&mut browser, &folder, &tunes_page(tunes.clone()), &RenderOptions { abcjs: Some(source) });
    let notes = browser.eval("document.querySelectorAll('.score svg .abcjs-note').length").as_u64().unwrap();
    let written: std::collections::BTreeSet<_> = tunes[0].notes.iter().map(|n| n.from).collect();
    assert_eq!(notes, written.len() as u64, "every written note is engraved");
    browser.key(" ");
    // In three places: what is lit in the score is what is lit in the text, by its place among the written notes.
    let mut places = std::collections::BTreeSet::new();
    for _ in 0..3 {
        browser.until("document.querySelector('.score .on') !== null && document.querySelector('.abc .on') !== null");
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
    assert_eq!(browser.eval("document.querySelector('.ask button').disabled"), false, "it can be tried again");
}
