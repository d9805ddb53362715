//! The kernels of a chunk in order: forward, head, backward, update. Enqueues and never waits, so that a whole step can be
//! captured into one graph.

use std::sync::Arc;

use super::driver::{Address, Buffer, Driver, DriverError, Form};
use super::layout::Layout;
use super::params::*;
use super::pieces::Pieces;
use super::queue::{Banned, Matrix, Queue};
use super::rnn::{RnnPlan, WholeStack};
use super::workspace::{Carried, Workspace};
use crate::engine::Precision;
use crate::model::CellKind;

/// What lives as long as the engine: parameters and the step's small structs.
pub struct Memory {
    /// Masters, float [len].
    pub params: Buffer,
    /// Their copy in E; empty for f32, where the masters are used.
    pub shadow: Buffer,
    /// Layer 0's pre-activations of each character, E [classes][H][S].
    pub table: Buffer,
    /// Both biases of each layer above, float [L][H][S].
    pub biases: Buffer,
    /// `StepStats`
    pub stats: Buffer,
    /// `Decision`
    pub decision: Buffer,
    /// `Scaler`
    pub scaler: Buffer,
    /// Partial sums of the norm, double [NORM_BLOCKS].
    pub squares: Buffer,
    /// Gradients and both moments, float [len]; made by the first training step.
    pub training: Option<Training>,
}

/// What only training needs.
pub struct Training {
    /// Scaled by the loss scale.
    pub grads: Buffer,
    /// The optimiser's moments.
    pub moments: [Buffer; 2],
}

impl Training {
    /// No gradient, no moment yet.
    pub fn zeroed(driver: &Arc<dyn Driver>, layout: &Layout) -> Result<Training, DriverError> {
        let zeroed = || Buffer::zeroed(driver, 4 * layout.len);
        Ok(Training { grads: zeroed()?, moments: [zeroed()?, zeroed()?] })
    }
}

/// What `decide` is asked for; the numbers are those of `StepParams.training` in kernels/params.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Statistics of the loss alone.
    Loss = 0,
    /// Statistics, and whether and how to update.
    Update = 1,
    /// Statistics with the gradient's norm; nothing is updated.
    Gradient = 2,
}

/// Everything a pass looks at.
pub struct Pass<'a> {
    /// Kernels.
    pub queue: &'a Queue,
    /// The recurrent tier.
    pub plan: &'a dyn RnnPlan,
    /// Where parameters lie.
    pub layout: &'a Layout,
    /// Parameters.
    pub memory: &'a Memory,
    /// Activations.
    pub space: &'a Workspace,
    /// The carried state.
    pub carried: &'a Carried,
    /// Whether dropout is on (its probability lies in the uploaded hyper-parameters).
    pub dropout: bool,
    /// Where a library runs the chunk and tunes start inside it.
    pub pieces: Option<&'a Pieces>,
}

