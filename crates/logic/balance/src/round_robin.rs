//! ROUND_ROBIN: each in turn, as often as its weight says, and never in bursts.
//!
//! In: weights. Out: whose turn it is. Each endpoint has a time of its own at which it is next, its period being the inverse of its weight; whose
//! time is the earliest is next (earliest deadline first). One turn costs the depth of a heap.

use std::{cmp::Reverse, collections::BinaryHeap};

use rand::Rng;

use crate::{Share, Weight};

/// The period of an endpoint with a weight of one and a full share. Time is never reset: there is enough of it for 2^64 turns.
const PERIOD: u128 = 1 << 63;

/// Endpoints, by their place in a list, that take turns.
#[derive(Debug, Clone, Default)]
pub struct RoundRobin {
    turns: BinaryHeap<Reverse<Turn>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    due: u128,
    /// Who is first when several are due at one time.
    order: usize,
    endpoint: usize,
    weight: Weight,
}

impl RoundRobin {
    /// Endpoints with these weights. Which of equals is first is drawn, or all clients would begin with the same one.
    pub fn new(weights: impl IntoIterator<Item = Weight>, rng: &mut impl Rng) -> Self {
        let weights: Vec<Weight> = weights.into_iter().collect();
        let count = weights.len();
        let first = if count < 2 { 0 } else { rng.random_range(0..count) };
        let turns = weights.into_iter().enumerate().map(|(endpoint, weight)| {
            let order = if endpoint < first { endpoint + count - first } else { endpoint - first };
            Reverse(Turn { due: period(weight, Share::FULL), order, endpoint, weight })
        });
        Self { turns: turns.collect() }
    }

    /// Whose turn it is.
    pub fn next(&mut self, share: impl Fn(usize) -> Share) -> Option<usize> {
        let mut turn = self.turns.peek_mut()?;
        let endpoint = turn.0.endpoint;
        let period = period(turn.0.weight, share(endpoint));
        turn.0.due = turn.0.due.saturating_add(period);
        Some(endpoint)
    }
}

fn period(weight: Weight, share: Share) -> u128 {
    PERIOD * u128::from(Share::WHOLE) / u128::from(share.of_weight(weight))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::testing::weights;

    fn turns(given: &[u32], rounds: usize, seed: u64) -> Vec<usize> {
        let mut robin = RoundRobin::new(weights(given), &mut SmallRng::seed_from_u64(seed));
        (0..rounds).map(|_| robin.next(|_| Share::FULL).unwrap()).collect()
    }

    #[test]
    fn equals_take_turns_and_who_begins_is_drawn() {
        let mut firsts: Vec<usize> = (0..64).map(|seed| turns(&[1, 1, 1], 1, seed)[0]).collect();
        for seed in 0..64 {
            let taken = turns(&[1, 1, 1], 9, seed);
            let first = taken[0];
            let want: Vec<usize> = (0..9).map(|turn| (first + turn) % 3).collect();
            assert_eq!(taken, want);
        }
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts, [0, 1, 2]);
    }

    #[test]
    fn a_heavy_one_does_not_get_its_turns_in_a_row() {
        for (given, longest) in [(vec![5, 1, 1], 5), (vec![2, 1], 2), (vec![3, 3, 1], 1)] {
            let taken = turns(&given, 70, 3);
            let runs = taken.chunk_by(|one, other| one == other).map(<[usize]>::len);
            assert!(runs.max().unwrap() <= longest, "{given:?} {taken:?}");
        }
        // Smooth: a weight of five in eight is never further from its share than one turn.
        for (turn, taken) in (1_u32..).zip(turns(&[5, 3], 80, 3).iter().scan(0, |sum, at| {
            *sum += u32::from(*at == 0);
            Some(*sum)
        })) {
            assert!((taken * 8).abs_diff(turn * 5) <= 8, "{taken} of {turn}");
        }
    }

    #[test]
    fn an_endpoint_that_warms_up_has_longer_periods() {
        let mut robin = RoundRobin::new(weights(&[1, 1]), &mut SmallRng::seed_from_u64(1));
        let share = |at: usize| if at == 1 { Share::of(0.1) } else { Share::FULL };
        let cold = (0..1100).filter(|_| robin.next(share) == Some(1)).count();
        assert!(cold.abs_diff(100) <= 1, "{cold}");
    }

    #[test]
    fn nobodys_turn_among_nobody() {
        let mut robin = RoundRobin::new([], &mut SmallRng::seed_from_u64(1));
        assert_eq!(robin.next(|_| Share::FULL), None);
    }

    proptest! {
        #[test]
        fn in_as_many_turns_as_the_weights_add_up_to_each_gets_its_weight(
            given in prop::collection::vec(1_u32..50, 1..12),
            seed in any::<u64>(),
        ) {
            let sum: u32 = given.iter().sum();
            let mut counts = vec![0_u32; given.len()];
            for taken in turns(&given, usize::try_from(sum).unwrap(), seed) {
                counts[taken] += 1;
            }
            prop_assert_eq!(counts, given);
        }
    }
}
