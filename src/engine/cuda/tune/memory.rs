//! The file in which choices are remembered: `songrnn-fast/kernels.json` in the user's cache folder, or what
//! `SONGRNN_KERNEL_CHOICES` names. Losing it costs a few seconds of timing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::{ChunkSize, KernelChoice};
use crate::engine::cuda::driver::Facts;
use crate::engine::cuda::images;
use crate::engine::{Kernel, Precision};
use crate::model::ModelShape;

/// The environment variable that names the file; `off`: nothing is timed, a rule decides.
pub const CHOICES: &str = "SONGRNN_KERNEL_CHOICES";

/// First line of defence against a file of something else.
const FORMAT: &str = "songrnn-fast kernels 1";

/// What was chosen and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The fastest.
    pub chosen: KernelChoice,
    /// Of a training step.
    pub milliseconds: f64,
    /// Every way with its milliseconds, or why it does not serve.
    pub measured: Vec<(KernelChoice, Result<f64, String>)>,
}

impl Verdict {
    /// `kernels timed: fused 0.310 ms, cudnn (...) 0.900 ms, ...`: the best of each tier.
    pub fn in_words(&self) -> String {
        let tier = |way: &KernelChoice| match way {
            KernelChoice::Fused => 0,
            KernelChoice::Cudnn(_) => 1,
            KernelChoice::Stepwise => 2,
        };
        let mut best: BTreeMap<i32, (f64, &KernelChoice)> = BTreeMap::new();
        for (way, result) in &self.measured {
            let Ok(milliseconds) = result else { continue };
            let entry = best.entry(tier(way)).or_insert((*milliseconds, way));
            if *milliseconds < entry.0 {
                *entry = (*milliseconds, way);
            }
        }
        let list: Vec<String> =
            best.values().map(|(milliseconds, way)| format!("{way} {milliseconds:.3} ms")).collect();
        format!("kernels timed on training steps: {}", list.join(", "))
    }
}

#[derive(Default, Serialize, Deserialize)]
struct File {
    format: String,
    choices: BTreeMap<String, Verdict>,
}

/// See the module's documentation.
pub struct Remembered {
    path: Option<PathBuf>,
    file: File,
}

/// Whether the environment says that nothing is to be timed.
pub fn is_off() -> bool {
    std::env::var(CHOICES).is_ok_and(|value| value == "off")
}

impl Remembered {
    /// The user's file; empty where there is none, or one that cannot be read.
    pub fn open() -> Remembered {
        let named = std::env::var_os(CHOICES).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let cache = || folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
        Remembered::at(named.or_else(|| Some(cache()?.join("songrnn-fast").join("kernels.json"))))
    }

    /// A given file.
    pub fn at(path: Option<PathBuf>) -> Remembered {
        let read = |path: &Path| -> Option<File> {
            let file: File = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
            (file.format == FORMAT).then_some(file)
        };
        let file = path.as_deref().and_then(read).unwrap_or_default();
        Remembered { path, file }
    }

    /// What was chosen.
    pub fn find(&self, key: &str) -> Option<Verdict> {
        self.file.choices.get(key).cloned()
    }

    /// Remembers a choice; the error says why it could not.
    pub fn keep(&mut self, key: &str, verdict: &Verdict) -> Result<(), String> {
        let Some(path) = self.path.clone() else {
            return Err("there is no cache folder (HOME is not set)".into());
        };
        // Another process may have added something since.
        let mut now = Remembered::at(Some(path.clone()));
        now.file.format = FORMAT.into();
        now.file.choices.insert(key.into(), verdict.clone());
        let text = serde_json::to_string_pretty(&now.file).map_err(|error| error.to_string())?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        crate::files::write_atomic(&path, text.as_bytes()).map_err(|error| error.to_string())?;
        *self = now;
        Ok(())
    }

    /// `remembered in FILE`.
    pub fn place(&self) -> String {
        match &self.path {
            Some(path) => format!("remembered in {}", path.display()),
            None => "not remembered".into(),
        }
    }
}

/// All that a choice depends on.
pub fn key(
    facts: &Facts,
    shape: &ModelShape,
    precision: Precision,
    kernel: Kernel,
    size: ChunkSize,
) -> String {
    let libraries: Vec<String> =
        facts.libraries.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let mut kernels = Xxh3::new();
    for image in images::images().iter().filter(|image| image.arch != "ptx") {
        kernels.update(image.bytes);
    }
    format!(
        "{}, {} multiprocessors, CUDA {}, {}; kernels {:016x}; {shape}, {precision}, batch {}, sequence {}, a tune every {}; {}",
        facts.name,
        facts.multiprocessors,
        facts.cuda,
        libraries.join(", "),
        kernels.digest(),
        size.streams,
        size.steps,
        size.tune,
        kernel.name(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cuda::driver::emulated::EmulatedDriver;
    use crate::model::CellKind;

    fn verdict(milliseconds: f64) -> Verdict {
        let measured = vec![
            (KernelChoice::Fused, Ok(milliseconds)),
            (KernelChoice::Stepwise, Err("out of memory".into())),
        ];
        Verdict { chosen: KernelChoice::Fused, milliseconds, measured }
    }

    #[test]
    fn choices_survive_and_do_not_disturb_one_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("kernels.json");
        let (mut one, mut other) = (Remembered::at(Some(path.clone())), Remembered::at(Some(path.clone())));
        assert_eq!(one.find("a"), None);
        one.keep("a", &verdict(1.0)).unwrap();
        other.keep("b", &verdict(2.0)).unwrap();
        let again = Remembered::at(Some(path.clone()));
        assert_eq!(again.find("a"), Some(verdict(1.0)));
        assert_eq!(again.find("b"), Some(verdict(2.0)));
        // A damaged file is as good as none, and is replaced.
        for damage in ["{", "{\"format\":\"other\",\"choices\":{}}", ""] {
            std::fs::write(&path, damage).unwrap();
            let mut damaged = Remembered::at(Some(path.clone()));
            assert_eq!(damaged.find("a"), None);
            damaged.keep("c", &verdict(3.0)).unwrap();
            assert_eq!(Remembered::at(Some(path.clone())).find("c"), Some(verdict(3.0)));
        }
        assert!(Remembered::at(None).keep("a", &verdict(1.0)).unwrap_err().contains("cache folder"));
        let blocked = folder.path().join("deep").join("kernels.json").join("below-a-file.json");
        assert!(Remembered::at(Some(blocked)).keep("a", &verdict(1.0)).is_err());
    }

    #[test]
    fn a_key_names_all_that_speed_depends_on() {
        let shape = ModelShape { cell: CellKind::Lstm, vocab: 96, hidden: 150, layers: 1 };
        let mut facts = EmulatedDriver::facts_of(9, 0);
        facts.libraries = vec![("cuDNN".into(), "9.21.0".into())];
        let size = ChunkSize::of_tunes(100, 64);
        let first = key(&facts, &shape, Precision::F16, Kernel::Auto, size);
        for word in ["emulated sm_90", "cuDNN 9.21.0", "1x150", "f16", "batch 64", "sequence 100", "auto"] {
            assert!(first.contains(word), "{first}");
        }
        facts.libraries[0].1 = "9.22.0".into();
        assert_ne!(first, key(&facts, &shape, Precision::F16, Kernel::Auto, size));
    }
}
