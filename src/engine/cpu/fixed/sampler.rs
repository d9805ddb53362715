//! Whole tunes: each thread has streams of its own, and a stream whose tune has ended takes the next; at the end, when none are
//! left to take, fewer streams are sampled.

use rayon::prelude::*;

use super::super::dispatch::{advance, run_choose};
use super::super::geometry::Isa;
use super::super::team::{Meeting, Pace, Span, Team};
use super::super::tunes::{Lane, Tunes};
use super::Tiles;
use super::choices;
use super::space::{MOST, Space};
use super::step::Step;
use super::weights::Weights;
use crate::engine::{EngineError, SampleRequest, SampledTune};
use crate::sample::Scratch;
use crate::sample::lanes::NOTHING;

/// What every thread knows.
#[derive(Clone, Copy)]
struct Source<'a> {
    weights: &'a Weights,
    request: &'a SampleRequest,
    tunes: &'a Tunes<'a>,
}

/// Samples `request`, which has been checked, on the threads of the pool that this runs in. A tune depends neither on its
/// thread nor on its neighbours.
pub fn sample(weights: &Weights, request: &SampleRequest) -> Result<Vec<SampledTune>, EngineError> {
    let threads = rayon::current_num_threads();
    let streams = request.tunes.div_ceil(threads).clamp(1, MOST);
    let spaces = request.tunes.div_ceil(streams).min(threads);
    let mut spaces = (0..spaces).map(|_| Space::new(weights, streams)).collect::<Result<Vec<_>, _>>()?;
    let tunes = Tunes::new(request);
    let source = Source { weights, request, tunes: &tunes };
    spaces.par_iter_mut().for_each(|space| {
        let (alone, mut tiles) = (Meeting::new(1), Tiles::default());
        run(source, space, streams, &mut |space, logits| {
            tiles.step(&Step { weights, space, logits, meeting: &alone });
        });
    });
    Ok(tunes.finish())
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
    let tunes = Tunes::new(request);
    run(Source { weights, request, tunes: &tunes }, &mut space, 1, &mut |space, logits| {
        let step = Step { weights, space, logits, meeting: &alone };
        tiles.prepare(&step);
        let job = |meeting: &Meeting, member| super::work(&Step { meeting, ..step }, member);
        team.work_in_span(pace, &mut span, &job);
    });
    Ok(tunes.finish())
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
            if let Some(ended) = std::mem::replace(place, source.tunes.take()) {
                source.tunes.end(ended);
            }
        }
    }
    running
}

fn run(source: Source, space: &mut Space, streams: usize, step: &mut dyn FnMut(&Space, bool)) {
    let Source { weights, request, .. } = source;
    let vocab = weights.shape.vocab;
    let mut lanes: Vec<Option<Lane>> = (0..streams).map(|_| source.tunes.take()).collect();
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
