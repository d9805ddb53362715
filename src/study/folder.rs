//! The study's folder: its lock, `study.toml` (the grid), `data/` (the text, packed once for all trials, and what it
//! was made of). Another grid may be asked of the same folder, other data or other training may not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::StudyError;
use super::grid::Grid;
use crate::config::{DataConfig, RunConfig};
use crate::model::ModelShape;
use crate::train::TrainError;
use crate::train::data::{self, TrainData};
use crate::train::evaluate::Part;
use crate::train::lock::RunLock;
use crate::train::progress::Progress;

/// File name of the grid in a study's folder.
pub const STUDY: &str = "study.toml";

/// Folder of the packed text in a study's folder.
const DATA: &str = "data";

/// What the text was made of, in `data/`.
const DATA_FILE: &str = "data.toml";

/// What a study reads, as typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StudyData {
    /// Files and folders of training tunes, or one packed corpus; none: the built-in tunebook.
    pub train: Vec<PathBuf>,
    /// Validation tunes; none: 5% of the training tunes are kept for validation and 5% for testing.
    pub val: Vec<PathBuf>,
    /// Test tunes.
    pub test: Vec<PathBuf>,
}

/// A tune's name and text.
pub type NamedTune = (String, String);

/// Tunes for what comes after training: what the models learned from, and what they never saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// Training tunes.
    pub train: Vec<NamedTune>,
    /// Validation tunes, else test tunes; empty where there are neither.
    pub held_out: Vec<NamedTune>,
}

/// A study's folder, locked as long as this lives.
#[derive(Debug)]
pub struct Folder {
    /// Where.
    pub out: PathBuf,
    /// The text.
    pub data: TrainData,
    /// What a trial's configuration says of its data: the packs in this folder.
    pub config: DataConfig,
    /// What was asked for, paths made absolute.
    pub asked: StudyData,
    /// Keeps other studies out.
    pub lock: RunLock,
}

impl Folder {
    /// Opens or makes the folder for this grid and data; refuses another study's with every difference. Afterwards
    /// `study.toml` holds this grid.
    pub fn open(out: &Path, grid: &Grid, asked: &StudyData) -> Result<Folder, StudyError> {
        let asked = StudyData {
            train: absolute(&asked.train)?,
            val: absolute(&asked.val)?,
            test: absolute(&asked.test)?,
        };
        let packs = out.join(DATA);
        let begun = out.join(STUDY).exists();
        if !begun {
            refuse_occupied(out)?;
        }
        fs::create_dir_all(&packs).map_err(|source| io_error("make the folder", &packs, source))?;
        let lock = RunLock::take(out).map_err(TrainError::from)?;
        let mut differences = Vec::new();
        if let Some(text) = read(&out.join(STUDY))? {
            let stored = Grid::from_toml(&text).map_err(|problem| StudyError::Damaged {
                path: out.join(STUDY),
                problem: format!("damaged, or of another version: {problem}"),
            })?;
            differences.extend(stored.differences(grid));
        }
        let mut config = match stored_data(out)? {
            Some(config) => {
                differences.extend(data_differences(&config, &asked));
                config
            }
            None => of_paths(&asked),
        };
        if !differences.is_empty() {
            return Err(StudyError::Usage(format!(
                "{} holds a study of other data or other training; take the same, or choose another --out:\n  {}",
                out.display(),
                differences.join("\n  ")
            )));
        }
        // Settings first: a study that is killed while it packs goes on with the same.
        write_toml(&out.join(STUDY), grid.to_toml())?;
        write_toml(&packs.join(DATA_FILE), toml::to_string(&config).map_err(|error| error.to_string()))?;
        let mut progress = Progress::new();
        let data = prepare(&mut config, &packs, &progress)?;
        write_toml(&packs.join(DATA_FILE), toml::to_string(&config).map_err(|error| error.to_string()))?;
        tell_unknown(&data, &progress);
        progress.end();
        let config = packed(&config, &packs);
        Ok(Folder { out: out.to_path_buf(), data, config, asked, lock })
    }

    /// Its tunes with their names.
    pub fn texts(&self) -> Texts {
        texts(&self.data)
    }
}

/// The tunes of a study that has been run into `out`.
pub fn data_texts(out: &Path) -> Result<Texts, StudyError> {
    let missing = || StudyError::Damaged {
        path: out.to_path_buf(),
        problem: "no study here: it has no data/data.toml; run `songrnn-fast study` into it first".into(),
    };
    let mut config = stored_data(out)?.ok_or_else(missing)?;
    Ok(texts(&prepare(&mut config, &out.join(DATA), &Progress::quiet())?))
}

/// Names and texts of training and held-out tunes.
pub fn texts(data: &TrainData) -> Texts {
    let named = |part: &Part, of: &str| {
        let tune = |(number, &tune): (usize, &u32)| {
            let text = part.pack.text(tune as usize);
            let title = text.lines().find_map(|line| line.strip_prefix("T:")).map(str::trim);
            let name = match title.filter(|title| !title.is_empty()) {
                Some(title) => title.to_string(),
                None => format!("{of} tune {number}"),
            };
            (name, text)
        };
        (1..).zip(&part.tunes).map(tune).collect()
    };
    let held_out = match (&data.val, &data.test) {
        (Some(part), _) => named(part, "validation"),
        (None, Some(part)) => named(part, "test"),
        (None, None) => Vec::new(),
    };
    Texts { train: named(&data.train, "training"), held_out }
}

