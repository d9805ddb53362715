//! A small random model's sets: files, table, reruns, interruptions.

use super::*;
use crate::engine::{EngineSpec, Precision, build};
use crate::model::{CellKind, ModelShape, init};

fn model() -> (Box<dyn Engine>, Vocab) {
    let vocab = Vocab::from_chars("\n:/|XTMKL148ABCDEFGabc".chars());
    let shape = ModelShape { cell: CellKind::Lstm, vocab: vocab.len(), hidden: 12, layers: 1 };
    let mut engine = build(&EngineSpec::cpu(shape, Precision::F32, 1)).unwrap();
    let params: Vec<f32> = init::uniform(&shape, 5).iter().map(|weight| 4.0 * weight).collect();
    engine.load_params(&params).unwrap();
    (engine, vocab)
}

fn reference() -> Reference {
    Reference::new(&[("A (tune 1)".into(), "X:1\nK:C\nABCD|EFGA|\n".into())], &[])
}

fn options(out: &Path) -> SetOptions {
    SetOptions {
        written: vec![(0.5, 2), (1.0, 1)],
        measured: vec![0.3, 0.5, 2.0],
        tunes: 5,
        max_chars: 300,
        ..SetOptions::new(out)
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn sets_are_written_and_written_again() {
    let out = tempfile::tempdir().unwrap();
    let (mut engine, vocab) = model();
    let reference = reference();
    let mut make = |options: &SetOptions, stop: &mut dyn FnMut() -> bool| {
        make_sets(engine.as_mut(), &vocab, &reference, options, stop)
    };
    let first = make(&options(out.path()), &mut || false).unwrap().unwrap();
    let temperatures: Vec<f64> = first.sets.iter().map(|set| set.temperature).collect();
    assert_eq!(temperatures, [0.3, 0.5, 1.0, 2.0]);
    let folders: Vec<Option<&str>> = first.sets.iter().map(|set| set.folder.as_deref()).collect();
    assert_eq!(folders, [None, Some("tunes/t0.5"), Some("tunes/t1"), None]);
    assert!(first.sets.iter().all(|set| set.tunes == 5 && !set.measures.is_empty()));
    assert_eq!(names(out.path()), ["tunes"]);
    assert_eq!(names(&out.path().join("tunes")), ["measures.csv", "t0.5", "t1"]);
    let files = names(&out.path().join("tunes/t1"));
    assert_eq!(files.iter().filter(|name| name.ends_with(".txt")).count(), 5);
    let table = fs::read_to_string(out.path().join("tunes/measures.csv")).unwrap();
    assert_eq!(table.lines().count(), 1 + 4 * first.sets[0].measures.len());
    assert!(table.contains("\n0.5,5,parses,\"parse without an error\",share,"), "{table}");
    for page in &first.pages {
        let number = page.origin.rsplit(' ').next().unwrap();
        let folder = if page.origin.contains("0.5") { "t0.5" } else { "t1" };
        let file = out.path().join(format!("tunes/{folder}/tune-00{number}.abc"));
        assert_eq!(fs::read_to_string(file).unwrap(), page.abc, "the page shows what the file holds");
    }

    // Stopped: nothing has changed, nothing is left.
    let before = fs::read(out.path().join("tunes/t1/tune-001.txt")).unwrap();
    let other = SetOptions { seed: 2, written: vec![(1.0, 1)], ..options(out.path()) };
    let mut asked = 0;
    let stopped = make(&other, &mut || {
        asked += 1;
        asked > 2
    });
    assert!(stopped.unwrap().is_none());
    assert_eq!((names(out.path()), asked), (vec!["tunes".to_owned()], 3));
    assert_eq!(fs::read(out.path().join("tunes/t1/tune-001.txt")).unwrap(), before);

    // Killed between the two renames, with half a new set beside: the old one comes back, then the new one replaces it.
    fs::rename(out.path().join("tunes"), out.path().join(".tunes.old")).unwrap();
    fs::create_dir(out.path().join(".tunes.new")).unwrap();
    fs::write(out.path().join(".tunes.new/half"), "").unwrap();
    make(&other, &mut || false).unwrap().unwrap();
    assert_eq!(names(out.path()), ["tunes"]);
    assert_eq!(names(&out.path().join("tunes")), ["measures.csv", "t1"], "no file of the old sets is left");
    assert_ne!(fs::read(out.path().join("tunes/t1/tune-001.txt")).unwrap(), before);
}

#[test]
fn somebody_elses_folder_is_left_alone() {
    let out = tempfile::tempdir().unwrap();
    fs::create_dir(out.path().join("tunes")).unwrap();
    fs::write(out.path().join("tunes/mine.abc"), "mine").unwrap();
    let (mut engine, vocab) = model();
    let error = make_sets(engine.as_mut(), &vocab, &reference(), &options(out.path()), &mut || false);
    assert!(error.unwrap_err().to_string().contains("was not made by a study"));
    assert_eq!(names(&out.path().join("tunes")), ["mine.abc"]);
    assert_eq!(names(out.path()), ["tunes"]);
}

#[test]
fn good_tunes_go_first_and_none_is_better_than_noise() {
    let tune = |text: &str, closed| TuneText { text: text.into(), closed };
    let good = "X:1\nT:t\nM:4/4\nL:1/4\nK:C\nCDEF|GABc|cBAG|FEDC|\n";
    let set =
        [tune(good, false), tune("X:1\nK:C\nC|\n", true), tune(good, true), tune("", true), tune(good, true)];
    assert_eq!(readable(&set, 1), [2]);
    assert_eq!(readable(&set, 2), [2, 4]);
    assert_eq!(readable(&set, 3), [0, 2, 4]);
    assert_eq!(readable(&set, 9), [0, 2, 4]);
    assert!(readable(&set, 0).is_empty());
}
