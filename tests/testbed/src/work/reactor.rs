//! Readiness of many sockets on one thread: epoll, with a key for each socket.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// What a socket is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    Write,
}

pub(crate) struct Reactor {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl Reactor {
    pub(crate) fn new() -> nix::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, events: vec![EpollEvent::empty(); 512] })
    }

    pub(crate) fn watch(&self, socket: impl AsFd, key: usize, interest: Interest) -> nix::Result<()> {
        self.epoll.add(socket, event(key, interest))
    }

    pub(crate) fn rewatch(&self, socket: impl AsFd, key: usize, interest: Interest) -> nix::Result<()> {
        self.epoll.modify(socket, &mut event(key, interest))
    }

    /// Fills `ready` with the keys of sockets that can go on. A socket that was closed leaves by itself.
    pub(crate) fn wait(&mut self, ready: &mut Vec<usize>, patience: Option<Duration>) -> nix::Result<()> {
        ready.clear();
        let timeout = match patience {
            None => EpollTimeout::NONE,
            // Rounded up: a wait of half a millisecond must not become a busy loop.
            Some(time) => EpollTimeout::try_from(time + Duration::from_micros(999)).unwrap_or(EpollTimeout::MAX),
        };
        let count = match self.epoll.wait(&mut self.events, timeout) {
            Err(nix::Error::EINTR) => 0,
            other => other?,
        };
        ready
            .extend(self.events[..count].iter().map(|event| usize::try_from(event.data()).expect("made from a usize")));
        Ok(())
    }
}

fn event(key: usize, interest: Interest) -> EpollEvent {
    let flags = match interest {
        Interest::Read => EpollFlags::EPOLLIN,
        Interest::Write => EpollFlags::EPOLLOUT,
    };
    EpollEvent::new(flags, u64::try_from(key).expect("64 bits at most"))
}
