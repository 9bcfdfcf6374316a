//! What a waypoint acts on: the mesh, and what is said about requests, made of one and the same objects.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use weir_compile::{Compiled, Compiler, Settings, WaypointName};
use weir_manifest::Objects;
use weir_model::{Hostname, ServiceName, WorkloadUid};
use weir_serving::Serving;
use weir_world::World;

/// Labels of a workload, sorted by their keys.
pub(crate) type Labels = Arc<[(Box<str>, Box<str>)]>;

/// Everything a waypoint acts on. It is swapped whole. Without anything in it, nothing is bound and so everything refused.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) world: World,
    pub(crate) serving: Arc<Serving>,
    /// Services by what they are called in requests.
    pub(crate) names: Arc<HashMap<Hostname, ServiceName>>,
    pub(crate) labels: Arc<HashMap<WorkloadUid, Labels>>,
    /// What authors are to be told, a line each.
    pub(crate) notes: Arc<[String]>,
}

impl State {
    /// What objects mean.
    pub(crate) fn of(objects: Objects, settings: &Settings, gateway: &WaypointName) -> Self {
        let mut compiler = Compiler::new(settings.clone());
        for object in objects.into_objects() {
            compiler.set(object);
        }
        compiler.take();
        Self::serving(&compiler, compiler.world().clone(), gateway, HashMap::new())
    }

    /// What a compiler's objects mean in a world, for pods of these labels beside those it knows itself.
    pub(crate) fn serving(
        compiler: &Compiler,
        world: World,
        gateway: &WaypointName,
        mut labels: HashMap<WorkloadUid, Labels>,
    ) -> Self {
        let Compiled { serving, findings, statuses, .. } = compiler.serving(&world, gateway);
        let mut notes: Vec<String> = findings.iter().map(ToString::to_string).collect();
        notes.extend(statuses.iter().flat_map(refused));
        labels.extend(compiler.labels().map(|(uid, labels)| (uid, share(&labels))));
        let names = world.services().map(|service| (service.name.hostname.clone(), service.name.clone()));
        let names = Arc::new(names.collect());
        Self { world, serving: Arc::new(serving), names, labels: Arc::new(labels), notes: notes.into() }
    }

    /// The same in a world of the same services, whose workloads are others.
    pub(crate) fn in_world(&self, world: World) -> Self {
        let (serving, names) = (self.serving.clone(), self.names.clone());
        Self { world, serving, names, labels: self.labels.clone(), notes: self.notes.clone() }
    }

    /// The labels of a workload, where they are known.
    pub(crate) fn labels(&self, uid: &WorkloadUid) -> Option<&Labels> {
        self.labels.get(uid)
    }
}

fn share(labels: &BTreeMap<Arc<str>, Arc<str>>) -> Labels {
    labels.iter().map(|(key, value)| (Box::from(&**key), Box::from(&**value))).collect()
}

/// What does not hold of a route, a line for each of its parents.
fn refused(status: &weir_compile::RouteStatus) -> impl Iterator<Item = String> {
    let bad = status.parents.iter().flat_map(|parent| parent.conditions.iter().filter(|one| !one.holds));
    bad.map(|condition| {
        let weir_compile::RouteStatus { kind, namespace, name, .. } = status;
        format!("{kind} {namespace}/{name}: {:?} {:?}: {}", condition.kind, condition.reason, condition.message)
    })
}
