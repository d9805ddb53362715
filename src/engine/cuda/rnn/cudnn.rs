//! NVIDIA's cuDNN runs the recurrent layers, input products and weight gradients included.
//!
//! What it does not know is done around it by `kernels/library.cu`: characters become one-hot rows, our padded and
//! interleaved weights its matrices, and where tunes start inside a chunk every piece between two starts becomes a sequence
//! of its own (`pieces.rs`), which cuDNN serves with its STANDARD algorithm alone. Single steps,
//! and chunks whose gates are looked at, run on our stepwise kernels. cuDNN keeps the cell state between chunks, and
//! weight gradients, in the storage type.

mod arrangement;
mod stack;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::driver::recurrent::{
    Algorithm, RnnData, RnnGradients, RnnLibrary, RnnSpace, RnnSpec, Sequences,
};
use super::super::driver::{Address, Buffer, Driver, DriverError};
use super::super::layout::Layout;
use super::super::network::{Pass, Training, blocks};
use super::super::params::{
    LibraryInputParams, LibraryRowsParams, LibraryStatesParams, LibraryWeightsParams,
};
use super::super::workspace::{Input, SequencePart};
use super::stepwise::Stepwise;
use super::{Answer, LayerKernels, RnnPlan, Wanted, WholeStack};
use crate::engine::Precision;
use crate::model::ModelShape;
use arrangement::{Arrangement, Needs};
use stack::Stack;

/// Which of cuDNN's ways to run a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Choice {
    /// For chunks that are not cut.
    pub algorithm: Algorithm,
    /// H in cuDNN: the model's, or padded with units that stay zero.
    pub width: usize,
    /// One call for all layers, or one each. With dropout always one each: the masks act between them.
    pub call_a_layer: bool,
    /// f32 products of inputs rounded to TF32.
    pub tf32: bool,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = if self.call_a_layer { "one call a layer" } else { "one call" };
        let tf32 = if self.tf32 { ", TF32" } else { "" };
        write!(f, "{}, {} units, {calls}{tf32}", self.algorithm.name(), self.width)
    }
}

/// cuDNN's ways worth timing for a model: every algorithm, as it is and padded, in one call and in one a layer.
pub fn choices(shape: &ModelShape, tf32: bool) -> Vec<Choice> {
    let mut widths =
        vec![shape.hidden, shape.hidden.next_multiple_of(32), shape.hidden.next_multiple_of(128)];
    widths.dedup();
    let mut all = Vec::new();
    for algorithm in Algorithm::ALL {
        for &width in &widths {
            for call_a_layer in [false, true] {
                if shape.layers > 1 || !call_a_layer {
                    all.push(Choice { algorithm, width, call_a_layer, tf32 });
                }
            }
        }
    }
    all
}

/// What is taken unmeasured: what serves every shape, aligned for the tensor cores.
pub fn default_choice(shape: &ModelShape, tf32: bool) -> Choice {
    let width = shape.hidden.next_multiple_of(32);
    Choice { algorithm: Algorithm::Standard, width, call_a_layer: false, tf32 }
}

/// See the module's documentation.
pub struct Cudnn {
    driver: Arc<dyn Driver>,
    shape: ModelShape,
    precision: Precision,
    choice: Choice,
    units: usize,
    version: String,
    own: Stepwise,
    stacks: RefCell<HashMap<Key, Arc<Stack>>>,
    /// Scratch of chunks that are cut: they need what their pieces ask for, and are in no graph.
    loose: RefCell<Option<Buffer>>,
}

/// Which descriptors and weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    algorithm: Algorithm,
    call_a_layer: bool,
    /// Of what is compiled for a batch; else 0.
    batch: usize,
}

/// The plan with the default choice.
pub fn plan(wanted: &Wanted, tf32: bool) -> Answer {
    plan_as(wanted, default_choice(&wanted.shape, tf32))
}

