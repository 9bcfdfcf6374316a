//! `/config_dump`: everything the agent knows, for `weirctl` and for people. Names of fields are ztunnel's where it has them.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use weir_identity::Identities;
use weir_model::{Health, NetworkMode, Policy, PolicyScope, Service, Tunnel, Workload, WorkloadKind};
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
}

impl ConfigState {
    /// A configuration is in force.
    pub(crate) fn accepted(&self, at: String, ignored: Vec<String>) {
        let mut config = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = config.generation + 1;
        *config = Config { generation, loaded_at: at, ignored, ..Config::default() };
    }

    /// A configuration was refused; the one before stays in force.
    pub(crate) fn rejected(&self, at: String, errors: Vec<String>) {
        let mut config = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        config.rejected_at = Some(at);
        config.errors = errors;
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
}

impl Sources {
    /// The dump.
    pub(crate) fn dump(&self) -> Value {
        let world = self.world.load();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "node": self.node,
            "config": self.config.dump(),
            "pods": self.states.all().iter().map(|(uid, state)| pod(uid, state)).collect::<Vec<_>>(),
            "workloads": world.workloads().map(|w| workload(&w)).collect::<Vec<_>>(),
            "services": world.services().map(|s| service(s)).collect::<Vec<_>>(),
            "policies": world.policies().map(|p| policy(p)).collect::<Vec<_>>(),
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

fn pod(uid: &str, state: &PodState) -> Value {
    match state {
        PodState::Enrolled { cookie, netns, .. } => {
            json!({ "uid": uid, "state": "Enrolled", "netns": netns.display().to_string(), "netnsCookie": cookie })
        }
        PodState::Failing(reason) => json!({ "uid": uid, "state": "Failing", "reason": reason }),
        PodState::Leaving(connections) => json!({ "uid": uid, "state": "Leaving", "connections": connections }),
        PodState::Outside(why) => json!({ "uid": uid, "state": "NotEnrolled", "reason": format!("{why:?}") }),
    }
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
        "status": match w.health { Health::Healthy => "Healthy", Health::Unhealthy => "Unhealthy" },
        "authorizationPolicies": w.policies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "unsupported": w.unsupported.as_deref(),
        "services": w.services.iter().map(|own| json!({
            "service": own.service.to_string(),
            "ports": own.ports.iter().map(|(port, own)| json!({ "service": port.number(), "target": own.number() }))
                .collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "locality": { "region": &*w.locality.region, "zone": &*w.locality.zone, "subzone": &*w.locality.subzone },
    })
}

fn policy(p: &Policy) -> Value {
    let scope = match p.scope {
        PolicyScope::Mesh => "Mesh",
        PolicyScope::Namespace => "Namespace",
        PolicyScope::Workloads => "Workloads",
    };
    json!({ "namespace": p.name.namespace.as_str(), "name": p.name.name(), "scope": scope })
}

fn service(s: &Service) -> Value {
    json!({
        "name": &*s.short_name,
        "namespace": s.name.namespace.as_str(),
        "hostname": s.name.hostname.as_str(),
        "unsupported": s.unsupported.as_deref(),
        "vips": s.vips.iter().map(|(network, net)| format!("{network}/{net}")).collect::<Vec<_>>(),
        "ports": s.ports.iter().map(|p| p.port.number()).collect::<Vec<_>>(),
    })
}
