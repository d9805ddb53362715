//! Sampling few tunes: each thread takes tunes of its own, up to four side by side, and the next when one ends.

use rayon::prelude::*;

use super::super::dispatch::advance;
use super::super::geometry::Isa;
use super::super::space::Use;
use super::super::team::{Meeting, Pace, Span, Team};
use super::super::tunes::{Lane, Tunes};
use super::dispatch;
use super::forward::{Run, Work};
use super::plan::Plan;
use super::space::Space;
use super::store::Store;
use crate::engine::{EngineError, Precision, SampleRequest, SampledTune};
use crate::sample::Scratch;

/// Streams side by side on a thread.
const SIDE_BY_SIDE: usize = 4;

/// The most tunes for which this is faster than streams in lanes: where these are half empty.
pub fn most_tunes(isa: Isa, threads: usize) -> usize {
    threads * isa.lanes() / 2
}

/// What a thread needs.
#[derive(Clone, Copy)]
struct Source<'a> {
    plan: &'a Plan,
    store: &'a Store,
    precision: Precision,
    request: &'a SampleRequest,
    tunes: &'a Tunes<'a>,
}

/// Samples `request`, which has been checked. A tune depends neither on its thread nor on its neighbours.
pub fn sample(
    plan: &Plan,
    store: &Store,
    precision: Precision,
    pool: &rayon::ThreadPool,
    request: &SampleRequest,
) -> Result<Vec<SampledTune>, EngineError> {
    let threads = pool.current_num_threads().min(request.tunes).max(1);
    let streams = request.tunes.div_ceil(threads).clamp(1, SIDE_BY_SIDE);
    let mut spaces = Vec::new();
    for _ in 0..threads {
        let mut space = Space::default();
        space.fit(plan, Use::Inference, streams, 1)?;
        spaces.push(space);
    }
    let tunes = Tunes::new(request);
    let source = Source { plan, store, precision, request, tunes: &tunes };
    let alone = |space: &mut Space| run(source, space, &mut |run| dispatch::work(run, 0));
    match &mut spaces[..] {
        [space] => alone(space),
        spaces => pool.install(|| spaces.par_iter_mut().for_each(alone)),
    }
    Ok(tunes.finish())
}

/// Samples a single tune, its units split over a team.
pub fn sample_one(
    plan: &Plan,
    store: &Store,
    precision: Precision,
    team: &mut Team,
    pace: &mut Pace,
    request: &SampleRequest,
) -> Result<Vec<SampledTune>, EngineError> {
    let mut space = Space::default();
    space.fit(plan, Use::Inference, 1, 1)?;
    let tunes = Tunes::new(request);
    let source = Source { plan, store, precision, request, tunes: &tunes };
    let mut span = Span::default();
    run(source, &mut space, &mut |run| {
        let job = |meeting: &Meeting, member| dispatch::work(&Run { meeting, ..*run }, member);
        team.work_in_span(pace, &mut span, &job);
    });
    Ok(tunes.finish())
}

fn run(source: Source, space: &mut Space, work: &mut dyn FnMut(&Run)) {
    let Source { plan, request, .. } = source;
    let meeting = Meeting::new(1);
    let mut lanes: Vec<Lane> = std::iter::from_fn(|| source.tunes.take()).take(space.streams).collect();
    while space.streams > lanes.len() {
        space.give_up(plan, space.streams - 1);
    }
    let mut scratch = Scratch::default();
    space.now = 1;
    loop {
        let mut b = 0;
        while b < lanes.len() {
            match lanes[b].stream.input() {
                Some(input) => {
                    lanes[b].chooses = input.chooses;
                    space.ids[b] = input.id;
                    space.set_reset(b, input.reset);
                    b += 1;
                }
                None => {
                    let ended = match source.tunes.take() {
                        Some(next) => std::mem::replace(&mut lanes[b], next),
                        None => {
                            space.give_up(plan, b);
                            lanes.swap_remove(b)
                        }
                    };
                    source.tunes.end(ended);
                }
            }
        }
        if lanes.is_empty() {
            return;
        }
        let chooses = lanes.iter().any(|lane| lane.chooses);
        let run = Run {
            plan,
            store: source.store,
            space,
            meeting: &meeting,
            precision: source.precision,
            work: if chooses { Work::Logits } else { Work::States },
            dropout: None,
            gradient_scale: 0.0,
            unscale: 1.0,
            rule: None,
        };
        work(&run);
        space.carry(plan);
        for (b, lane) in lanes.iter_mut().enumerate() {
            advance(plan.isa, &mut lane.stream, request, space.logits(plan, b), &mut scratch);
        }
    }
}
