//! What is measured: cases, named sets of them, and the product of several values a flag.

use serde::{Deserialize, Serialize};

use crate::engine::{ChunkSize, Device, EngineSpec, Kernel, Precision};
use crate::model::{CellKind, ModelShape};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Whole training steps: forward, loss, backward, clip, update
    Train,
    /// Tunes of T characters for B streams, none of which ends by itself
    Sample,
    /// The recurrent layers alone: forward, and forward and backward
    Layer,
}

impl What {
    /// As typed.
    pub fn name(self) -> &'static str {
        match self {
            What::Train => "train",
            What::Sample => "sample",
            What::Layer => "layer",
        }
    }
}

/// One case: what is done, with which model, on how much, by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What is done.
    pub what: What,
    /// Cell.
    pub cell: CellKind,
    /// H: units a layer.
    pub hidden: usize,
    /// L: recurrent layers.
    pub layers: usize,
    /// B: streams (tunes, when sampling).
    pub batch: usize,
    /// T: characters a stream.
    pub seq_len: usize,
    /// V: vocabulary entries.
    pub vocab: usize,
    /// Number format.
    pub precision: Precision,
    /// Where it runs.
    pub device: Device,
    /// Which CUDA kernels.
    pub kernel: Kernel,
    /// Threads of the processor; 0 = one a core.
    pub threads: usize,
    /// A tune starts every so many characters of a stream; 0 = none does.
    pub tune_starts: usize,
}

/// Sizes that a set or the flags name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    cell: CellKind,
    layers: usize,
    hidden: usize,
    batch: usize,
    seq_len: usize,
}

/// Named sets of cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Set {
    /// 1x150, 64 streams of 100 characters: LSTM, GRU and RNN, in every number format
    Paper,
    /// 1x150 LSTM, 64 streams of 100 characters
    A,
    /// 3x512 LSTM, 128 streams of 256 characters
    B,
    /// 1x1024 LSTM, 256 streams of 512 characters
    C,
    /// 1xH LSTM: H 64 to 2048, 1 to 512 streams of 50 to 1024 characters
    Grid,
    /// The same for a processor: H 64 to 512, 1 to 64 streams of 50 characters
    GridSmall,
    /// The assignment's protocol: one stream, slices of 30 characters, 1x150
    Batch1,
    /// Paper, a, b, c, batch1 and grid
    All,
}

impl Set {
    fn parts(self) -> Vec<Set> {
        match self {
            Set::All => vec![Set::Paper, Set::A, Set::B, Set::C, Set::Batch1, Set::Grid],
            one => vec![one],
        }
    }

    fn sizes(self, cells: Option<&[CellKind]>) -> Vec<Sizes> {
        const LSTM: &[CellKind] = &[CellKind::Lstm];
        const EACH: &[CellKind] = &[CellKind::Lstm, CellKind::Gru, CellKind::Rnn];
        let of =
            |default: &[CellKind], layers: &[usize], hidden: &[usize], batch: &[usize], seq_len: &[usize]| {
                let mut all = Vec::new();
                for &cell in cells.unwrap_or(default) {
                    for &layers in layers {
                        for &batch in batch {
                            for &seq_len in seq_len {
                                let sizes = |&hidden: &usize| Sizes { cell, layers, hidden, batch, seq_len };
                                all.extend(hidden.iter().map(sizes));
                            }
                        }
                    }
                }
                all
            };
        match self {
            Set::Paper => of(EACH, &[1], &[150], &[64], &[100]),
            Set::A => of(LSTM, &[1], &[150], &[64], &[100]),
            Set::B => of(LSTM, &[3], &[512], &[128], &[256]),
            Set::C => of(LSTM, &[1], &[1024], &[256], &[512]),
            Set::Grid => of(LSTM, &[1], &[64, 128, 256, 512, 1024, 2048], &[1, 8, 64, 512], &[50, 200, 1024]),
            Set::GridSmall => of(LSTM, &[1], &[64, 128, 256, 512], &[1, 8, 64], &[50]),
            Set::Batch1 => of(LSTM, &[1], &[150], &[1], &[30]),
            Set::All => self.parts().iter().flat_map(|set| set.sizes(cells)).collect(),
        }
    }

