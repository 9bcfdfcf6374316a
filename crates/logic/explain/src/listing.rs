//! What a mesh holds, for people and programs: the same words in an agent's dump and lists, and in what `weirctl` says of a folder.

mod policy;

use std::collections::HashMap;

use serde_json::{Value, json};
use weir_model::{
    Health, HealthPolicy, Membership, Namespace, NetworkMode, Service, ServiceName, Termination, Tunnel,
    WaypointAddress, WaypointDestination, Workload, WorkloadKind,
};
use weir_world::World;

pub use policy::{covers, policy};

/// Most of a list that one answer has.
const MOST: usize = 1_000;
/// As many as one has where nothing is said.
const USUAL: usize = 500;

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Only of that namespace.
    pub namespace: Option<Namespace>,
    /// Only what is called so.
    pub name: Option<String>,
    /// Only behind that key, which is the `next` of an earlier answer.
    pub after: Option<String>,
    /// At most so many.
    pub most: usize,
}

impl Part {
    /// The fields of a query.
    pub const FIELDS: [&str; 4] = ["namespace", "name", "after", "limit"];

    /// What its fields say.
    ///
    /// # Errors
    /// Which of them is none, and what was expected.
    pub fn read([namespace, name, after, limit]: [Option<&str>; 4]) -> Result<Self, String> {
        let namespace =
            namespace.map(|text| text.parse().map_err(|error| format!("namespace: {error}"))).transpose()?;
        Ok(Self { namespace, name: name.map(str::to_owned), after: after.map(str::to_owned), most: limit_of(limit)? })
    }

    fn has(&self, namespace: &Namespace, names: &[&str], key: &str) -> bool {
        self.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
            && self.name.as_ref().is_none_or(|wanted| names.contains(&wanted.as_str()))
            && self.after.as_ref().is_none_or(|after| key > after.as_str())
    }

    /// The answer: `items`, and as `next` the key of the last where there are more.
    fn answer<T>(
        &self,
        all: impl Iterator<Item = T>,
        key: impl Fn(&T) -> String,
        value: impl Fn(&T) -> Value,
    ) -> Value {
        let mut wanted = all.peekable();
        let items: Vec<T> = wanted.by_ref().take(self.most).collect();
        let next = wanted.peek().and(items.last()).map(key);
        json!({ "items": items.iter().map(value).collect::<Vec<_>>(), "next": next })
    }
}

/// How many are wanted.
///
/// # Errors
/// If it is no number, or none that is given.
pub fn limit_of(text: Option<&str>) -> Result<usize, String> {
    let Some(text) = text else { return Ok(USUAL) };
    let limit = text.parse().ok().filter(|limit| (1..=MOST).contains(limit));
    limit.ok_or_else(|| format!("limit: expected a number from 1 to {MOST}, found {text:?}"))
}

/// Part of the workloads, by uid.
pub fn workloads(world: &World, part: &Part) -> Value {
    let wanted = |one: &Workload| part.has(&one.namespace, &[&one.name, &one.workload_name], one.uid.as_str());
    part.answer(world.workloads().filter(wanted), |one| one.uid.as_str().to_owned(), workload)
}

/// Part of the services, by namespace and host.
pub fn services(world: &World, part: &Part) -> Value {
    let key = |one: &Service| format!("{}/{}", one.name.namespace, one.name.hostname);
    let wanted = |one: &Service| {
        let names = [&*one.short_name, one.name.hostname.as_str()];
        part.has(&one.name.namespace, &names, &key(one))
    };
    let workloads: Vec<Workload> = world.workloads().collect();
    let behind = behind(&workloads);
    let of = |one: &Service| service(one, behind.get(&one.name).map_or(&[][..], Vec::as_slice));
    part.answer(world.services().filter(|one| wanted(one)), |one| key(one), |one| of(one))
}

/// Part of the policies, by namespace and name.
pub fn policies(world: &World, part: &Part) -> Value {
    let wanted = |one: &&weir_model::Policy| {
        part.has(&one.name.namespace, &[one.name.name(), &one.source.name], &one.name.to_string())
    };
    let mut all: Vec<_> = world.policies().filter(wanted).map(|one| (one.name.to_string(), one)).collect();
    all.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    part.answer(all.into_iter(), |(key, _)| key.clone(), |(_, one)| policy(one))
}

