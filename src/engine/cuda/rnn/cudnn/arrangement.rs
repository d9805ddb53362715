//! Where everything lies in a pass's scratch.

use super::RnnSpace;

/// What the sizes follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// T*B.
    pub rows: usize,
    /// Sequences.
    pub sequences: usize,
    /// V padded.
    pub classes: usize,
    /// H in the library.
    pub width: usize,
    /// L.
    pub layers: usize,
    /// Bytes of an E.
    pub size: usize,
    /// Whether there is a cell state.
    pub cells: bool,
    /// Whether a backward pass follows.
    pub training: bool,
}

/// Offsets in bytes; what only training needs is 0 else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arrangement {
    /// One-hot input [rows][classes].
    pub x: usize,
    /// Input of each group but the first [rows][width].
    pub xs: Vec<usize>,
    /// Output of each group [rows][width].
    pub ys: Vec<usize>,
    /// States before [layers][sequences][width].
    pub hx: usize,
    /// See `hx`.
    pub cx: usize,
    /// States after.
    pub hy: usize,
    /// See `hy`.
    pub cy: usize,
    /// Gradients of a group's output and input, in turn: [rows][the wider of width and classes].
    pub gradients: [usize; 2],
    /// Gradient of the last states: zero [layers][sequences][width].
    pub zeros: usize,
    /// Its bytes.
    pub zeros_bytes: usize,
    /// Gradient of the first states, which nobody reads.
    pub dhx: usize,
    /// See `dhx`.
    pub dcx: usize,
    /// Each group's reserve space.
    pub reserves: Vec<usize>,
    /// The largest work space.
    pub work: usize,
    /// All of it.
    pub bytes: usize,
}

/// Alignment of each part, bytes: what an allocation of its own would have.
const ALIGNMENT: usize = 256;

impl Arrangement {
    /// For groups of layers with these spaces.
    pub fn new(needs: &Needs, groups: &[RnnSpace]) -> Arrangement {
        let mut end = 0;
        let mut take = |bytes: usize| {
            let begin = end;
            end += bytes.next_multiple_of(ALIGNMENT);
            begin
        };
        let Needs { rows, sequences, classes, width, layers, size, cells, training } = *needs;
        let (output, states) = (rows * width * size, layers * sequences * width * size);
        let if_cells = if cells { states } else { 0 };
        let mut places = Arrangement {
            x: take(rows * classes * size),
            xs: (0..groups.len()).map(|group| take(if group == 0 { 0 } else { output })).collect(),
            ys: groups.iter().map(|_| take(output)).collect(),
            hx: take(states),
            cx: take(if_cells),
            hy: take(states),
            cy: take(if_cells),
            work: take(groups.iter().map(|space| space.work).max().unwrap_or(0)),
            ..Arrangement::default()
        };
        if training {
            let widest = rows * width.max(classes) * size;
            places.gradients = [take(widest), take(widest)];
            places.zeros = take(states);
            places.zeros_bytes = states;
            places.dhx = take(states);
            places.dcx = take(if_cells);
            places.reserves = groups.iter().map(|space| take(space.reserve)).collect();
        }
        places.bytes = end;
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_overlap_and_inference_needs_less() {
        let needs = Needs {
            rows: 21,
            sequences: 3,
            classes: 48,
            width: 33,
            layers: 2,
            size: 2,
            cells: true,
            training: true,
        };
        let groups = [RnnSpace { work: 1000, reserve: 5000 }, RnnSpace { work: 300, reserve: 77 }];
        let places = Arrangement::new(&needs, &groups);
        let (output, states) = (21 * 33 * 2, 2 * 3 * 33 * 2);
        let mut parts = vec![
            (places.x, 21 * 48 * 2),
            (places.xs[1], output),
            (places.ys[0], output),
            (places.ys[1], output),
            (places.hx, states),
            (places.cx, states),
            (places.hy, states),
            (places.cy, states),
            (places.gradients[0], 21 * 48 * 2),
            (places.gradients[1], 21 * 48 * 2),
            (places.zeros, states),
            (places.dhx, states),
            (places.dcx, states),
            (places.reserves[0], 5000),
            (places.reserves[1], 77),
            (places.work, 1000),
        ];
        parts.sort_unstable();
        for pair in parts.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?}");
        }
        let (last, size) = parts[parts.len() - 1];
        assert!(last + size <= places.bytes && parts.iter().all(|(at, _)| at % 256 == 0));
        let lean = Arrangement::new(&Needs { training: false, cells: false, ..needs }, &groups);
        assert!(lean.bytes < places.bytes / 2 && lean.reserves.is_empty());
    }
}
