//! The driver seam: what the CUDA engine needs of a device, and no more.
//!
//! Three things stand behind it: [`emulated`] runs the very same kernel sources on the processor (for tests, and on
//! machines without a GPU), `real` is CUDA's driver loaded at run time through cudarc, and behind the off-by-default
//! feature `cust` the same over the `cust` crate.
//!
//! A driver has one stream: everything but [`Driver::download`] and [`Driver::wait`] is asynchronous and in order.
//! Device addresses are plain numbers; [`Buffer`], [`Pinned`], [`Graph`] and [`Event`] give what they hold back when
//! they are dropped.
#![allow(unsafe_code)] // Pinned memory is a raw pointer shared with the device; see `Pinned`.

#[cfg(feature = "cust")]
pub mod cust;
pub mod emulated;
pub mod real;
pub mod recurrent;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An address in device memory.
pub type Address = u64;

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `NVIDIA H100 80GB HBM3`, `emulated sm_90`.
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Shared memory that one block may ask for, bytes.
    pub shared_per_block: u32,
    /// The largest cluster of blocks (0: no clusters; 16 where the non-portable size is allowed).
    pub max_cluster: u32,
    /// Device memory, bytes.
    pub memory: u64,
    /// The CUDA version that the driver speaks, `13.0`.
    pub cuda: String,
    /// Whether times say something about the device: not where it is emulated.
    pub clock: bool,
    /// Libraries found, and why others were not: (name, version or reason).
    pub libraries: Vec<(String, String)>,
}

impl Facts {
    /// The names and versions alone. A library's entry is its version where it was found, else the reason.
    pub fn for_people(&self) -> crate::engine::DeviceFacts {
        let version = |text: &&String| text.starts_with(|c: char| c.is_ascii_digit());
        let cudnn = self.libraries.iter().find(|(name, _)| name == "cuDNN").map(|(_, version)| version);
        crate::engine::DeviceFacts {
            name: self.name.clone(),
            cuda: Some(self.cuda.clone()),
            cudnn: cudnn.filter(version).cloned(),
        }
    }
}

/// One kernel launch.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// The kernel's name in `kernels/`.
    pub kernel: &'a str,
    /// Blocks, a multiple of `cluster` in x.
    pub grid: [u32; 3],
    /// Threads a block.
    pub threads: u32,
    /// Blocks a cluster; 1 = none.
    pub cluster: u32,
    /// Dynamic shared memory, bytes.
    pub shared: u32,
    /// The kernel's one parameter, a struct of [`super::params`].
    pub params: &'a [u8],
}

/// Which operand lies how in a matrix product; row-major matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// A [m, k], B [n, k].
    Nt,
    /// A [m, k], B [k, n].
    Nn,
    /// A [k, m], B [k, n].
    Tn,
}

/// A matrix product C [m, n] for a library such as cuBLASLt; leading dimensions in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Product {
    /// Which operand lies how.
    pub form: Form,
    /// Type of A and B.
    pub precision: crate::engine::Precision,
    /// Whether C is float; else it has the type of A and B.
    pub c_float: bool,
    /// Rows of C.
    pub m: u32,
    /// Columns of C.
    pub n: u32,
    /// The summed dimension.
    pub k: u32,
    /// Leading dimension of A.
    pub lda: u32,
    /// Leading dimension of B.
    pub ldb: u32,
    /// Leading dimension of C.
    pub ldc: u32,
}

/// What a driver can refuse with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// No such device, driver or library.
    #[error("{0}")]
    Missing(String),
    /// Not enough device memory.
    #[error("out of device memory: {needed} bytes needed, {available} of {total} available")]
    OutOfMemory {
        /// Bytes asked for.
        needed: u64,
        /// Bytes free.
        available: u64,
        /// Bytes there are.
        total: u64,
    },
    /// A library does not serve what it was asked for.
    #[error("{0}")]
    Unsupported(String),
    /// A call failed.
    #[error("{call} failed: {meaning}")]
    Failed {
        /// The driver's function, or the kernel.
        call: String,
        /// What it said.
        meaning: String,
    },
}

/// Counts the bytes of the [`Buffer`]s of a device.
#[derive(Debug, Default)]
pub struct Meter {
    now: AtomicU64,
    peak: AtomicU64,
}

impl Meter {
    fn add(&self, bytes: u64) {
        let now = self.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(now, Ordering::Relaxed);
    }