/// The packs of the study, made or opened.
fn prepare(config: &mut DataConfig, packs: &Path, progress: &Progress) -> Result<TrainData, StudyError> {
    let mut run = some_run(config.clone());
    let data = data::prepare(&mut run, packs, progress)?;
    *config = run.data;
    Ok(data)
}

/// Packing wants a run's configuration; of it, it reads the data and completes data and vocabulary.
fn some_run(data: DataConfig) -> RunConfig {
    let grid = Grid::paper();
    let config = grid.run_config(&grid.baseline, 1, data, 1, crate::engine::Device::Cpu);
    RunConfig { model: ModelShape { vocab: 0, ..config.model }, ..config }
}

/// The data of a trial: the study's packs instead of the files that they were made of, so that thirty trials do not
/// pack the same text thirty times.
fn packed(config: &DataConfig, packs: &Path) -> DataConfig {
    let instead = |name: &str, given: &[PathBuf]| {
        let pack = packs.join(name);
        let pack = std::path::absolute(&pack).unwrap_or(pack);
        if pack.exists() { vec![pack] } else { given.to_vec() }
    };
    let or_none = |name: &str, given: &[PathBuf]| {
        if given.is_empty() { Vec::new() } else { instead(name, given) }
    };
    DataConfig {
        train: instead("corpus.pack", &config.train),
        val: or_none("val.pack", &config.val),
        test: or_none("test.pack", &config.test),
        keep_duplicates: config.keep_duplicates,
        ..DataConfig::default()
    }
}

fn of_paths(asked: &StudyData) -> DataConfig {
    DataConfig {
        train: asked.train.clone(),
        val: asked.val.clone(),
        test: asked.test.clone(),
        ..DataConfig::default()
    }
}

fn data_differences(has: &DataConfig, asked: &StudyData) -> Vec<String> {
    let list = |paths: &[PathBuf], none: &str| {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        if names.is_empty() { none.to_string() } else { names.join(" ") }
    };
    [
        ("DATA", &has.train, &asked.train, "the built-in tunebook"),
        ("--val", &has.val, &asked.val, "none"),
        ("--test", &has.test, &asked.test, "none"),
    ]
    .into_iter()
    .filter(|(_, has, asked, _)| has != asked)
    .map(|(flag, has, asked, none)| {
        format!("{flag}: the study has {}, asked for {}", list(has, none), list(asked, none))
    })
    .collect()
}

fn stored_data(out: &Path) -> Result<Option<DataConfig>, StudyError> {
    let path = out.join(DATA).join(DATA_FILE);
    match read(&path)? {
        None => Ok(None),
        Some(text) => toml::from_str(&text).map(Some).map_err(|error| StudyError::Damaged {
            path,
            problem: format!("damaged, or of another version: {}", error.to_string().trim_end()),
        }),
    }
}

/// A folder of something else gets no file from us. What a study that was killed at its very start left is ours.
fn refuse_occupied(out: &Path) -> Result<(), StudyError> {
    let entries = match fs::read_dir(out) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(io_error("read the folder", out, source)),
    };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = name == crate::train::lock::LOCK || name == DATA || name.starts_with('.');
        if !ours {
            return Err(StudyError::Usage(format!(
                "{} is not empty and holds no study (it holds {name}); choose a new or empty folder as --out",
                out.display()
            )));
        }
    }
    Ok(())
}

/// Characters that no model of the study can know: said once, not by each trial.
fn tell_unknown(data: &TrainData, progress: &Progress) {
    for (name, part) in [("validation", &data.val), ("test", &data.test)] {
        let Some(part) = part else { continue };
        let (count, characters) = part.unknown(&data.vocab);
        if count > 0 {
            let list: String = characters.iter().take(20).collect();
            progress.say(&format!(
                "note: {count} {name} characters are not in the training tunes and are read as <unk>: {list:?}"
            ));
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, StudyError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(source) => Err(io_error("read", path, source)),
    }
}

fn write_toml(path: &Path, text: Result<String, String>) -> Result<(), StudyError> {
    let text = text.map_err(|problem| StudyError::Damaged {
        path: path.to_path_buf(),
        problem: format!("{problem} (is a path not valid Unicode?)"),
    })?;
    Ok(crate::files::write_atomic(path, text.as_bytes())?)
}

fn absolute(paths: &[PathBuf]) -> Result<Vec<PathBuf>, StudyError> {
    paths
        .iter()
        .map(|path| std::path::absolute(path).map_err(|source| io_error("find", path, source)))
        .collect()
}

/// A file or folder of the study, with what was to be done.
pub(super) fn io_error(action: &'static str, path: &Path, source: io::Error) -> StudyError {
    TrainError::Io { action, path: path.into(), source }.into()
}
