//! The emulated driver: the kernels' own sources, compiled as C++ against a host header into a shared library, run on
//! this processor. `scripts/emulated-kernels.sh` makes the library.
//!
//! One block's threads are fibres, run in a seeded order between barriers, so that a missing barrier shows as a wrong
//! number. Every allocation stands between guard zones, which are looked at after every launch; fresh memory is NaN in
//! every format, so that an output that is not written shows too. Copies outside an allocation are errors.
#![allow(unsafe_code)] // Addresses are numbers here, and memory is the host's.

mod library;

use std::collections::{BTreeMap, HashMap};
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub use library::{KernelInfo, LIBRARY, Library};

use super::{Address, Driver, DriverError, EventId, Facts, GraphId, Launch, Meter, Product};

/// Bytes before and after an allocation that nothing may touch.
const GUARD: usize = 256;
/// What they hold.
const GUARD_BYTE: u8 = 0xA5;

/// Something enqueued, with its parameters.
#[derive(Clone)]
enum Op {
    Upload { to: Address, from: usize, bytes: usize },
    Download { to: usize, from: Address, bytes: usize },
    Copy { to: Address, from: Address, bytes: usize },
    Zero { at: Address, bytes: usize },
    Launch { kernel: String, grid: [u32; 3], threads: u32, cluster: u32, shared: u32, params: Vec<u8> },
}

#[derive(Default)]
struct State {
    /// Address -> (start of the block with its guards, bytes asked for).
    allocations: BTreeMap<Address, (usize, usize)>,
    pinned: HashMap<usize, usize>,
    recording: Option<Vec<Op>>,
    graphs: HashMap<u64, Arc<Vec<Op>>>,
    events: HashMap<u64, Instant>,
    next: u64,
    launches: u64,
    in_use: u64,
}

/// See the module's documentation.
pub struct EmulatedDriver {
    library: Arc<Library>,
    facts: Facts,
    meter: Meter,
    seed: u64,
    mode: i32,
    state: Mutex<State>,
}

impl EmulatedDriver {
    /// A device with `facts`, whose fibres run in an order drawn from `seed`; `mode` 0: bursts and laggards, 1: uniform,
    /// 2: in the order of the threads.
    pub fn new(library: &Arc<Library>, facts: Facts, seed: u64, mode: i32) -> EmulatedDriver {
        EmulatedDriver {
            library: library.clone(),
            facts,
            meter: Meter::default(),
            seed,
            mode,
            state: Mutex::default(),
        }
    }

    /// Facts of an emulated device of compute capability `major`.`minor`, as NVIDIA documents them.
    pub fn facts_of(major: u32, minor: u32) -> Facts {
        let (shared, clusters, multiprocessors) = match (major, minor) {
            (8, 0) => (163 << 10, 0, 108),
            (8, _) => (99 << 10, 0, 82),
            (9 | 10, _) => (227 << 10, 16, 132),
            _ => (99 << 10, 8, 170),
        };
        Facts {
            name: format!("emulated sm_{major}{minor}"),
            capability: (major, minor),
            multiprocessors,
            shared_per_block: shared,
            max_cluster: clusters,
            memory: 8 << 30,
            cuda: "emulated".into(),
            clock: false,
            libraries: Vec::new(),
        }
    }

    /// The kernels behind it.
    pub fn library(&self) -> &Arc<Library> {
        &self.library
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, op: Op) -> Result<(), DriverError> {
        let mut state = self.lock();
        if let Some(recording) = &mut state.recording {
            recording.push(op);
            return Ok(());
        }
        self.run(&mut state, &op)
    }

    fn run(&self, state: &mut State, op: &Op) -> Result<(), DriverError> {
        match op {
            Op::Upload { to, from, bytes } => {
                inside(state, "upload", *to, *bytes)?;
                // SAFETY: the range was just checked; `enqueue_upload`'s caller vouches for `from`.
                unsafe { std::ptr::copy_nonoverlapping(*from as *const u8, *to as *mut u8, *bytes) };
            }
            Op::Download { to, from, bytes } => {
                inside(state, "download", *from, *bytes)?;
                // SAFETY: likewise.
                unsafe { std::ptr::copy_nonoverlapping(*from as *const u8, *to as *mut u8, *bytes) };
            }
            Op::Copy { to, from, bytes } => {
                inside(state, "copy", *to, *bytes)?;
                inside(state, "copy", *from, *bytes)?;
                // SAFETY: both ranges were checked.
                unsafe { std::ptr::copy(*from as *const u8, *to as *mut u8, *bytes) };
            }
            Op::Zero { at, bytes } => {
                inside(state, "zero", *at, *bytes)?;
                // SAFETY: checked.
                unsafe { std::ptr::write_bytes(*at as *mut u8, 0, *bytes) };
            }
            Op::Launch { kernel, grid, threads, cluster, shared, params } => {
                state.launches += 1;
                let seed = self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(state.launches);
                self.call(kernel, *grid, *threads, *cluster, *shared, params, seed)?;
                guards(state, kernel)?;
            }
        }
        Ok(())
    }

