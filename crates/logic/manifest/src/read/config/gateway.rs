//! gateway.networking.k8s.io/v1 Gateway.

mod listeners;
mod selector;

use std::sync::Arc;

use weir_model::{Hostname, Port};

use super::references::{bounded, local, name, optional, word};
use crate::{
    error::Cause,
    object::{
        GatewayAddress, GatewayScope, GatewaySpec, InboundBinding, Infrastructure, Labels, ListenerNamespaces,
        WaypointFor,
    },
    read::{Meta, policy::port},
    reader::{At, Fields, Reader},
};

const SPEC: &[&str] =
    &["addresses", "allowedListeners", "defaultScope", "gatewayClassName", "infrastructure", "listeners", "tls"];

const MAX_ADDRESSES: usize = 16;
const MAX_LABELS: usize = 8;
const MAX_ANNOTATIONS: usize = 16;
const MAX_LABEL: usize = 63;
const MAX_ANNOTATION: usize = 4_096;

pub(super) const SCOPES: &[(&str, GatewayScope)] = &[("All", GatewayScope::All), ("None", GatewayScope::None)];
pub(super) const SCOPE: &str = "\"All\" or \"None\"";

const FOR: &[(&str, WaypointFor)] = &[
    ("service", WaypointFor::Service),
    ("workload", WaypointFor::Workload),
    ("all", WaypointFor::All),
    ("none", WaypointFor::None),
];

/// `spec`, and what labels and annotations add to it.
pub(super) fn spec(reader: &mut Reader, at: &At<'_>, meta: &Meta<'_>) -> Option<GatewaySpec> {
    let fields = reader.fields(at, SPEC)?;
    let class = reader.required(&fields, "gatewayClassName", "the name of a GatewayClass");
    let class = class.and_then(|at| name(reader, &at));
    let listeners = listeners::listeners(reader, &fields);
    let addresses = reader.few(fields.field("addresses"), "addresses", MAX_ADDRESSES);
    let addresses = addresses.iter().filter_map(|at| address(reader, at)).collect();
    let infrastructure = optional(reader, &fields, "infrastructure", infrastructure)?.unwrap_or_default();
    let allowed = optional(reader, &fields, "allowedListeners", allowed_listeners);
    let default_scope = optional(reader, &fields, "defaultScope", |reader, at| word(reader, at, SCOPES, SCOPE));
    if let Some(at) = fields.field("tls") {
        drop(reader.fields(&at, &["backend", "frontend"]));
    }
    Some(GatewaySpec {
        class: class?,
        listeners,
        addresses,
        infrastructure,
        allowed_listeners: allowed?.unwrap_or(ListenerNamespaces::None),
        default_scope: default_scope?,
        waypoint_for: waypoint_for(reader, meta),
        inbound_binding: inbound_binding(reader, meta),
    })
}

/// Label `istio.io/waypoint-for`. An empty one says nothing.
fn waypoint_for(reader: &mut Reader, meta: &Meta<'_>) -> Option<WaypointFor> {
    let (_, at) = meta.labels.at("istio.io/waypoint-for").filter(|(text, _)| !text.is_empty())?;
    word(reader, &at, FOR, "\"service\", \"workload\", \"all\" or \"none\"")
}

/// Annotation `ambient.istio.io/waypoint-inbound-binding`. Without a port the agent would not know where to.
fn inbound_binding(reader: &mut Reader, meta: &Meta<'_>) -> Option<InboundBinding> {
    let (text, at) = meta.annotations.at("ambient.istio.io/waypoint-inbound-binding")?;
    match (text, text.strip_prefix("PROXY/").and_then(port)) {
        ("NONE", _) => Some(InboundBinding::None),
        (_, Some(port)) => Some(InboundBinding::Proxy(port)),
        (_, None) => reader.expected(&at, "\"NONE\", or \"PROXY/\" and a port"),
    }
}

fn address(reader: &mut Reader, at: &At<'_>) -> Option<GatewayAddress> {
    const VALUE: &str = "a value of 1 to 253 characters";
    let fields = reader.fields(at, &["type", "value"])?;
    let kind = match fields.field("type") {
        Some(at) => name(reader, &at)?,
        None => "IPAddress".into(),
    };
    // An empty value is none.
    let value = match reader.some_text(fields.field("value")) {
        None => None,
        Some((_, at)) => Some(match &*kind {
            "Hostname" => reader.name::<Hostname>(&at)?.as_str().into(),
            "IPAddress" => reader.parse::<std::net::IpAddr>(&at, "an IPv4 or IPv6 address")?.to_string().into(),
            _ => Arc::from(bounded(reader, &at, 253, VALUE)?),
        }),
    };
    Some(GatewayAddress { kind, value })
}

fn infrastructure(reader: &mut Reader, at: &At<'_>) -> Option<Infrastructure> {
    let fields = reader.fields(at, &["annotations", "labels", "parametersRef"])?;
    Some(Infrastructure {
        labels: labels(reader, &fields, "labels", MAX_LABELS, MAX_LABEL),
        annotations: labels(reader, &fields, "annotations", MAX_ANNOTATIONS, MAX_ANNOTATION),
        parameters: optional(reader, &fields, "parametersRef", local)?,
    })
}

/// A map of texts, of so many entries of so many bytes.
fn labels(reader: &mut Reader, fields: &Fields<'_>, name: &'static str, max: usize, max_value: usize) -> Labels {
    let at = fields.field(name);
    let labels = reader.texts(at.clone()).owned();
    if let Some(at) = &at {
        if labels.len() > max {
            reader.fail(at, Cause::Exceeds { what: name, max });
        } else if labels.values().any(|value| value.len() > max_value) {
            reader.fail(at, Cause::Exceeds { what: "bytes in one value", max: max_value });
        }
    }
    labels
}

fn allowed_listeners(reader: &mut Reader, at: &At<'_>) -> Option<ListenerNamespaces> {
    let fields = reader.fields(at, &["namespaces"])?;
    let Some(at) = fields.field("namespaces") else { return Some(ListenerNamespaces::None) };
    let fields = reader.fields(&at, &["from", "selector"])?;
    let selector = optional(reader, &fields, "selector", selector::selector)?.unwrap_or_default();
    let Some(at) = fields.field("from") else { return Some(ListenerNamespaces::None) };
    match reader.text(&at)? {
        "All" => Some(ListenerNamespaces::All),
        "Same" => Some(ListenerNamespaces::Same),
        "None" => Some(ListenerNamespaces::None),
        "Selector" => Some(ListenerNamespaces::Selector(selector)),
        _ => reader.expected(&at, "\"All\", \"Selector\", \"Same\" or \"None\""),
    }
}

/// A port that must be there.
fn required_port(reader: &mut Reader, fields: &Fields<'_>) -> Option<Port> {
    reader.required(fields, "port", "a port, 1 to 65535").and_then(|at| reader.port(&at))
}

#[cfg(test)]
mod tests;
