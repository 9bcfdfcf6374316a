//! Packets between programs of one machine, with open descriptors in them: unix sockets of type `SOCK_SEQPACKET`.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

/// Room for what comes beside the bytes, in words: a header and 28 descriptors. What does not fit, the kernel closes.
const CONTROL: usize = 16;

/// One packet.
#[derive(Debug)]
pub struct Packet {
    /// How many bytes of the buffer it filled.
    pub length: usize,
    /// The descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
}

/// A connection that keeps packets apart.
#[derive(Debug)]
pub struct PacketStream {
    socket: AsyncFd<Socket>,
}

impl PacketStream {
    /// Connects to the socket at `path`, without waiting: where nobody takes connections now, that is an error.
    ///
    /// # Errors
    /// What the system says.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET.nonblocking().cloexec(), None)?;
        socket.connect(&SockAddr::unix(path)?)?;
        Self::register(socket)
    }

    /// Registers a connected socket with the current runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn register(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // SAFETY: the Socket owns its descriptor until it is dropped, and always gives the same one.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE | Interest::WRITABLE)? };
        Ok(Self { socket })
    }

    /// The next packet; none at the end. Cancel safe.
    ///
    /// # Errors
    /// `InvalidData` if bytes or descriptors were more than there is room for: none of them is kept. Else what the system says.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Packet>> {
        let packet = self.socket.async_io(Interest::READABLE, |socket| receive(socket, buffer)).await?;
        Ok((packet.length > 0).then_some(packet))
    }

    /// Sends a packet, whole. Cancel safe.
    ///
    /// # Errors
    /// What the system says.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = self.socket.async_io(Interest::WRITABLE, |socket| socket.send_with_flags(bytes, libc::MSG_NOSIGNAL));
        sent.await.map(drop)
    }
}

fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<Packet> {
    let mut control = [0_u64; CONTROL];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a msghdr of zeros is one without address, parts and control data.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    // SAFETY: the header names one part and the control words, both alive and ours alone until the call returns.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    let length = usize::try_from(length).map_err(|_negative| io::Error::last_os_error())?;
    // Before anything else: what is owned is closed, whatever is wrong with the packet.
    let descriptors = descriptors(&header);
    if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        let reason = format!("a packet of more than {} bytes, or with too many descriptors", buffer.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(Packet { length, descriptors })
}

/// Those that the kernel put into a header that it filled.
fn descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut found = Vec::new();
    // SAFETY: recvmsg filled the header, and its control words are still there.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: the macros give a header within the control words, or null.
    while let Some(head) = unsafe { next.as_ref() } {
        if (head.cmsg_level, head.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: what follows the header is as long as the header says, less itself.
            let (start, before) = unsafe { (libc::CMSG_DATA(next).cast::<RawFd>(), libc::CMSG_LEN(0)) };
            let bytes = head.cmsg_len.saturating_sub(usize::try_from(before).unwrap_or(usize::MAX));
            for at in 0..bytes / size_of::<RawFd>() {
                // SAFETY: the kernel opened each of them for us, and nobody else knows it.
                found.push(unsafe { OwnedFd::from_raw_fd(start.add(at).read_unaligned()) });
            }
        }
        // SAFETY: as for the first.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    found
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{IoSlice, Read, Write},
        os::fd::AsFd,
    };

    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

    use super::*;

    fn pair() -> (PacketStream, Socket) {
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        (PacketStream::register(ours).unwrap(), theirs)
    }

    fn give(socket: &Socket, bytes: &[u8], files: &[&File]) {
        let raw: Vec<RawFd> = files.iter().map(|file| file.as_fd().as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::empty(), None).unwrap();
    }

    #[tokio::test]
    async fn packets_stay_apart_and_bring_their_descriptors() {
        let (ours, theirs) = pair();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        give(&theirs, b"one", &[]);
        give(&theirs, b"two more", &[&file, &file]);
        let mut buffer = [0; 16];
        let first = ours.receive(&mut buffer).await.unwrap().unwrap();
        assert_eq!((&buffer[..first.length], first.descriptors.len()), (&b"one"[..], 0));
        let mut second = ours.receive(&mut buffer).await.unwrap().unwrap();
        assert_eq!((&buffer[..second.length], second.descriptors.len()), (&b"two more"[..], 2));
        let mut copy = File::from(second.descriptors.remove(0));
        io::Seek::rewind(&mut copy).unwrap();
        let mut text = String::new();
        copy.read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        ours.send(b"answer").await.unwrap();
        let mut answer = [0; 16];
        let length = (&theirs).read(&mut answer).unwrap();
        assert_eq!(&answer[..length], b"answer");
        drop(theirs);
        assert!(ours.receive(&mut buffer).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_whole_and_nothing_of_it_stays_open() {
        let (ours, theirs) = pair();
        let (mut read, write) = io::pipe().unwrap();
        let write = File::from(OwnedFd::from(write));
        let mut buffer = [0; 4];
        give(&theirs, b"12345", &[&write]);
        give(&theirs, b"1234", &vec![&write; 60]);
        for _ in 0..2 {
            let error = ours.receive(&mut buffer).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
        drop(write);
        // The end comes when the last copy is closed.
        assert_eq!(read.read(&mut buffer).unwrap(), 0);
        give(&theirs, b"last", &[]);
        let length = ours.receive(&mut buffer).await.unwrap().unwrap().length;
        assert_eq!(&buffer[..length], b"last");
    }
}
