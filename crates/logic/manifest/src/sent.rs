//! One object as an API server sends it.
//!
//! In: JSON, through serde. Out: the object, or every error in it. A server has checked the object against its own schema, and
//! may be newer than this program: an unknown field is no error here, but for what a policy says: it may narrow the rest.
//! Everything else is as strict as for files. A policy that is not legal is an object all the same, with all its errors: what
//! it covers must be known.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer};
use weir_model::{Namespace, NodeName};

use crate::{
    document::{Telling, document},
    error::{Cause, FileName, Found, ManifestError, ObjectRef, Origin},
    kind::POLICY_VERSIONS,
    known,
    object::{ConfigKind, Object, ObjectKey},
    read::{self, policy::Which},
    reader::{At, Fields, Reader},
    tree::{Value, json::Tree},
};

/// A kind of object the mesh reads from an API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// core/v1.
    Namespace,
    /// core/v1.
    Node,
    /// core/v1.
    Pod,
    /// core/v1.
    Service,
    /// discovery.k8s.io/v1.
    EndpointSlice,
    /// security.istio.io/v1.
    AuthorizationPolicy,
    /// security.istio.io/v1.
    PeerAuthentication,
    /// security.istio.io/v1.
    RequestAuthentication,
    /// What shapes requests.
    Config(ConfigKind),
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::AuthorizationPolicy,
        Self::PeerAuthentication,
        Self::RequestAuthentication,
        Self::Config(ConfigKind::VirtualService),
        Self::Config(ConfigKind::DestinationRule),
        Self::Config(ConfigKind::ServiceEntry),
        Self::Config(ConfigKind::Telemetry),
        Self::Config(ConfigKind::Gateway),
        Self::Config(ConfigKind::HttpRoute),
        Self::Config(ConfigKind::GrpcRoute),
        Self::Config(ConfigKind::TcpRoute),
        Self::Config(ConfigKind::ReferenceGrant),
    ];

    /// `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::PeerAuthentication => "PeerAuthentication",
            Self::RequestAuthentication => "RequestAuthentication",
            Self::Config(config) => config.name(),
        }
    }

    /// The group of its version; empty for the core.
    pub fn group(self) -> &'static str {
        match self {
            Self::Namespace | Self::Node | Self::Pod | Self::Service => "",
            Self::EndpointSlice => "discovery.k8s.io",
            Self::AuthorizationPolicy | Self::PeerAuthentication | Self::RequestAuthentication => "security.istio.io",
            Self::Config(config) => config.group(),
        }
    }

    /// The version that is asked for. Policies and what shapes requests are read in older ones, too.
    pub fn version(self) -> &'static str {
        match self {
            Self::Config(config) => config
                .versions()
                .first()
                .and_then(|version| version.split_once('/'))
                .map_or("v1", |(_, version)| version),
            Self::Namespace
            | Self::Node
            | Self::Pod
            | Self::Service
            | Self::EndpointSlice
            | Self::AuthorizationPolicy
            | Self::PeerAuthentication
            | Self::RequestAuthentication => "v1",
        }
    }

    /// The resource's name in a URL.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::Node => "nodes",
            Self::Pod => "pods",
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices",
            Self::AuthorizationPolicy => "authorizationpolicies",
            Self::PeerAuthentication => "peerauthentications",
            Self::RequestAuthentication => "requestauthentications",
            Self::Config(config) => config.plural(),
        }
    }

    /// Whether the kind may be missing, because a CustomResourceDefinition brings it.
    pub fn is_custom(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node | Self::Pod | Self::Service | Self::EndpointSlice)
    }

    /// Which policy it is, if it is one.
    fn policy(self) -> Option<Which> {
        match self {
            Self::AuthorizationPolicy => Some(Which::Authorization),
            Self::PeerAuthentication => Some(Which::PeerAuthentication),
            Self::RequestAuthentication => Some(Which::RequestAuthentication),
            Self::Namespace | Self::Node | Self::Pod | Self::Service | Self::EndpointSlice | Self::Config(_) => None,
        }
    }

    fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An object as it was sent, without the parts that are big and never read.
#[derive(Debug)]
pub struct Sent {
    tree: Tree,
}

impl<'de> Deserialize<'de> for Sent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { tree: Tree::deserialize(deserializer)? })
    }
}

