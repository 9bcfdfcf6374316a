//! Worlds follow changes, and end up where they would be had they been told everything at once.

use std::{collections::BTreeMap, net::SocketAddr};

use proptest::prelude::*;
use weir_model::{Enrolment, NetworkMode, OrigDst, PolicyName, PolicyScope};

use super::*;
use crate::{
    Delta, HBONE_PORT, Inbound, Plan, Refusal, Source, Verdict,
    testing::{behind, endpoint, ip, mesh, network, service, service_name, uid, workload, world},
};

fn policy(name: &str, scope: PolicyScope) -> Policy {
    Policy { name: name.parse().unwrap(), scope }
}

/// A workload, a service or a policy, as it is now or gone.
#[derive(Debug, Clone)]
enum Step {
    Workload(WorkloadUid, Option<Workload>),
    Service(ServiceName, Option<Service>),
    Policy(PolicyName, Option<Policy>),
}

fn a_workload() -> impl Strategy<Value = Step> {
    (0_u8..8, 0_u8..5, any::<[bool; 5]>(), 0_usize..4).prop_map(|(i, octet, [gone, mesh, host, far, node], of)| {
        let name = format!("w{i}");
        let mut one = workload(&name, octet, if mesh { Tunnel::Hbone } else { Tunnel::None });
        if host {
            (one.tunnel, one.network_mode) = (Tunnel::None, NetworkMode::HostNetwork);
        }
        if far {
            one.network = network("far");
        }
        one.node = node.then(|| "n1".parse().unwrap());
        one.incarnation = format!("{octet}{mesh}").into();
        one.services.clear();
        let services: Vec<(String, u16)> = (0..of).map(|i| (format!("s{i}"), 8080 + u16::from(octet))).collect();
        let one = behind(one, &services.iter().map(|(name, own)| (name.as_str(), *own)).collect::<Vec<_>>());
        Step::Workload(uid(&name), (!gone).then_some(one))
    })
}

fn a_service() -> impl Strategy<Value = Step> {
    (0_u8..4, 0_u8..3, 0_u8..3, any::<bool>()).prop_map(|(i, vip, range, gone)| {
        let (single, wide) = (format!("10.96.0.{vip}/32"), format!("10.{range}.0.0/1{}", 4 + range));
        let one = service(&format!("s{i}"), &[&single, &wide]);
        Step::Service(one.name.clone(), (!gone).then_some(one))
    })
}

fn a_policy() -> impl Strategy<Value = Step> {
    let scopes = vec![PolicyScope::Mesh, PolicyScope::Namespace, PolicyScope::Workloads];
    (0_u8..3, prop::sample::select(vec!["ns", "other"]), prop::sample::select(scopes), any::<bool>()).prop_map(
        |(i, namespace, scope, gone)| {
            let one = policy(&format!("{namespace}/p{i}"), scope);
            Step::Policy(one.name.clone(), (!gone).then_some(one))
        },
    )
}

/// Everything a world answers, as far as no chance is in it.
fn answers(world: &World) -> Vec<String> {
    let mut lines: Vec<String> = world.workloads().map(|one| format!("{one:?}")).collect();
    lines.extend(world.services().map(|one| format!("{one:?}")));
    lines.extend(world.policies().map(|one| format!("{one:?}")));
    for network in ["", "far"].map(network) {
        for octet in 0..6 {
            for at in [
                format!("10.0.0.{octet}"),
                format!("fd00::{octet}"),
                format!("10.96.0.{octet}"),
                format!("10.{octet}.0.1"),
            ] {
                let (there, served) = (world.workload_at(&network, ip(&at)), world.service_at(&network, ip(&at)));
                lines.push(format!("{at} {:?} {:?}", there.map(|one| one.uid.clone()), served.map(|one| &one.name)));
            }
        }
    }
    for i in 0..4 {
        let mut uids: Vec<_> = world.behind(&service_name(&format!("s{i}"))).map(|one| one.uid()).collect();
        uids.sort();
        lines.push(format!("s{i} {uids:?}"));
    }
    lines.extend(
        ["ns", "other"].map(|name| format!("{:?}", world.policies.over(&world.hasher, &name.parse().unwrap()))),
    );
    lines.push(format!("{} traits, {} places", world.traits.len(), world.places.len()));
    lines.push(format!("{} {} {}", world.owners.len(), world.vips.len(), world.behind.len()));
    lines
}

