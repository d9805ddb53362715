//! Means, spreads and differences over seeds, and when a difference may be called one. What each number means is told
//! in docs/study-statistics.md.
//!
//! Values that are not [`usable`] (a diverged trial) are left out everywhere; callers say how many.

use super::results::{Experiment, Protocol, Results, Trial, Variant};

/// Of a difference's interval, and of the whole family of comparisons of one experiment after Holm's correction.
pub const CONFIDENCE: f64 = 0.95;

/// Below this share of the values a spread is rounding, not noise.
const ROUNDING: f64 = 1e-9;

/// Whether a value can be reckoned with: finite, and not so large that sums of squares overflow or swallow the others.
pub fn usable(value: f64) -> bool {
    value.is_finite() && value.abs() < 1e12
}

/// Some values, summarised, in their own unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// How many.
    pub n: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation (n - 1); None of one value.
    pub sd: Option<f64>,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Of the usable ones among `values`; None where there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Summary> {
        let values: Vec<f64> = values.into_iter().filter(|value| usable(*value)).collect();
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let sd = (n > 1).then(|| (squares / (n - 1) as f64).sqrt());
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        mean.is_finite().then_some(Summary { n, mean, sd, min, max })
    }

    /// Standard error of the mean.
    pub fn error(&self) -> Option<f64> {
        self.sd.map(|sd| sd / (self.n as f64).sqrt())
    }
}

/// A difference of two means and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The difference.
    pub mean: f64,
    /// Lower end of its 95% confidence interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Two-sided p of no difference.
    pub p: f64,
    /// Degrees of freedom; infinite for a normal approximation.
    pub df: f64,
    /// Whether it was taken seed by seed.
    pub paired: bool,
}

impl Interval {
    /// From a difference, its standard error (above 0) and degrees of freedom; None where one is not a number.
    pub fn new(mean: f64, error: f64, df: f64, paired: bool) -> Option<Interval> {
        if !(mean.is_finite() && error.is_finite() && error > 0.0 && df > 0.0) {
            return None;
        }
        let reach = t_quantile(0.5 + CONFIDENCE / 2.0, df) * error;
        let p = 2.0 * (1.0 - t_cdf((mean / error).abs(), df));
        let p = p.clamp(0.0, 1.0);
        Some(Interval { mean, low: mean - reach, high: mean + reach, p, df, paired })
    }

    /// Of the mean of `values` from a constant; None below two values or without spread.
    pub fn from_constant(values: &[f64], constant: f64) -> Option<Interval> {
        let summary = Summary::of(values.iter().map(|value| value - constant))?;
        if noiseless(summary.sd?, constant) {
            return None;
        }
        Interval::new(summary.mean, summary.error()?, (summary.n - 1) as f64, false)
    }
}

/// What can be said about the difference of two variants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Difference {
    /// An interval; whether Holm's correction over the experiment lets it count as a difference.
    Measured(Interval, bool),
    /// One seed, or seeds that agree to the last digit: the spread is unknown, so nothing is said to differ.
    SpreadUnknown(f64),
}

impl Difference {
    /// The difference of the means.
    pub fn mean(&self) -> f64 {
        match self {
            Difference::Measured(interval, _) => interval.mean,
            Difference::SpreadUnknown(mean) => *mean,
        }
    }

    /// Whether it counts.
    pub fn distinguishable(&self) -> bool {
        matches!(self, Difference::Measured(_, true))
    }
}

fn noiseless(sd: f64, scale: f64) -> bool {
    sd <= ROUNDING * scale.abs()
}

