//! Workloads.

use weir_model::{
    ClusterId, Health, Locality, Membership, NetworkMode, ServiceAccount, Termination, TrustDomain, Tunnel, Workload,
    WorkloadKind, canonical_ip,
};

use super::{
    Beyond, ConvertError, INCARNATION, Named, UNSUPPORTED, all, extension, extensions, octets,
    service::pair_from,
    waypoint::{termination_from, termination_to, waypoint_from, waypoint_to},
};
use crate::{proto, texts::Texts};

/// The service account that is left out on the wire. `istio.workload.Workload.service_account`.
const DEFAULT_ACCOUNT: &str = "default";
/// The cluster when nothing is said. Istio `CLUSTER_ID`.
const DEFAULT_CLUSTER: &str = "Kubernetes";
/// The revision when nothing is said, and left out on the wire.
const DEFAULT_REVISION: &str = "latest";

/// The workload as it is sent.
pub(crate) fn workload_to(workload: &Workload) -> proto::Workload {
    let own_domain = workload.trust_domain != TrustDomain::default();
    let own_account = workload.service_account.as_str() != DEFAULT_ACCOUNT;
    let text = |send: bool, text: &str| if send { text.to_owned() } else { String::new() };
    let incarnation = (!workload.incarnation.is_empty()).then_some((INCARNATION, &workload.incarnation));
    let unsupported = workload.unsupported.as_ref().map(|reason| (UNSUPPORTED, reason));
    let (native_tunnel, application_tunnel) = termination_to(workload.termination);
    proto::Workload {
        uid: workload.uid.to_string(),
        name: workload.name.to_string(),
        namespace: workload.namespace.to_string(),
        addresses: workload.addresses.iter().map(|ip| octets(*ip)).collect(),
        network: workload.network.to_string(),
        tunnel_protocol: match workload.tunnel {
            Tunnel::None => proto::TunnelProtocol::None,
            Tunnel::Hbone => proto::TunnelProtocol::Hbone,
        }
        .into(),
        trust_domain: text(own_domain, workload.trust_domain.as_str()),
        service_account: text(own_account, workload.service_account.as_str()),
        waypoint: waypoint_to(workload.waypoint.as_ref(), unsupported.is_none()),
        native_tunnel,
        application_tunnel,
        node: workload.node.as_ref().map(ToString::to_string).unwrap_or_default(),
        canonical_name: workload.canonical_name.to_string(),
        canonical_revision: text(&*workload.canonical_revision != DEFAULT_REVISION, &workload.canonical_revision),
        workload_type: match workload.kind {
            WorkloadKind::Deployment => proto::WorkloadType::Deployment,
            WorkloadKind::CronJob => proto::WorkloadType::CronJob,
            WorkloadKind::Job => proto::WorkloadType::Job,
            WorkloadKind::Pod => proto::WorkloadType::Pod,
        }
        .into(),
        workload_name: workload.workload_name.to_string(),
        services: workload.services.iter().map(|place| (place.service.to_string(), ports_to(place))).collect(),
        authorization_policies: workload.policies.iter().map(ToString::to_string).collect(),
        status: match workload.health {
            Health::Healthy => proto::WorkloadStatus::Healthy,
            Health::Unhealthy => proto::WorkloadStatus::Unhealthy,
        }
        .into(),
        cluster_id: workload.cluster.to_string(),
        locality: locality_to(&workload.locality),
        network_mode: match workload.network_mode {
            NetworkMode::Standard => proto::NetworkMode::Standard,
            NetworkMode::HostNetwork => proto::NetworkMode::HostNetwork,
        }
        .into(),
        extensions: incarnation.into_iter().chain(unsupported).map(|(name, text)| extension(name, text)).collect(),
        ..proto::Workload::default()
    }
}

fn ports_to(place: &Membership) -> proto::PortList {
    let port = |(service, own): &(weir_model::Port, weir_model::Port)| proto::Port {
        service_port: service.number().into(),
        target_port: own.number().into(),
        app_protocol: proto::AppProtocol::Unknown.into(),
    };
    proto::PortList { ports: place.ports.iter().map(port).collect() }
}

fn locality_to(locality: &Locality) -> Option<proto::Locality> {
    (*locality != Locality::default()).then(|| proto::Locality {
        region: locality.region.to_string(),
        zone: locality.zone.to_string(),
        subzone: locality.subzone.to_string(),
    })
}

/// What of a workload this version knows, and what not.
struct Features {
    tunnel: Tunnel,
    health: Health,
    network_mode: NetworkMode,
    kind: WorkloadKind,
    termination: Termination,
}

