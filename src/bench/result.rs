//! What became of a case: rows for the records, figures beside them, or why it was not measured.

use serde_json::{Value, json};

use super::cases::{Case, What};
use super::measure::Measured;
use super::provenance::{Provenance, driver_version};
use super::record::Row;
use super::roofline::{self, Ceiling};
use super::stats::Summary;
use super::versus::Versus;
use crate::engine::{Device, EngineInfo};

/// This program's name in the records.
pub const ENGINE: &str = "songrnn-fast";

/// The note on rows of the emulated device.
const EMULATED: &str = "emulated: says nothing about a GPU";

/// What became of a case.
#[derive(Debug, Clone)]
pub struct CaseResult {
    /// The case.
    pub case: Case,
    /// What was measured: one line; of layers two, forward and backward.
    pub lines: Vec<Line>,
    /// Layers: forward and backward together.
    pub whole: Option<Line>,
    /// Why it was not measured.
    pub error: Option<String>,
    /// Beside a peer, measured in turn.
    pub versus: Option<Versus>,
    /// Where a training step's time went, milliseconds a step; empty where the engine does not tell.
    pub phases: Vec<(&'static str, f64)>,
}

/// One measurement.
#[derive(Debug, Clone)]
pub struct Line {
    /// As it stands in the records.
    pub row: Row,
    /// Milliseconds a step.
    pub ms: Option<Summary>,
    /// Microseconds a step of one recurrent layer: ms / T / L.
    pub us_per_recurrent_step: Option<f64>,
    /// GFLOP/s of the products alone.
    pub gflops: Option<f64>,
    /// The peak that it is held against.
    pub ceiling: Option<Ceiling>,
    /// Share of the processors' time that other processes took meanwhile.
    pub others: Option<f64>,
}

/// The share of other processes above which a machine is not quiet.
const BUSY: f64 = 0.05;

impl Line {
    /// Share of the measured peak, 0 to 1.
    pub fn share(&self) -> Option<f64> {
        Some(self.gflops? / self.ceiling?.gflops)
    }

    /// What is to be said where other processes took so much that the figure is theirs as well.
    pub fn busy(&self) -> Option<String> {
        let share = self.others.filter(|&share| share > BUSY)?;
        Some(format!(
            "not a quiet machine: other processes took {:.0}% of its processors' time",
            share * 100.0
        ))
    }

    /// The figures under the names of the JSON.
    pub fn to_json(&self) -> Value {
        let mut object = serde_json::to_value(&self.row).unwrap_or_else(|_| json!({}));
        object["ms_min"] = json!(self.ms.map(|ms| ms.min));
        object["ms_low_quartile"] = json!(self.ms.map(|ms| ms.low));
        object["ms_high_quartile"] = json!(self.ms.map(|ms| ms.high));
        object["us_per_recurrent_step"] = json!(self.us_per_recurrent_step);
        object["gflops"] = json!(self.gflops);
        object["peak_gflops"] = json!(self.ceiling.map(|c| c.gflops));
        object["peak_of"] = json!(self.ceiling.map(|c| c.of));
        object["peak_share"] = json!(self.share());
        object["product_gflops"] = json!(self.ceiling.and_then(|c| c.products));
        object["copy_gb_s"] = json!(self.ceiling.map(|c| c.copy_gb_s));
        object["others_share"] = json!(self.others);
        object
    }
}

impl CaseResult {
    /// A case that was not measured, and why.
    pub fn refused(case: &Case, why: String) -> CaseResult {
        CaseResult {
            case: *case,
            lines: Vec::new(),
            whole: None,
            error: Some(why),
            versus: None,
            phases: Vec::new(),
        }
    }

