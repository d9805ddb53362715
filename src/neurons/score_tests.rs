//! Planted neurons are found, chance is not, and what is said of them is what the numbers say.

use super::*;
use crate::corpus::{Vocab, tunes::tunes_of};
use crate::engine::{
    Chunk, EngineInfo, EngineState, Hyper, LayerActivations, SampleRequest, SampledTune, Stats, Ticket,
};
use crate::model::{CellKind, ModelShape};
use crate::neurons::labels;
use crate::train::data::BUILT_IN;

/// An engine whose activations are written for it: unit u of layer l after the t-th character of a text.
struct Planted<F> {
    vocab: Vocab,
    shape: ModelShape,
    value: F,
}

impl<F: Fn(&[u16], usize, usize, usize) -> f32 + Send> Engine for Planted<F> {
    fn info(&self) -> EngineInfo {
        unreachable!("scores only tap")
    }
    fn shape(&self) -> ModelShape {
        self.shape
    }
    fn load_params(&mut self, _: &[f32]) -> Result<(), EngineError> {
        unreachable!("scores only tap")
    }
    fn export_params(&self) -> Result<Vec<f32>, EngineError> {
        unreachable!("scores only tap")
    }
    fn train_chunk(&mut self, _: &Chunk, _: &Hyper) -> Result<Ticket, EngineError> {
        unreachable!("scores only tap")
    }
    fn grad_chunk(&mut self, _: &Chunk, _: &Hyper) -> Result<(Stats, Vec<f32>), EngineError> {
        unreachable!("scores only tap")
    }
    fn eval_chunk(&mut self, _: &Chunk) -> Result<Ticket, EngineError> {
        unreachable!("scores only tap")
    }
    fn eval_each(&mut self, _: &Chunk) -> Result<Vec<f32>, EngineError> {
        unreachable!("scores only tap")
    }
    fn step(&mut self, _: &[u16], _: &[u8], _: &mut [f32]) -> Result<(), EngineError> {
        unreachable!("scores only tap")
    }
    fn sample(&mut self, _: &SampleRequest) -> Result<Vec<SampledTune>, EngineError> {
        unreachable!("scores only tap")
    }
    fn tap(&mut self, ids: &[u16]) -> Result<Vec<LayerActivations>, EngineError> {
        assert_eq!(ids[0], self.vocab.start(), "a tune begins with <start>");
        let labels = labels::bits(&self.vocab.decode(&ids[1..]));
        let layer = |layer: usize| {
            let row = |t: usize| (0..self.shape.hidden).map(move |unit| (t, unit));
            let values = (0..ids.len()).flat_map(row);
            // What stands at <start> must not matter: far off.
            let h = values.map(|(t, unit)| match t {
                0 => 9.0,
                t => (self.value)(&labels, t - 1, layer, unit),
            });
            LayerActivations { h: h.collect(), ..LayerActivations::default() }
        };
        Ok((0..self.shape.layers).map(layer).collect())
    }
    fn save_state(&self) -> Result<EngineState, EngineError> {
        unreachable!("scores only tap")
    }
    fn load_state(&mut self, _: &EngineState) -> Result<(), EngineError> {
        unreachable!("scores only tap")
    }
    fn sync(&mut self, _: Ticket) -> Result<Stats, EngineError> {
        unreachable!("scores only tap")
    }
}

fn noise(t: usize, layer: usize, unit: usize) -> f32 {
    let words = philox4x32([t as u32, layer as u32, unit as u32, 7], [3, 4]);
    crate::rng::unit_f32(words[0]) * 2.0 - 1.0
}

fn key(label: &str) -> usize {
    LABELS.iter().position(|l| l.key == label).unwrap()
}

fn has(labels: &[u16], t: usize, label: &str) -> bool {
    labels.get(t).is_some_and(|bits| bits >> key(label) & 1 == 1)
}

/// The built-in tunebook, ranked with these activations; every third tune is held out.
fn ranked(value: impl Fn(&[u16], usize, usize, usize) -> f32 + Send) -> Ranking {
    let tunes = tunes_of(BUILT_IN);
    let vocab = Vocab::from_chars(BUILT_IN.chars());
    let shape = ModelShape { cell: CellKind::Gru, vocab: vocab.len(), hidden: 8, layers: 2 };
    let part = |held: bool| -> Vec<String> {
        tunes.iter().enumerate().filter(|(at, _)| (at % 3 == 2) == held).map(|(_, t)| t.clone()).collect()
    };
    let mut engine = Planted { vocab: vocab.clone(), shape, value };
    rank(&mut engine, &vocab, &part(false), &part(true), 1).unwrap()
}

fn best<'a>(ranking: &'a Ranking, label: &str) -> &'a NeuronScore {
    ranking.scores.iter().find(|score| score.label == label).unwrap()
}

