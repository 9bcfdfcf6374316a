//! Whether a connection may enter a pod.

use std::{net::SocketAddr, sync::Arc};

use weir_authz::{Decision, Destination, Ground, Peer, PolicySet};
use weir_model::{Port, Service, SpiffeId, Termination, Tunnel, Workload, WorkloadUid, canonical_socket};

use crate::{outbound::HBONE_PORT, record::Record, refusal::Refusal, slab::Member, waypoint::Bound, world::World};

/// Ports in a pod that belong to the mesh: captured outbound, captured inbound, HBONE, DNS, SOCKS5.
const MESH_PORTS: [u16; 5] = [15001, 15006, HBONE_PORT, 15053, 15080];

/// Who connects, as far as it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The peer's certificate names this identity, and the handshake proved it.
    Mesh(SpiffeId),
    /// Nobody proved anything.
    Plaintext,
}

/// A connection that wants in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound<'a> {
    /// Who connects.
    pub source: Source,
    /// The peer of the TCP connection.
    pub client: SocketAddr,
    /// Where the TCP connection arrived: over HBONE port 15008, else the application's port.
    pub tcp_destination: SocketAddr,
    /// Where it wants to go: the CONNECT's authority, or the TCP destination itself.
    pub target: SocketAddr,
    /// Further ports the agent itself listens on, which are no application's.
    pub own_ports: &'a [u16],
}

/// Whether it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Admit(Permit),
    /// It may not.
    Refuse(Refusal),
}

/// The right to deliver one connection. Only `World::inbound` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    target: SocketAddr,
    client: SocketAddr,
    peer: Source,
    destination: Arc<Workload>,
    source_workload: Option<Arc<Workload>>,
    handover: Handover,
}

/// How an admitted connection is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handover {
    /// To the target, from the client's address.
    Application,
    /// To the pod's proxy, which is told by a PROXY header who the client is and what it asked for.
    Proxy {
        /// Where the proxy takes it: an address of the pod.
        at: SocketAddr,
        /// The service that was asked for, if it was one.
        service: Option<Arc<Service>>,
    },
}

impl Permit {
    /// What was asked for: an address of the pod, and the application's port; of a proxy what is bound to it.
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    /// The client's own address.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// How to deliver it.
    pub fn handover(&self) -> &Handover {
        &self.handover
    }

    /// Who the client proved to be.
    pub fn source(&self) -> &Source {
        &self.peer
    }

    /// The workload it goes to.
    pub fn destination(&self) -> &Arc<Workload> {
        &self.destination
    }

    /// The workload at the client's address, unless the client proved to be someone else.
    pub fn source_workload(&self) -> Option<&Arc<Workload>> {
        self.source_workload.as_ref()
    }
}

impl World {
    /// Whether a connection may enter the pod `local`, whose listener took it.
    pub fn inbound(&self, local: &WorkloadUid, inbound: &Inbound<'_>) -> Verdict {
        match self.admit(local, inbound) {
            Ok(permit) => Verdict::Admit(permit),
            Err(refusal) => Verdict::Refuse(refusal),
        }
    }

    fn admit(&self, local: &WorkloadUid, inbound: &Inbound<'_>) -> Result<Permit, Refusal> {
        let destination = self.member(local).ok_or_else(|| Refusal::UnknownWorkload(local.clone()))?;
        let shape = &destination.shape;
        if shape.tunnel != Tunnel::Hbone || shape.termination == Termination::Own {
            return Err(Refusal::NotEnrolled(local.clone()));
        }
        if let Some(why) = &shape.unsupported {
            return Err(Refusal::Unsupported { what: format!("workload {local}"), why: why.clone() });
        }
        let target = canonical_socket(inbound.target);
        let handover = self.handover(local, &destination, inbound)?;
        let port = target.port();
        // Who could reach the proxy's own port would tell it in a header of its own who it is.
        let is_proxys = |port| shape.termination == Termination::Proxy(port);
        let proxys = handover == Handover::Application && Port::new(port).is_some_and(is_proxys);
        if port == 0 || MESH_PORTS.contains(&port) || inbound.own_ports.contains(&port) || proxys {
            return Err(Refusal::IllegalPort { target });
        }
        if let Source::Mesh(peer) = &inbound.source
            && peer.trust_domain() != &shape.trust_domain
        {
            return Err(Refusal::TrustDomain { peer: peer.clone(), expected: shape.trust_domain.clone() });
        }
        authorize(&self.policies_over(local, destination), local, inbound)?;
        let client = canonical_socket(inbound.client);
        Ok(Permit {
            target,
            client,
            peer: inbound.source.clone(),
            destination: destination.whole(),
            source_workload: self.attribute(destination, client, &inbound.source),
            handover,
        })
    }