impl Pass<'_> {
    /// Of so many E.
    pub fn bytes(&self, elements: usize) -> u64 {
        (elements * self.queue.size()) as u64
    }

    /// Weights as the kernels read them.
    pub fn weight(&self, offset: usize) -> Address {
        if self.queue.precision == Precision::F32 {
            self.memory.params.at() + 4 * offset as u64
        } else {
            self.memory.shadow.at() + self.bytes(offset)
        }
    }

    fn master(&self, offset: usize) -> Address {
        self.memory.params.at() + 4 * offset as u64
    }

    fn layer_params(&self, layer: usize, store: bool) -> RecurrentParams {
        let (space, layout) = (self.space.layer(layer), self.layout);
        let state = layer * self.carried.streams * layout.units;
        let cells = layout.shape.cell.has_cell_state();
        RecurrentParams {
            w: self.weight(layout.layers[layer].weight_hh.start),
            table: if layer == 0 { self.memory.table.at() } else { 0 },
            ids: self.space.ids(),
            resets: self.space.resets(),
            gates: space.gates.at(),
            c: if cells { space.c.at() } else { 0 },
            hp: space.hp.at(),
            y: space.y.at(),
            dy: self.space.dy.at(),
            h_carry: self.carried.h.at() + self.bytes(state),
            c_carry: if cells { self.carried.c.at() + 4 * state as u64 } else { 0 },
            steps: self.space.input.steps as i32,
            streams: self.space.input.streams as i32,
            units: layout.units as i32,
            store: i32::from(store),
        }
    }

    /// Multiplies x [T, B, H] with the layer's dropout mask, where dropout is on.
    pub fn drop_out(&self, x: Address, layer: usize) -> Result<(), DriverError> {
        if !self.dropout {
            return Ok(());
        }
        let params = DropoutParams {
            x,
            hyper: self.space.hyper(),
            steps: self.space.input.steps as i32,
            streams: self.space.input.streams as i32,
            units: self.layout.units as i32,
            layer: layer as i32,
        };
        let quads = self.space.rows() * self.layout.units / 4;
        self.queue.run(&self.queue.named("dropout"), blocks(quads), 256, &params)
    }

    /// The library, where it runs this chunk.
    fn library(&self) -> Option<&dyn WholeStack> {
        if self.space.input.library { self.plan.library() } else { None }
    }

    /// All recurrent layers; the state is carried. `store`: a backward pass or a look at the activations follows.
    pub fn forward(&self, store: bool) -> Result<(), DriverError> {
        if let Some(library) = self.library() {
            return library.forward(self, store);
        }
        let (units, columns) = (self.layout.units, self.layout.gate_columns());
        for layer in 0..self.layout.shape.layers {
            if layer > 0 {
                let x = Matrix { at: self.space.layer(layer - 1).y.at(), stride: units };
                let w = Matrix { at: self.weight(self.layout.layers[layer].weight_ih.start), stride: units };
                let gates = Matrix { at: self.space.layer(layer).gates.at(), stride: columns };
                let bias = self.memory.biases.at() + (4 * layer * columns) as u64;
                let float = self.queue.precision == Precision::F32;
                let size = [self.space.rows(), columns, units];
                self.queue.product(Form::Nt, x, w, gates, bias, float, size)?;
            }
            let params = self.layer_params(layer, store);
            self.plan.layers().forward(self.queue, &params, self.space.scratch.at())?;
            self.drop_out(self.space.layer(layer).y.at(), layer)?;
        }
        Ok(())
    }

    fn top(&self) -> Address {
        self.space.layer(self.layout.shape.layers - 1).y.at()
    }

    fn head_params(&self, first: usize, rows: usize, backward: bool) -> HeadParams {
        let (units, classes) = (self.layout.units, self.layout.classes);
        HeadParams {
            y: self.top() + self.bytes(first * units),
            w: self.weight(self.layout.head_weight.start),
            bias: self.master(self.layout.head_bias.start),
            targets: self.space.targets() + 2 * first as u64,
            scale: self.memory.decision.at(),
            dlogits: if backward { self.space.dlogits.at() + self.bytes(first * classes) } else { 0 },
            losses: self.space.losses.at() + 4 * first as u64,
            logits: 0,
            rows: rows as i32,
            units: units as i32,
            vocab: self.layout.shape.vocab as i32,
            classes: classes as i32,
        }
    }

    /// Logits of `rows` rows from `first` on into the workspace's logits.
    fn logits(&self, first: usize, rows: usize) -> Result<(), DriverError> {
        let (units, classes) = (self.layout.units, self.layout.classes);
        let y = Matrix { at: self.top() + self.bytes(first * units), stride: units };
        let w = Matrix { at: self.weight(self.layout.head_weight.start), stride: units };
        let z = Matrix { at: self.space.logits.at(), stride: classes };
        let bias = self.master(self.layout.head_bias.start);
        self.queue.product(Form::Nt, y, w, z, bias, true, [rows, classes, units])
    }

    /// Logits of a chunk of one step.
    pub fn step_logits(&self) -> Result<(), DriverError> {
        self.logits(0, self.space.rows())
    }

    /// Losses, and with `backward` the gradient of the logits.
    pub fn head(&self, backward: bool) -> Result<(), DriverError> {
        let rows = self.space.rows();
        if self.layout.classes <= HEAD_MAX_CLASSES {
            let params = self.head_params(0, rows, backward);
            let grid = [rows.div_ceil(HEAD_ROWS), 1, 1];
            let float = self.queue.precision == Precision::F32;
            let shared = if float { HEAD_SHARED_F32 } else { HEAD_SHARED_SHORT };
            return self.queue.run_shared(&self.queue.named("head"), grid, HEAD_THREADS, shared, &params);
        }
        for first in (0..rows).step_by(self.space.logit_rows) {
            let rows = self.space.logit_rows.min(rows - first);
            self.logits(first, rows)?;
            let mut params = self.head_params(first, rows, backward);
            params.logits = self.space.logits.at();
            self.queue.run(&self.queue.named("softmax"), [rows, 1, 1], 256, &params)?;
        }
        Ok(())
    }

    /// Gradients of every parameter from those of the logits.
    pub fn backward(&self, training: &Training) -> Result<(), DriverError> {
        let (queue, layout, space) = (self.queue, self.layout, self.space);
        let (rows, units, classes) = (space.rows(), layout.units, layout.classes);
        let float = queue.precision == Precision::F32;
        let grads = |offset: usize| training.grads.at() + 4 * offset as u64;
        let dz = Matrix { at: space.dlogits.at(), stride: classes };
        let top = Matrix { at: self.top(), stride: units };
        let head = grads(layout.head_weight.start);
        queue.gradient(dz, 0, top, head, [classes, units, rows], Banned::Nothing)?;
        queue.column_sums(dz.at, rows, classes, &[(grads(layout.head_bias.start), Banned::Nothing)])?;
        let dy = Matrix { at: space.dy.at(), stride: units };
        let w = Matrix { at: self.weight(layout.head_weight.start), stride: units };
        queue.product(Form::Nn, dz, w, dy, 0, float, [rows, units, classes])?;
        self.backward_layers(training)
    }

    /// Gradients of the recurrent layers' parameters from those of the top layer's output.
    pub fn backward_layers(&self, training: &Training) -> Result<(), DriverError> {
        if let Some(library) = self.library() {
            return library.backward(self, training);
        }
        let (queue, layout, space) = (self.queue, self.layout, self.space);
        let (rows, units, classes, columns) =
            (space.rows(), layout.units, layout.classes, layout.gate_columns());
        let float = queue.precision == Precision::F32;
        let grads = |offset: usize| training.grads.at() + 4 * offset as u64;
        let dy = Matrix { at: space.dy.at(), stride: units };
        let gru = layout.shape.cell == CellKind::Gru;
        let ban = |slot: i32, make: fn(i32) -> Banned| if gru { make(slot) } else { Banned::Nothing };
        for layer in (0..layout.shape.layers).rev() {
            let (places, activations) = (&layout.layers[layer], space.layer(layer));
            self.drop_out(dy.at, layer)?;
            self.plan.layers().backward(queue, &self.layer_params(layer, true), space.scratch.at())?;
            let dgates = Matrix { at: activations.gates.at(), stride: columns };
            let hp = Matrix { at: activations.hp.at(), stride: units };
            let out = grads(places.weight_hh.start);
            queue.gradient(dgates, 0, hp, out, [columns, units, rows], ban(2, Banned::Row))?;
            let mut biases = vec![(grads(places.bias_ih.start), ban(3, Banned::Column))];
            if !places.bias_hh.is_empty() {
                biases.push((grads(places.bias_hh.start), ban(2, Banned::Column)));
            }
            queue.column_sums(dgates.at, rows, columns, &biases)?;
            let out = grads(places.weight_ih.start);
            if layer == 0 {
                // The one-hot matrix of the ids is the left operand.
                let one_hot = Matrix { at: 0, stride: classes };
                let size = [classes, columns, rows];
                queue.gradient(one_hot, space.ids(), dgates, out, size, ban(3, Banned::Column))?;
            } else {
                let x = Matrix { at: space.layer(layer - 1).y.at(), stride: units };
                queue.gradient(dgates, 0, x, out, [columns, units, rows], ban(3, Banned::Row))?;
                let w = Matrix { at: self.weight(places.weight_ih.start), stride: units };
                queue.product(Form::Nn, dgates, w, dy, 0, float, [rows, units, columns])?;
            }
        }
        Ok(())
    }

    fn step_params(&self, blocks: usize, mode: Mode) -> StepParams {
        StepParams {
            hyper: self.space.hyper(),
            scaler: self.memory.scaler.at(),
            decision: self.memory.decision.at(),
            stats: self.memory.stats.at(),
            losses: self.space.losses.at(),
            squares: self.memory.squares.at(),
            rows: self.space.rows() as i32,
            blocks: blocks as i32,
            dynamic: i32::from(self.queue.precision == Precision::F16),
            training: mode as i32,
        }
    }

    /// The scale of the logits' gradient, from the loss scale on the device.
    pub fn prepare(&self) -> Result<(), DriverError> {
        self.queue.run("prepare", [1, 1, 1], 32, &self.step_params(0, Mode::Update))
    }

    /// Statistics of the loss alone.
    pub fn summarise(&self) -> Result<(), DriverError> {
        self.queue.run("decide", [1, 1, 1], 1024, &self.step_params(0, Mode::Loss))
    }

    /// Sums of squares of the gradients, then what `mode` makes of them.
    fn decide(&self, training: &Training, mode: Mode) -> Result<(), DriverError> {
        let (grads, squares) = (training.grads.at(), self.memory.squares.at());
        let norm = NormParams { grads, squares, n: self.layout.len as i64 };
        self.queue.run("norm_partials", [NORM_BLOCKS, 1, 1], 256, &norm)?;
        self.queue.run("decide", [1, 1, 1], 1024, &self.step_params(NORM_BLOCKS, mode))
    }

    /// Norm and statistics of the gradients, and the loss scale taken out of them: for callers who want gradients.
    pub fn unscale(&self, training: &Training) -> Result<(), DriverError> {
        self.decide(training, Mode::Gradient)?;
        let n = self.layout.len as i64;
        let params = UnscaleParams { grads: training.grads.at(), scaler: self.memory.scaler.at(), n };
        self.queue.run("unscale", blocks(self.layout.len / 4), 256, &params)
    }

    /// Norm, decision, update, the copies the kernels read; a state that exploded is zeroed.
    pub fn update(&self, training: &Training) -> Result<(), DriverError> {
        let (queue, memory) = (self.queue, self.memory);
        let n = self.layout.len as i64;
        self.decide(training, Mode::Update)?;
        let params = UpdateParams {
            params: memory.params.at(),
            grads: training.grads.at(),
            first: training.moments[0].at(),
            second: training.moments[1].at(),
            shadow: if queue.precision == Precision::F32 { 0 } else { memory.shadow.at() },
            hyper: self.space.hyper(),
            decision: memory.decision.at(),
            n,
        };
        queue.run(&queue.named("update"), blocks(self.layout.len / 4), 256, &params)?;
        memory.derive(queue, self.layout)?;
        let state = self.layout.shape.layers * self.carried.streams * self.layout.units;
        let cells = self.layout.shape.cell.has_cell_state();
        let mend = MendParams {
            h: self.carried.h.at(),
            c: if cells { self.carried.c.at() } else { 0 },
            decision: memory.decision.at(),
            n: state as i64,
        };
        queue.run(&queue.named("mend"), [1, 1, 1], 1024, &mend)
    }
}

