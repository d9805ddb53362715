//! `songrnn-fast heatmap` as people call it, with small models.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use songrnn_fast::corpus::Vocab;
use songrnn_fast::engine::{EngineSpec, Precision, build};
use songrnn_fast::model::{CellKind, ModelFile, ModelShape, init};
use songrnn_fast::train::data::BUILT_IN;
use tempfile::TempDir;

/// Two tunes; the second is hostile.
const TUNES: &str =
    "X:1\nT:One\nK:D\nA2B \"Am\"c|dAF2:|\n\nX:2\nT:<script>alert(\"1\")</script> \u{202e}&'\nK:C\nC\\,=B|]\n";

fn model(cell: CellKind) -> ModelFile {
    let vocab = Vocab::from_chars(BUILT_IN.chars());
    let shape = ModelShape { cell, vocab: vocab.len(), hidden: 9, layers: 2 };
    let params = init::uniform(&shape, 5).iter().map(|weight| 3.0 * weight).collect();
    ModelFile { shape, vocab, config: serde_json::json!({}), params }
}

/// A folder with `m.safetensors` (LSTM), `gru`, `rnn` and `t.abc`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, cell) in [("m", CellKind::Lstm), ("gru", CellKind::Gru), ("rnn", CellKind::Rnn)] {
        model(cell).save(&folder.path().join(format!("{name}.safetensors"))).unwrap();
    }
    fs::write(folder.path().join("t.abc"), TUNES).unwrap();
    folder
}

/// (exit code, standard output, standard error)
fn heatmap(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let model: &[&str] = if args.contains(&"--model") { &[] } else { &["--model", "m.safetensors"] };
    let mut command = Command::cargo_bin("songrnn-fast").unwrap();
    command.current_dir(folder).timeout(std::time::Duration::from_secs(120));
    let device: &[&str] = if args.contains(&"--device") { &[] } else { &["--device", "cpu"] };
    let output = command.arg("heatmap").args(model).args(args).args(device).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn numbers_are_the_engine_s() {
    let folder = folder();
    for (file, cell, what, columns) in [
        ("m", CellKind::Lstm, "h", vec!["layer1-unit3-h", "layer2-unit9-h"]),
        ("m", CellKind::Lstm, "c", vec!["layer1-unit3-c", "layer2-unit9-c"]),
        (
            "gru",
            CellKind::Gru,
            "gates",
            vec![
                "layer1-unit3-gate-r",
                "layer1-unit3-gate-z",
                "layer1-unit3-gate-n",
                "layer2-unit9-gate-r",
                "layer2-unit9-gate-z",
                "layer2-unit9-gate-n",
            ],
        ),
    ] {
        let out = format!("{file}-{what}");
        let (code, told, err) = heatmap(
            folder.path(),
            &[
                "t.abc",
                "--model",
                &format!("{file}.safetensors"),
                "--neurons",
                "1:3,2:9",
                "--what",
                what,
                "--out",
                &out,
                "--format",
                "csv,svg",
            ],
        );
        assert_eq!(code, 0, "{err}");
        assert!(told.contains(&format!("{out}: {} .svg, activations.csv", columns.len())), "{told}");
        let csv = read(&folder.path().join(&out).join("activations.csv"));
        let mut lines = csv.lines();
        assert_eq!(lines.next().unwrap(), format!("position,character,{}", columns.join(",")));
        for column in &columns {
            assert!(folder.path().join(&out).join(format!("{column}.svg")).is_file(), "{column}");
        }
        let model = model(cell);
        let mut engine = build(&EngineSpec::cpu(model.shape, Precision::F32, 1)).unwrap();
        engine.load_params(&model.params).unwrap();
        let tune = TUNES.split("\n\n").next().unwrap();
        let mut ids = vec![model.vocab.start()];
        ids.extend(model.vocab.encode(tune).unwrap());
        let layers = engine.tap(&ids).unwrap();
        assert_eq!(lines.clone().count(), ids.len() - 1);
        for (t, (line, c)) in lines.zip(tune.chars()).enumerate() {
            let shown = match c {
                '\n' => "\\n".to_owned(),
                '"' => "\"\"\"\"".to_owned(),
                c => c.to_string(),
            };
            let values = line.strip_prefix(&format!("{},{shown},", t + 1)).expect(line);
            let values: Vec<f32> = values.split(',').map(|value| value.parse().unwrap()).collect();
            let mut expected = Vec::new();
            for (layer, unit) in [(0, 2), (1, 8)] {
                let (layer, at): (&songrnn_fast::engine::LayerActivations, usize) = (&layers[layer], t + 1);
                match what {
                    "h" => expected.push(layer.h[at * 9 + unit]),
                    "c" => expected.push(layer.c[at * 9 + unit].tanh()),
                    _ => expected.extend((0..3).map(|gate| layer.gates[(at * 3 + gate) * 9 + unit])),
                }
            }
            assert_eq!(values, expected, "after character {} of the text", t + 1);
        }
    }
}

#[test]
fn pictures_of_a_hostile_tune() {
    let folder = folder();
    let (code, _, err) = heatmap(
        folder.path(),
        &["t.abc", "--tune", "2", "--neurons", "2:1", "--what", "gates", "--out", "o"],
    );
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("characters that the model does not know are read as <unk>"), "{err}");
    let out = folder.path().join("o");
    let mut expected: Vec<String> =
        "fgio".chars().flat_map(|g| ["png", "svg"].map(|e| format!("layer2-unit1-gate-{g}.{e}"))).collect();
    expected.insert(0, "activations.csv".into());
    assert_eq!(names(&out), expected);
    let svg = read(&out.join("layer2-unit1-gate-f.svg"));
    assert!(!svg.contains("<script") && !svg.contains('\u{202e}'));
    assert!(svg.contains("forget gate f") && svg.contains("tune 2 of t.abc"), "{svg}");
    let png = fs::read(out.join("layer2-unit1-gate-f.png")).unwrap();
    let image = resvg::tiny_skia::Pixmap::decode_png(&png).unwrap();
    assert!(image.width() <= 2000);
    assert!(
        image.data().chunks(4).filter(|pixel| pixel[..3] == [0, 0, 0]).count() > 200,
        "letters are drawn"
    );
    assert!(
        read(&out.join("activations.csv")).contains(",\\\\,"),
        "a backslash is told apart from a line break"
    );
}

