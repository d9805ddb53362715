//! `songrnn-fast sample`, `doctor`, `completions` and `man` as people call them, with a small random model.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use assert_cmd::Command;
use proptest::prelude::*;
use songrnn_fast::corpus::Vocab;
use songrnn_fast::model::{CellKind, ModelFile, ModelShape, init};
use tempfile::TempDir;

/// Characters of the model: enough for a header and some notes.
const CHARACTERS: &str = "\n :/|XTMKL0123456789ABCDEFGabcdefgijr";

/// A model that writes noise: random weights, large enough for the characters to differ in probability.
fn save_model(path: &Path, cell: CellKind, unk: bool) {
    let vocab = Vocab::from_chars(CHARACTERS.chars());
    let tokens = vocab.tokens().iter().filter(|token| unk || *token != "<unk>").cloned().collect();
    let vocab = Vocab::from_tokens(tokens).unwrap();
    let shape = ModelShape { cell, vocab: vocab.len(), hidden: 12, layers: 2 };
    let params = init::uniform(&shape, 5).iter().map(|weight| 4.0 * weight).collect();
    ModelFile { shape, vocab, config: serde_json::json!({}), params }.save(path).unwrap();
}

fn folder_with_model() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    save_model(&folder.path().join("m.safetensors"), CellKind::Lstm, true);
    folder
}

fn program(folder: &Path) -> Command {
    let mut command = Command::cargo_bin("songrnn-fast").unwrap();
    command.current_dir(folder).timeout(std::time::Duration::from_secs(60));
    command
}

