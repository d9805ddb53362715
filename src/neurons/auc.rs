//! Area under the ROC curve of many labels at once: one sort of the values serves them all.

/// How many labels fit into a character's word.
pub const MOST: usize = 64;

/// How often each bit is set. `[64]`
pub fn counts(words: &[u64]) -> [u64; MOST] {
    let mut counts = [0; MOST];
    for &word in words {
        each_bit(word, |bit| counts[bit] += 1);
    }
    counts
}

/// For every bit the probability that a character with it has a higher value than one without, ties counted half (Mann
/// and Whitney 1947; the area under the ROC curve). NaN where no character, or every one, has the bit. Values \[N\] must
/// not be NaN; words \[N\]; `counts` as of [`counts`]. `[64]`
pub fn areas(values: &[f32], words: &[u64], counts: &[u64; MOST]) -> [f64; MOST] {
    let mut sorted: Vec<u64> =
        values.iter().zip(0u64..).map(|(&value, at)| u64::from(order(value)) << 32 | at).collect();
    sorted.sort_unstable();
    let mut ranks = [0.0f64; MOST];
    let mut from = 0;
    while from < sorted.len() {
        let value = sorted[from] >> 32;
        let to = from + sorted[from..].iter().take_while(|&&key| key >> 32 == value).count();
        // Equal values share the mean of their ranks, which count from 1.
        let rank = (from + 1 + to) as f64 / 2.0;
        for &key in &sorted[from..to] {
            each_bit(words[key as u32 as usize], |bit| ranks[bit] += rank);
        }
        from = to;
    }
    let n = sorted.len() as f64;
    std::array::from_fn(|bit| {
        let on = counts[bit] as f64;
        (ranks[bit] - on * (on + 1.0) / 2.0) / (on * (n - on))
    })
}

/// A float's bits so that they sort as the floats do; the zeros are equal.
fn order(value: f32) -> u32 {
    let bits = (value + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn each_bit(mut word: u64, mut visit: impl FnMut(usize)) {
    while word != 0 {
        visit(word.trailing_zeros() as usize);
        word &= word - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::philox4x32;

    #[test]
    fn as_counted_over_all_pairs() {
        for case in 0..40u32 {
            let n = 3 + case as usize * 2;
            let draw = |at: usize, what: u32| philox4x32([at as u32, what, case, 0], [1, 2])[0];
            // Few values, so that ties abound; both zeros.
            let values: Vec<f32> = (0..n)
                .map(|at| match draw(at, 0) % 7 {
                    0 => -0.0,
                    k => (k as f32 - 3.0) * 0.3 * if case % 2 == 0 { 1.0 } else { draw(at, 1) as f32 / 4e9 },
                })
                .collect();
            let words: Vec<u64> =
                (0..n).map(|at| u64::from(draw(at, 2)) << 32 | u64::from(draw(at, 3))).collect();
            let found = areas(&values, &words, &counts(&words));
            for bit in 0..MOST {
                let (mut wins, mut pairs) = (0.0, 0.0);
                for (a, wa) in values.iter().zip(&words) {
                    for (b, wb) in values.iter().zip(&words) {
                        if wa >> bit & 1 == 1 && wb >> bit & 1 == 0 {
                            pairs += 1.0;
                            wins += if a > b {
                                1.0
                            } else if a == b {
                                0.5
                            } else {
                                0.0
                            };
                        }
                    }
                }
                let expected: f64 = wins / pairs;
                let same = expected.is_nan() && found[bit].is_nan();
                assert!(
                    same || (found[bit] - expected).abs() < 1e-12,
                    "{case} {bit}: {} {expected}",
                    found[bit]
                );
            }
        }
    }

    #[test]
    fn nothing_to_tell_apart() {
        assert!(areas(&[], &[], &[0; MOST])[0].is_nan());
        let words = [1, 1, 1];
        assert!(areas(&[1.0, 2.0, 3.0], &words, &counts(&words))[0].is_nan(), "all have it");
        let words = [1, 0, 1];
        assert_eq!(areas(&[0.5; 3], &words, &counts(&words))[0], 0.5, "a constant");
    }
}
