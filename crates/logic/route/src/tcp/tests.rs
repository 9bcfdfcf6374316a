//! Connections in, and where they go, with the words people read.

use std::time::Duration;

use rand::{SeedableRng, rngs::SmallRng};

use super::*;
use crate::{
    Backend, Target,
    testing::{anyone, port, valid},
};

fn to(host: &str) -> Backends {
    Backends::of_virtual_service(vec![(None, Backend::new(valid(host)))])
}

fn rule(index: usize, matches: Vec<TcpMatch>, backends: Backends) -> TcpRule {
    TcpRule { index, line: None, matches, backends }
}

fn object(kind: TcpKind, name: &str, rules: Vec<TcpRule>) -> TcpObject {
    TcpObject {
        kind,
        namespace: "shop".parse().unwrap(),
        name: name.into(),
        file: None,
        created: None,
        audience: Audience::Everyone,
        rules,
    }
}

fn said(objects: Vec<TcpObject>, address: &str, asker: &Asker<'_>) -> String {
    let table = TcpTable::new(objects).unwrap();
    table.decide(&facts(address), asker, &mut SmallRng::seed_from_u64(1)).to_string()
}

fn facts(destination: &str) -> TcpFacts<'static> {
    TcpFacts { destination: destination.parse().unwrap(), client: [192, 0, 2, 9].into(), name: None }
}

#[test]
fn who_connects_and_what_its_tls_asks_for_count() {
    let from = |ranges: &[&str]| TcpMatch {
        sources: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        ..TcpMatch::default()
    };
    let names = |names: &[&str]| TcpMatch {
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        ..TcpMatch::default()
    };
    for (asked, client, name, want) in [
        (from(&["10.0.0.0/8", "fd00::/8"]), "10.1.2.3", None, true),
        (from(&["10.0.0.0/8", "fd00::/8"]), "fd00::1", Some("a.example"), true),
        (from(&["10.0.0.0/8", "fd00::/8"]), "192.0.2.1", None, false),
        (from(&["10.0.0.0/8"]), "fd00::1", None, false),
        (names(&["a.example", "*.b.example"]), "10.1.2.3", Some("a.example"), true),
        (names(&["a.example", "*.b.example"]), "10.1.2.3", Some("x.b.example"), true),
        (names(&["a.example", "*.b.example"]), "10.1.2.3", Some("b.example"), false),
        (names(&["a.example", "*.b.example"]), "10.1.2.3", None, false),
        (names(&["*"]), "10.1.2.3", Some("a.example"), true),
        (names(&["*"]), "10.1.2.3", None, false),
        (TcpMatch { names: vec!["a.b".parse().unwrap()], ..from(&["10.0.0.0/8"]) }, "192.0.2.1", Some("a.b"), false),
    ] {
        let facts = TcpFacts { client: client.parse().unwrap(), name, ..facts("10.0.0.1") };
        assert_eq!(asked.holds(&facts, &anyone()), want, "{asked:?} {client} {name:?}");
    }
    let on = |number, asked: TcpMatch| TcpMatch {
        asker: AskerMatch { port: Some(port(number)), ..AskerMatch::default() },
        ..asked
    };
    for (asked, want) in [
        (names(&["a.b"]), true),
        (on(443, names(&["a.b"])), true),
        (on(80, names(&["a.b"])), false),
        (on(443, from(&["10.0.0.0/8"])), false),
    ] {
        let rules = vec![rule(0, vec![TcpMatch::default(), asked.clone()], to("a.svc"))];
        let table = TcpTable::new(vec![object(TcpKind::VirtualServiceTls, "v", rules)]).unwrap();
        assert_eq!(table.asks_for_names(port(443)), want, "{asked:?}");
    }
}

#[test]
fn the_first_match_of_a_virtual_service_counts() {
    let within = |range: &str| TcpMatch { destinations: vec![range.parse().unwrap()], ..TcpMatch::default() };
    let at = |number| TcpMatch {
        asker: AskerMatch { port: Some(port(number)), ..AskerMatch::default() },
        ..TcpMatch::default()
    };
    let rules = || {
        vec![
            rule(0, vec![within("10.0.0.0/8"), within("fd00::/8")], to("private.svc")),
            rule(1, vec![at(81)], to("port.svc")),
        ]
    };
    let asker = |number| Asker { port: port(number), ..anyone() };
    for (address, number, want) in [
        ("10.1.2.3", 81, "VirtualService shop/v, spec.tcp[0]: to private.svc:80"),
        ("fd00::1", 81, "VirtualService shop/v, spec.tcp[0]: to private.svc:80"),
        ("192.0.2.1", 81, "VirtualService shop/v, spec.tcp[1]: to port.svc:80"),
        ("2001:db8::1", 81, "VirtualService shop/v, spec.tcp[1]: to port.svc:80"),
        ("192.0.2.1", 80, "there are routes: closed: no rule of any route is for this connection"),
    ] {
        let objects = vec![object(TcpKind::VirtualService, "v", rules())];
        assert_eq!(said(objects, address, &asker(number)), want, "{address} {number}");
    }
    assert_eq!(said(vec![], "10.0.0.1", &anyone()), "no route is for this client and port: to the service itself");
}

