//! What is bound goes through its waypoint or nowhere, in both families.

use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};
use weir_model::{Health, Locality, OrigDst, Port, Seen};

use super::*;
use crate::{
    endpoint::{Endpoint, Way},
    inbound::{Handover, Inbound, Source, Verdict},
    mesh::Mesh,
    testing::{behind, ip, network, port, service, service_name, socket, stranger, uid, waypoint, workload},
};

/// A source `src`, a pod `web` behind `shop`, which is bound to `gate`; and the pods `g1` and `g2` behind `gate`, which take HBONE themselves.
fn mesh() -> Mesh {
    let gate = |name, octet| Workload {
        termination: Termination::Own,
        service_account: "gate".parse().unwrap(),
        ..behind(workload(name, octet, Tunnel::Hbone), &[("gate", 15008)])
    };
    Mesh {
        workloads: vec![
            workload("src", 1, Tunnel::Hbone),
            behind(workload("web", 2, Tunnel::Hbone), &[("shop", 8080)]),
            gate("g1", 11),
            gate("g2", 12),
        ],
        services: vec![
            Service { waypoint: waypoint("gate"), ..service("shop", &["10.96.0.1/32", "fd00:96::1/128"]) },
            service("gate", &["10.96.0.2/32", "fd00:96::2/128"]),
        ],
        policies: Vec::new(),
        local_pods: Vec::new(),
    }
}

fn of<'m>(mesh: &'m mut Mesh, name: &str) -> &'m mut Workload {
    mesh.workloads.iter_mut().find(|one| &*one.name == name).unwrap()
}

/// Where the connection of a source goes, in a line, in both families with what differs between them made alike.
fn plans(mesh: &Mesh, source: &str, [v4, v6]: [&str; 2]) -> String {
    let world = World::new(mesh.clone());
    let line = |dst: &str| {
        let mut lines: Vec<String> = (0..16).map(|seed| one(&world, source, dst, seed)).collect();
        lines.sort();
        lines.dedup();
        lines.join(" | ").replace(v4, "DST").replace(v6, "DST").replace("10.0.0.", "pod-").replace("IPv4", "FAMILY")
    };
    let (four, six) = (line(v4), line(v6).replace("fd00::", "pod-").replace("IPv6", "FAMILY").replace(['[', ']'], ""));
    assert_eq!(four, six, "{v4} {v6}");
    four
}

fn one(world: &World, source: &str, dst: &str, seed: u64) -> String {
    match world.outbound(&uid(source), OrigDst::new(socket(dst)), &mut SmallRng::seed_from_u64(seed)) {
        Plan::Tunnel(plan) => {
            let expect: Vec<_> = plan.expect.iter().map(|one| one.service_account().to_string()).collect();
            let by = plan.service.map_or("-".into(), |service| service.short_name.clone());
            format!("{} {} {} {by} {}", plan.next_hop, plan.authority, plan.destination.name, expect.join(","))
        }
        Plan::Passthrough(plan) => format!("plain {}", plan.target),
        Plan::Refuse(refusal) => format!("{} {refusal}", refusal.response_flag().as_str()),
    }
}

const SHOP: [&str; 2] = ["10.96.0.1:80", "[fd00:96::1]:80"];
const WEB: [&str; 2] = ["10.0.0.2:80", "[fd00::2]:80"];
const DIRECT: &str = "pod-2:15008 pod-2:8080 web shop web";

type Change = fn(&mut Mesh);

