//! Where pods' network namespaces are. In: what the annotation, the CNI plugin, a CNI node agent (ZDS) and `/proc` say. Out: one place
//! for each pod, in that order. A pod made anew under the name of another never gets the other's.

mod file;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use weir_model::{LocalPod, WorkloadUid};
use weir_net::{Netns, NetnsError, NetnsId};

use crate::{enrol::chain, proc::Wanted};

/// Pods that are remembered of each source: many times what a node holds.
const PODS: usize = 4_096;

/// Where a namespace is.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Behind a path.
    At(PathBuf),
    /// Open already.
    Held(Arc<Netns>),
}

/// A pod's namespace, and the addresses that its finder says the pod has; none if it does not say.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) addresses: Vec<IpAddr>,
}

/// A pod as the CNI plugin's ADD told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Added {
    /// `metadata.uid`, empty when the runtime does not say.
    pub(crate) incarnation: Arc<str>,
    /// The path of its namespace.
    pub(crate) netns: PathBuf,
    /// Its addresses, canonical.
    pub(crate) addresses: Vec<IpAddr>,
}

/// A pod as ZDS told of it.
#[derive(Debug, Clone)]
pub(crate) struct Handed {
    pub(crate) uid: WorkloadUid,
    pub(crate) netns: Arc<Netns>,
}

/// Who decides which pods are caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Authority {
    /// The mesh.
    Mesh,
    /// The mesh, of those pods that ZDS sends.
    Zds,
}

/// More pods than are remembered.
#[derive(Debug, thiserror::Error)]
#[error("more than {PODS} pods: this one is not remembered")]
pub(crate) struct TooMany;

/// All that is known. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Namespaces(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    authority: Authority,
    /// Where what the plugin said outlives the agent.
    file: Option<PathBuf>,
    told: Mutex<Told>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Told {
    added: BTreeMap<WorkloadUid, Added>,
    /// By `metadata.uid`.
    handed: HashMap<String, Handed>,
    /// Of those, the ones sent since the connection began; none when all have been.
    snapshot: Option<HashSet<String>>,
    /// Whether there was ever a whole snapshot.
    complete: bool,
    /// By their processes, each with its incarnation.
    found: HashMap<WorkloadUid, (Arc<str>, Arc<Netns>)>,
}

