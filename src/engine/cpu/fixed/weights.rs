//! A model's weights as digits, in the order in which tiles are read.
//!
//! A weight is a whole number of (its row's largest weight / [`ONE`]), and that number three digits of base 256, each from
//! -128 to 127. A product's sums are worth [`Matrix::scale`] of their row.

use rayon::prelude::*;

use super::super::buffer::Buffer;
use super::tiles::{Operands, ROW};
use crate::engine::EngineError;
use crate::model::{CellKind, ModelShape};

/// Digits of a number.
pub const DIGITS: usize = 3;

/// The whole number that stands for 1, and for a row's largest weight: a little less than the largest of three digits,
/// 0x7f7f7f, for a state may be larger than 1 by its rounding.
pub const ONE: f32 = 0x7f_7f00 as f32;

/// Columns of sums that are computed together.
pub const COLUMNS: usize = 4;

/// Units that are multiplied with: tiles of 64, and what is left, in rows of four.
#[derive(Debug, Clone, Copy)]
pub struct Depth {
    /// Whole tiles.
    pub full: usize,
    /// Rows of the last one; 0 where there is none.
    pub rest: usize,
}

impl Depth {
    /// Of so many units.
    pub fn of(units: usize) -> Depth {
        Depth { full: units / ROW, rest: (units % ROW).div_ceil(4) }
    }

    /// Tiles, with that of the rest.
    #[inline]
    pub fn tiles(self) -> usize {
        self.full + usize::from(self.rest > 0)
    }

    /// Rows of weights.
    #[inline]
    fn rows(self) -> usize {
        16 * self.full + self.rest
    }
}

/// To which of the four columns of sums a matrix's own belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// The first ones.
    First(usize),
    /// A GRU's input: r, z, and n, whose recurrent part is the third.
    Input,
}

impl Columns {
    /// How many.
    #[inline(always)]
    pub fn count(self) -> usize {
        match self {
            Columns::First(count) => count,
            Columns::Input => 3,
        }
    }

    /// Which of them belongs to column `column` of sums.
    #[inline(always)]
    pub fn place(self, column: usize) -> Option<usize> {
        match self {
            Columns::First(count) => Some(column).filter(|&column| column < count),
            Columns::Input => [Some(0), Some(1), None, Some(2)][column],
        }
    }
}

/// Which rows a block of four columns of sixteen holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Sixteen units, a column a gate: i f g o.
    Lstm,
    /// Sixteen units: r, z, n's recurrent part, n's input part.
    Gru,
    /// 64 units.
    Rnn,
    /// 64 classes.
    Head,
}

impl Rows {
    fn of(cell: CellKind) -> Rows {
        match cell {
            CellKind::Lstm => Rows::Lstm,
            CellKind::Gru => Rows::Gru,
            CellKind::Rnn => Rows::Rnn,
        }
    }

    /// Outputs (units, or classes) of a block.
    #[inline]
    pub fn outputs(self) -> usize {
        match self {
            Rows::Lstm | Rows::Gru => 16,
            Rows::Rnn | Rows::Head => 16 * COLUMNS,
        }
    }

    /// The row of the arena's matrix, where `outputs` there are in all.
    fn row(self, outputs: usize, block: usize, column: usize, lane: usize) -> Option<usize> {
        let (gate, output) = match self {
            Rows::Lstm => (column, block * 16 + lane),
            Rows::Gru => (column.min(2), block * 16 + lane),
            Rows::Rnn | Rows::Head => (0, (block * COLUMNS + column) * 16 + lane),
        };
        (output < outputs).then_some(gate * outputs + output)
    }

    /// The columns of a block that one of `parts` matrices has; the input's is part 0 of two.
    #[inline(always)]
    fn columns(self, outputs: usize, block: usize, part: usize, parts: usize) -> Columns {
        match self {
            Rows::Lstm => Columns::First(4),
            Rows::Gru if part + 1 < parts => Columns::Input,
            Rows::Gru => Columns::First(3),
            Rows::Rnn | Rows::Head => {
                Columns::First((outputs - block * self.outputs()).div_ceil(16).min(COLUMNS))
            }
        }
    }

