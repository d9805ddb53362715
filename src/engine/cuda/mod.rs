//! The CUDA engine: kernels of our own for everything, one captured graph a chunk, one synchronisation, in `sync`.
//!
//! Layers of it, from the device up: `driver` (what runs kernels), `params` and `queue` (kernels as functions), `layout`
//! (where parameters lie), `rnn` (tiers of recurrent kernels), `workspace`, `network` (the kernels of a chunk in
//! order), `tickets` (statistics on their way back), `sampler`.

pub mod driver;
pub mod images;
pub mod layout;
mod marks;
mod network;
pub mod params;
mod pieces;
mod queue;
pub mod report;
pub mod rnn;
pub mod sampler;
mod state;
mod tickets;
pub mod tune;
mod uploads;
mod values;
mod workspace;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{
    Chunk, Engine, EngineError, EngineInfo, EngineState, FIRST_LOSS_SCALE, Hyper, Kernel, LayerActivations,
    Mark, MemoryUse, Precision, SampleRequest, SampledTune, Stats, Ticket,
};
use crate::model::ModelShape;
use driver::{Buffer, Driver, DriverError, Graph};
use layout::Layout;
use marks::Marks;
use network::{Memory, Pass, Training};
use params::{Decision, NORM_BLOCKS, Scaler, StepStats};
use pieces::Pieces;
use queue::Queue;
use rnn::{RnnPlan, Wanted};
use tickets::Tickets;
use tune::KernelChoice;
use uploads::{Uploads, step_hyper};
use workspace::{Carried, Input, STREAM_GROUP, Workspace};

/// Graphs kept: shapes of chunks that come again and again.
const MOST_GRAPHS: usize = 32;

/// Sizes that the kernels' 32-bit indices can count.
const MOST_ELEMENTS: usize = 1 << 31;

impl From<DriverError> for EngineError {
    fn from(error: DriverError) -> EngineError {
        match error {
            DriverError::OutOfMemory { needed, available, total } => {
                EngineError::OutOfDeviceMemory { needed, available, total }
            }
            DriverError::Unsupported(why) => EngineError::Unsupported(why),
            other => EngineError::Device(other.to_string()),
        }
    }
}

/// What a pass over a chunk is for; each has its own order of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Train { dropout: bool },
    Gradient { dropout: bool },
    Evaluate,
    Logits,
    Layers { backward: bool },
}

/// What memory is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Purpose {
    /// A backward pass follows.
    training: bool,
    /// Somebody looks at gates and cell states.
    gates: bool,
}

/// Which captured graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct GraphKey {
    kind: Kind,
    steps: usize,
    streams: usize,
}

/// A workspace, a carried state and the graphs captured over them.
#[derive(Default)]
struct Place {
    space: Option<Workspace>,
    carried: Option<Carried>,
    graphs: HashMap<GraphKey, Graph>,
    seen: HashSet<GraphKey>,
}

/// See the module's documentation.
pub struct CudaEngine {
    training: Place,
    evaluation: Place,
    stepping: Place,
    uploads: Uploads,
    tickets: Tickets,
    marks: Marks,
    memory: Memory,
    _partials: Buffer,
    /// What timing chose, and what there is to say of it.
    chosen: Option<KernelChoice>,
    note: Option<String>,
    /// Why the library's calls cannot be captured, once that has shown: they are enqueued one by one from then on.
    uncaptured: Option<String>,
    plan: Box<dyn RnnPlan>,
    layout: Layout,
    queue: Queue,
}

impl CudaEngine {
    /// An engine with zero parameters on a device.
    pub fn new(
        driver: Arc<dyn Driver>,
        shape: ModelShape,
        precision: Precision,
        kernel: Kernel,
    ) -> Result<CudaEngine, EngineError> {
        let plan =
            rnn::plan(&Wanted { shape, precision, facts: driver.facts(), driver: Some(&driver) }, kernel)?;
        CudaEngine::with_plan(driver, shape, precision, plan)
    }

