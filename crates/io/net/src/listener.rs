//! Listening sockets inside a pod, several to a group so that each worker has its own.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

use socket2::{Domain, SockAddr, SockAddrStorage, Socket, TcpKeepalive};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{Netns, Stream};

/// Connections the kernel holds for us between two accepts. Capped by `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// How a listener and the sockets it accepts behave. Accepted sockets inherit all of it.
#[derive(Debug, Clone, Copy)]
pub struct ListenerSettings {
    /// Idle time and interval of TCP keepalive, and the probes before giving up; `None` leaves it off.
    pub keepalive: Option<(Duration, u32)>,
}

/// A listening socket, not yet owned by a worker.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    local: SocketAddr,
}

impl Listener {
    /// Listens inside `netns` at `at` (port 0: any free one) as a member of a `SO_REUSEPORT` group.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(netns: &Netns, at: SocketAddr, settings: &ListenerSettings) -> io::Result<Self> {
        netns.run(|| {
            let socket = Socket::new(
                Domain::for_address(at),
                socket2::Type::STREAM.nonblocking(),
                Some(socket2::Protocol::TCP),
            )?;
            if at.is_ipv6() {
                // An unspecified address listens for both families, any other for its own.
                socket.set_only_v6(!at.ip().is_unspecified())?;
            }
            socket.set_reuse_port(true)?;
            socket.set_reuse_address(true)?;
            socket.set_tcp_nodelay(true)?;
            if let Some((idle, probes)) = settings.keepalive {
                let keepalive = TcpKeepalive::new().with_time(idle).with_interval(idle).with_retries(probes);
                socket.set_tcp_keepalive(&keepalive)?;
            }
            socket.bind(&at.into())?;
            socket.listen(BACKLOG)?;
            let local = socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("no local address"))?;
            Ok(Self { socket, local })
        })
    }

    /// Listens for both families, or for IPv4 alone where the namespace has no IPv6.
    ///
    /// # Errors
    /// What the system says of the last try.
    pub fn bind_any(netns: &Netns, port: u16, settings: &ListenerSettings) -> io::Result<Self> {
        let dual = Self::bind(netns, (Ipv6Addr::UNSPECIFIED, port).into(), settings);
        match dual {
            Err(e) if matches!(e.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
                Self::bind(netns, (Ipv4Addr::UNSPECIFIED, port).into(), settings)
            }
            result => result,
        }
    }

    /// Where it listens.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Registers it with the current runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn register(self) -> io::Result<Acceptor> {
        // SAFETY: the Socket owns its descriptor until it is dropped, and always gives the same one.
        let socket = unsafe { AsyncFd::register_with_interest(self.socket, Interest::READABLE)? };
        Ok(Acceptor { socket })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A listening socket of one worker.
#[derive(Debug)]
pub struct Acceptor {
    socket: AsyncFd<Socket>,
}

impl Acceptor {
    /// The next connection and its peer, canonical. Cancel safe.
    ///
    /// # Errors
    /// What the system says; out of descriptors or memory is for the caller to wait out.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|socket| accept(socket.get_ref())) {
                Ok(Ok((fd, peer))) => {
                    let peer = weir_model::canonical_socket(peer);
                    return Ok((Stream::register(fd.into())?, peer));
                }
                // The client went away between its SYN and our accept.
                Ok(Err(e)) if matches!(e.raw_os_error(), Some(libc::ECONNABORTED | libc::EINTR | libc::EPROTO)) => {}
                Ok(Err(e)) => return Err(e),
                Err(_would_block) => {}
            }
        }
    }
}

/// accept4 with SOCK_NONBLOCK: one system call where the standard library needs two.
fn accept(socket: &Socket) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut storage = SockAddrStorage::zeroed();
    let mut size = storage.size_of();
    // SAFETY: `storage` is large enough for any address and `size` says how large.
    let fd = unsafe {
        libc::accept4(
            socket.as_raw_fd(),
            (&raw mut storage).cast(),
            &raw mut size,
            libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: accept4 gave a descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: accept4 filled `size` bytes of `storage` with an address.
    let peer = unsafe { SockAddr::new(storage, size) };
    let peer = peer.as_socket().ok_or_else(|| io::Error::other("peer without an IP address"))?;
    Ok((fd, peer))
}