    fn take(&self, bytes: u64) {
        self.now.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes now.
    pub fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// The most there ever were.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

/// A handle on a captured graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GraphId(pub u64);

/// A handle on an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId(pub u64);

/// See the module's documentation. Addresses must come from `allocate`; ranges must lie inside one allocation.
pub trait Driver: Send + Sync {
    /// What the device is.
    fn facts(&self) -> &Facts;
    /// Where buffers are counted.
    fn meter(&self) -> &Meter;
    /// Device memory, 256-byte aligned, with undefined contents.
    fn allocate(&self, bytes: usize) -> Result<Address, DriverError>;
    /// Gives memory back, after all that was enqueued.
    fn release(&self, address: Address);
    /// Page-locked host memory, undefined contents, fast to read.
    fn allocate_pinned(&self, bytes: usize) -> Result<*mut u8, DriverError>;
    /// Gives it back, after all that was enqueued.
    fn release_pinned(&self, pointer: *mut u8);
    /// Enqueues a copy to the device.
    ///
    /// # Safety
    /// `from` is valid for `bytes` until the copy has happened (an event after it has been waited for).
    unsafe fn enqueue_upload(&self, to: Address, from: *const u8, bytes: usize) -> Result<(), DriverError>;
    /// Enqueues a copy from the device.
    ///
    /// # Safety
    /// `to` is valid for `bytes` and not otherwise used until the copy has happened.
    unsafe fn enqueue_download(&self, to: *mut u8, from: Address, bytes: usize) -> Result<(), DriverError>;
    /// Copies to the device; `from` may be reused when this returns.
    fn upload(&self, to: Address, from: &[u8]) -> Result<(), DriverError>;
    /// Waits for everything before and copies from the device.
    fn download(&self, to: &mut [u8], from: Address) -> Result<(), DriverError>;
    /// Enqueues a copy within the device.
    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<(), DriverError>;
    /// Enqueues filling with zero bytes.
    fn zero(&self, address: Address, bytes: usize) -> Result<(), DriverError>;
    /// Enqueues a kernel.
    fn launch(&self, launch: &Launch) -> Result<(), DriverError>;
    /// Enqueues a product through a library; false where there is none that serves it (then nothing was enqueued).
    fn product(&self, product: &Product, a: Address, b: Address, c: Address) -> Result<bool, DriverError>;
    /// The library of recurrent layers, looked for when it is first asked for; the error says why there is none.
    fn rnn_library(&self) -> Result<&dyn recurrent::RnnLibrary, String> {
        Err(format!("there is no cuDNN for {}", self.facts().name))
    }
    /// How many clusters of this launch fit on the device at once; 0 where it cannot run at all.
    fn active_clusters(&self, launch: &Launch) -> Result<u32, DriverError>;
    /// Begins to record instead of to run.
    fn begin_capture(&self) -> Result<(), DriverError>;
    /// Ends recording.
    fn end_capture(&self) -> Result<GraphId, DriverError>;
    /// Enqueues a recorded graph.
    fn launch_graph(&self, graph: GraphId) -> Result<(), DriverError>;
    /// Forgets a graph.
    fn release_graph(&self, graph: GraphId);
    /// Marks this place in the stream.
    fn record(&self) -> Result<EventId, DriverError>;
    /// Waits until the stream has passed the event.
    fn wait(&self, event: EventId) -> Result<(), DriverError>;
    /// Milliseconds between two events that have passed.
    fn elapsed(&self, from: EventId, to: EventId) -> Result<f32, DriverError>;
    /// Forgets an event.
    fn release_event(&self, event: EventId);
}

/// Device memory that is given back when dropped.
pub struct Buffer {
    driver: Arc<dyn Driver>,
    address: Address,
    bytes: usize,
}

impl Buffer {
    /// At least one byte is allocated.
    pub fn new(driver: &Arc<dyn Driver>, bytes: usize) -> Result<Buffer, DriverError> {
        let address = driver.allocate(bytes.max(1))?;
        driver.meter().add(bytes as u64);
        Ok(Buffer { driver: driver.clone(), address, bytes })
    }

    /// The same, zeroed.
    pub fn zeroed(driver: &Arc<dyn Driver>, bytes: usize) -> Result<Buffer, DriverError> {
        let buffer = Buffer::new(driver, bytes)?;
        if bytes > 0 {
            driver.zero(buffer.address, bytes)?;
        }
        Ok(buffer)
    }

    /// Where it lies.
    pub fn at(&self) -> Address {
        self.address
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies from the host.
    pub fn write<T: bytemuck::Pod>(&self, values: &[T]) -> Result<(), DriverError> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        assert!(bytes.len() <= self.bytes, "a write beyond a buffer's end");
        if bytes.is_empty() { Ok(()) } else { self.driver.upload(self.address, bytes) }
    }

    /// Copies `count` values from `offset` values on to the host, after all that was enqueued.
    pub fn read<T: bytemuck::Pod>(&self, offset: usize, count: usize) -> Result<Vec<T>, DriverError> {
        let size = size_of::<T>();
        assert!((offset + count) * size <= self.bytes, "a read beyond a buffer's end");
        let mut values = vec![T::zeroed(); count];
        if count > 0 {
            let bytes = bytemuck::cast_slice_mut(&mut values);
            self.driver.download(bytes, self.address + (offset * size) as u64)?;
        }
        Ok(values)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.driver.release(self.address);
        self.driver.meter().take(self.bytes as u64);
    }
}

/// Page-locked host memory that is given back when dropped.
pub struct Pinned {
    driver: Arc<dyn Driver>,
    pointer: *mut u8,
    bytes: usize,
}

// SAFETY: the memory is owned by this value alone; CUDA's pinned memory may be used from any thread.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Zeroed.
    pub fn new(driver: &Arc<dyn Driver>, bytes: usize) -> Result<Pinned, DriverError> {
        let pointer = driver.allocate_pinned(bytes.max(1))?;
        // SAFETY: just allocated with that size.
        unsafe { std::ptr::write_bytes(pointer, 0, bytes.max(1)) };
        Ok(Pinned { driver: driver.clone(), pointer, bytes })
    }

    /// The bytes. No copy that was enqueued on them may be under way: wait for an event after it first.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: owned, initialised, of that size; the caller has waited for the copies.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.bytes) }
    }

