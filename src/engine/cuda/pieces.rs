//! A chunk cut where tunes start: a library of recurrent layers takes sequences and knows no resets, so each piece between
//! two starts becomes a sequence of its own. Results are those of the whole chunk: a piece that begins inside the chunk has
//! a zero state, and nothing flows back over its beginning.

use crate::engine::Chunk;

/// See the module's documentation. Rows are those of the library: step 0 of every piece, then step 1 of those that have
/// one, longest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pieces {
    /// Steps of each piece, falling.
    pub lengths: Vec<i32>,
    /// The place t*B + b of each row [T*B].
    pub order: Vec<i32>,
    /// The stream whose carried state each piece goes on from; -1: it begins with a zero state.
    pub from: Vec<i32>,
    /// The stream whose state each piece leaves; -1: another piece of the stream follows.
    pub to: Vec<i32>,
}

impl Pieces {
    /// The pieces of a chunk padded to `streams`; None where no tune starts after the chunk's first step. Padded streams
    /// are one piece each.
    pub fn cut(chunk: &Chunk, streams: usize) -> Option<Pieces> {
        let (steps, real) = (chunk.steps, chunk.streams);
        if chunk.resets[real..].iter().all(|&reset| reset == 0) {
            return None;
        }
        // (length, first step, stream); sorted stably, so that the order is a function of the chunk alone.
        let mut found: Vec<(usize, usize, usize)> = Vec::new();
        for stream in 0..streams {
            let mut begin = 0;
            for t in 1..steps {
                if stream < real && chunk.resets[t * real + stream] != 0 {
                    found.push((t - begin, begin, stream));
                    begin = t;
                }
            }
            found.push((steps - begin, begin, stream));
        }
        found.sort_by_key(|&(length, ..)| std::cmp::Reverse(length));
        let mut pieces = Pieces::default();
        let mut going = found.len();
        for step in 0..found[0].0 {
            while found[going - 1].0 <= step {
                going -= 1;
            }
            pieces.order.extend(
                found[..going].iter().map(|&(_, begin, stream)| ((begin + step) * streams + stream) as i32),
            );
        }
        for (length, begin, stream) in found {
            let carried = begin == 0 && stream < real && chunk.resets[stream] == 0;
            pieces.lengths.push(length as i32);
            pieces.from.push(if carried { stream as i32 } else { -1 });
            pieces.to.push(if begin + length == steps { stream as i32 } else { -1 });
        }
        Some(pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(steps: usize, streams: usize, resets: &[(usize, usize)]) -> Chunk {
        let mut chunk = Chunk::new(steps, streams);
        for &(t, b) in resets {
            chunk.resets[t * streams + b] = 1;
        }
        chunk
    }

    #[test]
    fn a_chunk_without_starts_inside_is_not_cut() {
        assert_eq!(Pieces::cut(&chunk(4, 3, &[(0, 1), (0, 2)]), 8), None);
        assert_eq!(Pieces::cut(&chunk(1, 3, &[(0, 0)]), 8), None);
    }

    #[test]
    fn pieces_are_packed_longest_first_and_know_their_streams() {
        // Stream 0 is cut before steps 1 and 3, stream 1 begins a tune, stream 2 is padding.
        let pieces = Pieces::cut(&chunk(4, 2, &[(1, 0), (3, 0), (0, 1)]), 3).unwrap();
        assert_eq!(pieces.lengths, [4, 4, 2, 1, 1]);
        assert_eq!(pieces.from, [-1, -1, -1, 0, -1]);
        assert_eq!(pieces.to, [1, 2, -1, -1, 0]);
        let row = |t: i32, b: i32| t * 3 + b;
        let expected = [
            row(0, 1),
            row(0, 2),
            row(1, 0),
            row(0, 0),
            row(3, 0), // step 0 of each piece
            row(1, 1),
            row(1, 2),
            row(2, 0), // step 1
            row(2, 1),
            row(2, 2), //
            row(3, 1),
            row(3, 2),
        ];
        assert_eq!(pieces.order, expected);
    }

    #[test]
    fn every_place_comes_once_whatever_the_starts() {
        for seed in 0..50usize {
            let (steps, streams) = (1 + seed % 7, 1 + seed % 5);
            let mut chunk = Chunk::new(steps, streams);
            for (i, reset) in chunk.resets.iter_mut().enumerate() {
                *reset = u8::from((i * 7 + seed * 13) % 5 == 0);
            }
            let Some(pieces) = Pieces::cut(&chunk, 8) else { continue };
            let mut order = pieces.order.clone();
            order.sort_unstable();
            assert!(order.iter().copied().eq(0..(steps * 8) as i32));
            assert!(pieces.lengths.is_sorted_by(|a, b| a >= b));
            assert_eq!(pieces.lengths.iter().sum::<i32>() as usize, steps * 8);
            let mut to: Vec<i32> = pieces.to.iter().copied().filter(|&b| b >= 0).collect();
            to.sort_unstable();
            assert!(to.into_iter().eq(0..8), "each stream is left once");
        }
    }
}
