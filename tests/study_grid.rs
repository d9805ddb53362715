//! A tiny study from end to end: interrupted and resumed, on one thread and on several, with damaged results, with
//! trials that fail, with another grid on the same folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use songrnn_fast::abc::CharClass;
use songrnn_fast::engine::{self, Device, EngineError};
use songrnn_fast::model::CellKind;
use songrnn_fast::model::file::{BEST, ModelFile};
use songrnn_fast::study::StudyError;
use songrnn_fast::study::grid::Grid;
use songrnn_fast::study::losses;
use songrnn_fast::study::results::{Protocol, Trial};
use songrnn_fast::study::schedule::{self, Ended, StudyData};
use songrnn_fast::train::evaluate::evaluate;

/// Two variants, two seeds, two protocols: eight trials of a second together.
const TINY: &str = "seeds = [1, 2]\nepochs = 2\npatience = 0\nbatch = 4\nseq_len = 20\nlr = 0.01\nassignment_epochs = 2\n\
                    [baseline]\nhidden = 6\n[[experiment]]\nname = 'cell'\ncell = ['lstm', 'rnn']\n";

/// One test at a time: a study asks `git` for the commit, and a child that another test has just forked holds this
/// test's locks until it has become git.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tiny() -> Grid {
    Grid::from_toml(TINY).unwrap()
}

fn tunes(range: std::ops::Range<usize>) -> String {
    let mut text = String::new();
    for tune in range {
        text += &format!("X:{tune}\nT:Tune {tune}\nK:G\n");
        for bar in 0..3 + tune % 4 {
            text += ["GABc d2e2|", "\"Am\"edcB ^A2G'2|", "|:G4 z4:|\n"][(tune * 7 + bar * bar) % 3];
        }
        // No two tunes are the same.
        text += &format!("A{tune}|");
        text += "\n\n";
    }
    text
}

/// Files of training, validation and test tunes.
fn corpus(folder: &Path) -> StudyData {
    let file = |name: &str, range| {
        let path = folder.join(name);
        fs::write(&path, tunes(range)).unwrap();
        vec![path]
    };
    StudyData {
        train: file("train.abc", 1..21),
        val: file("val.abc", 30..36),
        test: file("test.abc", 40..43),
    }
}

fn study(grid: &Grid, data: &StudyData, out: &Path, threads: usize) -> Ended {
    schedule::run(grid, data, out, threads, Device::Cpu, &|| false).unwrap()
}

