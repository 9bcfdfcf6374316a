//! As much as possible stays in the client's zone, and no endpoint gets more than others. Envoy zone_aware.rst.
//!
//! In: how many clients like this one, and how many endpoints, there are in each zone. Out: parts of this client's traffic.

/// What all of a client's traffic is.
const WHOLE: u64 = 1_000_000;

/// What each zone gets of a client's traffic: `endpoints` in each, `clients` in each, the client's own zone first. `clients_in_all` are also those in
/// zones without endpoints. None if nothing can be said: the client's own zone has no endpoint, or nobody knows of its clients.
pub fn parts(endpoints: &[u32], clients: &[u32], clients_in_all: u64) -> Option<Vec<u64>> {
    let endpoints_in_all: u64 = endpoints.iter().map(|count| u64::from(*count)).sum();
    // With both sums on either side, shares are compared without dividing: 2^32 times 2^64.
    let offer = |zone: usize| Some(u128::from(*endpoints.get(zone)?) * u128::from(clients_in_all));
    let demand = |zone: usize| Some(u128::from(*clients.get(zone)?) * u128::from(endpoints_in_all));
    let (own_offer, own_demand) = (offer(0)?, demand(0)?);
    if own_offer == 0 || own_demand == 0 {
        return None;
    }
    if own_offer >= own_demand {
        return Some((0..endpoints.len()).map(|zone| if zone == 0 { WHOLE } else { 0 }).collect());
    }
    let local = scaled(own_offer, own_demand, WHOLE);
    let spare = |zone: usize| offer(zone).unwrap_or(0).saturating_sub(demand(zone).unwrap_or(0));
    let spare_in_all: u128 = (1..endpoints.len()).map(spare).fold(0, u128::saturating_add);
    let part = |zone: usize| if zone == 0 { local } else { scaled(spare(zone), spare_in_all, WHOLE - local) };
    Some((0..endpoints.len()).map(part).collect())
}

/// `of * part / whole`, where the part is no more than the whole.
fn scaled(part: u128, whole: u128, of: u64) -> u64 {
    let scaled = part
        .checked_mul(of.into())
        .map_or_else(|| part / (whole / u128::from(of)).max(1), |product| product / whole.max(1));
    u64::try_from(scaled).unwrap_or(of).min(of)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_own_zone_first_and_the_rest_where_there_is_room() {
        for (endpoints, clients, in_all, want) in [
            // As many here as there: all stays.
            (vec![3, 3], vec![5, 5], 10, Some(vec![100, 0])),
            (vec![4, 2], vec![5, 5], 10, Some(vec![100, 0])),
            // A third of the endpoints for half of the clients.
            (vec![2, 4], vec![5, 5], 10, Some(vec![66, 33])),
            // Zones with room for others, and one without.
            (vec![1, 2, 1, 2], vec![2, 1, 1, 0], 4, Some(vec![33, 13, 0, 53])),
            // All clients are here.
            (vec![1, 3], vec![4, 0], 4, Some(vec![25, 75])),
            // Some are where no endpoints are.
            (vec![2, 2], vec![3, 0], 6, Some(vec![100, 0])),
            (vec![0, 3], vec![5, 5], 10, None),
            (vec![3, 3], vec![0, 5], 5, None),
            (vec![], vec![], 0, None),
        ] {
            let got = parts(&endpoints, &clients, in_all)
                .map(|parts| parts.iter().map(|part| part / 10_000).collect::<Vec<_>>());
            assert_eq!(got, want, "{endpoints:?} {clients:?}");
        }
    }

    proptest! {
        #[test]
        fn each_endpoint_gets_the_same_from_all_clients(counts in prop::collection::vec((1_u32..50, 1_u32..50), 1..6)) {
            let endpoints: Vec<u32> = counts.iter().map(|(endpoints, _)| *endpoints).collect();
            let clients: Vec<u32> = counts.iter().map(|(_, clients)| *clients).collect();
            let in_all: u32 = clients.iter().sum();
            let mut got = vec![0.0; counts.len()];
            for own in 0..counts.len() {
                // Each zone's clients see their own zone first.
                let mut order: Vec<usize> = (0..counts.len()).collect();
                order.swap(0, own);
                let seen = |all: &[u32]| order.iter().map(|zone| all[*zone]).collect::<Vec<_>>();
                let parts = parts(&seen(&endpoints), &seen(&clients), in_all.into()).unwrap();
                prop_assert!(parts.iter().sum::<u64>().abs_diff(WHOLE) <= 6);
                for (zone, part) in order.iter().zip(parts) {
                    got[*zone] += f64::from(u32::try_from(part).unwrap()) * f64::from(clients[own]);
                }
            }
            let each: Vec<f64> = got.iter().zip(&endpoints).map(|(got, endpoints)| got / f64::from(*endpoints)).collect();
            let fair = f64::from(in_all) * 1e6 / f64::from(endpoints.iter().sum::<u32>());
            prop_assert!(each.iter().all(|each| (each / fair - 1.0).abs() < 0.01), "{:?} {}", each, fair);
        }

        #[test]
        fn huge_counts_do_not_overflow(endpoints in any::<[u32; 3]>(), clients in any::<[u32; 3]>(), others in any::<u32>()) {
            let in_all: u64 = clients.iter().map(|count| u64::from(*count)).sum::<u64>() + u64::from(others);
            if let Some(parts) = parts(&endpoints, &clients, in_all) {
                prop_assert!(parts.iter().sum::<u64>() <= WHOLE);
            }
        }
    }
}
