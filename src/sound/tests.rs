//! A SoundFont made here, with one sine in it: what is heard, and what damage does.

use proptest::prelude::*;

use super::*;
use crate::abc::{MidiOptions, parse_tune, to_midi};

fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut bytes = name.to_vec();
    bytes.extend((content.len() as u32).to_le_bytes());
    bytes.extend(content);
    bytes
}

fn list(name: &[u8; 4], chunks: &[Vec<u8>]) -> Vec<u8> {
    chunk(b"LIST", &[name.to_vec(), chunks.concat()].concat())
}

fn words(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn name(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(20, 0);
    bytes
}

/// The smallest SoundFont: a preset, an instrument, a looped sine of A4 (440 Hz, 100 samples of 44 kHz a period).
pub(super) fn sine_font() -> Vec<u8> {
    const FRAMES: u32 = 400;
    let wave: Vec<u8> = (0..FRAMES + 46)
        .flat_map(|i| {
            let sine = (f64::from(i % 100) / 100.0 * std::f64::consts::TAU).sin();
            let sample = if i < FRAMES { (sine * 20_000.0) as i16 } else { 0 };
            sample.to_le_bytes()
        })
        .collect();
    let sample = [
        name("sine"),
        [0, FRAMES - 1, 0, FRAMES - 100, 44_000].iter().flat_map(|n: &u32| n.to_le_bytes()).collect(),
        vec![69, 0, 0, 0, 1, 0],
    ]
    .concat();
    let pdta = [
        chunk(b"phdr", &[name("p"), words(&[0; 9]), name("EOP"), words(&[0, 0, 1]), vec![0; 12]].concat()),
        chunk(b"pbag", &words(&[0, 0, 1, 0])),
        chunk(b"pmod", &[0; 10]),
        chunk(b"pgen", &words(&[41, 0, 0, 0])),
        chunk(b"inst", &[name("i"), words(&[0]), name("EOI"), words(&[1])].concat()),
        chunk(b"ibag", &words(&[0, 0, 2, 0])),
        chunk(b"imod", &[0; 10]),
        // Looped; sample 0.
        chunk(b"igen", &words(&[54, 1, 53, 0, 0, 0])),
        chunk(b"shdr", &[sample, name("EOS"), vec![0; 26]].concat()),
    ];
    let lists = [
        list(b"INFO", &[chunk(b"ifil", &words(&[2, 1])), chunk(b"INAM", b"sine\0\0")]),
        list(b"sdta", &[chunk(b"smpl", &wave)]),
        list(b"pdta", &pdta),
    ];
    chunk(b"RIFF", &[b"sfbk".to_vec(), lists.concat()].concat())
}

fn font(bytes: &[u8]) -> Result<SoundFont, SoundError> {
    SoundFont::from_bytes(bytes, Path::new("test.sf2"))
}

fn midi(body: &str) -> Vec<u8> {
    let tune = parse_tune(&format!("X:1\nT:t\nM:4/4\nL:1/4\nQ:1/4=120\nK:C\n{body}\n"));
    to_midi(&tune, &MidiOptions::default()).unwrap()
}

/// How much of a frequency is in some mono samples.
fn strength(samples: &[f64], frequency: f64) -> f64 {
    let angle = |i: usize| i as f64 * frequency * std::f64::consts::TAU / f64::from(SAMPLE_RATE);
    let cos: f64 = samples.iter().enumerate().map(|(i, s)| s * angle(i).cos()).sum();
    let sin: f64 = samples.iter().enumerate().map(|(i, s)| s * angle(i).sin()).sum();
    cos.hypot(sin)
}

#[test]
fn notes_are_heard_at_their_time_and_pitch() {
    let sound = render(&midi("A2 a2|"), &font(&sine_font()).unwrap()).unwrap();
    assert!(!sound.cut && !sound.silent);
    assert!((2.0..2.0 + f64::from(MAX_TAIL as u32)).contains(&sound.seconds()), "{}", sound.seconds());
    let peak = sound.samples.iter().map(|s| s.unsigned_abs()).max().unwrap();
    let expected = (PEAK * f32::from(i16::MAX)).round() as u16;
    assert!(peak.abs_diff(expected) <= 1, "{peak}, expected {expected}: no clipping");
    let mono: Vec<f64> =
        sound.samples.chunks(2).map(|frame| f64::from(frame[0]) + f64::from(frame[1])).collect();
    for (from, frequency) in [(0.2, 440.0), (1.2, 880.0)] {
        let from = (from * f64::from(SAMPLE_RATE)) as usize;
        let window = &mono[from..from + 22_050];
        for semitones in [-12, -2, -1, 1, 2, 12] {
            let other = frequency * 2f64.powf(f64::from(semitones) / 12.0);
            assert!(strength(window, frequency) > 4.0 * strength(window, other), "{frequency} {semitones}");
        }
    }
    let end = &sound.samples[sound.samples.len() - 200..];
    assert!(end.iter().all(|s| s.abs() < 100), "it rings out: {end:?}");
}

#[test]
fn a_wav_file_is_what_was_rendered() {
    let sound = render(&midi("C|"), &font(&sine_font()).unwrap()).unwrap();
    let bytes = wav_bytes(&sound).unwrap();
    let mut reader = hound::WavReader::new(Cursor::new(&bytes)).unwrap();
    let spec = reader.spec();
    assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 44_100, 16));
    assert_eq!(reader.samples::<i16>().map(Result::unwrap).collect::<Vec<i16>>(), sound.samples);
}

