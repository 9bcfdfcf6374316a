//! Policies that decide nothing, AUDIT and dry run: what they match is counted, and logged now and then.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use weir_authz::{Decision, Destination, Ground, Peer, PolicySet};
use weir_model::{Policy, PolicyName, Port, SpiffeId, WorkloadUid, canonical_socket};
use weir_telemetry::{Sample, Value};
use weir_world::World;

/// Policies that are counted by name at once; those beyond are counted as `other`.
const COUNTED: usize = 1_024;
/// How often one policy is logged for one pod.
const PAUSE: Duration = Duration::from_secs(10);
/// Pairs of policy and pod that are remembered for that.
const REMEMBERED: usize = 4_096;
/// The label of what is beyond [`COUNTED`], and of an answer that no policy gave. No policy has such a name: theirs have a `/`.
const OTHER: &str = "other";
const NONE: &str = "none";

/// A connection that was decided about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decided<'d> {
    pub(crate) pod: &'d WorkloadUid,
    pub(crate) identity: Option<&'d SpiffeId>,
    pub(crate) client: SocketAddr,
    pub(crate) target: SocketAddr,
}

/// What all workers count together. Only connections that such a policy covers take its lock.
#[derive(Debug, Default)]
pub(crate) struct Shadows(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    audits: BTreeMap<String, u64>,
    dry_runs: BTreeMap<(String, &'static str), u64>,
    lines: HashMap<(WorkloadUid, String), Line>,
}

/// What was logged last, and what was not since.
#[derive(Debug)]
struct Line {
    at: Instant,
    withheld: u64,
}

impl Shadows {
    /// Counts and logs what the policies over its pod say of a connection beside the decision.
    pub(crate) fn look(&self, policies: &PolicySet, decided: &Decided<'_>, now: Instant) {
        let target = canonical_socket(decided.target);
        let Some(port) = Port::new(target.port()) else { return };
        let peer = Peer { identity: decided.identity, address: canonical_socket(decided.client).ip() };
        let destination = Destination { address: target.ip(), port };
        for ground in policies.audits(&peer, &destination) {
            let policy = name(&ground);
            let mut seen = self.seen();
            count(&mut seen.audits, policy.clone(), OTHER.to_owned());
            if let Some(withheld) = seen.may_log(decided.pod, &policy, now) {
                drop(seen);
                say(decided, &policy, withheld, &format!("audited: {ground}"));
            }
        }
        let Some(dry) = policies.dry_run(&peer, &destination) else { return };
        let (result, told, ground) = match dry {
            Decision::Allow(ground) => ("allowed", "dry run: it would be admitted", ground),
            Decision::Deny(ground) => ("denied", "dry run: it would be refused", ground),
        };
        let policy = name(&ground);
        let same =
            matches!(policies.decide(&peer, &destination), Decision::Allow(_)) == matches!(dry, Decision::Allow(_));
        let mut seen = self.seen();
        count(&mut seen.dry_runs, (policy.clone(), result), (OTHER.to_owned(), result));
        // What would change nothing is counted alone.
        if same {
            return;
        }
        if let Some(withheld) = seen.may_log(decided.pod, &policy, now) {
            drop(seen);
            say(decided, &policy, withheld, &format!("{told}: {ground}"));
        }
    }

    /// Forgets policies that are gone.
    pub(crate) fn forget(&self, world: &World) {
        let known = |policy: &str| match policy.parse::<PolicyName>() {
            Ok(name) => world.policy(&name).is_some(),
            Err(_) => true,
        };
        let mut seen = self.seen();
        seen.audits.retain(|policy, _| known(policy));
        seen.dry_runs.retain(|(policy, _), _| known(policy));
    }

    /// `weir_policy_audit_total`.
    pub(crate) fn audits(&self) -> Vec<Sample> {
        let line = |(policy, count): (&String, &u64)| Sample {
            labels: vec![("policy", policy.clone())],
            value: Value::Whole(*count),
        };
        self.seen().audits.iter().map(line).collect()
    }

    /// `weir_policy_dry_run_total`.
    pub(crate) fn dry_runs(&self) -> Vec<Sample> {
        let line = |((policy, result), count): (&(String, &'static str), &u64)| Sample {
            labels: vec![("policy", policy.clone()), ("result", (*result).to_owned())],
            value: Value::Whole(*count),
        };
        self.seen().dry_runs.iter().map(line).collect()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Whether a policy is to be logged for a pod now; then how often it was not since it last was.
    fn may_log(&mut self, pod: &WorkloadUid, policy: &str, now: Instant) -> Option<u64> {
        if self.lines.len() >= REMEMBERED {
            self.lines.retain(|_, line| now.duration_since(line.at) < PAUSE);
        }
        let full = self.lines.len() >= REMEMBERED;
        match self.lines.get_mut(&(pod.clone(), policy.to_owned())) {
            Some(line) if now.duration_since(line.at) < PAUSE => {
                line.withheld += 1;
                None
            }
            Some(line) => {
                line.at = now;
                Some(std::mem::take(&mut line.withheld))
            }
            None if full => None,
            None => {
                self.lines.insert((pod.clone(), policy.to_owned()), Line { at: now, withheld: 0 });
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
fn name(ground: &Ground<'_>) -> String {
    let of = |policy: &Policy| policy.name.to_string();
    match ground {
        Ground::NothingAsked => NONE.to_owned(),
        Ground::Rule { policy, .. } | Ground::Rejected { policy, .. } => of(policy),
        Ground::NotAllowed { policies } => policies.first().map_or_else(|| NONE.to_owned(), |one| of(one.policy())),
        Ground::Unknown(name) => name.to_string(),
    }
}

fn say(decided: &Decided<'_>, policy: &str, withheld: u64, what: &str) {
    let Decided { pod, identity, client, target } = decided;
    let identity = identity.map(ToString::to_string);
    tracing::info!(%pod, %client, identity, %target, policy, withheld, "{what}");
}

#[cfg(test)]
mod tests;
