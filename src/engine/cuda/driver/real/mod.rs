//! CUDA's driver, loaded at run time through cudarc's raw functions. (cudarc's safe layer records events around every
//! use of memory, which cannot be captured into a graph.)
//!
//! One non-blocking stream on the device's primary context. The context is made current on every call, because the
//! engine may move between threads; a capture must begin and end on one thread.

mod blas;
mod dnn;
mod facts;
mod kernels;
mod library;
mod memory;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use cudarc::driver::sys::{
    self, CUevent, CUgraphExec, CUlaunchAttribute, CUlaunchAttributeID, CUlaunchAttributeValue,
    CUlaunchAttributeValue_union__bindgen_ty_1 as ClusterDimension, CUlaunchConfig, CUresult, CUstream,
};

use self::blas::Blas;
use self::dnn::Dnn;
pub use self::facts::devices;
use self::kernels::{Kernels, relaxed};
use self::library::{check, failed};
use self::memory::{Context, Released};
use super::recurrent::RnnLibrary;
use super::{Address, Driver, DriverError, EventId, Facts, GraphId, Launch, Meter, Product};
use crate::engine::cuda::images;

/// A CUDA device.
pub struct RealDriver {
    facts: Facts,
    meter: Meter,
    context: Context,
    stream: CUstream,
    state: Mutex<State>,
    /// Opened when it is first asked for: it is large, and most runs do without.
    dnn: OnceLock<Result<Dnn, String>>,
}

/// What calls change.
struct State {
    kernels: Kernels,
    blas: Option<Blas>,
    graphs: HashSet<u64>,
    events: HashSet<u64>,
    /// Events that were given back, to be recorded again.
    idle_events: Vec<u64>,
    capturing: bool,
    /// What was given back during a capture, when the stream cannot be waited for.
    released: Vec<Released>,
}

// SAFETY: CUDA's handles may be used from any thread; what is not a handle is behind the lock.
unsafe impl Send for RealDriver {}
// SAFETY: as above.
unsafe impl Sync for RealDriver {}

impl RealDriver {
    /// Opens device `ordinal`: loads the kernels that were built for it and looks for libraries.
    pub fn open(ordinal: usize) -> Result<RealDriver, DriverError> {
        let version = library::initialise()?;
        let device = facts::device(ordinal)?;
        let mut facts = facts::of(device, version)?;
        let (major, minor) = (facts.capability.0 as i32, facts.capability.1 as i32);
        let images = images::for_device(major, minor).map_err(DriverError::Missing)?;
        if !images.iter().all(|image| image.has_clusters()) {
            facts.max_cluster = 0; // PTX for older devices, compiled by the driver
        }
        let context = Context::retain(device)?;
        context.make_current()?;
        let mut stream = std::ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: the context is current.
        check("cuStreamCreate", unsafe { sys::cuStreamCreate(&mut stream, flags) })?;
        let state = State {
            kernels: Kernels::load(&[])?,
            blas: None,
            graphs: HashSet::new(),
            events: HashSet::new(),
            idle_events: Vec::new(),
            capturing: false,
            released: Vec::new(),
        };
        // From here on dropping the driver gives everything back.
        let mut driver = RealDriver {
            facts: facts.clone(),
            meter: Meter::default(),
            context,
            stream,
            state: Mutex::new(state),
            dnn: OnceLock::new(),
        };
        driver.lock().kernels = Kernels::load(&images)?;
        let found = match library::blas_version() {
            Ok(version) => match Blas::open(stream) {
                Ok(blas) => {
                    driver.lock().blas = Some(blas);
                    version
                }
                Err(reason) => format!("{version}, not used: {reason}"),
            },
            Err(reason) => reason,
        };
        facts.libraries.push(("cuBLASLt".into(), found));
        facts.libraries.push(("cuDNN".into(), library::dnn_version().unwrap_or_else(|reason| reason)));
        driver.facts = facts;
        // A library that breaks the context is better found here than at the first step.
        driver.synchronise()?;
        Ok(driver)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the context current and locks.
    fn enter(&self) -> Result<MutexGuard<'_, State>, DriverError> {
        self.context.make_current()?;
        Ok(self.lock())
    }

