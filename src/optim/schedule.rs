//! The learning rate of a step: warm-up, then a schedule. A pure function of the step's number, so that a resumed run
//! needs nothing but its counter.

use serde::{Deserialize, Serialize};

/// How the learning rate falls after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It does not.
    Constant,
    /// Half a cosine from the full rate to the minimum over the whole run (Loshchilov and Hutter 2017, no restarts).
    Cosine,
    /// Multiplied by a factor every so many epochs, never below the minimum.
    Step,
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Schedule::Constant => "constant",
            Schedule::Cosine => "cosine",
            Schedule::Step => "step",
        })
    }
}

/// Everything that determines the learning rate of every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    /// The full rate.
    pub base: f64,
    /// The lowest rate that a schedule falls to.
    pub min: f64,
    /// Steps of linear warm-up: step s < warmup gets base * (s + 1) / warmup.
    pub warmup: u64,
    /// What happens after warm-up.
    pub schedule: Schedule,
    /// Steps of the whole run (cosine ends there).
    pub total_steps: u64,
    /// Steps of an epoch (need not be whole).
    pub steps_per_epoch: f64,
    /// `Step`: multiply every this many epochs.
    pub decay_every: u64,
    /// `Step`: multiply by this.
    pub decay: f64,
}

impl LearningRate {
    /// The learning rate of step `step`, from 0.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.base * (step + 1) as f64 / self.warmup as f64;
        }
        let floor = self.min.min(self.base);
        match self.schedule {
            Schedule::Constant => self.base,
            Schedule::Cosine => {
                let length = self.total_steps.saturating_sub(self.warmup).max(1) as f64;
                let part = ((step - self.warmup) as f64 / length).min(1.0);
                floor + (self.base - floor) * 0.5 * (1.0 + (std::f64::consts::PI * part).cos())
            }
            Schedule::Step => {
                let epoch = (step as f64 / self.steps_per_epoch.max(1e-9)).floor();
                let times = (epoch / self.decay_every.max(1) as f64).floor();
                (self.base * self.decay.powf(times)).max(floor)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(schedule: Schedule) -> LearningRate {
        LearningRate {
            base: 0.8,
            min: 0.1,
            warmup: 4,
            schedule,
            total_steps: 104,
            steps_per_epoch: 10.0,
            decay_every: 2,
            decay: 0.5,
        }
    }

    #[test]
    fn warm_up_is_linear_and_ends_at_the_full_rate() {
        let r = rate(Schedule::Constant);
        let seen: Vec<f64> = (0..6).map(|s| r.at(s)).collect();
        assert_eq!(seen, [0.2, 0.4, 0.6000000000000001, 0.8, 0.8, 0.8]);
        assert_eq!(LearningRate { warmup: 0, ..r }.at(0), 0.8);
    }

    #[test]
    fn cosine_falls_from_the_full_rate_to_the_minimum_and_stays_there() {
        let r = rate(Schedule::Cosine);
        assert!((r.at(4) - 0.8).abs() < 1e-12);
        assert!((r.at(54) - 0.45).abs() < 1e-12, "half way: {}", r.at(54));
        assert!((r.at(104) - 0.1).abs() < 1e-12);
        assert!((r.at(10_000) - 0.1).abs() < 1e-12);
        assert!((4..104).all(|s| r.at(s + 1) < r.at(s)));
    }

    #[test]
    fn step_halves_every_second_epoch_down_to_the_minimum() {
        let r = rate(Schedule::Step);
        assert_eq!(
            [r.at(19), r.at(20), r.at(39), r.at(40), r.at(60), r.at(900)],
            [0.8, 0.4, 0.4, 0.2, 0.1, 0.1]
        );
    }
}
