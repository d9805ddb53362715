//! The kernel images on a device: loaded once, functions found by name, their attributes raised as launches need it.

use std::collections::HashMap;
use std::ffi::{CString, c_void};

use cudarc::driver::sys::{self, CUfunction, CUfunction_attribute, CUjit_option, CUmodule, CUresult};

use super::library::{check, failed};
use crate::engine::cuda::driver::{DriverError, Launch};
use crate::engine::cuda::images::Image;

/// Shared memory that a kernel may have without asking, bytes.
const SHARED_UNASKED: u32 = 48 * 1024;
/// Blocks of a cluster that a kernel may have without asking.
const CLUSTER_UNASKED: u32 = 8;

/// A kernel that is ready to be launched, and what has been asked for it so far.
#[derive(Clone, Copy)]
struct Kernel {
    function: CUfunction,
    /// Size of its one parameter, bytes.
    params: usize,
    /// Dynamic shared memory that a launch may ask for.
    shared: u32,
    /// Blocks of a cluster that a launch may ask for.
    cluster: u32,
}

/// All kernels of a device. Not synchronised: the driver locks it.
pub struct Kernels {
    modules: Vec<CUmodule>,
    found: HashMap<String, Kernel>,
}

impl Kernels {
    /// Loads the images into the current context.
    pub fn load(images: &[&Image]) -> Result<Kernels, DriverError> {
        let mut kernels = Kernels { modules: Vec::new(), found: HashMap::new() };
        for image in images {
            match load(image) {
                Ok(module) => kernels.modules.push(module),
                Err(error) => {
                    kernels.unload();
                    return Err(error);
                }
            }
        }
        Ok(kernels)
    }

    /// The function that this launch calls, with the attributes that it needs. Checks the parameter's size, because
    /// the driver reads as many bytes as the kernel takes.
    pub fn prepare(&mut self, launch: &Launch) -> Result<CUfunction, DriverError> {
        let kernel = match self.found.get_mut(launch.kernel) {
            Some(kernel) => kernel,
            None => {
                let kernel = relaxed(|| self.find(launch.kernel))?;
                self.found.entry(launch.kernel.into()).or_insert(kernel)
            }
        };
        if launch.params.len() != kernel.params {
            let meaning = format!("it takes {} bytes, not {}", kernel.params, launch.params.len());
            return Err(DriverError::Failed { call: format!("kernel {}", launch.kernel), meaning });
        }
        if launch.shared > kernel.shared {
            use CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as ATTRIBUTE;
            // SAFETY: a function of a loaded module.
            let code = unsafe { sys::cuFuncSetAttribute(kernel.function, ATTRIBUTE, launch.shared as i32) };
            check(
                &format!(
                    "cuFuncSetAttribute, {} bytes of shared memory for {}",
                    launch.shared, launch.kernel
                ),
                code,
            )?;
            kernel.shared = launch.shared;
        }
        if launch.cluster > kernel.cluster {
            use CUfunction_attribute::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED as ATTRIBUTE;
            // SAFETY: as above.
            let code = unsafe { sys::cuFuncSetAttribute(kernel.function, ATTRIBUTE, 1) };
            check(
                &format!("cuFuncSetAttribute, clusters of {} for {}", launch.cluster, launch.kernel),
                code,
            )?;
            kernel.cluster = launch.cluster;
        }
        Ok(kernel.function)
    }

    fn find(&self, name: &str) -> Result<Kernel, DriverError> {
        let c_name = CString::new(name).unwrap_or_default();
        for &module in &self.modules {
            let mut function = std::ptr::null_mut();
            // SAFETY: a loaded module; the name ends with NUL.
            match unsafe { sys::cuModuleGetFunction(&mut function, module, c_name.as_ptr()) } {
                CUresult::CUDA_SUCCESS => {}
                CUresult::CUDA_ERROR_NOT_FOUND => continue,
                code => return Err(failed(&format!("cuModuleGetFunction, {name}"), code)),
            }
            // Code is loaded lazily by default; what a captured stream launches is better loaded before.
            // SAFETY: a function of a loaded module.
            check(&format!("cuFuncLoad, {name}"), unsafe { sys::cuFuncLoad(function) })?;
            let (mut offset, mut params) = (0, 0);
            // SAFETY: writes two sizes.
            let code = unsafe { sys::cuFuncGetParamInfo(function, 0, &mut offset, &mut params) };
            if code != CUresult::CUDA_ERROR_INVALID_VALUE {
                check(&format!("cuFuncGetParamInfo, {name}"), code)?;
            } // else it takes nothing
            return Ok(Kernel { function, params, shared: SHARED_UNASKED, cluster: CLUSTER_UNASKED });
        }
        let meaning = "no kernel of this name in the images for this device".into();
        Err(DriverError::Failed { call: format!("kernel {name}"), meaning })
    }

    /// Unloads all modules; errors are of no use to anyone here.
    pub fn unload(&mut self) {
        self.found.clear();
        for module in self.modules.drain(..) {
            // SAFETY: loaded above, and unloaded once.
            unsafe { sys::cuModuleUnload(module) };
        }
    }
}

/// Loads machine code, a fat binary or PTX, which the driver then compiles.
fn load(image: &Image) -> Result<CUmodule, DriverError> {
    // Machine code and fat binaries carry their size; PTX is text and ends with NUL.
    const ELF: &[u8] = b"\x7fELF";
    const FAT_BINARY: &[u8] = b"\x50\xed\x55\xba";
    let bytes = image.bytes;
    if !bytes.starts_with(ELF) && !bytes.starts_with(FAT_BINARY) && bytes.last() != Some(&0) {
        let meaning = "neither machine code nor PTX with NUL at its end".into();
        return Err(DriverError::Failed {
            call: format!("kernel image {} for {}", image.file, image.arch),
            meaning,
        });
    }
    let mut log = [0u8; 4096];
    let mut options =
        [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values = [log.as_mut_ptr().cast::<c_void>(), log.len() as *mut c_void];
    let mut module = std::ptr::null_mut();
    // SAFETY: the image is complete (see above) and copied by the driver; the log has the size that is said.
    let code = unsafe {
        sys::cuModuleLoadDataEx(
            &mut module,
            bytes.as_ptr().cast(),
            options.len() as u32,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    check(&format!("cuModuleLoadDataEx, {} for {}", image.file, image.arch), code).map_err(|error| {
        match error {
            DriverError::Failed { call, mut meaning } => {
                let length = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
                let log = String::from_utf8_lossy(&log[..length]);
                if !log.trim().is_empty() {
                    meaning = format!("{meaning}: {}", log.trim());
                }
                DriverError::Failed { call, meaning }
            }
            other => other,
        }
    })?;
    Ok(module)
}

/// Runs what may allocate while a capture is under way on this thread: a thread-local capture forbids that by
/// default, and loading a kernel does not touch the stream.
pub fn relaxed<T>(run: impl FnOnce() -> Result<T, DriverError>) -> Result<T, DriverError> {
    let mut mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
    // SAFETY: exchanges this thread's mode with `mode`.
    check("cuThreadExchangeStreamCaptureMode", unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut mode) })?;
    let result = run();
    // SAFETY: puts the former mode back.
    let code = unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut mode) };
    let value = result?;
    check("cuThreadExchangeStreamCaptureMode", code)?;
    Ok(value)
}
