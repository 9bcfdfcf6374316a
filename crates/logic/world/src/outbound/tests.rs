//! Where connections go, line by line, in both families.

use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};
use weir_model::Seen;

use super::*;
use crate::{
    mesh::Mesh,
    testing::{ip, mesh, network, service, socket, stranger, uid, workload, world},
};

/// What a plan comes to, in a line.
fn line(plan: &Plan) -> String {
    let service =
        |service: &Option<Arc<Service>>| service.as_ref().map_or("-".into(), |service| service.short_name.to_string());
    match plan {
        Plan::Tunnel(plan) => {
            let expect: Vec<_> = plan.expect.iter().map(ToString::to_string).collect();
            let (by, to) = (service(&plan.service), &plan.destination.name);
            format!("tunnel {} {} {to} {by} {}", plan.next_hop, plan.authority, expect.join(","))
        }
        Plan::Passthrough(plan) => {
            let to = plan.destination.as_ref().map_or("-".into(), |to| to.name.to_string());
            format!("plain {} {to} {}", plan.target, service(&plan.service))
        }
        Plan::Refuse(refusal) => format!("{} {} {refusal}", refusal.http_status(), refusal.response_flag().as_str()),
    }
}

fn plan(world: &World, source: &str, dst: &str) -> String {
    line(&world.outbound(&uid(source), OrigDst::new(socket(dst)), &mut SmallRng::seed_from_u64(1)))
}

#[test]
fn a_service_is_there_for_the_namespaces_it_is_exported_to_alone() {
    let namespaces = |names: &[&str]| Seen::In(Arc::new(names.iter().map(|name| name.parse().unwrap()).collect()));
    let all = ["10.96.0.50:80", "[fd00:96::50]:80", "10.97.1.1:80", "[fd00:97::1]:80"];
    for (seen, is_seen) in [
        (Seen::Everywhere, true),
        (namespaces(&["ns"]), true),
        (namespaces(&["other", "ns"]), true),
        (namespaces(&["other"]), false),
        (namespaces(&[]), false),
    ] {
        let hidden = Service {
            seen: seen.clone(),
            ..service("a-hidden", &["10.96.0.50/32", "fd00:96::50/128", "10.97.0.0/16", "fd00:97::/64"])
        };
        let mut mesh = mesh();
        mesh.services.push(hidden);
        let alone = World::new(mesh.clone());
        mesh.services.push(service("b-open", &["10.96.0.50/32", "fd00:96::50/128", "10.97.0.0/16", "fd00:97::/64"]));
        let both = World::new(mesh);
        for to in all {
            let (alone, both) = (plan(&alone, "a", to), plan(&both, "a", to));
            assert_eq!(alone == format!("plain {to} - -"), !is_seen, "{seen:?} {alone}");
            // Where another has the address, too, it is that one's for those who do not see the first.
            assert_eq!((both.contains("a-hidden"), both.contains("b-open")), (is_seen, !is_seen), "{seen:?} {both}");
        }
    }
}

