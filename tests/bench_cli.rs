//! `bench` as a person and a program meet it: every output parses, several values make the product, peers stand beside, a
//! peer that serves is measured in turn, mistakes are one clear sentence. Nothing here depends on time: a fake peer tells
//! the times that are compared.

#[path = "common/device.rs"]
mod device;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use resvg::{tiny_skia, usvg};
use serde_json::Value;

const COLUMNS: &str = "date,commit,machine,device,driver,cuda,cudnn,what,engine,tier,precision,cell,hidden,layers,batch,seq_len,\
                       vocab,chars_per_second,ms_per_step,ms_spread,repeats,peak_mb,note";

/// A case that takes no time.
const TINY: &str = "--device cpu --threads 1 --hidden 8 --batch 2 --seq-len 4 --vocab 9 --seconds 0.01";

/// How often it is measured.
const THRICE: &str = "--repeats 3";

fn run_with(folder: &Path, arguments: &str, environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_songrnn-fast"))
        .current_dir(folder)
        .args(arguments.split_whitespace())
        .env_remove("SONGRNN_TORCH_PYTHON")
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn run(folder: &Path, arguments: &str) -> Output {
    run_with(folder, arguments, &[])
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Standard output of a run that ended well.
fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&out(output)).unwrap()
}

/// Rows of a CSV file by column, through a parser that is not the program's own.
fn rows(path: &Path) -> Vec<Vec<(String, String)>> {
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(text.lines().next().unwrap(), COLUMNS);
    let split = |line: &str| {
        let (mut cells, mut quoted) = (vec![String::new()], false);
        for c in line.chars() {
            match c {
                '"' => quoted = !quoted,
                ',' if !quoted => cells.push(String::new()),
                c => cells.last_mut().unwrap().push(c),
            }
        }
        cells
    };
    let names = split(COLUMNS);
    text.lines()
        .skip(1)
        .map(|line| {
            let cells = split(line);
            assert_eq!(cells.len(), names.len(), "{line}");
            names.iter().cloned().zip(cells).collect()
        })
        .collect()
}

fn cell<'a>(row: &'a [(String, String)], name: &str) -> &'a str {
    &row.iter().find(|(column, _)| column == name).unwrap().1
}

#[test]
fn one_case_is_an_object_with_the_contracts_fields_and_several_are_an_array() {
    let folder = tempfile::tempdir().unwrap();
    for what in ["train", "sample", "layer"] {
        let one = json(&run(folder.path(), &format!("bench {what} {TINY} {THRICE} --json")));
        let ms = one["ms_per_step"].as_f64().unwrap();
        let rate = one["chars_per_second"].as_f64().unwrap();
        assert!(
            (rate * ms / 1e3 - 8.0).abs() < 1e-6,
            "{what}: {rate} characters a second, {ms} ms for 8 characters"
        );
        let layer = what == "layer";
        assert_eq!((one["what"] == what, one["forward"].is_object()), (true, layer), "{one}");
        assert_eq!(one["repeats"], 3);
        assert!(one["gflops"].as_f64().unwrap() > 0.0);
    }
    let several = json(&run(
        folder.path(),
        &format!("bench train {TINY} {THRICE} --json --hidden 8,9 --precision f32,bf16,f16").replacen(
            "--hidden 8 ",
            "",
            1,
        ),
    ));
    let several = several.as_array().unwrap();
    assert_eq!(several.len(), 6);
    let has = |hidden: u64, precision: &str| {
        several.iter().filter(|one| one["hidden"] == hidden && one["precision"] == precision).count()
    };
    assert_eq!([has(8, "f32"), has(9, "bf16"), has(9, "f16")], [1, 1, 1]);
}

