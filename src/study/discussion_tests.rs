//! What the words say follows from the numbers: turned round they say the opposite, noise says nothing, one seed claims
//! nothing, and nothing hostile gets through.

use super::*;
use crate::study::results::{Trial, Variant};
use crate::study::testing::{self, base, full, noise};

fn text(results: &Results) -> String {
    let sections = write(results);
    sections.into_iter().flat_map(|s| s.paragraphs).collect::<Vec<_>>().join("\n")
}

/// The paragraphs of the experiments on cells alone.
fn cells(results: &Results) -> String {
    experiments::section(results, &results.experiments[0]).paragraphs.join("\n")
}

/// Every loss mirrored at 3 nats.
fn mirrored(mut results: Results) -> Results {
    for trial in &mut results.trials {
        for part in [&mut trial.train, &mut trial.validation, &mut trial.test].into_iter().flatten() {
            part.nats = 6.0 - part.nats;
        }
        trial.slices = trial.slices.map(|nats| 6.0 - nats);
        trial.classes.iter_mut().for_each(|one| one.nats = 6.0 - one.nats);
    }
    results.ngrams.iter_mut().for_each(|table| table.nats.iter_mut().for_each(|nats| *nats = 6.0 - *nats));
    for set in &mut results.tune_sets {
        set.measures.iter_mut().for_each(|one| one.value = one.value.map(|value| -value));
    }
    results
}

#[test]
fn turned_numbers_turn_the_words() {
    let (before, after) = (cells(&full()), cells(&mirrored(full())));
    assert!(before.contains("distinguishably higher with an RNN (by 0.3"), "{before}");
    assert!(after.contains("distinguishably lower") && after.contains("with an RNN (by 0.3"), "{after}");
    assert!(!after.contains("distinguishably higher"), "{after}");
    let (before, after) = (text(&full()), text(&mirrored(full())));
    assert!(before.contains("From 50 to 250 units the mean loss falls at every step"), "{before}");
    assert!(after.contains("From 50 to 250 units the mean loss rises at every step"), "{after}");
    assert!(before.contains("lower with 250 units by 0.1") && after.contains("higher with 250 units by 0.1"));
    assert!(before.contains("gap becomes smaller") && after.contains("gap becomes larger"), "{after}");
    let rises = |text: &str| text.lines().find(|line| line.contains("rise")).unwrap_or_default().to_string();
    let falls =
        |text: &str| text.lines().find(|line| line.contains("measures fall")).unwrap_or_default().to_string();
    assert!(falls(&before).contains("bars filled"), "{before}");
    assert!(
        !falls(&after).contains("bars filled") && after.contains("measures rise"),
        "{after} {}",
        rises(&after)
    );
}

#[test]
fn noise_is_not_distinguishable_and_a_large_effect_is() {
    let (mut state, mut results) = (3, full());
    for trial in &mut results.trials {
        let nats = 1.7 + 0.01 * noise(&mut state);
        trial.validation.iter_mut().for_each(|part| part.nats = nats);
        trial.slices = trial.slices.map(|_| nats);
    }
    let said = cells(&results);
    assert!(said.contains("None of the others is distinguishable from it"), "{said}");
    assert!(!said.contains("distinguishably"), "{said}");
    // One variant moved by twenty times the noise: it alone is told.
    let rnn = |trial: &&mut Trial| trial.variant == Variant { cell: crate::model::CellKind::Rnn, ..base() };
    for trial in results.trials.iter_mut().filter(rnn) {
        trial.validation.iter_mut().for_each(|part| part.nats += 0.2);
    }
    let said = cells(&results);
    assert!(said.contains("distinguishably higher with an RNN"), "{said}");
    assert!(said.contains("Not distinguishable from the baseline is the loss with a GRU"), "{said}");
}

#[test]
fn one_seed_claims_nothing() {
    let (_, results) = testing::all().into_iter().find(|(name, _)| *name == "one seed").unwrap();
    let said = text(&results);
    // Temperature compares many tunes and classes are told to be unknown: only trials have one seed.
    let trials: Vec<&str> = said.lines().filter(|line| !line.contains("measures")).collect();
    let trials = trials.join("\n");
    assert!(!trials.contains("distinguishably"), "{trials}");
    assert!(trials.contains("The spread over seeds is unknown here") && trials.contains("quick study"));
    assert!(trials.contains("With one seed, luck and effect cannot be separated"));
}

#[test]
fn the_ngram_is_beaten_or_not_by_the_numbers() {
    let said = fit::ngrams(&full()).paragraphs.join("\n");
    assert!(said.contains("Distinguishably worse than that: RNN 1x150"), "{said}");
    let mut results = full();
    results.ngrams.iter_mut().for_each(|table| table.nats.iter_mut().for_each(|nats| *nats = 1.0));
    let said = fit::ngrams(&results).paragraphs.join("\n");
    assert!(said.contains("All 12 variants are distinguishably worse") && !said.contains("better"), "{said}");
}

#[test]
fn published_figures_stand_beside_the_assignments_own_songs_only() {
    let said = fit::published(&full()).paragraphs.join("\n");
    assert!(said.contains("RNN 1x150 2.0") && said.contains("2.094 there"), "{said}");
    let mut results = full();
    results.data.val_tunes = 20;
    let said = fit::published(&results).paragraphs.join("\n");
    assert!(said.contains("not comparable") && !said.contains("there ("), "{said}");
}

#[test]
fn all_kinds_of_results_give_clean_prose() {
    for (name, results) in testing::all() {
        for section in write(&results) {
            assert!(!section.title.is_empty() && !section.paragraphs.is_empty(), "{name}");
            for text in section.paragraphs {
                // A user's own words may hold anything; the rest may not.
                if name == "hostile" {
                    continue;
                }
                assert!(text.ends_with(['.', ')']), "{name}: {text}");
                for bad in
                    ["NaN", "inf ", "  ", " ,", " .", "..", "()", ": .", " 1 trials", " 1 variants", "None"]
                {
                    let allowed = bad == "None" && text.contains("None of the others");
                    assert!(allowed || !text.contains(bad), "{name}: {bad:?} in {text}");
                }
            }
        }
        let markdown = markdown(&results);
        assert!(!markdown.contains("<script") || name != "hostile", "{name}");
        assert!(!markdown.contains("](javascript") || markdown.contains("\\](javascript"), "{name}");
        assert!(!markdown.contains('\u{202e}') && !markdown.contains('\0'), "{name}");
    }
}
