//! Measures over a real book, the project's own: copies are found and named whatever their title, new music is not.

use songrnn_fast::abc;
use songrnn_fast::measures::{Reference, copying::Music, name_of};
use songrnn_fast::sample::TuneText;
use songrnn_fast::study::results::Measure;

fn book() -> Vec<String> {
    let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/data/tunebook.abc")).unwrap();
    let text = abc::decode(&bytes).text.into_owned();
    abc::split(&text).map(|span| text[span.start..span.end].to_owned()).collect()
}

fn named(tunes: &[String]) -> Vec<(String, String)> {
    tunes.iter().zip(1..).map(|(text, number)| (name_of(text, number), text.clone())).collect()
}

fn texts(tunes: &[String]) -> Vec<TuneText> {
    tunes.iter().map(|text| TuneText { text: text.clone(), closed: true }).collect()
}

fn get<'a>(measures: &'a [Measure], key: &str) -> &'a Measure {
    measures.iter().find(|measure| measure.key == key).unwrap()
}

#[test]
fn every_tune_is_found_under_another_title_and_other_white_space() {
    let tunes = book();
    let train = named(&tunes);
    let reference = Reference::new(&train, &[]);
    assert!(reference.notes().is_empty(), "{:?}", reference.notes());
    for (i, tune) in tunes.iter().enumerate() {
        let key = tune.lines().position(|line| line.starts_with("K:")).unwrap();
        let header: Vec<&str> = tune.lines().take(key + 1).filter(|line| !line.starts_with("T:")).collect();
        let body: Vec<String> = tune.lines().skip(key + 1).map(|line| line.replace('|', " | ")).collect();
        let disguised = format!("{}\n{}\n", header.join("\nT:Another\n"), body.join("\n"));
        let copied = reference.source_of(&disguised).unwrap();
        let music = Music::of(tune).text;
        assert_eq!(copied.chars, music.chars().count(), "{tune}");
        // Two tunes of a book may have the same music; its name must be one that has it.
        assert!(Music::of(&tunes[copied.tune]).text.contains(&music), "{i}: {}", copied.from);
        assert_eq!(copied.from, train[copied.tune].0);
    }
}

#[test]
fn half_a_book_beside_the_other_half() {
    let tunes = book();
    let (train, held_out) = tunes.split_at(tunes.len() / 2);
    let reference = Reference::new(&named(train), held_out);
    // The held-out tunes as a set: every value is the corpus's own.
    for measure in reference.measure(&texts(held_out)) {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(measure.value.zip(measure.corpus).is_none_or(|(a, b)| close(a, b)), "{measure:?}");
    }
    let copies = reference.measure(&texts(train));
    assert_eq!(get(&copies, "copying").value, Some(1.0));
    assert!(get(&copies, "copying").corpus.unwrap() < 0.2);
    assert!(get(&copies, "pitch_distance").value.unwrap() < 1e-12);
    assert!(get(&copies, "pitch_distance").corpus.unwrap() > 1e-4);
    assert_eq!(get(&copies, "parses").value, Some(1.0), "the project's own book has no errors");
}