proptest! {
    #[test]
    fn a_world_that_followed_is_one_that_was_told_at_once(
        steps in prop::collection::vec(prop_oneof![a_workload(), a_service(), a_policy()], 0..60),
        batch in 1_usize..8,
    ) {
        let (mut workloads, mut services, mut policies) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut world = World::following(Some("n1".parse().unwrap()));
        let mut before = None;
        for steps in steps.chunks(batch) {
            // A delta names each thing once: the last word counts.
            let (mut w, mut s, mut p) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            for step in steps.iter().cloned() {
                match step {
                    Step::Workload(uid, now) => drop(w.insert(uid, now)),
                    Step::Service(name, now) => drop(s.insert(name, now)),
                    Step::Policy(name, now) => drop(p.insert(name, now)),
                }
            }
            workloads.extend(w.clone());
            services.extend(s.clone());
            policies.extend(p.clone());
            before = Some((answers(&world), world.clone()));
            world = world.apply(Delta {
                workloads: w.into_iter().collect(),
                services: s.into_iter().collect(),
                policies: p.into_iter().collect(),
            });
        }
        let workloads: Vec<Workload> = workloads.into_values().flatten().collect();
        let local: Vec<_> = workloads.iter().filter(|one| one.node.is_some()).map(|one| one.uid.clone()).collect();
        let whole = World::new(Mesh {
            workloads: workloads.clone(),
            services: services.into_values().flatten().collect(),
            policies: policies.into_values().flatten().collect(),
            local_pods: Vec::new(),
        });
        prop_assert_eq!(answers(&world), answers(&whole));
        let followed: Vec<_> = world.workloads().map(|one| Workload::clone(&one)).collect();
        prop_assert_eq!(followed, workloads);
        prop_assert_eq!(world.local_pods().iter().map(|pod| pod.uid.clone()).collect::<Vec<_>>(), local);
        if let Some((answered, world)) = before {
            prop_assert_eq!(answered, answers(&world), "a world changed after it was replaced");
        }
    }
}

#[test]
fn an_address_goes_to_whoever_else_has_it_when_its_workload_leaves() {
    let at = |world: &World| world.workload_at(&network(""), ip("10.0.0.2")).map(|one| one.name.to_string());
    let two = workload("two", 2, Tunnel::None);
    let with = world().apply(Delta { workloads: vec![(two.uid.clone(), Some(two.clone()))], ..Delta::default() });
    assert_eq!(at(&with).as_deref(), Some("b"), "inside the mesh goes before outside");
    let without = with.apply(Delta { workloads: vec![(uid("b"), None)], ..Delta::default() });
    assert_eq!(at(&without).as_deref(), Some("two"));
    let endpoint = endpoint("unnamed", &["10.0.0.2", "fd00::2"], &[]).uid;
    let none = without.apply(Delta { workloads: vec![(two.uid, None), (endpoint, None)], ..Delta::default() });
    assert_eq!(at(&none), None);
}

