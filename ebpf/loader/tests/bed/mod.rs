//! A node with a pod and a neighbour, each a network namespace of its own, joined by veth pairs:
//! pod `10.77.1.2`, `10.77.1.3`, `fd77:1::2` and neighbour `10.77.2.2`, `fd77:2::2`, routed by the node.
//!
//! The test process plays the agent (its threads enter netns as they like); applications are processes forked
//! from it, since the agent is told from others by its process.
#![expect(dead_code, reason = "each test binary uses a part")]
#![expect(unsafe_code, reason = "fork, and entering namespaces")]

pub(crate) mod app;
pub(crate) mod netlink;

use std::{
    fs::{self, File},
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd as _},
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns, unshare},
};
use socket2::{Domain, Protocol, Socket, Type};
use weir_ebpf_loader::{Capture, Counter, HostExemption, Redirect, Settings, cleanup};

pub(crate) const POD4: &str = "10.77.1.2";
pub(crate) const POD4_SECOND: &str = "10.77.1.3";
pub(crate) const POD6: &str = "fd77:1::2";
pub(crate) const NEIGHBOUR4: &str = "10.77.2.2";
pub(crate) const NEIGHBOUR6: &str = "fd77:2::2";
pub(crate) const NODE4: &str = "10.77.1.1";
pub(crate) const NODE6: &str = "fd77:1::1";

/// Longer than anything here takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A network namespace, alive as long as this.
pub(crate) struct Netns(pub(crate) File);

impl Netns {
    pub(crate) fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("run as root: a network namespace is needed");
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let netns = Self(thread::spawn(make).join().unwrap());
        netns.within(|| {
            netlink::up("lo");
            // Addresses are usable at once: no waiting for a neighbour to object.
            fs::write("/proc/sys/net/ipv6/conf/default/dad_transmits", "0").unwrap();
            fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
        });
        netns
    }

    /// Runs `what` on a thread in this netns.
    pub(crate) fn within<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let run = || {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                what()
            };
            scope.spawn(run).join().unwrap()
        })
    }

    pub(crate) fn cookie(&self) -> u64 {
        self.within(|| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            let mut cookie = 0_u64;
            let mut length = libc::socklen_t::try_from(size_of::<u64>()).unwrap();
            let value = (&raw mut cookie).cast();
            // SAFETY: the kernel writes at most `length` bytes to the cookie.
            let result = unsafe {
                libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, value, &raw mut length)
            };
            assert_eq!(result, 0);
            cookie
        })
    }
}

/// One at a time: tests move the process between cgroups.
static ALONE: Mutex<()> = Mutex::new(());
static BEDS: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Bed {
    pub(crate) node: Netns,
    pub(crate) pod: Netns,
    pub(crate) neighbour: Netns,
    pub(crate) pin_dir: PathBuf,
    alone: Option<MutexGuard<'static, ()>>,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bed = Self::another();
        bed.alone = Some(alone);
        bed
    }

    /// A second node beside one made with [`Self::new`].
    pub(crate) fn another() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests load eBPF programs: run them as root");
        let number = BEDS.fetch_add(1, Ordering::Relaxed);
        let pin_dir = PathBuf::from(format!("/sys/fs/bpf/weir-ebpf-test-{}-{number}", std::process::id()));
        let (node, pod, neighbour) = (Netns::new(), Netns::new(), Netns::new());
        node.within(|| {
            netlink::veth("pod0", &pod.0);
            netlink::veth("near0", &neighbour.0);
            for (name, v4, v6) in [("pod0", NODE4, NODE6), ("near0", "10.77.2.1", "fd77:2::1")] {
                netlink::up(name);
                netlink::address(name, v4, 24);
                netlink::address(name, v6, 64);
            }
            fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        });
        for (netns, addresses, gateways) in [
            (&pod, [POD4, POD4_SECOND, POD6], [NODE4, NODE6]),
            (&neighbour, [NEIGHBOUR4, "10.77.2.3", NEIGHBOUR6], ["10.77.2.1", "fd77:2::1"]),
        ] {
            netns.within(|| {
                netlink::up("eth0");
                for address in addresses {
                    netlink::address("eth0", address, if address.contains(':') { 64 } else { 24 });
                }
                for gateway in gateways {
                    netlink::default_route(gateway);
                }
            });
        }
        Self { node, pod, neighbour, pin_dir, alone: None }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            pin_dir: self.pin_dir.clone(),
            cgroup_root: None,
            max_flows: 4096,
            host_exemption: HostExemption::Nobody,
        }
    }

    pub(crate) fn start(&self) -> Redirect {
        self.start_with(&self.settings())
    }

    pub(crate) fn start_with(&self, settings: &Settings) -> Redirect {
        self.node.within(|| Redirect::start(settings)).unwrap()
    }

    /// Starts, and captures the pod.
    pub(crate) fn captured(&self) -> (Redirect, Listeners) {
        let (mut redirect, listeners) = (self.start(), Listeners::new(&self.pod));
        listeners.enrol(&mut redirect, &self.pod).unwrap();
        (redirect, listeners)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let result = cleanup(&self.pin_dir);
        if !thread::panicking() {
            result.unwrap();
        }
    }
}

