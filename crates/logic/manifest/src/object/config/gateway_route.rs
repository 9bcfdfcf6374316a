//! gateway.networking.k8s.io HTTPRoute, GRPCRoute and TCPRoute, as its author wrote it.
//!
//! What an API server fills in is filled in: a match of an HTTPRoute always has a path. Paths are spelt at the lowest level of normalisation: they hold
//! nothing that a higher one would spell otherwise (no `//`, no `%2F`), for the API refuses it.

use std::{fmt, sync::Arc, time::Duration};

use weir_model::{Hostname, Namespace, Port};
use weir_route::{Cors, HeaderChanges, Match, Percent, Redirect, RetryPolicy, Rewrite, Timeouts};

/// `spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayRouteSpec {
    /// `parentRefs`: what it is attached to.
    pub parents: Vec<ParentRef>,
    /// `hostnames`.
    pub hostnames: Vec<Hostname>,
    /// `useDefaultGateways`.
    pub default_gateways: Option<GatewayScope>,
    /// `rules`. Those of a TCPRoute have a name and backends and nothing else.
    pub rules: Vec<GatewayRouteRule>,
}

/// Of a route: which default Gateways it attaches to. Of a Gateway: for which routes it is a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GatewayScope {
    /// `All`.
    All,
    /// `None`.
    None,
}

/// `ParentReference`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentRef {
    /// `group`; `gateway.networking.k8s.io` when nothing is said, empty for the core.
    pub group: Arc<str>,
    /// `kind`; `Gateway` when nothing is said.
    pub kind: Arc<str>,
    /// `namespace`; the route's when nothing is said.
    pub namespace: Option<Namespace>,
    /// `name`.
    pub name: Arc<str>,
    /// `sectionName`: a listener of a Gateway, a port of a Service.
    pub section: Option<Arc<str>>,
    /// `port`.
    pub port: Option<Port>,
}

/// `BackendObjectReference`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendRef {
    /// `group`; empty, the core, when nothing is said.
    pub group: Arc<str>,
    /// `kind`; `Service` when nothing is said.
    pub kind: Arc<str>,
    /// `namespace`; the route's when nothing is said.
    pub namespace: Option<Namespace>,
    /// `name`.
    pub name: Arc<str>,
    /// `port`.
    pub port: Option<Port>,
}

/// `HTTPRouteRule`, `GRPCRouteRule`, `TCPRouteRule`.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayRouteRule {
    /// Its line, 0 where there is no file.
    pub line: usize,
    /// `name`.
    pub name: Option<Arc<str>>,
    /// `matches`: never empty but for a TCPRoute.
    pub matches: Vec<Match>,
    /// `filters`.
    pub filters: RouteFilters,
    /// `backendRefs`.
    pub backends: Vec<RouteBackend>,
    /// `timeouts`.
    pub timeouts: Timeouts,
    /// `retry`.
    pub retry: Option<RetryPolicy>,
    /// `sessionPersistence`.
    pub persistence: Option<SessionPersistence>,
}

/// `HTTPBackendRef`, `GRPCBackendRef`, `BackendRef`.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteBackend {
    /// Where.
    pub to: BackendRef,
    /// `weight`.
    pub weight: Option<u32>,
    /// `filters`.
    pub filters: RouteFilters,
}

/// `filters`, each of its kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RouteFilters {
    /// `RequestHeaderModifier`.
    pub request: HeaderChanges,
    /// `ResponseHeaderModifier`.
    pub response: HeaderChanges,
    /// `RequestRedirect`.
    pub redirect: Option<Redirect>,
    /// `URLRewrite`.
    pub rewrite: Option<Rewrite>,
    /// `RequestMirror`.
    pub mirrors: Vec<RequestMirror>,
    /// `CORS`.
    pub cors: Option<Cors>,
    /// `ExtensionRef`.
    pub extensions: Vec<ExtensionRef>,
    /// `ExternalAuth`, and whom it asks.
    pub external_auth: Option<BackendRef>,
}

/// `HTTPRequestMirrorFilter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestMirror {
    /// `backendRef`.
    pub to: BackendRef,
    /// `percent` or `fraction`; every request when nothing is said.
    pub percent: Percent,
}

/// `extensionRef`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionRef {
    /// `group`.
    pub group: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
    /// `name`.
    pub name: Arc<str>,
}

/// `SessionPersistence`. GEP-1619.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPersistence {
    /// `sessionName`.
    pub name: Option<Arc<str>>,
    /// `type`.
    pub carrier: SessionCarrier,
    /// `absoluteTimeout`.
    pub absolute_timeout: Option<Duration>,
    /// `cookieConfig.lifetimeType`.
    pub lifetime: CookieLifetime,
}

/// What carries a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionCarrier {
    /// `Cookie`.
    Cookie,
    /// `Header`.
    Header,
}

/// How long a session's cookie lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CookieLifetime {
    /// `Session`: as long as the browser runs.
    Session,
    /// `Permanent`: until its timeout.
    Permanent,
}

impl fmt::Display for ExtensionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", kind_of(&self.group, &self.kind), self.name)
    }
}

impl fmt::Display for BackendRef {
    /// Without the namespace, if it names none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_ref(f, &self.group, &self.kind, self.namespace.as_ref(), &self.name)
    }
}

impl fmt::Display for ParentRef {
    /// Without the namespace, if it names none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_ref(f, &self.group, &self.kind, self.namespace.as_ref(), &self.name)
    }
}

fn write_ref(
    f: &mut fmt::Formatter<'_>,
    group: &str,
    kind: &str,
    namespace: Option<&Namespace>,
    name: &str,
) -> fmt::Result {
    f.write_str(&kind_of(group, kind))?;
    match namespace {
        Some(namespace) => write!(f, " {namespace}/{name}"),
        None => write!(f, " {name}"),
    }
}

/// A kind with its group, unless that is the core or the Gateway API.
fn kind_of(group: &str, kind: &str) -> String {
    match group {
        "" | "gateway.networking.k8s.io" => kind.to_owned(),
        group => format!("{kind}.{group}"),
    }
}
