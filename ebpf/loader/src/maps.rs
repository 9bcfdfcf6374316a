//! The maps user space writes, typed, and the counters.

use std::{net::IpAddr, os::fd::AsRawFd as _, path::Path};

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, SkStorage, SockHash},
};
use weir_ebpf_common::{
    Address, AgentCgroup, Config, Counter, Enrolled, Exemption, LAYOUT, Note, Owner, Slot, SlotKind,
};

use crate::{Capture, Error, HostExemption};

/// Dead agents are swept when there are that many: more than are ever alive, fewer than fit.
const MANY_AGENTS: usize = 32;

/// The maps the agent works with.
pub(crate) struct Maps {
    pub(crate) config: Array<MapData, Config>,
    pub(crate) enrolled: HashMap<MapData, u64, Enrolled>,
    own: HashMap<MapData, Address, Owner>,
    listeners: SockHash<MapData, Slot>,
    pub(crate) notes: SkStorage<MapData, Note>,
    agents: HashMap<MapData, u32, AgentCgroup>,
    pod_cgroups: HashMap<MapData, u64, u32>,
    host_processes: HashMap<MapData, u32, u32>,
    counters: PerCpuArray<MapData, u64>,
    pub(crate) origins: MapData,
}

fn open<M: TryFrom<Map, Error = MapError>>(object: &mut Ebpf, map: &'static str) -> Result<M, Error> {
    let found = object.take_map(map).ok_or(Error::NotInObject(map))?;
    M::try_from(found).map_err(|source| Error::Map { map, source })
}

fn on(map: &'static str) -> impl FnOnce(MapError) -> Error {
    move |source| Error::Map { map, source }
}

/// Turns "it was not there" into success.
fn gone(map: &'static str, result: Result<(), MapError>) -> Result<(), Error> {
    match result {
        Ok(()) | Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        // SOCKHASH answers with the bare error number.
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(source) => Err(Error::Map { map, source }),
    }
}

impl Maps {
    pub(crate) fn of(object: &mut Ebpf) -> Result<Self, Error> {
        let origins = match object.take_map("ORIGINS") {
            Some(Map::LruHashMap(origins)) => origins,
            Some(_) | None => return Err(Error::NotInObject("ORIGINS")),
        };
        Ok(Self {
            config: open(object, "CONFIG")?,
            enrolled: open(object, "ENROLLED")?,
            own: open(object, "OWN")?,
            listeners: open(object, "LISTENERS")?,
            notes: open(object, "NOTES")?,
            agents: open(object, "AGENTS")?,
            pod_cgroups: open(object, "POD_CGROUPS")?,
            host_processes: open(object, "HOST_PROCESSES")?,
            counters: open(object, "COUNTERS")?,
            origins,
        })
    }

    /// Writes the configuration. The sets come first: an exemption must never find the sets of another.
    pub(crate) fn configure(&mut self, host_cookie: u64, exemption: &HostExemption) -> Result<(), Error> {
        let (kind, cgroups, processes): (_, &[u64], &[u32]) = match exemption {
            HostExemption::Nobody => (Exemption::Nobody, &[], &[]),
            HostExemption::NotInPods(cgroups) if cgroups.is_empty() => return Err(Error::NoPodCgroups),
            HostExemption::NotInPods(cgroups) => (Exemption::NotInPods, cgroups, &[]),
            HostExemption::Processes(processes) => (Exemption::Processes, &[], processes),
        };
        let nobody = Config { host_cookie, exemption: Exemption::Nobody.number(), layout: LAYOUT };
        self.config.set(0, nobody, 0).map_err(on("CONFIG"))?;
        replace(&mut self.pod_cgroups, "POD_CGROUPS", cgroups)?;
        replace(&mut self.host_processes, "HOST_PROCESSES", processes)?;
        let config = Config { exemption: kind.number(), ..nobody };
        self.config.set(0, config, 0).map_err(on("CONFIG"))
    }

