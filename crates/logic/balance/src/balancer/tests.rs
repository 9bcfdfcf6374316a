//! A service's endpoints, from the outside: what is chosen, when, and why not.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};

use super::*;
use crate::{
    ConsistentHash, Distribute, Engaged, Failover, HashSource, HashTable, LocalityPolicy, OutlierDetection, Period,
    RingSize, TableSize, ZoneAware,
};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn percent(value: f64) -> Percent {
    Percent::new("x", value).unwrap()
}

fn locality(text: &str) -> Locality {
    let (region, zone) = text.split_once('/').unwrap_or((text, ""));
    Locality { region: region.into(), zone: zone.into(), subzone: "".into() }
}

fn place(text: &str) -> Place {
    Place { locality: locality(text), ..Place::default() }
}

fn endpoint(name: &str, at: &str) -> Endpoint {
    Endpoint { name: name.into(), weight: Weight::ONE, health: Health::Healthy, place: Arc::new(place(at)) }
}

/// Endpoints named `a`, `b` … at these places.
fn endpoints(places: &[&str]) -> Vec<Endpoint> {
    ('a'..='z').zip(places).map(|(name, at)| endpoint(&name.to_string(), at)).collect()
}

fn unready(mut endpoint: Endpoint) -> Endpoint {
    endpoint.health = Health::Unhealthy;
    endpoint
}

/// One error and it is out, as many as need be.
fn strict() -> Option<OutlierDetection> {
    let consecutive_5xx = NonZeroU32::new(1);
    Some(OutlierDetection { consecutive_5xx, max_ejected: percent(100.0), ..OutlierDetection::default() })
}

fn hashing(table: HashTable) -> Algorithm {
    Algorithm::ConsistentHash(ConsistentHash { source: HashSource::SourceIp, table })
}

fn rings() -> Algorithm {
    hashing(HashTable::Ring(RingSize::default()))
}

struct Bench {
    balancer: Balancer,
    client: Client,
    rng: SmallRng,
}

impl Bench {
    fn new(policy: Policy, at: &str, endpoints: Vec<Endpoint>) -> Self {
        Self::with(policy, Client { place: place(at), siblings: vec![] }, endpoints)
    }

    fn with(policy: Policy, client: Client, endpoints: Vec<Endpoint>) -> Self {
        let mut rng = SmallRng::seed_from_u64(3);
        let balancer = Balancer::new(Arc::new(policy), &client, endpoints, s(0), &mut rng);
        Self { balancer, client, rng }
    }

    fn renew(&mut self, endpoints: Vec<Endpoint>, now: Duration) {
        let policy = Arc::clone(&self.balancer.policy);
        self.balancer = self.balancer.renewed(policy, &self.client, endpoints, now, &mut self.rng);
    }

    fn ask(&mut self, ask: &Ask<'_>, now: Duration) -> Result<Chosen, Nowhere> {
        match self.balancer.pick(ask, now, &mut self.rng) {
            Choice::Endpoint(chosen) => Ok(chosen),
            Choice::Nowhere(why) => Err(why),
            Choice::Original => panic!("an endpoint was to be chosen"),
        }
    }

    /// How often each is chosen.
    fn counts(&mut self, rounds: usize, now: Duration) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..rounds {
            let chosen = self.ask(&Ask::default(), now).unwrap();
            *counts.entry(chosen.name.to_string()).or_default() += 1;
        }
        counts
    }

    /// The same, in percent.
    fn shares(&mut self, now: Duration) -> BTreeMap<String, usize> {
        self.counts(10_000, now).into_iter().map(|(name, count)| (name, (count + 50) / 100)).collect()
    }

    fn eject(&mut self, names: &[&str], now: Duration) {
        for name in names {
            assert!(matches!(self.balancer.report(name, Outcome::Failed, now), Reaction::Ejected { .. }), "{name}");
        }
    }
}

fn near(shares: &BTreeMap<String, usize>, want: &[(&str, usize)]) -> bool {
    // Three standard deviations of 10,000 draws are at most 1.5 %, and half of one is lost by rounding.
    let all = want.iter().all(|(name, want)| shares.get(*name).copied().unwrap_or(0).abs_diff(*want) <= 2);
    all && shares.len() <= want.len()
}

