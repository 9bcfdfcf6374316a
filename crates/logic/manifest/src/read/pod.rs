//! Pod, core/v1.

use std::{net::IpAddr, path::PathBuf};

use weir_model::{Health, NetworkMode, NodeName, ServiceAccount};

use crate::{
    error::{Cause, Found},
    known,
    object::{ContainerPort, Phase, PodObject, Sidecar},
    read::{Meta, Protocol, address, protocol},
    reader::{At, Fields, Reader},
};

const SIDECAR_CONTAINER: &str = "istio-proxy";
const SIDECAR_ANNOTATION: &str = "sidecar.istio.io/status";
const NETNS_ANNOTATION: &str = "weir.dev/netns";

#[derive(Default)]
struct Containers {
    ports: Vec<ContainerPort>,
    sidecar: bool,
}

struct Spec {
    containers: Containers,
    service_account: Option<ServiceAccount>,
    node: Option<NodeName>,
    network_mode: NetworkMode,
}

struct Status {
    phase: Phase,
    addresses: Vec<IpAddr>,
    ready: bool,
}

/// A Pod.
pub(crate) fn pod(reader: &mut Reader, object: &Fields<'_>, meta: &Meta<'_>) -> Option<PodObject> {
    let name = meta.subdomain(reader);
    let mode = meta.mode(reader);
    let waypoint = meta.waypoint(reader);
    let network = meta.labels.at("topology.istio.io/network").and_then(|(_, at)| reader.name(&at));
    let netns = netns(reader, meta);
    let spec = reader.required(object, "spec", "a map with containers").and_then(|at| spec(reader, &at));
    let status = match object.field("status") {
        Some(at) => status(reader, &at),
        None => Some(Status { phase: Phase::Pending, addresses: Vec::new(), ready: false }),
    };
    let (spec, status) = (spec?, status?);
    let sidecar = spec.containers.sidecar || meta.annotations.at(SIDECAR_ANNOTATION).is_some();
    Some(PodObject {
        origin: reader.origin.clone(),
        namespace: meta.namespace.clone()?,
        name: name?,
        incarnation: meta.uid.unwrap_or_default().into(),
        labels: meta.labels.owned(),
        mode,
        waypoint,
        network,
        netns,
        owner: meta.owner.clone(),
        service_account: spec.service_account?,
        node: spec.node,
        network_mode: spec.network_mode,
        sidecar: if sidecar { Sidecar::Present } else { Sidecar::Absent },
        ports: spec.containers.ports,
        phase: status.phase,
        addresses: status.addresses,
        health: if status.ready && !meta.terminating { Health::Healthy } else { Health::Unhealthy },
    })
}

fn netns(reader: &mut Reader, meta: &Meta<'_>) -> Option<PathBuf> {
    let (text, at) = meta.annotations.at(NETNS_ANNOTATION)?;
    let path = PathBuf::from(text);
    if path.is_absolute() && !text.contains('\0') { Some(path) } else { reader.expected(&at, "an absolute path") }
}

fn spec(reader: &mut Reader, at: &At<'_>) -> Option<Spec> {
    let fields = reader.fields(at, known::POD_SPEC)?;
    let mut containers = Containers::default();
    reader.required(&fields, "containers", "a list of containers");
    for list in ["containers", "initContainers"] {
        for at in reader.items(fields.field(list)) {
            container(reader, &at, &mut containers);
        }
    }
    Some(Spec {
        containers,
        service_account: service_account(reader, &fields),
        node: reader.some_text(fields.field("nodeName")).and_then(|(_, at)| reader.name(&at)),
        network_mode: match reader.boolean(fields.field("hostNetwork")) {
            Some(true) => NetworkMode::HostNetwork,
            Some(false) | None => NetworkMode::Standard,
        },
    })
}

/// `serviceAccountName`, or its older name; the two may not differ.
fn service_account(reader: &mut Reader, fields: &Fields<'_>) -> Option<ServiceAccount> {
    let new = reader.some_text(fields.field("serviceAccountName"));
    let old = reader.some_text(fields.field("serviceAccount"));
    if let (Some((new, _)), Some((old, at))) = (&new, &old)
        && new != old
    {
        reader.fail(at, Cause::Contradiction { other: "spec.serviceAccountName", found: Found::text(old) });
    }
    match new.or(old) {
        Some((_, at)) => reader.name(&at),
        None => "default".parse().ok(),
    }
}

