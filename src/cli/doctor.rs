//! `songrnn-fast doctor`: what this machine offers and what this build makes of it.

use std::fmt::Write as _;
use std::io::Write as _;

use clap::Args;
use serde::Serialize;

use super::Outcome;
use crate::engine::cuda::driver::{Facts, real};
use crate::engine::cuda::images;
use crate::engine::cuda::report::{self, Served};
use crate::engine::{self, Device, EngineSpec, Precision};
use crate::machine;
use crate::model::{CellKind, ModelShape};

/// What is typed after `doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What was found. The field names are the JSON's.
#[derive(Debug, Clone, Serialize)]
struct Report {
    version: &'static str,
    optimised: bool,
    os: &'static str,
    arch: &'static str,
    cpu: Cpu,
    memory: Memory,
    engine: EngineReport,
    cuda: Cuda,
}

#[derive(Debug, Clone, Serialize)]
struct Cpu {
    /// As the processor calls itself; None where the system does not tell.
    model: Option<String>,
    /// Physical cores; None where the system does not tell.
    cores: Option<usize>,
    /// Hardware threads that this process may use.
    threads: usize,
    features: Vec<Feature>,
}

#[derive(Debug, Clone, Serialize)]
struct Feature {
    name: &'static str,
    found: bool,
}

