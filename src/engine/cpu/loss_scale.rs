//! The dynamic loss scale of f16.

use super::CpuEngine;
use crate::engine::{FIRST_LOSS_SCALE, Precision};

/// After how many good steps f16's dynamic loss scale doubles.
const GOOD_STEPS: u32 = 2000;

impl CpuEngine {
    /// f16: halve the scale on overflow, double it after many good steps.
    pub(super) fn adapt_loss_scale(&mut self, finite: bool) {
        if self.precision != Precision::F16 {
            return;
        }
        if finite {
            self.good_steps += 1;
            if self.good_steps == GOOD_STEPS {
                self.good_steps = 0;
                self.loss_scale = (self.loss_scale * 2.0).min(FIRST_LOSS_SCALE * FIRST_LOSS_SCALE);
            }
        } else {
            self.good_steps = 0;
            self.loss_scale = (self.loss_scale * 0.5).max(1.0);
        }
    }
}
