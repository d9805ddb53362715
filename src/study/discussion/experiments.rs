//! One experiment under each protocol: how its variants differ from the baseline, whether the losses follow the number
//! that is varied, and whether the two protocols agree.

use super::BOTH;
use super::words::{by, count, long_list, mean_spread, sentence, signed_size, size, with};
use crate::study::names;
use crate::study::results::{Experiment, Protocol, Results};
use crate::study::statistics::{Compared, Difference, compare, difference};
use crate::study::tables::{self, plain, signed, thousands};
use crate::viz::page::data::Section;

/// Everything about one experiment.
pub(super) fn section(results: &Results, experiment: &Experiment) -> Section {
    let compared = BOTH.map(|protocol| compare(results, experiment, protocol));
    let mut paragraphs: Vec<String> = Vec::new();
    for (protocol, compared) in BOTH.into_iter().zip(&compared) {
        paragraphs.push(under(results, experiment, protocol, compared));
        paragraphs.push(trend(experiment, compared));
    }
    paragraphs.push(sizes(experiment, &compared));
    paragraphs.push(agreement(experiment, &compared));
    super::section(&names::title(experiment), paragraphs)
}

fn under(results: &Results, experiment: &Experiment, protocol: Protocol, compared: &[Compared]) -> String {
    let scored: Vec<&Compared> = compared.iter().filter(|one| one.summary.is_some()).collect();
    if scored.is_empty() {
        return String::new();
    }
    let (protocol_name, score) = (names::protocol(protocol), tables::score_name(results, protocol));
    let base = scored.iter().find(|one| one.baseline).and_then(|one| one.summary);
    let baseline = names::full(&experiment.baseline);
    let Some(base) = base else {
        let losses: Vec<String> = scored
            .iter()
            .filter_map(|one| {
                Some(format!("{} for {}", plain(one.summary?.mean, 3), names::full(&one.variant)))
            })
            .collect();
        return format!(
            "Under the {protocol_name} protocol the baseline, {baseline}, has no trial with a finite loss, so nothing \
             is compared with it. The {score} in nats a character is {}.",
            long_list(&losses, "and")
        );
    };
    // What has been told of a baseline is not told again in every experiment.
    let told = results.experiments.iter().take_while(|other| *other != experiment);
    let mut text = if told.into_iter().any(|other| other.baseline == experiment.baseline) {
        let value = tables::spread(&base, 3);
        format!(
            "Under the {protocol_name} protocol the baseline, {baseline}, is at {value} nats a character."
        )
    } else {
        format!(
            "Under the {protocol_name} protocol the baseline, {baseline}, reaches a {score} of {}.",
            mean_spread(&base)
        )
    };
    let (mut lower, mut higher, mut open, mut unknown) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for one in &scored {
        let with = with(experiment, &one.variant);
        match one.difference {
            Some(Difference::Measured(interval, true)) => {
                let side = if interval.mean < 0.0 { &mut lower } else { &mut higher };
                side.push(format!("{with} ({})", by(&interval)));
            }
            Some(Difference::Measured(interval, false)) => {
                let excludes = interval.low > 0.0 || interval.high < 0.0;
                let alone =
                    if excludes { "; it would count alone, but not among these comparisons" } else { "" };
                open.push(format!("{with} ({}{alone})", signed_size(&interval)));
            }
            Some(Difference::SpreadUnknown(mean)) => unknown.push(format!("{} nats {with}", signed(mean, 3))),
            None => {}
        }
    }
    let mut say = |head: &str, parts: &[String], joint: &str| {
        if !parts.is_empty() {
            text += &format!(" {head} {}.", long_list(parts, joint));
        }
    };
    let none = lower.is_empty() && higher.is_empty();
    say("The loss is distinguishably lower", &lower, "and");
    let also =
        if lower.is_empty() { "The loss is distinguishably higher" } else { "It is distinguishably higher" };
    say(also, &higher, "and");
    let head = match (none, open.len()) {
        (true, 1) => "It is not distinguishable from the baseline's",
        (true, _) => "None of the others is distinguishable from it:",
        (false, _) => "Not distinguishable from the baseline is the loss",
    };
    say(head, &open, "and");
    let head = "The spread over seeds is unknown here, so these differences are reported but not claimed:";
    say(head, &unknown, "and");
    text
}

