//! The written discussion, made of comparisons of the measured numbers and of nothing else: whatever came out, in either
//! direction, the words say it, and what the seeds cannot tell apart is said not to be distinguishable.

mod experiments;
mod fit;
mod tunes;
mod words;

use super::names;
use super::results::{Protocol, Results};
use super::statistics::{Compared, Difference, compare};
use super::tables::{self, markdown_text};
use crate::viz::page::data::Section;
use words::{count, list, mean_spread, sentence};

/// All sections; those without a number to speak of are left out.
pub fn write(results: &Results) -> Vec<Section> {
    let mut sections = vec![summary(results), method(results)];
    sections.extend(results.experiments.iter().map(|experiment| experiments::section(results, experiment)));
    sections.push(fit::ngrams(results));
    sections.push(fit::fit(results));
    sections.push(fit::published(results));
    sections.push(tunes::temperature(results));
    sections.push(tunes::classes(results));
    sections.push(tunes::neurons(results));
    sections.push(limits(results));
    sections.retain(|section| !section.paragraphs.is_empty());
    sections
}

/// The same as Markdown.
pub fn markdown(results: &Results) -> String {
    let mut out = String::from("# Discussion\n\n");
    for section in write(results) {
        out.push_str(&format!("## {}\n\n", markdown_text::inline(&section.title)));
        for text in section.paragraphs {
            out.push_str(&markdown_text::paragraph(&text));
        }
    }
    out.truncate(out.trim_end().len());
    out + "\n"
}

const BOTH: [Protocol; 2] = [Protocol::Contract, Protocol::Assignment];

/// Every variant of the study once, under a protocol, with its scores.
fn every<'a>(results: &'a Results, protocol: Protocol) -> Vec<Compared<'a>> {
    let mut all: Vec<Compared> = Vec::new();
    for experiment in &results.experiments {
        for one in compare(results, experiment, protocol) {
            if one.summary.is_some() && !all.iter().any(|known| known.variant == one.variant) {
                all.push(one);
            }
        }
    }
    all
}

fn section(title: &str, paragraphs: Vec<String>) -> Section {
    Section {
        title: title.into(),
        paragraphs: paragraphs.into_iter().filter(|text| !text.is_empty()).collect(),
    }
}

/// What a reader in a hurry needs.
fn summary(results: &Results) -> Section {
    let mut paragraphs = Vec::new();
    for protocol in BOTH {
        let all = every(results, protocol);
        let mean = |one: &Compared| one.summary.map_or(f64::INFINITY, |summary| summary.mean);
        let Some(lowest) = all.iter().min_by(|a, b| mean(a).total_cmp(&mean(b))) else { continue };
        let Some(loss) = lowest.summary else { continue };
        let mut text = if all.len() == 1 {
            format!(
                "Under the {} protocol {} was trained; its {} is {}.",
                names::protocol(protocol),
                names::full(&lowest.variant),
                tables::score_name(results, protocol),
                mean_spread(&loss)
            )
        } else {
            format!(
                "Of {} variants under the {} protocol, {} has the lowest mean {}: {}.",
                all.len(),
                names::protocol(protocol),
                names::full(&lowest.variant),
                tables::score_name(results, protocol),
                mean_spread(&loss)
            )
        };
        let (mut better, mut worse, mut measured, mut unknown) = (Vec::new(), Vec::new(), 0, 0);
        for experiment in &results.experiments {
            for one in compare(results, experiment, protocol) {
                match one.difference {
                    Some(Difference::Measured(interval, true)) => {
                        measured += 1;
                        let side = if interval.mean < 0.0 { &mut better } else { &mut worse };
                        side.push(names::full(&one.variant));
                    }
                    Some(Difference::Measured(..)) => measured += 1,
                    Some(Difference::SpreadUnknown(_)) => unknown += 1,
                    None => {}
                }
            }
        }
        let bases: Vec<String> = results.experiments.iter().map(|e| names::full(&e.baseline)).collect();
        let base = match &bases[..] {
            [first, rest @ ..] if rest.iter().all(|base| base == first) => format!("the baseline, {first}"),
            _ => "their experiments' baselines".to_string(),
        };
        if measured > 0 {
            text += &format!(
                " Of {} with {base}, {} distinguishable",
                count(measured, "comparison"),
                match better.len() + worse.len() {
                    0 => "none is".to_string(),
                    1 => "1 is".to_string(),
                    n => format!("{n} are"),
                }
            );
            let sides =
                [("lower", &better), ("higher", &worse)].into_iter().filter(|side| !side.1.is_empty());
            let sides: Vec<String> =
                sides.map(|(side, who)| format!("{side} is the loss of {}", list(who, "and"))).collect();
            text += &if sides.is_empty() { ".".to_string() } else { format!(": {}.", sides.join("; ")) };
        } else if unknown > 0 {
            text += " The spread over seeds is unknown, so no difference between variants is claimed.";
        }
        paragraphs.push(text);
    }
    section("In short", paragraphs)
}

