//! Which neurons are drawn, and the table that tells about them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::str::FromStr;

use super::Shown;
use crate::model::{CellKind, ModelShape};
use crate::neurons::draw::{Neuron, What, gates};
use crate::neurons::sentence::beats_control;
use crate::neurons::{Kind, Ranking};
use crate::study::results::NeuronScore;

/// What `--neurons` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The best of the ranking.
    Auto,
    /// (layer, unit), both from 0; none twice.
    List(Vec<(usize, usize)>),
}

impl FromStr for Selection {
    type Err = String;

    /// `auto`, or `LAYER:UNIT` and more behind commas, counted from 1.
    fn from_str(text: &str) -> Result<Selection, String> {
        if text.trim() == "auto" {
            return Ok(Selection::Auto);
        }
        let mut list = Vec::new();
        for item in text.split(',').map(str::trim) {
            let numbers = item.split_once(':').map(|(layer, unit)| (layer.parse(), unit.parse()));
            let Some((Ok(layer @ 1usize..), Ok(unit @ 1usize..))) = numbers else {
                return Err(format!(
                    "{item:?} is no neuron; expected auto, or LAYER:UNIT counted from 1, as in 1:38,2:5"
                ));
            };
            if !list.contains(&(layer - 1, unit - 1)) {
                list.push((layer - 1, unit - 1));
            }
        }
        Ok(Selection::List(list))
    }
}

impl Selection {
    /// Refuses neurons that the model has not.
    pub fn check(&self, shape: &ModelShape) -> Result<(), String> {
        let Selection::List(list) = self else { return Ok(()) };
        match list.iter().find(|(layer, unit)| *layer >= shape.layers || *unit >= shape.hidden) {
            None => Ok(()),
            Some((layer, unit)) => Err(format!(
                "--neurons {}:{}: the model has layers 1 to {} of units 1 to {}",
                layer + 1,
                unit + 1,
                shape.layers,
                shape.hidden
            )),
        }
    }

    /// The neurons to draw: those listed, or up to `top` of a ranking that clearly beat their control, each once: the
    /// chosen ones, then the best of every other label, then whatever is best.
    pub fn neurons(&self, what: Option<Shown>, top: usize, ranking: Option<&Ranking>) -> Vec<Neuron> {
        let shown = what.map(Shown::what);
        if let Selection::List(list) = self {
            let what = shown.unwrap_or(What::One(Kind::H));
            return list.iter().map(|&(layer, unit)| Neuron { layer, unit, what, score: None }).collect();
        }
        let Some(ranking) = ranking else { return Vec::new() };
        let mut units = BTreeSet::new();
        let mut labels = BTreeSet::new();
        let mut taken: Vec<&NeuronScore> = Vec::new();
        let chosen =
            ranking.chosen.iter().filter_map(|&at| ranking.scores.get(at)).map(|score| (score, false));
        let good = || ranking.scores.iter().filter(|score| beats_control(score));
        let others = good().map(|score| (score, true)).chain(good().map(|score| (score, false)));
        for (score, new_label) in chosen.chain(others) {
            if taken.len() < top
                && !(new_label && labels.contains(&score.label))
                && units.insert((score.layer, score.unit))
            {
                labels.insert(score.label.clone());
                taken.push(score);
            }
        }
        let drawn = taken.into_iter().map(|score| {
            let neuron = Neuron::of(score);
            Neuron { what: shown.unwrap_or(neuron.what), ..neuron }
        });
        drawn.collect()
    }
}

/// Refuses what a cell has not.
pub fn check_cell(what: Option<Shown>, cell: CellKind) -> Result<(), String> {
    match what {
        Some(Shown::C) if !cell.has_cell_state() => {
            Err(format!("--what c: a {cell} has no cell state; use --what h"))
        }
        Some(Shown::Gates) if gates(cell).is_empty() => {
            Err(format!("--what gates: a plain {cell} has none; use --what h"))
        }
        _ => Ok(()),
    }
}

/// A row a neuron, then a sentence each.
pub fn table(scores: &[&NeuronScore]) -> String {
    let label = scores.iter().map(|score| score.label_name.chars().count()).max().unwrap_or(0).max(5);
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:>5} {:>5}  {:<7}  {:<label$}  {:<6}  {:>5}  {:>8}  {:>8}  {:>7}  {:>7}",
        "layer", "unit", "what", "label", "is", "found", "held out", "shuffled", "mean on", "off"
    );
    for score in scores {
        let _ = writeln!(
            out,
            "{:>5} {:>5}  {:<7}  {:<label$}  {:<6}  {:>5.3}  {:>8.3}  {:>8.3}  {:>7.2}  {:>7.2}",
            score.layer + 1,
            score.unit + 1,
            if score.kind == "c" { "tanh(c)" } else { "h" },
            score.label_name,
            if score.positive { "higher" } else { "lower" },
            score.found,
            score.held_out,
            score.control,
            score.mean_on,
            score.mean_off,
        );
    }
    out.push('\n');
    for score in scores {
        let _ = writeln!(out, "{}", score.sentence);
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_count_from_one() {
        assert_eq!("auto".parse(), Ok(Selection::Auto));
        assert_eq!("1:38, 2:5,1:38".parse(), Ok(Selection::List(vec![(0, 37), (1, 4)])));
        for bad in ["", "1", "0:1", "1:0", "1:2,", "a:b", "-1:2", "1:2:3", "99999999999999999999:1"] {
            assert!(bad.parse::<Selection>().is_err(), "{bad:?}");
        }
        let shape = ModelShape { cell: CellKind::Gru, vocab: 9, hidden: 4, layers: 2 };
        assert!("2:4".parse::<Selection>().unwrap().check(&shape).is_ok());
        for bad in ["3:1", "1:5"] {
            let why = bad.parse::<Selection>().unwrap().check(&shape).unwrap_err();
            assert!(why.contains(bad) && why.contains("units 1 to 4"), "{why}");
        }
    }

    fn score(layer: usize, unit: usize, label: &str, held_out: f64) -> NeuronScore {
        NeuronScore {
            layer,
            unit,
            kind: "c".into(),
            label: label.into(),
            label_name: label.into(),
            positive: true,
            found: held_out,
            held_out,
            control: 0.55,
            mean_on: 0.5,
            mean_off: -0.5,
            sentence: String::new(),
        }
    }

    #[test]
    fn auto_takes_good_neurons_of_many_labels_once() {
        let scores = vec![
            score(0, 0, "header", 0.99),
            score(0, 1, "header", 0.98),
            score(0, 2, "title", 0.97),
            score(0, 2, "end", 0.96),
            score(0, 3, "chord", 0.9),
            score(0, 4, "bar", 0.6),
        ];
        let ranking = Ranking { scores, chosen: vec![4], ..Ranking::default() };
        let drawn = |top| -> Vec<usize> {
            Selection::Auto.neurons(None, top, Some(&ranking)).iter().map(|n| n.unit).collect()
        };
        assert_eq!(drawn(2), [3, 0]);
        assert_eq!(drawn(9), [3, 0, 2, 1], "each once; the last does not beat its control");
        let gates = Selection::Auto.neurons(Some(Shown::Gates), 1, Some(&ranking));
        assert_eq!(gates[0].what, What::Gates);
        assert_eq!(Selection::Auto.neurons(None, 1, Some(&ranking))[0].what, What::One(Kind::C));
    }
}
