//! What a world costs: memory for each workload it knows, and work for each change.

#![expect(clippy::unwrap_used, reason = "what the mesh is made of is written here")]

use std::{net::IpAddr, sync::Arc};

use allocation_counter::measure;
use weir_model::{
    AppProtocol, Health, HealthPolicy, Locality, Membership, NetworkMode, Port, Service, ServiceName, ServicePort,
    Tunnel, Workload, WorkloadKind,
};
use weir_world::{Delta, World};

const WORKLOADS: usize = 100_000;
const DEPLOYMENTS: usize = 1_000;
const NODES: usize = 500;

/// More than this a workload may not cost, in bytes.
const BOUND: i64 = 300;

/// Incarnations as a folder has them, or none as on Istio's wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Incarnations {
    Known,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Families {
    Four,
    Both,
}

fn addresses(i: usize, families: Families) -> Vec<IpAddr> {
    let [_, a, b, c] = u32::try_from(i).unwrap().to_be_bytes();
    let six = IpAddr::from([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c]);
    let four = IpAddr::from([10, a, b, c]);
    match families {
        Families::Four => vec![four],
        Families::Both => vec![four, six],
    }
}

fn service_name(deployment: usize) -> ServiceName {
    format!("team-{}/app-{deployment}.team-{}.svc.cluster.local", deployment % 50, deployment % 50).parse().unwrap()
}

/// One pod of many, every text of its own, as a decoder makes them.
fn workload(i: usize, incarnations: Incarnations, families: Families) -> Workload {
    let deployment = i % DEPLOYMENTS;
    let namespace = format!("team-{}", deployment % 50);
    let name: Arc<str> = format!("application-{deployment:04}-6b7d9c5f48-{i:07}").into();
    let ports =
        vec![(Port::new(80).unwrap(), Port::new(8080).unwrap()), (Port::new(81).unwrap(), Port::new(8081).unwrap())];
    Workload {
        uid: format!("Kubernetes//v1/Pod/{namespace}/{name}").parse().unwrap(),
        incarnation: match incarnations {
            Incarnations::Known => format!("0b0e5b9e-7d0e-4b0c-8f0a-{i:012}").into(),
            Incarnations::Unknown => "".into(),
        },
        name,
        namespace: namespace.parse().unwrap(),
        trust_domain: "cluster.local".parse().unwrap(),
        service_account: format!("app-{deployment}").parse().unwrap(),
        addresses: addresses(i, families),
        network: "".parse().unwrap(),
        tunnel: Tunnel::Hbone,
        network_mode: NetworkMode::Standard,
        node: Some(format!("node-{}.example", i % NODES).parse().unwrap()),
        locality: Locality { region: "r".into(), zone: format!("z{}", i % NODES % 3).into(), subzone: "".into() },
        health: Health::Healthy,
        cluster: "Kubernetes".parse().unwrap(),
        kind: WorkloadKind::Deployment,
        workload_name: format!("application-{deployment:04}").into(),
        canonical_name: format!("application-{deployment:04}").into(),
        canonical_revision: "v1".into(),
        services: vec![Membership { service: service_name(deployment), ports }],
        policies: Vec::new(),
        unsupported: None,
    }
}

fn service(deployment: usize) -> Service {
    let [.., a, b] = deployment.to_be_bytes();
    let port = |port| ServicePort {
        name: "".into(),
        port: Port::new(port).unwrap(),
        protocol: AppProtocol::Unknown,
        target: None,
    };
    Service {
        name: service_name(deployment),
        short_name: format!("app-{deployment}").into(),
        vips: vec![("".parse().unwrap(), IpAddr::from([172, 20, a, b]).into())],
        ports: vec![port(80), port(81)],
        health_policy: HealthPolicy::OnlyReady,
        unsupported: None,
    }
}

fn world(incarnations: Incarnations, families: Families) -> World {
    let services = (0..DEPLOYMENTS).map(service).map(|one| (one.name.clone(), Some(one))).collect();
    let mut world = World::following(None).apply(Delta { services, ..Delta::default() });
    // In portions, as they come over a wire, and so that the lists themselves weigh nothing.
    for from in (0..WORKLOADS).step_by(1_000) {
        let portion = (from..from + 1_000).map(|i| workload(i, incarnations, families));
        let workloads = portion.map(|one| (one.uid.clone(), Some(one))).collect();
        world = world.apply(Delta { workloads, ..Delta::default() });
    }
    world
}

#[test]
fn a_workload_costs_less_than_300_bytes_where_a_hundred_thousand_are_known() {
    for (incarnations, families) in [
        (Incarnations::Unknown, Families::Four),
        (Incarnations::Unknown, Families::Both),
        (Incarnations::Known, Families::Both),
    ] {
        let mut made = None;
        let cost = measure(|| made = Some(world(incarnations, families)));
        let count = i64::try_from(made.map_or(0, |world| world.workload_count())).unwrap();
        assert_eq!(count, i64::try_from(WORKLOADS).unwrap());
        let each = cost.bytes_current / count;
        println!("{each} bytes a workload, incarnations {incarnations:?}, families {families:?}");
        assert!(each < BOUND, "{each} bytes a workload, incarnations {incarnations:?}, families {families:?}");
    }
}

#[test]
fn a_change_costs_what_changed_and_not_what_is_known() {
    let world = world(Incarnations::Unknown, Families::Both);
    let mut changed = workload(4_711, Incarnations::Unknown, Families::Both);
    changed.health = Health::Unhealthy;
    let delta = |one: Option<Workload>| Delta { workloads: vec![(changed.uid.clone(), one)], ..Delta::default() };
    for delta in [delta(Some(changed.clone())), delta(None)] {
        let cost = measure(|| drop(world.apply(delta)));
        println!("{} bytes in {} pieces for one change", cost.bytes_total, cost.count_total);
        assert!(cost.bytes_total < 32 << 10, "{} bytes for one change", cost.bytes_total);
    }
}

#[test]
fn what_is_forgotten_costs_nothing() {
    let world = World::following(None);
    let all = |now: fn(Workload) -> Option<Workload>| {
        let all = (0..5_000).map(|i| workload(i, Incarnations::Known, Families::Both));
        Delta { workloads: all.map(|one| (one.uid.clone(), now(one))).collect(), ..Delta::default() }
    };
    let mut made = None;
    let cost = measure(|| made = Some(world.apply(all(Some)).apply(all(|_| None))));
    assert!(made.is_some_and(|world| world.workload_count() == 0));
    assert!(cost.bytes_current < 2_000, "{} bytes are left", cost.bytes_current);
}
