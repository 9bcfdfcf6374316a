//! A small mesh for tests: mesh pods `a` and `b`, a plain pod `c`, a host-network pod `h`, a mesh pod `far` of another
//! network, all dual-stack and named by their last octet.

use std::net::{IpAddr, SocketAddr};

use weir_model::{
    AppProtocol, Health, HealthPolicy, Locality, Membership, Network, NetworkMode, Port, Service, ServiceName,
    ServicePort, Termination, Tunnel, WaypointAddress, WaypointDestination, Workload, WorkloadKind, WorkloadUid,
};

use crate::{mesh::Mesh, world::World};

pub(crate) fn uid(name: &str) -> WorkloadUid {
    format!("Kubernetes//v1/Pod/ns/{name}").parse().unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

pub(crate) fn network(name: &str) -> Network {
    name.parse().unwrap()
}

pub(crate) fn workload(name: &str, octet: u8, tunnel: Tunnel) -> Workload {
    Workload {
        uid: uid(name),
        incarnation: "1".into(),
        name: name.into(),
        namespace: "ns".parse().unwrap(),
        trust_domain: "cluster.local".parse().unwrap(),
        service_account: name.parse().unwrap(),
        addresses: vec![ip(&format!("10.0.0.{octet}")), ip(&format!("fd00::{octet}"))],
        network: network(""),
        tunnel,
        network_mode: NetworkMode::Standard,
        node: None,
        locality: Locality::default(),
        health: Health::Healthy,
        cluster: "Kubernetes".parse().unwrap(),
        kind: WorkloadKind::Pod,
        workload_name: name.into(),
        canonical_name: name.into(),
        canonical_revision: "latest".into(),
        services: Vec::new(),
        policies: Vec::new(),
        termination: Termination::default(),
        waypoint: None,
        unsupported: None,
    }
}

/// A service of the ports 80 and 81.
pub(crate) fn service(name: &str, vips: &[&str]) -> Service {
    Service {
        name: service_name(name),
        short_name: name.into(),
        vips: vips.iter().map(|vip| (network(""), vip.parse().unwrap())).collect(),
        ports: [80, 81]
            .map(|number| ServicePort {
                name: "".into(),
                port: port(number),
                protocol: AppProtocol::Unknown,
                target: None,
            })
            .into(),
        health_policy: HealthPolicy::OnlyReady,
        waypoint: None,
        seen: Default::default(),
        unsupported: None,
    }
}

pub(crate) fn service_name(name: &str) -> ServiceName {
    format!("ns/{name}.ns.svc.cluster.local").parse().unwrap()
}

/// The workload, behind services whose port 80 is one of its own.
pub(crate) fn behind(mut workload: Workload, services: &[(&str, u16)]) -> Workload {
    let membership =
        |(name, own): &(&str, u16)| Membership { service: service_name(name), ports: vec![(port(80), port(*own))] };
    workload.services = services.iter().map(membership).collect();
    workload.services.sort();
    workload
}

/// An endpoint that is no pod the mesh knows.
pub(crate) fn stranger(name: &str, addresses: &[&str]) -> Workload {
    Workload {
        uid: format!("Kubernetes/discovery.k8s.io/EndpointSlice/ns/{name}/x").parse().unwrap(),
        addresses: addresses.iter().map(|address| ip(address)).collect(),
        ..workload(name, 0, Tunnel::None)
    }
}

/// The waypoint behind a service.
pub(crate) fn waypoint(service: &str) -> Option<WaypointAddress> {
    Some(WaypointAddress { destination: WaypointDestination::Service(service_name(service)), port: port(15008) })
}

pub(crate) fn mesh() -> Mesh {
    let host = Workload { network_mode: NetworkMode::HostNetwork, ..workload("h", 100, Tunnel::None) };
    let twin = Workload { uid: uid("h2"), name: "h2".into(), ..host.clone() };
    let far = Workload { network: network("far"), ..workload("far", 9, Tunnel::Hbone) };
    let sick = Workload { health: Health::Unhealthy, ..workload("sick", 4, Tunnel::Hbone) };
    let four = Workload { addresses: vec![ip("10.0.0.5")], ..workload("four", 5, Tunnel::Hbone) };
    Mesh {
        workloads: vec![
            workload("a", 1, Tunnel::Hbone),
            behind(workload("b", 2, Tunnel::Hbone), &[("mesh", 8080), ("reserved", 15008), ("narrow", 8080)]),
            behind(workload("c", 3, Tunnel::None), &[("plain", 8080), ("wide", 8080)]),
            behind(sick, &[("mesh", 1), ("sick", 8080)]),
            behind(four, &[("four", 8080)]),
            host,
            behind(twin, &[("host", 8080)]),
            behind(far, &[("far", 8080)]),
            behind(stranger("outside", &["192.0.2.1", "2001:db8::1"]), &[("outside", 8080)]),
            behind(stranger("unnamed", &["10.0.0.2", "fd00::2"]), &[("unnamed", 8080)]),
        ],
        services: vec![
            service("mesh", &["10.96.0.1/32", "fd00:96::1/128"]),
            service("plain", &["10.96.0.2/32", "fd00:96::2/128"]),
            service("host", &["10.96.0.3/32", "fd00:96::3/128"]),
            service("sick", &["10.96.0.4/32", "fd00:96::4/128"]),
            service("four", &["10.96.0.5/32", "fd00:96::5/128"]),
            service("outside", &["10.96.0.7/32", "fd00:96::7/128"]),
            service("unnamed", &["10.96.0.8/32", "fd00:96::8/128"]),
            service("far", &["10.96.0.9/32", "fd00:96::9/128"]),
            service("reserved", &["10.96.0.10/32", "fd00:96::10/128"]),
            service("wide", &["172.16.0.0/12", "fd01::/16"]),
            service("narrow", &["172.16.1.0/24", "fd01:1::/32"]),
            service("exact", &["172.16.1.1/32", "fd01:1::1/128"]),
        ],
        policies: Vec::new(),
        local_pods: Vec::new(),
    }
}

pub(crate) fn world() -> World {
    World::new(mesh())
}
