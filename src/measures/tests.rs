//! Known tunes with known values.

use proptest::prelude::*;

use super::*;

/// Two training tunes of eight bars; the music of neither has a run of eight characters of the other.
const JIG: &str =
    "X:1\nT:The Jig\nM:6/8\nL:1/8\nK:D\nABd efg|fdB ABd|gfe dBA|Bcd e3|\nfga baf|ged BAG|ABc def|gfe d3|]\n";
const REEL: &str = "X:2\nT:The Reel\nM:4/4\nL:1/4\nK:C\nC2EG|c2GE|F2Ac|c2AF|\nG2Bd|d2BG|C2EG|c4|]\n";

fn train() -> Vec<(String, String)> {
    [JIG, REEL].iter().zip(1..).map(|(text, n)| (name_of(text, n), text.to_string())).collect()
}

fn tune(text: &str) -> TuneText {
    TuneText { text: text.into(), closed: true }
}

fn value(measures: &[Measure], key: &str) -> Option<f64> {
    measures.iter().find(|m| m.key == key).unwrap_or_else(|| panic!("no {key}")).value
}

fn corpus(measures: &[Measure], key: &str) -> Option<f64> {
    measures.iter().find(|m| m.key == key).unwrap().corpus
}

#[test]
fn the_order_of_the_measures_is_fixed() {
    let reference = Reference::new(&train(), &[]);
    let keys: Vec<String> = reference.measure(&[]).into_iter().map(|m| m.key).collect();
    assert_eq!(
        keys,
        [
            "parses",
            "closes",
            "bars_filled",
            "in_key",
            "repeats",
            "sections",
            "longest_copy",
            "copying",
            "novel_8",
            "novel_16",
            "novel_24",
            "novel_32",
            "pitch_distance",
            "duration_distance",
            "chars",
            "seconds"
        ]
    );
}

#[test]
fn a_copied_tune_is_named() {
    let reference = Reference::new(&train(), &[]);
    let copied = reference.source_of(JIG).unwrap();
    assert_eq!((copied.from.as_str(), copied.tune), ("The Jig (tune 1)", 0));
    assert_eq!(copied.chars, Music::of(JIG).text.chars().count());
    assert_eq!(&JIG[copied.place], JIG.split_once("K:D\n").unwrap().1.trim_end());
    // Another title, other white space, other line ends: the same music.
    let (_, body) = REEL.split_once("K:C\n").unwrap();
    let body: String = body.replace('\n', " ").chars().flat_map(|c| [c, ' ']).collect();
    let disguised = format!("X:7\nT:Something New\nM:4/4\nL:1/4\nK:C\n{body}\n");
    let copied = reference.source_of(&disguised).unwrap();
    assert_eq!((copied.from.as_str(), copied.chars), ("The Reel (tune 2)", Music::of(REEL).text.len()));
    let measures = reference.measure(&[tune(JIG), tune(&disguised)]);
    assert_eq!(value(&measures, "copying"), Some(1.0));
    assert_eq!(value(&measures, "novel_8"), Some(0.0));
    // The corpus's tunes are not copies of themselves.
    assert_eq!(corpus(&measures, "copying"), Some(0.0));
    assert_eq!(corpus(&measures, "novel_8"), Some(1.0));
}

#[test]
fn a_part_of_a_tune_is_found_where_it_stands() {
    let reference = Reference::new(&train(), &[]);
    let text = "X:1\nT:Half\nM:6/8\nL:1/8\nK:D\né^c^c^c|gfe dBA|\nBcd z3|\n";
    let copied = reference.source_of(text).unwrap();
    assert_eq!(copied.text, "|gfedBA|Bcd");
    assert_eq!((copied.chars, copied.tune), (11, 0));
    assert_eq!(&text[copied.place], "|gfe dBA|\nBcd");
}

#[test]
fn a_new_tune_is_new() {
    let reference = Reference::new(&train(), &[]);
    let new =
        tune("X:3\nT:The Jig\nM:6/8\nL:1/8\nK:D\n=f_B=f _B=f_B|^G_e^G _e^G_e|=f_B=f _B=f_B|^G_e^G _e3|]\n");
    let measures = reference.measure(std::slice::from_ref(&new));
    assert_eq!(value(&measures, "copying"), Some(0.0));
    for length in facts::NOVEL_LENGTHS {
        assert_eq!(value(&measures, &format!("novel_{length}")), Some(1.0));
    }
    assert!(value(&measures, "longest_copy").unwrap() <= 3.0);
}

#[test]
fn substrings_are_counted() {
    // The music is the Reel's first 12 characters and 8 others: of 13 substrings of 8 characters 5 are copied.
    let reference = Reference::new(&train(), &[]);
    let music = Music::of(REEL).text;
    let text = format!("X:1\nK:C\n{}zxzxzxzx\n", &music[..12]);
    let measures = reference.measure(&[tune(&text)]);
    assert_eq!(value(&measures, "novel_8"), Some(8.0 / 13.0));
    assert_eq!(value(&measures, "novel_16"), Some(1.0));
    assert_eq!(value(&measures, "novel_24"), None);
    assert_eq!(value(&measures, "longest_copy"), Some(12.0));
    assert_eq!(value(&measures, "copying"), Some(1.0), "more than half of itself");
}

