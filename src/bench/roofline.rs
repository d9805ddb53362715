//! What a case costs, counted, and what the machine could do at most, measured in the same run.
//!
//! Counted are products alone (2 operations a multiply-add); gates, softmax, the update and a one-hot input, which is a
//! gather, count nothing. So a share of the peak is a lower bound of how busy the units were.

use std::collections::HashMap;

use super::cases::{Case, What};
use super::device_peak::{self, DevicePeak};
use super::peak;
use crate::engine::{Device, EngineInfo, Precision};

/// Most seconds spent on measuring one peak; less where cases take less.
const SECONDS: f64 = 0.25;

/// Bytes of each buffer of the copy, a thread.
pub const COPY_BYTES: usize = 64 << 20;

/// Floating-point operations of the forward pass through the recurrent layers of one step.
pub fn layers_forward(case: &Case) -> f64 {
    let square = (case.cell.gates() * case.hidden * case.hidden) as f64;
    let products = square * (2 * case.layers - 1) as f64;
    2.0 * products * case.characters() as f64
}

/// Floating-point operations of one step of a case; of layers, forward and backward. The backward pass does each
/// product twice: once for the gradient of its input, once for that of its weights.
pub fn step(case: &Case) -> f64 {
    let head = 2.0 * (case.vocab * case.hidden) as f64 * case.characters() as f64;
    match case.what {
        What::Train => 3.0 * (layers_forward(case) + head),
        What::Sample => layers_forward(case) + head,
        What::Layer => 3.0 * layers_forward(case),
    }
}

/// About how many bytes a case needs on the processor, so that one that cannot fit is not begun: records, states and
/// gradients of a chunk, weights four times (masters, moments, packed) and their gradients.
pub fn bytes(case: &Case) -> u64 {
    let training = case.what != What::Sample;
    let record = match case.cell.gates() {
        4 => 6,
        3 => 6,
        _ => 1,
    };
    let steps = if training { case.seq_len as u64 } else { 1 };
    let hidden = case.hidden as u64;
    let per_character = hidden * (case.layers as u64 * (record + 2) + 1) + 2 * case.vocab as u64;
    let weights = case.shape().params() as u64 * if training { 8 } else { 3 };
    4 * (steps * case.batch as u64 * per_character + weights)
}

/// Measured peaks, each measured when it is first asked for.
#[derive(Debug, Default)]
pub struct Ceilings {
    seconds: f64,
    f32: HashMap<(&'static str, usize), Option<f64>>,
    bf16: HashMap<usize, Option<f64>>,
    copy: HashMap<usize, f64>,
    products: HashMap<(&'static str, usize, usize, usize), Option<f64>>,
    devices: HashMap<(usize, Precision), Option<DevicePeak>>,
}

/// The peak that a case is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceiling {
    /// GFLOP/s.
    pub gflops: f64,
    /// `f32 fma avx512`, `bf16 dot product avx512`, `bf16 amx tiles`.
    pub of: &'static str,
    /// GB/s of copying memory (read and written).
    pub copy_gb_s: f64,
    /// GFLOP/s of the engine's product loop alone, at the sizes of the case's recurrent layers; f32 on a processor.
    pub products: Option<f64>,
}

impl Ceilings {
    /// None measured yet, for cases that take `seconds` each.
    pub fn new(seconds: f64) -> Ceilings {
        Ceilings { seconds: seconds.min(SECONDS), ..Ceilings::default() }
    }

