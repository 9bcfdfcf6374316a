//! Applications: processes of their own, in a netns, which report line by line.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork, pipe},
};

use super::{DEADLINE, Netns, connect, is_ready};

/// The application's end of the conversation.
pub(crate) struct Talk {
    to: File,
    from: File,
}

impl Talk {
    /// Reports a line.
    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.to, "{line}").unwrap();
    }

    /// Waits for the test to say go, or to be done.
    pub(crate) fn wait(&mut self) {
        let _ended_or_not = self.from.read(&mut [0]).unwrap();
    }
}

/// A running application; it ends with this.
pub(crate) struct App {
    pid: Pid,
    to: Option<File>,
    from: BufReader<File>,
}

impl App {
    /// Runs `what` in a new process in `netns`.
    pub(crate) fn run(netns: &Netns, what: impl FnOnce(&mut Talk)) -> Self {
        let ((read_up, write_up), (read_down, write_down)) = (pipe().unwrap(), pipe().unwrap());
        // SAFETY: the child only uses memory (glibc keeps its allocator usable across fork) and system calls, and ends here.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                drop((read_up, write_down));
                let mut talk = Talk { to: write_up.into(), from: read_down.into() };
                let run = || {
                    setns(&netns.0, CloneFlags::CLONE_NEWNET).unwrap();
                    what(&mut talk);
                };
                let code = i32::from(catch_unwind(AssertUnwindSafe(run)).is_err());
                // SAFETY: ends the process without running what the test harness registered.
                unsafe { libc::_exit(code) }
            }
            ForkResult::Parent { child } => {
                drop((write_up, read_down));
                Self { pid: child, to: Some(write_down.into()), from: BufReader::new(read_up.into()) }
            }
        }
    }

    /// Connects `from` there and keeps the connection; says "peer local", or the kind of the error.
    pub(crate) fn connect(netns: &Netns, to: SocketAddr) -> Self {
        Self::run(netns, |talk| match connect(to) {
            Ok(stream) => {
                talk.say(&format!("{} {}", stream.peer_addr().unwrap(), stream.local_addr().unwrap()));
                talk.wait();
            }
            Err(error) => talk.say(&format!("{:?}", error.kind())),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        u32::try_from(self.pid.as_raw()).unwrap()
    }

    /// The next line the application says.
    pub(crate) fn hear(&mut self) -> String {
        assert!(
            !self.from.buffer().is_empty() || is_ready(self.from.get_ref(), DEADLINE + Duration::from_secs(1)),
            "the application says nothing"
        );
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Lets the application go on from where it waits.
    pub(crate) fn go(&mut self) {
        self.to.as_mut().unwrap().write_all(b"g").unwrap();
    }
}

impl Drop for App {
    fn drop(&mut self) {
        drop(self.to.take());
        let _gone = kill(self.pid, Signal::SIGKILL);
        let _reaped = waitpid(self.pid, None);
    }
}
