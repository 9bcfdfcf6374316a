//! One rtnetlink socket: a request out, its acknowledgement or its listing back. The socket stays in the namespace it was opened in,
//! whatever thread uses it.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::error::{Attempt, Attempted, NetlinkError};
use crate::netns::NetNs;

/// A connection to the routing part of one network namespace's kernel.
#[derive(Debug)]
pub struct Rtnl {
    socket: Socket,
    sequence: u32,
}

impl Rtnl {
    /// Opens one in the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn new() -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            io::Result::Ok(socket)
        };
        Ok(Self { socket: open().attempted(|| Attempt::OpenRtnetlink)?, sequence: 0 })
    }

    /// Opens one inside `netns`.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the kernel refuses the socket.
    pub fn open_in(netns: &NetNs) -> Result<Self, NetlinkError> {
        netns.run(Self::new)?
    }

    /// Sends a change and waits for the kernel's acknowledgement. `flags` as in netlink(7), without REQUEST and ACK.
    pub(crate) fn change(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        attempt: impl Fn() -> Attempt,
    ) -> Result<(), NetlinkError> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK | flags, &attempt).map(drop)
    }

    /// Asks for a whole listing.
    pub(crate) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
        attempt: impl Fn() -> Attempt,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_DUMP, &attempt)
    }

    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        attempt: &dyn Fn() -> Attempt,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0).attempted(attempt)?;

        let mut found = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full().attempted(attempt)?;
            if self.read_datagram(&datagram, &mut found, attempt)? {
                return Ok(found);
            }
        }
    }

    /// Adds what a datagram lists to `found`; true when it ends the answer.
    fn read_datagram(
        &self,
        mut bytes: &[u8],
        found: &mut Vec<RouteNetlinkMessage>,
        attempt: &dyn Fn() -> Attempt,
    ) -> Result<bool, NetlinkError> {
        let malformed = |source| NetlinkError::Malformed { attempt: attempt(), source };
        while !bytes.is_empty() {
            let head = NetlinkBuffer::new_checked(&bytes).map_err(malformed)?;
            let (length, kind) = (usize::try_from(head.length()).unwrap_or(usize::MAX), head.message_type());
            if head.sequence_number() == self.sequence {
                match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
                    Ok(message) => {
                        if Self::read_payload(message.payload, found, attempt)? {
                            return Ok(true);
                        }
                    }
                    // One object this library's parser does not know (a new kernel's attribute, say) must not hide the others.
                    Err(_) if kind != NLMSG_ERROR && kind != NLMSG_DONE => {}
                    Err(source) => return Err(malformed(source)),
                }
            }
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(false)
    }

    fn read_payload(
        payload: NetlinkPayload<RouteNetlinkMessage>,
        found: &mut Vec<RouteNetlinkMessage>,
        attempt: &dyn Fn() -> Attempt,
    ) -> Result<bool, NetlinkError> {
        if let NetlinkPayload::InnerMessage(message) = payload {
            found.push(message);
            return Ok(false);
        }
        if let NetlinkPayload::Error(error) = &payload {
            return match error.code {
                None => Ok(true),
                Some(_) => Err(error.to_io()).attempted(attempt),
            };
        }
        Ok(matches!(payload, NetlinkPayload::Done(_)))
    }
}
