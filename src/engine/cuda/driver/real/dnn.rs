//! cuDNN's recurrent layers on the driver's stream, behind [`RnnLibrary`]: descriptors made once a shape, data descriptors
//! once a call, everything else addresses. cuDNN's own dropout stays off: its state would break captures, and the masks
//! would be others than the other engines'.

mod descriptors;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ffi::{CStr, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::cudnn::sys::{self as dnn, cudnnStatus_t};
use cudarc::driver::sys::CUstream;

use self::descriptors::{DataDescriptor, Layers, TensorDescriptor};
use super::kernels::relaxed;
use super::library;
use super::memory::{ContextHandle, Released, allocate, free};
use crate::engine::cuda::driver::recurrent::{
    Algorithm, RnnData, RnnGradients, RnnId, RnnLibrary, RnnSpace, RnnSpec, Sequences, WeightPlace,
    WeightSpace,
};
use crate::engine::cuda::driver::{Address, DriverError};
use crate::model::CellKind;

/// See the module's documentation.
pub struct Dnn {
    context: ContextHandle,
    version: String,
    state: Mutex<State>,
}

struct State {
    handle: dnn::cudnnHandle_t,
    stream: CUstream,
    layers: HashMap<u64, Opened>,
    next: u64,
}

struct Opened {
    spec: RnnSpec,
    layers: Layers,
    /// Bytes of the weight space.
    weights: usize,
    /// For how many sequences [`Algorithm::PersistDynamic`] was compiled.
    built: usize,
}

// SAFETY: cuDNN's handles may be used from any thread, one at a time, which the lock sees to.
unsafe impl Send for State {}

impl Dnn {
    /// Opens the library on a stream of a context; both must outlive it. The error says why it is not used.
    pub fn open(context: ContextHandle, stream: CUstream) -> Result<Dnn, String> {
        let version = library::dnn_version()?;
        let words = |error: DriverError| format!("cuDNN {version} is not used: {error}");
        context.make_current().map_err(words)?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: writes one handle; the context is current.
        check("cudnnCreate", unsafe { dnn::cudnnCreate(&mut handle) }).map_err(words)?;
        let state = State { handle, stream, layers: HashMap::new(), next: 0 };
        let library = Dnn { context, version: format!("cuDNN {version}"), state: Mutex::new(state) };
        // SAFETY: the handle was just made, the stream lives as long as the driver.
        check("cudnnSetStream", unsafe { dnn::cudnnSetStream(handle, stream.cast()) }).map_err(words)?;
        Ok(library)
    }

    fn enter(&self) -> Result<MutexGuard<'_, State>, DriverError> {
        self.context.make_current()?;
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Dnn {
    fn drop(&mut self) {
        if self.context.make_current().is_err() {
            return;
        }
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.layers.clear();
        // SAFETY: made in `open`, destroyed once; the driver has waited for the stream.
        unsafe { dnn::cudnnDestroy(state.handle) };
    }
}

/// Device memory that is given back when dropped, after all that was enqueued.
struct Lent(Address, CUstream);

impl Drop for Lent {
    fn drop(&mut self) {
        free(self.1, &[Released::Device(self.0)]);
    }
}

/// How many products a layer has: the input's gates and the recurrent ones.
fn products(cell: CellKind) -> usize {
    2 * cell.gates()
}

impl Opened {
    /// What a call needs to know of its sequences: data descriptors of input and output, and one of the states.
    fn describe(
        &self,
        lengths: &[i32],
    ) -> Result<(DataDescriptor, DataDescriptor, TensorDescriptor), DriverError> {
        let RnnSpec { precision, inputs, units, layers, .. } = self.spec;
        let x = DataDescriptor::new(precision, lengths, inputs)?;
        let y = DataDescriptor::new(precision, lengths, units)?;
        let states = TensorDescriptor::new(precision, [layers, lengths.len(), units])?;
        Ok((x, y, states))
    }

    /// The persistent algorithms are written for sequences of one length; asked here, because not every release says
    /// so by itself.
    fn serves(&self, lengths: &[i32]) -> Result<(), DriverError> {
        let ragged = lengths.windows(2).any(|pair| pair[0] != pair[1]);
        if ragged && self.spec.algorithm != Algorithm::Standard {
            let name = self.spec.algorithm.name();
            return Err(DriverError::Unsupported(format!("{name} takes sequences of one length only")));
        }
        Ok(())
    }
}

fn opened(state: &mut State, rnn: RnnId) -> Result<(dnn::cudnnHandle_t, &mut Opened), DriverError> {
    let handle = state.handle;
    match state.layers.get_mut(&rnn.0) {
        Some(opened) => Ok((handle, opened)),
        None => Err(DriverError::Missing("these recurrent layers were closed".into())),
    }
}

impl RnnLibrary for Dnn {
    fn version(&self) -> &str {
        &self.version
    }

