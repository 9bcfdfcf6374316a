//! Endpoints that are no workloads of the mesh: `ServiceEntry` by name, or by the address that was asked for.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use weir_model::{Hostname, Locality, Port};

/// Where the endpoints of a service are, and who they may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct External {
    /// Where.
    pub resolution: Resolution,
    /// `subjectAltNames`: whose certificates they have, if a DestinationRule opens TLS to them and does not say so itself.
    pub names: Arc<[Arc<str>]>,
}

/// How endpoints are found. Istio `ServiceEntry.resolution`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Resolution {
    /// They are workloads of the mesh, or of the entry: `STATIC`, and every service of Kubernetes.
    #[default]
    Mesh,
    /// The address that was asked for: `NONE`.
    Original,
    /// By names: `DNS`, `DNS_ROUND_ROBIN`.
    Names(Answers, Arc<[NamedEndpoint]>),
}

/// Which of the addresses of a name count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answers {
    /// All: `DNS`.
    All,
    /// The first of the last answer: `DNS_ROUND_ROBIN`.
    First,
}

/// An endpoint by its name. Istio `WorkloadEntry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedEndpoint {
    /// Where it is.
    pub at: Spot,
    /// Its own ports, by those of the service.
    pub ports: BTreeMap<Port, Port>,
    /// `labels`, by which subsets choose.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// `locality`.
    pub locality: Locality,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spot {
    /// At an address.
    Ip(IpAddr),
    /// Wherever its name leads.
    Name(Hostname),
}

impl External {
    /// The names that are to be resolved.
    pub fn wanted(&self) -> impl Iterator<Item = &Hostname> {
        let endpoints: &[NamedEndpoint] = match &self.resolution {
            Resolution::Names(_, endpoints) => endpoints,
            Resolution::Mesh | Resolution::Original => &[],
        };
        endpoints.iter().filter_map(|endpoint| match &endpoint.at {
            Spot::Name(name) => Some(name),
            Spot::Ip(_) => None,
        })
    }
}
