//! Workloads, services and policies for tests, and arbitrary ones for laws.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use proptest::{collection::vec, option, prelude::*, sample::select};
use weir_model::{
    AppProtocol, Health, HealthPolicy, Locality, Membership, NetworkMode, Policy, PolicyAction, PolicyKind, PolicyName,
    PolicyScope, PolicySource, Port, Seen, Service, ServicePort, Termination, Tunnel, WaypointAddress,
    WaypointDestination, Workload, WorkloadKind,
};
use weir_world::Delta;

/// A pod at the addresses, behind services of the default namespace.
pub(crate) fn workload(name: &str, addresses: &[&str], services: &[&str]) -> Workload {
    Workload {
        uid: format!("Kubernetes//v1/Pod/default/{name}").parse().unwrap(),
        incarnation: "".into(),
        name: name.into(),
        namespace: "default".parse().unwrap(),
        trust_domain: "cluster.local".parse().unwrap(),
        service_account: "default".parse().unwrap(),
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        network: "".parse().unwrap(),
        tunnel: Tunnel::Hbone,
        network_mode: NetworkMode::Standard,
        node: None,
        locality: Locality::default(),
        health: Health::Healthy,
        cluster: "Kubernetes".parse().unwrap(),
        kind: WorkloadKind::Pod,
        workload_name: name.into(),
        canonical_name: name.into(),
        canonical_revision: "latest".into(),
        services: services.iter().map(|name| membership(name)).collect(),
        policies: Vec::new(),
        termination: Termination::default(),
        waypoint: None,
        unsupported: None,
    }
}

fn membership(service: &str) -> Membership {
    Membership { service: service_name(service).parse().unwrap(), ports: vec![(port(80), port(8080))] }
}

/// How the service of that short name is called.
pub(crate) fn service_name(name: &str) -> String {
    format!("default/{name}.default.svc.cluster.local")
}

/// A service at the addresses, with one port.
pub(crate) fn service(name: &str, vips: &[&str]) -> Service {
    let vip = |ip: &&str| ip.parse::<IpNet>().or_else(|_| ip.parse::<IpAddr>().map(IpNet::from)).unwrap();
    Service {
        name: service_name(name).parse().unwrap(),
        short_name: name.into(),
        vips: vips.iter().map(|ip| ("".parse().unwrap(), vip(ip))).collect(),
        ports: vec![ServicePort {
            name: "".into(),
            port: port(80),
            protocol: AppProtocol::Unknown,
            target: Some(port(8080)),
        }],
        health_policy: HealthPolicy::OnlyReady,
        waypoint: None,
        seen: Default::default(),
        unsupported: None,
    }
}

/// A policy of the default namespace.
pub(crate) fn policy(name: &str) -> Policy {
    Policy {
        name: PolicyName::new("default".parse().unwrap(), name).unwrap(),
        scope: PolicyScope::Namespace,
        action: PolicyAction::Deny,
        dry_run: false,
        rules: Vec::new(),
        rejected: Some("nobody can enforce it".into()),
        source: PolicySource { kind: PolicyKind::Authorization, name: name.into(), file: None },
    }
}

/// A delta in which all of these are.
pub(crate) fn delta(workloads: Vec<Workload>, services: Vec<Service>, policies: Vec<Policy>) -> Delta {
    Delta {
        workloads: workloads.into_iter().map(|workload| (workload.uid.clone(), Some(workload))).collect(),
        services: services.into_iter().map(|service| (service.name.clone(), Some(service))).collect(),
        policies: policies.into_iter().map(|policy| (policy.name.clone(), Some(policy))).collect(),
    }
}

pub(crate) fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn ports() -> impl Strategy<Value = Port> {
    (1..=u16::MAX).prop_map(port)
}

fn ips() -> impl Strategy<Value = IpAddr> {
    any::<IpAddr>().prop_map(|ip| ip.to_canonical())
}

/// Any waypoint of what is reached.
fn waypoints() -> impl Strategy<Value = Option<WaypointAddress>> {
    let named = "[a-z]{1,9}".prop_map(|name| WaypointDestination::Service(service_name(&name).parse().unwrap()));
    let network = "[a-z/]{0,9}".prop_map(|network| network.parse().unwrap());
    let at = (network, ips()).prop_map(|(network, ip)| WaypointDestination::Address(network, ip));
    let address =
        (prop_oneof![named, at], ports()).prop_map(|(destination, port)| WaypointAddress { destination, port });
    option::of(address)
}

