//! A device's context and its memory.

use cudarc::driver::sys::{self, CUcontext, CUdevice, CUresult, CUstream};

use super::library::{check, failed};
use crate::engine::cuda::driver::{Address, DriverError};

/// A retained primary context.
pub struct Context {
    device: CUdevice,
    context: CUcontext,
}

impl Context {
    pub fn retain(device: CUdevice) -> Result<Context, DriverError> {
        let mut context = std::ptr::null_mut();
        // SAFETY: a device that cuDeviceGet gave.
        check("cuDevicePrimaryCtxRetain", unsafe { sys::cuDevicePrimaryCtxRetain(&mut context, device) })?;
        Ok(Context { device, context })
    }

    /// For this thread's calls.
    pub fn make_current(&self) -> Result<(), DriverError> {
        self.handle().make_current()
    }

    /// What a library on this context keeps; it must not outlive the context.
    pub fn handle(&self) -> ContextHandle {
        ContextHandle(self.context)
    }
}

/// A retained context, without the duty to release it.
#[derive(Clone, Copy)]
pub struct ContextHandle(CUcontext);

// SAFETY: CUDA's contexts may be made current on any thread.
unsafe impl Send for ContextHandle {}
// SAFETY: as above.
unsafe impl Sync for ContextHandle {}

impl ContextHandle {
    /// For this thread's calls.
    pub fn make_current(self) -> Result<(), DriverError> {
        // SAFETY: retained as long as the `Context` that gave it.
        check("cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(self.0) })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once, released once.
        unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

/// Memory that is given back.
pub enum Released {
    Device(Address),
    Pinned(u64),
}

/// Device memory in the current context.
pub fn allocate(bytes: usize) -> Result<Address, DriverError> {
    let mut address = 0;
    // SAFETY: writes one address.
    match unsafe { sys::cuMemAlloc_v2(&mut address, bytes) } {
        CUresult::CUDA_SUCCESS => Ok(address),
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            let (mut available, mut total) = (0, 0);
            // SAFETY: writes two sizes; where it fails they stay 0.
            unsafe { sys::cuMemGetInfo_v2(&mut available, &mut total) };
            let (needed, available, total) = (bytes as u64, available as u64, total as u64);
            Err(DriverError::OutOfMemory { needed, available, total })
        }
        code => Err(failed("cuMemAlloc", code)),
    }
}

/// Page-locked memory, which the processor reads as fast as any other.
pub fn allocate_pinned(bytes: usize) -> Result<*mut u8, DriverError> {
    let mut pointer = std::ptr::null_mut();
    // Flags 0: write-combined memory would be slow to read.
    // SAFETY: writes one pointer.
    check("cuMemHostAlloc", unsafe { sys::cuMemHostAlloc(&mut pointer, bytes, 0) })?;
    Ok(pointer.cast())
}

/// Waits for all that was enqueued.
pub fn synchronise(stream: CUstream) -> Result<(), DriverError> {
    // SAFETY: the driver's stream, alive as long as the driver.
    check("cuStreamSynchronize", unsafe { sys::cuStreamSynchronize(stream) })
}

/// Waits and frees. Errors are not reported: an earlier or a later call says the same.
pub fn free(stream: CUstream, memory: &[Released]) {
    let _ = synchronise(stream);
    for released in memory {
        // SAFETY: allocated above, released once; the stream has passed all uses.
        unsafe {
            match *released {
                Released::Device(address) => sys::cuMemFree_v2(address),
                Released::Pinned(pointer) => sys::cuMemFreeHost(pointer as *mut _),
            };
        }
    }
}
