//! The driver over the `cust` crate, which links libcuda and needs a CUDA toolkit when it is built: feature `cust`.
//!
//! The same as `real`, less what cust 0.3 cannot do: its bindings are of CUDA 11.4, which knows no clusters, and it has
//! no cuBLASLt. So the facts say that there are neither, and the engine plans without them. Graphs, asynchronous
//! copies and attributes go through its raw bindings, `cust::sys`.

mod words;

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cust::context::{Context, CurrentContext};
use cust::device::Device;
use cust::error::CudaError;
use cust::event::{Event, EventFlags};
use cust::memory::{
    DevicePointer, cuda_free, cuda_free_locked, cuda_malloc, cuda_malloc_locked, mem_get_info,
};
use cust::module::Module;
use cust::stream::{Stream, StreamFlags};
use cust::sys;

pub use self::words::devices;
use self::words::{check, facts, failure, initialise, said};
use super::{Address, Driver, DriverError, EventId, Facts, GraphId, Launch, Meter, Product};
use crate::engine::cuda::images::{self, Image};

/// Shared memory that a kernel may have without asking, bytes.
const SHARED_UNASKED: u32 = 48 * 1024;

/// A CUDA device. Fields are dropped in this order, after the stream has come to its end.
pub struct CustDriver {
    facts: Facts,
    meter: Meter,
    state: Mutex<State>,
    modules: Vec<Module>,
    stream: Stream,
    context: Context,
}

/// What calls change.
#[derive(Default)]
struct State {
    /// Functions and the dynamic shared memory that each may have.
    kernels: HashMap<String, (Handle, u32)>,
    graphs: HashMap<u64, Handle>,
    events: HashMap<u64, Event>,
    next: u64,
    capturing: bool,
    /// What was given back during a capture, when the stream cannot be waited for.
    released: Vec<Released>,
}

/// A handle of CUDA's, which any thread may use.
#[derive(Clone, Copy)]
struct Handle(*mut c_void);

// SAFETY: see above.
unsafe impl Send for Handle {}

#[derive(Clone, Copy)]
enum Released {
    Device(Address),
    Pinned(u64),
}

impl State {
    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl CustDriver {
    /// Opens device `ordinal` and loads the kernels that were built for it.
    pub fn open(ordinal: usize) -> Result<CustDriver, DriverError> {
        initialise()?;
        let count = said("cuDeviceGetCount", Device::num_devices())?;
        if ordinal >= count as usize {
            let why = format!("CUDA device {ordinal} is not there: {count} found");
            return Err(DriverError::Missing(why));
        }
        let device = said("cuDeviceGet", Device::get_device(ordinal as u32))?;
        let facts = facts(device)?;
        let (major, minor) = (facts.capability.0 as i32, facts.capability.1 as i32);
        let images = images::for_device(major, minor).map_err(DriverError::Missing)?;
        let context = said("cuDevicePrimaryCtxRetain", Context::new(device))?;
        // cust makes blocking streams whatever it is asked for; that is as good, as nothing uses the default stream.
        let stream = said("cuStreamCreate", Stream::new(StreamFlags::DEFAULT, None))?;
        let modules = images.into_iter().map(load).collect::<Result<_, _>>()?;
        Ok(CustDriver { facts, meter: Meter::default(), state: Mutex::default(), modules, stream, context })
    }

    /// Makes the context current, because the engine may move between threads, and locks.
    fn enter(&self) -> Result<MutexGuard<'_, State>, DriverError> {
        said("cuCtxSetCurrent", CurrentContext::set_current(&self.context))?;
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same for calls that cannot be part of a graph.
    fn enter_outside_capture(&self, call: &str) -> Result<MutexGuard<'_, State>, DriverError> {
        let state = self.enter()?;
        if state.capturing { Err(failure(call, "it cannot be part of a captured graph")) } else { Ok(state) }
    }

    fn synchronise(&self) -> Result<(), DriverError> {
        said("cuStreamSynchronize", self.stream.synchronize())
    }