#[test]
fn the_order_of_objects_is_a_rule_too() {
    let everything = |kind, name: &str| object(kind, name, vec![rule(0, vec![], to(&format!("{name}.svc")))]);
    let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    let route = |name| everything(TcpKind::TcpRoute, name);
    let of_client = |namespace: &str| TcpObject {
        namespace: namespace.parse().unwrap(),
        audience: Audience::OwnNamespace,
        ..route("mine")
    };
    let own: Namespace = "own".parse().unwrap();
    let asker = Asker { namespace: Some(&own), ..anyone() };
    let at_81 = TcpMatch { asker: AskerMatch { port: Some(port(81)), ..AskerMatch::default() }, ..TcpMatch::default() };
    for (one, other, want) in [
        (
            everything(TcpKind::VirtualService, "a"),
            object(TcpKind::TcpRoute, "b", vec![rule(0, vec![at_81], to("b.svc"))]),
            "no route is for this client and port: to the service itself",
        ),
        (everything(TcpKind::VirtualService, "a"), route("b"), "TCPRoute shop/b, spec.rules[0]: to b.svc:80"),
        (route("b"), route("a"), "TCPRoute shop/a, spec.rules[0]: to a.svc:80"),
        (
            TcpObject { created: at(2), ..route("a") },
            TcpObject { created: at(1), ..route("b") },
            "TCPRoute shop/b, spec.rules[0]: to b.svc:80",
        ),
        (route("a"), of_client("own"), "TCPRoute own/mine, spec.rules[0]: to mine.svc:80"),
        (route("a"), of_client("another"), "TCPRoute shop/a, spec.rules[0]: to a.svc:80"),
    ] {
        for objects in [vec![one.clone(), other.clone()], vec![other.clone(), one.clone()]] {
            assert_eq!(said(objects, "10.0.0.1", &asker), want);
        }
    }
    assert_eq!(
        said(vec![of_client("own")], "10.0.0.1", &anyone()),
        "no route is for this client and port: to the service itself"
    );
}

#[test]
fn what_leads_nowhere_is_closed_for_its_share() {
    let invalid = || Backend::new(Target::Invalid("the service gone is not known".into()));
    let of = |backends| {
        let rules = vec![TcpRule { line: Some(7), ..rule(0, vec![], backends) }];
        vec![TcpObject { file: Some("t.yaml".into()), ..object(TcpKind::TcpRoute, "t", rules) }]
    };
    for (backends, want) in [
        (Backends::of_gateway_route(vec![(None, invalid())]), "closed: the service gone is not known"),
        (Backends::default(), "closed: it names no backend"),
        (
            Backends::of_gateway_route(vec![(Some(0), Backend::new(valid("a.svc")))]),
            "closed: the weights of its backends add up to 0",
        ),
        (
            Backends::of_gateway_route(vec![(Some(0), invalid()), (Some(5), Backend::new(valid("a.svc")))]),
            "to a.svc:80",
        ),
    ] {
        let got = said(of(backends), "10.0.0.1", &anyone());
        assert_eq!(got, format!("TCPRoute shop/t, spec.rules[0] (t.yaml:7): {want}"));
    }
    let split = Backends::of_gateway_route(vec![(Some(9), Backend::new(valid("a.svc"))), (Some(1), invalid())]);
    let table = TcpTable::new(of(split)).unwrap();
    let mut rng = SmallRng::seed_from_u64(2);
    let is_closed =
        |rng: &mut SmallRng| matches!(table.decide(&facts("10.0.0.1"), &anyone(), rng).action, TcpAction::Refuse(_));
    let closed = (0..10_000).filter(|_| is_closed(&mut rng)).count();
    // sqrt(10000 * 0.1 * 0.9) is 30.
    assert!(closed.abs_diff(1_000) <= 90, "{closed}");
    let many = rule(0, vec![TcpMatch::default(); MAX_ENTRIES + 1], Backends::default());
    assert!(TcpTable::new(vec![object(TcpKind::TcpRoute, "t", vec![many])]).is_err());
}