#[test]
fn what_is_bound_goes_through_its_waypoint() {
    let through = "pod-11:15008 DST g1 shop gate | pod-12:15008 DST g2 shop gate";
    let single = "pod-12:15008 DST g2 shop gate";
    let cases: [(&str, Change, [&str; 2], &str); 11] = [
        ("src", |_| {}, SHOP, through),
        ("src", |mesh| of(mesh, "g1").health = Health::Unhealthy, SHOP, single),
        ("src", |mesh| of(mesh, "g1").tunnel = Tunnel::None, SHOP, single),
        ("src", |mesh| of(mesh, "g1").unsupported = Some("no".into()), SHOP, single),
        ("src", |mesh| of(mesh, "g1").network = network("far"), SHOP, single),
        // The pod by its own address is not bound, unless it is itself.
        ("src", |_| {}, WEB, "pod-2:15008 DST web - web"),
        (
            "src",
            |mesh| of(mesh, "web").waypoint = waypoint("gate"),
            WEB,
            "pod-11:15008 DST g1 - gate | pod-12:15008 DST g2 - gate",
        ),
        // A pod that is bound, by its service.
        (
            "src",
            |mesh| {
                of(mesh, "web").waypoint = waypoint("gate");
                mesh.services[0].waypoint = None;
            },
            SHOP,
            DIRECT,
        ),
        // A pod outside the mesh is bound all the same, and one without any endpoint.
        ("src", |mesh| of(mesh, "web").tunnel = Tunnel::None, SHOP, through),
        ("src", |mesh| of(mesh, "web").services.clear(), SHOP, through),
        (
            "src",
            |mesh| mesh.services[0].waypoint.as_mut().unwrap().port = port(16008),
            SHOP,
            "pod-11:16008 DST g1 shop gate | pod-12:16008 DST g2 shop gate",
        ),
    ];
    for (i, (source, change, dst, want)) in cases.into_iter().enumerate() {
        let mut mesh = mesh();
        change(&mut mesh);
        assert_eq!(plans(&mesh, source, dst), want, "case {i}");
    }
}

#[test]
fn a_replica_that_did_not_take_a_connection_is_not_asked_again() {
    let elsewhere = |mesh: &Mesh, dst: &str, tried: &[&str]| {
        let (world, tried): (_, Vec<_>) = (World::new(mesh.clone()), tried.iter().map(|name| uid(name)).collect());
        let mut found: Vec<String> = (0..16)
            .filter_map(|seed| {
                let rng = &mut SmallRng::seed_from_u64(seed);
                Some(
                    world
                        .outbound_elsewhere(&uid("src"), OrigDst::new(socket(dst)), &tried, rng)?
                        .destination
                        .name
                        .to_string(),
                )
            })
            .collect();
        found.sort();
        found.dedup();
        found.join(" ")
    };
    let as_it_is: Change = |_| {};
    for (change, dst, tried, want) in [
        (as_it_is, SHOP, &[][..], "g1 g2"),
        (as_it_is, SHOP, &["g1"], "g2"),
        (as_it_is, SHOP, &["g1", "g2"], ""),
        (|mesh| of(mesh, "g2").health = Health::Unhealthy, SHOP, &["g1"], ""),
        (|mesh| of(mesh, "web").waypoint = waypoint("gate"), WEB, &["g2"], "g1"),
        // What goes straight has no other way: the endpoint was chosen.
        (as_it_is, WEB, &[], ""),
        (|mesh| mesh.services[0].waypoint = None, SHOP, &[], ""),
        (|mesh| of(mesh, "web").tunnel = Tunnel::None, WEB, &[], ""),
    ] {
        let mut mesh = mesh();
        change(&mut mesh);
        for dst in dst {
            assert_eq!(elsewhere(&mesh, dst, tried), want, "{dst} after {tried:?}");
        }
    }
}

#[test]
fn the_nearest_replica_that_is_ready_is_taken() {
    let place = |text: &str| {
        let mut parts = text.split('/').map(Arc::<str>::from);
        let mut next = || parts.next().unwrap_or_default();
        Locality { region: next(), zone: next(), subzone: next() }
    };
    let (near, far) = ("pod-11:15008 DST g1 shop gate", "pod-12:15008 DST g2 shop gate");
    for (first, other, want) in [
        ("r/z/s", "r/z/s", format!("{near} | {far}")),
        ("r/z/s", "r/z/t", near.to_owned()),
        ("r/z/t", "r/y/s", near.to_owned()),
        ("r/y", "q/z/s", near.to_owned()),
        ("q", "r", far.to_owned()),
        ("", "q", format!("{near} | {far}")),
    ] {
        let mut mesh = mesh();
        of(&mut mesh, "src").locality = place("r/z/s");
        (of(&mut mesh, "g1").locality, of(&mut mesh, "g2").locality) = (place(first), place(other));
        assert_eq!(plans(&mesh, "src", SHOP), want, "{first} {other}");
        of(&mut mesh, "g1").health = Health::Unhealthy;
        assert_eq!(plans(&mesh, "src", SHOP), far, "failed over from {first} to {other}");
    }
}

