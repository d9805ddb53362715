//! Choosing the characters of many streams at once, a stream a lane: the same definition and the same bits as
//! [`Choice::pick`], written so that a compiler keeps N lanes in vectors.
//!
//! Only plain choices are made here (a temperature above 0, no top-k, no top-p): the others sort, and lanes do not.

use super::choice::{Choice, exp_below_zero};

/// Nothing is left to choose.
pub const NOTHING: i32 = -1;

impl Choice {
    /// Whether [`Choice::pick_lanes`] serves this choice.
    pub fn is_plain(&self) -> bool {
        self.temperature > 0.0 && self.top_k == 0 && self.top_p >= 1.0
    }

    /// Chooses for N lanes from `logits` `[V][width]` (overwritten), columns `lane` to `lane + N`, with the uniform numbers
    /// `u` `[N]` in [0, 1): ids, or [`NOTHING`]. Banned ids are minus infinity already. The choice is plain.
    ///
    /// To be inlined into a function with the machine's vector instructions.
    #[inline(always)]
    pub fn pick_lanes<const N: usize>(
        &self,
        logits: &mut [f32],
        width: usize,
        lane: usize,
        u: &[f32; N],
    ) -> [i32; N] {
        let mut max = [f32::NEG_INFINITY; N];
        let mut best = [NOTHING; N];
        for (id, row) in logits.chunks_exact(width).enumerate() {
            let Some(row) = columns::<N>(row, lane) else { return best };
            for i in 0..N {
                // NaN is not larger than anything.
                let larger = row[i] > max[i];
                max[i] = if larger { row[i] } else { max[i] };
                best[i] = if larger { id as i32 } else { best[i] };
            }
        }
        let mut sum = [0.0f32; N];
        for row in logits.chunks_exact_mut(width) {
            let Some(row) = row.get_mut(lane..lane + N) else { return best };
            for i in 0..N {
                let p = exp_below_zero((row[i] - max[i]) / self.temperature);
                sum[i] += p;
                row[i] = p;
            }
        }
        let mut aim = [0.0f32; N];
        for i in 0..N {
            aim[i] = u[i] * sum[i];
        }
        let mut sum = [0.0f32; N];
        let mut last = best;
        // 0 until the choice is made, then 1.
        let mut made = [0i32; N];
        for (id, row) in logits.chunks_exact(width).enumerate() {
            let Some(row) = columns::<N>(row, lane) else { return best };
            for i in 0..N {
                sum[i] += row[i];
                let some = i32::from(row[i] > 0.0) & (1 - made[i]);
                last[i] = if some == 1 { id as i32 } else { last[i] };
                made[i] |= some & i32::from(sum[i] > aim[i]);
            }
        }
        for i in 0..N {
            // The largest where it is infinite, as for temperature 0; nothing where nothing was larger than nothing.
            let only = max[i] == f32::INFINITY || best[i] == NOTHING;
            last[i] = if only { best[i] } else { last[i] };
        }
        last
    }
}

#[inline(always)]
fn columns<const N: usize>(row: &[f32], lane: usize) -> Option<[f32; N]> {
    row.get(lane..lane + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;
    use crate::sample::Scratch;

    #[test]
    fn lanes_choose_what_one_stream_would() {
        const WIDTH: usize = 32;
        let mut compared = 0;
        for seed in 0..200u32 {
            let vocab = 1 + (seed as usize * 7) % 97;
            let number =
                |i: usize, what: u32| rng::unit_f32(rng::philox4x32([i as u32, what, seed, 0], [1, 2])[0]);
            let mut logits: Vec<f32> = (0..vocab * WIDTH).map(|i| 12.0 * number(i, 0) - 6.0).collect();
            for (i, logit) in logits.iter_mut().enumerate() {
                match (number(i, 1) * 400.0) as u32 {
                    0 => *logit = f32::NAN,
                    1 => *logit = f32::INFINITY,
                    2..=9 => *logit = f32::NEG_INFINITY,
                    10..=20 => *logit = -200.0,
                    21..=60 => *logit = 3.0,
                    _ => {}
                }
                // A lane in which nothing can be chosen.
                if i % WIDTH == 5 {
                    *logit = if i.is_multiple_of(2) { f32::NAN } else { f32::NEG_INFINITY };
                }
            }
            let banned: Vec<u16> =
                [0u16, 3, 9000].into_iter().filter(|&id| usize::from(id) < vocab).collect();
            let choice =
                Choice { temperature: [0.1, 0.8, 1.0, 3.0, 1e-30][seed as usize % 5], ..Choice::default() };
            let u: [f32; WIDTH] = std::array::from_fn(|i| match i {
                0 => 0.0,
                1 => 1.0 - f32::EPSILON / 2.0,
                _ => number(i, 2),
            });
            let mut lanes = logits.clone();
            for &id in &banned {
                lanes[usize::from(id) * WIDTH..][..WIDTH].fill(f32::NEG_INFINITY);
            }
            let mut chosen = Vec::new();
            for lane in (0..WIDTH).step_by(16) {
                let u: &[f32; 16] = u[lane..][..16].try_into().unwrap();
                chosen.extend(choice.pick_lanes::<16>(&mut lanes, WIDTH, lane, u));
            }
            for lane in 0..WIDTH {
                let mut row: Vec<f32> = (0..vocab).map(|id| logits[id * WIDTH + lane]).collect();
                let expected = choice.pick(&mut row, &banned, u[lane], &mut Scratch::default());
                assert_eq!(chosen[lane], expected.map_or(NOTHING, i32::from), "seed {seed}, lane {lane}");
                compared += usize::from(expected.is_some());
            }
        }
        assert!(compared > 5000, "{compared} choices were made");
    }

    #[test]
    fn only_plain_choices_are_made_in_lanes() {
        let plain = Choice { temperature: 0.5, ..Choice::default() };
        assert!(plain.is_plain());
        for other in [
            Choice { temperature: 0.0, ..plain },
            Choice { top_k: 3, ..plain },
            Choice { top_p: 0.9, ..plain },
        ] {
            assert!(!other.is_plain(), "{other:?}");
        }
    }
}
