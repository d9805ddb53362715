//! The engine's two paths, streams in lanes and units in lanes: which copy of the parameters is up to date, and handing
//! over from one path to the other.

use super::batch::Batch;
use super::geometry::{Geometry, Isa};
use super::narrow::{Rule, State};
use super::profile::Stage;
use super::weights::Weights;
use super::{
    Chunk, CpuEngine, EngineError, EngineSpec, Fixed, Hyper, ModelShape, Precision, SampleRequest,
    SampledTune, Stats,
};

/// Copies of the parameters (and moments) that are up to date.
#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    /// The arena: `params` and `moments`.
    pub arena: bool,
    /// `weights`, packed from the arena.
    pub lanes: bool,
    /// The same in parts, for [`Split`].
    pub split: bool,
    /// The same in fixed point.
    pub fixed: bool,
    /// The narrow path's own.
    pub narrow: bool,
}

impl Fresh {
    /// The arena alone.
    pub const ARENA: Fresh = Fresh { arena: true, lanes: false, split: false, fixed: false, narrow: false };
}

/// f32 in parts of bf16 ([`Geometry::split`]), which trains many streams. Nothing else: its forward passes have other bits
/// than those of few streams, and a text's loss and a tune must not depend on how many there are.
pub struct Split {
    /// Its sizes.
    pub geo: Geometry,
    /// Its weights.
    pub weights: Weights,
}

impl Split {
    /// For a model, where it pays.
    pub fn new(shape: ModelShape, isa: Isa, precision: Precision) -> Result<Option<Split>, EngineError> {
        let geo = Some(isa).filter(|_| precision == Precision::F32);
        let geo = geo.and_then(|isa| Geometry::split(shape, isa));
        geo.map(|geo| Ok(Split { geo, weights: Weights::new(&geo)? })).transpose()
    }
}

/// Whether an update is done: loss and gradient are finite, and the loss is not too large.
pub fn accepts(stats: &Stats, hyper: &Hyper) -> bool {
    let loss = stats.mean_loss();
    stats.grad_norm.is_finite() && loss.is_finite() && loss <= f64::from(hyper.skip_above)
}

/// `n` zeros, or the error that says what they were for.
pub fn zeros(n: usize, what: &'static str) -> Result<Vec<f32>, EngineError> {
    let mut values = Vec::new();
    values.try_reserve_exact(n).map_err(|_| EngineError::OutOfMemory { what, needed: 4 * n as u64 })?;
    values.resize(n, 0.0);
    Ok(values)
}

impl CpuEngine {
    /// Brings the arena up to date.
    pub(super) fn use_arena(&mut self) {
        if !self.fresh.arena {
            self.narrow.export(&mut self.params, &mut self.moments);
            self.fresh.arena = true;
        }
    }

    /// Before a chunk with streams in lanes: packs the weights where that is due; the state is this path's alone.
    pub(super) fn use_lanes(&mut self, state: State) {
        self.narrow.leave(state);
        self.pack();
    }

    pub(super) fn pack(&mut self) {
        self.use_arena();
        if !self.fresh.lanes {
            let (weights, geo, params) = (&mut self.weights, &self.geo, &self.params);
            let (pool, precision) = (&self.pool, self.precision);
            self.profile.time(Stage::Pack, || pool.install(|| weights.pack(geo, precision, params)));
            self.fresh.lanes = true;
        }
    }

    /// The instructions, as `Engine::info` tells them.
    pub(super) fn detail(&self) -> String {
        let also = match (self.split.is_some(), self.fixed.is_some()) {
            (true, true) => " (in amx: training of many streams, sampling)",
            (true, false) => " (in amx: training of many streams)",
            (false, true) => " (in amx: sampling)",
            (false, false) => "",
        };
        format!("{}{also}, {} threads", self.geo.isa, self.pool.current_num_threads())
    }

