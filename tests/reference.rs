//! The reference engine against central differences, and against itself cut into smaller chunks.

mod common;

use common::{CELLS, part, plain, random_chunk, weights};
use songrnn_fast::engine::reference::ReferenceEngine;
use songrnn_fast::engine::{Engine, Hyper};
use songrnn_fast::model::ModelShape;

/// Relative error of the whole gradient against central differences (step 1e-5).
/// Measured: at most 1.5e-9.
const DIFFERENCE_BOUND: f64 = 1e-7;

fn engine(shape: ModelShape) -> ReferenceEngine {
    let mut engine = ReferenceEngine::new(shape);
    engine.load_params(&weights(&shape, 3)).unwrap();
    engine
}

#[test]
fn gradients_equal_central_differences() {
    for cell in CELLS {
        for dropout in [0.0, 0.4] {
            let shape = ModelShape { cell, vocab: 5, hidden: 6, layers: 2 };
            let chunk = random_chunk(11, 5, 7, 3);
            assert!(chunk.resets[6..].contains(&1), "a reset in mid-chunk is part of the case");
            let hyper = Hyper { dropout, time: 40, ..plain(0.0) };
            let mut start = engine(shape);
            // A carried state that is not zero.
            start.gradient(&random_chunk(12, 5, 3, 3), &hyper).unwrap();
            let (_, gradient) = start.clone().gradient(&chunk, &hyper).unwrap();
            let (mut error, mut power) = (0.0, 0.0);
            for i in 0..gradient.len() {
                let loss = |delta: f64| {
                    let mut moved = start.clone();
                    moved.params[i] += delta;
                    moved.gradient(&chunk, &hyper).unwrap().0.mean_loss()
                };
                let difference = (loss(1e-5) - loss(-1e-5)) / 2e-5;
                error += (difference - gradient[i]).powi(2);
                power += difference * difference;
            }
            let relative = (error / power).sqrt();
            println!("{cell} dropout {dropout}: {relative:e}");
            assert!(relative < DIFFERENCE_BOUND, "{cell} dropout {dropout}: relative error {relative:e}");
        }
    }
}

#[test]
fn chunks_compose_bit_for_bit() {
    for cell in CELLS {
        let shape = ModelShape { cell, vocab: 6, hidden: 5, layers: 2 };
        let whole = random_chunk(21, 6, 64, 2);
        let logits = engine(shape).forward(&whole).unwrap().logits;
        let mut halves = engine(shape);
        let mut two = halves.forward(&part(&whole, 0, 32)).unwrap().logits;
        two.extend(halves.forward(&part(&whole, 32, 32)).unwrap().logits);
        assert_eq!(logits, two, "{cell}: 64 = 2 x 32 carried");
        let mut single = engine(shape);
        for t in 0..64 {
            let one = part(&whole, t, 1);
            let mut z = vec![0.0; 2 * 6];
            single.step(&one.ids, &one.resets, &mut z).unwrap();
            let expected: Vec<f32> = logits[t].iter().flatten().map(|&x| x as f32).collect();
            assert_eq!(z, expected, "{cell}: step {t}");
        }
    }
}

#[test]
fn dropout_keeps_the_expected_share_and_changes_with_time() {
    let shape = ModelShape { cell: songrnn_fast::model::CellKind::Lstm, vocab: 4, hidden: 400, layers: 1 };
    let hyper = Hyper { dropout: 0.3, ..plain(0.0) };
    let mask = |t| songrnn_fast::engine::reference::network::dropout_mask(shape.hidden, &hyper, 0, t, 0);
    let dropped: usize = (0..50).map(|t| mask(t).iter().filter(|&&m| m == 0.0).count()).sum();
    let share = dropped as f64 / (50.0 * 400.0);
    assert!((share - 0.3).abs() < 0.015, "dropped {share}");
    assert_ne!(mask(0), mask(1));
    assert!(mask(0).iter().all(|&m| m == 0.0 || (m - 1.0 / 0.7).abs() < 1e-6));
}
