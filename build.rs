//! Compiles `kernels/*.cu` with nvcc and leaves `kernel_images.rs` for `src/engine/cuda/images.rs` to include.
//!
//! Environment:
//! - `SONGRNN_KERNELS`: `auto` (default: without a compiler one warning and a CPU-only binary), `require` (without a
//!   compiler an error) or `skip`.
//! - `SONGRNN_ARCHS`: a comma list out of 80, 86, 89, 90a, 100, 120, ptx; for developers, to compile less.
//! - `SONGRNN_NVCC`, `NVCC`, `CUDA_HOME`, `CUDA_PATH`, `VIRTUAL_ENV`: where nvcc is looked for (`build/toolkit.rs`).
//! - `SONGRNN_KERNEL_CACHE`: folder of the compiled kernels; default `songrnn-kernels` in cargo's target folder.
//!
//! The machine that builds needs no GPU. Compiled kernels are cached by content (`build/cache.rs`), so that debug,
//! release, clippy and every branch share them.

#[path = "build/cache.rs"]
mod cache;
#[path = "build/compile.rs"]
mod compile;
#[path = "build/sources.rs"]
mod sources;
#[path = "build/toolkit.rs"]
mod toolkit;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

use compile::{Compiled, Target};

/// The folder of the sources, from the package's root, where cargo runs this script.
const KERNELS: &str = "kernels";

fn main() {
    if let Err(message) = run() {
        eprintln!("\nerror: {message}\n");
        process::exit(1);
    }
}

fn run() -> Result<(), String> {
    for file in ["build.rs", "build/cache.rs", "build/compile.rs", "build/sources.rs", "build/toolkit.rs"] {
        watch(Path::new(file));
    }
    // Cargo watches a folder with all that is below it, and below `kernels` there is more than this script reads (the
    // emulator, the resource record). So the sources are watched one by one, and a *new* .cu file is noticed through
    // the Rust code that must change to launch it, which is compiled again anyway.
    watch(Path::new("src/engine/cuda"));

    let out =
        PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: this is cargo's build script")?);
    let mode = env_var("SONGRNN_KERNELS").unwrap_or_else(|| "auto".into());
    let targets = Target::wanted(env_var("SONGRNN_ARCHS").as_deref())?;
    let sources = sources::read(Path::new(KERNELS))?;
    for path in sources.iter().flat_map(|s| &s.files) {
        watch(path);
    }
    let required = match mode.as_str() {
        "require" => true,
        "auto" => false,
        "skip" => return write_rust(&out, Err("it was built with SONGRNN_KERNELS=skip"), &[]),
        other => {
            return Err(format!(
                "SONGRNN_KERNELS is {other:?}; it must be `require` (fail without a CUDA compiler), `auto` (then build \
                 for the CPU alone) or `skip` (never compile kernels)"
            ));
        }
    };
    if sources.is_empty() {
        let none = format!("there was no .cu file in {KERNELS}/ when it was built");
        return if required { Err(none) } else { write_rust(&out, Err(&none), &[]) };
    }
    if env_var("DOCS_RS").is_some() && !required {
        return write_rust(&out, Err("it was built for its documentation"), &[]);
    }
    match toolkit::find()? {
        Ok(nvcc) => build(&nvcc, &sources, &targets, &out),
        Err(looked) if required => Err(not_found(&looked.all)),
        Err(looked) => {
            warn(&cpu_only(&looked.unusable));
            write_rust(&out, Err("no usable CUDA compiler was found when it was built"), &[])
        }
    }
}

/// Compiles every source for every target and writes the table of the images.
fn build(
    nvcc: &toolkit::Nvcc,
    sources: &[sources::Source],
    targets: &[Target],
    out: &Path,
) -> Result<(), String> {
    watch(&nvcc.path);
    let cache = cache::Cache::open(env_var("SONGRNN_KERNEL_CACHE"), out)?;
    let jobs = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let compiled = compile::all(nvcc, sources, targets, &cache, jobs)?;
    for warning in compiled.iter().flat_map(|c| compile::warnings(&c.log)) {
        warn(&warning);
    }
    let folder = out.join("kernels");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for c in &compiled {
        // A copy, so that clearing or pruning the cache never breaks a finished build.
        let to = folder.join(c.image_name());
        if fs::read(&to).ok().as_deref() != Some(&c.bytes[..]) {
            cache::write_atomically(&to, &c.bytes)?;
        }
    }
    write_rust(out, Ok(&nvcc.version), &compiled)
}

/// `kernel_images.rs`: what was built and with what, or why nothing was.
fn write_rust(out: &Path, built: Result<&str, &str>, compiled: &[Compiled]) -> Result<(), String> {
    let mut text = String::from("// Written by build.rs.\n");
    let _ = writeln!(text, "static BUILT: Result<&str, &str> = {built:?};");
    let _ = writeln!(text, "static IMAGES: &[Image] = &[");
    for c in compiled {
        let _ = writeln!(
            text,
            "    Image {{ file: {:?}, arch: {:?}, bytes: &Aligned(*include_bytes!(concat!(env!(\"OUT_DIR\"), \"/kernels/{}\"))).0 }},",
            c.file,
            c.target.label(),
            c.image_name()
        );
    }
    text.push_str("];\n");
    let path = out.join("kernel_images.rs");
    if fs::read_to_string(&path).ok().as_deref() == Some(&text) {
        return Ok(());
    }
    cache::write_atomically(&path, text.as_bytes())
}

fn not_found(looked: &[String]) -> String {
    format!(
        "SONGRNN_KERNELS=require, but there is no usable CUDA compiler (nvcc {}.{} or newer). Looked for it in\n  - {}\n\
         To get one without root: scripts/cuda-toolkit.sh; or install the CUDA toolkit and set CUDA_HOME, or set \
         SONGRNN_NVCC to the program. To build for the CPU alone: SONGRNN_KERNELS=skip",
        toolkit::OLDEST.0,
        toolkit::OLDEST.1,
        looked.join("\n  - ")
    )
}

fn cpu_only(unusable: &[String]) -> String {
    let (major, minor) = toolkit::OLDEST;
    let found =
        if unusable.is_empty() { String::new() } else { format!(" (not usable: {})", unusable.join("; ")) };
    format!(
        "no CUDA compiler (nvcc {major}.{minor} or newer) found{found}: this binary runs on the CPU only. \
         `scripts/cuda-toolkit.sh` fetches one without root; SONGRNN_KERNELS=skip silences this"
    )
}

/// An environment variable; cargo runs this script again when it changes. Empty counts as unset.
fn env_var(name: &str) -> Option<String> {
    println!("cargo::rerun-if-env-changed={name}");
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Runs this script again when the file changes.
fn watch(path: &Path) {
    if path.exists() {
        println!("cargo::rerun-if-changed={}", path.display()); // A missing file would mean: on every build.
    }
}

fn warn(message: &str) {
    println!("cargo::warning={}", message.replace('\n', " "));
}
