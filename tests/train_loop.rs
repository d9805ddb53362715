//! The loop under an engine that goes wrong at chosen steps: skipped updates, rollbacks, giving up; and that a stop
//! after every few steps, rollbacks in between or not, changes no bit.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::Value;
use songrnn_fast::config::{DataConfig, RunConfig, TrainingConfig};
use songrnn_fast::engine::{
    self, Chunk, Engine, EngineError, EngineInfo, EngineSpec, EngineState, Hyper, LayerActivations,
    Precision, SampleRequest, SampledTune, Stats, Ticket,
};
use songrnn_fast::model::{CellKind, ModelFile, ModelShape};
use songrnn_fast::optim::{Optimizer, Schedule};
use songrnn_fast::train::begin::{self, Session};
use songrnn_fast::train::evaluate::{Part, Reported, evaluate};
use songrnn_fast::train::progress::Progress;
use songrnn_fast::train::trainer::Ended;
use songrnn_fast::train::{TrainError, state::Finish};

/// The real engine, but at these steps (from 1) the update is skipped and the loss is this.
struct Poisoned {
    inner: Box<dyn Engine>,
    seq_len: u64,
    steps: RangeInclusive<u64>,
    loss: f64,
    tickets: HashMap<u64, bool>,
}

impl Engine for Poisoned {
    fn train_chunk(&mut self, chunk: &Chunk, hyper: &Hyper) -> Result<Ticket, EngineError> {
        // The step from the dropout counter's time, so that a resumed run is poisoned at the same steps.
        let poisoned = self.steps.contains(&(hyper.time / self.seq_len + 1));
        let skip_above = if poisoned { -1.0 } else { hyper.skip_above };
        let ticket = self.inner.train_chunk(chunk, &Hyper { skip_above, ..*hyper })?;
        self.tickets.insert(ticket.0, poisoned);
        Ok(ticket)
    }
    fn sync(&mut self, ticket: Ticket) -> Result<Stats, EngineError> {
        let mut stats = self.inner.sync(ticket)?;
        if self.tickets.remove(&ticket.0) == Some(true) {
            assert!(!stats.updated);
            stats.loss_sum = self.loss * stats.predicted as f64;
        }
        Ok(stats)
    }
    fn info(&self) -> EngineInfo {
        self.inner.info()
    }
    fn shape(&self) -> ModelShape {
        self.inner.shape()
    }
    fn load_params(&mut self, params: &[f32]) -> Result<(), EngineError> {
        self.inner.load_params(params)
    }
    fn export_params(&self) -> Result<Vec<f32>, EngineError> {
        self.inner.export_params()
    }
    fn grad_chunk(&mut self, chunk: &Chunk, hyper: &Hyper) -> Result<(Stats, Vec<f32>), EngineError> {
        self.inner.grad_chunk(chunk, hyper)
    }
    fn eval_chunk(&mut self, chunk: &Chunk) -> Result<Ticket, EngineError> {
        self.inner.eval_chunk(chunk)
    }
    fn eval_each(&mut self, chunk: &Chunk) -> Result<Vec<f32>, EngineError> {
        self.inner.eval_each(chunk)
    }
    fn step(&mut self, ids: &[u16], resets: &[u8], logits: &mut [f32]) -> Result<(), EngineError> {
        self.inner.step(ids, resets, logits)
    }
    fn sample(&mut self, request: &SampleRequest) -> Result<Vec<SampledTune>, EngineError> {
        self.inner.sample(request)
    }
    fn tap(&mut self, ids: &[u16]) -> Result<Vec<LayerActivations>, EngineError> {
        self.inner.tap(ids)
    }
    fn save_state(&self) -> Result<EngineState, EngineError> {
        self.inner.save_state()
    }
    fn load_state(&mut self, state: &EngineState) -> Result<(), EngineError> {
        self.inner.load_state(state)
    }
}

const SEQ_LEN: usize = 12;

/// Never poisoned.
const HEALTHY: RangeInclusive<u64> = u64::MAX..=u64::MAX;

fn poisoned(
    steps: RangeInclusive<u64>,
    loss: f64,
) -> impl Fn(&EngineSpec) -> Result<Box<dyn Engine>, EngineError> {
    move |spec| {
        Ok(Box::new(Poisoned {
            inner: engine::build(spec)?,
            seq_len: SEQ_LEN as u64,
            steps: steps.clone(),
            loss,
            tickets: HashMap::new(),
        }))
    }
}

