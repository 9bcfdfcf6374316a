//! networking.istio.io/v1 VirtualService, as its author wrote it.
//!
//! What routes can do is said in the words of `weir-route`; the names of hosts stay as they were written, for who they mean depends
//! on what else there is.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use weir_model::{Namespace, Port};
use weir_request::{HostPattern, Normalization, PathError, spelt};
use weir_route::{
    AskerMatch, Case, Cors, DirectResponse, Fault, HeaderChanges, HeaderName, PathMatch, Percent, Redirect,
    RetryPolicy, Rewrite, StringMatch, TcpMatch,
};

use super::ExportTo;

/// `spec`.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualServiceSpec {
    /// `hosts`. Empty for one that others delegate to: it has `http` alone.
    pub hosts: Vec<VirtualHost>,
    /// `gateways`, each `mesh` or `namespace/name`. Empty means the mesh.
    pub gateways: Vec<Box<str>>,
    /// `exportTo`.
    pub export_to: ExportTo,
    /// `http`.
    pub http: Vec<VirtualHttp>,
    /// `tcp`.
    pub tcp: Vec<VirtualTcp>,
    /// `tls`.
    pub tls: Vec<VirtualTls>,
}

/// Which hosts. One of `hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VirtualHost {
    /// `*`: all, of gateways alone.
    Any,
    /// `*.x`, without the star: all that end so.
    Below(Box<str>),
    /// This one, which may be a short name.
    Name(Box<str>),
    /// What has this address.
    Address(IpAddr),
}

/// One of `http`. Istio `HTTPRoute`. What is absent was not said, and may come from the rule that delegates to it.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualHttp {
    /// The line it begins on; 0 if it came from an API server.
    pub line: usize,
    /// `name`.
    pub name: Option<Box<str>>,
    /// `match`: any of these. Empty for every request.
    pub matches: Vec<VirtualMatch>,
    /// `route`, `redirect`, `directResponse` or `delegate`.
    pub act: VirtualAct,
    /// `headers`.
    pub headers: Option<VirtualHeaders>,
    /// `rewrite`.
    pub rewrite: Option<Rewrite>,
    /// `timeout`.
    pub timeout: Option<Duration>,
    /// `retries`.
    pub retries: Option<VirtualRetries>,
    /// `fault`.
    pub fault: Option<Fault>,
    /// `mirror` and its percentage, or `mirrors`.
    pub mirrors: Option<Vec<VirtualMirror>>,
    /// `corsPolicy`.
    pub cors: Option<Cors>,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum VirtualAct {
    /// `route`: it is sent on. At least one.
    Route(Vec<VirtualRoute>),
    /// `redirect`.
    Redirect(Redirect),
    /// `directResponse`.
    Respond(DirectResponse),
    /// `delegate`: another VirtualService says.
    Delegate(VirtualDelegate),
}

/// `delegate`. Istio `Delegate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualDelegate {
    /// `namespace`; its own when absent.
    pub namespace: Option<Namespace>,
    /// `name`.
    pub name: Box<str>,
}

/// One of `match`. Istio `HTTPMatchRequest`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VirtualMatch {
    /// `name`.
    pub name: Option<Box<str>>,
    /// `statPrefix`.
    pub stat_prefix: Option<Box<str>>,
    /// `uri`, with `ignoreUriCase`.
    pub uri: Option<VirtualUri>,
    /// `scheme`.
    pub scheme: Option<StringMatch>,
    /// `method`.
    pub method: Option<StringMatch>,
    /// `authority`.
    pub authority: Option<StringMatch>,
    /// `headers`, by name.
    pub headers: Vec<(HeaderName, StringMatch)>,
    /// `withoutHeaders`, by name.
    pub without_headers: Vec<(HeaderName, StringMatch)>,
    /// `queryParams`, by name.
    pub query: Vec<(Box<str>, StringMatch)>,
    /// `port`, `sourceLabels`, `sourceNamespace`, and `gateways`, each `mesh` or `namespace/name`.
    pub asker: AskerMatch,
}

