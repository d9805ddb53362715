//! The reference engine: f64, naive, gate by gate, readable. The truth every other engine is held against; far too
//! slow to train with. It knows no precision but f64 and no thread but its own.

pub mod cell;
pub mod network;
pub mod update;

use std::collections::HashMap;

use super::{
    Chunk, DeviceFacts, Engine, EngineError, EngineInfo, EngineState, Hyper, LayerActivations, Precision,
    SampleRequest, SampledTune, Stats, Ticket,
};
use crate::model::ModelShape;
use network::{Forward, State};

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct ReferenceEngine {
    shape: ModelShape,
    /// Parameters in arena order, open to finite differences.
    pub params: Vec<f64>,
    moments: [Vec<f64>; 2],
    updates: u64,
    training: State,
    evaluation: State,
    stepping: State,
    unread: HashMap<u64, Stats>,
    tickets: u64,
}

impl ReferenceEngine {
    /// An engine with zero parameters.
    pub fn new(shape: ModelShape) -> ReferenceEngine {
        let n = shape.params();
        ReferenceEngine {
            shape,
            params: vec![0.0; n],
            moments: [vec![0.0; n], vec![0.0; n]],
            updates: 0,
            training: State::default(),
            evaluation: State::default(),
            stepping: State::default(),
            unread: HashMap::new(),
            tickets: 0,
        }
    }

    /// Forward and backward from the carried training state, which is advanced: statistics and gradient `[params]`.
    pub fn gradient(&mut self, chunk: &Chunk, hyper: &Hyper) -> Result<(Stats, Vec<f64>), EngineError> {
        chunk.check(self.shape.vocab)?;
        self.training.fit(&self.shape, chunk.streams);
        let run = network::forward(&self.shape, &self.params, chunk, &mut self.training, Some(hyper));
        let grads = network::backward(&self.shape, &self.params, chunk, &run);
        let stats = Stats { grad_norm: update::norm(&grads) as f32, ..stats(chunk, &run) };
        Ok((stats, grads))
    }

    /// Forward only, on the evaluation state: logits `[T][B][V]` and losses `[T][B]`.
    pub fn forward(&mut self, chunk: &Chunk) -> Result<Forward, EngineError> {
        chunk.check(self.shape.vocab)?;
        self.evaluation.fit(&self.shape, chunk.streams);
        Ok(network::forward(&self.shape, &self.params, chunk, &mut self.evaluation, None))
    }

    /// The carried training state.
    pub fn training_state(&self) -> &State {
        &self.training
    }

    fn ticket(&mut self, stats: Stats) -> Ticket {
        self.tickets += 1;
        self.unread.insert(self.tickets, stats);
        Ticket(self.tickets)
    }
}

fn stats(chunk: &Chunk, run: &Forward) -> Stats {
    Stats {
        loss_sum: run.losses.iter().flatten().sum(),
        predicted: chunk.predicted() as u64,
        grad_norm: 0.0,
        updated: false,
        loss_scale: 1.0,
    }
}

fn to_f32(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&x| x as f32).collect()
}

fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

impl Engine for ReferenceEngine {
    fn info(&self) -> EngineInfo {
        EngineInfo {
            name: "reference",
            detail: "f64, one thread".into(),
            tier: None,
            device: DeviceFacts::cpu(),
            precision: Precision::F32,
            note: None,
            chosen: None,
        }
    }

    fn shape(&self) -> ModelShape {
        self.shape
    }

    fn load_params(&mut self, params: &[f32]) -> Result<(), EngineError> {
        super::check_length("params", self.params.len(), params.len())?;
        self.params = to_f64(params);
        self.training = State::default();
        self.evaluation = State::default();
        self.stepping = State::default();
        Ok(())
    }

    fn export_params(&self) -> Result<Vec<f32>, EngineError> {
        Ok(to_f32(&self.params))
    }

    fn train_chunk(&mut self, chunk: &Chunk, hyper: &Hyper) -> Result<Ticket, EngineError> {
        let (mut stats, mut grads) = self.gradient(chunk, hyper)?;
        let norm = update::norm(&grads);
        let loss = stats.mean_loss();
        stats.updated = norm.is_finite() && loss.is_finite() && loss <= f64::from(hyper.skip_above);
        if stats.updated {
            let factor = update::clip_factor(norm, f64::from(hyper.clip));
            grads.iter_mut().for_each(|g| *g *= factor);
            self.updates += 1;
            update::apply(&mut self.params, &grads, &mut self.moments, self.updates, hyper);
        } else if !self.training.is_finite() {
            self.training = State::zero(&self.shape, chunk.streams);
        }
        Ok(self.ticket(stats))
    }