#[test]
fn each_algorithm_uses_all_endpoints_alike() {
    for algorithm in [Algorithm::LeastRequest, Algorithm::RoundRobin, Algorithm::Random] {
        let policy = Policy { algorithm: algorithm.clone(), ..Policy::default() };
        let mut bench = Bench::new(policy, "r", endpoints(&["r", "r", "r", "q"]));
        let shares = bench.shares(s(0));
        assert!(near(&shares, &[("a", 25), ("b", 25), ("c", 25), ("d", 25)]), "{algorithm:?} {shares:?}");
    }
}

#[test]
fn who_is_not_ready_is_never_chosen_and_reasons_are_said() {
    let eu_alone =
        Distribute::new("*".parse().unwrap(), vec![("eu".parse().unwrap(), 100), ("us".parse().unwrap(), 0)]).unwrap();
    let distributed = Policy { locality: LocalityPolicy::Distribute(vec![eu_alone]), ..Policy::default() };
    let panicking = OutlierDetection { min_health: percent(50.0), ..strict().unwrap() };
    let [a, b] = ["a", "b"].map(|name| endpoint(name, "us"));
    for (policy, given, ejected, want) in [
        (Policy::default(), vec![], vec![], Err(Nowhere::NoEndpoints)),
        (Policy::default(), vec![unready(a.clone())], vec![], Err(Nowhere::NoneReady)),
        (Policy::default(), vec![unready(a.clone()), b.clone()], vec![], Ok("b")),
        (distributed.clone(), vec![a.clone()], vec![], Err(Nowhere::NotDistributed)),
        (distributed, vec![a.clone(), endpoint("c", "eu")], vec![], Ok("c")),
        (
            Policy { outlier: strict(), ..Policy::default() },
            vec![a.clone(), b.clone()],
            vec!["a", "b"],
            Err(Nowhere::AllEjected),
        ),
        (Policy { outlier: strict(), ..Policy::default() }, vec![a.clone(), b.clone()], vec!["a"], Ok("b")),
        (
            Policy { outlier: strict(), algorithm: rings(), ..Policy::default() },
            vec![a.clone(), b.clone()],
            vec!["a"],
            Ok("b"),
        ),
        (Policy { outlier: Some(panicking), ..Policy::default() }, vec![a.clone(), unready(b)], vec!["a"], Ok("a")),
    ] {
        let mut bench = Bench::new(policy, "us", given.clone());
        bench.eject(&ejected, s(1));
        for _ in 0..50 {
            let got = bench.ask(&Ask::default(), s(1)).map(|chosen| chosen.name.to_string());
            assert_eq!(got.as_deref().map_err(|why| *why), want, "{given:?}");
        }
    }
}

#[test]
fn passthrough_is_for_the_caller() {
    let policy = Policy { algorithm: Algorithm::Passthrough, ..Policy::default() };
    let mut bench = Bench::new(policy, "r", vec![]);
    assert!(matches!(bench.balancer.pick(&Ask::default(), s(0), &mut bench.rng), Choice::Original));
}

#[test]
fn who_has_requests_under_way_is_spared_until_they_are_done() {
    let mut bench = Bench::new(Policy::default(), "r", endpoints(&["r", "r"]));
    let held = bench.ask(&Ask::default(), s(0)).unwrap();
    let other = if &*held.name == "a" { "b" } else { "a" };
    assert_eq!(bench.counts(100, s(0)), BTreeMap::from([(other.to_owned(), 100)]));
    // What is under way counts when endpoints change, too.
    bench.renew(endpoints(&["r", "r"]), s(1));
    assert_eq!(bench.counts(100, s(1)), BTreeMap::from([(other.to_owned(), 100)]));
    drop(held);
    assert_eq!(bench.counts(100, s(1)).len(), 2);
}

