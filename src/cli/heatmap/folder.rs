//! Where the files of `heatmap` go: never over somebody's file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::files::write_atomic;
use crate::model::file::{BEST, LAST};

/// An error where a file, or anything else, stands at `path`.
pub fn refuse_existing(path: &Path) -> anyhow::Result<()> {
    if path.symlink_metadata().is_ok() {
        anyhow::bail!(
            "{} is there already and is not overwritten; name another folder with --out",
            path.display()
        );
    }
    Ok(())
}

/// Writes files into `wish`, or into a new folder named after the model; which one it was. Nothing is written where one
/// of the files is there already.
pub fn write(
    wish: Option<&Path>,
    model: &Path,
    files: &BTreeMap<String, Vec<u8>>,
) -> anyhow::Result<PathBuf> {
    let folder = match wish {
        Some(folder) => {
            for name in files.keys() {
                refuse_existing(&folder.join(name))?;
            }
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
            folder.to_path_buf()
        }
        None => new_folder(&default_folder(model))?,
    };
    for (name, bytes) in files {
        write_atomic(&folder.join(name), bytes)?;
    }
    Ok(folder)
}

/// `heatmaps/MODEL`: the run's folder, or the file's own name where it is no run's.
fn default_folder(model: &Path) -> PathBuf {
    let of_run = model.file_name().is_some_and(|name| name == BEST || name == LAST);
    let run = || fs::canonicalize(model).ok()?.parent()?.file_name().map(|name| name.to_os_string());
    let name = if of_run { run() } else { model.file_stem().map(|stem| stem.to_os_string()) };
    Path::new("heatmaps").join(name.unwrap_or("model".into()))
}

/// Makes `wish`, or where it exists `wish-2`, `wish-3`, ... and says so.
fn new_folder(wish: &Path) -> anyhow::Result<PathBuf> {
    let parent = wish.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| format!("cannot make the folder {}", parent.display()))?;
    let mut number = 1u32;
    loop {
        let path = match number {
            1 => wish.to_path_buf(),
            _ => PathBuf::from(format!("{}-{number}", wish.display())),
        };
        match fs::create_dir(&path) {
            Ok(()) => {
                if number > 1 {
                    eprintln!("{} is there already; these go to {}", wish.display(), path.display());
                }
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 100_000 => number += 1,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot make the folder {}", path.display()));
            }
        }
    }
}

/// `3 .png, 3 .svg, activations.csv, ranking.csv`.
pub fn tell(files: &BTreeMap<String, Vec<u8>>) -> String {
    let of = |kind: &str| files.keys().filter(|name| name.ends_with(kind)).count();
    let mut parts: Vec<String> =
        [".png", ".svg"].iter().filter(|k| of(k) > 0).map(|kind| format!("{} {kind}", of(kind))).collect();
    parts.extend(files.keys().filter(|name| name.ends_with(".csv")).cloned());
    parts.join(", ")
}