#[test]
fn each_destination_is_reached_as_it_must_be() {
    let world = world();
    for (v4, v6, want4, want6) in [
        (
            "10.96.0.1:80",
            "[fd00:96::1]:80",
            "tunnel 10.0.0.2:15008 10.0.0.2:8080 b mesh spiffe://cluster.local/ns/ns/sa/b",
            "tunnel [fd00::2]:15008 [fd00::2]:8080 b mesh spiffe://cluster.local/ns/ns/sa/b",
        ),
        (
            "10.0.0.2:9000",
            "[fd00::2]:9000",
            "tunnel 10.0.0.2:15008 10.0.0.2:9000 b - spiffe://cluster.local/ns/ns/sa/b",
            "tunnel [fd00::2]:15008 [fd00::2]:9000 b - spiffe://cluster.local/ns/ns/sa/b",
        ),
        // Itself, and a pod that is not ready but asked for by address.
        (
            "10.0.0.1:80",
            "[fd00::1]:80",
            "tunnel 10.0.0.1:15008 10.0.0.1:80 a - spiffe://cluster.local/ns/ns/sa/a",
            "tunnel [fd00::1]:15008 [fd00::1]:80 a - spiffe://cluster.local/ns/ns/sa/a",
        ),
        (
            "10.0.0.4:80",
            "[fd00::4]:80",
            "tunnel 10.0.0.4:15008 10.0.0.4:80 sick - spiffe://cluster.local/ns/ns/sa/sick",
            "tunnel [fd00::4]:15008 [fd00::4]:80 sick - spiffe://cluster.local/ns/ns/sa/sick",
        ),
        ("10.96.0.2:80", "[fd00:96::2]:80", "plain 10.0.0.3:8080 c plain", "plain [fd00::3]:8080 c plain"),
        ("10.0.0.3:9000", "[fd00::3]:9000", "plain 10.0.0.3:9000 c -", "plain [fd00::3]:9000 c -"),
        ("10.96.0.3:80", "[fd00:96::3]:80", "plain 10.0.0.100:8080 h2 host", "plain [fd00::100]:8080 h2 host"),
        // Two pods share the node's address: neither is meant by it.
        ("10.0.0.100:80", "[fd00::100]:80", "plain 10.0.0.100:80 - -", "plain [fd00::100]:80 - -"),
        ("192.0.2.9:443", "[2001:db8::9]:443", "plain 192.0.2.9:443 - -", "plain [2001:db8::9]:443 - -"),
        (
            "10.96.0.7:80",
            "[fd00:96::7]:80",
            "plain 192.0.2.1:8080 outside outside",
            "plain [2001:db8::1]:8080 outside outside",
        ),
        // An endpoint that names no workload stands at one's address all the same.
        (
            "10.96.0.8:80",
            "[fd00:96::8]:80",
            "tunnel 10.0.0.2:15008 10.0.0.2:8080 b unnamed spiffe://cluster.local/ns/ns/sa/b",
            "tunnel [fd00::2]:15008 [fd00::2]:8080 b unnamed spiffe://cluster.local/ns/ns/sa/b",
        ),
        ("172.16.9.9:80", "[fd01:2::9]:80", "plain 10.0.0.3:8080 c wide", "plain [fd00::3]:8080 c wide"),
        (
            "172.16.1.9:80",
            "[fd01:1::9]:80",
            "tunnel 10.0.0.2:15008 10.0.0.2:8080 b narrow spiffe://cluster.local/ns/ns/sa/b",
            "tunnel [fd00::2]:15008 [fd00::2]:8080 b narrow spiffe://cluster.local/ns/ns/sa/b",
        ),
        (
            "[::ffff:10.0.0.2]:80",
            "[fd00:96::1]:80",
            "tunnel 10.0.0.2:15008 10.0.0.2:80 b - spiffe://cluster.local/ns/ns/sa/b",
            "tunnel [fd00::2]:15008 [fd00::2]:8080 b mesh spiffe://cluster.local/ns/ns/sa/b",
        ),
        // Reserved ports are reserved in the mesh only.
        ("10.0.0.3:15008", "[fd00::3]:15008", "plain 10.0.0.3:15008 c -", "plain [fd00::3]:15008 c -"),
    ] {
        assert_eq!(plan(&world, "a", v4), want4, "{v4}");
        assert_eq!(plan(&world, "a", v6), want6, "{v6}");
    }
}

#[test]
fn what_cannot_be_reached_rightly_is_refused_with_a_reason() {
    let world = world();
    let unready = |name: &str, port| {
        format!("503 UH no ready endpoint of service ns/{name}.ns.svc.cluster.local accepts port {port} over FAMILY")
    };
    let illegal = |port: u16| format!("503 DENY port {port} of ADDRESS belongs to the mesh, not to an application");
    let pods = ("10.0.0.2", "fd00::2");
    for (source, (v4, v6), port, want) in [
        ("a", ("10.96.0.1", "fd00:96::1"), 82, "503 NR service ns/mesh.ns.svc.cluster.local has no port 82".into()),
        ("a", ("10.96.0.1", "fd00:96::1"), 81, unready("mesh", 81)),
        ("a", ("10.96.0.4", "fd00:96::4"), 80, unready("sick", 80)),
        ("a", ("172.16.1.1", "fd01:1::1"), 80, unready("exact", 80)),
        ("a", ("10.96.0.9", "fd00:96::9"), 80, unready("far", 80)),
        ("a", pods, 15008, illegal(15008)),
        ("a", pods, 15006, illegal(15006)),
        ("a", pods, 15001, illegal(15001)),
        ("a", pods, 0, illegal(0)),
        // The service's own port is fine, the pod's behind it is not.
        ("a", ("10.96.0.10", "fd00:96::10"), 80, illegal(15008)),
        ("nobody", pods, 80, "503 NC the source Kubernetes//v1/Pod/ns/nobody is not a workload the mesh knows".into()),
        ("c", pods, 80, "503 DENY the source Kubernetes//v1/Pod/ns/c is not enrolled in the mesh".into()),
    ] {
        for (dst, family, address) in
            [(format!("{v4}:{port}"), "IPv4", pods.0), (format!("[{v6}]:{port}"), "IPv6", pods.1)]
        {
            let want = want.replace("FAMILY", family).replace("ADDRESS", address);
            assert_eq!(plan(&world, source, &dst), want, "{dst}");
        }
    }
}