impl Sent {
    /// `metadata.resourceVersion`, opaque.
    pub fn resource_version(&self) -> Option<&str> {
        self.metadata("resourceVersion")
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> Option<&str> {
        self.metadata("uid")
    }

    /// Which object it is; nothing when it says so in no way a server would.
    pub fn key(&self, kind: Kind) -> Option<ObjectKey> {
        let namespace = match kind.is_namespaced() {
            true => Some(self.metadata("namespace")?.parse::<Namespace>().ok()?),
            false => None,
        };
        let name = self.metadata("name")?.parse::<NodeName>().ok()?;
        Some(ObjectKey { kind: kind.name().into(), namespace, name: name.as_str().into() })
    }

    /// What waypoints are told of it, JSON; nothing of a kind that is no matter of theirs.
    pub fn document(&self, kind: Kind) -> Option<Arc<str>> {
        let telling = match kind {
            Kind::Pod => Telling::Labels,
            Kind::AuthorizationPolicy => Which::Authorization.into(),
            Kind::PeerAuthentication => Which::PeerAuthentication.into(),
            Kind::RequestAuthentication => Which::RequestAuthentication.into(),
            Kind::Config(config) => config.into(),
            Kind::Namespace | Kind::Node | Kind::Service | Kind::EndpointSlice => Telling::Nothing,
        };
        let group = kind.group();
        let said = match member(&self.tree.root.value, "apiVersion") {
            Some(Value::Text(said)) => Some(said.as_str()),
            Some(_) | None => None,
        };
        // Items of a list need not repeat it.
        let asked = if group.is_empty() { kind.version().to_owned() } else { format!("{group}/{}", kind.version()) };
        let at = At { node: &self.tree.root, path: String::new() };
        let fields = Reader::lenient(Origin { file: FileName::new(""), document: 1, line: 0 }).map(&at)?;
        let namespace = self.metadata("namespace").unwrap_or_default();
        document(&fields, kind.name(), said.unwrap_or(&asked), namespace, telling)
    }

    /// The object. `file` names the source in errors. What is wrong with a policy is in it: [`PolicySpec::Rejected`].
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(&self, kind: Kind, file: &FileName) -> Result<Object, Vec<ManifestError>> {
        let origin = Origin { file: file.clone(), document: 1, line: 0 };
        let mut reader = Reader::lenient(origin.clone());
        reader.object = Some(ObjectRef {
            kind: kind.name().into(),
            namespace: self.metadata("namespace").filter(|_| kind.is_namespaced()).map(Arc::from),
            name: self.metadata("name").unwrap_or_default().into(),
        });
        let at = At { node: &self.tree.root, path: String::new() };
        let fields = reader.fields(&at, known::OBJECT);
        if let Some(fields) = &fields {
            declared(&mut reader, fields, kind);
        }
        if kind.is_namespaced() && self.metadata("namespace").is_none() {
            let cause = Cause::Missing { expected: "the object's namespace, which a server always says" };
            reader.fail_at("metadata.namespace".to_owned(), 0, cause);
        }
        if let Some(cause) = &self.tree.cut {
            reader.fail(&at, cause.clone());
        }
        if let Some(which) = kind.policy()
            && let Some(ObjectKey { namespace: Some(namespace), name, .. }) = self.key(kind)
        {
            let legible = fields.as_ref().filter(|_| reader.errors.is_empty());
            for field in &self.tree.left_out {
                reader.fail_at(format!("spec.{field}"), 0, Cause::UnknownField { nearest: None });
            }
            return Ok(Object::Policy(read::policy::sent(reader, legible, which, namespace, name)));
        }
        if let Kind::Config(config) = kind
            && let Some(ObjectKey { namespace: Some(namespace), name, .. }) = self.key(kind)
        {
            let legible = fields.as_ref().filter(|_| reader.errors.is_empty());
            for field in &self.tree.left_out {
                reader.fail_at(format!("spec.{field}"), 0, Cause::UnknownField { nearest: None });
            }
            return Ok(Object::Config(read::config::sent(reader, legible, config, namespace, name)));
        }
        if self.tree.cut.is_some() {
            return Err(reader.errors);
        }
        let object = fields.and_then(|fields| core(&mut reader, &fields, kind));
        match object {
            Some(object) if reader.errors.is_empty() => Ok(object),
            Some(_) | None => Err(reader.errors),
        }
    }

    fn metadata(&self, field: &str) -> Option<&str> {
        let metadata = member(&self.tree.root.value, "metadata")?;
        match member(metadata, field)? {
            Value::Text(text) => Some(text),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => None,
        }
    }
}

fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Map(fields) => fields.iter().find(|(key, _)| key == name).map(|(_, node)| &node.value),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => None,
    }
}

/// Checks kind and version, which the items of a list need not repeat.
fn declared(reader: &mut Reader, fields: &Fields<'_>, kind: Kind) {
    let versions: &'static [&'static str] = match kind {
        Kind::Namespace | Kind::Node | Kind::Pod | Kind::Service => &["v1"],
        Kind::EndpointSlice => &["discovery.k8s.io/v1"],
        Kind::AuthorizationPolicy | Kind::PeerAuthentication | Kind::RequestAuthentication => POLICY_VERSIONS,
        Kind::Config(config) => config.versions(),
    };
    if let Some((found, at)) = reader.some_text(fields.field("apiVersion"))
        && !versions.contains(&found)
    {
        let expected = versions.first().copied().unwrap_or_default();
        let found = found.to_owned();
        reader.fail(&at, Cause::ApiVersion { kind: kind.name().to_owned(), expected, found });
    }
    if let Some((found, at)) = reader.some_text(fields.field("kind"))
        && found != kind.name()
    {
        reader.fail(&at, Cause::Expected { expected: kind.name(), found: Found::text(found) });
    }
}

fn core(reader: &mut Reader, fields: &Fields<'_>, kind: Kind) -> Option<Object> {
    let meta = read::metadata(reader, fields)?;
    match kind {
        Kind::Namespace => read::cluster::namespace(reader, fields, &meta).map(Object::Namespace),
        Kind::Node => read::cluster::node(reader, fields, &meta).map(Object::Node),
        Kind::Pod => read::pod::pod(reader, fields, &meta).map(Object::Pod),
        // Only files need to look for cluster addresses elsewhere: a server has filled them in.
        Kind::Service => read::service::service(reader, fields, &meta).map(|(service, _)| Object::Service(service)),
        Kind::EndpointSlice => read::slice::slice(reader, fields, &meta).map(Object::EndpointSlice),
        // Read before, whatever else they say; here only those whose name cannot be read.
        Kind::AuthorizationPolicy | Kind::PeerAuthentication | Kind::RequestAuthentication | Kind::Config(_) => {
            meta.subdomain(reader);
            None
        }
    }
}

#[cfg(test)]
#[path = "sent/tests.rs"]
mod tests;
