//! What stands behind a service or an address, and how each is reached: for a waypoint, which chooses by itself.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use weir_model::{Health, Locality, Network, Port, ServiceName, SpiffeId, Tunnel, Workload, canonical_ip};

use crate::{
    outbound::{CAPTURE_PORTS, HBONE_PORT, own_port},
    refusal::Refusal,
    slab::Member,
    world::World,
};

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address. An IPv4 address mapped into IPv6 is the IPv4 address.
    pub fn of(ip: IpAddr) -> Self {
        if canonical_ip(ip).is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn is_v4(self) -> bool {
        self == Self::V4
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// One workload, as it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Its address, and its own port.
    pub target: SocketAddr,
    /// How a connection gets there.
    pub way: Way,
    /// Whether it takes new connections. Which endpoints count is the service's `health_policy`.
    pub health: Health,
    /// Where it runs.
    pub locality: Locality,
}

/// How a connection gets to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Over HBONE, with the target as the authority.
    Tunnel {
        /// Where the tunnel leads.
        next_hop: SocketAddr,
        /// Who may be at the other end.
        expect: Arc<[SpiffeId]>,
    },
    /// In the clear: it is not in the mesh.
    Plain,
    /// Not at all, for this reason.
    Unreachable(Refusal),
}

impl World {
    /// All that stand behind the service and have a port for its `port`, ready or not, as seen from a network. Each at its address of
    /// the family, or of the other if it has none. No waypoint is on the way: a waypoint asks this for what is bound to it.
    pub fn endpoints(
        &self,
        network: &Network,
        service: &ServiceName,
        port: Port,
        family: Family,
    ) -> impl Iterator<Item = Endpoint> {
        let served = self.served(service).and_then(|served| Some((served, served.service.as_ref()?)));
        let known = served.and_then(|(served, service)| {
            let own = service.ports.iter().find(|own| own.port == port)?;
            Some((served, service, own))
        });
        known.into_iter().flat_map(move |(served, service, own)| {
            self.behind(served).filter_map(move |member| {
                let ip = member.address(family.is_v4()).or_else(|| member.address(!family.is_v4()))?;
                let target = SocketAddr::new(ip, own_port(&member.shape, service, own)?.number());
                Some(self.endpoint(network, member, target))
            })
        })
    }

    /// The workload that has the address to itself, reached by it; none if nobody has.
    pub fn pod_endpoint(&self, network: &Network, ip: IpAddr, port: Port) -> Option<Endpoint> {
        let ip = canonical_ip(ip);
        let member = self.member_at(network, ip)?;
        Some(self.endpoint(network, member, SocketAddr::new(ip, port.number())))
    }

    fn endpoint(&self, network: &Network, member: Member<'_>, target: SocketAddr) -> Endpoint {
        let member = self.inside(network, member, target.ip());
        let (shape, next_hop) = (&member.shape, SocketAddr::new(target.ip(), HBONE_PORT));
        let unsupported =
            |why: Arc<str>| Way::Unreachable(Refusal::Unsupported { what: format!("workload {}", member.uid()), why });
        let way = match (&shape.unsupported, shape.tunnel) {
            (Some(why), _) => unsupported(why.clone()),
            (None, _) if shape.network != *network => unsupported(
                format!("it is in the network {:?}, and this is {:?}", shape.network.as_str(), network.as_str()).into(),
            ),
            (None, Tunnel::None) => Way::Plain,
            (None, Tunnel::Hbone) if CAPTURE_PORTS.contains(&target.port()) => {
                Way::Unreachable(Refusal::IllegalPort { target })
            }
            (None, Tunnel::Hbone) => Way::Tunnel { next_hop, expect: shape.expect.clone() },
        };
        let (health, locality) = (shape.health, member.place.locality.clone());
        Endpoint { workload: member.whole(), target, way, health, locality }
    }

    /// What is said to be outside may still stand at a mesh workload's address.
    pub(crate) fn inside<'w>(&'w self, network: &Network, member: Member<'w>, ip: IpAddr) -> Member<'w> {
        match member.shape.tunnel {
            Tunnel::None => {
                let other = self.member_at(network, ip).filter(|other| other.shape.tunnel == Tunnel::Hbone);
                other.unwrap_or(member)
            }
            Tunnel::Hbone => member,
        }
    }
}
