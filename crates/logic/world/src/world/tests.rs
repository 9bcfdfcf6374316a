//! A world that was changed step by step is the world that was made at once.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weir_model::{Health, PolicyAction, PolicyKind, PolicyScope, PolicySource};

use super::*;
use crate::testing::{behind, ip, network, service, stranger, uid, workload};

/// Everything that can be asked of a world about a small mesh.
fn facts(world: &World) -> Vec<String> {
    let mut facts = Vec::new();
    facts.extend(world.workloads().map(|one| format!("{one:?}")));
    facts.extend(world.services().map(|one| format!("{one:?}")));
    facts.extend(world.policies().map(|one| format!("{one:?}")));
    facts.push(format!("{:?} {}", world.local_pods(), world.len()));
    for octet in 0..8 {
        for address in [format!("10.0.0.{octet}"), format!("fd00::{octet}"), format!("10.96.0.{octet}")] {
            facts.push(format!("{:?}", world.workload_at(&network(""), ip(&address)).map(|one| one.uid.clone())));
            facts.push(format!("{:?}", world.service_at(&network(""), ip(&address)).map(|one| one.name.clone())));
        }
    }
    for served in world.services.iter() {
        let mut members: Vec<_> = world.behind(served).map(|member| member.uid()).collect();
        members.sort();
        facts.push(format!("{} {members:?}", served.name));
    }
    facts.sort();
    facts
}

/// One of a few workloads, in one of its possible forms.
fn some_workload(which: u8, form: u8) -> Workload {
    let tunnel = if form & 1 == 0 { Tunnel::Hbone } else { Tunnel::None };
    // Two of them fight for an address.
    let octet = if form & 2 == 0 { which + 1 } else { 1 };
    let mut one = workload(&format!("w{which}"), octet, tunnel);
    if form & 4 == 0 {
        one = behind(one, if form & 8 == 0 { &[("s0", 8080)] } else { &[("s0", 8080), ("s1", 9090)] });
    }
    if form & 16 == 0 {
        one.node = Some("here".parse().unwrap());
    }
    if form & 32 == 0 {
        one.addresses.push(ip(&format!("10.0.0.{}", (which + 3) % 6)));
    }
    if form & 64 == 0 {
        one.network_mode = NetworkMode::HostNetwork;
        one.tunnel = Tunnel::None;
    }
    if form & 128 == 0 {
        one.health = Health::Unhealthy;
    }
    one
}

fn some_service(which: u8, form: u8) -> Service {
    let vips: &[&str] = match form % 4 {
        0 => &["10.96.0.1/32"],
        1 => &["10.96.0.2/32", "fd00::7/128"],
        2 => &["10.96.0.0/24"],
        _ => &[],
    };
    service(&format!("s{which}"), vips)
}

