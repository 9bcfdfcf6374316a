//! Services: an address many workloads stand behind.

use std::{collections::BTreeSet, sync::Arc};

use ipnet::IpNet;

use crate::{Namespace, Network, Port, ServiceName, WaypointAddress};

/// What a service port says it speaks. Kubernetes `appProtocol` or the port name's prefix, as Istio reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AppProtocol {
    /// Nothing was said, or nothing we know.
    Unknown,
    /// `http`.
    Http11,
    /// `http2`, `kubernetes.io/h2c`.
    Http2,
    /// `grpc`.
    Grpc,
    /// `tcp` and what runs over it (`mongo`, `mysql`, `redis`).
    Tcp,
    /// `tls`, `https`.
    Tls,
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// The name, empty if the port has none.
    pub name: Arc<str>,
    /// The port clients connect to.
    pub port: Port,
    /// What it speaks.
    pub protocol: AppProtocol,
    /// The port of workloads that do not name one of their own for it.
    pub target: Option<Port>,
}

/// Which endpoints may be chosen at all. `publishNotReadyAddresses` belongs to one service alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HealthPolicy {
    /// Only those that are ready.
    OnlyReady,
    /// All of them. `spec.publishNotReadyAddresses: true`.
    All,
}

/// In which namespaces a service is there at all: for the clients of others nobody has its addresses. Istio `exportTo`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Seen {
    /// In all.
    #[default]
    Everywhere,
    /// In these, which may be none.
    In(Arc<BTreeSet<Namespace>>),
}

impl Seen {
    /// Whether clients of that namespace see it; those of whom no namespace is known see what everybody sees.
    pub fn by(&self, client: Option<&Namespace>) -> bool {
        match self {
            Self::Everywhere => true,
            Self::In(namespaces) => client.is_some_and(|client| namespaces.contains(client)),
        }
    }
}

/// A service as the whole mesh knows it. Who stands behind it, its workloads say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Namespace and fully qualified host name.
    pub name: ServiceName,
    /// The short name: metric label `destination_service_name`.
    pub short_name: Arc<str>,
    /// Virtual addresses, each with the network it means something in. Empty for a headless service.
    pub vips: Vec<(Network, IpNet)>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Which endpoints may be chosen.
    pub health_policy: HealthPolicy,
    /// What connections to its addresses go through. Istio `Service.waypoint`.
    pub waypoint: Option<WaypointAddress>,
    /// In which namespaces it is there. Istio `ServiceEntry.exportTo`.
    pub seen: Seen,
    /// What its source says of it that this version cannot do: it is not reached, for this reason.
    pub unsupported: Option<Arc<str>>,
}
