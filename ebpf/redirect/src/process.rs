//! Who is calling: the agent, or an exempt process of the node? Only meaningful in `connect`, which runs in
//! the caller's context. A socket's mark says nothing: since Linux 5.17 a pod with CAP_NET_RAW sets what it likes.

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid,
    generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id},
};
use weir_ebpf_common::{AgentCgroup, Config, Exemption};

use crate::maps::{AGENTS, HOST_PROCESSES, POD_CGROUPS};

/// How deep below the root a pods' cgroup may be. `kubepods` is at 1, in nested nodes at 2 or 3.
const CGROUP_LEVELS: i32 = 8;

#[inline(always)]
fn process_id() -> u32 {
    // The upper half is what user space calls the process id, the lower half that of the thread.
    let [a, b, c, d, ..] = bpf_get_current_pid_tgid().to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[inline(always)]
fn cgroup_id() -> u64 {
    // SAFETY: the helper takes nothing and only reads the current task.
    unsafe { bpf_get_current_cgroup_id() }
}

/// Is the caller an agent: a registered process which is still in the cgroup it was registered in?
#[inline(always)]
pub fn is_agent() -> bool {
    // SAFETY: the value is copied at once.
    match unsafe { AGENTS.get(process_id()) } {
        Some(registered) => registered.id == cgroup_id(),
        None => false,
    }
}

/// Registers the caller as an agent.
#[inline(always)]
pub fn register() -> bool {
    AGENTS.insert(process_id(), AgentCgroup { id: cgroup_id() }, 0).is_ok()
}

/// May the caller, a process in the node's own netns, reach pods without the mesh?
#[inline(always)]
pub fn is_exempt(config: &Config) -> bool {
    if config.exemption == Exemption::NotInPods.number() {
        !is_in_pod()
    } else if config.exemption == Exemption::Processes.number() {
        HOST_PROCESSES.get_ptr(process_id()).is_some()
    } else {
        false
    }
}

#[inline(always)]
fn is_in_pod() -> bool {
    for level in 1..=CGROUP_LEVELS {
        // SAFETY: the helper takes a number and only reads the current task; it answers 0 below the task's own level.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id == 0 {
            return false;
        }
        if POD_CGROUPS.get_ptr(id).is_some() {
            return true;
        }
    }
    false
}
