//! Services: an address many workloads stand behind. Which ones, the workloads say.

use std::sync::Arc;

use ipnet::IpNet;

use crate::{Network, Port, ServiceName};

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

/// Which workloads behind a service may be chosen at all. `publishNotReadyAddresses` belongs to one service alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HealthPolicy {
    /// Only those that are healthy.
    OnlyReady,
    /// All of them, each as likely as the other. `spec.publishNotReadyAddresses: true`.
    All,
}

/// A service as the whole mesh knows it.
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
    /// Which of the workloads behind it may be chosen.
    pub health_policy: HealthPolicy,
    /// What its source says of it that this version cannot do: it is not reached, for this reason.
    pub unsupported: Option<Arc<str>>,
}
