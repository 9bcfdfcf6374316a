//! Through waypoints: to one of those that what is asked for is bound to, or nowhere; and what a waypoint may be asked for.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rand::Rng;
use weir_balance::{Distance, Rank, pick};
use weir_model::{
    HealthPolicy, Namespace, Service, ServiceName, Termination, Tunnel, WaypointAddress, WaypointDestination, Workload,
    WorkloadUid, canonical_socket,
};

use crate::{
    endpoint::Family,
    outbound::{Plan, TunnelPlan},
    record::Record,
    refusal::{Refusal, Unmet},
    slab::{Member, Seat},
    world::World,
};

/// A service or a workload, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    /// A service.
    Service(ServiceName),
    /// A workload.
    Workload(WorkloadUid),
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "service {name}"),
            Self::Workload(uid) => write!(f, "workload {uid}"),
        }
    }
}

/// What is bound to a waypoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// A service, asked for by one of its addresses.
    Service(Arc<Service>),
    /// A workload, asked for by one of its own.
    Workload(Arc<Workload>),
}

impl World {
    /// What a waypoint may be asked for there by a client of that namespace: the service, if it is exported there, or workload that has the address
    /// in its network, if that is bound to it. Whatever else it is asked for is not for it to reach.
    pub fn bound_to(&self, waypoint: &WorkloadUid, client: Option<&Namespace>, target: SocketAddr) -> Option<Bound> {
        let own = self.member(waypoint)?;
        let ip = canonical_socket(target).ip();
        let to_it = |address: &Option<WaypointAddress>| address.as_ref().is_some_and(|one| self.serves(&own, one));
        match self.served_for(client, &own.shape.network, ip) {
            Some((_, service)) => to_it(&service.waypoint).then(|| Bound::Service(service.clone())),
            None => {
                let member = self.member_at(&own.shape.network, ip)?;
                to_it(&member.shape.waypoint).then(|| Bound::Workload(member.whole()))
            }
        }
    }

    /// Whether the workload is one of the waypoint's own: it stands behind it; or, since one that ends stands behind nothing any more, it
    /// is a waypoint that runs under its name.
    pub(crate) fn serves(&self, member: &Record, waypoint: &WaypointAddress) -> bool {
        let behind = |name: &ServiceName| {
            let named = || {
                let account = member.shape.expect.first().map(|identity| identity.service_account().as_str());
                account == name.hostname.as_str().split('.').next() && member.shape.namespace == name.namespace
            };
            let listed = member.shape.services.iter().any(|membership| membership.service == *name);
            listed || member.shape.termination != Termination::Agent && named()
        };
        match &waypoint.destination {
            WaypointDestination::Service(name) => behind(name),
            WaypointDestination::Address(network, ip) => match self.served_at(network, *ip) {
                Some((_, service)) => behind(&service.name),
                None => member.shape.network == *network && member.addresses().any(|own| own == *ip),
            },
        }
    }

    /// To one of the waypoint's workloads: of those that are ready one of the nearest.
    pub(crate) fn through(&self, hop: Hop<'_>, rng: &mut impl Rng) -> Result<Plan, Refusal> {
        let Hop { source, of, waypoint, dst, service, tried } = hop;
        let (seats, single) = match self.behind_waypoint(waypoint)? {
            Some(found) => found,
            None => return Err(Refusal::NoWaypoint { of, waypoint: waypoint.clone(), why: Unmet::Unknown }),
        };
        let members = seats.iter().map(|seat| self.seated(*seat)).chain(single);
        let next = |member: &Member<'_>| next_hop(source, member, dst.ip());
        let is_tried = |member: &Member<'_>| tried.iter().any(|uid| member.is(uid));
        let rank = |member: &Member<'_>| {
            if is_tried(member) {
                return None;
            }
            let distance = Distance::between(&source.place.locality, &member.place.locality);
            next(member).and_then(|_| Rank::of(member.shape.health, HealthPolicy::OnlyReady, distance))
        };
        let chosen = pick(members.clone(), rank, rng).and_then(|member| Some((next(&member)?, member)));
        let Some((ip, member)) = chosen else {
            let why = match members.count() {
                0 => Unmet::Empty,
                of => Unmet::Unready { of, family: Family::of(dst.ip()) },
            };
            return Err(Refusal::NoWaypoint { of, waypoint: waypoint.clone(), why });
        };
        Ok(Plan::Tunnel(TunnelPlan {
            next_hop: SocketAddr::new(ip, waypoint.port.number()),
            authority: dst,
            expect: member.shape.expect.clone(),
            destination: member.whole(),
            service,
        }))
    }

    /// Those who are the waypoint: many on their seats, or one.
    fn behind_waypoint(&self, waypoint: &WaypointAddress) -> Result<Option<Behind<'_>>, Refusal> {
        let served = match &waypoint.destination {
            WaypointDestination::Service(name) => {
                self.served(name).and_then(|served| Some((served, served.service.as_ref()?)))
            }
            WaypointDestination::Address(network, ip) => match self.served_at(network, *ip) {
                Some(found) => Some(found),
                None => return Ok(self.member_at(network, *ip).map(|member| ([].as_slice(), Some(member)))),
            },
        };
        let Some((served, service)) = served else { return Ok(None) };
        match &service.unsupported {
            Some(why) => Err(Refusal::Unsupported { what: format!("the waypoint {}", service.name), why: why.clone() }),
            None => Ok(Some((&served.members, None))),
        }
    }
}

type Behind<'w> = (&'w [Seat], Option<Member<'w>>);

/// What goes through a waypoint.
pub(crate) struct Hop<'a> {
    pub(crate) source: &'a Record,
    pub(crate) of: Thing,
    pub(crate) waypoint: &'a WaypointAddress,
    pub(crate) dst: SocketAddr,
    pub(crate) service: Option<Arc<Service>>,
    /// Workloads of the waypoint that did not take the connection.
    pub(crate) tried: &'a [WorkloadUid],
}

/// The address by which the source reaches a workload that takes HBONE: of the family that was asked for, or else of one that both have.
fn next_hop(source: &Record, member: &Record, asked: IpAddr) -> Option<IpAddr> {
    let shape = &member.shape;
    if shape.tunnel != Tunnel::Hbone || shape.network != source.shape.network || shape.unsupported.is_some() {
        return None;
    }
    let other = || member.address(asked.is_ipv6()).filter(|_| source.address(asked.is_ipv6()).is_some());
    member.address(asked.is_ipv4()).or_else(other)
}

#[cfg(test)]
#[path = "waypoint/tests.rs"]
mod tests;
