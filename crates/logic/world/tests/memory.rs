//! How much a node pays for each workload it knows. The bound is 300 bytes in a mesh of a hundred thousand.
#![expect(unsafe_code, reason = "counting what is allocated takes an allocator, and that is an unsafe trait")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use weir_model::{Health, Locality, Membership, NetworkMode, Port, Tunnel, Workload, WorkloadKind, WorkloadUid};
use weir_world::{Delta, World};

static HELD: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is the system allocator's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(rounded(layout.size()), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(rounded(layout.size()), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What an allocation takes: a header of 8 bytes, and a multiple of 16.
fn rounded(size: usize) -> usize {
    (size + 8).max(24).next_multiple_of(16)
}

const WORKLOADS: u32 = 100_000;
const DEPLOYMENTS: u32 = 1_000;
const NODES: u32 = 500;

fn workload(n: u32) -> Workload {
    let deployment = n % DEPLOYMENTS;
    let namespace = format!("team-{}", deployment % 50).parse().unwrap();
    let name = format!("service-{deployment}-7d9c{:06x}-x{:05x}", deployment * 7919, n);
    let cluster = "Kubernetes".parse().unwrap();
    let port = |number| Port::new(number).unwrap();
    Workload {
        uid: WorkloadUid::of_pod(&cluster, &namespace, &name).unwrap(),
        incarnation: format!("0f8fad5b-d9cb-469f-a165-7086{n:08x}").into(),
        name: name.as_str().into(),
        trust_domain: "cluster.local".parse().unwrap(),
        service_account: format!("service-{deployment}").parse().unwrap(),
        addresses: vec![
            IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n)),
            IpAddr::V6(Ipv6Addr::from((0xfd00_u128 << 112) + u128::from(n))),
        ],
        network: Default::default(),
        tunnel: Tunnel::Hbone,
        network_mode: NetworkMode::Standard,
        node: Some(format!("node-{}.example.internal", n % NODES).parse().unwrap()),
        locality: Locality { region: "eu-1".into(), zone: format!("eu-1-{}", n % 3).into(), subzone: "".into() },
        health: Health::Healthy,
        cluster,
        kind: WorkloadKind::Deployment,
        workload_name: format!("service-{deployment}").into(),
        canonical_name: format!("service-{deployment}").into(),
        canonical_revision: "v1".into(),
        services: vec![Membership {
            service: format!("{namespace}/service-{deployment}.{namespace}.svc.cluster.local").parse().unwrap(),
            ports: vec![(port(80), port(8080)), (port(443), port(8443))],
        }],
        policies: Vec::new(),
        unsupported: None,
        namespace,
    }
}

#[test]
fn a_known_workload_costs_less_than_300_bytes() {
    let before = HELD.load(Relaxed);
    let mut world = World::default();
    // In pieces, as a control plane sends them.
    for piece in 0..WORKLOADS / 1_000 {
        let workloads = (piece * 1_000..(piece + 1) * 1_000).map(workload).map(|one| (one.uid.clone(), Some(one)));
        world = world.apply(Delta { workloads: workloads.collect(), ..Delta::default() });
    }
    let each = (HELD.load(Relaxed) - before) / usize::try_from(WORKLOADS).unwrap();
    println!("{each} bytes for each of {} workloads", world.len());
    assert_eq!(world.len(), usize::try_from(WORKLOADS).unwrap());
    assert!(each < 300, "{each} bytes for each workload");
    drop(world);
    let left = HELD.load(Relaxed).saturating_sub(before);
    assert!(left < 1 << 20, "{left} bytes stayed behind");
}