    /// The same with a plan for this shape, precision and device.
    pub fn with_plan(
        driver: Arc<dyn Driver>,
        shape: ModelShape,
        precision: Precision,
        plan: Box<dyn RnnPlan>,
    ) -> Result<CudaEngine, EngineError> {
        shape.check().map_err(EngineError::Unsupported)?;
        let layout = Layout::new(shape, plan.units());
        if layout.len >= MOST_ELEMENTS {
            return Err(EngineError::Unsupported(format!("{} parameters; at most 2^31 here", layout.len)));
        }
        let size = if precision == Precision::F32 { 4 } else { 2 };
        let columns = layout.gate_columns();
        let largest = columns * layout.units.max(layout.classes);
        let partials_len = Queue::PARTIALS.max(largest).max(layout.classes * layout.units);
        let partials = Buffer::new(&driver, 4 * partials_len)?;
        let memory = Memory {
            params: Buffer::zeroed(&driver, 4 * layout.len)?,
            shadow: Buffer::zeroed(&driver, if precision == Precision::F32 { 0 } else { size * layout.len })?,
            table: Buffer::zeroed(&driver, size * layout.classes * columns)?,
            biases: Buffer::zeroed(&driver, 4 * shape.layers * columns)?,
            stats: Buffer::zeroed(&driver, size_of::<StepStats>())?,
            decision: Buffer::zeroed(&driver, size_of::<Decision>())?,
            scaler: Buffer::new(&driver, size_of::<Scaler>())?,
            squares: Buffer::zeroed(&driver, 8 * NORM_BLOCKS)?,
            training: None,
        };
        let loss_scale = if precision == Precision::F16 { FIRST_LOSS_SCALE } else { 1.0 };
        memory.scaler.write(&[Scaler { updates: 0, loss_scale, good_steps: 0 }])?;
        Ok(CudaEngine {
            training: Place::default(),
            evaluation: Place::default(),
            stepping: Place::default(),
            uploads: Uploads::default(),
            tickets: Tickets::new(&driver)?,
            marks: Marks::default(),
            memory,
            plan,
            layout,
            queue: Queue { partials: partials.at(), partials_len, driver, precision },
            _partials: partials,
            chosen: None,
            note: None,
            uncaptured: None,
        })
    }

    /// Says that timing chose this plan.
    pub(super) fn chose(&mut self, chosen: KernelChoice, note: String) {
        (self.chosen, self.note) = (Some(chosen), Some(note));
    }

    /// Something to say first of all.
    pub(super) fn warn(&mut self, words: String) {
        self.note = Some(match self.note.take() {
            Some(note) => format!("{words}; {note}"),
            None => words,
        });
    }

