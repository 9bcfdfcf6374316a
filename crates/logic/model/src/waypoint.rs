//! Waypoints: the proxies that stand before what is bound to them.

use std::{fmt, net::IpAddr};

use crate::{Network, Port, ServiceName};

/// Where the waypoint of a service or workload is. Istio `workload.GatewayAddress`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WaypointAddress {
    /// What leads to its workloads.
    pub destination: WaypointDestination,
    /// Where they take HBONE. `GatewayAddress.hbone_mtls_port`, 15008 unless said otherwise.
    pub port: Port,
}

/// What leads to the workloads of a waypoint. Istio `GatewayAddress.destination`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WaypointDestination {
    /// They stand behind this service. `NamespacedHostname`.
    Service(ServiceName),
    /// They stand behind the service of that address, or one of them has it. `NetworkAddress`.
    Address(Network, IpAddr),
}

impl fmt::Display for WaypointDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => name.fmt(f),
            Self::Address(network, ip) if network.as_str().is_empty() => ip.fmt(f),
            Self::Address(network, ip) => write!(f, "{network}/{ip}"),
        }
    }
}

impl fmt::Display for WaypointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.destination.fmt(f)
    }
}

/// Who takes the tunnels that lead to a workload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Termination {
    /// The agent of its node, for the application.
    #[default]
    Agent,
    /// The agent of its node, which hands what comes out to this port behind a PROXY header. Istio `workload.ApplicationTunnel` of the
    /// protocol `PROXY`.
    Proxy(Port),
    /// The workload itself: no agent stands before it. Istio `Workload.native_tunnel`.
    Own,
}
