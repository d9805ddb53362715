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
    parts: Vec<short::Group>,
}

/// Who sums weight gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sums {
    /// The f32 kernels.
    Plain,
    /// The short kernels, in jobs.
    Short,
    /// Those of f32 in parts.
    Parts,
    /// Each slice as its backward pass goes along.
    Along,
}

impl Sums {
    fn of(geo: &Geometry) -> Sums {
        match geo.short {
            None => Sums::Plain,
            Some(_) if geo.has_parts() => Sums::Parts,
            Some(_) if geo.sums_along() => Sums::Along,
            Some(_) => Sums::Short,
        }
    }
}

impl Jobs {
    /// Makes those of a geometry where there are none yet, for the threads of the pool that this runs on.
    pub fn fit(&mut self, geo: &Geometry) -> Result<(), EngineError> {
        match Sums::of(geo) {
            Sums::Plain if self.plain.is_empty() => self.plain = gradient::jobs(geo)?,
            Sums::Short if self.short.is_empty() => self.short = short::jobs(geo)?,
            Sums::Parts if self.parts.is_empty() => {
                self.parts = short::groups(geo, rayon::current_num_threads())?;
            }
            _ => {}
        }
        Ok(())
    }

    /// All sums `value`, to see which are made anew.
    #[cfg(test)]
    pub fn fill(&mut self, value: f32) {
        self.plain.iter_mut().for_each(|job| job.sums.as_mut_slice().fill(value));
        self.short.iter_mut().for_each(|job| job.fill(value));
        self.parts.iter_mut().for_each(|group| group.fill(value));
    }

    /// Sums over slices that have been trained on; the head's only where it is asked for.
    pub fn run(&mut self, geo: &Geometry, slices: &[Slice], steps: usize, head: bool) {
        match Sums::of(geo) {
            Sums::Plain => {
                let heads = self.plain.iter().take_while(|job| job.source == Source::Head).count();
                let jobs = &mut self.plain[if head { 0 } else { heads }..];
                gradient::run_all(geo, jobs, &|jobs| run_gradient(geo, slices, steps, jobs));
            }
            Sums::Short => {
                let jobs = self.short.par_iter_mut().filter(|job| head || !job.is_head());
                jobs.for_each(|job| short::run_gradient(geo, slices, steps, job));
            }
            Sums::Parts => {
                let groups = self.parts.par_iter_mut().with_max_len(1);
                let groups = groups.filter(|group| head || !group.is_head());
                groups.for_each(|group| short::run_group(geo, slices, steps, group));
            }
            Sums::Along => {}
        }
    }

    /// Moves the sums into arena order, times `factor`; the head's only where it is asked for.
    pub fn collect(&self, geo: &Geometry, slices: &[Slice], factor: f32, grads: &mut [f32], head: bool) {
        let (layers, head_part) = grads.split_at_mut(geo.shape.head_ranges().0.start);
        rayon::join(
            || match Sums::of(geo) {
                Sums::Plain => gradient::collect_layers(geo, &self.plain, factor, layers),
                Sums::Short => short::collect_layers(geo, &self.short, factor, layers),
                Sums::Parts => short::collect_layers_of_parts(geo, &self.parts, factor, layers),
                Sums::Along => short::collect_layers_along(geo, slices, factor, layers),
            },
            || match Sums::of(geo) {
                _ if !head => {}
                Sums::Plain => gradient::collect_head(geo, &self.plain, factor, head_part),
                Sums::Short => short::collect_head(geo, &self.short, factor, head_part),
                Sums::Parts => short::collect_head_of_parts(geo, &self.parts, factor, head_part),
                Sums::Along => short::collect_head_along(geo, slices, factor, head_part),
            },
        );
    }
}
