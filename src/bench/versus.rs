//! This program beside a peer on one case, measured in turn in one go, so that what the machine does meanwhile falls
//! on both.
//!
//! The peer is a script that serves: it reads a case as one line of JSON, prepares, warms up and answers `ready` and a
//! JSON object (`engine`, `tier`, `precision`, `note`, ...); to each `run N` it answers the milliseconds a step over N
//! steps, of layers to `run N forward` those of the forward pass; to an end of its input it ends. A line that begins with `error` or `skip` says why there is nothing.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::cases::{Case, What};
use super::measure::{Measured, Session};
use super::provenance::Provenance;
use super::record::Row;
use super::result::{ENGINE, sizes};
use super::stats::Summary;
use crate::engine::EngineError;
use crate::machine::{self, Others};

/// Fewest pairs of measurements.
pub const FEWEST_PAIRS: usize = 5;

/// Aimed at for one side's part of a pair, ms.
const PART_MS: f64 = 400.0;

/// The PyTorch peer, so that the program needs no file beside it.
const PYTORCH: &str = include_str!("../../benches/peers/pytorch.py");

/// What a pair gave, both sides in milliseconds a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Versus {
    /// The peer's own words: `engine`, `tier`, `precision`, `note`, versions.
    pub peer: Value,
    /// (this program, the peer), pair by pair; of layers forward and backward.
    pub pairs: Vec<(f64, f64)>,
    /// Layers: forward in training mode, measured in the same pairs; else empty.
    pub forward: Vec<(f64, f64)>,
    /// Steps of each side in a pair.
    pub steps: (usize, usize),
    /// The most bytes that the peer's process held while it was measured.
    pub peak_bytes: Option<u64>,
}

impl Versus {
    /// This program's milliseconds a step.
    pub fn ours(&self) -> Option<Summary> {
        Summary::of(&self.pairs.iter().map(|pair| pair.0).collect::<Vec<_>>())
    }

    /// The peer's.
    pub fn theirs(&self) -> Option<Summary> {
        Summary::of(&self.pairs.iter().map(|pair| pair.1).collect::<Vec<_>>())
    }

    /// Layers: forward, and what forward and backward took longer, of one side.
    fn parts(&self, side: impl Fn(&(f64, f64)) -> f64) -> Option<(Summary, Summary)> {
        let forward: Vec<f64> = self.forward.iter().map(&side).collect();
        let longer: Vec<f64> = self.pairs.iter().zip(&forward).map(|(both, f)| side(both) - f).collect();
        Summary::of(&forward).zip(Summary::of(&longer))
    }

