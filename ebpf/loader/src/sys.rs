//! The four `bpf` system calls aya has no function for, and the netns cookie.
#![expect(unsafe_code, reason = "system calls")]

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

// Commands of bpf(2). Linux `include/uapi/linux/bpf.h`.
const OBJ_GET: libc::c_long = 7;
const MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
const LINK_UPDATE: libc::c_long = 29;
const LINK_DETACH: libc::c_long = 34;

/// # Safety
/// `attributes` must be the part of `union bpf_attr` which `command` reads, and pointers in it must be valid for it.
unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the caller's; the size is that of what the pointer points to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct Element {
    map: RawFd,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct Update {
    link: RawFd,
    program: RawFd,
    flags: u32,
    old: u32,
}

#[repr(C)]
struct Detach {
    link: RawFd,
}

fn address<T>(of: *const T) -> u64 {
    u64::try_from(of.addr()).expect("addresses have at most 64 bits")
}

/// Opens a pinned object.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = Object { path: address(path.as_ptr()), fd: 0, flags: 0 };
    // SAFETY: the attributes are those of BPF_OBJ_GET, and the path lives until it returns.
    let fd = unsafe { bpf(OBJ_GET, &mut attributes)? };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes the value of `key` out of a hash map: ENOENT when there is none.
///
/// # Safety
/// `K` and `V` must have the sizes of the map's keys and values, and any bytes must be a `V`.
pub(crate) unsafe fn take<K, V: Copy>(map: BorrowedFd<'_>, key: &K, zero: V) -> io::Result<V> {
    let mut value = zero;
    let mut attributes = Element {
        map: map.as_raw_fd(),
        unused: 0,
        key: address(std::ptr::from_ref(key)),
        value: address(std::ptr::from_mut(&mut value).cast_const()),
        flags: 0,
    };
    // SAFETY: the attributes are those of the command; the caller vouches for the sizes.
    unsafe { bpf(MAP_LOOKUP_AND_DELETE_ELEM, &mut attributes)? };
    Ok(value)
}

/// Puts another program in a link, atomically.
pub(crate) fn update(link: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let (link, program) = (link.as_fd().as_raw_fd(), program.as_fd().as_raw_fd());
    // SAFETY: the attributes are those of BPF_LINK_UPDATE.
    unsafe { bpf(LINK_UPDATE, &mut Update { link, program, flags: 0, old: 0 }) }.map(drop)
}

/// Detaches a link, whoever else holds it.
pub(crate) fn detach(link: impl AsFd) -> io::Result<()> {
    // SAFETY: the attributes are those of BPF_LINK_DETACH.
    unsafe { bpf(LINK_DETACH, &mut Detach { link: link.as_fd().as_raw_fd() }) }.map(drop)
}

/// The cookie of the netns in which `socket` was made. Linux 5.14.
pub(crate) fn netns_cookie(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).expect("8 fits");
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most `length` bytes to the cookie, which is as long.
    let result = unsafe {
        let value = std::ptr::from_mut(&mut cookie).cast();
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, value, &raw mut length)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

/// Gives memory that was used and freed back to the system: reading the kernel's BTF takes several MiB, once.
pub(crate) fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim may be called at any time and by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
