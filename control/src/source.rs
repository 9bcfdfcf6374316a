//! From what is declared to what is served: a source's changes, compiled, and handed to everybody who needs them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    error::Error,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::bail;
use tokio::sync::{oneshot, watch};
use weir_compile::{Compiler, Settings};
use weir_discovery::{Folder, SourceError, Timing, Update};
use weir_kube::{Client, Event, Options, Source};
use weir_manifest::{Object, ObjectKey, Objects};
use weir_model::Namespace;
use weir_telemetry::Unready;
use weir_xds::Store;

use crate::{
    admission::Known,
    documents::{Documents, Waypoints},
    pods::NodePods,
    routes::Shapes,
    status::Statuses,
};

/// Changes that are compiled together at most.
const BATCH: usize = 4096;

/// What follows the mesh.
#[derive(Clone)]
pub(crate) struct Mesh {
    /// What agents are served.
    pub(crate) store: Arc<Store>,
    /// Which pods are where, for the CA.
    pub(crate) pods: Arc<NodePods>,
    /// Who is a waypoint.
    pub(crate) waypoints: Arc<Waypoints>,
    /// Every namespace.
    pub(crate) namespaces: watch::Sender<Arc<BTreeSet<Namespace>>>,
    /// What became of policies, and of what shapes requests.
    pub(crate) statuses: Arc<Statuses>,
    /// What shapes requests, to be said what became of.
    pub(crate) shapes: Arc<Shapes>,
    /// What happened, for people.
    pub(crate) state: Arc<State>,
    /// What reviews are judged among, if there are any.
    pub(crate) known: Option<Arc<Known>>,
}

/// What happened to the source, for people and metrics.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Changes of objects that were read, by kind.
    pub(crate) events: Mutex<BTreeMap<String, u64>>,
    /// Objects that cannot be read now, and why.
    pub(crate) refused: Mutex<BTreeMap<ObjectKey, Vec<String>>>,
    /// Kinds that cannot be followed now, and why.
    pub(crate) lost: Mutex<BTreeMap<String, String>>,
    /// How often something was compiled.
    pub(crate) generation: AtomicU64,
}

/// Who waits for everything that was there at the start.
pub(crate) struct First {
    /// Whoever asks whether we are ready.
    pub(crate) ready: Unready,
    /// Who serves it.
    pub(crate) read: oneshot::Sender<()>,
}

impl First {
    fn done(self) {
        self.ready.done();
        // Nobody is there any more when all is to stop.
        let _told = self.read.send(()).is_ok();
    }
}

/// Where objects come from.
pub(crate) enum Origin {
    /// A folder.
    Folder(Box<Folder<Declared>>, Declared),
    /// A cluster.
    Cluster(Source),
}

impl Origin {
    /// Reads a folder.
    pub(crate) fn folder(path: &Path) -> anyhow::Result<Self> {
        let (objects, folder) = Folder::open_as(path, Timing::default(), all).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(|error| format!("  {}", chain(error))).collect();
            anyhow::anyhow!("the manifests cannot be used:\n{}", lines.join("\n"))
        })?;
        Ok(Self::Folder(Box::new(folder), objects))
    }

    /// Begins to follow a cluster.
    pub(crate) fn cluster(client: Client) -> Self {
        Self::Cluster(Source::start(client, Options::default()))
    }
}

/// Follows the origin until `ended`. `first` is done when everything that was there at the start is served.
pub(crate) async fn follow(
    origin: Origin,
    settings: Settings,
    mesh: Mesh,
    first: First,
    ended: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let following = async {
        let compiler = Compiler::new(settings);
        match origin {
            Origin::Folder(folder, objects) => follow_folder(folder, objects, compiler, mesh, first).await,
            Origin::Cluster(source) => follow_cluster(source, compiler, mesh, first).await,
        }
    };
    tokio::select! {
        () = ended => Ok(()),
        () = following => bail!("the source of the mesh ended"),
    }
}

async fn follow_folder(
    mut folder: Box<Folder<Declared>>,
    mut declared: Declared,
    mut compiler: Compiler,
    mesh: Mesh,
    first: First,
) {
    let mut first = Some(first);
    let mut before: HashSet<ObjectKey> = HashSet::new();
    let mut documents = Documents::new(mesh.waypoints.clone());
    loop {
        let Declared { objects, documents: mut told } = declared;
        let now: HashSet<ObjectKey> = objects.iter().map(Object::key).collect();
        for gone in before.difference(&now) {
            compiler.remove(gone);
            documents.remove(gone);
            mesh.forget(gone);
        }
        for object in objects {
            let key = object.key();
            mesh.state.count(&key.kind);
            documents.set(&object, told.remove(&key));
            mesh.note(&object);
            compiler.set(object);
        }
        mesh.namespaces.send_replace(Arc::new(now.iter().filter_map(namespace).collect()));
        before = now;
        mesh.serve(&mut compiler, &mut documents);
        if let Some(first) = first.take() {
            first.done();
        }
        for ignored in folder.ignored() {
            tracing::warn!("without effect: {}: {}: {}", ignored.origin, ignored.object, ignored.why);
        }
        declared = loop {
            match folder.next().await {
                Update::World(declared) => {
                    mesh.state.lost().remove("manifests");
                    break declared;
                }
                Update::Rejected(errors) => mesh.state.reject(&errors),
            }
        };
    }
}

