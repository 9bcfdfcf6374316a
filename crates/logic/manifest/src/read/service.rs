//! Service, core/v1.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use weir_model::{HealthPolicy, Namespace, Port};

use crate::{
    error::{Cause, Found},
    known,
    object::{Backing, ServiceObject, ServicePortObject, TargetPort},
    read::{Meta, Protocol, address, protocol},
    reader::{At, Fields, Reader},
    tree::Value,
};

const TARGET_PORT: &str = "a port, 1 to 65535, or the name of a container's port";

/// A Service, and whether cluster addresses may be given to it by IPAddress objects.
pub(crate) fn service(reader: &mut Reader, object: &Fields<'_>, meta: &Meta<'_>) -> Option<(ServiceObject, Allot)> {
    let name = meta.label(reader);
    let waypoint = meta.waypoint(reader);
    let spec = reader.required(object, "spec", "a map with ports")?;
    let spec = reader.fields(&spec, known::SERVICE_SPEC)?;
    let backing = backing(reader, &spec);
    let cluster = cluster_ips(reader, &spec);
    let mut external_ips: Vec<IpAddr> = Vec::new();
    for at in reader.items(spec.field("externalIPs")) {
        external_ips.extend(address(reader, &at));
    }
    external_ips.extend(load_balancer(reader, object));
    let selector = reader.texts(spec.field("selector")).owned();
    let ports = ports(reader, &spec);
    let health_policy = match reader.boolean(spec.field("publishNotReadyAddresses")) {
        Some(true) => HealthPolicy::All,
        Some(false) | None => HealthPolicy::OnlyReady,
    };
    let (backing, (cluster_ips, allot)) = (backing?, cluster?);
    let allot = if backing == Backing::ExternalName { Allot::No } else { allot };
    let service = ServiceObject {
        origin: reader.origin.clone(),
        namespace: meta.namespace.clone()?,
        name: name?,
        waypoint,
        cluster_ips,
        external_ips,
        selector,
        ports,
        health_policy,
        backing,
    };
    Some((service, allot))
}

/// Whether a service takes the cluster addresses that IPAddress objects give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allot {
    /// It names none itself.
    Yes,
    /// It names its own, is headless, or is a name elsewhere.
    No,
}

fn backing(reader: &mut Reader, spec: &Fields<'_>) -> Option<Backing> {
    let Some((text, at)) = reader.some_text(spec.field("type")) else { return Some(Backing::Endpoints) };
    match text {
        "ClusterIP" | "NodePort" | "LoadBalancer" => Some(Backing::Endpoints),
        "ExternalName" => {
            let name = reader.required(spec, "externalName", "a DNS name")?;
            reader.text(&name)?;
            Some(Backing::ExternalName)
        }
        _ => reader.expected(&at, "\"ClusterIP\", \"NodePort\", \"LoadBalancer\" or \"ExternalName\""),
    }
}

/// `clusterIPs`, whose first is `clusterIP`; either may stand alone, and `None` means headless.
fn cluster_ips(reader: &mut Reader, spec: &Fields<'_>) -> Option<(Vec<IpAddr>, Allot)> {
    let single = reader.some_text(spec.field("clusterIP"));
    let mut texts = Vec::new();
    for at in reader.items(spec.field("clusterIPs")) {
        texts.extend(reader.text(&at).map(|text| (text, at)));
    }
    match (single, texts.first()) {
        (Some((text, at)), Some((first, _))) if text != *first => {
            reader.fail(&at, Cause::Contradiction { other: "spec.clusterIPs[0]", found: Found::text(text) });
            return None;
        }
        (Some(single), None) => texts.push(single),
        (Some(_) | None, _) => {}
    }
    if let [("None", _)] = texts.as_slice() {
        return Some((Vec::new(), Allot::No));
    }
    let allot = if texts.is_empty() { Allot::Yes } else { Allot::No };
    let ips: Option<Vec<_>> = texts.iter().map(|(_, at)| address(reader, at)).collect();
    Some((ips?, allot))
}