    fn open(&self, spec: &RnnSpec) -> Result<RnnId, DriverError> {
        let mut state = self.enter()?;
        let layers = Layers::new(state.handle, spec)?;
        let mut weights = 0;
        // SAFETY: writes one size.
        check("cudnnGetRNNWeightSpaceSize", unsafe {
            dnn::cudnnGetRNNWeightSpaceSize(state.handle, layers.rnn, &mut weights)
        })?;
        state.next += 1;
        let id = state.next;
        state.layers.insert(id, Opened { spec: *spec, layers, weights, built: 0 });
        Ok(RnnId(id))
    }

    fn close(&self, rnn: RnnId) {
        if let Ok(mut state) = self.enter() {
            state.layers.remove(&rnn.0);
        }
    }

    fn weight_space(&self, rnn: RnnId) -> Result<WeightSpace, DriverError> {
        let mut state = self.enter()?;
        let stream = state.stream;
        let (handle, opened) = opened(&mut state, rnn)?;
        let RnnSpec { cell, precision, inputs, units, layers, .. } = opened.spec;
        // Places are told as addresses in a weight space; nothing of it is read or written here.
        let lent = Lent(allocate(opened.weights.max(1))?, stream);
        let base = lent.0 as usize;
        let mut places = Vec::new();
        for layer in 0..layers {
            for product in 0..products(cell) {
                let (matrix, bias) = (TensorDescriptor::empty()?, TensorDescriptor::empty()?);
                let (mut matrix_at, mut bias_at) = (std::ptr::null_mut(), std::ptr::null_mut());
                // SAFETY: writes two addresses and fills two descriptors.
                check("cudnnGetRNNWeightParams", unsafe {
                    dnn::cudnnGetRNNWeightParams(
                        handle,
                        opened.layers.rnn,
                        layer as i32,
                        opened.weights,
                        base as *const c_void,
                        product as i32,
                        matrix.0,
                        &mut matrix_at,
                        bias.0,
                        &mut bias_at,
                    )
                })?;
                let columns = if product >= cell.gates() || layer > 0 { units } else { inputs };
                let size = if precision == crate::engine::Precision::F32 { 4 } else { 2 };
                let offset = |what: &str, address: *mut c_void, elements: usize| {
                    let offset = (address as usize).wrapping_sub(base);
                    if address.is_null()
                        || offset + elements * size > opened.weights
                        || !offset.is_multiple_of(size)
                    {
                        let meaning =
                            format!("{what} {product} of layer {layer} lies outside the weight space");
                        return Err(DriverError::Failed { call: "cudnnGetRNNWeightParams".into(), meaning });
                    }
                    Ok(offset)
                };
                matrix.expect("a matrix", units * columns)?;
                bias.expect("a bias", units)?;
                places.push(WeightPlace {
                    layer,
                    product,
                    matrix: offset("matrix", matrix_at, units * columns)?,
                    columns,
                    bias: offset("bias", bias_at, units)?,
                });
            }
        }
        Ok(WeightSpace { bytes: opened.weights, places })
    }

    fn space(&self, rnn: RnnId, lengths: &[i32], training: bool) -> Result<RnnSpace, DriverError> {
        let mut state = self.enter()?;
        let (handle, opened) = opened(&mut state, rnn)?;
        opened.serves(lengths)?;
        if opened.spec.algorithm == Algorithm::PersistDynamic && opened.built != lengths.len() {
            // SAFETY: compiles for that many sequences.
            check("cudnnBuildRNNDynamic", unsafe {
                dnn::cudnnBuildRNNDynamic(handle, opened.layers.rnn, lengths.len() as i32)
            })?;
            opened.built = lengths.len();
        }
        let (x, ..) = opened.describe(lengths)?;
        let (mut work, mut reserve) = (0, 0);
        // SAFETY: writes two sizes.
        check("cudnnGetRNNTempSpaceSizes", unsafe {
            let mode = mode(training);
            dnn::cudnnGetRNNTempSpaceSizes(handle, opened.layers.rnn, mode, x.0, &mut work, &mut reserve)
        })?;
        Ok(RnnSpace { work, reserve: if training { reserve } else { 0 } })
    }