    /// The recurrent tier that serves.
    pub fn tier(&self) -> &'static str {
        self.plan.tier()
    }

    /// Makes a place fit a chunk: the carried state where the number of streams changed, the workspace where the size
    /// did.
    fn fit(
        driver: &Arc<dyn Driver>,
        layout: &Layout,
        plan: &dyn RnnPlan,
        precision: Precision,
        place: &mut Place,
        chunk: &Chunk,
        Purpose { training, gates }: Purpose,
    ) -> Result<(), EngineError> {
        let streams = chunk.streams.next_multiple_of(STREAM_GROUP);
        // Single steps are our own kernels' (a library gains nothing there), and so are chunks whose gates are looked at.
        let library = plan.library().filter(|_| chunk.steps > 1 && !gates);
        let input = Input { steps: chunk.steps, streams, library: library.is_some() };
        let widest = layout.gate_columns().max(layout.classes);
        if chunk.steps.saturating_mul(streams).saturating_mul(widest) >= MOST_ELEMENTS {
            return Err(EngineError::Unsupported(format!(
                "a chunk of {} steps of {streams} streams has more than 2^31 activations; use a smaller --batch or --seq-len",
                chunk.steps
            )));
        }
        if place.carried.as_ref().is_none_or(|c| c.real != chunk.streams) {
            if place.carried.as_ref().is_none_or(|c| c.streams != streams) {
                place.graphs.clear();
                place.seen.clear();
                place.carried = None;
                place.carried = Some(Carried::zero(driver, layout, precision, chunk.streams)?);
            } else if let Some(carried) = &mut place.carried {
                carried.clear(driver)?;
                carried.real = chunk.streams;
            }
        }
        let fits = |space: &Workspace| space.input == input && space.training >= training;
        if !place.space.as_ref().is_some_and(fits) {
            place.graphs.clear();
            place.seen.clear();
            place.space = None;
            let scratch = match library {
                Some(library) => library.scratch(layout, input, training)?,
                None => plan.layers().scratch(streams),
            };
            place.space = Some(Workspace::new(driver, layout, precision, input, training, scratch)?);
        }
        Ok(())
    }

    /// Uploads a chunk and enqueues its kernels: captured where this shape came before.
    fn run(&mut self, kind: Kind, chunk: &Chunk, hyper: Option<&Hyper>) -> Result<(), EngineError> {
        chunk.check(self.layout.shape.vocab)?;
        let training = matches!(kind, Kind::Train { .. } | Kind::Gradient { .. } | Kind::Layers { .. });
        if training && self.memory.training.is_none() {
            self.memory.training = Some(Training::zeroed(&self.queue.driver, &self.layout)?);
        }
        let place = match kind {
            Kind::Train { .. } | Kind::Gradient { .. } | Kind::Layers { .. } => &mut self.training,
            Kind::Evaluate => &mut self.evaluation,
            Kind::Logits => &mut self.stepping,
        };
        let (driver, layout, plan) = (&self.queue.driver, &self.layout, &*self.plan);
        let purpose = Purpose { training, gates: false };
        CudaEngine::fit(driver, layout, plan, self.queue.precision, place, chunk, purpose)?;
        let (Some(space), Some(carried)) = (&place.space, &place.carried) else {
            return Err(EngineError::Device("a chunk without memory".into()));
        };
        let step = step_hyper(hyper, chunk.predicted());
        let streams = space.input.streams;
        let pieces = if space.input.library { Pieces::cut(chunk, streams) } else { None };
        self.uploads.send(driver, space, chunk, &step, pieces.as_ref())?;
        let dropout = matches!(kind, Kind::Train { dropout: true } | Kind::Gradient { dropout: true });
        let pieces = pieces.as_ref();
        let pass =
            Pass { queue: &self.queue, plan, layout, memory: &self.memory, space, carried, dropout, pieces };
        if pieces.is_some() || (space.input.library && self.uncaptured.is_some()) {
            // Where tunes start inside the chunk the calls depend on it: nothing that could be replayed.
            return Ok(enqueue(&pass, kind)?);
        }
        let key = GraphKey { kind, steps: chunk.steps, streams };
        if let Some(graph) = place.graphs.get(&key) {
            graph.launch()?;
        } else if place.seen.insert(key) {
            enqueue(&pass, kind)?;
        } else {
            if place.graphs.len() >= MOST_GRAPHS {
                place.graphs.clear();
            }
            match Graph::capture(driver, || enqueue(&pass, kind)) {
                Ok(graph) => {
                    graph.launch()?;
                    place.graphs.insert(key, graph);
                }
                // A library may have calls that cannot be captured; ours can.
                Err(why) if space.input.library => {
                    self.uncaptured = Some(why.to_string());
                    enqueue(&pass, kind)?;
                }
                Err(why) => return Err(why.into()),
            }
        }
        Ok(())
    }

    fn scaler(&self) -> Result<Scaler, EngineError> {
        Ok(self.memory.scaler.read::<Scaler>(0, 1)?[0])
    }

    fn forget_states(&self) -> Result<(), EngineError> {
        for place in [&self.training, &self.evaluation, &self.stepping] {
            if let Some(carried) = &place.carried {
                carried.clear(&self.queue.driver)?;
            }
        }
        Ok(())
    }

    fn set_params(&mut self, params: &[f32]) -> Result<(), EngineError> {
        super::check_length("params", self.layout.shape.params(), params.len())?;
        self.memory.params.write(&self.layout.pack(params))?;
        self.memory.convert(&self.queue, &self.layout)?;
        self.forget_states()
    }
}

/// The kernels of a chunk.
fn enqueue(pass: &Pass, kind: Kind) -> Result<(), DriverError> {
    match kind {
        Kind::Train { .. } | Kind::Gradient { .. } => {
            let Some(training) = &pass.memory.training else {
                return Err(DriverError::Missing("memory for gradients".into()));
            };
            pass.prepare()?;
            pass.forward(true)?;
            pass.head(true)?;
            pass.backward(training)?;
            if matches!(kind, Kind::Train { .. }) { pass.update(training) } else { pass.unscale(training) }
        }
        Kind::Layers { backward } => {
            pass.forward(true)?;
            match &pass.memory.training {
                Some(training) if backward => pass.backward_layers(training),
                _ => Ok(()),
            }
        }
        Kind::Evaluate => {
            pass.forward(false)?;
            pass.head(false)?;
            pass.summarise()
        }
        Kind::Logits => {
            pass.forward(false)?;
            pass.step_logits()
        }
    }
}

impl Engine for CudaEngine {
    fn info(&self) -> EngineInfo {
        let facts = self.queue.driver.facts();
        EngineInfo {
            name: "cuda",
            detail: format!("{}, {} kernels", facts.name, self.plan.tier()),
            tier: Some(self.plan.tier()),
            device: facts.for_people(),
            precision: self.queue.precision,
            note: match (&self.note, &self.uncaptured) {
                (note, None) => note.clone(),
                (note, Some(why)) => Some(format!(
                    "{}cuDNN's calls could not be captured in a graph and are enqueued one by one: {why}",
                    note.as_ref().map_or(String::new(), |note| format!("{note}; "))
                )),
            },
            chosen: self.chosen,
        }
    }