#[test]
fn a_workload_comes_back_as_it_was_given() {
    let plain = workload("p", 1, Tunnel::Hbone);
    let mut odd = plain.clone();
    odd.uid = "Kubernetes//v1/Pod/ns/other".parse().unwrap();
    (odd.workload_name, odd.canonical_name) = ("deployment".into(), "app".into());
    (odd.incarnation, odd.addresses) = ("".into(), vec![ip("fd00::1"), ip("10.0.0.1"), ip("10.0.0.3")]);
    odd.unsupported = Some("a gateway".into());
    let none = Workload { uid: uid("none"), addresses: Vec::new(), ..plain.clone() };
    let six =
        Workload { uid: uid("six"), addresses: vec![ip("fd00::6")], node: Some("n".parse().unwrap()), ..plain.clone() };
    for one in [plain, odd, none, six] {
        let world = World::new(Mesh { workloads: vec![one.clone()], ..Mesh::default() });
        assert_eq!(world.workload(&one.uid).as_deref(), Some(&one));
        assert!(one.addresses.iter().all(|ip| world.stands(&one.uid, &one.incarnation, *ip)));
        assert!(!world.stands(&one.uid, "another", ip("10.0.0.1")));
        assert!(!world.stands(&one.uid, &one.incarnation, ip("192.0.2.1")));
    }
}

#[test]
fn the_pods_of_a_node_are_its_workloads() {
    let on = |mut one: Workload, node: &str| {
        one.node = Some(node.parse().unwrap());
        (one.uid.clone(), Some(one))
    };
    let host = Workload { network_mode: NetworkMode::HostNetwork, ..workload("h", 9, Tunnel::None) };
    let workloads = vec![
        on(workload("b", 2, Tunnel::None), "n1"),
        on(workload("a", 1, Tunnel::Hbone), "n1"),
        on(workload("c", 3, Tunnel::Hbone), "n2"),
        on(host, "n1"),
    ];
    let delta = Delta { workloads, ..Delta::default() };
    assert!(World::following(None).apply(delta.clone()).local_pods().is_empty());
    let world = World::following(Some("n1".parse().unwrap())).apply(delta);
    let pods: Vec<_> = world.local_pods().iter().map(|pod| (pod.uid.clone(), pod.enrolment)).collect();
    let want =
        [(uid("a"), Enrolment::Enrolled), (uid("b"), Enrolment::NotLabelled), (uid("h"), Enrolment::HostNetwork)];
    assert_eq!(pods, want);
    assert_eq!(world.local_pods()[0].addresses, [ip("10.0.0.1"), ip("fd00::1")]);
    assert_eq!(world.local_pods()[0].netns, None);
    let moved = world.apply(Delta { workloads: vec![on(workload("a", 1, Tunnel::Hbone), "n2")], ..Delta::default() });
    assert_eq!((moved.local_pods().len(), world.local_pods().len()), (2, 3));
}

#[test]
fn what_this_version_cannot_do_is_neither_reached_nor_entered() {
    let why = || Some("it has a waypoint".into());
    let mut mesh = mesh();
    for one in &mut mesh.workloads {
        if [uid("b"), uid("c")].contains(&one.uid) {
            one.unsupported = why();
        }
    }
    mesh.services[7].unsupported = why();
    let world = World::new(mesh);
    let reached = |dst: &str| match world.outbound(&uid("a"), OrigDst::new(dst.parse().unwrap()), &mut rand::rng()) {
        Plan::Refuse(refusal) => (refusal.to_string(), refusal.service().is_some()),
        plan @ (Plan::Tunnel(_) | Plan::Passthrough(_)) => panic!("{dst}: {plan:?}"),
    };
    let text = |what: &str| format!("{what} needs what this version does not have: it has a waypoint");
    for (dst, what, is_service) in [
        ("10.0.0.2:80", "workload Kubernetes//v1/Pod/ns/b", false),
        ("[fd00::2]:80", "workload Kubernetes//v1/Pod/ns/b", false),
        ("10.96.0.1:80", "workload Kubernetes//v1/Pod/ns/b", false),
        ("10.0.0.3:80", "workload Kubernetes//v1/Pod/ns/c", false),
        ("10.96.0.2:80", "workload Kubernetes//v1/Pod/ns/c", false),
        // The endpoint itself is fine, the pod that stands there is not.
        ("10.96.0.8:80", "workload Kubernetes//v1/Pod/ns/b", false),
        ("10.96.0.9:80", "service ns/far.ns.svc.cluster.local", true),
        ("[fd00:96::9]:80", "service ns/far.ns.svc.cluster.local", true),
    ] {
        assert_eq!(reached(dst), (text(what), is_service), "{dst}");
    }
    assert_eq!(entered(&world, "b"), Some(text("workload Kubernetes//v1/Pod/ns/b")));
    assert_eq!(entered(&world, "a"), None);
}

