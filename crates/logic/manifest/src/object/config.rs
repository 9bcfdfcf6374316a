//! Objects that shape requests: routes, destinations, gateways, telemetry. Every value is legal.

mod destination_rule;
mod export_to;
mod gateway;
mod gateway_route;
mod reference_grant;
mod service_entry;
mod telemetry;
mod virtual_service;

use std::{fmt, sync::Arc};

use weir_model::Namespace;

use super::{Labels, object};
use crate::error::{ObjectRef, Origin};

pub use destination_rule::{
    ConnectionPool, DestinationRuleSpec, HttpVersion, LoadBalancer, PortPolicy, ProxyVersion, Remark, RemarkKind,
    SubsetSpec, TcpKeepalive, TlsSettings, TrafficPolicy, TunnelProtocol, TunnelSettings,
};
pub use export_to::ExportTo;
pub use gateway::{
    GatewayAddress, GatewaySpec, InboundBinding, Infrastructure, LabelExpression, LabelOperator, LabelSelector,
    Listener, ListenerNamespaces, RouteNamespaces, TlsMode, WaypointFor,
};
pub use gateway_route::{
    BackendRef, CookieLifetime, ExtensionRef, GatewayRouteRule, GatewayRouteSpec, GatewayScope, ParentRef,
    RequestMirror, RouteBackend, RouteFilters, SessionCarrier, SessionPersistence,
};
pub use reference_grant::{GrantFrom, GrantTo, ReferenceGrantSpec};
pub use service_entry::{EntryAddress, EntryEndpoint, EntryPort, EntryResolution, Location, ServiceEntrySpec};
pub use telemetry::{
    AccessLoggingEntry, CustomTag, MetricSelector, MetricsEntry, MetricsOverride, TagOverride, TelemetrySpec,
    TracingEntry, WorkloadMode,
};
pub use virtual_service::{
    VirtualAct, VirtualDelegate, VirtualDestination, VirtualHeaders, VirtualHost, VirtualHttp, VirtualMatch,
    VirtualMirror, VirtualRetries, VirtualRoute, VirtualServiceSpec, VirtualTcp, VirtualTcpMatch, VirtualTls,
    VirtualTlsMatch, VirtualUri,
};

/// An object that shapes requests.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigObject {
    /// Where it is declared.
    pub origin: Origin,
    /// Its kind.
    pub kind: ConfigKind,
    /// `metadata.namespace`.
    pub namespace: Namespace,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `metadata.annotations`.
    pub annotations: Labels,
    /// `metadata.creationTimestamp`, as Kubernetes writes it (RFC 3339 in UTC), so that texts sort as times do.
    pub created: Option<Arc<str>>,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// What it says.
    pub spec: ConfigSpec,
}

impl ConfigObject {
    /// Its kind, namespace and name.
    pub fn object(&self) -> ObjectRef {
        object(self.kind.name(), &self.namespace, &self.name)
    }
}

/// A kind of object that shapes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigKind {
    /// networking.istio.io.
    VirtualService,
    /// networking.istio.io.
    DestinationRule,
    /// networking.istio.io.
    ServiceEntry,
    /// telemetry.istio.io.
    Telemetry,
    /// gateway.networking.k8s.io.
    Gateway,
    /// gateway.networking.k8s.io.
    HttpRoute,
    /// gateway.networking.k8s.io.
    GrpcRoute,
    /// gateway.networking.k8s.io.
    TcpRoute,
    /// gateway.networking.k8s.io.
    ReferenceGrant,
}

impl ConfigKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::VirtualService,
        Self::DestinationRule,
        Self::ServiceEntry,
        Self::Telemetry,
        Self::Gateway,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::TcpRoute,
        Self::ReferenceGrant,
    ];

    /// `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::VirtualService => "VirtualService",
            Self::DestinationRule => "DestinationRule",
            Self::ServiceEntry => "ServiceEntry",
            Self::Telemetry => "Telemetry",
            Self::Gateway => "Gateway",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::TcpRoute => "TCPRoute",
            Self::ReferenceGrant => "ReferenceGrant",
        }
    }

    /// The group of its version.
    pub fn group(self) -> &'static str {
        match self {
            Self::VirtualService | Self::DestinationRule | Self::ServiceEntry => "networking.istio.io",
            Self::Telemetry => "telemetry.istio.io",
            Self::Gateway | Self::HttpRoute | Self::GrpcRoute | Self::TcpRoute | Self::ReferenceGrant => {
                "gateway.networking.k8s.io"
            }
        }
    }

    /// The versions it is read in, all of one schema, that which is asked for first.
    pub fn versions(self) -> &'static [&'static str] {
        match self {
            Self::VirtualService | Self::DestinationRule | Self::ServiceEntry => {
                &["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"]
            }
            Self::Telemetry => &["telemetry.istio.io/v1", "telemetry.istio.io/v1alpha1"],
            Self::Gateway | Self::HttpRoute => &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"],
            Self::GrpcRoute => &["gateway.networking.k8s.io/v1"],
            Self::TcpRoute => &["gateway.networking.k8s.io/v1alpha2", "gateway.networking.k8s.io/v1"],
            Self::ReferenceGrant => &["gateway.networking.k8s.io/v1beta1", "gateway.networking.k8s.io/v1"],
        }
    }

    /// The resource's name in a URL.
    pub fn plural(self) -> &'static str {
        match self {
            Self::VirtualService => "virtualservices",
            Self::DestinationRule => "destinationrules",
            Self::ServiceEntry => "serviceentries",
            Self::Telemetry => "telemetries",
            Self::Gateway => "gateways",
            Self::HttpRoute => "httproutes",
            Self::GrpcRoute => "grpcroutes",
            Self::TcpRoute => "tcproutes",
            Self::ReferenceGrant => "referencegrants",
        }
    }
}

impl fmt::Display for ConfigKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an object that shapes requests says.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigSpec {
    /// networking.istio.io/v1 VirtualService.
    VirtualService(Box<VirtualServiceSpec>),
    /// networking.istio.io/v1 DestinationRule.
    DestinationRule(Box<DestinationRuleSpec>),
    /// networking.istio.io/v1 ServiceEntry.
    ServiceEntry(Box<ServiceEntrySpec>),
    /// telemetry.istio.io/v1 Telemetry.
    Telemetry(Box<TelemetrySpec>),
    /// gateway.networking.k8s.io/v1 Gateway.
    Gateway(Box<GatewaySpec>),
    /// gateway.networking.k8s.io HTTPRoute, GRPCRoute or TCPRoute: the object's kind says which.
    Route(Box<GatewayRouteSpec>),
    /// gateway.networking.k8s.io ReferenceGrant.
    ReferenceGrant(Box<ReferenceGrantSpec>),
    /// It is not legal as a whole: every error in it, one a line.
    Rejected(Arc<str>),
}
