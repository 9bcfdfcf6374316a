//! What holds of any policies and peers.

use proptest::{collection::vec, prelude::*, sample::Index};
use weir_authz::{Compiled, Decision, Explanation, Ground, Ruling};
use weir_model::{Clause, Match, Policy, PolicyAction, PolicyRule, RulePlace, Sides};

use crate::{
    generated::{a_match, a_rule, address, connection, policies, range},
    naive,
    scene::{Connection, allow, audit, deny, dry, from, one, policy, set, short},
};

/// Fields of a match, both sides of each.
const FIELDS: usize = 14;

/// Sets a field of a match to what another says there.
fn take(to: &mut Match, of: &Match, field: usize) {
    fn side<T: Clone>(to: &mut Sides<T>, of: &Sides<T>, none: bool) {
        if none { to.none.clone_from(&of.none) } else { to.any.clone_from(&of.any) }
    }
    let none = field % 2 == 1;
    match field / 2 {
        0 => side(&mut to.namespaces, &of.namespaces, none),
        1 => side(&mut to.principals, &of.principals, none),
        2 => side(&mut to.service_accounts, &of.service_accounts, none),
        3 => side(&mut to.trust_domains, &of.trust_domains, none),
        4 => side(&mut to.source_ips, &of.source_ips, none),
        5 => side(&mut to.destination_ips, &of.destination_ips, none),
        6 => side(&mut to.destination_ports, &of.destination_ports, none),
        _ => unreachable!("there are {FIELDS} fields"),
    }
}

/// The match without that field; none if it does not ask for it, or for nothing else.
fn without(all: &Match, field: usize) -> Option<Match> {
    let mut less = all.clone();
    take(&mut less, &Match::default(), field);
    (less != *all && !less.is_empty()).then_some(less)
}

/// Rules of the one match among others, in the one place.
fn around(mut others: Vec<PolicyRule>, clause: &[Match], one: Match) -> Vec<PolicyRule> {
    let clauses = vec![Clause(clause.iter().cloned().chain([one]).collect())];
    others.insert(0, PolicyRule { place: RulePlace::default(), clauses });
    others
}

fn decided(policies: &[Policy], connection: &Connection) -> String {
    short(&set(policies).decide(&connection.peer(), &connection.destination))
}

fn admits(policies: &[Policy], connection: &Connection) -> bool {
    decided(policies, connection).starts_with("allow")
}

