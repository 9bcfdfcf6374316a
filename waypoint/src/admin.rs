//! `/config_dump`: what the waypoint serves, for `weirctl` and for people.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use weir_serving::Host;
use weir_telemetry::ControlState;

use crate::{cli::GatewayName, worker::Shared};

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
    notes: Vec<String>,
}

impl ConfigState {
    /// A configuration is in force.
    pub(crate) fn accepted(&self, at: String, ignored: Vec<String>, notes: Vec<String>) {
        let mut config = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = config.generation + 1;
        *config = Config { generation, loaded_at: at, ignored, notes, ..Config::default() };
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
            "findings": config.notes,
        })
    }
}

/// What a dump is made of.
pub(crate) struct Dump {
    pub(crate) gateway: GatewayName,
    pub(crate) shared: Shared,
    pub(crate) config: ConfigState,
    pub(crate) control: Option<ControlState>,
}

impl Dump {
    /// What is short however much it serves.
    pub(crate) fn summary(&self) -> Value {
        let state = self.shared.state();
        json!({
            "component": "weir-waypoint",
            "version": env!("CARGO_PKG_VERSION"),
            "name": format!("{}/{}", self.gateway.namespace, self.gateway.name),
            "config": self.config.dump(),
            "control": self.control.as_ref().map(ControlState::dump),
            "workloads": state.world.len(),
            "hosts": state.serving.hosts.len(),
            "certificates": self.shared.certificates(),
        })
    }

    /// The dump.
    pub(crate) fn dump(&self) -> Value {
        let state = self.shared.state();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "gateway": format!("{}/{}", self.gateway.namespace, self.gateway.name),
            "config": self.config.dump(),
            "control": self.control.as_ref().map(ControlState::dump),
            "hosts": state.serving.hosts.values().map(|one| host(one)).collect::<Vec<_>>(),
            "workloads": state.world.len(),
            "certificates": self.shared.certificates(),
        })
    }
}

fn host(host: &Host) -> Value {
    let route = |object: &weir_route::RouteObject| {
        json!({
            "kind": object.kind.to_string(),
            "namespace": object.namespace.as_str(),
            "name": &*object.name,
            "file": object.file.as_deref(),
            "rules": object.rules.len(),
        })
    };
    json!({
        "service": host.name.to_string(),
        "routes": host.http.objects().iter().map(route).collect::<Vec<_>>(),
        "destinationRule": host.destinations.object.as_deref(),
        "subsets": host.destinations.subsets.keys().collect::<Vec<_>>(),
        "refused": host.refused.as_deref(),
    })
}
