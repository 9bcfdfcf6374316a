//! What all objects have in common: metadata, labels with a meaning to the mesh, addresses.

pub(crate) mod authorization;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod pod;
pub(crate) mod policy;
pub(crate) mod service;
pub(crate) mod slice;
pub(crate) mod token;

use std::{net::IpAddr, sync::Arc};

use weir_model::{Namespace, canonical_ip};

use crate::{
    error::{Cause, ObjectRef},
    known,
    object::{DataplaneMode, Labels, Owner, WaypointLabels, WaypointUse},
    reader::{At, Fields, Reader, Texts},
};

/// The namespace of an object that names none. Kubernetes' own default.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

const WAYPOINT: &str = "weir.dev/waypoint";
const USE_WAYPOINT: &str = "istio.io/use-waypoint";

const SUBDOMAIN: &str = "a DNS subdomain: lower-case letters, digits, '-' and '.' inside, at most 253";
const LABEL: &str = "a DNS label: lower-case letters, digits and '-' inside, at most 63";

/// `metadata`, as far as the mesh reads it.
pub(crate) struct Meta<'n> {
    pub(crate) labels: Texts<'n>,
    pub(crate) annotations: Texts<'n>,
    pub(crate) name: Option<At<'n>>,
    pub(crate) namespace: Option<Namespace>,
    pub(crate) uid: Option<&'n str>,
    pub(crate) owner: Option<Owner>,
    pub(crate) terminating: bool,
    pub(crate) created: Option<At<'n>>,
    pub(crate) generation: Option<At<'n>>,
}

/// Reads `metadata` of an object whose own fields are given.
pub(crate) fn metadata<'n>(reader: &mut Reader, object: &Fields<'n>) -> Option<Meta<'n>> {
    let at = reader.required(object, "metadata", "a map with at least a name")?;
    let fields = reader.fields(&at, known::META)?;
    let name = reader.required(&fields, "name", "the object's name");
    let namespace = match fields.field("namespace") {
        Some(at) => reader.name(&at),
        None => DEFAULT_NAMESPACE.parse().ok(),
    };
    let uid = reader.some_text(fields.field("uid")).map(|(uid, _)| uid);
    let owners = reader.items(fields.field("ownerReferences"));
    let owners: Vec<_> = owners.iter().filter_map(|at| owner(reader, at)).collect();
    let labels = reader.texts(fields.field("labels"));
    let annotations = reader.texts(fields.field("annotations"));
    if let Some((_, at)) = annotations.at(WAYPOINT) {
        reader.fail(&at, Cause::Misplaced { expected: "a label" });
    }
    let owner = owners.into_iter().find_map(|(controller, owner)| controller.then_some(owner));
    let terminating = fields.field("deletionTimestamp").is_some();
    let (created, generation) = (fields.field("creationTimestamp"), fields.field("generation"));
    Some(Meta { labels, annotations, name, namespace, uid, owner, terminating, created, generation })
}

fn owner(reader: &mut Reader, at: &At<'_>) -> Option<(bool, Owner)> {
    let fields = reader.fields(at, known::OWNER)?;
    let controller = reader.boolean(fields.field("controller")).unwrap_or(false);
    let kind = reader.required(&fields, "kind", "the owner's kind");
    let name = reader.required(&fields, "name", "the owner's name");
    let kind = reader.text(&kind?)?.into();
    let name = reader.text(&name?)?.into();
    Some((controller, Owner { kind, name }))
}

impl Meta<'_> {
    /// `istio.io/dataplane-mode`.
    pub(crate) fn mode(&self, reader: &mut Reader) -> Option<DataplaneMode> {
        let (text, at) = self.labels.at("istio.io/dataplane-mode")?;
        match text {
            "ambient" => Some(DataplaneMode::Ambient),
            "none" => Some(DataplaneMode::None),
            _ => reader.expected(&at, "\"ambient\" or \"none\""),
        }
    }

    /// The labels that bind to a waypoint. An empty one says nothing.
    pub(crate) fn waypoint(&self, reader: &mut Reader) -> WaypointLabels {
        let label = |key| self.labels.at(key).filter(|(text, _)| !text.is_empty());
        let namespace = label("istio.io/use-waypoint-namespace").and_then(|(_, at)| reader.name::<Namespace>(&at));
        let uses = label(USE_WAYPOINT).and_then(|(text, at)| match text {
            "none" => Some(WaypointUse::None),
            _ => {
                let name = reader.parse::<weir_model::NodeName>(&at, "\"none\" or the name of a Gateway")?;
                Some(WaypointUse::Gateway { namespace, name: name.as_str().into() })
            }
        });
        let required = match self.labels.at(WAYPOINT) {
            Some(("required", _)) => true,
            Some((_, at)) => reader.expected::<()>(&at, "\"required\"").is_some(),
            None => false,
        };
        WaypointLabels { uses, required }
    }

    /// The name as a DNS subdomain.
    pub(crate) fn subdomain(&self, reader: &mut Reader) -> Option<Arc<str>> {
        let at = self.name.as_ref()?;
        reader.parse::<weir_model::NodeName>(at, SUBDOMAIN).map(|name| name.as_str().into())
    }

    /// The name as a DNS label.
    pub(crate) fn label(&self, reader: &mut Reader) -> Option<Arc<str>> {
        let at = self.name.as_ref()?;
        reader.parse::<Namespace>(at, LABEL).map(|name| name.as_str().into())
    }
}

/// Kind, namespace and name of any object, as far as they can be made out without complaint.
pub(crate) fn object_ref(kind: &str, namespaced: bool, object: &Fields<'_>, quiet: &mut Reader) -> ObjectRef {
    let mut text = |name: &str| {
        let fields = quiet.fields(&object.field("metadata")?, known::META)?;
        let at = fields.field(name)?;
        quiet.text(&at).map(Arc::<str>::from)
    };
    let name = text("name").unwrap_or_default();
    let namespace = namespaced.then(|| text("namespace").unwrap_or_else(|| DEFAULT_NAMESPACE.into()));
    ObjectRef { kind: kind.into(), namespace, name }
}

/// The annotations of any object, as far as they can be made out without complaint; nothing if none of them is Istio's or ours.
pub(crate) fn annotations(object: &Fields<'_>, quiet: &mut Reader) -> Option<Labels> {
    let fields = quiet.fields(&object.field("metadata")?, known::META)?;
    let all = quiet.texts(fields.field("annotations")).owned();
    let is_of_mesh = |key: &str| {
        let domain = key.split_once('/').map_or("", |(domain, _)| domain);
        ["istio.io", "weir.dev"].iter().any(|own| domain == *own || domain.ends_with(&format!(".{own}")))
    };
    all.keys().any(|key| is_of_mesh(key)).then_some(all)
}

/// A canonical IP address.
pub(crate) fn address(reader: &mut Reader, at: &At<'_>) -> Option<IpAddr> {
    reader.parse::<IpAddr>(at, "an IPv4 or IPv6 address").map(canonical_ip)
}

/// The transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// `protocol`, TCP when nothing is said.
pub(crate) fn protocol(reader: &mut Reader, fields: &Fields<'_>) -> Option<Protocol> {
    let Some((text, at)) = reader.some_text(fields.field("protocol")) else { return Some(Protocol::Tcp) };
    match text {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => reader.expected(&at, "\"TCP\", \"UDP\" or \"SCTP\""),
    }
}
