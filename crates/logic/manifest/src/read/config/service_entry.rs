//! networking.istio.io/v1 ServiceEntry, and the addresses that its status gives to its hosts.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU32, sync::Arc};

use ipnet::IpNet;
use weir_model::{Hostname, Locality, Network, Port, ServiceAccount, canonical_ip};

use super::scalar::{Remarks, export_to, whole};
use crate::{
    error::Cause,
    object::{EntryAddress, EntryEndpoint, EntryPort, EntryResolution, Labels, Location, ServiceEntrySpec},
    read::Meta,
    reader::{At, Fields, Reader},
    tree::Value,
};

const SPEC: &[&str] = &[
    "addresses",
    "endpoints",
    "exportTo",
    "hosts",
    "location",
    "ports",
    "resolution",
    "subjectAltNames",
    "workloadSelector",
];
const PORT: &[&str] = &["name", "number", "protocol", "targetPort"];
const ENDPOINT: &[&str] = &["address", "labels", "locality", "network", "ports", "serviceAccount", "weight"];

// Bounds of Istio's CustomResourceDefinition.
const MAX_HOSTS: usize = 256;
const MAX_ADDRESSES: usize = 256;
const MAX_PORTS: usize = 256;
const MAX_ENDPOINTS: usize = 4_096;
const MAX_ENDPOINT_PORTS: usize = 128;
const MAX_LABELS: usize = 256;
const MAX_LABEL_CHARS: usize = 63;
const MAX_PATH: usize = 256;
/// Most names that certificates of its endpoints may be for. Ours.
const MAX_NAMES: usize = 256;

const PROTOCOLS: &str = "HTTP, HTTP2, HTTPS, GRPC, GRPC-WEB, MONGO, MYSQL, REDIS, TCP, TLS or UDP";
const LOCALITY: &str = "region/zone/subzone, each part but the first optional and of at most 63 bytes";

/// `spec`, and what of `status` gives it addresses.
pub(super) fn spec(
    reader: &mut Reader,
    at: &At<'_>,
    meta: &Meta<'_>,
    status: Option<At<'_>>,
) -> Option<ServiceEntrySpec> {
    let spec = reader.fields(at, SPEC)?;
    let mut remarks = Remarks::default();
    let resolution = resolution(reader, &spec);
    let location = match reader.some_text(spec.field("location")) {
        None | Some(("MESH_EXTERNAL", _)) => Some(Location::External),
        Some(("MESH_INTERNAL", _)) => Some(Location::Internal),
        Some((_, at)) => reader.expected(&at, "\"MESH_EXTERNAL\" or \"MESH_INTERNAL\""),
    };
    let names = reader.few(spec.field("subjectAltNames"), "names", MAX_NAMES);
    let subject_alt_names: Vec<Arc<str>> = names.iter().filter_map(|at| reader.text(at).map(Arc::from)).collect();
    let read = ServiceEntrySpec {
        hosts: hosts(reader, &spec),
        addresses: addresses(reader, &spec),
        ports: ports(reader, &mut remarks, &spec),
        location: location.unwrap_or_default(),
        resolution: resolution.unwrap_or_default(),
        endpoints: endpoints(reader, &mut remarks, &spec),
        selector: spec.field("workloadSelector").and_then(|at| selector(reader, &at)),
        export_to: export_to(reader, &spec),
        subject_alt_names,
        allotted: status.map(|at| allotted(reader, &at)).unwrap_or_default(),
        waypoint: meta.waypoint(reader),
        remarks: remarks.0,
    };
    together(reader, &spec, &read);
    (location.is_some() && resolution.is_some() && !read.hosts.is_empty()).then_some(read)
}

