//! ServiceEntries: hosts to services, endpoints to workloads, and addresses for hosts that have none.
//!
//! A host without `addresses` is given one of 240.240.0.0/16 and one of 2001:2::/48, unless the object's status has any already. They are of use to
//! clients that ask a resolver which knows them; this version has none of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;
use weir_balance::HashKey;
use weir_manifest::{
    ConfigObject, ConfigSpec, EntryAddress, EntryEndpoint, EntryPort, EntryResolution, ExportTo, Location,
    ServiceEntrySpec,
};
use weir_model::{
    Health, HealthPolicy, Hostname, Locality, Membership, Namespace, NetworkMode, Port, Seen, Service, ServiceName,
    ServicePort, Termination, Tunnel, WaypointAddress, Workload, WorkloadKind, WorkloadUid,
};
use weir_serving::{Answers, External, NamedEndpoint, Resolution, Spot};

use crate::{Settings, service, trimmed::Key, workload};

/// Label of an entry whose hosts are to be given no addresses: `false`. Istio.
const ALLOT: &str = "networking.istio.io/enable-autoallocate-ip";
/// Label of an endpoint that takes HBONE: `http`. Istio.
const TUNNEL: &str = "networking.istio.io/tunnel";

/// The addresses that hosts without any are given: one of each family, alike in their last 16 bits. Istio's ranges.
pub(crate) type Allotted = BTreeMap<ServiceName, [IpAddr; 2]>;

/// What the object says, if it is a ServiceEntry.
pub(crate) fn spec(object: &ConfigObject) -> Option<&ServiceEntrySpec> {
    match &object.spec {
        ConfigSpec::ServiceEntry(spec) => Some(spec),
        ConfigSpec::VirtualService(_)
        | ConfigSpec::DestinationRule(_)
        | ConfigSpec::Telemetry(_)
        | ConfigSpec::Gateway(_)
        | ConfigSpec::Route(_)
        | ConfigSpec::ReferenceGrant(_)
        | ConfigSpec::Rejected(_) => None,
    }
}

/// The Kubernetes service that has a host name, if there is one.
pub(crate) fn kubernetes(settings: &Settings, host: &Hostname) -> Option<Key> {
    let domain = settings.cluster_domain.to_string();
    let (name, namespace) = host.as_str().strip_suffix(&domain)?.strip_suffix(".svc.")?.split_once('.')?;
    Some(Key { namespace: namespace.parse().ok()?, name: name.into() })
}

/// Why its hosts are not reached by this version.
pub(crate) fn unsupported(spec: &ServiceEntrySpec, waypoint: Option<&WaypointAddress>) -> Option<&'static str> {
    match (spec.resolution, waypoint) {
        (EntryResolution::Static | EntryResolution::None, _) => None,
        (EntryResolution::Dns | EntryResolution::DnsRoundRobin, Some(_)) => None,
        (EntryResolution::Dns, None) => Some("resolution DNS, which waypoints do, and it is bound to none"),
        (EntryResolution::DnsRoundRobin, None) => {
            Some("resolution DNS_ROUND_ROBIN, which waypoints do, and it is bound to none")
        }
        (EntryResolution::DynamicDns, _) => Some("resolution DYNAMIC_DNS, which this version does not do"),
    }
}

/// Where the endpoints of one of its hosts are, as a waypoint finds them.
pub(crate) fn external(spec: &ServiceEntrySpec, host: &Hostname) -> External {
    let resolution = match spec.resolution {
        EntryResolution::Static | EntryResolution::DynamicDns => Resolution::Mesh,
        EntryResolution::None => Resolution::Original,
        EntryResolution::Dns => Resolution::Names(Answers::All, named(spec, host)),
        EntryResolution::DnsRoundRobin => Resolution::Names(Answers::First, named(spec, host)),
    };
    External { resolution, names: spec.subject_alt_names.as_slice().into() }
}

/// The endpoints by their names; without any the host itself is one, unless it is a wildcard. Those of other networks, and sockets, are none.
fn named(spec: &ServiceEntrySpec, host: &Hostname) -> Arc<[NamedEndpoint]> {
    let of = |at, endpoint: Option<&EntryEndpoint>| NamedEndpoint {
        at,
        ports: ports(spec, endpoint).into_iter().collect(),
        labels: endpoint.map(|one| one.labels.clone()).unwrap_or_default(),
        locality: endpoint.map(|one| one.locality.clone()).unwrap_or_default(),
    };
    if spec.endpoints.is_empty() {
        let own = (!host.as_str().starts_with('*')).then(|| of(Spot::Name(host.clone()), None));
        return own.into_iter().collect();
    }
    let endpoints = spec.endpoints.iter().filter_map(|endpoint| match &endpoint.address {
        EntryAddress::Ip(ip) => Some(of(Spot::Ip(*ip), Some(endpoint))),
        EntryAddress::Host(name) => Some(of(Spot::Name(name.clone()), Some(endpoint))),
        EntryAddress::Unix(_) | EntryAddress::OfNetwork => None,
    });
    endpoints.collect()
}