#[test]
fn a_family_without_endpoints_is_not_served_by_the_other() {
    let world = world();
    assert!(plan(&world, "a", "10.96.0.5:80").starts_with("tunnel 10.0.0.5:15008"));
    assert!(plan(&world, "a", "[fd00:96::5]:80").starts_with("503 UH"));
}

#[test]
fn an_address_means_something_in_its_own_network_only() {
    let world = world();
    assert_eq!(
        world.workload_at(&network("far"), ip("10.0.0.9")).map(|to| to.name.to_string()).as_deref(),
        Some("far")
    );
    assert_eq!(world.workload_at(&network(""), ip("10.0.0.9")), None);
    assert_eq!(plan(&world, "a", "10.0.0.9:80"), "plain 10.0.0.9:80 - -");
    assert_eq!(plan(&world, "far", "10.96.0.1:80"), "plain 10.96.0.1:80 - -");
}

#[test]
fn services_publishing_pods_that_are_not_ready_reach_them() {
    let mut mesh = mesh();
    mesh.services[3].health_policy = weir_model::HealthPolicy::All;
    let world = World::new(mesh);
    assert!(plan(&world, "a", "10.96.0.4:80").starts_with("tunnel 10.0.0.4:15008"));
}

#[test]
fn an_address_that_comes_twice_is_the_one_inside_the_mesh() {
    let mut forth = mesh();
    forth.workloads.insert(0, workload("ghost", 2, Tunnel::None));
    let mut back = mesh();
    back.workloads.push(workload("ghost", 2, Tunnel::None));
    for mesh in [forth, back] {
        assert!(plan(&World::new(mesh), "a", "10.0.0.2:80").starts_with("tunnel 10.0.0.2:15008"));
    }
}

proptest! {
    #[test]
    fn a_destination_in_the_mesh_is_never_reached_in_the_clear(
        tunnels in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 1..6),
        behind in prop::collection::vec((0_usize..6, any::<bool>()), 0..6),
        dst in 0_u8..10,
        six in any::<bool>(),
        port in prop::sample::select(vec![0_u16, 80, 81, 82, 8080, 15001, 15006, 15008, 443]),
        seed in any::<u64>(),
    ) {
        let mut workloads = vec![workload("src", 250, Tunnel::Hbone)];
        for (i, (hbone, _, unhealthy)) in tunnels.iter().enumerate() {
            let octet = u8::try_from(i + 1).unwrap();
            let mut one = workload(&format!("w{i}"), octet, if *hbone { Tunnel::Hbone } else { Tunnel::None });
            if *unhealthy { one.health = weir_model::Health::Unhealthy; }
            workloads.push(one);
        }
        // Endpoints that are said to be workloads, and such that only have their addresses.
        for (i, named) in &behind {
            if *named {
                if let Some(one) = workloads.get_mut(i + 1) {
                    one.services = crate::testing::behind(one.clone(), &[("s", 8080)]).services;
                }
            } else {
                let (four, six) = (format!("10.0.0.{}", i + 1), format!("fd00::{}", i + 1));
                let one = stranger(&format!("x{i}"), &[&four, &six]);
                workloads.push(crate::testing::behind(one, &[("s", 8080)]));
            }
        }
        let world = World::new(Mesh {
            workloads,
            services: vec![service("s", &["10.0.0.9/32", "fd00::9/128"])],
            policies: Vec::new(),
            local_pods: Vec::new(),
        });
        let address = if six { ip(&format!("fd00::{dst}")) } else { ip(&format!("10.0.0.{dst}")) };
        let dst = OrigDst::new(SocketAddr::new(address, port));
        match world.outbound(&uid("src"), dst, &mut SmallRng::seed_from_u64(seed)) {
            Plan::Passthrough(plan) => {
                let there = world.workload_at(&network(""), plan.target.ip());
                prop_assert!(there.is_none_or(|there| there.tunnel == Tunnel::None), "{plan:?}");
                prop_assert!(plan.destination.is_none_or(|to| to.tunnel == Tunnel::None));
            }
            Plan::Tunnel(plan) => {
                prop_assert_eq!(plan.next_hop, SocketAddr::new(plan.authority.ip(), HBONE_PORT));
                prop_assert!(plan.destination.addresses.contains(&plan.authority.ip()));
                prop_assert_eq!(&*plan.expect, [plan.destination.identity()]);
                prop_assert_eq!(plan.authority.is_ipv6(), six);
            }
            Plan::Refuse(refusal) => prop_assert!((400..600).contains(&refusal.http_status())),
        }
    }
}
