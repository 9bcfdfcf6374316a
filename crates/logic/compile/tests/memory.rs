//! What a compiler holds for a large mesh, and what a change costs it.

#![expect(clippy::unwrap_used, reason = "what the mesh is made of is written here")]

use std::{net::IpAddr, sync::Arc, time::Instant};

use allocation_counter::measure;
use weir_compile::{ClusterDomain, Compiler, Settings, default_root_namespace};
use weir_manifest::{
    Backing, ContainerPort, DataplaneMode, EndpointSliceObject, FileName, Labels, MtlsMode, NamespaceObject, Object,
    Origin, Owner, PeerAuthenticationSpec, Phase, PodObject, PolicyObject, PolicySpec, PolicyTarget, ServiceObject,
    ServicePortObject, Sidecar, SliceEndpoint, SlicePort, TargetPort, WaypointLabels,
};
use weir_model::{Health, HealthPolicy, NetworkMode, PolicyKind, Port};

const PODS: usize = 100_000;
const SERVICES: usize = 10_000;
const NAMESPACES: usize = 100;
const NODES: usize = 500;

/// More than this it may not hold, in bytes.
const BOUND: i64 = 250 << 20;
/// And no more than this besides, when every pod names a policy.
const STRICT_BOUND: i64 = 16 << 20;

fn settings() -> Settings {
    Settings {
        trust_domain: "cluster.local".parse().unwrap(),
        cluster: "Kubernetes".parse().unwrap(),
        network: "".parse().unwrap(),
        node: None,
        cluster_domain: ClusterDomain::default(),
        root_namespace: default_root_namespace(),
    }
}

/// Texts of its own for every object, as a decoder makes them.
fn origin() -> Origin {
    Origin { file: FileName::new("api-server"), document: 1, line: 1 }
}

fn namespace(service: usize) -> String {
    format!("team-{}", service % NAMESPACES)
}

fn pod_name(i: usize) -> Arc<str> {
    format!("application-{:04}-6b7d9c5f48-{i:07}", i % SERVICES).into()
}

fn address(i: usize) -> IpAddr {
    let [.., a, b, c] = i.to_be_bytes();
    IpAddr::from([10, a, b, c])
}

fn pod(i: usize) -> PodObject {
    let service = i % SERVICES;
    let labels = [
        ("app".to_owned(), format!("application-{service:04}")),
        ("pod-template-hash".to_owned(), "6b7d9c5f48".to_owned()),
        ("version".to_owned(), "v1".to_owned()),
        ("team".to_owned(), namespace(service)),
    ];
    PodObject {
        origin: origin(),
        namespace: namespace(service).parse().unwrap(),
        name: pod_name(i),
        incarnation: format!("0b0e5b9e-7d0e-4b0c-8f0a-{i:012}").into(),
        labels: labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
        mode: None,
        waypoint: WaypointLabels::default(),
        network: None,
        netns: None,
        owner: Some(Owner { kind: "ReplicaSet".into(), name: format!("application-{service:04}-6b7d9c5f48").into() }),
        service_account: format!("application-{service:04}").parse().unwrap(),
        node: Some(format!("node-{}.example", i % NODES).parse().unwrap()),
        network_mode: NetworkMode::Standard,
        sidecar: Sidecar::Absent,
        ports: vec![ContainerPort { name: "web".into(), port: Port::new(8080).unwrap() }],
        phase: Phase::Running,
        addresses: vec![address(i)],
        health: Health::Healthy,
    }
}

fn service(i: usize) -> ServiceObject {
    let [.., a, b] = i.to_be_bytes();
    let selector: Labels = [("app".into(), format!("application-{i:04}").into())].into();
    ServiceObject {
        origin: origin(),
        namespace: namespace(i).parse().unwrap(),
        name: format!("application-{i:04}").into(),
        waypoint: WaypointLabels::default(),
        cluster_ips: vec![IpAddr::from([172, 20, a, b])],
        external_ips: Vec::new(),
        selector,
        ports: vec![ServicePortObject {
            name: "web".into(),
            port: Port::new(80).unwrap(),
            target: TargetPort::Name("web".into()),
            app_protocol: None,
        }],
        health_policy: HealthPolicy::OnlyReady,
        backing: Backing::Endpoints,
    }
}

