//! A small mesh for tests: mesh pods `a` and `b`, a plain pod `c`, a host-network pod `h`, a mesh pod `far` of another
//! network, all dual-stack and named by their last octet.

use std::net::{IpAddr, SocketAddr};

use weir_model::{
    AppProtocol, Endpoint, EndpointHealth, Health, HealthPolicy, Locality, Network, NetworkMode, Port, Service,
    ServicePort, Tunnel, Workload, WorkloadKind, WorkloadUid,
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

fn port(number: u16) -> Port {
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
        unsupported: None,
    }
}

/// A service of port 80, its endpoints by workload, addresses, own port and health.
pub(crate) fn service(
    name: &str,
    vips: &[&str],
    endpoints: &[(Option<&str>, &[&str], u16, EndpointHealth)],
) -> Service {
    Service {
        name: format!("ns/{name}.ns.svc.cluster.local").parse().unwrap(),
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
        unsupported: None,
        endpoints: endpoints
            .iter()
            .map(|(workload, addresses, own, health)| Endpoint {
                workload: workload.map(uid),
                addresses: addresses.iter().map(|address| ip(address)).collect(),
                ports: vec![(port(80), port(*own))],
                health: *health,
            })
            .collect(),
    }
}

pub(crate) fn mesh() -> Mesh {
    let host = Workload { network_mode: NetworkMode::HostNetwork, ..workload("h", 100, Tunnel::None) };
    let twin = Workload { uid: uid("h2"), name: "h2".into(), ..host.clone() };
    let far = Workload { network: network("far"), ..workload("far", 9, Tunnel::Hbone) };
    let sick = Workload { health: Health::Unhealthy, ..workload("sick", 4, Tunnel::Hbone) };
    let ready = EndpointHealth::Ready;
    let not = EndpointHealth::NotReady;
    let ab = ["10.0.0.2", "fd00::2"];
    Mesh {
        workloads: vec![
            workload("a", 1, Tunnel::Hbone),
            workload("b", 2, Tunnel::Hbone),
            workload("c", 3, Tunnel::None),
            sick,
            host,
            twin,
            far,
        ],
        services: vec![
            service(
                "mesh",
                &["10.96.0.1/32", "fd00:96::1/128"],
                &[(Some("b"), &ab, 8080, ready), (Some("sick"), &["10.0.0.4", "fd00::4"], 1, not)],
            ),
            service(
                "plain",
                &["10.96.0.2/32", "fd00:96::2/128"],
                &[(Some("c"), &["10.0.0.3", "fd00::3"], 8080, ready)],
            ),
            service(
                "host",
                &["10.96.0.3/32", "fd00:96::3/128"],
                &[(Some("h2"), &["10.0.0.100", "fd00::100"], 8080, ready)],
            ),
            service(
                "sick",
                &["10.96.0.4/32", "fd00:96::4/128"],
                &[(Some("sick"), &["10.0.0.4", "fd00::4"], 8080, not)],
            ),
            service("four", &["10.96.0.5/32", "fd00:96::5/128"], &[(Some("b"), &["10.0.0.2"], 8080, ready)]),
            service(
                "gone",
                &["10.96.0.6/32", "fd00:96::6/128"],
                &[(Some("nobody"), &["10.0.0.2", "fd00::2"], 8080, ready)],
            ),
            service(
                "outside",
                &["10.96.0.7/32", "fd00:96::7/128"],
                &[(None, &["192.0.2.1", "2001:db8::1"], 8080, ready)],
            ),
            service("unnamed", &["10.96.0.8/32", "fd00:96::8/128"], &[(None, &ab, 8080, ready)]),
            service(
                "far",
                &["10.96.0.9/32", "fd00:96::9/128"],
                &[(Some("far"), &["10.0.0.9", "fd00::9"], 8080, ready)],
            ),
            service("reserved", &["10.96.0.10/32", "fd00:96::10/128"], &[(Some("b"), &ab, 15008, ready)]),
            service("wide", &["172.16.0.0/12", "fd01::/16"], &[(Some("c"), &["10.0.0.3", "fd00::3"], 8080, ready)]),
            service("narrow", &["172.16.1.0/24", "fd01:1::/32"], &[(Some("b"), &ab, 8080, ready)]),
            service("exact", &["172.16.1.1/32", "fd01:1::1/128"], &[]),
        ],
        local_pods: Vec::new(),
        policies: Vec::new(),
    }
}

pub(crate) fn world() -> World {
    World::new(mesh())
}
