//! What devices there are, and cust's results in our words.

use std::ffi::{CStr, c_char};
use std::fmt::Write as _;

use cust::device::{Device, DeviceAttribute};
use cust::error::{CudaError, CudaResult};
use cust::sys::{self, CUresult};

use crate::engine::cuda::driver::{DriverError, Facts};

/// All devices. Opens none of them.
pub fn devices() -> Result<Vec<Facts>, DriverError> {
    initialise()?;
    let count = said("cuDeviceGetCount", Device::num_devices())?;
    (0..count).map(|ordinal| facts(said("cuDeviceGet", Device::get_device(ordinal))?)).collect()
}

/// Initialises CUDA.
pub fn initialise() -> Result<(), DriverError> {
    match cust::init(cust::CudaFlags::empty()) {
        Err(CudaError::NoDevice) => Err(DriverError::Missing("NVIDIA's driver found no device".into())),
        // cust has no name for CUDA_ERROR_STUB_LIBRARY.
        Err(CudaError::UnknownError) => {
            Err(DriverError::Missing("NVIDIA's driver library is not there, or is the toolkit's stub".into()))
        }
        result => said("cuInit", result),
    }
}

/// What a device is, through cust.
pub fn facts(device: Device) -> Result<Facts, DriverError> {
    let attribute =
        |which| said("cuDeviceGetAttribute", device.get_attribute(which)).map(|value| value.max(0) as u32);
    let (mut version, mut shared) = (0, 0);
    let optin = sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
    // SAFETY: each writes one integer.
    unsafe {
        check("cuDriverGetVersion", sys::cuDriverGetVersion(&mut version))?;
        check("cuDeviceGetAttribute", sys::cuDeviceGetAttribute(&mut shared, optin, device.as_raw()))?;
    }
    let cuda = format!("{}.{}", version / 1000, version % 1000 / 10);
    Ok(Facts {
        name: said("cuDeviceGetName", device.name())?,
        capability: (
            attribute(DeviceAttribute::ComputeCapabilityMajor)?,
            attribute(DeviceAttribute::ComputeCapabilityMinor)?,
        ),
        multiprocessors: attribute(DeviceAttribute::MultiprocessorCount)?,
        shared_per_block: shared.max(0) as u32,
        max_cluster: 0,
        memory: said("cuDeviceTotalMem", device.total_memory())? as u64,
        clock: true,
        libraries: vec![
            ("NVIDIA driver".into(), format!("CUDA {cuda}, through cust")),
            ("cuBLASLt".into(), "not used: cust has no bindings for it".into()),
        ],
        cuda,
    })
}

/// An error of our own.
pub fn failure(call: &str, meaning: &str) -> DriverError {
    DriverError::Failed { call: call.into(), meaning: meaning.into() }
}

/// A result of cust's safe layer in our words.
pub fn said<T>(call: &str, result: CudaResult<T>) -> Result<T, DriverError> {
    result.map_err(|error| {
        // Not `to_string`: an error that the driver has no text for does not format, and that would panic.
        let mut meaning = format!("{error:?}, ");
        if write!(meaning, "{error}").is_err() {
            meaning.push('?');
        }
        failure(call, &meaning)
    })
}

/// A result of its raw bindings in our words.
pub fn check(call: &str, code: CUresult) -> Result<(), DriverError> {
    if code == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let (mut name, mut meaning) = (std::ptr::null(), std::ptr::null());
    // SAFETY: both give a constant C string or leave null.
    let text = unsafe {
        sys::cuGetErrorName(code, &mut name);
        sys::cuGetErrorString(code, &mut meaning);
        let words = |text: *const c_char| match text.is_null() {
            true => "?".into(),
            false => CStr::from_ptr(text).to_string_lossy(),
        };
        format!("{}, {}", words(name), words(meaning))
    };
    Err(failure(call, &text))
}
