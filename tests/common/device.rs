//! The device that the CUDA tests run on: the emulated one, or a GPU where `SONGRNN_TEST_DEVICE=cuda`.
//!
//! The emulated kernels are made once by `scripts/emulated-kernels.sh`, or come from `SONGRNN_EMULATED_KERNELS` (a build with
//! sanitizers, a broken one). `SONGRNN_TEST_QUICK=1` leaves the slow cases out.
#![allow(dead_code)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use songrnn_fast::engine::cuda::driver::emulated::{EmulatedDriver, LIBRARY, Library};
use songrnn_fast::engine::cuda::driver::real::RealDriver;
use songrnn_fast::engine::cuda::driver::{Driver, Facts};

/// Whether the tests run on a GPU.
pub fn on_gpu() -> bool {
    std::env::var("SONGRNN_TEST_DEVICE").is_ok_and(|device| device == "cuda")
}

/// Whether slow cases are left out.
pub fn quick() -> bool {
    std::env::var("SONGRNN_TEST_QUICK").is_ok_and(|quick| quick == "1")
}

/// The emulated kernels; None, said once, where they cannot be made here.
pub fn library() -> Option<Arc<Library>> {
    static LOADED: OnceLock<Option<Arc<Library>>> = OnceLock::new();
    LOADED.get_or_init(|| Some(Library::open(&library_file()?).unwrap())).clone()
}

/// Their file.
pub fn library_file() -> Option<PathBuf> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    MADE.get_or_init(|| match std::env::var_os(LIBRARY) {
        Some(path) => Some(PathBuf::from(path)),
        None => make(),
    })
    .clone()
}

fn make() -> Option<PathBuf> {
    let root = env!("CARGO_MANIFEST_DIR");
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("libemulated.so");
    let made = Command::new("bash")
        .arg(format!("{root}/scripts/emulated-kernels.sh"))
        .arg(&out)
        .output()
        .expect("bash runs scripts/emulated-kernels.sh");
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    match made.status.code() {
        Some(0) => Some(out),
        Some(3) => {
            println!("SKIP the emulated kernels: {said}");
            None
        }
        _ => panic!("scripts/emulated-kernels.sh failed: {said}"),
    }
}

/// Where the emulated kernels count conflicting accesses to shared memory: there were none.
pub fn no_races(what: &str) {
    if on_gpu() {
        return;
    }
    if let Some(races) = library().and_then(|library| library.races()) {
        assert_eq!(races, 0, "{what}: conflicting accesses to shared memory");
    }
}

/// An emulated device like an H100 with other facts; None where there is none, or the tests run on a GPU.
pub fn emulated(change: impl FnOnce(&mut Facts)) -> Option<Arc<dyn Driver>> {
    if on_gpu() {
        println!("SKIP: a device with other facts can only be emulated");
        return None;
    }
    let mut facts = EmulatedDriver::facts_of(9, 0);
    change(&mut facts);
    Some(Arc::new(EmulatedDriver::new(&library()?, facts, 1, 0)))
}

/// A device: the GPU, or an emulated one of compute capability `major`.0 with fibres in the order of `seed`.
pub fn device(major: u32, seed: u64) -> Option<Arc<dyn Driver>> {
    if on_gpu() {
        return Some(Arc::new(RealDriver::open(0).unwrap()));
    }
    let facts = EmulatedDriver::facts_of(major, 0);
    Some(Arc::new(EmulatedDriver::new(&library()?, facts, seed, 0)))
}
