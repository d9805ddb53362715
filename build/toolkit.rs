//! Finds nvcc: a CUDA toolkit's, or the one that comes as Python wheels and needs no root (`scripts/cuda-toolkit.sh`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::env_var;

/// The first release that knows sm_100 and sm_120.
pub const OLDEST: (u32, u32) = (12, 8);

/// A compiler that can be used.
pub struct Nvcc {
    pub path: PathBuf,
    /// As `13.0.88`.
    pub version: String,
    /// All that tells one compiler from another, for the cache.
    pub identity: String,
}

/// Where nvcc was looked for, one line a place.
#[derive(Default)]
pub struct Looked {
    /// Every place in order.
    pub all: Vec<String>,
    /// Those where there was one, but of no use, and why.
    pub unusable: Vec<String>,
}

/// Looks at one place after the other. Inner error: no place serves. Outer error: SONGRNN_NVCC names something that cannot be used; to go on to another compiler would not be what was asked.
///
/// Variables are read one after the other, so that cargo runs the script again only for those that were asked.
pub fn find() -> Result<Result<Nvcc, Looked>, String> {
    if let Some(path) = env_var("SONGRNN_NVCC") {
        return match usable(&PathBuf::from(&path)) {
            Ok(nvcc) => Ok(Ok(nvcc)),
            Err(why) => Err(format!("SONGRNN_NVCC is {path}: {why}")),
        };
    }
    let mut looked = Looked::default();
    Ok(search(&mut looked).ok_or(looked))
}

fn search(looked: &mut Looked) -> Option<Nvcc> {
    looked.all.push("SONGRNN_NVCC: none".into());
    let program = format!("nvcc{}", env::consts::EXE_SUFFIX);
    // Each place is tried where it stands: what lies behind a place that serves is not even looked up.
    let mut place = |name: &str, candidates: Vec<PathBuf>| -> Option<Nvcc> {
        if candidates.is_empty() {
            looked.all.push(format!("{name}: none"));
        }
        for path in candidates {
            match usable(&path) {
                Ok(nvcc) => return Some(nvcc),
                Err(why) => {
                    let line = format!("{name}: {}: {why}", path.display());
                    looked.all.push(line.clone());
                    looked.unusable.push(line);
                }
            }
        }
        None
    };
    let set = |name: &str, below: &str| -> Vec<PathBuf> {
        env_var(name).map(|value| Path::new(&value).join(below)).into_iter().collect()
    };
    let in_bin = format!("bin/{program}");
    let found = place("NVCC", env_var("NVCC").map(PathBuf::from).into_iter().collect())
        .or_else(|| place("CUDA_HOME", set("CUDA_HOME", &in_bin)))
        .or_else(|| place("CUDA_PATH", set("CUDA_PATH", &in_bin)))
        // PATH is not watched: it differs between a terminal and an editor, and each change would compile all again.
        .or_else(|| place("PATH", on_path(&program).into_iter().collect()));
    found
        .or_else(|| {
            let site = env_var("VIRTUAL_ENV").map(|v| sites(Path::new(&v))).unwrap_or_default();
            place("VIRTUAL_ENV's site-packages", wheels(site, &program))
        })
        .or_else(|| place("python3's site-packages", wheels(python_sites(), &program)))
        .or_else(|| place(".venv", wheels(sites(Path::new(".venv")), &program)))
        .or_else(|| {
            let folder = fetched()?;
            place(
                &format!("scripts/cuda-toolkit.sh's {}", folder.display()),
                wheels(sites(&folder), &program),
            )
        })
        .or_else(|| {
            let system = Path::new("/usr/local/cuda").join(&in_bin);
            place("/usr/local/cuda", Some(system).filter(|p| p.exists()).into_iter().collect())
        })
}

/// The folder that `scripts/cuda-toolkit.sh` installs to when it is given none.
fn fetched() -> Option<PathBuf> {
    let cache = match env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(env::var_os("HOME")?).join(".cache"),
    };
    Some(cache.join("songrnn-fast/cuda-toolkit"))
}

fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|p| p.is_file())
}

/// The site-packages folders of a Python environment.
fn sites(environment: &Path) -> Vec<PathBuf> {
    let lib = environment.join("lib");
    let mut found: Vec<PathBuf> = fs::read_dir(&lib)
        .map(|entries| entries.flatten().map(|e| e.path().join("site-packages")).collect())
        .unwrap_or_default();
    found.push(environment.join("Lib/site-packages")); // Windows
    found.retain(|p| p.is_dir());
    found.sort();
    found
}