#[test]
fn every_file_is_what_its_name_says() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let files = "--csv r.csv --markdown r.md --plot p.svg --record log --machine test-box";
    let table = out(&run(folder.path(), &format!("bench layer {TINY} {THRICE} {files}")));
    // Words under a line (that the machine is not quiet, for one) are indented.
    let lines: Vec<&str> = table.lines().filter(|line| !line.starts_with(' ')).collect();
    assert!(
        lines[0].starts_with("what") && lines[0].contains("chars/s") && lines[0].contains("ms/step"),
        "{table}"
    );
    assert!(lines[1].starts_with("layer_fwd  lstm 1x8") && lines[2].starts_with("layer_bwd"), "{table}");
    let rows = rows(&at("r.csv"));
    let whats: Vec<&str> = rows.iter().map(|row| cell(row, "what")).collect();
    assert_eq!(whats, ["layer_fwd", "layer_bwd"]);
    for row in &rows {
        assert_eq!(
            (cell(row, "engine"), cell(row, "device"), cell(row, "machine")),
            ("songrnn-fast", "cpu", "test-box")
        );
        assert_eq!((cell(row, "hidden"), cell(row, "batch"), cell(row, "vocab")), ("8", "2", "9"));
        assert!(cell(row, "note").contains("1 thread;") && cell(row, "note").contains("no tune starts"));
    }
    assert!(cell(&rows[0], "ms_per_step").parse::<f64>().unwrap() > 0.0);
    let date = cell(&rows[0], "date");
    let record = at("log").join(format!("{date}-layer.csv"));
    assert_eq!(fs::read_to_string(&record).unwrap(), fs::read_to_string(at("r.csv")).unwrap());
    let markdown = fs::read_to_string(at("r.md")).unwrap();
    let bars: Vec<usize> = markdown.lines().take(4).map(|line| line.matches('|').count()).collect();
    assert_eq!(bars, [15, 15, 15, 15], "{markdown}");
    let svg = fs::read_to_string(at("p.svg")).unwrap();
    usvg::roxmltree::Document::parse(&svg).unwrap();
    assert!(svg.contains("hidden units H") && svg.contains("test-box"));
    // The record grows; a PNG has ink.
    out(&run(folder.path(), &format!("bench layer {TINY} {THRICE} --record log --plot p.PNG")));
    assert_eq!(self::rows(&record).len(), 4);
    let png = fs::read(at("p.PNG")).unwrap();
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    let pixels = tiny_skia::Pixmap::decode_png(&png).unwrap();
    let dark = pixels.pixels().iter().filter(|pixel| pixel.red() < 128).count();
    assert!(dark > 1000 && dark < pixels.pixels().len() / 4, "{dark} dark pixels");
}

#[test]
fn sets_are_listed_for_the_peers() {
    let folder = tempfile::tempdir().unwrap();
    let listed =
        out(&run(folder.path(), "bench train --cases b,batch1 --device cpu --precision f32,bf16 --list"));
    let cases: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(cases.len(), 4);
    assert_eq!(
        (&cases[0]["hidden"], &cases[0]["layers"], &cases[0]["batch"]),
        (&512.into(), &3.into(), &128.into())
    );
    assert_eq!((&cases[3]["seq_len"], &cases[3]["precision"]), (&30.into(), &"bf16".into()));
    assert_eq!((&cases[0]["device"], &cases[0]["tune_starts"]), (&"cpu".into(), &350.into()));
    assert!(cases[0]["threads"].as_u64().unwrap() >= 1, "0 is resolved: {}", cases[0]);
    let paper = out(&run(folder.path(), "bench sample --cases paper --device cpu --list"));
    assert_eq!(paper.lines().count(), 9);
}

