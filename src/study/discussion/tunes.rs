//! What temperature does to sampled tunes, which characters are hard, and what neurons tell apart.

use super::section;
use super::words::{count, list, long_list};
use crate::study::names;
use crate::study::results::{Measure, Results, TuneSet};
use crate::study::statistics::{
    Difference, Interval, Summary, difference, holm, normal_difference, share_error, usable,
};
use crate::study::tables::{classes_by, measured, plain};
use crate::viz::page::data::Section;

/// Measures at the lowest against the highest temperature, and where they come nearest to the corpus.
pub(super) fn temperature(results: &Results) -> Section {
    let sets: Vec<&TuneSet> = results.tune_sets.iter().filter(|set| set.temperature.is_finite()).collect();
    let by = |a: &&&TuneSet, b: &&&TuneSet| a.temperature.total_cmp(&b.temperature);
    let (Some(low), Some(high)) = (sets.iter().min_by(by), sets.iter().max_by(by)) else {
        return Section::default();
    };
    let mut paragraphs = Vec::new();
    if low.temperature < high.temperature {
        paragraphs.extend(ends(low, high));
    }
    paragraphs.push(nearest(&sets));
    section("Temperature", paragraphs)
}

/// Value and standard error; of a share that is 0 or 1 the error is Agresti and Coull's.
fn estimate(measure: &Measure, tunes: usize) -> Option<(f64, Option<f64>)> {
    let value = measure.value.filter(|value| usable(*value))?;
    let error = measure.error.filter(|error| error.is_finite() && *error >= 0.0);
    let error = match error {
        Some(0.0) if measure.unit == "share" && tunes > 0 => Some(share_error(value, tunes)),
        error => error.filter(|error| *error > 0.0),
    };
    Some((value, error))
}

fn ends(low: &TuneSet, high: &TuneSet) -> Vec<String> {
    let mut rows: Vec<(&Measure, f64, f64, Difference)> = Vec::new();
    for a in &low.measures {
        let Some(b) = high.measures.iter().find(|b| b.key == a.key) else { continue };
        let (Some(from), Some(to)) = (estimate(a, low.tunes), estimate(b, high.tunes)) else { continue };
        let interval = match (from.1, to.1) {
            (Some(ea), Some(eb)) => normal_difference((to.0, eb), (from.0, ea)),
            _ => None,
        };
        let change =
            interval.map_or(Difference::SpreadUnknown(to.0 - from.0), |i| Difference::Measured(i, false));
        rows.push((a, from.0, to.0, change));
    }
    if rows.is_empty() {
        return Vec::new();
    }
    holm(rows.iter_mut().map(|row| &mut row.3));
    let mut texts = vec![format!(
        "Compared are the tunes of the lowest temperature, {} ({}), and of the highest, {} ({}). Intervals are 95% \
         intervals of the change, from the standard errors over tunes; Holm's correction covers the measures.",
        low.temperature,
        count(low.tunes, "tune"),
        high.temperature,
        count(high.tunes, "tune")
    )];
    let (mut rises, mut falls, mut open, mut unknown) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (measure, from, to, change) in &rows {
        let say = |value: f64| measured(&measure.unit, value, None);
        let moved = format!("\u{201c}{}\u{201d} from {} to {}", measure.name, say(*from), say(*to));
        match change {
            Difference::Measured(interval, true) => {
                let side = if interval.mean < 0.0 { &mut falls } else { &mut rises };
                side.push(format!("{moved} ({})", between(&measure.unit, interval)));
            }
            Difference::Measured(interval, false) => {
                open.push(format!("{moved} ({})", between(&measure.unit, interval)));
            }
            Difference::SpreadUnknown(_) => unknown.push(moved),
        }
    }
    for (one, several, group) in [
        ("One measure rises", "measures rise", &rises),
        ("One measure falls", "measures fall", &falls),
        ("Not distinguishable from no change is", "changes are not distinguishable from none", &open),
        (
            "Without a known error, so not claimed:",
            "changes have no known error, so are not claimed",
            &unknown,
        ),
    ] {
        match group.len() {
            0 => {}
            1 if one.ends_with(['s', ':']) && !one.starts_with("One") => {
                texts.push(format!("{one} {}.", group[0]))
            }
            1 => texts.push(format!("{one}: {}.", group[0])),
            n => texts.push(format!("{n} {several}: {}.", long_list(group, "and"))),
        }
    }
    texts
}

