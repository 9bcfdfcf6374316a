//! Workloads by their addresses.

use std::{hash::BuildHasher, net::IpAddr};

use weir_model::{Network, NetworkMode, Tunnel, canonical_ip};

use super::World;
use crate::{
    record::Record,
    slab::{Member, Seat},
};

impl World {
    /// Of all that have the address the one inside the mesh, or else the one of the least uid.
    pub(crate) fn member_at(&self, network: &Network, ip: IpAddr) -> Option<Member<'_>> {
        let ip = canonical_ip(ip);
        let hash = self.hash(&(network, ip));
        let first = if ip.is_ipv4() { &self.by_v4 } else { &self.by_v6 };
        let at = |seat: &Seat| self.records.at(*seat);
        let firsts = first.like(hash).map(at).filter(|member| member.address(ip.is_ipv4()) == Some(ip));
        let others = self.by_other.like(hash).filter(|(other, _)| *other == ip).map(|(_, seat)| at(seat));
        let mut all = firsts.chain(others).filter(|member| member.shape.network == *network);
        let one = all.next()?;
        Some(all.fold(one, |best, next| if better(&next, &best) { next } else { best }))
    }

    /// Whoever asks for its addresses finds it.
    pub(super) fn note_addresses(&mut self, seat: Seat) {
        let Self { hasher, records, by_v4, by_v6, by_other, .. } = self;
        let member = records.at(seat);
        if member.shape.network_mode != NetworkMode::Standard {
            return;
        }
        for ip in member.addresses() {
            let hash = hasher.hash_one((&member.shape.network, ip));
            if member.address(ip.is_ipv4()) == Some(ip) {
                let table = if ip.is_ipv4() { &mut *by_v4 } else { &mut *by_v6 };
                table.insert(hash, seat, |other| {
                    let other = records.at(*other);
                    let ip = other.address(ip.is_ipv4()).expect("it stands here by it");
                    hasher.hash_one((&other.shape.network, ip))
                });
            } else {
                let rehash = |(ip, other): &(IpAddr, Seat)| hasher.hash_one((&records.at(*other).shape.network, *ip));
                by_other.insert(hash, (ip, seat), rehash);
            }
        }
    }

    /// Nobody finds it by them any more.
    pub(super) fn forget_addresses(&mut self, seat: Seat) {
        let Self { hasher, records, by_v4, by_v6, by_other, .. } = self;
        let member = records.at(seat);
        for ip in member.addresses() {
            let hash = hasher.hash_one((&member.shape.network, ip));
            let table = if ip.is_ipv4() { &mut *by_v4 } else { &mut *by_v6 };
            if table.remove(hash, |other| *other == seat).is_none() {
                by_other.remove(hash, |other| *other == (ip, seat));
            }
        }
    }
}

fn better(one: &Record, other: &Record) -> bool {
    let outside = |record: &Record| record.shape.tunnel == Tunnel::None;
    outside(one).cmp(&outside(other)).then_with(|| one.cmp_uid(other)).is_lt()
}
