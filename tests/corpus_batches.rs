//! Streams over a pack: every prediction once an epoch, resets where tunes start, resuming bit for bit.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use songrnn_fast::corpus::{Cursor, EvalStreams, Pack, TrainStreams};
use songrnn_fast::engine::{Chunk, IGNORE};

fn pack(texts: &[String]) -> Arc<Pack> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    Arc::new(Pack::from_texts(&texts, true).unwrap())
}

/// Tunes of different lengths, each telling its number and its positions apart.
fn texts(n: usize) -> Vec<String> {
    (0..n)
        .map(|i| (0..1 + i * 7 % 13).map(|j| char::from_u32((300 + i * 20 + j) as u32).unwrap()).collect())
        .collect()
}

fn identity(pack: &Pack) -> Vec<u16> {
    (0..pack.vocab().len() as u16).collect()
}

/// What one stream is given: tune by tune, (input, target) pairs, cut at the resets.
fn tunes_of_stream(chunks: &[Chunk], stream: usize) -> Vec<Vec<(u16, u16)>> {
    let mut tunes: Vec<Vec<(u16, u16)>> = Vec::new();
    for chunk in chunks {
        for t in 0..chunk.steps {
            let i = t * chunk.streams + stream;
            if chunk.targets[i] == IGNORE {
                assert_eq!((chunk.ids[i], chunk.resets[i]), (0, 1), "a dry stream");
                continue;
            }
            if chunk.resets[i] == 1 {
                tunes.push(Vec::new());
            }
            tunes
                .last_mut()
                .expect("the first input has the reset flag")
                .push((chunk.ids[i], chunk.targets[i]));
        }
    }
    tunes
}

fn pairs(pack: &Pack, tune: usize) -> Vec<(u16, u16)> {
    let mut tokens = Vec::new();
    pack.tokens_into(tune, &identity(pack), &mut tokens);
    assert_eq!(tokens.len(), pack.token_count(tune));
    assert_eq!((tokens[0], *tokens.last().unwrap()), (pack.vocab().start(), pack.vocab().end()));
    tokens.windows(2).map(|w| (w[0], w[1])).collect()
}

#[test]
fn evaluation_reads_every_tune_once_from_its_start() {
    let pack = pack(&texts(23));
    for (streams, steps) in [(1, 1), (1, 50), (4, 3), (7, 16), (40, 5)] {
        let order: Vec<u32> = (0..23).rev().collect();
        let mut eval = EvalStreams::new(pack.clone(), order, identity(&pack), streams);
        let mut chunks = Vec::new();
        let mut chunk = Chunk::new(steps, streams);
        while eval.fill(&mut chunk) {
            chunk.check(pack.vocab().len()).unwrap();
            assert!(chunk.predicted() > 0, "a chunk without anything to predict");
            chunks.push(chunk.clone());
        }
        assert_eq!(chunk, Chunk::new(steps, streams), "left empty");
        assert!(!eval.fill(&mut chunk));
        let mut seen: Vec<_> = (0..streams).flat_map(|s| tunes_of_stream(&chunks, s)).collect();
        let mut want: Vec<_> = (0..23).map(|tune| pairs(&pack, tune)).collect();
        assert_eq!(eval.predictions(), want.iter().map(|t| t.len() as u64).sum::<u64>());
        seen.sort();
        want.sort();
        assert_eq!(seen, want, "{streams} streams, {steps} steps");
    }
    let mut none = EvalStreams::new(pack.clone(), vec![], identity(&pack), 3);
    assert!(!none.fill(&mut Chunk::new(2, 3)));
}