/// Any workload a compiler could make.
pub(crate) fn workloads() -> impl Strategy<Value = Workload> {
    let place = ("[a-z]{1,8}", vec((ports(), ports()), 0..4)).prop_map(|(service, mut ports)| {
        ports.sort();
        Membership { service: service_name(&service).parse().unwrap(), ports }
    });
    let names = ("[a-z][a-z0-9-]{0,10}[a-z0-9]", "[a-z]{1,9}(\\.[a-z]{1,9})?", "[a-z.]{1,9}", "[!#-\\[\\]-~]{0,9}");
    let choices = (
        select(vec![Tunnel::None, Tunnel::Hbone]),
        select(vec![Health::Healthy, Health::Unhealthy]),
        select(vec![NetworkMode::Standard, NetworkMode::HostNetwork]),
        select(vec![WorkloadKind::Deployment, WorkloadKind::CronJob, WorkloadKind::Job, WorkloadKind::Pod]),
        prop_oneof![Just(Termination::Agent), Just(Termination::Own), ports().prop_map(Termination::Proxy)],
    );
    let texts = (".{0,9}", ".{1,9}", ".{0,9}", option::of(".{1,99}"));
    (
        names,
        choices,
        texts,
        vec(ips(), 0..4),
        vec(place, 0..4),
        vec("[!-.0-~&&[^\"\\\\]]{1,9}", 0..3),
        option::of("[a-z]{1,9}"),
        waypoints(),
    )
        .prop_map(|(names, choices, texts, addresses, mut services, policies, node, waypoint)| {
            services.sort();
            services.dedup_by(|one, two| one.service == two.service);
            let namespace: weir_model::Namespace = "default".parse().unwrap();
            let mut policies: Vec<_> =
                policies.iter().map(|name| PolicyName::new(namespace.clone(), name).unwrap()).collect();
            policies.sort();
            Workload {
                incarnation: texts.0.as_str().into(),
                trust_domain: names.2.parse().unwrap(),
                service_account: names.1.parse().unwrap(),
                addresses,
                network: names.3.parse().unwrap(),
                tunnel: choices.0,
                health: choices.1,
                network_mode: choices.2,
                kind: choices.3,
                node: node.map(|node| node.parse().unwrap()),
                locality: Locality {
                    region: texts.0.as_str().into(),
                    zone: "".into(),
                    subzone: texts.2.as_str().into(),
                },
                workload_name: texts.2.as_str().into(),
                canonical_revision: texts.1.as_str().into(),
                termination: choices.4,
                waypoint: waypoint.filter(|_| texts.3.is_none()),
                unsupported: texts.3.map(Into::into),
                services,
                policies,
                ..workload(&names.0, &[], &[])
            }
        })
}

/// Any service a compiler could make.
pub(crate) fn services() -> impl Strategy<Value = Service> {
    let range = (ips(), 0..=128_u8).prop_map(|(ip, length)| IpNet::new(ip, length).unwrap_or_else(|_| ip.into()));
    let network = "[a-z/]{0,9}".prop_map(|network| network.parse().unwrap());
    let protocols = select(vec![
        AppProtocol::Unknown,
        AppProtocol::Http11,
        AppProtocol::Http2,
        AppProtocol::Grpc,
        AppProtocol::Tcp,
        AppProtocol::Tls,
    ]);
    let port = (ports(), protocols, option::of(ports())).prop_map(|(port, protocol, target)| ServicePort {
        name: "".into(),
        port,
        protocol,
        target,
    });
    let health = select(vec![HealthPolicy::OnlyReady, HealthPolicy::All]);
    let seen = option::of(vec("default|[a-z]{1,9}", 0..4));
    (
        "[a-z]{1,9}",
        ".{0,9}",
        vec((network, range), 0..4),
        vec(port, 0..4),
        health,
        (option::of(".{1,99}"), waypoints(), seen),
    )
        .prop_map(|(name, short_name, vips, ports, health_policy, (unsupported, waypoint, seen))| Service {
            short_name: short_name.into(),
            vips,
            ports,
            health_policy,
            waypoint: waypoint.filter(|_| unsupported.is_none()),
            seen: seen.map_or(Seen::Everywhere, |names| {
                Seen::In(Arc::new(names.iter().map(|name| name.parse().unwrap()).collect()))
            }),
            unsupported: unsupported.map(Into::into),
            ..service(&name, &[])
        })
}