/// Addresses of load balancers that Kubernetes short-cuts to the service from inside the cluster. Those of
/// `ipMode: Proxy` are truly outside.
fn load_balancer(reader: &mut Reader, object: &Fields<'_>) -> Vec<IpAddr> {
    let mut ips = Vec::new();
    let Some(status) = object.field("status").and_then(|at| reader.fields(&at, known::SERVICE_STATUS)) else {
        return ips;
    };
    let Some(balancer) = status.field("loadBalancer").and_then(|at| reader.fields(&at, known::LOAD_BALANCER)) else {
        return ips;
    };
    for at in reader.items(balancer.field("ingress")) {
        let Some(ingress) = reader.fields(&at, known::LOAD_BALANCER_INGRESS) else { continue };
        let outside = reader.some_text(ingress.field("ipMode")).is_some_and(|(mode, _)| mode == "Proxy");
        let ip = reader.some_text(ingress.field("ip")).and_then(|(_, at)| address(reader, &at));
        ips.extend(ip.filter(|_| !outside));
    }
    ips
}

fn ports(reader: &mut Reader, spec: &Fields<'_>) -> Vec<ServicePortObject> {
    let items = reader.items(spec.field("ports"));
    let several = items.len() > 1;
    let mut ports = Vec::new();
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    let mut numbers: BTreeMap<(Port, Protocol), String> = BTreeMap::new();
    for at in &items {
        let Some((protocol, port, name)) = port(reader, at, several) else { continue };
        if let Some((name, place)) = name
            && let Some(first) = names.insert(name, place.path.clone())
        {
            reader.fail(&place, Cause::Repeated { what: "name", first });
        }
        if let Some(first) = numbers.insert((port.port, protocol), at.path.clone()) {
            reader.fail(at, Cause::Repeated { what: "port and protocol", first });
        }
        if protocol == Protocol::Tcp {
            ports.push(port);
        }
    }
    ports
}

type Named<'n> = Option<(&'n str, At<'n>)>;

fn port<'n>(reader: &mut Reader, at: &At<'n>, several: bool) -> Option<(Protocol, ServicePortObject, Named<'n>)> {
    let fields = reader.fields(at, known::SERVICE_PORT)?;
    let name = reader.some_text(fields.field("name"));
    if let Some((_, at)) = &name {
        reader.parse::<Namespace>(at, "a DNS label");
    } else if several {
        reader.fail_at(
            fields.path("name"),
            at.node.line,
            Cause::Missing { expected: "a name, as there are several ports" },
        );
    }
    let protocol = protocol(reader, &fields);
    let app_protocol: Option<Arc<str>> = reader.some_text(fields.field("appProtocol")).map(|(text, _)| text.into());
    let number = reader.required(&fields, "port", "a port, 1 to 65535").and_then(|at| reader.port(&at));
    let target = match fields.field("targetPort") {
        Some(at) => Some(target(reader, &at)?),
        None => None,
    };
    let port = number?;
    let target = match target {
        Some(Some(target)) => target,
        Some(None) | None => TargetPort::Number(port),
    };
    let (text, protocol) = (name.as_ref().map_or("", |(text, _)| text), protocol?);
    Some((protocol, ServicePortObject { name: text.into(), port, target, app_protocol }, name))
}

/// The target port; nothing inside for 0 and empty, which Kubernetes takes as not said.
fn target(reader: &mut Reader, at: &At<'_>) -> Option<Option<TargetPort>> {
    match &at.node.value {
        Value::Int(0) => Some(None),
        Value::Int(number) => match Port::try_from(*number) {
            Ok(port) => Some(Some(TargetPort::Number(port))),
            Err(_) => reader.expected(at, TARGET_PORT),
        },
        Value::Text(text) if text.is_empty() => Some(None),
        Value::Text(text) if text.len() <= 63 && text.chars().any(|c| c.is_ascii_alphabetic()) => {
            Some(Some(TargetPort::Name(text.as_str().into())))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
            reader.expected(at, TARGET_PORT)
        }
    }
}
