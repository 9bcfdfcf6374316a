//! `cgroup/connect4`, `cgroup/connect6`: an enrolled pod's TCP is sent to the agent's listener in that pod.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{bpf_sock, bpf_sock_addr},
    helpers::generated::bpf_get_netns_cookie,
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use weir_ebpf_common::{Address, Connecting, Counter, Note, NoteKind, OnConnect, Port, on_agent_connect, on_connect};

use crate::{
    maps::{CONFIG, ENROLLED, clear_note, count, note, owner, set_note},
    process::{is_agent, is_exempt, register},
};

const REFUSE: i32 = 0;
const PROCEED: i32 = 1;

/// What becomes of the system call.
enum Outcome {
    Proceed,
    Refuse,
    Redirect(Address, Port),
}

#[cgroup_sock_addr(connect4)]
pub fn weir_connect4(ctx: SockAddrContext) -> i32 {
    let at = ctx.sock_addr;
    // SAFETY: the kernel lends a valid context; these are its fields, a word each.
    let (destination, port) = unsafe { (Address::from_v4_word((*at).user_ip4), read_port(at)) };
    match outcome(&ctx, destination, port) {
        Outcome::Proceed => PROCEED,
        Outcome::Refuse => REFUSE,
        Outcome::Redirect(address, port) => {
            // SAFETY: as above; connect4 may write both.
            unsafe {
                (*at).user_ip4 = address.v4_word();
                write_port(at, port);
            }
            PROCEED
        }
    }
}

#[cgroup_sock_addr(connect6)]
pub fn weir_connect6(ctx: SockAddrContext) -> i32 {
    let at = ctx.sock_addr;
    // SAFETY: the kernel lends a valid context; these are its fields, a word each.
    let (destination, port) = unsafe { (read_ip6(at), read_port(at)) };
    match outcome(&ctx, destination, port) {
        Outcome::Proceed => PROCEED,
        Outcome::Refuse => REFUSE,
        Outcome::Redirect(address, port) => {
            // SAFETY: as above; connect6 may write both. A v4-mapped destination gets a v4-mapped listener.
            unsafe {
                write_ip6(at, &address);
                write_port(at, port);
            }
            PROCEED
        }
    }
}

#[inline(always)]
fn outcome(ctx: &SockAddrContext, destination: Address, port: Port) -> Outcome {
    let at = ctx.sock_addr;
    // SAFETY: the kernel lends a valid context; `sk` is never null in it.
    let (sk, kind, protocol) = unsafe { ((*at).__bindgen_anon_1.sk, (*at).type_, (*at).protocol) };
    if let Some(note) = note(sk)
        && note.kind == NoteKind::Claim.number()
    {
        note.kind = NoteKind::Nothing.number();
        return if register() { Outcome::Proceed } else { Outcome::Refuse };
    }
    // SAFETY: the helper reads the netns of the context's socket.
    let cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    let socket = Connecting { kind, protocol, cookie, destination, port };
    if !socket.is_tcp() {
        return Outcome::Proceed;
    }
    if is_agent() {
        return agent(sk, &socket);
    }
    // SAFETY: the listeners of a pod are written once, when it is enrolled; a pod enrolled anew gets a new value.
    let Some(pod) = (unsafe { ENROLLED.get(cookie) }) else {
        return node(sk, &socket);
    };
    match on_connect(&socket, pod, owner) {
        OnConnect::Leave => {
            clear_note(sk);
            Outcome::Proceed
        }
        OnConnect::RefuseNoListener => {
            count(Counter::RefusedNoListener);
            Outcome::Refuse
        }
        OnConnect::RefuseToListener => {
            count(Counter::RefusedToListener);
            Outcome::Refuse
        }
        OnConnect::Redirect { address, port } => {
            let note = Note { address: destination, kind: NoteKind::Caught.number(), port: socket.port, zero: [0; 2] };
            if !set_note(sk, note) {
                count(Counter::RefusedNoMemory);
                return Outcome::Refuse;
            }
            count(Counter::Caught);
            Outcome::Redirect(address, port)
        }
    }
}

/// The agent's own socket. A delivery that could not be noted would come back to the agent: refuse it.
#[inline(always)]
fn agent(sk: *mut bpf_sock, socket: &Connecting) -> Outcome {
    if on_agent_connect(socket, owner) != NoteKind::Agent {
        clear_note(sk);
        return Outcome::Proceed;
    }
    if set_note(sk, Note::of(NoteKind::Agent)) {
        Outcome::Proceed
    } else {
        count(Counter::RefusedNoMemory);
        Outcome::Refuse
    }
}

/// A socket of a netns which is not enrolled: noted if it is the node's, exempt, and on its way to a pod.
#[inline(always)]
fn node(sk: *mut bpf_sock, socket: &Connecting) -> Outcome {
    if let Some(config) = CONFIG.get(0)
        && config.host_cookie == socket.cookie
        && owner(&socket.destination).is_some()
        && is_exempt(config)
    {
        // Without the note the connection takes the pod's front door like any other.
        if !set_note(sk, Note::of(NoteKind::Host)) {
            count(Counter::FlowLost);
        }
    } else {
        clear_note(sk);
    }
    Outcome::Proceed
}

/// # Safety
/// `at` must be the context of a `cgroup_sock_addr` program.
#[inline(always)]
unsafe fn read_port(at: *mut bpf_sock_addr) -> Port {
    // SAFETY: the caller's.
    let word = unsafe { (*at).user_port };
    // The word's first two bytes, in network order.
    let [high, low, ..] = word.to_ne_bytes();
    Port::from_bytes([high, low])
}

/// # Safety
/// As [`read_port`].
#[inline(always)]
pub unsafe fn write_port(at: *mut bpf_sock_addr, port: Port) {
    let [high, low] = port.to_bytes();
    // SAFETY: the caller's.
    unsafe { (*at).user_port = u32::from_ne_bytes([high, low, 0, 0]) };
}

/// # Safety
/// As [`read_port`], in a hook of IPv6.
#[inline(always)]
pub unsafe fn read_ip6(at: *mut bpf_sock_addr) -> Address {
    let mut words = [0; 4];
    for (i, word) in words.iter_mut().enumerate() {
        // SAFETY: the caller's; volatile, since the verifier admits no access that joins two words into one.
        *word = unsafe { (&raw const (*at).user_ip6[i]).read_volatile() };
    }
    Address::from_words(words)
}

/// # Safety
/// As [`read_ip6`].
#[inline(always)]
pub unsafe fn write_ip6(at: *mut bpf_sock_addr, address: &Address) {
    for (i, word) in address.words().into_iter().enumerate() {
        // SAFETY: the caller's; volatile as in `read_ip6`.
        unsafe { (&raw mut (*at).user_ip6[i]).write_volatile(word) };
    }
}