    fn grad_chunk(&mut self, chunk: &Chunk, hyper: &Hyper) -> Result<(Stats, Vec<f32>), EngineError> {
        let (stats, grads) = self.gradient(chunk, hyper)?;
        Ok((stats, to_f32(&grads)))
    }

    fn eval_chunk(&mut self, chunk: &Chunk) -> Result<Ticket, EngineError> {
        let run = self.forward(chunk)?;
        let stats = stats(chunk, &run);
        Ok(self.ticket(stats))
    }

    fn eval_each(&mut self, chunk: &Chunk) -> Result<Vec<f32>, EngineError> {
        Ok(self.forward(chunk)?.losses.iter().flatten().map(|&x| x as f32).collect())
    }

    fn step(&mut self, ids: &[u16], resets: &[u8], logits: &mut [f32]) -> Result<(), EngineError> {
        let chunk = super::step_chunk(&self.shape, ids, resets, logits)?;
        self.stepping.fit(&self.shape, chunk.streams);
        let run = network::forward(&self.shape, &self.params, &chunk, &mut self.stepping, None);
        for (out, z) in logits.iter_mut().zip(run.logits[0].iter().flatten()) {
            *out = *z as f32;
        }
        Ok(())
    }

    fn sample(&mut self, request: &SampleRequest) -> Result<Vec<SampledTune>, EngineError> {
        crate::sample::by_steps(self, request)
    }

    fn tap(&mut self, ids: &[u16]) -> Result<Vec<LayerActivations>, EngineError> {
        let mut chunk = Chunk::new(ids.len(), 1);
        chunk.ids.copy_from_slice(ids);
        chunk.check(self.shape.vocab)?;
        let mut state = State::zero(&self.shape, 1);
        let run = network::forward(&self.shape, &self.params, &chunk, &mut state, None);
        let gather = |layer: usize, field: fn(&network::Record) -> &Vec<f64>| {
            run.records[layer].iter().flatten().flat_map(|r| field(r).iter().map(|&x| x as f32)).collect()
        };
        Ok((0..self.shape.layers)
            .map(|l| LayerActivations {
                h: gather(l, |r| &r.h),
                c: gather(l, |r| &r.c),
                gates: gather(l, |r| &r.gates),
            })
            .collect())
    }

    fn save_state(&self) -> Result<EngineState, EngineError> {
        Ok(EngineState {
            params: to_f32(&self.params),
            moments: [to_f32(&self.moments[0]), to_f32(&self.moments[1])],
            updates: self.updates,
            h: to_f32(&self.training.h.iter().flatten().flatten().copied().collect::<Vec<_>>()),
            c: to_f32(&self.training.c.iter().flatten().flatten().copied().collect::<Vec<_>>()),
            loss_scale: 1.0,
            good_steps: 0,
        })
    }

    /// The state passes through f32: this engine resumes to rounding, not bit for bit.
    fn load_state(&mut self, state: &EngineState) -> Result<(), EngineError> {
        let streams = super::check_state(&self.shape, state)?;
        self.load_params(&state.params)?;
        for (mine, theirs) in self.moments.iter_mut().zip(&state.moments) {
            *mine = if theirs.is_empty() { vec![0.0; self.params.len()] } else { to_f64(theirs) };
        }
        self.updates = state.updates;
        let mut carried = State::zero(&self.shape, streams);
        let rows = carried.h.iter_mut().flatten().zip(state.h.chunks_exact(self.shape.hidden));
        rows.for_each(|(mine, theirs)| *mine = to_f64(theirs));
        let rows = carried.c.iter_mut().flatten().zip(state.c.chunks_exact(self.shape.hidden));
        rows.for_each(|(mine, theirs)| *mine = to_f64(theirs));
        self.training = carried;
        Ok(())
    }

    fn sync(&mut self, ticket: Ticket) -> Result<Stats, EngineError> {
        self.unread.remove(&ticket.0).ok_or(EngineError::Ticket(ticket.0))
    }
}
