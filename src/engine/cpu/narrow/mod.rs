//! The CPU engine for few streams: units in SIMD lanes, where the rest of the engine has streams in them.
//!
//! With a handful of streams most lanes of a slice would be padding. Here a vector holds units: a step is a product of
//! h with rows of weights that stream from the second-level cache, and threads split units, not streams (`plan`),
//! meeting once a step (`team`). Everything that is summed is summed in an order that threads do not change, and the
//! forward pass in the order of `engine::cpu::forward`: it gives the same bits, so that a sampled tune or a loss does not
//! depend on which path computed it.
//!
//! While it trains the path keeps parameters, moments and gradients in its own order (`store`), each part's where its
//! thread finds them again; the engine's arena is brought up to date when it is asked for.

mod backward;
mod dispatch;
mod forward;
mod head;
mod kernels;
mod plan;
mod sampler;
mod space;
mod store;
#[cfg(test)]
mod tests;
mod update;

use super::forward::Dropout;
use super::geometry::Isa;
use super::space::Use;
use super::team::{Meeting, Pace, Team};
use crate::engine::{Chunk, EngineError, Hyper, Precision, SampleRequest, SampledTune, Stats};
use crate::model::ModelShape;
use forward::{Run, Work};
use plan::Plan;
use space::Space;
use store::Store;
pub use update::Rule;

/// Which of an engine's three states a chunk runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Training's.
    Training,
    /// Evaluation's.
    Evaluation,
    /// Stepping's.
    Stepping,
}

/// The pace of sampling, behind those of the three states.
const SAMPLING: usize = 3;

/// See the module's documentation.
pub struct Narrow {
    plan: Plan,
    precision: Precision,
    members: usize,
    /// Of a member alone.
    alone: Meeting,
    /// Started when first needed.
    team: Option<Team>,
    store: Option<Store>,
    /// Whether the moments are anything but zero since the beginning.
    has_moments: bool,
    /// Whether the other path multiplies this precision's numbers natively: its sums have another order then.
    native: bool,
    spaces: [Space; 3],
    paces: [Pace; 4],
}

impl Narrow {
    /// For a model on `threads` threads; memory and threads come when they are needed.
    pub fn new(shape: ModelShape, isa: Isa, precision: Precision, threads: usize) -> Narrow {
        let plan = Plan::new(shape, isa);
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let members = threads.min(cores).min(plan.parts.len());
        Narrow {
            plan,
            precision,
            members,
            alone: Meeting::new(1),
            team: None,
            store: None,
            has_moments: false,
            native: isa.running(precision).products().is_some(),
            spaces: Default::default(),
            paces: Default::default(),
        }
    }

    /// Whether this path trains chunks of so many streams. It may depend on nothing but the shape, the instruction set
    /// and the number of streams: its gradients differ in their last bits from the other path's.
    pub fn serves_training(&self, streams: usize) -> bool {
        streams >= 1 && streams <= most_streams(self.plan.isa)
    }

    /// Whether it evaluates and steps so many. Where bf16 is native on the other path its forward pass would differ, and
    /// a text's loss and a tune must not depend on how many there are.
    pub fn serves(&self, streams: usize) -> bool {
        !self.native && self.serves_training(streams)
    }

    /// Takes parameters and moments from the arena.
    pub fn import(&mut self, params: &[f32], moments: &[Vec<f32>; 2]) -> Result<(), EngineError> {
        if self.store.is_none() {
            self.store = Some(Store::new(&self.plan, self.precision)?);
        }
        self.has_moments = !moments[0].is_empty();
        match &mut self.store {
            Some(store) => store.import(&self.plan, self.precision, params, moments),
            None => Ok(()),
        }
    }

    /// Brings parameters and moments into the arena.
    pub fn export(&self, params: &mut [f32], moments: &mut [Vec<f32>; 2]) {
        let Some(store) = &self.store else { return };
        store.export(&self.plan, &store.params, params);
        if self.has_moments {
            for (to, from) in moments.iter_mut().zip(&store.moments) {
                to.resize(params.len(), 0.0);
                store.export(&self.plan, from, to);
            }
        }
    }

    /// The gradients of the last chunk trained on, arena order.
    pub fn grads(&self, to: &mut [f32]) {
        if let Some(store) = &self.store {
            store.export_grads(&self.plan, to);
        }
    }

    fn run(
        &mut self,
        state: State,
        chunk: &Chunk,
        work: Work,
        training: Option<(&Hyper, f32)>,
        rule: Option<Rule>,
    ) -> Result<Stats, EngineError> {
        let (plan, space) = (&self.plan, &mut self.spaces[state as usize]);
        let dropout = training.is_some_and(|(hyper, _)| hyper.dropout > 0.0);
        let kind = if state == State::Training { Use::Training { dropout } } else { Use::Inference };
        space.fit(plan, kind, chunk.streams, chunk.steps)?;
        space.read(chunk);
        let store = self.store.as_mut().expect("parameters have been taken");
        if state == State::Training {
            store.prepare(plan)?;
            store.look(&chunk.ids);
        }
        let team = self.team.get_or_insert_with(|| Team::new(self.members));
        let loss_scale = training.map_or(1.0, |(_, scale)| scale);
        let run = Run {
            plan,
            store,
            space,
            meeting: &self.alone,
            precision: self.precision,
            work,
            dropout: training.filter(|_| dropout).map(|(hyper, _)| Dropout {
                p: hyper.dropout,
                seed: hyper.seed,
                time: hyper.time as u32,
            }),
            gradient_scale: loss_scale / chunk.predicted().max(1) as f32,
            unscale: 1.0 / loss_scale,
            rule,
        };
        let pace = &mut self.paces[state as usize];
        team.work(pace, run.rows(), &|meeting, member| dispatch::work(&Run { meeting, ..run }, member));
        let stats = match work {
            Work::Train => update::stats(&run, loss_scale),
            Work::Evaluate => Stats {
                loss_sum: run.space.loss_sum(),
                predicted: chunk.predicted() as u64,
                ..Stats::default()
            },
            _ => Stats::default(),
        };
        space.carry(plan);
        self.has_moments |= stats.updated;
        Ok(stats)
    }