fn resolution(reader: &mut Reader, spec: &Fields<'_>) -> Option<EntryResolution> {
    match reader.some_text(spec.field("resolution")) {
        None | Some(("NONE", _)) => Some(EntryResolution::None),
        Some(("STATIC", _)) => Some(EntryResolution::Static),
        Some(("DNS", _)) => Some(EntryResolution::Dns),
        Some(("DNS_ROUND_ROBIN", _)) => Some(EntryResolution::DnsRoundRobin),
        Some(("DYNAMIC_DNS", _)) => Some(EntryResolution::DynamicDns),
        Some((_, at)) => reader.expected(&at, "\"NONE\", \"STATIC\", \"DNS\", \"DNS_ROUND_ROBIN\" or \"DYNAMIC_DNS\""),
    }
}

/// What may stand together: the rules of Istio's CustomResourceDefinition and of its validation.
fn together(reader: &mut Reader, spec: &Fields<'_>, read: &ServiceEntrySpec) {
    let mut fail = |field: &str, cause| reader.fail_at(spec.path(field), spec.line(field), cause);
    let there = |field: &str| spec.field(field).is_some();
    if there("workloadSelector") && there("endpoints") {
        fail("endpoints", Cause::NotWith { other: "workloadSelector" });
    }
    match read.resolution {
        EntryResolution::None if there("endpoints") => fail("endpoints", Cause::NotWith { other: "resolution NONE" }),
        EntryResolution::DnsRoundRobin if read.endpoints.len() > 1 => {
            fail("endpoints", Cause::Exceeds { what: "endpoints with DNS_ROUND_ROBIN", max: 1 });
        }
        EntryResolution::None
        | EntryResolution::Static
        | EntryResolution::Dns
        | EntryResolution::DnsRoundRobin
        | EntryResolution::DynamicDns => {}
    }
    let ranges = read.addresses.iter().any(|net| net.prefix_len() < net.max_prefix_len());
    let named = |endpoint: &EntryEndpoint| matches!(endpoint.address, EntryAddress::Host(_));
    match read.resolution {
        EntryResolution::None => {}
        EntryResolution::Static => {
            if read.endpoints.iter().any(named) {
                fail("endpoints", Cause::NotWith { other: "resolution STATIC, where an endpoint is a name" });
            }
        }
        EntryResolution::Dns | EntryResolution::DnsRoundRobin | EntryResolution::DynamicDns => {
            if ranges {
                fail("addresses", Cause::NotWith { other: "a resolution by DNS, where an address is a range" });
            }
        }
    }
}

fn hosts(reader: &mut Reader, spec: &Fields<'_>) -> Vec<Hostname> {
    let Some(at) = reader.required(spec, "hosts", "at least one host") else { return Vec::new() };
    let items = reader.few(Some(at.clone()), "hosts", MAX_HOSTS);
    let mut hosts: Vec<Hostname> = Vec::new();
    for at in &items {
        let Some(host) = reader.name::<Hostname>(at) else { continue };
        match hosts.iter().position(|other| *other == host) {
            Some(first) => {
                reader.fail(at, Cause::Repeated { what: "host", first: format!("{}[{first}]", spec.path("hosts")) });
            }
            None => hosts.push(host),
        }
    }
    if matches!(&at.node.value, Value::List(items) if items.is_empty()) {
        reader.expected::<()>(&at, "at least one host");
    }
    hosts
}

/// An address or a range, canonical.
fn addresses(reader: &mut Reader, spec: &Fields<'_>) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = Vec::new();
    for at in reader.few(spec.field("addresses"), "addresses", MAX_ADDRESSES) {
        let Some(text) = reader.text(&at) else { continue };
        let net = match text.parse::<IpAddr>() {
            Ok(ip) => Some(IpNet::from(canonical_ip(ip))),
            Err(_) => text.parse::<IpNet>().ok().map(|net| net.trunc()),
        };
        match net {
            Some(net) if !nets.contains(&net) => nets.push(net),
            Some(_) => {}
            None => drop(reader.expected::<()>(&at, "an IPv4 or IPv6 address, or a range such as 10.0.0.0/8")),
        }
    }
    nets
}

