//! Stop and resume, with the real program: killed at random moments, asked to stop, started twice. Whatever happens on
//! the way, the weights, the metrics (but for wall-clock time) and the samples are those of an undisturbed run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use serde_json::Value;

/// Kills of the random test.
const KILLS: u32 = 24;

const FLAGS: &str = "--hidden 16 --batch 8 --seq-len 24 --epochs 6 --eval-every 20 --dropout 0.2 --lr 0.01 \
                     --schedule cosine --warmup 5 --threads 1 --seed 5 --save-every 0.02";

/// Tunes made up by a small generator: the same on every machine.
fn corpus(path: &Path) {
    let mut seed = 12345u64;
    let mut next = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    let mut text = String::new();
    for tune in 1..=60 {
        text += &format!("X:{tune}\nT:Tune {tune}\nM:4/4\nK:G\n");
        for _ in 0..2 + next(3) {
            for _ in 0..4 {
                for _ in 0..4 {
                    text.push(b"GABcdefg"[next(8) as usize] as char);
                    text.push(b"2 4"[next(3) as usize] as char);
                }
                text.push('|');
            }
            text.push('\n');
        }
        text.push('\n');
    }
    fs::write(path, text).unwrap();
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        corpus(&folder.path().join("tunes.abc"));
        Place { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_songrnn-fast"));
        command.current_dir(self.folder.path()).args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn fresh(&self, out: &str, flags: &str) -> Command {
        let mut command = self.program(&["train", "tunes.abc", "--out", out]);
        command.args(flags.split_whitespace());
        command
    }

    fn resume(&self, out: &str) -> Command {
        self.program(&["train", "--resume", out])
    }

    /// Runs to the end and expects success.
    fn finish(&self, mut command: Command) -> Output {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output
    }
}

fn tensors(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, view)| (name.to_string(), view.data().to_vec())).collect()
}

/// Events without wall-clock times.
fn metrics(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let mut event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            let fields = event.as_object_mut().unwrap();
            fields.remove("seconds");
            fields.remove("chars_per_second");
            event
        })
        .collect()
}

fn samples(run: &Path) -> BTreeMap<String, String> {
    fs::read_dir(run.join("samples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .map(|path| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap())
        })
        .collect()
}

fn assert_same_run(a: &Path, b: &Path, why: &str) {
    for file in ["last.safetensors", "best.safetensors"] {
        let (x, y) = (tensors(&a.join(file)), tensors(&b.join(file)));
        assert!(x.keys().eq(y.keys()), "{why}: {file} holds other tensors");
        for (name, bytes) in &x {
            assert!(*bytes == y[name], "{why}: {file}, tensor {name} differs");
        }
    }
    assert_eq!(
        fs::read(a.join("best.safetensors")).unwrap().len(),
        fs::read(b.join("best.safetensors")).unwrap().len()
    );
    assert_eq!(metrics(a), metrics(b), "{why}: metrics");
    assert_eq!(samples(a), samples(b), "{why}: samples");
}

fn wait_for(path: &Path, child: &mut Child) {
    let began = Instant::now();
    while !path.exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "{} never came", path.display());
        assert!(child.try_wait().unwrap().is_none(), "ended before {}", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn killed_at_random_moments_it_ends_with_the_same_bits() {
    let place = Place::new();
    let began = Instant::now();
    place.finish(place.fresh("whole", FLAGS));
    let whole = began.elapsed();
    let whole_run = place.path("whole");
    let events = metrics(&whole_run);
    assert!(events.iter().filter(|event| event["event"] == "validation").count() >= 3);

    let mut seed = 99u64;
    let mut kills = 0;
    let mut in_training = 0;
    for round in 0.. {
        let out = format!("killed-{round}");
        let run = place.path(&out);
        loop {
            let resumable = run.join("config.toml").exists();
            let mut command = if resumable { place.resume(&out) } else { place.fresh(&out, FLAGS) };
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            if kills < KILLS {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // From right at the start to a good part of a whole run.
                let part = (seed >> 40) as f64 / (1u64 << 24) as f64;
                std::thread::sleep(whole.mul_f64(0.4 * part * part + 0.002));
                if child.try_wait().unwrap().is_none() {
                    in_training += u32::from(run.join("last.safetensors").exists());
                    child.kill().unwrap();
                    child.wait().unwrap();
                    kills += 1;
                    continue;
                }
            }
            let status = child.wait().unwrap();
            assert!(status.success(), "{out} after {kills} kills: {status}");
            break;
        }
        assert_same_run(&whole_run, &run, &format!("{out}, {kills} kills in all"));
        if kills >= KILLS {
            break;
        }
    }
    assert!(in_training >= KILLS / 3, "only {in_training} of {kills} kills met a run with a checkpoint");
}

#[cfg(unix)]
#[test]
fn sigterm_saves_and_exits_130_and_resuming_gives_the_same_bits() {
    let place = Place::new();
    place.finish(place.fresh("whole", FLAGS));
    let mut child = place.fresh("stopped", FLAGS).spawn().unwrap();
    wait_for(&place.path("stopped/last.safetensors"), &mut child);
    let killed = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("--resume stopped"), "{said}");
    place.finish(place.resume("stopped"));
    assert_same_run(&place.path("whole"), &place.path("stopped"), "after SIGTERM");
    // Resuming what is finished changes nothing.
    place.finish(place.resume("stopped"));
    assert_same_run(&place.path("whole"), &place.path("stopped"), "resumed when finished");
}

