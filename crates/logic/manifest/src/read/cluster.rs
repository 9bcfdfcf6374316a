//! Namespace, Node and IPAddress: what has no namespace.

use std::{net::IpAddr, sync::Arc};

use weir_model::{Namespace, canonical_ip};

use crate::{
    known,
    object::{NamespaceObject, NodeObject},
    read::Meta,
    reader::{At, Fields, Reader},
};

/// Checks the names of the fields of `spec` and `status`.
fn sections(reader: &mut Reader, object: &Fields<'_>, spec: &[&'static str], status: &[&'static str]) {
    for (name, known) in [("spec", spec), ("status", status)] {
        if let Some(at) = object.field(name) {
            // Only for what it says about unknown fields.
            drop(reader.fields(&at, known));
        }
    }
}

/// A Namespace.
pub(crate) fn namespace(reader: &mut Reader, object: &Fields<'_>, meta: &Meta<'_>) -> Option<NamespaceObject> {
    sections(reader, object, known::NAMESPACE_SPEC, known::NAMESPACE_STATUS);
    let mode = meta.mode(reader);
    let waypoint = meta.waypoint(reader);
    let name = reader.name(meta.name.as_ref()?)?;
    Some(NamespaceObject { origin: reader.origin.clone(), name, mode, labels: meta.labels.owned(), waypoint })
}

/// A Node.
pub(crate) fn node(reader: &mut Reader, object: &Fields<'_>, meta: &Meta<'_>) -> Option<NodeObject> {
    sections(reader, object, known::NODE_SPEC, known::NODE_STATUS);
    let name = reader.name(meta.name.as_ref()?)?;
    Some(NodeObject { origin: reader.origin.clone(), name, labels: meta.labels.owned() })
}

/// Which service a cluster address was given to.
#[derive(Debug, Clone)]
pub(crate) struct Allotment {
    pub(crate) address: IpAddr,
    pub(crate) namespace: Namespace,
    pub(crate) service: Arc<str>,
}

/// An IPAddress, networking.k8s.io/v1: how Kubernetes notes the cluster address it gave to a service. With it a service
/// needs no `clusterIP` of its own in the manifests. Nothing for addresses of anything but services.
pub(crate) fn ip_address(reader: &mut Reader, object: &Fields<'_>, meta: &Meta<'_>) -> Option<Allotment> {
    let address = meta.name.as_ref().and_then(|at| reader.parse::<IpAddr>(at, "an IP address as the object's name"));
    let spec = reader.required(object, "spec", "a map with parentRef")?;
    let spec = reader.fields(&spec, known::IP_ADDRESS_SPEC)?;
    let parent: At<'_> = reader.required(&spec, "parentRef", "the service the address belongs to")?;
    let parent = reader.fields(&parent, known::PARENT_REF)?;
    let group = reader.some_text(parent.field("group")).map_or("", |(text, _)| text);
    let resource = reader.required(&parent, "resource", "\"services\"");
    let resource = reader.text(&resource?)?;
    let service = reader.required(&parent, "name", "the name of the service");
    let service = reader.text(&service?)?;
    if (group, resource) != ("", "services") {
        return None;
    }
    let namespace = reader.required(&parent, "namespace", "the namespace of the service");
    let namespace = reader.name(&namespace?)?;
    Some(Allotment { address: canonical_ip(address?), namespace, service: service.into() })
}
