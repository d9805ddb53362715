//! How a model lies in memory for few streams: units in SIMD lanes, weights as rows over what is multiplied.
//!
//! Units come in *groups* of LANES, the last one padded with units that stay zero. A row of gates is [group][G][LANES].
//! Groups are dealt to *parts*, as many as fill the registers with one row of gates: a part's weights lie together,
//! [k][group of the part][G][LANES], and belong to one thread for products, gradients and updates alike, so that
//! each core keeps its own in its own cache. Parts depend on the shape and the instruction set, never on threads.

use super::super::geometry::Isa;
use crate::model::{CellKind, ModelShape};

/// Rows of a weight gradient that are summed at once, and that one partial sum of the norm covers.
pub const BAND: usize = 6;

/// A run of groups.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// First group.
    pub group: usize,
    /// Groups.
    pub groups: usize,
}

/// Where a part's share of a layer lies in the parameters' buffer.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// W_ih transposed [V or H][columns].
    pub input: usize,
    /// W_hh transposed [H][columns]; room for more rows, the last ones zero.
    pub recurrent: usize,
    /// Bias [columns]; a GRU's input bias.
    pub bias: usize,
    /// A GRU's recurrent bias [columns].
    pub recurrent_bias: usize,
    /// Partial sums of the norm: one a row (first layer) or a band of `input`.
    pub input_squares: usize,
    /// One a band of `recurrent`.
    pub recurrent_squares: usize,
    /// One for the biases.
    pub bias_squares: usize,
}

/// All sizes and places.
#[derive(Debug)]
pub struct Plan {
    /// The model.
    pub shape: ModelShape,
    /// The instruction set.
    pub isa: Isa,
    /// LANES.
    pub lanes: usize,
    /// G.
    pub gates: usize,
    /// H rounded up to LANES: a row of cell state.
    pub units: usize,
    /// H rounded up to bands, to 8 (the rows of a matrix) and to LANES: a row of h.
    pub stride: usize,
    /// A row of gates.
    pub columns: usize,
    /// V rounded up to LANES: a row of logits.
    pub classes: usize,
    /// The parts.
    pub parts: Vec<Part>,
    /// [layer][part].
    pub places: Vec<Vec<Places>>,
    /// The head's weights transposed [H][classes], with room for more rows.
    pub head: usize,
    /// The head's bias [classes].
    pub head_bias: usize,
    /// One a band of `head`, and one for the bias.
    pub head_squares: usize,
    /// Elements of the parameters' buffer.
    pub len: usize,
    /// Partial sums of the norm.
    pub squares: usize,
}

/// Registers that sums may fill: two vectors of columns for each of the machine's eight or sixteen, about.
pub fn registers(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => 20,
        Isa::Avx2 => 12,
        Isa::Portable => 6,
    }
}

impl Plan {
    /// Derives everything.
    pub fn new(shape: ModelShape, isa: Isa) -> Plan {
        let (lanes, gates, hidden) = (isa.lanes(), shape.cell.gates(), shape.hidden);
        let groups = hidden.div_ceil(lanes);
        let most = (registers(isa) / gates).max(1);
        let count = groups.div_ceil(most);
        // An even number, so that two threads have as much to do; a single one where it is not worth a barrier.
        let count = if count > 1 { count.next_multiple_of(2).min(groups) } else { 1 };
        let parts: Vec<Part> = (0..count)
            .map(|i| {
                let group = groups * i / count;
                Part { group, groups: groups * (i + 1) / count - group }
            })
            .collect();
        let rows = hidden.next_multiple_of(24);
        let classes = shape.vocab.next_multiple_of(lanes);
        let (mut at, mut squares) = (0, 0);
        let mut take = |n: usize| {
            let start = at;
            // Sections begin on a cache line.
            at += n.next_multiple_of(16);
            start
        };
        let mut slots = |n: usize| {
            squares += n;
            squares - n
        };
        let bands = hidden.div_ceil(BAND);
        let places = (0..shape.layers)
            .map(|layer| {
                let places = parts.iter().map(|part| {
                    let columns = part.groups * gates * lanes;
                    Places {
                        input: take(columns * if layer == 0 { shape.vocab } else { rows }),
                        recurrent: take(columns * rows),
                        bias: take(columns),
                        recurrent_bias: take(if shape.cell == CellKind::Gru { columns } else { 0 }),
                        input_squares: slots(if layer == 0 { shape.vocab } else { bands }),
                        recurrent_squares: slots(bands),
                        bias_squares: slots(1),
                    }
                });
                places.collect()
            })
            .collect();
        let (head, head_bias, head_squares) = (take(rows * classes), take(classes), slots(bands + 1));
        Plan {
            shape,
            isa,
            lanes,
            gates,
            units: groups * lanes,
            stride: rows.next_multiple_of(lanes),
            columns: groups * gates * lanes,
            classes,
            parts,
            places,
            head,
            head_bias,
            head_squares,
            len: at,
            squares,
        }
    }

    /// Columns of a part.
    pub fn part_columns(&self, part: usize) -> usize {
        self.parts[part].groups * self.gates * self.lanes
    }

    /// First column of a part in a row of gates.
    pub fn part_column(&self, part: usize) -> usize {
        self.parts[part].group * self.gates * self.lanes
    }

    /// The parts of thread `member` of `members`.
    pub fn share(&self, member: usize, members: usize) -> std::ops::Range<usize> {
        let n = self.parts.len();
        n * member / members..n * (member + 1) / members
    }

    /// The units of thread `member` of `members`, padding included in the last.
    pub fn units_of(&self, member: usize, members: usize) -> std::ops::Range<usize> {
        let parts = self.share(member, members);
        let start = |part: usize| self.parts.get(part).map_or(self.units, |p| p.group * self.lanes);
        start(parts.start)..start(parts.end)
    }

    /// Input rows of a layer.
    pub fn inputs(&self, layer: usize) -> usize {
        self.shape.inputs(layer)
    }

    /// Calls `visit` with each parameter's place here and in the arena.
    pub fn each(&self, mut visit: impl FnMut(usize, usize)) {
        let hidden = self.shape.hidden;
        for layer in 0..self.shape.layers {
            let at = self.shape.layer_ranges(layer);
            let inputs = self.inputs(layer);
            for (index, part) in self.parts.iter().enumerate() {
                let (places, columns) = (self.places[layer][index], self.part_columns(index));
                for group in 0..part.groups {
                    let first = (part.group + group) * self.lanes;
                    for lane in 0..self.lanes.min(hidden - first) {
                        for gate in 0..self.gates {
                            let column = (group * self.gates + gate) * self.lanes + lane;
                            let row = gate * hidden + first + lane;
                            for k in 0..inputs {
                                visit(
                                    places.input + k * columns + column,
                                    at.weight_ih.start + row * inputs + k,
                                );
                            }
                            for k in 0..hidden {
                                visit(
                                    places.recurrent + k * columns + column,
                                    at.weight_hh.start + row * hidden + k,
                                );
                            }
                            visit(places.bias + column, at.bias_ih.start + row);
                            if !at.bias_hh.is_empty() {
                                visit(places.recurrent_bias + column, at.bias_hh.start + row);
                            }
                        }
                    }
                }
            }
        }
        let (weight, bias) = self.shape.head_ranges();
        for class in 0..self.shape.vocab {
            for k in 0..hidden {
                visit(self.head + k * self.classes + class, weight.start + class * hidden + k);
            }
            visit(self.head_bias + class, bias.start + class);
        }
    }
}
