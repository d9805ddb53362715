//! Quantiles against printed tables, differences against numbers worked out by hand, and noise that stays noise.

use super::*;

#[test]
fn quantiles_are_those_of_the_printed_tables() {
    // Fisher and Yates' table and R's qt(0.975, df), qt(0.95, df), qt(0.995, df); half degrees from R.
    for (p, df, expected) in [
        (0.975, 1.0, 12.706204736432095),
        (0.975, 2.0, 4.302652729911275),
        (0.975, 3.0, 3.182446305284263),
        (0.975, 4.0, 2.7764451051977987),
        (0.975, 9.0, 2.2621571628540993),
        (0.975, 30.0, 2.0422724563012373),
        (0.95, 5.0, 2.0150483726691575),
        (0.995, 10.0, 3.169272672616951),
        (0.975, f64::INFINITY, 1.959963984540054),
        (0.975, 1e8, 1.959963984540054),
    ] {
        let got = t_quantile(p, df);
        assert!((got - expected).abs() < 1e-8, "t({p}, {df}) = {got}, expected {expected}");
        assert_eq!(t_quantile(1.0 - p, df), -t_quantile(1.0 - (1.0 - p), df));
    }
    // Closed forms: df 1 is Cauchy's distribution, df 2 is 1/2 + t / (2 sqrt(2 + t^2)).
    for t in [-30.0, -1.0, -0.01, 0.0, 0.3, 2.0, 50.0f64] {
        assert!((t_cdf(t, 1.0) - (0.5 + t.atan() / std::f64::consts::PI)).abs() < 1e-13, "{t}");
        assert!((t_cdf(t, 2.0) - (0.5 + t / (2.0 * (2.0 + t * t).sqrt()))).abs() < 1e-13, "{t}");
    }
    assert!(t_quantile(0.0, 3.0).is_nan() && t_quantile(0.5, -1.0).is_nan() && t_cdf(f64::NAN, 2.0).is_nan());
    assert!((t_cdf(1.0, f64::INFINITY) - 0.841344746068543).abs() < 1e-14);
    assert!((t_cdf(3.0, f64::INFINITY) - 0.998650101968370).abs() < 1e-14);
}

#[test]
fn a_summary_leaves_out_what_is_not_a_number() {
    let summary = Summary::of([2.0, f64::NAN, 4.0, f64::INFINITY, 9.0]).unwrap();
    assert_eq!((summary.n, summary.mean, summary.min, summary.max), (3, 5.0, 2.0, 9.0));
    // (9 + 1 + 16) / 2 = 13.
    assert!((summary.sd.unwrap() - 13f64.sqrt()).abs() < 1e-15);
    assert!((summary.error().unwrap() - (13f64 / 3.0).sqrt()).abs() < 1e-15);
    assert_eq!(Summary::of([f64::NAN]), None);
    assert_eq!(Summary::of([1.5]).unwrap().error(), None);
}

#[test]
fn common_seeds_are_paired_and_others_are_not() {
    // Differences 1, 2, 3: mean 2, sd 1, error 1/sqrt(3), t(0.975, 2) = 4.3027.
    let a = [(1, 11.0), (2, 22.0), (3, 33.0), (9, 500.0)];
    let b = [(3, 30.0), (1, 10.0), (2, 20.0)];
    let Some(Difference::Measured(paired, counts)) = difference(&a, &b) else { panic!() };
    assert!(paired.paired && !counts);
    assert!(
        (paired.mean - 2.0).abs() < 1e-12 && (paired.high - 2.0 - 4.302652729911 / 3f64.sqrt()).abs() < 1e-9
    );
    // p of t = 2 sqrt(3) with 2 degrees: 1 - 2 * t / (2 sqrt(2 + t^2)).
    let t = 2.0 * 3f64.sqrt();
    assert!((paired.p - (1.0 - t / (2.0 + t * t).sqrt())).abs() < 1e-12);
    // Welch by hand: means 2 and 5, variances 1 and 4, n 3 each: error sqrt(5/3), df (5/3)^2 / (1/9/2 + 16/9/2).
    let a = [(1, 1.0), (2, 2.0), (3, 3.0)];
    let b = [(4, 3.0), (5, 5.0), (6, 7.0)];
    let Some(Difference::Measured(welch, _)) = difference(&a, &b) else { panic!() };
    assert!(!welch.paired && (welch.mean + 3.0).abs() < 1e-12);
    assert!((welch.df - (25.0 / 9.0) / (17.0 / 18.0)).abs() < 1e-12, "{}", welch.df);
    // Swapped, the interval is mirrored.
    let Some(Difference::Measured(other, _)) = difference(&b, &a) else { panic!() };
    assert!((other.low + welch.high).abs() < 1e-12 && (other.p - welch.p).abs() < 1e-12);
}

