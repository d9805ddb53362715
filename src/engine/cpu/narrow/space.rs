//! The memory of one chunk of few streams: everything is rows of units or gates, row r = t * B + b.

use super::super::buffer::Buffer;
use super::super::space::Use;
use super::plan::Plan;
use crate::engine::{Chunk, EngineError, IGNORE};
use crate::model::CellKind;

/// One layer's memory.
#[derive(Debug)]
pub struct LayerSpace {
    /// Hidden states [(T+1) * B + 1][stride]: the carried ones, those after each step, a row of zeros.
    pub h: Buffer,
    /// Cell states [(T+1) * B + 1][units] likewise; empty for cells without one.
    pub c: Buffer,
    /// Pre-activations, then gates, then their gradients (before the input product) [R][columns].
    pub gates: Buffer,
    /// LSTM: tanh(c); GRU: the recurrent part of n [R][units].
    pub extra: Buffer,
    /// A GRU's gate gradients before the recurrent product [R][columns].
    pub recurrent: Buffer,
    /// Output after dropout [R][stride]; empty without dropout.
    pub dropped: Buffer,
    /// Dropout masks [R][stride]; empty without dropout.
    pub mask: Buffer,
}

/// See the module's documentation; empty until first used.
#[derive(Debug, Default)]
pub struct Space {
    kind: Option<Use>,
    /// B.
    pub streams: usize,
    /// T that there is room for.
    pub steps: usize,
    /// T of the chunk that was read.
    pub now: usize,
    /// The row of zeros of h and c.
    zero: u32,
    /// One a layer.
    pub layers: Vec<LayerSpace>,
    /// Characters [R].
    pub ids: Vec<u16>,
    /// Targets [R].
    pub targets: Vec<u16>,
    /// Whether the state is zero before a position [R].
    pub resets: Vec<bool>,
    /// Row of h and c before a position [R]: the zero row where a tune starts.
    pub before: Vec<u32>,
    /// Row of h after a position [R].
    pub after: Vec<u32>,
    /// 0, 1, 2, ... [R].
    pub plain: Vec<u32>,
    work: Option<Work>,
}

/// Buffers that are no layer's.
#[derive(Debug)]
pub struct Work {
    /// Sums of a step's products [B][columns].
    pub sums: Buffer,
    /// Bias as the first sums begin with it [columns].
    pub bias: Buffer,
    /// Gradient with respect to a layer's output [R][stride].
    pub dx: Buffer,
    /// Each part's share of the gradient with respect to h of two successive steps [2][B][parts][stride].
    pub partial: Buffer,
    /// Cell state's gradient [B][units].
    pub dc: Buffer,
    /// A GRU's gradient of h that bypasses the recurrent product [B][units].
    pub direct: Buffer,
    /// Logits, then their gradients [R][classes].
    pub logits: Buffer,
    /// Losses [R].
    pub losses: Buffer,
}

impl Space {
    /// Makes room. The carried state survives a change of T or of dropout, and is zero after a change of B.
    pub fn fit(&mut self, plan: &Plan, kind: Use, streams: usize, steps: usize) -> Result<(), EngineError> {
        if self.kind == Some(kind) && self.streams == streams && self.steps >= steps {
            return Ok(());
        }
        let carried = (self.streams == streams && !self.layers.is_empty()).then(|| self.export(plan));
        *self = Space::default(); // Before making new buffers, so that both are never in memory at once.
        let training = kind != Use::Inference;
        let dropout = kind == Use::Training { dropout: true };
        let if_ = |condition: bool, n: usize| if condition { n } else { 0 };
        let zeros = |n| Buffer::zeros(n, "activations of a chunk");
        let rows = steps * streams;
        let states = rows + streams + 1;
        let (lstm, gru) = (plan.shape.cell == CellKind::Lstm, plan.shape.cell == CellKind::Gru);
        let layers = (0..plan.shape.layers)
            .map(|_| {
                Ok(LayerSpace {
                    h: zeros(states * plan.stride)?,
                    c: zeros(if_(lstm, states * plan.units))?,
                    gates: zeros(rows * plan.columns)?,
                    extra: zeros(if_(lstm || gru, rows * plan.units))?,
                    recurrent: zeros(if_(training && gru, rows * plan.columns))?,
                    dropped: zeros(if_(dropout, rows * plan.stride))?,
                    mask: zeros(if_(dropout, rows * plan.stride))?,
                })
            })
            .collect::<Result<_, EngineError>>()?;
        let work = Work {
            sums: zeros(streams * plan.columns)?,
            bias: zeros(plan.columns)?,
            dx: zeros(if_(training, rows * plan.stride))?,
            partial: zeros(if_(training, 2 * streams * plan.parts.len() * plan.stride))?,
            dc: zeros(if_(training, streams * plan.units))?,
            direct: zeros(if_(training && gru, streams * plan.units))?,
            logits: zeros(rows * plan.classes)?,
            losses: zeros(rows)?,
        };
        let zero = (rows + streams) as u32;
        *self = Space {
            kind: Some(kind),
            streams,
            steps,
            now: 0,
            zero,
            layers,
            ids: vec![0; rows],
            targets: vec![IGNORE; rows],
            resets: vec![false; rows],
            before: vec![zero; rows],
            after: (0..rows).map(|r| (r + streams) as u32).collect(),
            plain: (0..rows as u32).collect(),
            work: Some(work),
        };
        if let Some((h, c)) = carried {
            self.import(plan, &h, &c);
        }
        Ok(())
    }

