//! Statistics of repeated measurements: medians and quartiles, since a shared machine's outliers are not the program's.

/// Order statistics of some samples, in the samples' unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// How many.
    pub count: usize,
    /// The middle one, or the mean of the middle two.
    pub median: f64,
    /// First quartile.
    pub low: f64,
    /// Third quartile.
    pub high: f64,
    /// The smallest.
    pub min: f64,
}

impl Summary {
    /// Summarises; None without samples or where one is not a number.
    pub fn of(samples: &[f64]) -> Option<Summary> {
        if samples.is_empty() || samples.iter().any(|x| x.is_nan()) {
            return None;
        }
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Summary {
            count: sorted.len(),
            median: quantile(&sorted, 0.5),
            low: quantile(&sorted, 0.25),
            high: quantile(&sorted, 0.75),
            min: sorted[0],
        })
    }

    /// Interquartile range.
    pub fn spread(&self) -> f64 {
        self.high - self.low
    }

    /// Every value times `factor` (a positive one).
    pub fn scaled(&self, factor: f64) -> Summary {
        let Summary { count, median, low, high, min } = *self;
        Summary { count, median: median * factor, low: low * factor, high: high * factor, min: min * factor }
    }
}

/// Linear interpolation between order statistics, as NumPy's default; `sorted` is not empty.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    let share = place - below as f64;
    // Not a blend where there is nothing to blend: infinity times zero is not a number.
    if share == 0.0 { sorted[below] } else { sorted[below] * (1.0 - share) + sorted[above] * share }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_numpys() {
        // numpy.percentile([7, 1, 3, 9, 5, 100], [25, 50, 75]) = 3.5, 6, 8.5
        let summary = Summary::of(&[7.0, 1.0, 3.0, 9.0, 5.0, 100.0]).unwrap();
        assert_eq!((summary.low, summary.median, summary.high), (3.5, 6.0, 8.5));
        assert_eq!((summary.count, summary.min, summary.spread()), (6, 1.0, 5.0));
        let half = summary.scaled(0.5);
        assert_eq!((half.median, half.spread(), half.min, half.count), (3.0, 2.5, 0.5, 6));
    }

    #[test]
    fn one_sample_has_no_spread_and_none_has_no_summary() {
        let one = Summary::of(&[2.0]).unwrap();
        assert_eq!((one.median, one.spread(), one.min), (2.0, 0.0, 2.0));
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[1.0, f64::NAN]), None);
    }
}