    /// Forgets agents that died without a word, when there are many. (In a pid namespace of its own an agent sees
    /// no other alive; an old one still draining may then be forgotten, and what it connects is refused.)
    pub(crate) fn sweep_agents(&mut self) -> Result<(), Error> {
        let known = self.agents.keys().collect::<Result<Vec<_>, _>>().map_err(on("AGENTS"))?;
        if known.len() >= MANY_AGENTS {
            for process in known.into_iter().filter(|process| !Path::new(&format!("/proc/{process}")).exists()) {
                gone("AGENTS", self.agents.remove(&process))?;
            }
        }
        Ok(())
    }

    /// Puts a pod's inbound listeners in their slots, and notes its addresses as its own.
    pub(crate) fn put_pod(&mut self, pod: &Capture<'_>) -> Result<(), Error> {
        for address in pod.addresses.iter().copied().map(Address::from) {
            // First, since what is removed is found by it.
            let owner = Owner { cookie: pod.cookie };
            self.own.insert(address, owner, 0).map_err(on("OWN"))?;
            for (kind, listener) in [(SlotKind::Hbone, pod.hbone), (SlotKind::Inbound, pod.inbound)] {
                let slot = Slot { address, kind: kind.number() };
                self.listeners.insert(slot, listener.as_raw_fd(), 0).map_err(on("LISTENERS"))?;
            }
        }
        Ok(())
    }

    /// Forgets the addresses of a pod, save those to `keep`, and their listeners. An address which by now is
    /// another pod's is left alone.
    pub(crate) fn remove_pod(&mut self, cookie: u64, keep: &[IpAddr]) -> Result<(), Error> {
        let keep: Vec<_> = keep.iter().copied().map(Address::from).collect();
        let mut theirs = Vec::new();
        for entry in self.own.iter() {
            let (address, owner) = entry.map_err(on("OWN"))?;
            if owner.cookie == cookie && !keep.contains(&address) {
                theirs.push(address);
            }
        }
        for address in theirs {
            gone("OWN", self.own.remove(&address))?;
            for kind in SlotKind::ALL {
                gone("LISTENERS", self.listeners.remove(&Slot { address, kind: kind.number() }))?;
            }
        }
        Ok(())
    }

    /// Stops catching what a pod connects.
    pub(crate) fn remove_enrolled(&mut self, cookie: u64) -> Result<(), Error> {
        gone("ENROLLED", self.enrolled.remove(&cookie))
    }

    pub(crate) fn counters(&self) -> Result<Counters, Error> {
        let mut counts = [0; Counter::ALL.len()];
        for (count, counter) in counts.iter_mut().zip(Counter::ALL) {
            let cells = self.counters.get(&counter.number(), 0).map_err(on("COUNTERS"))?;
            *count = cells.iter().sum();
        }
        Ok(Counters { counts })
    }
}

fn replace<K: aya::Pod + PartialEq>(
    map: &mut HashMap<MapData, K, u32>,
    name: &'static str,
    new: &[K],
) -> Result<(), Error> {
    let old = map.keys().collect::<Result<Vec<_>, _>>().map_err(on(name))?;
    for key in old.iter().filter(|key| !new.contains(key)) {
        gone(name, map.remove(key))?;
    }
    for key in new {
        map.insert(key, 1, 0).map_err(on(name))?;
    }
    Ok(())
}

/// The number of the layout of pinned maps; 0 when whoever made them died before writing it.
pub(crate) fn pinned_layout(path: &Path) -> Result<u32, Error> {
    let map = MapData::from_pin(path).map_err(on("CONFIG"))?;
    let config: Array<_, Config> = Array::try_from(Map::Array(map)).map_err(on("CONFIG"))?;
    Ok(config.get(&0, 0).map_err(on("CONFIG"))?.layout)
}

/// How often what happened since the maps were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    counts: [u64; Counter::ALL.len()],
}

impl Counters {
    /// The count of one counter.
    pub fn of(&self, counter: Counter) -> u64 {
        let index = usize::try_from(counter.number()).expect("there are few counters");
        self.counts[index]
    }
}