    fn shape(&self) -> ModelShape {
        self.layout.shape
    }

    fn load_params(&mut self, params: &[f32]) -> Result<(), EngineError> {
        self.set_params(params)
    }

    fn export_params(&self) -> Result<Vec<f32>, EngineError> {
        Ok(self.layout.unpack(&self.memory.params.read(0, self.layout.len)?))
    }

    fn train_chunk(&mut self, chunk: &Chunk, hyper: &Hyper) -> Result<Ticket, EngineError> {
        self.run(Kind::Train { dropout: hyper.dropout > 0.0 }, chunk, Some(hyper))?;
        Ok(self.tickets.give(self.memory.stats.at())?)
    }

    fn grad_chunk(&mut self, chunk: &Chunk, hyper: &Hyper) -> Result<(Stats, Vec<f32>), EngineError> {
        self.run(Kind::Gradient { dropout: hyper.dropout > 0.0 }, chunk, Some(hyper))?;
        let ticket = self.tickets.give(self.memory.stats.at())?;
        let stats = self.tickets.read(ticket)?;
        let Some(training) = &self.memory.training else {
            return Err(EngineError::Device("gradients without memory".into()));
        };
        let grads = self.layout.unpack(&training.grads.read(0, self.layout.len)?);
        Ok((stats, grads))
    }

    fn eval_chunk(&mut self, chunk: &Chunk) -> Result<Ticket, EngineError> {
        self.run(Kind::Evaluate, chunk, None)?;
        Ok(self.tickets.give(self.memory.stats.at())?)
    }

    fn eval_each(&mut self, chunk: &Chunk) -> Result<Vec<f32>, EngineError> {
        self.run(Kind::Evaluate, chunk, None)?;
        let Some(space) = &self.evaluation.space else {
            return Err(EngineError::Device("losses without memory".into()));
        };
        let losses: Vec<f32> = space.losses.read(0, space.rows())?;
        Ok(losses.chunks_exact(space.input.streams).flat_map(|row| &row[..chunk.streams]).copied().collect())
    }

    fn step(&mut self, ids: &[u16], resets: &[u8], logits: &mut [f32]) -> Result<(), EngineError> {
        let chunk = super::step_chunk(&self.layout.shape, ids, resets, logits)?;
        self.run(Kind::Logits, &chunk, None)?;
        let Some(space) = &self.stepping.space else {
            return Err(EngineError::Device("logits without memory".into()));
        };
        let (vocab, classes) = (self.layout.shape.vocab, self.layout.classes);
        let padded: Vec<f32> = space.logits.read(0, ids.len() * classes)?;
        for (row, padded) in logits.chunks_exact_mut(vocab).zip(padded.chunks_exact(classes)) {
            row.copy_from_slice(&padded[..vocab]);
        }
        Ok(())
    }

    fn sample(&mut self, request: &SampleRequest) -> Result<Vec<SampledTune>, EngineError> {
        crate::sample::check_request(request, self.layout.shape.vocab)?;
        sampler::sample(&self.queue, &*self.plan, &self.layout, &self.memory, request)
    }

    /// Gates are what the cell used: LSTM i, f, g, o; GRU r, z, n; RNN h itself.
    fn tap(&mut self, ids: &[u16]) -> Result<Vec<LayerActivations>, EngineError> {
        self.activations(ids)
    }

    fn save_state(&self) -> Result<EngineState, EngineError> {
        self.saved()
    }

    fn load_state(&mut self, state: &EngineState) -> Result<(), EngineError> {
        self.restore(state)
    }

    fn sync(&mut self, ticket: Ticket) -> Result<Stats, EngineError> {
        self.tickets.read(ticket)
    }

    fn layers(&mut self, chunk: &Chunk, backward: bool) -> Result<(), EngineError> {
        self.run(Kind::Layers { backward }, chunk, None)
    }

    fn mark(&mut self) -> Result<Mark, EngineError> {
        Ok(self.marks.add(&self.queue.driver)?)
    }

    fn between(&mut self, from: Mark, to: Mark) -> Result<f64, EngineError> {
        self.marks.between(from, to)
    }

    fn memory(&self) -> Option<MemoryUse> {
        let meter = self.queue.driver.meter();
        Some(MemoryUse { of: "device", now: meter.now(), peak: meter.peak() })
    }
}
