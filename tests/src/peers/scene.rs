//! What happens in pods and on nodes: programs of ours, an agent alone, what listens where.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use weir_netlink::NetNs;
use weir_testbed::{Cleanup, Process, Topology, binary};

const PATIENCE: Duration = Duration::from_secs(30);

/// The agent's program.
///
/// # Errors
/// When it is not built.
pub fn agent() -> anyhow::Result<PathBuf> {
    binary("weir-agent")
}

/// The command of one of the testbed's programs.
///
/// # Errors
/// When it is not built.
pub fn bed(arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(binary("weir-testbed")?);
    command.args(arguments);
    Ok(command)
}

/// Runs a server of the testbed on `port` of all addresses of a pod, and waits until it listens.
///
/// # Errors
/// When it does not within half a minute.
pub fn serve(topology: &Topology, pod: &str, arguments: &[&str], port: u16) -> anyhow::Result<Process> {
    let mut command = bed(arguments)?;
    let addresses = topology.pod(pod).addresses();
    for ip in addresses {
        command.arg("--listen").arg(SocketAddr::new(*ip, port).to_string());
    }
    let mut process = topology.start_in_pod(pod, command)?;
    let netns = topology.pod(pod).netns();
    let all_listen = || Ok(listening_ports(netns)?.into_iter().filter(|open| *open == port).count() >= addresses.len());
    until("a server's listening", || {
        ensure!(process.is_running()?, "{pod}: {}", process.log());
        all_listen()
    })?;
    Ok(process)
}

/// Waits half a minute for a condition.
///
/// # Errors
/// When it is not met by then, or cannot be looked at.
pub fn until(what: &str, mut met: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !met()? {
        ensure!(Instant::now() < deadline, "{what} did not come to pass within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The TCP ports something listens on in a namespace, one for each listening socket. proc(5).
///
/// # Errors
/// When the kernel does not say.
pub fn listening_ports(netns: &NetNs) -> anyhow::Result<Vec<u16>> {
    let mut ports = Vec::new();
    for file in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        let table = netns.run(|| std::fs::read_to_string(file))??;
        for line in table.lines().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let (local, state) = (words.nth(1).context("local address")?, words.nth(1).context("state")?);
            if state == "0A" {
                let (_, port) = local.rsplit_once(':').context("port")?;
                ports.push(u16::from_str_radix(port, 16)?);
            }
        }
    }
    Ok(ports)
}

/// One node's agent, where the others have none. Dropping it ends it and takes all of it out of the kernel.
#[derive(Debug)]
pub struct Agent {
    /// The process.
    pub process: Process,
    cleanup: Cleanup,
}

impl Agent {
    /// Starts it; does not wait until it is ready.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn start(topology: &Topology, node: usize, flags: &[&str]) -> anyhow::Result<Self> {
        let agent = agent()?;
        let mut command = topology.agent_command(&agent, node);
        command.args(flags);
        let cleanup = Cleanup::of(topology, &agent, node)?;
        Ok(Self { process: topology.start_on_node(node, command)?, cleanup })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Cleaning up is for a machine without the agent: it goes first.
        if let Err(error) = self.process.signal(Signal::SIGKILL).and_then(|()| self.process.wait(PATIENCE)) {
            eprintln!("{error:#}");
        }
        if let Err(error) = self.cleanup.run() {
            eprintln!("{error:#}");
        }
    }
}
