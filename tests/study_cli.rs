//! `songrnn-fast study` and `report` as people call them: a small grid over a few tunes, some of them hostile.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use assert_cmd::Command;
use songrnn_fast::study::results::Results;
use songrnn_fast::train::data::BUILT_IN;
use tempfile::TempDir;

const GRID: &str = "
seeds = [1, 2]
assignment_seeds = [3]
epochs = 2
assignment_epochs = 2
batch = 8
[baseline]
hidden = 12
[[experiment]]
name = \"cell\"
title = \"Cells </text><script>alert(1)</script>\"
cell = [\"lstm\", \"rnn\"]
[[experiment]]
name = \"units\"
hidden = [8, 12]
";

/// A title that is markup, closes attributes and turns the direction of writing.
const HOSTILE: &str = "T:</script><script>alert('x')</script> \"&\u{202e}";

/// `train.abc`, `val.abc` and `grid.toml`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tunes: Vec<String> = BUILT_IN
        .split("\n\n")
        .filter(|tune| tune.starts_with("X:"))
        .take(16)
        .map(|tune| tune.replacen("\nT:", &format!("\n{HOSTILE}\nT:"), 1))
        .collect();
    assert_eq!(tunes.len(), 16);
    fs::write(folder.path().join("train.abc"), tunes[..12].join("\n\n")).unwrap();
    fs::write(folder.path().join("val.abc"), tunes[12..].join("\n\n")).unwrap();
    fs::write(folder.path().join("grid.toml"), GRID).unwrap();
    folder
}

/// (exit code, standard output, standard error)
fn run(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("songrnn-fast").unwrap();
    command.current_dir(folder).timeout(std::time::Duration::from_secs(300));
    let output = command.args(args).args(["--device", "cpu"]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

const STUDY: [&str; 10] =
    ["study", "train.abc", "--val", "val.abc", "--grid", "grid.toml", "--out", "out", "--tunes", "6"];

fn files(folder: &Path, kind: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(kind))
        .collect();
    names.sort();
    names
}

/// Pages are long: where they differ is told, not all of them.
fn same(found: &str, expected: &str) {
    let at = found.bytes().zip(expected.bytes()).position(|(a, b)| a != b);
    let Some(at) = at else { return assert_eq!(found.len(), expected.len()) };
    let around =
        |text: &str| String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(80)..][..160]).into_owned();
    panic!("byte {at}: {:?}, expected {:?}", around(found), around(expected));
}

