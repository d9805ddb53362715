//! Whole tunes: each thread has streams of its own, and a stream whose tune has ended takes the next; at the end, when none are
//! left to take, fewer streams are sampled.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::super::dispatch::{advance, run_choose};
use super::super::geometry::Isa;
use super::super::team::{Meeting, Pace, Span, Team};
use super::Tiles;
use super::choices;
use super::space::{MOST, Space};
use super::step::Step;
use super::weights::Weights;
use crate::engine::{EngineError, SampleRequest, SampledTune};
use crate::sample::lanes::NOTHING;
use crate::sample::{Scratch, Stream};

/// What every thread knows.
#[derive(Clone, Copy)]
struct Source<'a> {
    weights: &'a Weights,
    request: &'a SampleRequest,
    next: &'a AtomicUsize,
    done: &'a Mutex<Vec<(usize, SampledTune)>>,
}

/// Samples `request`, which has been checked, on the threads of the pool that this runs in. A tune depends neither on its
/// thread nor on its neighbours.
pub fn sample(weights: &Weights, request: &SampleRequest) -> Result<Vec<SampledTune>, EngineError> {
    let threads = rayon::current_num_threads();
    let streams = request.tunes.div_ceil(threads).clamp(1, MOST);
    let spaces = request.tunes.div_ceil(streams).min(threads);
    let mut spaces = (0..spaces).map(|_| Space::new(weights, streams)).collect::<Result<Vec<_>, _>>()?;
    collect(weights, request, |source| {
        spaces.par_iter_mut().for_each(|space| {
            let (alone, mut tiles) = (Meeting::new(1), Tiles::default());
            run(source, space, streams, &mut |space, logits| {
                tiles.step(&Step { weights, space, logits, meeting: &alone });
            });
        });
    })
}

/// Samples a single tune, whose units may be shared out to a team.
pub fn sample_one(
    weights: &Weights,
    team: &mut Team,
    pace: &mut Pace,
    request: &SampleRequest,
) -> Result<Vec<SampledTune>, EngineError> {
    let mut space = Space::new(weights, 1)?;
    let (mut span, mut tiles) = (Span::default(), Tiles::default());
    let alone = Meeting::new(1);
    collect(weights, request, |source| {
        run(source, &mut space, 1, &mut |space, logits| {
            let step = Step { weights, space, logits, meeting: &alone };
            tiles.prepare(&step);
            let job = |meeting: &Meeting, member| super::work(&Step { meeting, ..step }, member);
            team.work_in_span(pace, &mut span, &job);
        });
    })
}

/// All tunes, in order, when `work` is done.
fn collect(
    weights: &Weights,
    request: &SampleRequest,
    work: impl FnOnce(Source),
) -> Result<Vec<SampledTune>, EngineError> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(request.tunes)));
    work(Source { weights, request, next: &next, done: &done });
    let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    done.sort_unstable_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, tune)| tune).collect())
}

/// A tune being sampled.
struct Lane {
    index: usize,
    stream: Stream,
    chooses: bool,
}

fn take(source: Source) -> Option<Lane> {
    let index = source.next.fetch_add(1, Ordering::Relaxed);
    (index < source.request.tunes).then(|| Lane {
        index,
        stream: Stream::new(source.request, index),
        chooses: false,
    })
}

/// Feeds every lane's next input; a lane whose tune has ended takes the next, or none. Returns how many lanes have one.
fn feed(source: Source, space: &mut Space, lanes: &mut [Option<Lane>]) -> usize {
    let mut running = 0;
    for (stream, place) in lanes.iter_mut().enumerate() {
        while let Some(lane) = place {
            if let Some(input) = lane.stream.input() {
                lane.chooses = input.chooses;
                space.ids[stream] = input.id;
                if input.reset {
                    space.reset(stream);
                }
                running += 1;
                break;
            }
            if let Some(ended) = std::mem::replace(place, take(source)) {
                let mut done = source.done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                done.push((ended.index, ended.stream.finish()));
            }
        }
    }
    running
}

fn run(source: Source, space: &mut Space, streams: usize, step: &mut dyn FnMut(&Space, bool)) {
    let Source { weights, request, .. } = source;
    let vocab = weights.shape.vocab;
    let mut lanes: Vec<Option<Lane>> = (0..streams).map(|_| take(source)).collect();
    let mut scratch = Scratch::default();
    let mut chooser = Chooser::default();
    loop {
        let running = feed(source, space, &mut lanes);
        if running == 0 {
            return;
        }
        if running < lanes.len() {
            let keep: Vec<usize> = (0..lanes.len()).filter(|&stream| lanes[stream].is_some()).collect();
            if space.shrink(weights, &keep) {
                lanes.retain(Option::is_some);
            }
        }
        let chooses = lanes.iter().flatten().any(|lane| lane.chooses);
        step(space, chooses);
        space.now ^= 1;
        if chooses && request.choice.is_plain() && space.capacity() >= choices::LANES {
            chooser.choose(request, space, vocab, &mut lanes);
            continue;
        }
        for (stream, lane) in lanes.iter_mut().enumerate() {
            if let Some(lane) = lane {
                advance(Isa::Avx512, &mut lane.stream, request, space.logits(stream, vocab), &mut scratch);
            }
        }
    }
}

/// Plain choices of many streams at once, a stream a lane.
#[derive(Default)]
struct Chooser {
    /// Logits [V, padded to 16][streams].
    logits: Vec<f32>,
    uniform: Vec<f32>,
    chosen: Vec<i32>,
}

impl Chooser {
    fn choose(&mut self, request: &SampleRequest, space: &Space, vocab: usize, lanes: &mut [Option<Lane>]) {
        let width = space.capacity();
        self.logits.resize(vocab.next_multiple_of(choices::LANES) * width, 0.0);
        self.uniform.resize(width, 0.0);
        self.chosen.resize(width, NOTHING);
        choices::transpose(space.logits.as_slice(), space.logits.len() / width, &mut self.logits, width);
        let logits = &mut self.logits[..vocab * width];
        for &id in &request.banned {
            logits[usize::from(id) * width..][..width].fill(f32::NEG_INFINITY);
        }
        for (lane, uniform) in lanes.iter().zip(&mut self.uniform) {
            *uniform = lane.as_ref().map_or(0.0, |lane| lane.stream.uniform(request));
        }
        run_choose(Isa::Avx512, &request.choice, logits, &self.uniform, &mut self.chosen);
        for (lane, &chosen) in lanes.iter_mut().zip(&self.chosen) {
            if let Some(lane) = lane {
                lane.stream.advance_to(request, u16::try_from(chosen).ok());
            }
        }
    }
}
