//! Services.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use weir_model::{
    AppProtocol, HealthPolicy, Namespace, Network, Port, Seen, Service, ServiceName, ServicePort, canonical_ip,
};

use super::{
    Beyond, ConvertError, Named, SEEN, UNSUPPORTED, all, extension, extensions, octets,
    waypoint::{waypoint_from, waypoint_to},
};
use crate::{proto, texts::Texts};

/// The service as it is sent.
pub(crate) fn service_to(service: &Service) -> proto::Service {
    let health_policy = match service.health_policy {
        HealthPolicy::OnlyReady => None,
        HealthPolicy::All => Some(proto::HealthPolicy::AllowAll),
    };
    let unsupported = service.unsupported.iter().map(|reason| extension(UNSUPPORTED, reason));
    let seen = seen_to(&service.seen, &service.name.namespace);
    proto::Service {
        name: service.short_name.to_string(),
        namespace: service.name.namespace.to_string(),
        hostname: service.name.hostname.to_string(),
        addresses: service.vips.iter().map(|(network, vip)| address_to(network, vip)).collect(),
        ports: service.ports.iter().map(port_to).collect(),
        load_balancing: health_policy
            .map(|policy| proto::LoadBalancing { mode: proto::Mode::Unspecified.into(), health_policy: policy.into() }),
        waypoint: waypoint_to(service.waypoint.as_ref(), service.unsupported.is_none()),
        extensions: unsupported.chain(seen).collect(),
        visibility: match &service.seen {
            Seen::Everywhere => proto::Visibility::Public.into(),
            Seen::In(_) => proto::Visibility::Namespace.into(),
        },
        ..proto::Service::default()
    }
}

/// The namespaces it is seen in, each in an extension, unless its own alone is: that `visibility` says. One without text is for none at all.
fn seen_to(seen: &Seen, own: &Namespace) -> Vec<proto::Extension> {
    match seen {
        Seen::Everywhere => Vec::new(),
        Seen::In(namespaces) if namespaces.is_empty() => vec![extension(SEEN, "")],
        Seen::In(namespaces) if namespaces.len() == 1 && namespaces.contains(own) => Vec::new(),
        Seen::In(namespaces) => namespaces.iter().map(|namespace| extension(SEEN, namespace.as_str())).collect(),
    }
}

/// The namespaces it is seen in: those that are listed, or else what `visibility` says.
fn seen_from(
    resource: Named<'_>,
    texts: &mut Texts,
    (visibility, listed): (proto::Visibility, &[Arc<str>]),
    own: &Namespace,
) -> Result<Seen, ConvertError> {
    match (visibility, listed) {
        (proto::Visibility::Public, []) => Ok(Seen::Everywhere),
        (proto::Visibility::Namespace, []) => Ok(Seen::In(BTreeSet::from([own.clone()]).into())),
        (proto::Visibility::Public | proto::Visibility::Namespace, listed) => {
            let named = listed.iter().filter(|text| !text.is_empty());
            let named = named.map(|text| texts.name(text).map_err(resource.bad("extensions")));
            Ok(Seen::In(Arc::new(named.collect::<Result<_, _>>()?)))
        }
    }
}

fn address_to(network: &Network, vip: &IpNet) -> proto::NetworkAddress {
    let length = (vip.prefix_len() != vip.max_prefix_len()).then(|| u32::from(vip.prefix_len()));
    proto::NetworkAddress { network: network.to_string(), address: octets(vip.addr()), length }
}

fn port_to(port: &ServicePort) -> proto::Port {
    let protocol = match port.protocol {
        AppProtocol::Unknown => proto::AppProtocol::Unknown,
        AppProtocol::Http11 => proto::AppProtocol::Http11,
        AppProtocol::Http2 => proto::AppProtocol::Http2,
        AppProtocol::Grpc => proto::AppProtocol::Grpc,
        AppProtocol::Tcp => proto::AppProtocol::Tcp,
        AppProtocol::Tls => proto::AppProtocol::Tls,
    };
    proto::Port {
        service_port: port.port.number().into(),
        target_port: port.target.map_or(0, |target| target.number().into()),
        app_protocol: protocol.into(),
    }
}

