//! The player: what its oscillators were told is held against the tune's notes and against the MIDI file.

use songrnn_fast::viz::page::RenderOptions;
use songrnn_fast::viz::page::data::TunePage;

use super::browser::Browser;
use super::pages;
use super::setup::{open, start, tunes_page, turn};

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
    expected
        .sort_by(|a, b| (a.at + f64::from(a.pitch) * 1e-7).total_cmp(&(b.at + f64::from(b.pitch) * 1e-7)));
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
    let place = |browser: &mut Browser| {
        browser
            .eval("Number(document.querySelector('.rollbox').getAttribute('aria-valuenow'))")
            .as_f64()
            .unwrap()
    };

    // Pause: what was to come is taken back; what resumes is what was left.
    browser.key(" ");
    browser.until("window.sounds.length > 3 && document.querySelector('.abc .on') !== null");
    browser.eval("new Promise((done) => setTimeout(done, 600))");
    // Two seconds in which no timer of the page comes, as in a tab in the background: no note may be late.
    browser.eval("(() => { const until = performance.now() + 2000; while (performance.now() < until); })()");
    browser.eval("new Promise((done) => setTimeout(done, 400))");
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
    let first = tunes[0]
        .notes
        .iter()
        .filter(|n| n.at + n.length > seconds + 1e-3)
        .min_by(|a, b| a.at.total_cmp(&b.at))
        .unwrap();
    assert!((sought[0].2 - f64::from(first.pitch)).abs() < 1e-3, "{sought:?} after {seconds}: {first:?}");

    // The note under way there is struck again for what is left of it.
    let left = first.at + first.length - seconds.max(first.at);
    assert!((sought[0].1 - sought[0].0 - left).abs() < 1e-3, "{sought:?} after {seconds}: {first:?}");

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
    let rate =
        (tunes[0].notes[fast + 5].at - tunes[0].notes[fast].at) / (changed[fast + 5].0 - changed[fast].0);
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
