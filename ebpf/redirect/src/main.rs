//! The kernel programs. They see connections of the whole node and touch those of enrolled pods: `connect`
//! sends a pod's TCP to the agent's listener in that pod, `sock_ops` tells the agent where it was going,
//! `getpeername` keeps the application from noticing, `sk_lookup` gives a pod's inbound TCP to the agent.
//! What is decided is in `weir-ebpf-common`; here is only the reading of contexts and maps.
#![no_std]
#![no_main]

mod connect;
mod getpeername;
mod maps;
mod process;
mod sk_lookup;
mod sock_ops;

/// Never runs: the verifier admits no program in which a panic can be reached.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// What the kernel reads before it lends functions that are for GPL programs only. None of them is used.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";