#[test]
fn peers_rows_stand_beside_ours() {
    let folder = tempfile::tempdir().unwrap();
    let row = |engine: &str, hidden: u32| {
        format!(
            "2026-01-01,,box,GPU,,,,train,{engine},eager,f32,lstm,{hidden},1,2,4,9,1,1e9,1,5,,\"its, note\"\n"
        )
    };
    let peers = format!("{COLUMNS}\n{}{}", row("pytorch", 8), row("haste", 99));
    fs::write(folder.path().join("peers.csv"), peers).unwrap();
    let one = json(&run(folder.path(), &format!("bench train {TINY} {THRICE} --json --peers peers.csv")));
    let beside = one["peers"].as_array().unwrap();
    assert_eq!(beside.len(), 1);
    assert_eq!(beside[0]["row"]["engine"], "pytorch");
    let ratio = beside[0]["ratio"].as_f64().unwrap() * one["ms_per_step"].as_f64().unwrap();
    assert!((ratio / 1e9 - 1.0).abs() < 1e-9);
    let table = out(&run(folder.path(), &format!("bench train {TINY} {THRICE} --peers peers.csv")));
    assert!(table.contains("pytorch on GPU, from its file:") && table.contains("its, note"), "{table}");
    assert!(!table.contains("haste"), "{table}");
}

