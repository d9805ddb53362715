//! Values over a set of tunes with their standard errors, and distances between histograms.

use crate::rng;

/// Bootstrap resamples: enough for a standard error to about 5% of itself.
const RESAMPLES: u32 = 200;

/// A value and its standard error over tunes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Its standard error; None for a single tune.
    pub error: Option<f64>,
}

/// The share of tunes of which something is true: binomial error sqrt(p (1 - p) / n). None without tunes.
pub fn share(tunes: impl Iterator<Item = bool>) -> Option<Estimate> {
    let (mut hits, mut n) = (0usize, 0usize);
    tunes.for_each(|hit| {
        hits += usize::from(hit);
        n += 1;
    });
    let p = hits as f64 / n as f64;
    (n > 0).then(|| Estimate { value: p, error: (n > 1).then(|| (p * (1.0 - p) / n as f64).sqrt()) })
}

/// The share of things (bars, notes) that are right, `(right, all)` a tune: the error is the ratio estimator's, with
/// tunes as the units that were drawn (Cochran 1977, 2.11). None where there is nothing.
pub fn ratio(tunes: impl Iterator<Item = (usize, usize)>) -> Option<Estimate> {
    let counts: Vec<(f64, f64)> =
        tunes.filter(|(_, all)| *all > 0).map(|(right, all)| (right as f64, all as f64)).collect();
    let n = counts.len() as f64;
    let all: f64 = counts.iter().map(|c| c.1).sum();
    let value = counts.iter().map(|c| c.0).sum::<f64>() / all;
    let squares: f64 = counts.iter().map(|(right, all)| (right - value * all).powi(2)).sum();
    (all > 0.0).then(|| Estimate { value, error: (n > 1.0).then(|| (n / (n - 1.0) * squares).sqrt() / all) })
}

/// The mean, with the error sd / sqrt(n). None without values.
pub fn mean(values: impl Iterator<Item = f64>) -> Option<Estimate> {
    let values: Vec<f64> = values.collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (n > 0.0).then(|| Estimate { value: mean, error: (n > 1.0).then(|| (squares / (n - 1.0) / n).sqrt()) })
}

/// The median, with a bootstrap error over tunes. None without values.
pub fn median(values: impl Iterator<Item = f64>) -> Option<Estimate> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = |sorted: &[f64]| {
        let n = sorted.len();
        (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0
    };
    if values.is_empty() {
        return None;
    }
    let error = bootstrap(values.len(), |drawn| {
        // The values are in order: so are the sorted indices'.
        let mut drawn = drawn.to_vec();
        drawn.sort_unstable();
        middle(&drawn.iter().map(|&i| values[i]).collect::<Vec<f64>>())
    });
    Some(Estimate { value: middle(&values), error })
}

/// The standard deviation of `statistic` over resamples of `n` tunes, drawn with replacement: always the same draws.
/// None for fewer than two.
pub fn bootstrap(n: usize, mut statistic: impl FnMut(&[usize]) -> f64) -> Option<f64> {
    if n < 2 {
        return None;
    }
    let mut drawn = vec![0; n];
    let (mut sum, mut squares) = (0.0, 0.0);
    for resample in 0..RESAMPLES {
        for (i, index) in drawn.iter_mut().enumerate() {
            *index = below(n, i as u32, resample);
        }
        let value = statistic(&drawn);
        sum += value;
        squares += value * value;
    }
    let count = f64::from(RESAMPLES);
    Some(((squares - sum * sum / count).max(0.0) / (count - 1.0)).sqrt())
}

/// `count` different numbers below `n`, ascending; draw `number` of many, always the same.
pub fn subset(n: usize, count: usize, number: u32) -> Vec<usize> {
    // Selection sampling (Knuth 3.4.2, algorithm S).
    let mut chosen = Vec::with_capacity(count.min(n));
    for i in 0..n {
        let wanted = count.min(n) - chosen.len();
        if below(n - i, i as u32, number | 1 << 31) < wanted {
            chosen.push(i);
        }
    }
    chosen
}

/// A number below `n`.
fn below(n: usize, a: u32, b: u32) -> usize {
    let words = rng::philox4x32([a, b, 0, 0], [0x6d65_6173, 0x7572_6573]);
    let word = u64::from(words[0]) << 32 | u64::from(words[1]);
    ((u128::from(word) * n as u128) >> 64) as usize
}

