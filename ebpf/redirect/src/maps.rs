//! The maps, and the counting. User space pins them by these names.

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, SkStorage, SockHash},
    helpers::generated::bpf_sk_storage_get,
    macros::btf_map,
};
use weir_ebpf_common::{
    Address, AgentCgroup, Config, Counter, Enrolled, Flow, Note, NoteKind, Origin, OriginKey, Owner, Slot,
};

/// Pods of one node; Kubernetes recommends at most 110.
const PODS: usize = 4096;
/// Addresses of pods: a few each.
const ADDRESSES: usize = 4 * PODS;
/// Two inbound listeners for each address.
const SLOTS: usize = 2 * ADDRESSES;
/// Connections under way at once; user space sets the number it wants.
const FLOWS_DEFAULT: usize = 65_536;
/// Agents alive at once (two during an upgrade) and dead ones not yet swept.
const AGENT_PROCESSES: usize = 64;

/// `BPF_F_NO_PREALLOC`: memory only for what is in the map. Linux `include/uapi/linux/bpf.h`.
const NO_PREALLOC: usize = 1;

/// What user space wrote before attaching.
#[btf_map]
pub static CONFIG: Array<Config, 1> = Array::new();

/// Netns cookie -> the pod's outbound listeners.
#[btf_map]
pub static ENROLLED: HashMap<u64, Enrolled, PODS> = HashMap::new();

/// Address -> whose it is.
#[btf_map]
pub static OWN: HashMap<Address, Owner, ADDRESSES> = HashMap::new();

/// (Address, slot) -> inbound listener. A closed listener vanishes by itself.
#[btf_map]
pub static LISTENERS: SockHash<Slot, SLOTS> = SockHash::new();

/// Connection -> original destination, until the agent takes it. Least recently used ones give way, and the
/// agent refuses a connection it finds nothing for.
#[btf_map]
pub static ORIGINS: LruHashMap<OriginKey, Origin, FLOWS_DEFAULT> = LruHashMap::new();

/// 4-tuple -> `NoteKind` of a connection under way which passes `sk_lookup`.
#[btf_map]
pub static FLOWS: LruHashMap<Flow, u32, FLOWS_DEFAULT> = LruHashMap::new();

/// What `connect` knows of a socket; it dies with the socket.
#[btf_map]
pub static NOTES: SkStorage<Note> = SkStorage::new();

/// Thread group id -> the cgroup in which it is an agent.
#[btf_map]
pub static AGENTS: HashMap<u32, AgentCgroup, AGENT_PROCESSES> = HashMap::new();

/// Ids of the cgroups pods are under.
#[btf_map]
pub static POD_CGROUPS: HashMap<u64, u32, 64, NO_PREALLOC> = HashMap::new();

/// Thread group ids of exempt processes of the node.
#[btf_map]
pub static HOST_PROCESSES: HashMap<u32, u32, 64, NO_PREALLOC> = HashMap::new();

/// How often what happened, by `Counter`, for each CPU.
#[btf_map]
pub static COUNTERS: PerCpuArray<u64, { Counter::ALL.len() }> = PerCpuArray::new();

/// Counts one `counter`.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(cell) = COUNTERS.get_ptr_mut(counter.number()) {
        // SAFETY: the kernel gave this CPU's own cell; a program that interrupts this one may cost a count, no more.
        unsafe { *cell += 1 };
    }
}

/// Whose address this is: a netns cookie.
#[inline(always)]
pub fn owner(address: &Address) -> Option<u64> {
    // SAFETY: the value is copied at once; a stale one is that of a pod just leaving.
    unsafe { OWN.get(address) }.map(|owner| owner.cookie)
}

/// The note of a socket, if it has one.
#[inline(always)]
pub fn note(socket: *mut bpf_sock) -> Option<&'static mut Note> {
    storage(socket, core::ptr::null_mut(), 0)
}

/// Writes the note of a socket; false when the kernel has no memory for it.
#[inline(always)]
pub fn set_note(socket: *mut bpf_sock, new: Note) -> bool {
    let mut initial = new;
    match storage(socket, &raw mut initial, u64::from(BPF_SK_STORAGE_GET_F_CREATE)) {
        // The storage may be older than this connect.
        Some(note) => {
            *note = new;
            true
        }
        None => false,
    }
}

/// Makes the socket one of no interest, if it was of some.
#[inline(always)]
pub fn clear_note(socket: *mut bpf_sock) {
    if let Some(note) = note(socket) {
        note.kind = NoteKind::Nothing.number();
    }
}

#[inline(always)]
fn storage(socket: *mut bpf_sock, initial: *mut Note, flags: u64) -> Option<&'static mut Note> {
    let map = core::ptr::from_ref(&NOTES).cast_mut().cast();
    // SAFETY: `socket` comes from a context and is not null; the answer is null or the socket's own storage,
    // which outlives the run of the program that holds the socket.
    unsafe { bpf_sk_storage_get(map, socket.cast(), initial.cast(), flags).cast::<Note>().as_mut() }
}
