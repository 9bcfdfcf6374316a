//! Policies as their authors wrote them, and the labels that bind to waypoints. Every value is legal.

use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;
use weir_model::{Namespace, PolicyKind, Port, ServiceAccount, Sides, TextMatch};

use super::{Labels, RequestAuthenticationSpec, object};
use crate::error::{ObjectRef, Origin};

/// What a policy is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyTarget {
    /// Everything in its namespace, or of the mesh if that is the root namespace.
    All,
    /// The pods there with these labels, never empty. `spec.selector.matchLabels`.
    Selector(Labels),
    /// What stands behind these objects: a waypoint's matter. `spec.targetRef`, `spec.targetRefs`.
    Refs(Vec<TargetRef>),
    /// It cannot be made out.
    Unknown,
}

/// An object that a policy is attached to. Istio `type.v1beta1.PolicyTargetReference`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetRef {
    /// `group`, empty for the core.
    pub group: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
    /// `name`, in the policy's own namespace.
    pub name: Arc<str>,
}

/// A policy of Istio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyObject {
    /// Where it is declared.
    pub origin: Origin,
    /// Its kind; never `RequiredWaypoint`.
    pub kind: PolicyKind,
    /// `metadata.namespace`.
    pub namespace: Namespace,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.creationTimestamp`, as Kubernetes writes it (RFC 3339 in UTC), so that texts sort as times do.
    pub created: Option<Arc<str>>,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// What it is about.
    pub target: PolicyTarget,
    /// What it says.
    pub spec: PolicySpec,
}

impl PolicyObject {
    /// Its kind, namespace and name.
    pub fn object(&self) -> ObjectRef {
        object(&self.kind.to_string(), &self.namespace, &self.name)
    }
}

/// What a policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicySpec {
    /// security.istio.io/v1 AuthorizationPolicy.
    Authorization(AuthorizationSpec),
    /// security.istio.io/v1 PeerAuthentication.
    PeerAuthentication(PeerAuthenticationSpec),
    /// security.istio.io/v1 RequestAuthentication.
    RequestAuthentication(RequestAuthenticationSpec),
    /// It is not legal as a whole: every error in it, one a line.
    Rejected(Arc<str>),
}

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationSpec {
    /// `spec.action`.
    pub action: AuthorizationAction,
    /// Annotation `istio.io/dry-run`.
    pub dry_run: bool,
    /// `spec.rules`: any of them.
    pub rules: Vec<AuthorizationRule>,
}

/// `spec.action`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthorizationAction {
    /// `ALLOW`, also when nothing is said.
    Allow,
    /// `DENY`.
    Deny,
    /// `AUDIT`.
    Audit,
    /// `CUSTOM`, by the provider of that name.
    Custom {
        /// `spec.provider.name`.
        provider: Arc<str>,
    },
}

/// A rule: its parts that are there must all match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorizationRule {
    /// Its line, 0 where there is no file.
    pub line: usize,
    /// `from`: any of them.
    pub from: Vec<Source>,
    /// `to`: any of them.
    pub to: Vec<Operation>,
    /// `when`: all of them.
    pub when: Vec<Condition>,
}

/// `from.source`: every field that is there must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// `principals`, `notPrincipals`; a leading `spiffe://` is taken off.
    pub principals: Sides<TextMatch>,
    /// `requestPrincipals`, `notRequestPrincipals`. Of a request.
    pub request_principals: Sides<TextMatch>,
    /// `namespaces`, `notNamespaces`.
    pub namespaces: Sides<TextMatch>,
    /// `serviceAccounts`, `notServiceAccounts`; without a namespace the policy's own.
    pub service_accounts: Sides<(Namespace, ServiceAccount)>,
    /// `trustDomains`, `notTrustDomains`.
    pub trust_domains: Sides<TextMatch>,
    /// `ipBlocks`, `notIpBlocks`.
    pub ip_blocks: Sides<IpNet>,
    /// `remoteIpBlocks`, `notRemoteIpBlocks`. Of a request.
    pub remote_ip_blocks: Sides<IpNet>,
}

/// `to.operation`: every field that is there must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operation {
    /// `hosts`, `notHosts`. Of a request.
    pub hosts: Sides<TextMatch>,
    /// `ports`, `notPorts`: the pod's own at the agent, the service's at a waypoint.
    pub ports: Sides<Port>,
    /// `methods`, `notMethods`. Of a request.
    pub methods: Sides<TextMatch>,
    /// `paths`, `notPaths`. Of a request.
    pub paths: Sides<PathMatch>,
}

/// How a path is compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathMatch {
    /// As other texts.
    Text(TextMatch),
    /// With `{*}` for one segment and `{**}` for any number.
    Template(Arc<str>),
}

/// `when`: one fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// `source.ip`.
    SourceIp(Sides<IpNet>),
    /// `source.namespace`.
    SourceNamespace(Sides<TextMatch>),
    /// `source.principal`.
    SourcePrincipal(Sides<TextMatch>),
    /// `source.serviceAccount`.
    SourceServiceAccount(Sides<(Namespace, ServiceAccount)>),
    /// `source.trustDomain`.
    SourceTrustDomain(Sides<TextMatch>),
    /// `destination.ip`.
    DestinationIp(Sides<IpNet>),
    /// `destination.port`.
    DestinationPort(Sides<Port>),
    /// `remote.ip`. Of a request.
    RemoteIp(Sides<IpNet>),
    /// Any other key, all of requests: `request.headers[name]`, `request.auth.principal`, `request.auth.audiences`,
    /// `request.auth.presenter`, `request.auth.claims[a][b]`, `connection.sni`, `experimental.*`.
    Request {
        /// `key`, legal.
        key: Arc<str>,
        /// `values`, `notValues`.
        values: Sides<TextMatch>,
    },
}

/// Whether peers must prove who they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerAuthenticationSpec {
    /// `spec.mtls.mode`.
    pub mode: MtlsMode,
    /// `spec.portLevelMtls`, by the pod's own port.
    pub ports: BTreeMap<Port, MtlsMode>,
}

/// `mtls.mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum MtlsMode {
    /// `UNSET`, also when nothing is said: what is wider decides.
    #[default]
    Unset,
    /// `DISABLE`.
    Disable,
    /// `PERMISSIVE`.
    Permissive,
    /// `STRICT`.
    Strict,
}

/// Labels that bind to a waypoint, of a Namespace, Service or Pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct WaypointLabels {
    /// `istio.io/use-waypoint`, with `istio.io/use-waypoint-namespace`.
    pub uses: Option<WaypointUse>,
    /// `weir.dev/waypoint: required`.
    pub required: bool,
}

/// `istio.io/use-waypoint`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WaypointUse {
    /// `none`: no waypoint, whatever is said of what is wider.
    None,
    /// The Gateway of that name, in that namespace or in the object's own.
    Gateway {
        /// `istio.io/use-waypoint-namespace`.
        namespace: Option<Namespace>,
        /// `istio.io/use-waypoint`.
        name: Arc<str>,
    },
}
