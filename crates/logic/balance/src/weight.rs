//! How much of something: weights, percentages, the share that an endpoint gets while it warms up.

use std::{fmt, num::NonZeroU32};

use rand::Rng;

use crate::PolicyError;

/// How many times as much as an endpoint of weight one. Never zero: what gets nothing is not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(NonZeroU32);

impl Weight {
    /// What an endpoint weighs when nothing is said.
    pub const ONE: Self = Self(NonZeroU32::MIN);

    /// A weight.
    pub const fn new(value: NonZeroU32) -> Self {
        Self(value)
    }

    /// The number.
    pub const fn value(self) -> u32 {
        self.0.get()
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::ONE
    }
}

/// Between 0 and 100 %, to a millionth of the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent {
    millionths: u32,
}

const MILLION: u32 = 1_000_000;

impl Percent {
    /// Nothing.
    pub const ZERO: Self = Self { millionths: 0 };

    /// A tenth, written here because constants cannot be parsed.
    pub(crate) const TEN: Self = Self { millionths: 100_000 };

    /// A fifth.
    pub(crate) const TWENTY: Self = Self { millionths: 200_000 };

    /// A percentage as users write it.
    ///
    /// # Errors
    /// When it is not between 0 and 100.
    pub fn new(what: &'static str, value: f64) -> Result<Self, PolicyError> {
        if (0.0..=100.0).contains(&value) {
            Ok(Self { millionths: fixed(value / 100.0, MILLION) })
        } else {
            Err(PolicyError::Percent { what, value })
        }
    }

    /// Whether `part` is at most this much of `whole`.
    pub fn allows(self, part: usize, whole: usize) -> bool {
        wide(part).saturating_mul(u128::from(MILLION)) <= wide(whole).saturating_mul(self.millionths.into())
    }

    /// Whether `part` is less than this much of `whole`.
    pub fn exceeds(self, part: usize, whole: usize) -> bool {
        wide(part).saturating_mul(u128::from(MILLION)) < wide(whole).saturating_mul(self.millionths.into())
    }

    /// This much of `whole`, rounded down.
    pub fn of(self, whole: u32) -> u32 {
        let part = u64::from(whole) * u64::from(self.millionths) / u64::from(MILLION);
        u32::try_from(part).unwrap_or(u32::MAX)
    }

    /// As a fraction of one.
    pub(crate) fn fraction(self) -> f64 {
        f64::from(self.millionths) / f64::from(MILLION)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.fraction() * 100.0)
    }
}

/// How much of its weight counts, in ten-thousandths: all of it, unless an endpoint warms up. Never nothing, or it would never be warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(NonZeroU32);

impl Share {
    /// All of it, as a number.
    pub(crate) const WHOLE: u32 = 10_000;

    /// All of it.
    pub const FULL: Self = match NonZeroU32::new(Self::WHOLE) {
        Some(parts) => Self(parts),
        None => Self(NonZeroU32::MIN),
    };

    /// The nearest to a fraction of one that is not more, and not nothing.
    pub(crate) fn of(fraction: f64) -> Self {
        Self(NonZeroU32::new(fixed(fraction, Self::WHOLE)).unwrap_or(NonZeroU32::MIN))
    }

    /// In ten-thousandths.
    pub fn parts(self) -> u32 {
        self.0.get()
    }

    /// Yes as often as the share is large.
    pub(crate) fn accepts(self, rng: &mut impl Rng) -> bool {
        self == Self::FULL || rng.random_range(0..Self::WHOLE) < self.parts()
    }

    /// What is left of a weight, in ten-thousandths.
    pub(crate) fn of_weight(self, weight: Weight) -> u64 {
        u64::from(weight.value()) * u64::from(self.parts())
    }
}

/// A count, in a type in which sums and products of counts do not overflow.
pub(crate) fn wide(count: usize) -> u128 {
    u128::try_from(count).unwrap_or(u128::MAX)
}

/// The largest `n` of at most `scale` with `n / scale <= fraction`.
fn fixed(fraction: f64, scale: u32) -> u32 {
    // A millionth of a step over, so that 0.1 % is 0.1 % though no binary fraction is.
    let target = fraction * f64::from(scale) + 1e-6;
    let (mut low, mut high) = (0, scale);
    while low < high {
        let middle = high - (high - low) / 2;
        if f64::from(middle) <= target {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_percentage_is_kept_as_it_was_written() {
        for (value, of_a_million) in [
            (0.0, Some(0)),
            (0.0001, Some(1)),
            (0.1, Some(1_000)),
            (12.5, Some(125_000)),
            (33.3333, Some(333_333)),
            (99.9999, Some(999_999)),
            (100.0, Some(MILLION)),
            (100.1, None),
            (-0.1, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ] {
            assert_eq!(Percent::new("x", value).ok().map(|percent| percent.of(MILLION)), of_a_million, "{value}");
        }
        assert_eq!(Percent::TEN, Percent::new("x", 10.0).unwrap());
        assert_eq!(Percent::TWENTY, Percent::new("x", 20.0).unwrap());
        assert_eq!(Percent::new("x", 12.5).unwrap().to_string(), "12.5%");
    }

    #[test]
    fn a_bound_belongs_to_what_is_allowed() {
        let ten = Percent::TEN;
        for (part, whole, allows, exceeds) in [
            (1, 10, true, false),
            (2, 10, false, false),
            (1, 9, false, false),
            (1, 11, true, true),
            (0, 0, true, false),
        ] {
            assert_eq!((ten.allows(part, whole), ten.exceeds(part, whole)), (allows, exceeds), "{part} of {whole}");
        }
        assert!(Percent::new("x", 100.0).unwrap().allows(usize::MAX, usize::MAX));
    }

    proptest! {
        #[test]
        fn a_share_is_not_more_than_its_fraction_and_not_nothing(fraction in -1.0_f64..2.0) {
            let parts = f64::from(Share::of(fraction).parts());
            prop_assert!((1.0..=10_000.0).contains(&parts));
            prop_assert!(parts <= 1.0 || parts <= fraction * 10_000.0 + 1e-5);
            prop_assert!(parts >= 10_000.0 || parts + 1.0 > fraction * 10_000.0);
        }
    }
}
