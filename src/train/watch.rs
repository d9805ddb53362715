//! Watches the loss: when is a step's update to be skipped, when is the run to go back to its last good state with a
//! lower learning rate, and when is there no hope. Every decision depends on statistics alone, never on time.

use serde::{Deserialize, Serialize};

use super::state::{Exact, Unread};

/// Updates before the running average is trusted.
const WARM_UP: u32 = 20;
/// Weight of the past in the running average of the loss.
const MEMORY: f64 = 0.98;
/// A loss is an explosion above this many times the running average ...
const TIMES: f64 = 3.0;
/// ... and above the running average plus this many nats.
const NATS: f64 = 2.0;
/// Explosions in a row that bring a rollback.
const EXPLOSIONS: u32 = 5;
/// Overflows of the loss-scaled gradient in a row that bring a rollback. The scale starts at 65536 and halves at each,
/// so that sixteen in a row can be its normal beginning.
const OVERFLOWS: u32 = 24;
/// Rollbacks without a good state in between after which training stops.
const ROLLBACKS: u32 = 6;

/// The watch's memory.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Watch {
    /// Running average of the mean loss of updated steps.
    average: Exact,
    /// Updates in the average.
    updates: u32,
    /// Lowest running average since the last rollback.
    lowest: Exact,
    /// Skipped steps in a row.
    in_row: u32,
    /// Rollbacks since the last good state.
    rollbacks_in_row: u32,
    /// Skipped steps in all.
    pub skipped: u64,
    /// Rollbacks in all.
    pub rollbacks: u64,
}

/// What is to be done after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Fine,
    /// The update was skipped; log it.
    Skipped,
    /// Go back to the last good state.
    RollBack,
    /// Rolling back did not help.
    Hopeless,
}

impl Watch {
    /// The loss above which the next chunk's update is to be skipped.
    pub fn skip_above(&self) -> f32 {
        if self.updates < WARM_UP {
            return f32::INFINITY;
        }
        (self.average.0 * TIMES).max(self.average.0 + NATS) as f32
    }

    /// Takes in a step's statistics.
    pub fn see(&mut self, stats: &Unread) -> Verdict {
        let loss = stats.mean_loss();
        if stats.updated {
            self.in_row = 0;
            let weight =
                if self.updates == 0 { 0.0 } else { MEMORY.min(1.0 - 1.0 / f64::from(self.updates)) };
            self.average.0 = weight * self.average.0 + (1.0 - weight) * loss;
            self.updates = self.updates.saturating_add(1);
            if self.updates <= WARM_UP || self.average.0 < self.lowest.0 {
                self.lowest = self.average;
            }
            return Verdict::Fine;
        }
        self.skipped += 1;
        self.in_row += 1;
        let exploded = !loss.is_finite() || loss > stats.skip_above.0;
        // A finite, usual loss without an update is an overflow of the short number type.
        let scaled = !exploded && stats.loss_scale.0 != 1.0;
        if self.in_row < if scaled { OVERFLOWS } else { EXPLOSIONS } {
            return Verdict::Skipped;
        }
        self.rollbacks += 1;
        self.rollbacks_in_row += 1;
        self.in_row = 0;
        // The average starts anew: where the data really is harder from here on, it adapts instead of skipping all.
        self.updates = 0;
        if self.rollbacks_in_row > ROLLBACKS { Verdict::Hopeless } else { Verdict::RollBack }
    }

    /// Whether the present state is worth going back to: nothing skipped just now, and the loss near its lowest.
    pub fn calm(&self) -> bool {
        self.in_row == 0 && self.updates >= WARM_UP && self.average.0 <= self.lowest.0 * 1.2 + 0.1
    }

    /// A good state was kept: earlier rollbacks are forgiven.
    pub fn kept(&mut self) {
        self.rollbacks_in_row = 0;
    }

    /// The running average of the loss, where there is one.
    pub fn average(&self) -> Option<f64> {
        (self.updates > 0).then_some(self.average.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(loss: f64, updated: bool, limit: f32, scale: f64) -> Unread {
        Unread {
            step: 0,
            loss_sum: Exact(loss * 10.0),
            predicted: 10,
            grad_norm: Exact(1.0),
            updated,
            loss_scale: Exact(scale),
            skip_above: Exact(f64::from(limit)),
        }
    }

    fn warm(loss: f64) -> Watch {
        let mut watch = Watch::default();
        for _ in 0..WARM_UP {
            assert_eq!(watch.skip_above(), f32::INFINITY);
            assert_eq!(watch.see(&stats(loss, true, f32::INFINITY, 1.0)), Verdict::Fine);
        }
        watch
    }

    #[test]
    fn the_limit_is_three_times_or_two_nats_above() {
        assert!((warm(1.5).skip_above() - 4.5).abs() < 1e-6);
        assert!((warm(0.5).skip_above() - 2.5).abs() < 1e-6);
    }

    #[test]
    fn five_explosions_in_a_row_roll_back_and_one_good_step_breaks_the_row() {
        let mut watch = warm(1.5);
        for round in 0..2 {
            for n in 0..4 {
                assert_eq!(watch.see(&stats(9.0, false, 4.5, 1.0)), Verdict::Skipped, "{round} {n}");
            }
            watch.see(&stats(1.5, true, 4.5, 1.0));
        }
        for _ in 0..4 {
            watch.see(&stats(f64::NAN, false, 4.5, 1.0));
        }
        assert!(!watch.calm());
        assert_eq!(watch.see(&stats(f64::NAN, false, 4.5, 1.0)), Verdict::RollBack);
        assert_eq!((watch.skipped, watch.rollbacks), (13, 1));
        assert_eq!(watch.skip_above(), f32::INFINITY, "the average starts anew");
    }

    #[test]
    fn overflows_of_a_short_type_are_given_more_time() {
        let mut watch = Watch::default();
        for n in 1..OVERFLOWS {
            assert_eq!(watch.see(&stats(4.0, false, f32::INFINITY, 65536.0)), Verdict::Skipped, "{n}");
        }
        assert_eq!(watch.see(&stats(4.0, false, f32::INFINITY, 2.0)), Verdict::RollBack);
    }

    #[test]
    fn rollbacks_in_vain_end_it_and_a_good_state_forgives() {
        let mut watch = Watch::default();
        let roll = |watch: &mut Watch| {
            (0..EXPLOSIONS).map(|_| watch.see(&stats(f64::NAN, false, 1.0, 1.0))).last().unwrap()
        };
        for _ in 0..ROLLBACKS {
            assert_eq!(roll(&mut watch), Verdict::RollBack);
        }
        let mut forgiven = watch.clone();
        assert_eq!(roll(&mut watch), Verdict::Hopeless);
        forgiven.kept();
        assert_eq!(roll(&mut forgiven), Verdict::RollBack);
    }
}
