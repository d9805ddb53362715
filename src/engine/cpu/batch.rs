//! The slices of one batch: their memory, their carried state, and running them in parallel.
#![allow(unsafe_code)]

use rayon::prelude::*;

use super::dispatch::{Work, run_part, run_slice};
use super::forward::{Part, Pass};
use super::geometry::Geometry;
use super::space::{Room, Slice, Use};
use super::team::{Meeting, Pace};
use crate::engine::{Chunk, EngineError};

/// Slices for B streams and up to T steps; empty until first used.
#[derive(Debug, Default)]
pub struct Batch {
    kind: Option<Use>,
    /// B.
    pub streams: usize,
    steps: usize,
    /// The slices, in the streams' order.
    pub slices: Vec<Slice>,
    /// Whether several threads a slice pay.
    pace: Pace,
    /// Of all threads but the first of each slice.
    rooms: Vec<Room>,
}

/// Units that a thread has at least, so that its share of a step is longer than a meeting. More than two threads a slice have
/// not been measured.
const UNITS_A_THREAD: usize = 32;

impl Batch {
    /// Makes room. The carried state survives a change of T or of dropout, and is zero after a change of B.
    pub fn fit(
        &mut self,
        geo: &Geometry,
        kind: Use,
        streams: usize,
        steps: usize,
    ) -> Result<(), EngineError> {
        if self.kind == Some(kind) && self.streams == streams && self.steps >= steps {
            return Ok(());
        }
        let carried = (self.streams == streams && !self.slices.is_empty()).then(|| self.export(geo));
        let vectors = geo.vectors(streams);
        let width = vectors * geo.isa.lanes();
        self.kind = None;
        self.slices.clear(); // Before making new ones, so that both are never in memory at once.
        let slices = (0..streams)
            .step_by(width)
            .map(|first| Slice::new(geo, kind, first, width.min(streams - first), vectors, steps))
            .collect::<Result<_, _>>()?;
        *self = Batch { kind: Some(kind), streams, steps, slices, ..Batch::default() };
        if let Some((h, c)) = carried {
            self.import(geo, &h, &c);
        }
        Ok(())
    }

    /// Reads a chunk and runs every slice over it; each on several threads where there are more threads than slices. How many
    /// changes no bit.
    pub fn run(&mut self, work: Work, pass: &Pass, chunk: &Chunk) {
        let most = pass.geo.shape.hidden / UNITS_A_THREAD;
        let each = (rayon::current_num_threads() / self.slices.len().max(1)).min(most);
        if each < 2 || work == Work::Logits || !self.make_room(pass.geo, each) {
            return self.run_whole(work, pass, chunk);
        }
        self.slices.iter_mut().for_each(|slice| slice.read(chunk));
        let mut pace = std::mem::take(&mut self.pace);
        pace.choose(pass.steps, |together| {
            if together { self.run_parts(work, pass, each) } else { self.run_whole(work, pass, chunk) }
        });
        self.pace = pace;
    }

    fn run_whole(&mut self, work: Work, pass: &Pass, chunk: &Chunk) {
        let rows = |slice: &Slice| pass.geo.units * slice.width;
        self.slices.par_iter_mut().for_each(|slice| {
            slice.read(chunk);
            run_slice(work, pass, slice);
            // A training pass still needs h[0]: its owner carries after the gradients.
            if !matches!(work, Work::Train | Work::Layers) {
                slice.carry(rows(slice), pass.steps);
            }
        });
    }

    /// Room for `each` threads a slice; false where there is none.
    fn make_room(&mut self, geo: &Geometry, each: usize) -> bool {
        let Some(width) = self.slices.first().map(|slice| slice.width) else { return false };
        while self.rooms.len() < (each - 1) * self.slices.len() {
            let Ok(room) = Room::new(geo, width) else { return false };
            self.rooms.push(room);
        }
        true
    }

    /// `each` threads a slice, all of them at once, over slices that have been read.
    fn run_parts(&mut self, work: Work, pass: &Pass, each: usize) {
        let (slices, rooms) = (&self.slices, &self.rooms);
        let meeting = Meeting::new(each * slices.len());
        rayon::broadcast(|thread| {
            let (number, rank) = (thread.index() / each, thread.index() % each);
            let Some(slice) = slices.get(number) else { return };
            let room = (rank > 0).then(|| &rooms[number * (each - 1) + rank - 1]);
            let part = Part { rank, of: each, meeting: Some(&meeting), room };
            // SAFETY: a broadcast runs once on every thread, which are at least as many as parts; `self` is borrowed
            // exclusively, and slices differ.
            meeting.guard(|| unsafe { run_part(work, pass, slice, &part) });
        });
        if !matches!(work, Work::Train | Work::Layers) {
            self.carry(pass.geo, pass.steps);
        }
    }

    /// Makes the last states the carried ones.
    pub fn carry(&mut self, geo: &Geometry, steps: usize) {
        self.slices.iter_mut().for_each(|slice| slice.carry(geo.units * slice.width, steps));
    }

    /// Zeroes the carried state.
    pub fn forget(&mut self, geo: &Geometry) {
        self.slices.iter_mut().for_each(|slice| slice.forget(geo.units * slice.width));
    }

    /// Whether the carried state is finite.
    pub fn is_finite(&self, geo: &Geometry) -> bool {
        self.slices.iter().all(|slice| slice.carried_is_finite(geo.units * slice.width))
    }

    /// Sum of the losses of the first `steps` steps, in f64, slice by slice.
    pub fn loss_sum(&self, steps: usize) -> f64 {
        let slices = self.slices.iter();
        slices
            .map(|s| s.losses.as_slice()[..steps * s.width].iter().map(|&x| f64::from(x)).sum::<f64>())
            .sum()
    }

    /// The carried state: h and c, each [L, B, H]; c empty for cells without one.
    pub fn export(&self, geo: &Geometry) -> (Vec<f32>, Vec<f32>) {
        let (hidden, layers) = (geo.shape.hidden, geo.shape.layers);
        let cells = if geo.shape.cell.has_cell_state() { 1 } else { 0 };
        let mut h = vec![0.0; layers * self.streams * hidden];
        let mut c = vec![0.0; cells * h.len()];
        for slice in &self.slices {
            for (layer, space) in slice.layers.iter().enumerate() {
                for lane in 0..slice.used {
                    let to = (layer * self.streams + slice.first + lane) * hidden;
                    for unit in 0..hidden {
                        h[to + unit] = space.h.as_slice()[unit * slice.width + lane];
                        if cells == 1 {
                            c[to + unit] = space.c.as_slice()[unit * slice.width + lane];
                        }
                    }
                }
            }
        }
        (h, c)
    }

    /// Sets the carried state from what [`Batch::export`] gave for as many streams.
    pub fn import(&mut self, geo: &Geometry, h: &[f32], c: &[f32]) {
        let hidden = geo.shape.hidden;
        for slice in &mut self.slices {
            for (layer, space) in slice.layers.iter_mut().enumerate() {
                for lane in 0..slice.used {
                    let from = (layer * self.streams + slice.first + lane) * hidden;
                    for unit in 0..hidden {
                        space.h.as_mut_slice()[unit * slice.width + lane] = h[from + unit];
                        if !c.is_empty() {
                            space.c.as_mut_slice()[unit * slice.width + lane] = c[from + unit];
                        }
                    }
                }
            }
        }
    }
}
