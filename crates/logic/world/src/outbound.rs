//! Where a pod's connection goes.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rand::Rng;
use weir_balance::{Distance, Rank, pick};
use weir_model::{Network, OrigDst, Port, Service, SpiffeId, Tunnel, Workload, WorkloadUid};

use crate::{
    record::Record,
    refusal::{Refusal, Subject, unsupported},
    world::World,
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
        let from = self.record(source).ok_or_else(|| Refusal::UnknownSource(source.clone()))?;
        if from.traits.tunnel != Tunnel::Hbone {
            return Err(Refusal::SourceNotEnrolled(source.clone()));
        }
        let port = Port::new(dst.port()).ok_or(Refusal::IllegalPort { target: dst })?;
        let network = &from.traits.network;
        if let Some(service) = self.service_at(network, dst.ip()) {
            let (target, record) = self.choose(service, network, dst.ip(), port, rng)?;
            return lead(target, Some(record), Some(service.clone()));
        }
        lead(dst, self.owner(network, dst.ip()).map(|owner| &**owner), None)
    }

    /// Someone behind the service, of the family that was asked for and in the source's network.
    fn choose(
        &self,
        service: &Arc<Service>,
        network: &Network,
        vip: IpAddr,
        port: Port,
        rng: &mut impl Rng,
    ) -> Result<(SocketAddr, &Record), Refusal> {
        if let Some(why) = &service.unsupported {
            return Err(Refusal::Unsupported { what: Subject::Service(service.name.clone()), why: why.clone() });
        }
        if !service.ports.iter().any(|own| own.port == port) {
            return Err(Refusal::UnknownPort { service: service.name.clone(), port });
        }
        let reachable = |record: &&Arc<Record>| {
            let healthy = Rank::of(record.health, service.health_policy, Distance::default());
            let there = record.traits.network == *network && record.target(service, vip, port).is_some();
            healthy.filter(|_| there)
        };
        let able = |record: &&Arc<Record>| reachable(record).filter(|_| record.traits.unsupported.is_none());
        let none = || {
            // Better the reason why one is not reached than that there is none.
            let unable = self.behind(&service.name).find(|record| reachable(record).is_some());
            unable.and_then(|record| unsupported(record)).unwrap_or_else(|| Refusal::NoEndpoint {
                service: service.name.clone(),
                port,
                address: vip,
            })
        };
        let record = pick(self.behind(&service.name), able, rng).ok_or_else(none)?;
        let target = record.target(service, vip, port).ok_or_else(none)?;
        // What stands behind a service outside the mesh may still stand at the address of a pod in it.
        let owner = match record.traits.tunnel {
            Tunnel::Hbone => None,
            Tunnel::None => self.owner(network, target.ip()).filter(|owner| owner.traits.tunnel == Tunnel::Hbone),
        };
        Ok((target, owner.map_or(&**record, |owner| &**owner)))
    }
}

/// Into the tunnel if the destination is in the mesh, else straight there.
fn lead(target: SocketAddr, record: Option<&Record>, service: Option<Arc<Service>>) -> Result<Plan, Refusal> {
    let Some(record) = record else {
        return Ok(Plan::Passthrough(PassthroughPlan { target, destination: None, service }));
    };
    if let Some(refusal) = unsupported(record) {
        return Err(refusal);
    }
    match record.traits.tunnel {
        Tunnel::None => {
            Ok(Plan::Passthrough(PassthroughPlan { target, destination: Some(record.workload()), service }))
        }
        Tunnel::Hbone if CAPTURE_PORTS.contains(&target.port()) => Err(Refusal::IllegalPort { target }),
        Tunnel::Hbone => Ok(Plan::Tunnel(TunnelPlan {
            next_hop: SocketAddr::new(target.ip(), HBONE_PORT),
            authority: target,
            expect: record.traits.expect.clone(),
            destination: record.workload(),
            service,
        })),
    }
}

#[cfg(test)]
#[path = "outbound/tests.rs"]
mod tests;
