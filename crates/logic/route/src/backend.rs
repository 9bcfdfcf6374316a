//! Where requests go, and in which shares.

use std::fmt;

use rand::Rng;
use weir_model::{Hostname, Port};

use crate::header::HeaderChanges;

/// A service, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The service.
    pub host: Hostname,
    /// Its port; the one that was asked for if absent.
    pub port: Option<Port>,
    /// The part of its endpoints, as a DestinationRule names it.
    pub subset: Option<Box<str>>,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        match &self.subset {
            Some(subset) => write!(f, " subset {subset}"),
            None => Ok(()),
        }
    }
}

/// Where a request is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// There.
    Valid(Destination),
    /// Nowhere, and why: it is not known, or may not be named from there. Its share of requests is refused.
    Invalid(Box<str>),
}

/// One of the places that a rule sends requests to. Istio `HTTPRouteDestination`, Gateway API v1 `HTTPBackendRef`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Where.
    pub target: Target,
    /// What is done to the headers of requests that go there.
    pub request: HeaderChanges,
    /// What is done to the headers of answers that come from there.
    pub response: HeaderChanges,
}

impl Backend {
    /// A place, with nothing done to headers.
    pub fn new(target: Target) -> Self {
        Self { target, request: HeaderChanges::default(), response: HeaderChanges::default() }
    }
}

/// The places that a rule sends requests to, each with its weight.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backends {
    weighted: Vec<(u32, Backend)>,
    total: u64,
}

/// A part of all requests of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Of this backend.
    pub weight: u32,
    /// Of all of them.
    pub total: u64,
}

impl fmt::Display for Share {
    /// Nothing for all of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { weight, total } = self;
        if u64::from(*weight) == *total { Ok(()) } else { write!(f, " ({weight} of {total})") }
    }
}

/// What became of a choice among backends.
pub(crate) enum Picked<'b> {
    /// There.
    Valid(Share, &'b Backend, &'b Destination),
    /// Nowhere, and why.
    Invalid(&'b str),
}

impl Backends {
    /// Those of a VirtualService: one alone gets everything, whatever its weight; of several one without weight gets nothing.
    pub fn of_virtual_service(backends: Vec<(Option<u32>, Backend)>) -> Self {
        let is_alone = backends.len() == 1;
        Self::new(backends, |weight| if is_alone { 1 } else { weight.unwrap_or(0) })
    }

    /// Those of a route of the Gateway API: one without weight has the weight 1, and 0 is nothing even for one alone.
    pub fn of_gateway_route(backends: Vec<(Option<u32>, Backend)>) -> Self {
        Self::new(backends, |weight| weight.unwrap_or(1))
    }

    fn new(backends: Vec<(Option<u32>, Backend)>, weight: impl Fn(Option<u32>) -> u32) -> Self {
        let weighted: Vec<_> = backends.into_iter().map(|(given, backend)| (weight(given), backend)).collect();
        let total = weighted.iter().map(|(weight, _)| u64::from(*weight)).sum();
        Self { weighted, total }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Share, &Backend)> {
        self.weighted.iter().map(|(weight, backend)| (Share { weight: *weight, total: self.total }, backend))
    }

    /// One of them that leads somewhere, or why the one drawn does not.
    pub(crate) fn choose(&self, rng: &mut impl Rng) -> Picked<'_> {
        match self.pick(rng) {
            Some((share, backend)) => match &backend.target {
                Target::Valid(destination) => Picked::Valid(share, backend, destination),
                Target::Invalid(why) => Picked::Invalid(why),
            },
            None if self.weighted.is_empty() => Picked::Invalid("it names no backend"),
            None => Picked::Invalid("the weights of its backends add up to 0"),
        }
    }

    /// One of them, as likely as its weight says; none if all weights are 0. Draws only when there is a choice.
    pub fn pick(&self, rng: &mut impl Rng) -> Option<(Share, &Backend)> {
        let mut drawn = match self.weighted.as_slice() {
            _ if self.total == 0 => return None,
            [_] => 0,
            _ => rng.random_range(0..self.total),
        };
        self.iter().find(|(share, _)| match drawn.checked_sub(u64::from(share.weight)) {
            Some(rest) => {
                drawn = rest;
                false
            }
            None => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::testing::destination;

    fn backend(host: &str) -> Backend {
        Backend::new(Target::Valid(destination(host)))
    }

    fn counts(backends: &Backends, rounds: usize, seed: u64) -> Vec<usize> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut counts = vec![0; backends.weighted.len()];
        for _ in 0..rounds {
            if let Some((_, one)) = backends.pick(&mut rng) {
                counts[backends.iter().position(|(_, other)| std::ptr::eq(one, other)).unwrap()] += 1;
            }
        }
        counts
    }

    #[test]
    fn a_weight_left_out_means_what_its_kind_says() {
        type Make = fn(Vec<(Option<u32>, Backend)>) -> Backends;
        let gateway: Make = Backends::of_gateway_route;
        let service: Make = Backends::of_virtual_service;
        for (make, weights, want) in [
            (gateway, vec![], vec![]),
            (gateway, vec![None], vec![true]),
            (gateway, vec![Some(0)], vec![false]),
            (gateway, vec![None, None], vec![true, true]),
            (gateway, vec![Some(0), None], vec![false, true]),
            (gateway, vec![Some(0), Some(0)], vec![false, false]),
            (service, vec![None], vec![true]),
            (service, vec![Some(0)], vec![true]),
            (service, vec![None, Some(5)], vec![false, true]),
            (service, vec![Some(0), Some(0)], vec![false, false]),
            (service, vec![None, None], vec![false, false]),
            (service, vec![Some(u32::MAX), Some(u32::MAX)], vec![true, true]),
        ] {
            let backends = make(weights.iter().map(|weight| (*weight, backend("a.b"))).collect());
            let chosen: Vec<bool> = counts(&backends, 64, 3).iter().map(|count| *count > 0).collect();
            assert_eq!(chosen, want, "{weights:?}");
        }
    }

    #[test]
    fn weights_are_honoured_within_three_standard_deviations() {
        for (weights, seed) in [
            (vec![90, 10], 20),
            (vec![1, 1], 21),
            (vec![1, 99], 22),
            (vec![25, 25, 50], 23),
            (vec![7, 0, 13, 41], 24),
            (vec![1_000_000, 500_000, 500_000], 25),
        ] {
            let backends = Backends::of_gateway_route(weights.iter().map(|w| (Some(*w), backend("a.b"))).collect());
            let counts = counts(&backends, 10_000, seed);
            assert_eq!(counts.iter().sum::<usize>(), 10_000);
            let total: u32 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(&weights) {
                let share = f64::from(*weight) / f64::from(total);
                let deviation = (10_000.0 * share * (1.0 - share)).sqrt();
                let count = f64::from(u32::try_from(*count).unwrap());
                assert!((count - 10_000.0 * share).abs() <= 3.0 * deviation, "{weights:?}: {count} of {share}");
            }
        }
    }
}
