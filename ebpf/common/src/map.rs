//! The keys and values of the maps. Changing one changes the ABI: raise [`LAYOUT`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Address, Port};

/// The number of this ABI. Pinned maps of another one are never adopted.
pub const LAYOUT: u32 = 1;

/// The port at which a pod takes HBONE. Istio ambient's, and fixed there.
pub const HBONE_PORT: u16 = 15_008;

macro_rules! map_types {
    ($($(#[$attribute:meta])* struct $name:ident { $($(#[$field_attribute:meta])* $field:ident: $type:ty,)* })*) => { $(
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $($(#[$field_attribute])* pub $field: $type,)* }

        #[cfg(feature = "aya")]
        #[expect(unsafe_code, reason = "aya's marker trait is unsafe to implement")]
        // SAFETY: `Pod` asks that the type can be copied from and to bytes: zerocopy proved FromBytes and IntoBytes.
        unsafe impl aya::Pod for $name {}
    )* };
}

map_types! {
    /// `CONFIG[0]`: written by user space before anything is attached.
    struct Config {
        /// The netns cookie of the agent's own network namespace, the node's.
        host_cookie: u64,
        /// An [`Exemption`] as a number.
        exemption: u32,
        /// [`LAYOUT`] of whoever made the maps.
        layout: u32,
    }

    /// Value of `ENROLLED`, by netns cookie: the pod's own outbound listeners. Port 0: none of that family.
    struct Enrolled {
        /// Address of the IPv4 listener.
        v4: Address,
        /// Address of the IPv6 listener.
        v6: Address,
        /// Port of the IPv4 listener; 0 when there is none.
        v4_port: Port,
        /// Port of the IPv6 listener; 0 when there is none.
        v6_port: Port,
    }

    /// Value of `OWN`, by address: the pod which has that address.
    struct Owner {
        /// The pod's netns cookie.
        cookie: u64,
    }

    /// Key of `LISTENERS`, the map of the pods' inbound listeners.
    struct Slot {
        /// The pod's address.
        address: Address,
        /// A [`SlotKind`] as a number.
        kind: u32,
    }

    /// Key of `ORIGINS`: a connection as the outbound listener sees it.
    struct OriginKey {
        /// Netns cookie of the connecting pod.
        cookie: u64,
        /// Source address of the connection.
        address: Address,
        /// Source port of the connection.
        port: Port,
        /// Always zero.
        zero: [u8; 6],
    }

    /// Value of `ORIGINS`: where the application wanted to go.
    struct Origin {
        /// The original destination address.
        address: Address,
        /// The original destination port.
        port: Port,
        /// Always zero.
        zero: [u8; 2],
    }

    /// Key of `FLOWS`: a TCP 4-tuple, from the side that connects.
    struct Flow {
        /// Who connects.
        source: Address,
        /// To whom.
        destination: Address,
        /// The connecting port.
        source_port: Port,
        /// The port connected to.
        destination_port: Port,
    }

    /// Kept with a socket (`NOTES`, socket storage): what `connect` found out about it.
    struct Note {
        /// The original destination address of a caught socket.
        address: Address,
        /// A [`NoteKind`] as a number.
        kind: u32,
        /// The original destination port of a caught socket.
        port: Port,
        /// Always zero.
        zero: [u8; 2],
    }

    /// Value of `AGENTS`, by thread group id: the cgroup in which that process must be to count as the agent.
    struct AgentCgroup {
        /// The cgroup v2 id.
        id: u64,
    }
}

#[cfg(feature = "aya")]
#[expect(unsafe_code, reason = "aya's marker trait is unsafe to implement")]
// SAFETY: as for the types above.
unsafe impl aya::Pod for Address {}

impl Note {
    /// A note without a destination.
    #[inline(always)]
    pub const fn of(kind: NoteKind) -> Self {
        Self { address: Address::ZERO, kind: kind.number(), port: Port::ZERO, zero: [0; 2] }
    }
}

impl Owner {
    /// The value of [`Self::cookie`] of nobody: the kernel hands out cookies from 1.
    pub const NOBODY: u64 = 0;
}

macro_rules! numbered {
    ($($(#[$attribute:meta])* enum $name:ident { $($(#[$variant_attribute:meta])* $variant:ident = $number:literal,)* })*) => { $(
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_attribute])* $variant,)* }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The number that stands for it in the maps.
            #[inline(always)]
            pub const fn number(self) -> u32 {
                match self { $(Self::$variant => $number,)* }
            }
        }
    )* };
}

