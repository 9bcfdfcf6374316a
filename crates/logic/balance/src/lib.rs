//! Which endpoint, and how many requests at once.
//!
//! In: endpoints, a policy, what came of requests, the time, and a source of randomness. Out: one endpoint, or the reason why none. It never
//! reads a clock, never locks and never does I/O.

mod draw;
mod error;
mod hash_key;
mod maglev;
mod rank;
mod ring;
mod round_robin;
#[cfg(test)]
mod testing;
mod weight;

pub use draw::Draw;
pub use error::PolicyError;
pub use hash_key::HashKey;
pub use maglev::{Maglev, TableSize};
pub use rank::{Distance, Rank, pick};
pub use ring::{Ring, RingSize};
pub use round_robin::RoundRobin;
pub use weight::{Percent, Share, Weight};
