//! The page's notes against the MIDI file's, read back with midly and nothing else.

use midly::{MetaMessage, MidiMessage, Smf, TrackEventKind};
use proptest::prelude::*;

use super::*;
use crate::sample::{TuneText, judge_all};

/// A note of a MIDI file: onset and end in seconds, pitch, whether it is the accompaniment's.
type Heard = (f64, f64, u8, bool);

/// The notes of a MIDI file by the book: ticks of each track, tempos of all of them.
fn heard(bytes: &[u8]) -> (Vec<Heard>, f64) {
    let smf = Smf::parse(bytes).unwrap();
    let midly::Timing::Metrical(division) = smf.header.timing else { panic!("ticks a quarter") };
    let division = f64::from(division.as_int());
    let (mut tempos, mut notes, mut last) = (vec![(0u64, 500_000u32)], Vec::new(), 0);
    for track in &smf.tracks {
        let (mut now, mut down, mut chords) = (0u64, Vec::<(u8, u64)>::new(), false);
        for event in track {
            now += u64::from(event.delta.as_int());
            match event.kind {
                TrackEventKind::Meta(MetaMessage::Tempo(micros)) => tempos.push((now, micros.as_int())),
                TrackEventKind::Midi { message: MidiMessage::NoteOn { key, vel }, .. } if vel > 0 => {
                    // The accompaniment is struck softer.
                    chords = vel < 96;
                    down.push((key.as_int(), now));
                }
                TrackEventKind::Midi {
                    message: MidiMessage::NoteOff { key, .. } | MidiMessage::NoteOn { key, .. },
                    ..
                } => {
                    let i = down.iter().position(|(k, _)| *k == key.as_int()).expect("an off has its on");
                    let (pitch, start) = down.remove(i);
                    notes.push((start, now, pitch, chords));
                }
                _ => {}
            }
        }
        assert!(down.is_empty());
        last = last.max(now);
    }
    let seconds = |tick: u64| {
        let (mut at, mut micros, mut sum) = (0u64, 500_000u32, 0.0);
        for &(from, next) in tempos.iter().filter(|t| t.0 < tick) {
            sum += (from - at) as f64 * f64::from(micros);
            (at, micros) = (from, next);
        }
        (sum + (tick - at) as f64 * f64::from(micros)) / division / 1e6
    };
    let notes = notes.iter().map(|n| (seconds(n.0), seconds(n.1), n.2, n.3)).collect();
    (notes, seconds(last))
}

/// Holds a page's notes against the MIDI file of the same text.
fn same_as_midi(text: &str, number: usize) {
    let page = tune_page(text, true, number, "", None);
    let mut set = vec![TuneText { text: "K:C".into(), closed: true }; number - 1];
    set.push(TuneText { text: text.to_owned(), closed: true });
    let judged = judge_all(&set, true).pop().unwrap();
    assert_eq!(page.abc, judged.abc);
    let Some(midi) = judged.midi else {
        assert!(page.notes.is_empty() && page.chords.is_empty() && page.seconds == 0.0, "{text:?}");
        return;
    };
    let (mut notes, end) = heard(&midi);
    let marks = page.notes.iter().map(|n| (n, false)).chain(page.chords.iter().map(|n| (n, true)));
    let mut shown: Vec<Heard> = marks.map(|(n, chord)| (n.at, n.at + n.length, n.pitch, chord)).collect();
    for list in [&mut notes, &mut shown] {
        list.sort_by(|a, b| (a.3, a.2).cmp(&(b.3, b.2)).then(a.0.total_cmp(&b.0)).then(a.1.total_cmp(&b.1)));
    }
    assert_eq!(notes.len(), shown.len(), "{text:?}");
    for (a, b) in notes.iter().zip(&shown) {
        let near = |x: f64, y: f64| (x - y).abs() <= 1e-6 * (1.0 + x.abs());
        assert!(a.2 == b.2 && a.3 == b.3 && near(a.0, b.0) && near(a.1, b.1), "{a:?} {b:?} in {text:?}");
    }
    assert!((page.seconds - end).abs() <= 0.01 * (1.0 + end), "{} {end} {text:?}", page.seconds);
    assert!(page.bars.is_sorted() && page.notes.iter().all(|n| n.length > 0.0));
}

