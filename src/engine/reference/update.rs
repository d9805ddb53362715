//! One optimiser update in f64, parameter by parameter: the formulas of PyTorch's documentation.

use crate::engine::Hyper;
use crate::optim::Optimizer;

/// Global L2 norm.
pub fn norm(grads: &[f64]) -> f64 {
    grads.iter().map(|g| g * g).sum::<f64>().sqrt()
}

/// What gradients are multiplied by, as `torch.nn.utils.clip_grad_norm_`; `clip` 0 = never.
pub fn clip_factor(norm: f64, clip: f64) -> f64 {
    if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 }
}

/// Applies update number `update` (from 1). `params`, `grads` (clipped already) and both moments have one length.
pub fn apply(params: &mut [f64], grads: &[f64], moments: &mut [Vec<f64>; 2], update: u64, hyper: &Hyper) {
    let (lr, decay) = (f64::from(hyper.lr), f64::from(hyper.weight_decay));
    let [first, second] = moments;
    for i in 0..params.len() {
        let (p, m, v) = (&mut params[i], &mut first[i], &mut second[i]);
        match hyper.optimizer {
            Optimizer::Adam { beta1, beta2, eps } => {
                adam(p, grads[i] + decay * *p, m, v, lr, [beta1, beta2, eps].map(f64::from), update);
            }
            Optimizer::AdamW { beta1, beta2, eps } => {
                *p *= 1.0 - lr * decay;
                adam(p, grads[i], m, v, lr, [beta1, beta2, eps].map(f64::from), update);
            }
            Optimizer::Sgd { momentum } => {
                *m = f64::from(momentum) * *m + grads[i] + decay * *p;
                *p -= lr * *m;
            }
            Optimizer::RmsProp { alpha, eps, momentum } => {
                let (alpha, g) = (f64::from(alpha), grads[i] + decay * *p);
                *m = alpha * *m + (1.0 - alpha) * g * g;
                *v = f64::from(momentum) * *v + g / (m.sqrt() + f64::from(eps));
                *p -= lr * *v;
            }
        }
    }
}

fn adam(p: &mut f64, g: f64, m: &mut f64, v: &mut f64, lr: f64, [beta1, beta2, eps]: [f64; 3], update: u64) {
    *m = beta1 * *m + (1.0 - beta1) * g;
    *v = beta2 * *v + (1.0 - beta2) * g * g;
    let t = update as f64;
    let denominator = v.sqrt() / (1.0 - beta2.powf(t)).sqrt() + eps;
    *p -= lr / (1.0 - beta1.powf(t)) * *m / denominator;
}
