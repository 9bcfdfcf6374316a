//! Which pods of this node are caught: follows the mesh, and what became of pods' network namespaces.

mod candidate;

pub(crate) use candidate::Places;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use weir_ebpf_loader::{Capture, Redirect};
use weir_model::{Enrolment, WorkloadUid};
use weir_net::{NetnsError, NetnsId};
use weir_world::World;

use candidate::Candidate;

use crate::{
    listeners,
    namespaces::{Authority, same},
    pod::{Pod, ROUTING, Stage},
    routed::Routed,
    worker::{Order, Shared},
};

/// How long a worker may take to begin with a pod.
const BEGIN: Duration = Duration::from_secs(5);

/// Why a pod cannot be caught now; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    /// Nothing says where its namespace is.
    #[error(
        "nobody knows its network namespace: neither the annotation weir.dev/netns nor the CNI plugin says it, and no process of the pod is found"
    )]
    NoNetns,
    /// ZDS has not sent it yet.
    #[error("ZDS has not sent its network namespace yet")]
    NotSent,
    /// Neither the mesh nor the finder of its namespace knows an address of it.
    #[error("its addresses are not known yet")]
    NoAddresses,
    /// A namespace that is no pod's.
    #[error("{0} is the node's own network namespace")]
    Nodes(PathBuf),
    /// A namespace that is another pod's.
    #[error("{netns} is the network namespace of {of}")]
    Taken { netns: PathBuf, of: WorkloadUid },
    /// The namespace cannot be opened.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The mesh does not know it (yet).
    #[error("the workload is not in the mesh")]
    NoWorkload,
    /// It has no certificate.
    #[error("no certificate")]
    Certificate(#[source] weir_identity::Error),
    /// A listener could not be opened inside.
    #[error("a listener in the pod")]
    Listen(#[source] io::Error),
    /// Rule, route or setting could not be put in place inside.
    #[error("the routing of the pod")]
    Routing(#[source] weir_netlink::NetlinkError),
    /// It could not be noted beside the pins.
    #[error("the note that the pod has our routing")]
    Note(#[source] io::Error),
    /// The kernel programs refused it.
    #[error("the kernel programs")]
    Capture(#[source] weir_ebpf_loader::Error),
    /// A worker is stuck or gone.
    #[error("worker {0} did not begin")]
    Worker(usize),
}

/// What is known of a local pod, for people.
#[derive(Debug, Clone)]
pub(crate) enum PodState {
    /// Caught.
    Enrolled { cookie: u64, netns: PathBuf, id: NetnsId },
    /// To be caught, and why it is not.
    Failing(String),
    /// No longer caught; so many connections go on.
    Leaving(usize),
    /// Not to be caught, and why; `metadata.uid` of the pod that this is true of.
    Outside { why: Enrolment, incarnation: Arc<str> },
    /// The mesh wants it caught, but ZDS decides, and does not.
    NotSent,
}

/// The states of all local pods; read by the admin server, waited for by the CNI plugin's.
#[derive(Debug, Clone, Default)]
pub(crate) struct States(Arc<watch::Sender<BTreeMap<String, PodState>>>);

impl States {
    /// All of them, by workload.
    pub(crate) fn all(&self) -> BTreeMap<String, PodState> {
        self.0.borrow().clone()
    }

    /// All of them, by workload, and each time they are looked at anew.
    pub(crate) fn follow(&self) -> watch::Receiver<BTreeMap<String, PodState>> {
        self.0.subscribe()
    }

    /// How many follow them now.
    #[cfg(test)]
    pub(crate) fn followers(&self) -> usize {
        self.0.receiver_count()
    }

    pub(crate) fn replace(&self, states: BTreeMap<String, PodState>) {
        self.0.send_replace(states);
    }
}

struct Enrolled {
    pod: Arc<Pod>,
    addresses: Vec<IpAddr>,
    stage: watch::Sender<Stage>,
}

/// Enrols and leaves pods. It alone changes what the kernel catches.
pub(crate) struct Enroller {
    redirect: Redirect,
    shared: Shared,
    workers: Vec<mpsc::Sender<Order>>,
    enrolled: HashMap<WorkloadUid, Enrolled>,
    leaving: Vec<Enrolled>,
    failing: HashMap<WorkloadUid, String>,
    /// Namespaces of pods that could not be caught anew: they stay caught, and so refused, rather than fall back to plaintext.
    held: HashMap<WorkloadUid, Vec<u64>>,
    adopted: bool,
    routed: Routed,
    states: States,
    places: Places,
}

impl Enroller {
    pub(crate) fn new(
        redirect: Redirect,
        shared: Shared,
        workers: Vec<mpsc::Sender<Order>>,
        routed: Routed,
        states: States,
        places: Places,
    ) -> Self {
        let (enrolled, leaving, failing, held) = Default::default();
        Self { redirect, shared, workers, enrolled, leaving, failing, held, adopted: false, routed, states, places }
    }

    /// Makes what is caught what the mesh says. Cheap when nothing changed: called on every change, and every second for
    /// namespaces that come, go, or are replaced behind their path.
    pub(crate) async fn reconcile(&mut self, world: &World) {
        let namespaces = self.places.namespaces.clone();
        namespaces.prune();
        let wanted: HashMap<&WorkloadUid, Candidate<'_>> = world
            .local_pods()
            .iter()
            .filter_map(|pod| Some((&pod.uid, Candidate::find(pod, world, &namespaces)?)))
            .collect();
        let stale: Vec<WorkloadUid> = self
            .enrolled
            .iter()
            .filter(|(uid, enrolled)| wanted.get(uid).is_none_or(|pod| enrolled.is_stale(pod)))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in stale {
            self.leave(&uid, wanted.contains_key(&uid));
        }
        self.failing.retain(|uid, _| wanted.contains_key(uid));
        for (&uid, pod) in &wanted {
            if self.enrolled.contains_key(uid) {
                continue;
            }
            match self.enter(pod).await {
                Ok(enrolled) => {
                    tracing::info!(pod = %uid, netns = %enrolled.pod.netns.path().display(), "enrolled");
                    pod.complain();
                    self.failing.remove(uid);
                    self.shared.metrics.proxies_started.inc();
                    self.enrolled.insert(uid.clone(), enrolled);
                }
                Err(error) => self.fail(uid, &error),
            }
        }
        self.let_go(|uid| wanted.contains_key(uid));
        self.drop_leftovers();
        self.forget_left();
        self.publish(world);
        namespaces.forget_found(|uid| wanted.contains_key(uid));
        if namespaces.authority() == Authority::Mesh {
            self.places.look.step(wanted.values().filter_map(Candidate::missing).collect(), &namespaces).await;
        }
    }

    /// Until more is known of where pods are.
    pub(crate) fn found(&self) -> impl Future<Output = ()> + use<> {
        let namespaces = self.places.namespaces.clone();
        async move { namespaces.changed().await }
    }

    fn fail(&mut self, uid: &WorkloadUid, error: &EnrolError) {
        let reason = chain(error);
        // Said again when the cause is another: what stands before it may count the seconds to the next attempt.
        let cause = last(error).to_string();
        if !self.failing.get(uid).is_some_and(|known| known.ends_with(&cause)) {
            tracing::error!(pod = %uid, reason, "cannot be enrolled; trying again every second");
        }
        self.failing.insert(uid.clone(), reason);
    }

    /// Everything in place, and only then the pod is caught.
    async fn enter(&mut self, candidate: &Candidate<'_>) -> Result<Enrolled, EnrolError> {
        let (pod, addresses) = self.place(candidate)?;
        self.shared.identities.fetch(&pod.identity).await.map_err(EnrolError::Certificate)?;
        let all = listeners::open(&pod.netns, &addresses, self.workers.len()).map_err(EnrolError::Listen)?;
        let first = all.first().ok_or(EnrolError::Worker(0))?;
        // There is one writer: this.
        drop(pod.own_ports.set(first.ports()));
        let hbone = first.hbone.as_fd().try_clone_to_owned().map_err(EnrolError::Listen)?;
        let inbound = first.inbound.as_fd().try_clone_to_owned().map_err(EnrolError::Listen)?;
        let (outbound_v4, outbound_v6) = (first.outbound(true), first.outbound(false));
        let (stage, staged) = watch::channel(Stage::Serving);
        let enrolled = Enrolled { pod: pod.clone(), addresses, stage };
        let result = self.begin(&pod, all, &staged).await.and_then(|()| {
            self.routed.note(pod.netns.cookie()).map_err(EnrolError::Note)?;
            ROUTING.install(&routing_netns(&pod)?).map_err(EnrolError::Routing)?;
            let capture = Capture {
                netns: pod.netns.as_fd(),
                cookie: pod.netns.cookie(),
                addresses: &enrolled.addresses,
                outbound_v4: outbound_v4.and_then(|at| if let SocketAddr::V4(at) = at { Some(at) } else { None }),
                outbound_v6: outbound_v6.and_then(|at| if let SocketAddr::V6(at) = at { Some(at) } else { None }),
                hbone: hbone.as_fd(),
                inbound: inbound.as_fd(),
            };
            self.redirect.enrol(&capture).map_err(EnrolError::Capture)
        });
        match result {
            Ok(()) => Ok(enrolled),
            Err(error) => {
                enrolled.stage.send_replace(Stage::Left);
                self.leaving.push(enrolled);
                Err(error)
            }
        }
    }

    /// Where a pod is, and with which addresses: in a namespace that is its own.
    fn place(&self, candidate: &Candidate<'_>) -> Result<(Arc<Pod>, Vec<IpAddr>), EnrolError> {
        let Candidate { pod, workload, found } = candidate;
        let nowhere = match self.places.namespaces.authority() {
            Authority::Mesh => EnrolError::NoNetns,
            Authority::Zds => EnrolError::NotSent,
        };
        let found = found.as_ref().ok_or(nowhere)?;
        let identity = workload.as_ref().ok_or(EnrolError::NoWorkload)?.identity();
        let addresses = found.addresses(pod);
        if addresses.is_empty() {
            return Err(EnrolError::NoAddresses);
        }
        let netns = found.place.open()?;
        if self.places.own.contains(&netns.id()) {
            return Err(EnrolError::Nodes(netns.path().to_owned()));
        }
        if let Some(other) = self.enrolled.values().find(|other| other.pod.netns.id() == netns.id()) {
            return Err(EnrolError::Taken { netns: netns.path().to_owned(), of: other.pod.uid.clone() });
        }
        Ok((Pod::new(pod.uid.clone(), identity, netns), addresses.to_vec()))
    }

    /// Hands the listeners to the workers and waits until each accepts.
    async fn begin(
        &self,
        pod: &Arc<Pod>,
        all: Vec<listeners::Listeners>,
        stage: &watch::Receiver<Stage>,
    ) -> Result<(), EnrolError> {
        for (number, (worker, listeners)) in self.workers.iter().zip(all).enumerate() {
            let (serving, served) = oneshot::channel();
            let order = Order::Serve { pod: pod.clone(), listeners, stage: stage.clone(), serving };
            let begun = timeout(BEGIN, async {
                worker.send(order).await.ok()?;
                served.await.ok()
            });
            match begun.await {
                Ok(Some(result)) => result.map_err(EnrolError::Listen)?,
                Ok(None) | Err(_) => return Err(EnrolError::Worker(number)),
            }
        }
        Ok(())
    }

    /// New connections are no longer caught; those open go on, and keep their routing until the last one ends.
    /// A pod that is still wanted is let go of only when it is caught anew.
    fn leave(&mut self, uid: &WorkloadUid, wanted: bool) {
        let Some(enrolled) = self.enrolled.remove(uid) else { return };
        self.held.entry(uid.clone()).or_default().push(enrolled.pod.netns.cookie());
        if !wanted {
            self.let_go(|other| other != uid);
        }
        let gone = !enrolled.pod.netns.is_current();
        enrolled.stage.send_replace(if gone { Stage::Gone } else { Stage::Left });
        tracing::info!(pod = %uid, gone, connections = enrolled.pod.connections(), "left");
        self.shared.metrics.proxies_stopped.inc();
        self.leaving.push(enrolled);
    }

    /// Takes out of the kernel's maps what was left, save for pods that are `wanted` and not caught anew yet.
    fn let_go(&mut self, wanted: impl Fn(&WorkloadUid) -> bool) {
        let Self { held, enrolled, redirect, .. } = self;
        held.retain(|uid, cookies| {
            if wanted(uid) && !enrolled.contains_key(uid) {
                return true;
            }
            cookies.retain(|cookie| {
                if enrolled.values().any(|e| e.pod.netns.cookie() == *cookie) {
                    return false;
                }
                let withdrawn = redirect.withdraw(*cookie);
                if let Err(error) = &withdrawn {
                    tracing::error!(pod = %uid, error = %chain(error), "cannot be taken out of the kernel's maps");
                }
                withdrawn.is_err()
            });
            !cookies.is_empty()
        });
    }

    /// What an earlier agent caught and the mesh no longer wants is let go, once.
    fn drop_leftovers(&mut self) {
        if self.adopted {
            return;
        }
        let cookies = match self.redirect.enrolled() {
            Ok(cookies) => cookies,
            Err(error) => {
                tracing::error!(error = %chain(&error), "cannot read what an earlier agent caught");
                return;
            }
        };
        self.adopted = true;
        for cookie in cookies {
            // A pod that cannot be enrolled now stays caught, and so refused: it must not fall back to plaintext.
            let ours = self.enrolled.values().any(|e| e.pod.netns.cookie() == cookie);
            if ours || !self.failing.is_empty() {
                self.adopted &= ours;
                continue;
            }
            tracing::info!(cookie, "left by an earlier agent and no longer wanted: let go");
            if let Err(error) = self.redirect.withdraw(cookie) {
                tracing::error!(cookie, error = %chain(&error), "cannot be taken out of the kernel's maps");
            }
        }
        if self.adopted {
            self.drop_leftover_routing();
        }
    }

    /// Routing that an agent which died left in pods that it had already left, or that are gone.
    fn drop_leftover_routing(&self) {
        let ours = |cookie: &u64| {
            let pods = self.enrolled.values().chain(&self.leaving);
            pods.into_iter().any(|e| e.pod.netns.cookie() == *cookie)
        };
        let caught = self.redirect.enrolled().unwrap_or_default();
        let noted = self.routed.all().unwrap_or_default();
        let left = noted.into_iter().filter(|cookie| !ours(cookie) && !caught.contains(cookie)).collect();
        for netns in self.routed.find(&left) {
            let removed = netns
                .as_fd()
                .try_clone_to_owned()
                .map_err(EnrolError::Listen)
                .and_then(|fd| ROUTING.remove(&weir_netlink::NetNs::from_fd(fd)).map_err(EnrolError::Routing));
            if let Err(error) = removed {
                tracing::error!(netns = %netns.path().display(), error = %chain(&error), "routing left behind");
                return;
            }
        }
        for cookie in left {
            if let Err(error) = self.routed.forget(cookie) {
                tracing::error!(cookie, %error, "a note left behind");
            }
        }
    }

    /// Takes the routing out of pods whose last connection ended, and cuts the connections of those that vanished since they left:
    /// an object may go before its namespace does.
    fn forget_left(&mut self) {
        let (enrolled, routed) = (&self.enrolled, &self.routed);
        self.leaving.retain(|left| {
            if *left.stage.borrow() != Stage::Gone && !left.pod.netns.is_current() {
                left.stage.send_replace(Stage::Gone);
            }
            if left.pod.connections() > 0 && *left.stage.borrow() != Stage::Gone {
                return true;
            }
            let again = enrolled.values().any(|e| e.pod.netns.id() == left.pod.netns.id());
            if !again && let Err(error) = unroute(&left.pod, routed) {
                tracing::error!(pod = %left.pod.uid, error = %chain(&error), "routing left behind");
            }
            false
        });
    }

    fn publish(&self, world: &World) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.shared.metrics.active_proxies.set(count(self.enrolled.len()));
        self.shared.metrics.pending_proxies.set(count(self.failing.len()));
        let mut states = BTreeMap::new();
        for left in &self.leaving {
            states.insert(left.pod.uid.to_string(), PodState::Leaving(left.pod.connections()));
        }
        for pod in world.local_pods() {
            let state = match (self.enrolled.get(&pod.uid), self.failing.get(&pod.uid)) {
                (Some(enrolled), _) => PodState::Enrolled {
                    cookie: enrolled.pod.netns.cookie(),
                    netns: enrolled.pod.netns.path().to_owned(),
                    id: enrolled.pod.netns.id(),
                },
                (None, Some(reason)) => PodState::Failing(reason.clone()),
                (None, None) if states.contains_key(pod.uid.as_str()) => continue,
                (None, None) if pod.enrolment == Enrolment::Enrolled => PodState::NotSent,
                (None, None) => {
                    let workload = world.workload(&pod.uid);
                    PodState::Outside {
                        why: pod.enrolment,
                        incarnation: Candidate::incarnation(workload.as_ref()).into(),
                    }
                }
            };
            states.insert(pod.uid.to_string(), state);
        }
        self.states.replace(states);
    }

    /// Pods that are to be caught and are not.
    pub(crate) fn failing(&self) -> usize {
        self.failing.len()
    }

    /// What the kernel programs counted.
    pub(crate) fn redirect(&self) -> &Redirect {
        &self.redirect
    }
}

impl Enrolled {
    /// Whether the pod must be enrolled anew: another namespace, other addresses, another identity.
    fn is_stale(&self, candidate: &Candidate<'_>) -> bool {
        let Some(found) = &candidate.found else { return true };
        let identity = candidate.workload.as_ref().map(|workload| workload.identity());
        let addresses = found.addresses(candidate.pod);
        // Addresses that nobody knows any more are those that were known.
        (!addresses.is_empty() && !same(addresses, &self.addresses))
            || identity.as_ref() != Some(&self.pod.identity)
            || !found.place.is(&self.pod.netns)
    }
}

fn unroute(pod: &Pod, routed: &Routed) -> Result<(), EnrolError> {
    ROUTING.remove(&routing_netns(pod)?).map_err(EnrolError::Routing)?;
    routed.forget(pod.netns.cookie()).map_err(EnrolError::Note)
}

fn routing_netns(pod: &Pod) -> Result<weir_netlink::NetNs, EnrolError> {
    pod.netns.as_fd().try_clone_to_owned().map(weir_netlink::NetNs::from_fd).map_err(EnrolError::Listen)
}

/// What an error comes from.
fn last<'e>(error: &'e (dyn std::error::Error + 'static)) -> &'e (dyn std::error::Error + 'static) {
    std::iter::successors(Some(error), |one| one.source()).last().unwrap_or(error)
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        next = cause.source();
    }
    line
}