async fn follow_cluster(mut source: Source, mut compiler: Compiler, mesh: Mesh, first: First) {
    let mut first = Some(first);
    let mut namespaces: BTreeSet<Namespace> = BTreeSet::new();
    let mut documents = Documents::new(mesh.waypoints.clone());
    loop {
        let mut next = Some(source.next().await);
        let (mut synced, mut moved) = (false, false);
        let mut taken = 0;
        while let Some(event) = next {
            match event {
                Event::Set { object, document } => {
                    documents.set(&object, document);
                    mesh.note(&object);
                    let key = object.key();
                    mesh.state.count(&key.kind);
                    mesh.state.refused().remove(&key);
                    moved |= namespace(&key).is_some_and(|name| namespaces.insert(name));
                    compiler.set(*object);
                }
                Event::Removed(key) => {
                    mesh.state.count(&key.kind);
                    mesh.state.refused().remove(&key);
                    moved |= namespace(&key).is_some_and(|name| namespaces.remove(&name));
                    documents.remove(&key);
                    mesh.forget(&key);
                    compiler.remove(&key);
                }
                Event::Refused { key, errors } => mesh.state.refuse(&mut compiler, key, &errors),
                Event::Synced => synced = true,
                Event::Lost { kind, reason } => {
                    let reason = chain(&reason);
                    tracing::warn!(%kind, reason, "cannot be followed now; what is known of it stays in force");
                    mesh.state.lost().insert(kind.to_string(), reason);
                }
                Event::Back { kind } => {
                    tracing::info!(%kind, "is followed again");
                    mesh.state.lost().remove(&kind.to_string());
                }
            }
            taken += 1;
            next = if taken < BATCH { source.try_next() } else { None };
        }
        if moved {
            mesh.namespaces.send_replace(Arc::new(namespaces.clone()));
        }
        // Before the first list is complete nothing is served: half a mesh would refuse what the whole one admits.
        if synced || first.is_none() {
            mesh.serve(&mut compiler, &mut documents);
        }
        if synced && let Some(first) = first.take() {
            tracing::info!("the cluster has been read");
            first.done();
        }
    }
}

impl Mesh {
    fn note(&self, object: &Object) {
        if let Some(known) = &self.known {
            known.set(object);
        }
    }

    fn forget(&self, key: &ObjectKey) {
        if let Some(known) = &self.known {
            known.remove(key);
        }
    }

    fn serve(&self, compiler: &mut Compiler, documents: &mut Documents) {
        let delta = compiler.take();
        self.pods.apply(&delta);
        self.store.apply(&delta);
        let shaped = documents.flush(&self.store);
        self.statuses.take(compiler);
        if let Some(known) = &self.known {
            known.whole();
        }
        // Where nothing shapes requests, there is nothing to be said of it.
        if shaped || !(delta.services.is_empty() || compiler.configs().is_empty()) {
            self.shapes.put(compiler);
        }
        self.state.generation.fetch_add(1, Relaxed);
    }
}

impl State {
    fn count(&self, kind: &str) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        match events.get_mut(kind) {
            Some(count) => *count += 1,
            None => drop(events.insert(kind.to_owned(), 1)),
        }
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectKey, Vec<String>>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object that cannot be read: what it was before is out of date, and what it is nobody knows.
    fn refuse(&self, compiler: &mut Compiler, key: ObjectKey, errors: &[weir_manifest::ManifestError]) {
        let lines: Vec<String> = errors.iter().map(|error| chain(error)).collect();
        for line in &lines {
            tracing::error!("refused: {line}");
        }
        self.count(&key.kind);
        compiler.refuse(&key, lines.first().map_or("it cannot be read", String::as_str));
        self.refused().insert(key, lines);
    }

    fn reject(&self, errors: &[SourceError]) {
        let lines: Vec<String> = errors.iter().map(|error| chain(error)).collect();
        for line in &lines {
            tracing::error!("manifest refused, the last good state stays in force: {line}");
        }
        self.lost().insert("manifests".to_owned(), lines.join("; "));
    }
}

/// What a folder declares.
pub(crate) struct Declared {
    objects: Vec<Object>,
    /// What waypoints are told of them.
    documents: HashMap<ObjectKey, Arc<str>>,
}

fn all(mut objects: Objects) -> Declared {
    let documents = std::mem::take(&mut objects.documents).into_iter().collect();
    Declared { objects: objects.into_objects().collect(), documents }
}

fn namespace(key: &ObjectKey) -> Option<Namespace> {
    if &*key.kind == "Namespace" { key.name.parse().ok() } else { None }
}

/// An error with all that led to it.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
