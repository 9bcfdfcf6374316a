//! What the tests of several files need.

use std::num::NonZeroU32;

use crate::Weight;

/// Weights of numbers above zero.
pub(crate) fn weights(numbers: &[u32]) -> Vec<Weight> {
    numbers.iter().map(|number| Weight::new(NonZeroU32::new(*number).unwrap())).collect()
}

/// Endpoints with the names that Envoy's own tests use, all of one weight.
pub(crate) fn named(ports: std::ops::Range<u16>) -> Vec<(String, Weight)> {
    ports.map(|port| (format!("127.0.0.1:{port}"), Weight::ONE)).collect()
}
