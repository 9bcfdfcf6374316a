//! The kernel programs in place: starting them (or taking over those an earlier agent left), enrolling pods.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    net::{IpAddr, Ipv6Addr, UdpSocket},
    os::fd::AsFd as _,
    path::Path,
};

use aya::{
    Ebpf,
    maps::MapError,
    programs::{SkLookup, links::FdLink},
};
use weir_ebpf_common::{Address, Enrolled, Note, NoteKind, Port};

use crate::{
    Capture, Counters, Error, Origins, Settings, cgroup,
    cleanup::{files, remove_link},
    host,
    maps::Maps,
    object::{self, CGROUP_PROGRAMS, Pins, SK_LOOKUP},
    sys,
};

/// The kernel programs in place. Dropping it changes nothing in the kernel: pods stay captured, and refused once
/// their listeners are closed.
pub struct Redirect {
    pins: Pins,
    object: Ebpf,
    maps: Maps,
    /// Netns cookie of the node.
    host_cookie: u64,
}

impl std::fmt::Debug for Redirect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redirect").field("pins", &self.pins).finish_non_exhaustive()
    }
}

impl Redirect {
    /// Checks the node, loads the programs, attaches them to the root cgroup and registers this process as the agent, from
    /// the thread whose netns is the node's. What an earlier agent left pinned is adopted: its maps stay, its
    /// programs are exchanged for this version's, one by one and each atomically.
    ///
    /// # Errors
    /// What the node lacks, in words a person can act on; [`Error::LayoutDiffers`] when adoption is impossible.
    pub fn start(settings: &Settings) -> Result<Self, Error> {
        host::check()?;
        let pins = Pins { root: settings.pin_dir.clone() };
        let folders = [pins.maps(), pins.links(), pins.pods()];
        host::make_pin_dir(&pins.root, &folders)?;
        let root = cgroup::root(settings.cgroup_root.as_deref())?;
        cgroup::leave_root(&root, &pins.root)?;
        if let Some(map) = pins.foreign_map()? {
            if !files(&pins.pods())?.is_empty() {
                return Err(Error::LayoutDiffers { map, pin_dir: pins.root });
            }
            tracing::info!(map, "pinned maps have another layout and no pod depends on them: removing them");
            remove_pins(&pins)?;
        }
        let mut object = pins.load(settings.max_flows)?;
        let maps = Maps::of(&mut object)?;
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
            .or_else(|_| UdpSocket::bind(("0.0.0.0", 0)))
            .map_err(Error::Socket)?;
        let host_cookie =
            sys::netns_cookie(&socket).map_err(|_| Error::Kernel { feature: "SO_NETNS_COOKIE", since: "5.14" })?;
        let mut redirect = Self { pins, object, maps, host_cookie };
        redirect.maps.configure(host_cookie, &settings.host_exemption)?;
        redirect.attach_all(&root)?;
        redirect.claim(&socket)?;
        redirect.check_take()?;
        sys::give_memory_back();
        Ok(redirect)
    }

    /// Captures a pod, or one an earlier agent captured, anew. From the moment it returns every new TCP connection of the
    /// pod and to the pod arrives at the given listeners.
    ///
    /// # Errors
    /// The pod is then as it was before: not captured, or captured and refused.
    pub fn enrol(&mut self, pod: &Capture<'_>) -> Result<(), Error> {
        if pod.cookie == self.host_cookie {
            return Err(Error::HostNetwork(pod.cookie));
        }
        if pod.addresses.is_empty() {
            return Err(Error::NoAddress(pod.cookie));
        }
        if let Some(address) = pod.addresses.iter().copied().find(is_unusable) {
            return Err(Error::UnusableAddress(address));
        }
        let known = self.enrolled()?.contains(&pod.cookie);
        let result = self.put(pod);
        if result.is_err()
            && !known
            && let Err(error) = self.withdraw(pod.cookie)
        {
            tracing::error!(cookie = pod.cookie, %error, "a pod that failed to enrol could not be withdrawn either");
        }
        result
    }

    /// In this order nothing is given to a listener which is not there, and nothing is caught which cannot be served.
    fn put(&mut self, pod: &Capture<'_>) -> Result<(), Error> {
        self.maps.put_pod(pod)?;
        self.maps.remove_pod(pod.cookie, pod.addresses)?;
        let path = self.pins.pod(pod.cookie);
        if !object::exchange(self.program(SK_LOOKUP)?, SK_LOOKUP, &path)? {
            remove_link(&path)?;
            let link = self.attach_pod(pod)?;
            link.pin(&path).map_err(|source| Error::Pin { path, source })?;
        }
        let v4 = pod.outbound_v4;
        let v6 = pod.outbound_v6;
        let enrolled = Enrolled {
            v4: v4.map_or(Address::ZERO, |listener| Address::from(*listener.ip())),
            v6: v6.map_or(Address::ZERO, |listener| Address::from(*listener.ip())),
            v4_port: Port::new(v4.map_or(0, |listener| listener.port())),
            v6_port: Port::new(v6.map_or(0, |listener| listener.port())),
        };
        self.maps.enrolled.insert(pod.cookie, enrolled, 0).map_err(|source| Error::Map { map: "ENROLLED", source })
    }

