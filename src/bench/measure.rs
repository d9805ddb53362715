//! Measuring a case: an engine warmed up, then whole steps between marks, again and again.
//!
//! A measurement is the time from the end of one group of steps to the end of the next by the engine's own clock (on a
//! GPU the device's), so that launching, waiting and reading the statistics are in it as they are in training. On a
//! GPU statistics are read every [`GPU_STEPS`] steps, as the trainer does; on a processor a group is as many steps as
//! take 5 ms.

use std::time::Instant;

use super::cases::{Case, What};
use super::stats::Summary;
use crate::engine::{
    self, Chunk, Device, Engine, EngineError, EngineInfo, Hyper, Mark, SampleRequest, Ticket,
};
use crate::machine::Others;
use crate::model::init;
use crate::optim::Optimizer;
use crate::rng;
use crate::sample::Choice;

/// Steps between two readings of the statistics on a GPU.
pub const GPU_STEPS: usize = 20;

/// Shortest time of a group of steps on a processor, ms: clocks and interruptions matter less the longer it is.
const CPU_GROUP_MS: f64 = 5.0;

/// Steps before anything is measured: memory is touched, the second captures graphs, the third runs them.
const WARM_UP: usize = 3;

/// Seconds that steps are run before anything is measured, where the budget is longer: clocks rise, threads find
/// their cores.
const WARM_UP_SECONDS: f64 = 0.2;

/// Fewest measurements of a case, however long one takes.
const FEWEST: usize = 3;

/// Most measurements where only time bounds them.
const MOST: usize = 200;

/// How long to measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Exactly so many measurements; None: as many as fit the time, 3 to 200.
    pub repeats: Option<usize>,
    /// Seconds a case, warm-up not counted.
    pub seconds: f64,
}

impl Budget {
    fn spent(&self, count: usize, begun: Instant) -> bool {
        match self.repeats {
            Some(repeats) => count >= repeats,
            None => count >= FEWEST && (count >= MOST || begun.elapsed().as_secs_f64() >= self.seconds),
        }
    }
}

/// What was measured of a case; times are milliseconds a step (for `sample`: for all tunes).
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// What ran it.
    pub info: EngineInfo,
    /// Whole steps; for layers forward and backward.
    pub ms: Summary,
    /// Layers: forward in training mode, measured in turn with forward and backward; and what the latter took longer,
    /// pair by pair.
    pub parts: Option<(Summary, Summary)>,
    /// Steps between two marks.
    pub together: usize,
    /// Most bytes in use: of the device, or of this process since the case began.
    pub peak_bytes: Option<u64>,
    /// Share of the processors' time that other processes took meanwhile.
    pub others: Option<f64>,
    /// Training steps whose update was skipped: they took less work.
    pub skipped: usize,
    /// Where a training step's time went, milliseconds a step; empty where the engine does not tell.
    pub phases: Vec<(&'static str, f64)>,
}

/// An engine made ready for a case.
pub struct Session {
    engine: Box<dyn Engine>,
    case: Case,
    chunk: Chunk,
    hyper: Hyper,
    request: SampleRequest,
    together: usize,
    last: Mark,
    skipped: usize,
    steps: usize,
}

impl Session {
    /// Builds the engine with initial weights and warms it up, for `seconds` at most once it is warm.
    pub fn open(case: &Case, seconds: f64) -> Result<Session, EngineError> {
        crate::machine::forget_peak_memory();
        let shape = case.shape();
        let mut engine = engine::build(&case.spec())?;
        engine.load_params(&init::uniform(&shape, 1))?;
        let last = engine.mark()?;
        let mut session = Session {
            engine,
            case: *case,
            chunk: chunk(case),
            hyper: hyper(),
            request: request(case),
            together: 1,
            last,
            skipped: 0,
            steps: 0,
        };
        let (mut ms, mut count, begun) = (f64::INFINITY, 0, Instant::now());
        while count < WARM_UP || begun.elapsed().as_secs_f64() < seconds.min(WARM_UP_SECONDS) {
            session.layers(false)?;
            ms = ms.min(session.timed(1)?);
            count += 1;
        }
        session.together = match session.engine.info().name {
            _ if case.what == What::Sample || case.device == Device::Emulated => 1,
            "cpu" => (CPU_GROUP_MS / ms).ceil().clamp(1.0, 1000.0) as usize,
            _ => GPU_STEPS,
        };
        session.lap()?;
        session.phases();
        session.skipped = 0;
        Ok(session)
    }