    /// Forward and backward, and the update under its rule.
    pub fn train(
        &mut self,
        chunk: &Chunk,
        hyper: &Hyper,
        loss_scale: f32,
        rule: Option<Rule>,
    ) -> Result<Stats, EngineError> {
        self.run(State::Training, chunk, Work::Train, Some((hyper, loss_scale)), rule)
    }

    /// The recurrent layers alone, on the training state.
    pub fn layers(&mut self, chunk: &Chunk, backward: bool) -> Result<(), EngineError> {
        let work = if backward { Work::Layers } else { Work::States };
        self.run(State::Training, chunk, work, None, None).map(|_| ())
    }

    /// The losses of a chunk [T, B], on the evaluation state.
    pub fn evaluate(&mut self, chunk: &Chunk) -> Result<(Stats, &[f32]), EngineError> {
        let stats = self.run(State::Evaluation, chunk, Work::Evaluate, None, None)?;
        let losses = self.spaces[State::Evaluation as usize].work().losses.as_slice();
        Ok((stats, &losses[..chunk.steps * chunk.streams]))
    }

    /// One step; logits [B, V].
    pub fn step(&mut self, chunk: &Chunk, logits: &mut [f32]) -> Result<(), EngineError> {
        self.run(State::Stepping, chunk, Work::Logits, None, None)?;
        let space = &mut self.spaces[State::Stepping as usize];
        for (r, row) in logits.chunks_exact_mut(self.plan.shape.vocab).enumerate() {
            row.copy_from_slice(space.logits(&self.plan, r));
        }
        Ok(())
    }

    /// Whether sampling so many tunes is faster here than with streams in lanes. A tune must not depend on how many are
    /// sampled, so that it is not done here where bf16 is native there.
    pub fn samples(&self, tunes: usize, threads: usize) -> bool {
        !self.native && tunes <= sampler::most_tunes(self.plan.isa, threads)
    }

    /// Samples whole tunes.
    pub fn sample(
        &mut self,
        pool: &rayon::ThreadPool,
        request: &SampleRequest,
    ) -> Result<Vec<SampledTune>, EngineError> {
        let store = self.store.as_ref().expect("parameters have been taken");
        if request.tunes == 1 && self.members > 1 {
            let team = self.team.get_or_insert_with(|| Team::new(self.members));
            let pace = &mut self.paces[SAMPLING];
            return sampler::sample_one(&self.plan, store, self.precision, team, pace, request);
        }
        sampler::sample(&self.plan, store, self.precision, pool, request)
    }

    /// The threads that sample a single tune together, where there are several, and how they fare.
    pub fn team(&mut self) -> Option<(&mut Team, &mut Pace)> {
        let members = Some(self.members).filter(|&members| members > 1)?;
        Some((self.team.get_or_insert_with(|| Team::new(members)), &mut self.paces[SAMPLING]))
    }

    /// Drops the state (and the memory) that `state` has here.
    pub fn leave(&mut self, state: State) {
        self.spaces[state as usize] = Space::default();
    }

    /// Zeroes every carried state.
    pub fn forget(&mut self) {
        for space in &mut self.spaces {
            space.forget(&self.plan);
        }
    }

    /// Zeroes the training state where it is not finite.
    pub fn mend(&mut self) {
        let space = &mut self.spaces[State::Training as usize];
        if !space.is_finite(&self.plan) {
            space.forget(&self.plan);
        }
    }

    /// The carried state of training: h and c, each [L, B, H].
    pub fn training_state(&self) -> (Vec<f32>, Vec<f32>) {
        self.spaces[State::Training as usize].export(&self.plan)
    }

    /// Whether training carries a state here.
    pub fn trains(&self) -> bool {
        self.spaces[State::Training as usize].streams > 0
    }

    /// Sets the carried state of training for `streams` streams.
    pub fn set_training_state(&mut self, streams: usize, h: &[f32], c: &[f32]) -> Result<(), EngineError> {
        let space = &mut self.spaces[State::Training as usize];
        // One step of room is enough to hold a state; the first chunk makes the rest.
        space.fit(&self.plan, Use::Training { dropout: false }, streams, 1)?;
        space.import(&self.plan, h, c);
        Ok(())
    }
}

/// The most streams that are faster here than in lanes, for LSTM, GRU and RNN of 150 units on one thread: with AVX-512 8
/// LSTM streams take less than half of the time there, RNN streams about as long.
fn most_streams(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => 8,
        Isa::Avx2 => 4,
        Isa::Portable => 4,
    }
}
