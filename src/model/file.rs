//! The model file: safetensors with the weights under PyTorch's names and, as metadata strings, `format`, `config`
//! (JSON) and `vocab` (a JSON array, index -> token). It opens in `torch.nn.LSTM`, and one made there opens here.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::{Value, json};

use super::tensors::{self, TensorError, TensorFile, TensorRef};
use super::{CellKind, ModelShape};
use crate::corpus::Vocab;
use crate::files::AtomicFile;

/// The `format` that this program writes and reads.
pub const FORMAT: &str = "songrnn-fast/1";

/// File name of the weights with the lowest validation loss, in a run folder.
pub const BEST: &str = "best.safetensors";

/// File name of the checkpoint that resuming starts from, in a run folder; it is a model file too.
pub const LAST: &str = "last.safetensors";

/// A trained model: all that sampling and evaluating need.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFile {
    /// Its sizes.
    pub shape: ModelShape,
    /// Id <-> token, V entries.
    pub vocab: Vocab,
    /// The run's configuration; `model` in it holds the shape.
    pub config: Value,
    /// Weights in arena order `[params]`.
    pub params: Vec<f32>,
}

/// Why a model file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct ModelFileError {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it; part of the message, so not its source.
    pub problem: ModelProblem,
}

/// What can be wrong with a model file.
#[derive(Debug, thiserror::Error)]
pub enum ModelProblem {
    /// Nothing there.
    #[error("no such file or folder; train a model first, or name a run folder or a .safetensors file")]
    NotFound,
    /// No run was found and none was named.
    #[error(
        "no run with a checkpoint in this folder; train a model first (`songrnn-fast train`) or name one with --model"
    )]
    NoRun,
    /// A folder that holds no checkpoint.
    #[error(
        "this folder has neither best.safetensors nor last.safetensors: no checkpoint was saved in it yet"
    )]
    NoCheckpoint,
    /// The system refused to write.
    #[error("cannot be written ({0}); a file that stood there before is intact")]
    Write(io::Error),
    /// The container: not safetensors, truncated, damaged, a tensor missing or of other dimensions or type.
    #[error(transparent)]
    Tensors(#[from] TensorError),
    /// A safetensors file that this program did not write.
    #[error(
        "a model file from elsewhere: it has no `{missing}` in its metadata (tensors: {tensors}); songrnn-fast needs `format` = \"songrnn-fast/1\", `config` with model.cell, model.hidden and model.layers as JSON, and `vocab` as a JSON array of tokens"
    )]
    Foreign {
        /// The first metadata string that is missing.
        missing: &'static str,
        /// Tensors that are there.
        tensors: String,
    },
    /// Another version of the format.
    #[error(
        "its format is {found:?}, this program reads \"songrnn-fast/1\"; use the program version that wrote it"
    )]
    Version {
        /// Format found.
        found: String,
    },
    /// The `config` string is not what it should be.
    #[error("its `config` is damaged: {0}")]
    Config(String),
    /// The `vocab` string is not what it should be.
    #[error("its `vocab` is damaged: {0}")]
    Vocab(String),
    /// Sizes that no model can have.
    #[error("its shape is impossible: {0}")]
    Shape(String),
    /// The vocabulary does not fit the weights.
    #[error("its vocabulary has {vocab} tokens, its weights are for {weights}")]
    VocabSize {
        /// Tokens in `vocab`.
        vocab: usize,
        /// Rows of head.weight.
        weights: usize,
    },
    /// A weight that is not a number.
    #[error("tensor `{tensor}` holds {value} at element {index}; training went wrong or the file is damaged")]
    NotFinite {
        /// Tensor's name.
        tensor: String,
        /// Index within the tensor.
        index: usize,
        /// The value.
        value: f32,
    },
    /// Weights that do not fit the shape (a mistake of the caller's, before writing).
    #[error("{found} weights to be written, the shape has {expected}")]
    Length {
        /// Parameters of the shape.
        expected: usize,
        /// Parameters given.
        found: usize,
    },
}

impl ModelFileError {
    fn new(path: &Path, problem: impl Into<ModelProblem>) -> ModelFileError {
        ModelFileError { path: path.into(), problem: problem.into() }
    }
}

impl From<io::Error> for ModelProblem {
    fn from(error: io::Error) -> ModelProblem {
        if error.kind() == io::ErrorKind::NotFound {
            ModelProblem::NotFound
        } else {
            ModelProblem::Tensors(error.into())
        }
    }
}

