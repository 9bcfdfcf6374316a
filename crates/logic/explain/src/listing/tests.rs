//! A small mesh, listed.

use weir_model::{
    Clause, Locality, Match, Policy, PolicyAction, PolicyKind, PolicyName, PolicyRule, PolicyScope, PolicySource, Port,
    Sides, TextMatch,
};
use weir_world::Mesh;

use super::*;

fn workload_of(namespace: &str, name: &str, services: Vec<Membership>) -> Workload {
    Workload {
        uid: format!("Kubernetes//v1/Pod/{namespace}/{name}").parse().unwrap(),
        incarnation: "1".into(),
        name: name.into(),
        namespace: namespace.parse().unwrap(),
        trust_domain: "cluster.local".parse().unwrap(),
        service_account: "default".parse().unwrap(),
        addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        network: "".parse().unwrap(),
        tunnel: Tunnel::Hbone,
        network_mode: NetworkMode::Standard,
        node: None,
        locality: Locality::default(),
        health: Health::Healthy,
        cluster: "Kubernetes".parse().unwrap(),
        kind: WorkloadKind::Pod,
        workload_name: name.trim_end_matches(char::is_numeric).into(),
        canonical_name: name.into(),
        canonical_revision: "latest".into(),
        services,
        policies: Vec::new(),
        termination: Termination::default(),
        waypoint: None,
        unsupported: None,
    }
}

fn policy_of(name: &str) -> Policy {
    Policy {
        name: PolicyName::new("ns".parse().unwrap(), name).unwrap(),
        scope: PolicyScope::Namespace,
        action: PolicyAction::Deny,
        dry_run: false,
        rules: Vec::new(),
        rejected: None,
        source: PolicySource { kind: PolicyKind::Authorization, name: name.into(), file: None },
    }
}

fn mesh() -> World {
    let pods = ["a1", "a2", "b1", "c1", "c2"];
    let of = |pod: &str| if pod == "b1" { "other" } else { "ns" };
    World::new(Mesh {
        workloads: pods.iter().map(|pod| workload_of(of(pod), pod, Vec::new())).collect(),
        policies: vec![policy_of("p"), policy_of("q")],
        ..Mesh::default()
    })
}

fn part(namespace: Option<&str>, name: Option<&str>, after: Option<&str>, limit: Option<&str>) -> Part {
    Part::read([namespace, name, after, limit]).unwrap()
}

fn names(answer: &Value) -> Vec<&str> {
    answer["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn a_list_comes_in_parts_and_each_part_says_where_the_next_begins() {
    let world = mesh();
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let answer = workloads(&world, &part(None, None, after.as_deref(), Some("2")));
        assert!(answer["items"].as_array().unwrap().len() <= 2);
        all.extend(names(&answer).into_iter().map(str::to_owned));
        match answer["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(all, ["a1", "a2", "c1", "c2", "b1"]);
    let answer = policies(&world, &part(None, None, Some("ns/p"), None));
    assert_eq!(names(&answer), ["q"]);
}

#[test]
fn a_list_is_of_a_namespace_and_of_a_name_where_one_is_said() {
    let world = mesh();
    for (namespace, name, want) in [
        (Some("other"), None, vec!["b1"]),
        (None, Some("a1"), vec!["a1"]),
        (None, Some("c"), vec!["c1", "c2"]),
        (Some("other"), Some("a1"), vec![]),
    ] {
        let answer = workloads(&world, &part(namespace, name, None, None));
        assert_eq!(names(&answer), want, "{namespace:?} {name:?}");
    }
}

#[test]
fn a_part_that_is_none_is_told() {
    for (fields, said) in [
        ([Some("A"), None, None, None], "namespace:"),
        ([None, None, None, Some("0")], "limit: expected a number from 1 to 1000"),
        ([None, None, None, Some("1001")], "limit: expected"),
        ([None, None, None, Some("x")], "found \"x\""),
    ] {
        assert!(Part::read(fields).unwrap_err().contains(said), "{fields:?}");
    }
}

fn from(account: &str) -> Match {
    let principal = TextMatch::Exact(format!("cluster.local/ns/ns/sa/{account}").into());
    Match { principals: Sides::any([principal]), ..Match::default() }
}

fn to(port: u16) -> Match {
    Match { destination_ports: Sides::any([Port::new(port).unwrap()]), ..Match::default() }
}

#[test]
fn a_rule_reads_as_what_it_matches() {
    let not_80 = Match { destination_ports: Sides::none([Port::new(80).unwrap()]), ..from("x") };
    let rule_of = |clauses: Vec<Clause>| PolicyRule { clauses, ..PolicyRule::default() };
    for (clauses, want) in [
        (vec![], "everything"),
        (vec![Clause(vec![])], "nothing"),
        (vec![Clause(vec![Match::default()])], "nothing"),
        (vec![Clause(vec![from("x")])], "principal in [cluster.local/ns/ns/sa/x]"),
        (
            vec![Clause(vec![from("x"), from("y")]), Clause(vec![to(80)])],
            "(principal in [cluster.local/ns/ns/sa/x] or principal in [cluster.local/ns/ns/sa/y]) and port in [80]",
        ),
        (vec![Clause(vec![not_80])], "(principal in [cluster.local/ns/ns/sa/x] and port not in [80])"),
    ] {
        assert_eq!(policy::rule_text(&rule_of(clauses)), want);
    }
}

#[test]
fn a_policy_covers_what_the_world_says_it_covers() {
    let workload = workload_of("ns", "a", Vec::new());
    let mut one = policy_of("p");
    for (scope, named, namespace, want) in [
        (PolicyScope::Mesh, false, "other", true),
        (PolicyScope::Namespace, false, "ns", true),
        (PolicyScope::Namespace, false, "other", false),
        (PolicyScope::Workloads, false, "ns", false),
        (PolicyScope::Workloads, true, "ns", true),
    ] {
        one.scope = scope;
        one.name = PolicyName::new(namespace.parse().unwrap(), "p").unwrap();
        let mut workload = workload.clone();
        workload.policies.extend(named.then(|| one.name.clone()));
        assert_eq!(covers(&one, &workload), want, "{scope:?} of {namespace}");
    }
}
