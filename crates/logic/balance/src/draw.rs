//! A draw in proportion to weights: RANDOM, and LEAST_REQUEST by the power of two choices.
//!
//! In: weights, what each endpoint has to do at the moment, randomness. Out: one of them. It takes as long for ten as for ten thousand, but for
//! the depth of a binary search when weights differ.

use rand::Rng;

use crate::{Share, Weight};

/// How often an endpoint that warms up may send a draw back: with a share of a tenth, all draws but one in thirty are kept to the letter.
const REDRAWS: usize = 32;

/// Endpoints, by their place in a list, ready to be drawn from.
#[derive(Debug, Clone, Default)]
pub struct Draw {
    /// The sum of the weights up to each and with it.
    ends: Box<[u64]>,
    all_alike: bool,
}

impl Draw {
    /// Endpoints with these weights.
    pub fn new(weights: impl IntoIterator<Item = Weight>) -> Self {
        let (mut first, mut all_alike, mut sum) = (None, true, 0_u64);
        let ends = weights.into_iter().map(|weight| {
            all_alike &= *first.get_or_insert(weight) == weight;
            sum = sum.saturating_add(weight.value().into());
            sum
        });
        Self { ends: ends.collect(), all_alike }
    }

    /// One of them, in proportion to their weights.
    pub fn random(&self, rng: &mut impl Rng) -> Option<usize> {
        match *self.ends {
            [] => None,
            [_] => Some(0),
            [..] if self.all_alike => Some(rng.random_range(0..self.ends.len())),
            [.., total] => Some(self.at(rng.random_range(0..total))),
        }
    }

    /// Of two drawn in proportion to their weights, the one that has less to do for its weight; the one drawn first if both are equal, so
    /// that endpoints that have nothing to do get shares in proportion to their weights, too.
    ///
    /// Envoy does the same for equal weights; for others it has a schedule that is slower to notice load.
    pub fn least_request(
        &self,
        active: impl Fn(usize) -> u32,
        share: impl Fn(usize) -> Share,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        let one = self.warm(|rng| self.random(rng), &share, rng)?;
        let Some(other) = self.warm(|rng| self.another(one, rng), &share, rng) else { return Some(one) };
        let load = |of: usize, against: usize| {
            u128::from(active(of)) * u128::from(share(against).parts()) * u128::from(self.weight(against))
        };
        Some(if load(other, one) < load(one, other) { other } else { one })
    }

    /// A draw that is kept as often as what it drew is warm.
    fn warm<R: Rng>(
        &self,
        draw: impl Fn(&mut R) -> Option<usize>,
        share: impl Fn(usize) -> Share,
        rng: &mut R,
    ) -> Option<usize> {
        let mut drawn = draw(rng)?;
        for _ in 0..REDRAWS {
            if share(drawn).accepts(rng) {
                break;
            }
            drawn = draw(rng)?;
        }
        Some(drawn)
    }

    /// One of the others, in proportion to their weights.
    fn another(&self, than: usize, rng: &mut impl Rng) -> Option<usize> {
        if self.ends.len() < 2 {
            return None;
        }
        if self.all_alike {
            let drawn = rng.random_range(0..self.ends.len() - 1);
            return Some(if drawn < than { drawn } else { drawn + 1 });
        }
        let total = *self.ends.last()?;
        let weight = self.weight(than);
        let start = self.ends.get(than)?.saturating_sub(weight);
        let drawn = rng.random_range(0..total.checked_sub(weight).filter(|rest| *rest > 0)?);
        Some(self.at(if drawn < start { drawn } else { drawn + weight }))
    }

    fn at(&self, point: u64) -> usize {
        self.ends.partition_point(|end| *end <= point)
    }

