//! Data for report pages: tunes of the tunebook played out, and neurons and curves that are made up.

use base64::Engine as _;
use songrnn_fast::abc::{self, Fraction, MidiOptions, Performance, Tempo};
use songrnn_fast::rng::philox4x32;
use songrnn_fast::study::results::{Measure, NeuronScore, NgramTable, Protocol, TuneSet};
use songrnn_fast::viz::page::data::{
    Curve, ExperimentPage, NeuronPage, NeuronText, NoteMark, PageData, Section, Table, TunePage,
};

/// A note of a MIDI file: seconds from, seconds long, number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heard {
    pub at: f64,
    pub length: f64,
    pub pitch: u8,
}

/// The notes of a MIDI file by onset and pitch: the melody's, and those of the track `chords`.
pub fn midi_notes(bytes: &[u8]) -> (Vec<Heard>, Vec<Heard>) {
    use midly::{MetaMessage, MidiMessage, Smf, Timing, TrackEventKind};
    let smf = Smf::parse(bytes).unwrap();
    let Timing::Metrical(per_quarter) = smf.header.timing else { panic!("no metrical time") };
    let mut tempos: Vec<(u64, f64)> = Vec::new();
    let mut found: Vec<(u64, u64, u8, bool)> = Vec::new();
    for track in &smf.tracks {
        let (mut now, mut chords) = (0u64, false);
        let mut down: Vec<(u64, u8)> = Vec::new();
        for event in track {
            now += u64::from(event.delta.as_int());
            match event.kind {
                TrackEventKind::Meta(MetaMessage::TrackName(name)) => chords = name == b"chords",
                TrackEventKind::Meta(MetaMessage::Tempo(t)) => {
                    tempos.push((now, f64::from(t.as_int()) / 1e6))
                }
                TrackEventKind::Midi { message: MidiMessage::NoteOn { key, vel }, .. } if vel > 0 => {
                    down.push((now, key.as_int()));
                }
                TrackEventKind::Midi {
                    message: MidiMessage::NoteOff { key, .. } | MidiMessage::NoteOn { key, .. },
                    ..
                } => {
                    let open = down.iter().position(|d| d.1 == key.as_int()).unwrap();
                    let (from, key) = down.remove(open);
                    found.push((from, now, key, chords));
                }
                _ => {}
            }
        }
    }
    tempos.sort_by_key(|t| t.0);
    let seconds = |tick: u64| {
        let mut total = 0.0;
        for (i, &(from, quarter)) in tempos.iter().enumerate() {
            let to = tempos.get(i + 1).map_or(u64::MAX, |next| next.0).min(tick);
            total += to.saturating_sub(from) as f64 / f64::from(per_quarter.as_int()) * quarter;
        }
        total
    };
    found.sort_by_key(|n| (n.0, n.2));
    let part = |chords: bool| {
        found
            .iter()
            .filter(|n| n.3 == chords)
            .map(|&(from, to, pitch, _)| Heard {
                at: seconds(from),
                length: seconds(to) - seconds(from),
                pitch,
            })
            .collect()
    };
    (part(false), part(true))
}

fn seconds(performance: &Performance, at: Fraction) -> f64 {
    let mut total = 0.0;
    let (mut from, mut tempo) = (0.0, Tempo::DEFAULT);
    let at = at.as_f64();
    for (onset, next) in &performance.tempos {
        let onset = onset.as_f64().min(at);
        total += (onset - from) * 60.0 / tempo.whole_notes_per_minute;
        (from, tempo) = (onset, *next);
    }
    total + (at - from) * 60.0 / tempo.whole_notes_per_minute
}

/// A tune as the page has it. Its melody comes from [`abc::expand`], its accompaniment from the MIDI file.
pub fn tune(text: &str, origin: &str) -> (TunePage, Vec<u8>) {
    let tune = abc::parse_tune(text);
    let performance = abc::expand(&tune);
    let midi = abc::to_midi(&tune, &MidiOptions::default()).unwrap();
    let utf16 = |byte: usize| Some(text[..byte].encode_utf16().count() as u32);
    let notes = performance.notes.iter().map(|n| {
        let at = seconds(&performance, n.onset);
        NoteMark {
            at,
            length: seconds(&performance, n.onset.checked_add(n.duration).unwrap()) - at,
            pitch: n.pitch,
            from: utf16(n.span.start),
            to: utf16(n.span.end),
        }
    });
    let chords = midi_notes(&midi).1.into_iter().map(|n| NoteMark {
        at: n.at,
        length: n.length,
        pitch: n.pitch,
        from: None,
        to: None,
    });
    let page = TunePage {
        title: tune.title().to_owned(),
        origin: origin.to_owned(),
        abc: text.to_owned(),
        written: String::new(),
        verdict: vec![
            ("parses".to_owned(), "without an error".to_owned()),
            ("bars filled".to_owned(), "16 of 16".to_owned()),
            ("nearest tune".to_owned(), "none shares more than 12 characters".to_owned()),
        ],
        notes: notes.collect(),
        chords: chords.collect(),
        bars: performance.bars.iter().map(|b| seconds(&performance, b.onset)).collect(),
        seconds: performance.seconds(),
    };
    (page, midi)
}