/// `a` minus `b`, each with its seed: seed by seed where they share at least two (weights, order and dropout of a seed
/// are drawn alike, so some of the noise cancels), else Welch's. None where one of them has no finite value. Not yet
/// corrected: `true` means that this one interval excludes 0.
pub fn difference(a: &[(u64, f64)], b: &[(u64, f64)]) -> Option<Difference> {
    let finite = |values: &[(u64, f64)]| -> Vec<(u64, f64)> {
        values.iter().copied().filter(|(_, value)| usable(*value)).collect()
    };
    let (a, b) = (finite(a), finite(b));
    let of = |values: &[(u64, f64)]| Summary::of(values.iter().map(|(_, value)| *value));
    let (sa, sb) = (of(&a)?, of(&b)?);
    let pairs: Vec<f64> = a
        .iter()
        .filter_map(|(seed, x)| b.iter().find(|(other, _)| other == seed).map(|(_, y)| x - y))
        .collect();
    let scale = sa.mean.abs().max(sb.mean.abs());
    if let Some(pair) = Summary::of(pairs.iter().copied())
        && pair.n >= 2
    {
        let known = pair.sd.filter(|&sd| !noiseless(sd, scale)).and(pair.error());
        let interval = known.and_then(|error| Interval::new(pair.mean, error, (pair.n - 1) as f64, true));
        return Some(judged(pair.mean, interval));
    }
    let mean = sa.mean - sb.mean;
    let interval = match (sa.error(), sb.error()) {
        (Some(ea), Some(eb)) if !noiseless(ea.hypot(eb), scale) => {
            let (va, vb) = (ea * ea, eb * eb);
            let df = (va + vb).powi(2) / (va * va / (sa.n - 1) as f64 + vb * vb / (sb.n - 1) as f64);
            Interval::new(mean, ea.hypot(eb), df, false)
        }
        _ => None,
    };
    Some(judged(mean, interval))
}

fn judged(mean: f64, interval: Option<Interval>) -> Difference {
    match interval {
        Some(interval) => Difference::Measured(interval, interval.p < 1.0 - CONFIDENCE),
        None => Difference::SpreadUnknown(mean),
    }
}

/// Corrects a family of comparisons after Holm 1979: the smallest p must be below 0.05 / m, the next below
/// 0.05 / (m - 1), and so on; from the first that is not, none counts. So the chance that any difference is called one
/// that is none stays below 5% for the family.
pub fn holm<'a>(family: impl IntoIterator<Item = &'a mut Difference>) {
    let mut measured: Vec<(&mut bool, f64)> = family
        .into_iter()
        .filter_map(|difference| match difference {
            Difference::Measured(interval, counts) => Some((counts, interval.p)),
            Difference::SpreadUnknown(_) => None,
        })
        .collect();
    measured.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (m, mut all) = (measured.len(), true);
    for (i, (counts, p)) in measured.into_iter().enumerate() {
        all &= p < (1.0 - CONFIDENCE) / (m - i) as f64;
        *counts = all;
    }
}

/// A variant of an experiment under one protocol and how it compares.
#[derive(Debug, Clone)]
pub struct Compared<'a> {
    /// The variant.
    pub variant: Variant,
    /// Whether it is the experiment's baseline.
    pub baseline: bool,
    /// Its trials, one a seed, those that diverged among them.
    pub trials: Vec<&'a Trial>,
    /// Seed and score of the trials whose score is a number.
    pub scores: Vec<(u64, f64)>,
    /// Of the scores.
    pub summary: Option<Summary>,
    /// Its score minus the baseline's; None for the baseline and where one of them has no score.
    pub difference: Option<Difference>,
}

/// The variants of an experiment under a protocol in the experiment's order, with Holm's correction over them. Variants
/// without a trial are there too.
pub fn compare<'a>(results: &'a Results, experiment: &Experiment, protocol: Protocol) -> Vec<Compared<'a>> {
    let scores_of = |trials: &[&Trial]| -> Vec<(u64, f64)> {
        let score = |trial: &&Trial| trial.score().map(|score| (trial.seed, score));
        trials.iter().filter_map(score).filter(|(_, score)| usable(*score)).collect()
    };
    let base = scores_of(&trials_of(results, protocol, &experiment.baseline));
    let mut compared: Vec<Compared> = Vec::new();
    for variant in &experiment.variants {
        if compared.iter().any(|known| known.variant == *variant) {
            continue;
        }
        let trials = trials_of(results, protocol, variant);
        let scores = scores_of(&trials);
        let baseline = *variant == experiment.baseline;
        let summary = Summary::of(scores.iter().map(|(_, score)| *score));
        let difference = if baseline { None } else { difference(&scores, &base) };
        compared.push(Compared { variant: *variant, baseline, trials, scores, summary, difference });
    }
    holm(compared.iter_mut().filter_map(|one| one.difference.as_mut()));
    compared
}

