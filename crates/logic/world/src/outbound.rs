//! Where a pod's connection goes.

use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    ptr,
    sync::Arc,
};

use rand::Rng;
use weir_balance::{Distance, Rank, pick};
use weir_model::{
    Network, OrigDst, Port, Service, ServicePort, SpiffeId, Tunnel, WaypointAddress, Workload, WorkloadUid,
};

use crate::{
    record::{Record, Shape},
    refusal::Refusal,
    slab::Member,
    waypoint::{Hop, Thing},
    world::World,
};

/// Where a pod of the mesh takes HBONE. `ISTIO_HBONE` of ztunnel's ports.
pub const HBONE_PORT: u16 = 15008;

/// Ports of a mesh pod no application can have: captured outbound, captured inbound, HBONE.
pub(crate) const CAPTURE_PORTS: [u16; 3] = [15001, 15006, HBONE_PORT];

/// What to do with a connection a pod makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Carry it over HBONE.
    Tunnel(TunnelPlan),
    /// Connect as the application would have: the destination is not in the mesh.
    Passthrough(PassthroughPlan),
    /// Refuse it.
    Refuse(Refusal),
}

/// A connection over HBONE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelPlan {
    /// Where the tunnel leads: the pod, port 15008; or a waypoint of what was asked for.
    pub next_hop: SocketAddr,
    /// What the CONNECT asks for: the pod and its own port; of a waypoint what the application asked for.
    pub authority: SocketAddr,
    /// Who may be at the other end.
    pub expect: Arc<[SpiffeId]>,
    /// The workload it goes to: the pod, or the waypoint.
    pub destination: Arc<Workload>,
    /// The service that was asked for, if it was one.
    pub service: Option<Arc<Service>>,
}

/// A connection in the clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassthroughPlan {
    /// Where to connect.
    pub target: SocketAddr,
    /// The workload there, if it is one.
    pub destination: Option<Arc<Workload>>,
    /// The service that was asked for, if it was one.
    pub service: Option<Arc<Service>>,
}

impl TunnelPlan {
    /// Whether it leads to a waypoint: to somebody else than who has the address that is asked for.
    pub fn is_through_waypoint(&self) -> bool {
        self.next_hop.ip() != self.authority.ip()
    }
}

impl World {
    /// Where a connection of `source` to `dst` goes. A destination in the mesh is never reached in the clear.
    pub fn outbound(&self, source: &WorkloadUid, dst: OrigDst, rng: &mut impl Rng) -> Plan {
        self.route(source, dst.socket(), &[], rng).unwrap_or_else(Plan::Refuse)
    }

    /// Through another workload of the waypoint than these, which did not take the connection; none where it goes through no waypoint, or all that are
    /// ready were tried.
    pub fn outbound_elsewhere(
        &self,
        source: &WorkloadUid,
        dst: OrigDst,
        tried: &[WorkloadUid],
        rng: &mut impl Rng,
    ) -> Option<TunnelPlan> {
        match self.route(source, dst.socket(), tried, rng) {
            Ok(Plan::Tunnel(plan)) if plan.is_through_waypoint() => Some(plan),
            Ok(Plan::Tunnel(_) | Plan::Passthrough(_) | Plan::Refuse(_)) | Err(_) => None,
        }
    }

    /// `tried` are workloads of a waypoint that it does not go through.
    fn route(
        &self,
        source: &WorkloadUid,
        dst: SocketAddr,
        tried: &[WorkloadUid],
        rng: &mut impl Rng,
    ) -> Result<Plan, Refusal> {
        let source = self.member(source).ok_or_else(|| Refusal::UnknownSource(source.clone()))?;
        if source.shape.tunnel != Tunnel::Hbone {
            return Err(Refusal::SourceNotEnrolled(source.uid()));
        }
        let network = &source.shape.network;
        let port = Port::new(dst.port()).ok_or(Refusal::IllegalPort { target: dst })?;
        let Some((served, service)) = self.served_for(Some(&source.shape.namespace), network, dst.ip()) else {
            return self.to_workload(&source, dst, tried, rng);
        };
        if let Some(why) = &service.unsupported {
            return Err(Refusal::Unsupported { what: format!("service {}", service.name), why: why.clone() });
        }
        if let Some(waypoint) = self.on_the_way(&source, service.waypoint.as_ref()) {
            if !service.ports.iter().any(|own| own.port == port) {
                return Err(Refusal::UnknownPort { service: service.name.clone(), port });
            }
            let (of, service) = (Thing::Service(service.name.clone()), Some(service.clone()));
            return self.through(Hop { source: &source, of, waypoint, dst, service, tried }, rng);
        }
        let (target, member) = choose(self.behind(served), service, network, dst.ip(), port, rng)?;
        lead(target, Some(self.inside(network, member, target.ip())), Some(service.clone()))
    }

