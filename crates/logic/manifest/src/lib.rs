//! Kubernetes, Istio and Gateway API YAML, parsed whole or refused with every error at once.
//!
//! In: the texts of files, or single objects as an API server sends them. Out: the objects the mesh reads, a note of those that
//! have no effect, or all errors with file, line, object and field; and a policy as text again. It never does I/O, and never
//! drops a part of a policy: that is read whole, or it says why not.

mod document;
mod error;
mod jwks;
mod kind;
mod known;
mod object;
mod parse;
mod print;
mod read;
mod reader;
mod sent;
mod tree;

pub use error::{Cause, FileName, Found, ManifestError, ObjectRef, Origin};
pub use jwks::{Curve, Jwk, Jwks, JwksError, MAX_JWKS, PublicKey, Unusable};
pub use object::{
    AuthorizationAction, AuthorizationRule, AuthorizationSpec, BackendRef, Backing, ClaimToHeader, Condition,
    ConfigKind, ConfigObject, ConfigSpec, ConnectionPool, ContainerPort, CookieLifetime, DataplaneMode,
    DestinationRuleSpec, EndpointSliceObject, EntryAddress, EntryEndpoint, EntryPort, EntryResolution, ExportTo,
    ExtensionRef, GatewayAddress, GatewayRouteRule, GatewayRouteSpec, GatewayScope, GatewaySpec, GrantFrom, GrantTo,
    HeaderName, HttpVersion, Ignored, InboundBinding, Infrastructure, KeySource, KeysUrl, LabelExpression,
    LabelOperator, LabelSelector, Labels, Listener, ListenerNamespaces, LoadBalancer, Location, MtlsMode,
    NamespaceObject, NodeObject, Object, ObjectKey, Objects, Operation, Owner, ParentRef, PathMatch,
    PeerAuthenticationSpec, Phase, PodObject, PolicyObject, PolicySpec, PolicyTarget, PortPolicy, Presence,
    ProxyVersion, ReferenceGrantSpec, Remark, RemarkKind, RequestAuthenticationSpec, RequestMirror, RouteBackend,
    RouteFilters, RouteNamespaces, Scheme, ServiceEntrySpec, ServiceObject, ServicePortObject, SessionCarrier,
    SessionPersistence, Sidecar, SliceEndpoint, SlicePort, Source, SubsetSpec, TargetPort, TargetRef, TcpKeepalive,
    TelemetrySpec, TlsMode, TlsSettings, TokenHeader, TokenRule, TrafficPolicy, TunnelProtocol, TunnelSettings,
    VirtualAct, VirtualDelegate, VirtualDestination, VirtualHeaders, VirtualHost, VirtualHttp, VirtualMatch,
    VirtualMirror, VirtualRetries, VirtualRoute, VirtualServiceSpec, VirtualTcp, VirtualTcpMatch, VirtualTls,
    VirtualTlsMatch, VirtualUri, WaypointFor, WaypointLabels, WaypointUse, WhyIgnored,
};
// What a Telemetry is made of.
pub use object::{
    AccessLoggingEntry, CustomTag, MetricSelector, MetricsEntry, MetricsOverride, TagOverride, TracingEntry,
    WorkloadMode,
};
pub use parse::{MAX_DOCUMENTS, MAX_FILE_BYTES, Survey, parse, survey};
pub use sent::{Kind, Sent};
