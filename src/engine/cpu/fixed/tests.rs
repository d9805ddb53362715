//! Against the reference, each way of multiplying against the other, and whole tunes.

use super::super::Isa;
use super::super::team::{Meeting, Team};
use super::space::{MOST, Space};
use super::weights::{Weights, digits};
use super::*;
use crate::engine::cpu::CpuEngine;
use crate::engine::reference::ReferenceEngine;
use crate::engine::{Chunk, Engine, EngineSpec, Precision};
use crate::sample::Choice;

const CELLS: [CellKind; 3] = [CellKind::Lstm, CellKind::Gru, CellKind::Rnn];

/// Bound of the logits' normalised mean squared error, that of f32; the worst found is 7.1e-13.
const BOUND: f64 = 1e-11;

/// The same from 33 units on, in errors of multiply-adds; the worst found is 2.6.
const NEAR: f64 = 4.0;

/// Whether there is anything to test; says so if not.
fn there() -> bool {
    if !available() {
        println!("SKIP: this machine has no tiles of bytes");
    }
    available()
}

fn shapes() -> Vec<ModelShape> {
    let mut shapes = Vec::new();
    for cell in CELLS {
        for (hidden, vocab, layers) in [
            (1, 3, 1),
            (4, 16, 2),
            (16, 17, 1),
            (33, 65, 3),
            (64, 96, 2),
            (67, 30, 2),
            (150, 96, 1),
            (192, 300, 2),
        ] {
            shapes.push(ModelShape { cell, vocab, hidden, layers });
        }
    }
    shapes
}

/// Weights larger than initial ones.
fn params(shape: &ModelShape) -> Vec<f32> {
    crate::model::init::uniform(shape, 5).iter().map(|w| 2.0 * w).collect()
}

fn packed(shape: ModelShape) -> Weights {
    let mut weights = Weights::new(shape).unwrap();
    weights.pack(&params(&shape));
    weights
}

fn id(stream: usize, t: usize, vocab: usize) -> u16 {
    ((stream * 7 + t * 5 + stream * t) % vocab) as u16
}

/// Step `t` of `steps`: what the streams read, which are those of a larger set from `first` on; some begin anew halfway.
fn feed(space: &mut Space, vocab: usize, first: usize, streams: usize, (t, steps): (usize, usize)) {
    for stream in 0..streams {
        space.ids[stream] = id(first + stream, t, vocab);
        if begins_anew(first + stream, t, steps) {
            space.reset(stream);
        }
    }
}

fn begins_anew(stream: usize, t: usize, steps: usize) -> bool {
    stream % 3 == 1 && t == steps / 2
}

/// The logits of all steps [T][streams][V]; stream s reads what stream `first` + s of a larger set reads.
fn logits(weights: &Weights, first: usize, streams: usize, steps: usize) -> Vec<f32> {
    let (mut space, alone) = (Space::new(weights, streams).unwrap(), Meeting::new(1));
    let mut tiles = Tiles::default();
    let mut all = Vec::new();
    for t in 0..steps {
        feed(&mut space, weights.shape.vocab, first, streams, (t, steps));
        tiles.step(&Step { weights, space: &space, logits: true, meeting: &alone });
        space.now ^= 1;
        for stream in 0..streams {
            all.extend_from_slice(space.logits(stream, weights.shape.vocab));
        }
    }
    all
}

#[test]
fn numbers_are_their_digits() {
    for whole in [0, 1, -1, 127, 128, -128, -129, 255, 256, 32_767, 32_768, -40_000, 0x7f_7f00, -0x7f_7f00] {
        let [first, second, third] = digits(whole).map(i32::from);
        assert_eq!((first * 256 + second) * 256 + third, whole);
    }
}

