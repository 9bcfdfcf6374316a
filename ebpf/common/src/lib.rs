//! What the kernel programs and user space share: the types in the maps (the ABI) and the pure decisions
//! about a flow. No effects, no `std`: the host tests exactly what the kernel runs.
#![no_std]

mod address;
mod decide;
mod map;

pub use address::{Address, Port};
pub use decide::{Connecting, OnConnect, OnLookup, on_agent_connect, on_connect, on_lookup};
pub use map::{
    AgentCgroup, Config, Counter, Enrolled, Exemption, Flow, HBONE_PORT, LAYOUT, Note, NoteKind, Origin, OriginKey,
    Owner, Slot, SlotKind,
};

#[cfg(test)]
extern crate std;