    /// Number formats where none are asked for.
    fn precisions(self) -> &'static [Precision] {
        match self {
            Set::Paper => &[Precision::F32, Precision::Bf16, Precision::F16],
            _ => &[Precision::F32],
        }
    }
}

/// What is asked for: several values a field make the product of them; None takes the set's, or the paper's.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What is done.
    pub what: What,
    /// Named sets; they stand in the place of layers, hidden, batch and seq_len.
    pub sets: Vec<Set>,
    /// Cells.
    pub cells: Option<Vec<CellKind>>,
    /// H.
    pub hidden: Vec<usize>,
    /// L.
    pub layers: Vec<usize>,
    /// B.
    pub batch: Vec<usize>,
    /// T.
    pub seq_len: Vec<usize>,
    /// V.
    pub vocab: usize,
    /// Number formats.
    pub precisions: Option<Vec<Precision>>,
    /// Where they run.
    pub device: Device,
    /// CUDA kernels.
    pub kernels: Vec<Kernel>,
    /// Threads.
    pub threads: Vec<usize>,
    /// A tune starts every so many characters of a stream; 0 = none does.
    pub tune_starts: usize,
}

impl Wanted {
    /// The cases in order, each once.
    pub fn cases(&self) -> Vec<Case> {
        let default = [Precision::F32];
        let mut groups: Vec<(Vec<Sizes>, &[Precision])> = Vec::new();
        for set in &self.sets {
            // `all` keeps the formats of its parts.
            let parts = set.parts();
            groups.extend(parts.iter().map(|part| (part.sizes(self.cells.as_deref()), part.precisions())));
        }
        if self.sets.is_empty() {
            let mut sizes = Vec::new();
            for &cell in self.cells.as_deref().unwrap_or(&[CellKind::Lstm]) {
                for &layers in &self.layers {
                    for &batch in &self.batch {
                        for &seq_len in &self.seq_len {
                            let all = self.hidden.iter();
                            sizes.extend(all.map(|&hidden| Sizes { cell, layers, hidden, batch, seq_len }));
                        }
                    }
                }
            }
            groups.push((sizes, &default));
        }
        let mut cases: Vec<Case> = Vec::new();
        for (sizes, own) in groups {
            for Sizes { cell, layers, hidden, batch, seq_len } in sizes {
                for &precision in self.precisions.as_deref().unwrap_or(own) {
                    for &kernel in &self.kernels {
                        for &threads in &self.threads {
                            let case = Case {
                                what: self.what,
                                cell,
                                hidden,
                                layers,
                                batch,
                                seq_len,
                                vocab: self.vocab,
                                precision,
                                device: self.device,
                                kernel,
                                threads,
                                tune_starts: self.tune_starts,
                            };
                            if !cases.contains(&case) {
                                cases.push(case);
                            }
                        }
                    }
                }
            }
        }
        cases
    }
}

impl Case {
    /// The paper's model and batch on the processor.
    pub const PAPER: Case = Case {
        what: What::Train,
        cell: CellKind::Lstm,
        hidden: 150,
        layers: 1,
        batch: 64,
        seq_len: 100,
        vocab: 96,
        precision: Precision::F32,
        device: Device::Cpu,
        kernel: Kernel::Auto,
        threads: 0,
        tune_starts: 0,
    };

    /// The model.
    pub fn shape(&self) -> ModelShape {
        ModelShape { cell: self.cell, vocab: self.vocab, hidden: self.hidden, layers: self.layers }
    }

