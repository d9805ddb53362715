//! The assignment's protocol: songs as raw characters, slices inside them, every song once an epoch, each from a zero
//! state, losses held against the f64 reference engine.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex};

use songrnn_fast::engine::reference::ReferenceEngine;
use songrnn_fast::engine::{
    self, Chunk, Device, Engine, EngineError, EngineInfo, EngineSpec, EngineState, Hyper, LayerActivations,
    SampleRequest, SampledTune, Stats, Ticket,
};
use songrnn_fast::model::{ModelShape, init};
use songrnn_fast::study::assignment::{LR, chunk_of};
use songrnn_fast::study::grid::Grid;
use songrnn_fast::study::schedule::{self, StudyData};
use songrnn_fast::study::songs::{Draw, SLICE, Songs, of_files, of_text, slice};

/// The real engine, with what it was trained on written down.
struct Recorder {
    inner: Box<dyn Engine>,
    trained: Arc<Mutex<Vec<(Chunk, Hyper)>>>,
}

impl Engine for Recorder {
    fn train_chunk(&mut self, chunk: &Chunk, hyper: &Hyper) -> Result<Ticket, EngineError> {
        self.trained.lock().unwrap().push((chunk.clone(), *hyper));
        self.inner.train_chunk(chunk, hyper)
    }
    fn sync(&mut self, ticket: Ticket) -> Result<Stats, EngineError> {
        self.inner.sync(ticket)
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

/// Songs that can be told apart by any slice: each has letters of its own.
fn own_letters(songs: std::ops::Range<u32>) -> String {
    let letter = |song: u32, at: u32| char::from_u32(0x4e00 + song * 3 + at * at % 3).unwrap();
    songs
        .map(|song| {
            let text: String = (0..60 + song * 5).map(|at| letter(song, at)).collect();
            format!("<start>\nX:{song}\nK:G\n{text}\n<end>\n")
        })
        .collect()
}

#[test]
fn every_song_once_an_epoch_each_slice_from_a_zero_state_and_the_losses_are_the_references() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let text = own_letters(0..12) + "<start>\nX:99\nK:too short\n<end>\n";
    let train = file("train.txt", &text);
    // Two of its characters are not in the training songs: 43 of one, 2 of the other.
    let unknown = format!("~~ä~~ä{}", "~".repeat(39));
    let val = file("val.txt", &(own_letters(3..6) + &format!("<start>\nK:G\n{unknown}\n<end>")));
    let grid = Grid::from_toml(
        "protocols = ['assignment']\nseeds = [5]\nassignment_epochs = 3\n[[experiment]]\nname = 'a'\nhidden = 7\n",
    )
    .unwrap();
    let trained = Arc::new(Mutex::new(Vec::new()));
    let build = |spec: &EngineSpec| -> Result<Box<dyn Engine>, EngineError> {
        Ok(Box::new(Recorder { inner: engine::build(spec)?, trained: trained.clone() }))
    };
    let data = StudyData { train: vec![train.clone()], val: vec![val.clone()], test: vec![] };
    let out = folder.path().join("out");
    let ended = schedule::run_with(&grid, &data, &out, 1, Device::Cpu, &build, &|| false).unwrap();
    let trial = &ended.results.trials[0];
    let songs = Songs::new(&of_files(&[train]).unwrap(), &of_files(&[val]).unwrap()).unwrap();
    assert_eq!((songs.train.len(), songs.val.len()), (12, 4), "the short song does not count");
    let unk = songs.vocab.unk().unwrap();
    assert_eq!(songs.val[3].iter().filter(|id| **id == unk).count(), 45, "unknown characters have a place");
    assert!(songs.train.iter().flatten().all(|id| *id > unk), "<start> is spelled out");

    // What the engine was given.
    let trained = trained.lock().unwrap();
    assert_eq!(trained.len(), 3 * 12, "one update a song");
    let mut orders = Vec::new();
    let mut starts = BTreeSet::new();
    for epoch in trained.chunks(12) {
        let song_of = |chunk: &Chunk| {
            let mut characters = chunk.ids.clone();
            characters.push(chunk.targets[SLICE - 1]);
            let found: Vec<(usize, usize)> = songs
                .train
                .iter()
                .enumerate()
                .filter_map(|(n, song)| Some((n, song.windows(SLICE + 1).position(|w| w == characters)?)))
                .collect();
            assert!(!found.is_empty(), "a slice that is inside no song: {characters:?}");
            starts.insert(found[0]);
            found[0].0
        };
        let order: Vec<usize> = epoch.iter().map(|(chunk, _)| chunk).map(song_of).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..12).collect::<Vec<_>>(), "every song once");
        orders.push(order);
    }
    assert!(orders[0] != orders[1] && orders[1] != orders[2], "shuffled anew each epoch");
    assert!(starts.len() > 24, "slices begin anywhere: {starts:?}");
    for (chunk, hyper) in trained.iter() {
        assert_eq!((chunk.steps, chunk.streams, chunk.predicted()), (SLICE, 1, SLICE));
        assert_eq!(chunk.targets[..SLICE - 1], chunk.ids[1..]);
        assert_eq!((chunk.resets[0], chunk.resets[1..].iter().max()), (1, Some(&0)), "from a zero state");
        assert_eq!((hyper.lr, hyper.clip), (LR, 0.0));
    }

    // The same training by the f64 reference engine, and validation one slice at a time from a new engine's zero state.
    let shape = ModelShape {
        vocab: songs.vocab.len(),
        hidden: 7,
        ..ModelShape { cell: grid.baseline.cell, vocab: 1, hidden: 1, layers: 1 }
    };
    let mut reference = ReferenceEngine::new(shape);
    reference.load_params(&init::uniform(&shape, 5)).unwrap();
    // Rounding of float32 over 36 updates; 1e-7 was measured.
    const TOLERANCE: f64 = 1e-5;
    let mut best = f64::INFINITY;
    for (epoch, (some, point)) in trained.chunks(12).zip(&trial.curve).enumerate() {
        let mut sum = 0.0;
        for (chunk, hyper) in some {
            let ticket = reference.train_chunk(chunk, hyper).unwrap();
            sum += reference.sync(ticket).unwrap().loss_sum;
        }
        let train = sum / (12 * SLICE) as f64;
        assert!((train - point.train.unwrap()).abs() < TOLERANCE, "epoch {epoch}: {train} {point:?}");
        let mut validation = 0.0;
        for (index, song) in songs.val.iter().enumerate() {
            let mut fresh = ReferenceEngine::new(shape);
            fresh.load_params(&reference.export_params().unwrap()).unwrap();
            let mut chunk = chunk_of(&[slice(song, 5, Draw::Validation, epoch as u64, index)]);
            // A new engine's state is zero: no reset is needed.
            chunk.resets.fill(0);
            let losses = fresh.eval_each(&chunk).unwrap();
            assert_eq!(losses.len(), SLICE);
            validation += losses.iter().map(|l| f64::from(*l)).sum::<f64>();
        }
        validation /= (songs.val.len() * SLICE) as f64;
        assert!(
            (validation - point.validation.unwrap()).abs() < TOLERANCE,
            "epoch {epoch}: {validation} {point:?}"
        );
        if validation < best {
            best = validation;
            // Whole songs under the best epoch's weights.
            let (mut whole, mut n) = (0.0, 0);
            for song in &songs.val {
                let losses = reference.eval_each(&chunk_of(&[song])).unwrap();
                whole += losses.iter().map(|l| f64::from(*l)).sum::<f64>();
                n += losses.len();
            }
            if trial.best_epoch == (epoch + 1) as f64 {
                let found = trial.validation.unwrap();
                assert_eq!(found.chars as usize, n);
                assert!((found.nats - whole / n as f64).abs() < TOLERANCE);
            }
        }
    }
    assert!((best - trial.slices.unwrap()).abs() < TOLERANCE);
}