/// All results of a study's folder by their path, without what is time or depends on it.
fn results(out: &Path) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for under in ["trials", "assignment"] {
        for entry in fs::read_dir(out.join(under)).unwrap() {
            let path = entry.unwrap().path().join("result.json");
            let mut value: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            let fields = value.as_object_mut().unwrap();
            for time in ["seconds", "chars_per_second", "threads"] {
                fields.remove(time).unwrap();
            }
            all.push((path.strip_prefix(out).unwrap().display().to_string(), value));
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn modified(out: &Path) -> Vec<(PathBuf, std::time::SystemTime)> {
    let mut all: Vec<_> = ["trials", "assignment"]
        .iter()
        .flat_map(|under| fs::read_dir(out.join(under)).unwrap())
        .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|file| file.unwrap())
        .map(|file| (file.path(), file.metadata().unwrap().modified().unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn a_tiny_study_finds_what_it_should() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let data = corpus(folder.path());
    let out = folder.path().join("report");
    let ended = study(&tiny(), &data, &out, 2);
    assert!(!ended.interrupted && ended.incomplete.is_empty() && ended.reused == 0);
    let found = &ended.results;
    assert_eq!(found.trials.len(), 8);
    let facts = &found.data;
    assert_eq!((facts.train_tunes, facts.val_tunes, facts.test_tunes), (20, 6, 3));
    assert_eq!(
        (&facts.train_names[..], &facts.val_names[..]),
        (&["train.abc".to_string()][..], &["val.abc".to_string()][..])
    );
    assert!(facts.header_share > 0.1 && facts.header_share < 0.9);
    let kinds: Vec<(Protocol, &str)> = found.ngrams.iter().map(|t| (t.protocol, t.of.as_str())).collect();
    use Protocol::{Assignment, Contract};
    assert_eq!(
        kinds,
        [(Contract, "validation"), (Contract, "test"), (Assignment, "slices"), (Assignment, "validation")]
    );
    assert!(found.ngrams.iter().all(|t| t.nats.len() == 6 && t.nats.iter().all(|n| *n > 0.0 && *n < 6.0)));
    for trial in &found.trials {
        assert_eq!(trial.epochs.round(), 2.0, "{trial:?}");
        assert_eq!(trial.curve.len(), 2);
        assert!(trial.validation.is_some() && trial.score().is_some() && trial.seconds > 0.0);
        match trial.protocol {
            Contract => a_contracts_trial(&out, trial),
            Assignment => {
                let best = trial.curve.iter().filter_map(|p| p.validation).fold(f64::INFINITY, f64::min);
                assert_eq!(trial.slices, Some(best));
                assert!(trial.classes.is_empty() && trial.train.is_none() && trial.test.is_none());
            }
        }
    }
    let (variant, seed) = found.best.unwrap();
    let best = found.of(Contract, &variant).into_iter().find(|t| t.seed == seed).unwrap();
    assert!(found.of(Contract, &variant).iter().all(|t| t.score() >= best.score()));
    let texts = ended.folder.texts();
    assert_eq!((texts.train.len(), texts.held_out.len()), (20, 6));
    assert_eq!(texts.held_out[0].0, "Tune 30");
    assert!(texts.held_out[0].1.starts_with("X:30\nT:Tune 30\n"));
    let refused = schedule::run(&tiny(), &data, &out, 1, Device::Cpu, &|| false).unwrap_err();
    assert!(refused.to_string().contains("at work in this folder"), "{refused}");
    drop(ended);
    assert_eq!(schedule::data_texts(&out).unwrap(), texts);
}

/// Its folder is a run that `sample` and `eval` take, its losses are those of its best weights and add up.
fn a_contracts_trial(out: &Path, trial: &Trial) {
    let validation = trial.validation.unwrap();
    assert_eq!(validation.tunes, 6);
    let run = out.join(&trial.folder);
    let best = ModelFile::load(&run.join(BEST)).unwrap();
    assert_eq!(best.shape.hidden, 6);
    assert_eq!(trial.parameters as usize, best.params.len());
    // The loss that training chose the weights by; rounding of two ways to add up, 1e-7 was measured.
    const TOLERANCE: f64 = 1e-5;
    let chosen = best.config["best"]["nats_per_char"].as_f64().unwrap();
    assert!((validation.nats - chosen).abs() < TOLERANCE, "{} {chosen}", validation.nats);
    let of_curve = trial.curve.iter().filter_map(|point| point.validation).fold(f64::INFINITY, f64::min);
    assert!((of_curve - chosen).abs() < TOLERANCE);
    let chars: u64 = trial.classes.iter().map(|class| class.chars).sum();
    let nats: f64 = trial.classes.iter().map(|class| class.nats * class.chars as f64).sum();
    assert_eq!(chars, validation.chars);
    assert!((nats / chars as f64 - validation.nats).abs() < 1e-9);
    let ends = trial.classes.iter().find(|class| class.class == CharClass::End).unwrap();
    assert_eq!(ends.chars, 6, "one end a tune");
    assert!(trial.classes.iter().any(|class| class.class == CharClass::ChordSymbol));
    assert!(
        validation.body_nats.is_some() && trial.train.unwrap().tunes == 20 && trial.test.unwrap().tunes == 3
    );
}

/// Header and body add up to the whole, and the whole is the reported loss.
#[test]
fn body_and_header_add_up_to_the_reported_loss() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let data = corpus(folder.path());
    let mut grid = tiny();
    grid.protocols = vec![Protocol::Contract];
    (grid.seeds, grid.assignment_seeds) = (vec![1], vec![1]);
    let ended = study(&grid, &data, &folder.path().join("report"), 1);
    let part = ended.folder.data.val.clone().unwrap();
    let model = ModelFile::load(&ended.folder.out.join(&ended.results.trials[0].folder).join(BEST)).unwrap();
    let mut engine = engine::build(&engine::EngineSpec::cpu(model.shape, engine::Precision::F32, 1)).unwrap();
    engine.load_params(&model.params).unwrap();
    let (loss, _) = losses::of_part(engine.as_mut(), &part, false, &|| false).unwrap().unwrap();
    // Tune by tune and character by character, with the model's own logits.
    let (mut header, mut body) = (losses::Sum::default(), losses::Sum::default());
    for (tokens, &tune) in part.tokens().zip(&part.tunes) {
        let text = part.pack.text(tune as usize);
        let music = text.find("\nK:G\n").unwrap() + 5;
        let mut logits = vec![0.0f32; model.shape.vocab];
        for (at, pair) in tokens.windows(2).enumerate() {
            engine.step(&[pair[0]], &[u8::from(at == 0)], &mut logits).unwrap();
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f64 = logits.iter().map(|l| f64::from(l - max).exp()).sum();
            let nats = total.ln() - f64::from(logits[usize::from(pair[1])] - max);
            // The texts are ASCII: a byte is a character.
            if at >= music { body.add(nats) } else { header.add(nats) }
        }
    }
    // Rounding of float32 logits; 4e-8 was measured.
    const TOLERANCE: f64 = 1e-6;
    assert!((loss.body_nats.unwrap() - body.mean().unwrap()).abs() < TOLERANCE);
    let whole = (header.nats + body.nats) / (header.chars + body.chars) as f64;
    assert!((loss.nats - whole).abs() < TOLERANCE);
    let reported = evaluate(engine.as_mut(), &part, &mut || false).unwrap().unwrap();
    assert_eq!(reported.chars, loss.chars);
    assert!((reported.nats_per_char - loss.nats).abs() < TOLERANCE);
}

#[test]
fn threads_change_no_result_and_neither_does_stopping() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let data = corpus(folder.path());
    let out = |name: &str| folder.path().join(name);
    study(&tiny(), &data, &out("one"), 1);
    let undisturbed = results(&out("one"));
    assert_eq!(undisturbed.len(), 8);
    for threads in [2, 4] {
        let name = format!("threads-{threads}");
        study(&tiny(), &data, &out(&name), threads);
        assert_eq!(results(&out(&name)), undisturbed, "{threads} threads");
    }
    // `stop` is asked before each trial and step and within evaluations, which must come to an end in one go.
    for (every, threads) in [(9, 1), (40, 2)] {
        let stopped = out(&format!("stopped-{every}"));
        let mut sessions = 0;
        loop {
            sessions += 1;
            assert!(sessions < 300, "stopped every {every}: no end in sight");
            let asked = AtomicUsize::new(0);
            let stop = || asked.fetch_add(1, Ordering::SeqCst) >= every;
            let ended = schedule::run(&tiny(), &data, &stopped, threads, Device::Cpu, &stop).unwrap();
            assert!(ended.incomplete.is_empty());
            if !ended.interrupted {
                break;
            }
        }
        assert!(sessions > 4, "stopped every {every}: {sessions} sessions");
        assert_eq!(results(&stopped), undisturbed, "stopped every {every}");
    }
}

#[test]
fn what_is_done_is_left_alone_and_a_damaged_result_is_made_again() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let data = corpus(folder.path());
    let out = folder.path().join("report");
    let first = study(&tiny(), &data, &out, 2).results;
    let (before, undisturbed) = (modified(&out), results(&out));
    let built = AtomicUsize::new(0);
    let count = |spec: &engine::EngineSpec| {
        built.fetch_add(1, Ordering::SeqCst);
        engine::build(spec)
    };
    let again = schedule::run_with(&tiny(), &data, &out, 2, Device::Cpu, &count, &|| false).unwrap();
    assert_eq!((again.reused, built.load(Ordering::SeqCst)), (8, 1), "one engine, to be asked for its name");
    assert_eq!(modified(&out), before);
    assert_eq!(again.results, first, "what is read back is what was told");
    drop(again);

    // Garbage, half a file, nothing, another trial's: each is made again from the trial's own checkpoint.
    let path = |trial: &str| out.join(trial).join("result.json");
    let half = fs::read(path("trials/rnn-1x6-seed1")).unwrap();
    fs::write(path("trials/lstm-1x6-seed1"), b"\xff{").unwrap();
    fs::write(path("trials/rnn-1x6-seed1"), &half[..half.len() / 2]).unwrap();
    fs::write(path("assignment/lstm-1x6-seed2"), b"").unwrap();
    fs::copy(path("assignment/rnn-1x6-seed1"), path("assignment/rnn-1x6-seed2")).unwrap();
    let mended = study(&tiny(), &data, &out, 2);
    assert_eq!((mended.reused, mended.incomplete.len()), (4, 0));
    assert_eq!(results(&out), undisturbed);
}