    /// The peer's median over this program's: above 1 this program is faster.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.theirs()?.median / self.ours()?.median)
    }

    /// Layers: the same of forward alone.
    pub fn forward_ratio(&self) -> Option<f64> {
        Some(self.parts(|pair| pair.1)?.0.median / self.parts(|pair| pair.0)?.0.median)
    }

    /// The ratio of each pair.
    pub fn pair_ratios(&self) -> Option<Summary> {
        Summary::of(&self.pairs.iter().map(|(ours, theirs)| theirs / ours).collect::<Vec<_>>())
    }

    fn word(&self, name: &str) -> String {
        self.peer[name].as_str().unwrap_or_default().to_string()
    }

    /// The peer's name and tier.
    pub fn peer_name(&self) -> String {
        let (engine, tier) = (self.word("engine"), self.word("tier"));
        let engine = if engine.is_empty() { "peer".into() } else { engine };
        if tier.is_empty() { engine } else { format!("{engine} ({tier})") }
    }

    /// The peer's side as rows of the records: one, of layers two.
    pub fn peer_rows(&self, case: &Case, from: &Provenance) -> Vec<Row> {
        let ratio = self.ratio().map_or(String::new(), |ratio| format!("; takes {ratio:.2} times as long"));
        let note = format!("measured in turn with {ENGINE}{ratio}; {}", self.word("note"));
        match (self.parts(|pair| pair.1), self.theirs()) {
            (Some((forward, backward)), _) => vec![
                self.peer_row("layer_fwd", case, from, forward, format!("forward; {note} in all")),
                self.peer_row(
                    "layer_bwd",
                    case,
                    from,
                    backward,
                    format!("longer than forward; {note} in all"),
                ),
            ],
            (None, Some(ms)) => vec![self.peer_row(case.what.name(), case, from, ms, note)],
            (None, None) => Vec::new(),
        }
    }

    fn peer_row(&self, what: &str, case: &Case, from: &Provenance, ms: Summary, note: String) -> Row {
        let base = sizes(case, what, from);
        let precision = self.word("precision");
        // A difference of two times may be nothing but noise.
        let sound = (ms.median > 0.0).then_some(ms);
        Row {
            commit: String::new(),
            device: self.word("device"),
            driver: self.word("driver"),
            cuda: self.word("cuda"),
            cudnn: self.word("cudnn"),
            engine: self.word("engine"),
            tier: self.word("tier"),
            precision: if precision.is_empty() { base.precision.clone() } else { precision },
            chars_per_second: sound.map(|ms| case.characters() as f64 / (ms.median / 1e3)),
            ms_per_step: sound.map(|ms| ms.median),
            ms_spread: sound.map(|ms| ms.spread()),
            repeats: Some(ms.count as u64),
            peak_mb: self.peak_bytes.map(|bytes| bytes as f64 / 1e6),
            note,
            ..base
        }
    }

    /// All of it.
    pub fn to_json(&self) -> Value {
        let of = |summary: Option<Summary>| {
            summary.map(
                |s| json!({"median": s.median, "low_quartile": s.low, "high_quartile": s.high, "min": s.min}),
            )
        };
        json!({
            "peer": self.peer,
            "pairs": self.pairs.len(),
            "ms_per_step": of(self.ours()),
            "peer_ms_per_step": of(self.theirs()),
            "ratio_of_medians": self.ratio(),
            "pair_ratios": of(self.pair_ratios()),
            "forward_ratio_of_medians": self.forward_ratio(),
            "steps_a_pair": [self.steps.0, self.steps.1],
            "peer_peak_mb": self.peak_bytes.map(|bytes| bytes as f64 / 1e6),
        })
    }

    /// Three lines for people.
    pub fn describe(&self) -> Vec<String> {
        let (Some(ours), Some(theirs), Some(pairs), Some(ratio)) =
            (self.ours(), self.theirs(), self.pair_ratios(), self.ratio())
        else {
            return vec!["nothing was measured".into()];
        };
        let peer = self.peer_name();
        let width = peer.len().max(ENGINE.len());
        let side = |name: &str, ms: Summary| {
            format!("{name:<width$}  {:.4} ms a step, quartiles {:.4} to {:.4}", ms.median, ms.low, ms.high)
        };
        let mut lines = vec![
            side(&peer, theirs),
            side(ENGINE, ours),
            format!(
                "measured in turn, {} pairs: ratio of the medians {ratio:.2}, of the pairs {:.2} to {:.2} (quartiles)",
                pairs.count, pairs.low, pairs.high
            ),
        ];
        lines.extend(self.forward_ratio().map(|ratio| format!("of forward alone: {ratio:.2}")));
        lines
    }
}

/// A peer that serves.
struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    name: String,
}