/// Samples with these arguments; (exit code, standard output, standard error).
fn sample(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let model: &[&str] = if args.contains(&"--model") { &[] } else { &["--model", "m.safetensors"] };
    let output = program(folder).arg("sample").args(model).args(args).output().unwrap();
    (
        output.status.code().expect("no signal"),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Every file under `folder`, by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            for (inner, bytes) in self::files(&entry.path()) {
                files.insert(format!("{name}/{inner}"), bytes);
            }
            files.insert(name + "/", Vec::new());
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    files
}

fn texts(folder: &Path) -> Vec<String> {
    files(folder)
        .into_iter()
        .filter(|(name, _)| name.ends_with(".txt"))
        .map(|(_, bytes)| String::from_utf8(bytes).unwrap())
        .collect()
}

#[test]
fn a_tune_depends_on_neither_number_nor_threads() {
    let folder = folder_with_model();
    let common =
        ["--seed", "7", "--max-chars", "150", "--prime", r"X:1\nT:", "--top-k", "30", "--format", "txt"];
    let mut sets = Vec::new();
    for (name, n, threads) in [("a", "8", "1"), ("b", "64", "2"), ("c", "64", "3"), ("d", "150", "1")] {
        let (code, _, err) =
            sample(folder.path(), &[&common[..], &["-n", n, "--threads", threads, "--out", name]].concat());
        assert_eq!(code, 0, "{err}");
        sets.push(texts(&folder.path().join(name)));
    }
    assert_eq!(sets.iter().map(Vec::len).collect::<Vec<_>>(), [8, 64, 64, 150]);
    assert_eq!(sets[0], sets[1][..8], "tune 5 of 8 is tune 5 of 64");
    assert_eq!(sets[1], sets[2], "the number of threads changes nothing");
    assert_eq!(sets[1], sets[3][..64], "nor does a batch that is refilled");
    assert!(sets[0].iter().all(|text| text.starts_with("X:1\nT:")));
    let mut distinct = sets[3].clone();
    distinct.sort();
    distinct.dedup();
    // A few of them end at once, behind the prime.
    assert!(distinct.len() > 120, "tunes differ from each other: {}", distinct.len());
    let (_, _, err) = sample(folder.path(), &["--seed", "8", "-n", "8", "--format", "txt", "--out", "e"]);
    assert_ne!(texts(&folder.path().join("e")), sets[0], "{err}");
}

#[test]
fn a_set_is_complete() {
    let folder = folder_with_model();
    let (code, out, err) = sample(
        folder.path(),
        &["-n", "5", "--max-chars", "80", "--out", "set", "--prime", r"X:9\nT:A tree\nM:6/8\nK:D\nA2B "],
    );
    assert_eq!(code, 2, "the model does not know the e of tree: {out}{err}");
    let (code, out, err) = sample(
        folder.path(),
        &["-n", "5", "--max-chars", "80", "--out", "set", "--prime", r"X:9\nT:A bid\nM:6/8\nK:D\nA2B cde|"],
    );
    assert_eq!(code, 0, "{err}");
    let files = files(&folder.path().join("set"));
    for i in 1..=5 {
        let text = String::from_utf8(files[&format!("tune-00{i}.txt")].clone()).unwrap();
        assert!(text.starts_with("X:9\nT:A bid\nM:6/8\nK:D\nA2B cde|") && text.chars().count() <= 80);
        let abc = String::from_utf8(files[&format!("tune-00{i}.abc")].clone()).unwrap();
        assert!(abc.starts_with(&format!("X:{i}\n")), "numbered: {abc}");
        if let Some(midi) = files.get(&format!("tune-00{i}.mid")) {
            midly::Smf::parse(midi).unwrap();
        }
    }
    assert!(files.contains_key("tune-001.mid"));
    let book = String::from_utf8(files["tunebook.abc"].clone()).unwrap();
    assert_eq!(book.lines().filter(|line| line.starts_with("X:")).count(), 5, "{book}");
    assert!(
        out.contains("A bid") && out.contains("5 tunes: ") && out.contains("set: 5 .txt, 5 .abc, "),
        "{out}"
    );
    assert_eq!(out.lines().count(), 1 + 5 + 2, "the table and no tunes: {out}");
}

#[test]
fn few_tunes_are_shown() {
    let folder = folder_with_model();
    let (code, out, err) =
        sample(folder.path(), &["-n", "2", "--max-chars", "40", "--out", "o", "--format", "txt"]);
    assert_eq!(code, 0, "{err}");
    for text in texts(&folder.path().join("o")) {
        assert!(out.contains(&text), "{out}");
    }
    assert_eq!(files(&folder.path().join("o")).len(), 2, "only what --format names");
}

#[test]
fn greedy_needs_no_seed() {
    let folder = folder_with_model();
    for (seed, out) in [("1", "a"), ("2", "b")] {
        let (code, _, err) = sample(
            folder.path(),
            &["-n", "3", "--temperature", "0", "--max-chars", "60", "--seed", seed, "--out", out],
        );
        assert_eq!(code, 0, "{err}");
    }
    let (a, b) = (texts(&folder.path().join("a")), texts(&folder.path().join("b")));
    assert_eq!(a, b);
    assert!(a.iter().all(|text| *text == a[0]));
}

#[test]
fn the_default_folder_is_always_a_new_one() {
    let folder = folder_with_model();
    let args = ["-n", "1", "--max-chars", "20", "--seed", "3"];
    let (code, out, err) = sample(folder.path(), &args);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("tunes/m-seed3: "), "{out}");
    let before = files(folder.path());
    let (code, out, err) = sample(folder.path(), &args);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("tunes/m-seed3-2: ") && err.contains("tunes/m-seed3-2"), "{out}{err}");
    let after = files(folder.path());
    assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)), "the first set is untouched");
}