/// Jensen-Shannon divergence of two histograms of counts over the same bins, in bits: 0 for equal shapes, 1 for shapes
/// that share no bin (Lin 1991). None where one of them is empty.
pub fn divergence(a: &[f64], b: &[f64]) -> Option<f64> {
    let (sum_a, sum_b): (f64, f64) = (a.iter().sum(), b.iter().sum());
    if sum_a <= 0.0 || sum_b <= 0.0 {
        return None;
    }
    let term = |p: f64, m: f64| if p > 0.0 { p * (p / m).log2() } else { 0.0 };
    let sum: f64 = a
        .iter()
        .zip(b)
        .map(|(&x, &y)| {
            let (p, q) = (x / sum_a, y / sum_b);
            let m = (p + q) / 2.0;
            (term(p, m) + term(q, m)) / 2.0
        })
        .sum();
    Some(sum.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn shares_ratios_means() {
        let half = share([true, false, true, false].into_iter()).unwrap();
        assert!(close(half.value, 0.5) && close(half.error.unwrap(), 0.25));
        assert_eq!(share([true].into_iter()), Some(Estimate { value: 1.0, error: None }));
        assert_eq!(share(std::iter::empty()), None);
        // 3 of 4 and 1 of 4: residuals 1 and -1, so sqrt(2 * 2) / 8.
        let ratio = ratio([(3, 4), (1, 4), (0, 0)].into_iter()).unwrap();
        assert!(close(ratio.value, 0.5) && close(ratio.error.unwrap(), 0.25));
        assert_eq!(super::ratio([(0, 0)].into_iter()), None);
        let mean = mean([1.0, 2.0, 3.0].into_iter()).unwrap();
        assert!(close(mean.value, 2.0) && close(mean.error.unwrap(), (1.0f64 / 3.0).sqrt()));
    }

    #[test]
    fn medians_and_their_errors() {
        assert_eq!(median([4.0, 1.0, 2.0].into_iter()).unwrap().value, 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()).unwrap().value, 2.5);
        assert_eq!(median([5.0; 9].into_iter()), Some(Estimate { value: 5.0, error: Some(0.0) }));
        // Of n normal values the median's error is 1.2533 sd / sqrt(n); of uniform ones 1 / (2 sqrt(n)).
        let uniform = median((0..400).map(|i| f64::from(i) / 400.0)).unwrap();
        assert!((0.018..0.032).contains(&uniform.error.unwrap()), "{uniform:?}");
    }

    #[test]
    fn the_bootstrap_knows_the_error_of_a_mean() {
        let values: Vec<f64> = (0..100).map(|i| f64::from(i % 10)).collect();
        let error = bootstrap(100, |drawn| drawn.iter().map(|&i| values[i]).sum::<f64>() / 100.0).unwrap();
        let exact = mean(values.iter().copied()).unwrap().error.unwrap();
        assert!((error / exact - 1.0).abs() < 0.2, "{error} {exact}");
        assert_eq!(bootstrap(1, |_| 0.0), None);
    }

    #[test]
    fn subsets_are_different_numbers() {
        let mut seen = [0; 10];
        for number in 0..200 {
            let subset = subset(10, 4, number);
            assert!(subset.len() == 4 && subset.windows(2).all(|pair| pair[0] < pair[1]), "{subset:?}");
            subset.iter().for_each(|&i| seen[i] += 1);
        }
        assert!(seen.iter().all(|&count| (50..=110).contains(&count)), "{seen:?}");
        assert_eq!(subset(3, 9, 0), [0, 1, 2]);
        assert_eq!(subset(0, 2, 0), Vec::<usize>::new());
    }

    #[test]
    fn divergences() {
        assert_eq!(divergence(&[1.0, 3.0], &[2.0, 6.0]), Some(0.0));
        assert_eq!(divergence(&[1.0, 0.0], &[0.0, 5.0]), Some(1.0));
        // p = (1, 0), q = (1/2, 1/2): half of log2(4/3), and half of (1/2 log2(2/3) + 1/2).
        let expected = 0.5 * (4.0f64 / 3.0).log2() + 0.5 * (0.5 * (2.0f64 / 3.0).log2() + 0.5);
        assert!(close(divergence(&[1.0, 0.0], &[1.0, 1.0]).unwrap(), expected));
        assert_eq!(divergence(&[], &[]), None);
        assert_eq!(divergence(&[0.0], &[1.0]), None);
    }
}
