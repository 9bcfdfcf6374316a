//! Who may come in, line by line, in both families.

use proptest::prelude::*;

use rand::{SeedableRng, rngs::SmallRng};
use weir_model::{
    OrigDst, Policy, PolicyAction, PolicyKind, PolicyName, PolicyRule, PolicyScope, PolicySource, RulePlace,
};

use super::*;
use crate::{
    mesh::Mesh,
    outbound::Plan,
    testing::{mesh, socket, uid, workload, world},
};

fn peer(account: &str) -> Source {
    Source::Mesh(format!("spiffe://cluster.local/ns/ns/sa/{account}").parse().unwrap())
}

fn inbound(source: Source, client: &str, connected: &str, target: &str) -> Inbound<'static> {
    Inbound {
        source,
        client: socket(client),
        tcp_destination: socket(connected),
        target: socket(target),
        own_ports: &[15021],
    }
}

#[test]
fn a_connection_that_may_come_in_is_delivered_where_it_asked() {
    let world = world();
    for (source, client, connected, target, from) in [
        (peer("a"), "10.0.0.1:4000", "10.0.0.2:15008", "10.0.0.2:80", Some("a")),
        (peer("a"), "[fd00::1]:4000", "[fd00::2]:15008", "[fd00::2]:80", Some("a")),
        // Whoever is at that address proved to be someone else.
        (peer("other"), "10.0.0.1:4000", "10.0.0.2:15008", "10.0.0.2:80", None),
        (peer("a"), "192.0.2.1:4000", "10.0.0.2:15008", "10.0.0.2:80", None),
        (Source::Plaintext, "10.0.0.3:4000", "10.0.0.2:80", "10.0.0.2:80", Some("c")),
        (Source::Plaintext, "[fd00::3]:4000", "[fd00::2]:80", "[fd00::2]:80", Some("c")),
        (Source::Plaintext, "10.0.0.100:4000", "10.0.0.2:80", "10.0.0.2:80", None),
        (Source::Plaintext, "[::ffff:10.0.0.3]:4000", "[::ffff:10.0.0.2]:80", "[::ffff:10.0.0.2]:80", Some("c")),
    ] {
        let asked = inbound(source.clone(), client, connected, target);
        let Verdict::Admit(permit) = world.inbound(&uid("b"), &asked) else { panic!("{asked:?} was refused") };
        assert_eq!(permit.source_workload().map(|from| &*from.name), from, "{asked:?}");
        assert_eq!(permit.target(), canonical_socket(asked.target));
        assert_eq!(permit.client(), canonical_socket(asked.client));
        assert_eq!((permit.source(), &*permit.destination().name), (&source, "b"));
    }
}

#[test]
fn a_connection_that_may_not_come_in_is_refused_with_a_reason() {
    let world = world();
    let stranger = || Source::Mesh("spiffe://other.example/ns/ns/sa/a".parse().unwrap());
    for (local, source, connected, target, want) in [
        (
            "nobody",
            peer("a"),
            "10.0.0.2:15008",
            "10.0.0.2:80",
            "503 NC the destination Kubernetes//v1/Pod/ns/nobody is not a workload the mesh knows",
        ),
        (
            "c",
            peer("a"),
            "10.0.0.3:15008",
            "10.0.0.3:80",
            "503 DENY the destination Kubernetes//v1/Pod/ns/c is not enrolled in the mesh",
        ),
        (
            "b",
            peer("a"),
            "10.0.0.2:15008",
            "10.0.0.1:80",
            "400 DPE the peer asks for 10.0.0.1 on a connection to 10.0.0.2",
        ),
        (
            "b",
            peer("a"),
            "10.0.0.2:15008",
            "[fd00::2]:80",
            "400 DPE the peer asks for fd00::2 on a connection to 10.0.0.2",
        ),
        (
            "b",
            peer("a"),
            "[fd00::2]:15008",
            "[fd00::1]:80",
            "400 DPE the peer asks for fd00::1 on a connection to fd00::2",
        ),
        (
            "b",
            peer("a"),
            "127.0.0.1:15008",
            "127.0.0.1:80",
            "400 DPE 127.0.0.1 is not an address of Kubernetes//v1/Pod/ns/b",
        ),
        (
            "b",
            Source::Plaintext,
            "10.0.0.1:80",
            "10.0.0.1:80",
            "400 DPE 10.0.0.1 is not an address of Kubernetes//v1/Pod/ns/b",
        ),
        (
            "b",
            Source::Plaintext,
            "[fd00::1]:80",
            "[fd00::1]:80",
            "400 DPE fd00::1 is not an address of Kubernetes//v1/Pod/ns/b",
        ),
        (
            "b",
            stranger(),
            "10.0.0.2:15008",
            "10.0.0.2:80",
            "401 DENY the peer spiffe://other.example/ns/ns/sa/a is not of the trust domain cluster.local",
        ),
        (
            "b",
            stranger(),
            "[fd00::2]:15008",
            "[fd00::2]:80",
            "401 DENY the peer spiffe://other.example/ns/ns/sa/a is not of the trust domain cluster.local",
        ),
    ] {
        let asked = inbound(source, "10.0.0.1:4000", connected, target);
        let Verdict::Refuse(refusal) = world.inbound(&uid(local), &asked) else { panic!("{asked:?} was admitted") };
        assert_eq!(format!("{} {} {refusal}", refusal.http_status(), refusal.response_flag().as_str()), want);
    }
}