/// The first tunes of the tunebook as texts.
pub fn tunebook(count: usize) -> Vec<String> {
    let book = include_str!("../../data/tunebook.abc");
    abc::split(book).take(count).map(|span| book[span.start..span.end].trim_end().to_owned() + "\n").collect()
}

fn noise(seed: u32, i: usize) -> f64 {
    f64::from(philox4x32([i as u32, 7, 7, 7], [seed, 3])[0]) / f64::from(u32::MAX)
}

/// Activations of made-up neurons: neuron u of layer l is a wave over the characters, so that every value is known.
pub fn activation(kind: usize, layer: usize, t: usize, unit: usize) -> i8 {
    let phase = t as f64 * (0.05 + unit as f64 * 0.013) + layer as f64 + kind as f64 * 0.7;
    (phase.sin() * 127.0).round() as i8
}

/// Neurons over texts.
pub fn neurons(layers: usize, hidden: usize, texts: &[(String, String)]) -> NeuronPage {
    let text = |(title, text): &(String, String)| {
        let chars: Vec<String> = text.chars().map(String::from).collect();
        let mut values = Vec::with_capacity(2 * layers * chars.len() * hidden);
        for kind in 0..2 {
            for layer in 0..layers {
                for t in 0..chars.len() {
                    values.extend((0..hidden).map(|unit| activation(kind, layer, t, unit) as u8));
                }
            }
        }
        let top = chars.iter().enumerate().map(|(t, c)| {
            let p = 0.2 + 0.7 * noise(5, t) as f32;
            let others = ["\n", "<end>", " ", "A"].into_iter().zip([0.5, 0.25, 0.12, 0.06]);
            std::iter::once((c.clone(), p))
                .chain(others.map(|(o, s)| (o.to_owned(), (1.0 - p) * s)))
                .collect()
        });
        NeuronText {
            title: title.clone(),
            origin: "validation tune 17".to_owned(),
            surprisal: (0..chars.len()).map(|t| (noise(9, t) * 4.0) as f32).collect(),
            top: top.collect(),
            values: base64::engine::general_purpose::STANDARD.encode(&values),
            chars,
        }
    };
    let labels =
        ["inside a chord symbol", "header", "bar line", "first beat of the bar", "octave mark", "ending"];
    let ranking = (0..24).map(|i| {
        let (layer, unit) = (i % layers, (i * 7) % hidden);
        let kind = if i % 3 == 0 { "h" } else { "c" };
        let name = labels[i % labels.len()];
        NeuronScore {
            layer,
            unit,
            kind: kind.to_owned(),
            label: name.replace(' ', "_"),
            label_name: name.to_owned(),
            positive: i % 2 == 0,
            found: 0.99 - i as f64 * 0.015,
            held_out: 0.98 - i as f64 * 0.016,
            control: 0.56 + noise(4, i) * 0.04,
            mean_on: 0.71,
            mean_off: -0.12,
            sentence: format!(
                "Unit {} of layer {} is higher {name} (mean 0.71) than elsewhere (mean \u{2212}0.12).",
                unit + 1,
                layer + 1
            ),
        }
    });
    NeuronPage {
        model: format!("LSTM {layers}x{hidden}, seed 2"),
        layers,
        hidden,
        kinds: vec!["h".to_owned(), "c".to_owned()],
        texts: texts.iter().map(text).collect(),
        ranking: ranking.collect(),
        chosen: vec![0, 1, 4],
        note: "All four texts are whole.".to_owned(),
    }
}

fn curve(name: &str, seed: u64, floor: f64, epochs: usize) -> Curve {
    let at = |i: usize, extra: f64, seed: u32| {
        let t = i as f64 * 0.5;
        Some(floor + extra + 2.6 * (-t / 2.2).exp() + 0.5 * (-t / 9.0).exp() + 0.03 * noise(seed, i))
    };
    Curve {
        name: name.to_owned(),
        seed,
        epoch: (0..epochs).map(|i| i as f64 * 0.5).collect(),
        train: (0..epochs).map(|i| if i == 0 { None } else { at(i, -0.08, seed as u32 + 10) }).collect(),
        validation: (0..epochs)
            .map(|i| at(i, 0.003 * (i as f64 - 30.0).max(0.0), seed as u32 + 20))
            .collect(),
    }
}