fn with(policies: &[Policy], one: Policy) -> Vec<Policy> {
    policies.iter().cloned().chain([one]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_compiled_means_what_was_written(policies in policies(), connections in vec(connection(), 1..8)) {
        for connection in &connections {
            prop_assert_eq!(decided(&policies, connection), naive::decide(&policies, connection));
            for one in &policies {
                let compiled = Compiled::new(one.clone());
                let matching = compiled.matching(&connection.peer(), &connection.destination);
                prop_assert_eq!(matching, naive::matching(one, connection));
            }
        }
    }

    #[test]
    fn audits_are_the_matching_rules_of_audit_policies(policies in policies(), connection in connection()) {
        let set = set(&policies);
        let peer = connection.peer();
        let mut found: Vec<String> =
            set.audits(&peer, &connection.destination).map(|ground| short(&Decision::Allow(ground))).collect();
        let in_force = |one: &&Policy| one.action == PolicyAction::Audit && !one.dry_run && one.rejected.is_none();
        let line = |one: &Policy| Some(format!("allow by {}[{}]", one.name.name(), naive::matching(one, &connection)?));
        let mut expected: Vec<String> = policies.iter().filter(in_force).filter_map(line).collect();
        found.sort();
        expected.sort();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_deny_that_matches_always_refuses(
        policies in policies(), rules in vec(a_rule(), 1..4), connection in connection()
    ) {
        let denying = deny("denies", rules);
        if naive::matching(&denying, &connection).is_some() {
            prop_assert!(!admits(&with(&policies, denying), &connection));
        }
    }

    #[test]
    fn one_more_allow_rule_refuses_nothing_that_an_allow_rule_admitted(
        policies in policies(), rule in a_rule(), place in any::<Index>(), connection in connection()
    ) {
        if decided(&policies, &connection).starts_with("allow by") {
            prop_assert!(admits(&with(&policies, allow("one-more", vec![rule.clone()])), &connection));
            let mut more = policies;
            let allows: Vec<&mut Policy> =
                more.iter_mut().filter(|one| one.action == PolicyAction::Allow && one.rejected.is_none()).collect();
            let at = place.index(allows.len());
            allows.into_iter().nth(at).unwrap().rules.insert(0, rule);
            prop_assert!(admits(&more, &connection));
        }
    }

    #[test]
    fn one_more_field_never_widens_an_allow_rule(
        policies in policies(),
        others in vec(a_rule(), 0..3),
        clause in vec(a_match(), 0..2),
        whole in a_match(),
        connection in connection(),
    ) {
        for less in (0..FIELDS).filter_map(|field| without(&whole, field)) {
            let before = allow("grows", around(others.clone(), &clause, less));
            let after = allow("grows", around(others.clone(), &clause, whole.clone()));
            if admits(&with(&policies, after), &connection) {
                prop_assert!(admits(&with(&policies, before), &connection));
            }
        }
    }

    #[test]
    fn one_field_less_never_narrows_a_deny_rule(
        policies in policies(),
        others in vec(a_rule(), 0..3),
        clause in vec(a_match(), 0..2),
        whole in a_match(),
        connection in connection(),
    ) {
        for less in (0..FIELDS).filter_map(|field| without(&whole, field)) {
            let before = deny("shrinks", around(others.clone(), &clause, whole.clone()));
            let after = deny("shrinks", around(others.clone(), &clause, less));
            if !admits(&with(&policies, before), &connection) {
                prop_assert!(!admits(&with(&policies, after), &connection));
            }
        }
    }

    #[test]
    fn a_dry_run_decides_nothing(policies in policies(), dries in policies(), connection in connection()) {
        let mut all = policies.clone();
        for (n, one) in dries.into_iter().enumerate() {
            let named = policy(&format!("a-dry-{n}"), one.action, one.rules);
            all.push(dry(Policy { rejected: one.rejected, ..named }));
        }
        prop_assert_eq!(decided(&all, &connection), decided(&policies, &connection));
    }

    #[test]
    fn a_dry_run_foresees_what_would_be_decided(policies in policies(), connection in connection()) {
        let earnest: Vec<Policy> = policies.iter().cloned().map(|one| Policy { dry_run: false, ..one }).collect();
        let set = set(&policies);
        match set.dry_run(&connection.peer(), &connection.destination) {
            Some(foreseen) => {
                let admitted = matches!(foreseen, Decision::Allow(_));
                prop_assert_eq!(admitted, admits(&earnest, &connection));
            }
            None => prop_assert!(policies.iter().all(|one| !one.dry_run)),
        }
    }

    #[test]
    fn the_order_of_policies_does_not_matter(policies in policies(), connection in connection(), turn in any::<Index>()) {
        let mut turned = policies.clone();
        turned.reverse();
        let by = turn.index(turned.len().max(1));
        turned.rotate_left(by);
        prop_assert_eq!(set(&turned), set(&policies));
        prop_assert_eq!(decided(&turned, &connection), decided(&policies, &connection));
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address(policies in policies(), connection in connection()) {
        let mut canonical = connection.clone();
        canonical.address = connection.address.to_canonical();
        canonical.destination.address = connection.destination.address.to_canonical();
        prop_assert_eq!(decided(&policies, &connection), decided(&policies, &canonical));
    }

    #[test]
    fn many_ranges_hold_what_one_of_them_holds(
        octets in vec((0..4_u8, any::<u8>(), 28..=32_u8), 0..400),
        some in vec(range(), 0..4),
        asked in vec((0..5_u8, any::<u8>()), 0..40),
        further in vec(address(), 0..8),
    ) {
        let v4 = octets.iter().map(|(c, d, len)| format!("10.0.{c}.{d}/{len}").parse().unwrap());
        let v6 = octets.iter().map(|(c, d, len)| format!("fd00::{c:x}{d:02x}/{}", len + 96).parse().unwrap());
        let ranges: Vec<ipnet::IpNet> = v4.chain(v6).chain(some).collect();
        let rule = Match { source_ips: Sides::any(ranges.clone()), ..from(&[]) };
        let compiled = Compiled::new(audit("ranges", vec![one(rule)]));
        let v4 = asked.iter().map(|(c, d)| format!("10.0.{c}.{d}").parse().unwrap());
        let v6 = asked.iter().map(|(c, d)| format!("fd00::{c:x}{d:02x}").parse().unwrap());
        for address in v4.chain(v6).chain(further) {
            let connection = Connection { address, ..crate::scene::connection("plain", "::", "[::1]:80") };
            let matches = compiled.matching(&connection.peer(), &connection.destination).is_some();
            prop_assert_eq!(matches, ranges.iter().any(|range| naive::has(range, address)), "{}", address);
        }
    }

    #[test]
    fn an_explanation_is_of_the_decision(policies in policies(), connection in connection()) {
        let set = set(&policies);
        let (peer, destination) = (connection.peer(), &connection.destination);
        let explanation = set.explain(&peer, destination);
        let decision = set.decide(&peer, destination);
        let (verdict, ground) = match &decision {
            Decision::Allow(ground) => (Ruling::Allow, ground),
            Decision::Deny(ground) => (Ruling::Deny, ground),
        };
        prop_assert_eq!(explanation.verdict, verdict);
        prop_assert_eq!(&explanation.reason, &ground.to_string());
        let by = match ground {
            Ground::Rule { policy, .. } | Ground::Rejected { policy, .. } => Some(policy.source.name.to_string()),
            Ground::NothingAsked | Ground::NotAllowed { .. } | Ground::Unknown(_) => None,
        };
        prop_assert_eq!(explanation.decided_by.as_ref().map(|by| by.name.clone()), by);
        prop_assert_eq!(explanation.policies.len(), policies.len());
        for considered in &explanation.policies {
            let one = policies.iter().find(|one| *one.source.name == *considered.name).unwrap();
            let expected = match (&one.rejected, naive::matching(one, &connection)) {
                (Some(_), _) => "rejected",
                (None, Some(_)) => "matches",
                (None, None) => "doesNotMatch",
            };
            let json = serde_json::to_value(considered).unwrap();
            prop_assert_eq!(json["outcome"].as_str(), Some(expected));
        }
        let json = serde_json::to_string(&explanation).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Explanation>(&json).unwrap(), &explanation);
        for line in explanation.to_string().lines() {
            prop_assert!(line.chars().count() < 120, "{}", line);
            prop_assert_eq!(line.trim_end(), line);
        }
    }
}
