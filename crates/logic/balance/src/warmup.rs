//! Slow start: an endpoint that is new gets little at first, and more with time. `DestinationRule.loadBalancer.warmup`.

use std::time::Duration;

use crate::{Percent, Period, PolicyError, Share};

/// How an endpoint warms up. Counts for ROUND_ROBIN and LEAST_REQUEST, as in Istio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warmup {
    duration: Period,
    minimum: Percent,
    aggression: f64,
}

impl Warmup {
    /// For so long, from so much on (10 % when nothing is said), this steeply: 1, which it is when nothing is said, is a straight line, more is
    /// faster at first. Envoy `SlowStartConfig`, whose defaults Istio takes.
    ///
    /// # Errors
    /// When the line would not rise.
    pub fn new(duration: Period, minimum: Option<Percent>, aggression: Option<f64>) -> Result<Self, PolicyError> {
        let aggression = aggression.unwrap_or(1.0);
        if !(aggression > 0.0 && aggression.is_finite()) {
            return Err(PolicyError::NotPositive { what: "aggression", value: aggression });
        }
        Ok(Self { duration, minimum: minimum.unwrap_or(Percent::TEN), aggression })
    }

    /// How much of its weight an endpoint of this age has: `max(minimum, (age / duration)^(1 / aggression))`, the first second counting as
    /// one. Envoy slow_start.rst.
    pub fn share(&self, age: Duration) -> Share {
        let duration = self.duration.get();
        if age >= duration {
            return Share::FULL;
        }
        let age = age.max(Duration::from_secs(1)).min(duration);
        let factor = age.as_secs_f64() / duration.as_secs_f64();
        Share::of(factor.powf(self.aggression.recip()).max(self.minimum.fraction()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn warmup(seconds: u64, minimum: Option<f64>, aggression: Option<f64>) -> Result<Warmup, PolicyError> {
        let minimum = minimum.map(|minimum| Percent::new("minimum", minimum)).transpose()?;
        Warmup::new(Period::new("warm-up", Duration::from_secs(seconds))?, minimum, aggression)
    }

    #[test]
    fn the_share_grows_as_envoy_says() {
        for (minimum, aggression, age, want) in [
            (None, None, 0, 1_000),
            (None, None, 30, 5_000),
            (None, None, 59, 9_833),
            (None, None, 60, 10_000),
            (None, None, 9_999, 10_000),
            (Some(0.0), None, 0, 166),
            (Some(50.0), None, 15, 5_000),
            (Some(50.0), None, 45, 7_500),
            (Some(0.0), Some(2.0), 15, 5_000),
            (Some(0.0), Some(0.5), 30, 2_500),
            (Some(100.0), None, 1, 10_000),
        ] {
            let share = warmup(60, minimum, aggression).unwrap().share(Duration::from_secs(age));
            assert_eq!(share.parts(), want, "{minimum:?} {aggression:?} {age}");
        }
    }

    #[test]
    fn what_does_not_rise_is_refused() {
        for (seconds, aggression) in
            [(0, None), (1, Some(0.0)), (1, Some(-1.0)), (1, Some(f64::NAN)), (1, Some(f64::INFINITY))]
        {
            assert!(warmup(seconds, None, aggression).is_err(), "{seconds} {aggression:?}");
        }
    }

    proptest! {
        #[test]
        fn who_is_older_never_has_less(
            aggression in 0.01_f64..100.0, minimum in 0.0_f64..100.0, ages in any::<(u16, u16)>(), seconds in 1_u64..100_000,
        ) {
            let warmup = warmup(seconds, Some(minimum), Some(aggression)).unwrap();
            let [one, other] = [ages.0.min(ages.1), ages.0.max(ages.1)].map(|age| warmup.share(Duration::from_secs(age.into())));
            prop_assert!(one <= other && other <= Share::FULL);
        }
    }
}
