//! Ranking units by how well they tell built-in labels apart: found on some tunes, scored on others, held against
//! labels that were shuffled and against what the character alone gives away.
//!
//! A neuron is chosen among thousands, so its score on the tunes it was chosen with flatters it; the number to trust is
//! that of the held-out tunes. Shuffled labels are each tune's labels turned round by an amount drawn for that tune:
//! their runs stay as long as they were, but they have nothing to do with the text.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::auc::{self, MOST};
use super::labels::LABELS;
use super::sentence::{beats_control, sentence};
use super::tapped::{self, Feature, Kind, Tapped, features};
use crate::corpus::Vocab;
use crate::engine::{Engine, EngineError};
use crate::model::ModelShape;
use crate::rng::philox4x32;
use crate::study::results::NeuronScore;

/// How often labels are shuffled; the control is the best that any of these reaches.
pub const SHUFFLES: usize = 3;

/// Neurons that a report speaks of.
const CHOSEN: usize = 3;

/// A label that fewer characters have, or have not, is left out.
const LEAST_CHARS: u64 = 20;

/// A neuron that beats the character alone by less knows nothing of what stood before.
const BEYOND_CHARACTER: f64 = 0.02;

/// Characters times parameters of the model that are read: what keeps a large model's ranking to seconds.
const WORK: usize = 40_000_000_000;

/// The most characters of each kind of tunes.
const MOST_CHARS: usize = 24_000;

/// The fewest at which reading stops, however large the model is.
const FEWEST_CHARS: usize = 4_000;

/// The 16 bits of real labels and of each shuffle share one word.
const BITS: usize = 16;
const _: () = assert!(LABELS.len() <= BITS && (1 + SHUFFLES) * BITS <= MOST);

/// What was found out about a label.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelFacts {
    /// Its key.
    pub key: &'static str,
    /// Share of the held-out characters that have it.
    pub share: f64,
    /// Held-out AUC of the best neuron for shuffled labels, the highest of [`SHUFFLES`].
    pub control: f64,
    /// Held-out AUC of guessing by the character alone, by its share in the tunes of finding.
    pub by_character: f64,
}

/// Neurons, best first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ranking {
    /// Every unit with the label it tells apart best, and every label with the units that do so best; by the lower of
    /// the two scores, so that neither luck in finding nor luck on the held-out tunes puts a neuron in front.
    pub scores: Vec<NeuronScore>,
    /// Indices into `scores` of up to three neurons to speak of: of different labels and units, each clearly beating
    /// its control. Those that beat the character alone come first.
    pub chosen: Vec<usize>,
    /// The labels that could be scored.
    pub labels: Vec<LabelFacts>,
    /// Characters that neurons were found with.
    pub find_chars: usize,
    /// Characters that they were scored on.
    pub held_out_chars: usize,
    /// What a reader must be told: fewer than three beat the control, labels that are too rare.
    pub notes: Vec<String>,
}

/// Ranks h and, where there is one, tanh(c) of every unit; see [`rank_kinds`].
pub fn rank(
    engine: &mut dyn Engine,
    vocab: &Vocab,
    find: &[String],
    held_out: &[String],
    seed: u64,
) -> Result<Ranking, EngineError> {
    let kinds = Kind::of(engine.shape().cell);
    rank_kinds(engine, vocab, find, held_out, seed, kinds)
}

/// How many characters of each kind of tunes are read for a model of this shape.
pub fn most_chars(shape: &ModelShape) -> usize {
    (WORK / 2 / shape.params().max(1)).clamp(FEWEST_CHARS, MOST_CHARS)
}

/// Ranks these kinds of activation of every unit: found on `find`, scored on `held_out`, both read in an order drawn by
/// `seed` up to [`most_chars`] characters each.
pub fn rank_kinds(
    engine: &mut dyn Engine,
    vocab: &Vocab,
    find: &[String],
    held_out: &[String],
    seed: u64,
    kinds: &[Kind],
) -> Result<Ranking, EngineError> {
    let shape = engine.shape();
    let most = most_chars(&shape);
    let found = Part::new(tapped::read(engine, vocab, find, kinds, most, seed)?, seed, 0);
    let held = Part::new(tapped::read(engine, vocab, held_out, kinds, most, seed)?, seed, 1);
    Ok(Search::new(features(shape.layers, shape.hidden, kinds), found, held).ranking())
}

/// Some tunes, their labels and their shuffled labels.
struct Part {
    tapped: Tapped,
    /// Labels and, above them, each shuffle's \[N\].
    words: Vec<u64>,
    counts: [u64; MOST],
}

