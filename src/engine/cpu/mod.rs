//! The CPU engine: f32, bf16 where the machine multiplies it (`short`, which also trains many streams of f32 where the
//! machine has AMX), and the storage rounding of bf16 and f16 in software; needs nothing but this machine.
//!
//! Batch rows are split into slices (`geometry`), each of which runs a whole chunk, forward and backward, on one
//! thread with no barrier in between (`forward`, `head`, `backward`). Three phases make a step: slices; weight
//! gradients, one product over T x B a panel (`gradient`); norm, update and packing (`update`, `weights`). Nothing in
//! them depends on the number of threads, so results are bit-equal for any. Few streams take another path (`narrow`),
//! which has units in lanes and the same forward bits; `paths` hands over between the two.

mod activations;
mod backward;
pub mod bare;
mod batch;
mod buffer;
mod cells;
mod dispatch;
#[cfg(target_arch = "x86_64")]
mod fixed;
#[cfg(not(target_arch = "x86_64"))]
#[path = "fixed/absent.rs"]
mod fixed;
mod forward;
mod geometry;
mod gradient;
mod head;
mod jobs;
mod loss_scale;
mod math;
mod narrow;
#[cfg(target_os = "linux")]
mod pages;
mod paths;
mod profile;
mod sampler;
#[cfg(target_arch = "x86_64")]
mod short;
#[cfg(not(target_arch = "x86_64"))]
#[path = "short/absent.rs"]
mod short;
mod simd;
mod space;
mod team;
#[cfg(test)]
mod tests;
mod tunes;
mod update;
mod weights;

use std::collections::HashMap;

use rayon::prelude::*;

use super::{
    Chunk, DeviceFacts, Engine, EngineError, EngineInfo, EngineSpec, EngineState, FIRST_LOSS_SCALE, Hyper,
    LayerActivations, Phase, Precision, SampleRequest, SampledTune, Stats, Ticket,
};
use crate::model::ModelShape;
use crate::pinning::pin_thread;
use batch::Batch;
use dispatch::{Work, run_update};
use fixed::Fixed;
use forward::{Dropout, Pass};
use geometry::Geometry;
pub use geometry::Isa;
use jobs::Jobs;
use narrow::{Narrow, State};
use paths::{Fresh, Split, accepts, zeros};
use profile::{Profile, Stage};
use space::Use;
use update::{BLOCK, Step, sum_of_squares};
use weights::Weights;

/// More threads than any machine has cores are a mistake, and starting them would take the machine down.
const MOST_THREADS: usize = 1024;

/// See the module's documentation.
pub struct CpuEngine {
    /// What [`EngineInfo::note`] says.
    pub(super) note: Option<String>,
    geo: Geometry,
    precision: Precision,
    pool: rayon::ThreadPool,
    weights: Weights,
    split: Option<Split>,
    fixed: Option<Fixed>,
    narrow: Narrow,
    /// Which copies of the parameters are up to date; one of them always is.
    fresh: Fresh,
    params: Vec<f32>,
    grads: Vec<f32>,
    /// Sums of squares of the gradients' blocks.
    squares: Vec<f64>,
    moments: [Vec<f32>; 2],
    jobs: Jobs,
    updates: u64,
    loss_scale: f32,
    good_steps: u32,
    training: Batch,
    evaluation: Batch,
    stepping: Batch,
    unread: HashMap<u64, Stats>,
    tickets: u64,
    profile: Profile,
}

impl CpuEngine {
    /// An engine with zero parameters on the best instruction set this machine has.
    pub fn new(spec: &EngineSpec) -> Result<CpuEngine, EngineError> {
        CpuEngine::on(spec, Isa::detect().map_err(EngineError::Unsupported)?)
    }