/// A model with units that follow labels by themselves: an RNN whose units copy what was just read.
#[test]
fn auto_ranks_and_tells() {
    let folder = folder();
    let mut model = model(CellKind::Rnn);
    // Layer 1, unit 1 is high after a digit or a slash and low after everything else, with no memory.
    let ranges = model.shape.layer_ranges(0);
    let (inputs, hidden) = (model.shape.vocab, model.shape.hidden);
    let vocab = model.vocab.clone();
    for id in 0..inputs {
        let digit = vocab.character(id as u16).is_some_and(|c| c.is_ascii_digit() || c == '/');
        model.params[ranges.weight_ih.start + id] = if digit { 2.0 } else { -2.0 };
    }
    for unit in 0..hidden {
        model.params[ranges.weight_hh.start + unit] = 0.0;
    }
    model.save(&folder.path().join("planted.safetensors")).unwrap();
    let (code, told, err) =
        heatmap(folder.path(), &["t.abc", "--model", "planted.safetensors", "--out", "o", "--format", "svg"]);
    // Two tunes are too few to say anything.
    assert_eq!(code, 1, "{told}{err}");
    assert!(told.contains("note: no label has a neuron that clearly beats"), "{told}");
    assert!(err.contains("DATA, every third tune held out") && err.contains("no run folder"), "{err}");
    assert_eq!(names(&folder.path().join("o")), ["ranking.csv"]);

    let args = ["--model", "planted.safetensors", "--format", "svg,csv", "--top", "5", "--out"];
    let (code, told, err) = heatmap(folder.path(), &[&args[..], &["a"]].concat());
    assert_eq!(code, 0, "{told}{err}");
    assert!(err.contains("ranked on the built-in tunebook, every third tune held out"), "{err}");
    let ranking = read(&folder.path().join("a/ranking.csv"));
    assert!(ranking.starts_with("layer,unit,kind,label,direction,found_auc,held_out_auc,control_auc,"));
    let row = ranking.lines().find(|row| row.starts_with("1,1,h,duration,higher,")).expect(&ranking);
    let held_out: f64 = row.split(',').nth(6).unwrap().parse().unwrap();
    // Digits stand elsewhere too.
    assert!(held_out > 0.9, "{row}");
    assert!(told.contains("Unit 1 of layer 1: its output h is higher at the length of a note"), "{told}");
    assert!(names(&folder.path().join("a")).contains(&"layer1-unit1-h.svg".to_owned()));
    let svg = read(&folder.path().join("a/layer1-unit1-h.svg"));
    assert!(
        svg.contains("At the length of a note: held-out AUC 0.9") && svg.contains("seed 1, temperature 0.8")
    );
    // The same again, on any number of threads.
    let (code, again, _) = heatmap(folder.path(), &[&args[..], &["b", "--threads", "2"]].concat());
    assert_eq!((code, told.replace("a: ", "b: ")), (0, again));
    for name in names(&folder.path().join("a")) {
        assert_eq!(read(&folder.path().join("a").join(&name)), read(&folder.path().join("b").join(&name)));
    }
}

