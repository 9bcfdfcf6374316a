//! The messages of the wire, as far as this version reads and writes them. Fields that are not here are skipped by their numbers.

mod discovery;
mod security;
mod workload;

pub(crate) use discovery::{
    ControlPlane, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource, Status, VersionEntry,
};
pub(crate) use security::{
    Action, AddressRange, Authorization, Clause, Match, OwnAction, OwnKind, OwnPolicy, OwnRule, Rule, Scope,
    ServiceAccountMatch, StringMatch, StringMatchType,
};
#[cfg(test)]
pub(crate) use workload::WeightedWaypoint;
pub(crate) use workload::{
    Address, AddressType, AppProtocol, ApplicationTunnel, Extension, GatewayAddress, HealthPolicy, LoadBalancing,
    Locality, Mode, NamespacedHostname, NetworkAddress, NetworkMode, Port, PortList, Service, TunnelProtocol,
    Visibility, Workload, WorkloadStatus, WorkloadType,
};