/// Who stands behind each service.
pub fn behind(workloads: &[Workload]) -> HashMap<&ServiceName, Vec<(&Workload, &Membership)>> {
    let mut behind: HashMap<_, Vec<_>> = HashMap::new();
    for workload in workloads {
        for membership in &workload.services {
            behind.entry(&membership.service).or_default().push((workload, membership));
        }
    }
    behind
}

/// A workload. Names of fields are ztunnel's where it has them.
pub fn workload(w: &Workload) -> Value {
    json!({
        "uid": w.uid.as_str(),
        "name": &*w.name,
        "namespace": w.namespace.as_str(),
        "workloadIps": w.addresses,
        "protocol": match w.tunnel { Tunnel::Hbone => "HBONE", Tunnel::None => "TCP" },
        "networkMode": match w.network_mode { NetworkMode::Standard => "Standard", NetworkMode::HostNetwork => "HostNetwork" },
        "network": w.network.as_str(),
        "trustDomain": w.trust_domain.as_str(),
        "serviceAccount": w.service_account.as_str(),
        "workloadName": &*w.workload_name,
        "workloadType": match w.kind {
            WorkloadKind::Deployment => "deployment",
            WorkloadKind::CronJob => "cronjob",
            WorkloadKind::Job => "job",
            WorkloadKind::Pod => "pod",
        },
        "canonicalName": &*w.canonical_name,
        "canonicalRevision": &*w.canonical_revision,
        "clusterId": w.cluster.as_str(),
        "node": w.node.as_ref().map(|n| n.as_str()),
        "nativeTunnel": w.termination == Termination::Own,
        "applicationTunnel": match w.termination {
            Termination::Proxy(port) => json!({ "protocol": "PROXY", "port": port.number() }),
            Termination::Agent | Termination::Own => Value::Null,
        },
        "waypoint": waypoint(w.waypoint.as_ref()),
        "unsupported": w.unsupported.as_deref(),
        "status": match w.health { Health::Healthy => "Healthy", Health::Unhealthy => "Unhealthy" },
        "locality": { "region": &*w.locality.region, "zone": &*w.locality.zone, "subzone": &*w.locality.subzone },
    })
}

/// As the config dump of Istio's agents has it.
fn waypoint(address: Option<&WaypointAddress>) -> Value {
    let Some(WaypointAddress { destination, port }) = address else { return Value::Null };
    let destination = match destination {
        WaypointDestination::Service(name) => {
            json!({ "namespace": name.namespace.as_str(), "hostname": name.hostname.as_str() })
        }
        WaypointDestination::Address(network, ip) => json!(format!("{network}/{ip}")),
    };
    json!({ "destination": destination, "hboneMtlsPort": port.number() })
}

/// A service, with what stands behind it.
pub fn service(s: &Service, behind: &[(&Workload, &Membership)]) -> Value {
    let endpoint = |(workload, membership): &(&Workload, &Membership)| {
        let ports = membership.ports.iter();
        json!({
            "workloadUid": workload.uid.as_str(),
            "addresses": workload.addresses,
            "ports": ports.map(|(port, own)| json!({ "service": port.number(), "target": own.number() })).collect::<Vec<_>>(),
            "ready": workload.health == Health::Healthy || s.health_policy == HealthPolicy::All,
        })
    };
    json!({
        "name": &*s.short_name,
        "namespace": s.name.namespace.as_str(),
        "hostname": s.name.hostname.as_str(),
        "vips": s.vips.iter().map(|(network, net)| format!("{network}/{net}")).collect::<Vec<_>>(),
        "ports": s.ports.iter().map(|p| p.port.number()).collect::<Vec<_>>(),
        "endpoints": behind.iter().map(endpoint).collect::<Vec<_>>(),
        "waypoint": waypoint(s.waypoint.as_ref()),
        "unsupported": s.unsupported.as_deref(),
    })
}

#[cfg(test)]
mod tests;
