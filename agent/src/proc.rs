//! Pods' network namespaces by their processes: the uid of the pod stands in the cgroup that the kubelet or the runtime made for them.
//! In: `/proc` and which pods are looked for. Out: namespaces that hold the addresses of their pods, and never the node's own.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Read},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};
use weir_model::{WorkloadUid, canonical_ip};
use weir_net::{Netns, NetnsId};

use crate::{enrol::chain, namespaces::Namespaces};

/// The shortest time between two looks, and the longest while nothing is found.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// Processes that are looked at.
const PROCESSES: usize = 65_536;
/// The longest file of a process that is read, in bytes.
const FILE_BOUND: u64 = 16 << 10;
/// Namespaces that are tried for one pod: a pod may make more for itself.
const TRIED: usize = 16;
/// How deep the kubelet's part of the cgroup tree may be: kind and systemd put it below a slice or two.
const DEPTH: usize = 4;

/// A pod that is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) uid: WorkloadUid,
    /// `metadata.uid`.
    pub(crate) incarnation: Arc<str>,
    /// What its namespace must hold.
    pub(crate) addresses: Vec<IpAddr>,
}

/// When to look, and who looks now.
pub(crate) struct Look {
    proc: PathBuf,
    pause: Duration,
    next: Instant,
    last: Vec<Wanted>,
    looking: Option<JoinHandle<()>>,
}

impl Look {
    pub(crate) fn new(proc: PathBuf) -> Self {
        Self { proc, pause: PAUSES[0], next: Instant::now(), last: Vec::new(), looking: None }
    }

    /// Looks for pods that nobody says the namespace of, on a thread of its own; `namespaces` is told what was found. Pods whose
    /// addresses or uid are not known yet cannot be told from others, and are not looked for.
    pub(crate) async fn step(&mut self, mut missing: Vec<Wanted>, namespaces: &Namespaces) {
        if let Some(looking) = self.looking.take_if(|looking| looking.is_finished())
            && let Err(error) = looking.await
        {
            tracing::error!(%error, "looking for pods by their processes");
        }
        missing.retain(|pod| !pod.incarnation.is_empty() && !pod.addresses.is_empty());
        missing.sort_unstable_by(|a, b| a.uid.cmp(&b.uid));
        if self.looking.is_some() {
            return;
        }
        let (now, changed) = (Instant::now(), missing != self.last);
        // A second at least, also for pods that come and go quickly.
        let due = if changed { self.next - (self.pause - PAUSES[0]) } else { self.next };
        if missing.is_empty() || now < due {
            return;
        }
        self.pause = if changed { PAUSES[0] } else { (self.pause * 2).min(PAUSES[1]) };
        self.next = now + self.pause;
        self.last.clone_from(&missing);
        let (proc, namespaces) = (self.proc.clone(), namespaces.clone());
        self.looking = Some(tokio::task::spawn_blocking(move || {
            let found = scan(&proc, &missing);
            namespaces.looked(&missing, found);
        }));
    }
}

/// The namespaces of those that are found.
fn scan(proc: &Path, wanted: &[Wanted]) -> HashMap<WorkloadUid, Arc<Netns>> {
    let own = match own(proc) {
        Ok(own) => own,
        Err(error) => {
            tracing::error!(proc = %proc.display(), %error, "pods are not looked for: the node's own namespace is not known");
            return HashMap::new();
        }
    };
    let candidates = candidates(proc, &own, wanted);
    let mut found = HashMap::new();
    for pod in wanted {
        let of = candidates.get(&*pod.incarnation).map(Vec::as_slice).unwrap_or_default();
        if let Some(netns) = of.iter().take(TRIED).find_map(|candidate| candidate.open(proc, pod)) {
            found.insert(pod.uid.clone(), Arc::new(netns));
        }
    }
    found
}

/// The namespaces that are the node's, and so no pod's: that of its first process, and the agent's. The first process may be out of
/// reach where even the node is in a container; then it is the addresses that tell a pod's namespace from all others.
fn own(proc: &Path) -> io::Result<Vec<NetnsId>> {
    let first = match NetnsId::at(&proc.join("1/ns/net")) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        first => Some(first?),
    };
    Ok(first.into_iter().chain([NetnsId::own()?]).collect())
}

/// A namespace that a process of a pod is in.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// When the process began, in ticks since the machine did. The oldest is the one that holds the pod's namespaces.
    began: u64,
    process: u32,
}

/// Candidates by pod uid, the oldest process of each namespace first.
fn candidates(proc: &Path, own: &[NetnsId], wanted: &[Wanted]) -> HashMap<String, Vec<Candidate>> {
    let mut found: HashMap<String, BTreeMap<(u64, u32), NetnsId>> = HashMap::new();
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for process in numbers.take(PROCESSES) {
        let at = proc.join(process.to_string());
        // Cheapest first: most processes are the node's own.
        let Ok(id) = NetnsId::at(&at.join("ns/net")) else { continue };
        if own.contains(&id) {
            continue;
        }
        let Some(uid) = read(&at.join("cgroup")).as_deref().and_then(pod_of) else { continue };
        if !wanted.iter().any(|pod| *pod.incarnation == *uid) {
            continue;
        }
        let Some(began) = read(&at.join("stat")).as_deref().and_then(began) else { continue };
        found.entry(uid).or_default().insert((began, process), id);
    }
    let first_of_each = |all: BTreeMap<(u64, u32), NetnsId>| {
        let mut seen = Vec::new();
        let mut first = Vec::new();
        for ((began, process), id) in all {
            if !seen.contains(&id) && seen.len() < TRIED {
                seen.push(id);
                first.push(Candidate { began, process });
            }
        }
        first
    };
    found.into_iter().map(|(uid, all)| (uid, first_of_each(all))).collect()
}

