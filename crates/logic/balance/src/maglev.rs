//! Maglev: a table in which each endpoint has its share of entries, at places of its own choice, and a key belongs to the entry it falls on.
//!
//! In: names and weights of endpoints. Out: the endpoint of a key, the same in every process, and the same that Envoy finds. Eisenbud et al., Maglev
//! (NSDI 2016), section 3.4.

use std::{cmp::Reverse, collections::BinaryHeap};

use twox_hash::XxHash64;

use crate::{HashKey, PolicyError, Weight};

/// How many entries a table has: a prime, so that every step size visits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableSize(u32);

impl TableSize {
    /// The largest. Envoy `MaglevLbConfig.table_size`.
    pub const MAX: u32 = 5_000_011;

    /// So many entries.
    ///
    /// # Errors
    /// When it is no prime, or more than [`TableSize::MAX`].
    pub fn new(size: u64) -> Result<Self, PolicyError> {
        let fitting = u32::try_from(size).ok().filter(|size| *size <= Self::MAX && is_prime(*size));
        fitting.map(Self).ok_or(PolicyError::TableSize { size, max: Self::MAX })
    }
}

impl Default for TableSize {
    /// Istio `MagLev.table_size`: 65537.
    fn default() -> Self {
        Self(65_537)
    }
}

fn is_prime(number: u32) -> bool {
    let mut divisors = (2_u32..).take_while(|divisor| divisor.saturating_mul(*divisor) <= number);
    number > 1 && divisors.all(|divisor| !number.is_multiple_of(divisor))
}

/// The table.
#[derive(Debug, Clone, Default)]
pub struct Maglev {
    owners: Box<[u32]>,
}

/// An endpoint while the table is being filled.
struct Filler {
    owner: u32,
    weight: u64,
    /// Which entry it would like next.
    at: u64,
    step: u64,
    /// How many it has.
    entries: u64,
}

impl Maglev {
    /// A table of endpoints, by their place in the list.
    pub fn new<N: AsRef<str>>(endpoints: &[(N, Weight)], size: TableSize) -> Self {
        let size = u64::from(size.0);
        let mut sorted: Vec<(&str, u32, Weight)> =
            (0..).zip(endpoints).map(|(owner, (name, weight))| (name.as_ref(), owner, *weight)).collect();
        // Who chooses first must not depend on who was listed first.
        sorted.sort_unstable();
        let fillers = sorted.iter().map(|(name, owner, weight)| Filler {
            owner: *owner,
            weight: weight.value().into(),
            at: XxHash64::oneshot(0, name.as_bytes()) % size,
            step: XxHash64::oneshot(1, name.as_bytes()) % (size - 1).max(1) + 1,
            entries: 0,
        });
        Self::fill(fillers.collect(), size)
    }

    /// The heaviest chooses an entry in each round, another in as many of them as its weight says.
    fn fill(mut fillers: Vec<Filler>, size: u64) -> Self {
        let heaviest = fillers.iter().map(|filler| filler.weight).max().unwrap_or(1);
        let mut taken: Vec<Option<u32>> = (0..size).map(|_| None).collect();
        let mut next: BinaryHeap<Reverse<(u64, usize)>> =
            (0..fillers.len()).map(|filler| Reverse((1, filler))).collect();
        for _ in 0..size {
            let Some(mut turn) = next.peek_mut() else { return Self::default() };
            let Reverse((round, who)) = *turn;
            let Some(filler) = fillers.get_mut(who) else { return Self::default() };
            loop {
                let entry = usize::try_from(filler.at).ok().and_then(|at| taken.get_mut(at));
                filler.at = (filler.at + filler.step) % size;
                if let Some(entry @ None) = entry {
                    *entry = Some(filler.owner);
                    break;
                }
            }
            filler.entries += 1;
            // Less than 2^23 entries, each of a weight of less than 2^32.
            let due = (filler.entries * heaviest).div_ceil(filler.weight);
            *turn = Reverse((due.max(round + 1), who));
        }
        Self { owners: taken.into_iter().flatten().collect() }
    }

    /// The endpoint of a key. While one does not do, its keys, and no others, go to the entries that follow.
    pub fn pick(&self, key: HashKey, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let size = u64::try_from(self.owners.len()).ok()?;
        let at = usize::try_from(key.value().checked_rem(size)?).ok()?;
        let (before, from) = self.owners.split_at_checked(at)?;
        from.iter().chain(before).filter_map(|owner| usize::try_from(*owner).ok()).find(|owner| usable(*owner))
    }

    /// How many entries it has.
    pub fn size(&self) -> usize {
        self.owners.len()
    }
}

#[cfg(test)]
mod tests;