#[test]
fn traffic_fails_over_as_far_as_endpoints_are_ejected() {
    let policy = Policy { outlier: strict(), ..Policy::default() };
    let mut bench = Bench::new(policy, "r/z", endpoints(&["r/z", "r/z", "r/y", "r/y", "q/z"]));
    assert!(near(&bench.shares(s(0)), &[("a", 50), ("b", 50)]));
    bench.eject(&["a"], s(1));
    // Half of the level is 70 % of the traffic.
    let shares = bench.shares(s(1));
    assert!(near(&shares, &[("b", 70), ("c", 15), ("d", 15)]), "{shares:?}");
    bench.eject(&["b", "c", "d"], s(1));
    let chosen = bench.ask(&Ask::default(), s(1)).unwrap();
    assert_eq!((&*chosen.name, chosen.level, chosen.among), ("e", 2, Among::Available));
    // When their time is over, all is as it was.
    assert_eq!(bench.balancer.ejected(), 4);
    assert!(near(&bench.shares(s(60)), &[("a", 50), ("b", 50)]));
    assert_eq!(bench.balancer.ejected(), 0);
}

#[test]
fn endpoints_that_are_not_ready_are_lost_to_their_level() {
    let failover = Failover { engaged: Engaged::Always, ..Failover::default() };
    let policy = Policy { locality: LocalityPolicy::Failover(failover), ..Policy::default() };
    let mut given = endpoints(&["r", "r", "r", "r", "q"]);
    for lost in &mut given[..2] {
        *lost = unready(lost.clone());
    }
    let shares = Bench::new(policy, "r", given).shares(s(0));
    assert!(near(&shares, &[("c", 35), ("d", 35), ("e", 30)]), "{shares:?}");
}

#[test]
fn with_too_few_left_ejections_are_disregarded() {
    let outlier = OutlierDetection { min_health: percent(50.0), ..strict().unwrap() };
    let policy = Policy { outlier: Some(outlier), ..Policy::default() };
    let mut bench = Bench::new(policy, "r", endpoints(&["r"; 4]));
    bench.eject(&["a", "b"], s(1));
    assert!(near(&bench.shares(s(1)), &[("c", 50), ("d", 50)]));
    bench.eject(&["c"], s(1));
    let chosen = bench.ask(&Ask::default(), s(1)).unwrap();
    assert_eq!(chosen.among, Among::Ready);
    drop(chosen);
    let shares = bench.shares(s(1));
    assert!(near(&shares, &[("a", 25), ("b", 25), ("c", 25), ("d", 25)]), "{shares:?}");
}

#[test]
fn shares_of_a_distribution_are_kept_and_shrink_with_their_endpoints() {
    let to = [("r/z/*", 80), ("r/y/*", 20)].map(|(text, share)| (text.parse().unwrap(), share));
    let rule = Distribute::new("r/z/*".parse().unwrap(), to.to_vec()).unwrap();
    let policy = Policy { locality: LocalityPolicy::Distribute(vec![rule]), outlier: strict(), ..Policy::default() };
    let mut bench = Bench::new(policy, "r/z", endpoints(&["r/z", "r/z", "r/y", "q"]));
    let shares = bench.shares(s(0));
    assert!(near(&shares, &[("a", 40), ("b", 40), ("c", 20)]), "{shares:?}");
    bench.eject(&["a"], s(1));
    // 80 × 70 % to 20: 56 to 20.
    let shares = bench.shares(s(1));
    assert!(near(&shares, &[("b", 74), ("c", 26)]), "{shares:?}");
}

#[test]
fn a_zone_keeps_what_it_can_take() {
    let aware = |min_cluster_size| LocalityPolicy::ZoneAware(ZoneAware { min_cluster_size, ..ZoneAware::default() });
    let siblings = vec![(locality("r/z"), 5), (locality("r/y"), 5)];
    for (min, siblings, want) in [
        (6, siblings.clone(), [33, 33, 8, 8, 8, 8]),
        // Too few endpoints, or nobody knows who else sends: no difference.
        (7, siblings, [17; 6]),
        (6, vec![], [17; 6]),
    ] {
        let policy = Policy { locality: aware(min), ..Policy::default() };
        let client = Client { place: place("r/z"), siblings };
        let mut bench = Bench::with(policy, client, endpoints(&["r/z", "r/z", "r/y", "r/y", "r/y", "r/y"]));
        let shares = bench.shares(s(0));
        let want: Vec<(&str, usize)> = ["a", "b", "c", "d", "e", "f"].into_iter().zip(want).collect();
        assert!(near(&shares, &want), "{min} {shares:?}");
    }
}