#[test]
fn the_tunebooks_notes_are_the_midi_files() {
    let book = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/data/tunebook.abc")).unwrap();
    let book = abc::decode(&book);
    let mut tunes = 0;
    for span in abc::split(&book.text) {
        let text = &book.text[span.start..span.end];
        tunes += 1;
        same_as_midi(text, tunes % 7 + 1);
        assert!(!tune_page(text, true, 1, "", None).notes.is_empty());
    }
    assert!(tunes > 20, "{tunes}");
}

#[test]
fn hostile_tunes_notes_are_the_midi_files() {
    for text in [
        "",
        "K:C\n",
        "X:1\nT:</script>\u{202e}\nM:4/4\nQ:1/4=60\nK:D\nA[Q:1/4=240]B|[Q:1/8=7]c2:|",
        "T:doubled\nM:4/4\nL:1/4\nK:C\n[CCE]2 & C4 & [CE]|C-|C2 C/-C/ C|",
        "T:voices\nM:3/4\nL:1/4\nK:G\nV:1\n\"G\"GAB|\"D7\"d3|\nV:2\nG,3|[Q:1/4=33]D,3|\nV:3\nz3|\n",
        "M:4/4\nL:1/8\nR:hornpipe\nQ:3/8=100\nK:Ador\n|:(3ABc d>e f<g a2|1 \"Am\"A8:|2 \"E\"e8::A,8:|",
        "K:C\nC4096D4096|:E/4096F/4096:|",
        "K:C\nQ:1/4=9999\nCDEF|Q:0.001\nG|",
        "P:AAB\nK:C\nP:A\nCDE|\nP:B\n[Q:1/4=30]F4|\n",
    ] {
        same_as_midi(text, 3);
    }
}

#[test]
fn places_are_javascripts() {
    let page = tune_page("T:é😀x\nM:2/4\nL:1/4\nK:C\n\"^é😀\"C [EG]|\n", true, 1, "", None);
    let units: Vec<u16> = page.abc.encode_utf16().collect();
    let written: Vec<String> = page
        .notes
        .iter()
        .map(|n| String::from_utf16(&units[n.from.unwrap() as usize..n.to.unwrap() as usize]).unwrap())
        .collect();
    assert_eq!(written, ["C", "[EG]", "[EG]"]);
    assert!(page.chords.iter().all(|n| n.from.is_none() && n.to.is_none()));
}

#[test]
fn the_verdict_is_on_the_text_as_written() {
    let train = [("A Source (tune 9)".to_owned(), "K:C\nCDEF|GABc|cBAG|FEDC|\n".to_owned())];
    let reference = Reference::new(&train, &[]);
    let text = "T:Mine\nM:4/4\nL:1/4\nK:C\nCDEF|GAB|c^BAG|\n";
    let page = tune_page(text, false, 5, "temperature 1, tune 5", Some(&reference));
    let verdict: Vec<(&str, &str)> = page.verdict.iter().map(|v| (v.0.as_str(), v.1.as_str())).collect();
    assert_eq!(
        verdict,
        [
            ("parses", "yes"),
            ("complete", "no, cut off, without X"),
            ("bars filled", "2 of 3"),
            ("notes inside the key", "11 of 11"),
            ("longest run copied", "8 characters from A Source (tune 9)"),
            ("length", "6 s"),
        ]
    );
    assert_eq!((page.title.as_str(), page.origin.as_str()), ("Mine", "temperature 1, tune 5"));
    assert!(page.abc.starts_with("X:5\nT:Mine\n") && page.written == text);
    let whole = "X:5\nT:Mine\nM:4/4\nL:1/4\nK:C\nCDEF|\n";
    assert_eq!(tune_page(whole, true, 5, "", None).written, "");
    let broken = tune_page("X:1\n)", true, 1, "", Some(&reference));
    assert!(broken.verdict[0].1.starts_with("no, 1 error: "), "{:?}", broken.verdict);
    assert!(broken.verdict.contains(&("longest run copied".into(), "none".into())));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_tunes_notes_are_the_midi_files(
        text in "(\\PC|\n|K:G\n|Q:1/4=[0-9]{1,4}\n|\\[Q:1/8=[0-9]{2}\\]|[A-Ga-g][2-4/]{0,2}|[A-G]-|\\||:\\||\\|:|\\[CC\\]|&|\"Am\"|V:[12]\n){0,60}",
    ) {
        same_as_midi(&text, 2);
    }
}