#[test]
fn training_reads_every_tune_once_an_epoch_in_a_shuffled_order() {
    let n = 23;
    let pack = pack(&texts(n));
    for streams in [1, 4, 23] {
        let mut train = TrainStreams::new(pack.clone(), (0..n as u32).collect(), identity(&pack), streams, 7);
        let per_epoch = train.predictions_per_epoch();
        assert_eq!(per_epoch, (0..n).map(|tune| pack.token_count(tune) as u64 - 1).sum::<u64>());
        let mut chunks = Vec::new();
        while train.cursor().epoch < 3 {
            let mut chunk = Chunk::new(5, streams);
            train.fill(&mut chunk);
            assert_eq!(chunk.predicted(), 5 * streams, "training streams are never dry");
            chunks.push(chunk);
        }
        assert_eq!(train.cursor().predicted, (chunks.len() * 5 * streams) as u64);
        // Tunes in the order of their starts, which is the queue's.
        let mut started = Vec::new();
        let starts: BTreeMap<u16, usize> = (0..n).map(|tune| (pairs(&pack, tune)[0].1, tune)).collect();
        for chunk in &chunks {
            for i in 0..chunk.ids.len() {
                if chunk.resets[i] == 1 {
                    started.push(starts[&chunk.targets[i]]);
                }
            }
        }
        let epochs: Vec<&[usize]> = started.chunks_exact(n).take(2).collect();
        assert_eq!(epochs.len(), 2);
        for epoch in &epochs {
            let mut sorted = epoch.to_vec();
            sorted.sort();
            assert!(sorted.into_iter().eq(0..n), "{streams} streams: {epoch:?}");
        }
        assert_ne!(epochs[0], epochs[1], "another order each epoch");
        // Each tune whole, but for the last one a stream is in.
        for stream in 0..streams {
            let tunes = tunes_of_stream(&chunks, stream);
            for tune in &tunes[..tunes.len() - 1] {
                assert_eq!(*tune, pairs(&pack, starts[&tune[0].1]));
            }
        }
    }
}

#[test]
fn which_stream_reads_what_does_not_depend_on_the_chunk_length() {
    let pack = pack(&texts(30));
    let read = |steps: usize| {
        let mut train = TrainStreams::new(pack.clone(), (0..30).collect(), identity(&pack), 4, 3);
        let (mut ids, mut resets) = (Vec::new(), Vec::new());
        for _ in 0..120 / steps {
            let mut chunk = Chunk::new(steps, 4);
            train.fill(&mut chunk);
            ids.extend(chunk.ids);
            resets.extend(chunk.resets);
        }
        (ids, resets, train.cursor())
    };
    assert_eq!(read(1), read(40));
    assert_eq!(read(3), read(120));
}

#[test]
fn tokens_go_through_the_map_and_only_the_tunes_named_are_read() {
    let pack = pack(&["aaa".into(), "bbb".into(), "ccc".into()]);
    let map = vec![9, 8, 7, 20, 21, 22];
    let mut train = TrainStreams::new(pack.clone(), vec![2, 0], map, 1, 1);
    let mut chunk = Chunk::new(40, 1);
    train.fill(&mut chunk);
    assert!(chunk.ids.iter().all(|id| [9, 20, 22].contains(id)), "{:?}", chunk.ids);
    assert!(chunk.targets.iter().all(|id| [8, 20, 22].contains(id)), "{:?}", chunk.targets);
}

#[test]
fn cursors_that_do_not_fit_are_refused_and_change_nothing() {
    let pack = pack(&texts(10));
    let mut train = TrainStreams::new(pack.clone(), (0..9).collect(), identity(&pack), 3, 1);
    let good = train.cursor();
    let with = |change: &dyn Fn(&mut Cursor)| {
        let mut cursor = good.clone();
        change(&mut cursor);
        cursor
    };
    for bad in [
        with(&|c| c.streams.truncate(2)),
        with(&|c| c.next = 10),
        with(&|c| c.streams[1].0 = 9),
        with(&|c| c.streams[1].0 = u32::MAX),
        with(&|c| c.streams[1].1 = u32::MAX),
        with(&|c| c.streams[1].1 = pack.token_count(c.streams[1].0 as usize) as u32 - 1),
    ] {
        let error = train.seek(&bad).unwrap_err().to_string();
        assert!(error.contains("does not fit"), "{error}");
        assert_eq!(train.cursor(), good);
    }
    train.seek(&with(&|c| c.epoch = u64::MAX)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn resuming_from_a_cursor_is_the_same_as_going_on(
        n in 1usize..20, streams in 1usize..6, before in 0usize..40, steps in 1usize..9, seed in any::<u64>(),
    ) {
        let pack = pack(&texts(n));
        let new = || TrainStreams::new(pack.clone(), (0..n as u32).collect(), identity(&pack), streams, seed);
        let mut undisturbed = new();
        let mut chunk = Chunk::new(steps, streams);
        for _ in 0..before {
            undisturbed.fill(&mut chunk);
        }
        // Through JSON, as a checkpoint keeps it.
        let saved = serde_json::to_string(&undisturbed.cursor()).unwrap();
        let mut resumed = new();
        resumed.seek(&serde_json::from_str(&saved).unwrap()).unwrap();
        for _ in 0..40 {
            let mut other = Chunk::new(steps, streams);
            undisturbed.fill(&mut chunk);
            resumed.fill(&mut other);
            prop_assert_eq!(&chunk, &other);
        }
        prop_assert_eq!(undisturbed.cursor(), resumed.cursor());
    }
}
