//! An enrolled pod of this node, as every worker sees it.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use weir_model::{SpiffeId, WorkloadUid};
use weir_net::Netns;
use weir_netlink::PodRouting;

/// The mark on sockets that carry a client's address; the pod's routing rule brings their replies back to the agent.
pub(crate) const MARK: u32 = 0x7765_6972;
/// The routing table of that rule.
pub(crate) const TABLE: u32 = 15_008;
/// Rule, route and setting in a pod's namespace.
pub(crate) const ROUTING: PodRouting = PodRouting::new(MARK, TABLE);

/// How far a pod is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Served.
    Serving,
    /// Nothing new is taken; what is open goes on.
    Left,
    /// Its network namespace is gone: what is open leads nowhere.
    Gone,
}

/// One enrolment of one pod. Connections hold it, so that the last of them can be waited for.
#[derive(Debug)]
pub(crate) struct Pod {
    /// The workload inside.
    pub(crate) uid: WorkloadUid,
    /// Who it is.
    pub(crate) identity: SpiffeId,
    /// Its network namespace.
    pub(crate) netns: Arc<Netns>,
    /// Ports of the agent's own listeners inside.
    pub(crate) own_ports: OnceLock<Vec<u16>>,
    /// Connections open now.
    connections: AtomicUsize,
}

impl Pod {
    pub(crate) fn new(uid: WorkloadUid, identity: SpiffeId, netns: Arc<Netns>) -> Arc<Self> {
        Arc::new(Self { uid, identity, netns, own_ports: OnceLock::new(), connections: AtomicUsize::new(0) })
    }

    /// Ports of the agent's own listeners inside.
    pub(crate) fn own_ports(&self) -> &[u16] {
        self.own_ports.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// Counts a connection for as long as the answer lives.
    pub(crate) fn connection(self: &Arc<Self>) -> Connection {
        self.connections.fetch_add(1, Relaxed);
        Connection(self.clone())
    }

    /// Connections open now.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }
}

/// One connection of a pod, counted.
#[derive(Debug)]
pub(crate) struct Connection(Arc<Pod>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}