#[test]
fn slices_are_functions_of_seed_use_epoch_and_song() {
    let song: Vec<u16> = (0..200).collect();
    let first = |seed, draw, epoch, index| slice(&song, seed, draw, epoch, index)[0];
    let mut begins = BTreeSet::new();
    for epoch in 0..4000 {
        let slice = slice(&song, 1, Draw::Train, epoch, 0);
        assert_eq!(slice.len(), SLICE + 1);
        assert!(slice.windows(2).all(|pair| pair[1] == pair[0] + 1));
        begins.insert(slice[0]);
    }
    assert_eq!(
        (begins.len(), begins.last()),
        (170, Some(&169)),
        "every place that leaves room, the last one too"
    );
    let base = first(1, Draw::Train, 0, 0);
    assert_eq!(base, first(1, Draw::Train, 0, 0));
    let others = [
        first(2, Draw::Train, 0, 0),
        first(1, Draw::Validation, 0, 0),
        first(1, Draw::Train, 1, 0),
        first(1, Draw::Train, 1 << 32, 0),
        first(1, Draw::Train, 0, 1),
    ];
    assert!(others.iter().all(|other| *other != base), "{base} {others:?}");
    assert_eq!(slice(&song[..31], 1, Draw::Train, 0, 0).len(), 31, "the only slice there is");
    assert_eq!(slice(&song[..3], 1, Draw::Train, 0, 0).len(), 3);
}

#[test]
fn songs_keep_their_delimiters_and_every_character() {
    let text =
        "out\n<start>\nX:1\nT:a  \n\nK:D\nab\n<end>\nout\n\n<start> \nb\n<start>\nc\n<end>\n<start>\nd\n";
    assert_eq!(
        of_text(text),
        ["<start>\nX:1\nT:a  \n\nK:D\nab\n<end>\n", "<start> \nb\n", "<start>\nc\n<end>\n", "<start>\nd\n"]
    );
    assert_eq!(
        of_text("<start>\na\n<end>"),
        ["<start>\na\n<end>\n"],
        "without the file's last line end, too"
    );
    assert_eq!(
        of_text("X:1\nK:C\nab\n\nX:2\nK:D\ncd\n"),
        ["<start>\nX:1\nK:C\nab\n<end>\n", "<start>\nX:2\nK:D\ncd\n<end>\n"]
    );
    assert!(of_text("").is_empty());
    let error = Songs::new(&["<start>\nshort\n<end>\n".into()], &[]).unwrap_err().to_string();
    assert!(error.contains("more than 40 characters"), "{error}");
}