    fn call(
        &self,
        kernel: &str,
        grid: [u32; 3],
        threads: u32,
        cluster: u32,
        shared: u32,
        params: &[u8],
        seed: u64,
    ) -> Result<(), DriverError> {
        self.library.launch(&Launch { kernel, grid, threads, cluster, shared, params }, seed, self.mode)
    }
}

/// Refuses a range that is not inside one allocation.
fn inside(state: &State, what: &str, at: Address, bytes: usize) -> Result<(), DriverError> {
    let found = state.allocations.range(..=at).next_back();
    let good = found.is_some_and(|(start, (_, size))| {
        at.checked_add(bytes as u64).is_some_and(|end| end <= start + *size as u64)
    });
    if good {
        return Ok(());
    }
    Err(DriverError::Failed {
        call: what.into(),
        meaning: format!("{bytes} bytes at {at:#x} are not inside one allocation"),
    })
}

/// Refuses where a guard zone was written to.
fn guards(state: &State, kernel: &str) -> Result<(), DriverError> {
    for (&address, &(start, bytes)) in &state.allocations {
        // SAFETY: `allocate` made this block with these sizes.
        let (before, after) = unsafe {
            (
                std::slice::from_raw_parts(start as *const u8, address as usize - start),
                std::slice::from_raw_parts((address as usize + bytes) as *const u8, GUARD),
            )
        };
        for (zone, side) in [(before, "before"), (after, "after")] {
            if zone.iter().any(|&byte| byte != GUARD_BYTE) {
                return Err(DriverError::Failed {
                    call: format!("kernel {kernel}"),
                    meaning: format!("it wrote {side} an allocation of {bytes} bytes"),
                });
            }
        }
    }
    Ok(())
}

impl Driver for EmulatedDriver {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn allocate(&self, bytes: usize) -> Result<Address, DriverError> {
        let mut state = self.lock();
        if state.in_use + bytes as u64 > self.facts.memory {
            return Err(DriverError::OutOfMemory {
                needed: bytes as u64,
                available: self.facts.memory - state.in_use,
                total: self.facts.memory,
            });
        }
        // SAFETY: a size above 0; the block is filled before it is used.
        let start = unsafe { libc::malloc(bytes + 2 * GUARD + 256) } as usize;
        if start == 0 {
            return Err(DriverError::OutOfMemory { needed: bytes as u64, available: 0, total: 0 });
        }
        let address = (start + GUARD).next_multiple_of(256);
        // SAFETY: address - start <= GUARD + 255, so that everything lies inside the block.
        unsafe {
            std::ptr::write_bytes(start as *mut u8, GUARD_BYTE, address - start);
            std::ptr::write_bytes(address as *mut u8, 0xff, bytes);
            std::ptr::write_bytes((address + bytes) as *mut u8, GUARD_BYTE, GUARD);
        }
        state.allocations.insert(address as Address, (start, bytes));
        state.in_use += bytes as u64;
        Ok(address as Address)
    }

    fn release(&self, address: Address) {
        let mut state = self.lock();
        if let Some((start, bytes)) = state.allocations.remove(&address) {
            state.in_use -= bytes as u64;
            // SAFETY: malloc gave it, and it was just taken out of the map.
            unsafe { libc::free(start as *mut c_void) };
        }
    }

    fn allocate_pinned(&self, bytes: usize) -> Result<*mut u8, DriverError> {
        // SAFETY: a size above 0.
        let pointer = unsafe { libc::malloc(bytes) };
        if pointer.is_null() {
            return Err(DriverError::OutOfMemory { needed: bytes as u64, available: 0, total: 0 });
        }
        self.lock().pinned.insert(pointer as usize, bytes);
        Ok(pointer.cast())
    }

    fn release_pinned(&self, pointer: *mut u8) {
        if self.lock().pinned.remove(&(pointer as usize)).is_some() {
            // SAFETY: malloc gave it, and it was just taken out of the map.
            unsafe { libc::free(pointer.cast()) };
        }
    }

    unsafe fn enqueue_upload(&self, to: Address, from: *const u8, bytes: usize) -> Result<(), DriverError> {
        self.enqueue(Op::Upload { to, from: from as usize, bytes })
    }

    unsafe fn enqueue_download(&self, to: *mut u8, from: Address, bytes: usize) -> Result<(), DriverError> {
        self.enqueue(Op::Download { to: to as usize, from, bytes })
    }

    fn upload(&self, to: Address, from: &[u8]) -> Result<(), DriverError> {
        let mut state = self.lock();
        if state.recording.is_some() {
            return Err(DriverError::Failed {
                call: "upload".into(),
                meaning: "a capture is under way".into(),
            });
        }
        self.run(&mut state, &Op::Upload { to, from: from.as_ptr() as usize, bytes: from.len() })
    }