proptest! {
    #[test]
    fn step_by_step_is_all_at_once(steps in prop::collection::vec(
        prop::collection::vec((0_u8..3, 0_u8..4, prop::option::of(any::<u8>())), 1..5), 1..12,
    )) {
        let node = "here".parse::<NodeName>().unwrap();
        let mut world = World::following(node.clone());
        let (mut workloads, mut services, mut policies) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for step in steps {
            let mut delta = Delta::default();
            for (kind, which, form) in step {
                match kind {
                    0 => {
                        let (uid, one) = (uid(&format!("w{which}")), form.map(|form| some_workload(which, form)));
                        if delta.workloads.iter().all(|(other, _)| *other != uid) {
                            workloads.insert(uid.clone(), one.clone());
                            delta.workloads.push((uid, one));
                        }
                    }
                    1 => {
                        let one = form.map(|form| some_service(which, form));
                        let name = some_service(which, 0).name;
                        if delta.services.iter().all(|(other, _)| *other != name) {
                            services.insert(name.clone(), one.clone());
                            delta.services.push((name, one));
                        }
                    }
                    _ => {
                        let name = PolicyName::new("ns".parse().unwrap(), &format!("p{which}")).unwrap();
                        let scope = if which % 2 == 0 { PolicyScope::Mesh } else { PolicyScope::Namespace };
                        let one = form.map(|_| Policy {
                            name: name.clone(),
                            scope,
                            action: PolicyAction::Deny,
                            dry_run: false,
                            rules: Vec::new(),
                            rejected: None,
                            source: PolicySource { kind: PolicyKind::Authorization, name: "p".into(), file: None },
                        });
                        if delta.policies.iter().all(|(other, _)| *other != name) {
                            policies.insert(name.clone(), one.clone());
                            delta.policies.push((name, one));
                        }
                    }
                }
            }
            world = world.apply(delta);
        }
        let whole = Delta {
            workloads: workloads.into_iter().filter(|(_, one)| one.is_some()).collect(),
            services: services.into_iter().filter(|(_, one)| one.is_some()).collect(),
            policies: policies.into_iter().filter(|(_, one)| one.is_some()).collect(),
        };
        prop_assert_eq!(facts(&world), facts(&World::following(node).apply(whole)));
    }

    #[test]
    fn a_workload_comes_out_as_it_went_in(form in any::<u8>(), uuid in any::<bool>(), odd in any::<bool>()) {
        let mut one = some_workload(1, form);
        if uuid {
            one.incarnation = "0f8fad5b-d9cb-469f-a165-70867728950e".into();
        }
        if odd {
            one.uid = stranger("x", &[]).uid;
        }
        let delta = Delta { workloads: vec![(one.uid.clone(), Some(one.clone()))], ..Delta::default() };
        let world = World::default().apply(delta);
        let found = world.workload(&one.uid);
        prop_assert_eq!(found.as_deref(), Some(&one));
        prop_assert_eq!(world.workloads().collect::<Vec<_>>(), [one]);
    }
}

#[test]
fn the_old_world_does_not_see_the_change() {
    let before = World::new(crate::testing::mesh());
    let told = facts(&before);
    let after = before.apply(Delta { workloads: vec![(uid("b"), None)], ..Delta::default() });
    assert!(after.workload(&uid("b")).is_none());
    assert_eq!(facts(&before), told);
}

#[test]
fn shapes_that_nobody_has_are_thrown_out() {
    let mut world = World::default();
    for round in 0..5_000 {
        let mut one = workload("w", 1, Tunnel::Hbone);
        one.canonical_revision = format!("v{round}").into();
        world = world.apply(Delta { workloads: vec![(one.uid.clone(), Some(one))], ..Delta::default() });
    }
    assert!(world.shapes.len() < 2_000, "{} shapes of one workload", world.shapes.len());
}

#[test]
fn a_mesh_that_became_smaller_takes_less_room_and_is_the_same_mesh() {
    let node = "here".parse::<NodeName>().unwrap();
    let one = |n: u16| {
        let mut one = behind(workload(&format!("w{n}"), 1, Tunnel::Hbone), &[("s0", 8080)]);
        one.addresses = vec![IpAddr::from([10, 1, n.to_be_bytes()[0], n.to_be_bytes()[1]])];
        one.node = Some(node.clone());
        (one.uid.clone(), Some(one))
    };
    let policies = vec![(PolicyName::new("ns".parse().unwrap(), "p").unwrap(), None)];
    let services = vec![(some_service(0, 0).name, Some(some_service(0, 0)))];
    let all = Delta { workloads: (0..4_000).map(one).collect(), services: services.clone(), policies };
    let large = World::following(node.clone()).apply(all);
    let gone = (300..4_000).map(|n| (one(n).0, None)).collect();
    let small = large.apply(Delta { workloads: gone, ..Delta::default() });
    assert!(!large.records.is_sparse() && !small.records.is_sparse());
    let few = Delta { workloads: (0..300).map(one).collect(), services, ..Delta::default() };
    assert_eq!(facts(&small), facts(&World::following(node.clone()).apply(few)));
}
