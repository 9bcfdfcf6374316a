//! Where a pod's connection goes.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rand::Rng;
use weir_balance::{Distance, Rank, pick};
use weir_model::{OrigDst, Port, Service, SpiffeId, Tunnel, Workload, WorkloadUid};

use crate::{
    refusal::Refusal,
    world::{Member, World},
};

/// Where a pod of the mesh takes HBONE. `ISTIO_HBONE` of ztunnel's ports.
pub const HBONE_PORT: u16 = 15008;

/// Ports of a mesh pod no application can have: captured outbound, captured inbound, HBONE.
const CAPTURE_PORTS: [u16; 3] = [15001, 15006, HBONE_PORT];

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
    /// Where the tunnel leads: the pod, port 15008.
    pub next_hop: SocketAddr,
    /// What the CONNECT asks for: the pod and its own port.
    pub authority: SocketAddr,
    /// Who may be at the other end.
    pub expect: Arc<[SpiffeId]>,
    /// The workload it goes to.
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

impl World {
    /// Where a connection of `source` to `dst` goes. A destination in the mesh is never reached in the clear.
    pub fn outbound(&self, source: &WorkloadUid, dst: OrigDst, rng: &mut impl Rng) -> Plan {
        self.route(source, dst.socket(), rng).unwrap_or_else(Plan::Refuse)
    }

    fn route(&self, source: &WorkloadUid, dst: SocketAddr, rng: &mut impl Rng) -> Result<Plan, Refusal> {
        let source = self.workload(source).ok_or_else(|| Refusal::UnknownSource(source.clone()))?;
        if source.tunnel != Tunnel::Hbone {
            return Err(Refusal::SourceNotEnrolled(source.uid.clone()));
        }
        let port = Port::new(dst.port()).ok_or(Refusal::IllegalPort { target: dst })?;
        if let Some(service) = self.served_at(&source.network, dst.ip()) {
            let (target, member) = self.choose(service, source, dst.ip(), port, rng)?;
            return lead(target, member, Some(service.clone()));
        }
        lead(dst, self.member_at(&source.network, dst.ip()), None)
    }

    /// An endpoint of the service, of the family that was asked for and in the source's network.
    fn choose(
        &self,
        service: &Arc<Service>,
        source: &Workload,
        vip: IpAddr,
        port: Port,
        rng: &mut impl Rng,
    ) -> Result<(SocketAddr, Option<&Member>), Refusal> {
        if !service.ports.iter().any(|own| own.port == port) {
            return Err(Refusal::UnknownPort { service: service.name.clone(), port });
        }
        let rank = |member: &&Member| {
            let workload = &member.workload;
            let reachable = workload.network == source.network && target(service, workload, vip, port).is_some();
            reachable.then(|| Rank::of(workload.health, service.health_policy, Distance::default())).flatten()
        };
        let none = || Refusal::NoEndpoint { service: service.name.clone(), port, address: vip };
        let member = pick(self.behind(&service.name), rank, rng).ok_or_else(none)?;
        let target = target(service, &member.workload, vip, port).ok_or_else(none)?;
        // What stands behind a service outside the mesh may still stand at the address of a pod in it.
        let owner = self.member_at(&source.network, target.ip());
        Ok((target, owner.filter(|owner| owner.workload.tunnel == Tunnel::Hbone).or(Some(member))))
    }
}

/// Where a workload takes the service's port, over the family of the address that was asked for.
fn target(service: &Service, workload: &Workload, vip: IpAddr, port: Port) -> Option<SocketAddr> {
    let ip = workload.addresses.iter().find(|ip| ip.is_ipv4() == vip.is_ipv4())?;
    let membership = workload.services.iter().find(|own| own.service == service.name)?;
    let own = membership.ports.iter().find(|(asked, _)| *asked == port).map(|(_, own)| *own);
    let own = own.or_else(|| service.ports.iter().find(|own| own.port == port)?.target)?;
    Some(SocketAddr::new(*ip, own.number()))
}

/// Into the tunnel if the destination is in the mesh, else straight there.
fn lead(target: SocketAddr, member: Option<&Member>, service: Option<Arc<Service>>) -> Result<Plan, Refusal> {
    let Some(member) = member else {
        return Ok(Plan::Passthrough(PassthroughPlan { target, destination: None, service }));
    };
    let destination = member.workload.clone();
    match destination.tunnel {
        Tunnel::None => Ok(Plan::Passthrough(PassthroughPlan { target, destination: Some(destination), service })),
        Tunnel::Hbone if CAPTURE_PORTS.contains(&target.port()) => Err(Refusal::IllegalPort { target }),
        Tunnel::Hbone => Ok(Plan::Tunnel(TunnelPlan {
            next_hop: SocketAddr::new(target.ip(), HBONE_PORT),
            authority: target,
            expect: member.expect.clone(),
            destination,
            service,
        })),
    }
}

#[cfg(test)]
#[path = "outbound/tests.rs"]
mod tests;