#[test]
fn a_trial_that_fails_is_named_and_the_others_go_on() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let data = corpus(folder.path());
    let out = folder.path().join("report");
    // Not enough memory for the RNNs of one protocol, a defect in those of the other (their vocabularies differ).
    let contracts = study(
        &Grid { seeds: vec![1], protocols: vec![Protocol::Contract], ..tiny() },
        &data,
        &folder.path().join("x"),
        1,
    )
    .results
    .data
    .vocab;
    let sick = |spec: &engine::EngineSpec| match (spec.shape.cell, spec.shape.vocab) {
        (CellKind::Rnn, vocab) if vocab == contracts => panic!("a test's own"),
        (CellKind::Rnn, _) => Err(EngineError::OutOfMemory { what: "the workspace", needed: 1 << 50 }),
        _ => engine::build(spec),
    };
    let ended = schedule::run_with(&tiny(), &data, &out, 2, Device::Cpu, &sick, &|| false).unwrap();
    assert!(!ended.interrupted);
    assert_eq!((ended.results.trials.len(), ended.incomplete.len()), (4, 4));
    for failed in &ended.incomplete {
        assert_eq!(failed.job.variant.key(), "rnn-1x6");
        let known =
            ["out of memory", "a defect in this program"].iter().any(|why| failed.problem.contains(why));
        assert!(known, "{}", failed.problem);
    }
    drop(ended);
    // A file where the folder of all trials should be.
    let other = folder.path().join("other");
    study(&Grid { protocols: vec![Protocol::Assignment], ..tiny() }, &data, &other, 1);
    fs::write(other.join("trials"), "in the way").unwrap();
    let ended = study(&tiny(), &data, &other, 2);
    assert_eq!((ended.reused, ended.incomplete.len(), ended.interrupted), (4, 4, false));
    assert!(ended.incomplete.iter().all(|failed| failed.problem.contains("cannot make the folder")));
    assert!(ended.results.best.is_none());
    drop(ended);
    // Without what was wrong the study is completed.
    let ended = study(&tiny(), &data, &out, 2);
    assert_eq!((ended.reused, ended.results.trials.len(), ended.incomplete.len()), (4, 8, 0));
}

