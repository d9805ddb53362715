//! Choosing a character from logits: temperature, top-k, top-p, inverse distribution function.
//!
//! This is the definition that every engine follows, so that the same seed gives the same tune wherever the logits
//! agree to rounding:
//!
//! 1. banned ids get probability zero;
//! 2. temperature 0: the largest logit, the lowest id among equals;
//! 3. else p = softmax(logits / temperature) in f32 (maximum subtracted first);
//! 4. top-k keeps the k most probable (lowest id first among equals); top-p keeps the shortest prefix of the
//!    remaining, most probable first, whose sum reaches p (at least one);
//! 5. the kept probabilities are summed in id order; the choice is the first id at which the running sum exceeds
//!    u * total, u uniform in [0, 1).

/// How a character is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Divides the logits; 0 = greedy.
    pub temperature: f32,
    /// Keep only the k most probable; 0 = all.
    pub top_k: usize,
    /// Keep only the most probable whose sum reaches this; 1 = all.
    pub top_p: f32,
}

impl Default for Choice {
    fn default() -> Choice {
        Choice { temperature: 1.0, top_k: 0, top_p: 1.0 }
    }
}

impl Choice {
    /// Chooses an id from `logits` [V] (overwritten) with the uniform number `u` in [0, 1). `order` is scratch.
    /// Ids in `banned` are never chosen, unless nothing else is left.
    pub fn pick(&self, logits: &mut [f32], banned: &[u16], u: f32, order: &mut Vec<u16>) -> u16 {
        for &id in banned {
            if let Some(logit) = logits.get_mut(usize::from(id)) {
                *logit = f32::NEG_INFINITY;
            }
        }
        let (best, max) = argmax(logits);
        if self.temperature == 0.0 || !max.is_finite() {
            return best;
        }
        let scale = 1.0 / self.temperature;
        let mut total = 0.0f32;
        for logit in logits.iter_mut() {
            *logit = ((*logit - max) * scale).exp();
            total += *logit;
        }
        let all_k = self.top_k == 0 || self.top_k >= logits.len();
        if !(all_k && self.top_p >= 1.0) {
            order.clear();
            order.extend(0..logits.len() as u16);
            order.sort_by(|&a, &b| logits[usize::from(b)].total_cmp(&logits[usize::from(a)]).then(a.cmp(&b)));
            let mut keep = if all_k { order.len() } else { self.top_k };
            if self.top_p < 1.0 {
                let kept: f32 = order[..keep].iter().map(|&id| logits[usize::from(id)]).sum();
                let mut sum = 0.0f32;
                for (n, &id) in order[..keep].iter().enumerate() {
                    sum += logits[usize::from(id)];
                    if sum >= self.top_p * kept {
                        keep = n + 1;
                        break;
                    }
                }
            }
            for &id in &order[keep..] {
                logits[usize::from(id)] = 0.0;
            }
            total = logits.iter().sum();
        }
        let aim = u * total;
        let mut sum = 0.0f32;
        let mut last = best;
        for (id, &p) in logits.iter().enumerate() {
            sum += p;
            if p > 0.0 {
                last = id as u16;
                if sum > aim {
                    return last;
                }
            }
        }
        // Rounding can leave the running sum a hair short of the total.
        last
    }
}

/// The largest logit (NaN never wins), the lowest id among equals.
fn argmax(logits: &[f32]) -> (u16, f32) {
    let mut best = (0u16, f32::NEG_INFINITY);
    for (id, &logit) in logits.iter().enumerate() {
        if logit > best.1 {
            best = (id as u16, logit);
        }
    }
    best
}