    /// The lines of what was measured.
    pub fn measured(
        case: &Case,
        measured: &Measured,
        ceiling: Option<Ceiling>,
        from: &Provenance,
    ) -> CaseResult {
        let base = Base { case, info: &measured.info, from, ceiling, measured };
        let group = match measured.together {
            1 => String::new(),
            n => format!("{n} steps a measurement"),
        };
        let total = roofline::step(case);
        let (lines, whole) = match measured.parts {
            None => (vec![base.line(case.what.name(), measured.ms, total, &[&group])], None),
            Some((forward_ms, backward_ms)) => {
                let forward = roofline::layers_forward(case);
                let turn = "forward, and forward and backward, measured in turn; recurrent layers without head \
                            and update";
                let mode = "forward in training mode";
                let longer = "backward: what forward and backward took longer than forward, median of the pairs; \
                              weights' gradients included, from a gradient of zero";
                let lines = vec![
                    base.line("layer_fwd", forward_ms, forward, &[mode, turn, &group]),
                    base.line("layer_bwd", backward_ms, total - forward, &[longer, turn, &group]),
                ];
                (lines, Some(base.line("layer", measured.ms, total, &["forward and backward", &group])))
            }
        };
        let phases = if case.what == What::Train { measured.phases.clone() } else { Vec::new() };
        CaseResult { case: *case, lines, whole, error: None, versus: None, phases }
    }

    /// The rows for a file: what was measured, else one without figures whose note says why not.
    pub fn rows(&self, from: &Provenance) -> Vec<Row> {
        if self.lines.is_empty() {
            let what = if self.case.what == What::Layer { "layer_fwd" } else { self.case.what.name() };
            let note = format!("not measured: {}", self.error.as_deref().unwrap_or("no reason given"));
            let tier = match self.case.kernel {
                crate::engine::Kernel::Auto => String::new(),
                kernel => kernel.name().to_string(),
            };
            return vec![Row {
                note,
                tier,
                device: self.case.device.to_string(),
                ..sizes(&self.case, what, from)
            }];
        }
        let mut rows: Vec<Row> = self.lines.iter().map(|line| line.row.clone()).collect();
        if let Some(versus) = &self.versus {
            rows.extend(versus.peer_rows(&self.case, from));
        }
        rows
    }

    /// One JSON object; `chars_per_second` and `ms_per_step` are there, of layers those of forward and backward.
    pub fn to_json(&self, from: &Provenance, peers: &[Value]) -> Value {
        let mut object = match (self.whole.as_ref().or(self.lines.first()), self.rows(from).first()) {
            (Some(line), _) => line.to_json(),
            (None, Some(row)) => serde_json::to_value(row).unwrap_or_else(|_| json!({})),
            (None, None) => json!({}),
        };
        if self.lines.is_empty() {
            object["what"] = json!(self.case.what.name());
        }
        object["threads"] = json!(self.case.threads);
        object["kernel"] = json!(self.case.kernel.name());
        object["tune_starts"] = json!(self.case.tune_starts);
        object["error"] = json!(self.error);
        if let [forward, backward] = &self.lines[..] {
            object["forward"] = forward.to_json();
            object["backward"] = backward.to_json();
        }
        if !self.phases.is_empty() {
            let phase = |(name, ms): &(&str, f64)| json!({"phase": name, "ms": ms});
            object["phases"] = Value::Array(self.phases.iter().map(phase).collect());
        }
        if let Some(versus) = &self.versus {
            object["versus"] = versus.to_json();
        }
        if !peers.is_empty() {
            object["peers"] = json!(peers);
        }
        object
    }
}

/// A row with the sizes of a case and where it was measured, and no figures.
pub fn sizes(case: &Case, what: &str, from: &Provenance) -> Row {
    Row {
        date: from.date.clone(),
        commit: from.commit.clone(),
        machine: from.machine.clone(),
        what: what.into(),
        engine: ENGINE.into(),
        precision: case.precision.to_string(),
        cell: case.cell.to_string(),
        hidden: Some(case.hidden as u64),
        layers: Some(case.layers as u64),
        batch: Some(case.batch as u64),
        seq_len: Some(case.seq_len as u64),
        vocab: Some(case.vocab as u64),
        ..Row::default()
    }
}

/// What a case's lines have in common.
struct Base<'a> {
    case: &'a Case,
    info: &'a EngineInfo,
    from: &'a Provenance,
    ceiling: Option<Ceiling>,
    measured: &'a Measured,
}

