//! Optimisers and schedules: pure mathematics, engines apply them.

pub mod schedule;

pub use schedule::{LearningRate, Schedule};

use serde::{Deserialize, Serialize};

/// An optimiser with its constants; formulas and defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Optimizer {
    /// Kingma and Ba 2015; weight decay added to the gradient.
    Adam {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root of the second moment.
        eps: f32,
    },
    /// Loshchilov and Hutter 2019; decoupled weight decay.
    AdamW {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root of the second moment.
        eps: f32,
    },
    /// Stochastic gradient descent with momentum (`torch.optim.SGD`, no dampening, no Nesterov).
    Sgd {
        /// Momentum.
        momentum: f32,
    },
    /// Tieleman and Hinton 2012 (`torch.optim.RMSprop`, not centred).
    RmsProp {
        /// Smoothing constant.
        alpha: f32,
        /// Added to the root of the square average.
        eps: f32,
        /// Momentum.
        momentum: f32,
    },
}

impl Optimizer {
    /// Adam with PyTorch's constants.
    pub const ADAM: Optimizer = Optimizer::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    /// AdamW with PyTorch's constants.
    pub const ADAMW: Optimizer = Optimizer::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    /// SGD with momentum 0.9.
    pub const SGD: Optimizer = Optimizer::Sgd { momentum: 0.9 };
    /// RMSprop with PyTorch's constants.
    pub const RMSPROP: Optimizer = Optimizer::RmsProp { alpha: 0.99, eps: 1e-8, momentum: 0.0 };
}