impl Namespaces {
    /// What an earlier agent wrote down in `file` is known from the beginning.
    pub(crate) fn new(authority: Authority, file: Option<PathBuf>) -> Self {
        let mut told = Told::default();
        if let Some(path) = &file {
            match file::read(path) {
                Ok(added) => told.added = added,
                // Pods that are running are found by their processes, too.
                Err(error) => {
                    tracing::error!(error = %chain(&error), "what the CNI plugin told an earlier agent is lost")
                }
            }
        }
        Self(Arc::new(Shared { authority, file, told: Mutex::new(told), changed: Notify::new() }))
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // Each change stands for itself.
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until something is known that was not.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Where the namespace of a pod is, and of no other that had its name. `incarnation` is what the mesh knows: `metadata.uid`, empty if
    /// it does not know.
    pub(crate) fn find(&self, pod: &LocalPod, incarnation: &str) -> Option<Found> {
        let told = self.told();
        let handed = told.handed_to(&pod.uid, incarnation);
        if self.0.authority == Authority::Zds && handed.is_none() {
            return None;
        }
        let added = told.added.get(&pod.uid).filter(|added| may_be(&added.incarnation, incarnation));
        let addresses = added.map(|added| added.addresses.clone()).unwrap_or_default();
        let place = pod
            .netns
            .clone()
            .or_else(|| added.map(|added| added.netns.clone()))
            .map(Place::At)
            .or_else(|| handed.map(|handed| Place::Held(handed.netns.clone())))
            .or_else(|| {
                let (of, netns) = told.found.get(&pod.uid)?;
                (**of == *incarnation).then(|| Place::Held(netns.clone()))
            })?;
        Some(Found { place, addresses })
    }

    /// Whether whoever decides on it beside the mesh wants a pod caught. Before all has been said, no pod is let go of.
    pub(crate) fn wants(&self, pod: &LocalPod, incarnation: &str) -> bool {
        let told = self.told();
        match self.0.authority {
            Authority::Mesh => true,
            Authority::Zds => !told.complete || told.handed_to(&pod.uid, incarnation).is_some(),
        }
    }

    pub(crate) fn authority(&self) -> Authority {
        self.0.authority
    }

    /// The CNI plugin says where a pod is. It is told again when the runtime makes the pod's sandbox anew.
    pub(crate) fn add(&self, uid: WorkloadUid, added: Added) -> Result<(), TooMany> {
        let mut told = self.told();
        if told.added.get(&uid) == Some(&added) {
            return Ok(());
        }
        if told.added.len() >= PODS && !told.added.contains_key(&uid) {
            return Err(TooMany);
        }
        told.added.insert(uid, added);
        self.write(&told.added);
        drop(told);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Forgets what the plugin said of namespaces that are gone.
    pub(crate) fn prune(&self) {
        let mut told = self.told();
        let before = told.added.len();
        told.added.retain(|_, added| !is_gone(&added.netns));
        if told.added.len() < before {
            self.write(&told.added);
        }
    }

    fn write(&self, added: &BTreeMap<WorkloadUid, Added>) {
        let Some(path) = &self.0.file else { return };
        if let Err(error) = file::write(path, added) {
            tracing::error!(error = %chain(&error), "what the CNI plugin said is not written down: a next agent will not know it");
        }
    }

    /// ZDS begins anew: what is not sent again before it says so is kept until then.
    pub(crate) fn begin_snapshot(&self) {
        self.told().snapshot = Some(HashSet::new());
    }

    /// ZDS hands over a pod, by its `metadata.uid`.
    pub(crate) fn hand(&self, incarnation: String, handed: Handed) -> Result<(), TooMany> {
        let mut told = self.told();
        if told.handed.len() >= PODS && !told.handed.contains_key(&incarnation) {
            return Err(TooMany);
        }
        if let Some(snapshot) = &mut told.snapshot {
            snapshot.insert(incarnation.clone());
        }
        told.handed.insert(incarnation, handed);
        drop(told);
        self.0.changed.notify_one();
        Ok(())
    }

    /// ZDS still has a pod. One that is not known is none of ours: its namespace was never sent.
    pub(crate) fn keep(&self, incarnation: String) {
        let mut told = self.told();
        if told.handed.contains_key(&incarnation)
            && let Some(snapshot) = &mut told.snapshot
        {
            snapshot.insert(incarnation);
        }
    }

    /// ZDS takes a pod back.
    pub(crate) fn take_back(&self, incarnation: &str) {
        self.told().handed.remove(incarnation);
        self.0.changed.notify_one();
    }

    /// ZDS has sent all: what it did not send is forgotten.
    pub(crate) fn end_snapshot(&self) {
        let mut told = self.told();
        if let Some(snapshot) = told.snapshot.take() {
            told.handed.retain(|incarnation, _| snapshot.contains(incarnation));
        }
        told.complete = true;
        drop(told);
        self.0.changed.notify_one();
    }

    /// Whether all pods of a connection have been sent.
    pub(crate) fn is_whole(&self) -> bool {
        let told = self.told();
        told.complete && told.snapshot.is_none()
    }

    /// What became of a look for `wanted` by their processes.
    pub(crate) fn looked(&self, wanted: &[Wanted], mut found: HashMap<WorkloadUid, Arc<Netns>>) {
        let mut told = self.told();
        for pod in wanted {
            match found.remove(&pod.uid) {
                Some(netns) => drop(told.found.insert(pod.uid.clone(), (pod.incarnation.clone(), netns))),
                None => drop(told.found.remove(&pod.uid)),
            }
        }
        drop(told);
        self.0.changed.notify_one();
    }

    /// Forgets what was found of pods that are not `known` any more.
    pub(crate) fn forget_found(&self, known: impl Fn(&WorkloadUid) -> bool) {
        self.told().found.retain(|uid, _| known(uid));
    }
}

impl Told {
    fn handed_to(&self, uid: &WorkloadUid, incarnation: &str) -> Option<&Handed> {
        let mut of = self.handed.iter().filter(|(of, handed)| handed.uid == *uid && may_be(of, incarnation));
        let (_, first) = of.next()?;
        // Where the mesh does not tell the old pod from the new one, neither gets the other's.
        of.next().is_none().then_some(first)
    }
}

/// Whether both may mean one pod: a source that says nothing contradicts nobody.
fn may_be(one: &str, other: &str) -> bool {
    one.is_empty() || other.is_empty() || one == other
}

fn is_gone(path: &std::path::Path) -> bool {
    let gone = |error: io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    NetnsId::at(path).is_err_and(gone)
}

impl Place {
    /// Opens it.
    pub(crate) fn open(&self) -> Result<Arc<Netns>, NetnsError> {
        match self {
            Self::At(path) => Netns::open(path).map(Arc::new),
            Self::Held(netns) => Ok(netns.clone()),
        }
    }

    /// Whether it is this one. A look that fails says nothing, save that there is nothing.
    pub(crate) fn is(&self, netns: &Netns) -> bool {
        match self {
            Self::At(path) => NetnsId::at(path).map_or_else(|_| !is_gone(path), |id| id == netns.id()),
            Self::Held(held) => held.id() == netns.id(),
        }
    }

    /// Whether it has to be looked for anew.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::At(_) => false,
            Self::Held(netns) => !netns.is_current(),
        }
    }
}

impl Found {
    /// The addresses to enrol the pod with: the mesh's, or the finder's where the mesh has none yet, as Kubernetes writes a pod's
    /// addresses only after the plugins have run.
    pub(crate) fn addresses<'a>(&'a self, pod: &'a LocalPod) -> &'a [IpAddr] {
        if pod.addresses.is_empty() { &self.addresses } else { &pod.addresses }
    }

    /// Whether mesh and finder contradict each other.
    pub(crate) fn contradicts(&self, pod: &LocalPod) -> bool {
        !pod.addresses.is_empty() && !self.addresses.is_empty() && !same(&pod.addresses, &self.addresses)
    }
}

/// Whether both are the same addresses, in whatever order.
pub(crate) fn same(one: &[IpAddr], other: &[IpAddr]) -> bool {
    let set = |all: &[IpAddr]| all.iter().copied().collect::<HashSet<_>>();
    set(one) == set(other)
}

#[cfg(test)]
mod tests;
