//! Latencies, counted in buckets whose width is below one per cent of their value.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets for each doubling.
const STEPS: u64 = 128;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Doublings above the first: up to some 70 minutes in nanoseconds.
const DOUBLINGS: usize = 36;

/// How often each latency was seen.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

/// What people ask of latencies, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half are faster.
    pub p50_ms: f64,
    /// One in ten is slower.
    pub p90_ms: f64,
    /// One in a hundred is slower.
    pub p99_ms: f64,
    /// One in a thousand is slower.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        let steps = usize::try_from(STEPS).expect("small");
        Self { counts: vec![0; steps * DOUBLINGS], total: 0 }
    }
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let index = bucket(nanos).min(self.counts.len() - 1);
        self.counts[index] += 1;
        self.total += 1;
    }

    /// How many were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The latency that `share` (0 to 1) of all do not exceed; zero when nothing was counted.
    #[must_use]
    pub(crate) fn quantile(&self, share: Ratio) -> Duration {
        let wanted = self.total.saturating_mul(share.per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_nanos(upper_edge(index));
            }
        }
        Duration::ZERO
    }

    /// The usual quantiles.
    #[must_use]
    pub fn latency(&self) -> Latency {
        let ms = |per_mille| self.quantile(Ratio { per_mille }).as_secs_f64() * 1e3;
        Latency { p50_ms: ms(500), p90_ms: ms(900), p99_ms: ms(990), p999_ms: ms(999), max_ms: ms(1000) }
    }
}

/// A share of a whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ratio {
    /// In thousandths.
    per_mille: u64,
}

fn bucket(nanos: u64) -> usize {
    if nanos < STEPS {
        return usize::try_from(nanos).expect("below 128");
    }
    let doubling = nanos.ilog2() - STEP_BITS;
    let step = (nanos >> doubling) - STEPS;
    usize::try_from(u64::from(doubling + 1) * STEPS + step).expect("below 64 * 128")
}

fn upper_edge(index: usize) -> u64 {
    let index = u64::try_from(index).expect("a vector's index");
    match (index / STEPS).checked_sub(1) {
        None => index,
        Some(doubling) => ((index % STEPS + STEPS + 1) << doubling) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_reported_within_one_per_cent() {
        for nanos in [0, 1, 127, 128, 129, 255, 256, 1_000, 65_537, 1_234_567, 999_999_999, 60_000_000_000] {
            let mut histogram = Histogram::default();
            histogram.record(Duration::from_nanos(nanos));
            let found = u64::try_from(histogram.quantile(Ratio { per_mille: 500 }).as_nanos()).unwrap();
            assert!(found >= nanos && found - nanos <= nanos / 100, "{nanos}: {found}");
        }
    }

    #[test]
    fn quantiles_of_one_to_a_thousand_milliseconds_are_what_they_should_be() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|ms| histogram.record(Duration::from_millis(ms)));
        let latency = histogram.latency();
        for (found, want) in [(latency.p50_ms, 500.0), (latency.p99_ms, 990.0), (latency.max_ms, 1000.0)] {
            assert!((found - want).abs() <= want / 100.0, "{found} for {want}");
        }
    }
}
