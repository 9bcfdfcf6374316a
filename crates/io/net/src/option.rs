//! Socket options that no safe wrapper offers.

use std::{io, os::fd::AsRawFd};

use socket2::Socket;

/// The cookie of the namespace a socket lives in. `SO_NETNS_COOKIE`, Linux 5.14.
pub(crate) fn netns_cookie(socket: &Socket) -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie = 0u64;
    let mut size = libc::socklen_t::try_from(size_of_val(&cookie)).expect("eight");
    // SAFETY: the pointers are to a u64 and its size, both alive for the call.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, (&raw mut cookie).cast(), &raw mut size)
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// Sets an integer option.
pub(crate) fn set(socket: &Socket, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of_val(&value)).expect("four");
    // SAFETY: the pointer is to an int that is alive for the call, and the size is its own.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
