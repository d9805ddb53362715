//! What lies between the driver and cudarc's raw functions: whether the shared libraries are there with all that is
//! called (cudarc panics where one is missing), and CUDA's error codes in words.

use std::ffi::CStr;

use cudarc::cublaslt::sys as lt;
use cudarc::cudnn::sys as dnn;
use cudarc::driver::sys::{self, CUresult};

use crate::engine::cuda::driver::DriverError;

/// The oldest CUDA version that the driver may speak: kernels are compiled with the 13.0 toolkit.
pub const OLDEST: i32 = 13_000;

/// Every function of libcuda that is called here.
const DRIVER_FUNCTIONS: &[&str] = &[
    "cuCtxSetCurrent",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventElapsedTime_v2",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuFuncGetParamInfo",
    "cuFuncLoad",
    "cuFuncSetAttribute",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuInit",
    "cuLaunchKernelEx",
    "cuMemAlloc_v2",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadDataEx",
    "cuModuleUnload",
    "cuOccupancyMaxActiveBlocksPerMultiprocessor",
    "cuOccupancyMaxActiveClusters",
    "cuStreamBeginCapture_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamEndCapture",
    "cuStreamSynchronize",
    "cuThreadExchangeStreamCaptureMode",
];

/// Every function of libcublasLt that is called here.
const BLAS_FUNCTIONS: &[&str] = &[
    "cublasLtCreate",
    "cublasLtDestroy",
    "cublasLtGetStatusName",
    "cublasLtGetVersion",
    "cublasLtMatmul",
    "cublasLtMatmulAlgoGetHeuristic",
    "cublasLtMatmulDescCreate",
    "cublasLtMatmulDescDestroy",
    "cublasLtMatmulDescSetAttribute",
    "cublasLtMatmulPreferenceCreate",
    "cublasLtMatmulPreferenceDestroy",
    "cublasLtMatmulPreferenceSetAttribute",
    "cublasLtMatrixLayoutCreate",
    "cublasLtMatrixLayoutDestroy",
];

/// Every function of libcudnn that is called here.
const DNN_FUNCTIONS: &[&str] = &[
    "cudnnBuildRNNDynamic",
    "cudnnCreate",
    "cudnnCreateDropoutDescriptor",
    "cudnnCreateRNNDataDescriptor",
    "cudnnCreateRNNDescriptor",
    "cudnnCreateTensorDescriptor",
    "cudnnDestroy",
    "cudnnDestroyDropoutDescriptor",
    "cudnnDestroyRNNDataDescriptor",
    "cudnnDestroyRNNDescriptor",
    "cudnnDestroyTensorDescriptor",
    "cudnnGetErrorString",
    "cudnnGetLastErrorString",
    "cudnnGetRNNTempSpaceSizes",
    "cudnnGetRNNWeightParams",
    "cudnnGetRNNWeightSpaceSize",
    "cudnnGetTensorNdDescriptor",
    "cudnnGetVersion",
    "cudnnRNNBackwardData_v8",
    "cudnnRNNBackwardWeights_v8",
    "cudnnRNNForward",
    "cudnnSetDropoutDescriptor",
    "cudnnSetRNNDataDescriptor",
    "cudnnSetRNNDescriptor_v8",
    "cudnnSetStream",
    "cudnnSetTensorNdDescriptor",
];

/// Looks for libcuda, initialises it and returns the CUDA version that it speaks, `13000`.
pub fn initialise() -> Result<i32, DriverError> {
    // SAFETY: loading NVIDIA's driver library runs its initialisers, which is what loading it is for.
    if !unsafe { sys::is_culib_present() } {
        return Err(DriverError::Missing(
            "NVIDIA's driver library (libcuda.so.1) was not found: so it is on a machine without an NVIDIA card, or \
             where its driver is not installed"
                .into(),
        ));
    }
    // The version first: an old driver lacks functions, and this says better why.
    let mut version = 0;
    if missing(Library::Cuda, &["cuDriverGetVersion"]).is_none() {
        // SAFETY: writes one integer; needs no initialisation. Where it fails, so does cuInit.
        let _ = unsafe { sys::cuDriverGetVersion(&mut version) };
    }
    if version != 0 && version < OLDEST {
        return Err(DriverError::Missing(format!(
            "NVIDIA's driver speaks CUDA {}; CUDA {} is needed (driver 580 or later)",
            version_text(version),
            version_text(OLDEST)
        )));
    }
    if let Some(name) = missing(Library::Cuda, DRIVER_FUNCTIONS) {
        return Err(DriverError::Missing(format!("NVIDIA's driver library has no {name}: it is too old")));
    }
    // SAFETY: the flags must be 0.
    match unsafe { sys::cuInit(0) } {
        CUresult::CUDA_SUCCESS => Ok(version),
        CUresult::CUDA_ERROR_NO_DEVICE => Err(DriverError::Missing("NVIDIA's driver found no device".into())),
        CUresult::CUDA_ERROR_STUB_LIBRARY => Err(DriverError::Missing(
            "the libcuda that was found is the toolkit's stub, not NVIDIA's driver library: look at LD_LIBRARY_PATH"
                .into(),
        )),
        code => Err(failed("cuInit", code)),
    }
}

