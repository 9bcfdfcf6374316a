//! How much a node pays for each workload it knows. What its agent keeps besides is measured in `weir-xds`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weir_model::{
    Health, Locality, Membership, NameError, NetworkMode, Port, Termination, TrustDomain, Tunnel, Workload,
    WorkloadKind, WorkloadUid,
};
use weir_world::{Delta, World};

const WORKLOADS: u32 = 100_000;
const DEPLOYMENTS: u32 = 1_000;
const NODES: u32 = 500;

fn workload(n: u32) -> Result<Workload, NameError> {
    let deployment = n % DEPLOYMENTS;
    let namespace = format!("team-{}", deployment % 50).parse()?;
    let name = format!("service-{deployment}-7d9c{:06x}-x{:05x}", deployment * 7919, n);
    let cluster = "Kubernetes".parse()?;
    let port = |number| Port::new(number).expect("it is not zero");
    Ok(Workload {
        uid: WorkloadUid::of_pod(&cluster, &namespace, &name)?,
        incarnation: format!("0f8fad5b-d9cb-469f-a165-7086{n:08x}").into(),
        name: name.as_str().into(),
        trust_domain: TrustDomain::default(),
        service_account: format!("service-{deployment}").parse()?,
        addresses: vec![
            IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n)),
            IpAddr::V6(Ipv6Addr::from((0xfd00_u128 << 112) + u128::from(n))),
        ],
        network: Default::default(),
        tunnel: Tunnel::Hbone,
        network_mode: NetworkMode::Standard,
        node: Some(format!("node-{}.example.internal", n % NODES).parse()?),
        locality: Locality { region: "eu-1".into(), zone: format!("eu-1-{}", n % 3).into(), subzone: "".into() },
        health: Health::Healthy,
        cluster,
        kind: WorkloadKind::Deployment,
        workload_name: format!("service-{deployment}").into(),
        canonical_name: format!("service-{deployment}").into(),
        canonical_revision: "v1".into(),
        services: vec![Membership {
            service: format!("{namespace}/service-{deployment}.{namespace}.svc.cluster.local").parse()?,
            ports: vec![(port(80), port(8080)), (port(443), port(8443))],
        }],
        policies: Vec::new(),
        termination: Termination::default(),
        waypoint: None,
        unsupported: None,
        namespace,
    })
}

#[test]
fn a_known_workload_costs_less_than_130_bytes() {
    let mut world = World::default();
    let counted = allocation_counter::measure(|| {
        // In pieces, as a control plane sends them.
        for piece in 0..WORKLOADS / 1_000 {
            let workloads = (piece * 1_000..(piece + 1) * 1_000).map(|n| workload(n).expect("a legal workload"));
            let workloads = workloads.map(|one| (one.uid.clone(), Some(one))).collect();
            world = world.apply(Delta { workloads, ..Delta::default() });
        }
    });
    let each = counted.bytes_current / i64::from(WORKLOADS);
    println!("{each} bytes for each of {} workloads", world.len());
    assert_eq!(u32::try_from(world.len()), Ok(WORKLOADS));
    assert!((1..130).contains(&each), "{each} bytes for each workload");
    let freed = allocation_counter::measure(|| drop(std::mem::take(&mut world)));
    assert!(
        counted.bytes_current + freed.bytes_current < 1 << 20,
        "{} stayed behind",
        counted.bytes_current + freed.bytes_current
    );
}