#[test]
fn a_new_endpoint_warms_up_and_one_that_stays_does_not_begin_anew() {
    for algorithm in [Algorithm::LeastRequest, Algorithm::RoundRobin] {
        let warmup = Warmup::new(Period::new("warm-up", s(100)).unwrap(), None, None).ok();
        let mut bench = Bench::new(Policy { algorithm, warmup, ..Policy::default() }, "r", endpoints(&["r"]));
        bench.renew(endpoints(&["r", "r"]), s(1_000));
        let shares = bench.shares(s(1_010));
        assert!(near(&shares, &[("a", 91), ("b", 9)]), "{shares:?}");
        bench.renew(endpoints(&["r", "r"]), s(1_050));
        let shares = bench.shares(s(1_050));
        assert!(near(&shares, &[("a", 67), ("b", 33)]), "{shares:?}");
        assert!(near(&bench.shares(s(1_100)), &[("a", 50), ("b", 50)]));
        // Ready again is new again.
        let [a, b] = ["a", "b"].map(|name| endpoint(name, "r"));
        bench.renew(vec![a.clone(), unready(b.clone())], s(2_000));
        bench.renew(vec![a, b], s(3_000));
        assert!(near(&bench.shares(s(3_010)), &[("a", 91), ("b", 9)]));
    }
}

#[test]
fn a_retry_goes_elsewhere_if_it_can() {
    for algorithm in [Algorithm::LeastRequest, Algorithm::RoundRobin, rings()] {
        let mut bench =
            Bench::new(Policy { algorithm: algorithm.clone(), ..Policy::default() }, "r", endpoints(&["r"; 10]));
        for key in 0..200 {
            let key = Some(HashKey::of(&[key]));
            let first = bench.ask(&Ask { key, ..Ask::default() }, s(0)).unwrap().name;
            let avoid = [first];
            let second = bench.ask(&Ask { key, avoid: &avoid, ..Ask::default() }, s(0)).unwrap().name;
            assert_ne!(second, avoid[0], "{algorithm:?}");
        }
        let mut alone = Bench::new(Policy { algorithm, ..Policy::default() }, "r", endpoints(&["r"]));
        assert!(alone.ask(&Ask { avoid: &["a".into()], ..Ask::default() }, s(0)).is_ok(), "there is nowhere else");
    }
}

#[test]
fn what_is_held_on_to_is_gone_to_while_it_will_do() {
    for algorithm in [Algorithm::LeastRequest, Algorithm::RoundRobin, rings()] {
        let policy = Policy { algorithm: algorithm.clone(), outlier: strict(), ..Policy::default() };
        let mut bench = Bench::new(policy, "r", endpoints(&["r"; 5]));
        let hold = Ask { hold: Some("d"), ..Ask::default() };
        for _ in 0..20 {
            assert_eq!(&*bench.ask(&hold, s(0)).unwrap().name, "d", "{algorithm:?}");
        }
        let avoid = ["d".into()];
        assert_ne!(&*bench.ask(&Ask { avoid: &avoid, ..hold }, s(0)).unwrap().name, "d", "it has just failed");
        assert!(bench.ask(&Ask { hold: Some("gone"), ..Ask::default() }, s(0)).is_ok());
        bench.eject(&["d"], s(1));
        assert_ne!(&*bench.ask(&hold, s(1)).unwrap().name, "d", "it is left alone");
        let mut all = endpoints(&["r"; 5]);
        all[3] = unready(all[3].clone());
        bench.renew(all, s(60));
        assert_ne!(&*bench.ask(&hold, s(60)).unwrap().name, "d", "it takes nothing");
    }
}

