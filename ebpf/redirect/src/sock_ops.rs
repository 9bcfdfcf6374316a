//! `sock_ops`: when a socket that `connect` noted sends its first segment its ports are known. A caught one's
//! original destination is filed where the agent finds it by the peer it accepts; a flow that may pass
//! `sk_lookup` is filed for as long as its handshake takes.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
        BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE,
    },
    helpers::generated::bpf_get_netns_cookie,
    macros::sock_ops,
    programs::SockOpsContext,
};
use weir_ebpf_common::{Address, Counter, Flow, Note, NoteKind, Origin, OriginKey, Port};

use crate::maps::{FLOWS, ORIGINS, count, note};

/// `AF_INET`. Linux `include/linux/socket.h`.
const INET: u32 = 2;

#[sock_ops]
pub fn weir_sock_ops(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => connecting(&ctx),
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => forget(&ctx),
        BPF_SOCK_OPS_STATE_CB if ctx.arg(1) == BPF_TCP_CLOSE => forget(&ctx),
        _ => {}
    }
    1
}

#[inline(always)]
fn connecting(ctx: &SockOpsContext) {
    let Some(note) = noted(ctx) else { return };
    let flow = flow(ctx);
    if note.kind == NoteKind::Caught.number() {
        // SAFETY: the helper reads the netns of the context's socket.
        let cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
        let key = OriginKey { cookie, address: flow.source, port: flow.source_port, zero: [0; 6] };
        let origin = Origin { address: note.address, port: note.port, zero: [0; 2] };
        if ORIGINS.insert(key, origin, 0).is_err() {
            count(Counter::OriginLost);
        }
    }
    if passes(&note, &flow) {
        if FLOWS.insert(flow, note.kind, 0).is_err() {
            count(Counter::FlowLost);
            return;
        }
        // Without it an attempt that fails would leave its entry behind, until it is the least recently used.
        let flags = ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG;
        let _ = ctx.set_cb_flags(i32::from_ne_bytes(flags.to_ne_bytes()));
    }
}

#[inline(always)]
fn forget(ctx: &SockOpsContext) {
    let Some(note) = noted(ctx) else { return };
    let flow = flow(ctx);
    if passes(&note, &flow) {
        let _ = FLOWS.remove(flow);
    }
}

/// Must `sk_lookup` know of this flow to pass it? A caught one usually comes from the very address of the
/// listener it is sent to, which passes by itself; unless the application chose another source.
#[inline(always)]
fn passes(note: &Note, flow: &Flow) -> bool {
    note.kind == NoteKind::Agent.number()
        || note.kind == NoteKind::Host.number()
        || (note.kind == NoteKind::Caught.number() && flow.source != flow.destination)
}

#[inline(always)]
fn noted(ctx: &SockOpsContext) -> Option<Note> {
    // SAFETY: the kernel lends a valid context.
    let sk = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if sk.is_null() {
        return None;
    }
    note(sk).copied()
}

#[inline(always)]
fn flow(ctx: &SockOpsContext) -> Flow {
    // All words are read whatever the family: LLVM would join reads in two branches into one through a computed
    // pointer, which the verifier refuses.
    // SAFETY: the kernel lends a valid context; each read is of one field, or of one word of it.
    let (v4, v6) = unsafe {
        let (local4, remote4) = (&raw const (*ctx.ops).local_ip4, &raw const (*ctx.ops).remote_ip4);
        (
            (Address::from_v4_word(local4.read_volatile()), Address::from_v4_word(remote4.read_volatile())),
            (read(&raw const (*ctx.ops).local_ip6), read(&raw const (*ctx.ops).remote_ip6)),
        )
    };
    let (source, destination) = if ctx.family() == INET { v4 } else { v6 };
    // The kernel gives the local port in host order, the remote one in network order in the word's last two bytes.
    let [.., local_high, local_low] = ctx.local_port().to_be_bytes();
    let [.., remote_high, remote_low] = ctx.remote_port().to_ne_bytes();
    Flow {
        source,
        destination,
        source_port: Port::from_bytes([local_high, local_low]),
        destination_port: Port::from_bytes([remote_high, remote_low]),
    }
}

/// # Safety
/// `words` must be four words of a context.
#[inline(always)]
unsafe fn read(words: *const [u32; 4]) -> Address {
    let mut copy = [0; 4];
    for (i, word) in copy.iter_mut().enumerate() {
        // SAFETY: the caller's; volatile, since the verifier admits no access that joins two words into one.
        *word = unsafe { (&raw const (*words)[i]).read_volatile() };
    }
    Address::from_words(copy)
}