#[test]
fn a_long_tune_is_cut_and_silence_is_told() {
    let good = font(&sine_font()).unwrap();
    // Whole notes at a quarter a minute.
    let tune = parse_tune("X:1\nT:t\nM:4/4\nL:1\nQ:1/4=5\nK:C\nCDEFGABc|\nCDEFGAB|\n");
    let sound = render(&to_midi(&tune, &MidiOptions::default()).unwrap(), &good).unwrap();
    assert!(sound.cut && sound.samples.len() == 2 * 600 * 44_100);
    assert!(sound.samples[sound.samples.len() - 2..].iter().all(|s| s.abs() < 100), "no click");
    let mut silent = sine_font();
    let wave = silent.windows(4).position(|w| w == b"smpl").unwrap() + 8;
    silent[wave..wave + 800].fill(0);
    let (wav, note) = midi_to_wav(&midi("C|"), &font(&silent).unwrap()).unwrap();
    assert!(note.unwrap().contains("silent") && wav.len() > 44);
}

#[test]
fn what_is_no_font_or_no_midi_is_refused_with_a_reason() {
    let good = sine_font();
    let reason = |bytes: &[u8]| font(bytes).unwrap_err().to_string();
    assert!(reason(b"").contains("too short"));
    assert!(reason(b"MThd and so on, not a font").contains("does not begin as one does"));
    assert!(reason(&good[..good.len() - 1]).contains("cut short"));
    let mut bomb = good.clone();
    let bag = bomb.windows(4).position(|w| w == b"ibag").unwrap() + 8;
    bomb[bag] = 9;
    assert!(reason(&bomb).contains("ibag is out of order"));
    let folder = tempfile::tempdir().unwrap();
    let missing = SoundFont::load(&folder.path().join("no.sf2")).unwrap_err().to_string();
    assert!(missing.contains("no.sf2"), "{missing}");
    assert!(SoundFont::load(folder.path()).unwrap_err().to_string().contains("a folder"));
    for bytes in [&b""[..], b"MThd", b"RIFF", &midi("C|")[..30]] {
        assert!(render(bytes, &font(&good).unwrap()).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// A damaged font is refused or plays something; nothing panics, hangs or takes all memory.
    #[test]
    fn damaged_fonts_are_safe(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        tables in proptest::collection::vec((0usize..560, any::<u8>()), 0..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = sine_font();
        let length = bytes.len();
        for (at, value) in flips {
            bytes[at.index(length)] = value;
        }
        // The tables stand at the end, and most of the file is sound.
        for (at, value) in tables {
            bytes[length - 1 - at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(length));
        }
        if let Ok(font) = font(&bytes) {
            let _ = render(&midi("[CA]/|"), &font);
        }
    }

    #[test]
    fn damaged_midi_is_safe(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = midi("\"C\"C/e/|");
        let length = bytes.len();
        for (at, value) in flips {
            bytes[at.index(length)] = value;
        }
        bytes.truncate(cut.map_or(length, |cut| cut.index(length)));
        // Ten minutes of silence take seconds to render here; its length is judged alone.
        if longest_track(&bytes).is_some_and(|ticks| ticks < 20_000) {
            let _ = render(&bytes, &font(&sine_font()).unwrap());
        }
    }
}