fn ports(reader: &mut Reader, remarks: &mut Remarks, spec: &Fields<'_>) -> Vec<EntryPort> {
    let mut ports = Vec::new();
    let (mut names, mut numbers) = (BTreeMap::new(), BTreeMap::new());
    for at in reader.few(spec.field("ports"), "ports", MAX_PORTS) {
        let Some(port) = port(reader, &at) else { continue };
        if let Some(first) = names.insert(port.name.clone(), at.path.clone()) {
            reader.fail(&at, Cause::Repeated { what: "name", first });
        }
        if let Some(first) = numbers.insert(port.number, at.path.clone()) {
            reader.fail(&at, Cause::Repeated { what: "port", first });
        }
        match &*port.protocol {
            "udp" => remarks.unsupported(at.path, "the mesh carries no UDP: it goes past it"),
            _ => ports.push(port),
        }
    }
    ports
}

fn port(reader: &mut Reader, at: &At<'_>) -> Option<EntryPort> {
    let fields = reader.fields(at, PORT)?;
    let number = reader.required(&fields, "number", "a port, 1 to 65535").and_then(|at| reader.port(&at));
    let name = reader.required(&fields, "name", "the port's name").and_then(|at| port_name(reader, &at));
    let target = fields.field("targetPort").map(|at| reader.port(&at));
    let protocol: Arc<str> = match reader.some_text(fields.field("protocol")) {
        None => "".into(),
        Some((text, at)) => {
            let text = text.to_ascii_lowercase();
            match &*text {
                "http" | "http2" | "https" | "grpc" | "grpc-web" | "mongo" | "mysql" | "redis" | "tcp" | "tls"
                | "udp" => text.into(),
                _ => reader.expected(&at, PROTOCOLS)?,
            }
        }
    };
    let target = match target {
        Some(target) => Some(target?),
        None => None,
    };
    Some(EntryPort { name: name?, number: number?, protocol, target })
}

fn port_name(reader: &mut Reader, at: &At<'_>) -> Option<Arc<str>> {
    let text = reader.text(at)?;
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let ends = !text.starts_with('-') && !text.ends_with('-');
    if (1..=63).contains(&text.len()) && ends && text.bytes().all(inside) {
        return Some(text.into());
    }
    reader.expected(at, "1 to 63 letters and digits, '-' inside")
}

fn endpoints(reader: &mut Reader, remarks: &mut Remarks, spec: &Fields<'_>) -> Vec<EntryEndpoint> {
    let items = reader.few(spec.field("endpoints"), "endpoints", MAX_ENDPOINTS);
    items.iter().filter_map(|at| endpoint(reader, remarks, at)).collect()
}

fn endpoint(reader: &mut Reader, remarks: &mut Remarks, at: &At<'_>) -> Option<EntryEndpoint> {
    let fields = reader.fields(at, ENDPOINT)?;
    let network = reader.some_text(fields.field("network")).map(|(_, at)| reader.name::<Network>(&at));
    let address = match reader.some_text(fields.field("address")) {
        Some((text, at)) => address(reader, text, &at),
        None if network.is_some() => Some(EntryAddress::OfNetwork),
        None => {
            let cause = Cause::Missing { expected: "an address, or a network" };
            reader.fail_at(fields.path("address"), at.node.line, cause);
            None
        }
    };
    let ports = endpoint_ports(reader, &fields);
    if let (Some(EntryAddress::Unix(_)), Some(at)) = (&address, fields.field("ports")) {
        reader.fail(&at, Cause::NotWith { other: "an address that is a Unix socket" });
    }
    let labels = labels(reader, fields.field("labels"));
    let locality = match reader.some_text(fields.field("locality")) {
        Some((text, at)) => locality(reader, text, &at)?,
        None => Locality::default(),
    };
    let weight = whole(reader, fields.field("weight")).and_then(NonZeroU32::new);
    if weight.is_some_and(|weight| weight.get() > 1) {
        remarks.unsupported(fields.path("weight"), "all endpoints of a ServiceEntry weigh the same");
    }
    let account = reader.some_text(fields.field("serviceAccount")).map(|(_, at)| reader.name::<ServiceAccount>(&at));
    let address = address?;
    match &address {
        EntryAddress::Unix(_) => remarks.unsupported(at.path.clone(), "Unix sockets are not connected to"),
        EntryAddress::OfNetwork => remarks.unsupported(at.path.clone(), "gateways of other networks are not known"),
        EntryAddress::Ip(_) | EntryAddress::Host(_) => {}
    }
    let (network, service_account) = (flat(network)?, flat(account)?);
    Some(EntryEndpoint { address, ports, labels, network, locality, weight, service_account })
}

