//! `cgroup/getpeername4`, `cgroup/getpeername6`: the application of a caught socket sees the peer it asked for.
//! (Of a multipath TCP socket the kernel shows these hooks another socket than it showed `connect`: that
//! application sees the agent's listener.)

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use weir_ebpf_common::{Note, NoteKind};

use crate::{
    connect::{write_ip6, write_port},
    maps::note,
};

/// The only answer these hooks may give.
const PROCEED: i32 = 1;

#[cgroup_sock_addr(getpeername4)]
pub fn weir_getpeername4(ctx: SockAddrContext) -> i32 {
    if let Some(origin) = caught(&ctx) {
        let at = ctx.sock_addr;
        // SAFETY: the kernel lends a valid context, and getpeername4 may write both.
        unsafe {
            (*at).user_ip4 = origin.address.v4_word();
            write_port(at, origin.port);
        }
    }
    PROCEED
}

#[cgroup_sock_addr(getpeername6)]
pub fn weir_getpeername6(ctx: SockAddrContext) -> i32 {
    if let Some(origin) = caught(&ctx) {
        let at = ctx.sock_addr;
        // SAFETY: the kernel lends a valid context, and getpeername6 may write both.
        unsafe {
            write_ip6(at, &origin.address);
            write_port(at, origin.port);
        }
    }
    PROCEED
}

#[inline(always)]
fn caught(ctx: &SockAddrContext) -> Option<Note> {
    // SAFETY: the kernel lends a valid context; `sk` is never null in it.
    let sk = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
    note(sk).filter(|note| note.kind == NoteKind::Caught.number()).copied()
}
