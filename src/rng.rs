//! Philox4x32-10: a counter-based random generator, the same bits on every engine.
//!
//! Salmon, Moraes, Dror, Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011). A number is a pure function
//! of (seed, purpose, counter): nothing is carried, so any element can be drawn by any thread, in any order, again.

/// What numbers are drawn for. Each purpose is a stream of its own under the same seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Initial weights; counter = index into the flat parameter arena.
    Init = 1,
    /// The order of tunes in an epoch.
    Shuffle = 2,
    /// Dropout masks.
    Dropout = 3,
    /// Choosing the next character; counter = (tune index, position).
    Sample = 4,
    /// Where a slice of a song begins; counter = (song, epoch).
    Slice = 5,
}

const MUL_A: u64 = 0xD251_1F53;
const MUL_B: u64 = 0xCD9E_8D57;
const WEYL_A: u32 = 0x9E37_79B9;
const WEYL_B: u32 = 0xBB67_AE85;

/// One block of four words: ten rounds over `counter` under `key`.
#[inline]
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key[0] = key[0].wrapping_add(WEYL_A);
            key[1] = key[1].wrapping_add(WEYL_B);
        }
        let a = MUL_A * u64::from(counter[0]);
        let b = MUL_B * u64::from(counter[2]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
    }
    counter
}

/// Four words for (seed, purpose) at the counter (`c0`, `c1`, `c2`); `sub` distinguishes up to 2^24 uses of a
/// purpose (for dropout: the layer).
#[inline]
pub fn block(seed: u64, purpose: Purpose, sub: u32, c0: u32, c1: u32, c2: u32) -> [u32; 4] {
    philox4x32([c0, c1, c2, (sub << 8) | purpose as u32], [seed as u32, (seed >> 32) as u32])
}

/// A word as a number in [0, 1), multiples of 2^-24 (exact in f32).
#[inline]
pub fn unit_f32(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// The uniform number in [0, 1) that chooses character `position` of sampled tune `tune`.
#[inline]
pub fn sample_uniform(seed: u64, tune: u64, position: u32) -> f32 {
    let words = block(seed, Purpose::Sample, 0, position, tune as u32, (tune >> 32) as u32);
    unit_f32(words[0])
}

/// Four dropout words for units `4*quad .. 4*quad+4` of `stream` at absolute training time `time`
/// (characters per stream since the run began, modulo 2^32), on the output of `layer`.
/// Unit u is kept where `word >= threshold` with `threshold = (p * 2^32) as u32`, and then scaled by 1/(1-p).
#[inline]
pub fn dropout_words(seed: u64, layer: u32, time: u32, stream: u32, quad: u32) -> [u32; 4] {
    block(seed, Purpose::Dropout, layer, quad, stream, time)
}

/// A unit is kept where its dropout word is at least this: p of all words lie below.
#[inline]
pub fn dropout_threshold(p: f32) -> u32 {
    (f64::from(p) * 4_294_967_296.0) as u32
}

/// A permutation of `0..n` for (seed, epoch): Fisher-Yates.
pub fn permutation(seed: u64, epoch: u64, n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    for i in (1..n).rev() {
        let words = block(seed, Purpose::Shuffle, 0, i as u32, epoch as u32, (epoch >> 32) as u32);
        let wide = (u64::from(words[0]) << 32) | u64::from(words[1]);
        let j = ((u128::from(wide) * (i as u128 + 1)) >> 64) as usize;
        order.swap(i, j);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers from the Random123 distribution (kat_vectors, philox4x32 10 rounds).
    #[test]
    fn known_answers() {
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox4x32([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn permutations_are_complete_and_differ_by_epoch() {
        let a = permutation(7, 0, 1000);
        let b = permutation(7, 1, 1000);
        assert_ne!(a, b);
        let mut sorted = a.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..1000));
        assert!(permutation(1, 0, 0).is_empty());
    }

    #[test]
    fn unit_interval_is_half_open() {
        assert_eq!(unit_f32(0), 0.0);
        assert!(unit_f32(u32::MAX) < 1.0);
    }
}