#[test]
fn the_newest_run_is_the_default_model() {
    let folder = tempfile::tempdir().unwrap();
    let output = program(folder.path()).args(["sample", "-n", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("songrnn-fast train"));
    assert!(files(folder.path()).is_empty(), "nothing made");
    fs::create_dir_all(folder.path().join("runs/first")).unwrap();
    save_model(&folder.path().join("runs/first/best.safetensors"), CellKind::Gru, false);
    let output = program(folder.path()).args(["sample", "-n", "1", "--max-chars", "30"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("tunes/first-seed1: "));
}

/// Every refusal: its arguments, exit code, and what the message names.
#[test]
fn mistakes_are_refused_and_nothing_is_written() {
    let folder = folder_with_model();
    fs::write(folder.path().join("latin.txt"), b"X:1\nT:\xe9").unwrap();
    fs::write(folder.path().join("crlf.txt"), "X:1\r\nT:é").unwrap();
    fs::create_dir(folder.path().join("mine")).unwrap();
    fs::write(folder.path().join("mine/tune-002.mid"), "mine").unwrap();
    fs::write(folder.path().join("broken.safetensors"), b"no model at all").unwrap();
    let before = files(folder.path());
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--temperature", "-1"], 2, "temperature is -1"),
        (&["--temperature", "nan"], 2, "temperature is NaN"),
        (&["--temperature", "inf"], 2, "temperature is inf"),
        (&["--temperature", "warm"], 2, "warm"),
        (&["--top-p", "0"], 2, "top-p is 0"),
        (&["--top-p", "1.5"], 2, "top-p is 1.5"),
        (&["--top-p", "-0.1"], 2, "top-p is -0.1"),
        (&["--top-k", "-1"], 2, "--top-k"),
        (&["-n", "0"], 2, "-n is 0"),
        (&["-n", "99999999999"], 2, "another --seed"),
        (&["-n", "9000", "--max-chars", "900000"], 2, "lower -n"),
        (&["--threads", "100000"], 2, "--threads is 100000"),
        (&["--max-chars", "0"], 2, "--max-chars is 0"),
        (&["--max-chars", "4", "--prime", "ABCDEF"], 2, "6 characters"),
        (&["--format", "wav"], 2, "wav"),
        (&["--seed", "-1"], 2, "--seed"),
        (&["--prime", "ABé"], 2, "'é' (U+00E9) at position 3"),
        (&["--prime", "@crlf.txt"], 2, "(line 2, column 3)"),
        (&["--prime", "@latin.txt"], 1, "not UTF-8"),
        (&["--prime", "@none.txt"], 1, "none.txt"),
        (&["--out", "m.safetensors"], 2, "a folder is expected"),
        (&["--out", "mine"], 1, "tune-002.mid"),
        (&["--model", "none.safetensors"], 1, "none.safetensors"),
        (&["--model", "broken.safetensors"], 1, "broken.safetensors"),
        (&["--model", "mine"], 1, "mine"),
    ];
    for (args, code, message) in cases {
        let more = [["-n", "2"], ["--max-chars", "30"]].into_iter().filter(|[flag, _]| !args.contains(flag));
        let args = [*args, &more.flatten().collect::<Vec<_>>()].concat();
        let (found, out, err) = sample(folder.path(), &args);
        assert_eq!(found, *code, "{args:?}: {err}");
        assert!(err.contains(message), "{args:?}: {err}");
        assert!(out.is_empty() && !err.contains("panicked"), "{args:?}: {out}{err}");
        assert!(
            files(folder.path()) == before,
            "{args:?} wrote something: {:?}",
            files(folder.path()).keys()
        );
    }
}

#[test]
fn a_folder_of_ones_own_is_used_but_not_harmed() {
    let folder = folder_with_model();
    fs::create_dir(folder.path().join("mine")).unwrap();
    fs::write(folder.path().join("mine/notes.txt"), "mine").unwrap();
    let (code, _, err) = sample(folder.path(), &["-n", "2", "--max-chars", "30", "--out", "mine"]);
    assert_eq!(code, 0, "{err}");
    let after = files(&folder.path().join("mine"));
    assert_eq!(after["notes.txt"], b"mine");
    assert!(after.contains_key("tunebook.abc") && after.keys().all(|name| !name.starts_with('.')));
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_is_said() {
    let folder = folder_with_model();
    let (code, _, err) = sample(folder.path(), &["-n", "1", "--max-chars", "9", "--out", "/dev/null/x"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("/dev/null/x"), "{err}");
}

#[test]
fn doctor_tells_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let output = program(folder.path()).arg("doctor").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for word in ["version", "cpu", "cores", "features", "memory", "engine", "kernels", "gpu"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let output = program(folder.path()).args(["doctor", "--json"]).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["cuda"]["built_in"].is_boolean() && json["cuda"]["kernels"].is_string());
    assert_eq!(json["cuda"]["error"].is_string(), json["cuda"]["devices"].as_array().unwrap().is_empty());
    assert!(json["cpu"]["threads"].as_u64().unwrap() >= 1);
    assert!(json["engine"]["name"].is_string() && json["version"] == env!("CARGO_PKG_VERSION"));
}

#[test]
fn completions_and_manual_pages() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = program(folder.path()).args(["completions", shell]).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("max-chars"), "{shell}");
    }
    assert_eq!(program(folder.path()).args(["completions", "tcsh"]).output().unwrap().status.code(), Some(2));
    let output = program(folder.path()).arg("man").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains(".TH songrnn-fast 1"));
    let output = program(folder.path()).args(["man", "--out", "man/man1"]).output().unwrap();
    assert!(output.status.success());
    let pages = files(&folder.path().join("man/man1"));
    assert!(String::from_utf8_lossy(&pages["songrnn-fast-sample.1"]).contains("temperature"));
    assert!(pages.contains_key("songrnn-fast.1") && pages.contains_key("songrnn-fast-doctor.1"));
}