#[test]
fn a_retry_goes_further_away_if_it_may() {
    let policy = Policy { outlier: strict(), ..Policy::default() };
    let places = ["r/z/s", "r/z/s", "r/y/s", "q/z/s"];
    let mut bench = Bench::new(policy, "r/z/s", endpoints(&places));
    let mut beyond = |levels: &[usize], now| {
        let names: BTreeSet<String> = (0..50)
            .map(|_| bench.ask(&Ask { beyond: levels, ..Ask::default() }, now).unwrap())
            .map(|chosen| format!("{} {}", chosen.name, chosen.level))
            .collect();
        names.into_iter().collect::<Vec<_>>().join(", ")
    };
    assert_eq!(beyond(&[], s(0)), "a 0, b 0");
    assert_eq!(beyond(&[0, 0], s(0)), "c 1");
    assert_eq!(beyond(&[0, 0, 1, 1], s(0)), "d 2");
    assert_eq!(beyond(&[0, 1, 2], s(0)), "a 0, b 0", "nobody is left: as before");
}

#[test]
fn a_key_finds_its_endpoint_in_any_process_and_after_an_ejection() {
    for table in [HashTable::default(), HashTable::Maglev(TableSize::default())] {
        let policy = Policy { algorithm: hashing(table), outlier: strict(), ..Policy::default() };
        let mut forth = Bench::new(policy.clone(), "r", endpoints(&["r"; 10]));
        let mut back = Bench::new(policy, "r", endpoints(&["r"; 10]).into_iter().rev().collect());
        back.rng = SmallRng::seed_from_u64(99);
        let mut homes = vec![];
        for key in 0..200_u8 {
            let ask = Ask { key: Some(HashKey::of(&[key])), ..Ask::default() };
            let home = forth.ask(&ask, s(0)).unwrap().name;
            assert_eq!(home, back.ask(&ask, s(0)).unwrap().name);
            homes.push((ask, home));
        }
        forth.eject(&["c"], s(1));
        for (ask, home) in &homes {
            let now = forth.ask(ask, s(1)).unwrap().name;
            assert_eq!(now == *home, &**home != "c", "only its keys move");
        }
        for (ask, home) in &homes {
            assert_eq!(forth.ask(ask, s(60)).unwrap().name, *home, "they return");
        }
    }
}

#[test]
fn reports_of_endpoints_that_are_gone_are_nobodys() {
    let mut bench = Bench::new(Policy { outlier: strict(), ..Policy::default() }, "r", endpoints(&["r", "r"]));
    bench.eject(&["b"], s(1));
    bench.renew(vec![endpoint("b", "r"), endpoint("c", "r")], s(2));
    assert_eq!(bench.balancer.report("a", Outcome::Failed, s(2)), Reaction::Noted);
    assert_eq!(bench.counts(20, s(2)), BTreeMap::from([("c".to_owned(), 20)]), "b is still out");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_endpoint_is_chosen_exactly_when_one_will_do(
        given in prop::collection::vec((0_usize..4, any::<bool>(), 1_u32..5, any::<bool>()), 0..12),
        algorithm in 0_usize..5,
        near_first in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let algorithm = match algorithm {
            0 => Algorithm::LeastRequest,
            1 => Algorithm::RoundRobin,
            2 => Algorithm::Random,
            3 => rings(),
            _ => hashing(HashTable::Maglev(TableSize::new(251).unwrap())),
        };
        let locality = if near_first { LocalityPolicy::default() } else { LocalityPolicy::Disabled };
        let policy = Policy { algorithm, locality, outlier: strict(), ..Policy::default() };
        let all: Vec<Endpoint> = ('a'..).zip(&given).map(|(name, (at, ready, weight, _))| Endpoint {
            weight: Weight::new(NonZeroU32::new(*weight).unwrap()),
            health: if *ready { Health::Healthy } else { Health::Unhealthy },
            ..endpoint(&name.to_string(), ["r/z", "r/y", "q/z", "q/y"][*at])
        }).collect();
        let mut bench = Bench::new(policy, "r/z", all.clone());
        bench.rng = SmallRng::seed_from_u64(seed);
        let mut fine = Vec::new();
        for (one, (_, ready, _, fails)) in all.iter().zip(&given) {
            if *fails {
                bench.eject(&[&one.name], s(1));
            } else if *ready {
                fine.push(Arc::clone(&one.name));
            }
        }
        for _ in 0..20 {
            match bench.ask(&Ask::default(), s(1)) {
                Ok(chosen) => prop_assert!(fine.contains(&chosen.name)),
                Err(_) => prop_assert!(fine.is_empty()),
            }
        }
    }
}
