//! The mesh of a folder, as questions are asked of it.

use std::{
    collections::{BTreeMap, HashMap},
    iter,
    sync::Arc,
    time::SystemTime,
};

use weir_compile::{BindingStatus, Compiled, Compiler, PolicyStatus, RouteStatus, Settings, WaypointName};
use weir_explain::{Scene, Served};
use weir_manifest::{ConfigSpec, DataplaneMode, KeySource, Labels, Objects, Origin, WaypointLabels};
use weir_model::{Hostname, Namespace, WorkloadUid};
use weir_token::{KeySet, Keys};
use weir_world::{Thing, World};

use crate::status::Problem;

/// Everything a folder says.
pub(crate) struct Manifests {
    compiler: Compiler,
    labels: HashMap<WorkloadUid, Labels>,
    bindings: Bindings,
    /// Services whose labels name a waypoint, and what came of it.
    bound: Vec<BindingStatus>,
    modes: Modes,
    now: SystemTime,
}

/// Who says whether pods are in the mesh, and where.
#[derive(Default)]
struct Modes {
    namespaces: BTreeMap<String, String>,
    /// By namespace and name.
    pods: BTreeMap<(String, String), String>,
}

/// Who names which waypoint, and where.
#[derive(Default)]
struct Bindings {
    namespaces: BTreeMap<String, String>,
    /// By namespace and name.
    services: BTreeMap<(String, String), String>,
    pods: BTreeMap<(String, String), String>,
    /// ServiceEntries, by the hosts they declare.
    entries: BTreeMap<Hostname, String>,
}

impl Manifests {
    /// What the objects mean.
    pub(crate) fn of(objects: Objects, settings: &Settings, now: SystemTime) -> Self {
        let (bindings, modes) = (Bindings::of(&objects), Modes::of(&objects));
        let mut compiler = Compiler::new(settings.clone());
        for object in objects.into_objects() {
            compiler.set(object);
        }
        compiler.take();
        let labels = compiler.labels().collect();
        let bound = compiler.take_bindings().into_iter().filter_map(|(_, status)| status).collect();
        Self { compiler, labels, bindings, bound, modes, now }
    }

    /// By which label a pod is in the mesh or not; nothing where none says.
    pub(crate) fn enrolled_by(&self, pod: &WorkloadUid) -> Option<String> {
        let (namespace, name) = pod_of(pod)?;
        let own = self.modes.pods.get(&(namespace.to_owned(), name.to_owned()));
        own.or_else(|| self.modes.namespaces.get(namespace)).cloned()
    }

    /// What is wrong with labels that name waypoints.
    pub(crate) fn unbound(&self) -> Vec<Problem> {
        let bad = self.bound.iter().filter(|one| !one.outcome.is_bound());
        bad.map(|one| {
            let BindingStatus { namespace, name, gateway_namespace, gateway, outcome } = one;
            let what = format!("is to use the waypoint {gateway_namespace}/{gateway}: {outcome}");
            let next = format!("weirctl waypoint generate --name {gateway} -n {gateway_namespace} prints a Gateway for it; or take the label off");
            Problem::new(format!("Service {namespace}/{name}"), what, next)
        })
        .collect()
    }

    /// What became of each policy.
    pub(crate) fn statuses(&self) -> Vec<PolicyStatus> {
        self.compiler.statuses()
    }
}

impl Keys for Manifests {
    /// None: nothing is fetched.
    fn keys(&self, _source: &KeySource) -> Option<Arc<KeySet>> {
        None
    }
}

impl Scene for Manifests {
    fn world(&self) -> &World {
        self.compiler.world()
    }

    fn serving(&self, namespace: &Namespace, gateway: &str) -> Option<Served> {
        let name = WaypointName { namespace: namespace.clone(), name: gateway.into() };
        let Compiled { serving, findings, statuses, .. } = self.compiler.serving(self.compiler.world(), &name);
        let found = findings.iter().map(ToString::to_string);
        let notes = found.chain(statuses.iter().flat_map(refused)).collect();
        Some(Served { serving: Arc::new(serving), notes })
    }

