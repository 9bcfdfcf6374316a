//! What people read, as they read it.

use std::{fmt::Write, sync::Arc};

use weir_authz::{Compiled, Explanation, Ground, PolicySet};
use weir_model::{Match, Policy, PolicyKind, PolicyName, RulePlace, Sides};

use crate::scene::{
    accounts, allow, anything, audit, connection, deny, dry, filed, from, namespaces, one, ports, principals, rejected,
    rule, set, trust_domains,
};

fn of_kind(kind: PolicyKind, name: &str, mut policy: Policy) -> Policy {
    policy.source.kind = kind;
    policy.source.name = name.into();
    for rule in &mut policy.rules {
        rule.place = RulePlace::default();
    }
    policy
}

/// Mutual TLS at that port, as a PeerAuthentication asks for it.
fn strict(port: &str) -> Policy {
    let rule = Match { principals: principals(&["!*"]).principals, ..ports(&[port]) };
    of_kind(PolicyKind::PeerAuthentication, "default", deny("peer-authentication-default", vec![one(rule)]))
}

#[test]
fn a_reason_names_what_decided() {
    let by = |policy: Policy| format!("{}", Ground::Rule { policy: &policy, rule: &policy.rules[0] });
    let not_allowed = |names: &[&str]| {
        let all: Vec<Arc<Compiled>> = names.iter().map(|name| Arc::new(Compiled::new(allow(name, vec![])))).collect();
        Ground::NotAllowed { policies: &all }.to_string()
    };
    let mut unplaced = filed(deny("d", vec![anything()]));
    unplaced.rules[0].place = RulePlace::default();
    let broken = rejected(allow("broken", vec![]));
    let unknown: PolicyName = "shop/missing".parse().unwrap();
    let waypoint = of_kind(PolicyKind::RequiredWaypoint, "shop", deny("waypoint-shop", vec![anything()]));
    let request = of_kind(PolicyKind::RequestAuthentication, "jwt", deny("jwt", vec![anything()]));
    let lines = [
        Ground::NothingAsked.to_string(),
        by(deny("d", vec![anything()])),
        by(filed(deny("d", vec![anything()]))),
        by(unplaced),
        by(strict("8080")),
        by(waypoint),
        by(request),
        not_allowed(&["a"]),
        not_allowed(&["a", "b", "c"]),
        not_allowed(&["a", "b", "c", "d", "e"]),
        Ground::Rejected { policy: &broken, why: broken.rejected.as_deref().unwrap() }.to_string(),
        Ground::Unknown(&unknown).to_string(),
    ];
    insta::assert_snapshot!(lines.join("\n"));
}

const WEB: &str = "cluster.local/ns/web/sa/front";

fn explain(title: &str, policies: &[Policy], who: &str, address: &str, to: &str) -> String {
    let connection = connection(who, address, to);
    format!("# {title}\n{}", set(policies).explain(&connection.peer(), &connection.destination))
}

#[test]
fn an_explanation_says_the_verdict_first_and_then_everything_that_was_looked_at() {
    let shop = "10.0.0.7:8080";
    let front = || filed(allow("front", vec![one(accounts(&[("web", "front")], &[])), one(namespaces(&["ops-*"]))]));
    let many: Vec<String> = (0..9).map(|n| format!("cluster.local/ns/tenant-{n}/sa/application")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = format!("\u{1b}[31m{}", "x".repeat(200));
    let mut text = String::new();
    for scene in [
        explain("nothing covers it", &[], WEB, "10.1.2.3", shop),
        explain("an ALLOW rule matches", &[front()], WEB, "10.1.2.3", shop),
        explain("default deny", &[allow("nobody", vec![])], WEB, "10.1.2.3", shop),
        explain("allowed is another", &[front()], "cluster.local/ns/db/sa/front", "fd00::5", "[fd00::7]:8080"),
        explain(
            "denied by account",
            &[front(), filed(deny("evil", vec![one(principals(&["*/sa/front"]))]))],
            WEB,
            "10.1.2.3",
            shop,
        ),
        explain("plaintext at a STRICT port", &[strict("8080"), front()], "plain", "10.1.2.3", shop),
        explain("plaintext at another port", &[strict("8080")], "plain", "10.1.2.3", "10.0.0.7:9090"),
        explain(
            "addresses",
            &[allow(
                "net",
                vec![one(from(&["10.2.0.0/16", "10.3.0.0/16"])), one(from(&["10.0.0.0/8", "!10.1.0.0/16"]))],
            )],
            WEB,
            "10.1.2.3",
            shop,
        ),
        explain(
            "a trust domain",
            &[deny("foreign", vec![one(trust_domains(&["!cluster.local"]))])],
            "old.example/ns/web/sa/front",
            "10.1.2.3",
            shop,
        ),
        explain(
            "alternatives and long lists",
            &[allow(
                "many",
                vec![
                    rule(vec![vec![principals(&many), namespaces(&["a", "b", "c"]), ports(&["80"])]]),
                    rule(vec![vec![]]),
                    one(Match::default()),
                ],
            )],
            WEB,
            "10.1.2.3",
            shop,
        ),
        explain("a rejected policy", &[rejected(filed(allow("broken", vec![]))), front()], WEB, "10.1.2.3", shop),
        explain(
            "dry runs and audits",
            &[
                dry(filed(deny("soon", vec![anything()]))),
                audit("watch", vec![anything()]),
                dry(allow("maybe", vec![])),
            ],
            WEB,
            "10.1.2.3",
            shop,
        ),
        explain(
            "a very long word",
            &[Policy { rejected: Some(long.into()), ..allow("a", vec![]) }],
            WEB,
            "10.1.2.3",
            shop,
        ),
    ] {
        writeln!(text, "{scene}").unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn notes_are_told_and_a_policy_that_nobody_knows_is_named() {
    let name: PolicyName = "shop/missing".parse().unwrap();
    let connection = connection("old.example/ns/web/sa/front", "10.1.2.3", "10.0.0.7:8080");
    let mut explanation = PolicySet::new([], Some(name)).explain(&connection.peer(), &connection.destination);
    explanation.notes.push("the peer's certificate is of another trust domain, old.example".to_owned());
    insta::assert_snapshot!(explanation.to_string());
}

#[test]
fn a_program_reads_the_same() {
    let source = Match { source_ips: Sides::any(["10.2.0.0/16".parse().unwrap()]), ..namespaces(&["web"]) };
    let policies = [
        filed(allow("front", vec![one(source), one(namespaces(&["web"]))])),
        allow("net", vec![one(from(&["fd00::/16"]))]),
        dry(rejected(deny("broken", vec![]))),
    ];
    let connection = connection(WEB, "10.1.2.3", "10.0.0.7:8080");
    let explanation = set(&policies).explain(&connection.peer(), &connection.destination);
    let json = serde_json::to_string_pretty(&explanation).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), explanation);
    insta::assert_snapshot!(json);
}
