//! A trained model file, opened unchanged in `torch.nn`, gives the loss that `eval --json` prints.
//!
//! Needs Python with PyTorch and safetensors: the interpreter that `SONGRNN_TORCH_PYTHON` names (then it must work), or
//! a `python3` that has them. Otherwise it says SKIP. The Python side reads the tunes with a reader of its own, so the
//! files here have what readers stumble over.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use assert_cmd::cargo::cargo_bin;

/// Largest difference between both losses, nats a character: the project's promise.
const EVAL_BOUND: f64 = 1e-4;

/// A Python that can do it, or why there is none.
fn python() -> Result<PathBuf, String> {
    let named = std::env::var_os("SONGRNN_TORCH_PYTHON").filter(|p| !p.is_empty()).map(PathBuf::from);
    let python = named.clone().unwrap_or_else(|| "python3".into());
    let works = Command::new(&python).args(["-c", "import torch, safetensors"]).output();
    match (works, named) {
        (Ok(output), _) if output.status.success() => Ok(python),
        (_, Some(named)) => {
            panic!("SONGRNN_TORCH_PYTHON={} cannot import torch and safetensors", named.display())
        }
        _ => {
            Err("python3 cannot import torch and safetensors; SONGRNN_TORCH_PYTHON may name one that can"
                .into())
        }
    }
}

/// Runs a command and returns its standard output; fails with its messages.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn tune(number: usize) -> String {
    let bars = ["GABc d2BG", "A2FA d2fd", "efge dBAG", "g3e d2B2", "cBAB GABc", "d2ed cAFA"];
    let mut text = format!("X:{number}\nT:Tune {number}\nM:4/4\nL:1/8\nK:G\n");
    for line in 0..4 {
        let pick = |i: usize| bars[(number * 5 + line * 3 + i * number) % bars.len()];
        text += &format!("{}|{}|{}|{}|\n", pick(0), pick(1), pick(2), pick(3));
    }
    text
}

/// A UTF-8 tunebook with a byte order mark, CRLF, comments, trailing blanks, text between tunes, two tunes without a
/// blank line in between, a tune twice, and no newline at the end.
fn tunebook(folder: &Path) -> PathBuf {
    let mut text = String::from("\u{feff}% a tunebook\n\nSome words about it.\n\n");
    for number in 1..12 {
        text += &tune(number).replace("T:Tune", "T:Mél\u{2019}die").replace("K:G\n", "K:G \t\n% a comment\n");
        if number != 4 {
            text += "\n\n";
        }
    }
    text += "% words between tunes\n\n";
    text += tune(3).trim_end();
    let path = folder.join("book.abc");
    std::fs::write(&path, text.replace('\n', "\r\n")).unwrap();
    path
}

/// Latin-1 text between `<start>` and `<end>` with a blank line inside a tune, and characters the tunebook lacks.
fn marked(folder: &Path) -> PathBuf {
    let mut text = String::from("words before\n");
    for number in 20..24 {
        text += &format!("<start>\n{}\nP:after a blank line {{~J}} \u{e9}\u{fc}\n<end>\n", tune(number));
    }
    let path = folder.join("marked.txt");
    std::fs::write(&path, text.chars().map(|c| c as u8).collect::<Vec<_>>()).unwrap();
    path
}

#[test]
fn pytorch_gives_the_loss_of_eval() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            // Past the test harness's capture: a skipped check must be seen.
            writeln!(std::io::stderr(), "SKIP pytorch_gives_the_loss_of_eval: {why}").unwrap();
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let (book, marked) = (tunebook(folder.path()), marked(folder.path()));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/torch-eval.py");
    for (cell, layers) in [("lstm", "2"), ("gru", "2"), ("rnn", "1")] {
        let out = folder.path().join(cell);
        let settings = [
            "--hidden",
            "9",
            "--batch",
            "2",
            "--seq-len",
            "25",
            "--steps",
            "60",
            "--lr",
            "1e-2",
            "--seed",
            "5",
        ];
        run(Command::new(cargo_bin("songrnn-fast"))
            .arg("train")
            .arg(&book)
            .arg("--val")
            .arg(&marked)
            .args(["--cell", cell, "--layers", layers, "--out"])
            .arg(&out)
            .args(settings));
        for data in [&book, &marked] {
            let ours = run(Command::new(cargo_bin("songrnn-fast"))
                .args(["eval", "--json", "--model"])
                .arg(&out)
                .arg(data));
            let theirs = run(Command::new(&python).arg(&script).arg(out.join("best.safetensors")).arg(data));
            let ours: serde_json::Value = serde_json::from_str(&ours).unwrap();
            let theirs: serde_json::Value = serde_json::from_str(&theirs).unwrap();
            for key in ["tunes", "chars"] {
                assert_eq!(
                    ours[key].as_u64().unwrap(),
                    theirs[key].as_u64().unwrap(),
                    "{cell} {}: {key}",
                    data.display()
                );
            }
            let difference =
                (ours["nats_per_char"].as_f64().unwrap() - theirs["nats_per_char"].as_f64().unwrap()).abs();
            println!("{cell} {}: difference {difference:.1e}", data.display());
            assert!(difference <= EVAL_BOUND, "{cell} {}: ours {ours}, PyTorch {theirs}", data.display());
        }
    }
}