/// Whether its hosts are services. With resolution NONE they lead to the very address that was asked for, as for anything the mesh does not
/// know, so that only a waypoint could make a difference.
pub(crate) fn is_service(spec: &ServiceEntrySpec, waypoint: Option<&WaypointAddress>) -> bool {
    match spec.resolution {
        EntryResolution::None => waypoint.is_some(),
        EntryResolution::Static
        | EntryResolution::Dns
        | EntryResolution::DnsRoundRobin
        | EntryResolution::DynamicDns => true,
    }
}

/// A host of it, as the mesh knows it.
pub(crate) fn service(
    settings: &Settings,
    spec: &ServiceEntrySpec,
    name: &ServiceName,
    given: &Allotted,
    waypoint: Option<WaypointAddress>,
) -> Service {
    let mut vips: Vec<IpNet> = spec.addresses.clone();
    if vips.is_empty() {
        vips.extend(of_status(spec, &name.hostname).map(IpNet::from));
    }
    if vips.is_empty() {
        vips.extend(given.get(name).into_iter().flatten().copied().map(IpNet::from));
    }
    let mut unique = Vec::new();
    for vip in vips {
        if !unique.contains(&vip) {
            unique.push(vip);
        }
    }
    let unsupported = unsupported(spec, waypoint.as_ref()).map(Into::into);
    Service {
        name: name.clone(),
        short_name: name.hostname.as_str().into(),
        vips: unique.into_iter().map(|vip| (settings.network.clone(), vip)).collect(),
        ports: spec.ports.iter().map(service_port).collect(),
        health_policy: HealthPolicy::OnlyReady,
        waypoint,
        seen: seen(&spec.export_to, &name.namespace),
        unsupported,
    }
}

/// In which namespaces what an object of this one makes is seen.
fn seen(export_to: &ExportTo, own: &Namespace) -> Seen {
    match export_to {
        ExportTo::Everywhere => Seen::Everywhere,
        ExportTo::Only { own: is_own, others } => {
            let own = is_own.then(|| own.clone());
            Seen::In(Arc::new(others.iter().cloned().chain(own).collect()))
        }
    }
}

fn service_port(port: &EntryPort) -> ServicePort {
    let said = if port.protocol.is_empty() { &port.name } else { &port.protocol };
    let protocol = service::spoken(said, port.number);
    ServicePort { name: port.name.clone(), port: port.number, protocol, target: port.target }
}

/// The ports of what stands behind it; of an endpoint, those it has of its own.
pub(crate) fn ports(spec: &ServiceEntrySpec, endpoint: Option<&EntryEndpoint>) -> Vec<(Port, Port)> {
    let own = |port: &EntryPort| endpoint.and_then(|endpoint| endpoint.ports.get(&port.name)).copied();
    let target = |port: &EntryPort| own(port).or(port.target).unwrap_or(port.number);
    spec.ports.iter().map(|port| (port.number, target(port))).collect()
}

/// The addresses of its endpoints, each with how many before it have the same.
pub(crate) fn spots(spec: &ServiceEntrySpec) -> Vec<(IpAddr, usize)> {
    let (mut spots, mut seen) = (Vec::new(), BTreeMap::new());
    for endpoint in &spec.endpoints {
        if let EntryAddress::Ip(ip) = endpoint.address {
            let before: &mut usize = seen.entry(ip).or_default();
            spots.push((ip, *before));
            *before += 1;
        }
    }
    spots
}

/// The endpoint with that address, after so many that have it, too.
pub(crate) fn endpoint(spec: &ServiceEntrySpec, ip: IpAddr, before: usize) -> Option<&EntryEndpoint> {
    spec.endpoints.get(place(spec, ip, before)?)
}

/// Where it stands among the endpoints.
pub(crate) fn place(spec: &ServiceEntrySpec, ip: IpAddr, before: usize) -> Option<usize> {
    let alike = spec.endpoints.iter().enumerate().filter(|(_, endpoint)| endpoint.address == EntryAddress::Ip(ip));
    alike.map(|(place, _)| place).nth(before)
}

/// Whether an endpoint's address means something in the network of the mesh's own addresses.
pub(crate) fn is_here(settings: &Settings, endpoint: &EntryEndpoint) -> bool {
    endpoint.network.as_ref().is_none_or(|network| *network == settings.network)
}

/// The name of an endpoint, as Istio names it; of several with one address in an entry, the later ones are told apart.
pub(crate) fn endpoint_uid(settings: &Settings, entry: &Key, ip: IpAddr, before: usize) -> WorkloadUid {
    let Key { namespace, name } = entry;
    let mut uid = format!("{}/networking.istio.io/ServiceEntry/{namespace}/{name}/{ip}", settings.cluster);
    if before > 0 {
        uid.push_str(&format!("/{before}"));
    }
    uid.parse().expect("cluster, namespace and name of an object are visible ASCII and short")
}

