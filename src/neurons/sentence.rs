//! What is said of a neuron: one sentence that its numbers support.

use crate::study::results::NeuronScore;

/// Held-out AUC has to lie this far above what shuffled labels reach before a neuron is said to know a label.
pub const CLEARLY: f64 = 0.1;

/// Below this a neuron is not worth speaking of, whatever chance reaches.
pub const LEAST: f64 = 0.7;

/// Whether a neuron clearly beats its control on held-out tunes, and its means differ the way that its ranks do.
pub fn beats_control(score: &NeuronScore) -> bool {
    score.held_out >= LEAST
        && score.held_out >= score.control + CLEARLY
        && (score.mean_on > score.mean_off) == score.positive
}

/// The sentence; `by_character`: the held-out AUC that the character alone reaches, where it is known. Layers and units
/// are counted from 1, as everywhere where people read them.
pub fn sentence(score: &NeuronScore, by_character: Option<f64>) -> String {
    let NeuronScore { held_out, control, mean_on, mean_off, .. } = score;
    let what = if score.kind == "c" { "the tanh of its cell state, c," } else { "its output h" };
    let who = format!("Unit {} of layer {}", score.unit + 1, score.layer + 1);
    if !beats_control(score) {
        return format!(
            "{who}: {what} does not clearly tell characters {} from others: on held-out tunes the area under its ROC curve is {held_out:.3}, \
             and the best neuron for shuffled labels reaches {control:.3}.",
            score.label_name
        );
    }
    let direction = if score.positive { "higher" } else { "lower" };
    let alone = by_character.map_or(String::new(), |auc| format!(", the character alone {auc:.3}"));
    format!(
        "{who}: {what} is {direction} {}: {mean_on:.2} on average there and {mean_off:.2} elsewhere; on held-out tunes the \
         area under its ROC curve is {held_out:.3} (the best neuron for shuffled labels reaches {control:.3}{alone}).",
        score.label_name
    )
}