#[derive(Debug, Clone, Serialize)]
struct Memory {
    total_bytes: Option<u64>,
    available_bytes: Option<u64>,
    /// What a container allows; None without one.
    limit_bytes: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
struct EngineReport {
    name: Option<&'static str>,
    detail: Option<String>,
    /// Why it cannot be built here.
    error: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Cuda {
    /// Whether this binary has kernels.
    built_in: bool,
    /// The compiler of the kernels, or why there are none.
    kernels: String,
    /// Architectures that kernels were compiled for.
    architectures: Vec<&'static str>,
    devices: Vec<Gpu>,
    /// Why there are no devices.
    error: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Gpu {
    name: String,
    compute_capability: String,
    multiprocessors: u32,
    memory_bytes: u64,
    shared_memory_per_block_bytes: u32,
    largest_cluster: u32,
    cuda: String,
    /// Libraries: version, or why not.
    libraries: Vec<(String, String)>,
    /// Which tier serves which shape and precision, and why the others do not.
    tiers: Vec<Served>,
    /// Why it could not be opened.
    error: Option<String>,
}

/// Runs the command.
pub fn run(args: &DoctorArgs) -> anyhow::Result<Outcome> {
    let report = examine();
    let text = if args.json { serde_json::to_string_pretty(&report)? + "\n" } else { describe(&report) };
    std::io::stdout().write_all(text.as_bytes())?;
    // An engine that cannot be built is what a doctor is asked for.
    Ok(if report.engine.error.is_some() { Outcome::Failed } else { Outcome::Done })
}

fn examine() -> Report {
    let (cpuinfo, meminfo) = (machine::cpuinfo(), machine::meminfo());
    Report {
        version: env!("CARGO_PKG_VERSION"),
        optimised: !cfg!(debug_assertions),
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
        cpu: Cpu {
            model: machine::cpu_model(&cpuinfo),
            cores: machine::cores(&cpuinfo),
            threads: machine::threads(),
            features: features(),
        },
        memory: Memory {
            total_bytes: machine::kibibytes(&meminfo, "MemTotal"),
            available_bytes: machine::kibibytes(&meminfo, "MemAvailable"),
            limit_bytes: machine::memory_limit(),
        },
        engine: engine_report(),
        cuda: cuda(),
    }
}

fn cuda() -> Cuda {
    let built = images::built();
    let mut architectures: Vec<&'static str> = images::images().iter().map(|image| image.arch).collect();
    architectures.sort_unstable();
    architectures.dedup();
    let (devices, error) = match real::devices() {
        Ok(devices) => (devices, None),
        Err(why) => (Vec::new(), Some(why.to_string())),
    };
    // Opened where it can be: then its libraries are known, and cuDNN itself says what it serves.
    let gpu = |(ordinal, facts): (usize, Facts)| {
        let driver = engine::open_cuda(ordinal);
        let facts = driver.as_ref().map_or(facts, |driver| driver.facts().clone());
        Gpu {
            compute_capability: format!("{}.{}", facts.capability.0, facts.capability.1),
            tiers: report::served(&facts, driver.as_ref().ok()),
            name: facts.name,
            multiprocessors: facts.multiprocessors,
            memory_bytes: facts.memory,
            shared_memory_per_block_bytes: facts.shared_per_block,
            largest_cluster: facts.max_cluster,
            cuda: facts.cuda,
            libraries: facts.libraries,
            error: driver.err().map(|why| why.to_string()),
        }
    };
    Cuda {
        built_in: built.is_ok(),
        kernels: built.unwrap_or_else(|why| why).to_string(),
        architectures,
        devices: devices.into_iter().enumerate().map(gpu).collect(),
        error,
    }
}

const UNKNOWN: &str = "unknown";

fn gigabytes(bytes: Option<u64>) -> String {
    bytes.map_or(UNKNOWN.into(), |bytes| format!("{:.1} GB", bytes as f64 / 1e9))
}

/// The CUDA lines of the report.
fn describe_cuda(cuda: &Cuda, line: &mut impl FnMut(&str, String)) {
    line(
        "kernels",
        if cuda.built_in {
            format!("compiled by {} for {}", cuda.kernels, cuda.architectures.join(", "))
        } else {
            format!(
                "none in this binary: {}; scripts/cuda-toolkit.sh fetches a compiler, then build again",
                cuda.kernels
            )
        },
    );
    if let Some(error) = &cuda.error {
        line("gpu", format!("none: {error}"));
    }
    for (i, gpu) in cuda.devices.iter().enumerate() {
        line(
            &format!("gpu {i}"),
            format!(
                "{}, compute capability {}, {} multiprocessors, {}, {} KiB of shared memory a block, clusters of up to {}, CUDA {}",
                gpu.name,
                gpu.compute_capability,
                gpu.multiprocessors,
                gigabytes(Some(gpu.memory_bytes)),
                gpu.shared_memory_per_block_bytes >> 10,
                gpu.largest_cluster,
                gpu.cuda,
            ),
        );
        if let Some(error) = &gpu.error {
            line("", format!("cannot be opened: {error}"));
        }
        for (name, state) in &gpu.libraries {
            line("", format!("{name}: {state}"));
        }
        for tier in &gpu.tiers {
            let sign = if tier.serves { "+" } else { "-" };
            line("", format!("{sign} {} {} {}: {}", tier.model, tier.precision, tier.tier, tier.detail));
        }
    }
}

/// The engine that `train` and `sample` would use for a model of the paper's size.
fn engine_report() -> EngineReport {
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 96, hidden: 150, layers: 1 };
    match engine::build(&EngineSpec { device: Device::Auto, ..EngineSpec::cpu(shape, Precision::F32, 0) }) {
        Ok(engine) => {
            let info = engine.info();
            EngineReport { name: Some(info.name), detail: Some(info.detail), error: None }
        }
        Err(error) => EngineReport { name: None, detail: None, error: Some(error.to_string()) },
    }
}

/// The instruction sets that speed depends on.
fn features() -> Vec<Feature> {
    #[cfg(target_arch = "x86_64")]
    let found = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("f16c", std::arch::is_x86_feature_detected!("f16c")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
    ];
    #[cfg(target_arch = "aarch64")]
    let found = [("neon", true)];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found: [(&'static str, bool); 0] = [];
    found.into_iter().map(|(name, found)| Feature { name, found }).collect()
}

fn describe(report: &Report) -> String {
    let unknown = UNKNOWN;
    let list = |found: bool| {
        let names: Vec<&str> =
            report.cpu.features.iter().filter(|f| f.found == found).map(|f| f.name).collect();
        if names.is_empty() { "none".into() } else { names.join(" ") }
    };
    let mut text = String::new();
    // Writing to a String cannot fail.
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10}{value}");
    };
    let build =
        if report.optimised { "release build" } else { "debug build, slow: use cargo build --release" };
    line("version", format!("songrnn-fast {} ({build}), {} {}", report.version, report.os, report.arch));
    line("cpu", report.cpu.model.clone().unwrap_or(unknown.into()));
    let cores = report.cpu.cores.map_or(unknown.into(), |cores| cores.to_string());
    line("cores", format!("{cores}; threads usable here: {}", report.cpu.threads));
    line("features", format!("{}; not found: {}", list(true), list(false)));
    let limit = report.memory.limit_bytes.map_or(String::new(), |_| {
        format!("; this container may use {}", gigabytes(report.memory.limit_bytes))
    });
    line(
        "memory",
        format!(
            "{}, {} available{limit}",
            gigabytes(report.memory.total_bytes),
            gigabytes(report.memory.available_bytes)
        ),
    );
    line(
        "engine",
        match &report.engine {
            EngineReport { error: Some(error), .. } => format!("cannot be built: {error}"),
            EngineReport { name, detail, .. } => {
                format!("{}: {}", name.unwrap_or(unknown), detail.as_deref().unwrap_or(unknown))
            }
        },
    );
    describe_cuda(&report.cuda, &mut line);
    text
}
