//! Weights in the order in which the kernels read them, packed from the arena once a step.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::geometry::Geometry;
use super::math::stored_scalar;
use super::short;
use crate::engine::{EngineError, Precision};

/// One layer's packed weights.
#[derive(Debug)]
pub struct LayerWeights {
    /// Forward: [unit block][input rows, then H rows][UB][G]. The first layer has no input rows.
    pub forward: Buffer,
    /// First layer: input column with bias for each row and character [unit][G][V, padded]; else empty.
    pub table: Buffer,
    /// Sum of the biases [unit][G]. A GRU's n has b_in here and b_hn in `recurrent_bias`.
    pub bias: Buffer,
    /// A GRU's b_hn [unit]; else empty.
    pub recurrent_bias: Buffer,
    /// Backward: W_hh transposed [unit block][G*H][MR].
    pub back_hh: Buffer,
    /// Backward into the layer below: W_ih transposed [unit block][G*H][MR]; empty for the first layer.
    pub back_ih: Buffer,
}

/// All packed weights.
#[derive(Debug)]
pub struct Weights {
    /// One a layer.
    pub layers: Vec<LayerWeights>,
    /// Head, forward: [class block][H][MR].
    pub head: Buffer,
    /// Head's bias [classes].
    pub head_bias: Buffer,
    /// Head, backward: transposed [unit block][V][MR].
    pub head_back: Buffer,
    /// The short kernels' form, in the place of all the others, where they run.
    pub short: Option<short::Weights>,
}

impl Weights {
    /// Room for a model.
    pub fn new(geo: &Geometry) -> Result<Weights, EngineError> {
        let (h, g, v) = (geo.shape.hidden, geo.gates, geo.shape.vocab);
        let what = "packed weights";
        if geo.short.is_some() {
            let none = || Buffer::zeros(0, what);
            let short = Some(short::Weights::new(geo)?);
            return Ok(Weights {
                layers: vec![],
                head: none()?,
                head_bias: none()?,
                head_back: none()?,
                short,
            });
        }
        let layers = (0..geo.shape.layers)
            .map(|layer| {
                let first = layer == 0;
                let inputs = if first { 0 } else { h };
                Ok(LayerWeights {
                    forward: Buffer::zeros(geo.units * g * (inputs + h), what)?,
                    table: Buffer::zeros(if first { geo.units * g * geo.row_stride() } else { 0 }, what)?,
                    bias: Buffer::zeros(geo.units * g, what)?,
                    recurrent_bias: Buffer::zeros(if geo.tile_sets() == 2 { geo.units } else { 0 }, what)?,
                    back_hh: Buffer::zeros(geo.units * g * h, what)?,
                    back_ih: Buffer::zeros(if first { 0 } else { geo.units * g * h }, what)?,
                })
            })
            .collect::<Result<_, EngineError>>()?;
        Ok(Weights {
            layers,
            head: Buffer::zeros(geo.classes * h, what)?,
            head_bias: Buffer::zeros(geo.classes, what)?,
            head_back: Buffer::zeros(geo.units * v, what)?,
            short: None,
        })
    }

    /// Packs the arena, rounding weights (not biases) to the storage precision.
    pub fn pack(&mut self, geo: &Geometry, precision: Precision, arena: &[f32]) {
        if let Some(short) = &mut self.short {
            return short.pack(geo, arena);
        }
        // A copy of the loops for each: a choice for every number would cost more than moving it.
        match precision {
            Precision::F32 => self.pack_rounded(geo, arena, |x| x),
            _ => self.pack_rounded(geo, arena, |x| stored_scalar(precision, x)),
        }
    }

    fn pack_rounded(&mut self, geo: &Geometry, arena: &[f32], round: impl Fn(f32) -> f32 + Copy + Sync) {
        let (layers, head, back) = (&mut self.layers, &mut self.head, &mut self.head_back);
        let (h, v) = (geo.shape.hidden, geo.shape.vocab);
        let mr = geo.isa.tile_rows();
        let (w, b) = geo.shape.head_ranges();
        let (w, b) = (&arena[w], &arena[b]);
        let pack_layers = || {
            layers
                .par_iter_mut()
                .enumerate()
                .for_each(|(layer, weights)| weights.pack(geo, arena, layer, round));
        };
        let pack_head = || {
            blocks(head, mr * h, |block, out| {
                for i in 0..mr.min(v.saturating_sub(block * mr)) {
                    spread(&mut out[i..], mr, &w[(block * mr + i) * h..][..h], round);
                }
            });
            blocks(back, mr * v, |block, out| {
                transposed(out, mr, block, h, |class| &w[class * h..][..h], round);
            });
        };
        rayon::join(pack_layers, pack_head);
        self.head_bias.as_mut_slice()[..v].copy_from_slice(b);
    }
}

