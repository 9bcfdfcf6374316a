//! networking.istio.io/v1 ServiceEntry, as its author wrote it.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU32, sync::Arc};

use ipnet::IpNet;
use weir_model::{Hostname, Locality, Network, Port, ServiceAccount};

use super::{ExportTo, Labels, Remark};
use crate::object::WaypointLabels;

/// `spec`, and what of `status` gives it addresses.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceEntrySpec {
    /// `hosts`: at least one, no one twice.
    pub hosts: Vec<Hostname>,
    /// `addresses`, canonical.
    pub addresses: Vec<IpNet>,
    /// `ports` that are not UDP.
    pub ports: Vec<EntryPort>,
    /// `location`.
    pub location: Location,
    /// `resolution`.
    pub resolution: EntryResolution,
    /// `endpoints`.
    pub endpoints: Vec<EntryEndpoint>,
    /// `workloadSelector.labels`: what stands behind it, instead of endpoints.
    pub selector: Option<Labels>,
    /// `exportTo`.
    pub export_to: ExportTo,
    /// `subjectAltNames`.
    pub subject_alt_names: Vec<Arc<str>>,
    /// `status.addresses`: what a control plane gave to its hosts; of none, to all of them.
    pub allotted: Vec<(Option<Hostname>, IpAddr)>,
    /// Which waypoint its own labels bind it to.
    pub waypoint: WaypointLabels,
    /// Fields that are legal and do not do what they say.
    pub remarks: Vec<Remark>,
}

/// `ports[]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPort {
    /// `name`.
    pub name: Arc<str>,
    /// `number`.
    pub number: Port,
    /// `protocol`, in lower case; empty when nothing is said.
    pub protocol: Arc<str>,
    /// `targetPort`.
    pub target: Option<Port>,
}

/// `location`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Location {
    /// `MESH_EXTERNAL`.
    #[default]
    External,
    /// `MESH_INTERNAL`.
    Internal,
}

/// `resolution`: how its endpoints are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum EntryResolution {
    /// `NONE`: the address that the client asked for.
    #[default]
    None,
    /// `STATIC`: those that are written, or selected.
    Static,
    /// `DNS`.
    Dns,
    /// `DNS_ROUND_ROBIN`.
    DnsRoundRobin,
    /// `DYNAMIC_DNS`.
    DynamicDns,
}

/// `endpoints[]`. Istio `WorkloadEntry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryEndpoint {
    /// `address`.
    pub address: EntryAddress,
    /// `ports`, by the name of the entry's port.
    pub ports: BTreeMap<Arc<str>, Port>,
    /// `labels`.
    pub labels: Labels,
    /// `network`.
    pub network: Option<Network>,
    /// `locality`.
    pub locality: Locality,
    /// `weight`.
    pub weight: Option<NonZeroU32>,
    /// `serviceAccount`.
    pub service_account: Option<ServiceAccount>,
}

/// `endpoints[].address`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryAddress {
    /// An address, canonical.
    Ip(IpAddr),
    /// A name, to be resolved.
    Host(Hostname),
    /// The path of a Unix socket.
    Unix(Arc<str>),
    /// None: whatever gateway its network has.
    OfNetwork,
}
