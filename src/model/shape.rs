//! Names, sizes and offsets of a model's tensors in one flat arena.
//!
//! Letters: T time, B batch (streams), H hidden, V vocabulary, L layers, G gates.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The recurrent cell. Equations and gate order are PyTorch's and cuDNN's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CellKind {
    /// Long short-term memory, gates i, f, g, o.
    Lstm,
    /// Gated recurrent unit, gates r, z, n; the reset gate is applied after the recurrent product.
    Gru,
    /// Elman network with tanh.
    Rnn,
}

impl CellKind {
    /// Gates G: 4, 3, 1.
    pub fn gates(self) -> usize {
        match self {
            CellKind::Lstm => 4,
            CellKind::Gru => 3,
            CellKind::Rnn => 1,
        }
    }

    /// Whether the recurrent bias is a parameter of its own. In an LSTM and an RNN the two biases only ever appear
    /// as a sum, so one is trained; in a GRU b_hn stands behind the reset gate.
    pub fn trains_recurrent_bias(self) -> bool {
        self == CellKind::Gru
    }

    /// Whether the cell carries a cell state c besides h.
    pub fn has_cell_state(self) -> bool {
        self == CellKind::Lstm
    }
}

impl fmt::Display for CellKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CellKind::Lstm => "lstm",
            CellKind::Gru => "gru",
            CellKind::Rnn => "rnn",
        })
    }
}

/// The sizes that determine every tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelShape {
    /// The recurrent cell.
    pub cell: CellKind,
    /// V: vocabulary entries, `<start>` and `<end>` among them.
    pub vocab: usize,
    /// H: units a layer.
    pub hidden: usize,
    /// L: recurrent layers.
    pub layers: usize,
}

/// One tensor's place in the arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name in the model file, as `torch.nn.LSTM` has it, with `rnn.` or `head.` in front.
    pub name: String,
    /// Row-major dimensions.
    pub dims: Vec<usize>,
    /// Where it lies in the arena, in elements.
    pub range: Range<usize>,
}

impl ModelShape {
    /// G * H: rows of a layer's weight matrices.
    pub fn gate_rows(&self) -> usize {
        self.cell.gates() * self.hidden
    }

    /// Inputs of layer `layer`: V for the first (one-hot), H above.
    pub fn inputs(&self, layer: usize) -> usize {
        if layer == 0 { self.vocab } else { self.hidden }
    }