impl Base<'_> {
    fn line(&self, what: &str, ms: Summary, flop: f64, notes: &[&str]) -> Line {
        let case = self.case;
        // A difference of two times may be nothing but noise.
        let sound = (ms.median > 0.0).then_some(ms);
        let seconds = sound.map(|ms| ms.median / 1e3);
        let mut line = Line {
            row: Row::default(),
            ms: sound,
            us_per_recurrent_step: seconds.map(|s| s * 1e6 / (case.seq_len * case.layers) as f64),
            gflops: seconds.map(|s| flop / s / 1e9),
            ceiling: self.ceiling,
            others: self.measured.others,
        };
        let mut note: Vec<String> = line.busy().into_iter().collect();
        if case.device == Device::Emulated {
            note.push(EMULATED.into());
        }
        if self.measured.skipped > 0 {
            note.push(format!("{} updates were skipped: those steps did less", self.measured.skipped));
        }
        if sound.is_none() {
            note.push(format!("no figure: {} ms is lost in the noise", ms.median));
        }
        if self.info.name == "cpu" {
            note.push(match case.threads {
                1 => "1 thread".into(),
                n => format!("{n} threads"),
            });
            if crate::pinning::processors().is_some() {
                note.push("threads on processors of their own".into());
            }
        }
        if self.info.name == "cpu"
            && self.info.tier == Some("amx")
            && case.precision == crate::engine::Precision::F32
        {
            let number = match case.what {
                What::Sample => "three digits in fixed point",
                _ => "three of bf16",
            };
            note.push(format!(
                "f32 products by AMX, each number {number}: not bound by the multiply-adds' peak"
            ));
        }
        if let (Some(gflops), Some(us)) = (line.gflops, line.us_per_recurrent_step) {
            let share = match (line.share(), self.ceiling) {
                (Some(share), Some(peak)) => {
                    format!(", {:.0}% of the {:.0} measured of {}", share * 100.0, peak.gflops, peak.of)
                }
                _ => String::new(),
            };
            note.push(format!("{us:.2} us a recurrent step, {gflops:.1} GFLOP/s of products{share}"));
        }
        if what != "sample" {
            note.push(match case.tune_starts {
                0 => "no tune starts".into(),
                n => format!("a tune starts every {n} characters of a stream"),
            });
        }
        note.extend(notes.iter().filter(|n| !n.is_empty()).map(|n| n.to_string()));
        note.extend(self.info.note.clone());
        if self.info.name == "cpu" && self.measured.peak_bytes.is_some() {
            note.push("memory of the whole process".into());
        }
        line.row = Row {
            device: self.info.device.name.clone(),
            driver: driver_version(self.info),
            cuda: self.info.device.cuda.clone().unwrap_or_default(),
            cudnn: self.info.device.cudnn.clone().unwrap_or_default(),
            tier: self.info.tier.unwrap_or_default().to_string(),
            chars_per_second: seconds.map(|s| case.characters() as f64 / s),
            ms_per_step: sound.map(|ms| ms.median),
            ms_spread: sound.map(|ms| ms.spread()),
            repeats: Some(ms.count as u64),
            peak_mb: self.measured.peak_bytes.map(|bytes| bytes as f64 / 1e6),
            note: note.join("; "),
            ..sizes(case, what, self.from)
        };
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{DeviceFacts, Precision};

    fn measured(parts: Option<(Summary, Summary)>) -> Measured {
        let info = EngineInfo {
            name: "cpu",
            detail: String::new(),
            tier: Some("avx2"),
            device: DeviceFacts::cpu(),
            precision: Precision::F32,
            note: None,
            chosen: None,
        };
        let ms = Summary::of(&[10.0, 20.0, 30.0]).unwrap();
        Measured {
            info,
            ms,
            parts,
            together: 4,
            peak_bytes: Some(2_000_000),
            others: Some(0.4),
            skipped: 3,
            phases: vec![("packing weights", 1.5)],
        }
    }

    const CEILING: Option<Ceiling> =
        Some(Ceiling { gflops: 1000.0, of: "f32 fma avx2", copy_gb_s: 10.0, products: Some(900.0) });

    #[test]
    fn figures_follow_from_the_median() {
        let case = Case { threads: 2, tune_starts: 350, ..Case::PAPER };
        let result = CaseResult::measured(&case, &measured(None), CEILING, &Provenance::default());
        let line = &result.lines[0];
        // 6,400 characters in 20 ms.
        assert_eq!(line.row.chars_per_second, Some(320_000.0));
        assert_eq!((line.row.ms_per_step, line.row.ms_spread), (Some(20.0), Some(10.0)));
        assert_eq!(line.us_per_recurrent_step, Some(200.0));
        assert_eq!(line.gflops, Some(roofline::step(&case) / 0.02 / 1e9));
        assert_eq!(line.row.peak_mb, Some(2.0));
        for part in [
            "other processes took 40%",
            "3 updates were skipped",
            "2 threads",
            "every 350 characters",
            "4 steps",
            "20% of the 1000 measured",
        ] {
            assert!(line.row.note.contains(part), "{part}: {}", line.row.note);
        }
        let json = result.to_json(&Provenance::default(), &[]);
        assert_eq!(json["chars_per_second"], 320_000.0);
        assert_eq!(json["error"], Value::Null);
        assert!((json["peak_share"].as_f64().unwrap() - 0.2004).abs() < 1e-3, "{json}");
    }

    #[test]
    fn layers_have_two_lines_and_noise_no_figure() {
        let case = Case { what: What::Layer, ..Case::PAPER };
        let of = |ms: f64| Summary::of(&[ms]).unwrap();
        let parts = Some((of(8.0), of(12.0)));
        let result = CaseResult::measured(&case, &measured(parts), CEILING, &Provenance::default());
        let [forward, backward] = &result.lines[..] else { panic!("{:?}", result.lines) };
        assert_eq!((forward.row.what.as_str(), backward.row.what.as_str()), ("layer_fwd", "layer_bwd"));
        assert_eq!((forward.row.ms_per_step, backward.row.ms_per_step), (Some(8.0), Some(12.0)));
        // Backward does twice the products of forward.
        assert!((backward.gflops.unwrap() / forward.gflops.unwrap() - 2.0 * 8.0 / 12.0).abs() < 1e-12);
        let json = result.to_json(&Provenance::default(), &[]);
        assert_eq!((&json["ms_per_step"], &json["forward"]["ms_per_step"]), (&json!(20.0), &json!(8.0)));
        let noise = CaseResult::measured(
            &case,
            &measured(Some((of(8.0), of(-1.0)))),
            CEILING,
            &Provenance::default(),
        );
        let row = &noise.lines[1].row;
        assert!(row.ms_per_step.is_none() && row.note.contains("lost in the noise"), "{row:?}");
    }

    #[test]
    fn a_refused_case_is_a_row_that_says_why() {
        let case = Case { kernel: crate::engine::Kernel::Fused, ..Case::PAPER };
        let result = CaseResult::refused(&case, "too wide".into());
        let rows = result.rows(&Provenance::default());
        assert_eq!((rows.len(), rows[0].ms_per_step, rows[0].tier.as_str()), (1, None, "fused"));
        assert!(rows[0].note.contains("not measured: too wide"));
        let json = result.to_json(&Provenance::default(), &[]);
        assert_eq!((&json["error"], &json["ms_per_step"]), (&json!("too wide"), &Value::Null));
    }
}