fn slice(service: usize) -> EndpointSliceObject {
    let endpoint = |i| SliceEndpoint {
        addresses: vec![address(i)],
        health: Health::Healthy,
        pod: Some((namespace(service).parse().unwrap(), pod_name(i))),
    };
    EndpointSliceObject {
        origin: origin(),
        namespace: namespace(service).parse().unwrap(),
        name: format!("application-{service:04}-x7k2p").into(),
        service: Some(format!("application-{service:04}").into()),
        endpoints: (service..PODS).step_by(SERVICES).map(endpoint).collect(),
        ports: vec![SlicePort { name: "web".into(), port: Port::new(8080) }],
    }
}

/// Every peer of every pod must prove who it is.
fn strict() -> PolicyObject {
    PolicyObject {
        origin: origin(),
        kind: PolicyKind::PeerAuthentication,
        namespace: default_root_namespace(),
        name: "default".into(),
        created: None,
        generation: None,
        target: PolicyTarget::All,
        spec: PolicySpec::PeerAuthentication(PeerAuthenticationSpec {
            mode: MtlsMode::Strict,
            ..PeerAuthenticationSpec::default()
        }),
    }
}

fn loaded() -> Compiler {
    let mut compiler = Compiler::new(settings());
    for i in 0..NAMESPACES {
        let (name, mode) = (namespace(i).parse().unwrap(), Some(DataplaneMode::Ambient));
        compiler.set(Object::Namespace(NamespaceObject {
            origin: origin(),
            name,
            mode,
            labels: Labels::new(),
            waypoint: WaypointLabels::default(),
        }));
    }
    for i in 0..SERVICES {
        compiler.set(Object::Service(service(i)));
        compiler.set(Object::EndpointSlice(slice(i)));
    }
    for i in 0..PODS {
        compiler.set(Object::Pod(pod(i)));
    }
    assert_eq!(compiler.take().workloads.len(), PODS);
    compiler
}

#[test]
fn a_hundred_thousand_pods_and_ten_thousand_services_fit_and_one_change_costs_what_it_changes() {
    let mut made = None;
    let began = Instant::now();
    let cost = measure(|| made = Some(loaded()));
    println!("{} MiB held, {} MiB at most, in {:?}", cost.bytes_current >> 20, cost.bytes_max >> 20, began.elapsed());
    assert!(cost.bytes_current < BOUND, "{} MiB", cost.bytes_current >> 20);
    let mut compiler = made.unwrap();
    assert!(compiler.world().workloads().all(|one| one.services.len() == 1));
    let mut sick = pod(4_711);
    sick.health = Health::Unhealthy;
    let mut delta = None;
    let began = Instant::now();
    let cost = measure(|| {
        compiler.set(Object::Pod(sick));
        delta = Some(compiler.take());
    });
    println!("{} bytes in {} pieces for one change, in {:?}", cost.bytes_total, cost.count_total, began.elapsed());
    assert_eq!(delta.map(|delta| delta.workloads.len()), Some(1));
    assert!(cost.bytes_total < 64 << 10, "{} bytes for one change", cost.bytes_total);
    let mut delta = None;
    let began = Instant::now();
    let cost = measure(|| {
        compiler.set(Object::Policy(strict()));
        delta = Some(compiler.take().workloads.len());
    });
    println!("{} MiB more held by STRICT in all of the mesh, in {:?}", cost.bytes_current >> 20, began.elapsed());
    assert_eq!(delta, Some(PODS));
    assert!(cost.bytes_current < STRICT_BOUND, "{} MiB", cost.bytes_current >> 20);
}
