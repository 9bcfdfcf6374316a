//! What each line of a policy means, by tables.

use weir_authz::{Decision, PolicySet};
use weir_model::{Clause, Match, Policy, PolicyName, PolicyRule, TextMatch};

use crate::scene::{
    Connection, accounts, allow, anything, audit, connection, deny, dry, from, namespaces, one, ports, principals,
    rejected, rule, set, short, to, trust_domains,
};

const WEB: &str = "cluster.local/ns/web/sa/front";

fn web() -> Connection {
    connection(WEB, "10.1.2.3", "10.0.0.7:8080")
}

fn decided(policies: &[Policy], connection: &Connection) -> String {
    short(&set(policies).decide(&connection.peer(), &connection.destination))
}

fn hits() -> PolicyRule {
    one(principals(&[WEB]))
}

fn misses() -> PolicyRule {
    one(principals(&["cluster.local/ns/web/sa/other"]))
}

#[test]
fn deny_comes_before_allow_and_the_first_by_name_decides() {
    for (policies, want) in [
        (vec![], "allow"),
        (vec![deny("d", vec![misses()])], "allow"),
        (vec![deny("d", vec![hits()])], "deny by d[0]"),
        (vec![allow("a", vec![hits()])], "allow by a[0]"),
        (vec![allow("a", vec![misses()])], "deny"),
        (vec![allow("a", vec![misses()]), allow("b", vec![misses(), hits()])], "allow by b[1]"),
        (vec![allow("b", vec![hits()]), allow("a", vec![misses(), hits(), anything()])], "allow by a[1]"),
        (vec![allow("a", vec![hits()]), deny("z", vec![hits()])], "deny by z[0]"),
        (vec![deny("z", vec![hits()]), deny("y", vec![misses(), hits()])], "deny by y[1]"),
        (vec![allow("a", vec![misses()]), deny("z", vec![misses()])], "deny"),
    ] {
        assert_eq!(decided(&policies, &web()), want, "{policies:?}");
    }
}

#[test]
fn no_rules_match_nothing_and_an_empty_rule_matches_everything() {
    for (policies, want) in [
        (vec![allow("a", vec![])], "deny"),
        (vec![allow("a", vec![anything()])], "allow by a[0]"),
        (vec![deny("d", vec![])], "allow"),
        (vec![deny("d", vec![anything()])], "deny by d[0]"),
        (vec![allow("a", vec![rule(vec![vec![]])])], "deny"),
        (vec![allow("a", vec![one(Match::default())])], "deny"),
        (vec![allow("a", vec![rule(vec![vec![Match::default(), ports(&["8080"])]])])], "allow by a[0]"),
    ] {
        for connection in [web(), connection("plain", "fd00::5", "[fd00::7]:8080")] {
            assert_eq!(decided(&policies, &connection), want, "{policies:?}");
        }
    }
}

/// What a rule says to a peer.
fn table(rows: Vec<(PolicyRule, bool)>, connection: &Connection) {
    for (rule, want) in rows {
        let expected = if want { "allow by a[0]" } else { "deny" };
        assert_eq!(decided(&[allow("a", vec![rule.clone()])], connection), expected, "ALLOW {rule:?}");
        let expected = if want { "deny by d[0]" } else { "allow" };
        assert_eq!(decided(&[deny("d", vec![rule.clone()])], connection), expected, "DENY {rule:?}");
    }
}

#[test]
fn clauses_and_fields_must_all_hold_and_alternatives_and_values_one() {
    let (yes, no) = (namespaces(&["web"]), namespaces(&["db"]));
    let both = |port: &str| Match { namespaces: yes.namespaces.clone(), ..ports(&[port]) };
    table(
        vec![
            (rule(vec![vec![yes.clone()], vec![ports(&["8080"])]]), true),
            (rule(vec![vec![yes.clone()], vec![ports(&["80"])]]), false),
            (rule(vec![vec![no.clone(), yes.clone()]]), true),
            (rule(vec![vec![no.clone(), no]]), false),
            (one(both("8080")), true),
            (one(both("80")), false),
            (one(ports(&["80", "8080"])), true),
            (one(ports(&["80", "81"])), false),
            (one(ports(&["8080", "!8080"])), false),
        ],
        &web(),
    );
}