    /// The same for calls that wait or hand over memory that the stream would read later.
    fn enter_outside_capture(&self, call: &str) -> Result<MutexGuard<'_, State>, DriverError> {
        let state = self.enter()?;
        if state.capturing {
            let meaning = "it cannot be part of a captured graph".into();
            return Err(DriverError::Failed { call: call.into(), meaning });
        }
        Ok(state)
    }

    fn synchronise(&self) -> Result<(), DriverError> {
        memory::synchronise(self.stream)
    }

    fn release_later_or_now(&self, memory: Released) {
        let Ok(mut state) = self.enter() else { return };
        if state.capturing {
            state.released.push(memory);
        } else {
            drop(state);
            memory::free(self.stream, &[memory]);
        }
    }

    /// Runs `call` with a launch's function and configuration.
    fn configured(
        &self,
        state: &mut State,
        launch: &Launch,
        call: impl FnOnce(sys::CUfunction, &CUlaunchConfig) -> CUresult,
    ) -> Result<CUresult, DriverError> {
        let function = state.kernels.prepare(launch)?;
        let cluster = ClusterDimension { x: launch.cluster, y: 1, z: 1 };
        let mut attribute = CUlaunchAttribute {
            id: CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
            pad: [0; 4],
            value: CUlaunchAttributeValue { pad: [0; 64] },
        };
        attribute.value.clusterDim = cluster;
        let config = CUlaunchConfig {
            gridDimX: launch.grid[0],
            gridDimY: launch.grid[1],
            gridDimZ: launch.grid[2],
            blockDimX: launch.threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: launch.shared,
            hStream: self.stream,
            attrs: &mut attribute,
            numAttrs: (launch.cluster > 1) as u32,
        };
        Ok(call(function, &config))
    }
}

impl Drop for RealDriver {
    fn drop(&mut self) {
        if self.context.make_current().is_err() {
            return;
        }
        let _ = self.synchronise();
        self.dnn.take();
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let released = std::mem::take(&mut state.released);
        state.blas = None;
        // SAFETY: each handle was made here and is destroyed once; the stream has come to its end.
        unsafe {
            for graph in state.graphs.drain() {
                sys::cuGraphExecDestroy(graph as CUgraphExec);
            }
            for event in state.events.drain().chain(state.idle_events.drain(..)) {
                sys::cuEventDestroy_v2(event as CUevent);
            }
            state.kernels.unload();
            memory::free(self.stream, &released);
            sys::cuStreamDestroy_v2(self.stream);
        }
    }
}

impl Driver for RealDriver {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn allocate(&self, bytes: usize) -> Result<Address, DriverError> {
        let _state = self.enter()?;
        relaxed(|| memory::allocate(bytes))
    }

    fn release(&self, address: Address) {
        self.release_later_or_now(Released::Device(address));
    }

    fn allocate_pinned(&self, bytes: usize) -> Result<*mut u8, DriverError> {
        let _state = self.enter()?;
        relaxed(|| memory::allocate_pinned(bytes))
    }

    fn release_pinned(&self, pointer: *mut u8) {
        self.release_later_or_now(Released::Pinned(pointer as u64));
    }