    fn attach_pod(&mut self, pod: &Capture<'_>) -> Result<FdLink, Error> {
        let failed = |source| Error::Program { program: SK_LOOKUP, source: Box::new(source) };
        let program = self.object.program_mut(SK_LOOKUP).ok_or(Error::NotInObject(SK_LOOKUP))?;
        let program = <&mut SkLookup>::try_from(program).map_err(failed)?;
        let id = program.attach(pod.netns).map_err(failed)?;
        Ok(program.take_link(id).map_err(failed)?.into())
    }

    /// Sets a pod free, whether it still exists or not. Its connections under way are left alone.
    ///
    /// # Errors
    /// [`Error::Map`] or [`Error::File`] when the kernel fails a step; trying again continues.
    pub fn withdraw(&mut self, cookie: u64) -> Result<(), Error> {
        self.maps.remove_enrolled(cookie)?;
        remove_link(&self.pins.pod(cookie))?;
        self.maps.remove_pod(cookie, &[])
    }

    /// The netns cookies of all pods captured, in whole or in part, by this or an earlier agent; ascending.
    ///
    /// # Errors
    /// [`Error::Map`] or [`Error::File`] when the kernel fails to list them.
    pub fn enrolled(&self) -> Result<Vec<u64>, Error> {
        let keys = self.maps.enrolled.keys().collect::<Result<BTreeSet<_>, MapError>>();
        let mut cookies = keys.map_err(|source| Error::Map { map: "ENROLLED", source })?;
        let pinned = files(&self.pins.pods())?;
        cookies.extend(pinned.iter().filter_map(|path| path.file_name()?.to_str()?.parse::<u64>().ok()));
        Ok(cookies.into_iter().collect())
    }

    /// A handle on original destinations, for one worker.
    ///
    /// # Errors
    /// [`Error::MapCall`] when the process has no file descriptor left.
    pub fn origins(&self) -> Result<Origins, Error> {
        let map = self.maps.origins.fd().as_fd();
        Origins::new(map).map_err(|source| Error::MapCall { map: "ORIGINS", source })
    }

    /// What happened so far.
    ///
    /// # Errors
    /// [`Error::Map`] when the kernel fails to tell.
    pub fn counters(&self) -> Result<Counters, Error> {
        self.maps.counters()
    }

    fn program(&self, name: &'static str) -> Result<&aya::programs::Program, Error> {
        self.object.program(name).ok_or(Error::NotInObject(name))
    }

    fn attach_all(&mut self, root: &Path) -> Result<(), Error> {
        let cgroup = File::open(root).map_err(|source| Error::File { path: root.to_owned(), source })?;
        for name in CGROUP_PROGRAMS {
            let path = self.pins.links().join(name);
            if object::exchange(self.program(name)?, name, &path)? {
                continue;
            }
            remove_link(&path)?;
            let link = object::attach(&mut self.object, name, &cgroup)?;
            link.pin(&path).map_err(|source| Error::Pin { path, source })?;
        }
        for path in files(&self.pins.pods())? {
            // A pod that is gone is withdrawn by the agent, which finds it in `enrolled`.
            object::exchange(self.program(SK_LOOKUP)?, SK_LOOKUP, &path)?;
        }
        Ok(())
    }

    /// Registers this process: whoever connects a socket with that note is the agent. The kernel itself writes down the
    /// process and cgroup it sees, whatever pid and cgroup namespaces we are in.
    fn claim(&mut self, socket: &UdpSocket) -> Result<(), Error> {
        self.maps.sweep_agents()?;
        let claim = Note::of(NoteKind::Claim);
        let notes = |source| Error::Map { map: "NOTES", source };
        self.maps.notes.insert(socket, claim, 0).map_err(notes)?;
        let v6 = socket.local_addr().map_err(Error::Socket)?.is_ipv6();
        let nowhere: IpAddr = if v6 { Ipv6Addr::LOCALHOST.into() } else { [127, 0, 0, 1].into() };
        // UDP: nothing is sent, and it does not matter whether there is a route.
        let connected = socket.connect((nowhere, 9));
        let note = self.maps.notes.get(socket, 0).map_err(notes)?;
        let refused = connected.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        if refused || note.kind == NoteKind::Claim.number() { Err(Error::Unclaimed) } else { Ok(()) }
    }

    /// Does the kernel take entries out of the map in one call?
    fn check_take(&self) -> Result<(), Error> {
        let nobody = (Ipv6Addr::UNSPECIFIED, 0).into();
        let taken = self.origins()?.take(weir_ebpf_common::Owner::NOBODY, nobody);
        taken.map(drop).map_err(|_| Error::Kernel { feature: "lookup-and-delete on LRU hash maps", since: "5.14" })
    }
}

/// Loopback and unspecified addresses every pod has.
fn is_unusable(address: &IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified() || address.is_multicast()
}

/// Removes links and maps, when no pod is enrolled.
fn remove_pins(pins: &Pins) -> Result<(), Error> {
    for link in files(&pins.links())? {
        remove_link(&link)?;
    }
    for path in files(&pins.maps())? {
        fs::remove_file(&path).map_err(|source| Error::File { path, source })?;
    }
    Ok(())
}