impl Part {
    fn new(tapped: Tapped, seed: u64, part: u32) -> Part {
        let mut words: Vec<u64> = tapped.labels.iter().map(|&bits| u64::from(bits)).collect();
        let mut from = 0;
        for (tune, &length) in (0u32..).zip(&tapped.lengths) {
            let labels = &tapped.labels[from..from + length];
            for shuffle in 1..=SHUFFLES {
                // The last word of the counter sets these apart from everything that is drawn in training.
                let counter = [tune, shuffle as u32, part, 0x7368_7566];
                let draw = philox4x32(counter, [seed as u32, (seed >> 32) as u32])[0];
                let turn = (u64::from(draw) * length as u64 >> 32) as usize;
                for (at, word) in words[from..from + length].iter_mut().enumerate() {
                    *word |= u64::from(labels[(at + turn) % length]) << (shuffle * BITS);
                }
            }
            from += length;
        }
        let counts = auc::counts(&words);
        Part { tapped, words, counts }
    }

    /// Every feature's areas.
    fn areas(&self) -> Vec<[f64; MOST]> {
        let columns = self.tapped.columns.par_iter();
        columns.map(|column| auc::areas(column, &self.words, &self.counts)).collect()
    }

    fn tells(&self, label: usize) -> bool {
        let (on, all) = (self.counts[label], self.words.len() as u64);
        on >= LEAST_CHARS && all - on >= LEAST_CHARS
    }

    /// Mean of a column where the label holds, and elsewhere.
    fn means(&self, column: usize, label: usize) -> (f64, f64) {
        let mut sums = [0.0f64; 2];
        for (value, word) in self.tapped.columns[column].iter().zip(&self.words) {
            sums[(word >> label & 1) as usize] += f64::from(*value);
        }
        let on = self.counts[label] as f64;
        (sums[1] / on, sums[0] / (self.words.len() as f64 - on))
    }
}

struct Search {
    features: Vec<Feature>,
    find: Part,
    held: Part,
    find_areas: Vec<[f64; MOST]>,
    held_areas: Vec<[f64; MOST]>,
    labels: Vec<usize>,
    facts: Vec<LabelFacts>,
}

/// Distance from knowing nothing.
fn strength(area: f64) -> f64 {
    (area - 0.5).abs()
}

impl Search {
    fn new(features: Vec<Feature>, find: Part, held: Part) -> Search {
        let labels: Vec<usize> = (0..LABELS.len()).filter(|&k| find.tells(k) && held.tells(k)).collect();
        let (find_areas, held_areas) = if labels.is_empty() {
            (vec![[f64::NAN; MOST]; features.len()], vec![[f64::NAN; MOST]; features.len()])
        } else {
            (find.areas(), held.areas())
        };
        let mut search = Search { features, find, held, find_areas, held_areas, labels, facts: Vec::new() };
        search.facts = search.labels.iter().map(|&label| search.fact(label)).collect();
        search
    }

    fn fact(&self, label: usize) -> LabelFacts {
        let shuffled = (1..=SHUFFLES).filter_map(|shuffle| {
            let bit = shuffle * BITS + label;
            let best = (0..self.features.len()).max_by(|&a, &b| {
                strength(self.find_areas[a][bit]).total_cmp(&strength(self.find_areas[b][bit]))
            })?;
            Some(self.held(best, bit))
        });
        LabelFacts {
            key: LABELS[label].key,
            share: self.held.counts[label] as f64 / self.held.words.len() as f64,
            control: shuffled.fold(0.5, f64::max),
            by_character: self.by_character(label),
        }
    }

    /// Held-out area in the direction that was found.
    fn held(&self, feature: usize, bit: usize) -> f64 {
        let area = self.held_areas[feature][bit];
        if self.find_areas[feature][bit] >= 0.5 { area } else { 1.0 - area }
    }

    fn by_character(&self, label: usize) -> f64 {
        let mut shares: std::collections::HashMap<char, [u64; 2]> = std::collections::HashMap::new();
        for (c, word) in self.find.tapped.chars.iter().zip(&self.find.words) {
            shares.entry(*c).or_default()[(word >> label & 1) as usize] += 1;
        }
        let share = |[off, on]: [u64; 2]| on as f32 / (on + off) as f32;
        let mean = share([self.find.words.len() as u64 - self.find.counts[label], self.find.counts[label]]);
        let guesses: Vec<f32> =
            self.held.tapped.chars.iter().map(|c| shares.get(c).map_or(mean, |&n| share(n))).collect();
        auc::areas(&guesses, &self.held.words, &self.held.counts)[label]
    }

    /// The feature of a unit or of all that tells `label` apart best on the tunes of finding.
    fn best(&self, label: usize, of: impl Fn(&Feature) -> bool) -> Option<usize> {
        let candidates = (0..self.features.len()).filter(|&at| of(&self.features[at]));
        // The first among equals, whatever the order of ties in `max_by`.
        candidates.rev().max_by(|&a, &b| {
            strength(self.find_areas[a][label]).total_cmp(&strength(self.find_areas[b][label]))
        })
    }

