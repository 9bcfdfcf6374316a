//! A connected TCP socket of one worker.

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
    io::{self, IoSlice, IoSliceMut, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    os::fd::OwnedFd,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, TcpKeepalive};
use tokio::io::unix::AsyncFd;

use crate::{Netns, option};

/// A connected, non-blocking TCP socket registered with the current runtime.
///
/// Unlike tokio's own, a short read forgets the readiness at once, which saves the system call that would only say
/// `EAGAIN`; and writes can be tried from any task.
#[derive(Debug)]
pub struct Stream {
    socket: AsyncFd<TcpStream>,
}

impl Stream {
    /// Registers a non-blocking connected socket.
    ///
    /// # Errors
    /// What the system says.
    pub fn register(socket: TcpStream) -> io::Result<Self> {
        // SAFETY: the TcpStream owns its descriptor until it is dropped, and always gives the same one.
        let socket = unsafe { AsyncFd::register(socket)? };
        Ok(Self { socket })
    }

    /// Reads once. `Ok(0)` is the end.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffers: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
        let room: usize = buffers.iter().map(|b| b.len()).sum();
        loop {
            let mut ready = ready!(self.socket.poll_read_ready(cx))?;
            match self.socket.get_ref().read_vectored(buffers) {
                Ok(n) => {
                    if n > 0 && n < room {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(n));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    /// Whether something can be read, without reading it.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_read_ready(cx).map_ok(drop)
    }

    /// Writes once, waiting for room.
    pub fn poll_write(&self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.socket.poll_write_ready(cx))?;
            match self.socket.get_ref().write_vectored(buffers) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Writes at once or not at all: 0 when there is no room.
    ///
    /// # Errors
    /// What the system says.
    pub fn try_write(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.socket.get_ref().write_vectored(buffers) {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
            result => result,
        }
    }

    /// Ends our direction; the other goes on.
    ///
    /// # Errors
    /// What the system says.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.socket.get_ref().shutdown(Shutdown::Write)
    }

    /// Makes the close that follows a reset, so that the peer learns that bytes are missing.
    pub fn reset_on_close(&self) {
        // A socket that is gone already needs no reset.
        drop(SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)));
    }

    /// Makes the close that follows an ordinary end again. What was written before is still delivered.
    pub fn end_on_close(&self) {
        drop(SockRef::from(&self.socket).set_linger(None));
    }

    /// An error the peer or the network left behind, taken.
    pub fn pending_error(&self) -> Option<io::Error> {
        self.socket.get_ref().take_error().unwrap_or_else(Some)
    }

    /// Our own address, canonical: the original destination on a socket that `sk_lookup` chose.
    ///
    /// # Errors
    /// What the system says.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr().map(weir_model::canonical_socket)
    }

    /// The other end's address, canonical.
    ///
    /// # Errors
    /// What the system says.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().peer_addr().map(weir_model::canonical_socket)
    }
}

impl From<Stream> for OwnedFd {
    fn from(stream: Stream) -> Self {
        stream.socket.into_inner().into()
    }
}

/// The address a connection is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The kernel's choice.
    Any,
    /// This address of the pod, any port.
    Own(IpAddr),
    /// An address of somebody else: the client whose connection is delivered. Replies find their way by `mark`.
    Client {
        /// The client's address; the port is the kernel's choice.
        ip: IpAddr,
        /// The mark that the pod's routing rule looks for.
        mark: u32,
    },
}

/// Ports tried for a connection in a client's name before the kernel chooses.
const TRIES: usize = 32;
/// The first port tried, and how many there are: every other one of Linux' own range (`ip_local_port_range`).
const FIRST_LENT: u16 = 32_769;
const LENT: u16 = 14_116;

thread_local! {
    static RANDOM: Cell<u64> = const { Cell::new(0) };
}

/// A port to lend a client's address with, drawn anew each time: a row of ports in use never stands in the way. Kernels choose
/// even ones for `connect`, so this is none that the client itself connects from: its own connection to the same port of the
/// pod would be the mirror image of ours, and the kernel would give our SYN to it.
fn lent_port() -> u16 {
    // Marsaglia's xorshift64, begun anywhere but at zero: ports are no secret, they only must spread.
    let mut x = match RANDOM.get() {
        0 => RandomState::new().hash_one(0) | 1,
        x => x,
    };
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    RANDOM.set(x);
    FIRST_LENT + 2 * u16::try_from(x % u64::from(LENT)).expect("less than the ports")
}

/// Connects from inside a pod.
///
/// # Errors
/// What the system says. The caller brings the deadline.
pub async fn connect(
    netns: &Netns,
    target: SocketAddr,
    source: Source,
    keepalive: Option<(Duration, u32)>,
) -> io::Result<Stream> {
    let socket = match source {
        Source::Client { ip, mark } => in_the_name_of(netns, target, ip, mark)?,
        Source::Any | Source::Own(_) => {
            let socket = netns.socket(Domain::for_address(target))?;
            if let Some((idle, probes)) = keepalive {
                let keepalive = TcpKeepalive::new().with_time(idle).with_interval(idle).with_retries(probes);
                socket.set_tcp_keepalive(&keepalive)?;
            }
            if let Source::Own(ip) = source {
                bind_address(&socket, ip)?;
            }
            begin(&socket, target)?;
            socket
        }
    };
    socket.set_tcp_nodelay(true)?;
    let stream = Stream::register(socket.into())?;
    drop(stream.socket.writable().await?);
    match stream.pending_error() {
        Some(error) => Err(error),
        None => Ok(stream),
    }
}

/// Begins to connect with somebody else's address.
fn in_the_name_of(netns: &Netns, target: SocketAddr, ip: IpAddr, mark: u32) -> io::Result<Socket> {
    let transparent = || {
        let socket = netns.socket(Domain::for_address(target))?;
        socket.set_mark(mark)?;
        let (level, name) = if target.is_ipv4() {
            (libc::SOL_IP, libc::IP_TRANSPARENT)
        } else {
            (libc::SOL_IPV6, libc::IPV6_TRANSPARENT)
        };
        option::set(&socket, level, name, 1)?;
        Ok::<_, io::Error>(socket)
    };
    for _ in 0..TRIES {
        let socket = transparent()?;
        // Connections to other ports of the pod may have the port already.
        socket.set_reuse_address(true)?;
        let begun = socket.bind(&SocketAddr::new(ip, lent_port()).into()).and_then(|()| begin(&socket, target));
        match begun {
            Ok(()) => return Ok(socket),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EADDRINUSE | libc::EADDRNOTAVAIL)) => {}
            Err(e) => return Err(e),
        }
    }
    let socket = transparent()?;
    bind_address(&socket, ip)?;
    begin(&socket, target)?;
    Ok(socket)
}

/// Binds an address and leaves the port to `connect`, which chooses it for the whole 4-tuple: one address can have more
/// connections than there are ports.
fn bind_address(socket: &Socket, ip: IpAddr) -> io::Result<()> {
    option::set(socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    socket.bind(&SocketAddr::new(ip, 0).into())
}

fn begin(socket: &Socket, target: SocketAddr) -> io::Result<()> {
    match socket.connect(&target.into()) {
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_lent_port_is_odd_and_all_are_lent() {
        let ports: HashSet<u16> = (0..40 * u32::from(LENT)).map(|_| lent_port()).collect();
        assert!(ports.iter().all(|port| port % 2 == 1 && (32_769..=60_999).contains(port)));
        assert_eq!(ports.len(), usize::from(LENT));
    }
}