#[test]
fn without_its_waypoint_nothing_is_reached_and_the_reason_says_why() {
    let bound =
        |what: &str, to: &str, why: &str| format!("UH {what} is reached through its waypoint {to} only, and {why}");
    let (shop, gate) = ("service ns/shop.ns.svc.cluster.local", "ns/gate.ns.svc.cluster.local");
    let unready = "none of its 2 workloads is ready, in the mesh and reached from here over FAMILY";
    let unknown = "the mesh knows no such waypoint";
    let cases: [(Change, [&str; 2], String); 8] = [
        (|mesh| drop(mesh.services.pop()), SHOP, bound(shop, gate, unknown)),
        (|mesh| mesh.workloads.truncate(2), SHOP, bound(shop, gate, "no workload stands behind that")),
        (
            |mesh| ["g1", "g2"].into_iter().for_each(|name| of(mesh, name).health = Health::Unhealthy),
            SHOP,
            bound(shop, gate, unready),
        ),
        (
            |mesh| ["g1", "g2"].into_iter().for_each(|name| of(mesh, name).tunnel = Tunnel::None),
            SHOP,
            bound(shop, gate, unready),
        ),
        (
            |mesh| of(mesh, "web").waypoint = waypoint("none"),
            WEB,
            bound("workload Kubernetes//v1/Pod/ns/web", "ns/none.ns.svc.cluster.local", unknown),
        ),
        (
            |mesh| mesh.services[1].unsupported = Some("it is new".into()),
            SHOP,
            format!("DENY the waypoint {gate} cannot be reached by this version: it is new"),
        ),
        (|_| {}, ["10.96.0.1:82", "[fd00:96::1]:82"], format!("NR {shop} has no port 82")),
        (
            |mesh| of(mesh, "web").waypoint = waypoint("gate"),
            ["10.0.0.2:15008", "[fd00::2]:15008"],
            "DENY port 15008 of pod-2 belongs to the mesh, not to an application".to_owned(),
        ),
    ];
    for (i, (change, dst, want)) in cases.into_iter().enumerate() {
        let mut mesh = mesh();
        change(&mut mesh);
        assert_eq!(plans(&mesh, "src", dst), want, "case {i}");
    }
}

/// One that ends stands behind nothing any more, and is known by its name: in its own namespace.
#[test]
fn a_waypoint_of_that_name_in_another_namespace_is_another() {
    let from = |namespace: &str| {
        let mut mesh = mesh();
        let one = of(&mut mesh, "g1");
        one.services.clear();
        one.namespace = namespace.parse().unwrap();
        plans(&mesh, "g1", SHOP)
    };
    assert_eq!(from("ns"), DIRECT);
    assert_eq!(from("other"), "pod-12:15008 DST g2 shop gate");
}

#[test]
fn a_waypoint_of_one_family_serves_both_to_who_has_both() {
    for (own, left, dst, want) in [
        (0, 0..2, "[fd00:96::1]:80", "10.0.0.11:15008 [fd00:96::1]:80 g1 shop gate"),
        (1, 0..2, "10.96.0.1:80", "[fd00::11]:15008 10.96.0.1:80 g1 shop gate"),
        (0, 0..1, "10.96.0.1:80", "10.0.0.11:15008 10.96.0.1:80 g1 shop gate"),
        (1, 1..2, "[fd00:96::1]:80", "[fd00::11]:15008 [fd00:96::1]:80 g1 shop gate"),
    ] {
        let mut mesh = mesh();
        mesh.workloads.pop();
        let gate = of(&mut mesh, "g1");
        gate.addresses = vec![gate.addresses[own]];
        let source = of(&mut mesh, "src");
        source.addresses = source.addresses[left].to_vec();
        assert_eq!(one(&World::new(mesh), "src", dst, 1), want);
    }
    let mut mesh = mesh();
    of(&mut mesh, "src").addresses = vec![ip("fd00::1")];
    for name in ["g1", "g2"] {
        of(&mut mesh, name).addresses.pop();
    }
    assert!(one(&World::new(mesh), "src", "[fd00:96::1]:80", 1).contains("reached from here over IPv6"));
}

