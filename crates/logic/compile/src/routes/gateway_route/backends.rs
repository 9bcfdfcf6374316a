//! What a route refers to, to where its requests go, or why they go nowhere.

use weir_manifest::{BackendRef, ConfigKind, ConfigObject};
use weir_model::{AppProtocol, Hostname, Namespace, Service, ServicePort};
use weir_route::Destination;

use super::{
    grants::{Grants, Referent},
    status::RouteReason,
};
use crate::routes::Ground;

/// Why a reference leads nowhere. Its share of requests is answered with 500.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unresolved {
    pub(super) reason: RouteReason,
    pub(super) why: String,
}

/// What references are resolved by.
#[derive(Clone, Copy)]
pub(super) struct Resolver<'a> {
    pub(super) ground: &'a Ground<'a>,
    pub(super) grants: &'a Grants<'a>,
    pub(super) route: &'a ConfigObject,
    /// What the route is attached to, if that is one service. To refer to it takes no grant: requests would go there without the route.
    pub(super) parent: Option<&'a Service>,
}

fn unresolved<T>(reason: RouteReason, why: String) -> Result<T, Unresolved> {
    Err(Unresolved { reason, why })
}

impl Resolver<'_> {
    /// Where requests go.
    pub(super) fn resolve(&self, to: &BackendRef) -> Result<Destination, Unresolved> {
        match (&*to.group, &*to.kind) {
            ("", "Service") => self.service(to),
            ("networking.istio.io", "Hostname") => self.hostname(to),
            (_, _) => unresolved(
                RouteReason::InvalidKind,
                format!("{to}: expected a Service, or a Hostname of networking.istio.io"),
            ),
        }
    }

    fn service(&self, to: &BackendRef) -> Result<Destination, Unresolved> {
        let namespace = to.namespace.as_ref().unwrap_or(&self.route.namespace);
        let host = format!("{}.{namespace}.svc.{}", to.name, self.ground.settings.cluster_domain).parse().ok();
        self.permitted(namespace, &to.name, host.as_ref())?;
        let service = host.as_ref().and_then(|host| self.ground.service(host));
        match service.filter(|service| service.name.namespace == *namespace) {
            Some(service) => self.port(to, service),
            None => unresolved(RouteReason::BackendNotFound, format!("there is no Service {namespace}/{}", to.name)),
        }
    }

    /// Istio: a host of the mesh by its name, such as one of a ServiceEntry. A Service named so is a Service still.
    fn hostname(&self, to: &BackendRef) -> Result<Destination, Unresolved> {
        if to.namespace.is_some() {
            return unresolved(RouteReason::UnsupportedValue, format!("{to}: a Hostname is in no namespace"));
        }
        let host = to.name.parse::<Hostname>().ok();
        let Some(service) = host.as_ref().and_then(|host| self.ground.service(host)) else {
            return unresolved(RouteReason::BackendNotFound, format!("there is no host {}", to.name));
        };
        let suffix = format!(".{}.svc.{}", service.name.namespace, self.ground.settings.cluster_domain);
        if let Some(name) = to.name.strip_suffix(&suffix) {
            self.permitted(&service.name.namespace, name, host.as_ref())?;
        }
        let own = &self.route.namespace;
        if !service.seen.by(Some(own)) {
            let why = format!("{} is not exported to {own}, the namespace of what sends to it", to.name);
            return unresolved(RouteReason::RefNotPermitted, why);
        }
        self.port(to, service)
    }

    fn permitted(&self, namespace: &Namespace, name: &str, host: Option<&Hostname>) -> Result<(), Unresolved> {
        let is_parent = host.is_some() && host == self.parent.map(|parent| &parent.name.hostname);
        if is_parent || self.grants.permit(self.route, Referent { group: "", kind: "Service", namespace, name }) {
            return Ok(());
        }
        let (kind, from) = (self.route.kind, &self.route.namespace);
        let why = format!("no ReferenceGrant of {namespace} lets a {kind} of {from} refer to Service {name}");
        unresolved(RouteReason::RefNotPermitted, why)
    }

    fn port(&self, to: &BackendRef, service: &Service) -> Result<Destination, Unresolved> {
        let name = service_name(service);
        let Some(port) = to.port else {
            return unresolved(RouteReason::UnsupportedValue, format!("{name}: the port is missing"));
        };
        let Some(ServicePort { protocol, .. }) = service.ports.iter().find(|known| known.port == port) else {
            return unresolved(RouteReason::BackendNotFound, format!("{name} has no TCP port {port}"));
        };
        if *protocol == AppProtocol::Tls && self.route.kind != ConfigKind::TcpRoute {
            let why = format!("{name} speaks TLS on port {port}, and waypoints send requests without");
            return unresolved(RouteReason::UnsupportedProtocol, why);
        }
        Ok(Destination { host: service.name.hostname.clone(), port: Some(port), subset: None })
    }
}

/// A service, as people know it.
pub(super) fn service_name(service: &Service) -> String {
    format!("Service {}/{}", service.name.namespace, service.short_name)
}
