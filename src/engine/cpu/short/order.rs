//! Where rows of the arena are among packed gate rows, and rows of sums on their way there.

use super::Geometry;
use crate::model::CellKind;

/// Which products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A layer: its recurrent product, and that of its input.
    Layer(usize),
    /// The head.
    Head,
}

/// The order of packed rows.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    hidden: usize,
    /// Gate rows a unit, and for each gate its slot; none for the head's classes.
    slots: Option<(usize, [usize; 4])>,
}

impl Order {
    /// Of a source's rows; `input`: as its input's product has them.
    pub fn of(geo: &Geometry, source: Source, input: bool) -> Order {
        // A GRU's n: its recurrent part in slot 2, its input part in slot 3.
        let new = if geo.shape.cell == CellKind::Gru && input { 3 } else { 2 };
        let slots = (source != Source::Head).then_some((geo.slots(), [0, 1, new, 3]));
        Order { hidden: geo.shape.hidden, slots }
    }

    /// The packed row that is row g * H + u of the arena; the class itself.
    pub fn packed(&self, row: usize) -> usize {
        match self.slots {
            Some((slots, of)) => row % self.hidden * slots + of[row / self.hidden],
            None => row,
        }
    }
}

/// A row of sums [columns/32][32][32], which begins at `at` of each of `all`: they are added up one after another, times
/// `factor`.
pub fn add_up<'a>(out: &mut [f32], all: impl Iterator<Item = &'a [f32]> + Clone, at: usize, factor: f32) {
    for (column, out) in out.chunks_mut(32).enumerate() {
        out.fill(0.0);
        for sums in all.clone() {
            let sums = &sums[at + column * super::products::SUMS..][..out.len()];
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
        }
        out.iter_mut().for_each(|out| *out *= factor);
    }
}