/// Where the python3 of PATH has its packages.
fn python_sites() -> Vec<PathBuf> {
    let code = "import sysconfig, site; print(*dict.fromkeys([sysconfig.get_path('purelib'), \
                sysconfig.get_path('platlib'), site.getusersitepackages()]), sep='\\n')";
    let Ok(output) = Command::new("python3").args(["-c", code]).output() else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).filter(|p| p.is_dir()).collect()
}

/// `nvidia/cu13/bin/nvcc` and its later sisters below site-packages, the newest first.
fn wheels(sites: Vec<PathBuf>, program: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for site in sites {
        for entry in fs::read_dir(site.join("nvidia")).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let major = name.strip_prefix("cu").and_then(|n| n.parse::<u32>().ok());
            let path = entry.path().join("bin").join(program);
            // The folder without the program is worth a word too: only some of the wheels are there.
            if let Some(major) = major.filter(|_| path.is_file() || entry.path().join("nvvm").is_dir()) {
                found.push((major, path));
            }
        }
    }
    found.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    found.into_iter().map(|(_, path)| path).collect()
}

/// Asks the program for its version and looks at what it needs beside itself. Error: what is wrong, and the remedy.
fn usable(path: &Path) -> Result<Nvcc, String> {
    if path.components().count() > 1 && !path.exists() {
        return Err("no such file".into());
    }
    if let Some(missing) = missing_wheels(path) {
        return Err(missing);
    }
    let output = Command::new(path).arg("--version").output().map_err(|e| format!("does not start: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let Some((version, number)) = version(&text) else {
        return Err(format!("`--version` ({}) names no CUDA release; is it nvcc?", output.status));
    };
    if number < OLDEST {
        return Err(format!(
            "is release {version}; sm_100 and sm_120 need {}.{} or newer",
            OLDEST.0, OLDEST.1
        ));
    }
    // These change what nvcc does without a word on its command line.
    let flags =
        ["NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "NVCC_CCBIN"].map(|v| env_var(v).unwrap_or_default());
    if cfg!(unix) && flags.iter().all(String::is_empty) && on_path("gcc").is_none() {
        return Err("needs a host compiler to read the sources with, and there is no gcc in PATH (install it, or set \
                    NVCC_CCBIN to another)"
            .into());
    }
    Ok(Nvcc { path: path.to_path_buf(), version, identity: format!("{text}\n{}", flags.join("\n")) })
}

/// `13.0.88` and (13, 0) out of `Cuda compilation tools, release 13.0, V13.0.88`.
fn version(text: &str) -> Option<(String, (u32, u32))> {
    let release = text.split("release ").nth(1)?;
    let (number, rest) = release.split_once(',')?;
    let (major, minor) = number.split_once('.')?;
    let full =
        rest.trim_start().strip_prefix('V').and_then(|v| v.split_whitespace().next()).unwrap_or(number);
    Some((full.to_string(), (major.trim().parse().ok()?, minor.trim().parse().ok()?)))
}

/// What the Python wheels bring in parts: one missing gives messages that nobody understands.
fn missing_wheels(path: &Path) -> Option<String> {
    let root = path.parent()?.parent()?;
    let name = root.file_name()?.to_string_lossy();
    if !name.starts_with("cu") || root.parent()?.file_name()? != "nvidia" {
        return None; // A whole toolkit: its layout is its own affair.
    }
    let exe = env::consts::EXE_SUFFIX;
    let parts = [
        (format!("bin/nvcc{exe}"), "nvidia-cuda-nvcc"),
        (format!("bin/ptxas{exe}"), "nvidia-cuda-nvcc"),
        (format!("bin/fatbinary{exe}"), "nvidia-cuda-nvcc"),
        (format!("nvvm/bin/cicc{exe}"), "nvidia-nvvm"),
        ("nvvm/libdevice".to_string(), "nvidia-nvvm"),
        ("include/crt/host_defines.h".to_string(), "nvidia-cuda-crt"),
        ("include/cuda_runtime.h".to_string(), "nvidia-cuda-runtime"),
        ("include/nv/target".to_string(), "nvidia-cuda-cccl"),
    ];
    let missing: Vec<_> = parts.iter().filter(|(file, _)| !root.join(file).exists()).collect();
    if missing.is_empty() {
        return None;
    }
    let files: Vec<&str> = missing.iter().map(|(file, _)| file.as_str()).collect();
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    Some(format!("{} missing: install the Python package {}", files.join(", "), packages.join(", ")))
}
