//! An endpoint among ten thousand is found about as fast as one among ten, by each algorithm.

use std::{
    hint::black_box,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::SmallRng};
use weir_balance::{
    Algorithm, Ask, Balancer, Choice, Client, ConsistentHash, Endpoint, HashKey, HashSource, HashTable, Place, Policy,
    RingSize, TableSize, Weight,
};
use weir_model::Health;

/// How many times as long it may take. Looking at each endpoint would be a thousand times; a binary search or a heap is deeper by three, and its
/// memory is farther away.
const MOST: f64 = 30.0;

const PICKS: u32 = 2_000;

fn balancer(algorithm: &Algorithm, count: u32, rng: &mut SmallRng) -> Balancer {
    let place = Arc::new(Place::default());
    let endpoints = (0..count).map(|at| Endpoint {
        name: format!("10.{}.{}.{}:80", at >> 16, (at >> 8) & 255, at & 255).into(),
        // Not all alike, which would be easier.
        weight: Weight::new(NonZeroU32::MIN.saturating_add(at % 3)),
        health: Health::Healthy,
        place: Arc::clone(&place),
    });
    let policy = Policy { algorithm: algorithm.clone(), ..Policy::default() };
    Balancer::new(Arc::new(policy), &Client::default(), endpoints.collect(), Duration::ZERO, rng)
}

/// The best of several rounds: whoever else is using the machine makes a round slower, never faster.
fn seconds(algorithm: &Algorithm, count: u32) -> f64 {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut balancer = balancer(algorithm, count, &mut rng);
    let round = || {
        let started = Instant::now();
        for key in 0..PICKS {
            let ask = Ask { key: Some(HashKey::of(&key.to_be_bytes())), ..Ask::default() };
            let choice = balancer.pick(&ask, Duration::ZERO, &mut rng);
            assert!(matches!(black_box(choice), Choice::Endpoint(_)));
        }
        started.elapsed().as_secs_f64()
    };
    std::iter::repeat_with(round).take(9).fold(f64::INFINITY, f64::min)
}

#[test]
fn one_among_ten_thousand_is_found_about_as_fast_as_one_among_ten() {
    let hash = |table| Algorithm::ConsistentHash(ConsistentHash { source: HashSource::SourceIp, table });
    for algorithm in [
        Algorithm::LeastRequest,
        Algorithm::RoundRobin,
        Algorithm::Random,
        hash(HashTable::Ring(RingSize::default())),
        hash(HashTable::Maglev(TableSize::default())),
    ] {
        let (few, many) = (seconds(&algorithm, 10), seconds(&algorithm, 10_000));
        println!("{algorithm:?}: {:.1} times", many / few);
        assert!(many <= few * MOST, "{algorithm:?}: {few} s among 10, {many} s among 10,000");
    }
}