#[test]
fn a_service_is_reached_by_those_behind_it_that_can_be() {
    let (mut one, two) = (workload("one", 21, Tunnel::Hbone), workload("two", 22, Tunnel::Hbone));
    one.unsupported = Some("it has a waypoint".into());
    let workloads = vec![workload("a", 1, Tunnel::Hbone), behind(one, &[("s", 1)]), behind(two, &[("s", 2)])];
    let world = World::new(Mesh { workloads, services: vec![service("s", &["10.96.0.1/32"])], ..Mesh::default() });
    for _ in 0..16 {
        let plan = world.outbound(&uid("a"), OrigDst::new("10.96.0.1:80".parse().unwrap()), &mut rand::rng());
        assert!(matches!(&plan, Plan::Tunnel(plan) if &*plan.destination.name == "two"), "{plan:?}");
    }
}

#[test]
fn what_a_policy_covers_is_not_entered() {
    let covers = |policy: &str| {
        Some(format!("policy {policy} covers Kubernetes//v1/Pod/ns/b, and this version enforces no policy"))
    };
    for (policies, named, want) in [
        (vec![], vec![], None),
        (vec![policy("root/p", PolicyScope::Mesh)], vec![], covers("root/p")),
        (vec![policy("ns/p", PolicyScope::Namespace)], vec![], covers("ns/p")),
        (vec![policy("ns/q", PolicyScope::Namespace), policy("ns/p", PolicyScope::Namespace)], vec![], covers("ns/p")),
        (vec![policy("other/p", PolicyScope::Namespace)], vec![], None),
        (vec![policy("ns/p", PolicyScope::Workloads)], vec![], None),
        (vec![policy("ns/p", PolicyScope::Workloads)], vec!["ns/p"], covers("ns/p")),
        (vec![], vec!["ns/p"], Some("Kubernetes//v1/Pod/ns/b is covered by policy ns/p, which is not known".into())),
    ] {
        let mut mesh = mesh();
        mesh.workloads[1].policies = named.iter().map(|name| name.parse().unwrap()).collect();
        mesh.policies.clone_from(&policies);
        let world = World::new(mesh);
        assert_eq!(entered(&world, "b"), want, "{policies:?} {named:?}");
        let gone = policies.iter().map(|one| (one.name.clone(), None)).collect();
        let free = world.apply(Delta { policies: gone, ..Delta::default() });
        assert_eq!(entered(&free, "b").is_some(), !named.is_empty(), "{policies:?} {named:?}");
        let plan = world.outbound(&uid("a"), OrigDst::new("10.0.0.2:80".parse().unwrap()), &mut rand::rng());
        assert!(matches!(plan, Plan::Tunnel(_)), "it is the destination that enforces: {plan:?}");
    }
}

/// Why a mesh peer may not enter the workload.
fn entered(world: &World, name: &str) -> Option<String> {
    let to = world.workload(&uid(name)).unwrap().addresses[0];
    let inbound = Inbound {
        source: Source::Mesh("spiffe://cluster.local/ns/ns/sa/x".parse().unwrap()),
        client: SocketAddr::new(ip("10.9.9.9"), 4000),
        tcp_destination: SocketAddr::new(to, HBONE_PORT),
        target: SocketAddr::new(to, 80),
        own_ports: &[],
    };
    match world.inbound(&uid(name), &inbound) {
        Verdict::Admit(_) => None,
        Verdict::Refuse(refusal) => {
            let flag = refusal.response_flag().as_str();
            assert_eq!((flag, refusal.service()), ("DENY", None), "{refusal}");
            let unsupported = matches!(refusal, Refusal::Unsupported { .. });
            assert_eq!(refusal.http_status(), if unsupported { 503 } else { 401 });
            Some(refusal.to_string())
        }
    }
}
