//! The weight gradients' jobs, of the kernels that run: made once, run over the slices, collected into arena order.

use rayon::prelude::*;

use super::dispatch::run_gradient;
use super::geometry::Geometry;
use super::gradient::{self, Job, Source};
use super::short;
use super::space::Slice;
use crate::engine::EngineError;

/// All jobs of a model; none until gradients are first needed.
#[derive(Debug, Default)]
pub struct Jobs {
    plain: Vec<Job>,
    short: Vec<short::Job>,
}

impl Jobs {
    /// Of a model, with their memory.
    pub fn new(geo: &Geometry) -> Result<Jobs, EngineError> {
        Ok(if geo.has_plain_gradients() {
            Jobs { plain: gradient::jobs(geo)?, short: Vec::new() }
        } else {
            Jobs { plain: Vec::new(), short: short::jobs(geo)? }
        })
    }

    /// Whether there are none yet.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.short.is_empty()
    }

    /// All sums `value`, to see which are made anew.
    #[cfg(test)]
    pub fn fill(&mut self, value: f32) {
        self.plain.iter_mut().for_each(|job| job.sums.as_mut_slice().fill(value));
        self.short.iter_mut().for_each(|job| job.fill(value));
    }

    /// Sums over slices that have been trained on; the head's only where it is asked for.
    pub fn run(&mut self, geo: &Geometry, slices: &[Slice], steps: usize, head: bool) {
        let first =
            if head { 0 } else { self.plain.iter().take_while(|job| job.source == Source::Head).count() };
        gradient::run_all(geo, &mut self.plain[first..], &|jobs| run_gradient(geo, slices, steps, jobs));
        let short = self.short.par_iter_mut().filter(|job| head || !job.is_head());
        short.for_each(|job| short::run_gradient(geo, slices, steps, job));
    }

    /// Moves the sums into arena order, times `factor`; the head's only where it is asked for.
    pub fn collect(&self, geo: &Geometry, factor: f32, grads: &mut [f32], head: bool) {
        let (layers, head_part) = grads.split_at_mut(geo.shape.head_ranges().0.start);
        rayon::join(
            || match geo.has_plain_gradients() {
                true => gradient::collect_layers(geo, &self.plain, factor, layers),
                false => short::collect_layers(geo, &self.short, factor, layers),
            },
            || match geo.has_plain_gradients() {
                _ if !head => {}
                true => gradient::collect_head(geo, &self.plain, factor, head_part),
                false => short::collect_head(geo, &self.short, factor, head_part),
            },
        );
    }
}
