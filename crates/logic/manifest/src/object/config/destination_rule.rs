//! networking.istio.io/v1 DestinationRule, as its author wrote it.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

use weir_balance::{Algorithm, LocalityPolicy, OutlierDetection, RetryBudget, Warmup};
use weir_model::{ClientTls, Port};

use super::{ExportTo, Labels};

/// `spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationRuleSpec {
    /// `host`, as written: a host name, a wildcard, or the name of a service of the rule's namespace.
    pub host: Arc<str>,
    /// `exportTo`.
    pub export_to: ExportTo,
    /// `workloadSelector.matchLabels`: the sidecars it is for.
    pub workload_selector: Option<Labels>,
    /// `trafficPolicy`.
    pub policy: Option<TrafficPolicy>,
    /// `subsets`, no name twice.
    pub subsets: Vec<SubsetSpec>,
    /// Fields that are legal and do not do what they say.
    pub remarks: Vec<Remark>,
}

/// `subsets[]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SubsetSpec {
    /// `name`.
    pub name: Arc<str>,
    /// `labels`.
    pub labels: Labels,
    /// `trafficPolicy`.
    pub policy: Option<TrafficPolicy>,
}

/// `trafficPolicy`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrafficPolicy {
    /// What may also be said of single ports.
    pub own: PortPolicy,
    /// `portLevelSettings`.
    pub ports: BTreeMap<Port, PortPolicy>,
    /// `tunnel`.
    pub tunnel: Option<TunnelSettings>,
    /// `proxyProtocol`.
    pub proxy_protocol: Option<ProxyVersion>,
    /// `retryBudget`.
    pub retry_budget: Option<RetryBudget>,
}

/// What may be said of all ports or of one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PortPolicy {
    /// `loadBalancer`.
    pub load_balancer: Option<LoadBalancer>,
    /// `connectionPool`.
    pub pool: Option<ConnectionPool>,
    /// `outlierDetection`.
    pub outlier: Option<OutlierDetection>,
    /// `tls`.
    pub tls: Option<TlsSettings>,
}

/// `loadBalancer`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadBalancer {
    /// `simple` or `consistentHash`.
    pub algorithm: Algorithm,
    /// `warmup`, or the older `warmupDurationSecs`.
    pub warmup: Option<Warmup>,
    /// `localityLbSetting` or `zoneAwareLbSetting`; what holds for the whole mesh if neither is there.
    pub locality: Option<LocalityPolicy>,
}

/// `connectionPool`. What is 0 is not said, as Istio takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionPool {
    /// `tcp.maxConnections`.
    pub max_connections: Option<NonZeroU32>,
    /// `tcp.connectTimeout`.
    pub connect_timeout: Option<Duration>,
    /// `tcp.tcpKeepalive`.
    pub keepalive: Option<TcpKeepalive>,
    /// `tcp.maxConnectionDuration`.
    pub max_connection_duration: Option<Duration>,
    /// `tcp.idleTimeout`; zero is none.
    pub tcp_idle_timeout: Option<Duration>,
    /// `http.http1MaxPendingRequests`.
    pub max_pending: Option<NonZeroU32>,
    /// `http.http2MaxRequests`.
    pub max_requests: Option<NonZeroU32>,
    /// `http.maxRequestsPerConnection`.
    pub requests_per_connection: Option<NonZeroU32>,
    /// `http.maxRetries`.
    pub max_retries: Option<NonZeroU32>,
    /// `http.idleTimeout`.
    pub http_idle_timeout: Option<Duration>,
    /// `http.h2UpgradePolicy` and `http.useClientProtocol`.
    pub version: HttpVersion,
    /// `http.maxConcurrentStreams`.
    pub max_streams: Option<NonZeroU32>,
}

/// `tcpKeepalive`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// `probes`.
    pub probes: Option<NonZeroU32>,
    /// `time`.
    pub time: Option<Duration>,
    /// `interval`.
    pub interval: Option<Duration>,
}

/// Which version of HTTP an endpoint is spoken to in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// That of the service's port: `DEFAULT`, `DO_NOT_UPGRADE`.
    #[default]
    OfPort,
    /// `UPGRADE`.
    Http2,
    /// `useClientProtocol`, whatever the upgrade policy.
    OfClient,
}

/// `tls`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum TlsSettings {
    /// `DISABLE`, also when no mode is said.
    #[default]
    Disable,
    /// `SIMPLE` or `MUTUAL`, by files.
    Own(Arc<ClientTls>),
    /// `SIMPLE` or `MUTUAL`, by the Secret of `credentialName`.
    Secret(Arc<str>),
    /// `ISTIO_MUTUAL`.
    IstioMutual,
}

/// `tunnel`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelSettings {
    /// `protocol`.
    pub protocol: TunnelProtocol,
    /// `targetHost`.
    pub host: Arc<str>,
    /// `targetPort`.
    pub port: Port,
}

/// `tunnel.protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TunnelProtocol {
    /// `CONNECT`, also when nothing is said.
    Connect,
    /// `POST`.
    Post,
}

/// `proxyProtocol.version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// `V1`, also when nothing is said.
    V1,
    /// `V2`.
    V2,
}

/// A field that is legal and does not do what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Its path.
    pub field: String,
    /// Whether it never has an effect, or just not here.
    pub kind: RemarkKind,
    /// Why, and what is done instead.
    pub text: &'static str,
}

/// What kind of remark it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RemarkKind {
    /// It asks for something that this version does not do.
    Unsupported,
    /// Something else that is said leaves it without effect.
    NoEffect,
}