/// The version of cuBLASLt where it is there with all that is needed; else why it is not used.
pub fn blas_version() -> Result<String, String> {
    // SAFETY: loading the library runs its initialisers.
    if !unsafe { lt::is_culib_present() } {
        return Err("not found (libcublasLt.so.13); own products are used".into());
    }
    if let Some(name) = missing(Library::Blas, BLAS_FUNCTIONS) {
        return Err(format!("not used: it has no {name}"));
    }
    // SAFETY: takes nothing, touches nothing.
    let version = unsafe { lt::cublasLtGetVersion() };
    Ok(format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100))
}

/// The version of cuDNN where it is there with all that is needed; else why it is not used.
pub fn dnn_version() -> Result<String, String> {
    // SAFETY: loading the library runs its initialisers.
    if !unsafe { dnn::is_culib_present() } {
        return Err(
            "cuDNN was not found (libcudnn.so.9; a Python package nvidia-cudnn-cu13 has it, its lib folder \
                    belongs on LD_LIBRARY_PATH)"
                .into(),
        );
    }
    // The version first: an old library lacks functions, and this says better why.
    let mut version = 0;
    if missing(Library::Dnn, &["cudnnGetVersion"]).is_none() {
        // SAFETY: takes nothing, touches nothing.
        version = unsafe { dnn::cudnnGetVersion() };
    }
    // 8.9.7 says 8907, 9.21.0 says 92100.
    if version < 90_000 {
        let (major, minor) = (version / 1000, version / 100 % 10);
        return Err(format!("cuDNN {major}.{minor} is too old; 9 is needed"));
    }
    let text = format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100);
    match missing(Library::Dnn, DNN_FUNCTIONS) {
        Some(name) => Err(format!("cuDNN {text} is not used: it has no {name}")),
        None if version >= 100_000 => Err(format!("cuDNN {text} is newer than this program, which knows 9")),
        None => Ok(text),
    }
}

/// `13000` as `13.0`.
pub fn version_text(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

#[derive(Clone, Copy)]
enum Library {
    Cuda,
    Blas,
    Dnn,
}

/// The first of the functions that the library, which must be present, lacks.
fn missing(library: Library, functions: &[&'static str]) -> Option<&'static str> {
    // SAFETY: the library has just been found; symbols are looked up and not called.
    unsafe {
        let library = match library {
            Library::Cuda => sys::culib(),
            Library::Blas => lt::culib(),
            Library::Dnn => dnn::culib(),
        };
        functions.iter().find(|name| library.get::<unsafe extern "C" fn()>(name.as_bytes()).is_err()).copied()
    }
}

/// Success, or what failed in words.
pub fn check(call: &str, code: CUresult) -> Result<(), DriverError> {
    if code == CUresult::CUDA_SUCCESS { Ok(()) } else { Err(failed(call, code)) }
}

/// A failed call in words: `CUDA_ERROR_INVALID_VALUE, invalid argument`.
pub fn failed(call: &str, code: CUresult) -> DriverError {
    let mut meaning = format!("{}, {}", text(code, Text::Name), text(code, Text::Meaning));
    if is_sticky(code) {
        meaning.push_str("; the device has lost its state and must be reopened");
    }
    DriverError::Failed { call: call.into(), meaning }
}

enum Text {
    Name,
    Meaning,
}

fn text(code: CUresult, which: Text) -> String {
    let mut words = std::ptr::null();
    // SAFETY: gives a pointer to a constant C string, or an error and no pointer.
    let found = unsafe {
        match which {
            Text::Name => sys::cuGetErrorName(code, &mut words),
            Text::Meaning => sys::cuGetErrorString(code, &mut words),
        }
    };
    if found != CUresult::CUDA_SUCCESS || words.is_null() {
        return format!("error {}", code as u32);
    }
    // SAFETY: not null, NUL-terminated, never freed.
    unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned()
}

/// Whether the context is unusable after this error: every later call fails with it too.
fn is_sticky(code: CUresult) -> bool {
    use CUresult::*;
    matches!(
        code,
        CUDA_ERROR_ECC_UNCORRECTABLE
            | CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUDA_ERROR_ILLEGAL_ADDRESS
            | CUDA_ERROR_LAUNCH_TIMEOUT
            | CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUDA_ERROR_ASSERT
            | CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUDA_ERROR_MISALIGNED_ADDRESS
            | CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUDA_ERROR_INVALID_PC
            | CUDA_ERROR_LAUNCH_FAILED
            | CUDA_ERROR_TENSOR_MEMORY_LEAK
            | CUDA_ERROR_EXTERNAL_DEVICE
    )
}
