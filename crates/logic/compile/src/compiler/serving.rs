//! All that one waypoint serves: routes and destinations of each service, and what stands before its requests.

use std::{collections::BTreeMap, sync::Arc};

use weir_authz::http::HttpPolicies;
use weir_manifest::{ConfigKind, ConfigSpec};
use weir_model::{Hostname, Namespace, Service, TelemetrySettings};
use weir_request::Normalization;
use weir_route::{RouteTable, TcpTable};
use weir_serving::{Destinations, External, Guard, Host};
use weir_token::TokenRules;
use weir_world::World;

use super::{Compiler, attached::class_of};
use crate::{Compiled, Served, WaypointName, WaypointRef, routes};

/// The class of a waypoint whose Gateway is not known.
const CLASS: &str = "istio-waypoint";

impl Compiler {
    /// What a waypoint serves in that world. The objects that shape requests are ours; services and their workloads are the world's.
    pub fn serving(&self, world: &World, gateway: &WaypointName) -> Compiled {
        let mut compiled = routes(&self.settings, world, &self.configs);
        let class = class_of(&self.configs, &gateway.namespace, &gateway.name).unwrap_or(CLASS);
        let waypoint = WaypointRef { namespace: &gateway.namespace, name: &gateway.name, class };
        let telemetry = compiled.telemetries.settings(waypoint, None);
        let common = Arc::new(self.guard(&Served::Pods, gateway, telemetry.clone()));
        let (entries, targets) = (self.entry_names(), self.targets());
        for service in world.services() {
            let served = self.served(service, &entries);
            let told = compiled.telemetries.settings(waypoint, Some(&service.name));
            let guard = match targets.contains(&served) {
                true => Arc::new(self.guard(&served, gateway, told)),
                false if told == telemetry => common.clone(),
                false => Arc::new(Guard { telemetry: told, ..Guard::clone(&common) }),
            };
            let name = &service.name.hostname;
            match compiled.serving.hosts.get_mut(name) {
                Some(host) => Arc::make_mut(host).guard = guard,
                None if Arc::ptr_eq(&guard, &common) => {}
                None => drop(compiled.serving.hosts.insert(name.clone(), Arc::new(unsaid(service, guard)))),
            }
        }
        compiled.serving.guard = common;
        compiled
    }

    fn guard(&self, served: &Served, gateway: &WaypointName, telemetry: Arc<TelemetrySettings>) -> Guard {
        let tokens = self.tokens_covering(served, gateway);
        Guard {
            tokens: Arc::new(TokenRules::new(tokens.iter().map(|policy| &policy.spec))),
            policies: Arc::new(HttpPolicies::new(self.covering(served, gateway), Normalization::Base)),
            telemetry,
        }
    }

    /// The ServiceEntries by what they declare.
    fn entry_names(&self) -> BTreeMap<(&Namespace, &Hostname), &Arc<str>> {
        let entries = self.configs.of(ConfigKind::ServiceEntry).filter_map(|object| match &object.spec {
            ConfigSpec::ServiceEntry(spec) => Some((object, spec)),
            ConfigSpec::VirtualService(_)
            | ConfigSpec::DestinationRule(_)
            | ConfigSpec::Telemetry(_)
            | ConfigSpec::Gateway(_)
            | ConfigSpec::Route(_)
            | ConfigSpec::ReferenceGrant(_)
            | ConfigSpec::Rejected(_) => None,
        });
        entries
            .flat_map(|(object, spec)| spec.hosts.iter().map(move |host| ((&object.namespace, host), &object.name)))
            .collect()
    }

    /// The object that declares a service.
    fn served(&self, service: &Service, entries: &BTreeMap<(&Namespace, &Hostname), &Arc<str>>) -> Served {
        let namespace = service.name.namespace.clone();
        match entries.get(&(&namespace, &service.name.hostname)) {
            Some(name) => Served::ServiceEntry { name: (*name).clone(), namespace },
            None => Served::Service { namespace, name: service.short_name.clone() },
        }
    }
}

/// A service of whose requests nothing is said.
fn unsaid(service: &Service, guard: Arc<Guard>) -> Host {
    Host {
        name: service.name.clone(),
        http: Arc::new(RouteTable::default()),
        tcp: Arc::new(TcpTable::default()),
        destinations: Destinations::none().clone(),
        external: External::default(),
        guard,
        refused: None,
    }
}
