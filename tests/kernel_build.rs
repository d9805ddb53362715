//! The build script's own parts, with a compiler that only pretends: which headers count, what the cache keeps, which
//! compilers are refused. Needs no nvcc.
#![cfg(unix)]
#![allow(dead_code)] // build.rs uses all of them; each test uses some.

#[path = "../build/cache.rs"]
mod cache;
#[path = "../build/compile.rs"]
mod compile;
#[path = "../build/sources.rs"]
mod sources;
#[path = "../build/toolkit.rs"]
mod toolkit;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use compile::Target;
use tempfile::TempDir;

thread_local! {
    static ENV: RefCell<HashMap<String, String>> = RefCell::default();
}

/// Stands for build.rs's: what the modules ask of the environment comes from the test.
fn env_var(name: &str) -> Option<String> {
    ENV.with_borrow(|env| env.get(name).cloned())
}

fn set(name: &str, value: &Path) {
    ENV.with_borrow_mut(|env| env.insert(name.into(), value.display().to_string()));
}

/// Held by tests that write a program and run it: a process begun by another thread in between would inherit the open
/// file, and Linux runs no program that is open for writing.
fn programs() -> MutexGuard<'static, ()> {
    static PROGRAMS: Mutex<()> = Mutex::new(());
    set("NVCC_CCBIN", Path::new("/bin/false")); // The pretended compiler needs no gcc.
    PROGRAMS.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A folder of two sources: `a` includes `cells/cell.cuh`, which includes `params.h`; `b` includes `params.h`.
