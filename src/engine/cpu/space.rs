//! The memory of one slice: W streams over T steps.

use super::buffer::Buffer;
use super::geometry::Geometry;
use super::profile::Clock;
use super::short::{self, Products};
use crate::engine::{Chunk, EngineError, IGNORE};

/// One layer's memory in one slice.
#[derive(Debug)]
pub struct LayerSpace {
    /// Hidden states [T+1][units][W]; slot 0 is the carried state, slot t+1 the state after step t.
    pub h: Buffer,
    /// Masked copies of h[t] for steps at which some stream starts a tune [T][units][W]; other steps stay untouched.
    pub h_masked: Buffer,
    /// The cell state while the forward pass runs [units][W], then the carried one; empty without a cell state.
    pub c: Buffer,
    /// The cell state before the chunk, masked by the first step's resets [units][W].
    pub c_before: Buffer,
    /// Output after dropout [T][units][W]; empty without dropout.
    pub dropped: Buffer,
    /// Dropout masks, 0 or 1/(1-p) [T][units][W]; empty without dropout.
    pub mask: Buffer,
    /// Records [T][units][record][W], later gradient tiles [T][set][panel][W][PW]; see [`Geometry::record_step`].
    pub records: Buffer,
}

/// One slice's memory.
#[derive(Debug)]
pub struct Slice {
    /// First stream.
    pub first: usize,
    /// Streams that are real; the other lanes are padding.
    pub used: usize,
    /// W.
    pub width: usize,
    /// T that there is room for.
    pub steps: usize,
    /// Elements between two steps' records: 0 in inference, which keeps none.
    pub record_stride: usize,
    /// One a layer.
    pub layers: Vec<LayerSpace>,
    /// Character ids [T][W].
    pub ids: Vec<i32>,
    /// Targets [T][W].
    pub targets: Vec<u16>,
    /// 1 where the state is kept, 0 where a tune starts [T][W].
    pub keep: Buffer,
    /// Whether the two slots of `h` of an inference's single step are exchanged; see [`Slice::turn`].
    pub turned: bool,
    /// Whether any stream of the slice starts a tune at t [T].
    pub any_reset: Vec<bool>,
    /// Gradient with respect to a layer's output, all steps [T][units][W].
    pub dx: Buffer,
    /// Gate gradients of two successive steps, before the recurrent product [2][units*G][W].
    pub dg: Buffer,
    /// A GRU's gate gradients of two successive steps before the input product [2][units*G][W].
    pub dg_input: Buffer,
    /// A GRU's d h_prev that bypasses the recurrent product [units][W].
    pub direct: Buffer,
    /// Cell state's gradient [units][W].
    pub dc: Buffer,
    /// Logits, then their gradients, of one step [classes][W]; of two [classes][32] where the short kernels have numbers in
    /// parts.
    pub logits: Buffer,
    /// Tiles of the logits' gradients [T][panel][W][PW].
    pub class_tiles: Buffer,
    /// Loss of each position [T][W].
    pub losses: Buffer,
    /// What the short kernels keep in the place of records, gate gradients and tiles.
    pub short: Option<short::Space>,
    /// The time of its passes.
    pub clock: Clock,
}

/// What each of a slice's threads but the first has for itself.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // No short kernels there.
pub struct Room {
    /// Logits, then their gradients, of one step [classes][W]; of two [classes][32] where the short kernels have numbers in
    /// parts.
    pub logits: Buffer,
    /// The short kernels': one step's characters, one-hot as pairs [classes/2][W].
    pub characters: Buffer,
    /// The short kernels': logits' gradients of one step as pairs [classes/32][parts][16][W].
    pub class_pairs: Buffer,
    /// The short kernels' of f32: one step's state as pairs [units/32][parts][16][W].
    pub input: Buffer,
    /// The short kernels': one step's gate gradients as pairs of streams or, where numbers have parts, as f32.
    pub gradients: Buffer,
}

impl Room {
    /// Beside slices of `width` streams.
    pub fn new(geo: &Geometry, width: usize) -> Result<Room, EngineError> {
        let zeros = |n| Buffer::zeros(n, "what a thread works on");
        let parts = geo.short.map_or(0, Products::parts);
        Ok(Room {
            logits: zeros(geo.logits(width))?,
            characters: zeros(geo.classes / 2 * width * parts.min(1))?,
            class_pairs: zeros(geo.classes / 2 * width * parts)?,
            input: zeros(if parts > 1 { geo.units / 2 * width * parts } else { 0 })?,
            gradients: zeros(geo.slots() * geo.units * width * parts.min(2) / 2)?,
        })
    }
}

/// What a slice's memory must serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Forward and backward; with or without dropout.
    Training {
        /// Whether masks and dropped outputs are needed.
        dropout: bool,
    },
    /// Forward only.
    Inference,
}

