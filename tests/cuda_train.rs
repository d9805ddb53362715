//! The program on the emulated device: what `train` and `sample` do there is what they do on the processor.

#[path = "common/device.rs"]
mod device;

use std::path::Path;
use std::process::{Command, Output};

/// Where the emulated kernels are; None where they cannot be made.
fn kernels() -> Option<String> {
    if device::on_gpu() {
        println!("SKIP: the emulated device is not looked at on a GPU");
        return None;
    }
    device::library()?;
    let made = format!("{}/libemulated.so", env!("CARGO_TARGET_TMPDIR"));
    Some(std::env::var("SONGRNN_EMULATED_KERNELS").unwrap_or(made))
}

fn run(folder: &Path, kernels: &str, arguments: &str) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_songrnn-fast"))
        .args(arguments.split(' '))
        .env("SONGRNN_EMULATED_KERNELS", kernels)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The training and validation losses in a run's metrics.
fn losses(folder: &Path, run: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines
        .filter(|line| line["event"] == "validation")
        .flat_map(|line| [&line["train_nats_per_char"], &line["nats_per_char"]].map(|x| x.as_f64().unwrap()))
        .collect()
}

#[test]
fn training_and_sampling_are_the_processors() {
    let Some(kernels) = kernels() else { return };
    let folder = tempfile::tempdir().unwrap();
    let settings = "--hidden 24 --batch 8 --seq-len 20 --steps 6 --eval-every 3 --lr 0.01 --dropout 0.1";
    run(folder.path(), &kernels, &format!("train {settings} --device cpu --out cpu"));
    run(folder.path(), &kernels, &format!("train {settings} --device emulated --out whole"));
    let (cpu, whole) = (losses(folder.path(), "cpu"), losses(folder.path(), "whole"));
    assert!(!cpu.is_empty() && cpu.len() == whole.len());
    for (a, b) in cpu.iter().zip(&whole) {
        assert!((a - b).abs() < 1e-4 * a, "{a} on the processor, {b} emulated");
    }
    // Stopped after three steps and gone on with: bit for bit the whole run.
    let half = settings.replace("--steps 6", "--steps 3");
    run(folder.path(), &kernels, &format!("train {half} --device emulated --out parts"));
    run(folder.path(), &kernels, "train --resume parts --steps 6");
    let model = |run: &str| std::fs::read(folder.path().join(run).join("last.safetensors")).unwrap();
    let (whole, parts) = (model("whole"), model("parts"));
    let weights = |bytes: &[u8]| {
        let tensors = safetensors::SafeTensors::deserialize(bytes).unwrap();
        let names =
            tensors.names().into_iter().filter(|name| name.starts_with("rnn.") || name.starts_with("head."));
        let mut all: Vec<(String, Vec<u8>)> =
            names.map(|name| (name.to_string(), tensors.tensor(name).unwrap().data().to_vec())).collect();
        all.sort();
        all
    };
    assert!(!weights(&whole).is_empty());
    assert_eq!(weights(&whole), weights(&parts));
    let sampled = |device: &str| {
        let out = format!("tunes-{device}");
        let options = format!("-n 3 --max-chars 30 --device {device} --out {out} --format txt");
        let output = run(folder.path(), &kernels, &format!("sample --model whole {options}"));
        String::from_utf8(output.stdout).unwrap().replace(&out, "")
    };
    assert_eq!(sampled("cpu"), sampled("emulated"));
}