#[test]
fn what_a_waypoint_sends_goes_on_and_never_back_to_one_of_its_own() {
    let gone = |mesh: &mut Mesh| {
        let gate = of(mesh, "g1");
        (gate.health, gate.services) = (Health::Unhealthy, Vec::new());
    };
    for bound in [waypoint("gate"), by_address("10.96.0.2"), by_address("fd00:96::2")] {
        let mut mesh = mesh();
        mesh.services[0].waypoint.clone_from(&bound);
        of(&mut mesh, "web").waypoint.clone_from(&bound);
        assert_eq!(plans(&mesh, "g1", SHOP), DIRECT);
        assert_eq!(plans(&mesh, "g1", WEB), "pod-2:15008 DST web - web");
        gone(&mut mesh);
        assert_eq!(plans(&mesh, "g1", SHOP), DIRECT, "a waypoint that ends goes on");
        // Who has its name and is no waypoint is none of its own.
        of(&mut mesh, "g1").termination = Termination::Agent;
        assert_eq!(plans(&mesh, "g1", SHOP), "pod-12:15008 DST g2 shop gate");
    }
    // By the address of a pod there is one replica.
    let mut mesh = mesh();
    mesh.services[0].waypoint = by_address("10.0.0.11");
    assert_eq!(one(&World::new(mesh.clone()), "src", SHOP[0], 1), "10.0.0.11:15008 10.96.0.1:80 g1 shop gate");
    assert_eq!(plans(&mesh, "g1", SHOP), DIRECT);
    mesh.services[0].waypoint = by_address("10.0.0.99");
    let why = "UH service ns/shop.ns.svc.cluster.local is reached through its waypoint pod-99 only, and the mesh knows no such waypoint";
    assert_eq!(plans(&mesh, "src", SHOP), why);
}

fn by_address(text: &str) -> Option<WaypointAddress> {
    Some(WaypointAddress { destination: WaypointDestination::Address(network(""), ip(text)), port: port(15008) })
}

/// A mesh whose waypoint is a proxy behind its node's agent.
fn sandwich() -> Mesh {
    let mut mesh = mesh();
    of(&mut mesh, "web").waypoint = waypoint("gate");
    of(&mut mesh, "g1").termination = Termination::Proxy(port(15088));
    mesh.workloads.push(workload("free", 3, Tunnel::Hbone));
    mesh.services.push(service("other", &["10.96.0.3/32", "fd00:96::3/128"]));
    mesh
}

fn asked(local: &str, source: Source, connected: &str, target: &str) -> String {
    let asked = Inbound {
        source,
        client: socket("10.0.0.1:4000"),
        tcp_destination: socket(connected),
        target: socket(target),
        own_ports: &[15021],
    };
    match World::new(sandwich()).inbound(&uid(local), &asked) {
        Verdict::Admit(permit) => match permit.handover() {
            Handover::Application => format!("application {}", permit.target()),
            Handover::Proxy { at, service } => {
                let service = service.as_ref().map_or("-", |service| &*service.short_name);
                format!("proxy {at} for {} {service}", permit.target())
            }
        },
        Verdict::Refuse(refusal) => format!("{} {refusal}", refusal.http_status()),
    }
}

#[test]
fn a_waypoint_serves_those_whom_a_service_is_exported_to() {
    let namespaces = |names: &[&str]| Seen::In(Arc::new(names.iter().map(|name| name.parse().unwrap()).collect()));
    let (ns, other) = ("ns".parse().unwrap(), "other".parse().unwrap());
    for (seen, want) in [
        (Seen::Everywhere, [true, true, true]),
        (namespaces(&["ns"]), [false, true, false]),
        (namespaces(&["ns", "other"]), [false, true, true]),
        (namespaces(&[]), [false, false, false]),
    ] {
        let mut mesh = mesh();
        mesh.services[0].seen = seen.clone();
        let world = World::new(mesh);
        for target in SHOP {
            let bound = |client| world.bound_to(&uid("g1"), client, socket(target)).is_some();
            assert_eq!([None, Some(&ns), Some(&other)].map(bound), want, "{seen:?} {target}");
        }
    }
}