fn config(folder: &Path, steps: u64) -> RunConfig {
    let path = folder.join("tunes.abc");
    if !path.exists() {
        let mut text = String::new();
        for tune in 1..=40 {
            text += &format!("X:{tune}\nT:{tune}\nK:G\n");
            for bar in 0..4 + tune % 5 {
                text += ["GABc d2e2|", "edcB A2G2|", "G4 z4|"][(tune * 7 + bar * bar) % 3];
            }
            text += "\n\n";
        }
        std::fs::write(&path, text).unwrap();
    }
    RunConfig {
        version: "test".into(),
        model: ModelShape { cell: CellKind::Gru, vocab: 0, hidden: 10, layers: 1 },
        data: DataConfig { train: vec![path], keep_duplicates: true, ..DataConfig::default() },
        training: TrainingConfig {
            batch: Some(4),
            seq_len: SEQ_LEN,
            epochs: None,
            steps: Some(steps),
            lr: 1e-2,
            min_lr: 0.0,
            warmup: 0,
            schedule: Schedule::Constant,
            decay_every: 10,
            decay: 0.5,
            clip: 5.0,
            weight_decay: 0.0,
            dropout: 0.1,
            patience: None,
            eval_every: Some(30),
            seed: 3,
            precision: Precision::F32,
            threads: 1,
            device: "cpu".into(),
            kernel: "auto".into(),
            save_every: 1e9,
            chosen_kernels: None,
            optimizer: Optimizer::ADAM,
        },
    }
}

fn events(run: &Path, kind: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| kind.is_empty() || event["event"] == kind)
        .map(|mut event| {
            let fields = event.as_object_mut().unwrap();
            fields.remove("seconds");
            fields.remove("chars_per_second");
            event
        })
        .collect()
}

fn begin(folder: &Path, run: &str, steps: u64, build: &begin::EngineBuilder) -> (PathBuf, Session) {
    let out = folder.join(run);
    let session = begin::new(config(folder, steps), Some(&out), build, Progress::quiet()).unwrap();
    (out, session)
}

fn whole(folder: &Path, run: &str, steps: u64, build: &begin::EngineBuilder) -> PathBuf {
    let (out, mut session) = begin(folder, run, steps, build);
    assert_eq!(session.trainer.run(&mut || false).unwrap(), Ended::Finished(Finish::Complete));
    out
}

fn bytes_of_tensors(path: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<_> = file.iter().map(|(name, view)| (name.to_string(), view.data().to_vec())).collect();
    all.sort();
    all
}

#[test]
fn five_bad_steps_roll_back_to_the_last_good_weights_with_half_the_rate() {
    let folder = tempfile::tempdir().unwrap();
    let run = whole(folder.path(), "sick", 100, &poisoned(70..=74, f64::NAN));
    let skips = events(&run, "skip");
    assert_eq!(skips.iter().map(|s| s["step"].as_u64().unwrap()).collect::<Vec<_>>(), [70, 71, 72, 73, 74]);
    assert!(skips[0]["nats_per_char"].is_null());
    let rollbacks = events(&run, "rollback");
    assert_eq!(rollbacks.len(), 1);
    assert_eq!(rollbacks[0]["to_step"], 60, "the last good state is that of the validation at step 60");
    assert!((rollbacks[0]["lr"].as_f64().unwrap() - 5e-3).abs() < 1e-12);

    // What it went back to: a run that ends with the rollback. Step 75 was in flight and is thrown away.
    let out = whole(folder.path(), "look", 75, &poisoned(70..=74, f64::NAN));
    let at_60 = whole(folder.path(), "at60", 60, &poisoned(HEALTHY, 0.0));
    let params = |run: &Path| ModelFile::load(&run.join("last.safetensors")).unwrap().params;
    assert_eq!(params(&out), params(&at_60));
}

#[test]
fn four_bad_steps_and_single_explosions_are_only_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let run = whole(folder.path(), "r", 60, &poisoned(40..=43, 1e6));
    assert_eq!(events(&run, "skip").len(), 4);
    assert!(events(&run, "skip")[0]["limit"].as_f64().unwrap() > 2.0);
    assert!(events(&run, "rollback").is_empty());
}