/// Said and legal, or not said; nothing for what is not legal.
fn flat<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        Some(value) => value.map(Some),
        None => Some(None),
    }
}

fn address(reader: &mut Reader, text: &str, at: &At<'_>) -> Option<EntryAddress> {
    if let Some(path) = text.strip_prefix("unix://") {
        if text.len() <= MAX_PATH && path.starts_with(['/', '@']) && !path.ends_with('/') {
            return Some(EntryAddress::Unix(path.into()));
        }
        return reader.expected(at, "unix:// and the path of a socket, absolute or abstract (@), at most 256 bytes");
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(EntryAddress::Ip(canonical_ip(ip)));
    }
    match text.parse::<Hostname>() {
        Ok(host) if !text.starts_with('*') => Some(EntryAddress::Host(host)),
        Ok(_) | Err(_) => reader.expected(at, "an IPv4 or IPv6 address, a host name, or unix:// and a path"),
    }
}

fn endpoint_ports(reader: &mut Reader, fields: &Fields<'_>) -> BTreeMap<Arc<str>, Port> {
    let mut ports = BTreeMap::new();
    let Some(at) = fields.field("ports") else { return ports };
    let Some(map) = reader.map(&at) else { return ports };
    if map.len() > MAX_ENDPOINT_PORTS {
        reader.fail(&at, Cause::Exceeds { what: "ports", max: MAX_ENDPOINT_PORTS });
        return ports;
    }
    for (name, at) in map.all() {
        ports.extend(reader.port(&at).map(|port| (Arc::from(name), port)));
    }
    ports
}

fn locality(reader: &mut Reader, text: &str, at: &At<'_>) -> Option<Locality> {
    let parts: Vec<&str> = text.split('/').collect();
    if parts.len() > 3 || parts.iter().any(|part| part.is_empty() || part.len() > 63) {
        return reader.expected(at, LOCALITY);
    }
    let part = |i: usize| parts.get(i).copied().unwrap_or_default().into();
    Some(Locality { region: part(0), zone: part(1), subzone: part(2) })
}

fn selector(reader: &mut Reader, at: &At<'_>) -> Option<Labels> {
    let fields = reader.fields(at, &["labels"])?;
    Some(labels(reader, fields.field("labels")))
}

fn labels(reader: &mut Reader, at: Option<At<'_>>) -> Labels {
    let texts = reader.texts(at.clone()).owned();
    let legal = |(key, value): (&Arc<str>, &Arc<str>)| {
        !key.is_empty() && !value.contains('*') && value.chars().count() <= MAX_LABEL_CHARS
    };
    if let Some(at) = at
        && (texts.len() > MAX_LABELS || !texts.iter().all(legal))
    {
        reader.expected::<()>(&at, "at most 256 labels, each value of at most 63 characters and without '*'");
    }
    texts
}

/// `status.addresses`. A control plane writes it, so that a field nobody here knows is no typo.
fn allotted(reader: &mut Reader, at: &At<'_>) -> Vec<(Option<Hostname>, IpAddr)> {
    let Some(status) = reader.map(at) else { return Vec::new() };
    let mut given = Vec::new();
    for at in reader.few(status.field("addresses"), "addresses", 2 * MAX_HOSTS) {
        let Some(fields) = reader.map(&at) else { continue };
        let host = reader.some_text(fields.field("host")).map(|(_, at)| reader.name::<Hostname>(&at));
        let value = fields.field("value").and_then(|at| crate::read::address(reader, &at));
        if let (Some(host), Some(ip)) = (flat(host), value) {
            given.push((host, ip));
        }
    }
    given
}

#[cfg(test)]
mod tests;