/// What the numbers mean and when a difference counts.
fn method(results: &Results) -> Section {
    if results.trials.is_empty() {
        return section(
            "What was compared",
            vec!["No trial is done yet, so there is nothing to discuss.".into()],
        );
    }
    let data = &results.data;
    let tunes = |n: u64, what: &str| match n {
        0 => format!("no {what} tunes"),
        1 => format!("1 {what} tune"),
        n => format!("{} {what} tunes", tables::thousands(n)),
    };
    let read = [(data.train_tunes, "training"), (data.val_tunes, "validation"), (data.test_tunes, "test")]
        .map(|(n, what)| tunes(n, what));
    let mut first = format!(
        "The study read {}, and finished {} with {}.",
        list(&read, "and"),
        count(results.trials.len(), "trial"),
        match results.seeds.len() {
            0 | 1 => "one seed each".to_string(),
            n => format!("{n} seeds for every variant"),
        }
    );
    if results.quick {
        first += " It was a quick study: fewer epochs and seeds than the full one, so its losses are higher and its \
                  differences less sure.";
    }
    let measured = BOTH.iter().any(|protocol| {
        let any = |experiment| {
            let compared = compare(results, experiment, *protocol);
            compared.iter().any(|one| matches!(one.difference, Some(Difference::Measured(..))))
        };
        results.experiments.iter().any(any)
    });
    let second = if measured {
        "A seed sets the weights' start, the order of the tunes and dropout alike for all variants, so differences \
         are taken seed by seed where two variants share at least two seeds, else between the means (Welch). Each \
         comes with a 95% confidence interval from Student's t. It is called distinguishable where it remains so after Holm's \
         correction over all comparisons of its experiment, which asks for more than an interval that excludes 0. \
         Not distinguishable does not mean equal: the interval says how large a difference the seeds leave open."
    } else {
        "The spread over seeds is unknown, so nothing is said to differ: which of two losses is lower may be chance. \
         Train with several seeds to tell."
    };
    section("What was compared, and what counts as a difference", vec![first, second.into()])
}

/// What these numbers cannot say.
fn limits(results: &Results) -> Section {
    if results.trials.is_empty() {
        return Section::default();
    }
    let mut texts: Vec<String> = Vec::new();
    let seeds = results.seeds.len();
    texts.push(match seeds {
        0 | 1 => "With one seed, luck and effect cannot be separated at all.".into(),
        // The half width of a paired 95% interval in standard deviations of the seeds' differences.
        n => {
            let reach = super::statistics::t_quantile(0.975, (n - 1) as f64) / (n as f64).sqrt();
            format!(
                "With {n} seeds an interval reaches {reach:.1} standard deviations of the seeds' differences to each \
                 side; smaller effects mostly go unseen."
            )
        }
    });
    let experiments = results.experiments.len();
    if experiments > 1 && seeds > 1 {
        texts.push(format!(
            "Holm's correction covers each experiment under each protocol by itself, not the {experiments} \
             experiments together."
        ));
    }
    let contract = || results.trials.iter().filter(|trial| trial.protocol == Protocol::Contract);
    if contract().any(|trial| trial.validation.is_some()) {
        let test = contract().any(|trial| trial.test.is_some());
        texts.push(format!(
            "The best epoch was chosen on the validation tunes themselves, so the validation loss is a little \
             flattered{}.",
            if test { "; the test loss is not" } else { ", and there are no test tunes to show by how much" }
        ));
    }
    if contract().next().is_some() {
        texts.push(format!(
            "All variants were trained with the same settings (a learning rate of {}, {} streams of {} characters); \
             a variant that needs others is at a disadvantage.",
            results.settings.lr, results.settings.batch, results.settings.seq_len
        ));
    }
    let share = results.data.header_share;
    if results.data.val_tunes > 0 && share > 0.0 && share <= 1.0 {
        texts.push(format!(
            "Of the validation characters {:.0}% stand in headers: a loss over all characters is to that extent a \
             loss over titles and fields, not over music.",
            share * 100.0
        ));
    }
    let missing = missing(results);
    if !missing.is_empty() {
        texts.push(sentence(&format!("{} missing or without a finite loss: {}", missing.0, missing.1)));
    }
    texts.push(
        "Everything here is about these tunes; other collections may order the variants differently.".into(),
    );
    section("Limits", vec![texts.join(" ")])
}

/// How much of the grid has no usable trial, in words: `3 trials are`, and whose.
struct Missing(String, String);

impl Missing {
    fn is_empty(&self) -> bool {
        self.1.is_empty()
    }
}

fn missing(results: &Results) -> Missing {
    let (mut total, mut whose): (usize, Vec<String>) = (0, Vec::new());
    for protocol in BOTH {
        if !results.trials.iter().any(|trial| trial.protocol == protocol) {
            continue;
        }
        let mut seen = Vec::new();
        for experiment in &results.experiments {
            for one in compare(results, experiment, protocol) {
                let absent = results.seeds.len().saturating_sub(one.scores.len());
                if absent == 0 || seen.contains(&one.variant.key()) {
                    continue;
                }
                seen.push(one.variant.key());
                total += absent;
                whose.push(format!(
                    "{absent} of {} ({})",
                    names::full(&one.variant),
                    names::protocol(protocol)
                ));
            }
        }
    }
    let verb = if total == 1 { "is" } else { "are" };
    Missing(format!("{} {verb}", count(total, "trial")), list(&whose, "and"))
}

#[cfg(test)]
#[path = "discussion_tests.rs"]
mod tests;