#[test]
fn rolling_back_in_vain_ends_with_a_clear_error_and_keeps_the_best_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (out, mut session) = begin(folder.path(), "r", 200, &poisoned(65..=9999, f64::INFINITY));
    let error = session.trainer.run(&mut || false).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { rollbacks: 6, .. }), "{error:?}");
    assert!(error.to_string().contains("lower --lr"), "{error}");
    drop(session);
    let best = ModelFile::load(&out.join("best.safetensors")).unwrap();
    assert!(best.params.iter().all(|value| value.is_finite()));
    assert_eq!(events(&out, "rollback").len(), 6);
}

#[test]
fn stopping_after_every_few_steps_changes_no_bit_even_across_a_rollback() {
    let folder = tempfile::tempdir().unwrap();
    let build = poisoned(70..=74, f64::NAN);
    let undisturbed = whole(folder.path(), "whole", 130, &build);
    // An evaluation has to come to its end in one go, and asks up to three times.
    for every in [4, 5, 11] {
        let name = format!("stopped-{every}");
        let (out, session) = begin(folder.path(), &name, 130, &build);
        let mut session = Some(session);
        let mut sessions = 0;
        loop {
            sessions += 1;
            assert!(sessions < 200, "stopped every {every}: no end in sight");
            let mut this = match session.take() {
                Some(session) => session,
                None => begin::resumed(&out, &|_| Ok(()), &build, Progress::quiet()).unwrap(),
            };
            // `stop` is asked before each step and within evaluations.
            let mut asked = 0;
            let ended = this.trainer.run(&mut || {
                asked += 1;
                asked > every
            });
            match ended.unwrap() {
                Ended::Finished(_) => break,
                Ended::Interrupted => {}
            }
        }
        for file in ["last.safetensors", "best.safetensors"] {
            assert_eq!(
                bytes_of_tensors(&out.join(file)),
                bytes_of_tensors(&undisturbed.join(file)),
                "stopped every {every}: {file}"
            );
        }
        assert_eq!(events(&out, ""), events(&undisturbed, ""), "stopped every {every}");
    }
}

#[test]
fn patience_ends_a_run_that_no_longer_improves() {
    let folder = tempfile::tempdir().unwrap();
    let mut patient = config(folder.path(), 100_000);
    patient.training.patience = Some(2);
    patient.training.eval_every = Some(5);
    // A rate at which the loss goes up and down.
    patient.training.lr = 0.1;
    let out = folder.path().join("run");
    let mut session = begin::new(patient, Some(&out), &engine::build, Progress::quiet()).unwrap();
    let mut steps = 0u64;
    let ended = session.trainer.run(&mut || {
        steps += 1;
        steps > 3_000
    });
    assert_eq!(ended.unwrap(), Ended::Finished(Finish::Patience));
    let validations = events(&out, "validation");
    let last = validations.len() - 1;
    assert_eq!(validations[last]["best"], false);
    assert_eq!(validations[last - 1]["best"], false);
    assert_eq!(validations[last - 2]["best"], true);
}

/// The reported loss must not depend on how tunes are dealt to streams: it is compared with one tune at a time,
/// character by character, from a zero state.
#[test]
fn the_reported_loss_is_that_of_each_tune_from_a_zero_state() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut session) = begin(folder.path(), "r", 20, &engine::build);
    session.trainer.run(&mut || false).unwrap();
    let trainer = &mut session.trainer;
    let part: Part = trainer.data.train.clone();
    let reported: Reported = evaluate(trainer.engine.as_mut(), &part, &mut || false).unwrap().unwrap();
    let vocab = trainer.data.vocab.len();
    let (mut sum, mut count) = (0.0f64, 0u64);
    for tokens in part.tokens() {
        let mut logits = vec![0.0f32; vocab];
        for (at, pair) in tokens.windows(2).enumerate() {
            trainer.engine.step(&[pair[0]], &[u8::from(at == 0)], &mut logits).unwrap();
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f64 = logits.iter().map(|l| f64::from(l - max).exp()).sum();
            sum += total.ln() - f64::from(logits[usize::from(pair[1])] - max);
            count += 1;
        }
    }
    assert_eq!((reported.chars, reported.tunes), (count, part.tunes.len() as u64));
    let one_by_one = sum / count as f64;
    // Rounding of the engine's float32 logits; 3e-8 was measured.
    const TOLERANCE: f64 = 1e-6;
    assert!(
        (reported.nats_per_char - one_by_one).abs() < TOLERANCE,
        "{} {one_by_one}",
        reported.nats_per_char
    );
    assert!((reported.bits_per_char - reported.nats_per_char / 2f64.ln()).abs() < 1e-12);
}