impl ModelFile {
    /// Writes the file: to a temporary name beside `path`, synced, renamed.
    pub fn save(&self, path: &Path) -> Result<(), ModelFileError> {
        self.save_with(path, &BTreeMap::new(), &[])
    }

    /// As [`ModelFile::save`], with further metadata and tensors behind the model's own (a checkpoint).
    pub fn save_with(
        &self,
        path: &Path,
        metadata: &BTreeMap<String, String>,
        more: &[TensorRef<'_>],
    ) -> Result<(), ModelFileError> {
        let fail = |problem: ModelProblem| ModelFileError::new(path, problem);
        let expected = self.shape.params();
        if self.params.len() != expected {
            return Err(fail(ModelProblem::Length { expected, found: self.params.len() }));
        }
        if self.vocab.len() != self.shape.vocab {
            let (vocab, weights) = (self.vocab.len(), self.shape.vocab);
            return Err(fail(ModelProblem::VocabSize { vocab, weights }));
        }
        let mut all = metadata.clone();
        all.insert("format".into(), FORMAT.into());
        all.insert("config".into(), self.config_with_shape().to_string());
        all.insert("vocab".into(), json!(self.vocab.tokens()).to_string());

        let zeros = vec![0.0f32; self.shape.gate_rows()];
        let mut list = Vec::new();
        for spec in self.shape.tensors() {
            let recurrent = recurrent_bias_of(&self.shape, &spec.name);
            let dims = spec.dims.clone();
            list.push(TensorRef { name: spec.name, dims: spec.dims, data: &self.params[spec.range] });
            if let Some(name) = recurrent {
                list.push(TensorRef { name, dims, data: &zeros });
            }
        }
        list.extend_from_slice(more);
        write_file(path, &all, &list).map_err(|error| fail(ModelProblem::Write(error)))
    }

    /// Reads and checks a model file.
    pub fn load(path: &Path) -> Result<ModelFile, ModelFileError> {
        ModelFile::load_with(path).map(|(model, _)| model)
    }

    /// As [`ModelFile::load`]; also gives the open file, from which a checkpoint's further tensors are read.
    pub fn load_with(path: &Path) -> Result<(ModelFile, TensorFile), ModelFileError> {
        Self::read(path).map_err(|problem| ModelFileError::new(path, problem))
    }

    fn read(path: &Path) -> Result<(ModelFile, TensorFile), ModelProblem> {
        let mut file = TensorFile::open(path).map_err(|error| match error {
            TensorError::Io(io) => ModelProblem::from(io),
            other => ModelProblem::Tensors(other),
        })?;
        let text = |key: &'static str| {
            file.metadata().get(key).cloned().ok_or_else(|| {
                let names = file.names();
                let shown: Vec<&str> = names.iter().take(6).map(String::as_str).collect();
                let dots = if names.len() > shown.len() { ", ..." } else { "" };
                ModelProblem::Foreign { missing: key, tensors: format!("{}{dots}", shown.join(", ")) }
            })
        };
        let format = text("format")?;
        if format != FORMAT {
            return Err(ModelProblem::Version { found: format.chars().take(80).collect() });
        }
        let config: Value =
            serde_json::from_str(&text("config")?).map_err(|e| ModelProblem::Config(e.to_string()))?;
        let sizes = Sizes::deserialize(&config["model"]).map_err(|e| {
            ModelProblem::Config(format!("model: {e} (model.cell, model.hidden, model.layers)"))
        })?;
        let tokens: Vec<String> =
            serde_json::from_str(&text("vocab")?).map_err(|e| ModelProblem::Vocab(e.to_string()))?;
        let vocab = Vocab::from_tokens(tokens).map_err(|e| ModelProblem::Vocab(e.to_string()))?;
        let shape =
            ModelShape { cell: sizes.cell, vocab: vocab.len(), hidden: sizes.hidden, layers: sizes.layers };
        shape.check().map_err(ModelProblem::Shape)?;
        if let Some(&[weights, _]) = file.dims("head.weight")
            && weights != vocab.len()
        {
            return Err(ModelProblem::VocabSize { vocab: vocab.len(), weights });
        }
        let params = read_params(&shape, &mut file)?;
        Ok((ModelFile { shape, vocab, config, params }, file))
    }

    /// The configuration with `model` = the shape, so that a file always tells what its tensors are.
    fn config_with_shape(&self) -> Value {
        let mut config = self.config.clone();
        if !config.is_object() {
            config = json!({});
        }
        config["model"] = json!(self.shape);
        config
    }
}