    /// The bytes, to read. No download into them may be under way.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.pointer, self.bytes) }
    }

    /// Enqueues a copy of the first `bytes` to the device. `self` must not be written or dropped before it has
    /// happened; dropping waits by itself.
    pub fn enqueue_upload(&self, to: Address, bytes: usize) -> Result<(), DriverError> {
        assert!(bytes <= self.bytes);
        // SAFETY: valid while self lives; `release_pinned` waits for the stream.
        unsafe { self.driver.enqueue_upload(to, self.pointer, bytes) }
    }

    /// Enqueues a copy of `bytes` from the device to `offset`.
    pub fn enqueue_download(&self, offset: usize, from: Address, bytes: usize) -> Result<(), DriverError> {
        assert!(offset + bytes <= self.bytes);
        // SAFETY: as above.
        unsafe { self.driver.enqueue_download(self.pointer.add(offset), from, bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.driver.release_pinned(self.pointer);
    }
}

/// A captured graph, forgotten when dropped.
pub struct Graph {
    driver: Arc<dyn Driver>,
    id: GraphId,
}

impl Graph {
    /// Captures what `enqueue` enqueues. An error inside ends the capture too.
    pub fn capture<E: From<DriverError>>(
        driver: &Arc<dyn Driver>,
        enqueue: impl FnOnce() -> Result<(), E>,
    ) -> Result<Graph, E> {
        driver.begin_capture()?;
        let result = enqueue();
        let ended = driver.end_capture().map(|id| Graph { driver: driver.clone(), id });
        result?;
        Ok(ended?)
    }

    /// Enqueues it.
    pub fn launch(&self) -> Result<(), DriverError> {
        self.driver.launch_graph(self.id)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.driver.release_graph(self.id);
    }
}

/// A place in the stream, forgotten when dropped.
pub struct Event {
    driver: Arc<dyn Driver>,
    id: EventId,
}

impl Event {
    /// Marks this place in the stream.
    pub fn record(driver: &Arc<dyn Driver>) -> Result<Event, DriverError> {
        Ok(Event { driver: driver.clone(), id: driver.record()? })
    }

    /// Waits until the stream has passed it.
    pub fn wait(&self) -> Result<(), DriverError> {
        self.driver.wait(self.id)
    }

    /// Milliseconds from `earlier` to this one; both must have passed.
    pub fn since(&self, earlier: &Event) -> Result<f32, DriverError> {
        self.driver.elapsed(earlier.id, self.id)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.driver.release_event(self.id);
    }
}