impl Peer {
    fn start(python: &Path) -> Result<Peer, String> {
        let name = python.display().to_string();
        // Its threads are OpenMP's; the list is that of our own threads.
        let pinned = crate::pinning::processors()
            .map(|all| all.iter().map(usize::to_string).collect::<Vec<_>>().join(" "))
            .map(|list| ("GOMP_CPU_AFFINITY", list));
        let mut child = Command::new(python)
            .args(["-c", PYTORCH, "--serve"])
            .envs(pinned)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|why| {
                format!(
                    "cannot run {name}: {why}; name a Python with PyTorch by --python or SONGRNN_TORCH_PYTHON"
                )
            })?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("{name} has no pipes"));
        };
        Ok(Peer { child, input: Some(input), output: BufReader::new(output), name })
    }

    /// Says a line and hears one.
    fn ask(&mut self, line: &str) -> Result<String, String> {
        let input = self.input.as_mut().ok_or("the peer has ended")?;
        let said = writeln!(input, "{line}").and_then(|()| input.flush());
        let mut answer = String::new();
        let heard = self.output.read_line(&mut answer);
        let answer = answer.trim().to_string();
        match (said, heard) {
            (_, Ok(n)) if n > 0 => {}
            (Err(why), _) | (_, Err(why)) => {
                return Err(format!("the peer ({}) does not answer: {why}", self.name));
            }
            _ => {
                let how = self.child.wait().map_or_else(|why| why.to_string(), |status| status.to_string());
                return Err(format!("the peer ({}) ended without an answer: {how}", self.name));
            }
        }
        if answer.starts_with("error") || answer.to_lowercase().starts_with("skip") {
            return Err(format!("the peer says: {answer}"));
        }
        Ok(answer)
    }

    fn prepare(&mut self, case: &Case) -> Result<Value, String> {
        let answer = self.ask(&case.to_json().to_string())?;
        let words = answer
            .strip_prefix("ready")
            .ok_or_else(|| format!("the peer says {answer:?}; expected ready"))?;
        match words.trim() {
            "" => Ok(json!({"engine": "peer"})),
            words => serde_json::from_str(words).map_err(|why| format!("the peer's words {words:?}: {why}")),
        }
    }

    fn run(&mut self, steps: usize, part: &str) -> Result<f64, String> {
        let answer = self.ask(format!("run {steps} {part}").trim_end())?;
        match answer.parse::<f64>() {
            Ok(ms) if ms.is_finite() && ms > 0.0 => Ok(ms),
            _ => Err(format!("the peer says {answer:?}; expected milliseconds a step")),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.input.take()); // The end of its input ends it; one that does not heed that is killed.
        for _ in 0..50 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// (ours, theirs), pair by pair; who begins alternates, so that what changes with time falls on both alike.
fn in_turn<T, E>(
    pairs: usize,
    mut ours: impl FnMut() -> Result<T, E>,
    mut theirs: impl FnMut() -> Result<T, E>,
) -> Result<Vec<(T, T)>, E> {
    (0..pairs)
        .map(|pair| {
            if pair % 2 == 0 {
                let first = ours()?;
                Ok((first, theirs()?))
            } else {
                let first = theirs()?;
                Ok((ours()?, first))
            }
        })
        .collect()
}

/// Runs this program and PyTorch in turn, at least [`FEWEST_PAIRS`] times each. This program's side is given as a
/// measurement as well.
pub fn pytorch(
    case: &Case,
    python: &Path,
    pairs: Option<usize>,
    seconds: f64,
) -> Result<(Versus, Measured), String> {
    let said = |why: EngineError| why.to_string();
    let mut peer = Peer::start(python)?;
    let words = peer.prepare(case)?;
    // What it tried while it looked for its best way is not counted.
    machine::forget_peak_memory_of(peer.child.id());
    let mut session = Session::open(case, seconds).map_err(said)?;
    let fitting = |ms: f64| (PART_MS.min(seconds * 1e3) / ms).clamp(1.0, 10_000.0).round() as usize;
    // The first run of either is not counted: it tells how many steps fill a part.
    let steps = (fitting(session.run(session.together()).map_err(said)?), fitting(peer.run(1, "")?));
    let others = Others::than(&[peer.child.id()]);
    // Of each side (the whole, and of layers the forward pass).
    let layer = case.what == What::Layer;
    let measured = in_turn(
        pairs.unwrap_or(FEWEST_PAIRS).max(FEWEST_PAIRS),
        || {
            let forward = layer.then(|| session.run_forward(steps.0)).transpose().map_err(said)?;
            Ok((session.run(steps.0).map_err(said)?, forward))
        },
        || {
            let forward = layer.then(|| peer.run(steps.1, "forward")).transpose()?;
            Ok::<_, String>((peer.run(steps.1, "")?, forward))
        },
    )?;
    let others = others.share();
    let versus = Versus {
        peer: words,
        pairs: measured.iter().map(|(ours, theirs)| (ours.0, theirs.0)).collect(),
        forward: measured.iter().filter_map(|(ours, theirs)| ours.1.zip(theirs.1)).collect(),
        steps,
        peak_bytes: machine::peak_memory_of(peer.child.id()),
    };
    let ms = versus.ours().ok_or("the clock gave no time: nothing was measured")?;
    let (info, peak_bytes, parts) = (session.info(), session.peak_bytes(), versus.parts(|pair| pair.0));
    let skipped = session.skipped();
    let phases = session.phases();
    Ok((versus, Measured { info, ms, parts, together: steps.0, peak_bytes, others, skipped, phases }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_begins_a_pair_alternates() {
        let turn = std::cell::Cell::new(0.0);
        let next = || {
            turn.set(turn.get() + 1.0);
            Ok::<f64, String>(turn.get())
        };
        let pairs = in_turn(4, next, next).unwrap();
        assert_eq!(pairs, [(1.0, 2.0), (4.0, 3.0), (5.0, 6.0), (8.0, 7.0)]);
        let failed = in_turn(3, next, || Err("gone".to_string()));
        assert_eq!(failed, Err("gone".into()));
    }

    #[test]
    fn ratios_are_theirs_over_ours() {
        let versus = Versus {
            peer: json!({"engine": "pytorch", "tier": "eager", "note": "n"}),
            pairs: vec![(1.0, 4.0), (2.0, 4.0), (4.0, 4.0)],
            forward: Vec::new(),
            steps: (1, 1),
            peak_bytes: Some(3_000_000),
        };
        assert_eq!(versus.ratio(), Some(2.0));
        let pairs = versus.pair_ratios().unwrap();
        assert_eq!((pairs.low, pairs.median, pairs.high), (1.5, 2.0, 3.0));
        let rows = versus.peer_rows(&Case::PAPER, &Provenance::default());
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((row.ms_per_step, row.repeats), (Some(4.0), Some(3)));
        assert_eq!(row.chars_per_second, Some(1_600_000.0));
        assert!(row.note.contains("2.00 times") && row.engine == "pytorch", "{row:?}");
        let words = versus.describe();
        assert!(words[0].starts_with("pytorch (eager)  4.0000 ms a step"), "{words:?}");
        assert!(
            words[2].contains("3 pairs: ratio of the medians 2.00, of the pairs 1.50 to 3.00"),
            "{words:?}"
        );
    }
    #[test]
    fn layers_have_two_rows_of_the_peer() {
        let versus = Versus {
            peer: json!({"engine": "pytorch"}),
            pairs: vec![(3.0, 10.0), (3.0, 12.0), (3.0, 11.0)],
            forward: vec![(1.0, 4.0), (1.0, 4.0), (1.0, 4.0)],
            steps: (1, 1),
            peak_bytes: Some(3_000_000),
        };
        let case = Case { what: What::Layer, ..Case::PAPER };
        let rows = versus.peer_rows(&case, &Provenance::default());
        let told: Vec<(&str, Option<f64>)> = rows.iter().map(|r| (r.what.as_str(), r.ms_per_step)).collect();
        assert_eq!(told, [("layer_fwd", Some(4.0)), ("layer_bwd", Some(7.0))]);
        assert_eq!(versus.forward_ratio(), Some(4.0));
        assert_eq!(versus.describe()[3], "of forward alone: 4.00");
    }
}