#[test]
fn a_second_trainer_is_refused() {
    let place = Place::new();
    let long = FLAGS.replace("--epochs 6", "--epochs 100000");
    let mut child = place.fresh("run", &long).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(&place.path("run/last.safetensors"), &mut child);
    // Were it let in, one step would be the end of it (and of this test's patience).
    let resumed = place.program(&["train", "--resume", "run", "--steps", "1"]);
    for mut second in [resumed, place.fresh("run", FLAGS)] {
        let output = second.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("another trainer") && said.contains(&child.id().to_string()), "{said}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The lock went with its holder.
    let done = place.program(&["train", "--resume", "run", "--steps", "1"]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn longer_by_resuming_is_the_longer_run() {
    let place = Place::new();
    let flags = FLAGS.replace("--schedule cosine", "--schedule constant").replace("--eval-every 20 ", "");
    place.finish(place.fresh("long", &flags));
    place.finish(place.fresh("extended", &flags.replace("--epochs 6", "--epochs 4")));
    place.finish(place.program(&["train", "--resume", "extended", "--epochs", "6"]));
    let (long, extended) = (place.path("long"), place.path("extended"));
    assert_eq!(tensors(&long.join("last.safetensors")), tensors(&extended.join("last.safetensors")));
    assert_eq!(metrics(&long), metrics(&extended));
}

#[test]
fn what_contradicts_the_run_is_refused_with_the_difference() {
    let place = Place::new();
    let flags = FLAGS.replace("--epochs 6 --eval-every 20", "--steps 3");
    place.finish(place.fresh("run", &flags));
    let refused = |arguments: &[&str], code: i32, words: &[&str]| {
        let mut all = vec!["train", "--resume", "run"];
        all.extend_from_slice(arguments);
        let output = place.program(&all).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{arguments:?}: {word:?} is missing in: {said}");
        }
    };
    refused(
        &["--hidden", "32", "--cell", "gru"],
        2,
        &["--hidden: run has 16, asked for 32", "--cell: run has lstm, asked for gru"],
    );
    refused(&["other.abc"], 2, &["DATA: run has", "tunes.abc", "other.abc"]);
    refused(&["--bf16"], 2, &["--precision: run has f32, asked for bf16"]);
    // What agrees with the run is no contradiction.
    place.finish(place.program(&["train", "tunes.abc", "--resume", "run", "--hidden", "16", "--lr", "0.01"]));

    // A source that changed, and one that is gone.
    let tunes = place.path("tunes.abc");
    let kept = fs::read(&tunes).unwrap();
    fs::write(&tunes, [kept.as_slice(), b"\nX:99\nT:More\nK:C\nCDEF|\n"].concat()).unwrap();
    refused(&[], 1, &["tunes.abc", "changed since the run began", "expected checksum", "found"]);
    fs::remove_file(&tunes).unwrap();
    let output = place.finish(place.program(&["train", "--resume", "run", "--steps", "5"]));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is gone"));

    // Another corpus in the run folder itself: other characters, so another vocabulary.
    fs::write(&tunes, &kept).unwrap();
    let other = String::from_utf8(kept).unwrap().replace('A', "Ä");
    fs::write(place.path("other.abc"), other).unwrap();
    let mut command = place.program(&["train", "other.abc", "--out", "other"]);
    place.finish({
        command.args(flags.split_whitespace());
        command
    });
    fs::copy(place.path("other/corpus.pack"), place.path("run/corpus.pack")).unwrap();
    refused(&[], 1, &["corpus.pack", "another corpus", "expected checksum"]);
    // With the checkpoint of another run: every part that does not fit is named.
    fs::remove_file(place.path("run/corpus.pack")).unwrap();
    fs::copy(place.path("other/last.safetensors"), place.path("run/last.safetensors")).unwrap();
    refused(&[], 1, &["vocabulary", "\"Ä\"", "\"A\""]);
}