    /// The peak of what a case ran on: of the processor on as many threads, or of products by the GPU's library in the same
    /// number format; None where none can be measured. On the processor bf16 is held against the better of f32's and
    /// bf16's, whichever instructions the engine uses.
    pub fn of(&mut self, case: &Case, info: &EngineInfo) -> Option<Ceiling> {
        if let (Device::Cuda(ordinal), "cuda") = (case.device, info.name) {
            let measure = || {
                let driver = crate::engine::open_cuda(ordinal).ok()?;
                device_peak::measure(&driver, info.precision).ok()?
            };
            let peak = (*self.devices.entry((ordinal, info.precision)).or_insert_with(measure))?;
            let of = match info.precision {
                Precision::F32 => "f32 products of cuBLASLt",
                Precision::Bf16 => "bf16 products of cuBLASLt",
                Precision::F16 => "f16 products of cuBLASLt",
            };
            return Some(Ceiling { gflops: peak.gflops, of, copy_gb_s: peak.copy_gb_s, products: None });
        }
        let threads = case.threads.max(1);
        let tier = info.tier.filter(|_| info.name == "cpu")?;
        let seconds = self.seconds;
        let own = || peak::f32_gflops(tier, threads, seconds);
        let own = *self.f32.entry((tier, threads)).or_insert_with(own);
        let bf16 = (info.precision == Precision::Bf16)
            .then(|| {
                *self.bf16.entry(threads).or_insert_with(|| match tier {
                    "amx" => peak::amx_gflops(threads, seconds),
                    _ => peak::bf16_gflops(threads, seconds),
                })
            })
            .flatten();
        let (gflops, of) = match (bf16, tier) {
            (Some(bf16), "amx") => (bf16, "bf16 amx tiles"),
            (Some(bf16), _) if own.is_none_or(|own| bf16 > own) => (bf16, "bf16 dot product avx512"),
            (_, "avx512" | "avx512bf16" | "amx") => (own?, "f32 fma avx512"),
            (_, _) => (own?, "f32 fma avx2"),
        };
        let copy_gb_s = *self.copy.entry(threads).or_insert_with(|| peak::copy_gb_s(threads, COPY_BYTES));
        let rows = case.cell.gates() * case.hidden;
        let depth = if case.layers > 1 { 2 * case.hidden } else { case.hidden };
        let products = (info.precision == Precision::F32)
            .then(|| {
                let measure = || peak::product_gflops(tier, rows, depth, threads, seconds);
                *self.products.entry((tier, threads, rows, depth)).or_insert_with(measure)
            })
            .flatten();
        Some(Ceiling { gflops, of, copy_gb_s, products })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::DeviceFacts;
    use crate::model::CellKind;

    #[test]
    fn products_are_counted() {
        // 1x150 LSTM, B 64, T 100, V 96: 6400 * (4 * 150^2 + 96 * 150) = 667.7 M multiply-adds forward.
        let forward = 2.0 * 6400.0 * (90_000.0 + 14_400.0);
        assert_eq!(step(&Case::PAPER), 3.0 * forward);
        assert_eq!(step(&Case { what: What::Sample, ..Case::PAPER }), forward);
        let layer = Case { what: What::Layer, ..Case::PAPER };
        assert_eq!((layers_forward(&layer), step(&layer)), (2.0 * 6400.0 * 9e4, 6.0 * 6400.0 * 9e4));
        // A second layer has an input product as well.
        let two = Case { layers: 2, cell: CellKind::Gru, ..layer };
        assert_eq!(layers_forward(&two), 2.0 * 6400.0 * 67_500.0 * 3.0);
    }

    #[test]
    fn the_estimate_of_memory_grows_with_everything() {
        let base = bytes(&Case::PAPER);
        // 6400 characters * (150 * 9 + 192) floats, and 8 times 157,000 weights.
        assert!((44e6..46e6).contains(&(base as f64)), "{base}");
        for larger in [
            Case { hidden: 300, ..Case::PAPER },
            Case { layers: 2, ..Case::PAPER },
            Case { batch: 128, ..Case::PAPER },
            Case { seq_len: 200, ..Case::PAPER },
        ] {
            assert!(bytes(&larger) > base, "{}", larger.describe());
        }
        assert!(bytes(&Case { what: What::Sample, ..Case::PAPER }) < base / 10);
    }

    #[test]
    fn a_gpu_that_is_not_there_has_no_ceiling() {
        let info = EngineInfo {
            name: "cuda",
            detail: String::new(),
            tier: Some("fused"),
            device: DeviceFacts::default(),
            precision: Precision::F32,
            note: None,
            chosen: None,
        };
        let case = Case { device: Device::Cuda(usize::MAX), ..Case::PAPER };
        assert_eq!(Ceilings::default().of(&case, &info), None);
    }
}
