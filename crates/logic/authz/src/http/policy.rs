//! A policy as a waypoint enforces it: what its author wrote, every value of it legal.

use std::sync::Arc;

use ipnet::IpNet;
use weir_model::{
    Namespace, PolicyAction, PolicyName, PolicySource, Port, RulePlace, ServiceAccount, Sides, TextMatch,
};

use super::path::PathPattern;

/// A policy over a service. Istio `AuthorizationPolicy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpPolicy {
    /// Its name in the mesh.
    pub name: PolicyName,
    /// What becomes of what it matches.
    pub action: PolicyAction,
    /// Evaluated, logged and counted, and decides nothing. Annotation `istio.io/dry-run`.
    pub dry_run: bool,
    /// It matches what any of them matches.
    pub rules: Vec<HttpRule>,
    /// Why it cannot be enforced as it was written: then it denies all that it covers, unless it decides nothing.
    pub rejected: Option<Arc<str>>,
    /// The object that it was made of.
    pub source: PolicySource,
}

/// A rule: it matches what all of its clauses match, and without clauses everything. `spec.rules[]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpRule {
    /// Where its author wrote it.
    pub place: RulePlace,
    /// All of them must match.
    pub clauses: Vec<HttpClause>,
}

/// Alternatives: it matches what any of them matches, and without any nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpClause {
    /// Where in the rule they stand.
    pub part: Part,
    /// Any of them.
    pub alternatives: Vec<HttpMatch>,
}

/// A part of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `from`: its alternatives are sources.
    From,
    /// `to`: its alternatives are operations.
    To,
    /// `when`: one condition, which is the only alternative.
    When,
}

/// Facts that must all hold; without any it matches nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpMatch(pub Vec<HttpField>);

/// One fact, and what it must and must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpField {
    /// `principals`, `source.principal`: the peer, written `<trust domain>/ns/<namespace>/sa/<service account>`.
    Principals(Sides<TextMatch>),
    /// `namespaces`, `source.namespace`: the peer's.
    Namespaces(Sides<TextMatch>),
    /// `serviceAccounts`, `source.serviceAccount`: the peer's.
    ServiceAccounts(Sides<(Namespace, ServiceAccount)>),
    /// `trustDomains`, `source.trustDomain`: the peer's.
    TrustDomains(Sides<TextMatch>),
    /// `ipBlocks`, `source.ip`: the address the peer is known by.
    SourceIps(Sides<IpNet>),
    /// `remoteIpBlocks`, `remote.ip`: the address of the client, which may stand behind proxies that are believed.
    RemoteIps(Sides<IpNet>),
    /// `destination.ip`: the address that was asked for.
    DestinationIps(Sides<IpNet>),
    /// `ports`, `destination.port`: the service's.
    DestinationPorts(Sides<Port>),
    /// `requestPrincipals`, `request.auth.principal`: issuer and subject of the token, `iss/sub`.
    RequestPrincipals(Sides<TextMatch>),
    /// `hosts`, whatever the case of their letters. One without a port means the host at any port.
    Hosts(Sides<TextMatch>),
    /// `methods`, in the case they are sent in. RFC 9110 §9.1.
    Methods(Sides<TextMatch>),
    /// `paths`.
    Paths(Sides<PathPattern>),
    /// `request.headers[name]`: the values of one that is given twice joined by commas.
    Header {
        /// Its name. `:authority`, which is `host` too, `:method`, `:path` and `:scheme` are those of HTTP/2, whatever the request came in.
        name: Box<str>,
        /// What it must and must not be.
        values: Sides<TextMatch>,
    },
    /// `request.auth.audiences`: one of the token's.
    Audiences(Sides<TextMatch>),
    /// `request.auth.presenter`: the token's `azp`.
    Presenter(Sides<TextMatch>),
    /// `request.auth.claims[a][b]`: a text, or one of a list.
    Claim {
        /// The names on the way to it.
        path: Vec<Arc<str>>,
        /// What it must and must not be.
        values: Sides<TextMatch>,
    },
    /// `connection.sni`, whatever the case of its letters.
    Sni(Sides<TextMatch>),
}
