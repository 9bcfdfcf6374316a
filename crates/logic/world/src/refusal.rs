//! Why a connection is refused: for the person who reads the log, and for the peer.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use weir_model::{PolicyName, Port, ResponseFlag, ServiceName, SpiffeId, TrustDomain, WaypointAddress, WorkloadUid};

use crate::{endpoint::Family, waypoint::Thing};

/// Why a connection is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The pod that connects is none the mesh knows.
    #[error("the source {0} is not a workload the mesh knows")]
    UnknownSource(WorkloadUid),
    /// The pod that connects is known, but has no part in the mesh.
    #[error("the source {0} is not enrolled in the mesh")]
    SourceNotEnrolled(WorkloadUid),
    /// The service does not have the port.
    #[error("service {service} has no port {port}")]
    UnknownPort {
        /// The service.
        service: ServiceName,
        /// The port asked for.
        port: Port,
    },
    /// Nothing behind the service takes connections on the port.
    #[error("no ready endpoint of service {service} accepts port {port} over {}", Family::of(*address))]
    NoEndpoint {
        /// The service.
        service: ServiceName,
        /// The port asked for.
        port: Port,
        /// The service's address that was asked for: its family is the endpoints'.
        address: IpAddr,
    },
    /// The port belongs to the mesh itself.
    #[error("port {} of {} belongs to the mesh, not to an application", target.port(), target.ip())]
    IllegalPort {
        /// The destination asked for.
        target: SocketAddr,
    },
    /// The workload asked for is none the mesh knows.
    #[error("the destination {0} is not a workload the mesh knows")]
    UnknownWorkload(WorkloadUid),
    /// The workload asked for is known, but has no part in the mesh.
    #[error("the destination {0} is not enrolled in the mesh")]
    NotEnrolled(WorkloadUid),
    /// The peer asks for another address than it connected to.
    #[error("the peer asks for {asked} on a connection to {connected}")]
    IpMismatch {
        /// What its CONNECT names.
        asked: IpAddr,
        /// What its TCP connection reached.
        connected: IpAddr,
    },
    /// The address asked for is not the pod's.
    #[error("{asked} is not an address of {workload}")]
    NotItsAddress {
        /// What was asked for.
        asked: IpAddr,
        /// The pod whose listener took the connection.
        workload: WorkloadUid,
    },
    /// The peer's certificate is of another trust domain.
    #[error("the peer {peer} is not of the trust domain {expected}")]
    TrustDomain {
        /// Who the peer is.
        peer: SpiffeId,
        /// The trust domain of the destination.
        expected: TrustDomain,
    },
    /// What the control plane says of it, this version cannot do.
    #[error("{what} cannot be reached by this version: {why}")]
    Unsupported {
        /// The workload or service.
        what: String,
        /// What it asks for.
        why: Arc<str>,
    },
    /// What it is bound to cannot be reached, and it is never passed by.
    #[error("{of} is reached through its waypoint {waypoint} only, and {why}")]
    NoWaypoint {
        /// What is bound.
        of: Thing,
        /// What it is bound to.
        waypoint: WaypointAddress,
        /// Why that is not reached.
        why: Unmet,
    },
    /// The peer asks a waypoint for what is not bound to it.
    #[error("{asked} is not bound to the waypoint {waypoint}")]
    NotBound {
        /// What its CONNECT names.
        asked: SocketAddr,
        /// The waypoint's pod.
        waypoint: WorkloadUid,
    },
    /// A policy refuses it.
    #[error("{workload} may not be entered: {why}")]
    Policy {
        /// The destination.
        workload: WorkloadUid,
        /// The policy that decided, by its name in the mesh; the first of them where none of several allows.
        policy: Option<PolicyName>,
        /// The policy, its rule, and where it stands.
        why: String,
    },
}

/// Why a waypoint is not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// Nobody has that name or address.
    #[error("the mesh knows no such waypoint")]
    Unknown,
    /// Nobody stands behind it.
    #[error("no workload stands behind that")]
    Empty,
    /// Of those who stand behind it none takes connections.
    #[error("none of its {of} workloads is ready, in the mesh and reached from here over {family}")]
    Unready {
        /// How many there are.
        of: usize,
        /// What the connection comes over.
        family: Family,
    },
}

impl Refusal {
    /// The status that answers a CONNECT with this refusal, as ztunnel answers it.
    pub fn http_status(&self) -> u16 {
        match self {
            Self::IpMismatch { .. } | Self::NotItsAddress { .. } | Self::NotBound { .. } => 400,
            Self::TrustDomain { .. } | Self::Policy { .. } => 401,
            Self::UnknownSource(_)
            | Self::SourceNotEnrolled(_)
            | Self::UnknownPort { .. }
            | Self::NoEndpoint { .. }
            | Self::NoWaypoint { .. }
            | Self::IllegalPort { .. }
            | Self::UnknownWorkload(_)
            | Self::Unsupported { .. }
            | Self::NotEnrolled(_) => 503,
        }
    }

    /// The service that was asked for, where that is the reason.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::UnknownPort { service, .. } | Self::NoEndpoint { service, .. } => Some(service),
            Self::NoWaypoint { of: Thing::Service(service), .. } => Some(service),
            Self::UnknownSource(_)
            | Self::SourceNotEnrolled(_)
            | Self::IllegalPort { .. }
            | Self::UnknownWorkload(_)
            | Self::NotEnrolled(_)
            | Self::IpMismatch { .. }
            | Self::NotItsAddress { .. }
            | Self::NotBound { .. }
            | Self::NoWaypoint { of: Thing::Workload(_), .. }
            | Self::Unsupported { .. }
            | Self::Policy { .. }
            | Self::TrustDomain { .. } => None,
        }
    }

    /// The flag in metrics.
    pub fn response_flag(&self) -> ResponseFlag {
        match self {
            Self::NoEndpoint { .. } | Self::NoWaypoint { .. } => ResponseFlag::NoHealthyUpstream,
            Self::UnknownPort { .. } => ResponseFlag::NoRoute,
            Self::UnknownSource(_) | Self::UnknownWorkload(_) => ResponseFlag::NoCluster,
            Self::IpMismatch { .. } | Self::NotItsAddress { .. } | Self::NotBound { .. } => ResponseFlag::Protocol,
            Self::SourceNotEnrolled(_)
            | Self::IllegalPort { .. }
            | Self::NotEnrolled(_)
            | Self::Unsupported { .. }
            | Self::Policy { .. }
            | Self::TrustDomain { .. } => ResponseFlag::Deny,
        }
    }
}