    fn labels(&self, workload: &WorkloadUid) -> Option<Vec<(&str, &str)>> {
        let labels = self.labels.get(workload)?;
        Some(labels.iter().map(|(key, value)| (&**key, &**value)).collect())
    }

    fn binding(&self, thing: &Thing) -> Option<String> {
        self.bindings.find(thing)
    }

    fn now(&self) -> SystemTime {
        self.now
    }
}

/// What does not hold of a route, a line for each of its parents.
fn refused(status: &RouteStatus) -> impl Iterator<Item = String> {
    let bad = status.parents.iter().flat_map(|parent| parent.conditions.iter().filter(|one| !one.holds));
    bad.map(|condition| {
        let RouteStatus { kind, namespace, name, .. } = status;
        format!("{kind} {namespace}/{name}: {:?} {:?}: {}", condition.kind, condition.reason, condition.message)
    })
}

/// The namespace and the name of a pod.
fn pod_of(uid: &WorkloadUid) -> Option<(&str, &str)> {
    let mut parts = uid.as_str().rsplit('/');
    let (name, namespace) = (parts.next()?, parts.next()?);
    Some((namespace, name))
}

impl Modes {
    fn of(objects: &Objects) -> Self {
        let said = |mode: Option<DataplaneMode>, object: &str, origin: &Origin| {
            let mode = match mode? {
                DataplaneMode::Ambient => "ambient",
                DataplaneMode::None => "none",
            };
            Some(format!("istio.io/dataplane-mode={mode} of {object} ({}:{})", origin.file, origin.line))
        };
        let mut all = Self::default();
        for one in &objects.namespaces {
            let said = said(one.mode, &format!("Namespace {}", one.name), &one.origin);
            all.namespaces.extend(said.map(|said| (one.name.to_string(), said)));
        }
        for one in &objects.pods {
            let said = said(one.mode, &format!("Pod {}/{}", one.namespace, one.name), &one.origin);
            all.pods.extend(said.map(|said| ((one.namespace.to_string(), one.name.to_string()), said)));
        }
        all
    }
}

impl Bindings {
    fn of(objects: &Objects) -> Self {
        let mut all = Self::default();
        for one in &objects.namespaces {
            let said = said(&one.waypoint, &format!("Namespace {}", one.name), &one.origin);
            all.namespaces.extend(said.map(|said| (one.name.to_string(), said)));
        }
        for one in &objects.services {
            let said = said(&one.waypoint, &format!("Service {}/{}", one.namespace, one.name), &one.origin);
            all.services.extend(said.map(|said| ((one.namespace.to_string(), one.name.to_string()), said)));
        }
        for one in &objects.pods {
            let said = said(&one.waypoint, &format!("Pod {}/{}", one.namespace, one.name), &one.origin);
            all.pods.extend(said.map(|said| ((one.namespace.to_string(), one.name.to_string()), said)));
        }
        for one in &objects.configs {
            if let ConfigSpec::ServiceEntry(entry) = &one.spec {
                let said = said(&entry.waypoint, &format!("ServiceEntry {}/{}", one.namespace, one.name), &one.origin);
                all.entries.extend(
                    entry.hosts.iter().cloned().zip(iter::repeat(said)).filter_map(|(host, said)| Some((host, said?))),
                );
            }
        }
        all
    }

    /// The label of the thing itself counts before that of its namespace.
    fn find(&self, thing: &Thing) -> Option<String> {
        let (own, namespace, name) = match thing {
            Thing::Service(service) if self.entries.contains_key(&service.hostname) => {
                return self.entries.get(&service.hostname).cloned();
            }
            Thing::Service(service) => {
                (&self.services, service.namespace.as_str(), service.hostname.as_str().split('.').next()?)
            }
            Thing::Workload(uid) => {
                let (namespace, name) = pod_of(uid)?;
                (&self.pods, namespace, name)
            }
        };
        let own = own.get(&(namespace.to_owned(), name.to_owned()));
        own.or_else(|| self.namespaces.get(namespace)).cloned()
    }
}

fn said(labels: &WaypointLabels, object: &str, origin: &Origin) -> Option<String> {
    labels.uses.as_ref()?;
    Some(format!("by istio.io/use-waypoint of {object} ({}:{})", origin.file, origin.line))
}
