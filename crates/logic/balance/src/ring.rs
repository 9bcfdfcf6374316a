//! Ring hash: endpoints stand at many points of a circle, and a key belongs to the next one clockwise ("Ketama").
//!
//! In: names and weights of endpoints. Out: the endpoint of a key, the same in every process, and the same that Envoy finds: its hash of the same
//! text (XXH64 of `name_number`), as many points for each.

use twox_hash::XxHash64;

use crate::{HashKey, PolicyError, Weight, weight::wide};

/// How many points a ring has at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingSize(u32);

impl RingSize {
    /// The most points that may be asked for. Envoy `RingHashLbConfig.minimum_ring_size`: 8M.
    pub const MAX: u32 = 8_388_608;

    /// So many points.
    ///
    /// # Errors
    /// When there are none, or more than [`RingSize::MAX`].
    pub fn new(size: u64) -> Result<Self, PolicyError> {
        let fitting = u32::try_from(size).ok().filter(|size| (1..=Self::MAX).contains(size));
        fitting.map(Self).ok_or(PolicyError::RingSize { size, max: Self::MAX })
    }
}

impl Default for RingSize {
    /// Istio `RingHash.minimum_ring_size`: 1024.
    fn default() -> Self {
        Self(1024)
    }
}

/// How large a ring grows when the lightest endpoint is to have a whole point, unless it was asked to be larger. Envoy goes on to 8M, which is
/// a hundred megabytes for a service with one very heavy endpoint.
const MOST_BY_WEIGHT: u32 = 65_536;

/// The ring.
#[derive(Debug, Clone, Default)]
pub struct Ring {
    /// Ascending.
    points: Box<[u64]>,
    /// Whose they are.
    owners: Box<[u32]>,
}

impl Ring {
    /// A ring of endpoints, by their place in the list.
    pub fn new<N: AsRef<str>>(endpoints: &[(N, Weight)], minimum: RingSize) -> Self {
        let total: u128 = endpoints.iter().map(|(_, weight)| u128::from(weight.value())).sum();
        let Some(lightest) = endpoints.iter().map(|(_, weight)| u128::from(weight.value())).min() else {
            return Self::default();
        };
        let most = u128::from(minimum.0.max(MOST_BY_WEIGHT)).max(wide(endpoints.len()));
        let of_the_lightest = (lightest * u128::from(minimum.0)).div_ceil(total);
        // Points for each are parts / whole of its weight.
        let exact = (of_the_lightest, lightest);
        let (parts, whole) = if of_the_lightest * total <= most * lightest { exact } else { (most, total) };

        let mut points = Vec::new();
        let (mut passed, mut made) = (0, 0);
        let mut text = String::new();
        for (owner, (name, weight)) in (0_u32..).zip(endpoints) {
            passed += u128::from(weight.value());
            // Nobody is left out.
            let until = (passed * parts).div_ceil(whole).max(made + 1);
            for number in 0..until - made {
                text.clear();
                text.extend([name.as_ref(), "_", &number.to_string()]);
                points.push((XxHash64::oneshot(0, text.as_bytes()), owner));
            }
            made = until;
        }
        points.sort_unstable();
        let (points, owners): (Vec<u64>, Vec<u32>) = points.into_iter().unzip();
        Self { points: points.into(), owners: owners.into() }
    }

    /// The endpoint of a key: the next one clockwise that will do. While one does not, its keys, and no others, are those of its neighbours.
    pub fn pick(&self, key: HashKey, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let at = self.points.partition_point(|point| *point < key.value());
        let (before, from) = self.owners.split_at_checked(at)?;
        from.iter().chain(before).filter_map(|owner| usize::try_from(*owner).ok()).find(|owner| usable(*owner))
    }

    /// How many points it has.
    pub fn size(&self) -> usize {
        self.points.len()
    }
}

#[cfg(test)]
mod tests;
