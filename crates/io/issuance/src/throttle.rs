//! How often somebody may do something: a burst, then a steady rate.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A rate. Each who uses it is one moment: when its burst would be whole again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    interval: Duration,
    burst: Duration,
}

impl Rate {
    /// `burst` times at once, then `per_second`; at least one of each.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, burst: interval.saturating_mul(burst.max(1) - 1) }
    }

    /// Whether it may be done now; if so it counts.
    pub(crate) fn take(&self, whole: &mut Instant, now: Instant) -> bool {
        let from = (*whole).max(now);
        let may = from.duration_since(now) <= self.burst;
        if may {
            *whole = from + self.interval;
        }
        may
    }
}

/// A rate for each of a bounded number.
#[derive(Debug)]
pub(crate) struct Throttle<K> {
    rate: Rate,
    most: usize,
    each: Mutex<HashMap<K, Instant>>,
}

impl<K: Hash + Eq> Throttle<K> {
    pub(crate) fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most, each: Mutex::default() }
    }

    /// Whether `who` may now. When too many did lately, who is new may not.
    pub(crate) fn take(&self, who: K, now: Instant) -> bool {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        if each.len() >= self.most && !each.contains_key(&who) {
            // Those whose burst is whole are as good as new.
            each.retain(|_, whole| *whole > now);
            if each.len() >= self.most {
                return false;
            }
        }
        self.rate.take(each.entry(who).or_insert(now), now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_then_a_steady_rate() {
        let (throttle, start) = (Throttle::new(Rate::new(10, 3), 2), Instant::now());
        let at = |who: char, ms| throttle.take(who, start + Duration::from_millis(ms));
        assert_eq!([0, 0, 0, 0].map(|ms| at('a', ms)), [true, true, true, false]);
        assert_eq!([50, 100, 100, 200].map(|ms| at('a', ms)), [false, true, false, true]);
        // Another has its own, a third has to wait until one of them is idle.
        assert!(at('b', 200) && !at('c', 200));
        assert!(at('c', 10_000) && at('d', 10_000) && !at('e', 10_000));
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_burst_and_rate(per_second in 1u32..50, burst in 1u32..20, waits in proptest::collection::vec(0u64..300, 0..200)) {
            let (rate, start) = (Rate::new(per_second, burst), Instant::now());
            let (mut whole, mut now, mut taken) = (start, start, 0u64);
            for wait in waits {
                now += Duration::from_millis(wait);
                taken += u64::from(rate.take(&mut whole, now));
            }
            let by_rate = now.duration_since(start).as_secs_f64() * f64::from(per_second);
            prop_assert!(f64::from(u32::try_from(taken).unwrap()) <= by_rate + f64::from(burst) + 1e-3);
        }
    }
}
