//! Sampling whole tunes: each slice goes its own way on its own thread; a lane whose tune has ended takes the next.

use rayon::prelude::*;

use super::dispatch::{Work, advance, run_choose, run_slice};
use super::forward::Pass;
use super::space::{Slice, Use};
use super::tunes::{Lane, Tunes};
use crate::engine::{EngineError, IGNORE, SampleRequest, SampledTune};
use crate::sample::Scratch;
use crate::sample::lanes::NOTHING;

/// Samples `request`, which has been checked. A tune does not depend on its lane: every lane's arithmetic is the same.
pub fn sample(pass: &Pass, request: &SampleRequest) -> Result<Vec<SampledTune>, EngineError> {
    let geo = pass.geo;
    let threads = rayon::current_num_threads();
    // Enough lanes for every thread, not more: with a queue of tunes behind them, full slices stay full.
    let wanted = request.tunes.div_ceil(threads).max(1);
    // With two vectors each weight that is fetched is used twice.
    let vectors = if wanted > geo.isa.lanes() { geo.most_vectors() } else { geo.vectors(wanted) };
    let width = vectors * geo.isa.lanes();
    let count = request.tunes.div_ceil(width).min(2 * threads);
    let mut slices = (0..count)
        .map(|i| Slice::new(geo, Use::Inference, i * width, width, vectors, 1))
        .collect::<Result<Vec<_>, _>>()?;
    let tunes = Tunes::new(request);
    slices.par_iter_mut().for_each(|slice| run(pass, request, slice, &tunes));
    Ok(tunes.finish())
}

fn run(pass: &Pass, request: &SampleRequest, slice: &mut Slice, tunes: &Tunes) {
    let (vocab, width) = (pass.geo.shape.vocab, slice.width);
    let rows = pass.geo.units * width;
    let mut lanes: Vec<Option<Lane>> = (0..width).map(|_| None).collect();
    let mut scratch = Scratch::default();
    let mut row = vec![0.0f32; vocab];
    let mut uniform = vec![0.0f32; width];
    let mut chosen = vec![NOTHING; width];
    slice.targets.fill(IGNORE);
    loop {
        let mut any_reset = false;
        let mut running = false;
        for lane in 0..width {
            // Take the next tune where this lane has none; one that ends before its first input is done at once.
            let input = loop {
                match lanes[lane].as_ref().map(|lane| lane.stream.input()) {
                    Some(Some(input)) => break Some(input),
                    Some(None) => lanes[lane].take().into_iter().for_each(|ended| tunes.end(ended)),
                    None => match tunes.take() {
                        Some(next) => lanes[lane] = Some(next),
                        None => break None,
                    },
                }
            };
            slice.keep.as_mut_slice()[lane] = 1.0;
            if let (Some(input), Some(tune)) = (input, &mut lanes[lane]) {
                running = true;
                slice.ids[lane] = i32::from(input.id);
                tune.chooses = input.chooses;
                if input.reset {
                    slice.keep.as_mut_slice()[lane] = 0.0;
                    any_reset = true;
                }
            }
        }
        if !running {
            return;
        }
        slice.any_reset[0] = any_reset;
        run_slice(Work::Logits, pass, slice);
        slice.turn(rows);
        if request.choice.is_plain() {
            for (lane, uniform) in lanes.iter().zip(&mut uniform) {
                *uniform = lane.as_ref().map_or(0.0, |lane| lane.stream.uniform(request));
            }
            let logits = &mut slice.logits.as_mut_slice()[..vocab * width];
            for &id in &request.banned {
                logits[usize::from(id) * width..][..width].fill(f32::NEG_INFINITY);
            }
            run_choose(pass.geo.isa, &request.choice, logits, &uniform, &mut chosen);
            for (lane, &chosen) in lanes.iter_mut().zip(&chosen) {
                if let Some(lane) = lane {
                    lane.stream.advance_to(request, u16::try_from(chosen).ok());
                }
            }
            continue;
        }
        for lane in 0..width {
            if let Some(tune) = &mut lanes[lane] {
                if tune.chooses {
                    let logits = slice.logits.as_slice();
                    for (class, out) in row.iter_mut().enumerate() {
                        *out = logits[class * width + lane];
                    }
                }
                advance(pass.geo.isa, &mut tune.stream, request, &mut row, &mut scratch);
            }
        }
    }
}