#[test]
fn another_grid_adds_trials_and_other_training_or_data_is_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let data = corpus(folder.path());
    let out = folder.path().join("report");
    let mut grid = tiny();
    grid.protocols = vec![Protocol::Contract];
    (grid.seeds, grid.assignment_seeds) = (vec![1], vec![1]);
    study(&grid, &data, &out, 2);
    grid.experiments[0].cell.push(CellKind::Gru);
    let ended = study(&grid, &data, &out, 2);
    assert_eq!((ended.reused, ended.results.trials.len()), (2, 3));
    drop(ended);
    assert_eq!(Grid::from_toml(&fs::read_to_string(out.join("study.toml")).unwrap()).unwrap(), grid);
    let refused = |grid: &Grid, data: &StudyData| {
        let before = (modified_contract(&out), fs::read(out.join("study.toml")).unwrap());
        let error = schedule::run(grid, data, &out, 1, Device::Cpu, &|| false).unwrap_err();
        assert!(matches!(error, StudyError::Usage(_)), "{error:?}");
        assert_eq!((modified_contract(&out), fs::read(out.join("study.toml")).unwrap()), before);
        error.to_string()
    };
    let mut other = grid.clone();
    (other.epochs, other.lr) = (3, 0.5);
    let error = refused(&other, &StudyData { val: vec![], ..data.clone() });
    for expected in [
        "epochs: the study has 2, asked for 3",
        "lr: the study has 0.01, asked for 0.5",
        "--val: the study has",
        "asked for none",
    ] {
        assert!(error.contains(expected), "{error}");
    }
    // The same file with another content.
    fs::write(&data.val[0], tunes(50..55)).unwrap();
    let error = schedule::run(&grid, &data, &out, 1, Device::Cpu, &|| false).unwrap_err().to_string();
    assert!(error.contains("changed since"), "{error}");
    // A folder of something else.
    let alien = folder.path().join("alien");
    fs::create_dir(&alien).unwrap();
    fs::write(alien.join("thesis.tex"), "x").unwrap();
    let error = schedule::run(&grid, &data, &alien, 1, Device::Cpu, &|| false).unwrap_err().to_string();
    assert!(error.contains("holds no study") && error.contains("thesis.tex"), "{error}");
    assert_eq!(fs::read_dir(&alien).unwrap().count(), 1);
}