    fn download(&self, to: &mut [u8], from: Address) -> Result<(), DriverError> {
        let mut state = self.lock();
        if state.recording.is_some() {
            return Err(DriverError::Failed {
                call: "download".into(),
                meaning: "a capture is under way".into(),
            });
        }
        self.run(&mut state, &Op::Download { to: to.as_mut_ptr() as usize, from, bytes: to.len() })
    }

    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<(), DriverError> {
        self.enqueue(Op::Copy { to, from, bytes })
    }

    fn zero(&self, address: Address, bytes: usize) -> Result<(), DriverError> {
        self.enqueue(Op::Zero { at: address, bytes })
    }

    fn launch(&self, launch: &Launch) -> Result<(), DriverError> {
        let failed =
            |meaning: String| DriverError::Failed { call: format!("kernel {}", launch.kernel), meaning };
        let Some(info) = self.library.info(launch.kernel) else {
            return Err(failed("there is no such kernel".into()));
        };
        if info.params != launch.params.len() {
            return Err(failed(format!(
                "its parameters have {} bytes, expected {}",
                launch.params.len(),
                info.params
            )));
        }
        if launch.threads == 0 || launch.threads > info.threads {
            return Err(failed(format!("{} threads, expected 1 to {}", launch.threads, info.threads)));
        }
        if launch.shared > self.facts.shared_per_block || (launch.shared as usize) < info.shared {
            return Err(failed(format!(
                "{} bytes of shared memory, expected {} or more, at most {}",
                launch.shared, info.shared, self.facts.shared_per_block
            )));
        }
        if launch.cluster > 1 && launch.cluster > self.facts.max_cluster {
            return Err(failed(format!(
                "clusters of {}, this device has at most {}",
                launch.cluster, self.facts.max_cluster
            )));
        }
        if launch.grid.contains(&0) || !launch.grid[0].is_multiple_of(launch.cluster.max(1)) {
            return Err(failed(format!("a grid of {:?} in clusters of {}", launch.grid, launch.cluster)));
        }
        self.enqueue(Op::Launch {
            kernel: launch.kernel.into(),
            grid: launch.grid,
            threads: launch.threads,
            cluster: launch.cluster.max(1),
            shared: launch.shared,
            params: launch.params.into(),
        })
    }

    fn product(&self, _: &Product, _: Address, _: Address, _: Address) -> Result<bool, DriverError> {
        Ok(false)
    }

    fn active_clusters(&self, launch: &Launch) -> Result<u32, DriverError> {
        let fits =
            launch.cluster <= self.facts.max_cluster.max(1) && launch.shared <= self.facts.shared_per_block;
        Ok(if fits { self.facts.multiprocessors / launch.cluster.max(1) } else { 0 })
    }

    fn begin_capture(&self) -> Result<(), DriverError> {
        let mut state = self.lock();
        if state.recording.is_some() {
            return Err(DriverError::Failed {
                call: "begin_capture".into(),
                meaning: "a capture is under way".into(),
            });
        }
        state.recording = Some(Vec::new());
        Ok(())
    }

    fn end_capture(&self) -> Result<GraphId, DriverError> {
        let mut state = self.lock();
        let Some(ops) = state.recording.take() else {
            return Err(DriverError::Failed {
                call: "end_capture".into(),
                meaning: "no capture is under way".into(),
            });
        };
        state.next += 1;
        let id = state.next;
        state.graphs.insert(id, Arc::new(ops));
        Ok(GraphId(id))
    }

    fn launch_graph(&self, graph: GraphId) -> Result<(), DriverError> {
        let mut state = self.lock();
        let Some(ops) = state.graphs.get(&graph.0).cloned() else {
            return Err(DriverError::Failed { call: "launch_graph".into(), meaning: "no such graph".into() });
        };
        ops.iter().try_for_each(|op| self.run(&mut state, op))
    }

    fn release_graph(&self, graph: GraphId) {
        self.lock().graphs.remove(&graph.0);
    }

    fn record(&self) -> Result<EventId, DriverError> {
        let mut state = self.lock();
        state.next += 1;
        let id = state.next;
        state.events.insert(id, Instant::now());
        Ok(EventId(id))
    }

    fn wait(&self, _: EventId) -> Result<(), DriverError> {
        Ok(())
    }

    /// The host's time: how long the emulation took, which says nothing about a GPU.
    fn elapsed(&self, from: EventId, to: EventId) -> Result<f32, DriverError> {
        let state = self.lock();
        let at = |event: EventId| {
            state.events.get(&event.0).copied().ok_or_else(|| DriverError::Failed {
                call: "elapsed".into(),
                meaning: "no such event".into(),
            })
        };
        Ok(at(to)?.duration_since(at(from)?).as_secs_f32() * 1e3)
    }

    fn release_event(&self, event: EventId) {
        self.lock().events.remove(&event.0);
    }
}

impl Drop for EmulatedDriver {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (start, _) in state.allocations.values() {
            // SAFETY: malloc gave them, nothing else frees them.
            unsafe { libc::free(*start as *mut c_void) };
        }
        for pointer in state.pinned.keys() {
            // SAFETY: likewise.
            unsafe { libc::free(*pointer as *mut c_void) };
        }
    }
}