    /// Waits and frees; errors are said by an earlier or a later call too.
    fn free(&self, memory: &[Released]) {
        let _ = self.synchronise();
        for released in memory {
            // SAFETY: allocated here and released once; the stream has passed all uses.
            let _ = unsafe {
                match *released {
                    Released::Device(address) => cuda_free(DevicePointer::<u8>::from_raw(address)),
                    Released::Pinned(pointer) => cuda_free_locked(pointer as *mut u8),
                }
            };
        }
    }

    fn release_later_or_now(&self, memory: Released) {
        let Ok(mut state) = self.enter() else { return };
        if state.capturing {
            state.released.push(memory);
        } else {
            drop(state);
            self.free(&[memory]);
        }
    }

    /// The function that this launch calls, with room for its shared memory.
    fn function(&self, state: &mut State, launch: &Launch) -> Result<sys::CUfunction, DriverError> {
        if launch.cluster > 1 {
            let call = format!("kernel {}, clusters of {}", launch.kernel, launch.cluster);
            return Err(failure(&call, "the cust crate's bindings (CUDA 11.4) cannot launch clusters"));
        }
        let (function, shared) = match state.kernels.get_mut(launch.kernel) {
            Some(found) => found,
            None => {
                let find = |module: &Module| match module.get_function(launch.kernel) {
                    Err(CudaError::NotFound) => None,
                    result => Some(result.map(|function| Handle(function.to_raw().cast()))),
                };
                let found = relaxed(|| self.modules.iter().find_map(find))?;
                let call = format!("kernel {}", launch.kernel);
                let found = found
                    .ok_or_else(|| failure(&call, "no kernel of this name in the images for this device"))?;
                state.kernels.entry(launch.kernel.into()).or_insert((said(&call, found)?, SHARED_UNASKED))
            }
        };
        let function = function.0.cast();
        if launch.shared > *shared {
            use sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as ATTRIBUTE;
            // SAFETY: a function of a loaded module.
            let code = unsafe { sys::cuFuncSetAttribute(function, ATTRIBUTE, launch.shared as i32) };
            check(
                &format!(
                    "cuFuncSetAttribute, {} bytes of shared memory for {}",
                    launch.shared, launch.kernel
                ),
                code,
            )?;
            *shared = launch.shared;
        }
        Ok(function)
    }
}

impl Drop for CustDriver {
    fn drop(&mut self) {
        let Ok(mut state) = self.enter() else { return };
        let released = std::mem::take(&mut state.released);
        let graphs = std::mem::take(&mut state.graphs);
        drop(state);
        self.free(&released); // which waits
        for graph in graphs.into_values() {
            // SAFETY: instantiated here, destroyed once.
            unsafe { sys::cuGraphExecDestroy(graph.0.cast()) };
        }
    }
}

impl Driver for CustDriver {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn allocate(&self, bytes: usize) -> Result<Address, DriverError> {
        let _state = self.enter()?;
        // SAFETY: the memory's contents are undefined, as promised.
        match relaxed(|| unsafe { cuda_malloc::<u8>(bytes) })? {
            Err(CudaError::OutOfMemory) => {
                let (available, total) = mem_get_info().unwrap_or_default();
                let (needed, available, total) = (bytes as u64, available as u64, total as u64);
                Err(DriverError::OutOfMemory { needed, available, total })
            }
            result => Ok(said("cuMemAlloc", result)?.as_raw()),
        }
    }

    fn release(&self, address: Address) {
        self.release_later_or_now(Released::Device(address));
    }

    fn allocate_pinned(&self, bytes: usize) -> Result<*mut u8, DriverError> {
        let _state = self.enter()?;
        // SAFETY: as above.
        said("cuMemAllocHost", relaxed(|| unsafe { cuda_malloc_locked(bytes) })?)
    }

    fn release_pinned(&self, pointer: *mut u8) {
        self.release_later_or_now(Released::Pinned(pointer as u64));
    }