/// The part of `config` that a reader must have.
#[derive(Deserialize)]
struct Sizes {
    cell: CellKind,
    hidden: usize,
    layers: usize,
}

fn write_file(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    list: &[TensorRef<'_>],
) -> Result<(), io::Error> {
    let mut file = AtomicFile::create(path).map_err(|error| error.source)?;
    let mut out = BufWriter::with_capacity(1 << 18, file.file());
    tensors::write(&mut out, metadata, list)?;
    out.flush()?;
    drop(out);
    file.commit().map_err(|error| error.source)
}

/// For `rnn.bias_ih_l{k}` of a cell that trains one bias: the name under which the other is written as zeros.
fn recurrent_bias_of(shape: &ModelShape, name: &str) -> Option<String> {
    let one = !shape.cell.trains_recurrent_bias();
    name.strip_prefix("rnn.bias_ih_l").filter(|_| one).map(|layer| format!("rnn.bias_hh_l{layer}"))
}

/// Reads every trained tensor into an arena. A file made by PyTorch has two biases a layer; where one is trained
/// here, it is their sum.
fn read_params(shape: &ModelShape, file: &mut TensorFile) -> Result<Vec<f32>, ModelProblem> {
    let specs = shape.tensors();
    // Before the arena is allocated: the file must hold tensors of these sizes, so memory is bounded by its length.
    for spec in &specs {
        match file.dims(&spec.name) {
            None => {
                let (name, dims) = (spec.name.clone(), spec.dims.clone());
                return Err(TensorError::Missing { name, dims }.into());
            }
            Some(found) if found != spec.dims => {
                let (expected, found) = (spec.dims.clone(), found.to_vec());
                return Err(TensorError::Dims { name: spec.name.clone(), expected, found }.into());
            }
            Some(_) => {}
        }
    }
    let mut params = Vec::new();
    let bytes = 4 * shape.params() as u64;
    params
        .try_reserve_exact(shape.params())
        .map_err(|_| TensorError::Memory { name: "all weights".into(), bytes })?;
    for spec in specs {
        let mut values = file.read(&spec.name, &spec.dims)?;
        if let Some(name) = recurrent_bias_of(shape, &spec.name) {
            for (value, other) in values.iter_mut().zip(file.read(&name, &spec.dims)?) {
                // Adding 0.0 would turn -0.0 into 0.0, and resuming is bit for bit.
                if other != 0.0 {
                    *value += other;
                }
            }
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(ModelProblem::NotFinite { tensor: spec.name, index, value: values[index] });
        }
        params.append(&mut values);
    }
    Ok(params)
}

/// Finds a model file: `what` is a file, a run folder (its best.safetensors, else its last.safetensors), or nothing:
/// then the newest run under `runs/`.
pub fn locate(what: Option<&Path>) -> Result<PathBuf, ModelFileError> {
    match what {
        Some(path) => locate_in(path),
        None => newest_run(Path::new("runs")),
    }
}

fn locate_in(path: &Path) -> Result<PathBuf, ModelFileError> {
    let about = fs::metadata(path).map_err(|error| ModelFileError::new(path, error))?;
    if !about.is_dir() {
        return Ok(path.into());
    }
    match checkpoint_of(path) {
        Some((file, _)) => Ok(file),
        None => Err(ModelFileError::new(path, ModelProblem::NoCheckpoint)),
    }
}

/// The run under `runs` whose checkpoint was written last; the last name among equals.
fn newest_run(runs: &Path) -> Result<PathBuf, ModelFileError> {
    let entries = match fs::read_dir(runs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ModelFileError::new(runs, ModelProblem::NoRun));
        }
        Err(error) => return Err(ModelFileError::new(runs, error)),
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| checkpoint_of(&entry.path()).map(|(file, time)| (time, file)))
        .max()
        .map(|(_, file)| file)
        .ok_or_else(|| ModelFileError::new(runs, ModelProblem::NoRun))
}

fn checkpoint_of(run: &Path) -> Option<(PathBuf, SystemTime)> {
    [BEST, LAST].iter().find_map(|name| {
        let file = run.join(name);
        let about = fs::metadata(&file).ok().filter(fs::Metadata::is_file)?;
        Some((file, about.modified().unwrap_or(SystemTime::UNIX_EPOCH)))
    })
}
