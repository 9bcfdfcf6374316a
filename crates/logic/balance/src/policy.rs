//! How the traffic to a service is balanced and bounded: `DestinationRule.trafficPolicy`, as far as it is about which endpoint and how many at once.
//!
//! A manifest's parser fills it. What a policy does not say is what Istio does without one.

use std::num::NonZeroU32;

use crate::{HashSource, Limits, LocalityPolicy, OutlierDetection, RingSize, TableSize, Warmup};

/// One service's policy, or one subset's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    /// `loadBalancer.simple` or `.consistentHash`.
    pub algorithm: Algorithm,
    /// `loadBalancer.warmup`. None: an endpoint has its whole share from the beginning.
    pub warmup: Option<Warmup>,
    /// `loadBalancer.localityLbSetting` or `.zoneAwareLbSetting`.
    pub locality: LocalityPolicy,
    /// `outlierDetection`. None: nobody is ejected.
    pub outlier: Option<OutlierDetection>,
    /// `connectionPool` and `retryBudget`, what is counted of them.
    pub limits: Limits,
    /// `connectionPool.http.maxRequestsPerConnection`. None: as many as it will take.
    pub requests_per_connection: Option<NonZeroU32>,
}

/// Which of the endpoints that will do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// `LEAST_REQUEST`, also for `LEAST_CONN` and `UNSPECIFIED`: who has less to do. Istio's default.
    #[default]
    LeastRequest,
    /// `ROUND_ROBIN`: one after the other.
    RoundRobin,
    /// `RANDOM`: any.
    Random,
    /// `PASSTHROUGH`: the address the client asked for. Who asks knows it, so nothing is chosen.
    Passthrough,
    /// `consistentHash`: always the same for the same key.
    ConsistentHash(ConsistentHash),
}

/// Which endpoint a key belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistentHash {
    /// What keys are made of.
    pub source: HashSource,
    /// How keys are shared out.
    pub table: HashTable,
}

/// How keys are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashTable {
    /// `ringHash.minimumRingSize`, or the older `minimumRingSize`.
    Ring(RingSize),
    /// `maglev.tableSize`.
    Maglev(TableSize),
}

impl Default for HashTable {
    /// Istio `ConsistentHashLB.hash_algorithm`: a ring.
    fn default() -> Self {
        Self::Ring(RingSize::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origins, Percent, Retries};

    #[test]
    fn what_is_not_said_is_what_istio_does() {
        let policy = Policy::default();
        assert_eq!(policy.algorithm, Algorithm::LeastRequest);
        assert!(policy.limits.are_none() && policy.outlier.is_none() && policy.warmup.is_none());
        assert_eq!(policy.limits.retries, Retries::AtMost(u32::MAX));
        assert_eq!(policy.requests_per_connection, None);
        assert_eq!(Ok(HashTable::default()), RingSize::new(1024).map(HashTable::Ring));
        let outlier = OutlierDetection::default();
        assert_eq!((outlier.consecutive_5xx, outlier.consecutive_gateway), (NonZeroU32::new(5), None));
        assert_eq!((outlier.interval.get().as_secs(), outlier.base_ejection.get().as_secs()), (10, 30));
        assert_eq!((Ok(outlier.max_ejected), outlier.min_health), (Percent::new("", 10.0), Percent::ZERO));
        assert_eq!(outlier.origins, Origins::Together);
    }
}
