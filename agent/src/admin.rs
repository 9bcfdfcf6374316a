//! `/config_dump`: everything the agent knows, for `weirctl` and for people. Names of fields are ztunnel's where it has them.

pub(crate) mod asked;
pub(crate) mod explained;
mod policy;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use weir_compile::PolicyStatus;
use weir_identity::Identities;
use weir_model::{
    Health, HealthPolicy, Membership, NetworkMode, Service, ServiceName, Termination, Tunnel, WaypointAddress,
    WaypointDestination, Workload, WorkloadKind,
};
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
        let mut behind: HashMap<&ServiceName, Vec<(&Workload, &Membership)>> = HashMap::new();
        for workload in &workloads {
            for membership in &workload.services {
                behind.entry(&membership.service).or_default().push((workload, membership));
            }
        }
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "node": self.node,
            "config": self.config.dump(),
            "control": self.control.as_ref().map(ControlState::dump),
            "pods": self.states.all().iter().map(|(uid, state)| pod(uid, state, &policies_over(&world, uid))).collect::<Vec<_>>(),
            "workloads": workloads.iter().map(workload).collect::<Vec<_>>(),
            "services": world.services().map(|s| service(s, behind.get(&s.name))).collect::<Vec<_>>(),
            "policies": world.policies().map(policy::policy).collect::<Vec<_>>(),
            "policyStatus": self.config.policy_statuses(),
            "certificates": self.certificates(),
        })
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
    world.policies().filter(|policy| policy::covers(policy, &workload)).map(|policy| policy.name.to_string()).collect()
}

fn workload(w: &Workload) -> Value {
    json!({
        "uid": w.uid.as_str(),
        "name": &*w.name,
        "namespace": w.namespace.as_str(),
        "workloadIps": w.addresses,
        "protocol": match w.tunnel { Tunnel::Hbone => "HBONE", Tunnel::None => "TCP" },
        "networkMode": match w.network_mode { NetworkMode::Standard => "Standard", NetworkMode::HostNetwork => "HostNetwork" },
        "network": w.network.as_str(),
        "trustDomain": w.trust_domain.as_str(),
        "serviceAccount": w.service_account.as_str(),
        "workloadName": &*w.workload_name,
        "workloadType": match w.kind {
            WorkloadKind::Deployment => "deployment",
            WorkloadKind::CronJob => "cronjob",
            WorkloadKind::Job => "job",
            WorkloadKind::Pod => "pod",
        },
        "canonicalName": &*w.canonical_name,
        "canonicalRevision": &*w.canonical_revision,
        "clusterId": w.cluster.as_str(),
        "node": w.node.as_ref().map(|n| n.as_str()),
        "nativeTunnel": w.termination == Termination::Own,
        "applicationTunnel": match w.termination {
            Termination::Proxy(port) => json!({ "protocol": "PROXY", "port": port.number() }),
            Termination::Agent | Termination::Own => Value::Null,
        },
        "waypoint": waypoint(w.waypoint.as_ref()),
        "unsupported": w.unsupported.as_deref(),
        "status": match w.health { Health::Healthy => "Healthy", Health::Unhealthy => "Unhealthy" },
        "locality": { "region": &*w.locality.region, "zone": &*w.locality.zone, "subzone": &*w.locality.subzone },
    })
}

/// As the config dump of Istio's agents has it.
fn waypoint(address: Option<&WaypointAddress>) -> Value {
    let Some(WaypointAddress { destination, port }) = address else { return Value::Null };
    let destination = match destination {
        WaypointDestination::Service(name) => {
            json!({ "namespace": name.namespace.as_str(), "hostname": name.hostname.as_str() })
        }
        WaypointDestination::Address(network, ip) => json!(format!("{network}/{ip}")),
    };
    json!({ "destination": destination, "hboneMtlsPort": port.number() })
}

fn service(s: &Service, behind: Option<&Vec<(&Workload, &Membership)>>) -> Value {
    let endpoint = |(workload, membership): &(&Workload, &Membership)| {
        let ports = membership.ports.iter();
        json!({
            "workloadUid": workload.uid.as_str(),
            "addresses": workload.addresses,
            "ports": ports.map(|(port, own)| json!({ "service": port.number(), "target": own.number() })).collect::<Vec<_>>(),
            "ready": workload.health == Health::Healthy || s.health_policy == HealthPolicy::All,
        })
    };
    json!({
        "name": &*s.short_name,
        "namespace": s.name.namespace.as_str(),
        "hostname": s.name.hostname.as_str(),
        "vips": s.vips.iter().map(|(network, net)| format!("{network}/{net}")).collect::<Vec<_>>(),
        "ports": s.ports.iter().map(|p| p.port.number()).collect::<Vec<_>>(),
        "endpoints": behind.into_iter().flatten().map(endpoint).collect::<Vec<_>>(),
        "waypoint": waypoint(s.waypoint.as_ref()),
        "unsupported": s.unsupported.as_deref(),
    })
}
