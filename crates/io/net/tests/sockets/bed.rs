//! A namespace that exists as long as a test holds it, with a few addresses on its loopback.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::mpsc::{Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::gettid,
};
use tokio::net::TcpStream;
use weir_net::{Acceptor, Listener, ListenerSettings, Netns, Source, Stream};
use weir_netlink::{NetNs, Rtnl};

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// The addresses of every namespace here: two of each family.
pub(crate) const ADDRESSES: [[&str; 2]; 2] = [["192.0.2.1", "192.0.2.2"], ["2001:db8::1", "2001:db8::2"]];

pub(crate) const PLAIN: ListenerSettings = ListenerSettings { keepalive: None };

/// A network namespace that a thread of ours sits in: it leaves nothing behind, however the test ends.
pub(crate) struct Place {
    path: PathBuf,
    leave: Option<Sender<()>>,
    sitting: Option<JoinHandle<()>>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let ((said, path), (leave, left)) = (channel(), channel());
        let sitting = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("run as root: a network namespace is needed");
            said.send(format!("/proc/{}/task/{}/ns/net", std::process::id(), gettid())).unwrap();
            // The other side never says anything: this ends when it is dropped.
            let _gone = left.recv();
        });
        let place =
            Self { path: path.recv_timeout(DEADLINE).unwrap().into(), leave: Some(leave), sitting: Some(sitting) };
        let mut rtnl = Rtnl::open_in(&place.links()).unwrap();
        rtnl.set_up("lo").unwrap();
        for text in ADDRESSES.as_flattened() {
            let address = ip(text);
            rtnl.add_address("lo", address, if address.is_ipv4() { 32 } else { 128 }).unwrap();
        }
        place.netns().run(|| ADDRESSES.as_flattened().iter().try_for_each(|text| usable(ip(text)))).unwrap();
        place
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn netns(&self) -> Netns {
        Netns::open(&self.path).unwrap()
    }

    /// The same namespace, to change its routing and settings.
    pub(crate) fn links(&self) -> NetNs {
        NetNs::open(&self.path).unwrap()
    }

    /// An application's connection.
    pub(crate) fn dial(&self, to: SocketAddr) -> TcpStream {
        let stream = self.netns().run(|| std::net::TcpStream::connect_timeout(&to, DEADLINE)).unwrap();
        stream.set_nonblocking(true).unwrap();
        TcpStream::from_std(stream).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.leave.take());
        if let Some(sitting) = self.sitting.take() {
            sitting.join().unwrap();
        }
    }
}

/// Waits until an address can be used: the kernel finishes adding one of IPv6 some time after it said that it is there.
fn usable(address: IpAddr) -> io::Result<()> {
    let deadline = Instant::now() + DEADLINE;
    let listener = loop {
        match TcpListener::bind((address, 0)) {
            Err(_) if Instant::now() < deadline => thread::yield_now(),
            result => break result?,
        }
    };
    let at = listener.local_addr()?;
    loop {
        match std::net::TcpStream::connect_timeout(&at, DEADLINE).and_then(|_| listener.accept()) {
            Err(_) if Instant::now() < deadline => thread::yield_now(),
            result => return result.map(drop),
        }
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The first address of each family.
pub(crate) fn first_addresses() -> [IpAddr; 2] {
    ADDRESSES.map(|[first, _]| ip(first))
}

/// Runs `work` on a runtime of its own, as a worker does.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { soon(work).await })
}

/// What must come, and comes in time.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("it takes too long")
}

pub(crate) fn listen(place: &Place, at: SocketAddr) -> (Acceptor, SocketAddr) {
    let listener = Listener::bind(&place.netns(), at, &PLAIN).unwrap();
    let local = listener.local();
    (listener.register().unwrap(), local)
}

/// An application's end, and ours that was accepted.
pub(crate) async fn accepted(place: &Place, at: IpAddr) -> (TcpStream, Stream) {
    let (acceptor, local) = listen(place, (at, 0).into());
    let client = place.dial(local);
    (client, acceptor.accept().await.unwrap().0)
}

/// An application's end, and ours that was connected.
pub(crate) async fn connected(place: &Place, at: IpAddr) -> (TcpStream, Stream) {
    let listener = place.netns().run(|| TcpListener::bind((at, 0))).unwrap();
    let to = listener.local_addr().unwrap();
    let ours = weir_net::connect(&place.netns(), to, Source::Any, None).await.unwrap();
    let (theirs, _) = listener.accept().unwrap();
    theirs.set_nonblocking(true).unwrap();
    (TcpStream::from_std(theirs).unwrap(), ours)
}
