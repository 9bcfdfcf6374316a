//! Objects that shape requests: what they have in common. What each kind says is read in a file of its own.
//!
//! Fields and bounds are those of Istio's and the Gateway API's CustomResourceDefinitions.

mod destination_rule;
mod gateway;
mod gateway_route;
mod reference_grant;
mod references;
mod scalar;
mod service_entry;
mod telemetry;
mod virtual_service;

use std::sync::Arc;

use weir_model::Namespace;

use super::policy::{MAX_REJECTED, created, generation};
use crate::{
    error::lines,
    object::{ConfigKind, ConfigObject, ConfigSpec, Labels},
    read::{Meta, metadata},
    reader::{Fields, Reader},
};

/// An object of a file.
pub(crate) fn config(
    reader: &mut Reader,
    object: &Fields<'_>,
    meta: &Meta<'_>,
    kind: ConfigKind,
) -> Option<ConfigObject> {
    let name = meta.subdomain(reader);
    let (created, generation) = (created(reader, meta), generation(reader, meta));
    let spec = spec(reader, object, meta, kind);
    Some(ConfigObject {
        origin: reader.origin.clone(),
        kind,
        namespace: meta.namespace.clone()?,
        name: name?,
        labels: meta.labels.owned(),
        annotations: meta.annotations.owned(),
        created,
        generation,
        spec: spec?,
    })
}

/// An object of an API server; without its fields it is one that cannot be read at all, and the reader knows why.
pub(crate) fn sent(
    mut reader: Reader,
    object: Option<&Fields<'_>>,
    kind: ConfigKind,
    namespace: Namespace,
    name: Arc<str>,
) -> ConfigObject {
    let (mut said, mut born, mut of) = (None, None, None);
    let (mut labels, mut annotations) = (Labels::new(), Labels::new());
    if let Some(object) = object
        && let Some(meta) = metadata(&mut reader, object)
    {
        reader.strictly();
        (born, of) = (created(&mut reader, &meta), generation(&mut reader, &meta));
        (labels, annotations) = (meta.labels.owned(), meta.annotations.owned());
        said = spec(&mut reader, object, &meta, kind);
    }
    let spec = match said {
        Some(spec) if reader.errors.is_empty() => spec,
        Some(_) | None => ConfigSpec::Rejected(lines(&reader.errors, MAX_REJECTED).into()),
    };
    let origin = reader.origin;
    ConfigObject { origin, kind, namespace, name, labels, annotations, created: born, generation: of, spec }
}

fn spec(reader: &mut Reader, object: &Fields<'_>, meta: &Meta<'_>, kind: ConfigKind) -> Option<ConfigSpec> {
    let at = reader.required(object, "spec", "what the object asks for")?;
    match kind {
        ConfigKind::VirtualService => {
            virtual_service::spec(reader, &at, meta).map(|spec| ConfigSpec::VirtualService(Box::new(spec)))
        }
        ConfigKind::DestinationRule => {
            destination_rule::spec(reader, &at, meta).map(|spec| ConfigSpec::DestinationRule(Box::new(spec)))
        }
        ConfigKind::ServiceEntry => service_entry::spec(reader, &at, meta, object.field("status"))
            .map(|spec| ConfigSpec::ServiceEntry(Box::new(spec))),
        ConfigKind::Telemetry => telemetry::spec(reader, &at, meta).map(|spec| ConfigSpec::Telemetry(Box::new(spec))),
        ConfigKind::Gateway => gateway::spec(reader, &at, meta).map(|spec| ConfigSpec::Gateway(Box::new(spec))),
        ConfigKind::HttpRoute | ConfigKind::GrpcRoute | ConfigKind::TcpRoute => {
            gateway_route::spec(reader, &at, meta, kind).map(|spec| ConfigSpec::Route(Box::new(spec)))
        }
        ConfigKind::ReferenceGrant => {
            reference_grant::spec(reader, &at, meta).map(|spec| ConfigSpec::ReferenceGrant(Box::new(spec)))
        }
    }
}