    /// Every trained tensor in arena order: for each layer weight_ih [G*H, in], weight_hh [G*H, H], bias_ih `[G*H]`
    /// and, for a GRU, bias_hh `[G*H]`; then head.weight [V, H] and head.bias `[V]`.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut specs = Vec::with_capacity(4 * self.layers + 2);
        let mut offset = 0;
        let mut push = |name: String, dims: Vec<usize>| {
            let len: usize = dims.iter().product();
            specs.push(TensorSpec { name, dims, range: offset..offset + len });
            offset += len;
        };
        let rows = self.gate_rows();
        for layer in 0..self.layers {
            push(format!("rnn.weight_ih_l{layer}"), vec![rows, self.inputs(layer)]);
            push(format!("rnn.weight_hh_l{layer}"), vec![rows, self.hidden]);
            push(format!("rnn.bias_ih_l{layer}"), vec![rows]);
            if self.cell.trains_recurrent_bias() {
                push(format!("rnn.bias_hh_l{layer}"), vec![rows]);
            }
        }
        push("head.weight".into(), vec![self.vocab, self.hidden]);
        push("head.bias".into(), vec![self.vocab]);
        specs
    }

    /// Offsets of layer `layer`'s tensors: (weight_ih, weight_hh, bias_ih, bias_hh or an empty range).
    pub fn layer_ranges(&self, layer: usize) -> LayerRanges {
        let rows = self.gate_rows();
        let biases = if self.cell.trains_recurrent_bias() { 2 } else { 1 };
        let first = rows * (self.vocab + self.hidden + biases);
        let above = rows * (2 * self.hidden + biases);
        let start = if layer == 0 { 0 } else { first + (layer - 1) * above };
        let hh = start + rows * self.inputs(layer);
        let bias = hh + rows * self.hidden;
        LayerRanges {
            weight_ih: start..hh,
            weight_hh: hh..bias,
            bias_ih: bias..bias + rows,
            bias_hh: bias + rows..bias + biases * rows,
        }
    }

    /// Ranges of head.weight [V, H] and head.bias `[V]`.
    pub fn head_ranges(&self) -> (Range<usize>, Range<usize>) {
        let start = self.params() - self.vocab * (self.hidden + 1);
        let bias = start + self.vocab * self.hidden;
        (start..bias, bias..bias + self.vocab)
    }

    /// Trained parameters: the arena's length in elements.
    pub fn params(&self) -> usize {
        let rows = self.gate_rows();
        let biases = if self.cell.trains_recurrent_bias() { 2 } else { 1 };
        rows * (self.vocab + self.hidden + biases)
            + (self.layers - 1) * rows * (2 * self.hidden + biases)
            + self.vocab * (self.hidden + 1)
    }

    /// Refuses sizes that mean nothing or overflow: each at least 1, the arena at most 2^31 elements.
    pub fn check(&self) -> Result<(), String> {
        for (name, value, most) in
            [("hidden", self.hidden, 65_536), ("layers", self.layers, 64), ("vocabulary", self.vocab, 65_534)]
        {
            if value == 0 || value > most {
                return Err(format!("{name} is {value}; expected 1 to {most}"));
            }
        }
        // With the bounds above nothing here overflows a u64.
        if self.params() > 1 << 31 {
            return Err(format!(
                "{} parameters; at most 2147483648 are supported: use fewer units or layers",
                self.params()
            ));
        }
        Ok(())
    }
}

impl fmt::Display for ModelShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}x{}, vocabulary {}", self.cell, self.layers, self.hidden, self.vocab)
    }
}

/// Where one layer's tensors lie in the arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRanges {
    /// [G*H, in]
    pub weight_ih: Range<usize>,
    /// [G*H, H]
    pub weight_hh: Range<usize>,
    /// `[G*H]`
    pub bias_ih: Range<usize>,
    /// `[G*H]` for a GRU, empty else.
    pub bias_hh: Range<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_agree_with_the_tensor_list() {
        for cell in [CellKind::Lstm, CellKind::Gru, CellKind::Rnn] {
            for layers in 1..4 {
                let shape = ModelShape { cell, vocab: 7, hidden: 5, layers };
                let specs = shape.tensors();
                assert_eq!(specs.last().unwrap().range.end, shape.params());
                let find = |name: &str| specs.iter().find(|s| s.name == name).unwrap().range.clone();
                for l in 0..layers {
                    let r = shape.layer_ranges(l);
                    assert_eq!(r.weight_ih, find(&format!("rnn.weight_ih_l{l}")));
                    assert_eq!(r.weight_hh, find(&format!("rnn.weight_hh_l{l}")));
                    assert_eq!(r.bias_ih, find(&format!("rnn.bias_ih_l{l}")));
                    if cell == CellKind::Gru {
                        assert_eq!(r.bias_hh, find(&format!("rnn.bias_hh_l{l}")));
                    } else {
                        assert!(r.bias_hh.is_empty());
                    }
                }
                assert_eq!(shape.head_ranges(), (find("head.weight"), find("head.bias")));
            }
        }
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let good = ModelShape { cell: CellKind::Lstm, vocab: 96, hidden: 150, layers: 1 };
        assert!(good.check().is_ok());
        assert!(ModelShape { hidden: 0, ..good }.check().is_err());
        assert!(ModelShape { layers: 0, ..good }.check().is_err());
        assert!(ModelShape { hidden: usize::MAX, ..good }.check().is_err());
        assert!(ModelShape { hidden: 65_536, layers: 64, ..good }.check().is_err());
    }
}