    fn weight(&self, at: usize) -> u64 {
        let end_of = |at: usize| self.ends.get(at).copied().unwrap_or_default();
        end_of(at).saturating_sub(at.checked_sub(1).map_or(0, end_of))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::testing::weights;

    fn counts(n: usize, rounds: u32, mut draw: impl FnMut(&mut SmallRng) -> Option<usize>) -> Vec<u32> {
        let mut rng = SmallRng::seed_from_u64(11);
        let mut counts = vec![0; n];
        for _ in 0..rounds {
            counts[draw(&mut rng).unwrap()] += 1;
        }
        counts
    }

    /// Whether counts are those of a draw with such chances, within four standard deviations.
    fn fits(counts: &[u32], chances: &[f64]) -> bool {
        let rounds = f64::from(counts.iter().sum::<u32>());
        let sum: f64 = chances.iter().sum();
        counts.iter().zip(chances).all(|(count, chance)| {
            let p = chance / sum;
            (f64::from(*count) - rounds * p).abs() <= 4.0 * (rounds * p * (1.0 - p)).sqrt()
        })
    }

    const IDLE: fn(usize) -> u32 = |_| 0;
    const WARM: fn(usize) -> Share = |_| Share::FULL;

    #[test]
    fn draws_follow_the_weights() {
        for given in [vec![1], vec![1, 1, 1, 1], vec![1, 2, 3], vec![100, 1], vec![u32::MAX, u32::MAX, 1]] {
            let draw = Draw::new(weights(&given));
            let chances: Vec<f64> = given.iter().map(|weight| f64::from(*weight)).collect();
            let random = counts(given.len(), 20_000, |rng| draw.random(rng));
            assert!(fits(&random, &chances), "{given:?} {random:?}");
            let idle = counts(given.len(), 20_000, |rng| draw.least_request(IDLE, WARM, rng));
            assert!(fits(&idle, &chances), "least request, {given:?} {idle:?}");
        }
    }

    #[test]
    fn who_has_less_to_do_for_its_weight_is_chosen() {
        for (given, active, want) in [
            (vec![1, 1], vec![1, 0], 1),
            (vec![1, 1], vec![7, 8], 0),
            (vec![1, 2], vec![2, 3], 1),
            (vec![1, 2], vec![1, 3], 0),
            (vec![u32::MAX, u32::MAX - 1], vec![u32::MAX, u32::MAX], 0),
        ] {
            let draw = Draw::new(weights(&given));
            let chosen = counts(2, 200, |rng| draw.least_request(|at| active[at], WARM, rng));
            assert_eq!(chosen[want], 200, "{given:?} {active:?}");
        }
    }

    #[test]
    fn an_endpoint_that_warms_up_gets_its_share_of_its_weight() {
        let draw = Draw::new(weights(&[1, 1, 1, 1]));
        let share = |at: usize| if at == 2 { Share::of(0.25) } else { Share::FULL };
        let chosen = counts(4, 20_000, |rng| draw.least_request(IDLE, share, rng));
        assert!(fits(&chosen, &[1.0, 1.0, 0.25, 1.0]), "{chosen:?}");
    }

    #[test]
    fn nothing_is_drawn_from_nothing() {
        let mut rng = SmallRng::seed_from_u64(1);
        let draw = Draw::default();
        assert_eq!(draw.random(&mut rng), None);
        assert_eq!(draw.least_request(IDLE, WARM, &mut rng), None);
    }

    #[test]
    fn two_choices_keep_queues_short() {
        // Requests that never end: the fullest of a hundred endpoints has one or two more than the average, by chance alone it has many more.
        let draw = Draw::new(weights(&[1; 100]));
        let mut rng = SmallRng::seed_from_u64(5);
        let mut active = vec![0_u32; 100];
        for _ in 0..10_000 {
            let chosen = draw.least_request(|at| active[at], WARM, &mut rng).unwrap();
            active[chosen] += 1;
        }
        assert!(active.iter().all(|count| count.abs_diff(100) <= 4), "{active:?}");
    }

    proptest! {
        #[test]
        fn two_that_are_drawn_are_two(given in prop::collection::vec(1_u32..1000, 2..20), seed in any::<u64>()) {
            let draw = Draw::new(weights(&given));
            let mut rng = SmallRng::seed_from_u64(seed);
            let one = draw.random(&mut rng).unwrap();
            let other = draw.another(one, &mut rng).unwrap();
            prop_assert!(one < given.len() && other < given.len() && one != other);
        }
    }
}