    /// The same on a given instruction set; refused where the machine lacks it.
    pub fn on(spec: &EngineSpec, isa: Isa) -> Result<CpuEngine, EngineError> {
        if !Isa::available().contains(&isa) {
            return Err(EngineError::Unsupported(format!("this machine does not have {isa}")));
        }
        spec.shape.check().map_err(EngineError::Unsupported)?;
        if spec.threads > MOST_THREADS {
            let message =
                format!("{} threads; expected at most {MOST_THREADS} (0: one a core)", spec.threads);
            return Err(EngineError::Unsupported(message));
        }
        let geo = Geometry::new(spec.shape, isa.running(spec.precision));
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(spec.threads)
            .thread_name(|i| format!("engine-{i}"))
            .start_handler(pin_thread)
            .build()
            .map_err(|e| {
                EngineError::Unsupported(format!(
                    "threads could not be started: {e}; use a smaller --threads"
                ))
            })?;
        let params = zeros(spec.shape.params(), "parameters")?;
        let threads = pool.current_num_threads();
        Ok(CpuEngine {
            note: None,
            geo,
            precision: spec.precision,
            pool,
            weights: Weights::new(&geo)?,
            split: Split::new(spec.shape, isa, spec.precision)?,
            fixed: CpuEngine::fixed(spec, isa)?,
            narrow: Narrow::new(spec.shape, isa, spec.precision, threads),
            fresh: Fresh::ARENA,
            params,
            grads: Vec::new(),
            squares: Vec::new(),
            moments: [Vec::new(), Vec::new()],
            jobs: Jobs::default(),
            updates: 0,
            loss_scale: if spec.precision == Precision::F16 { FIRST_LOSS_SCALE } else { 1.0 },
            good_steps: 0,
            training: Batch::default(),
            evaluation: Batch::default(),
            stepping: Batch::default(),
            unread: HashMap::new(),
            tickets: 0,
            profile: Profile::default(),
        })
    }

    fn pass<'a>(geo: &'a Geometry, weights: &'a Weights, precision: Precision, steps: usize) -> Pass<'a> {
        Pass { geo, weights, precision, steps, dropout: None, gradient_scale: 0.0 }
    }

    /// Memory for gradients, from the first time they are needed.
    fn prepare_gradients(&mut self, geo: &Geometry) -> Result<(), EngineError> {
        let (pool, jobs) = (&self.pool, &mut self.jobs);
        pool.install(|| jobs.fit(geo))?;
        if self.grads.is_empty() {
            self.grads = zeros(self.params.len(), "gradients")?;
            self.squares = vec![0.0; self.params.len().div_ceil(BLOCK)];
        }
        Ok(())
    }

    /// Forward and backward over a chunk; gradients into `self.grads`, unscaled; the state is carried.
    fn gradients(&mut self, chunk: &Chunk, hyper: &Hyper) -> Result<Stats, EngineError> {
        self.use_training(chunk.streams);
        let dropout = hyper.dropout > 0.0;
        let geo = &self.training_geo(chunk.streams);
        self.training.fit(geo, Use::Training { dropout }, chunk.streams, chunk.steps)?;
        self.prepare_gradients(geo)?;
        let weights = CpuEngine::training_weights(&self.split, geo, &self.weights);
        let predicted = chunk.predicted();
        let pass = Pass {
            dropout: dropout.then_some(Dropout {
                p: hyper.dropout,
                seed: hyper.seed,
                time: hyper.time as u32,
            }),
            gradient_scale: self.loss_scale / predicted.max(1) as f32,
            ..CpuEngine::pass(geo, weights, self.precision, chunk.steps)
        };
        let (training, jobs, grads) = (&mut self.training, &mut self.jobs, &mut self.grads);
        let unscale = 1.0 / self.loss_scale;
        let (profile, squares) = (&mut self.profile, &mut self.squares);
        let norm = self.pool.install(|| {
            profile.time(Stage::Slices, || training.run(Work::Train, &pass, chunk));
            if !geo.sums_along() {
                profile.time(Stage::Gradients, || jobs.run(geo, &training.slices, chunk.steps, true));
            }
            profile.time(Stage::Collect, || {
                jobs.collect(geo, &training.slices, unscale, grads, true);
                // Partial sums over fixed blocks, added in order: the same for any number of threads.
                let sums = grads.par_chunks(BLOCK).zip(&mut *squares);
                rayon::join(
                    || sums.for_each(|(block, sum)| *sum = sum_of_squares(block)),
                    || training.carry(geo, chunk.steps),
                );
                squares.iter().sum::<f64>().sqrt()
            })
        });
        Ok(Stats {
            loss_sum: self.training.loss_sum(chunk.steps),
            predicted: predicted as u64,
            grad_norm: norm as f32,
            updated: false,
            loss_scale: self.loss_scale,
        })
    }

