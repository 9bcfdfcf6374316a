//! Pods, and endpoints that are none, to workloads.

use std::{net::IpAddr, sync::Arc};

use weir_manifest::{DataplaneMode, Labels, PodObject, ServiceObject, Sidecar};
use weir_model::{
    Enrolment, Health, LocalPod, Locality, Membership, NetworkMode, PolicyName, Termination, Tunnel, WaypointAddress,
    Workload, WorkloadKind, WorkloadUid,
};

use crate::{
    Settings,
    gateway::GatewayFacts,
    trimmed::{Key, Pod, Traits},
};

/// The name of a pod in the mesh.
pub(crate) fn uid(settings: &Settings, pod: &Key) -> WorkloadUid {
    WorkloadUid::of_pod(&settings.cluster, &pod.namespace, &pod.name)
        .expect("cluster, namespace and pod name are visible ASCII and short")
}

/// The name of an endpoint that is no pod, as Istio names it.
pub(crate) fn endpoint_uid(settings: &Settings, slice: &Key, ip: IpAddr) -> WorkloadUid {
    let uid = format!("{}/discovery.k8s.io/EndpointSlice/{}/{}/{ip}", settings.cluster, slice.namespace, slice.name);
    uid.parse().expect("cluster, namespace and slice name are visible ASCII and short")
}

/// Whether a pod is in the mesh, or why not. Those of a waypoint are, whatever is said of their namespace.
pub(crate) fn enrolment(pod: &Traits, namespace: Option<DataplaneMode>, gateway: Option<&GatewayFacts>) -> Enrolment {
    if pod.network_mode == NetworkMode::HostNetwork {
        return Enrolment::HostNetwork;
    }
    if let Some(gateway) = gateway {
        // The proxy of a waypoint is called like a sidecar, and is none.
        return match (gateway.proxy, pod.mode) {
            (None, _) => Enrolment::Waypoint,
            (Some(_), Some(DataplaneMode::None)) => Enrolment::OptedOut,
            (Some(_), Some(DataplaneMode::Ambient) | None) => Enrolment::Enrolled,
        };
    }
    if pod.sidecar == Sidecar::Present {
        return Enrolment::Sidecar;
    }
    match (pod.mode, namespace) {
        (Some(DataplaneMode::None), _) => Enrolment::OptedOut,
        (Some(DataplaneMode::Ambient), _) | (None, Some(DataplaneMode::Ambient)) => Enrolment::Enrolled,
        (None, Some(DataplaneMode::None) | None) => Enrolment::NotLabelled,
    }
}

/// What is said of a pod elsewhere.
pub(crate) struct Surroundings<'i> {
    pub(crate) mode: Option<DataplaneMode>,
    pub(crate) locality: Locality,
    pub(crate) services: Vec<Membership>,
    pub(crate) policies: Vec<PolicyName>,
    /// The waypoint whose own pod it is.
    pub(crate) gateway: Option<&'i GatewayFacts>,
    pub(crate) waypoint: Option<WaypointAddress>,
}

/// The workload a pod is.
pub(crate) fn workload(settings: &Settings, key: &Key, pod: &Pod, around: Surroundings<'_>) -> Workload {
    let traits = &*pod.traits;
    let tunnel = match enrolment(traits, around.mode, around.gateway) {
        Enrolment::Enrolled | Enrolment::Waypoint => Tunnel::Hbone,
        Enrolment::NotLabelled | Enrolment::OptedOut | Enrolment::HostNetwork | Enrolment::Sidecar => Tunnel::None,
    };
    let workload_name = traits.workload_name.as_ref().unwrap_or(&key.name);
    Workload {
        uid: uid(settings, key),
        incarnation: (*pod.incarnation).into(),
        name: key.name.clone(),
        namespace: key.namespace.clone(),
        trust_domain: settings.trust_domain.clone(),
        service_account: traits.service_account.clone(),
        addresses: pod.addresses.to_vec(),
        network: traits.network.as_ref().unwrap_or(&settings.network).clone(),
        tunnel,
        network_mode: traits.network_mode,
        node: pod.node.clone(),
        locality: around.locality,
        health: pod.health,
        cluster: settings.cluster.clone(),
        kind: traits.kind,
        canonical_name: traits.canonical_name.as_ref().unwrap_or(workload_name).clone(),
        canonical_revision: traits.canonical_revision.clone().unwrap_or_else(|| "latest".into()),
        services: around.services,
        policies: around.policies,
        termination: around.gateway.map(GatewayFacts::termination).unwrap_or_default(),
        waypoint: around.waypoint,
        unsupported: None,
        workload_name: workload_name.clone(),
    }
}

