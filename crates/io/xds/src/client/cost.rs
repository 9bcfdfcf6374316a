//! What an agent pays for each workload it knows, in a cluster such as `cargo xtask bench control` makes up, a quarter of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use ipnet::IpNet;
use weir_model::{
    AppProtocol, HealthPolicy, Locality, Membership, NameError, Network, Port, Service, ServiceName, ServicePort,
    Workload, WorkloadKind,
};
use weir_world::World;

use super::held::Held;
use crate::{
    Kind,
    proto::DeltaDiscoveryResponse,
    store::{encode_service, encode_workload},
    testing,
};

const PODS: u32 = 25_000;
const SERVICES: u32 = 2_500;
const NODES: u32 = 125;
/// Resources in a response: about as many as `weir-control` sends in one.
const AT_ONCE: usize = 400;

fn port(number: u16) -> Port {
    Port::new(number).expect("it is not zero")
}

fn address(number: u32, v4: Ipv4Addr, v6: Ipv6Addr) -> IpAddr {
    match number % 2 {
        0 => Ipv4Addr::from_bits(v4.to_bits() + number).into(),
        _ => Ipv6Addr::from_bits(v6.to_bits() + u128::from(number)).into(),
    }
}

fn service_name(number: u32) -> Result<ServiceName, NameError> {
    let namespace = format!("team-{:03}", number % 100);
    format!("{namespace}/app-{number:05}.{namespace}.svc.cluster.local").parse()
}

fn service(number: u32) -> Result<Service, NameError> {
    let vip = address(number, Ipv4Addr::new(172, 20, 0, 0), Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 0));
    let port = |of, target| ServicePort { name: "".into(), port: port(of), protocol: AppProtocol::Http11, target };
    Ok(Service {
        name: service_name(number)?,
        short_name: format!("app-{number:05}").into(),
        vips: vec![(Network::default(), IpNet::from(vip))],
        ports: vec![port(80, None), port(9090, Port::new(9090))],
        health_policy: HealthPolicy::OnlyReady,
        waypoint: None,
        seen: Default::default(),
        unsupported: None,
    })
}

fn pod(number: u32) -> Result<Workload, NameError> {
    let service = number % SERVICES;
    let (app, node) = (format!("app-{service:05}"), (number + number / SERVICES) % NODES);
    let name = format!("{app}-7d4b9c6f5d-{number:06}");
    let namespace = format!("team-{:03}", service % 100);
    let address = match service % 2 {
        0 => Ipv4Addr::from_bits(Ipv4Addr::new(10, 1, 0, 0).to_bits() + number).into(),
        _ => Ipv6Addr::from_bits(Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0).to_bits() + u128::from(number)).into(),
    };
    Ok(Workload {
        uid: format!("Kubernetes//v1/Pod/{namespace}/{name}").parse()?,
        incarnation: format!("00000004-6f1c-4c1e-9a52-{number:012x}").into(),
        name: name.into(),
        namespace: namespace.parse()?,
        service_account: app.parse()?,
        addresses: vec![address],
        node: Some(format!("ip-10-250-{}-{}.eu-central-1.compute.internal", node / 250, node % 250).parse()?),
        locality: Locality {
            region: "eu-central-1".into(),
            zone: ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
                [usize::from(node % 3 > 0) + usize::from(node % 3 > 1)]
            .into(),
            subzone: "".into(),
        },
        kind: WorkloadKind::Deployment,
        workload_name: app.as_str().into(),
        canonical_name: app.as_str().into(),
        canonical_revision: "v1".into(),
        services: vec![Membership {
            service: service_name(service)?,
            ports: vec![(port(80), port(8080)), (port(9090), port(9090))],
        }],
        ..testing::workload("any", &[], &[])
    })
}

#[test]
fn a_known_workload_costs_an_agent_less_than_220_bytes() {
    let (mut held, mut world) = (Held::default(), World::default());
    let resources = (0..SERVICES)
        .map(|number| encode_service(&service(number).expect("a legal service")).bytes)
        .chain((0..PODS).map(|number| encode_workload(&pod(number).expect("a legal workload")).bytes));
    let mut resources = resources.peekable();
    let counted = allocation_counter::measure(|| {
        while resources.peek().is_some() {
            let resources: Vec<Bytes> = resources.by_ref().take(AT_ONCE).collect();
            let response = DeltaDiscoveryResponse { resources, ..DeltaDiscoveryResponse::default() };
            let news = held.take(Kind::Address, response, &Default::default());
            assert_eq!(news.rejected, []);
            world = world.apply(news.delta);
        }
    });
    let each = counted.bytes_current / i64::from(PODS);
    println!("{each} bytes for each of {} workloads", world.len());
    assert_eq!(u32::try_from(world.len()), Ok(PODS));
    // The allocator comes on top of it, and what it cannot give back: together they have the bound of 300.
    assert!((1..220).contains(&each), "{each} bytes for each workload");
}
