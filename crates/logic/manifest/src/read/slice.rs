//! EndpointSlice, discovery.k8s.io/v1.

use std::{net::IpAddr, sync::Arc};

use weir_model::Namespace;

use crate::{
    known,
    object::{EndpointHealth, EndpointSliceObject, SliceEndpoint, SlicePort},
    read::{Meta, Protocol, address, protocol},
    reader::{At, Fields, Reader},
};

/// `addressType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AddressType {
    V4,
    V6,
    Fqdn,
}

/// An EndpointSlice.
pub(crate) fn slice(reader: &mut Reader, object: &Fields<'_>, meta: &Meta<'_>) -> Option<EndpointSliceObject> {
    let name = meta.subdomain(reader);
    let service = meta.labels.at("kubernetes.io/service-name").map(|(text, _)| text.into());
    let kind = reader.required(object, "addressType", "\"IPv4\", \"IPv6\" or \"FQDN\"")?;
    let kind = match reader.text(&kind)? {
        "IPv4" => AddressType::V4,
        "IPv6" => AddressType::V6,
        "FQDN" => AddressType::Fqdn,
        _ => return reader.expected(&kind, "\"IPv4\", \"IPv6\" or \"FQDN\""),
    };
    let namespace = meta.namespace.clone();
    let mut endpoints = Vec::new();
    for at in reader.items(object.field("endpoints")) {
        endpoints.extend(endpoint(reader, &at, kind, namespace.as_ref()));
    }
    let mut ports = Vec::new();
    for at in reader.items(object.field("ports")) {
        ports.extend(port(reader, &at));
    }
    if kind == AddressType::Fqdn {
        endpoints.clear();
    }
    Some(EndpointSliceObject {
        origin: reader.origin.clone(),
        namespace: namespace?,
        name: name?,
        service,
        endpoints,
        ports,
    })
}

fn endpoint(reader: &mut Reader, at: &At<'_>, kind: AddressType, own: Option<&Namespace>) -> Option<SliceEndpoint> {
    let fields = reader.fields(at, known::ENDPOINT)?;
    let list = reader.required(&fields, "addresses", "a list of addresses");
    let mut addresses: Vec<IpAddr> = Vec::new();
    for at in reader.items(list) {
        match kind {
            AddressType::Fqdn => drop(reader.text(&at)),
            AddressType::V4 | AddressType::V6 => addresses.extend(of_family(reader, &at, kind)),
        }
    }
    let health = fields.field("conditions").and_then(|at| conditions(reader, &at)).unwrap_or(EndpointHealth::Ready);
    let pod = fields.field("targetRef").and_then(|at| target(reader, &at, own));
    Some(SliceEndpoint { addresses, health, pod })
}

fn of_family(reader: &mut Reader, at: &At<'_>, kind: AddressType) -> Option<IpAddr> {
    let ip = address(reader, at)?;
    match (kind, ip) {
        (AddressType::V4, IpAddr::V4(_)) | (AddressType::V6, IpAddr::V6(_)) => Some(ip),
        (AddressType::V4, IpAddr::V6(_)) => reader.expected(at, "an IPv4 address, as addressType says"),
        (AddressType::V6 | AddressType::Fqdn, _) => reader.expected(at, "an IPv6 address, as addressType says"),
    }
}

fn conditions(reader: &mut Reader, at: &At<'_>) -> Option<EndpointHealth> {
    let fields = reader.fields(at, known::ENDPOINT_CONDITIONS)?;
    reader.boolean(fields.field("serving"));
    reader.boolean(fields.field("terminating"));
    match reader.boolean(fields.field("ready")) {
        Some(false) => Some(EndpointHealth::NotReady),
        Some(true) | None => Some(EndpointHealth::Ready),
    }
}

fn target(reader: &mut Reader, at: &At<'_>, own: Option<&Namespace>) -> Option<(Namespace, Arc<str>)> {
    let fields = reader.fields(at, known::OBJECT_REFERENCE)?;
    let kind = reader.some_text(fields.field("kind")).map_or("", |(text, _)| text);
    let namespace = match reader.some_text(fields.field("namespace")) {
        Some((_, at)) => reader.name(&at),
        None => own.cloned(),
    };
    if kind != "Pod" {
        return None;
    }
    let name = reader.required(&fields, "name", "the name of the pod");
    let name = reader.text(&name?)?;
    Some((namespace?, name.into()))
}

fn port(reader: &mut Reader, at: &At<'_>) -> Option<SlicePort> {
    let fields = reader.fields(at, known::ENDPOINT_PORT)?;
    let protocol = protocol(reader, &fields);
    let name = reader.some_text(fields.field("name")).map_or("", |(text, _)| text);
    let port = match fields.field("port") {
        Some(at) => Some(reader.port(&at)?),
        None => None,
    };
    (protocol? == Protocol::Tcp).then(|| SlicePort { name: name.into(), port })
}