    /// Buffers that are no layer's; there once room has been made.
    pub fn work(&self) -> &Work {
        self.work.as_ref().expect("room has been made")
    }

    /// Takes a chunk.
    pub fn read(&mut self, chunk: &Chunk) {
        self.now = chunk.steps;
        let n = chunk.steps * chunk.streams;
        self.ids[..n].copy_from_slice(&chunk.ids);
        self.targets[..n].copy_from_slice(&chunk.targets);
        for (r, &reset) in chunk.resets.iter().enumerate() {
            self.set_reset(r, reset != 0);
        }
    }

    /// Says whether position `r` starts a tune.
    pub fn set_reset(&mut self, r: usize, reset: bool) {
        self.resets[r] = reset;
        self.before[r] = if reset { self.zero } else { r as u32 };
    }

    /// The logits of row `r`, of `vocab` classes.
    pub fn logits(&mut self, plan: &Plan, r: usize) -> &mut [f32] {
        let work = self.work.as_mut().expect("room has been made");
        &mut work.logits.as_mut_slice()[r * plan.classes..][..plan.shape.vocab]
    }

    /// Gives up stream `b`; the last one takes its place.
    pub fn give_up(&mut self, plan: &Plan, b: usize) {
        self.streams -= 1;
        let last = self.streams;
        for layer in &mut self.layers {
            for (buffer, row) in [(&mut layer.h, plan.stride), (&mut layer.c, plan.units)] {
                if buffer.len() > 0 {
                    buffer.as_mut_slice().copy_within(last * row..(last + 1) * row, b * row);
                }
            }
        }
    }

    /// After a chunk: the last states become the carried ones.
    pub fn carry(&mut self, plan: &Plan) {
        let last = self.now * self.streams;
        for layer in &mut self.layers {
            for (buffer, row) in [(&mut layer.h, plan.stride), (&mut layer.c, plan.units)] {
                if buffer.len() > 0 {
                    buffer.as_mut_slice().copy_within(last * row..(last + self.streams) * row, 0);
                }
            }
        }
    }

    /// Zeroes the carried state.
    pub fn forget(&mut self, plan: &Plan) {
        for layer in &mut self.layers {
            layer.h.as_mut_slice()[..self.streams * plan.stride].fill(0.0);
            if layer.c.len() > 0 {
                layer.c.as_mut_slice()[..self.streams * plan.units].fill(0.0);
            }
        }
    }

    /// Whether the carried state is finite.
    pub fn is_finite(&self, plan: &Plan) -> bool {
        let (h, c) = self.export(plan);
        h.iter().chain(&c).all(|x| x.is_finite())
    }

    /// Sum of the losses of the chunk, in f64.
    pub fn loss_sum(&self) -> f64 {
        self.work().losses.as_slice()[..self.now * self.streams].iter().map(|&x| f64::from(x)).sum()
    }

    /// The carried state: h and c, each [L, B, H]; c empty for cells without one.
    pub fn export(&self, plan: &Plan) -> (Vec<f32>, Vec<f32>) {
        let hidden = plan.shape.hidden;
        let (mut h, mut c) = (Vec::new(), Vec::new());
        for layer in &self.layers {
            for stream in 0..self.streams {
                h.extend_from_slice(&layer.h.as_slice()[stream * plan.stride..][..hidden]);
                if layer.c.len() > 0 {
                    c.extend_from_slice(&layer.c.as_slice()[stream * plan.units..][..hidden]);
                }
            }
        }
        (h, c)
    }

    /// Sets the carried state from what [`Space::export`] gave for as many streams.
    pub fn import(&mut self, plan: &Plan, h: &[f32], c: &[f32]) {
        let hidden = plan.shape.hidden;
        let streams = self.streams;
        for (index, layer) in self.layers.iter_mut().enumerate() {
            for stream in 0..streams {
                let from = (index * streams + stream) * hidden;
                layer.h.as_mut_slice()[stream * plan.stride..][..hidden]
                    .copy_from_slice(&h[from..][..hidden]);
                if layer.c.len() > 0 {
                    layer.c.as_mut_slice()[stream * plan.units..][..hidden]
                        .copy_from_slice(&c[from..][..hidden]);
                }
            }
        }
    }
}