    unsafe fn enqueue_upload(&self, to: Address, from: *const u8, bytes: usize) -> Result<(), DriverError> {
        let _state = self.enter()?;
        let stream = self.stream.as_inner();
        // SAFETY: the caller's promise.
        check("cuMemcpyHtoDAsync", unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.cast(), bytes, stream) })
    }

    unsafe fn enqueue_download(&self, to: *mut u8, from: Address, bytes: usize) -> Result<(), DriverError> {
        let _state = self.enter()?;
        let stream = self.stream.as_inner();
        // SAFETY: the caller's promise.
        check("cuMemcpyDtoHAsync", unsafe { sys::cuMemcpyDtoHAsync_v2(to.cast(), from, bytes, stream) })
    }

    fn upload(&self, to: Address, from: &[u8]) -> Result<(), DriverError> {
        let _state = self.enter_outside_capture("upload")?;
        let stream = self.stream.as_inner();
        // SAFETY: `from` lives until the stream has been waited for.
        let code = unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast(), from.len(), stream) };
        check("cuMemcpyHtoDAsync", code)?;
        self.synchronise()
    }

    fn download(&self, to: &mut [u8], from: Address) -> Result<(), DriverError> {
        let _state = self.enter_outside_capture("download")?;
        let stream = self.stream.as_inner();
        // SAFETY: `to` lives until the stream has been waited for.
        let code = unsafe { sys::cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), from, to.len(), stream) };
        check("cuMemcpyDtoHAsync", code)?;
        self.synchronise()
    }

    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<(), DriverError> {
        let _state = self.enter()?;
        let stream = self.stream.as_inner();
        // SAFETY: device memory only.
        check("cuMemcpyDtoDAsync", unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, bytes, stream) })
    }

    fn zero(&self, address: Address, bytes: usize) -> Result<(), DriverError> {
        let _state = self.enter()?;
        // SAFETY: device memory only.
        check("cuMemsetD8Async", unsafe { sys::cuMemsetD8Async(address, 0, bytes, self.stream.as_inner()) })
    }

    fn launch(&self, launch: &Launch) -> Result<(), DriverError> {
        let mut state = self.enter()?;
        let function = self.function(&mut state, launch)?;
        let mut params = vec![0u128; launch.params.len().div_ceil(16).max(1)];
        bytemuck::cast_slice_mut(&mut params)[..launch.params.len()].copy_from_slice(launch.params);
        let mut pointers = [params.as_mut_ptr().cast::<c_void>()];
        let Launch { kernel, grid: [x, y, z], threads, shared, .. } = *launch;
        // SAFETY: one parameter, of the size that the kernel takes by the engine's contract with it; copied by the call.
        let code = unsafe {
            let stream = self.stream.as_inner();
            let extra = std::ptr::null_mut();
            sys::cuLaunchKernel(
                function,
                x,
                y,
                z,
                threads,
                1,
                1,
                shared,
                stream,
                pointers.as_mut_ptr(),
                extra,
            )
        };
        let shape = format!("grid [{x}, {y}, {z}], {threads} threads, {shared} bytes of shared memory");
        check(&format!("kernel {kernel} ({shape})"), code)
    }

    fn product(&self, _: &Product, _: Address, _: Address, _: Address) -> Result<bool, DriverError> {
        Ok(false)
    }

    fn active_clusters(&self, launch: &Launch) -> Result<u32, DriverError> {
        if launch.cluster > 1 || launch.shared > self.facts.shared_per_block || launch.grid.contains(&0) {
            return Ok(0);
        }
        let mut state = self.enter()?;
        let function = match self.function(&mut state, launch) {
            Ok(function) => function,
            // Static and dynamic shared memory together are too much.
            Err(DriverError::Failed { call, .. }) if call.starts_with("cuFuncSetAttribute") => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut count = 0;
        let (threads, shared) = (launch.threads as i32, launch.shared as usize);
        // SAFETY: writes one integer.
        let code = unsafe {
            sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut count, function, threads, shared)
        };
        check("cuOccupancyMaxActiveBlocksPerMultiprocessor", code)?;
        Ok(count.max(0) as u32 * self.facts.multiprocessors)
    }

    fn begin_capture(&self) -> Result<(), DriverError> {
        let mut state = self.enter_outside_capture("begin_capture")?;
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives as long as self.
        let code = unsafe { sys::cuStreamBeginCapture_v2(self.stream.as_inner(), mode) };
        check("cuStreamBeginCapture", code)?;
        state.capturing = true;
        Ok(())
    }

    fn end_capture(&self) -> Result<GraphId, DriverError> {
        let mut state = self.enter()?;
        let mut graph = std::ptr::null_mut();
        // SAFETY: writes one pointer, null where the capture was broken.
        let code = unsafe { sys::cuStreamEndCapture(self.stream.as_inner(), &mut graph) };
        state.capturing = false;
        let released = std::mem::take(&mut state.released);
        if !released.is_empty() {
            self.free(&released);
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
        let id = state.id();
        state.graphs.insert(id, Handle(executable.cast()));
        Ok(GraphId(id))
    }

    fn launch_graph(&self, graph: GraphId) -> Result<(), DriverError> {
        let state = self.enter_outside_capture("launch_graph")?;
        let graph = state.graphs.get(&graph.0).ok_or_else(|| failure("graph", "it has been released"))?;
        // SAFETY: known, so not yet destroyed.
        check("cuGraphLaunch", unsafe { sys::cuGraphLaunch(graph.0.cast(), self.stream.as_inner()) })
    }

    fn release_graph(&self, graph: GraphId) {
        let Ok(mut state) = self.enter() else { return };
        if let Some(graph) = state.graphs.remove(&graph.0) {
            // SAFETY: was known; a launch under way keeps what it needs.
            unsafe { sys::cuGraphExecDestroy(graph.0.cast()) };
        }
    }

    fn record(&self) -> Result<EventId, DriverError> {
        let mut state = self.enter_outside_capture("record")?;
        let event = said("cuEventCreate", Event::new(EventFlags::DEFAULT))?;
        said("cuEventRecord", event.record(&self.stream))?;
        let id = state.id();
        state.events.insert(id, event);
        Ok(EventId(id))
    }

    fn wait(&self, event: EventId) -> Result<(), DriverError> {
        let state = self.enter_outside_capture("wait")?;
        said("cuEventSynchronize", known(&state, event)?.synchronize())
    }

    fn elapsed(&self, from: EventId, to: EventId) -> Result<f32, DriverError> {
        let state = self.enter()?;
        said("cuEventElapsedTime", known(&state, to)?.elapsed_time_f32(known(&state, from)?))
    }

    fn release_event(&self, event: EventId) {
        if let Ok(mut state) = self.enter() {
            state.events.remove(&event.0);
        }
    }
}

fn known(state: &State, event: EventId) -> Result<&Event, DriverError> {
    state.events.get(&event.0).ok_or_else(|| failure("event", "it has been released"))
}

/// Runs what may allocate while a capture is under way on this thread, which forbids that by default.
fn relaxed<T>(run: impl FnOnce() -> T) -> Result<T, DriverError> {
    let mut mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_RELAXED;
    // SAFETY: exchanges this thread's mode with `mode`.
    check("cuThreadExchangeStreamCaptureMode", unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut mode) })?;
    let value = run();
    // SAFETY: puts the former mode back.
    check("cuThreadExchangeStreamCaptureMode", unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut mode) })?;
    Ok(value)
}

/// Loads machine code, or PTX, which the driver compiles (both carry their end).
fn load(image: &Image) -> Result<Module, DriverError> {
    said(
        &format!("cuModuleLoadDataEx, {} for {}", image.file, image.arch),
        Module::from_cubin(image.bytes, &[]),
    )
}