    /// Steps since then whose update was skipped, for f16's loss scale or for a loss that is not finite.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Where the time of the training steps since the last call went, milliseconds a step.
    pub fn phases(&mut self) -> Vec<(&'static str, f64)> {
        let phases = self.engine.phases();
        let steps = std::mem::take(&mut self.steps).max(1) as f64;
        phases.into_iter().map(|phase| (phase.name, phase.seconds * 1e3 / steps)).collect()
    }

    /// What runs it.
    pub fn info(&self) -> EngineInfo {
        self.engine.info()
    }

    /// Steps between two marks.
    pub fn together(&self) -> usize {
        self.together
    }

    /// Most bytes in use: of the device, or of this process since the session was opened.
    pub fn peak_bytes(&self) -> Option<u64> {
        self.engine.memory().map(|memory| memory.peak)
    }

    /// Milliseconds since the last lap by the engine's clock; waits for the work given.
    fn lap(&mut self) -> Result<f64, EngineError> {
        let now = self.engine.mark()?;
        let ms = self.engine.between(self.last, now)?;
        self.last = now;
        Ok(ms)
    }

    /// Runs `steps` whole steps; gives the milliseconds a step since the last lap.
    fn timed(&mut self, steps: usize) -> Result<f64, EngineError> {
        let mut unread: Vec<Ticket> = Vec::new();
        self.steps += steps;
        for _ in 0..steps {
            match self.case.what {
                What::Train => {
                    unread.push(self.engine.train_chunk(&self.chunk, &self.hyper)?);
                    self.hyper.time += self.case.seq_len as u64;
                }
                What::Layer => self.engine.layers(&self.chunk, true)?,
                What::Sample => check(&self.engine.sample(&self.request)?, &self.case)?,
            }
        }
        let ms = self.lap()? / steps as f64;
        // After the mark: waiting for the statistics falls into the next lap, where the trainer pays for it too.
        for ticket in unread {
            self.skipped += usize::from(!self.engine.sync(ticket)?.updated);
        }
        Ok(ms)
    }

    /// Whole steps in groups, as [`measure`] runs them: milliseconds a step over all of them.
    pub fn run(&mut self, steps: usize) -> Result<f64, EngineError> {
        self.lap()?;
        let (mut left, mut total) = (steps, 0.0);
        while left > 0 {
            let group = left.min(self.together);
            total += self.timed(group)? * group as f64;
            left -= group;
        }
        Ok(total / steps as f64)
    }

    /// Layers: milliseconds a forward pass in training mode, over `steps` of them since now.
    pub fn run_forward(&mut self, steps: usize) -> Result<f64, EngineError> {
        self.lap()?;
        self.forward(steps)
    }

    /// The same since the last lap.
    fn forward(&mut self, steps: usize) -> Result<f64, EngineError> {
        for _ in 0..steps {
            self.layers(false)?;
        }
        Ok(self.lap()? / steps as f64)
    }

    fn layers(&mut self, backward: bool) -> Result<(), EngineError> {
        if self.case.what == What::Layer { self.engine.layers(&self.chunk, backward) } else { Ok(()) }
    }
}

/// Opens a session and measures it.
pub fn measure(case: &Case, budget: &Budget) -> Result<Measured, EngineError> {
    let mut session = Session::open(case, budget.seconds)?;
    let together = session.together;
    let (mut times, mut forward) = (Vec::new(), Vec::new());
    let others = Others::than(&[]);
    let begun = Instant::now();
    while !budget.spent(times.len(), begun) {
        if case.what == What::Layer {
            forward.push(session.forward(together)?);
        }
        times.push(session.timed(together)?);
    }
    let longer: Vec<f64> = times.iter().zip(&forward).map(|(both, forward)| both - forward).collect();
    let summary = Summary::of(&times)
        .ok_or_else(|| EngineError::Device("the clock gave no time: nothing was measured".into()))?;
    Ok(Measured {
        info: session.info(),
        ms: summary,
        parts: Summary::of(&forward).zip(Summary::of(&longer)),
        together,
        peak_bytes: session.peak_bytes(),
        others: others.share(),
        skipped: session.skipped(),
        phases: session.phases(),
    })
}

