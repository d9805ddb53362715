//! The cache of compiled kernels: `NAME.ARCH.HASH.image` and beside it `.log`, the compiler's output, from which
//! `scripts/kernel-resources.py` reads registers and spills. Survives cargo's profiles; safe to delete at any time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Versions of one kernel file and architecture that are kept.
const KEPT: usize = 8;

pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// `wanted`, or `songrnn-kernels` in cargo's target folder, found from OUT_DIR.
    pub fn open(wanted: Option<String>, out_dir: &Path) -> Result<Cache, String> {
        // Cargo marks its target folder with CACHEDIR.TAG, whatever lies between it and OUT_DIR.
        let target = || out_dir.ancestors().find(|p| p.join("CACHEDIR.TAG").is_file()).unwrap_or(out_dir);
        let folder = wanted.map_or_else(|| target().join("songrnn-kernels"), PathBuf::from);
        fs::create_dir_all(&folder).map_err(|e| format!("kernel cache {}: {e}", folder.display()))?;
        Ok(Cache { folder })
    }

    /// `stem.EXTENSION` in the cache.
    pub fn path(&self, stem: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{stem}.{extension}"))
    }

    /// A compiled kernel and its log.
    pub fn get(&self, stem: &str) -> Option<(Vec<u8>, String)> {
        let image = fs::read(self.path(stem, "image")).ok().filter(|bytes| !bytes.is_empty())?;
        Some((image, fs::read_to_string(self.path(stem, "log")).ok()?))
    }

    /// The image is renamed last: where it is, its log is.
    pub fn put(&self, stem: &str, image: &[u8], log: &str) -> Result<(), String> {
        write_atomically(&self.path(stem, "log"), log.as_bytes())?;
        write_atomically(&self.path(stem, "image"), image)
    }

    /// `current.csv`: which entries the last build used, for the scripts that read the logs.
    pub fn write_current(&self, text: &str) -> Result<(), String> {
        write_atomically(&self.folder.join("current.csv"), text.as_bytes())
    }

    /// Removes all but the newest entries of `prefix` (`NAME.ARCH.`). Failure is harmless: the cache is only larger.
    pub fn prune(&self, prefix: &str) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut images: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter(|e| {
                let name = e.file_name();
                let name = name.to_string_lossy();
                name.starts_with(prefix) && name.ends_with(".image")
            })
            .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
            .collect();
        images.sort();
        for (_, image) in images.iter().rev().skip(KEPT) {
            let _ = fs::remove_file(image);
            let _ = fs::remove_file(image.with_extension("log"));
        }
    }
}

/// Writes beside the file and renames: another build that reads it sees the old or the new one, whole.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|e| format!("{}: {e}", path.display()))
}