/// The plan with a given choice; refused where cuDNN refuses its descriptors.
pub fn plan_as(wanted: &Wanted, choice: Choice) -> Answer {
    let Some(driver) = wanted.driver else {
        return Err("cuDNN is asked on the device itself".into());
    };
    if wanted.facts.capability.0 < 8 {
        let (major, minor) = wanted.facts.capability;
        return Err(format!("compute capability {major}.{minor}, 8.0 or above is needed"));
    }
    let library = driver.rnn_library()?;
    let shape = wanted.shape;
    let units = choice.width.next_multiple_of(16);
    let plan = Cudnn {
        driver: driver.clone(),
        shape,
        precision: wanted.precision,
        choice,
        units,
        version: library.version().into(),
        own: Stepwise::of(shape.cell, units),
        stacks: RefCell::default(),
        loose: RefCell::default(),
    };
    let layout = Layout::new(shape, units);
    let opens = |key: Key| plan.stack(&layout, key).map(drop).map_err(|error| error.to_string());
    for call_a_layer in [choice.call_a_layer, true] {
        opens(Key { algorithm: choice.algorithm, call_a_layer: call_a_layer && shape.layers > 1, batch: 0 })?;
    }
    Ok(Box::new(plan))
}

/// One pass's addresses.
struct Scene {
    stack: Arc<Stack>,
    lengths: Vec<i32>,
    spaces: Vec<RnnSpace>,
    places: Arrangement,
    /// Where `places` begin.
    base: Address,
    /// Rows and width are ours: no copies are needed.
    identity: bool,
}

impl Scene {
    fn at(&self, offset: usize) -> Address {
        self.base + offset as u64
    }
}

impl Cudnn {
    fn library(&self) -> Result<&dyn RnnLibrary, DriverError> {
        self.driver.rnn_library().map_err(DriverError::Missing)
    }

    fn stack(&self, layout: &Layout, key: Key) -> Result<Arc<Stack>, DriverError> {
        if let Some(stack) = self.stacks.borrow().get(&key) {
            return Ok(stack.clone());
        }
        let spec = RnnSpec {
            cell: self.shape.cell,
            precision: self.precision,
            tf32: self.choice.tf32,
            algorithm: key.algorithm,
            inputs: layout.classes,
            units: self.choice.width,
            layers: self.shape.layers,
        };
        let stack = Arc::new(Stack::new(&self.driver, layout, &spec, key.call_a_layer)?);
        self.stacks.borrow_mut().insert(key, stack.clone());
        Ok(stack)
    }

    fn key(&self, batch: usize, dropout: bool, cut: bool) -> Key {
        let algorithm = if cut { Algorithm::Standard } else { self.choice.algorithm };
        Key {
            algorithm,
            call_a_layer: self.shape.layers > 1 && (self.choice.call_a_layer || dropout),
            batch: if algorithm == Algorithm::PersistDynamic { batch } else { 0 },
        }
    }

    /// Sizes for sequences of these lengths.
    fn arrange(
        &self,
        layout: &Layout,
        stack: &Stack,
        lengths: &[i32],
        rows: usize,
        training: bool,
    ) -> Result<(Vec<RnnSpace>, Arrangement), DriverError> {
        let library = self.library()?;
        let groups = stack.groups.iter();
        let spaces = groups
            .map(|g| library.space(g.rnn, lengths, training))
            .collect::<Result<Vec<_>, DriverError>>()?;
        let needs = Needs {
            rows,
            sequences: lengths.len(),
            classes: layout.classes,
            width: self.choice.width,
            layers: self.shape.layers,
            size: if self.precision == Precision::F32 { 4 } else { 2 },
            cells: self.shape.cell.has_cell_state(),
            training,
        };
        let places = Arrangement::new(&needs, &spaces);
        Ok((spaces, places))
    }

    /// Everything that a pass over a chunk looks at.
    fn scene(&self, pass: &Pass, training: bool) -> Result<Scene, DriverError> {
        let input = pass.space.input;
        let key = self.key(input.streams, pass.dropout, pass.pieces.is_some());
        let stack = self.stack(pass.layout, key)?;
        let lengths = match pass.pieces {
            Some(pieces) => pieces.lengths.clone(),
            None => vec![input.steps as i32; input.streams],
        };
        let (spaces, places) = self.arrange(pass.layout, &stack, &lengths, pass.space.rows(), training)?;
        let base = if pass.pieces.is_some() {
            let mut loose = self.loose.borrow_mut();
            if loose.as_ref().is_none_or(|buffer| buffer.bytes() < places.bytes) {
                *loose = None;
                // Some more: the next chunk may have a few pieces more.
                *loose = Some(Buffer::new(&self.driver, places.bytes + places.bytes / 8)?);
            }
            loose.as_ref().map_or(0, Buffer::at)
        } else if places.bytes <= pass.space.scratch.bytes() {
            pass.space.scratch.at()
        } else {
            let what = format!("scratch of {} bytes, {} expected", pass.space.scratch.bytes(), places.bytes);
            return Err(DriverError::Missing(what));
        };
        let identity = pass.pieces.is_none() && self.choice.width == self.units;
        Ok(Scene { stack, lengths, spaces, places, base, identity })
    }