    fn update(&mut self, hyper: &Hyper, norm: f32) -> Result<(), EngineError> {
        for moment in &mut self.moments {
            if moment.is_empty() {
                *moment = zeros(self.params.len(), "optimiser moments")?;
            }
        }
        self.updates += 1;
        let factor = if hyper.clip > 0.0 { (hyper.clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let step = Step::new(hyper, factor, self.updates);
        let isa = self.geo.isa;
        let [first, second] = &mut self.moments;
        let (params, grads) = (&mut self.params, &self.grads);
        let pool = &self.pool;
        self.profile.time(Stage::Update, || {
            pool.install(|| {
                params
                    .par_chunks_mut(BLOCK)
                    .zip(grads.par_chunks(BLOCK))
                    .zip(first.par_chunks_mut(BLOCK).zip(second.par_chunks_mut(BLOCK)))
                    .for_each(|((p, g), (m, v))| run_update(isa, &step, p, g, m, v));
            });
        });
        self.fresh = Fresh::ARENA;
        Ok(())
    }

    fn evaluate(&mut self, chunk: &Chunk) -> Result<(), EngineError> {
        self.use_lanes(State::Evaluation);
        self.evaluation.fit(&self.geo, Use::Inference, chunk.streams, chunk.steps)?;
        let pass = CpuEngine::pass(&self.geo, &self.weights, self.precision, chunk.steps);
        let evaluation = &mut self.evaluation;
        self.pool.install(|| evaluation.run(Work::Evaluate, &pass, chunk));
        Ok(())
    }

    fn ticket(&mut self, stats: Stats) -> Ticket {
        self.tickets += 1;
        self.unread.insert(self.tickets, stats);
        Ticket(self.tickets)
    }
}

impl Engine for CpuEngine {
    fn info(&self) -> EngineInfo {
        EngineInfo {
            name: "cpu",
            detail: self.detail(),
            tier: Some(self.tier()),
            device: DeviceFacts::cpu(),
            precision: self.precision,
            note: self.note.clone(),
            chosen: None,
        }
    }

    fn shape(&self) -> ModelShape {
        self.geo.shape
    }

    fn load_params(&mut self, params: &[f32]) -> Result<(), EngineError> {
        super::check_length("params", self.params.len(), params.len())?;
        self.use_arena(); // The moments stay.
        self.params.copy_from_slice(params);
        self.fresh = Fresh::ARENA;
        self.narrow.forget();
        for batch in [&mut self.training, &mut self.evaluation, &mut self.stepping] {
            batch.forget(&self.geo);
        }
        Ok(())
    }

    fn export_params(&self) -> Result<Vec<f32>, EngineError> {
        let mut params = self.params.clone();
        if !self.fresh.arena {
            self.narrow.export(&mut params, &mut Default::default());
        }
        Ok(params)
    }

    fn train_chunk(&mut self, chunk: &Chunk, hyper: &Hyper) -> Result<Ticket, EngineError> {
        chunk.check(self.geo.shape.vocab)?;
        let narrow = self.narrow.serves_training(chunk.streams);
        let mut stats =
            if narrow { self.train_narrow(chunk, hyper, true)? } else { self.gradients(chunk, hyper)? };
        let loss = stats.mean_loss();
        let finite = stats.grad_norm.is_finite() && loss.is_finite();
        if narrow {
            if !stats.updated {
                self.narrow.mend();
            }
        } else if accepts(&stats, hyper) {
            stats.updated = true;
            self.update(hyper, stats.grad_norm)?;
        } else if !self.training.is_finite(&self.geo) {
            self.training.forget(&self.geo);
        }
        // A loss that is not finite is not the scale's doing.
        if loss.is_finite() {
            self.adapt_loss_scale(finite);
        }
        Ok(self.ticket(stats))
    }

    fn grad_chunk(&mut self, chunk: &Chunk, hyper: &Hyper) -> Result<(Stats, Vec<f32>), EngineError> {
        chunk.check(self.geo.shape.vocab)?;
        if self.narrow.serves_training(chunk.streams) {
            let stats = self.train_narrow(chunk, hyper, false)?;
            let mut grads = zeros(self.params.len(), "gradients")?;
            self.narrow.grads(&mut grads);
            return Ok((stats, grads));
        }
        let stats = self.gradients(chunk, hyper)?;
        Ok((stats, self.grads.clone()))
    }

    fn eval_chunk(&mut self, chunk: &Chunk) -> Result<Ticket, EngineError> {
        chunk.check(self.geo.shape.vocab)?;
        if self.narrow.serves(chunk.streams) {
            self.use_narrow(State::Evaluation)?;
            let (stats, _) = self.narrow.evaluate(chunk)?;
            return Ok(self.ticket(Stats { loss_scale: self.loss_scale, ..stats }));
        }
        self.evaluate(chunk)?;
        let stats = Stats {
            loss_sum: self.evaluation.loss_sum(chunk.steps),
            predicted: chunk.predicted() as u64,
            loss_scale: self.loss_scale,
            ..Stats::default()
        };
        Ok(self.ticket(stats))
    }

    fn eval_each(&mut self, chunk: &Chunk) -> Result<Vec<f32>, EngineError> {
        chunk.check(self.geo.shape.vocab)?;
        if self.narrow.serves(chunk.streams) {
            self.use_narrow(State::Evaluation)?;
            return Ok(self.narrow.evaluate(chunk)?.1.to_vec());
        }
        self.evaluate(chunk)?;
        let mut losses = vec![0.0; chunk.steps * chunk.streams];
        for slice in &self.evaluation.slices {
            for t in 0..chunk.steps {
                let from = &slice.losses.as_slice()[t * slice.width..][..slice.used];
                losses[t * chunk.streams + slice.first..][..slice.used].copy_from_slice(from);
            }
        }
        Ok(losses)
    }

    fn step(&mut self, ids: &[u16], resets: &[u8], logits: &mut [f32]) -> Result<(), EngineError> {
        let chunk = super::step_chunk(&self.geo.shape, ids, resets, logits)?;
        if self.narrow.serves(chunk.streams) {
            self.use_narrow(State::Stepping)?;
            return self.narrow.step(&chunk, logits);
        }
        self.use_lanes(State::Stepping);
        self.stepping.fit(&self.geo, Use::Inference, chunk.streams, 1)?;
        let pass = CpuEngine::pass(&self.geo, &self.weights, self.precision, 1);
        let stepping = &mut self.stepping;
        self.pool.install(|| stepping.run(Work::Logits, &pass, &chunk));
        let vocab = self.geo.shape.vocab;
        for slice in &self.stepping.slices {
            for lane in 0..slice.used {
                let row = &mut logits[(slice.first + lane) * vocab..][..vocab];
                for (class, out) in row.iter_mut().enumerate() {
                    *out = slice.logits.as_slice()[class * slice.width + lane];
                }
            }
        }
        Ok(())
    }

    fn sample(&mut self, request: &SampleRequest) -> Result<Vec<SampledTune>, EngineError> {
        crate::sample::check_request(request, self.geo.shape.vocab)?;
        if let Some(tunes) = self.sample_fixed(request) {
            return tunes;
        }
        if self.narrow.samples(request.tunes, self.pool.current_num_threads()) {
            self.pack_narrow()?;
            return self.narrow.sample(&self.pool, request);
        }
        self.pack();
        let pass = CpuEngine::pass(&self.geo, &self.weights, self.precision, 1);
        self.pool.install(|| sampler::sample(&pass, request))
    }

    /// Gates are what the cell used: LSTM i, f, g, o; GRU r, z, n; RNN h itself.
    fn tap(&mut self, ids: &[u16]) -> Result<Vec<LayerActivations>, EngineError> {
        let mut chunk = Chunk::new(ids.len(), 1);
        chunk.ids.copy_from_slice(ids);
        chunk.check(self.geo.shape.vocab)?;
        self.pack();
        let mut batch = Batch::default();
        batch.fit(&self.geo, Use::Training { dropout: false }, 1, chunk.steps)?;
        let pass = CpuEngine::pass(&self.geo, &self.weights, self.precision, chunk.steps);
        self.pool.install(|| batch.run(Work::States, &pass, &chunk));
        Ok(match self.geo.short {
            Some(_) => short::activations(&self.geo, &batch.slices[0], chunk.steps),
            None => activations::of(&self.geo, &batch.slices[0], chunk.steps),
        })
    }

    fn save_state(&self) -> Result<EngineState, EngineError> {
        let (h, c) =
            if self.narrow.trains() { self.narrow.training_state() } else { self.training.export(&self.geo) };
        let (mut params, mut moments) = (self.params.clone(), self.moments.clone());
        if !self.fresh.arena {
            self.narrow.export(&mut params, &mut moments);
        }
        Ok(EngineState {
            params,
            moments,
            updates: self.updates,
            h,
            c,
            loss_scale: self.loss_scale,
            good_steps: self.good_steps,
        })
    }

    fn load_state(&mut self, state: &EngineState) -> Result<(), EngineError> {
        let streams = super::check_state(&self.geo.shape, state)?;
        self.load_params(&state.params)?;
        self.moments = state.moments.clone();
        self.fresh = Fresh::ARENA;
        self.updates = state.updates;
        self.loss_scale = state.loss_scale;
        self.good_steps = state.good_steps;
        if self.narrow.serves_training(streams) {
            self.training = Batch::default();
            self.narrow.set_training_state(streams, &state.h, &state.c)?;
        } else if streams > 0 {
            self.narrow.leave(State::Training);
            // One step of room is enough to hold a state; the first chunk makes the rest.
            let geo = self.training_geo(streams);
            self.training.fit(&geo, Use::Training { dropout: false }, streams, 1)?;
            self.training.import(&geo, &state.h, &state.c);
        }
        Ok(())
    }

    fn layers(&mut self, chunk: &Chunk, backward: bool) -> Result<(), EngineError> {
        chunk.check(self.geo.shape.vocab)?;
        if self.narrow.serves_training(chunk.streams) {
            self.use_narrow(State::Training)?;
            return self.narrow.layers(chunk, backward);
        }
        self.use_training(chunk.streams);
        let geo = &self.training_geo(chunk.streams);
        self.training.fit(geo, Use::Training { dropout: false }, chunk.streams, chunk.steps)?;
        if backward {
            self.prepare_gradients(geo)?;
        }
        let weights = CpuEngine::training_weights(&self.split, geo, &self.weights);
        let pass = CpuEngine::pass(geo, weights, self.precision, chunk.steps);
        let (training, jobs, grads) = (&mut self.training, &mut self.jobs, &mut self.grads);
        self.pool.install(|| {
            if !backward {
                return training.run(Work::States, &pass, chunk);
            }
            training.run(Work::Layers, &pass, chunk);
            jobs.run(geo, &training.slices, chunk.steps, false);
            jobs.collect(geo, &training.slices, 1.0, grads, false);
            training.carry(geo, chunk.steps);
        });
        Ok(())
    }

    fn phases(&mut self) -> Vec<Phase> {
        self.profile.take(&mut self.training.slices, self.pool.current_num_threads())
    }

    fn sync(&mut self, ticket: Ticket) -> Result<Stats, EngineError> {
        self.unread.remove(&ticket.0).ok_or(EngineError::Ticket(ticket.0))
    }
}