#[test]
fn logits_are_the_references() {
    if !there() {
        return;
    }
    let mut worst = (0.0, String::new());
    for shape in shapes() {
        let (streams, steps) = (17, 12);
        let found = logits(&packed(shape), 0, streams, steps);
        let mut chunk = Chunk::new(steps, streams);
        for t in 0..steps {
            for stream in 0..streams {
                chunk.ids[t * streams + stream] = id(stream, t, shape.vocab);
                chunk.resets[t * streams + stream] = u8::from(begins_anew(stream, t, steps));
            }
        }
        let mut reference = ReferenceEngine::new(shape);
        reference.params = params(&shape).iter().map(|&w| f64::from(w)).collect();
        let expected = reference.forward(&chunk).unwrap().logits;
        let expected: Vec<f64> = expected.into_iter().flatten().flatten().collect();
        assert_eq!(found.len(), expected.len());
        let error: f64 = found.iter().zip(&expected).map(|(&a, b)| (f64::from(a) - b).powi(2)).sum();
        let nmse = error / expected.iter().map(|b| b * b).sum::<f64>();
        let mut plain = CpuEngine::on(&EngineSpec::cpu(shape, Precision::F32, 1), Isa::Avx512).unwrap();
        plain.load_params(&params(&shape)).unwrap();
        let mut others = vec![0.0; found.len()];
        for (t, logits) in others.chunks_exact_mut(streams * shape.vocab).enumerate() {
            let at = t * streams..(t + 1) * streams;
            plain.step(&chunk.ids[at.clone()], &chunk.resets[at], logits).unwrap();
        }
        let error: f64 = others.iter().zip(&expected).map(|(&a, b)| (f64::from(a) - b).powi(2)).sum();
        let other = error / expected.iter().map(|b| b * b).sum::<f64>();
        println!("{shape}: NMSE {nmse:.2e}, by multiply-adds {other:.2e}");
        assert!(nmse <= BOUND && (shape.hidden < 33 || nmse <= NEAR * other), "{shape}: {nmse:e}, {other:e}");
        if nmse > worst.0 {
            worst = (nmse, shape.to_string());
        }
    }
    println!("worst: {worst:?}");
}

/// Few streams' digits are rows of one tile, those of many are tiles of their own: the same bits.
#[test]
fn a_stream_does_not_depend_on_its_neighbours() {
    if !there() {
        return;
    }
    for shape in shapes() {
        let weights = packed(shape);
        let (steps, vocab) = (6, shape.vocab);
        let all = logits(&weights, 0, MOST, steps);
        for (first, streams) in [(0, 1), (31, 1), (3, 2), (7, 3), (9, 4), (11, 5), (5, 6), (0, 16), (15, 17)]
        {
            let some = logits(&weights, first, streams, steps);
            for t in 0..steps {
                let expected = &all[(t * MOST + first) * vocab..][..streams * vocab];
                let found = &some[t * streams * vocab..][..streams * vocab];
                assert!(found == expected, "{shape}: {streams} streams from {first} on, step {t}");
            }
        }
    }
}

#[test]
fn members_share_a_step() {
    if !there() {
        return;
    }
    for shape in shapes() {
        let weights = packed(shape);
        for (streams, members) in [(1, 2), (2, 3), (20, 4)] {
            let expected = logits(&weights, 0, streams, 5);
            let mut space = Space::new(&weights, streams).unwrap();
            let mut team = Team::new(members);
            let mut pace = super::super::team::Pace::never_alone();
            let (mut found, mut tiles, alone) = (Vec::new(), Tiles::default(), Meeting::new(1));
            for t in 0..5 {
                feed(&mut space, shape.vocab, 0, streams, (t, 5));
                let step = Step { weights: &weights, space: &space, logits: true, meeting: &alone };
                tiles.prepare(&step);
                team.work(&mut pace, 1, &|meeting, member| work(&Step { meeting, ..step }, member));
                space.now ^= 1;
                for stream in 0..streams {
                    found.extend_from_slice(space.logits(stream, shape.vocab));
                }
            }
            assert!(found == expected, "{shape}: {streams} streams, {members} members");
        }
    }
}