    /// Those that sampled or trained last, or that will train.
    pub(super) fn tier(&self) -> &'static str {
        if self.fresh.fixed && self.fixed.as_ref().is_some_and(Fixed::serves) {
            return Isa::Amx.tier();
        }
        let trained = self.split.as_ref().filter(|split| split.geo.splits(self.training.streams));
        trained.map_or(self.geo.isa, |split| split.geo.isa).tier()
    }

    /// What trains so many streams, with streams in lanes.
    pub(super) fn training_geo(&self, streams: usize) -> Geometry {
        self.split.as_ref().filter(|split| split.geo.splits(streams)).map_or(self.geo, |split| split.geo)
    }

    /// Before a chunk with streams in lanes to be trained on: as [`CpuEngine::use_lanes`].
    pub(super) fn use_training(&mut self, streams: usize) {
        if !self.training_geo(streams).splits(streams) {
            return self.use_lanes(State::Training);
        }
        self.narrow.leave(State::Training);
        self.use_arena();
        if let Some(split) = self.split.as_mut().filter(|_| !self.fresh.split) {
            let (pool, params) = (&self.pool, &self.params);
            let pack = || split.weights.pack(&split.geo, Precision::F32, params);
            self.profile.time(Stage::Pack, || pool.install(pack));
            self.fresh.split = true;
        }
    }

    /// The weights that [`CpuEngine::use_training`] packed.
    pub(super) fn training_weights<'a>(
        split: &'a Option<Split>,
        geo: &Geometry,
        weights: &'a Weights,
    ) -> &'a Weights {
        split.as_ref().filter(|split| split.geo.short == geo.short).map_or(weights, |split| &split.weights)
    }

    /// What samples f32, where tiles of bytes are there and were not declined.
    pub(super) fn fixed(spec: &EngineSpec, isa: Isa) -> Result<Option<Fixed>, EngineError> {
        if isa == Isa::Amx && spec.precision == Precision::F32 { Fixed::new(spec.shape) } else { Ok(None) }
    }

    /// Packs the weights in fixed point where that is due; whether there are such, and these parameters can be.
    pub(super) fn pack_fixed(&mut self) -> bool {
        if self.fixed.is_some() {
            self.use_arena();
        }
        let Some(fixed) = &mut self.fixed else { return false };
        if !self.fresh.fixed {
            let (pool, params) = (&self.pool, &self.params);
            self.profile.time(Stage::Pack, || pool.install(|| fixed.pack(params)));
            self.fresh.fixed = true;
        }
        fixed.serves()
    }

    /// Samples in fixed point, where [`CpuEngine::pack_fixed`] says that it can be.
    pub(super) fn sample_fixed(
        &mut self,
        request: &SampleRequest,
    ) -> Option<Result<Vec<SampledTune>, EngineError>> {
        if !self.pack_fixed() {
            return None;
        }
        let fixed = self.fixed.as_ref()?;
        Some(match self.narrow.team() {
            Some((team, pace)) if request.tunes == 1 => fixed.sample_one(team, pace, request),
            _ => self.pool.install(|| fixed.sample(request)),
        })
    }

    /// Before a chunk of few streams: the same for the narrow path.
    pub(super) fn use_narrow(&mut self, state: State) -> Result<(), EngineError> {
        let batch = match state {
            State::Training => &mut self.training,
            State::Evaluation => &mut self.evaluation,
            State::Stepping => &mut self.stepping,
        };
        *batch = Batch::default();
        self.pack_narrow()
    }

    pub(super) fn pack_narrow(&mut self) -> Result<(), EngineError> {
        if !self.fresh.narrow {
            self.narrow.import(&self.params, &self.moments)?;
            self.fresh.narrow = true;
        }
        Ok(())
    }

    /// Forward, backward and, with `update`, the update over a chunk of few streams.
    pub(super) fn train_narrow(
        &mut self,
        chunk: &Chunk,
        hyper: &Hyper,
        update: bool,
    ) -> Result<Stats, EngineError> {
        self.use_narrow(State::Training)?;
        let rule = update.then_some(Rule { hyper: *hyper, update: self.updates + 1, accepts });
        let stats = self.narrow.train(chunk, hyper, self.loss_scale, rule)?;
        if stats.updated {
            self.updates += 1;
            self.fresh = Fresh { arena: false, narrow: true, ..Fresh::ARENA };
        }
        Ok(stats)
    }
}
