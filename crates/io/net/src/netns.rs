//! A network namespace held open, and sockets made inside it.

use std::{
    cell::Cell,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};

use crate::option;

/// The namespace of this program.
const OWN: &str = "/proc/self/ns/net";

/// Which namespace a file means: the same numbers are the same namespace for as long as one of them is held open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetnsId {
    device: u64,
    inode: u64,
}

impl NetnsId {
    /// Which namespace the file at `path` means now, if it means one at all: that it does is not checked.
    ///
    /// # Errors
    /// If there is nothing, or it may not be looked at.
    pub fn at(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|meta| identify(&meta))
    }

    /// The namespace of this program: what its sockets are in unless something else is said.
    ///
    /// # Errors
    /// If `/proc` is not mounted.
    pub fn own() -> io::Result<Self> {
        Self::at(Path::new(OWN))
    }
}

/// Why a namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// Nothing to open there.
    #[error("network namespace {path}")]
    Open {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something else than a network namespace.
    #[error("{path} is not a network namespace")]
    NotANamespace {
        /// What was opened.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A network namespace held open. While it is held it lives on, also without a process inside.
#[derive(Debug)]
pub struct Netns {
    file: File,
    id: NetnsId,
    cookie: u64,
    path: PathBuf,
    /// Whether the path leads there; else it is a name for people.
    found_by: FoundBy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FoundBy {
    Path,
    Descriptor,
    /// It is the one this program was started in.
    Being,
}

thread_local! {
    /// The namespace this thread is in, if it was moved by [`Netns::enter`].
    static CURRENT: Cell<Option<NetnsId>> = const { Cell::new(None) };
}

impl Netns {
    /// Opens a namespace by its path and reads its cookie.
    ///
    /// # Errors
    /// If there is nothing, or something else than a network namespace.
    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        let file = File::open(path).map_err(|source| NetnsError::Open { path: path.to_owned(), source })?;
        Self::of(file, path.to_owned(), FoundBy::Path)
    }

    /// The namespace this program was started in. Nobody has to enter it, so no right is needed: entering any, even one's own, takes
    /// `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    /// If `/proc` is not mounted, or this thread makes no sockets there.
    pub fn own() -> Result<Self, NetnsError> {
        let path = PathBuf::from(OWN);
        if CURRENT.get().is_some() {
            return Self::open(&path);
        }
        let found = File::open(&path).and_then(|file| Ok((id(&file)?, file, cookie()?)));
        match found {
            Ok((id, file, cookie)) => Ok(Self { file, id, cookie, path, found_by: FoundBy::Being }),
            Err(source) => Err(NetnsError::Open { path, source }),
        }
    }

    /// The namespace behind a descriptor that somebody else opened, and what to call it where a path is shown.
    ///
    /// # Errors
    /// If it is something else than a network namespace.
    pub fn from_fd(fd: OwnedFd, name: PathBuf) -> Result<Self, NetnsError> {
        Self::of(fd.into(), name, FoundBy::Descriptor)
    }

    fn of(file: File, path: PathBuf, found_by: FoundBy) -> Result<Self, NetnsError> {
        let id = match id(&file) {
            Ok(id) => id,
            Err(source) => return Err(NetnsError::Open { path, source }),
        };
        match inside(&file, cookie) {
            Ok(cookie) => Ok(Self { file, id, cookie, path, found_by }),
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => Err(NetnsError::Open { path, source }),
            Err(source) => Err(NetnsError::NotANamespace { path, source }),
        }
    }

    /// Which namespace it is.
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// The kernel's own name for it, never reused while the machine runs. `SO_NETNS_COOKIE`.
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// The path it was opened by, or the name it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its path still leads to it: false once the pod is gone or another took the place. A look that fails for want of
    /// something else says nothing: a pod must not drop out of the mesh because the agent is out of descriptors. One that came as
    /// a descriptor is current for as long as it is held.
    pub fn is_current(&self) -> bool {
        match self.found_by {
            FoundBy::Descriptor | FoundBy::Being => return true,
            FoundBy::Path => {}
        }
        match std::fs::metadata(&self.path) {
            Ok(meta) => identify(&meta) == self.id,
            Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        }
    }

    /// Makes a non-blocking TCP socket inside. The thread stays there: the next socket of the same pod costs no system call
    /// more. Threads that call this must never make a socket any other way.
    ///
    /// # Errors
    /// What the system says.
    pub fn socket(&self, domain: Domain) -> io::Result<Socket> {
        self.enter()?;
        Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))
    }

    /// Moves the thread inside, for good.
    fn enter(&self) -> io::Result<()> {
        if !self.is_here() {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            CURRENT.set(Some(self.id));
        }
        Ok(())
    }

    /// Whether this thread is inside.
    fn is_here(&self) -> bool {
        match CURRENT.get() {
            Some(current) => current == self.id,
            None => self.found_by == FoundBy::Being,
        }
    }

    /// Runs `work` inside, on a thread of its own if the caller is not, so that it stays where it is.
    ///
    /// # Errors
    /// If the namespace cannot be entered; else what `work` gives.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        if self.is_here() { work() } else { inside(&self.file, work) }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The cookie of the namespace this thread is in.
fn cookie() -> io::Result<u64> {
    Socket::new(Domain::UNIX, Type::DGRAM, None).and_then(|socket| option::netns_cookie(&socket))
}

fn id(file: &File) -> io::Result<NetnsId> {
    file.metadata().map(|meta| identify(&meta))
}

fn identify(meta: &std::fs::Metadata) -> NetnsId {
    NetnsId { device: meta.dev(), inode: meta.ino() }
}

fn inside<T: Send>(file: &File, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name(format!("netns-{}", file.as_raw_fd())).spawn_scoped(scope, || {
                setns(file, CloneFlags::CLONE_NEWNET)?;
                work()
            })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