fn request(tunes: usize, first_index: u64, choice: Choice) -> SampleRequest {
    SampleRequest {
        tunes,
        first_index,
        prime: vec![0, 2, 1],
        max_chars: 25,
        end: 1,
        banned: vec![0],
        choice,
        seed: 3,
    }
}

/// However many there are, on however many threads: the same tunes; and they end.
#[test]
fn a_tune_does_not_depend_on_how_many_there_are() {
    if !there() {
        return;
    }
    for cell in CELLS {
        let shape = ModelShape { cell, vocab: 20, hidden: 130, layers: 2 };
        for choice in [Choice::default(), Choice { top_k: 15, ..Choice::default() }] {
            let tunes = |threads: usize, n: usize, first: u64| {
                let mut engine =
                    CpuEngine::on(&EngineSpec::cpu(shape, Precision::F32, threads), Isa::Amx).unwrap();
                engine.load_params(&params(&shape)).unwrap();
                assert!(engine.pack_fixed());
                engine.sample(&request(n, first, choice)).unwrap()
            };
            let all = tunes(2, 150, 0);
            assert!(all.iter().any(|tune| tune.closed) && all.iter().any(|tune| !tune.closed));
            let lengths: std::collections::HashSet<_> = all.iter().map(|tune| tune.ids.len()).collect();
            assert!(lengths.len() > 4, "{cell}: {lengths:?}");
            for (threads, n, first) in
                [(1, 1, 0), (2, 1, 77), (1, 3, 10), (3, 4, 40), (1, 40, 100), (4, 150, 0)]
            {
                assert!(
                    tunes(threads, n, first as u64) == all[first..first + n],
                    "{cell}: {n} tunes from {first} on"
                );
            }
        }
    }
}

/// The same tunes as those of f32 steps, but where a choice is a matter of the last bits.
#[test]
fn tunes_are_those_of_f32() {
    if !there() {
        return;
    }
    let mut differ = 0;
    for cell in CELLS {
        let shape = ModelShape { cell, vocab: 20, hidden: 150, layers: 1 };
        let mut engine = CpuEngine::on(&EngineSpec::cpu(shape, Precision::F32, 2), Isa::Amx).unwrap();
        engine.load_params(&params(&shape)).unwrap();
        assert!(engine.pack_fixed());
        for choice in [Choice::default(), Choice { top_p: 0.9, ..Choice::default() }] {
            let request = SampleRequest { max_chars: 200, end: 19, ..request(100, 0, choice) };
            let (own, plain) =
                (engine.sample(&request).unwrap(), crate::sample::by_steps(&mut engine, &request).unwrap());
            differ += own.iter().zip(&plain).filter(|(own, plain)| own != plain).count();
        }
    }
    println!("{differ} of 600 tunes differ");
    assert!(differ <= 3);
}

/// Parameters that are no numbers, or very large: f32 as ever, which says that there is nothing to choose.
#[test]
fn parameters_that_cannot_be_whole_numbers_are_left_to_f32() {
    if !there() {
        return;
    }
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 20, hidden: 130, layers: 1 };
    for bad in [f32::NAN, f32::INFINITY, 1e30] {
        let mut engine = CpuEngine::on(&EngineSpec::cpu(shape, Precision::F32, 1), Isa::Amx).unwrap();
        let mut params = params(&shape);
        params[1000] = bad;
        engine.load_params(&params).unwrap();
        assert!(!engine.pack_fixed(), "{bad}");
        assert_eq!(engine.sample(&request(3, 0, Choice::default())).unwrap().len(), 3);
    }
    let mut engine = CpuEngine::on(&EngineSpec::cpu(shape, Precision::F32, 1), Isa::Amx).unwrap();
    assert!(engine.pack_fixed(), "zeros");
    assert_eq!(engine.sample(&request(3, 0, Choice::default())).unwrap().len(), 3);
}