fn container(reader: &mut Reader, at: &At<'_>, containers: &mut Containers) -> Option<()> {
    let fields = reader.fields(at, known::CONTAINER)?;
    for at in reader.items(fields.field("ports")) {
        containers.ports.extend(container_port(reader, &at));
    }
    let name = reader.required(&fields, "name", "the container's name")?;
    containers.sidecar |= reader.text(&name)? == SIDECAR_CONTAINER;
    Some(())
}

/// A named TCP port; others cannot be asked for by name.
fn container_port(reader: &mut Reader, at: &At<'_>) -> Option<ContainerPort> {
    let fields = reader.fields(at, known::CONTAINER_PORT)?;
    let protocol = protocol(reader, &fields);
    let name = reader.some_text(fields.field("name"));
    let port = reader.required(&fields, "containerPort", "a port, 1 to 65535")?;
    let port = reader.port(&port)?;
    let (name, _) = name?;
    (protocol? == Protocol::Tcp).then(|| ContainerPort { name: name.into(), port })
}

fn status(reader: &mut Reader, at: &At<'_>) -> Option<Status> {
    let fields = reader.fields(at, known::POD_STATUS)?;
    let phase = phase(reader, &fields);
    let mut ready = false;
    for at in reader.items(fields.field("conditions")) {
        ready |= is_ready(reader, &at).unwrap_or(false);
    }
    let errors = reader.errors.len();
    let addresses = addresses(reader, &fields);
    if addresses.is_empty() && phase == Some(Phase::Running) && reader.errors.len() == errors {
        let cause = Cause::Missing { expected: "an address, as every running pod has one" };
        reader.fail_at(fields.path("podIP"), fields.line("phase"), cause);
    }
    Some(Status { phase: phase?, addresses, ready })
}

fn phase(reader: &mut Reader, fields: &Fields<'_>) -> Option<Phase> {
    let Some((text, at)) = reader.some_text(fields.field("phase")) else { return Some(Phase::Pending) };
    match text {
        "Pending" => Some(Phase::Pending),
        "Running" => Some(Phase::Running),
        "Succeeded" => Some(Phase::Succeeded),
        "Failed" => Some(Phase::Failed),
        "Unknown" => Some(Phase::Unknown),
        _ => reader.expected(&at, "\"Pending\", \"Running\", \"Succeeded\", \"Failed\" or \"Unknown\""),
    }
}

fn is_ready(reader: &mut Reader, at: &At<'_>) -> Option<bool> {
    let fields = reader.fields(at, known::POD_CONDITION)?;
    let kind = reader.required(&fields, "type", "the condition's type");
    let status = reader.required(&fields, "status", "\"True\", \"False\" or \"Unknown\"");
    let kind = reader.text(&kind?)?;
    let status = status?;
    match reader.text(&status)? {
        "True" => Some(kind == "Ready"),
        "False" | "Unknown" => Some(false),
        _ => reader.expected(&status, "\"True\", \"False\" or \"Unknown\""),
    }
}

/// `podIPs`, whose first is `podIP`; either may stand alone.
fn addresses(reader: &mut Reader, fields: &Fields<'_>) -> Vec<IpAddr> {
    let first = reader.some_text(fields.field("podIP")).and_then(|(_, at)| Some((address(reader, &at)?, at)));
    let mut all = Vec::new();
    for at in reader.items(fields.field("podIPs")) {
        let Some(item) = reader.fields(&at, known::POD_IP) else { continue };
        let Some(at) = reader.required(&item, "ip", "an IPv4 or IPv6 address") else { continue };
        let Some(ip) = address(reader, &at) else { continue };
        match all.iter().position(|other| *other == ip) {
            Some(i) => {
                reader.fail(&at, Cause::Repeated { what: "address", first: format!("status.podIPs[{i}].ip") });
            }
            None => all.push(ip),
        }
    }
    match (first, all.first()) {
        (Some((first, at)), Some(other)) if first != *other => {
            let found = Found::text(&first.to_string());
            reader.fail(&at, Cause::Contradiction { other: "status.podIPs[0].ip", found });
        }
        (Some((first, _)), None) => all.push(first),
        (Some(_) | None, _) => {}
    }
    all
}