#[test]
fn planted_neurons_are_found() {
    let ranking = ranked(|labels, t, layer, unit| match (layer, unit) {
        // Higher inside a chord symbol, lower in the header, and some noise about bars.
        (1, 3) => {
            if has(labels, t, "chord_symbol") {
                0.9
            } else {
                0.1 * noise(t, layer, unit)
            }
        }
        (0, 5) => {
            if has(labels, t, "header") {
                -0.8
            } else {
                0.1
            }
        }
        (0, 6) => 0.5 * f32::from(has(labels, t, "bar_last_quarter")) + 0.4 * noise(t, layer, unit),
        _ => noise(t, layer, unit),
    });
    let chord = best(&ranking, "chord_symbol");
    assert_eq!((chord.layer, chord.unit, chord.kind.as_str()), (1, 3, "h"));
    assert_eq!((chord.found, chord.held_out, chord.positive), (1.0, 1.0, true));
    assert!((chord.mean_on - 0.9).abs() < 1e-6 && chord.mean_off.abs() < 0.02, "{chord:?}");
    let header = best(&ranking, "header");
    assert_eq!((header.layer, header.unit, header.held_out, header.positive), (0, 5, 1.0, false));
    assert!((header.mean_on + 0.8).abs() < 1e-6 && (header.mean_off - 0.1).abs() < 1e-6);
    let bar = best(&ranking, "bar_last_quarter");
    assert_eq!((bar.layer, bar.unit), (0, 6));
    assert!(bar.held_out > 0.75 && bar.held_out < 0.99, "{bar:?}");
    for facts in &ranking.labels {
        assert!(facts.control < 0.65, "chance reaches {facts:?}");
    }
    // The three planted ones, in the order of how good they are, and no other.
    let chosen: Vec<&NeuronScore> = ranking.chosen.iter().map(|&at| &ranking.scores[at]).collect();
    let mut units: Vec<(usize, usize)> = chosen.iter().map(|score| (score.layer, score.unit)).collect();
    assert_eq!(units.pop(), Some((0, 6)));
    units.sort_unstable();
    assert_eq!(units, [(0, 5), (1, 3)]);
    assert!(ranking.notes.iter().all(|note| !note.contains("clearly beats")), "{:?}", ranking.notes);
    assert!(
        ranking
            .scores
            .windows(2)
            .all(|pair| { pair[0].found.min(pair[0].held_out) >= pair[1].found.min(pair[1].held_out) })
    );
    let every_unit =
        (0..2).all(|l| (0..8).all(|u| ranking.scores.iter().any(|s| (s.layer, s.unit) == (l, u))));
    assert!(every_unit, "every unit has a score");
    let said = &chord.sentence;
    assert!(
        said.starts_with("Unit 4 of layer 2: its output h is higher inside a chord symbol: 0.90 on average")
            && said.contains("is 1.000 (the best neuron for shuffled labels reaches 0."),
        "{said}"
    );
    assert!(header.sentence.contains("is lower in the header: -0.80"), "{}", header.sentence);
}

#[test]
fn one_character_off_is_not_the_same() {
    for (off, exact) in [(0isize, true), (1, false), (-1, false)] {
        let ranking = ranked(|labels, t, layer, unit| match (layer, unit) {
            (1, 3) => f32::from(has(labels, t.wrapping_add_signed(off), "duration")),
            _ => noise(t, layer, unit),
        });
        let score = best(&ranking, "duration");
        assert_eq!(score.held_out == 1.0, exact, "{off}: {score:?}");
    }
}

#[test]
fn where_nothing_is_known_nothing_is_chosen() {
    let ranking = ranked(|_, t, layer, unit| noise(t, layer, unit));
    assert!(ranking.chosen.is_empty());
    assert!(ranking.notes[0].starts_with("no label has a neuron that clearly beats"), "{:?}", ranking.notes);
    assert!(ranking.scores.iter().all(|score| score.sentence.contains("does not clearly tell")));
    let constant = ranked(|_, _, _, _| 0.25);
    assert!(constant.chosen.is_empty());
    assert!(constant.scores.iter().all(|score| score.found == 0.5 && score.held_out == 0.5));
}

/// Two labels that the same unit tells apart best: the second is told with another unit or not at all.
#[test]
fn chosen_neurons_are_different_ones() {
    let ranking = ranked(|labels, t, layer, unit| match (layer, unit) {
        (0, 0) => {
            if has(labels, t, "title") {
                1.0
            } else if has(labels, t, "header") {
                0.5
            } else {
                0.0
            }
        }
        (1, 1) => 0.5 * f32::from(has(labels, t, "header")) + 0.6 * noise(t, layer, unit),
        _ => noise(t, layer, unit),
    });
    let chosen: Vec<(&str, usize)> = ranking
        .chosen
        .iter()
        .map(|&at| (ranking.scores[at].label.as_str(), ranking.scores[at].unit))
        .collect();
    assert_eq!(chosen.len(), 2, "{chosen:?}");
    assert!(
        chosen.iter().any(|(_, unit)| *unit == 0) && chosen.iter().any(|(_, unit)| *unit == 1),
        "{chosen:?}"
    );
    assert!(ranking.notes[0].starts_with("only 2 kinds of label"), "{:?}", ranking.notes);
}

#[test]
fn nothing_to_read_is_an_empty_ranking() {
    let vocab = Vocab::from_chars("ab".chars());
    let shape = ModelShape { cell: CellKind::Rnn, vocab: vocab.len(), hidden: 2, layers: 1 };
    let mut engine = Planted { vocab: vocab.clone(), shape, value: |_: &[u16], _, _, _| 0.0 };
    for tunes in [vec![], vec![String::new()], vec!["ab".to_owned()]] {
        let ranking = rank(&mut engine, &vocab, &tunes, &tunes, 1).unwrap();
        assert_eq!((ranking.scores.len(), ranking.chosen.len(), ranking.labels.len()), (0, 0, 0));
        assert_eq!(ranking.notes.len(), 2, "{:?}", ranking.notes);
    }
}

#[test]
fn a_ranking_is_the_same_again() {
    let value = |labels: &[u16], t: usize, layer: usize, unit: usize| {
        f32::from(has(labels, t, "header")) * unit as f32 + noise(t, layer, unit)
    };
    assert_eq!(ranked(value), ranked(value));
}