    /// The engine that is asked for.
    pub fn spec(&self) -> EngineSpec {
        // Kernels are chosen for what is measured; a tune is sampled in steps of its own.
        let size = ChunkSize { steps: self.seq_len, streams: self.batch, tune: self.tune_starts };
        EngineSpec {
            device: self.device,
            kernel: self.kernel,
            chunk: (self.what != What::Sample).then_some(size),
            ..EngineSpec::cpu(self.shape(), self.precision, self.threads)
        }
    }

    /// Characters a step: T * B.
    pub fn characters(&self) -> usize {
        self.seq_len * self.batch
    }

    /// `train lstm 1x150, 64 streams of 100 characters, f32`.
    pub fn describe(&self) -> String {
        let (what, cell) = (self.what.name(), self.cell);
        format!(
            "{what} {cell} {}x{}, {} streams of {} characters, {}",
            self.layers, self.hidden, self.batch, self.seq_len, self.precision
        )
    }

    /// The case as the peers' scripts read it: one JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "what": self.what.name(),
            "cell": self.cell.to_string(),
            "hidden": self.hidden,
            "layers": self.layers,
            "batch": self.batch,
            "seq_len": self.seq_len,
            "vocab": self.vocab,
            "precision": self.precision.to_string(),
            "device": if self.device == Device::Cpu { "cpu".to_string() } else { self.device.to_string() },
            "kernel": self.kernel.name(),
            "threads": self.threads,
            "tune_starts": self.tune_starts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            what: What::Train,
            sets: Vec::new(),
            cells: None,
            hidden: vec![150],
            layers: vec![1],
            batch: vec![64],
            seq_len: vec![100],
            vocab: 96,
            precisions: None,
            device: Device::Cpu,
            kernels: vec![Kernel::Auto],
            threads: vec![0],
            tune_starts: 0,
        }
    }

    #[test]
    fn without_anything_it_is_the_papers() {
        assert_eq!(wanted().cases(), [Case::PAPER]);
    }

    #[test]
    fn several_values_make_the_product_each_once() {
        let all = Wanted {
            hidden: vec![128, 256, 128],
            precisions: Some(vec![Precision::F32, Precision::Bf16]),
            kernels: vec![Kernel::Fused, Kernel::Cudnn, Kernel::Stepwise],
            ..wanted()
        };
        assert_eq!(all.cases().len(), 12);
        let distinct = |f: &dyn Fn(&Case) -> bool| all.cases().iter().filter(|c| f(c)).count();
        assert_eq!(distinct(&|c| c.hidden == 256 && c.precision == Precision::Bf16), 3);
        assert_eq!(distinct(&|c| c.kernel == Kernel::Cudnn), 4);
    }

    #[test]
    fn sets_are_what_they_say() {
        let of = |sets: &[Set]| Wanted { sets: sets.to_vec(), ..wanted() }.cases();
        assert_eq!(of(&[Set::Paper]).len(), 9);
        assert_eq!(of(&[Set::Grid]).len(), 72);
        assert_eq!(of(&[Set::A]), [Case::PAPER]);
        let b = of(&[Set::B])[0];
        assert_eq!((b.layers, b.hidden, b.batch, b.seq_len), (3, 512, 128, 256));
        let c = of(&[Set::C])[0];
        assert_eq!((c.layers, c.hidden, c.batch, c.seq_len), (1, 1024, 256, 512));
        let one = of(&[Set::Batch1])[0];
        assert_eq!((one.batch, one.seq_len, one.hidden), (1, 30, 150));
        // A is among the paper's.
        assert_eq!(of(&[Set::Paper, Set::A]).len(), 9);
        assert_eq!(of(&[Set::All]).len(), 9 + 2 + 1 + 72);
        let gru = Wanted { sets: vec![Set::Grid], cells: Some(vec![CellKind::Gru]), ..wanted() }.cases();
        assert!(gru.len() == 72 && gru.iter().all(|case| case.cell == CellKind::Gru));
    }
}
