//! `sk_lookup`, attached to each enrolled pod's netns: new TCP connections go to the agent's listeners.

use aya_ebpf::{macros::sk_lookup, programs::SkLookupContext};
use weir_ebpf_common::{Address, Counter, Flow, OnLookup, Port, Slot, SlotKind, on_lookup};

use crate::maps::{FLOWS, LISTENERS, count, owner};

const DROP: u32 = 0;
const PASS: u32 = 1;

/// `AF_INET`. Linux `include/linux/socket.h`.
const INET: u32 = 2;

#[sk_lookup]
pub fn weir_sk_lookup(ctx: SkLookupContext) -> u32 {
    // SAFETY: the kernel lends a valid context.
    let protocol = unsafe { (*ctx.lookup).protocol };
    let flow = flow(&ctx);
    // SAFETY: the value is copied at once.
    match on_lookup(protocol, &flow, owner, |flow| unsafe { FLOWS.get(flow) }.copied()) {
        OnLookup::Ignore => PASS,
        OnLookup::PassSelf => pass(Counter::PassedSelf),
        OnLookup::PassAgent => pass(Counter::PassedAgent),
        OnLookup::PassHost => pass(Counter::PassedHost),
        OnLookup::Give(kind) => give(&ctx, flow.destination, kind),
        OnLookup::DropUnknownAddress => {
            count(Counter::DroppedUnknownAddress);
            DROP
        }
    }
}

#[inline(always)]
fn pass(counter: Counter) -> u32 {
    count(counter);
    PASS
}

#[inline(always)]
fn give(ctx: &SkLookupContext, address: Address, kind: SlotKind) -> u32 {
    let slot = Slot { address, kind: kind.number() };
    // No flags: the kernel goes on to choose among the listener's SO_REUSEPORT group.
    if LISTENERS.redirect_sk_lookup(ctx, slot, 0).is_err() {
        count(Counter::DroppedNoListener);
        return DROP;
    }
    count(match kind {
        SlotKind::Hbone => Counter::ToHbone,
        SlotKind::Inbound => Counter::ToInbound,
    });
    PASS
}

#[inline(always)]
fn flow(ctx: &SkLookupContext) -> Flow {
    let at = ctx.lookup;
    // All words are read whatever the family: LLVM would join reads in two branches into one through a computed
    // pointer, which the verifier refuses.
    // SAFETY: the kernel lends a valid context; each read is of one field, or of one word of it.
    unsafe {
        let (remote4, local4) = (&raw const (*at).remote_ip4, &raw const (*at).local_ip4);
        let v4 = (Address::from_v4_word(remote4.read_volatile()), Address::from_v4_word(local4.read_volatile()));
        let v6 = (read(&raw const (*at).remote_ip6), read(&raw const (*at).local_ip6));
        let (source, destination) = if (*at).family == INET { v4 } else { v6 };
        let remote_port = (&raw const (*at).remote_port).read_volatile();
        let [.., local_high, local_low] = (&raw const (*at).local_port).read_volatile().to_be_bytes();
        Flow {
            source,
            destination,
            source_port: Port::new(u16::from_be(remote_port)),
            destination_port: Port::from_bytes([local_high, local_low]),
        }
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