/// Whether losses follow the number that the experiment varies.
fn trend(experiment: &Experiment, compared: &[Compared]) -> String {
    let Some((what, read)) = names::numeric(experiment) else { return String::new() };
    let mut points: Vec<(f64, f64, &Compared)> = compared
        .iter()
        .filter_map(|one| Some((read(&one.variant), one.summary?.mean, one)))
        .filter(|point| point.0.is_finite())
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let several = points.iter().all(|point| point.2.scores.len() > 1);
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
    if points.len() < 3 || !several {
        return String::new();
    }
    let falls = points.windows(2).filter(|w| w[1].1 < w[0].1).count();
    let rises = points.windows(2).filter(|w| w[1].1 > w[0].1).count();
    let steps = points.len() - 1;
    let (from, to) = (first.0, last.0);
    let way =
        if what == "dropout" { format!("dropout {from} to {to}") } else { format!("{from} to {to} {what}") };
    let told = points.iter().any(|point| point.2.difference.is_some_and(|d| d.distinguishable()));
    let but = if told { "" } else { ", though no difference from the baseline is distinguishable" };
    let mut text = if falls == steps {
        format!("From {way} the mean loss falls at every step{but}.")
    } else if rises == steps {
        format!("From {way} the mean loss rises at every step{but}.")
    } else {
        let lowest = points.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(first);
        let highest = points.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(first);
        format!(
            "From {way} the mean loss does not move in one direction; it is lowest {} ({}) and highest {} ({}){but}.",
            with(experiment, &lowest.2.variant),
            plain(lowest.1, 3),
            with(experiment, &highest.2.variant),
            plain(highest.1, 3)
        )
    };
    // The end that is the baseline has been compared above already.
    if !first.2.baseline
        && !last.2.baseline
        && let Some(Difference::Measured(ends, told)) = difference(&last.2.scores, &first.2.scores)
    {
        let side = if ends.mean < 0.0 { "lower" } else { "higher" };
        text += &format!(
            " Between these two ends the loss is {side} {} by {}{}.",
            with(experiment, &last.2.variant),
            size(&ends),
            if told {
                ", which as a single comparison is distinguishable from none"
            } else {
                ", which even as a single comparison is not distinguishable from none"
            }
        );
    }
    text
}

/// That cells of equal units are not of equal size.
fn sizes(experiment: &Experiment, compared: &[Vec<Compared>; 2]) -> String {
    if !names::varied(experiment).cell {
        return String::new();
    }
    let parameters = |one: &Compared| Some((one.trials.first()?.parameters, names::full(&one.variant)));
    let all: Vec<(u64, String)> = compared.iter().flatten().filter_map(parameters).collect();
    let (Some(least), Some(most)) = (all.iter().min(), all.iter().max()) else { return String::new() };
    if least.0 == most.0 {
        return String::new();
    }
    format!(
        "The variants differ in size as well, from {} parameters ({}) to {} ({}): this compares them as they are, not \
         cells at an equal number of parameters.",
        thousands(least.0),
        least.1,
        thousands(most.0),
        most.1
    )
}

/// Whether both protocols tell the same story.
fn agreement(experiment: &Experiment, [contract, assignment]: &[Vec<Compared>; 2]) -> String {
    let mut common: Vec<(f64, f64, &Compared, &Compared)> = Vec::new();
    for one in contract {
        let other = assignment.iter().find(|other| other.variant == one.variant);
        if let Some(other) = other
            && let (Some(a), Some(b)) = (one.summary, other.summary)
        {
            common.push((a.mean, b.mean, one, other));
        }
    }
    if common.len() < 2 {
        return String::new();
    }
    let order = |of: fn(&(f64, f64, &Compared, &Compared)) -> f64| {
        let mut places: Vec<usize> = (0..common.len()).collect();
        places.sort_by(|&a, &b| of(&common[a]).total_cmp(&of(&common[b])));
        places
    };
    let (a, b) = (order(|one| one.0), order(|one| one.1));
    let name = |place: usize| names::full(&common[place].2.variant);
    let mut text = if a == b {
        format!("Both protocols put the {} in the same order.", count(common.len(), "variant"))
    } else if a[0] == b[0] {
        format!("Both protocols have their lowest mean with {}; the order of the others differs.", name(a[0]))
    } else {
        format!(
            "The protocols order the variants differently: the lowest mean is that of {} under the contract protocol \
             and that of {} under the assignment's.",
            name(a[0]),
            name(b[0])
        )
    };
    if a != b {
        text += " Means that are not distinguishable may change places by chance.";
    }
    let side = |one: &Compared| one.difference.filter(Difference::distinguishable).map(|d| d.mean() < 0.0);
    let opposed: Vec<String> = common
        .iter()
        .filter(|one| matches!((side(one.2), side(one.3)), (Some(a), Some(b)) if a != b))
        .map(|one| with(experiment, &one.2.variant))
        .collect();
    if !opposed.is_empty() {
        let what = sentence(&format!("they contradict each other {}", long_list(&opposed, "and")));
        text += &format!(" {what} Both differences are distinguishable there, in opposite directions.");
    }
    text
}