/// One that denies everybody.
fn deny(namespace: &str, name: &str, scope: PolicyScope) -> Policy {
    Policy {
        name: PolicyName::new(namespace.parse().unwrap(), name).unwrap(),
        scope,
        action: PolicyAction::Deny,
        dry_run: false,
        rules: vec![PolicyRule { place: RulePlace { index: None, line: None }, clauses: Vec::new() }],
        rejected: None,
        source: PolicySource { kind: PolicyKind::Authorization, name: name.into(), file: None },
    }
}

#[test]
fn every_policy_over_a_pod_is_asked_by_who_comes_and_who_is_there() {
    use PolicyScope::{Mesh as All, Namespace, Workloads};
    let named = |name: &str| vec![PolicyName::new("ns".parse().unwrap(), name).unwrap()];
    for (policies, names, admits) in [
        (vec![], vec![], true),
        (vec![deny("root", "all", All)], vec![], false),
        (vec![deny("ns", "own", Namespace)], vec![], false),
        (vec![deny("other", "theirs", Namespace)], vec![], true),
        (vec![deny("ns", "some", Workloads)], vec![], true),
        (vec![deny("ns", "some", Workloads)], named("some"), false),
        // Nobody knows what it says.
        (vec![], named("gone"), false),
    ] {
        let b = Workload { policies: names, ..workload("b", 2, Tunnel::Hbone) };
        let world = World::new(Mesh { workloads: vec![b], policies, ..Mesh::default() });
        for source in [peer("a"), Source::Plaintext] {
            let connected = if source == Source::Plaintext { "10.0.0.2:80" } else { "10.0.0.2:15008" };
            let asked = inbound(source, "10.0.0.1:4000", connected, "10.0.0.2:80");
            let is_admitted = matches!(world.inbound(&uid("b"), &asked), Verdict::Admit(_));
            let stays = world.stays(&uid("b"), &asked).is_ok();
            assert_eq!((is_admitted, stays), (admits, admits), "{asked:?} {:?}", world.policies().collect::<Vec<_>>());
        }
    }
}

#[test]
fn what_is_not_understood_of_a_workload_lets_nobody_in_and_is_gone_to_by_nobody() {
    for tunnel in [Tunnel::Hbone, Tunnel::None] {
        let d = Workload { unsupported: Some("another tunnel".into()), ..workload("d", 6, tunnel) };
        let mut mesh = mesh();
        mesh.workloads.push(d);
        let world = World::new(mesh);
        let dst = OrigDst::new(socket("10.0.0.6:80"));
        let plan = world.outbound(&uid("a"), dst, &mut SmallRng::seed_from_u64(1));
        assert!(matches!(plan, Plan::Refuse(Refusal::Unsupported { .. })), "{tunnel:?}: {plan:?}");
        let verdict = world.inbound(&uid("d"), &inbound(peer("a"), "10.0.0.1:4000", "10.0.0.6:15008", "10.0.0.6:80"));
        assert!(matches!(verdict, Verdict::Refuse(_)), "{tunnel:?}: {verdict:?}");
    }
}

#[test]
fn no_port_of_the_mesh_or_the_agent_is_delivered_to() {
    let world = world();
    for port in [0, 15001, 15006, 15008, 15053, 15080, 15021] {
        for (source, ip) in [(peer("a"), "10.0.0.2"), (peer("a"), "[fd00::2]"), (Source::Plaintext, "10.0.0.2")] {
            let target = format!("{ip}:{port}");
            let asked = inbound(source, "10.0.0.1:4000", &format!("{ip}:15008"), &target);
            let want = Verdict::Refuse(Refusal::IllegalPort { target: socket(&target) });
            assert_eq!(world.inbound(&uid("b"), &asked), want);
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_admitted_is_for_an_enrolled_pod_at_its_own_address(
        local in prop::sample::select(vec!["a", "b", "c", "h", "sick", "nobody"]),
        connected in 0_u8..6,
        asked in 0_u8..6,
        six in any::<bool>(),
        port in prop::sample::select(vec![0_u16, 80, 15001, 15006, 15008, 15021, 15053, 15080]),
        plain in any::<bool>(),
        domain in prop::sample::select(vec!["cluster.local", "other"]),
    ) {
        let world = world();
        let address = |octet: u8, port: u16| {
            if six { format!("[fd00::{octet}]:{port}") } else { format!("10.0.0.{octet}:{port}") }
        };
        let source = if plain {
            Source::Plaintext
        } else {
            Source::Mesh(format!("spiffe://{domain}/ns/ns/sa/a").parse().unwrap())
        };
        let inbound = inbound(source, &address(1, 4000), &address(connected, 15008), &address(asked, port));
        if let Verdict::Admit(permit) = world.inbound(&uid(local), &inbound) {
            prop_assert_eq!(permit.destination().tunnel, Tunnel::Hbone);
            prop_assert!(permit.destination().addresses.contains(&permit.target().ip()));
            prop_assert_eq!((connected, port), (asked, 80));
            prop_assert!(plain || domain == "cluster.local");
        }
    }
}