#[test]
fn texts_are_exact_or_begin_or_end_or_are_there() {
    table(
        vec![
            (one(principals(&[WEB])), true),
            (one(principals(&["cluster.local/ns/web/sa/fron"])), false),
            (one(principals(&["cluster.local/ns/web/*"])), true),
            (one(principals(&["cluster.local/ns/we/*"])), false),
            (one(principals(&["*/sa/front"])), true),
            (one(principals(&["*/sa/ront"])), false),
            (one(principals(&["*"])), true),
            (one(principals(&["spiffe://cluster.local/ns/web/sa/front"])), false),
            (one(namespaces(&["web"])), true),
            (one(namespaces(&["w*"])), true),
            (one(namespaces(&["*b"])), true),
            (one(namespaces(&["*"])), true),
            (one(namespaces(&["WEB"])), false),
            (one(trust_domains(&["cluster.local"])), true),
            (one(trust_domains(&["*.local"])), true),
            (one(trust_domains(&["other.example"])), false),
            (one(accounts(&[("web", "front")], &[])), true),
            (one(accounts(&[("db", "front"), ("web", "back")], &[])), false),
            (
                one(Match { namespaces: weir_model::Sides::any([TextMatch::Exact("".into())]), ..Match::default() }),
                false,
            ),
        ],
        &web(),
    );
}

#[test]
fn addresses_lie_in_ranges_of_their_family() {
    for address in ["10.1.2.3", "::ffff:10.1.2.3"] {
        table(
            vec![
                (one(from(&["10.1.2.3/32"])), true),
                (one(from(&["10.1.0.0/16"])), true),
                (one(from(&["10.1.255.255/16"])), true),
                (one(from(&["10.2.0.0/16"])), false),
                (one(from(&["::ffff:10.1.0.0/112"])), true),
                (one(from(&["0.0.0.0/0"])), true),
                (one(from(&["::/0"])), false),
                (one(from(&["10.1.0.0/16", "!10.1.2.0/24"])), false),
                (one(to(&["10.0.0.7/32"])), true),
                (one(to(&["!10.0.0.7/32"])), false),
            ],
            &connection(WEB, address, "10.0.0.7:8080"),
        );
    }
    table(
        vec![
            (one(from(&["fd00::/16"])), true),
            (one(from(&["fd00::5/128"])), true),
            (one(from(&["fd01::/16"])), false),
            (one(from(&["0.0.0.0/0"])), false),
            (one(from(&["::/0"])), true),
            (one(to(&["fd00::7/128"])), true),
            (one(to(&["fd00::8/128"])), false),
        ],
        &connection(WEB, "fd00::5", "[fd00::7]:8080"),
    );
}

#[test]
fn what_must_not_be_is_none_of_the_values() {
    table(
        vec![
            (one(principals(&["!cluster.local/ns/web/*"])), false),
            (one(principals(&["!cluster.local/ns/db/*", "!*/sa/back"])), true),
            (one(principals(&["!cluster.local/ns/db/*", "!*/sa/front"])), false),
            (one(principals(&["cluster.local/*", "!*/sa/front"])), false),
            (one(namespaces(&["!db"])), true),
            (one(namespaces(&["!db", "!web"])), false),
            (one(trust_domains(&["!cluster.local"])), false),
            (one(accounts(&[], &[("web", "front")])), false),
            (one(accounts(&[], &[("web", "back")])), true),
            (one(from(&["!10.0.0.0/8"])), false),
            (one(ports(&["!80"])), true),
        ],
        &web(),
    );
}

#[test]
fn of_a_plaintext_peer_no_identity_holds_and_every_exclusion_does() {
    for address in ["10.1.2.3", "fd00::5"] {
        table(
            vec![
                (one(principals(&["*"])), false),
                (one(namespaces(&["*"])), false),
                (one(namespaces(&["web"])), false),
                (one(trust_domains(&["*"])), false),
                (one(accounts(&[("web", "front")], &[])), false),
                (one(principals(&["!*"])), true),
                (one(namespaces(&["!web"])), true),
                (one(trust_domains(&["!*"])), true),
                (one(accounts(&[], &[("web", "front")])), true),
                (one(from(&["10.0.0.0/8", "fd00::/16"])), true),
                (one(ports(&["8080"])), true),
            ],
            &connection("plain", address, "10.0.0.7:8080"),
        );
    }
}

#[test]
fn what_cannot_be_enforced_denies_whatever_it_says() {
    for (policies, want) in [
        (vec![rejected(allow("a", vec![anything()]))], "deny by a, rejected"),
        (vec![rejected(audit("a", vec![]))], "deny by a, rejected"),
        (vec![rejected(deny("d", vec![misses()])), allow("a", vec![anything()])], "deny by d, rejected"),
        (vec![deny("c", vec![hits()]), rejected(deny("d", vec![]))], "deny by c[0]"),
        (vec![deny("e", vec![hits()]), rejected(deny("d", vec![]))], "deny by d, rejected"),
        (vec![dry(rejected(deny("d", vec![anything()])))], "allow"),
    ] {
        assert_eq!(decided(&policies, &web()), want, "{policies:?}");
    }
}