    unsafe fn enqueue_upload(&self, to: Address, from: *const u8, bytes: usize) -> Result<(), DriverError> {
        let _state = self.enter()?;
        // SAFETY: the caller's promise.
        check("cuMemcpyHtoDAsync", unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.cast(), bytes, self.stream) })
    }

    unsafe fn enqueue_download(&self, to: *mut u8, from: Address, bytes: usize) -> Result<(), DriverError> {
        let _state = self.enter()?;
        // SAFETY: the caller's promise.
        check("cuMemcpyDtoHAsync", unsafe { sys::cuMemcpyDtoHAsync_v2(to.cast(), from, bytes, self.stream) })
    }

    fn upload(&self, to: Address, from: &[u8]) -> Result<(), DriverError> {
        let _state = self.enter_outside_capture("upload")?;
        // SAFETY: `from` lives until the stream has been waited for.
        let code = unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast(), from.len(), self.stream) };
        check("cuMemcpyHtoDAsync", code)?;
        self.synchronise()
    }

    fn download(&self, to: &mut [u8], from: Address) -> Result<(), DriverError> {
        let _state = self.enter_outside_capture("download")?;
        // SAFETY: `to` lives until the stream has been waited for.
        let code = unsafe { sys::cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), from, to.len(), self.stream) };
        check("cuMemcpyDtoHAsync", code)?;
        self.synchronise()
    }

    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<(), DriverError> {
        let _state = self.enter()?;
        // SAFETY: device memory only.
        check("cuMemcpyDtoDAsync", unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, bytes, self.stream) })
    }

    fn zero(&self, address: Address, bytes: usize) -> Result<(), DriverError> {
        let _state = self.enter()?;
        // SAFETY: device memory only.
        check("cuMemsetD8Async", unsafe { sys::cuMemsetD8Async(address, 0, bytes, self.stream) })
    }

    fn launch(&self, launch: &Launch) -> Result<(), DriverError> {
        let mut state = self.enter()?;
        // Parameter structs hold 8-byte addresses; a copy with at least that alignment.
        let mut params = vec![0u128; launch.params.len().div_ceil(16).max(1)];
        bytemuck::cast_slice_mut(&mut params)[..launch.params.len()].copy_from_slice(launch.params);
        let mut pointers = [params.as_mut_ptr().cast::<std::ffi::c_void>()];
        let code = self.configured(&mut state, launch, |function, config| {
            // SAFETY: one parameter of the size that the kernel takes (`prepare` compares), copied by the call. What
            // the kernel does to device memory is the engine's contract with it.
            unsafe { sys::cuLaunchKernelEx(config, function, pointers.as_mut_ptr(), std::ptr::null_mut()) }
        })?;
        if code == CUresult::CUDA_SUCCESS {
            return Ok(());
        }
        let Launch { kernel, grid, threads, cluster, shared, .. } = launch;
        let shape = format!(
            "grid {grid:?}, {threads} threads, clusters of {cluster}, {shared} bytes of shared memory"
        );
        Err(failed(&format!("kernel {kernel} ({shape})"), code))
    }

    fn product(&self, product: &Product, a: Address, b: Address, c: Address) -> Result<bool, DriverError> {
        let mut state = self.enter()?;
        match &mut state.blas {
            Some(blas) => relaxed(|| blas.product(product, a, b, c)),
            None => Ok(false),
        }
    }

    fn rnn_library(&self) -> Result<&dyn RnnLibrary, String> {
        match self.dnn.get_or_init(|| Dnn::open(self.context.handle(), self.stream)) {
            Ok(library) => Ok(library),
            Err(reason) => Err(reason.clone()),
        }
    }

    fn active_clusters(&self, launch: &Launch) -> Result<u32, DriverError> {
        if launch.cluster > self.facts.max_cluster.max(1)
            || launch.shared > self.facts.shared_per_block
            || launch.grid.contains(&0)
        {
            return Ok(0);
        }
        let mut state = self.enter()?;
        let mut count = 0;
        let blocks_alone = launch.cluster <= 1;
        let code = self.configured(&mut state, launch, |function, config| {
            // SAFETY: both write one integer.
            unsafe {
                if blocks_alone {
                    let (threads, shared) = (launch.threads as i32, launch.shared as usize);
                    sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut count, function, threads, shared)
                } else {
                    sys::cuOccupancyMaxActiveClusters(&mut count, function, config)
                }
            }
        });
        let code = match code {
            Ok(code) => code,
            // Static and dynamic shared memory together are too much.
            Err(DriverError::Failed { call, .. }) if call.starts_with("cuFuncSetAttribute") => return Ok(0),
            Err(error) => return Err(error),
        };
        use CUresult::*;
        match code {
            CUDA_SUCCESS if blocks_alone => Ok(count.max(0) as u32 * self.facts.multiprocessors),
            CUDA_SUCCESS => Ok(count.max(0) as u32),
            CUDA_ERROR_INVALID_VALUE
            | CUDA_ERROR_INVALID_CLUSTER_SIZE
            | CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES => Ok(0),
            code => Err(failed(&format!("cuOccupancyMaxActiveClusters, {}", launch.kernel), code)),
        }
    }

    fn begin_capture(&self) -> Result<(), DriverError> {
        let mut state = self.enter_outside_capture("begin_capture")?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives as long as self.
        check("cuStreamBeginCapture", unsafe { sys::cuStreamBeginCapture_v2(self.stream, mode) })?;
        state.capturing = true;
        Ok(())
    }

    fn end_capture(&self) -> Result<GraphId, DriverError> {
        let mut state = self.enter()?;
        let mut graph = std::ptr::null_mut();
        // SAFETY: writes one pointer, null where the capture was broken.
        let code = unsafe { sys::cuStreamEndCapture(self.stream, &mut graph) };
        state.capturing = false;
        let released = std::mem::take(&mut state.released);
        if !released.is_empty() {
            memory::free(self.stream, &released);
        }
        check("cuStreamEndCapture", code)?;
        let mut executable = std::ptr::null_mut();
        // SAFETY: the graph was just captured, and is not needed once it has been instantiated.
        let code = unsafe {
            let code = sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0);
            sys::cuGraphDestroy(graph);
            code
        };
        check("cuGraphInstantiate", code)?;
        state.graphs.insert(executable as u64);
        Ok(GraphId(executable as u64))
    }

    fn launch_graph(&self, graph: GraphId) -> Result<(), DriverError> {
        let state = self.enter_outside_capture("launch_graph")?;
        known(&state.graphs, graph.0, "graph")?;
        // SAFETY: known, so not yet destroyed.
        check("cuGraphLaunch", unsafe { sys::cuGraphLaunch(graph.0 as CUgraphExec, self.stream) })
    }

    fn release_graph(&self, graph: GraphId) {
        let Ok(mut state) = self.enter() else { return };
        if state.graphs.remove(&graph.0) {
            // SAFETY: was known; a launch under way keeps what it needs.
            unsafe { sys::cuGraphExecDestroy(graph.0 as CUgraphExec) };
        }
    }

    fn record(&self) -> Result<EventId, DriverError> {
        let mut state = self.enter_outside_capture("record")?;
        let event = match state.idle_events.pop() {
            Some(event) => event,
            None => {
                let mut event = std::ptr::null_mut();
                // SAFETY: writes one pointer.
                check("cuEventCreate", unsafe {
                    sys::cuEventCreate(&mut event, sys::CUevent_flags::CU_EVENT_DEFAULT as u32)
                })?;
                event as u64
            }
        };
        state.events.insert(event);
        // SAFETY: both handles are alive.
        let code = unsafe { sys::cuEventRecord(event as CUevent, self.stream) };
        if code != CUresult::CUDA_SUCCESS {
            state.events.remove(&event);
            state.idle_events.push(event);
        }
        check("cuEventRecord", code)?;
        Ok(EventId(event))
    }

    fn wait(&self, event: EventId) -> Result<(), DriverError> {
        // Unlocked while it waits: another thread may go on enqueueing.
        known(&self.enter_outside_capture("wait")?.events, event.0, "event")?;
        // SAFETY: known; releasing it while it is waited for is the caller's error, and CUDA survives it.
        check("cuEventSynchronize", unsafe { sys::cuEventSynchronize(event.0 as CUevent) })
    }

    fn elapsed(&self, from: EventId, to: EventId) -> Result<f32, DriverError> {
        let state = self.enter()?;
        known(&state.events, from.0, "event")?;
        known(&state.events, to.0, "event")?;
        let mut milliseconds = 0.0;
        // SAFETY: both known.
        let code =
            unsafe { sys::cuEventElapsedTime_v2(&mut milliseconds, from.0 as CUevent, to.0 as CUevent) };
        check("cuEventElapsedTime", code)?;
        Ok(milliseconds)
    }

    fn release_event(&self, event: EventId) {
        let mut state = self.lock();
        if state.events.remove(&event.0) {
            state.idle_events.push(event.0);
        }
    }
}

/// Refuses a handle that was not given out or has been given back.
fn known(handles: &HashSet<u64>, handle: u64, what: &str) -> Result<(), DriverError> {
    if handles.contains(&handle) {
        return Ok(());
    }
    Err(DriverError::Failed { call: what.into(), meaning: "it has been released".into() })
}