/// A chunk of characters as different as those of tunes, tunes starting at staggered places.
fn chunk(case: &Case) -> Chunk {
    let mut chunk = Chunk::new(case.seq_len, case.batch);
    let span = case.vocab.min(usize::from(u16::MAX)) as u32;
    for t in 0..case.seq_len {
        for b in 0..case.batch {
            let i = t * case.batch + b;
            let words = rng::philox4x32([i as u32, (i >> 32) as u32, 0, 0], [0, 0]);
            chunk.ids[i] = (words[0] % span) as u16;
            chunk.targets[i] = (words[1] % span) as u16;
            if case.tune_starts > 0 {
                let place = t + b * case.tune_starts / case.batch;
                chunk.resets[i] = u8::from(place.is_multiple_of(case.tune_starts));
            }
        }
    }
    chunk
}

/// Training as the paper does it, at a rate that leaves the weights about where they are.
fn hyper() -> Hyper {
    Hyper {
        optimizer: Optimizer::ADAM,
        lr: 1e-6,
        clip: 5.0,
        weight_decay: 0.0,
        dropout: 0.0,
        seed: 1,
        time: 0,
        skip_above: f32::INFINITY,
    }
}

/// B tunes of T characters; `<end>` is banned, so that none ends by itself.
fn request(case: &Case) -> SampleRequest {
    SampleRequest {
        tunes: case.batch,
        first_index: 0,
        seed: 1,
        choice: Choice { temperature: 0.8, ..Choice::default() },
        prime: vec![0],
        max_chars: case.seq_len,
        end: 1,
        banned: vec![0, 1, 2],
    }
}

/// Every tune has the length asked for: a shorter one would make the rate a lie.
fn check(tunes: &[engine::SampledTune], case: &Case) -> Result<(), EngineError> {
    match tunes.iter().find(|tune| tune.ids.len() != case.seq_len) {
        None if tunes.len() == case.batch => Ok(()),
        None => Err(EngineError::Device(format!("{} tunes, expected {}", tunes.len(), case.batch))),
        Some(tune) => Err(EngineError::Device(format!(
            "a tune of {} characters, expected {}: nothing may end it",
            tune.ids.len(),
            case.seq_len
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CellKind;

    fn tiny(what: What) -> Case {
        Case { what, hidden: 8, batch: 3, seq_len: 5, vocab: 11, threads: 1, ..Case::PAPER }
    }

    #[test]
    fn every_kind_of_case_is_measured_so_often_as_asked() {
        for what in [What::Train, What::Sample, What::Layer] {
            for cell in [CellKind::Lstm, CellKind::Gru, CellKind::Rnn] {
                let case = Case { cell, layers: 2, ..tiny(what) };
                let measured = measure(&case, &Budget { repeats: Some(4), seconds: 0.0 }).unwrap();
                assert_eq!(measured.ms.count, 4, "{}", case.describe());
                assert!(measured.ms.min > 0.0 && measured.together >= 1);
                assert_eq!(measured.skipped, 0);
                let parts = measured.parts.map(|(forward, backward)| (forward.count, backward.count));
                assert_eq!(parts, (what == What::Layer).then_some((4, 4)));
                assert_eq!(measured.info.device.name, "cpu");
            }
        }
    }

    #[test]
    fn tunes_start_at_staggered_places_as_often_as_asked() {
        let case = Case { batch: 64, seq_len: 100, tune_starts: 350, ..Case::PAPER };
        let made = chunk(&case);
        made.check(96).unwrap();
        let starts: usize = made.resets.iter().map(|&r| usize::from(r)).sum();
        // 6,400 characters of streams in which one starts every 350: 18.3.
        assert!((17..=20).contains(&starts), "{starts}");
        let first: usize = made.resets[..64].iter().map(|&r| usize::from(r)).sum();
        assert!(first <= 1, "{first} start in the first step: not staggered");
        assert!(chunk(&Case::PAPER).resets.iter().all(|&r| r == 0));
        assert!(made.targets.iter().any(|&t| t > 80) && made.ids != made.targets);
    }

    #[test]
    fn the_budget_bounds_the_measurements() {
        let now = Instant::now();
        let timed = Budget { repeats: None, seconds: 0.0 };
        assert!(!timed.spent(2, now) && timed.spent(3, now));
        assert!(Budget { repeats: None, seconds: 1e9 }.spent(MOST, now));
        assert!(!Budget { repeats: None, seconds: 1e9 }.spent(MOST - 1, now));
        let exact = Budget { repeats: Some(5), seconds: 0.0 };
        assert!(!exact.spent(4, now) && exact.spent(5, now));
    }

    #[test]
    fn what_an_engine_refuses_is_an_error() {
        let case = Case { hidden: 0, ..tiny(What::Train) };
        assert!(measure(&case, &Budget { repeats: Some(1), seconds: 0.0 }).is_err());
    }
}
