//! Packets as they pass an interface, both ways, headers and all. packet(7).

#![expect(unsafe_code, reason = "packet socket addresses and counters have no safe wrapper")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, setsockopt, socket, sockopt};

use crate::error::{Attempt, Attempted, NetlinkError};
use crate::netns::NetNs;
use crate::rtnl::Rtnl;

/// What the kernel keeps waiting for a slow listener, in bytes.
const QUEUE: usize = 64 << 20;

/// Ear on one interface.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

/// Packets since the last time of asking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PacketStats {
    /// Seen by the socket, the lost ones included.
    pub seen: u32,
    /// Lost because the listener was too slow.
    pub lost: u32,
}

impl PacketSocket {
    /// Listens to everything that passes `link` of `netns`.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, or when there is no such link.
    pub fn listen(netns: &NetNs, link: &str) -> Result<Self, NetlinkError> {
        let index = Rtnl::open_in(netns)?.link(link)?.index;
        let open = || -> io::Result<OwnedFd> {
            // Protocol 0 hears nothing until the bind below: nothing of another interface slips in.
            let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            setsockopt(&fd, sockopt::RcvBufForce, &QUEUE)?;
            bind_to(&fd, index)?;
            Ok(fd)
        };
        let fd = netns.run(open)?.attempted(|| Attempt::OpenPacketSocket(link.into()))?;
        Ok(Self { fd })
    }

    /// The next packet, from its Ethernet header on, cut to the buffer. `None` when `patience` passes without one.
    ///
    /// # Errors
    /// When the interface goes away.
    pub fn receive<'b>(&self, buffer: &'b mut [u8], patience: Duration) -> Result<Option<&'b [u8]>, NetlinkError> {
        match recv(self.fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => return Ok(Some(&buffer[..length])),
            Err(nix::Error::EAGAIN) => {}
            Err(error) => return Err(error).attempted(|| Attempt::ReceivePacket),
        }
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&self.fd), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) | Err(nix::Error::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error).attempted(|| Attempt::ReceivePacket),
        }
        match recv(self.fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => Ok(Some(&buffer[..length])),
            Err(nix::Error::EAGAIN) => Ok(None),
            Err(error) => Err(error).attempted(|| Attempt::ReceivePacket),
        }
    }

    /// Counts since the last call; the kernel then starts again at zero.
    ///
    /// # Errors
    /// When the kernel does not keep them.
    pub fn stats(&self) -> Result<PacketStats, NetlinkError> {
        let mut raw = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = libc::socklen_t::try_from(size_of_val(&raw)).expect("a dozen bytes");
        // SAFETY: `raw` and `length` live across the call, and `length` is the size of `raw`.
        let outcome = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut raw).cast(),
                &raw mut length,
            )
        };
        nix::Error::result(outcome).attempted(|| Attempt::ReceivePacket)?;
        Ok(PacketStats { seen: raw.tp_packets, lost: raw.tp_drops })
    }
}

fn bind_to(fd: &OwnedFd, index: u32) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain integers and bytes: all zeroes is a value of it.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).expect("a small constant");
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL).expect("a small constant").to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    let length = libc::socklen_t::try_from(size_of_val(&address)).expect("a dozen bytes");
    // SAFETY: `address` lives across the call, and `length` is its size.
    let outcome = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) };
    nix::Error::result(outcome)?;
    Ok(())
}
