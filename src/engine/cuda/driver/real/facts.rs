//! What devices there are and what they can do.

use cudarc::driver::sys::{self, CUdevice, CUdevice_attribute};

use super::library::{self, check};
use crate::engine::cuda::driver::{DriverError, Facts};

/// All devices. Opens none of them.
pub fn devices() -> Result<Vec<Facts>, DriverError> {
    let version = library::initialise()?;
    let blas = library::blas_version().unwrap_or_else(|reason| reason);
    let mut devices = Vec::new();
    for ordinal in 0..count()? {
        let mut facts = of(device(ordinal)?, version)?;
        facts.libraries.push(("cuBLASLt".into(), blas.clone()));
        devices.push(facts);
    }
    Ok(devices)
}

fn count() -> Result<usize, DriverError> {
    let mut count = 0;
    // SAFETY: writes one integer.
    check("cuDeviceGetCount", unsafe { sys::cuDeviceGetCount(&mut count) })?;
    Ok(count.max(0) as usize)
}

/// The handle of device `ordinal`.
pub fn device(ordinal: usize) -> Result<CUdevice, DriverError> {
    let count = count()?;
    if ordinal >= count {
        let there_are = match count {
            0 => "no CUDA device is there".to_string(),
            1 => "the only CUDA device is 0".to_string(),
            _ => format!("CUDA devices are 0 to {}", count - 1),
        };
        return Err(DriverError::Missing(format!("CUDA device {ordinal} is not there: {there_are}")));
    }
    let mut device = 0;
    // SAFETY: writes one integer.
    check("cuDeviceGet", unsafe { sys::cuDeviceGet(&mut device, ordinal as i32) })?;
    Ok(device)
}

/// A device's facts, with the driver as the only library.
pub fn of(device: CUdevice, version: i32) -> Result<Facts, DriverError> {
    use CUdevice_attribute::*;
    let attribute = |which: CUdevice_attribute| -> Result<u32, DriverError> {
        let mut value = 0;
        // SAFETY: writes one integer; the device is cuDeviceGet's.
        check("cuDeviceGetAttribute", unsafe { sys::cuDeviceGetAttribute(&mut value, which, device) })?;
        Ok(value.max(0) as u32)
    };
    let mut name = [0u8; 256];
    // SAFETY: writes at most that many bytes, NUL included.
    check("cuDeviceGetName", unsafe {
        sys::cuDeviceGetName(name.as_mut_ptr().cast(), name.len() as i32, device)
    })?;
    let length = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    let mut memory = 0;
    // SAFETY: writes one size.
    check("cuDeviceTotalMem", unsafe { sys::cuDeviceTotalMem_v2(&mut memory, device) })?;
    let capability = (
        attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    let clusters = capability.0 >= 9 && attribute(CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH)? != 0;
    let cuda = library::version_text(version);
    Ok(Facts {
        name: String::from_utf8_lossy(&name[..length]).into_owned(),
        capability,
        multiprocessors: attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared_per_block: attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        max_cluster: max_cluster(capability, clusters),
        memory: memory as u64,
        clock: true,
        libraries: vec![("NVIDIA driver".into(), format!("CUDA {cuda}"))],
        cuda,
    })
}

/// 8 is what every device with clusters has; the data-centre parts have 16 where a kernel asks for it.
fn max_cluster(capability: (u32, u32), clusters: bool) -> u32 {
    match capability.0 {
        _ if !clusters => 0,
        9 | 10 => 16,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::max_cluster;

    #[test]
    fn cluster_sizes() {
        assert_eq!(max_cluster((8, 6), false), 0);
        assert_eq!(max_cluster((9, 0), true), 16);
        assert_eq!(max_cluster((10, 3), true), 16);
        assert_eq!(max_cluster((12, 0), true), 8);
        assert_eq!(max_cluster((12, 0), false), 0);
    }
}