fn modified_contract(out: &Path) -> Vec<std::time::SystemTime> {
    ["lstm-1x6-seed1", "rnn-1x6-seed1"]
        .iter()
        .map(|trial| out.join("trials").join(trial).join("result.json"))
        .map(|path| fs::metadata(path).unwrap().modified().unwrap())
        .collect()
}

#[test]
fn the_built_in_tunebook_and_a_corpus_without_validation_tunes_are_enough() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let mut grid = tiny();
    (grid.seeds, grid.assignment_seeds) = (vec![1], vec![1]);
    grid.epochs = 1;
    grid.batch = 1000;
    let ended = study(&grid, &StudyData::default(), &folder.path().join("built-in"), 2);
    assert!(ended.results.data.train_names.is_empty() && ended.results.data.val_tunes > 0);
    assert_eq!(ended.results.settings.batch as u64, ended.results.data.train_tunes, "lowered");
    assert!(ended.results.trials.iter().all(|trial| trial.validation.is_some()));
    assert!(!ended.folder.texts().held_out.is_empty());

    let one = folder.path().join("one.abc");
    fs::write(&one, tunes(3..4)).unwrap();
    let data = StudyData { train: vec![one], ..StudyData::default() };
    let ended = study(&grid, &data, &folder.path().join("one"), 2);
    assert_eq!((ended.results.trials.len(), ended.results.data.val_tunes), (4, 0));
    for trial in &ended.results.trials {
        assert!(
            trial.validation.is_none() && trial.slices.is_none() && trial.classes.is_empty(),
            "{trial:?}"
        );
        assert_eq!(trial.train.is_some(), trial.protocol == Protocol::Contract);
    }
    assert!(ended.results.ngrams.is_empty() && ended.results.best.is_some());
    assert!(ended.folder.texts().held_out.is_empty());
}