#[test]
fn typing_is_answered() {
    let folder = folder();
    for (args, why) in [
        (&["t.abc", "--tune", "3"][..], "DATA has 2 tunes"),
        (&["t.abc", "--tune", "0"], "counted from 1"),
        (&["--tune", "1"], "required"),
        (&["t.abc", "--prime", "X"], "cannot be used with"),
        (&["t.abc", "--temperature", "1"], "cannot be used with"),
        (&["t.abc", "--neurons", "3:1"], "layers 1 to 2 of units 1 to 9"),
        (&["t.abc", "--neurons", "1:10"], "units 1 to 9"),
        (&["t.abc", "--neurons", "best"], "LAYER:UNIT"),
        (&["t.abc", "--neurons", "1:1", "--top", "2"], "--top is for"),
        (&["t.abc", "--top", "0"], "expected 1 to"),
        (&["t.abc", "--format", "gif"], "no format"),
        (&["t.abc", "--out", "t.abc"], "a folder is expected"),
        (&["t.abc", "--device", "tpu"], "expected auto, cpu"),
        (&["--neurons", "1:1", "--temperature", "-1"], "temperature"),
        (&["--neurons", "1:1", "--prime", "\u{2603}"], "not among"),
        (&["t.abc", "--model", "gru.safetensors", "--neurons", "1:1", "--what", "c"], "no cell state"),
        (&["t.abc", "--model", "rnn.safetensors", "--neurons", "1:1", "--what", "gates"], "has none"),
    ] {
        let (code, _, err) = heatmap(folder.path(), args);
        assert_eq!(code, 2, "{args:?}: {err}");
        assert!(err.contains(why), "{args:?}: {err}");
    }
    let (code, _, err) = heatmap(folder.path(), &["nothing.abc", "--neurons", "1:1"]);
    assert!(code == 1 && err.contains("nothing.abc"), "{err}");
    let (code, _, err) = heatmap(folder.path(), &["t.abc", "--model", "nothing", "--neurons", "1:1"]);
    assert!(code == 1 && err.contains("nothing"), "{err}");
    assert_eq!(names(folder.path()), ["gru.safetensors", "m.safetensors", "rnn.safetensors", "t.abc"]);
}

#[test]
fn nothing_is_overwritten() {
    let folder = folder();
    let args = ["t.abc", "--neurons", "1:1", "--format", "svg"];
    let with_out = [&args[..], &["--out", "o"]].concat();
    assert_eq!(heatmap(folder.path(), &with_out).0, 0);
    let before = read(&folder.path().join("o/layer1-unit1-h.svg"));
    let (code, _, err) = heatmap(folder.path(), &[&with_out[..], &["--tune", "2"]].concat());
    assert!(code == 1 && err.contains("layer1-unit1-h.svg is there already"), "{err}");
    assert_eq!(read(&folder.path().join("o/layer1-unit1-h.svg")), before);
    let (code, told, _) = heatmap(folder.path(), &args);
    assert!(code == 0 && told.contains("heatmaps/m: 1 .svg"), "{told}");
    let (code, told, err) = heatmap(folder.path(), &args);
    assert!(
        code == 0 && told.contains("heatmaps/m-2: 1 .svg") && err.contains("there already"),
        "{told}{err}"
    );
}

/// A run ranks on its own tunes.
#[test]
fn a_run_s_own_tunes() {
    let folder = folder();
    let mut train = Command::cargo_bin("songrnn-fast").unwrap();
    train.current_dir(folder.path()).args([
        "train",
        "--hidden",
        "8",
        "--steps",
        "3",
        "--batch",
        "4",
        "--seq-len",
        "20",
        "--device",
        "cpu",
        "--out",
        "run",
    ]);
    train.assert().success();
    let (code, told, err) =
        heatmap(folder.path(), &["t.abc", "--model", "run", "--format", "svg", "--out", "o"]);
    assert!(code == 0 || told.contains("clearly beats"), "{told}{err}");
    assert!(err.contains("ranked on the training and the validation tunes of run"), "{err}");
}
