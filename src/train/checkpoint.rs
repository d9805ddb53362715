//! `last.safetensors`: a model file with, behind the model's tensors, all that resuming needs: the optimiser's
//! moments (`optim.*`), the carried hidden state (`state.*`), the last good state that a rollback goes back to
//! (`good.*`) and, as metadata `training`, the loop's state.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::state::{Counters, LoopState};
use crate::corpus::Vocab;
use crate::engine::EngineState;
use crate::model::file::{LAST, ModelFile, ModelFileError, ModelProblem};
use crate::model::tensors::{TensorError, TensorFile, TensorRef};

/// Metadata key of the loop's state.
const TRAINING: &str = "training";

/// A checkpoint, in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Vocabulary of the model.
    pub vocab: Vocab,
    /// The engine's state.
    pub engine: EngineState,
    /// What a rollback goes back to; none where it is the engine's state itself. Its hidden state is empty.
    pub good: Option<EngineState>,
    /// The loop's state.
    pub state: LoopState,
    /// The run's configuration as JSON.
    pub config: serde_json::Value,
    /// The model's shape.
    pub shape: crate::model::ModelShape,
}

/// Why a checkpoint cannot be resumed from.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file.
    #[error(transparent)]
    File(#[from] ModelFileError),
    /// A model file without what resuming needs, or with parts that do not fit.
    #[error("{}: {problem}; it cannot be resumed from (sampling from it may work)", path.display())]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Training {
    state: LoopState,
    engine: Counters,
    good: Option<Counters>,
}

impl Checkpoint {
    /// Writes `last.safetensors` into a run folder.
    pub fn save(&self, folder: &Path) -> Result<(), CheckpointError> {
        let path = folder.join(LAST);
        let training = Training {
            state: self.state.clone(),
            engine: Counters::of(&self.engine),
            good: self.good.as_ref().map(Counters::of),
        };
        let text = serde_json::to_string(&training).map_err(|error| refuse(&path, error))?;
        let mut more = vec![
            tensor("optim.moment1", &self.engine.moments[0]),
            tensor("optim.moment2", &self.engine.moments[1]),
            tensor("state.h", &self.engine.h),
            tensor("state.c", &self.engine.c),
        ];
        if let Some(good) = &self.good {
            more.push(tensor("good.params", &good.params));
            more.push(tensor("good.moment1", &good.moments[0]));
            more.push(tensor("good.moment2", &good.moments[1]));
        }
        let model = ModelFile {
            shape: self.shape,
            vocab: self.vocab.clone(),
            config: self.config.clone(),
            params: self.engine.params.clone(),
        };
        model.save_with(&path, &BTreeMap::from([(TRAINING.to_string(), text)]), &more)?;
        Ok(())
    }

    /// Reads a run folder's `last.safetensors`; none where there is no such file yet.
    pub fn load(folder: &Path) -> Result<Option<Checkpoint>, CheckpointError> {
        let path = folder.join(LAST);
        let (model, mut file) = match ModelFile::load_with(&path) {
            Ok(loaded) => loaded,
            Err(ModelFileError { problem: ModelProblem::NotFound, .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let text = file.metadata().get(TRAINING).ok_or_else(|| {
            refuse(&path, "it is a model without training state (no `training` in its metadata)")
        })?;
        let training: Training = serde_json::from_str(text).map_err(|error| refuse(&path, error))?;
        let mut read = |name: &str| read(&mut file, &path, name);
        let mut engine = EngineState {
            params: model.params,
            moments: [read("optim.moment1")?, read("optim.moment2")?],
            h: read("state.h")?,
            c: read("state.c")?,
            ..EngineState::default()
        };
        training.engine.into(&mut engine);
        let good = match training.good {
            None => None,
            Some(counters) => {
                let mut good = EngineState {
                    params: read("good.params")?,
                    moments: [read("good.moment1")?, read("good.moment2")?],
                    ..EngineState::default()
                };
                counters.into(&mut good);
                Some(good)
            }
        };
        Ok(Some(Checkpoint {
            vocab: model.vocab,
            engine,
            good,
            state: training.state,
            config: model.config,
            shape: model.shape,
        }))
    }
}

fn refuse(path: &Path, problem: impl ToString) -> CheckpointError {
    CheckpointError::NotACheckpoint { path: path.into(), problem: problem.to_string() }
}

/// A tensor of one dimension: what its sizes mean is the engine's business.
fn tensor<'a>(name: &str, data: &'a [f32]) -> TensorRef<'a> {
    TensorRef { name: name.into(), dims: vec![data.len()], data }
}

fn read(file: &mut TensorFile, path: &Path, name: &str) -> Result<Vec<f32>, CheckpointError> {
    let length = match file.dims(name) {
        Some(&[length]) => length,
        Some(dims) => {
            return Err(refuse(path, format!("tensor `{name}` is {dims:?}, expected one dimension")));
        }
        None => return Err(refuse(path, format!("it has no tensor `{name}`"))),
    };
    file.read(name, &[length]).map_err(|error: TensorError| refuse(path, error))
}
