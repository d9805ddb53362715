//! The kernel sources and the headers that each of them may include.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// One .cu file.
pub struct Source {
    /// File name without `.cu`; the name of its images.
    pub name: String,
    pub path: PathBuf,
    /// The file itself and every header of ours that it may include, sorted.
    pub files: Vec<PathBuf>,
    /// Names and contents of `files`, hashed.
    pub hash: u128,
}

/// Reads `folder/*.cu`, sorted by name. No folder, no sources.
pub fn read(folder: &Path) -> Result<Vec<Source>, String> {
    let mut texts = Texts::default();
    let mut sources = Vec::new();
    for path in list(folder, &["cu"])? {
        let mut files = BTreeSet::new();
        collect(&path, folder, &mut texts, &mut files)?;
        let mut hash = Hash::new();
        for file in &files {
            hash.add(file.to_string_lossy().as_bytes());
            hash.add(&texts.get(file)?.hash.to_le_bytes());
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        sources.push(Source { name, path, files: files.into_iter().collect(), hash: hash.0 });
    }
    Ok(sources)
}

/// Adds `file` and all that it includes in quotes. Conditions are not evaluated: a header too many costs a compilation,
/// one too few a stale kernel.
fn collect(file: &Path, root: &Path, texts: &mut Texts, found: &mut BTreeSet<PathBuf>) -> Result<(), String> {
    if !found.insert(file.to_path_buf()) {
        return Ok(());
    }
    for include in texts.get(file)?.includes.clone() {
        match include {
            Include::Quoted(name) => {
                let beside = normal(&file.parent().unwrap_or(root).join(&name));
                let below = normal(&root.join(&name));
                // What is found in neither place is the toolkit's. The emulator's headers never reach nvcc.
                let header = [beside, below].into_iter().find(|p| p.is_file());
                if let Some(header) = header.filter(|p| !p.starts_with(root.join("emulated"))) {
                    collect(&header, root, texts, found)?;
                }
            }
            // The name comes out of a macro: any header of the folder is possible.
            Include::Computed => {
                for header in list(root, &["h", "cuh"])? {
                    collect(&header, root, texts, found)?;
                }
            }
        }
    }
    Ok(())
}

/// The folder's files with one of the extensions, sorted.
fn list(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, String> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) && p.is_file());
    paths.sort();
    Ok(paths)
}

/// Removes `.` and `..`, so that one file has one name.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir if out.file_name().is_some() => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

#[derive(Clone)]
enum Include {
    Quoted(String),
    Computed,
}

struct Text {
    hash: u128,
    includes: Vec<Include>,
}

/// Each file is read once, however many sources include it.
#[derive(Default)]
struct Texts(BTreeMap<PathBuf, Text>);

impl Texts {
    fn get(&mut self, path: &Path) -> Result<&Text, String> {
        if !self.0.contains_key(path) {
            let bytes = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
            let mut hash = Hash::new();
            hash.add(&bytes);
            let includes = String::from_utf8_lossy(&bytes).lines().filter_map(include).collect();
            self.0.insert(path.to_path_buf(), Text { hash: hash.0, includes });
        }
        Ok(&self.0[path])
    }
}

/// What a line includes; None for the toolkit's and the system's headers in angle brackets.
fn include(line: &str) -> Option<Include> {
    let rest = line.trim_start().strip_prefix('#')?.trim_start().strip_prefix("include")?.trim_start();
    if rest.starts_with('<') {
        return None;
    }
    match rest.strip_prefix('"').and_then(|r| r.split('"').next()) {
        Some(name) => Some(Include::Quoted(name.to_string())),
        None => Some(Include::Computed),
    }
}

/// FNV-1a of 128 bits. The standard library's hashers promise no value from one Rust release to the next, and the cache
/// outlives releases.
pub struct Hash(pub u128);

impl Hash {
    pub fn new() -> Hash {
        Hash(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    /// Adds a piece and its length: ("ab", "c") and ("a", "bc") differ.
    pub fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes.iter().chain(&(bytes.len() as u64).to_le_bytes()) {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
}