    /// Weights to the library, or (with `grads`) its gradients back.
    fn convert_weights(&self, pass: &Pass, stack: &Stack, grads: Address) -> Result<(), DriverError> {
        let params = LibraryWeightsParams {
            tensors: stack.tensors.at(),
            weights: pass.weight(0),
            library: if grads == 0 { stack.weights.at() } else { stack.gradients.at() },
            grads,
        };
        let grid = [blocks(stack.largest)[0].min(64), stack.count, 1];
        pass.queue.run(&pass.queue.named("library_weights"), grid, 256, &params)
    }

    /// The carried state to the library, or back from it.
    fn states(&self, pass: &Pass, scene: &Scene, back: bool) -> Result<(), DriverError> {
        let cells = self.shape.cell.has_cell_state();
        let places = &scene.places;
        let (h, c) = if back { (places.hy, places.cy) } else { (places.hx, places.cx) };
        let part = if back { SequencePart::To } else { SequencePart::From };
        let params = LibraryStatesParams {
            h_carry: pass.carried.h.at(),
            c_carry: if cells { pass.carried.c.at() } else { 0 },
            library_h: scene.at(h),
            library_c: if cells { scene.at(c) } else { 0 },
            streams_of: if pass.pieces.is_some() { pass.space.sequences(part) } else { 0 },
            resets: pass.space.resets(),
            layers: self.shape.layers as i32,
            sequences: scene.lengths.len() as i32,
            streams: pass.carried.streams as i32,
            units: self.units as i32,
            width: self.choice.width as i32,
            back: i32::from(back),
        };
        let n = self.shape.layers * scene.lengths.len() * self.choice.width;
        pass.queue.run(&pass.queue.named("library_states"), blocks(n), 256, &params)
    }

    /// [T, B, units] at `ours` into the library's rows at `theirs`, or back.
    fn rows(&self, pass: &Pass, ours: Address, theirs: Address, back: bool) -> Result<(), DriverError> {
        let (units, width, rows) = (self.units, self.choice.width, pass.space.rows());
        let params = LibraryRowsParams {
            from: if back { theirs } else { ours },
            to: if back { ours } else { theirs },
            order: self.order(pass),
            rows: rows as i32,
            from_width: if back { width } else { units } as i32,
            to_width: if back { units } else { width } as i32,
            back: i32::from(back),
        };
        let n = rows * if back { units } else { width };
        pass.queue.run(&pass.queue.named("library_rows"), blocks(n), 256, &params)
    }

    fn order(&self, pass: &Pass) -> Address {
        if pass.pieces.is_some() { pass.space.sequences(SequencePart::Order) } else { 0 }
    }

    /// The data of a group's call.
    fn data(&self, pass: &Pass, scene: &Scene, group: usize, training: bool) -> RnnData {
        let (places, found) = (&scene.places, &scene.stack.groups[group]);
        let plane = pass.bytes(found.first * scene.lengths.len() * self.choice.width);
        let top = found.first + found.count - 1;
        let x = match group {
            0 => scene.at(places.x),
            _ if scene.identity => pass.space.layer(found.first - 1).y.at(),
            _ => scene.at(places.xs[group]),
        };
        let in_place = scene.identity && !pass.dropout;
        RnnData {
            x,
            y: if in_place { pass.space.layer(top).y.at() } else { scene.at(places.ys[group]) },
            hx: scene.at(places.hx) + plane,
            cx: if self.shape.cell.has_cell_state() { scene.at(places.cx) + plane } else { 0 },
            weights: scene.stack.weights.at() + found.offset as u64,
            work: scene.at(places.work),
            reserve: if training { scene.at(places.reserves[group]) } else { 0 },
            space: scene.spaces[group],
        }
    }