#[test]
fn a_policy_that_nobody_knows_denies() {
    let name: PolicyName = "shop/missing".parse().unwrap();
    let all = [allow("a", vec![anything()])].map(|one| std::sync::Arc::new(weir_authz::Compiled::new(one)));
    let set = PolicySet::new(all, Some(name));
    let connection = web();
    let (peer, destination) = (connection.peer(), &connection.destination);
    assert_eq!(short(&set.decide(&peer, destination)), "deny by missing, unknown");
    assert_eq!(set.explain(&peer, destination).unknown.as_deref(), Some("shop/missing"));
}

#[test]
fn a_dry_run_only_foresees() {
    let foreseen = |policies: &[Policy]| {
        let connection = web();
        let set = set(policies);
        let foreseen = set.dry_run(&connection.peer(), &connection.destination);
        assert_eq!(set.has_shadows(), foreseen.is_some(), "{policies:?}");
        foreseen.map(|decision| short(&decision))
    };
    for (policies, now, then) in [
        (vec![allow("a", vec![hits()])], "allow by a[0]", None),
        (vec![dry(deny("d", vec![hits()]))], "allow", Some("deny by d[0]")),
        (vec![dry(deny("d", vec![misses()]))], "allow", Some("allow")),
        (vec![dry(allow("a", vec![hits()]))], "allow", Some("allow by a[0]")),
        (vec![dry(allow("a", vec![misses()]))], "allow", Some("deny")),
        (vec![allow("a", vec![misses()]), dry(allow("b", vec![hits()]))], "deny", Some("allow by b[0]")),
        (vec![allow("a", vec![misses()]), dry(allow("b", vec![misses()]))], "deny", Some("deny")),
        (vec![allow("a", vec![hits()]), dry(allow("b", vec![misses()]))], "allow by a[0]", Some("allow by a[0]")),
        (vec![deny("d", vec![hits()]), dry(allow("a", vec![hits()]))], "deny by d[0]", Some("deny by d[0]")),
        (vec![dry(rejected(allow("a", vec![anything()])))], "allow", Some("deny by a, rejected")),
        (vec![dry(audit("a", vec![hits()]))], "allow", Some("allow")),
    ] {
        assert_eq!(decided(&policies, &web()), now, "{policies:?}");
        assert_eq!(foreseen(&policies).as_deref(), then, "{policies:?}");
    }
}

#[test]
fn an_audit_is_told_and_decides_nothing() {
    let told = |policies: &[Policy]| {
        let (set, connection) = (set(policies), web());
        let peer = connection.peer();
        set.audits(&peer, &connection.destination)
            .map(|ground| short(&Decision::Allow(ground)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    for (policies, now, audits) in [
        (vec![audit("a", vec![misses(), hits()])], "allow", "allow by a[1]"),
        (vec![audit("a", vec![misses()])], "allow", ""),
        (vec![audit("b", vec![hits()]), audit("a", vec![anything()])], "allow", "allow by a[0], allow by b[0]"),
        (vec![audit("a", vec![hits()]), deny("d", vec![hits()])], "deny by d[0]", "allow by a[0]"),
        (vec![dry(audit("a", vec![hits()]))], "allow", ""),
    ] {
        assert_eq!(decided(&policies, &web()), now, "{policies:?}");
        assert_eq!(told(&policies), audits, "{policies:?}");
    }
}

#[test]
fn among_many_rules_the_first_by_name_and_place_decides() {
    let far = |n: usize| one(principals(&[&format!("cluster.local/ns/far/sa/s{n}")]));
    let near = [
        hits(),
        one(principals(&["cluster.local/ns/web/*"])),
        one(principals(&["*/front"])),
        one(namespaces(&["web"])),
        one(namespaces(&["w*"])),
        one(namespaces(&["*eb"])),
        one(accounts(&[("web", "front")], &[])),
        one(from(&["10.1.0.0/16"])),
        one(from(&["10.1.2.3/32"])),
        one(ports(&["8080"])),
        one(ports(&["!80"])),
        anything(),
    ];
    for first in &near {
        for second in &near {
            let mut rules: Vec<PolicyRule> = (0..20).map(far).collect();
            rules.extend([first.clone(), second.clone()]);
            let later = allow("later", vec![hits(), anything()]);
            let policies = [allow("empty", (20..40).map(far).collect()), allow("found", rules.clone()), later];
            assert_eq!(decided(&policies, &web()), "allow by found[20]", "{first:?} {second:?}");
        }
    }
    let clauses = |all: Vec<Vec<Match>>| PolicyRule { clauses: all.into_iter().map(Clause).collect(), ..anything() };
    let never = clauses(vec![vec![principals(&[WEB])], vec![]]);
    let rules: Vec<PolicyRule> = (0..20).map(far).chain([never, hits()]).collect();
    assert_eq!(decided(&[deny("d", rules)], &web()), "deny by d[21]");
}
