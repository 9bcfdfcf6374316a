//! What became of each policy, of what shapes requests, and of each service that names a waypoint: said in its status and in the log.

mod shaping;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use weir_compile::{BindingOutcome, BindingStatus, Compiled, Compiler, ConditionKind, Configs, PolicyStatus};
use weir_kube::{Client, Condition, Error, Leadership, conditions_set, gateway_status_set, route_status_set};
use weir_manifest::{ConfigKind, Kind, ObjectKey};

use crate::{deployer::Deployed, documents::GatewayKey};
use shaping::Shaping;

/// After a failure.
const RETRY: Duration = Duration::from_secs(5);

/// The condition of a service that names a waypoint. Istio.
const WAYPOINT_BOUND: &str = "istio.io/WaypointBound";

type All = BTreeMap<ObjectKey, Said>;
type OfGateways = BTreeMap<GatewayKey, Deployed>;

/// What is to be said of an object.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    /// Of a policy.
    Policy(Arc<PolicyStatus>),
    /// Of a service that names a waypoint.
    Binding(Arc<BindingStatus>),
    /// Nothing any more of a service that named one. Forgotten once it is written.
    Unbound,
    /// Of what shapes requests.
    Shaping(Arc<Shaping>),
}

/// What is to be said of each object now.
#[derive(Debug, Default)]
pub(crate) struct Statuses {
    all: Mutex<All>,
    /// What came of deploying waypoints.
    deployed: Mutex<OfGateways>,
    changed: Notify,
}

impl Statuses {
    /// Takes over what changed, and says in the log what is not as its author wrote it.
    pub(crate) fn take(&self, compiler: &mut Compiler) {
        let (policies, bindings) = (compiler.take_statuses(), compiler.take_bindings());
        if policies.is_empty() && bindings.is_empty() {
            return;
        }
        let mut all = self.all();
        for (key, now) in bindings {
            all.insert(key, now.map_or(Said::Unbound, |now| Said::Binding(Arc::new(noted(now)))));
        }
        for (key, now) in policies {
            let Some(now) = now else {
                all.remove(&key);
                continue;
            };
            let as_written = |before: &Said| matches!(before, Said::Policy(before) if before.is_as_written());
            let was = all.get(&key).is_none_or(as_written);
            match (was, now.is_as_written()) {
                (_, false) => tracing::warn!("not enforced as written: {now}"),
                (false, true) => tracing::info!("enforced as written now: {now}"),
                (true, true) => tracing::debug!("enforced as written: {now}"),
            }
            all.insert(key, Said::Policy(Arc::new(now)));
        }
        drop(all);
        self.changed.notify_one();
    }

    /// Takes over what became of what shapes requests, all of it, and says in the log what is new of what authors should know.
    pub(crate) fn take_shaping(&self, compiled: &Compiled, configs: &Configs) {
        let mut now = shaping::of(compiled, configs);
        let mut all = self.all();
        let mut changed = false;
        all.retain(|key, said| match (&*said, now.get(key)) {
            (Said::Shaping(before), Some(one)) if **before == *one => {
                now.remove(key);
                true
            }
            (Said::Shaping(_), None) => {
                changed = true;
                false
            }
            (Said::Shaping(_) | Said::Policy(_) | Said::Binding(_) | Said::Unbound, _) => true,
        });
        for (key, one) in now {
            changed = true;
            let before = all.get(&key).and_then(|said| match said {
                Said::Shaping(before) => Some(before.clone()),
                Said::Policy(_) | Said::Binding(_) | Said::Unbound => None,
            });
            let known = before.as_ref().map(|before| before.notes()).unwrap_or_default();
            for note in one.notes().iter().filter(|note| !known.contains(note)) {
                tracing::warn!("{note}");
            }
            all.insert(key, Said::Shaping(Arc::new(one)));
        }
        drop(all);
        if changed {
            self.changed.notify_one();
        }
    }

    /// Takes over what came of deploying a waypoint; nothing when it is none any more.
    pub(crate) fn deployed(&self, key: &GatewayKey, now: Option<Deployed>) {
        {
            let mut deployed = self.deployed.lock().unwrap_or_else(PoisonError::into_inner);
            let before = match now.clone() {
                Some(now) => deployed.insert(key.clone(), now),
                None => deployed.remove(key),
            };
            if before == now {
                return;
            }
        }
        self.changed.notify_one();
    }

    /// What is to be written: of a waypoint also what came of deploying it.
    fn wanted(&self) -> All {
        let mut all = self.all().clone();
        let deployed = self.deployed.lock().unwrap_or_else(PoisonError::into_inner);
        for ((namespace, name), deployed) in deployed.iter() {
            let kind = ConfigKind::Gateway.name().into();
            let key = ObjectKey { kind, namespace: Some(namespace.clone()), name: name.clone() };
            if let Some(Said::Shaping(said)) = all.get_mut(&key) {
                *said = Arc::new(said.deployed(deployed));
            }
        }
        all
    }

    /// What authors of what shapes requests should know.
    pub(crate) fn findings(&self) -> Vec<String> {
        let notes = |said: &Said| match said {
            Said::Shaping(one) => one.notes().to_vec(),
            Said::Policy(_) | Said::Binding(_) | Said::Unbound => Vec::new(),
        };
        self.all().values().flat_map(notes).collect()
    }

