//! How much of the traffic each level gets. Envoy priority.rst, overprovisioning.rst, panic_threshold.rst.
//!
//! In: how many of each level's endpoints are there, ready, and available. Out: parts of the traffic, and for which levels it no longer matters who was ejected.

use crate::{Percent, weight::wide};

/// The endpoints of a level or group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// All.
    pub total: usize,
    /// Of those, the ones that take connections.
    pub ready: usize,
    /// Of those, the ones that are not ejected.
    pub available: usize,
}

/// What a level gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Its part of the traffic; of what, is the sum of all parts.
    pub part: u64,
    /// Who of it is drawn from.
    pub among: Among,
}

/// Which endpoints count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Among {
    /// Those that are available.
    #[default]
    Available,
    /// All that are ready, ejected or not: too few are left, and they would be next ("panic").
    Ready,
}

/// How well a level is, in percent: a bit less than three quarters of its endpoints are enough (Envoy's overprovisioning factor, 140 %). As long as
/// one is left it is not nothing, which it is to Envoy below one in 140.
pub(crate) fn health(census: Census) -> u64 {
    let percent = (wide(census.available) * 140).checked_div(wide(census.total)).unwrap_or(0);
    u64::try_from(percent.clamp(u128::from(census.available > 0), 100)).unwrap_or(100)
}

/// What each level gets, the best first: as much as it is well, until there is no more. If all of them together are not well enough, in
/// proportion to how well they are; and a level with less than the threshold left is drawn from without regard to ejections.
pub fn loads(levels: &[Census], threshold: Percent) -> Vec<Load> {
    let total = levels.iter().map(|level| health(*level)).sum::<u64>().min(100);
    let panics = |level: &Census| level.available < level.ready && threshold.exceeds(level.available, level.total);
    if total == 0 {
        let first = levels.iter().position(panics);
        let load = |at| if Some(at) == first { Load { part: 1, among: Among::Ready } } else { Load::default() };
        return (0..levels.len()).map(load).collect();
    }
    let mut left = total;
    let share = levels.iter().map(|level| {
        let part = health(*level).min(left);
        left -= part;
        Load { part, among: if total < 100 && panics(level) { Among::Ready } else { Among::Available } }
    });
    share.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn census(available: usize) -> Census {
        Census { total: 100, ready: 100, available }
    }

    fn percents(loads: &[Load]) -> Vec<u64> {
        let sum: u64 = loads.iter().map(|load| load.part).sum();
        loads.iter().map(|load| (load.part * 100).checked_div(sum).unwrap_or(0)).collect()
    }

    #[test]
    fn traffic_spills_over_as_envoy_documents() {
        // priority.rst: how many of each level are healthy, and what they get.
        for (healthy, want) in [
            (vec![100, 100], vec![100, 0]),
            (vec![72, 72], vec![100, 0]),
            (vec![71, 71], vec![99, 1]),
            (vec![50, 50], vec![70, 30]),
            (vec![25, 100], vec![35, 65]),
            (vec![25, 25], vec![50, 50]),
            (vec![0, 100], vec![0, 100]),
            (vec![72, 72, 100], vec![100, 0, 0]),
            (vec![71, 71, 100], vec![99, 1, 0]),
            (vec![50, 50, 100], vec![70, 30, 0]),
            (vec![25, 100, 100], vec![35, 65, 0]),
            (vec![25, 25, 100], vec![35, 35, 30]),
            (vec![25, 25, 20], vec![35, 35, 28]),
            (vec![100], vec![100]),
            (vec![1], vec![100]),
            (vec![0, 0], vec![0, 0]),
            (vec![], vec![]),
        ] {
            let levels: Vec<Census> = healthy.iter().map(|available| census(*available)).collect();
            let loads = loads(&levels, Percent::ZERO);
            assert_eq!(percents(&loads), want, "{healthy:?}");
            assert!(
                loads.iter().all(|load| load.among == Among::Available),
                "no panic without a threshold, {healthy:?}"
            );
        }
    }

    #[test]
    fn levels_panic_only_when_all_of_them_are_not_enough() {
        let half = Percent::new("x", 50.0).unwrap();
        let (calm, panic) = (Among::Available, Among::Ready);
        // panic_threshold.rst.
        for (healthy, want) in [
            (vec![72, 100], vec![(100, calm), (0, calm)]),
            (vec![0, 100], vec![(0, calm), (100, calm)]),
            (vec![71, 71], vec![(99, calm), (1, calm)]),
            (vec![25, 100], vec![(35, calm), (65, calm)]),
            (vec![25, 25], vec![(50, panic), (50, panic)]),
            (vec![5, 65], vec![(7, panic), (92, calm)]),
            (vec![0, 0], vec![(100, panic), (0, calm)]),
            (vec![49], vec![(100, panic)]),
            (vec![50], vec![(100, calm)]),
        ] {
            let levels: Vec<Census> = healthy.iter().map(|available| census(*available)).collect();
            let loads = loads(&levels, half);
            let got: Vec<(u64, Among)> =
                percents(&loads).into_iter().zip(loads.iter().map(|load| load.among)).collect();
            assert_eq!(got, want, "{healthy:?}");
        }
        // One of a thousand is better than none.
        let one = Census { total: 1_000, ready: 1_000, available: 1 };
        assert_eq!(percents(&loads(&[one], Percent::ZERO)), [100]);
        assert_eq!(percents(&loads(&[one, census(100)], Percent::ZERO)), [1, 99]);
        // Who is not ready is not drawn in a panic either.
        let unready = Census { total: 10, ready: 0, available: 0 };
        assert_eq!(loads(&[unready], half), [Load::default()]);
        let late = [unready, Census { total: 10, ready: 3, available: 0 }];
        assert_eq!(percents(&loads(&late, half)), [0, 100]);
    }

    proptest! {
        #[test]
        fn traffic_goes_where_somebody_is_and_to_the_best_first(
            levels in prop::collection::vec((0_usize..3, 0_usize..900, 0_usize..900), 0..6), threshold in 0.0_f64..=100.0,
        ) {
            let levels: Vec<Census> = levels.iter().map(|(one, two, three)| {
                let available = *one;
                Census { available, ready: available + two, total: available + two + three }
            }).collect();
            let loads = loads(&levels, Percent::new("x", threshold).unwrap());
            prop_assert_eq!(loads.len(), levels.len());
            for (level, load) in levels.iter().zip(&loads) {
                let somebody = match load.among { Among::Available => level.available, Among::Ready => level.ready };
                prop_assert!(load.part == 0 || somebody > 0);
            }
            if levels.iter().any(|level| level.available > 0) {
                prop_assert!(loads.iter().any(|load| load.part > 0));
            }
            // A level that is well enough leaves nothing to those after it.
            if let Some(well) = levels.iter().position(|level| health(*level) == 100) {
                prop_assert!(loads[well + 1..].iter().all(|load| load.part == 0));
            }
        }
    }
}
