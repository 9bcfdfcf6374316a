//! Why a connection is refused: for the person who reads the log, and for the peer.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use weir_model::{PolicyName, Port, ResponseFlag, ServiceName, SpiffeId, TrustDomain, WorkloadUid};

use crate::record::Record;

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
    #[error("no ready endpoint of service {service} accepts port {port} over {}", family(*address))]
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
    /// What the source says of it cannot be done.
    #[error("{what} needs what this version does not have: {why}")]
    Unsupported {
        /// The workload or service asked for.
        what: Subject,
        /// What it needs.
        why: Arc<str>,
    },
    /// A policy covers the workload, and this version enforces none.
    #[error("policy {policy} covers {workload}, and this version enforces no policy")]
    NotEnforced {
        /// One of the policies that cover it.
        policy: PolicyName,
        /// The workload asked for.
        workload: WorkloadUid,
    },
    /// The workload names a policy that is not there: nobody can say what it forbids.
    #[error("{workload} is covered by policy {policy}, which is not known")]
    UnknownPolicy {
        /// The policy it names.
        policy: PolicyName,
        /// The workload asked for.
        workload: WorkloadUid,
    },
}

/// What a connection asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A workload.
    Workload(WorkloadUid),
    /// A service.
    Service(ServiceName),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(uid) => write!(f, "workload {uid}"),
            Self::Service(name) => write!(f, "service {name}"),
        }
    }
}

/// The refusal of a workload that this version cannot do justice to.
pub(crate) fn unsupported(record: &Record) -> Option<Refusal> {
    let why = record.traits.unsupported.clone()?;
    Some(Refusal::Unsupported { what: Subject::Workload(record.uid()), why })
}

impl Refusal {
    /// The status that answers a CONNECT with this refusal, as ztunnel answers it.
    pub fn http_status(&self) -> u16 {
        match self {
            Self::IpMismatch { .. } | Self::NotItsAddress { .. } => 400,
            Self::TrustDomain { .. } | Self::NotEnforced { .. } | Self::UnknownPolicy { .. } => 401,
            Self::UnknownSource(_)
            | Self::SourceNotEnrolled(_)
            | Self::UnknownPort { .. }
            | Self::NoEndpoint { .. }
            | Self::IllegalPort { .. }
            | Self::UnknownWorkload(_)
            | Self::NotEnrolled(_)
            | Self::Unsupported { .. } => 503,
        }
    }

    /// The service that was asked for, where that is the reason.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::UnknownPort { service, .. }
            | Self::NoEndpoint { service, .. }
            | Self::Unsupported { what: Subject::Service(service), .. } => Some(service),
            Self::UnknownSource(_)
            | Self::SourceNotEnrolled(_)
            | Self::IllegalPort { .. }
            | Self::UnknownWorkload(_)
            | Self::NotEnrolled(_)
            | Self::IpMismatch { .. }
            | Self::NotItsAddress { .. }
            | Self::TrustDomain { .. }
            | Self::Unsupported { what: Subject::Workload(_), .. }
            | Self::NotEnforced { .. }
            | Self::UnknownPolicy { .. } => None,
        }
    }

    /// The flag in metrics.
    pub fn response_flag(&self) -> ResponseFlag {
        match self {
            Self::NoEndpoint { .. } => ResponseFlag::NoHealthyUpstream,
            Self::UnknownPort { .. } => ResponseFlag::NoRoute,
            Self::UnknownSource(_) | Self::UnknownWorkload(_) => ResponseFlag::NoCluster,
            Self::IpMismatch { .. } | Self::NotItsAddress { .. } => ResponseFlag::Protocol,
            Self::SourceNotEnrolled(_)
            | Self::IllegalPort { .. }
            | Self::NotEnrolled(_)
            | Self::TrustDomain { .. }
            | Self::Unsupported { .. }
            | Self::NotEnforced { .. }
            | Self::UnknownPolicy { .. } => ResponseFlag::Deny,
        }
    }
}

fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}
