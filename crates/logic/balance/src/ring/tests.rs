//! Rings: against numbers that Envoy publishes in its own tests, and laws.

use proptest::prelude::*;

use super::*;
use crate::testing::{named, weights};

const ANY: fn(usize) -> bool = |_| true;

fn owners(ring: &Ring, keys: u64) -> Vec<usize> {
    (0..keys).map(|key| ring.pick(HashKey::of(&key.to_be_bytes()), ANY).unwrap()).collect()
}

#[test]
fn the_ring_is_the_one_of_envoy() {
    // Envoy ring_hash_lb_test.cc, "Basic": the ports of six endpoints with two points each, by position.
    let ring = Ring::new(&named(90..96), RingSize::new(12).unwrap());
    let want: &[(u64, u32)] = &[
        (833_437_586_790_550_860, 94),
        (928_266_305_478_181_108, 92),
        (1_033_482_794_131_418_490, 90),
        (3_551_244_743_356_806_947, 95),
        (3_851_675_632_748_031_481, 93),
        (5_583_722_120_771_150_861, 91),
        (6_311_230_543_546_372_928, 91),
        (7_700_377_290_971_790_572, 93),
        (13_144_177_310_400_110_813, 95),
        (13_444_792_449_719_432_967, 92),
        (15_516_499_411_664_133_160, 94),
        (16_117_243_373_044_804_889, 90),
    ];
    let found: Vec<(u64, u32)> = ring.points.iter().copied().zip(ring.owners.iter().map(|owner| owner + 90)).collect();
    assert_eq!(found, want);
    for (key, port) in [
        (0, 94),
        (u64::MAX, 94),
        (3_551_244_743_356_806_947, 95),
        (3_551_244_743_356_806_948, 93),
        (16_117_243_373_044_804_880, 90),
    ] {
        assert_eq!(ring.pick(HashKey::from_hash(key), ANY), Some(port - 90), "{key}");
    }
}

#[test]
fn points_are_shared_out_by_weight_and_the_ring_stays_bounded() {
    for (given, minimum, want) in [
        (vec![1], 12, vec![12]),
        (vec![1; 5], 1, vec![1; 5]),
        (vec![1; 5], 12, vec![3; 5]),
        (vec![1, 2, 3], 12, vec![2, 4, 6]),
        (vec![2, 3], 4, vec![2, 3]),
        // By weight alone the second would have four thousand million points.
        (vec![1, u32::MAX], 1024, vec![1, 65_535]),
        (vec![u32::MAX, 1], 1024, vec![65_536, 1]),
    ] {
        let endpoints: Vec<(String, Weight)> =
            weights(&given).into_iter().enumerate().map(|(at, weight)| (format!("10.0.0.{at}:80"), weight)).collect();
        let ring = Ring::new(&endpoints, RingSize::new(minimum).unwrap());
        let count = |at: u32| ring.owners.iter().filter(|owner| **owner == at).count();
        let counts: Vec<usize> = (0_u32..).zip(&given).map(|(at, _)| count(at)).collect();
        assert_eq!(counts, want, "{given:?} {minimum}");
        assert_eq!(ring.size(), want.iter().sum::<usize>());
    }
}

#[test]
fn sizes_that_make_no_ring_are_refused() {
    for (size, fits) in [(0, false), (1, true), (8_388_608, true), (8_388_609, false), (u64::MAX, false)] {
        assert_eq!(RingSize::new(size).is_ok(), fits, "{size}");
    }
    let nobody: &[(&str, Weight)] = &[];
    assert_eq!(Ring::new(nobody, RingSize::default()).pick(HashKey::of(b"x"), ANY), None);
}

#[test]
fn keys_are_spread_evenly() {
    let ring = Ring::new(&named(100..110), RingSize::new(16_384).unwrap());
    let mut counts = [0_u32; 10];
    for owner in owners(&ring, 20_000) {
        counts[owner] += 1;
    }
    // 1639 points each: shares are even within a few percent.
    assert!(counts.iter().all(|count| count.abs_diff(2_000) <= 300), "{counts:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn one_more_takes_its_share_and_moves_few_others(count in 3_u16..40) {
        let (fewer, more) = (named(1..count + 1), named(1..count + 2));
        let size = RingSize::new(8_192).unwrap();
        let (before, after) = (owners(&Ring::new(&fewer, size), 4_000), owners(&Ring::new(&more, size), 4_000));
        let moved = before.iter().zip(&after).filter(|(one, other)| one != other).count();
        // A share for the new one, and as much again because each of the others has fewer points.
        prop_assert!(moved * usize::from(count + 1) <= 4_000 * 3, "{} of 4000 for {}", moved, count);
        prop_assert!(moved > 0);
    }

    #[test]
    fn when_points_stay_only_keys_of_the_one_that_changed_move(count in 2_u16..40, gone in any::<prop::sample::Index>()) {
        // At the least size each has one point, whoever else is there.
        let all = named(1..count + 1);
        let gone = gone.index(all.len());
        let mut rest = all.clone();
        rest.remove(gone);
        let size = RingSize::new(1).unwrap();
        let (before, after) = (owners(&Ring::new(&all, size), 500), owners(&Ring::new(&rest, size), 500));
        for (one, other) in before.iter().zip(&after) {
            prop_assert!(*one == gone || all[*one] == rest[*other]);
        }
    }

    #[test]
    fn while_one_does_not_do_only_its_keys_move(count in 2_u16..40, gone in any::<prop::sample::Index>()) {
        let ring = Ring::new(&named(1..count + 1), RingSize::default());
        let gone = gone.index(usize::from(count));
        for key in 0..500_u64 {
            let key = HashKey::of(&key.to_be_bytes());
            let (with, without) = (ring.pick(key, ANY).unwrap(), ring.pick(key, |at| at != gone).unwrap());
            prop_assert!(without != gone && (with == gone || with == without));
        }
        prop_assert_eq!(ring.pick(HashKey::of(b"x"), |_| false), None);
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(count in 1_u16..40, key in any::<u64>()) {
        let (straight, mut back) = (named(1..count + 1), named(1..count + 1));
        back.reverse();
        let name = |list: &[(String, Weight)]| {
            Ring::new(list, RingSize::default()).pick(HashKey::from_hash(key), ANY).map(|at| list[at].0.clone())
        };
        prop_assert_eq!(name(&straight), name(&back));
    }
}
