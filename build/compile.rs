//! Compiles kernels: one nvcc process a (source, target), as many at once as cargo allows.
//!
//! One process a pair, and not one a source with `--threads`: on two cores a pair of targets of one source took 4.8 s
//! in two processes, 7.7 s with `--threads 2` and 9.2 s one after the other, and the cache stays as fine as the work.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use crate::cache::Cache;
use crate::sources::{Hash, Source};
use crate::toolkit::Nvcc;

/// 10.0 and 12.0 in the list ask for nvcc 12.8. 90a and not 90: the cluster kernels may use what only Hopper has.
const CUBINS: [&str; 6] = ["80", "86", "89", "90a", "100", "120"];
/// For every later device: compiled by its driver, at start.
const PTX: &str = "80";

/// What a source is compiled for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Cubin(&'static str),
    Ptx,
}

impl Target {
    /// All of them, or those of SONGRNN_ARCHS.
    pub fn wanted(list: Option<&str>) -> Result<Vec<Target>, String> {
        let all: Vec<Target> = CUBINS.into_iter().map(Target::Cubin).chain([Target::Ptx]).collect();
        let Some(list) = list else { return Ok(all) };
        let mut wanted = Vec::new();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let label = if name == "ptx" {
                name.to_string()
            } else {
                format!("sm_{}", name.trim_start_matches("sm_"))
            };
            match all.iter().find(|t| t.label() == label) {
                Some(t) if wanted.contains(t) => {}
                Some(t) => wanted.push(*t),
                None => {
                    return Err(format!(
                        "SONGRNN_ARCHS names {name:?}; it is a comma list out of {}, ptx (unset: all)",
                        CUBINS.join(", ")
                    ));
                }
            }
        }
        if wanted.is_empty() { Err("SONGRNN_ARCHS names no architecture".into()) } else { Ok(wanted) }
    }

    /// `sm_90a`, or `ptx`.
    pub fn label(self) -> String {
        match self {
            Target::Cubin(arch) => format!("sm_{arch}"),
            Target::Ptx => "ptx".into(),
        }
    }

    fn flags(self) -> Vec<String> {
        // A fat binary of one image, because it may be compressed: six times smaller than the cubin in it, which stays
        // the same byte for byte. `size` asks for a driver of CUDA 12.4 or newer, as sm_100 does anyway.
        let common = ["-fatbin", "--compress-mode=size", "-O3", "-std=c++17", "--expt-relaxed-constexpr"]
            .map(String::from);
        let own = match self {
            Target::Cubin(a) => format!("-gencode=arch=compute_{a},code=sm_{a}"),
            Target::Ptx => format!("-gencode=arch=compute_{PTX},code=compute_{PTX}"),
        };
        // -v: registers and spills, for the record of resources. The host compiler's age does not matter: all that it
        // does is preprocess.
        let rest = ["-Xptxas=-v", "--allow-unsupported-compiler"].map(String::from);
        common.into_iter().chain([own]).chain(rest).collect()
    }
}

/// One image: a source compiled for a target.
pub struct Compiled {
    pub file: String,
    pub target: Target,
    /// A fat binary.
    pub bytes: Vec<u8>,
    /// The compiler's output.
    pub log: String,
}

impl Compiled {
    /// File name in OUT_DIR/kernels.
    pub fn image_name(&self) -> String {
        format!("{}.{}", self.file, self.target.label())
    }
}

/// Compiles what the cache lacks. The result is in the order of sources, then targets.
pub fn all(
    nvcc: &Nvcc,
    sources: &[Source],
    targets: &[Target],
    cache: &Cache,
    jobs: usize,
) -> Result<Vec<Compiled>, String> {
    let work: Vec<(&Source, Target)> =
        sources.iter().flat_map(|s| targets.iter().map(move |t| (s, *t))).collect();
    let done: Vec<Mutex<Option<Compiled>>> = work.iter().map(|_| Mutex::new(None)).collect();
    let (next, failed, failures) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, work.len().max(1)) {
            scope.spawn(|| {
                // After a failure nothing new is begun; what others have begun still ends in the cache.
                while !failed.load(Relaxed) {
                    let i = next.fetch_add(1, Relaxed);
                    let Some(&(source, target)) = work.get(i) else { break };
                    match one(nvcc, source, target, cache) {
                        Ok(compiled) => *done[i].lock().unwrap() = Some(compiled),
                        Err(e) => {
                            failed.store(true, Relaxed);
                            failures.lock().unwrap().push(e);
                        }
                    }
                }
            });
        }
    });
    // One message: an error in a source is the same for every architecture.
    if let Some(failure) = failures.into_inner().unwrap().into_iter().next() {
        return Err(failure);
    }
    let mut current = String::from("file,arch,entry,toolkit\n");
    for (source, target) in &work {
        let entry = stem(nvcc, source, *target);
        let _ = writeln!(current, "{},{},{entry},{}", source.name, target.label(), nvcc.version);
    }
    cache.write_current(&current)?;
    Ok(done.into_iter().filter_map(|slot| slot.into_inner().unwrap()).collect())
}

/// Name in the cache: what the image depends on, hashed.
fn stem(nvcc: &Nvcc, source: &Source, target: Target) -> String {
    let mut hash = Hash::new();
    hash.add(nvcc.identity.as_bytes());
    for flag in target.flags() {
        hash.add(flag.as_bytes());
    }
    hash.add(&source.hash.to_le_bytes());
    format!("{}.{}.{:032x}", source.name, target.label(), hash.0)
}

fn one(nvcc: &Nvcc, source: &Source, target: Target, cache: &Cache) -> Result<Compiled, String> {
    let (file, stem) = (source.name.clone(), stem(nvcc, source, target));
    if let Some((bytes, log)) = cache.get(&stem) {
        return Ok(Compiled { file, target, bytes, log });
    }
    let temporary = cache.path(&stem, &format!("{}.nvcc", std::process::id()));
    let mut command = Command::new(&nvcc.path);
    command.args(target.flags()).arg("-I").arg(source.path.parent().unwrap_or(&source.path));
    command.arg("-o").arg(&temporary).arg(&source.path);
    let what = format!("{} for {}", source.path.display(), target.label());
    let output =
        command.output().map_err(|e| format!("{what}: {} did not start: {e}", nvcc.path.display()))?;
    let log =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let image = fs::read(&temporary);
    let _ = fs::remove_file(&temporary);
    if !output.status.success() {
        return Err(format!(
            "nvcc failed on {what} ({}):\n{log}\nThe command was: {command:?}\n\
             To build for the CPU alone: SONGRNN_KERNELS=skip",
            output.status
        ));
    }
    let bytes = image.map_err(|e| format!("{what}: nvcc reported success but left no image: {e}"))?;
    cache.put(&stem, &bytes, &log)?;
    cache.prune(&format!("{}.{}.", source.name, target.label()));
    Ok(Compiled { file, target, bytes, log })
}

/// The compiler's warnings in a log.
pub fn warnings(log: &str) -> Vec<String> {
    log.lines().filter(|line| line.contains("warning")).map(str::to_string).collect()
}