fn experiment(title: &str, variants: &[(&str, f64)]) -> ExperimentPage {
    ExperimentPage {
        title: title.to_owned(),
        caption: "Contract: 64 streams of 64 characters, Adam at 0.002, up to 25 epochs, stopped after 6 validations \
                  without a better loss; 3 seeds."
            .to_owned(),
        curves: variants
            .iter()
            .flat_map(|&(name, floor)| (1..=3).map(move |seed| curve(name, seed, floor, 44 + seed as usize * 2)))
            .collect(),
        table: Table {
            columns: ["variant", "parameters", "validation", "test", "bits", "characters/s"].map(String::from).to_vec(),
            rows: variants
                .iter()
                .enumerate()
                .map(|(i, &(name, floor))| {
                    vec![
                        name.to_owned(),
                        format!("{},{:03}", 98 + i * 31, 204 + i),
                        format!("{floor:.3} ± 0.01{i}"),
                        format!("{:.3} ± 0.012", floor + 0.03),
                        format!("{:.2}", floor / std::f64::consts::LN_2),
                        format!("{},000", 210 - i * 25),
                    ]
                })
                .collect(),
            note: "Mean and standard deviation over seeds.".to_owned(),
        },
        lines: vec![("best n-gram".to_owned(), 2.0), ("published".to_owned(), 1.8)],
    }
}

fn tune_set(temperature: f64) -> TuneSet {
    let measure = |key: &str, name: &str, unit: &str, value: f64, corpus: f64| Measure {
        key: key.to_owned(),
        name: name.to_owned(),
        unit: unit.to_owned(),
        value: Some(value),
        error: Some(value * 0.04),
        corpus: Some(corpus),
    };
    TuneSet {
        temperature,
        tunes: 100,
        folder: None,
        measures: vec![
            measure(
                "parses",
                "parse without an error",
                "share",
                (1.05 - 0.3 * temperature).clamp(0.0, 1.0),
                0.99,
            ),
            measure("bars_filled", "bars that fill their meter", "share", 0.97 - 0.22 * temperature, 0.94),
            measure("key_fit", "notes that fit the key", "share", 0.99 - 0.1 * temperature, 0.96),
            measure("length", "length", "chars", 180.0 + 90.0 * temperature, 241.0),
            measure(
                "pitch_distance",
                "distance of pitches from the corpus",
                "bits",
                0.02 + 0.05 * (temperature - 0.8).powi(2),
                0.0,
            ),
            measure("novel", "longest run copied from training", "chars", 60.0 - 22.0 * temperature, 31.0),
        ],
    }
}

/// A page with every part, as a study of the tunebook would fill it.
pub fn full() -> PageData {
    let texts = tunebook(8);
    let tunes =
        [1usize, 0, 2, 3, 4, 5, 6, 7].map(|i| tune(&texts[i], &format!("temperature 0.5, tune {}", i + 1)).0);
    let said: Vec<(String, String)> =
        texts.iter().take(3).map(|t| (abc::parse_tune(t).title().to_owned(), t.clone())).collect();
    PageData {
        title: "Learning tunes character by character".to_owned(),
        facts: vec![
            "Data: tunebook.abc, 1,024 tunes for training, 128 for validation, 128 for testing; 64 characters".to_owned(),
            "Machine: 2 cores of an AMD EPYC 7B13; songrnn-fast 0.1.0 (4d39a01), 25 November 2026".to_owned(),
        ],
        discussion: vec![
            Section {
                title: "RNN and GRU against LSTM".to_owned(),
                paragraphs: vec![
                    "The LSTM's validation loss is 0.21 nats lower than the RNN's (95 % interval 0.18 to 0.24, 3 seeds \
                     each). Between LSTM and GRU no difference can be told: 0.004 nats, interval \u{2212}0.02 to 0.03."
                        .to_owned(),
                ],
            },
            Section {
                title: "Temperature".to_owned(),
                paragraphs: vec![
                    "At temperature 0.5 nine tunes of ten parse without an error; at 2 it is less than half."
                        .to_owned(),
                ],
            },
        ],
        experiments: vec![
            experiment("RNN and GRU against LSTM", &[("LSTM 1x150", 1.55), ("GRU 1x150", 1.56), ("RNN 1x150", 1.78)]),
            experiment(
                "Units",
                &[
                    ("LSTM 1x50", 1.8),
                    ("LSTM 1x100", 1.65),
                    ("LSTM 1x150", 1.55),
                    ("LSTM 1x200", 1.52),
                    ("LSTM 1x250", 1.51),
                ],
            ),
        ],
        ngrams: vec![NgramTable {
            protocol: Protocol::Contract,
            of: "validation".to_owned(),
            nats: vec![3.1, 2.61, 2.24, 2.04, 2.0, 2.03],
            body_nats: Some(vec![2.9, 2.41, 2.1, 1.99, 1.98, 2.01]),
        }],
        tune_sets: [0.3, 0.5, 0.8, 1.0, 1.3, 1.6, 2.0].map(tune_set).to_vec(),
        tunes: tunes.to_vec(),
        neurons: Some(neurons(2, 150, &said)),
    }
}