/// The interval of a change in its unit: `−12.0 to −4.0 points`.
fn between(unit: &str, interval: &Interval) -> String {
    let (factor, places, what) = match unit {
        "share" => (100.0, 1, " points"),
        "nats" | "bits" => (1.0, 3, ""),
        "chars" => (1.0, 0, ""),
        _ => (1.0, 1, ""),
    };
    let [low, high] =
        [interval.low, interval.high].map(|end| crate::study::tables::signed(end * factor, places));
    format!("{low} to {high}{what}")
}

/// At which temperature each measure comes nearest to the corpus's own value.
fn nearest(sets: &[&TuneSet]) -> String {
    let mut by_set: Vec<(f64, Vec<String>)> = sets.iter().map(|set| (set.temperature, Vec::new())).collect();
    let mut total = 0;
    let mut keys: Vec<&str> = Vec::new();
    for measure in sets.iter().flat_map(|set| &set.measures) {
        if keys.contains(&measure.key.as_str()) {
            continue;
        }
        keys.push(&measure.key);
        let mut best: Option<(f64, usize)> = None;
        for (i, set) in sets.iter().enumerate() {
            let Some(one) = set.measures.iter().find(|one| one.key == measure.key) else { continue };
            let (Some(value), Some(corpus)) = (one.value, one.corpus) else { continue };
            let distance = (value - corpus).abs();
            if distance.is_finite() && best.is_none_or(|best| distance < best.0) {
                best = Some((distance, i));
            }
        }
        if let Some((_, place)) = best {
            total += 1;
            by_set[place].1.push(format!("\u{201c}{}\u{201d}", measure.name));
        }
    }
    by_set.retain(|set| !set.1.is_empty());
    // With one set, nearest means nothing.
    if total == 0 || sets.len() < 2 {
        return String::new();
    }
    let parts: Vec<String> = by_set
        .iter()
        .map(|(temperature, measures)| format!("at {temperature} {}", list(measures, "and")))
        .collect();
    format!(
        "Of {} for which the corpus has a value of its own, nearest to the corpus are {}. Neighbouring temperatures \
         may not be distinguishable in this.",
        count(total, "measure"),
        long_list(&parts, "and")
    )
}

