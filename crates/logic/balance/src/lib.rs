//! Which endpoint.
//!
//! In: endpoints, what is known of each, and a source of randomness. Out: one of them, or none. It never reads a clock, never locks and
//! never does I/O.

mod rank;

pub use rank::{Distance, Rank, pick};