numbered! {
    /// What a socket is, in [`Note::kind`].
    enum NoteKind {
        /// Nothing of interest (any more).
        Nothing = 0,
        /// An application's, redirected to the pod's outbound listener.
        Caught = 1,
        /// The agent's, connecting to an application from inside the application's own netns.
        Agent = 2,
        /// Of an exempt process of the node, connecting to a pod.
        Host = 3,
        /// Put by user space: whoever connects this socket is the agent.
        Claim = 4,
    }

    /// Which of a pod's inbound listeners, in [`Slot::kind`].
    enum SlotKind {
        /// Takes HBONE, at [`HBONE_PORT`].
        Hbone = 0,
        /// Takes everything else, in plain text.
        Inbound = 1,
    }

    /// Which processes of the node may reach a pod without the mesh, in [`Config::exemption`].
    enum Exemption {
        /// None at all.
        Nobody = 0,
        /// Those in none of the cgroups in `POD_CGROUPS`.
        NotInPods = 1,
        /// Those in `HOST_PROCESSES`.
        Processes = 2,
    }

    /// Index into `COUNTERS`.
    enum Counter {
        /// Connections of pods handed to the outbound listener.
        Caught = 0,
        /// Connects refused: the pod has no outbound listener of that family.
        RefusedNoListener = 1,
        /// Connects refused: no memory to note the original destination, or the socket.
        RefusedNoMemory = 2,
        /// Connects refused: an application asked for the agent's own listener.
        RefusedToListener = 3,
        /// Original destinations that did not fit in `ORIGINS`; the agent refuses the connection.
        OriginLost = 4,
        /// Flows that did not fit in `FLOWS`.
        FlowLost = 5,
        /// Connections handed to a HBONE listener.
        ToHbone = 6,
        /// Connections handed to a plaintext inbound listener.
        ToInbound = 7,
        /// Connections dropped: the pod's listener is gone (no agent).
        DroppedNoListener = 8,
        /// Connections dropped: the address is of no enrolled pod.
        DroppedUnknownAddress = 9,
        /// Connections passed: made by the agent.
        PassedAgent = 10,
        /// Connections passed: made by an exempt process of the node.
        PassedHost = 11,
        /// Connections passed: the pod talks to itself.
        PassedSelf = 12,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_count_up_from_zero() {
        let check = |numbers: std::vec::Vec<u32>| {
            let want: std::vec::Vec<u32> = (0..).take(numbers.len()).collect();
            assert_eq!(numbers, want);
        };
        check(NoteKind::ALL.iter().map(|k| k.number()).collect());
        check(SlotKind::ALL.iter().map(|k| k.number()).collect());
        check(Exemption::ALL.iter().map(|k| k.number()).collect());
        check(Counter::ALL.iter().map(|k| k.number()).collect());
    }

    #[test]
    fn the_sizes_are_those_of_layout_1() {
        assert_eq!(LAYOUT, 1, "a new layout has new sizes: change them here too");
        let sizes = [
            size_of::<Config>(),
            size_of::<Enrolled>(),
            size_of::<Owner>(),
            size_of::<Slot>(),
            size_of::<OriginKey>(),
            size_of::<Origin>(),
            size_of::<Flow>(),
            size_of::<Note>(),
            size_of::<AgentCgroup>(),
        ];
        assert_eq!(sizes, [16, 36, 8, 20, 32, 20, 36, 24, 8]);
    }
}