#[test]
fn a_proxy_behind_its_agent_is_handed_what_is_bound_to_it_and_nothing_else() {
    let peer = || Source::Mesh("spiffe://cluster.local/ns/ns/sa/src".parse().unwrap());
    let unbound = |what: &str| format!("400 {what} is not bound to the waypoint Kubernetes//v1/Pod/ns/g1");
    for (connected, target, want) in [
        ("10.0.0.11:15008", "10.96.0.1:80", "proxy 10.0.0.11:15088 for 10.96.0.1:80 shop".to_owned()),
        ("[fd00::11]:15008", "[fd00:96::1]:80", "proxy [fd00::11]:15088 for [fd00:96::1]:80 shop".to_owned()),
        ("[fd00::11]:15008", "10.96.0.1:80", "proxy [fd00::11]:15088 for 10.96.0.1:80 shop".to_owned()),
        ("10.0.0.11:15008", "10.0.0.2:8080", "proxy 10.0.0.11:15088 for 10.0.0.2:8080 -".to_owned()),
        ("10.0.0.11:15008", "10.96.0.3:80", unbound("10.96.0.3:80")),
        ("10.0.0.11:15008", "10.0.0.3:80", unbound("10.0.0.3:80")),
        ("10.0.0.11:15008", "10.0.0.12:80", unbound("10.0.0.12:80")),
        ("10.0.0.11:15008", "[fd00::11]:80", unbound("[fd00::11]:80")),
        ("10.0.0.11:15008", "192.0.2.1:80", unbound("192.0.2.1:80")),
        ("10.0.0.11:15008", "10.96.0.2:80", unbound("10.96.0.2:80")),
        // What is its own is delivered as to any pod, but for the port that headers are believed on.
        ("10.0.0.11:15008", "10.0.0.11:9090", "application 10.0.0.11:9090".to_owned()),
        (
            "10.0.0.11:15008",
            "10.0.0.11:15088",
            "503 port 15088 of 10.0.0.11 belongs to the mesh, not to an application".to_owned(),
        ),
        (
            "10.0.0.11:15008",
            "10.0.0.2:15008",
            "503 port 15008 of 10.0.0.2 belongs to the mesh, not to an application".to_owned(),
        ),
    ] {
        assert_eq!(asked("g1", peer(), connected, target), want);
    }
    let plain = asked("g1", Source::Plaintext, "10.0.0.11:15088", "10.0.0.11:15088");
    assert_eq!(plain, "503 port 15088 of 10.0.0.11 belongs to the mesh, not to an application");
    let plain = asked("g1", Source::Plaintext, "10.0.0.11:80", "10.96.0.1:80");
    assert_eq!(plain, "400 the peer asks for 10.96.0.1 on a connection to 10.0.0.11");
    let other = Source::Mesh("spiffe://other.example/ns/ns/sa/src".parse().unwrap());
    assert!(asked("g1", other, "10.0.0.11:15008", "10.96.0.1:80").starts_with("401 "));
    // One that takes HBONE itself has no agent before it.
    let none = asked("g2", peer(), "10.0.0.12:15008", "10.96.0.1:80");
    assert_eq!(none, "503 the destination Kubernetes//v1/Pod/ns/g2 is not enrolled in the mesh");
}

/// Endpoints, in a line each.
fn lines(endpoints: impl Iterator<Item = Endpoint>) -> Vec<String> {
    let line = |one: Endpoint| {
        let way = match one.way {
            Way::Tunnel { next_hop, expect } => format!("tunnel {next_hop} {}", expect[0].service_account()),
            Way::Plain => "plain".to_owned(),
            Way::Unreachable(why) => why.to_string(),
        };
        format!("{} {} {:?} {way}", one.workload.name, one.target, one.health)
    };
    let mut lines: Vec<String> = endpoints.map(line).collect();
    lines.sort();
    lines
}

