//! What is counted, what is logged, and that both are bounded.

use weir_authz::Compiled;
use weir_model::{PolicyAction, Tunnel};

use super::*;
use crate::testing::{from, identity, policy, socket, to, uid, world};

fn look(shadows: &Shadows, policies: &PolicySet, account: Option<&str>, port: u16) {
    let identity = account.map(identity);
    for (client, target) in [("10.0.0.9:1", format!("10.0.0.1:{port}")), ("[fd00::9]:1", format!("[fd00::1]:{port}"))] {
        let (client, target) = (socket(client), socket(&target));
        let decided = Decided { pod: &uid("a"), identity: identity.as_ref(), client, target };
        shadows.look(policies, &decided, Instant::now());
    }
}

fn set(policies: impl IntoIterator<Item = Policy>) -> PolicySet {
    PolicySet::new(policies.into_iter().map(|policy| std::sync::Arc::new(Compiled::new(policy))), None)
}

fn counts(samples: Vec<Sample>) -> Vec<(String, Value)> {
    let labels = |sample: &Sample| sample.labels.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" ");
    samples.into_iter().map(|sample| (labels(&sample), sample.value)).collect()
}

fn twice(labels: &str) -> (String, Value) {
    (labels.to_owned(), Value::Whole(2))
}

#[test]
fn what_matches_is_counted_by_policy_and_answer() {
    let shadows = Shadows::default();
    let mut tried = policy("tried", PolicyAction::Deny, [from("x")]);
    tried.dry_run = true;
    let policies = set([policy("watch", PolicyAction::Audit, [to(80)]), tried]);
    look(&shadows, &policies, Some("x"), 80);
    look(&shadows, &policies, Some("y"), 81);
    assert_eq!(counts(shadows.audits()), [twice("ns/watch")]);
    assert_eq!(counts(shadows.dry_runs()), [twice("none allowed"), twice("ns/tried denied")]);

    shadows.forget(&world([policy("watch", PolicyAction::Audit, [])], Tunnel::Hbone));
    assert_eq!(counts(shadows.audits()), [twice("ns/watch")]);
    assert_eq!(counts(shadows.dry_runs()), [twice("none allowed")]);
}

#[test]
fn beyond_a_thousand_policies_are_counted_together() {
    let shadows = Shadows::default();
    for number in 0..=COUNTED {
        let policies = set([policy(&format!("p{number}"), PolicyAction::Audit, [to(80)])]);
        look(&shadows, &policies, None, 80);
        look(&shadows, &policies, None, 80);
    }
    let audits = counts(shadows.audits());
    assert_eq!(audits.len(), COUNTED + 1);
    assert!(audits.contains(&("other".to_owned(), Value::Whole(4))));
}

#[test]
fn a_policy_is_logged_for_a_pod_once_in_a_while() {
    let mut seen = Seen::default();
    let start = Instant::now();
    for (after, pod, policy, want) in [
        (0, "a", "ns/p", Some(0)),
        (1, "a", "ns/p", None),
        (9, "a", "ns/p", None),
        (9, "a", "ns/q", Some(0)),
        (9, "b", "ns/p", Some(0)),
        (10, "a", "ns/p", Some(2)),
        (11, "a", "ns/p", None),
        (21, "a", "ns/p", Some(1)),
    ] {
        let at = start + Duration::from_secs(after);
        assert_eq!(seen.may_log(&uid(pod), policy, at), want, "{policy} for {pod} after {after} s");
    }
    for number in 0..2 * REMEMBERED {
        seen.may_log(&uid("a"), &format!("ns/{number}"), start + Duration::from_secs(21));
    }
    assert_eq!(seen.lines.len(), REMEMBERED);
    assert_eq!(seen.may_log(&uid("a"), "ns/late", start + Duration::from_secs(31)), Some(0), "old ones make room");
}
