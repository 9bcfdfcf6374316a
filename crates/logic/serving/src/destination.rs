//! How the endpoints of a service are treated: `DestinationRule`, compiled.

use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroU32,
    sync::{Arc, LazyLock},
    time::Duration,
};

use weir_balance::Policy;
use weir_model::{ClientTls, Hostname, Port};

/// How the traffic to one service, port and subset is treated. Istio `TrafficPolicy`.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterPolicy {
    /// Which endpoint, and how many at once.
    pub balance: Policy,
    /// `connectionPool.tcp`.
    pub tcp: TcpPool,
    /// `connectionPool.http`.
    pub http: HttpPool,
    /// `tls`.
    pub tls: UpstreamTls,
    /// `proxyProtocol`: what stands before everything else on a connection. Each request has a connection of its own then, since it is one client's.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// `tunnel`: where a forward proxy is asked to lead connections that are no HTTP; those that are go to it as they are.
    pub tunnel: Option<Arc<ForwardTunnel>>,
}

impl Default for ClusterPolicy {
    /// What Istio does when nothing is said.
    fn default() -> Self {
        Self {
            balance: Policy::default(),
            tcp: TcpPool::default(),
            http: HttpPool::default(),
            tls: UpstreamTls::Mesh,
            proxy_protocol: None,
            tunnel: None,
        }
    }
}

impl ClusterPolicy {
    /// Whether connections begin as with the other: then those of the one serve the other.
    pub fn is_dialed_as(&self, other: &Self) -> bool {
        let of = |one: &Self| (one.tls.clone(), one.proxy_protocol, one.tunnel.clone());
        of(self) == of(other)
    }
}

/// `proxyProtocol.version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// `tunnel` by `CONNECT`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ForwardTunnel {
    /// `targetHost`.
    pub host: Arc<str>,
    /// `targetPort`.
    pub port: Port,
}

/// `connectionPool.tcp`, but for what is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpPool {
    /// `connectTimeout`; 10 s when nothing is said.
    pub connect_timeout: Duration,
    /// `tcpKeepalive`.
    pub keepalive: Option<Keepalive>,
    /// `maxConnectionDuration`.
    pub max_duration: Option<Duration>,
    /// `idleTimeout`: of a TCP connection without bytes; 1 h when nothing is said, none for 0.
    pub idle_timeout: Option<Duration>,
}

impl Default for TcpPool {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            keepalive: None,
            max_duration: None,
            idle_timeout: Some(Duration::from_secs(3_600)),
        }
    }
}

/// `connectionPool.tcp.tcpKeepalive`. What is not said is the system's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// `probes`.
    pub probes: Option<NonZeroU32>,
    /// `time`: until the first probe.
    pub time: Option<Duration>,
    /// `interval`: between probes.
    pub interval: Option<Duration>,
}

/// `connectionPool.http`, but for what is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpPool {
    /// `h2UpgradePolicy`, `useClientProtocol`.
    pub upgrade: Upgrade,
    /// `idleTimeout`: of a connection without requests; 1 h when nothing is said.
    pub idle_timeout: Duration,
    /// `maxConcurrentStreams`: of one HTTP/2 connection.
    pub max_streams: Option<NonZeroU32>,
}

impl Default for HttpPool {
    fn default() -> Self {
        Self { upgrade: Upgrade::Default, idle_timeout: Duration::from_secs(3_600), max_streams: None }
    }
}

/// Which version of HTTP an endpoint is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Upgrade {
    /// As the service's port says: HTTP/2 for `http2`, `grpc` and their like, else HTTP/1.1. `DEFAULT`, `DO_NOT_UPGRADE`.
    Default,
    /// HTTP/2 always. `UPGRADE`.
    Http2,
    /// That of the client. `useClientProtocol`.
    AsClient,
}

/// What a connection to an endpoint is wrapped in. Istio `ClientTLSSettings`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamTls {
    /// As the mesh does it: HBONE to what is in the mesh, plain to what is not. Also `ISTIO_MUTUAL`.
    Mesh,
    /// `DISABLE`: no TLS of its own; HBONE to what is in the mesh all the same.
    Off,
    /// `SIMPLE` or `MUTUAL` by files: inside of HBONE to what is in the mesh.
    Own(Arc<ClientTls>),
    /// `SIMPLE` or `MUTUAL` by a Secret, also a `tunnel` by `POST`: not done by this version, so that nothing is sent there, for this reason.
    Refused(Arc<str>),
}

/// A subset of a service's endpoints. Istio `Subset`.
#[derive(Debug, Clone, PartialEq)]
pub struct Subset {
    /// `labels`: an endpoint has all of them.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// How it is treated: the rule's own policy, with what the subset says in place of it.
    pub policies: PortPolicies,
}

/// A policy, and those of single ports, which stand in place of it. `portLevelSettings`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PortPolicies {
    /// For ports of which nothing is said.
    pub all: Arc<ClusterPolicy>,
    /// By the service's port.
    pub ports: BTreeMap<Port, Arc<ClusterPolicy>>,
}

impl PortPolicies {
    /// The policy for a port of the service.
    pub fn of(&self, port: Port) -> &Arc<ClusterPolicy> {
        self.ports.get(&port).unwrap_or(&self.all)
    }
}

/// How the endpoints of one service are treated: all of its DestinationRule. The default is a service without one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Destinations {
    /// Which object says so: `namespace/name`.
    pub object: Option<Arc<str>>,
    /// The file it came from, if it came from one, and the line it starts on there: `file:line`.
    pub file: Option<Arc<str>>,
    /// For all endpoints.
    pub policies: PortPolicies,
    /// By name.
    pub subsets: BTreeMap<Box<str>, Subset>,
}

/// A route names a subset that no DestinationRule of the host knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no DestinationRule for {host} has a subset {subset:?}")]
pub struct UnknownSubset {
    /// The host.
    pub host: Hostname,
    /// The subset.
    pub subset: Box<str>,
}

impl Destinations {
    /// The subset of that name.
    ///
    /// # Errors
    /// If there is none.
    pub fn subset(&self, host: &Hostname, name: &str) -> Result<&Subset, UnknownSubset> {
        self.subsets.get(name).ok_or_else(|| UnknownSubset { host: host.clone(), subset: name.into() })
    }

    /// Those of a service without a DestinationRule.
    pub fn none() -> &'static Arc<Self> {
        static NONE: LazyLock<Arc<Destinations>> = LazyLock::new(Arc::default);
        &NONE
    }
}

impl fmt::Display for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "as the port says",
            Self::Http2 => "HTTP/2",
            Self::AsClient => "as the client",
        })
    }
}