    /// Those of policies that are not enforced as they were written.
    pub(crate) fn not_as_written(&self) -> Vec<Arc<PolicyStatus>> {
        let policy = |said: &Said| match said {
            Said::Policy(one) => Some(one.clone()),
            Said::Binding(_) | Said::Unbound | Said::Shaping(_) => None,
        };
        self.all().values().filter_map(policy).filter(|one| !one.is_as_written()).collect()
    }

    /// Those of services whose connections do not go where their labels say.
    pub(crate) fn not_bound(&self) -> Vec<Arc<BindingStatus>> {
        let binding = |said: &Said| match said {
            Said::Binding(one) => Some(one.clone()),
            Said::Policy(_) | Said::Unbound | Said::Shaping(_) => None,
        };
        self.all().values().filter_map(binding).filter(|one| !one.outcome.is_bound()).collect()
    }

    /// What is said of nothing any more, and was written.
    fn forget(&self, key: &ObjectKey) {
        let mut all = self.all();
        if all.get(key) == Some(&Said::Unbound) {
            all.remove(key);
        }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same, said in the log.
fn noted(now: BindingStatus) -> BindingStatus {
    match now.outcome {
        BindingOutcome::Bound => tracing::debug!("{now}"),
        BindingOutcome::NotServed => tracing::info!("{now}"),
        BindingOutcome::Missing | BindingOutcome::NoWaypoint | BindingOutcome::NotAllowed => tracing::warn!("{now}"),
    }
    now
}

/// Writes the statuses into the cluster, as long as we lead, until `ended`. One is written when we come to lead and when it changes: what
/// somebody else makes of it in between is left to them, lest two write over each other for ever.
pub(crate) async fn write(
    client: Client,
    mut leadership: Leadership,
    statuses: Arc<Statuses>,
    ended: impl Future<Output = ()>,
) {
    let writing = async {
        loop {
            leadership.gained().await;
            let mut done = All::new();
            while leadership.is_leader() {
                let failed = round(&client, &leadership, &statuses, &mut done).await;
                let retry = Instant::now() + RETRY;
                tokio::select! {
                    () = leadership.lost() => {}
                    () = statuses.changed.notified() => {}
                    () = sleep_until(retry), if failed => {}
                }
            }
        }
    };
    tokio::select! {
        () = ended => {}
        () = writing => {}
    }
}

/// Writes what is not done. Answers whether it is to be tried again.
async fn round(client: &Client, leadership: &Leadership, statuses: &Statuses, done: &mut All) -> bool {
    let wanted = statuses.wanted();
    done.retain(|key, _| wanted.contains_key(key));
    let mut failed = false;
    for (key, status) in wanted {
        if done.get(&key) == Some(&status) || !leadership.is_leader() {
            continue;
        }
        match say(client, &key, &status).await {
            Ok(()) if status == Said::Unbound => statuses.forget(&key),
            Ok(()) => drop(done.insert(key, status)),
            Err(error) => {
                let (kind, name) = (&key.kind, &key.name);
                let namespace = key.namespace.as_ref().map(|one| one.as_str());
                tracing::warn!(%kind, namespace, %name, %error, "its status cannot be written; trying again");
                failed = true;
            }
        }
    }
    failed
}

async fn say(client: &Client, key: &ObjectKey, said: &Said) -> Result<(), Error> {
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == &*key.kind) else { return Ok(()) };
    let set = |ours: Vec<&'static str>, conditions: Vec<Condition>| async move {
        conditions_set(client, kind, key, &ours, &conditions).await
    };
    let written = match said {
        Said::Policy(status) => set(ConditionKind::ALL.map(ConditionKind::as_str).to_vec(), of_policy(status)).await,
        Said::Binding(status) => set(vec![WAYPOINT_BOUND], vec![of_binding(status)]).await,
        Said::Unbound => set(vec![WAYPOINT_BOUND], Vec::new()).await,
        Said::Shaping(said) => match &**said {
            Shaping::Istio { condition, .. } => set(vec![shaping::RECONCILED], vec![condition.clone()]).await,
            Shaping::Route { parents, .. } => route_status_set(client, kind, key, shaping::CONTROLLER, parents).await,
            Shaping::Gateway { conditions, listeners, addresses } => {
                gateway_status_set(client, key, conditions, listeners, addresses.as_deref()).await
            }
            Shaping::Unsaid { .. } => return Ok(()),
        },
    };
    match written {
        // It is gone, and that will be heard.
        Err(error) if error.status() == Some(404) => Ok(()),
        result => result.map(drop),
    }
}

fn of_policy(status: &PolicyStatus) -> Vec<Condition> {
    let condition = |one: &weir_compile::PolicyCondition| Condition {
        kind: one.kind.as_str(),
        holds: one.holds,
        reason: one.reason.as_str(),
        message: one.message.clone(),
        generation: status.generation,
    };
    status.conditions.iter().map(condition).collect()
}

fn of_binding(status: &BindingStatus) -> Condition {
    Condition {
        kind: WAYPOINT_BOUND,
        holds: status.outcome.is_bound(),
        reason: status.outcome.reason(),
        message: format!("waypoint {}/{}: {}", status.gateway_namespace, status.gateway, status.outcome),
        generation: None,
    }
}