fn kernels() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for sub in ["cells", "emulated"] {
        fs::create_dir(folder.path().join(sub)).unwrap();
    }
    for (name, text) in [
        ("a.cu", "#include <stdint.h>\n#include \"cells/cell.cuh\"\n# include \"emulated/runtime.h\"\n"),
        ("b.cu", "#include \"params.h\"\n"),
        ("cells/cell.cuh", "#pragma once\n#include \"../params.h\"\n"),
        ("params.h", "struct P {};\n"),
        ("unused.h", "\n"),
        ("emulated/runtime.h", "\n"),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn hashes(folder: &TempDir) -> Vec<u128> {
    sources::read(folder.path()).unwrap().iter().map(|s| s.hash).collect()
}

/// A program that prints a release, appends a line to `calls`, and writes "image of FILE" to what -o names; it fails on
/// sources that contain `wrong`.
fn fake_nvcc(folder: &Path, release: &str) -> PathBuf {
    let path = folder.join("nvcc");
    let script = format!(
        "#!/bin/sh\n\
         if [ \"$1\" = --version ]; then echo 'Cuda compilation tools, release {release}, V{release}.88'; exit; fi\n\
         echo call >>'{calls}'\n\
         while [ $# -gt 1 ]; do if [ \"$1\" = -o ]; then out=$2; fi; shift; done\n\
         if grep -q wrong \"$1\"; then echo \"$1(1): error: wrong\" >&2; exit 2; fi\n\
         echo \"ptxas info : Used 8 registers\" >&2\n\
         printf 'image of %s' \"$1\" >\"$out\"\n",
        calls = folder.join("calls").display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn calls(folder: &Path) -> usize {
    fs::read_to_string(folder.join("calls")).unwrap_or_default().lines().count()
}

#[test]
fn a_header_counts_for_the_sources_that_include_it() {
    let folder = kernels();
    let read = sources::read(folder.path()).unwrap();
    let names: Vec<_> = read.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let files = |i: usize| -> Vec<_> {
        let relative = |p: &PathBuf| p.strip_prefix(folder.path()).unwrap().display().to_string();
        read[i].files.iter().map(relative).collect()
    };
    assert_eq!(files(0), ["a.cu", "cells/cell.cuh", "params.h"]);
    assert_eq!(files(1), ["b.cu", "params.h"]);

    let before = hashes(&folder);
    fs::write(folder.path().join("unused.h"), "// edited\n").unwrap();
    fs::write(folder.path().join("emulated/runtime.h"), "// edited\n").unwrap();
    assert_eq!(hashes(&folder), before);
    fs::write(folder.path().join("cells/cell.cuh"), "#include \"../params.h\"\n// edited\n").unwrap();
    let cell = hashes(&folder);
    assert!(cell[0] != before[0] && cell[1] == before[1]);
    fs::write(folder.path().join("params.h"), "// edited\n").unwrap();
    let params = hashes(&folder);
    assert!(params[0] != cell[0] && params[1] != cell[1]);
}

#[test]
fn an_include_by_macro_counts_every_header() {
    let folder = kernels();
    fs::write(folder.path().join("b.cu"), "#include CELL\n").unwrap();
    assert!(sources::read(folder.path()).unwrap()[1].files.contains(&folder.path().join("unused.h")));
}

#[test]
fn what_is_compiled_once_is_not_compiled_again() {
    let _guard = programs();
    let (folder, work) = (kernels(), tempfile::tempdir().unwrap());
    set("SONGRNN_NVCC", &fake_nvcc(work.path(), "13.0"));
    let nvcc = toolkit::find().unwrap().ok().unwrap();
    assert_eq!(nvcc.version, "13.0.88");
    let cache =
        cache::Cache::open(Some(work.path().join("cache").display().to_string()), work.path()).unwrap();
    let targets = Target::wanted(Some("90a,ptx")).unwrap();
    let build = || {
        let sources = sources::read(folder.path()).unwrap();
        compile::all(&nvcc, &sources, &targets, &cache, 2).unwrap()
    };

    let first = build();
    assert_eq!(calls(work.path()), 4);
    let names: Vec<String> = first.iter().map(|c| c.image_name()).collect();
    assert_eq!(names, ["a.sm_90a", "a.ptx", "b.sm_90a", "b.ptx"]);
    let image = format!("image of {}", folder.path().join("a.cu").display());
    assert!(first[..2].iter().all(|c| c.bytes == image.as_bytes()));
    assert!(first[0].log.contains("8 registers"));

    let second = build();
    assert_eq!(calls(work.path()), 4, "all from the cache");
    assert!(first.iter().zip(&second).all(|(a, b)| a.bytes == b.bytes && a.log == b.log));

    fs::write(folder.path().join("cells/cell.cuh"), "// edited\n").unwrap();
    build();
    assert_eq!(calls(work.path()), 6, "`a` alone, for both");

    fs::write(folder.path().join("b.cu"), "wrong\n").unwrap();
    let sources = sources::read(folder.path()).unwrap();
    let Err(error) = compile::all(&nvcc, &sources, &targets, &cache, 2) else { panic!("it compiled") };
    assert!(error.contains("b.cu(1): error: wrong") && error.contains("SONGRNN_KERNELS=skip"), "{error}");
}

#[test]
fn an_unusable_compiler_is_refused_with_the_reason() {
    let _guard = programs();
    let work = tempfile::tempdir().unwrap();
    let refusal = |path: &Path| {
        set("SONGRNN_NVCC", path);
        toolkit::find().err().unwrap_or_else(|| panic!("{} was taken", path.display()))
    };
    assert!(refusal(&work.path().join("nowhere")).contains("no such file"));
    let old = refusal(&fake_nvcc(work.path(), "12.6"));
    assert!(old.contains("12.6") && old.contains("12.8"), "{old}");
    assert!(refusal(Path::new("/bin/true")).contains("is it nvcc?"));

    // The wheels: nvcc without what the others bring.
    let bin = work.path().join("nvidia/cu13/bin");
    fs::create_dir_all(&bin).unwrap();
    let wheel = refusal(&fake_nvcc(&bin, "13.0"));
    assert!(wheel.contains("nvvm/bin/cicc") && wheel.contains("nvidia-cuda-crt"), "{wheel}");
}

#[test]
fn architectures_are_named_as_nvcc_names_them() {
    assert_eq!(Target::wanted(None).unwrap().len(), 7);
    let labels =
        |list| -> Vec<String> { Target::wanted(Some(list)).unwrap().iter().map(|t| t.label()).collect() };
    assert_eq!(labels("90a, sm_80,ptx,80"), ["sm_90a", "sm_80", "ptx"]);
    for wrong in ["75", "90", ",", "sm_"] {
        assert!(Target::wanted(Some(wrong)).is_err(), "{wrong}");
    }
}