/// A peer that serves: notes what it is asked, and tells 1e6 ms a step, in the last run half of that.
#[cfg(unix)]
fn fake_peer(folder: &Path, ready: &str) {
    use std::os::unix::fs::PermissionsExt;
    let script = format!(
        "#!/bin/sh\nwhile read -r line; do\n  echo \"$line\" >>asked.txt\n  case $line in\n    run*) n=$((n + 1)); \
         if [ $n = 7 ]; then echo 500000; else echo 1000000; fi ;;\n    *) echo '{ready}' ;;\n  esac\ndone\n"
    );
    let path = folder.join("peer");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[cfg(unix)]
#[test]
fn a_peer_that_serves_is_measured_in_turn() {
    let folder = tempfile::tempdir().unwrap();
    fake_peer(folder.path(), r#"ready {"engine":"pytorch","tier":"eager","note":"fake"}"#);
    let flags = format!("bench train {TINY} --json --vs pytorch --repeats 6 --csv v.csv --record log");
    let python = folder.path().join("peer");
    let one = json(&run_with(folder.path(), &flags, &[("SONGRNN_TORCH_PYTHON", python.to_str().unwrap())]));
    let versus = &one["versus"];
    assert_eq!((&versus["pairs"], &versus["peer"]["engine"]), (&6.into(), &"pytorch".into()));
    let number = |value: &Value| value.as_f64().unwrap();
    assert_eq!(number(&versus["peer_ms_per_step"]["median"]), 1e6);
    // The first run is not counted; of the six pairs the last took half the time.
    assert_eq!(number(&versus["peer_ms_per_step"]["min"]), 5e5);
    let ratio = number(&versus["ratio_of_medians"]) * number(&versus["ms_per_step"]["median"]);
    assert!((ratio / 1e6 - 1.0).abs() < 1e-9, "{versus}");
    assert!(number(&versus["pair_ratios"]["low_quartile"]) <= number(&versus["pair_ratios"]["median"]));
    assert_eq!(one["ms_per_step"], versus["ms_per_step"]["median"]);
    let asked = fs::read_to_string(folder.path().join("asked.txt")).unwrap();
    let case: Value = serde_json::from_str(asked.lines().next().unwrap()).unwrap();
    assert_eq!((&case["hidden"], &case["threads"], &case["what"]), (&8.into(), &1.into(), &"train".into()));
    assert_eq!(asked.lines().filter(|line| *line == "run 1").count(), 7, "{asked}");
    let rows = rows(&folder.path().join("v.csv"));
    assert_eq!(
        (rows.len(), cell(&rows[1], "engine"), cell(&rows[1], "ms_per_step")),
        (2, "pytorch", "1000000")
    );
    assert!(
        fs::read_dir(folder.path().join("log"))
            .unwrap()
            .all(|file| { file.unwrap().file_name().to_string_lossy().ends_with("-vs-pytorch.csv") })
    );
    // Layers: forward alone is asked for as well, in every pair before the whole.
    fs::remove_file(folder.path().join("asked.txt")).unwrap();
    let layer = flags.replace("bench train", "bench layer");
    let one = json(&run_with(folder.path(), &layer, &[("SONGRNN_TORCH_PYTHON", python.to_str().unwrap())]));
    assert!(one["versus"]["forward_ratio_of_medians"].as_f64().unwrap() > 0.0, "{one}");
    let asked = fs::read_to_string(folder.path().join("asked.txt")).unwrap();
    let runs: Vec<&str> = asked.lines().skip(2).collect();
    assert_eq!(runs, ["run 1 forward", "run 1"].repeat(6), "{asked}");
    let whats: Vec<String> =
        self::rows(&folder.path().join("v.csv")).iter().map(|row| cell(row, "what").into()).collect();
    assert_eq!(whats, ["layer_fwd", "layer_bwd", "layer_fwd", "layer_bwd"]);
    // Fewer than five pairs are never taken.
    fs::remove_file(folder.path().join("asked.txt")).unwrap();
    let few = flags.replace("--repeats 6", "--repeats 1");
    let table = out(&run_with(
        folder.path(),
        &few.replace(" --json", "").replace("--csv v.csv", ""),
        &[("SONGRNN_TORCH_PYTHON", python.to_str().unwrap())],
    ));
    assert!(table.contains("measured in turn, 5 pairs: ratio of the medians"), "{table}");
}

/// Where a step's time goes is told for many streams, and said not to be for few.
#[test]
fn phases_are_told_where_there_are_any() {
    let folder = tempfile::tempdir().unwrap();
    let many = "bench train --device cpu --threads 1 --hidden 40 --batch 40 --seq-len 8 --seconds 0.05 --phases --pin";
    let text = out(&run(folder.path(), many));
    for phase in ["layers forward", "head and loss", "layers backward", "weights' gradients", "update"] {
        assert!(text.contains(phase), "{phase}: {text}");
    }
    let object = json(&run(folder.path(), &format!("{many} --json")));
    let phases = object["phases"].as_array().unwrap();
    let sum: f64 = phases.iter().map(|phase| phase["ms"].as_f64().unwrap()).sum();
    assert!(sum > 0.0, "{object}");
    if cfg!(target_os = "linux") {
        assert!(object["note"].as_str().unwrap().contains("threads on processors of their own"), "{object}");
    }
    let text = out(&run(folder.path(), &format!("bench train {TINY} {THRICE} --phases")));
    assert!(text.contains("some cases have none") && !text.contains("layers forward"), "{text}");
}

#[cfg(unix)]
#[test]
fn a_peer_that_cannot_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let versus = format!("bench train {TINY} --vs pytorch --python");
    for (ready, told) in [
        ("SKIP pytorch: not installed", "the peer says: SKIP pytorch: not installed"),
        ("error RuntimeError: no", "the peer says: error RuntimeError: no"),
        ("hello", "expected ready"),
        ("ready {", "the peer's words"),
    ] {
        fake_peer(folder.path(), ready);
        let output = run(folder.path(), &format!("{versus} {}", folder.path().join("peer").display()));
        assert_eq!(output.status.code(), Some(1), "{ready}");
        assert!(said(&output).contains(told), "{ready}: {}", said(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains("not measured"));
    }
    let output = run(folder.path(), &format!("{versus} /no/such/python"));
    assert!(said(&output).contains("cannot run /no/such/python") && said(&output).contains("--python"));
    let output = run(folder.path(), &format!("{versus} /bin/true"));
    assert!(said(&output).contains("ended without an answer") || said(&output).contains("does not answer"));
}

#[test]
fn mistakes_are_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.csv"), "a,b\n").unwrap();
    for (flags, told) in [
        ("train --hidden 0", "--hidden 0: expected 1 to"),
        ("train --hidden 8,0", "--hidden 0: expected 1 to"),
        ("train --layers 0", "--layers 0: expected"),
        ("train --batch 0", "--batch 0: expected"),
        ("train --seq-len 0", "--seq-len 0: expected"),
        ("train --vocab 3", "--vocab 3: expected 4 to"),
        ("train --threads 2000", "--threads 2000: expected"),
        ("train --repeats 0", "--repeats 0: expected"),
        ("train --seconds 0", "--seconds 0: expected"),
        ("train --seconds -1", "--seconds -1: expected"),
        ("train --seconds nan", "--seconds NaN: expected"),
        ("train --plot p.gif", "--plot p.gif: expected a name that ends in .svg or .png"),
        ("train --cases a --hidden 8", "cannot be used with"),
        ("train --cases z", "invalid value 'z'"),
        ("train --device tpu", "expected auto, cpu or cuda"),
        ("train --vs tensorflow", "invalid value 'tensorflow'"),
        ("sample --tune-starts 5", "--tune-starts is for train and layer"),
        ("train --peers none.csv", "--peers: cannot read none.csv"),
        ("train --peers bad.csv", "bad.csv: line 1: no column what"),
        ("fly", "invalid value 'fly'"),
    ] {
        let output = run(folder.path(), &format!("bench {flags}"));
        assert_eq!(output.status.code(), Some(2), "{flags}: {}", said(&output));
        assert!(said(&output).contains(told), "{flags}: {}", said(&output));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was written");
}

#[test]
fn what_cannot_be_run_is_a_line_that_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = TINY.replace("--hidden 8", "--hidden 8,1000000");
    let output = run(
        folder.path(),
        &format!("bench train {tiny} {THRICE} --kernel auto,stepwise --csv r.csv --record log"),
    );
    let table = out(&output);
    assert_eq!(table.matches("not measured: ").count(), 3, "{table}");
    assert!(
        table.contains("--kernel stepwise is for CUDA") && table.contains("expected 1 to 65536"),
        "{table}"
    );
    let rows = rows(&folder.path().join("r.csv"));
    let figures: Vec<bool> = rows.iter().map(|row| !cell(row, "ms_per_step").is_empty()).collect();
    assert_eq!(figures, [true, false, false, false]);
    assert!(said(&output).contains("no row is recorded"));
    // A case that is too large for this machine is not begun.
    let large = "bench train --device cpu --threads 1 --hidden 2048 --batch 1000000 --seq-len 1000000 --json";
    let output = run(folder.path(), large);
    assert_eq!(output.status.code(), Some(1));
    let one: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(one["ms_per_step"], Value::Null);
    let why = one["error"].as_str().unwrap();
    assert!(why.contains("GB of memory needed") || cfg!(not(target_os = "linux")), "{why}");
}

#[test]
fn the_harness_runs_whole_on_the_emulated_device() {
    if device::on_gpu() || device::library().is_none() {
        println!("SKIP: no emulated device here");
        return;
    }
    let made = format!("{}/libemulated.so", env!("CARGO_TARGET_TMPDIR"));
    let kernels = std::env::var("SONGRNN_EMULATED_KERNELS").unwrap_or(made);
    let folder = tempfile::tempdir().unwrap();
    let tiny = TINY.replace("--device cpu", "--device emulated") + " --repeats 1";
    for what in ["train", "layer", "sample"] {
        let flags = format!("bench {what} {tiny} --kernel fused,stepwise --csv {what}.csv");
        let table = out(&run_with(folder.path(), &flags, &[("SONGRNN_EMULATED_KERNELS", &kernels)]));
        let rows = rows(&folder.path().join(format!("{what}.csv")));
        assert_eq!(rows.len(), if what == "layer" { 4 } else { 2 }, "{table}");
        for row in &rows {
            assert!(cell(row, "note").contains("emulated: says nothing about a GPU"), "{row:?}");
            assert!(
                cell(row, "device").contains("emulated") && !cell(row, "note").contains("% of the"),
                "{row:?}"
            );
            assert!(!cell(row, "peak_mb").is_empty(), "{row:?}");
        }
        let tiers: Vec<&str> = rows.iter().map(|row| cell(row, "tier")).collect();
        assert!(tiers.contains(&"fused") && tiers.contains(&"stepwise"), "{tiers:?}");
        assert!(table.contains("emulated: says nothing about a GPU"), "{table}");
    }
}
