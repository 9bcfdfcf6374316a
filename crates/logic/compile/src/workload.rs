//! Pods to workloads.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use weir_manifest::{
    DataplaneMode, EndpointHealth, EndpointSliceObject, Labels, PodObject, ServiceObject, Sidecar, SliceEndpoint,
};
use weir_model::{
    Enrolment, Health, LocalPod, Locality, Namespace, NetworkMode, NodeName, Tunnel, Workload, WorkloadKind,
    WorkloadUid,
};

use crate::Settings;

/// What namespaces and nodes say about the pods in and on them.
pub(crate) struct Surroundings {
    pub(crate) modes: HashMap<Namespace, DataplaneMode>,
    pub(crate) localities: HashMap<NodeName, Locality>,
}

/// The name of a pod in the mesh.
pub(crate) fn uid(settings: &Settings, namespace: &Namespace, name: &str) -> WorkloadUid {
    WorkloadUid::of_pod(&settings.cluster, namespace, name)
        .expect("cluster, namespace and pod name are visible ASCII and short")
}

/// Whether the mesh knows the pod: it has an address, and still is one.
pub(crate) fn exists(pod: &PodObject) -> bool {
    !pod.is_over() && !pod.addresses.is_empty()
}

/// Whether a pod is in the mesh, or why not.
pub(crate) fn enrolment(pod: &PodObject, namespace: Option<DataplaneMode>) -> Enrolment {
    if pod.network_mode == NetworkMode::HostNetwork {
        return Enrolment::HostNetwork;
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

/// The workload a pod is.
pub(crate) fn workload(settings: &Settings, around: &Surroundings, pod: &PodObject) -> Workload {
    let (kind, workload_name) = controller(pod);
    let tunnel = match enrolment(pod, around.modes.get(&pod.namespace).copied()) {
        Enrolment::Enrolled => Tunnel::Hbone,
        Enrolment::NotLabelled | Enrolment::OptedOut | Enrolment::HostNetwork | Enrolment::Sidecar => Tunnel::None,
    };
    let canonical_name = first(&pod.labels, &["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    let canonical_revision =
        first(&pod.labels, &["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
    Workload {
        uid: uid(settings, &pod.namespace, &pod.name),
        incarnation: pod.incarnation.clone(),
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        trust_domain: settings.trust_domain.clone(),
        service_account: pod.service_account.clone(),
        addresses: pod.addresses.clone(),
        network: pod.network.clone().unwrap_or_else(|| settings.network.clone()),
        tunnel,
        network_mode: pod.network_mode,
        node: pod.node.clone(),
        locality: pod.node.as_ref().and_then(|node| around.localities.get(node).cloned()).unwrap_or_default(),
        health: pod.health,
        cluster: settings.cluster.clone(),
        kind,
        canonical_name: canonical_name.unwrap_or_else(|| workload_name.clone()),
        canonical_revision: canonical_revision.unwrap_or_else(|| "latest".into()),
        services: Vec::new(),
        policies: Vec::new(),
        unsupported: None,
        workload_name,
    }
}

/// An endpoint of a slice that is no pod: a workload of its own, outside the mesh. Its uid is Istio's for it.
pub(crate) fn of_slice(
    settings: &Settings,
    slice: &EndpointSliceObject,
    service: &ServiceObject,
    endpoint: &SliceEndpoint,
    ip: IpAddr,
) -> Workload {
    let (cluster, namespace) = (&settings.cluster, &slice.namespace);
    let uid = format!("{cluster}/discovery.k8s.io/EndpointSlice/{namespace}/{}/{ip}", slice.name);
    Workload {
        uid: uid.parse().expect("cluster, namespace and slice name are visible ASCII and short"),
        incarnation: "".into(),
        name: slice.name.clone(),
        namespace: namespace.clone(),
        trust_domain: settings.trust_domain.clone(),
        service_account: "default".parse().expect("a label"),
        addresses: endpoint.addresses.clone(),
        network: settings.network.clone(),
        tunnel: Tunnel::None,
        network_mode: NetworkMode::Standard,
        node: None,
        locality: Locality::default(),
        health: match endpoint.health {
            EndpointHealth::Ready => Health::Healthy,
            EndpointHealth::NotReady => Health::Unhealthy,
        },
        cluster: cluster.clone(),
        kind: WorkloadKind::Pod,
        workload_name: service.name.clone(),
        canonical_name: service.name.clone(),
        canonical_revision: "latest".into(),
        services: Vec::new(),
        policies: Vec::new(),
        unsupported: None,
    }
}

/// The pod as its node's agent needs it.
pub(crate) fn local_pod(settings: &Settings, around: &Surroundings, pod: &PodObject) -> LocalPod {
    LocalPod {
        uid: uid(settings, &pod.namespace, &pod.name),
        addresses: pod.addresses.clone(),
        netns: pod.netns.clone(),
        enrolment: enrolment(pod, around.modes.get(&pod.namespace).copied()),
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

fn first(labels: &Labels, keys: &[&str]) -> Option<Arc<str>> {
    keys.iter().find_map(|key| labels.get(*key).filter(|value| !value.is_empty()).cloned())
}

/// The controller behind the pod, looked through: a Deployment behind its ReplicaSet, a CronJob behind its Job.
fn controller(pod: &PodObject) -> (WorkloadKind, Arc<str>) {
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