#[test]
fn syntax_structure_and_lengths() {
    let good = tune(JIG);
    let open = TuneText { closed: false, ..tune(REEL) };
    // No K:, which is an error; one of two bars short; a repeat that nothing closes.
    let bad = tune("X:1\nT:Bad\nM:4/4\nL:1/4\n|:CDEF|CDE|]\n");
    let reference = Reference::new(&train(), &[]);
    let set = [good, open, bad, tune("")];
    let measures = reference.measure(&set);
    let near = |key: &str, expected: f64| {
        let found = value(&measures, key).unwrap();
        assert!((found - expected).abs() < 1e-9, "{key}: {found}, expected {expected}");
    };
    near("parses", 0.5);
    near("closes", 0.25);
    // 8 of 8, 8 of 8, 1 of 2.
    near("bars_filled", 17.0 / 18.0);
    near("in_key", 1.0);
    near("repeats", 0.0);
    near("sections", 2.0 / 3.0);
    near("chars", set.iter().map(|t| t.text.chars().count()).sum::<usize>() as f64 / 4.0);
    // 48 eighths and 32 quarters and 7 quarters at 120 quarters a minute; the empty one plays nothing.
    near("seconds", (12.0 + 16.0 + 3.5) / 3.0);
    let parses = measures.iter().find(|m| m.key == "parses").unwrap();
    assert!((parses.error.unwrap() - 0.25).abs() < 1e-12);
    assert_eq!((corpus(&measures, "parses"), corpus(&measures, "closes")), (Some(1.0), Some(1.0)));
}

#[test]
fn distances_tell_the_corpus_from_others() {
    let train = train();
    let held_out = vec![REEL.replace("T:The Reel", "T:Held out"), JIG.to_owned()];
    let reference = Reference::new(&train, &held_out);
    let same = reference.measure(&[tune(JIG), tune(REEL)]);
    let other = reference.measure(&[tune("X:1\nK:C\n^C16^G16|"), tune("X:1\nK:C\n^C16|")]);
    for key in ["pitch_distance", "duration_distance"] {
        assert_eq!(value(&same, key), Some(0.0), "{key}");
        assert_eq!(corpus(&same, key), Some(0.0), "{key}");
        assert!(value(&other, key).unwrap() > 0.5, "{key}");
    }
    // With one tune the corpus's own value is that of one tune.
    let one = reference.measure(&[tune(JIG)]);
    assert!(corpus(&one, "duration_distance").unwrap() > 0.01);
    assert_eq!(corpus(&one, "copying"), Some(1.0), "held-out tunes that are training tunes are copies");
}

#[test]
fn nothing_is_nothing() {
    for (train, held_out) in [(vec![], vec![]), (train(), vec![String::new()])] {
        let reference = Reference::new(&train, &held_out);
        for set in [vec![], vec![tune("")], vec![tune("\n\n\0|||"), tune("K:")]] {
            for measure in reference.measure(&set) {
                let finite = |x: Option<f64>| x.is_none_or(f64::is_finite);
                assert!(
                    finite(measure.value) && finite(measure.error) && finite(measure.corpus),
                    "{measure:?}"
                );
            }
        }
        assert_eq!(reference.source_of(""), None);
    }
}

#[test]
fn what_is_too_large_is_thinned_and_said() {
    assert_eq!(thin([5, 5, 5, 5].into_iter(), 20), [0, 1, 2, 3]);
    assert_eq!(thin([5, 5, 5, 5].into_iter(), 10), [0, 2]);
    assert_eq!(thin([50, 5, 5, 5].into_iter(), 40), [2]);
    assert_eq!(thin([usize::MAX, usize::MAX].into_iter(), 10), Vec::<usize>::new());
    let line = "abc|".repeat(256 << 10);
    let train: Vec<(String, String)> = (0..9).map(|i| (format!("{i}"), format!("K:C\n{line}{i}|"))).collect();
    let reference = Reference::new(&train, &["K:C\nC|".into()]);
    assert!(reference.notes()[0].contains("3 of the 9 training tunes"), "{:?}", reference.notes());
    assert_eq!(reference.source_of(&train[6].1).map(|c| c.from), Some("6".to_owned()));
}

#[test]
fn names_are_for_people() {
    assert_eq!(name_of("X:4\nT:  The Kesh \nT:Other\n", 12), "The Kesh (tune 12)");
    assert_eq!(name_of("X:4\nK:D", 3), "tune 3");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_text_can_be_measured(
        texts in proptest::collection::vec("(\\PC|\n|\r|X:1\n|K:|\\||:\\||\\|:|\\[1|2|A|c2|w:|é|&){0,60}", 0..5),
    ) {
        let train: Vec<(String, String)> = texts.iter().map(|t| (String::new(), t.clone())).collect();
        let reference = Reference::new(&train, &[]);
        let tunes: Vec<TuneText> = texts.iter().map(|t| tune(t)).collect();
        for measure in reference.measure(&tunes) {
            let share = |x: Option<f64>| x.is_none_or(|x| (0.0..=1.0).contains(&x));
            prop_assert!(measure.unit != "share" || share(measure.value) && share(measure.corpus), "{measure:?}");
        }
        for text in &texts {
            if let Some(copied) = reference.source_of(text) {
                let shown: String = text[copied.place.clone()].chars().filter(|c| !c.is_whitespace()).collect();
                prop_assert!(!shown.is_empty());
                prop_assert!(Music::of(&texts[copied.tune]).text.contains(&copied.text));
                prop_assert_eq!(&copied.text, &Music::of(text).text, "its own text is the longest");
            }
        }
    }
}
