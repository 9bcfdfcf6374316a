//! Which endpoint: of those whose health will do the best locality, then a fair draw.
//!
//! In: endpoints, a rank for each, and a source of randomness. Out: one of them, or none. It never allocates, and draws
//! one random number only when there is a choice.

use rand::Rng;
use weir_model::{Health, HealthPolicy, Locality};

/// How near an endpoint is, lowest first. All alike until a service asks for locality.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance(pub u8);

impl Distance {
    /// Another region.
    pub(crate) const ELSEWHERE: Self = Self(3);

    /// Istio's priorities: subzone, zone, region, any. Who does not say where it is, is with all who do not say.
    pub fn between(client: &Locality, endpoint: &Locality) -> Self {
        let near =
            [(&client.region, &endpoint.region), (&client.zone, &endpoint.zone), (&client.subzone, &endpoint.subzone)];
        match near.iter().position(|(one, other)| one != other) {
            Some(0) => Self::ELSEWHERE,
            Some(1) => Self(2),
            Some(_) => Self(1),
            None => Self(0),
        }
    }
}

/// How good an endpoint is: the least is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    distance: Distance,
}

impl Rank {
    /// The rank of an endpoint, or none if the service does not want endpoints of its health. A service that wants all
    /// makes no difference between them, as Kubernetes makes none.
    pub fn of(health: Health, policy: HealthPolicy, distance: Distance) -> Option<Self> {
        match (health, policy) {
            (Health::Healthy, HealthPolicy::OnlyReady) | (Health::Healthy | Health::Unhealthy, HealthPolicy::All) => {
                Some(Self { distance })
            }
            (Health::Unhealthy, HealthPolicy::OnlyReady) => None,
        }
    }
}

/// One of the endpoints with the best rank, each as likely as the other. Those without a rank are never chosen.
pub fn pick<E>(
    endpoints: impl Iterator<Item = E> + Clone,
    rank: impl Fn(&E) -> Option<Rank>,
    rng: &mut impl Rng,
) -> Option<E> {
    let mut best = None;
    let mut equals = 0_usize;
    for rank in endpoints.clone().filter_map(|endpoint| rank(&endpoint)) {
        match best {
            Some(leader) if leader < rank => {}
            Some(leader) if leader == rank => equals += 1,
            Some(_) | None => (best, equals) = (Some(rank), 1),
        }
    }
    let best = best?;
    let drawn = if equals == 1 { 0 } else { rng.random_range(0..equals) };
    endpoints.filter(|endpoint| rank(endpoint) == Some(best)).nth(drawn)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    const READY: Health = Health::Healthy;
    const NOT: Health = Health::Unhealthy;

    fn drawn(endpoints: &[(Health, u8)], policy: HealthPolicy, rounds: usize) -> Vec<usize> {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut counts = vec![0; endpoints.len()];
        for _ in 0..rounds {
            let rank = |i: &usize| Rank::of(endpoints[*i].0, policy, Distance(endpoints[*i].1));
            if let Some(i) = pick(0..endpoints.len(), rank, &mut rng) {
                counts[i] += 1;
            }
        }
        counts
    }

    #[test]
    fn only_the_best_that_the_policy_allows_are_chosen() {
        for (endpoints, policy, want) in [
            (vec![], HealthPolicy::All, vec![]),
            (vec![(NOT, 0)], HealthPolicy::OnlyReady, vec![false]),
            (vec![(NOT, 0)], HealthPolicy::All, vec![true]),
            (vec![(NOT, 0), (READY, 0)], HealthPolicy::OnlyReady, vec![false, true]),
            (vec![(NOT, 0), (READY, 9)], HealthPolicy::All, vec![true, false]),
            (vec![(NOT, 0), (READY, 0)], HealthPolicy::All, vec![true, true]),
            (vec![(READY, 1), (READY, 0), (READY, 0)], HealthPolicy::OnlyReady, vec![false, true, true]),
        ] {
            let chosen: Vec<bool> = drawn(&endpoints, policy, 64).iter().map(|count| *count > 0).collect();
            assert_eq!(chosen, want, "{endpoints:?} {policy:?}");
        }
    }

    #[test]
    fn equals_are_drawn_within_three_standard_deviations() {
        let rounds = 10_000;
        let counts =
            drawn(&[(READY, 0), (READY, 0), (NOT, 0), (READY, 0), (READY, 0)], HealthPolicy::OnlyReady, rounds);
        assert_eq!(counts.iter().sum::<usize>(), rounds);
        // sqrt(10000 * 1/4 * 3/4) is 43.3.
        for count in [counts[0], counts[1], counts[3], counts[4]] {
            assert!(count.abs_diff(rounds / 4) <= 130, "{counts:?}");
        }
    }

    proptest! {
        #[test]
        fn a_choice_is_made_exactly_when_there_is_one(
            endpoints in prop::collection::vec((any::<bool>(), 0_u8..3), 0..20),
            all in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let policy = if all { HealthPolicy::All } else { HealthPolicy::OnlyReady };
            let rank = |i: &usize| {
                let (ready, distance) = endpoints[*i];
                Rank::of(if ready { READY } else { NOT }, policy, Distance(distance))
            };
            let best = (0..endpoints.len()).filter_map(|i| rank(&i)).min();
            let chosen = pick(0..endpoints.len(), rank, &mut SmallRng::seed_from_u64(seed));
            prop_assert_eq!(chosen.and_then(|i| rank(&i)), best);
        }
    }
}
