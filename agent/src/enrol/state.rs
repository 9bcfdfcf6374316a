//! What is known of local pods, and why one is not caught.

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc};

use tokio::sync::watch;
use weir_model::{Enrolment, WorkloadUid};
use weir_net::{NetnsError, NetnsId};

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
