//! Network namespaces: made, named, entered, deleted. In: paths and file descriptors. Out: code and programs run inside. The calling
//! thread itself never changes its namespace.

#![expect(unsafe_code, reason = "a child enters its namespace between fork and exec")]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal};

use crate::error::{Attempt, Attempted, NetlinkError};

/// Where the calling thread's own namespace is found. proc(5).
const OWN_NETNS: &str = "/proc/thread-self/ns/net";

/// A network namespace held open: it lives at least as long as this value.
#[derive(Debug)]
pub struct NetNs {
    fd: OwnedFd,
}

impl NetNs {
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn current() -> Result<Self, NetlinkError> {
        Self::open(Path::new(OWN_NETNS))
    }

    /// The namespace mounted on `path`, such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// When the file is absent or is not a network namespace.
    pub fn open(path: &Path) -> Result<Self, NetlinkError> {
        let file = File::open(path).attempted(|| Attempt::OpenNetns(path.into()))?;
        // A leftover of a deleted namespace is an ordinary empty file: everything after would fail with a bare EINVAL.
        let target = nix::sys::statfs::fstatfs(&file).attempted(|| Attempt::OpenNetns(path.into()))?;
        if target.filesystem_type() != nix::sys::statfs::NSFS_MAGIC {
            return Err(NetlinkError::NotANetns(path.into()));
        }
        Ok(Self { fd: file.into() })
    }

    /// The namespace behind a descriptor that somebody else opened.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Makes a new namespace and names it by mounting it on `path`; the folder is created when absent.
    ///
    /// # Errors
    /// When the path exists already, or without CAP_SYS_ADMIN.
    pub fn create(path: &Path) -> Result<Self, NetlinkError> {
        let attempt = || Attempt::CreateNetns(path.into());
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).attempted(attempt)?;
        }
        File::create_new(path).attempted(attempt)?;
        let made = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).attempted(attempt)?;
            mount(Some(OWN_NETNS), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).attempted(attempt)
        });
        if let Err(error) = made {
            fs::remove_file(path).attempted(attempt)?;
            return Err(error);
        }
        Self::open(path)
    }

    /// Takes the name away; the namespace itself ends with its last process, socket and descriptor. An absent path is fine.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN, or when something else is at `path`.
    pub fn delete(path: &Path) -> Result<(), NetlinkError> {
        let attempt = || Attempt::DeleteNetns(path.into());
        match umount2(path, MntFlags::MNT_DETACH) {
            // EINVAL: nothing is mounted on it, only the empty file is left.
            Ok(()) | Err(nix::Error::ENOENT | nix::Error::EINVAL) => {}
            Err(error) => return Err(error).attempted(attempt),
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).attempted(attempt),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Runs `work` on a thread of its own inside this namespace and returns its answer.
    ///
    /// # Errors
    /// When the namespace cannot be entered (CAP_SYS_ADMIN), or `work` panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetlinkError> {
        on_a_thread(|| {
            setns(&self.fd, CloneFlags::CLONE_NEWNET).attempted(|| Attempt::EnterNetns)?;
            Ok(work())
        })
    }

    /// Starts `command` inside this namespace, in a process group of its own and with no signal blocked. The kernel kills it when the calling *thread* ends.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the program cannot be run.
    pub fn spawn(&self, mut command: Command) -> Result<Child, NetlinkError> {
        let program = PathBuf::from(command.get_program());
        let fd = self.fd.try_clone().attempted(|| Attempt::EnterNetns)?;
        let parent = nix::unistd::getpid();
        command.process_group(0);
        let enter = move || {
            setns(&fd, CloneFlags::CLONE_NEWNET)?;
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The caller may have blocked signals for itself; the program shall hear them.
            SigSet::empty().thread_set_mask()?;
            // The parent may have died before the line above.
            if nix::unistd::getppid() == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
        };
        // SAFETY: between fork and exec only async-signal-safe system calls are made (setns, prctl, sigprocmask, getppid); nothing allocates.
        unsafe { command.pre_exec(enter) };
        command.spawn().attempted(|| Attempt::Spawn(program))
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T, NetlinkError> + Send) -> Result<T, NetlinkError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("in-netns".into()).spawn_scoped(scope, work);
        thread.attempted(|| Attempt::StartThread)?.join().unwrap_or(Err(NetlinkError::ThreadPanicked))
    })
}
