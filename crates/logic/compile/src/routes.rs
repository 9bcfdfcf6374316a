//! Objects that shape requests, to what a waypoint serves.
//!
//! Each kind is compiled in a file of its own, from nothing but the objects, the services there are, and the settings.

mod configs;
mod destination_rule;
mod finding;
mod gateway_route;
mod ground;
mod service_entry;
mod virtual_service;

use std::{collections::BTreeMap, sync::Arc};

use weir_model::Hostname;
use weir_route::{RouteObject, RouteTable, TcpObject, TcpTable};
use weir_serving::{Destinations, External, Host, Serving};
use weir_world::World;

use crate::{Settings, Telemetries};
use gateway_route::OfGateway;

pub use configs::Configs;
pub use finding::{Finding, FindingReason};
pub use gateway_route::{
    GatewayCondition, GatewayConditionKind, GatewayReason, GatewayStatus, ListenerStatus, ParentStatus, RouteCondition,
    RouteConditionKind, RouteReason, RouteStatus,
};
pub use ground::Ground;

/// What objects say about the requests to one host.
#[derive(Debug, Clone, Default)]
pub struct HostRoutes {
    /// Of HTTP requests.
    pub http: Vec<RouteObject>,
    /// Of connections that are not HTTP.
    pub tcp: Vec<TcpObject>,
}

/// What objects of one family say, and what is wrong with them.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    /// By host.
    pub hosts: BTreeMap<Hostname, HostRoutes>,
    /// What is to be told to their authors.
    pub findings: Vec<Finding>,
}

/// Everything that is said about requests.
#[derive(Debug, Clone, Default)]
pub struct Compiled {
    /// What is served.
    pub serving: Serving,
    /// What is to be told to authors of Istio's kinds.
    pub findings: Vec<Finding>,
    /// What became of each route of the Gateway API.
    pub statuses: Vec<RouteStatus>,
    /// What became of each waypoint.
    pub gateways: Vec<GatewayStatus>,
    /// What is told of requests.
    pub telemetries: Telemetries,
}

/// Compiles all objects that shape requests.
pub fn routes(settings: &Settings, world: &World, configs: &Configs) -> Compiled {
    let ground = Ground::new(settings, world);
    let (destinations, mut findings) = destination_rule::compile(&ground, configs);
    let services = virtual_service::compile(&ground, configs, &destinations);
    let OfGateway { routes: gateway, statuses, gateways } = gateway_route::compile(&ground, configs);
    findings.extend(virtual_service::beaten(configs, &services, &gateway));
    let external = service_entry::external(&ground, configs);
    let serving = assemble(&ground, destinations, external, services.hosts, gateway.hosts);
    findings.extend(service_entry::findings(&ground, configs));
    findings.extend(services.findings);
    findings.extend(gateway.findings);
    let (telemetries, of_telemetry) = Telemetries::new(settings, configs);
    findings.extend(of_telemetry);
    findings.extend(configs.findings());
    Compiled { serving, findings, statuses, gateways, telemetries }
}

/// Puts together what is said of each host. Where routes of the Gateway API name a service, VirtualServices have no say.
fn assemble(
    ground: &Ground<'_>,
    destinations: BTreeMap<Hostname, Arc<Destinations>>,
    mut external: BTreeMap<Hostname, External>,
    mut services: BTreeMap<Hostname, HostRoutes>,
    mut gateway: BTreeMap<Hostname, HostRoutes>,
) -> Serving {
    let mut serving = Serving::default();
    for service in ground.services() {
        let name = &service.name.hostname;
        let (own, of_gateway) = (services.remove(name), gateway.remove(name));
        let (destinations, external) = (destinations.get(name).cloned(), external.remove(name));
        if own.is_none() && of_gateway.is_none() && destinations.is_none() && external.is_none() {
            continue;
        }
        let HostRoutes { mut http, mut tcp } = own.unwrap_or_default();
        let of_gateway = of_gateway.unwrap_or_default();
        http.extend(of_gateway.http);
        tcp.extend(of_gateway.tcp);
        let tables = RouteTable::new(http).and_then(|http| Ok((http, TcpTable::new(tcp)?)));
        let (http, tcp, refused) = match tables {
            Ok((http, tcp)) => (http, tcp, None),
            Err(error) => (RouteTable::default(), TcpTable::default(), Some(error.to_string().into())),
        };
        let host = Host {
            name: service.name.clone(),
            http: Arc::new(http),
            tcp: Arc::new(tcp),
            destinations: destinations.unwrap_or_else(|| Destinations::none().clone()),
            external: external.unwrap_or_default(),
            guard: Arc::default(),
            refused,
        };
        serving.hosts.insert(name.clone(), Arc::new(host));
    }
    serving
}