#[test]
fn one_seed_or_seeds_without_spread_say_nothing() {
    assert_eq!(difference(&[(1, 2.0)], &[(1, 1.5)]), Some(Difference::SpreadUnknown(0.5)));
    assert_eq!(difference(&[(1, 2.0), (2, 3.0)], &[(7, 1.5)]), Some(Difference::SpreadUnknown(1.0)));
    assert_eq!(difference(&[], &[(1, 1.0)]), None);
    assert_eq!(difference(&[(1, f64::NAN)], &[(1, 1.0)]), None);
    let same = [(1, 1.25), (2, 1.5)];
    assert_eq!(difference(&same, &same), Some(Difference::SpreadUnknown(0.0)));
    let shifted = [(1, 1.75), (2, 2.0)];
    let shifted = difference(&shifted, &same).unwrap();
    assert!(!shifted.distinguishable() && shifted.mean() == 0.5);
    assert_eq!(Interval::from_constant(&[1.5, 1.5, 1.5], 2.0), None);
}

fn with_p(p: f64) -> Difference {
    let interval = Interval { mean: 1.0, low: 0.5, high: 1.5, p, df: 2.0, paired: true };
    Difference::Measured(interval, p < 0.05)
}

#[test]
fn holm_stops_at_the_first_that_is_not_small_enough() {
    let counts = |ps: &[f64]| -> Vec<bool> {
        let mut family: Vec<Difference> = ps.iter().map(|&p| with_p(p)).collect();
        family.push(Difference::SpreadUnknown(3.0));
        holm(family.iter_mut());
        family[..ps.len()].iter().map(Difference::distinguishable).collect()
    };
    assert_eq!(counts(&[0.03]), [true]);
    assert_eq!(counts(&[0.03, 0.03]), [false, false]);
    assert_eq!(counts(&[0.04, 0.01, 0.02]), [true, true, true]);
    // 0.01 < 0.05/3, 0.026 > 0.05/2: the last is not looked at though 0.04 < 0.05.
    assert_eq!(counts(&[0.04, 0.01, 0.026]), [false, true, false]);
    assert_eq!(counts(&[]), [] as [bool; 0]);
}

#[test]
fn noise_is_rarely_called_a_difference() {
    // 400 families of four comparisons of the same normal-like noise with three common seeds: at most 5% of the
    // families may hold one; 40 is three standard deviations above that.
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut noise = || (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
    let mut wrong = 0;
    for _ in 0..400 {
        let mut draw = || [1, 2, 3].map(|seed| (seed, 1.7 + 0.01 * noise()));
        let base = draw();
        let mut family: Vec<Difference> = (0..4).filter_map(|_| difference(&draw(), &base)).collect();
        holm(family.iter_mut());
        wrong += usize::from(family.iter().any(Difference::distinguishable));
    }
    assert!(wrong <= 33, "{wrong} of 400 families");
}

#[test]
fn shares_at_the_end_have_an_error() {
    assert!(share_error(1.0, 100) > 0.005 && share_error(1.0, 100) < 0.02);
    assert!((share_error(0.0, 50) - share_error(1.0, 50)).abs() < 1e-15);
    assert!((share_error(0.5, 10_000) - 0.005).abs() < 1e-5);
    let interval = normal_difference((0.9, 0.02), (0.5, 0.03)).unwrap();
    assert!((interval.high - 0.4 - 1.959963984540054 * 0.03f64.hypot(0.02)).abs() < 1e-9);
}
