//! Ranges of addresses, few or a million.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// Up to so many are looked at one by one.
const FEW: usize = 8;
/// So many of a level are one of the level above: all of them are looked at, which costs about as much memory access as one.
const FANOUT: usize = 16;

/// Ranges of addresses.
#[derive(Debug, Clone)]
pub(crate) enum Ranges {
    Few(Box<[IpNet]>),
    Many(Box<(Spans<u32>, Spans<u128>)>),
}

impl Ranges {
    pub(crate) fn new(all: &[IpNet]) -> Self {
        if all.len() <= FEW {
            return Self::Few(all.iter().copied().map(canonical_net).collect());
        }
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for range in all {
            match canonical_net(*range) {
                IpNet::V4(range) => v4.push((u32::from(range.network()), u32::from(range.broadcast()))),
                IpNet::V6(range) => v6.push((u128::from(range.network()), u128::from(range.broadcast()))),
            }
        }
        Self::Many(Box::new((Spans::new(v4), Spans::new(v6))))
    }

    /// Whether one of them has the address, which is canonical.
    pub(crate) fn hold(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Few(all), _) => all.iter().any(|range| range.contains(&address)),
            (Self::Many(all), IpAddr::V4(v4)) => all.0.hold(v4.into()),
            (Self::Many(all), IpAddr::V6(v6)) => all.1.hold(v6.into()),
        }
    }
}

/// The range without an IPv4-in-IPv6 disguise (RFC 4291 §2.5.5.2), and without bits beyond its length.
pub(crate) fn canonical_net(range: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    let plain = match range {
        IpNet::V4(_) => None,
        IpNet::V6(v6) => mapped(v6.addr()).zip(v6.prefix_len().checked_sub(MAPPED)),
    };
    let plain = plain.and_then(|(address, len)| Ipv4Net::new(address.into(), len).ok());
    plain.map_or(range, IpNet::V4).trunc()
}

fn mapped(address: Ipv6Addr) -> Option<[u8; 4]> {
    address.to_ipv4_mapped().map(|v4| v4.octets())
}

/// Stretches of numbers, apart from each other and in order, below levels of signposts: few lines of memory lead to the only one that can
/// hold a number.
#[derive(Debug, Clone)]
pub(crate) struct Spans<T> {
    /// The starts of every so many'th of what is below; the top level first.
    signposts: Vec<Box<[T]>>,
    /// Starts and ends.
    all: Box<[(T, T)]>,
}

impl<T: Copy + Ord> Spans<T> {
    fn new(mut all: Vec<(T, T)>) -> Self {
        all.sort_unstable();
        all.dedup_by(|next, last| {
            let joined = next.0 <= last.1;
            if joined {
                last.1 = last.1.max(next.1);
            }
            joined
        });
        let mut signposts = Vec::new();
        let mut level: Box<[T]> = all.iter().step_by(FANOUT).map(|one| one.0).collect();
        while level.len() > 1 {
            let above = level.iter().step_by(FANOUT).copied().collect();
            signposts.push(level);
            level = above;
        }
        signposts.reverse();
        Self { signposts, all: all.into() }
    }

    fn hold(&self, number: T) -> bool {
        let mut at = 0;
        for level in &self.signposts {
            match last(&level[at..], number, |start| *start) {
                Some(next) => at = (at + next) * FANOUT,
                None => return false,
            }
        }
        let found = last(&self.all[at..], number, |one| one.0);
        found.is_some_and(|next| self.all[at + next].1 >= number)
    }
}

/// The last of so many that begins at or before the number.
fn last<S, T: Copy + Ord>(from: &[S], number: T, start: impl Fn(&S) -> T) -> Option<usize> {
    from.iter().take(FANOUT).filter(|one| start(one) <= number).count().checked_sub(1)
}