/// An endpoint of a slice that is no pod: a workload of its own, outside the mesh.
pub(crate) fn of_endpoint(
    settings: &Settings,
    slice: &Key,
    service: &ServiceObject,
    addresses: &[IpAddr],
    health: Health,
    services: Vec<Membership>,
) -> Option<Workload> {
    Some(Workload {
        uid: endpoint_uid(settings, slice, *addresses.first()?),
        incarnation: "".into(),
        name: slice.name.clone(),
        namespace: slice.namespace.clone(),
        trust_domain: settings.trust_domain.clone(),
        service_account: "default".parse().expect("a label"),
        addresses: addresses.to_vec(),
        network: settings.network.clone(),
        tunnel: Tunnel::None,
        network_mode: NetworkMode::Standard,
        node: None,
        locality: Locality::default(),
        health: match health {
            Health::Healthy => Health::Healthy,
            Health::Unhealthy => Health::Unhealthy,
        },
        cluster: settings.cluster.clone(),
        kind: WorkloadKind::Pod,
        workload_name: service.name.clone(),
        canonical_name: service.name.clone(),
        canonical_revision: "latest".into(),
        services,
        policies: Vec::new(),
        termination: Termination::default(),
        waypoint: None,
        unsupported: None,
    })
}

/// The pod as its node's agent needs it.
pub(crate) fn local_pod(
    settings: &Settings,
    key: &Key,
    pod: &Pod,
    mode: Option<DataplaneMode>,
    gateway: Option<&GatewayFacts>,
) -> LocalPod {
    LocalPod {
        uid: uid(settings, key),
        addresses: pod.addresses.to_vec(),
        netns: pod.netns.as_deref().map(Into::into),
        enrolment: enrolment(&pod.traits, mode, gateway),
    }
}

/// Where a node is, by its labels.
pub(crate) fn locality(labels: &Labels) -> Locality {
    let part = |keys: &[&str]| first(labels, keys).unwrap_or_default();
    Locality {
        region: part(&["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"]),
        zone: part(&["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"]),
        subzone: part(&["topology.istio.io/subzone"]),
    }
}

/// The first of the labels that says something.
pub(crate) fn first(labels: &Labels, keys: &[&str]) -> Option<Arc<str>> {
    keys.iter().find_map(|key| labels.get(*key).filter(|value| !value.is_empty()).cloned())
}

/// The controller behind the pod, looked through: a Deployment behind its ReplicaSet, a CronJob behind its Job.
pub(crate) fn controller(pod: &PodObject) -> (WorkloadKind, Arc<str>) {
    let (kind, name) = match &pod.owner {
        None => (WorkloadKind::Pod, pod.name.clone()),
        Some(owner) => match &*owner.kind {
            "ReplicaSet" => match deployment(pod, &owner.name) {
                Some(name) => (WorkloadKind::Deployment, name),
                None => (WorkloadKind::Pod, owner.name.clone()),
            },
            "Job" => match cron_job(&owner.name) {
                Some(name) => (WorkloadKind::CronJob, name),
                None => (WorkloadKind::Job, owner.name.clone()),
            },
            "Deployment" => (WorkloadKind::Deployment, owner.name.clone()),
            "CronJob" => (WorkloadKind::CronJob, owner.name.clone()),
            _ => (WorkloadKind::Pod, owner.name.clone()),
        },
    };
    let said = first(&pod.labels, &["service.istio.io/workload-name"]);
    (kind, said.unwrap_or(name))
}

/// A Deployment's ReplicaSet is named after it and the hash of its pod template.
fn deployment(pod: &PodObject, replica_set: &str) -> Option<Arc<str>> {
    let hash = pod.labels.get("pod-template-hash").filter(|hash| !hash.is_empty())?;
    let name = replica_set.strip_suffix(&**hash)?.strip_suffix('-')?;
    (!name.is_empty()).then(|| name.into())
}

/// A CronJob's Job is named after it and its time: minutes since 1970 (8 digits), formerly seconds (10).
fn cron_job(job: &str) -> Option<Arc<str>> {
    let (name, time) = job.rsplit_once('-')?;
    let timed = (8..=10).contains(&time.len()) && time.bytes().all(|b| b.is_ascii_digit());
    (timed && !name.is_empty()).then(|| name.into())
}
