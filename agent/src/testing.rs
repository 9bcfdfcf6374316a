//! A small mesh for tests: the pods `a` and `b` of this node, `10.0.0.1` and `fd00::1` and so on, and policies.

use std::{net::SocketAddr, sync::Arc};

use weir_model::{
    AppProtocol, Clause, Enrolment, Health, HealthPolicy, LocalPod, Locality, Match, Membership, NetworkMode, Policy,
    PolicyAction, PolicyKind, PolicyName, PolicyRule, PolicyScope, PolicySource, Port, RulePlace, Service, ServicePort,
    Sides, SpiffeId, Termination, TextMatch, Tunnel, WaypointAddress, WaypointDestination, Workload, WorkloadKind,
    WorkloadUid,
};
use weir_world::{Mesh, World};

pub(crate) fn uid(name: &str) -> WorkloadUid {
    format!("Kubernetes//v1/Pod/ns/{name}").parse().unwrap()
}

pub(crate) fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn identity(account: &str) -> SpiffeId {
    format!("spiffe://cluster.local/ns/ns/sa/{account}").parse().unwrap()
}

fn workload(name: &str, octet: u8, tunnel: Tunnel) -> Workload {
    Workload {
        uid: uid(name),
        incarnation: "1".into(),
        name: name.into(),
        namespace: "ns".parse().unwrap(),
        trust_domain: "cluster.local".parse().unwrap(),
        service_account: name.parse().unwrap(),
        addresses: vec![format!("10.0.0.{octet}").parse().unwrap(), format!("fd00::{octet}").parse().unwrap()],
        network: "".parse().unwrap(),
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

/// A policy over the namespace of all pods.
pub(crate) fn policy(name: &str, action: PolicyAction, matches: impl IntoIterator<Item = Match>) -> Policy {
    let rule = |(index, one)| PolicyRule {
        place: RulePlace { index: Some(index), line: Some(7 + index) },
        clauses: vec![Clause(vec![one])],
    };
    Policy {
        name: PolicyName::new("ns".parse().unwrap(), name).unwrap(),
        scope: PolicyScope::Namespace,
        action,
        dry_run: false,
        rules: (0..).zip(matches).map(rule).collect(),
        rejected: None,
        source: PolicySource { kind: PolicyKind::Authorization, name: name.into(), file: Some("p.yaml".into()) },
    }
}

/// Whoever is of that service account.
pub(crate) fn from(account: &str) -> Match {
    let principal = TextMatch::Exact(format!("cluster.local/ns/ns/sa/{account}").into());
    Match { principals: Sides::any([principal]), ..Match::default() }
}

/// Whatever goes to that port.
pub(crate) fn to(port: u16) -> Match {
    Match { destination_ports: Sides::any([Port::new(port).unwrap()]), ..Match::default() }
}

/// The mesh with these policies, and with `a` in it or not.
pub(crate) fn world(policies: impl IntoIterator<Item = Policy>, a: Tunnel) -> Arc<World> {
    let local =
        |name: &str| LocalPod { uid: uid(name), addresses: Vec::new(), netns: None, enrolment: Enrolment::Enrolled };
    Arc::new(World::new(Mesh {
        workloads: vec![workload("a", 1, a), workload("b", 2, Tunnel::Hbone)],
        policies: policies.into_iter().collect(),
        local_pods: vec![local("a"), local("b")],
        ..Mesh::default()
    }))
}

/// The mesh of `a`, and a service `shop` that is bound to the waypoint `gate`.
pub(crate) fn bound() -> World {
    let name = |name: &str| format!("ns/{name}.ns.svc.cluster.local").parse().unwrap();
    let service = |short: &str, octet: u8, port: u16, waypoint: Option<WaypointAddress>| Service {
        name: name(short),
        short_name: short.into(),
        vips: [format!("10.96.0.{octet}/32"), format!("fd00:96::{octet}/128")]
            .map(|vip| ("".parse().unwrap(), vip.parse().unwrap()))
            .into(),
        ports: vec![ServicePort {
            name: "".into(),
            port: Port::new(port).unwrap(),
            protocol: AppProtocol::Unknown,
            target: None,
        }],
        health_policy: HealthPolicy::OnlyReady,
        waypoint,
        seen: Default::default(),
        unsupported: None,
    };
    let hbone = Port::new(15008).unwrap();
    let gate = Workload {
        termination: Termination::Own,
        services: vec![Membership { service: name("gate"), ports: vec![(hbone, hbone)] }],
        ..workload("gate", 3, Tunnel::Hbone)
    };
    let waypoint = WaypointAddress { destination: WaypointDestination::Service(name("gate")), port: hbone };
    World::new(Mesh {
        workloads: vec![workload("a", 1, Tunnel::Hbone), gate],
        services: vec![service("shop", 1, 80, Some(waypoint)), service("gate", 2, 15008, None)],
        ..Mesh::default()
    })
}
