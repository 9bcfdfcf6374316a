//! Where a destination is: the service that its host means, its port, and the subset.

use std::{collections::BTreeMap, sync::Arc};

use weir_manifest::{ConfigObject, VirtualDestination};
use weir_model::{Hostname, Port, Service};
use weir_route::{Destination, Target};
use weir_serving::Destinations;

use super::told::Told;
use crate::routes::{FindingReason, Ground};

/// What destinations are looked up in, and who is told of those that are nowhere.
pub(super) struct Targets<'a> {
    pub(super) ground: &'a Ground<'a>,
    pub(super) destinations: &'a BTreeMap<Hostname, Arc<Destinations>>,
    pub(super) told: Told,
}

/// Where a destination was written, and what becomes of what would go there if it is nowhere.
pub(super) struct At<'c> {
    pub(super) object: &'c ConfigObject,
    pub(super) line: usize,
    pub(super) field: String,
    pub(super) then: &'static str,
}

impl Targets<'_> {
    /// Where a destination is, for those who asked for one of these ports.
    pub(super) fn target(&mut self, at: &At<'_>, destination: &VirtualDestination, asked: &[Port]) -> Target {
        match self.found(at, destination, asked) {
            Ok(destination) => Target::Valid(destination),
            Err((reason, why)) => {
                let message = format!("{why}: {}", at.then);
                self.told.tell(at.object, at.line, at.field.clone(), reason, message);
                Target::Invalid(why.into())
            }
        }
    }

    fn found(
        &self,
        at: &At<'_>,
        destination: &VirtualDestination,
        asked: &[Port],
    ) -> Result<Destination, (FindingReason, String)> {
        let VirtualDestination { host, port, subset } = destination;
        let unknown = |why: String| (FindingReason::UnknownHost, why);
        let nobody = || unknown(format!("no service has the host {host}, a service of the mesh is expected"));
        let host = self.ground.host(host, &at.object.namespace).ok_or_else(nobody)?;
        let Some(service) = self.ground.service(&host) else {
            return Err(unknown(format!("no service has the host {host}, a service of the mesh is expected")));
        };
        let own = &at.object.namespace;
        if !service.seen.by(Some(own)) {
            let why = format!("{host} is not exported to {own}, the namespace of what sends to it");
            return Err((FindingReason::NotPermitted, why));
        }
        let port = port_of(service, *port, asked).map_err(unknown)?;
        if let Some(subset) = subset {
            let destinations = self.destinations.get(&host).unwrap_or(Destinations::none());
            let known = destinations.subset(&host, subset).map(|_| ());
            known.map_err(|error| (FindingReason::UnknownSubset, error.to_string()))?;
        }
        Ok(Destination { host, port, subset: subset.clone() })
    }
}

/// The port of a destination: the one that is named, or the only one; of several the one that was asked for, if that is one of them
/// whichever it is. Istio requires it to be named where there are several, and takes the one that was asked for all the same.
fn port_of(service: &Service, named: Option<Port>, asked: &[Port]) -> Result<Option<Port>, String> {
    let host = &service.name.hostname;
    let has = |port: &Port| service.ports.iter().any(|own| own.port == *port);
    let ports = || {
        let ports: Vec<String> = service.ports.iter().map(|own| own.port.to_string()).collect();
        ports.join(", ")
    };
    match (named, service.ports.as_slice()) {
        (Some(port), _) if has(&port) => Ok(Some(port)),
        (_, []) => Err(format!("{host} has no ports")),
        (Some(port), _) => Err(format!("{host} has no port {port}, expected one of {}", ports())),
        (None, [one]) => Ok(Some(one.port)),
        (None, _) if !asked.is_empty() && asked.iter().all(has) => Ok(None),
        (None, _) => Err(format!("{host} has several ports and none is named, expected one of {}", ports())),
    }
}