impl Memory {
    /// What is worked out from the masters besides the short copy: layer 0's table, the sums of the biases above.
    pub fn derive(&self, queue: &Queue, layout: &Layout) -> Result<(), DriverError> {
        let columns = layout.gate_columns();
        let master = |offset: usize| self.params.at() + 4 * offset as u64;
        for (layer, places) in layout.layers.iter().enumerate() {
            let params = TableParams {
                w: if layer == 0 { master(places.weight_ih.start) } else { 0 },
                bias_ih: master(places.bias_ih.start),
                bias_hh: if places.bias_hh.is_empty() { 0 } else { master(places.bias_hh.start) },
                table: self.table.at(),
                sum: self.biases.at() + (4 * layer * columns) as u64,
                vocab: if layer == 0 { layout.classes as i32 } else { 1 },
                columns: columns as i32,
            };
            let quads = params.vocab as usize * columns / 4;
            queue.run(&queue.named("table"), blocks(quads), 256, &params)?;
        }
        Ok(())
    }

    /// The short copy of the masters and what [`Memory::derive`] makes: after parameters came from outside.
    pub fn convert(&self, queue: &Queue, layout: &Layout) -> Result<(), DriverError> {
        if queue.precision != Precision::F32 {
            let params =
                ConvertParams { params: self.params.at(), shadow: self.shadow.at(), n: layout.len as i64 };
            queue.run(&queue.named("convert"), blocks(layout.len / 4), 256, &params)?;
        }
        self.derive(queue, layout)
    }
}

/// Blocks of 256 threads for `n` items in grid-stride loops.
pub fn blocks(n: usize) -> [usize; 3] {
    [n.div_ceil(256).clamp(1, 1056), 1, 1]
}
