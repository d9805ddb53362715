//! Which engine: the processor, a GPU, or the emulated one.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::cuda::CudaEngine;
use super::cuda::driver::emulated::{EmulatedDriver, LIBRARY, Library};
use super::cuda::driver::real;
use super::cuda::driver::{Driver, Facts};
use super::cuda::images;
use super::cuda::rnn::Wanted;
use super::cuda::tune;
use super::{Engine, EngineError, EngineSpec, cpu};

/// Where an engine runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Device {
    /// The first GPU where there is one and this binary has kernels for it, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// A GPU by its number.
    Cuda(usize),
    /// The CUDA kernels emulated on the processor: for tests, far too slow to train with.
    Emulated,
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Device, String> {
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            "emulated" => Ok(Device::Emulated),
            _ => match text.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(ordinal)) => Ok(Device::Cuda(ordinal)),
                _ => Err(format!("--device {text}: expected auto, cpu or cuda[:N]")),
            },
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Device::Emulated => f.write_str("emulated"),
        }
    }
}

/// Tiers of CUDA kernels for the recurrent layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Kernel {
    /// The fastest that serves the shape.
    #[default]
    Auto,
    /// Recurrent weights kept on the chip.
    Fused,
    /// cuDNN's.
    Cudnn,
    /// cuDNN's, with f32 products of inputs rounded to TF32.
    CudnnTf32,
    /// One step at a time.
    Stepwise,
}

impl Kernel {
    /// As typed.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Auto => "auto",
            Kernel::Fused => "fused",
            Kernel::Cudnn => "cudnn",
            Kernel::CudnnTf32 => "cudnn-tf32",
            Kernel::Stepwise => "stepwise",
        }
    }
}

/// Refuses what cannot be had here before any work is done: a GPU that is not there, CUDA kernels for the processor.
pub fn check(device: Device, kernel: Kernel) -> Result<(), String> {
    let asked = match (device, kernel) {
        (Device::Auto, Kernel::Auto) | (Device::Cpu, Kernel::Auto) | (Device::Emulated, _) => return Ok(()),
        (Device::Cpu, kernel) => {
            return Err(format!("--kernel {} is for CUDA; leave it or --device cpu out", kernel.name()));
        }
        (Device::Auto, kernel) => format!("--kernel {}", kernel.name()),
        (Device::Cuda(ordinal), _) => format!("--device cuda:{ordinal}"),
    };
    let instead = match kernel {
        Kernel::Auto => "use --device cpu, or leave it out",
        _ => "leave --device and --kernel out to use the processor",
    };
    let devices = gpus().map_err(|why| format!("{asked}: {why}; {instead}"))?;
    match device {
        Device::Cuda(ordinal) if ordinal >= devices.len() => {
            Err(format!("{asked}: there are {} GPUs, the first is cuda:0; {instead}", devices.len()))
        }
        _ => Ok(()),
    }
}

/// The GPUs that there are, at least one; or why none can be used.
pub fn gpus() -> Result<Vec<Facts>, String> {
    images::built().map_err(|why| format!("this binary has no CUDA kernels: {why}"))?;
    real::devices().map_err(|why| why.to_string())
}

/// Builds an engine with zero parameters; give it some with [`Engine::load_params`] or [`Engine::load_state`].
pub fn build(spec: &EngineSpec) -> Result<Box<dyn Engine>, EngineError> {
    spec.shape.check().map_err(EngineError::Unsupported)?;
    check(spec.device, spec.kernel).map_err(EngineError::Unsupported)?;
    if spec.device == Device::Cpu {
        return Ok(Box::new(cpu::CpuEngine::new(spec)?));
    }
    let opened = match spec.device {
        Device::Emulated => emulated(),
        Device::Cuda(ordinal) => cuda(ordinal),
        _ => cuda(0),
    };
    let engine = opened.and_then(|driver| on_device(driver, spec));
    match (engine, spec.device) {
        (Ok(engine), _) => Ok(Box::new(engine)),
        (Err(error), Device::Auto) if spec.kernel == Kernel::Auto => {
            let mut engine = cpu::CpuEngine::new(spec)?;
            engine.note = Some(format!("no GPU is used: {error}"));
            Ok(Box::new(engine))
        }
        (Err(error), Device::Auto) => Err(EngineError::Unsupported(format!(
            "--kernel {} is for CUDA: {error}; leave it out to use the processor",
            spec.kernel.name()
        ))),
        (Err(EngineError::Unsupported(why)), device) => {
            Err(EngineError::Unsupported(format!("--device {device}: {why}")))
        }
        (Err(error), _) => Err(error),
    }
}

/// An engine on a device: with the kernels that were chosen before, else those that timing chooses where the size of the
/// chunks is known, else those that a rule chooses.
fn on_device(driver: Arc<dyn Driver>, spec: &EngineSpec) -> Result<CudaEngine, EngineError> {
    let EngineSpec { shape, precision, kernel, .. } = *spec;
    spec.shape.check().map_err(EngineError::Unsupported)?;
    let mut lost = None;
    if let Some(chosen) = spec.chosen.filter(|chosen| chosen.is_of(kernel)) {
        let wanted = Wanted { shape, precision, facts: driver.facts(), driver: Some(&driver) };
        match chosen.plan(&wanted) {
            Ok(plan) => {
                let mut engine = CudaEngine::with_plan(driver, shape, precision, plan)?;
                engine.chose(chosen, format!("{chosen} kernels, as chosen when the run began"));
                return Ok(engine);
            }
            Err(why) => {
                lost = Some(format!(
                    "the run was begun with {chosen} kernels, which do not serve here ({why}): results will differ in \
                     rounding"
                ));
            }
        }
    }
    let timed = matches!(kernel, Kernel::Auto | Kernel::Cudnn | Kernel::CudnnTf32)
        && driver.facts().clock
        && !tune::is_off();
    let mut engine = match spec.chunk.filter(|_| timed) {
        Some(size) => tune::engine(&driver, shape, precision, kernel, size)?,
        None => CudaEngine::new(driver, shape, precision, kernel)?,
    };
    if let Some(lost) = lost {
        engine.warn(lost);
    }
    Ok(engine)
}

/// A GPU by its number, with kernels for it.
pub fn cuda(ordinal: usize) -> Result<Arc<dyn Driver>, EngineError> {
    if let Err(why) = images::built() {
        return Err(EngineError::Unsupported(format!("this binary has no CUDA kernels: {why}")));
    }
    #[cfg(feature = "cust")]
    let opened = super::cuda::driver::cust::CustDriver::open(ordinal);
    #[cfg(not(feature = "cust"))]
    let opened = real::RealDriver::open(ordinal);
    let driver = opened.map_err(|e| match EngineError::from(e) {
        EngineError::Device(why) => EngineError::Unsupported(why),
        other => other,
    })?;
    Ok(Arc::new(driver))
}

/// The emulated device, like an H100, from the library that the environment names.
fn emulated() -> Result<Arc<dyn Driver>, EngineError> {
    let Some(path) = std::env::var_os(LIBRARY) else {
        return Err(EngineError::Unsupported(format!(
            "{LIBRARY} is not set: make the emulated kernels with scripts/emulated-kernels.sh and name them there"
        )));
    };
    let library = Library::open(Path::new(&path)).map_err(|e| EngineError::Unsupported(e.to_string()))?;
    Ok(Arc::new(EmulatedDriver::new(&library, EmulatedDriver::facts_of(9, 0), 1, 0)))
}