/// The service in a message.
pub(super) fn service_from(
    resource: Named<'_>,
    texts: &mut Texts,
    wire: proto::Service,
) -> Result<Service, ConvertError> {
    let mut beyond = Beyond::default();
    let waypoint = waypoint_from(resource, texts, wire.waypoint, &wire.extensions, &mut beyond)?;
    beyond.note(!wire.weighted_waypoints.is_empty(), "weighted_waypoints");
    let visibility = beyond.known(wire.visibility, "visibility");
    let balancing = wire.load_balancing.unwrap_or_default();
    match beyond.known(balancing.mode, "load_balancing.mode") {
        proto::Mode::Unspecified | proto::Mode::Failover => {}
        proto::Mode::Strict => beyond.note(true, "load_balancing.mode STRICT"),
        proto::Mode::Passthrough => beyond.note(true, "load_balancing.mode PASSTHROUGH"),
    }
    let health_policy = match beyond.known(balancing.health_policy, "load_balancing.health_policy") {
        proto::HealthPolicy::OnlyHealthy => HealthPolicy::OnlyReady,
        proto::HealthPolicy::AllowAll => HealthPolicy::All,
    };
    let ours = extensions(resource, wire.extensions, &mut beyond)?;
    let unsupported = beyond.reason(ours.unsupported);
    let namespace: Namespace = texts.name(&wire.namespace).map_err(resource.bad("namespace"))?;
    Ok(Service {
        seen: seen_from(resource, texts, (visibility, &ours.seen), &namespace)?,
        name: ServiceName { namespace, hostname: texts.name(&wire.hostname).map_err(resource.bad("hostname"))? },
        short_name: resource.shared(texts, "name", &wire.name)?,
        vips: all(wire.addresses.iter().map(|vip| address_from(resource, texts, vip)))?,
        ports: all(wire.ports.iter().map(|port| port_from(resource, texts, port)))?,
        health_policy,
        waypoint: waypoint.filter(|_| unsupported.is_none()),
        unsupported,
    })
}

fn address_from(
    resource: Named<'_>,
    texts: &mut Texts,
    wire: &proto::NetworkAddress,
) -> Result<(Network, IpNet), ConvertError> {
    let network = texts.name(&wire.network).map_err(resource.bad("addresses.network"))?;
    let ip = resource.address("addresses", &wire.address)?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let length = wire.length.unwrap_or(most);
    // A prefix of an IPv4 address in an IPv6 one is shorter by what stands before it (RFC 4291 §2.5.5.2).
    let before = if canonical_ip(ip).is_ipv4() && ip.is_ipv6() { 96 } else { 0 };
    let bad = || resource.bad("addresses.length")(format!("{length}, expected {before} to {most}"));
    let own = length.checked_sub(before).filter(|_| length <= most).ok_or_else(bad)?;
    let own = u8::try_from(own).map_err(|_| bad())?;
    let vip = IpNet::new(canonical_ip(ip), own).map_err(|_| bad())?;
    Ok((network, vip))
}

fn port_from(resource: Named<'_>, texts: &mut Texts, wire: &proto::Port) -> Result<ServicePort, ConvertError> {
    let target = (wire.target_port != 0).then(|| resource.port("ports.target_port", wire.target_port)).transpose()?;
    // A protocol that is not known is no protocol that is known: it labels, and decides nothing.
    let protocol = match proto::AppProtocol::try_from(wire.app_protocol) {
        Ok(proto::AppProtocol::Unknown) | Err(_) => AppProtocol::Unknown,
        Ok(proto::AppProtocol::Http11) => AppProtocol::Http11,
        Ok(proto::AppProtocol::Http2) => AppProtocol::Http2,
        Ok(proto::AppProtocol::Grpc) => AppProtocol::Grpc,
        Ok(proto::AppProtocol::Tcp) => AppProtocol::Tcp,
        Ok(proto::AppProtocol::Tls) => AppProtocol::Tls,
    };
    Ok(ServicePort {
        name: texts.text(""),
        port: resource.port("ports.service_port", wire.service_port)?,
        protocol,
        target,
    })
}

/// The alias of an address: `network/ip`.
pub(crate) fn alias(network: &Network, ip: IpAddr) -> String {
    format!("{network}/{ip}")
}

/// A port of a workload for one of a service.
pub(super) fn pair_from(resource: Named<'_>, wire: &proto::Port) -> Result<(Port, Port), ConvertError> {
    let own = resource.port("services.target_port", wire.target_port)?;
    Ok((resource.port("services.service_port", wire.service_port)?, own))
}
