//! When to renew a certificate, and when to try again.

use std::time::{Duration, SystemTime};

use rand::Rng;

/// The first wait after a failure.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// The longest wait after any number of failures.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// When to renew: half-way through the lifetime, give or take a tenth of the lifetime, so that the pods of a cluster that
/// started together do not ask their CA together. A certificate that never was valid is due at once.
pub fn renew_at(not_before: SystemTime, not_after: SystemTime, rng: &mut impl Rng) -> SystemTime {
    let lifetime = not_after.duration_since(not_before).unwrap_or_default();
    not_before + lifetime.mul_f64(rng.random_range(0.4..0.6))
}

/// How long to wait after `failures` failures in a row: doubling, at most 30 s, and of that a random half to whole.
pub fn backoff(failures: u32, rng: &mut impl Rng) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_RETRY).mul_f64(rng.random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    proptest! {
        #[test]
        fn a_renewal_falls_in_the_middle_fifth_of_the_lifetime(start in 0u64..4_000_000_000, life in 1u64..400_000_000, seed: u64) {
            let not_before = SystemTime::UNIX_EPOCH + Duration::from_secs(start);
            let not_after = not_before + Duration::from_secs(life);
            let at = renew_at(not_before, not_after, &mut SmallRng::seed_from_u64(seed));
            let lived = at.duration_since(not_before).unwrap().as_secs_f64();
            let life = Duration::from_secs(life).as_secs_f64();
            prop_assert!(lived >= 0.4 * life - 1e-6 && lived <= 0.6 * life + 1e-6, "{} of {}", lived, life);
            prop_assert!(at < not_after);
        }

        #[test]
        fn a_certificate_that_never_was_valid_is_due_at_once(start in 0u64..4_000_000_000, back in 0u64..1000, seed: u64) {
            let not_before = SystemTime::UNIX_EPOCH + Duration::from_secs(start + back);
            let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(start);
            prop_assert_eq!(renew_at(not_before, not_after, &mut SmallRng::seed_from_u64(seed)), not_before);
        }

        #[test]
        fn a_retry_waits_and_never_longer_than_the_cap(failures: u32, seed: u64) {
            let wait = backoff(failures, &mut SmallRng::seed_from_u64(seed));
            prop_assert!(wait >= FIRST_RETRY / 2 && wait <= LONGEST_RETRY, "{:?}", wait);
        }
    }

    #[test]
    fn renewals_of_the_same_moment_spread_out() {
        let mut rng = SmallRng::seed_from_u64(7);
        let day = Duration::from_secs(86_400);
        let start = SystemTime::UNIX_EPOCH + day;
        let at: Vec<_> = (0..100).map(|_| renew_at(start, start + day, &mut rng)).collect();
        let spread = at.iter().max().unwrap().duration_since(*at.iter().min().unwrap()).unwrap();
        assert!(spread > day / 10, "{spread:?}");
    }
}
