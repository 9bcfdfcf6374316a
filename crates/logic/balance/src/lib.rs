//! Which endpoint, and how many requests at once.
//!
//! In: endpoints, a policy, what came of requests, the time, and a source of randomness. Out: one endpoint, or the reason why none. It never
//! reads a clock, never locks and never does I/O.

mod balancer;
mod draw;
mod error;
mod hash_key;
mod hash_source;
mod limits;
mod locality;
mod maglev;
mod outlier;
mod parts;
mod period;
mod policy;
mod priority;
mod rank;
mod ring;
mod round_robin;
#[cfg(test)]
mod testing;
mod warmup;
mod weight;
mod zone;

pub use balancer::{Ask, Balancer, Choice, Chosen, Client, Endpoint, Nowhere};
pub use draw::Draw;
pub use error::PolicyError;
pub use hash_key::HashKey;
pub use hash_source::{Affinity, Asked, Cookie, HashSource, SetCookie};
pub use limits::{Breaker, Limits, Overflow, PerWorker, Retries, RetryBudget, Shared, Slot, Tally, Uses};
pub use locality::{
    Distribute, Engaged, Failover, LabelMatch, LocalityPattern, LocalityPolicy, Place, RegionFailover, ZoneAware,
};
pub use maglev::{Maglev, TableSize};
pub use outlier::{Cause, Detector, ErrorCodes, Origins, Outcome, OutlierDetection, Reaction};
pub use period::Period;
pub use policy::{Algorithm, ConsistentHash, HashTable, Policy};
pub use priority::{Among, Census, Load, loads};
pub use rank::{Distance, Rank, pick};
pub use ring::{Ring, RingSize};
pub use round_robin::RoundRobin;
pub use warmup::Warmup;
pub use weight::{Percent, Share, Weight};
pub use zone::parts as zone_parts;