#[test]
fn a_waypoint_is_told_all_that_stands_behind_a_service_and_how_to_reach_each() {
    let mut mesh = mesh();
    let shop = |one| behind(one, &[("shop", 8080)]);
    mesh.workloads.extend([
        shop(Workload { health: Health::Unhealthy, ..workload("sick", 3, Tunnel::Hbone) }),
        shop(workload("out", 4, Tunnel::None)),
        shop(Workload { addresses: vec![ip("10.0.0.5")], ..workload("four", 5, Tunnel::Hbone) }),
        shop(Workload { addresses: vec![ip("fd00::6")], ..workload("six", 6, Tunnel::Hbone) }),
        shop(Workload { network: network("far"), ..workload("far", 7, Tunnel::Hbone) }),
        shop(Workload { addresses: Vec::new(), ..workload("nowhere", 8, Tunnel::Hbone) }),
        behind(workload("reserved", 9, Tunnel::Hbone), &[("shop", 15001)]),
        shop(stranger("unnamed", &["10.0.0.1", "fd00::1"])),
        behind(workload("alien", 10, Tunnel::Hbone), &[("gate", 8080)]),
    ]);
    let world = World::new(mesh);
    let port = |number| Port::new(number).unwrap();
    let shop = service_name("shop");
    let at = |family, number| lines(world.endpoints(&network(""), &shop, port(number), family));
    let far = "workload Kubernetes//v1/Pod/ns/far cannot be reached by this version: it is in the network \"far\", and this is \"\"";
    assert_eq!(
        at(Family::V4, 80),
        [
            &format!("far 10.0.0.7:8080 Healthy {far}"),
            "four 10.0.0.5:8080 Healthy tunnel 10.0.0.5:15008 four",
            "out 10.0.0.4:8080 Healthy plain",
            "reserved 10.0.0.9:15001 Healthy port 15001 of 10.0.0.9 belongs to the mesh, not to an application",
            "sick 10.0.0.3:8080 Unhealthy tunnel 10.0.0.3:15008 sick",
            "six [fd00::6]:8080 Healthy tunnel [fd00::6]:15008 six",
            "src 10.0.0.1:8080 Healthy tunnel 10.0.0.1:15008 src",
            "web 10.0.0.2:8080 Healthy tunnel 10.0.0.2:15008 web",
        ]
    );
    let six = at(Family::V6, 80);
    assert!(six.contains(&"four 10.0.0.5:8080 Healthy tunnel 10.0.0.5:15008 four".to_owned()), "{six:?}");
    assert!(six.contains(&"web [fd00::2]:8080 Healthy tunnel [fd00::2]:15008 web".to_owned()), "{six:?}");
    assert!(at(Family::V4, 82).is_empty() && at(Family::V4, 81).is_empty());
    assert_eq!(world.endpoints(&network(""), &service_name("nobody"), port(80), Family::V4).count(), 0);
    let pod = |ip, number| lines(world.pod_endpoint(&network(""), ip, port(number)).into_iter());
    assert_eq!(pod(ip("::ffff:10.0.0.2"), 9), ["web 10.0.0.2:9 Healthy tunnel 10.0.0.2:15008 web"]);
    assert_eq!(pod(ip("fd00::4"), 9), ["out [fd00::4]:9 Healthy plain"]);
    assert!(pod(ip("192.0.2.1"), 9).is_empty());
}

proptest! {
    #[test]
    fn what_is_bound_is_reached_through_a_ready_waypoint_or_not_at_all(
        gates in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 0..4),
        own in any::<bool>(),
        known in any::<bool>(),
        six in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut mesh = mesh();
        mesh.workloads.truncate(2);
        of(&mut mesh, "web").waypoint = waypoint("gate");
        for (i, (meshed, ready, listed)) in gates.iter().enumerate() {
            let tunnel = if *meshed { Tunnel::Hbone } else { Tunnel::None };
            let mut one = workload(&format!("w{i}"), u8::try_from(20 + i).unwrap(), tunnel);
            one.health = if *ready { Health::Healthy } else { Health::Unhealthy };
            mesh.workloads.push(if *listed { behind(one, &[("gate", 15008)]) } else { one });
        }
        if !known { mesh.services.pop(); }
        let ([four, other], port) = if own { (WEB, 80) } else { (SHOP, 80) };
        let dst = socket(if six { other } else { four });
        let any = gates.iter().any(|(meshed, ready, listed)| *meshed && *ready && *listed);
        match World::new(mesh).outbound(&uid("src"), OrigDst::new(dst), &mut SmallRng::seed_from_u64(seed)) {
            Plan::Tunnel(plan) => {
                prop_assert!(known && any);
                prop_assert_eq!((plan.authority, plan.authority.port(), plan.next_hop.is_ipv6()), (dst, port, six));
                prop_assert!(plan.destination.services.iter().any(|one| one.service == service_name("gate")));
                prop_assert!(plan.destination.health == Health::Healthy && plan.destination.tunnel == Tunnel::Hbone);
                prop_assert_eq!(&*plan.expect, [plan.destination.identity()]);
            }
            Plan::Passthrough(plan) => prop_assert!(false, "in the clear: {plan:?}"),
            Plan::Refuse(refusal) => {
                prop_assert!(!(known && any), "{refusal}");
                prop_assert!(matches!(refusal, Refusal::NoWaypoint { .. }), "{refusal}");
            }
        }
    }
}