impl Candidate {
    /// The namespace, if it is the pod's: its process is still the one that was looked at, and it holds the pod's addresses. A
    /// process of one pod may be in another's namespace, or in one that it made for itself.
    fn open(&self, proc: &Path, pod: &Wanted) -> Option<Netns> {
        let at = proc.join(self.process.to_string());
        let netns = Netns::open(&at.join("ns/net"))
            .inspect_err(|error| tracing::debug!(pod = %pod.uid, error = %chain(error), "a process that went away"))
            .ok()?;
        let same = read(&at.join("stat")).as_deref().and_then(began) == Some(self.began)
            && read(&at.join("cgroup")).as_deref().and_then(pod_of).as_deref() == Some(&*pod.incarnation);
        let held = netns.run(|| Ok(nix::ifaddrs::getifaddrs()?.filter_map(|one| ip(&one)).collect::<Vec<_>>()));
        let held =
            held.inspect_err(|error| tracing::warn!(pod = %pod.uid, %error, "the addresses of a namespace")).ok()?;
        let holds = pod.addresses.iter().all(|address| held.contains(address));
        if !holds {
            tracing::warn!(
                pod = %pod.uid, netns = %netns.path().display(), addresses = ?pod.addresses, ?held,
                "a process of the pod is in a namespace without the pod's addresses: not taken for the pod's"
            );
        }
        (same && holds).then_some(netns)
    }
}

fn ip(interface: &nix::ifaddrs::InterfaceAddress) -> Option<IpAddr> {
    let address = interface.address.as_ref()?;
    let v4 = address.as_sockaddr_in().map(|at| IpAddr::V4(at.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|at| canonical_ip(IpAddr::V6(at.ip()))))
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(FILE_BOUND).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The 22nd field of `/proc/PID/stat`. The second may hold anything. proc_pid_stat(5).
fn began(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(") ")?;
    after.split(' ').nth(19)?.parse().ok()
}

/// The uid of the pod whose cgroups these are, as `/proc/PID/cgroup` has them: one for each hierarchy, of which none may name
/// another pod.
fn pod_of(cgroups: &str) -> Option<String> {
    let mut found: Option<String> = None;
    for line in cgroups.lines() {
        let (_, path) = line.split_once(':')?.1.split_once(':')?;
        let Some(uid) = pod_of_path(path) else { continue };
        if found.as_ref().is_some_and(|other| *other != uid) {
            return None;
        }
        found = Some(uid);
    }
    found
}

/// The uid in one path. What the kubelet made comes first: below it, a pod may make what it likes. The path of a process outside the
/// reader's own cgroup namespace begins with `..`, and then lacks what both have above them. cgroup_namespaces(7).
fn pod_of_path(path: &str) -> Option<String> {
    let mut parts = path.strip_prefix('/')?.split('/').peekable();
    let mut up = 0;
    while parts.next_if_eq(&"..").is_some() {
        up += 1;
    }
    let is_root = |part: &str| part == "kubepods" || part == "kubepods.slice" || part.ends_with("-kubepods.slice");
    let mut parts: Vec<&str> = parts.take(DEPTH + 3).collect();
    match (parts.iter().take(DEPTH).position(|part| is_root(part)), up) {
        (Some(root), 0) => drop(parts.drain(..=root)),
        (Some(0), _) => drop(parts.remove(0)),
        // Two at least: one leads from the reader's container to its own pod, whose folders the pod may make.
        (None, 2..) => {}
        (Some(_) | None, _) => return None,
    }
    let is_class = |part: &str| {
        let systemd = part.strip_suffix(".slice").is_some_and(|part| {
            ["kubepods-burstable", "kubepods-besteffort"].iter().any(|class| is_or_ends_after_dash(part, class))
        });
        part == "burstable" || part == "besteffort" || systemd
    };
    if parts.first().is_some_and(|part| is_class(part)) {
        parts.remove(0);
    }
    uid_of(parts.first()?)
}

fn is_or_ends_after_dash(text: &str, end: &str) -> bool {
    text.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('-'))
}

/// The uid in the name of a pod's cgroup: `podUID`, or `kubepods-CLASS-podUID.slice` where `_` stands for `-`.
fn uid_of(name: &str) -> Option<String> {
    let uid = match name.strip_suffix(".slice") {
        None => name.strip_prefix("pod")?.to_owned(),
        Some(name) => {
            let (before, uid) = name.rsplit_once("-pod")?;
            let known = ["kubepods", "kubepods-burstable", "kubepods-besteffort"];
            if uid.contains('-') || !known.iter().any(|parent| is_or_ends_after_dash(before, parent)) {
                return None;
            }
            uid.replace('_', "-")
        }
    };
    let right = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    (uid.len() == 36 && uid.bytes().enumerate().all(right)).then_some(uid)
}

#[cfg(test)]
mod tests;