    /// To whoever has the address to itself.
    fn to_workload(
        &self,
        source: &Record,
        dst: SocketAddr,
        tried: &[WorkloadUid],
        rng: &mut impl Rng,
    ) -> Result<Plan, Refusal> {
        let member = self.member_at(&source.shape.network, dst.ip());
        let bound = member.filter(|member| member.shape.unsupported.is_none());
        let waypoint = bound.and_then(|member| {
            let shape = &member.record().shape;
            let waypoint = self.on_the_way(source, shape.waypoint.as_ref())?;
            Some((Thing::Workload(member.uid()), waypoint, shape.tunnel))
        });
        match waypoint {
            Some((_, _, Tunnel::Hbone)) if CAPTURE_PORTS.contains(&dst.port()) => {
                Err(Refusal::IllegalPort { target: dst })
            }
            Some((of, waypoint, _)) => self.through(Hop { source, of, waypoint, dst, service: None, tried }, rng),
            None => lead(dst, member, None),
        }
    }

    /// The waypoint, unless the source is the waypoint: what leaves it goes on.
    fn on_the_way<'w>(&self, source: &Record, waypoint: Option<&'w WaypointAddress>) -> Option<&'w WaypointAddress> {
        waypoint.filter(|waypoint| !self.serves(source, waypoint))
    }
}

/// An endpoint of the service, of the family that was asked for and in the source's network.
fn choose<'w>(
    members: impl Iterator<Item = Member<'w>> + Clone,
    service: &Service,
    network: &Network,
    vip: IpAddr,
    port: Port,
    rng: &mut impl Rng,
) -> Result<(SocketAddr, Member<'w>), Refusal> {
    let Some(own) = service.ports.iter().find(|own| own.port == port) else {
        return Err(Refusal::UnknownPort { service: service.name.clone(), port });
    };
    // Many members have one shape, and stand next to each other.
    let last: Cell<(*const Shape, Option<Port>)> = Cell::new((ptr::null(), None));
    let target = |member: &Record| {
        let (shape, known) = last.get();
        let target = if ptr::eq(shape, &*member.shape) { known } else { own_port(&member.shape, service, own) };
        last.set((&*member.shape, target));
        Some(SocketAddr::new(member.address(vip.is_ipv4())?, target?.number()))
    };
    let rank = |member: &Member<'_>| {
        let reachable = member.shape.network == *network && target(member).is_some();
        reachable.then(|| Rank::of(member.shape.health, service.health_policy, Distance::default())).flatten()
    };
    let none = || Refusal::NoEndpoint { service: service.name.clone(), port, address: vip };
    let member = pick(members, rank, rng).ok_or_else(none)?;
    Ok((target(&member).ok_or_else(none)?, member))
}

/// The port of such a workload that the service's port stands for.
pub(crate) fn own_port(shape: &Shape, service: &Service, port: &ServicePort) -> Option<Port> {
    let membership = shape.services.iter().find(|membership| membership.service == service.name)?;
    let own = membership.ports.iter().find(|(of, _)| *of == port.port).map(|(_, own)| *own);
    own.or(port.target)
}

/// Into the tunnel if the destination is in the mesh, else straight there.
fn lead(target: SocketAddr, member: Option<Member<'_>>, service: Option<Arc<Service>>) -> Result<Plan, Refusal> {
    let Some(member) = member else {
        return Ok(Plan::Passthrough(PassthroughPlan { target, destination: None, service }));
    };
    if let Some(why) = &member.shape.unsupported {
        return Err(Refusal::Unsupported { what: format!("workload {}", member.uid()), why: why.clone() });
    }
    match member.shape.tunnel {
        Tunnel::None => {
            let destination = Some(member.whole());
            Ok(Plan::Passthrough(PassthroughPlan { target, destination, service }))
        }
        Tunnel::Hbone if CAPTURE_PORTS.contains(&target.port()) => Err(Refusal::IllegalPort { target }),
        Tunnel::Hbone => Ok(Plan::Tunnel(TunnelPlan {
            next_hop: SocketAddr::new(target.ip(), HBONE_PORT),
            authority: target,
            expect: member.shape.expect.clone(),
            destination: member.whole(),
            service,
        })),
    }
}

#[cfg(test)]
#[path = "outbound/tests.rs"]
mod tests;