    fn sequences<'a>(&self, pass: &Pass, scene: &'a Scene) -> Sequences<'a> {
        Sequences { lengths: &scene.lengths, device: pass.space.sequences(SequencePart::Lengths) }
    }
}

impl RnnPlan for Cudnn {
    fn tier(&self) -> &'static str {
        "cudnn"
    }

    fn detail(&self, _: usize) -> String {
        format!("{}: {}", self.version, self.choice)
    }

    fn units(&self) -> usize {
        self.units
    }

    fn layers(&self) -> &dyn LayerKernels {
        &self.own
    }

    fn library(&self) -> Option<&dyn WholeStack> {
        Some(self)
    }
}

impl WholeStack for Cudnn {
    fn scratch(&self, layout: &Layout, input: Input, training: bool) -> Result<usize, DriverError> {
        let lengths = vec![input.steps as i32; input.streams];
        let mut most = 0;
        for dropout in [false, training] {
            let stack = self.stack(layout, self.key(input.streams, dropout, false))?;
            let rows = input.steps * input.streams;
            let (_, places) = self.arrange(layout, &stack, &lengths, rows, training)?;
            most = most.max(places.bytes);
        }
        Ok(most)
    }

    fn forward(&self, pass: &Pass, store: bool) -> Result<(), DriverError> {
        let scene = self.scene(pass, store)?;
        let library = self.library()?;
        self.convert_weights(pass, &scene.stack, 0)?;
        let (rows, classes) = (pass.space.rows(), pass.layout.classes);
        let one_hot = LibraryInputParams {
            ids: pass.space.ids(),
            order: self.order(pass),
            x: scene.at(scene.places.x),
            rows: rows as i32,
            classes: classes as i32,
        };
        pass.queue.run(&pass.queue.named("library_one_hot"), blocks(rows * classes), 256, &one_hot)?;
        self.states(pass, &scene, false)?;
        for (index, group) in scene.stack.groups.iter().enumerate() {
            let data = self.data(pass, &scene, index, store);
            if index > 0 && !scene.identity {
                self.rows(pass, pass.space.layer(group.first - 1).y.at(), data.x, false)?;
            }
            let plane = pass.bytes(group.first * scene.lengths.len() * self.choice.width);
            let hy = scene.at(scene.places.hy) + plane;
            let cy = if data.cx == 0 { 0 } else { scene.at(scene.places.cy) + plane };
            library.forward(group.rnn, self.sequences(pass, &scene), &data, hy, cy)?;
            let top = group.first + group.count - 1;
            let y = pass.space.layer(top).y.at();
            if data.y != y {
                self.rows(pass, y, data.y, true)?;
            }
            pass.drop_out(y, top)?;
        }
        self.states(pass, &scene, true)
    }

    fn backward(&self, pass: &Pass, training: &Training) -> Result<(), DriverError> {
        let scene = self.scene(pass, true)?;
        let library = self.library()?;
        let places = &scene.places;
        let (zeros, both) = (scene.at(places.zeros), places.zeros_bytes);
        self.driver.zero(zeros, both)?;
        self.driver.zero(scene.stack.gradients.at(), scene.stack.gradients.bytes())?;
        // Gradient of the output of the group at hand, [T, B, units]: at first the head's, then what a group gives.
        let ours = pass.space.dy.at();
        let mut dy = ours;
        for (index, group) in scene.stack.groups.iter().enumerate().rev() {
            pass.drop_out(dy, group.first + group.count - 1)?;
            let data = self.data(pass, &scene, index, true);
            let [first, second] = places.gradients.map(|offset| scene.at(offset));
            let (theirs, dx) = if scene.identity {
                (dy, if dy == first { second } else { first })
            } else {
                self.rows(pass, dy, first, false)?;
                (first, second)
            };
            let gradients = RnnGradients {
                dy: theirs,
                dx,
                zeros,
                dhx: scene.at(places.dhx),
                dcx: if data.cx == 0 { 0 } else { scene.at(places.dcx) },
                dweights: scene.stack.gradients.at() + group.offset as u64,
            };
            library.backward(group.rnn, self.sequences(pass, &scene), &data, &gradients)?;
            if index > 0 {
                dy = if scene.identity { dx } else { ours };
                if !scene.identity {
                    self.rows(pass, ours, dx, true)?;
                }
            }
        }
        self.convert_weights(pass, &scene.stack, training.grads.at())
    }
}