/// Where the loss comes from, and where the best variant gains.
pub(super) fn classes(results: &Results) -> Section {
    let Some((baseline, best, rows)) = classes_by(results) else { return Section::default() };
    let mean =
        |values: &[(u64, f64)]| Summary::of(values.iter().map(|value| value.1)).map(|summary| summary.mean);
    let mut parts: Vec<(&'static str, f64, f64, f64)> = rows
        .iter()
        .filter_map(|row| {
            let nats = mean(&row.baseline)?;
            Some((row.class.name(), row.share, nats, nats * row.share))
        })
        .collect();
    let whole: f64 = parts.iter().map(|part| part.3).sum();
    if parts.is_empty() || whole <= 0.0 {
        return Section::default();
    }
    parts.sort_by(|a, b| b.3.total_cmp(&a.3));
    let most: Vec<String> = parts
        .iter()
        .take(3)
        .map(|(name, share, _, part)| {
            format!(
                "\u{201c}{name}\u{201d} ({:.0}% of the loss, {:.0}% of the characters)",
                part / whole * 100.0,
                share * 100.0
            )
        })
        .collect();
    let mut text = format!(
        "The largest {} of the validation loss of {} {} from {}.",
        if most.len() == 1 { "part" } else { "parts" },
        names::full(&baseline),
        if most.len() == 1 { "comes" } else { "come" },
        list(&most, "and")
    );
    parts.sort_by(|a, b| b.2.total_cmp(&a.2));
    if let [hardest, .., easiest] = parts[..] {
        text += &format!(
            " A character is hardest to predict where it is \u{201c}{}\u{201d} ({} nats a character) and easiest where \
             it is \u{201c}{}\u{201d} ({}).",
            hardest.0,
            plain(hardest.2, 3),
            easiest.0,
            plain(easiest.2, 3)
        );
    }
    let mut paragraphs = vec![text];
    if let Some(best) = best {
        let mut changes: Vec<(&'static str, Difference)> = rows
            .iter()
            .filter_map(|row| Some((row.class.name(), difference(&row.best, &row.baseline)?)))
            .collect();
        holm(changes.iter_mut().map(|change| &mut change.1));
        paragraphs.push(gains(&names::full(&best), &names::full(&baseline), &changes));
    }
    section("Which characters are hard", paragraphs)
}

fn gains(best: &str, baseline: &str, changes: &[(&'static str, Difference)]) -> String {
    if changes.is_empty() {
        return String::new();
    }
    if changes.iter().all(|change| matches!(change.1, Difference::SpreadUnknown(_))) {
        return format!(
            "How {best}, the best variant, differs from {baseline} class by class stands in the table; the spread over \
             seeds is unknown, so no class is said to differ."
        );
    }
    let side = |lower: bool| -> Vec<String> {
        let told = changes.iter().filter(|(_, d)| d.distinguishable() && (d.mean() < 0.0) == lower);
        told.map(|(name, d)| format!("\u{201c}{name}\u{201d} (by {} nats)", plain(d.mean().abs(), 3)))
            .collect()
    };
    let (lower, higher) = (side(true), side(false));
    let open = changes.len() - lower.len() - higher.len();
    if lower.is_empty() && higher.is_empty() {
        return format!(
            "Class by class, {best}, the best variant, is not distinguishable from {baseline} in any of the {} (Holm's \
             correction over them).",
            count(changes.len(), "class").replace("classs", "classes")
        );
    }
    let mut parts = Vec::new();
    if !lower.is_empty() {
        parts.push(format!("distinguishably lower for {}", list(&lower, "and")));
    }
    if !higher.is_empty() {
        parts.push(format!("distinguishably higher for {}", list(&higher, "and")));
    }
    let rest = match open {
        0 => String::new(),
        1 => " The one other class is not distinguishable.".to_string(),
        n => format!(" The other {n} classes are not distinguishable."),
    };
    format!(
        "Against {baseline}, the loss of {best}, the best variant, is {} (Holm's correction over the classes).{rest}",
        list(&parts, "and")
    )
}

/// What the best neurons tell apart, in the sentences that their scores support.
pub(super) fn neurons(results: &Results) -> Section {
    // Three, each for a label of its own, as the paper shows three.
    let mut chosen: Vec<usize> = Vec::new();
    for (i, one) in results.neurons.iter().enumerate() {
        let known = chosen.iter().any(|&other| results.neurons[other].label == one.label);
        if chosen.len() < 3 && !known && one.held_out.is_finite() {
            chosen.push(i);
        }
    }
    if chosen.is_empty() {
        return Section::default();
    }
    let mut paragraphs: Vec<String> = vec![
        "Neurons are scored on held-out tunes by the area under the ROC curve: 0.5 tells nothing apart, 1 tells a \
         label apart without an error. The control is what the best neuron reaches for shuffled labels."
            .into(),
    ];
    for one in chosen.into_iter().map(|i| &results.neurons[i]) {
        let unsure = if one.control.is_finite() && one.held_out <= one.control {
            " That is no better than the control, so nothing is claimed."
        } else {
            ""
        };
        // The sentence tells both scores.
        paragraphs.push(format!("{}{unsure}", one.sentence.trim()));
    }
    section("Neurons", paragraphs)
}