/// Runs `fill` over blocks of `size` elements, in parallel; of an empty buffer over none.
fn blocks(buffer: &mut Buffer, size: usize, fill: impl Fn(usize, &mut [f32]) + Sync) {
    if buffer.len() > 0 {
        buffer
            .as_mut_slice()
            .par_chunks_exact_mut(size)
            .enumerate()
            .for_each(|(block, out)| fill(block, out));
    }
}

/// out[k * stride] = round(row[k])
fn spread(out: &mut [f32], stride: usize, row: &[f32], round: impl Fn(f32) -> f32) {
    for (out, x) in out.iter_mut().step_by(stride).zip(row) {
        *out = round(*x);
    }
}

/// out[j][i] = round(row(j)[block * mr + i]) for columns below `limit`; the rest stays zero.
fn transposed<'a>(
    out: &mut [f32],
    mr: usize,
    block: usize,
    limit: usize,
    row: impl Fn(usize) -> &'a [f32],
    round: impl Fn(f32) -> f32,
) {
    let first = block * mr;
    let used = mr.min(limit.saturating_sub(first));
    if used == 0 {
        return;
    }
    for (j, out) in out.chunks_exact_mut(mr).enumerate() {
        for (out, x) in out.iter_mut().zip(&row(j)[first..first + used]) {
            *out = round(*x);
        }
    }
}

impl LayerWeights {
    fn pack(
        &mut self,
        geo: &Geometry,
        arena: &[f32],
        layer: usize,
        round: impl Fn(f32) -> f32 + Copy + Sync,
    ) {
        let (h, g, v) = (geo.shape.hidden, geo.gates, geo.shape.vocab);
        let (ub, mr) = (geo.isa.unit_block(geo.shape.cell), geo.isa.tile_rows());
        let at = geo.shape.layer_ranges(layer);
        let (ih, hh) = (&arena[at.weight_ih], &arena[at.weight_hh]);
        let (b_ih, b_hh) = (&arena[at.bias_ih], &arena[at.bias_hh]);
        let inputs = if layer == 0 { 0 } else { h };
        let gru = !b_hh.is_empty();
        for unit in 0..h {
            for gate in 0..g {
                let row = gate * h + unit;
                // The n gate's recurrent bias stands behind the reset gate.
                let joined = if gru && gate < 2 { b_ih[row] + b_hh[row] } else { b_ih[row] };
                self.bias.as_mut_slice()[unit * g + gate] = joined;
            }
            if gru {
                self.recurrent_bias.as_mut_slice()[unit] = b_hh[2 * h + unit];
            }
        }
        let LayerWeights { forward, table, bias, back_hh, back_ih, .. } = self;
        let bias = bias.as_slice();
        // Row j = u * G + g of the packed order is row g * H + u of the arena.
        let row = |j: usize| ((j % g) * h + j / g) * h;
        let pack_forward = || {
            blocks(forward, ub * g * (inputs + h), |block, out| {
                let (input, recurrent) = out.split_at_mut(ub * g * inputs);
                for i in 0..ub.min(h.saturating_sub(block * ub)) {
                    for gate in 0..g {
                        let row = (gate * h + block * ub + i) * h;
                        let column = i * g + gate;
                        if layer > 0 {
                            spread(&mut input[column..], ub * g, &ih[row..][..h], round);
                        }
                        spread(&mut recurrent[column..], ub * g, &hh[row..][..h], round);
                    }
                }
            });
        };
        let pack_table = || {
            let stride = geo.row_stride();
            blocks(table, g * stride, |unit, out| {
                for gate in 0..if unit < h { g } else { 0 } {
                    let row = &ih[(gate * h + unit) * v..][..v];
                    let bias = bias[unit * g + gate];
                    for (out, w) in out[gate * stride..][..v].iter_mut().zip(row) {
                        *out = round(*w) + bias;
                    }
                }
            });
        };
        let pack_back = || {
            blocks(back_hh, mr * g * h, |block, out| {
                transposed(out, mr, block, h, |j| &hh[row(j)..][..h], round);
            });
            blocks(back_ih, mr * g * h, |block, out| {
                transposed(out, mr, block, h, |j| &ih[row(j)..][..h], round);
            });
        };
        rayon::join(pack_forward, || rayon::join(pack_back, pack_table));
    }
}