/// The trials of a variant by seed, each seed once.
pub fn trials_of<'a>(results: &'a Results, protocol: Protocol, variant: &Variant) -> Vec<&'a Trial> {
    let mut trials = results.of(protocol, variant);
    trials.dedup_by_key(|trial| trial.seed);
    trials
}

/// Difference of two independent estimates with their standard errors, by the normal approximation.
pub fn normal_difference(a: (f64, f64), b: (f64, f64)) -> Option<Interval> {
    Interval::new(a.0 - b.0, a.1.hypot(b.1), f64::INFINITY, false)
}

/// Standard error of a share over `n` cases that may be exactly 0 or 1, where the plain formula says 0: Agresti and
/// Coull's (a success and a failure are added).
pub fn share_error(share: f64, n: usize) -> f64 {
    let n = n as f64;
    let p = (share.clamp(0.0, 1.0) * n + 1.0) / (n + 2.0);
    (p * (1.0 - p) / (n + 2.0)).sqrt()
}

/// Student's t: the probability of a value up to `t`, with `df` degrees of freedom (any positive number; infinite: the
/// normal distribution).
pub fn t_cdf(t: f64, df: f64) -> f64 {
    if t.is_nan() || df.is_nan() || df <= 0.0 {
        return f64::NAN;
    }
    // From here on the two agree to more digits than the continued fraction gives.
    if df > 1e7 {
        return 0.5 * erfc(-t / std::f64::consts::SQRT_2);
    }
    let tail = 0.5 * incomplete_beta(df / (df + t * t), df / 2.0, 0.5);
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// The value that Student's t stays below with probability `p`, 0 < p < 1; NaN outside.
pub fn t_quantile(p: f64, df: f64) -> f64 {
    if !(p > 0.0 && p < 1.0 && df > 0.0) {
        return f64::NAN;
    }
    if p < 0.5 {
        return -t_quantile(1.0 - p, df);
    }
    // Bisection: t_cdf rises, and a table is asked for rarely.
    let (mut low, mut high) = (0.0, 1.0);
    while t_cdf(high, df) < p && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if t_cdf(middle, df) < p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// Through the incomplete gamma function's series and continued fraction at a = 1/2.
fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    if x > 27.0 {
        return 0.0;
    }
    let square = x * x;
    let factor = (-square).exp() * x / std::f64::consts::PI.sqrt();
    if x < 1.5 {
        // erf(x) = factor * sum of x^2n / (1/2)(3/2)...(n + 1/2).
        let (mut sum, mut term, mut n) = (2.0, 2.0, 0.5);
        while term > 1e-17 * sum {
            n += 1.0;
            term *= square / n;
            sum += term;
        }
        return 1.0 - factor * sum;
    }
    // Lentz's method for the continued fraction of Gamma(1/2, x^2).
    let mut b = square + 0.5;
    let (mut c, mut d) = (1e300, 1.0 / b);
    let mut h = d;
    for i in 1..500 {
        let an = -(i as f64) * (i as f64 - 0.5);
        b += 2.0;
        d = 1.0 / (an * d + b);
        c = b + an / c;
        h *= c * d;
        if (c * d - 1.0).abs() < 1e-16 {
            break;
        }
    }
    factor * h
}

/// ln Gamma(x), x > 0: Lanczos, g = 7, 9 terms; about 15 digits.
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.5203681218851,
        -1259.1392167224028,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507343278686905,
        -0.13857109526572012,
        9.984_369_578_019_572e-6,
        1.5056327351493116e-7,
    ];
    let x = x - 1.0;
    let t = x + 7.5;
    let sum: f64 =
        0.999_999_999_999_809_9 + TERMS.iter().zip(1..).map(|(term, i)| term / (x + i as f64)).sum::<f64>();
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// Regularised incomplete beta function I_x(a, b): the continued fraction of Abramowitz and Stegun 26.5.8, by Lentz's
/// method.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // The fraction converges fast below the mean; above, the function is turned round.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp() / a;
    let safe = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let (mut c, mut d) = (1.0, 1.0 / safe(1.0 - (a + b) * x / (a + 1.0)));
    let mut h = d;
    for m in 1..2000 {
        let m = m as f64;
        for factor in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / safe(1.0 + factor * d);
            c = safe(1.0 + factor / c);
            h *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-16 {
            break;
        }
    }
    front * h
}

#[cfg(test)]
#[path = "statistics_tests.rs"]
mod tests;
