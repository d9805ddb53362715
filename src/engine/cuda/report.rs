//! What a device would run for which shape, and why not: for `songrnn-fast doctor`.

use serde::Serialize;

use std::sync::Arc;

use super::driver::{Driver, Facts};
use super::layout::Layout;
use super::rnn::{self, Wanted};
use super::sampler;
use crate::engine::Precision;
use crate::model::{CellKind, ModelShape};

/// Streams of the batch that a detail speaks of.
const STREAMS: usize = 64;

/// One tier's answer for one shape and precision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Served {
    /// `lstm 1x150`
    pub model: String,
    /// `f32`, `bf16`, `f16`
    pub precision: String,
    /// `fused`, `cudnn`, `stepwise`, or `sampler` for whole tunes in one kernel.
    pub tier: &'static str,
    /// Whether it serves.
    pub serves: bool,
    /// How, or why not.
    pub detail: String,
}

/// The shapes that matter: the paper's, folk-rnn's and between, beyond.
pub fn shapes() -> [ModelShape; 4] {
    [(1, 150), (2, 256), (3, 512), (1, 1024)].map(|(layers, hidden)| ModelShape {
        cell: CellKind::Lstm,
        vocab: 96,
        hidden,
        layers,
    })
}

/// Every tier for every shape and precision. Without a driver cuDNN cannot be asked.
pub fn served(facts: &Facts, driver: Option<&Arc<dyn Driver>>) -> Vec<Served> {
    let mut all = Vec::new();
    for shape in shapes() {
        for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
            let mut add = |tier, answer: Result<String, String>| {
                all.push(Served {
                    model: format!("{} {}x{}", shape.cell, shape.layers, shape.hidden),
                    precision: precision.to_string(),
                    tier,
                    serves: answer.is_ok(),
                    detail: answer.unwrap_or_else(|why| why),
                });
            };
            let mut units = None;
            for (tier, answer) in rnn::survey(&Wanted { shape, precision, facts, driver }) {
                if let (Ok(plan), None) = (&answer, units) {
                    units = Some(plan.units());
                }
                add(tier, answer.map(|plan| plan.detail(STREAMS)));
            }
            if let Some(units) = units {
                let shape = sampler::persistent(&Layout::new(shape, units), precision, facts);
                add(
                    "sampler",
                    shape.map(|shape| match shape.cluster {
                        1 => "whole tunes in one kernel".into(),
                        n => format!("whole tunes in one kernel, clusters of {n} blocks"),
                    }),
                );
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::driver::emulated::EmulatedDriver;
    use super::*;

    #[test]
    fn tiers_say_why_they_do_not_serve() {
        let hopper = served(&EmulatedDriver::facts_of(9, 0), None);
        let find = |all: &[Served], model: &str, precision: &str, tier: &str| -> Served {
            let found = all
                .iter()
                .find(|s| (s.model.as_str(), s.precision.as_str(), s.tier) == (model, precision, tier));
            found.cloned().unwrap()
        };
        assert!(find(&hopper, "lstm 1x150", "f16", "fused").serves);
        assert!(find(&hopper, "lstm 1x150", "f32", "sampler").serves);
        assert!(find(&hopper, "lstm 3x512", "bf16", "fused").detail.contains("cluster"));
        let large = find(&hopper, "lstm 1x1024", "bf16", "fused");
        assert!(!large.serves && large.detail.contains("at most 512"), "{}", large.detail);
        let ampere = served(&EmulatedDriver::facts_of(8, 0), None);
        assert!(find(&ampere, "lstm 1x150", "bf16", "fused").serves);
        let clusters = find(&ampere, "lstm 3x512", "bf16", "fused");
        assert!(!clusters.serves && clusters.detail.contains("clusters"), "{}", clusters.detail);
        assert!(hopper.iter().chain(&ampere).filter(|s| s.tier == "stepwise").all(|s| s.serves));
    }
}
