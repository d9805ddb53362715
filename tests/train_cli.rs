//! `train` and `eval` as a person meets them: mistakes are one clear sentence with the right exit code and leave nothing
//! behind; the built-in tunebook needs no file; `eval --json` has the contract's fields.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn run(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_songrnn-fast"))
        .current_dir(folder)
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn absurd_flags_are_wrong_usage_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    for (flags, word) in [
        ("--hidden 0", "--hidden 0: expected 1 to"),
        ("--layers 0", "--layers 0: expected 1 to"),
        ("--hidden 60000 --layers 60", "parameters; at most"),
        ("--lr nan", "--lr NaN: expected"),
        ("--lr -1", "--lr -1: expected"),
        ("--dropout 1.5", "--dropout 1.5: expected"),
        ("--clip -1", "--clip -1: expected"),
        ("--epochs 0", "--epochs 0: expected"),
        ("--steps 0", "--steps 0: expected"),
        ("--seq-len 0", "--seq-len 0: expected"),
        ("--batch 0", "--batch 0: expected"),
        ("--batch 99999", "--batch 99999: expected"),
        ("--weight-decay -0.5", "--weight-decay -0.5: expected"),
        ("--min-lr 1", "--min-lr 1: expected"),
        ("--patience 0", "--patience 0: expected"),
        ("--eval-every 0", "--eval-every 0: expected"),
        ("--save-every -1", "--save-every -1: expected"),
        ("--threads 9999", "--threads 9999: expected"),
        ("--seed 18446744073709551615", "--seed 18446744073709551615: expected"),
        ("--momentum 0.5", "--momentum is for"),
        ("--optimizer sgd --momentum 1", "--momentum 1: expected"),
        ("--epochs 2 --steps 3", "cannot be used with"),
        ("--fp16 --bf16", "cannot be used with"),
        ("--resume a --out b", "cannot be used with"),
        ("--device cuda:99", "--device cuda:99: "),
        ("--device tpu", "expected auto, cpu or cuda"),
        ("--kernel fused --device cpu", "--kernel fused is for CUDA"),
    ] {
        let output = run(folder.path(), &format!("train {flags}"));
        assert_eq!(output.status.code(), Some(2), "{flags}: {}", said(&output));
        assert!(said(&output).contains(word), "{flags}: {}", said(&output));
        assert!(output.stdout.is_empty());
        assert!(names(folder.path()).is_empty(), "{flags} left {:?}", names(folder.path()));
    }
}

#[test]
fn a_batch_beyond_the_tunes_is_wrong_usage_and_the_default_is_lowered_aloud() {
    let folder = tempfile::tempdir().unwrap();
    let mut tunes = String::new();
    for n in 1..=12 {
        tunes += &format!("X:{n}\nT:{n}\nK:C\n{}\n\n", "CDEF GABc|".repeat(n));
    }
    fs::write(folder.path().join("t.abc"), tunes).unwrap();
    let output = run(folder.path(), "train t.abc --val t.abc --batch 13 --out run");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("--batch 13: there are only 12 training tunes"), "{}", said(&output));
    assert_eq!(names(folder.path()), ["t.abc"], "nothing stays behind");

    let output = run(folder.path(), "train t.abc --val t.abc --hidden 8 --steps 2 --seq-len 8 --out run");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("--batch 12 instead of 64"), "{}", said(&output));
    // Never into a folder that holds something.
    let output = run(folder.path(), "train t.abc --out run");
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("already holds a run"), "{}", said(&output));
    fs::create_dir(folder.path().join("other")).unwrap();
    fs::write(folder.path().join("other/mine.txt"), "").unwrap();
    let output = run(folder.path(), "train t.abc --out other");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(names(&folder.path().join("other")), ["mine.txt"]);
}

#[test]
fn data_that_cannot_be_trained_on_is_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("empty.abc"), "").unwrap();
    fs::write(folder.path().join("one.abc"), "X:1\nT:One\nK:G\nGABc dedB|\n").unwrap();
    fs::create_dir(folder.path().join("bare")).unwrap();
    let before = names(folder.path());
    for data in ["empty.abc", "bare", "none.abc"] {
        let output = run(folder.path(), &format!("train {data} --out run"));
        assert_eq!(output.status.code(), Some(1), "{data}: {}", said(&output));
        assert!(said(&output).contains(data), "{}", said(&output));
        assert_eq!(names(folder.path()), before, "{data}");
    }
    let output = run(folder.path(), "train --resume bare");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("no config.toml"), "{}", said(&output));

    // One tune is enough to train on; there is nothing to validate on, and that is said.
    let output = run(folder.path(), "train one.abc --out run --hidden 8 --steps 3");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("no validation tunes"), "{}", said(&output));
    assert!(folder.path().join("run/best.safetensors").exists());
}

#[test]
fn the_built_in_tunebook_needs_no_file_and_eval_has_the_contracts_fields() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), "train --hidden 12 --steps 6 --eval-every 3 --precision bf16");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("run folder: runs/1"), "{}", said(&output));
    let summary = String::from_utf8_lossy(&output.stdout).into_owned();
    for word in ["best validation loss", "test loss", "runs/1/best.safetensors", "sample --model runs/1"] {
        assert!(summary.contains(word), "{word}: {summary}");
    }
    let run_folder = folder.path().join("runs/1");
    let samples = names(&run_folder.join("samples"));
    let finals = names(&run_folder.join("samples/final"));
    for name in ["tune-003.txt", "tune-003.abc", "tunebook.abc"] {
        assert!(finals.iter().any(|found| found == name), "{name}: {finals:?}");
    }
    assert!(samples.iter().any(|name| name.starts_with("step-00000003")), "{samples:?}");

    // A second run gets the next number.
    let output = run(folder.path(), "train --hidden 12 --steps 1");
    assert!(said(&output).contains("run folder: runs/2"), "{}", said(&output));

    let metrics = fs::read_to_string(run_folder.join("metrics.jsonl")).unwrap();
    let events: Vec<serde_json::Value> =
        metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().any(|event| event["event"] == "ngram"));
    assert!(events.iter().any(|event| event["event"] == "test"));

    let abc = "X:1\nT:Eval\nK:G\nGABc dedB|dedB dedB|\n\nX:2\nT:Eval again\nK:G\nGABc d\u{4e00}\n";
    fs::write(folder.path().join("e.abc"), abc).unwrap();
    let output = run(folder.path(), "eval --model runs/1 e.abc --json");
    assert!(output.status.success(), "{}", said(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let fields: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(fields.len(), 5, "{fields:?}");
    let nats = json["nats_per_char"].as_f64().unwrap();
    assert!((json["bits_per_char"].as_f64().unwrap() - nats / 2f64.ln()).abs() < 1e-9);
    assert!((json["perplexity"].as_f64().unwrap() - nats.exp()).abs() < 1e-6);
    assert_eq!(json["tunes"], 2);
    let characters = abc.trim_end().split("\n\n").map(|tune| tune.chars().count() + 1).sum::<usize>();
    assert_eq!(json["chars"], characters);
    let output = run(folder.path(), "eval --model runs/1 e.abc");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("1 characters that the model does not know"), "{text}");
    let output = run(folder.path(), "eval --model runs/9 e.abc");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("runs/9: no such file or folder"), "{}", said(&output));
    let output = run(folder.path(), "eval --model e.abc e.abc");
    assert!(said(&output).contains("not a safetensors file"), "{}", said(&output));
}