/// How a path is compared: `uri`, with `ignoreUriCase`, which does not count for a regular expression.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualUri {
    text: StringMatch,
    case: Case,
    path: PathMatch,
}

impl VirtualUri {
    /// Reads how a path is compared; nothing for one that may be any.
    ///
    /// # Errors
    /// When no path can be so.
    pub fn new(text: StringMatch, case: Case) -> Result<Option<Self>, PathError> {
        const LEVEL: Normalization = Normalization::Base;
        let (text, path) = match text {
            StringMatch::Exact(text) => {
                let path = PathMatch::exact(&text, case, LEVEL)?;
                (StringMatch::Exact(spelt(&text, LEVEL)?.into()), path)
            }
            StringMatch::Prefix(text) => {
                let path = PathMatch::prefix(&text, case, LEVEL)?;
                (StringMatch::Prefix(spelt(&text, LEVEL)?.into()), path)
            }
            StringMatch::Regex(pattern) => (StringMatch::Regex(pattern.clone()), PathMatch::regex(pattern)),
            StringMatch::Present => return Ok(None),
        };
        Ok(Some(Self { text, case, path }))
    }

    /// The text that is compared, spelt as the paths of requests are.
    pub fn text(&self) -> &StringMatch {
        &self.text
    }

    /// Whether case counts.
    pub fn case(&self) -> Case {
        self.case
    }

    /// As a rule asks it.
    pub fn path(&self) -> &PathMatch {
        &self.path
    }
}

/// One of `route`. Istio `HTTPRouteDestination` and `RouteDestination`.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualRoute {
    /// The line it begins on; 0 if it came from an API server.
    pub line: usize,
    /// `destination`.
    pub destination: VirtualDestination,
    /// `weight`.
    pub weight: Option<u32>,
    /// `headers`, of HTTP alone.
    pub headers: VirtualHeaders,
}

/// Where to. Istio `Destination`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualDestination {
    /// `host`, as it was written: a short name is meant from the object's own namespace.
    pub host: Box<str>,
    /// `port.number`.
    pub port: Option<Port>,
    /// `subset`.
    pub subset: Option<Box<str>>,
}

/// What is done to headers. Istio `Headers`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VirtualHeaders {
    /// `request`.
    pub request: HeaderChanges,
    /// `response`.
    pub response: HeaderChanges,
}

/// `retries`. Istio `HTTPRetry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualRetries {
    /// All of it but the time of an attempt.
    pub policy: RetryPolicy,
    /// `perTryTimeout`.
    pub attempt: Option<Duration>,
}

/// A copy of requests. Istio `HTTPMirrorPolicy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualMirror {
    /// Where to.
    pub destination: VirtualDestination,
    /// Of how many requests.
    pub percent: Percent,
}

/// One of `tcp`. Istio `TCPRoute`.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualTcp {
    /// The line it begins on; 0 if it came from an API server.
    pub line: usize,
    /// `match`: any of these. Empty for every connection.
    pub matches: Vec<VirtualTcpMatch>,
    /// `route`: at least one.
    pub routes: Vec<VirtualRoute>,
}

/// One of `match` of `tcp`. Istio `L4MatchAttributes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VirtualTcpMatch {
    /// `destinationSubnets`, `port`, `sourceLabels`, `sourceNamespace`, `gateways`.
    pub asked: TcpMatch,
    /// `sourceSubnet`.
    pub source: Option<IpNet>,
}

/// One of `tls`. Istio `TLSRoute`.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualTls {
    /// The line it begins on; 0 if it came from an API server.
    pub line: usize,
    /// `match`: any of these, at least one.
    pub matches: Vec<VirtualTlsMatch>,
    /// `route`: at least one.
    pub routes: Vec<VirtualRoute>,
}

/// One of `match` of `tls`. Istio `TLSMatchAttributes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualTlsMatch {
    /// `sniHosts`: any of these, at least one.
    pub sni_hosts: Vec<HostPattern>,
    /// `destinationSubnets`, `port`, `sourceLabels`, `sourceNamespace`, `gateways`.
    pub asked: TcpMatch,
}