impl Features {
    fn read(wire: &proto::Workload, beyond: &mut Beyond) -> Self {
        beyond.note(wire.network_gateway.is_some(), "network_gateway");
        beyond.note(!wire.hostname.is_empty(), "hostname");
        Self {
            tunnel: match beyond.known(wire.tunnel_protocol, "tunnel_protocol") {
                proto::TunnelProtocol::None => Tunnel::None,
                proto::TunnelProtocol::Hbone => Tunnel::Hbone,
                proto::TunnelProtocol::LegacyIstioMtls => {
                    beyond.note(true, "tunnel_protocol LEGACY_ISTIO_MTLS");
                    Tunnel::None
                }
            },
            health: match beyond.known(wire.status, "status") {
                proto::WorkloadStatus::Healthy => Health::Healthy,
                proto::WorkloadStatus::Unhealthy => Health::Unhealthy,
            },
            network_mode: match beyond.known(wire.network_mode, "network_mode") {
                proto::NetworkMode::Standard => NetworkMode::Standard,
                proto::NetworkMode::HostNetwork => NetworkMode::HostNetwork,
            },
            // A kind that is not known labels, and decides nothing.
            kind: match proto::WorkloadType::try_from(wire.workload_type) {
                Ok(proto::WorkloadType::Deployment) => WorkloadKind::Deployment,
                Ok(proto::WorkloadType::CronJob) => WorkloadKind::CronJob,
                Ok(proto::WorkloadType::Job) => WorkloadKind::Job,
                Ok(proto::WorkloadType::Pod) | Err(_) => WorkloadKind::Pod,
            },
            termination: termination_from(wire, beyond),
        }
    }
}

/// The workload in a message.
pub(super) fn workload_from(
    resource: Named<'_>,
    texts: &mut Texts,
    wire: proto::Workload,
) -> Result<Workload, ConvertError> {
    let mut beyond = Beyond::default();
    let waypoint = waypoint_from(resource, texts, wire.waypoint.clone(), &wire.extensions, &mut beyond)?;
    let features = Features::read(&wire, &mut beyond);
    let ours = extensions(resource, wire.extensions, &mut beyond)?;
    let mut services = all(wire.services.iter().map(|(service, ports)| membership(resource, texts, service, ports)))?;
    services.sort();
    let policies = all(wire.authorization_policies.iter().map(|name| name.parse()));
    let mut policies: Vec<_> = policies.map_err(resource.bad("authorization_policies"))?;
    policies.sort();
    let addresses = wire.addresses.iter().map(|ip| resource.address("addresses", ip).map(canonical_ip));
    let unsupported = beyond.reason(ours.unsupported);
    Ok(Workload {
        uid: wire.uid.parse().map_err(resource.bad("uid"))?,
        incarnation: ours.incarnation.unwrap_or_default(),
        name: resource.label("name", &wire.name)?,
        namespace: texts.name(&wire.namespace).map_err(resource.bad("namespace"))?,
        trust_domain: texts
            .name::<TrustDomain>(or(&wire.trust_domain, TrustDomain::DEFAULT))
            .map_err(resource.bad("trust_domain"))?,
        service_account: texts
            .name::<ServiceAccount>(or(&wire.service_account, DEFAULT_ACCOUNT))
            .map_err(resource.bad("service_account"))?,
        addresses: all(addresses)?,
        network: texts.name(&wire.network).map_err(resource.bad("network"))?,
        tunnel: features.tunnel,
        network_mode: features.network_mode,
        node: (!wire.node.is_empty()).then(|| texts.name(&wire.node)).transpose().map_err(resource.bad("node"))?,
        locality: locality_from(resource, texts, &wire.locality.unwrap_or_default())?,
        health: features.health,
        cluster: texts.name::<ClusterId>(or(&wire.cluster_id, DEFAULT_CLUSTER)).map_err(resource.bad("cluster_id"))?,
        kind: features.kind,
        workload_name: resource.shared(texts, "workload_name", &wire.workload_name)?,
        canonical_name: resource.shared(texts, "canonical_name", &wire.canonical_name)?,
        canonical_revision: {
            let revision = or(&wire.canonical_revision, DEFAULT_REVISION);
            resource.shared(texts, "canonical_revision", revision)?
        },
        services,
        policies,
        termination: features.termination,
        waypoint: waypoint.filter(|_| unsupported.is_none()),
        unsupported,
    })
}

/// The text, or what stands for nothing.
fn or<'t>(text: &'t str, default: &'t str) -> &'t str {
    if text.is_empty() { default } else { text }
}

fn membership(
    resource: Named<'_>,
    texts: &mut Texts,
    service: &str,
    ports: &proto::PortList,
) -> Result<Membership, ConvertError> {
    let service = texts.service(service).map_err(resource.bad("services"))?;
    let mut ports = all(ports.ports.iter().map(|port| pair_from(resource, port)))?;
    ports.sort();
    Ok(Membership { service, ports })
}

fn locality_from(resource: Named<'_>, texts: &mut Texts, wire: &proto::Locality) -> Result<Locality, ConvertError> {
    Ok(Locality {
        region: resource.shared(texts, "locality.region", &wire.region)?,
        zone: resource.shared(texts, "locality.zone", &wire.zone)?,
        subzone: resource.shared(texts, "locality.subzone", &wire.subzone)?,
    })
}
