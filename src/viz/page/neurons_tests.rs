//! The browser's data beside what the engine itself says.

use super::*;
use crate::engine::reference::ReferenceEngine;
use crate::model::{CellKind, init};

fn model(cell: CellKind, layers: usize) -> (ReferenceEngine, Vocab) {
    let vocab = Vocab::from_chars("\n :|ABCDEFGKXabc\"".chars());
    let shape = ModelShape { cell, vocab: vocab.len(), hidden: 6, layers };
    let mut engine = ReferenceEngine::new(shape);
    let params: Vec<f32> = init::uniform(&shape, 3).iter().map(|w| 3.0 * w).collect();
    engine.load_params(&params).unwrap();
    (engine, vocab)
}

fn texts(texts: &[&str]) -> Vec<(String, String, String)> {
    texts.iter().map(|text| ("title".into(), "origin".into(), (*text).to_owned())).collect()
}

fn bytes(text: &NeuronText) -> Vec<i8> {
    STANDARD.decode(&text.values).unwrap().into_iter().map(|byte| i8::from_ne_bytes([byte])).collect()
}

#[test]
fn values_are_the_engine_s() {
    let (mut engine, vocab) = model(CellKind::Lstm, 2);
    let texts = texts(&["X:A\nK:D\nAB|", "", "cé"]);
    let page = page(&mut engine, &vocab, "m".into(), &texts, &Ranking::default(), 10_000).unwrap();
    assert_eq!(
        (page.kinds.join(" "), page.layers, page.hidden, page.note.as_str()),
        ("h c".into(), 2, 6, "")
    );
    assert_eq!(page.texts[2].chars, ["c", "é"]);
    assert!(page.texts[1].chars.is_empty() && page.texts[1].values.is_empty());
    for (text, (.., written)) in page.texts.iter().zip(&texts) {
        let n = written.chars().count();
        assert_eq!((text.chars.len(), text.surprisal.len(), text.top.len()), (n, n, n));
        if n == 0 {
            continue;
        }
        let (ids, _) = tapped::encode(&vocab, written);
        let layers = engine.tap(&ids).unwrap();
        let found = bytes(text);
        assert_eq!(found.len(), 2 * 2 * n * 6);
        for (layer, one) in layers.iter().enumerate() {
            for t in 0..n {
                for unit in 0..6 {
                    // After character t was read: <start> is position 0.
                    let at = (t + 1) * 6 + unit;
                    let place = |kind: usize| ((kind * 2 + layer) * n + t) * 6 + unit;
                    assert_eq!(found[place(0)], (one.h[at] * 127.0).round() as i8);
                    assert_eq!(found[place(1)], (one.c[at].tanh() * 127.0).round() as i8);
                }
            }
        }
    }
}

#[test]
fn surprisal_is_the_evaluation_s() {
    let (mut engine, vocab) = model(CellKind::Gru, 1);
    let texts = texts(&["X:A\nK:D\nAB|", "cab"]);
    let page = page(&mut engine, &vocab, "m".into(), &texts, &Ranking::default(), 10_000).unwrap();
    assert_eq!(page.kinds, ["h"]);
    for (text, (.., written)) in page.texts.iter().zip(&texts) {
        let (ids, _) = tapped::encode(&vocab, written);
        let mut chunk = crate::engine::Chunk::new(ids.len() - 1, 1);
        chunk.ids.copy_from_slice(&ids[..ids.len() - 1]);
        chunk.targets.copy_from_slice(&ids[1..]);
        chunk.resets[0] = 1;
        for (found, expected) in text.surprisal.iter().zip(engine.eval_each(&chunk).unwrap()) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
        for (t, top) in text.top.iter().enumerate() {
            assert_eq!(top.len(), 5);
            assert!(top.windows(2).all(|pair| pair[0].1 >= pair[1].1), "{top:?}");
            if let Some((_, p)) = top.iter().find(|(c, _)| *c == text.chars[t]) {
                assert!((-p.ln() - text.surprisal[t]).abs() < 1e-4);
            }
        }
    }
    assert!(page.texts.iter().flat_map(|t| &t.top).flatten().any(|(token, _)| token == "<end>"));
}

#[test]
fn a_page_stays_within_its_budget_and_says_what_is_missing() {
    let (mut engine, vocab) = model(CellKind::Lstm, 2);
    let texts = texts(&["ABCDE", "ABC", "AB"]);
    // A character takes 12 bytes a kind, 16 in base64.
    for (budget, kinds, lengths, note) in [
        (320, "h c", vec![5, 3, 2], ""),
        (319, "h", vec![5, 3, 2], "tanh(c)."),
        (150, "h", vec![5, 3], "tanh(c), the last text."),
        (100, "h", vec![5], "tanh(c), the last 2 texts."),
        (50, "h", vec![3], "tanh(c), the last 2 texts, all but the first 3 characters of the first text."),
        (0, "h", vec![0], "tanh(c), the last 2 texts, all but the first 0 characters of the first text."),
    ] {
        let page = page(&mut engine, &vocab, "m".into(), &texts, &Ranking::default(), budget).unwrap();
        assert_eq!(page.kinds.join(" "), kinds, "{budget}");
        assert_eq!(page.texts.iter().map(|t| t.chars.len()).collect::<Vec<_>>(), lengths, "{budget}");
        assert!(page.texts.iter().map(|t| t.values.len()).sum::<usize>() <= budget);
        assert_eq!(page.note.is_empty(), note.is_empty());
        assert!(page.note.ends_with(note), "{}", page.note);
    }
    let none = super::page(&mut engine, &vocab, "m".into(), &[], &Ranking::default(), 10).unwrap();
    assert!(none.texts.is_empty() && none.note.is_empty());
    let shape = ModelShape { cell: CellKind::Lstm, vocab: 96, hidden: 512, layers: 3 };
    let four: Vec<_> = (0..4).map(|_| (String::new(), String::new(), "x".repeat(400))).collect();
    assert_eq!(Plan::new(&shape, &four, 7_000_000).kinds.len(), 2, "as asked for");
}
