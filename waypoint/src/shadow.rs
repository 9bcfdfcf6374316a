//! Policies that decide nothing, AUDIT and dry run: what they match is counted, and logged now and then.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use weir_authz::{
    Ruling,
    http::{HttpDecision, HttpGround},
};
use weir_http::Arrival;
use weir_telemetry::{Kind, Metrics, Sample, Value};

/// Policies that are counted by name at once; those beyond are counted as `other`.
const COUNTED: usize = 1_024;
/// How often one policy is logged.
const PAUSE: Duration = Duration::from_secs(10);
/// The label of what is beyond [`COUNTED`], and of an answer that no policy gave. No policy has such a name: theirs have a `/`.
const OTHER: &str = "other";
const NONE: &str = "none";

/// What all workers count together. Only requests that such a policy covers take its lock.
#[derive(Debug, Default)]
pub(crate) struct Shadows(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    audits: BTreeMap<String, u64>,
    dry_runs: BTreeMap<(String, &'static str), u64>,
    logged: HashMap<String, (Instant, u64)>,
}

impl Shadows {
    /// Counts and logs what policies say of a request beside the decision.
    pub(crate) fn look(&self, decision: &HttpDecision<'_>, arrival: &Arrival, now: Instant) {
        if let Some(ground) = &decision.audit {
            let policy = name(ground);
            let mut seen = self.seen();
            count(&mut seen.audits, policy.clone(), OTHER.to_owned());
            if let Some(withheld) = seen.may_log(&policy, now) {
                drop(seen);
                say(arrival, &policy, withheld, &format!("audited: {ground}"));
            }
        }
        let Some(dry) = &decision.dry_run else { return };
        let (result, told) = match dry.ruling {
            Ruling::Allow => ("allowed", "dry run: it would be admitted"),
            Ruling::Deny => ("denied", "dry run: it would be refused"),
        };
        let policy = name(&dry.ground);
        let mut seen = self.seen();
        count(&mut seen.dry_runs, (policy.clone(), result), (OTHER.to_owned(), result));
        // What would change nothing is counted alone.
        if dry.ruling == decision.ruling {
            return;
        }
        if let Some(withheld) = seen.may_log(&policy, now) {
            drop(seen);
            say(arrival, &policy, withheld, &format!("{told}: {}", dry.ground));
        }
    }

    /// Shows what was counted.
    pub(crate) fn collect(self: &std::sync::Arc<Self>, metrics: &Metrics) {
        let shadows = self.clone();
        metrics.collect(
            "weir_policy_audit",
            "Requests that a policy with action AUDIT matched",
            Kind::Counter,
            move || {
                let line = |(policy, count): (&String, &u64)| Sample {
                    labels: vec![("policy", policy.clone())],
                    value: Value::Whole(*count),
                };
                shadows.seen().audits.iter().map(line).collect()
            },
        );
        let shadows = self.clone();
        metrics.collect(
            "weir_policy_dry_run",
            "What would have become of requests if policies that are tried out (dry run) were in force, by the policy that decided",
            Kind::Counter,
            move || {
                let line = |((policy, result), count): (&(String, &'static str), &u64)| Sample {
                    labels: vec![("policy", policy.clone()), ("result", (*result).to_owned())],
                    value: Value::Whole(*count),
                };
                shadows.seen().dry_runs.iter().map(line).collect()
            },
        );
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Whether a policy is to be logged now; then how often it was not since it last was.
    fn may_log(&mut self, policy: &str, now: Instant) -> Option<u64> {
        let full = self.logged.len() >= COUNTED;
        match self.logged.get_mut(policy) {
            Some((at, withheld)) if now.duration_since(*at) < PAUSE => {
                *withheld += 1;
                None
            }
            Some((at, withheld)) => {
                *at = now;
                Some(std::mem::take(withheld))
            }
            None if full => None,
            None => {
                self.logged.insert(policy.to_owned(), (now, 0));
                Some(0)
            }
        }
    }
}

/// Counts under a key, or under that of all beyond what is counted by name.
fn count<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, others: K) {
    let key = if counts.len() >= COUNTED && !counts.contains_key(&key) { others } else { key };
    *counts.entry(key).or_default() += 1;
}

/// The policy that decided, the first where none of several allows.
fn name(ground: &HttpGround<'_>) -> String {
    let of_several = || match ground {
        HttpGround::NotAllowed { policies } => policies.first().map(|policy| policy.name.to_string()),
        HttpGround::NothingAsked | HttpGround::Rule { .. } | HttpGround::Rejected { .. } => None,
    };
    let one = ground.policy().map(|policy| policy.name.to_string());
    one.or_else(of_several).unwrap_or_else(|| NONE.to_owned())
}

fn say(arrival: &Arrival, policy: &str, withheld: u64, what: &str) {
    let identity = arrival.identity.as_ref().map(ToString::to_string);
    tracing::info!(client = %arrival.client, identity, target = %arrival.target, policy, withheld, "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_logged_now_and_then_and_what_was_withheld_is_told() {
        let (mut seen, start) = (Seen::default(), Instant::now());
        assert_eq!(seen.may_log("a/p", start), Some(0));
        assert_eq!(seen.may_log("a/p", start + PAUSE / 2), None);
        assert_eq!(seen.may_log("a/q", start + PAUSE / 2), Some(0));
        assert_eq!(seen.may_log("a/p", start + PAUSE), Some(1));
        for number in 0..2 * COUNTED {
            seen.may_log(&number.to_string(), start);
            count(&mut seen.audits, number.to_string(), OTHER.to_owned());
        }
        assert!(seen.logged.len() <= COUNTED && seen.audits.len() <= COUNTED + 1);
        assert!(seen.audits[OTHER] > 1);
    }
}
