//! The shared library of the emulated kernels.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_void};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::{DriverError, Launch};

/// The environment variable that names the library.
pub const LIBRARY: &str = "SONGRNN_EMULATED_KERNELS";

type LaunchFn = unsafe extern "C" fn(
    *const c_char,
    *const c_uint,
    c_uint,
    c_uint,
    usize,
    *const c_void,
    usize,
    u64,
    c_int,
    *mut c_char,
    usize,
) -> c_int;
type InfoFn = unsafe extern "C" fn(*const c_char, *mut c_uint, *mut usize, *mut usize) -> c_int;

/// The emulator is global state: one launch at a time in a process.
static EMULATOR: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    EMULATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The loaded kernels; shared by any number of drivers.
pub struct Library {
    launch: LaunchFn,
    info: InfoFn,
    races: Option<unsafe extern "C" fn() -> c_long>,
    _library: libloading::Library,
}

/// What a kernel was compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelInfo {
    /// The most threads a block.
    pub threads: u32,
    /// Dynamic shared memory where it is fixed, else 0.
    pub shared: usize,
    /// Size of the parameter struct.
    pub params: usize,
}

impl Library {
    /// Loads it.
    pub fn open(path: &Path) -> Result<Arc<Library>, DriverError> {
        let missing = |e: libloading::Error| {
            DriverError::Missing(format!(
                "the emulated kernels {} could not be loaded: {e}; make them with scripts/emulated-kernels.sh",
                path.display()
            ))
        };
        // SAFETY: a library of our own making, whose initialisers register kernels and nothing else.
        let library = unsafe { libloading::Library::new(path) }.map_err(missing)?;
        // SAFETY: the signatures are those of kernels/emulated.
        unsafe {
            let launch = *library.get::<LaunchFn>(b"songrnn_emulated_launch\0").map_err(missing)?;
            let info = *library.get::<InfoFn>(b"songrnn_emulated_info\0").map_err(missing)?;
            let races = library.get(b"songrnn_emulated_races\0").ok().map(|symbol| *symbol);
            Ok(Arc::new(Library { launch, info, races, _library: library }))
        }
    }

    /// What a kernel was compiled for; None where there is no such kernel.
    pub fn info(&self, kernel: &str) -> Option<KernelInfo> {
        let name = CString::new(kernel).ok()?;
        let (mut threads, mut shared, mut params) = (0, 0, 0);
        // SAFETY: pointers to locals of the right types.
        let found = unsafe { (self.info)(name.as_ptr(), &mut threads, &mut shared, &mut params) } == 0;
        found.then_some(KernelInfo { threads, shared, params })
    }

    /// Conflicting accesses to shared memory since the last call; None where the library was not built to count them.
    pub fn races(&self) -> Option<i64> {
        let _turn = turn();
        // SAFETY: takes nothing, gives a number.
        self.races.map(|races| unsafe { races() })
    }

    /// Runs a kernel's blocks, its fibres in an order drawn from `seed`.
    pub(super) fn launch(&self, launch: &Launch, seed: u64, mode: i32) -> Result<(), DriverError> {
        let Launch { kernel, grid, threads, cluster, shared, params } = *launch;
        let failed = |meaning: String| DriverError::Failed { call: format!("kernel {kernel}"), meaning };
        let name = CString::new(kernel).map_err(|_| failed("a name with a NUL".into()))?;
        // The struct holds addresses: eight-byte alignment.
        let mut words = vec![0u64; params.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..params.len()].copy_from_slice(params);
        let mut error = [0 as c_char; 1024];
        let _turn = turn();
        // SAFETY: the library's own interface; every pointer is to a local of the size given.
        let code = unsafe {
            (self.launch)(
                name.as_ptr(),
                grid.as_ptr(),
                threads,
                cluster,
                shared as usize,
                words.as_ptr().cast(),
                params.len(),
                seed,
                mode,
                error.as_mut_ptr(),
                error.len(),
            )
        };
        if code == 0 {
            return Ok(());
        }
        *error.last_mut().expect("an array of 1024") = 0;
        // SAFETY: ends with a NUL.
        let text = unsafe { CStr::from_ptr(error.as_ptr()) };
        Err(failed(text.to_string_lossy().into_owned()))
    }
}