impl Slice {
    /// Room for `used` streams from `first` on, in slices of `vectors` vectors, over `steps` steps.
    pub fn new(
        geo: &Geometry,
        kind: Use,
        first: usize,
        used: usize,
        vectors: usize,
        steps: usize,
    ) -> Result<Slice, EngineError> {
        let width = vectors * geo.isa.lanes();
        let rows = geo.units * width;
        let training = kind != Use::Inference;
        let dropout = kind == Use::Training { dropout: true };
        let record = geo.record_step(width);
        // The short kernels of bf16 have records, gate gradients and tiles of their own.
        let own = geo.has_plain_gradients();
        let records = own || geo.has_parts();
        let if_ = |condition: bool, n: usize| if condition { n } else { 0 };
        let zeros = |n| Buffer::zeros(n, "activations of a chunk");
        let cells = if_(geo.shape.cell.has_cell_state(), rows);
        let layers = (0..geo.shape.layers)
            .map(|_| {
                Ok(LayerSpace {
                    h: zeros((steps + 1) * rows)?,
                    h_masked: zeros(steps * rows)?,
                    c: zeros(cells)?,
                    c_before: zeros(cells)?,
                    dropped: zeros(if_(dropout, steps * rows))?,
                    mask: zeros(if_(dropout, steps * rows))?,
                    records: zeros(if_(records && training, steps * record))?,
                })
            })
            .collect::<Result<_, EngineError>>()?;
        let gates = geo.gates * rows;
        Ok(Slice {
            first,
            used,
            width,
            steps,
            record_stride: if_(training, record),
            layers,
            ids: vec![0; steps * width],
            targets: vec![IGNORE; steps * width],
            keep: zeros(steps * width)?,
            turned: false,
            any_reset: vec![false; steps],
            dx: zeros(if_(training, steps * rows))?,
            dg: zeros(if_(own && training, 2 * gates))?,
            dg_input: zeros(if_(own && training && geo.tile_sets() == 2, 2 * gates))?,
            direct: zeros(if_(training && geo.tile_sets() == 2, rows))?,
            dc: zeros(if_(training, cells))?,
            logits: zeros(geo.logits(width))?,
            class_tiles: zeros(if_(own && training, steps * geo.class_panels() * geo.isa.panel() * width))?,
            losses: zeros(steps * width)?,
            short: match geo.short {
                Some(_) => Some(short::Space::new(geo, width, (training, dropout), steps)?),
                None => None,
            },
            clock: Clock::default(),
        })
    }

    /// Takes this slice's columns of a chunk. Padding lanes read character 0, predict nothing and start anew each step.
    pub fn read(&mut self, chunk: &Chunk) {
        let keep = self.keep.as_mut_slice();
        for t in 0..chunk.steps {
            let mut any = false;
            for lane in 0..self.width {
                let to = t * self.width + lane;
                if lane < self.used {
                    let from = t * chunk.streams + self.first + lane;
                    self.ids[to] = i32::from(chunk.ids[from]);
                    self.targets[to] = chunk.targets[from];
                    let reset = chunk.resets[from] != 0;
                    keep[to] = if reset { 0.0 } else { 1.0 };
                    any |= reset;
                } else {
                    self.ids[to] = 0;
                    self.targets[to] = IGNORE;
                    keep[to] = 1.0;
                }
            }
            self.any_reset[t] = any;
        }
    }

    /// Zeroes the lanes of `rows` ([units][W]) that `keep` ([W]) does not keep. Not a product: 0 * NaN is NaN.
    pub fn mask_rows(rows: &mut [f32], keep: &[f32]) {
        for row in rows.chunks_exact_mut(keep.len()) {
            for (value, &keep) in row.iter_mut().zip(keep) {
                if keep == 0.0 {
                    *value = 0.0;
                }
            }
        }
    }

    /// The state before step `t` of layer `layer`, masked [units][W]. A pointer, as that of [`Slice::output`], for other threads
    /// may be writing other steps.
    pub fn h_before(&self, rows: usize, layer: usize, t: usize) -> *const f32 {
        let space = &self.layers[layer];
        let (from, slot) = if self.any_reset[t] { (&space.h_masked, t) } else { (&space.h, self.slot(t)) };
        assert!((slot + 1) * rows <= from.len(), "step {t} of {}", self.steps);
        from.ptr().wrapping_add(slot * rows)
    }

    /// The output of layer `layer` at step `t` after dropout [units][W].
    pub fn output(&self, rows: usize, layer: usize, t: usize) -> *const f32 {
        let space = &self.layers[layer];
        let dropped = space.dropped.len() > 0;
        let (from, slot) = if dropped { (&space.dropped, t) } else { (&space.h, self.slot(t + 1)) };
        assert!((slot + 1) * rows <= from.len(), "step {t} of {}", self.steps);
        from.ptr().wrapping_add(slot * rows)
    }

    /// After a chunk of `steps`: the last state becomes the carried one.
    pub fn carry(&mut self, rows: usize, steps: usize) {
        for layer in &mut self.layers {
            layer.h.as_mut_slice().copy_within(steps * rows..(steps + 1) * rows, 0);
        }
    }

    /// The slot of `h` with the state before step `t`.
    pub fn slot(&self, t: usize) -> usize {
        if self.turned { 1 - t } else { t }
    }

    /// After a single step where there is room for one: the last state becomes the carried one, and stays where it is. Only the
    /// f32 kernels' forward pass looks where.
    pub fn turn(&mut self, rows: usize) {
        if self.short.is_some() {
            return self.carry(rows, 1);
        }
        assert_eq!(self.steps, 1, "two slots");
        self.turned = !self.turned;
    }

    /// Zeroes the carried state.
    pub fn forget(&mut self, rows: usize) {
        for layer in &mut self.layers {
            layer.h.as_mut_slice()[..rows].fill(0.0);
            layer.c.as_mut_slice().fill(0.0);
        }
    }

    /// Whether the carried state of the real streams is finite.
    pub fn carried_is_finite(&self, rows: usize) -> bool {
        self.layers.iter().all(|l| l.h.as_slice()[..rows].iter().chain(l.c.as_slice()).all(|x| x.is_finite()))
    }
}
