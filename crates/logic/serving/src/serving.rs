//! Everything a waypoint serves.

use std::{collections::BTreeMap, sync::Arc};

use weir_model::Hostname;

use crate::{Destinations, Host};

/// Everything a waypoint serves, swapped whole.
#[derive(Debug, Clone, Default)]
pub struct Serving {
    /// Services of which something is said, by host name. Of any other nothing is: it is served as it is.
    pub hosts: BTreeMap<Hostname, Arc<Host>>,
}

impl Serving {
    /// What is said of a host.
    pub fn host(&self, name: &Hostname) -> Option<&Arc<Host>> {
        self.hosts.get(name)
    }

    /// How the endpoints of a host are treated.
    pub fn destinations(&self, name: &Hostname) -> &Arc<Destinations> {
        match self.hosts.get(name) {
            Some(host) => &host.destinations,
            None => Destinations::none(),
        }
    }
}