    fn score(&self, feature: usize, label: usize) -> NeuronScore {
        let Feature { layer, unit, kind } = self.features[feature];
        let area = self.find_areas[feature][label];
        let (mean_on, mean_off) = self.held.means(feature, label);
        let facts = self.facts.iter().find(|facts| facts.key == LABELS[label].key);
        let mut score = NeuronScore {
            layer,
            unit,
            kind: kind.key().into(),
            label: LABELS[label].key.into(),
            label_name: LABELS[label].name.into(),
            positive: area >= 0.5,
            found: 0.5 + strength(area),
            held_out: self.held(feature, label),
            control: facts.map_or(0.5, |facts| facts.control),
            mean_on,
            mean_off,
            sentence: String::new(),
        };
        score.sentence = sentence(&score, facts.map(|facts| facts.by_character));
        score
    }

    fn ranking(self) -> Ranking {
        let chosen = self.choose();
        let mut pairs: BTreeSet<(usize, usize)> = chosen.iter().copied().collect();
        pairs.extend(self.labels.iter().filter_map(|&label| Some((self.best(label, |_| true)?, label))));
        let mut units: std::collections::BTreeMap<(usize, usize), (f64, usize, usize)> = Default::default();
        for (at, feature) in self.features.iter().enumerate() {
            for &label in &self.labels {
                let strength = strength(self.find_areas[at][label]);
                let best = units.entry((feature.layer, feature.unit)).or_insert((-1.0, 0, 0));
                if strength > best.0 {
                    *best = (strength, at, label);
                }
            }
        }
        pairs.extend(units.values().map(|&(_, feature, label)| (feature, label)));
        let mut scored: Vec<((usize, usize), NeuronScore)> =
            pairs.into_par_iter().map(|pair| (pair, self.score(pair.0, pair.1))).collect();
        let worst = |score: &NeuronScore| score.found.min(score.held_out);
        scored.sort_by(|(a, x), (b, y)| worst(y).total_cmp(&worst(x)).then(a.cmp(b)));
        let place = |pair: &(usize, usize)| scored.iter().position(|(other, _)| other == pair);
        Ranking {
            chosen: chosen.iter().filter_map(place).collect(),
            notes: self.notes(chosen.len()),
            find_chars: self.find.words.len(),
            held_out_chars: self.held.words.len(),
            scores: scored.into_iter().map(|(_, score)| score).collect(),
            labels: self.facts,
        }
    }

    /// Up to three (feature, label): labels in the order of how well their best neuron is, each with the best unit that
    /// no label before it has taken.
    fn choose(&self) -> Vec<(usize, usize)> {
        let mut chosen: Vec<(usize, usize)> = Vec::new();
        for beyond_character in [true, false] {
            while chosen.len() < CHOSEN {
                let family_free = |label: &&usize| {
                    chosen.iter().all(|(_, other)| LABELS[*other].family != LABELS[**label].family)
                };
                let unit_free = |feature: &Feature| {
                    chosen.iter().all(|(other, _)| {
                        let other = &self.features[*other];
                        (other.layer, other.unit) != (feature.layer, feature.unit)
                    })
                };
                let candidates = self.labels.iter().zip(&self.facts).filter(|(label, _)| family_free(label));
                let next = candidates
                    .filter_map(|(&label, facts)| {
                        let score = self.score(self.best(label, unit_free)?, label);
                        let worth = score.found.min(score.held_out);
                        let beyond = score.held_out >= facts.by_character + BEYOND_CHARACTER;
                        (beats_control(&score) && (beyond || !beyond_character)).then_some((worth, label))
                    })
                    .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
                let Some((_, label)) = next else { break };
                chosen.extend(self.best(label, unit_free).map(|feature| (feature, label)));
            }
        }
        chosen
    }

    fn notes(&self, chosen: usize) -> Vec<String> {
        let mut notes = Vec::new();
        if chosen < CHOSEN {
            let found = match chosen {
                0 => "no label has a neuron that clearly beats".to_owned(),
                1 => "only one label has a neuron that clearly beats".to_owned(),
                n => format!("only {n} kinds of label have a neuron that clearly beats"),
            };
            notes.push(format!(
                "{found} the shuffled control on held-out tunes ({:.1} above it and at least {:.1})",
                super::sentence::CLEARLY,
                super::sentence::LEAST
            ));
        }
        let rare: Vec<&str> =
            (0..LABELS.len()).filter(|k| !self.labels.contains(k)).map(|k| LABELS[k].key).collect();
        if !rare.is_empty() {
            notes.push(format!(
                "left out, for fewer than {LEAST_CHARS} characters have the label or have it not: {}",
                rare.join(", ")
            ));
        }
        notes
    }
}

#[cfg(test)]
#[path = "score_tests.rs"]
mod tests;