/// What the agent listens with in a pod.
pub(crate) struct Listeners {
    pub(crate) outbound_v4: TcpListener,
    pub(crate) outbound_v6: TcpListener,
    pub(crate) hbone: [TcpListener; 2],
    pub(crate) inbound: [TcpListener; 2],
}

impl Listeners {
    pub(crate) fn new(pod: &Netns) -> Self {
        pod.within(|| {
            let first = listen_shared(0);
            let port = first.local_addr().unwrap().port();
            Self {
                outbound_v4: listen((POD4, 0)),
                outbound_v6: listen((POD6, 0)),
                hbone: [listen_shared(15_008), listen_shared(15_008)],
                inbound: [first, listen_shared(port)],
            }
        })
    }

    pub(crate) fn capture<'a>(&'a self, pod: &'a Netns, addresses: &'a [IpAddr]) -> Capture<'a> {
        let (v4, v6) = (self.outbound_v4.local_addr().unwrap(), self.outbound_v6.local_addr().unwrap());
        let (SocketAddr::V4(v4), SocketAddr::V6(v6)) = (v4, v6) else { panic!("{v4} {v6}") };
        Capture {
            netns: pod.0.as_fd(),
            cookie: pod.cookie(),
            addresses,
            outbound_v4: Some(v4),
            outbound_v6: Some(v6),
            hbone: self.hbone[0].as_fd(),
            inbound: self.inbound[0].as_fd(),
        }
    }

    pub(crate) fn enrol(&self, redirect: &mut Redirect, pod: &Netns) -> Result<(), weir_ebpf_loader::Error> {
        redirect.enrol(&self.capture(pod, &pod_addresses()))
    }

    /// Is there no connection waiting at any of them?
    pub(crate) fn are_idle(&self) -> bool {
        let all = [&self.outbound_v4, &self.outbound_v6].into_iter().chain(&self.hbone).chain(&self.inbound);
        all.into_iter().all(|listener| !is_ready(listener, Duration::ZERO))
    }
}

pub(crate) fn pod_addresses() -> [IpAddr; 3] {
    [POD4, POD4_SECOND, POD6].map(|address| address.parse().unwrap())
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn listen(at: (&str, u16)) -> TcpListener {
    TcpListener::bind(at).unwrap()
}

/// A dual-stack listener which shares its port with others.
pub(crate) fn listen_shared(port: u16) -> TcpListener {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.set_only_v6(false).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&SocketAddr::new(ip("::"), port).into()).unwrap();
    socket.listen(1024).unwrap();
    socket.into()
}

pub(crate) fn is_ready(socket: &impl AsFd, within: Duration) -> bool {
    let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::try_from(within).unwrap()).unwrap() == 1
}

/// The next connection; `who` for the message when none comes.
pub(crate) fn accept(listener: &TcpListener, who: &str) -> (TcpStream, SocketAddr) {
    assert!(is_ready(listener, DEADLINE), "no connection came for {who}");
    let (stream, peer) = listener.accept().unwrap();
    (stream, canonical(peer))
}

pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        thread::yield_now();
    }
}

pub(crate) fn count(redirect: &Redirect, counter: Counter) -> u64 {
    redirect.counters().unwrap().of(counter)
}

pub(crate) fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&to, DEADLINE)
}

/// The root of the cgroup v2 tree.
pub(crate) fn cgroup_root() -> PathBuf {
    let unified = PathBuf::from("/sys/fs/cgroup/unified");
    if unified.exists() { unified } else { "/sys/fs/cgroup".into() }
}

/// Makes a connected socket an unconnected one again: a connect to AF_UNSPEC.
pub(crate) fn disconnect(socket: &Socket) {
    let nowhere = [0_u8; 16];
    let length = libc::socklen_t::try_from(nowhere.len()).unwrap();
    // SAFETY: the kernel reads an address of that length.
    assert_eq!(unsafe { libc::connect(socket.as_raw_fd(), nowhere.as_ptr().cast(), length) }, 0);
}
