//! `/config_dump`: everything the agent knows, for `weirctl` and for people. Names of fields are ztunnel's where it has them.

pub(crate) mod asked;
pub(crate) mod explained;
pub(crate) mod lists;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use weir_compile::PolicyStatus;
use weir_explain::listing;
use weir_identity::Identities;
use weir_model::Workload;
use weir_telemetry::ControlState;
use weir_world::World;

use crate::enrol::{PodState, States};

/// What happened to the configuration, for people.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigState(Arc<Mutex<Config>>);

#[derive(Debug, Default)]
struct Config {
    generation: u64,
    loaded_at: String,
    rejected_at: Option<String>,
    errors: Vec<String>,
    ignored: Vec<String>,
    statuses: Vec<PolicyStatus>,
}

impl ConfigState {
    /// A configuration is in force.
    pub(crate) fn accepted(&self, at: String, ignored: Vec<String>, statuses: &[PolicyStatus]) {
        let mut config = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = config.generation + 1;
        *config = Config { generation, loaded_at: at, ignored, statuses: statuses.to_vec(), ..Config::default() };
    }

    /// A configuration was refused; the one before stays in force.
    pub(crate) fn rejected(&self, at: String, errors: Vec<String>) {
        let mut config = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        config.rejected_at = Some(at);
        config.errors = errors;
    }

    fn policy_statuses(&self) -> Value {
        let config = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        config.statuses.iter().map(|status| json!(status)).collect()
    }

    fn dump(&self) -> Value {
        let config = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "generation": config.generation,
            "loadedAt": config.loaded_at,
            "rejectedAt": config.rejected_at,
            "errors": config.errors,
            "withoutEffect": config.ignored,
        })
    }
}

/// What a dump is made of.
pub(crate) struct Sources {
    pub(crate) node: String,
    pub(crate) world: Arc<ArcSwap<World>>,
    pub(crate) identities: Arc<Identities>,
    pub(crate) states: States,
    pub(crate) config: ConfigState,
    /// The control plane, where there is one.
    pub(crate) control: Option<ControlState>,
}

impl Sources {
    /// The dump.
    pub(crate) fn dump(&self) -> Value {
        let world = self.world.load();
        let workloads: Vec<Workload> = world.workloads().collect();
        let behind = listing::behind(&workloads);
        let of = |name| behind.get(name).map_or(&[][..], Vec::as_slice);
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "node": self.node,
            "config": self.config.dump(),
            "control": self.control.as_ref().map(ControlState::dump),
            "pods": self.pods(&world),
            "workloads": workloads.iter().map(listing::workload).collect::<Vec<_>>(),
            "services": world.services().map(|one| listing::service(one, of(&one.name))).collect::<Vec<_>>(),
            "policies": world.policies().map(listing::policy).collect::<Vec<_>>(),
            "policyStatus": self.config.policy_statuses(),
            "certificates": self.certificates(),
        })
    }

    /// What is short however large the mesh is: the agent itself, its pods, their certificates.
    pub(crate) fn summary(&self) -> Value {
        let world = self.world.load();
        json!({
            "component": "weir-agent",
            "version": env!("CARGO_PKG_VERSION"),
            "name": self.node,
            "config": self.config.dump(),
            "control": self.control.as_ref().map(ControlState::dump),
            "workloads": world.len(),
            "pods": self.pods(&world),
            "certificates": self.certificates(),
        })
    }

    fn pods(&self, world: &World) -> Vec<Value> {
        self.states.all().iter().map(|(uid, state)| pod(uid, state, &policies_over(world, uid))).collect()
    }

    fn certificates(&self) -> Vec<Value> {
        let time = |t: Option<std::time::SystemTime>| t.map(crate::run::timestamp);
        self.identities
            .snapshot()
            .into_iter()
            .map(|c| {
                json!({
                    "identity": c.identity.to_string(),
                    "state": c.state.as_str(),
                    "serialNumber": c.serial,
                    "validFrom": time(c.not_before),
                    "expirationTime": time(c.not_after),
                    "lastFailure": c.last_failure,
                })
            })
            .collect()
    }
}

fn pod(uid: &str, state: &PodState, policies: &[String]) -> Value {
    match state {
        PodState::Enrolled { cookie, netns, .. } => {
            let netns = netns.display().to_string();
            json!({ "uid": uid, "state": "Enrolled", "netns": netns, "netnsCookie": cookie, "policies": policies })
        }
        PodState::Failing(reason) => json!({ "uid": uid, "state": "Failing", "reason": reason }),
        PodState::Leaving(connections) => json!({ "uid": uid, "state": "Leaving", "connections": connections }),
        PodState::NotSent => json!({ "uid": uid, "state": "NotEnrolled", "reason": "NotSentByZds" }),
        PodState::Outside { why, .. } => json!({ "uid": uid, "state": "NotEnrolled", "reason": format!("{why:?}") }),
    }
}

/// The names of the policies that cover a pod.
fn policies_over(world: &World, uid: &str) -> Vec<String> {
    let Some(workload) = uid.parse().ok().and_then(|uid| world.workload(&uid)) else { return Vec::new() };
    world.policies().filter(|policy| listing::covers(policy, &workload)).map(|policy| policy.name.to_string()).collect()
}
