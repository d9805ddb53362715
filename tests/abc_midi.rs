//! What a MIDI file contains, event by event, read back with midly; no oracle needed.

use midly::{MetaMessage, MidiMessage, Smf, Timing, TrackEventKind};
use songrnn_fast::abc::{AbcError, Fraction, MidiOptions, expand, judge, parse_tune, to_midi};

fn header(extra: &str, body: &str) -> String {
    format!("X:1\nT:Golden\nM:4/4\nL:1/4\n{extra}K:C\n{body}\n")
}

/// (start, end, pitch) of a track's notes, in ticks.
fn notes(smf: &Smf<'_>, track: usize) -> Vec<(u32, u32, u8)> {
    let (mut now, mut down, mut out) = (0u32, Vec::<(u32, u8)>::new(), Vec::new());
    for event in &smf.tracks[track] {
        now += event.delta.as_int();
        if let TrackEventKind::Midi { message, .. } = event.kind {
            match message {
                MidiMessage::NoteOn { key, .. } => down.push((now, key.as_int())),
                MidiMessage::NoteOff { key, .. } => {
                    let i = down.iter().position(|d| d.1 == key.as_int()).expect("an off has its on");
                    let (start, pitch) = down.remove(i);
                    out.push((start, now, pitch));
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    assert!(down.is_empty(), "every note ends");
    out.sort_unstable();
    out
}

fn melody(text: &str) -> Vec<(u32, u32, u8)> {
    let bytes = to_midi(&parse_tune(text), &MidiOptions { chords: false }).unwrap();
    notes(&Smf::parse(&bytes).unwrap(), 1)
}

fn metas(smf: &Smf<'_>) -> Vec<(u32, String)> {
    let mut now = 0;
    let mut out = Vec::new();
    for event in &smf.tracks[0] {
        now += event.delta.as_int();
        if let TrackEventKind::Meta(meta) = event.kind {
            out.push((now, format!("{meta:?}")));
        }
    }
    out
}

#[test]
fn lengths_rhythm_and_tuplets() {
    for (body, expected) in [
        ("C D2 E/ F/ ", vec![(0, 480, 60), (480, 1440, 62), (1440, 1680, 64), (1680, 1920, 65)]),
        ("C>D E<F", vec![(0, 720, 60), (720, 960, 62), (960, 1200, 64), (1200, 1920, 65)]),
        ("C>>D", vec![(0, 840, 60), (840, 960, 62)]),
        ("C<<<D", vec![(0, 60, 60), (60, 960, 62)]),
        ("(3CDE F", vec![(0, 320, 60), (320, 640, 62), (640, 960, 64), (960, 1440, 65)]),
        ("(3:2:2CD E", vec![(0, 320, 60), (320, 640, 62), (640, 1120, 64)]),
        (
            "(5:4CDEFG",
            vec![(0, 384, 60), (384, 768, 62), (768, 1152, 64), (1152, 1536, 65), (1536, 1920, 67)],
        ),
        ("C-C D-E", vec![(0, 960, 60), (960, 1440, 62), (1440, 1920, 64)]),
        (
            "[CE]2 [C2E2]/ z C",
            vec![(0, 960, 60), (0, 960, 64), (960, 1440, 60), (960, 1440, 64), (1920, 2400, 60)],
        ),
        ("C{gag}D>{a}E", vec![(0, 480, 60), (480, 1200, 62), (1200, 1440, 64)]),
        ("C4 & E2 G2 | D4", vec![(0, 1920, 60), (0, 960, 64), (960, 1920, 67), (1920, 3840, 62)]),
    ] {
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!(melody(&header("", body)), expected, "{body}");
    }
}

#[test]
fn hornpipes_swing_and_others_do_not() {
    let pair = |rhythm: &str| melody(&header(rhythm, "C/D/ E F2|"))[1].0;
    assert_eq!(pair("R:hornpipe\n"), 320);
    assert_eq!(pair("R:reel\n"), 240);
    let dotted = |rhythm: &str| melody(&header(rhythm, "C/>D/ E F2|"))[1].0;
    assert_eq!((dotted("R:Hornpipe\n"), dotted("")), (320, 360));
}

#[test]
fn accidentals_last_the_bar_in_every_octave_and_ties_carry_them() {
    let pitches = |body: &str| melody(&header("", body)).iter().map(|n| n.2).collect::<Vec<_>>();
    assert_eq!(pitches("^F F f =F|F"), [66, 66, 78, 65, 65]);
    assert_eq!(pitches("_B,2 ^^C __D"), [58, 62, 60]);
    assert_eq!(pitches("^F4-|F2 F2"), [66, 65]);
    assert_eq!(pitches("[K:D] F C [K:C] F C"), [66, 61, 65, 60]);
    assert_eq!(pitches("{^f}F"), [65]);
    assert_eq!(pitches("C,,,,,, C''''''"), [0, 108 + 12 - 12]);
}

#[test]
fn repeats_are_played_out() {
    let pitches = |body: &str| melody(&header("", body)).iter().map(|n| n.2).collect::<Vec<_>>();
    assert_eq!(pitches("|:C4|1D4:|2E4|]"), [60, 62, 60, 64]);
    assert_eq!(pitches("C4|1D4:|2E4||F4|1G4:|2A4|]"), [60, 62, 60, 64, 65, 67, 65, 69]);
    let parts = "X:1\nT:p\nM:4/4\nL:1/4\nP:AB2A\nK:C\nP:A\nC4|\nP:B\nD4|\n";
    assert_eq!(melody(parts).iter().map(|n| n.2).collect::<Vec<_>>(), [60, 62, 62, 60]);
}

#[test]
fn the_first_track_holds_title_tempo_meter_and_key() {
    let text = "X:1\nT:Golden\nM:6/8\nL:1/8\nQ:3/8=100\nK:Em\nEFG ABc|[M:9/8][K:G][Q:1/4=60]GAB c3 d3|]\n";
    let bytes = to_midi(&parse_tune(text), &MidiOptions::default()).unwrap();
    let smf = Smf::parse(&bytes).unwrap();
    assert_eq!(smf.header.timing, Timing::Metrical(480.into()));
    let expected = [
        (0, format!("{:?}", MetaMessage::TrackName(b"Golden"))),
        (0, format!("{:?}", MetaMessage::Tempo(400_000.into()))),
        (0, format!("{:?}", MetaMessage::TimeSignature(6, 3, 36, 8))),
        (0, format!("{:?}", MetaMessage::KeySignature(1, true))),
        (1440, format!("{:?}", MetaMessage::Tempo(1_000_000.into()))),
        (1440, format!("{:?}", MetaMessage::TimeSignature(9, 3, 36, 8))),
        (1440, format!("{:?}", MetaMessage::KeySignature(1, false))),
        (3600, format!("{:?}", MetaMessage::EndOfTrack)),
    ];
    let mut found = metas(&smf);
    found.sort_by_key(|m| m.0);
    assert_eq!(found, expected);
    // 6 eighths at 150 quarters a minute, 9 at 60.
    assert!((judge(text).seconds - (3.0 * 0.4 + 4.5)).abs() < 1e-9);
}

#[test]
fn chord_symbols_become_boom_chick() {
    let text = header("", "\"C\"C2 \"G7/B\"D2|E4|]");
    let bytes = to_midi(&parse_tune(&text), &MidiOptions::default()).unwrap();
    let smf = Smf::parse(&bytes).unwrap();
    assert_eq!(smf.tracks.len(), 3);
    let accompaniment = notes(&smf, 2);
    assert_eq!(accompaniment[..4], [(0, 480, 36), (480, 960, 48), (480, 960, 52), (480, 960, 55)]);
    // The bass of G7/B is B, its chord G B D F.
    assert_eq!(accompaniment[4], (960, 1440, 47));
    assert_eq!(accompaniment[5..9].iter().map(|n| n.2).collect::<Vec<_>>(), [55, 59, 62, 65]);
    let without = to_midi(&parse_tune(&text), &MidiOptions { chords: false }).unwrap();
    assert_eq!(Smf::parse(&without).unwrap().tracks.len(), 2);
    // A pickup is the end of a bar: no bass on it; 6/8 strikes chords on the third eighths.
    let jig = "X:1\nT:j\nM:6/8\nL:1/8\nK:G\n\"G\"D|GAB c2d|]\n";
    let bytes = to_midi(&parse_tune(jig), &MidiOptions::default()).unwrap();
    let starts: Vec<u32> = notes(&Smf::parse(&bytes).unwrap(), 2).iter().map(|n| n.0).collect();
    assert_eq!(starts, [0, 0, 0, 240, 720, 720, 720, 960, 1440, 1440, 1440]);
}

#[test]
fn tunes_without_notes_are_refused() {
    let nothing = parse_tune("X:1\nT:Silence\nM:4/4\nK:C\nz4|Z3|]\n");
    assert_eq!(to_midi(&nothing, &MidiOptions::default()), Err(AbcError::NoNotes("Silence".into())));
    let forever = parse_tune(&header("", &"C4096 ".repeat(5000)));
    assert_eq!(to_midi(&forever, &MidiOptions::default()), Err(AbcError::TooLong("Golden".into())));
}

#[test]
fn time_is_exact() {
    let performance = expand(&parse_tune(&header("", &"(3CDE (7:4CDEFGAB ".repeat(50))));
    assert_eq!(performance.whole_notes(), Fraction::ratio(75, 1));
}
