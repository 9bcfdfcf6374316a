//! Tables: against one that Envoy publishes in its own tests, and laws.

use proptest::prelude::*;

use super::*;
use crate::testing::{named, weights};

const ANY: fn(usize) -> bool = |_| true;

fn size(size: u64) -> TableSize {
    TableSize::new(size).unwrap()
}

#[test]
fn the_table_is_the_one_of_envoy() {
    // Envoy maglev_lb_test.cc, "Basic" and "BasicWithHostName".
    assert_eq!(*Maglev::new(&named(90..96), size(7)).owners, [2, 4, 0, 1, 5, 0, 3]);
    let names: Vec<(String, Weight)> = (90..96).map(|name| (name.to_string(), Weight::ONE)).collect();
    assert_eq!(*Maglev::new(&names, size(7)).owners, [2, 5, 0, 3, 4, 1, 0]);
}

#[test]
fn entries_are_shared_out_by_weight() {
    for (given, entries, want) in [
        (vec![1], 7, vec![7]),
        (vec![1, 1, 1], 65_537, vec![21_846, 21_846, 21_845]),
        // Envoy load_balancers.rst, "Maglev".
        (vec![1, 2], 65_537, vec![21_846, 43_691]),
        (vec![1, 1, 1], 2, vec![1, 1, 0]),
        (vec![1, u32::MAX], 65_537, vec![1, 65_536]),
    ] {
        let endpoints: Vec<(String, Weight)> =
            weights(&given).into_iter().enumerate().map(|(at, weight)| (format!("10.0.0.{at}:80"), weight)).collect();
        let table = Maglev::new(&endpoints, size(entries));
        let count = |at: u32| table.owners.iter().filter(|owner| **owner == at).count();
        let counts: Vec<usize> = (0_u32..).zip(&given).map(|(at, _)| count(at)).collect();
        assert_eq!(counts, want, "{given:?}");
    }
}

#[test]
fn sizes_that_are_no_primes_are_refused() {
    for (number, fits) in [
        (0, false),
        (1, false),
        (2, true),
        (4, false),
        (7, true),
        (9, false),
        (65_537, true),
        (65_536, false),
        (5_000_011, true),
        (5_000_029, false),
        (u64::MAX, false),
    ] {
        assert_eq!(TableSize::new(number).is_ok(), fits, "{number}");
    }
    let nobody: &[(&str, Weight)] = &[];
    let empty = Maglev::new(nobody, TableSize::default());
    assert_eq!((empty.size(), empty.pick(HashKey::of(b"x"), ANY)), (0, None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn one_more_takes_its_share_and_moves_few_others(count in 3_u16..40) {
        let (fewer, more) = (Maglev::new(&named(1..count + 1), size(4_099)), Maglev::new(&named(1..count + 2), size(4_099)));
        let moved = fewer.owners.iter().zip(&more.owners).filter(|(one, other)| one != other).count();
        // Envoy load_balancers.rst: approximately twice as many as with a ring.
        prop_assert!(moved * usize::from(count + 1) <= 4_099 * 3, "{} of 4099 for {}", moved, count);
        let new = more.owners.iter().filter(|owner| **owner == u32::from(count)).count();
        prop_assert!(new <= moved && new * usize::from(count + 2) >= 4_099);
    }

    #[test]
    fn shares_are_equal_but_for_one_entry(count in 1_u16..60) {
        let table = Maglev::new(&named(1..count + 1), size(1_009));
        let counts = (0..u32::from(count)).map(|at| table.owners.iter().filter(|owner| **owner == at).count());
        let (least, most) = counts.fold((usize::MAX, 0), |(least, most), count| (least.min(count), most.max(count)));
        prop_assert!(most - least <= 1);
    }

    #[test]
    fn while_one_does_not_do_only_its_keys_move(count in 2_u16..40, gone in any::<prop::sample::Index>(), keys in any::<[u64; 32]>()) {
        let table = Maglev::new(&named(1..count + 1), size(1_009));
        let gone = gone.index(usize::from(count));
        for key in keys.map(HashKey::from_hash) {
            let (with, without) = (table.pick(key, ANY).unwrap(), table.pick(key, |at| at != gone).unwrap());
            prop_assert!(without != gone && (with == gone || with == without));
        }
        prop_assert_eq!(table.pick(HashKey::of(b"x"), |_| false), None);
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(count in 1_u16..40) {
        let (straight, mut back) = (named(1..count + 1), named(1..count + 1));
        back.reverse();
        let names = |list: &[(String, Weight)]| -> Vec<String> {
            let table = Maglev::new(list, size(251));
            table.owners.iter().map(|owner| list[usize::try_from(*owner).unwrap()].0.clone()).collect()
        };
        prop_assert_eq!(names(&straight), names(&back));
    }
}