    /// What a column's sums and biases are multiplied with beforehand. A gate's sigmoid is 1 / (1 + 2^t), where t is its input
    /// times minus log2 e; its tanh 1 - 2 / (1 + 2^t), where t is its input times twice log2 e.
    fn factor(self, column: usize) -> f64 {
        let (sigmoid, tanh) = (-std::f64::consts::LOG2_E, 2.0 * std::f64::consts::LOG2_E);
        match (self, column) {
            (Rows::Head, _) => 1.0,
            (Rows::Lstm, 0 | 1 | 3) | (Rows::Gru, 0 | 1) => sigmoid,
            _ => tanh,
        }
    }
}

/// A layer, or the head.
#[derive(Debug)]
pub struct Matrix {
    /// What its blocks hold.
    pub rows: Rows,
    /// Its outputs.
    pub outputs: usize,
    /// What it is multiplied with.
    pub depth: Depth,
    /// How many matrices: the recurrent one (the head's), before it that of the input where it is no table.
    pub parts: usize,
    /// Digits as bytes [block][part][tile of depth][digit][column][row][16][4].
    bytes: Buffer,
    /// What a sum is worth [block][column][16].
    pub scale: Buffer,
    /// What is added: for each character the input's column with the biases, or the biases alone [V or 1][block][column][16].
    pub bias: Buffer,
}

/// The arena's part of a matrix.
struct Source<'a> {
    /// [rows][units], the input's before the recurrent one.
    parts: Vec<&'a [f32]>,
    units: usize,
    /// [rows][V]
    table: Option<(&'a [f32], usize)>,
    bias: &'a [f32],
    /// A GRU's; else empty.
    recurrent_bias: &'a [f32],
}

impl Matrix {
    fn new(
        rows: Rows,
        outputs: usize,
        units: usize,
        parts: usize,
        tables: usize,
    ) -> Result<Matrix, EngineError> {
        let (depth, blocks) = (Depth::of(units), outputs.div_ceil(rows.outputs()));
        let what = "weights in fixed point";
        let of = |n| Buffer::zeros(n, what);
        Ok(Matrix {
            rows,
            outputs,
            depth,
            parts,
            // A tile more: `many` reads whole ones.
            bytes: of((blocks * parts * part_bytes(depth) + 16 * ROW) / 4)?,
            scale: of(blocks * COLUMNS * 16)?,
            bias: of(tables * blocks * COLUMNS * 16)?,
        })
    }

    /// Blocks of four columns.
    #[inline]
    pub fn blocks(&self) -> usize {
        self.outputs.div_ceil(self.rows.outputs())
    }

    /// A block's part, to be multiplied with the digits `a`, whose tiles of depth are `tile` bytes apart.
    #[inline(always)]
    pub fn operands(&self, block: usize, part: usize, a: *const i8, tile: usize) -> Operands {
        let at = (block * self.parts + part) * part_bytes(self.depth);
        Operands {
            w: self.bytes.ptr().cast::<i8>().wrapping_add(at),
            a,
            tile,
            columns: self.rows.columns(self.outputs, block, part, self.parts),
        }
    }

    fn pack(&mut self, source: &Source) {
        let (rows, outputs, parts, depth, blocks) =
            (self.rows, self.outputs, self.parts, self.depth, self.blocks());
        let columns = |block, part| rows.columns(outputs, block, part, parts);
        let words = parts * part_bytes(depth) / 4;
        let bytes = self.bytes.as_mut_slice()[..blocks * words].par_chunks_exact_mut(words);
        let scales = self.scale.as_mut_slice().par_chunks_exact_mut(COLUMNS * 16);
        bytes.zip(scales).enumerate().for_each(|(block, (words, scales))| {
            let mut packed = vec![0i8; 4 * words.len()];
            for column in 0..COLUMNS {
                for lane in 0..16 {
                    let Some(row) = rows.row(outputs, block, column, lane) else { continue };
                    let of = |part: usize| &source.parts[part][row * source.units..][..source.units];
                    let there = |part: &usize| columns(block, *part).place(column).is_some();
                    let weights = (0..parts).filter(there).flat_map(of);
                    let largest = weights.fold(0.0f32, |most, w| most.max(w.abs()));
                    let one = f64::from(ONE);
                    // A sum of the largest digits' products is worth 2^32 of the whole numbers' product.
                    let worth = f64::from(largest) * 4_294_967_296.0 / (one * one);
                    scales[column * 16 + lane] = (worth * rows.factor(column)) as f32;
                    let whole = if largest > 0.0 { one / f64::from(largest) } else { 0.0 };
                    for part in (0..parts).filter(there) {
                        let Some(place) = columns(block, part).place(column) else { continue };
                        let to = &mut packed[part * part_bytes(depth)..];
                        spread(to, of(part), whole, depth, (columns(block, part).count(), place), lane);
                    }
                }
            }
            for (word, bytes) in words.iter_mut().zip(packed.chunks_exact(4)) {
                *word = f32::from_bits(u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[i] as u8)));
            }
        });
        self.pack_bias(source);
    }

    /// The input's columns and the biases.
    fn pack_bias(&mut self, source: &Source) {
        let (rows, outputs) = (self.rows, self.outputs);
        let width = self.blocks() * COLUMNS * 16;
        self.bias.as_mut_slice().par_chunks_exact_mut(width).enumerate().for_each(|(id, to)| {
            for (i, to) in to.iter_mut().enumerate() {
                let (block, column, lane) = (i / 16 / COLUMNS, i / 16 % COLUMNS, i % 16);
                let Some(row) = rows.row(outputs, block, column, lane) else { continue };
                let recurrent = source.recurrent_bias.get(row).copied().map_or(0.0, f64::from);
                let input = source.table.map_or(0.0, |(table, vocab)| f64::from(table[row * vocab + id]));
                let input = input + f64::from(source.bias[row]);
                let sum = match (rows, column) {
                    (Rows::Gru, 2) => recurrent,
                    (Rows::Gru, 3) => input,
                    _ => input + recurrent,
                };
                *to = (sum * rows.factor(column)) as f32;
            }
        });
    }
}

