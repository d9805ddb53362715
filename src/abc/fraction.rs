//! Exact musical time: reduced fractions of a whole note, with every overflow seen.
//!
//! Tuplets make denominators that no fixed tick grid holds, so time is kept exact here and becomes ticks only
//! when a MIDI file is written. Not a general rational type: only what durations need.

use std::cmp::Ordering;
use std::fmt;

/// A reduced fraction with a positive denominator. As a duration or an onset its unit is the whole note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fraction {
    num: i64,
    den: i64,
}

impl Fraction {
    /// Nothing.
    pub const ZERO: Fraction = Fraction { num: 0, den: 1 };
    /// One whole note.
    pub const ONE: Fraction = Fraction { num: 1, den: 1 };

    /// `num / den`, reduced; `None` when `den` is zero or the reduced parts do not fit.
    pub fn new(num: i64, den: i64) -> Option<Fraction> {
        Self::reduced(i128::from(num), i128::from(den))
    }

    /// `num / den` of two small positive numbers; a zero denominator counts as 1.
    pub const fn ratio(num: u32, den: u32) -> Fraction {
        let mut a = num;
        let mut b = if den == 0 { 1 } else { den };
        let whole = b;
        while b != 0 {
            (a, b) = (b, a % b);
        }
        // `a` is now the greatest common divisor; it is at least 1 because `whole` is.
        Fraction { num: (num / a) as i64, den: (whole / a) as i64 }
    }

    fn reduced(num: i128, den: i128) -> Option<Fraction> {
        if den == 0 {
            return None;
        }
        let (mut a, mut b) = (num.unsigned_abs(), den.unsigned_abs());
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let divisor = i128::try_from(a).ok()?;
        let sign = if den < 0 { -1 } else { 1 };
        Some(Fraction {
            num: i64::try_from(num / divisor * sign).ok()?,
            den: i64::try_from(den / divisor * sign).ok()?,
        })
    }

    /// The numerator, negative for a negative fraction.
    pub fn numerator(self) -> i64 {
        self.num
    }

    /// The denominator, at least 1.
    pub fn denominator(self) -> i64 {
        self.den
    }

    /// The sum, or `None` when it does not fit.
    pub fn checked_add(self, other: Fraction) -> Option<Fraction> {
        // Both products are below 2^126, so their sum fits an i128.
        let num = i128::from(self.num) * i128::from(other.den) + i128::from(other.num) * i128::from(self.den);
        Self::reduced(num, i128::from(self.den) * i128::from(other.den))
    }

    /// The difference, or `None` when it does not fit.
    pub fn checked_sub(self, other: Fraction) -> Option<Fraction> {
        self.checked_add(Fraction { num: other.num.checked_neg()?, den: other.den })
    }

    /// The product, or `None` when it does not fit.
    pub fn checked_mul(self, other: Fraction) -> Option<Fraction> {
        Self::reduced(
            i128::from(self.num) * i128::from(other.num),
            i128::from(self.den) * i128::from(other.den),
        )
    }

    /// The quotient, or `None` when `other` is zero or it does not fit.
    pub fn checked_div(self, other: Fraction) -> Option<Fraction> {
        Self::reduced(
            i128::from(self.num) * i128::from(other.den),
            i128::from(self.den) * i128::from(other.num),
        )
    }

    /// Whether this is nothing.
    pub fn is_zero(self) -> bool {
        self.num == 0
    }

    /// The nearest `f64`.
    pub fn as_f64(self) -> f64 {
        self.num as f64 / self.den as f64
    }

    /// This many whole notes in ticks, rounded to the nearest; `None` below zero or beyond a `u32`.
    pub fn ticks(self, per_whole: u32) -> Option<u32> {
        let scaled = i128::from(self.num) * i128::from(per_whole);
        let den = i128::from(self.den);
        u32::try_from((2 * scaled + den).div_euclid(2 * den)).ok()
    }
}

impl Default for Fraction {
    fn default() -> Self {
        Fraction::ZERO
    }
}

impl Ord for Fraction {
    fn cmp(&self, other: &Self) -> Ordering {
        (i128::from(self.num) * i128::from(other.den)).cmp(&(i128::from(other.num) * i128::from(self.den)))
    }
}

impl PartialOrd for Fraction {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.den == 1 { write!(f, "{}", self.num) } else { write!(f, "{}/{}", self.num, self.den) }
    }
}

impl serde::Serialize for Fraction {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fractions_are_reduced_and_signed_in_the_numerator() {
        assert_eq!(Fraction::new(6, -8), Fraction::new(-3, 4));
        assert_eq!(Fraction::ratio(4, 8), Fraction::ratio(1, 2));
        assert_eq!(Fraction::new(1, 0), None);
        assert_eq!(Fraction::ratio(0, 0), Fraction::ZERO);
    }

    #[test]
    fn overflow_is_seen_not_wrapped() {
        let tiny = Fraction::new(1, i64::MAX).unwrap();
        let other = Fraction::new(1, i64::MAX - 1).unwrap();
        assert_eq!(tiny.checked_add(other), None);
        assert_eq!(Fraction::new(i64::MAX, 1).unwrap().ticks(1920), None);
        assert_eq!(Fraction::new(i64::MIN, i64::MIN), Some(Fraction::ONE));
    }

    #[test]
    fn ticks_round_to_the_nearest() {
        assert_eq!(Fraction::ratio(1, 12).ticks(1920), Some(160));
        assert_eq!(Fraction::ratio(1, 7).ticks(1920), Some(274)); // 274.29
        assert_eq!(Fraction::new(-1, 4).unwrap().ticks(1920), None);
    }

    proptest! {
        #[test]
        fn arithmetic_agrees_with_the_definition(a in -999i64..999, b in 1i64..99, c in -999i64..999, d in 1i64..99) {
            let (x, y) = (Fraction::new(a, b).unwrap(), Fraction::new(c, d).unwrap());
            prop_assert_eq!(x.checked_add(y), Fraction::new(a * d + c * b, b * d));
            prop_assert_eq!(x.checked_mul(y), Fraction::new(a * c, b * d));
            prop_assert_eq!(x.cmp(&y), (a * d).cmp(&(c * b)));
            prop_assert_eq!(x.checked_sub(y).and_then(|z| z.checked_add(y)), Some(x));
        }

        #[test]
        fn any_parts_are_safe(a: i64, b: i64, c: i64, d: i64) {
            if let (Some(x), Some(y)) = (Fraction::new(a, b), Fraction::new(c, d)) {
                let _ = (x.checked_add(y), x.checked_sub(y), x.checked_mul(y), x.checked_div(y), x.cmp(&y));
                let _ = (x.ticks(u32::MAX), x.as_f64());
            }
        }
    }
}