fn written(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

#[test]
fn a_study_from_tunes_to_the_page_and_once_more() {
    let folder = folder();
    let (code, told, err) = run(folder.path(), &STUDY);
    assert_eq!(code, 0, "{told}{err}");
    let out = folder.path().join("out");
    let text = fs::read_to_string(out.join("results.json")).unwrap();
    let results: Results = serde_json::from_str(&text).unwrap();
    // LSTM 12, RNN 12, LSTM 8: two seeds under the contract's protocol and one under the assignment's.
    assert_eq!(results.trials.len(), 9);
    assert!(results.best.is_some() && !results.ngrams.is_empty());
    assert!(results.trials.iter().all(|trial| trial.score().is_some_and(f64::is_finite)));
    // 0.3 to 2.0 in tenths, 0.5, 1 and 2 of which are written.
    assert_eq!(results.tune_sets.len(), 18);
    for set in ["t0.5", "t1", "t2"] {
        assert_eq!(files(&out.join("tunes").join(set), ".txt").len(), 6);
    }
    assert_eq!(fs::read_to_string(out.join("results.csv")).unwrap().lines().count(), 10);
    for name in ["tables.md", "discussion.md"] {
        let text = fs::read_to_string(out.join(name)).unwrap();
        assert!(text.contains("LSTM 1x12") && !text.contains("<script>"), "{name}: {text}");
    }
    let plots = files(&out.join("plots"), ".svg");
    assert_eq!(plots.len(), files(&out.join("plots"), ".png").len());
    for plot in ["curves-cell-contract.svg", "loss-units-assignment.svg", "temperature.svg", "classes.svg"] {
        assert!(plots.iter().any(|name| name == plot), "{plot} in {plots:?}");
    }
    assert!(out.join("neurons/ranking.csv").exists());
    // The page has one script of ours and its data, whatever the titles say.
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(!page.contains("alert('x')</script>") && !page.contains("alert(1)</script>"));
    assert!(page.contains("Content-Security-Policy") && told.contains("report.html"), "{told}");

    // The same command trains nothing again and makes the same of it; what lies beside our plots is nobody's but the
    // user's, and what an earlier grid has left of ours goes.
    fs::write(out.join("plots/mine.png"), "mine").unwrap();
    fs::write(out.join("plots/curves-old-contract.svg"), "old").unwrap();
    let trial = out.join("trials/lstm-1x12-seed1/result.json");
    let before = written(&trial);
    let (code, told_again, err) = run(folder.path(), &STUDY);
    assert_eq!(code, 0, "{err}");
    assert_eq!((told_again, written(&trial)), (told.clone(), before));
    same(&fs::read_to_string(out.join("report.html")).unwrap(), &page);

    assert_eq!(fs::read_to_string(out.join("plots/mine.png")).unwrap(), "mine");
    assert_eq!(files(&out.join("plots"), ".svg"), plots);

    // `report` makes everything but the trials anew, from what lies there alone.
    fs::remove_dir_all(out.join("plots")).unwrap();
    fs::remove_file(out.join("report.html")).unwrap();
    let (code, told_again, err) = run(folder.path(), &["report", "out", "--tunes", "6"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!((told_again, written(&trial)), (told, before));
    same(&fs::read_to_string(out.join("report.html")).unwrap(), &page);
    assert_eq!(files(&out.join("plots"), ".svg"), plots);

    // Other training in the same folder is refused by name, and nothing is lost.
    let (code, _, err) = run(folder.path(), &[&STUDY[..], &["--epochs", "3"]].concat());
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("epochs"), "{err}");
    assert!(trial.exists() && out.join("report.html").exists());
}

#[test]
fn the_page_of_a_run() {
    let folder = folder();
    let train = [
        "train",
        "train.abc",
        "--val",
        "val.abc",
        "--hidden",
        "8",
        "--batch",
        "4",
        "--epochs",
        "2",
        "--out",
        "run",
    ];
    assert_eq!(run(folder.path(), &train).0, 0);
    let (code, told, err) = run(folder.path(), &["report", "run", "--tunes", "3"]);
    assert_eq!(code, 0, "{err}");
    assert!(told.contains("report.html"), "{told}");
    let page = fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    assert!(page.contains("LSTM 1x8") && !page.contains("alert('x')</script>"));
    // To another place.
    let (code, ..) = run(folder.path(), &["report", "run", "--tunes", "3", "--out", "other.html"]);
    assert_eq!(code, 0);
    same(&fs::read_to_string(folder.path().join("other.html")).unwrap(), &page);
}

#[test]
fn mistakes_are_named_before_anything_is_trained() {
    let folder = folder();
    fs::write(folder.path().join("bad.toml"), "epochs = 2\nhiden = 3\n").unwrap();
    fs::write(folder.path().join("no.js"), "nothing").unwrap();
    fs::create_dir(folder.path().join("half")).unwrap();
    fs::write(folder.path().join("half/study.toml"), GRID).unwrap();
    let cases: [(&[&str], i32, &str); 11] = [
        (&["study", "train.abc", "--grid", "bad.toml"], 2, "hiden"),
        (&["study", "train.abc", "--grid", "missing.toml"], 1, "missing.toml"),
        (&["study", "train.abc", "--tunes", "0"], 2, "--tunes 0"),
        (&["study", "train.abc", "--seeds", "1,1"], 2, "twice"),
        (&["study", "train.abc", "--epochs", "0"], 2, "epochs 0"),
        (&["study", "train.abc", "--abcjs", "no.js"], 2, "not abcjs"),
        (&["study", "train.abc", "--soundfont", "train.abc"], 1, "train.abc"),
        (&["study", "missing.abc", "--grid", "grid.toml"], 1, "missing.abc"),
        (&["report", "half"], 2, "no results yet"),
        (&["report", "."], 2, "neither a run"),
        (&["report", "missing"], 2, "neither a run"),
    ];
    for (args, expected, words) in cases {
        let (code, told, err) = run(folder.path(), args);
        assert_eq!(code, expected, "{args:?}: {err}");
        assert!(told.is_empty() && err.contains(words), "{args:?}: {err}");
        assert!(!folder.path().join("study/trials").exists(), "{args:?}");
    }
    // A folder of something else is left alone.
    fs::create_dir(folder.path().join("mine")).unwrap();
    fs::write(folder.path().join("mine/thesis.txt"), "years").unwrap();
    let (code, _, err) = run(folder.path(), &["study", "train.abc", "--grid", "grid.toml", "--out", "mine"]);
    assert_eq!(code, 2, "{err}");
    assert_eq!(files(&folder.path().join("mine"), ""), ["thesis.txt"]);
}
