//! Programs that run inside a namespace: their output kept, their end certain.

use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use weir_netlink::NetNs;

use crate::http::http_get;

/// Time between two looks at something that is awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A running program. Dropping it kills it and all it started; the kernel does when the thread that started it dies.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    netns: NetNs,
}

impl Process {
    /// Starts `command` in `netns`, with both outputs in `LOG_DIR/NAME.log`, and standard input held open.
    ///
    /// # Errors
    /// When the program cannot be run or the log not be written.
    pub fn start(netns: &NetNs, name: &str, mut command: Command, log_dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(log_dir)?;
        let log = log_dir.join(format!("{name}.log"));
        let output =
            File::options().create(true).append(true).open(&log).with_context(|| format!("open {}", log.display()))?;
        command.stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output);
        let child = netns.spawn(command)?;
        let fd = std::os::fd::AsFd::as_fd(netns).try_clone_to_owned()?;
        Ok(Self { name: name.into(), child, log, netns: NetNs::from_fd(fd) })
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it answers GET `path` with 200 at `address` of its own namespace.
    ///
    /// # Errors
    /// When it ends before, or does not answer so within `patience`: with its log.
    pub fn wait_ready(&mut self, address: SocketAddr, path: &str, patience: Duration) -> anyhow::Result<()> {
        let netns = NetNs::from_fd(std::os::fd::AsFd::as_fd(&self.netns).try_clone_to_owned()?);
        self.wait_until(patience, |_| matches!(http_get(&netns, address, path), Ok(answer) if answer.status == 200))
    }

    /// Waits until its log has `text` in it.
    ///
    /// # Errors
    /// As [`Self::wait_ready`].
    pub fn wait_log(&mut self, text: &str, patience: Duration) -> anyhow::Result<()> {
        self.wait_until(patience, |process| process.log().contains(text))
    }

    /// Waits until something takes connections at `address` of its namespace.
    ///
    /// # Errors
    /// As [`Self::wait_ready`].
    pub fn wait_listening(&mut self, address: SocketAddr, patience: Duration) -> anyhow::Result<()> {
        let netns = NetNs::from_fd(std::os::fd::AsFd::as_fd(&self.netns).try_clone_to_owned()?);
        let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok();
        self.wait_until(patience, |_| netns.run(connect).unwrap_or(false))
    }

    fn wait_until(&mut self, patience: Duration, mut met: impl FnMut(&Self) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        while !met(self) {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}\n{}", self.name, self.log());
            }
            ensure!(Instant::now() < deadline, "{} is not ready after {patience:?}\n{}", self.name, self.log());
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(self.own_pid()?, signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When the kernel cannot say.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended within `patience`: with its log.
    pub fn wait(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "{} still runs after {patience:?}\n{}", self.name, self.log());
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Processor time it has used so far, all its threads together. proc(5), schedstat.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            nanos += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).context("schedstat")?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Memory it holds, in bytes: its resident set. proc(5), smaps_rollup.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).context("no Rss in smaps_rollup")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("Rss of smaps_rollup")?;
        Ok(kib * 1024)
    }

    fn own_pid(&self) -> anyhow::Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.pid())?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A group that is gone already is as good as killed.
        if let Ok(pid) = self.own_pid() {
            let _gone = killpg(pid, Signal::SIGKILL);
        }
        let _reaped = self.child.wait();
    }
}

/// Runs `command` in `netns` to its end and returns its standard output.
///
/// # Errors
/// When it fails, with what it wrote to standard error, or does not end within `patience`.
pub fn run_to_end(netns: &NetNs, mut command: Command, patience: Duration) -> anyhow::Result<String> {
    let shown = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = netns.spawn(command)?;
    let (mut stdout, mut stderr) = (child.stdout.take().context("piped")?, child.stderr.take().context("piped")?);
    thread::scope(|scope| {
        let out = scope.spawn(move || text_of(&mut stdout));
        let err = scope.spawn(move || text_of(&mut stderr));
        let deadline = Instant::now() + patience;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                bail!("{shown} still ran after {patience:?}");
            }
            thread::sleep(LOOK_AGAIN);
        };
        let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
        ensure!(status.success(), "{shown} ended with {status}: {}", err.trim());
        Ok(out)
    })
}

fn text_of(pipe: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    // A pipe that breaks has ended; what came before counts.
    let _end = pipe.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
