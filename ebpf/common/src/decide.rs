//! What happens to a connection: at the connecting side (`connect4`, `connect6`) and at the pod it arrives at
//! (`sk_lookup`). Map lookups come in as closures, so that the kernel makes only those it needs.

use crate::{Address, Enrolled, Flow, HBONE_PORT, NoteKind, Port, SlotKind};

/// `SOCK_STREAM`. Linux `include/linux/net.h`.
const STREAM: u32 = 1;

/// `IPPROTO_TCP`. IANA protocol numbers.
const TCP: u32 = 6;

/// A socket about to connect, as the hook sees it.
#[derive(Clone, Copy, Debug)]
pub struct Connecting {
    /// Socket type, `SOCK_*`.
    pub kind: u32,
    /// Protocol, `IPPROTO_*`.
    pub protocol: u32,
    /// Netns cookie of the socket.
    pub cookie: u64,
    /// The destination address asked for.
    pub destination: Address,
    /// The destination port asked for.
    pub port: Port,
}

impl Connecting {
    /// Only TCP is caught.
    #[inline(always)]
    pub const fn is_tcp(&self) -> bool {
        self.kind == STREAM && self.protocol == TCP
    }

    /// The pod (or node) itself, or nowhere TCP can go.
    #[inline(always)]
    const fn is_never_caught(&self) -> bool {
        self.destination.is_loopback() || self.destination.is_unspecified() || self.destination.is_group()
    }
}

/// What to do with a connecting socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConnect {
    /// Let it go where it wants.
    Leave,
    /// Remember its destination and send it to this listener.
    Redirect {
        /// The listener's address: IPv4 exactly when the destination is.
        address: Address,
        /// The listener's port.
        port: Port,
    },
    /// Refuse it: the pod has no listener of that family.
    RefuseNoListener,
    /// Refuse it: it asks for the agent's listener itself, which has no original destination to give.
    RefuseToListener,
}

/// What becomes of an application's socket in the netns of an enrolled `pod`. `owner` says whose address it is.
#[inline(always)]
pub fn on_connect(socket: &Connecting, pod: &Enrolled, owner: impl FnOnce(&Address) -> Option<u64>) -> OnConnect {
    if !socket.is_tcp() || socket.is_never_caught() {
        return OnConnect::Leave;
    }
    let (address, port) = if socket.destination.is_v4() { (pod.v4, pod.v4_port) } else { (pod.v6, pod.v6_port) };
    if owner(&socket.destination) == Some(socket.cookie) {
        let to_listener = port != Port::ZERO && socket.destination == address && socket.port == port;
        return if to_listener { OnConnect::RefuseToListener } else { OnConnect::Leave };
    }
    if port == Port::ZERO { OnConnect::RefuseNoListener } else { OnConnect::Redirect { address, port } }
}

/// Is this socket of the agent a delivery: from inside a pod's netns to that pod? Only such a flow passes
/// `sk_lookup`; the agent's connections to a pod from anywhere else take the pod's front door.
#[inline(always)]
pub fn on_agent_connect(socket: &Connecting, owner: impl FnOnce(&Address) -> Option<u64>) -> NoteKind {
    if socket.is_tcp() && !socket.is_never_caught() && owner(&socket.destination) == Some(socket.cookie) {
        NoteKind::Agent
    } else {
        NoteKind::Nothing
    }
}

/// What to do with a new connection that arrives in a pod's netns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLookup {
    /// Not TCP: none of our business.
    Ignore,
    /// Pass: the pod talks to itself, or was caught and is on its way to its outbound listener.
    PassSelf,
    /// Pass: the agent delivers what policy admitted.
    PassAgent,
    /// Pass: an exempt process of the node, such as a kubelet's probe.
    PassHost,
    /// Give it to this listener of the pod.
    Give(SlotKind),
    /// Drop: the address is of no enrolled pod.
    DropUnknownAddress,
}

/// Who gets the new connection `flow`. `owner` says whose an address is; `noted` what `FLOWS` knows of the flow.
#[inline(always)]
pub fn on_lookup(
    protocol: u32,
    flow: &Flow,
    owner: impl Fn(&Address) -> Option<u64>,
    noted: impl FnOnce(&Flow) -> Option<u32>,
) -> OnLookup {
    if protocol != TCP {
        return OnLookup::Ignore;
    }
    if flow.destination.is_loopback() || flow.source == flow.destination {
        return OnLookup::PassSelf;
    }
    let Some(pod) = owner(&flow.destination) else { return OnLookup::DropUnknownAddress };
    // A delivery keeps the client's address, which may be another one of the very pod's: flows come first.
    match noted(flow) {
        Some(kind) if kind == NoteKind::Agent.number() => return OnLookup::PassAgent,
        Some(kind) if kind == NoteKind::Host.number() => return OnLookup::PassHost,
        Some(kind) if kind == NoteKind::Caught.number() => return OnLookup::PassSelf,
        Some(_) | None => {}
    }
    // From one address of the pod to another one of it.
    if owner(&flow.source) == Some(pod) {
        return OnLookup::PassSelf;
    }
    OnLookup::Give(if flow.destination_port.get() == HBONE_PORT { SlotKind::Hbone } else { SlotKind::Inbound })
}

#[cfg(test)]
mod tests;