/// Bytes of a block's part, with four columns.
#[inline]
fn part_bytes(depth: Depth) -> usize {
    COLUMNS * DIGITS * depth.rows() * ROW
}

/// The digits of `row` times `whole`, into lane `lane` of column `place` of `columns`.
fn spread(
    to: &mut [i8],
    row: &[f32],
    whole: f64,
    depth: Depth,
    (columns, place): (usize, usize),
    lane: usize,
) {
    for (k, &w) in row.iter().enumerate() {
        let tile = k / ROW;
        let size = if tile < depth.full { 16 * ROW } else { depth.rest * ROW };
        let at = tile * DIGITS * columns * 16 * ROW + place * size + k % ROW / 4 * ROW + lane * 4 + k % 4;
        for (digit, value) in digits((f64::from(w) * whole).round_ties_even() as i32).into_iter().enumerate()
        {
            to[at + digit * columns * size] = value;
        }
    }
}

/// Three digits, the largest first.
pub fn digits(whole: i32) -> [i8; DIGITS] {
    let third = whole as i8;
    let rest = (whole - i32::from(third)) >> 8;
    let second = rest as i8;
    [((rest - i32::from(second)) >> 8) as i8, second, third]
}

/// A model's matrices.
#[derive(Debug)]
pub struct Weights {
    /// The model.
    pub shape: ModelShape,
    /// One a layer.
    pub layers: Vec<Matrix>,
    /// Logits.
    pub head: Matrix,
}

impl Weights {
    /// Room for a model.
    pub fn new(shape: ModelShape) -> Result<Weights, EngineError> {
        let rows = Rows::of(shape.cell);
        let layer = |layer: usize| match layer {
            0 => Matrix::new(rows, shape.hidden, shape.hidden, 1, shape.vocab),
            _ => Matrix::new(rows, shape.hidden, shape.hidden, 2, 1),
        };
        Ok(Weights {
            shape,
            layers: (0..shape.layers).map(layer).collect::<Result<_, _>>()?,
            head: Matrix::new(Rows::Head, shape.vocab, shape.hidden, 1, 1)?,
        })
    }

    /// From the arena, whose numbers are finite.
    pub fn pack(&mut self, arena: &[f32]) {
        let shape = self.shape;
        for (layer, matrix) in self.layers.iter_mut().enumerate() {
            let at = shape.layer_ranges(layer);
            let (input, recurrent) = (&arena[at.weight_ih], &arena[at.weight_hh]);
            matrix.pack(&Source {
                parts: if layer == 0 { vec![recurrent] } else { vec![input, recurrent] },
                units: shape.hidden,
                table: (layer == 0).then_some((input, shape.vocab)),
                bias: &arena[at.bias_ih],
                recurrent_bias: &arena[at.bias_hh],
            });
        }
        let (weight, bias) = shape.head_ranges();
        self.head.pack(&Source {
            parts: vec![&arena[weight]],
            units: shape.hidden,
            table: None,
            bias: &arena[bias],
            recurrent_bias: &[],
        });
    }
}
