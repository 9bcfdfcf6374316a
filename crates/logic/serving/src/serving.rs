//! Everything a waypoint serves.

use std::{collections::BTreeMap, sync::Arc};

use weir_model::Hostname;

use crate::{Destinations, Guard, Host};

/// Everything a waypoint serves, swapped whole.
#[derive(Debug, Clone, Default)]
pub struct Serving {
    /// Services of which something is said, by host name. Of any other nothing is: it is served as it is.
    pub hosts: BTreeMap<Hostname, Arc<Host>>,
    /// What stands before requests to services of which nothing is said, and to pods by their own addresses.
    pub guard: Arc<Guard>,
}

impl Serving {
    /// What is said of a host.
    pub fn host(&self, name: &Hostname) -> Option<&Arc<Host>> {
        self.hosts.get(name)
    }

    /// What stands before the requests to a host; of pods, there is none.
    pub fn guard(&self, name: Option<&Hostname>) -> &Arc<Guard> {
        match name.and_then(|name| self.hosts.get(name)) {
            Some(host) => &host.guard,
            None => &self.guard,
        }
    }

    /// How the endpoints of a host are treated.
    pub fn destinations(&self, name: &Hostname) -> &Arc<Destinations> {
        match self.hosts.get(name) {
            Some(host) => &host.destinations,
            None => Destinations::none(),
        }
    }
}