    fn forward(
        &self,
        rnn: RnnId,
        sequences: Sequences,
        data: &RnnData,
        hy: Address,
        cy: Address,
    ) -> Result<(), DriverError> {
        let mut state = self.enter()?;
        let (handle, opened) = opened(&mut state, rnn)?;
        opened.serves(sequences.lengths)?;
        let (x, y, states) = opened.describe(sequences.lengths)?;
        relaxed(|| {
            // SAFETY: memory of the sizes that the descriptors tell is the caller's promise; descriptors are read before
            // the call returns.
            check("cudnnRNNForward", unsafe {
                dnn::cudnnRNNForward(
                    handle,
                    opened.layers.rnn,
                    mode(data.reserve != 0),
                    sequences.device as *const i32,
                    x.0,
                    data.x as *const c_void,
                    y.0,
                    data.y as *mut c_void,
                    states.0,
                    data.hx as *const c_void,
                    hy as *mut c_void,
                    states.0,
                    data.cx as *const c_void,
                    cy as *mut c_void,
                    opened.weights,
                    data.weights as *const c_void,
                    data.space.work,
                    data.work as *mut c_void,
                    data.space.reserve,
                    data.reserve as *mut c_void,
                )
            })
        })
    }

    fn backward(
        &self,
        rnn: RnnId,
        sequences: Sequences,
        data: &RnnData,
        gradients: &RnnGradients,
    ) -> Result<(), DriverError> {
        let mut state = self.enter()?;
        let (handle, opened) = opened(&mut state, rnn)?;
        opened.serves(sequences.lengths)?;
        let (x, y, states) = opened.describe(sequences.lengths)?;
        let cells = if data.cx == 0 { 0 } else { gradients.zeros };
        relaxed(|| {
            // SAFETY: as in `forward`; the reserve space is the forward pass's.
            check("cudnnRNNBackwardData_v8", unsafe {
                dnn::cudnnRNNBackwardData_v8(
                    handle,
                    opened.layers.rnn,
                    sequences.device as *const i32,
                    y.0,
                    data.y as *const c_void,
                    gradients.dy as *const c_void,
                    x.0,
                    gradients.dx as *mut c_void,
                    states.0,
                    data.hx as *const c_void,
                    gradients.zeros as *const c_void,
                    gradients.dhx as *mut c_void,
                    states.0,
                    data.cx as *const c_void,
                    cells as *const c_void,
                    gradients.dcx as *mut c_void,
                    opened.weights,
                    data.weights as *const c_void,
                    data.space.work,
                    data.work as *mut c_void,
                    data.space.reserve,
                    data.reserve as *mut c_void,
                )
            })?;
            // SAFETY: as above; gradients are added to what is there.
            check("cudnnRNNBackwardWeights_v8", unsafe {
                dnn::cudnnRNNBackwardWeights_v8(
                    handle,
                    opened.layers.rnn,
                    dnn::cudnnWgradMode_t::CUDNN_WGRAD_MODE_ADD,
                    sequences.device as *const i32,
                    x.0,
                    data.x as *const c_void,
                    states.0,
                    data.hx as *const c_void,
                    y.0,
                    data.y as *const c_void,
                    opened.weights,
                    gradients.dweights as *mut c_void,
                    data.space.work,
                    data.work as *mut c_void,
                    data.space.reserve,
                    data.reserve as *mut c_void,
                )
            })
        })
    }
}

fn mode(training: bool) -> dnn::cudnnForwardMode_t {
    use dnn::cudnnForwardMode_t::*;
    if training { CUDNN_FWD_MODE_TRAINING } else { CUDNN_FWD_MODE_INFERENCE }
}

/// Success, or what failed: `Unsupported` where the library says that it has nothing for such layers.
fn check(call: &str, status: cudnnStatus_t) -> Result<(), DriverError> {
    if status == cudnnStatus_t::CUDNN_STATUS_SUCCESS {
        return Ok(());
    }
    // SAFETY: gives a constant C string.
    let name = unsafe { dnn::cudnnGetErrorString(status) };
    let mut meaning = if name.is_null() {
        format!("status {}", status as u32)
    } else {
        // SAFETY: not null, NUL-terminated, never freed.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    };
    let mut more = [0u8; 512];
    // SAFETY: writes at most that many bytes with a NUL among them.
    unsafe { dnn::cudnnGetLastErrorString(more.as_mut_ptr().cast(), more.len()) };
    if let Ok(more) = CStr::from_bytes_until_nul(&more)
        && !more.is_empty()
    {
        meaning = format!("{meaning}, {}", more.to_string_lossy().trim());
    }
    // The families of codes: 2000 bad parameter (a combination that a release does not know), 3000 not supported.
    match status as u32 / 1000 {
        2 | 3 => Err(DriverError::Unsupported(format!("{call}: {meaning}"))),
        _ => Err(DriverError::Failed { call: call.into(), meaning }),
    }
}