    /// How what is asked for is delivered: to an address of the pod; or, if the pod is a proxy for others, to it what is bound to it.
    fn handover(&self, local: &WorkloadUid, own: &Record, inbound: &Inbound<'_>) -> Result<Handover, Refusal> {
        let target = canonical_socket(inbound.target);
        let connected = canonical_socket(inbound.tcp_destination).ip();
        let its = |ip| match own.addresses().any(|own| own == ip) {
            true => Ok(()),
            false => Err(Refusal::NotItsAddress { asked: ip, workload: local.clone() }),
        };
        match (own.shape.termination, &inbound.source) {
            (Termination::Proxy(port), Source::Mesh(client)) if target.ip() != connected => {
                its(connected)?;
                let at = SocketAddr::new(connected, port.number());
                match self.bound_to(local, Some(client.namespace()), target) {
                    Some(Bound::Service(service)) => Ok(Handover::Proxy { at, service: Some(service) }),
                    Some(Bound::Workload(_)) => Ok(Handover::Proxy { at, service: None }),
                    None => Err(Refusal::NotBound { asked: target, waypoint: local.clone() }),
                }
            }
            (Termination::Agent | Termination::Proxy(_) | Termination::Own, Source::Mesh(_) | Source::Plaintext) => {
                if target.ip() != connected {
                    return Err(Refusal::IpMismatch { asked: target.ip(), connected });
                }
                its(target.ip())?;
                Ok(Handover::Application)
            }
        }
    }

    /// Whether the policies of now let a connection stay that was admitted once.
    ///
    /// # Errors
    /// Why it may not. That it would not be admitted anew for any other reason ends nothing that is open.
    pub fn stays(&self, local: &WorkloadUid, inbound: &Inbound<'_>) -> Result<(), Refusal> {
        match self.member(local) {
            Some(destination) => authorize(&self.policies_over(local, destination), local, inbound),
            None => Ok(()),
        }
    }

    /// What covers a workload; none if it is not known.
    pub fn policies_of(&self, workload: &WorkloadUid) -> Option<Arc<PolicySet>> {
        self.member(workload).map(|member| self.policies_over(workload, member))
    }

    /// The workload at the client's address. An address proves nothing against a certificate.
    fn attribute(&self, destination: Member<'_>, client: SocketAddr, source: &Source) -> Option<Arc<Workload>> {
        let member = self.member_at(&destination.shape.network, client.ip())?;
        match source {
            Source::Mesh(peer) if !member.shape.expect.contains(peer) => None,
            Source::Mesh(_) | Source::Plaintext => Some(member.whole()),
        }
    }
}

/// What is proven of it.
pub(crate) fn facts<'i>(inbound: &'i Inbound<'_>) -> Option<(Peer<'i>, Destination)> {
    let identity = match &inbound.source {
        Source::Mesh(identity) => Some(identity),
        Source::Plaintext => None,
    };
    let target = canonical_socket(inbound.target);
    let peer = Peer { identity, address: canonical_socket(inbound.client).ip() };
    Some((peer, Destination { address: target.ip(), port: Port::new(target.port())? }))
}

fn authorize(policies: &PolicySet, local: &WorkloadUid, inbound: &Inbound<'_>) -> Result<(), Refusal> {
    let Some((peer, destination)) = facts(inbound) else {
        return Err(Refusal::IllegalPort { target: canonical_socket(inbound.target) });
    };
    match policies.decide(&peer, &destination) {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(ground) => {
            let policy = match ground {
                Ground::NothingAsked => None,
                Ground::Rule { policy, .. } | Ground::Rejected { policy, .. } => Some(policy.name.clone()),
                Ground::NotAllowed { policies } => policies.first().map(|one| one.policy().name.clone()),
                Ground::Unknown(name) => Some(name.clone()),
            };
            Err(Refusal::Policy { workload: local.clone(), policy, why: ground.to_string() })
        }
    }
}

#[cfg(test)]
#[path = "inbound/tests.rs"]
mod tests;
