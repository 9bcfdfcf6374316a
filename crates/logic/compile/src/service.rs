//! Services, and who stands behind them.

use std::net::IpAddr;

use ipnet::IpNet;
use weir_manifest::{Backing, ServiceObject, ServicePortObject, TargetPort};
use weir_model::{AppProtocol, Membership, Namespace, Port, Service, ServiceName, ServicePort, WaypointAddress};

use crate::{
    Settings,
    trimmed::{Slice, Traits},
};

/// Ports whose servers speak first or otherwise are no HTTP, when nothing is said: SMTP, DNS, MySQL, MongoDB. As Istio has them.
const TCP_PORTS: [u16; 4] = [25, 53, 3306, 27017];

/// The service as the mesh knows it.
pub(crate) fn service(settings: &Settings, object: &ServiceObject, waypoint: Option<WaypointAddress>) -> Service {
    let mut vips: Vec<_> = Vec::new();
    for ip in addresses(object) {
        let vip = (settings.network.clone(), IpNet::from(ip));
        if !vips.contains(&vip) {
            vips.push(vip);
        }
    }
    Service {
        name: name(settings, &object.namespace, &object.name),
        short_name: object.name.clone(),
        vips,
        ports: object.ports.iter().map(service_port).collect(),
        health_policy: object.health_policy,
        waypoint,
        seen: Default::default(),
        unsupported: None,
    }
}

/// The addresses that lead to it, perhaps one twice.
pub(crate) fn addresses(object: &ServiceObject) -> impl Iterator<Item = IpAddr> {
    let leads = object.backing == Backing::Endpoints;
    object.cluster_ips.iter().chain(&object.external_ips).copied().filter(move |_| leads)
}

/// The name of a service in the mesh.
pub(crate) fn name(settings: &Settings, namespace: &Namespace, name: &str) -> ServiceName {
    let hostname = format!("{name}.{namespace}.svc.{}", settings.cluster_domain);
    let hostname = hostname.parse().expect("two labels and a cluster domain that leaves room for them");
    ServiceName { namespace: namespace.clone(), hostname }
}

/// Behind the service, with these ports besides those it has there already.
pub(crate) fn join(services: &mut Vec<Membership>, service: ServiceName, ports: &[(Port, Port)]) {
    let at = match services.binary_search_by(|own| own.service.cmp(&service)) {
        Ok(at) => at,
        Err(at) => {
            services.insert(at, Membership { service, ports: Vec::new() });
            at
        }
    };
    let own = &mut services[at].ports;
    for &(port, target) in ports {
        if !own.iter().any(|(known, _)| *known == port) {
            own.push((port, target));
        }
    }
    own.sort();
}

fn service_port(port: &ServicePortObject) -> ServicePort {
    ServicePort { name: port.name.clone(), port: port.port, protocol: protocol(port), target: None }
}

fn protocol(port: &ServicePortObject) -> AppProtocol {
    spoken(port.app_protocol.as_ref().unwrap_or(&port.name), port.port)
}

/// What a port speaks: `appProtocol`, or else the port's name up to its first dash.
pub(crate) fn spoken(said: &str, port: Port) -> AppProtocol {
    let said = said.to_ascii_lowercase();
    let word = match &*said {
        "kubernetes.io/h2c" | "kubernetes.io/ws" | "kubernetes.io/wss" => &said,
        _ => said.split('-').next().unwrap_or_default(),
    };
    match word {
        "http" | "kubernetes.io/ws" => AppProtocol::Http11,
        "http2" | "kubernetes.io/h2c" => AppProtocol::Http2,
        "grpc" => AppProtocol::Grpc,
        "https" | "tls" | "kubernetes.io/wss" => AppProtocol::Tls,
        "tcp" | "mongo" | "mysql" | "redis" => AppProtocol::Tcp,
        _ if TCP_PORTS.contains(&port.number()) => AppProtocol::Tcp,
        _ => AppProtocol::Unknown,
    }
}

/// The ports of a pod that the service's selector selects.
pub(crate) fn selected_ports(service: &ServiceObject, pod: &Traits) -> Vec<(Port, Port)> {
    let target = |port: &ServicePortObject| match &port.target {
        TargetPort::Number(number) => Some((port.port, *number)),
        // Each pod has its own port of that name, or none.
        TargetPort::Name(name) => pod.ports.iter().find(|(own, _)| own == name).map(|(_, own)| (port.port, *own)),
    };
    service.ports.iter().filter_map(target).collect()
}

/// A slice's ports stand for the service's ports of the same name.
pub(crate) fn slice_ports(service: &ServiceObject, slice: &Slice) -> Vec<(Port, Port)> {
    let target = |port: &ServicePortObject| {
        let own = slice.ports.iter().find(|own| own.name == port.name)?;
        Some((port.port, own.port.unwrap_or(port.port)))
    };
    service.ports.iter().filter_map(target).collect()
}
