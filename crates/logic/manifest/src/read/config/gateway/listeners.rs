//! `listeners` of a Gateway.

use std::sync::Arc;

use weir_model::Hostname;

use super::{required_port, selector::selector};
use crate::{
    error::Cause,
    object::{Listener, RouteNamespaces, TlsMode},
    read::config::references::{GROUP, bounded, distinct, group, kind, optional, subdomain, word},
    reader::{At, Fields, Reader},
};

const LISTENER: &[&str] = &["allowedRoutes", "hostname", "name", "port", "protocol", "tls"];

const MAX_LISTENERS: usize = 64;
const MAX_KINDS: usize = 8;
const MAX_CERTIFICATES: usize = 64;
const MAX_PROTOCOL: usize = 255;

/// All of them.
pub(super) fn listeners(reader: &mut Reader, spec: &Fields<'_>) -> Vec<Listener> {
    let Some(at) = reader.required(spec, "listeners", "a list of 1 to 64") else { return Vec::new() };
    let told = reader.told;
    let items = reader.few(Some(at.clone()), "listeners", MAX_LISTENERS);
    if items.is_empty() && reader.told == told {
        reader.expected::<()>(&at, "a list of 1 to 64");
    }
    let listeners: Vec<(Listener, At<'_>)> =
        items.into_iter().filter_map(|at| Some((listener(reader, &at)?, at))).collect();
    let names: Vec<_> = listeners.iter().map(|(one, at)| (one.name.clone(), at.clone())).collect();
    distinct(reader, &names, "name");
    let places: Vec<_> = listeners
        .iter()
        .map(|(one, at)| ((one.port, one.protocol.clone(), one.hostname.clone()), at.clone()))
        .collect();
    distinct(reader, &places, "port, protocol and hostname");
    listeners.into_iter().map(|(listener, _)| listener).collect()
}

fn listener(reader: &mut Reader, at: &At<'_>) -> Option<Listener> {
    let fields = reader.fields(at, LISTENER)?;
    let name = reader.required(&fields, "name", "the listener's name").and_then(|at| subdomain(reader, &at));
    let port = required_port(reader, &fields);
    let protocol = reader.required(&fields, "protocol", "a protocol such as HTTP");
    let protocol = protocol.and_then(|at| protocol_of(reader, &at));
    let hostname = match reader.some_text(fields.field("hostname")) {
        Some((_, at)) => Some(reader.name::<Hostname>(&at)?),
        None => None,
    };
    let (namespaces, kinds) = optional(reader, &fields, "allowedRoutes", allowed_routes)?.unwrap_or(SAME);
    let tls = optional(reader, &fields, "tls", tls)?;
    let listener = Listener { name: name?, port: port?, protocol: protocol?, hostname, namespaces, kinds, tls };
    let wrong = match (&*listener.protocol, listener.tls) {
        ("HTTP" | "TCP" | "UDP", Some(_)) => Some("no tls: the protocol has none"),
        ("HTTPS", Some(TlsMode::Passthrough)) => Some("tls of mode Terminate: the protocol is HTTPS"),
        ("TLS", None) => Some("tls with a mode: the protocol is TLS"),
        _ => None,
    };
    if let Some(expected) = wrong {
        return reader.expected(&fields.field("tls").unwrap_or_else(|| at.clone()), expected);
    }
    if let ("TCP" | "UDP", Some(at)) = (&*listener.protocol, fields.field("hostname"))
        && listener.hostname.is_some()
    {
        return reader.expected(&at, "no hostname: the protocol has none");
    }
    Some(listener)
}

fn protocol_of(reader: &mut Reader, at: &At<'_>) -> Option<Arc<str>> {
    const EXPECTED: &str = "a protocol such as \"HTTP\", or \"example.com/name\" for one of somebody's own";
    let text = bounded(reader, at, MAX_PROTOCOL, EXPECTED)?;
    let is_of_it = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '/');
    if text.chars().all(is_of_it) { Some(text.into()) } else { reader.expected(at, EXPECTED) }
}

type Allowed = (RouteNamespaces, Vec<(Arc<str>, Arc<str>)>);

/// What is allowed when nothing is said.
const SAME: Allowed = (RouteNamespaces::Same, Vec::new());

fn allowed_routes(reader: &mut Reader, at: &At<'_>) -> Option<Allowed> {
    let fields = reader.fields(at, &["kinds", "namespaces"])?;
    let items = reader.few(fields.field("kinds"), "kinds", MAX_KINDS);
    let kinds = items.iter().filter_map(|at| allowed_kind(reader, at)).collect();
    Some((optional(reader, &fields, "namespaces", namespaces)?.unwrap_or(RouteNamespaces::Same), kinds))
}

fn allowed_kind(reader: &mut Reader, at: &At<'_>) -> Option<(Arc<str>, Arc<str>)> {
    let fields = reader.fields(at, &["group", "kind"])?;
    let of_group = optional(reader, &fields, "group", group);
    let of_kind = reader.required(&fields, "kind", "a kind of route").and_then(|at| kind(reader, &at));
    Some((of_group?.unwrap_or_else(|| GROUP.into()), of_kind?))
}

fn namespaces(reader: &mut Reader, at: &At<'_>) -> Option<RouteNamespaces> {
    let fields = reader.fields(at, &["from", "selector"])?;
    let selector = optional(reader, &fields, "selector", selector)?;
    let Some(at) = fields.field("from") else { return Some(RouteNamespaces::Same) };
    match (reader.text(&at)?, selector) {
        ("All", _) => Some(RouteNamespaces::All),
        ("Same", _) => Some(RouteNamespaces::Same),
        ("Selector", Some(selector)) => Some(RouteNamespaces::Selector(selector)),
        ("Selector", None) => {
            reader.fail(&at, Cause::OnlyWith { other: "selector" });
            None
        }
        (_, Some(_) | None) => reader.expected(&at, "\"All\", \"Selector\" or \"Same\""),
    }
}

/// Certificates are not read: no listener of the mesh has any of its own.
fn tls(reader: &mut Reader, at: &At<'_>) -> Option<TlsMode> {
    const MODES: &[(&str, TlsMode)] = &[("Terminate", TlsMode::Terminate), ("Passthrough", TlsMode::Passthrough)];
    let fields = reader.fields(at, &["certificateRefs", "mode", "options"])?;
    drop(reader.few(fields.field("certificateRefs"), "certificateRefs", MAX_CERTIFICATES));
    drop(reader.texts(fields.field("options")));
    let mode = |reader: &mut Reader, at: &At<'_>| word(reader, at, MODES, "\"Terminate\" or \"Passthrough\"");
    Some(optional(reader, &fields, "mode", mode)?.unwrap_or(TlsMode::Terminate))
}
