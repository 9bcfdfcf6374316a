//! `istio.workload`. Maps are sorted: the same resource has the same bytes wherever it is encoded.

use std::collections::BTreeMap;

/// `Address`: what a resource of the type of that name holds.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Address {
    #[prost(oneof = "AddressType", tags = "1, 2")]
    pub(crate) r#type: Option<AddressType>,
}

/// Either of the two.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum AddressType {
    #[prost(message, tag = "1")]
    Workload(Box<Workload>),
    #[prost(message, tag = "2")]
    Service(Box<Service>),
}

/// `Workload`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Workload {
    #[prost(string, tag = "20")]
    pub(crate) uid: String,
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) namespace: String,
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(crate) addresses: Vec<Vec<u8>>,
    #[prost(string, tag = "21")]
    pub(crate) hostname: String,
    #[prost(string, tag = "4")]
    pub(crate) network: String,
    #[prost(enumeration = "TunnelProtocol", tag = "5")]
    pub(crate) tunnel_protocol: i32,
    #[prost(string, tag = "6")]
    pub(crate) trust_domain: String,
    #[prost(string, tag = "7")]
    pub(crate) service_account: String,
    #[prost(message, optional, tag = "8")]
    pub(crate) waypoint: Option<GatewayAddress>,
    #[prost(message, optional, tag = "19")]
    pub(crate) network_gateway: Option<GatewayAddress>,
    #[prost(string, tag = "9")]
    pub(crate) node: String,
    #[prost(string, tag = "10")]
    pub(crate) canonical_name: String,
    #[prost(string, tag = "11")]
    pub(crate) canonical_revision: String,
    #[prost(enumeration = "WorkloadType", tag = "12")]
    pub(crate) workload_type: i32,
    #[prost(string, tag = "13")]
    pub(crate) workload_name: String,
    #[prost(bool, tag = "14")]
    pub(crate) native_tunnel: bool,
    #[prost(message, optional, tag = "23")]
    pub(crate) application_tunnel: Option<ApplicationTunnel>,
    #[prost(btree_map = "string, message", tag = "22")]
    pub(crate) services: BTreeMap<String, PortList>,
    #[prost(string, repeated, tag = "16")]
    pub(crate) authorization_policies: Vec<String>,
    #[prost(enumeration = "WorkloadStatus", tag = "17")]
    pub(crate) status: i32,
    #[prost(string, tag = "18")]
    pub(crate) cluster_id: String,
    #[prost(message, optional, tag = "24")]
    pub(crate) locality: Option<Locality>,
    #[prost(enumeration = "NetworkMode", tag = "25")]
    pub(crate) network_mode: i32,
    #[prost(message, repeated, tag = "26")]
    pub(crate) extensions: Vec<Extension>,
}

/// `Service`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Service {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) namespace: String,
    #[prost(string, tag = "3")]
    pub(crate) hostname: String,
    #[prost(message, repeated, tag = "4")]
    pub(crate) addresses: Vec<NetworkAddress>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) ports: Vec<Port>,
    #[prost(message, optional, tag = "7")]
    pub(crate) waypoint: Option<GatewayAddress>,
    #[prost(message, optional, tag = "8")]
    pub(crate) load_balancing: Option<LoadBalancing>,
    #[prost(message, repeated, tag = "10")]
    pub(crate) extensions: Vec<Extension>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) weighted_waypoints: Vec<WeightedWaypoint>,
    #[prost(enumeration = "Visibility", tag = "14")]
    pub(crate) visibility: i32,
}

/// `NetworkAddress`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NetworkAddress {
    #[prost(string, tag = "1")]
    pub(crate) network: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) address: Vec<u8>,
    #[prost(uint32, optional, tag = "3")]
    pub(crate) length: Option<u32>,
}

/// `Port`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Port {
    #[prost(uint32, tag = "1")]
    pub(crate) service_port: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) target_port: u32,
    #[prost(enumeration = "AppProtocol", tag = "3")]
    pub(crate) app_protocol: i32,
}

/// `PortList`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PortList {
    #[prost(message, repeated, tag = "1")]
    pub(crate) ports: Vec<Port>,
}

/// `LoadBalancing`. Its `routing_preference` only orders endpoints, and is not read.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LoadBalancing {
    #[prost(enumeration = "Mode", tag = "2")]
    pub(crate) mode: i32,
    #[prost(enumeration = "HealthPolicy", tag = "3")]
    pub(crate) health_policy: i32,
}

/// `Locality`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Locality {
    #[prost(string, tag = "1")]
    pub(crate) region: String,
    #[prost(string, tag = "2")]
    pub(crate) zone: String,
    #[prost(string, tag = "3")]
    pub(crate) subzone: String,
}

/// `GatewayAddress`. Of its two destinations at most one is there.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GatewayAddress {
    #[prost(message, optional, tag = "1")]
    pub(crate) hostname: Option<NamespacedHostname>,
    #[prost(message, optional, tag = "2")]
    pub(crate) address: Option<NetworkAddress>,
    #[prost(uint32, tag = "3")]
    pub(crate) hbone_mtls_port: u32,
}

/// `NamespacedHostname`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NamespacedHostname {
    #[prost(string, tag = "1")]
    pub(crate) namespace: String,
    #[prost(string, tag = "2")]
    pub(crate) hostname: String,
}

/// `WeightedWaypoint`, as far as it must be seen that there is one.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WeightedWaypoint {
    #[prost(uint32, tag = "2")]
    pub(crate) weight: u32,
}

/// `ApplicationTunnel`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ApplicationTunnel {
    #[prost(int32, tag = "1")]
    pub(crate) protocol: i32,
    #[prost(uint32, tag = "2")]
    pub(crate) port: u32,
}

/// `Extension`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Extension {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) config: Option<prost_types::Any>,
}

macro_rules! enumerations {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $number:literal),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
        #[repr(i32)]
        pub(crate) enum $name { $($variant = $number),* }
    )*};
}

enumerations! {
    /// `TunnelProtocol`.
    TunnelProtocol { None = 0, Hbone = 1, LegacyIstioMtls = 2 }
    /// `WorkloadType`.
    WorkloadType { Deployment = 0, CronJob = 1, Pod = 2, Job = 3 }
    /// `WorkloadStatus`.
    WorkloadStatus { Healthy = 0, Unhealthy = 1 }
    /// `NetworkMode`.
    NetworkMode { Standard = 0, HostNetwork = 1 }
    /// `AppProtocol`.
    AppProtocol { Unknown = 0, Http11 = 1, Http2 = 2, Grpc = 3, Tcp = 4, Tls = 5 }
    /// `LoadBalancing.Mode`.
    Mode { Unspecified = 0, Strict = 1, Failover = 2, Passthrough = 3 }
    /// `LoadBalancing.HealthPolicy`.
    HealthPolicy { OnlyHealthy = 0, AllowAll = 1 }
    /// `Visibility`.
    Visibility { Public = 0, Namespace = 1 }
}