/// The workload that an endpoint is, which is no pod.
pub(crate) fn of_endpoint(
    settings: &Settings,
    entry: &Key,
    spec: &ServiceEntrySpec,
    (ip, before): (IpAddr, usize),
    services: Vec<Membership>,
) -> Option<Workload> {
    let endpoint = endpoint(spec, ip, before)?;
    let takes_hbone = endpoint.labels.get(TUNNEL).is_some_and(|value| **value == *"http");
    let first = |keys: &[&str]| workload::first(&endpoint.labels, keys);
    let canonical_name = first(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    let canonical_revision = first(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
    Some(Workload {
        uid: endpoint_uid(settings, entry, ip, before),
        incarnation: "".into(),
        name: entry.name.clone(),
        namespace: entry.namespace.clone(),
        trust_domain: settings.trust_domain.clone(),
        service_account: match &endpoint.service_account {
            Some(account) => account.clone(),
            None => "default".parse().expect("a label"),
        },
        addresses: vec![ip],
        network: endpoint.network.as_ref().unwrap_or(&settings.network).clone(),
        tunnel: match spec.location {
            Location::Internal if takes_hbone => Tunnel::Hbone,
            Location::Internal | Location::External => Tunnel::None,
        },
        network_mode: NetworkMode::Standard,
        node: None,
        locality: Locality::clone(&endpoint.locality),
        health: Health::Healthy,
        cluster: settings.cluster.clone(),
        kind: WorkloadKind::Pod,
        workload_name: entry.name.clone(),
        canonical_name: canonical_name.unwrap_or_else(|| entry.name.clone()),
        canonical_revision: canonical_revision.unwrap_or_else(|| "latest".into()),
        services,
        policies: Vec::new(),
        termination: Termination::default(),
        waypoint: None,
        unsupported: None,
    })
}

/// The addresses that the status gives to a host.
fn of_status<'s>(spec: &'s ServiceEntrySpec, host: &'s Hostname) -> impl Iterator<Item = IpAddr> + use<'s> {
    spec.allotted.iter().filter(move |(of, _)| of.as_ref().is_none_or(|of| of == host)).map(|(_, ip)| *ip)
}

/// The single addresses that its hosts have, by the entry or its status.
pub(crate) fn named_addresses(spec: &ServiceEntrySpec) -> impl Iterator<Item = IpAddr> {
    let own = spec.addresses.iter().filter(|net| is_exact(net)).map(IpNet::addr);
    own.chain(spec.allotted.iter().map(|(_, ip)| *ip))
}

/// Whether it is a single address.
pub(crate) fn is_exact(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

/// Whether a host of it is to be given addresses.
pub(crate) fn is_without(object: &ConfigObject, spec: &ServiceEntrySpec, host: &Hostname) -> bool {
    let allowed = object.labels.get(ALLOT).is_none_or(|value| !value.eq_ignore_ascii_case("false"));
    let named = spec.resolution != EntryResolution::None && !host.as_str().starts_with('*');
    allowed && named && spec.addresses.is_empty() && of_status(spec, host).next().is_none()
}

/// Addresses for hosts that have none, in the order in which they choose; none of them is one that an entry has already. A host's choice is made by
/// a hash of its name, so that it is the same wherever it is made, and changes only if one that chooses before it comes to want it.
pub(crate) fn allot<'e>(hosts: &[ServiceName], entries: impl Iterator<Item = &'e ServiceEntrySpec>) -> Allotted {
    /// Without the first and the last of the range.
    const SLOTS: u64 = 65_534;
    let mut taken: BTreeSet<u64> = BTreeSet::new();
    for spec in entries {
        taken.extend(named_addresses(spec).filter_map(slot));
    }
    let mut given = Allotted::new();
    for name in hosts {
        let first = HashKey::of(name.to_string().as_bytes()).value() % SLOTS;
        let free = (0..SLOTS).map(|step| (first + step) % SLOTS + 1).find(|slot| !taken.contains(slot));
        let Some(free) = free else { break };
        taken.insert(free);
        given.insert(name.clone(), addresses(free));
    }
    given
}

fn addresses(slot: u64) -> [IpAddr; 2] {
    let [.., high, low] = slot.to_be_bytes();
    let last = u16::from_be_bytes([high, low]);
    [Ipv4Addr::new(240, 240, high, low).into(), Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, last).into()]
}

/// Which of the addresses that are given away it is, if it is one.
fn slot(ip: IpAddr) -> Option<u64> {
    match ip {
        IpAddr::V4(ip) => match ip.octets() {
            [240, 240, high, low] => Some(u16::from_be_bytes([high, low]).into()),
            _ => None,
        },
        IpAddr::V6(ip) => match ip.segments() {
            [0x2001, 2, 0, 0, 0, 0, 0, last] => Some(last.into()),
            _ => None,
        },
    }
}

#[cfg(test)]
#[path = "service_entry/tests.rs"]
mod tests;
