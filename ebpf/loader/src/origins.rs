//! Where accepted connections were going.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use weir_ebpf_common::{Address, Origin, OriginKey, Port};

use crate::{Error, sys};

/// The original destinations of connections the pods' outbound listeners accept. Each worker has its own.
#[derive(Debug)]
pub struct Origins {
    map: OwnedFd,
}

impl Origins {
    pub(crate) fn new(map: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { map: map.try_clone_to_owned()? })
    }

    /// Takes the original destination of the connection which a listener in the netns with that cookie accepted
    /// from `peer`. None: it never had one, was taken before, or too many others came in between; refuse the
    /// connection. One system call, no allocation.
    ///
    /// # Errors
    /// [`Error::MapCall`], when the kernel fails the call.
    #[expect(unsafe_code, reason = "a system call on memory")]
    pub fn take(&self, netns_cookie: u64, peer: SocketAddr) -> Result<Option<SocketAddr>, Error> {
        let port = Port::new(peer.port());
        let key = OriginKey { cookie: netns_cookie, address: Address::from(peer.ip()), port, zero: [0; 6] };
        let nowhere = Origin { address: Address::ZERO, port: Port::ZERO, zero: [0; 2] };
        // SAFETY: ORIGINS has these keys and values (checked when it was opened), and any bytes are an Origin.
        match unsafe { sys::take(self.map.as_fd(), &key, nowhere) } {
            Ok(origin) => Ok(Some(origin.address.with_port(origin.port))),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(source) => Err(Error::MapCall { map: "ORIGINS", source }),
        }
    }
}