/// The library's way from options to files, on odd options: an answer or an error, never a panic.
mod odd_options {
    use songrnn_fast::engine::{EngineSpec, Precision, build};
    use songrnn_fast::sample::{self, Choice, Formats, SampleOptions};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn nothing_panics(
            tunes in 0usize..6,
            first_index in any::<u64>(),
            seed in any::<u64>(),
            temperature in prop_oneof![prop::num::f32::ANY, 0.0f32..2.0],
            top_p in prop_oneof![prop::num::f32::ANY, 0.0f32..1.0],
            top_k in prop_oneof![any::<usize>(), 0usize..5],
            prime in prop_oneof![".{0,6}", "(X:1\n)?(K:[A-G]\n)?[A-Ga-g0-9/| ]{0,12}"],
            max_chars in 0usize..60,
            chords in any::<bool>(),
        ) {
            let vocab = Vocab::from_chars(CHARACTERS.chars());
            let shape = ModelShape { cell: CellKind::Rnn, vocab: vocab.len(), hidden: 5, layers: 1 };
            let mut engine = build(&EngineSpec::cpu(shape, Precision::F32, 1)).unwrap();
            engine.load_params(&init::uniform(&shape, seed)).unwrap();
            let choice = Choice { temperature, top_k, top_p };
            let options = SampleOptions { tunes, first_index, seed, choice, prime: prime.clone(), max_chars };
            if let Ok(sampled) = sample::tunes(engine.as_mut(), &vocab, &options) {
                prop_assert_eq!(sampled.len(), tunes);
                for tune in &sampled {
                    prop_assert!(tune.text.starts_with(&prime) && tune.text.chars().count() <= max_chars);
                }
                let folder = tempfile::tempdir().unwrap();
                let judged = sample::judge_all(&sampled, chords);
                let written = sample::write_set(folder.path(), &judged, Formats::ALL, false).unwrap();
                prop_assert_eq!((written.txt, written.abc), (tunes, tunes));
                sample::table(&judged);
            }
        }
    }
}

/// An engine's own sampler and the plain one give the same tunes.
#[test]
fn the_engine_samples_as_by_steps_does() {
    use songrnn_fast::engine::{EngineSpec, Precision, build};
    use songrnn_fast::sample::{SampleOptions, by_steps};
    let vocab = Vocab::from_chars(CHARACTERS.chars());
    for cell in [CellKind::Lstm, CellKind::Gru, CellKind::Rnn] {
        let shape = ModelShape { cell, vocab: vocab.len(), hidden: 33, layers: 2 };
        let mut engine = build(&EngineSpec::cpu(shape, Precision::F32, 2)).unwrap();
        engine.load_params(&init::uniform(&shape, 2)).unwrap();
        for prime in ["", "K:D\nA"] {
            let options =
                SampleOptions { tunes: 140, prime: prime.into(), max_chars: 90, ..SampleOptions::default() };
            let request = options.request(&vocab).unwrap();
            let own = engine.sample(&request).unwrap();
            assert_eq!(own, by_steps(engine.as_mut(), &request).unwrap(), "{cell} {prime:?}");
        }
    }
}
