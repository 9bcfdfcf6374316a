//! The `weir-control` that is measured: its life, and who may call it.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use weir_rpc::Dial;

use crate::{Called, cluster::node_name, probe};

/// The name in its certificate.
pub(crate) const NAME: &str = "localhost";
/// Patience with its start.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks whether it is ready.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A control plane that ends with this.
pub(crate) struct Control {
    child: Child,
    pid: u32,
    dir: PathBuf,
    grpc: SocketAddr,
    stats: SocketAddr,
    ready: SocketAddr,
}

impl Control {
    /// Starts it in front of a cluster, with a token for an agent on each of so many nodes.
    pub(crate) fn start(program: &Path, kubeconfig: &Path, nodes: u32, dir: &Path) -> anyhow::Result<Self> {
        let mut tokens = String::new();
        for node in 0..nodes {
            let (token, name) = (format!("token-of-the-agent-{node:06}"), node_name(node));
            tokens.push_str(&format!("{token} weir-system/weir-agent {name}\n"));
            std::fs::write(token_file(dir, node), token)?;
        }
        std::fs::write(dir.join("tokens"), tokens)?;
        let [grpc, stats, ready, admin] = free_ports()?;
        let log = std::fs::File::create(dir.join("control.log"))?;
        let mut command = Command::new(program);
        for (flag, path) in
            [("--kubeconfig", kubeconfig), ("--ca-dir", &dir.join("ca")), ("--static-tokens", &dir.join("tokens"))]
        {
            command.arg(flag).arg(path);
        }
        let child = command
            .args(["--serving-name", NAME])
            .args(["--grpc-addr", &grpc.to_string(), "--stats-addr", &stats.to_string()])
            .args(["--ready-addr", &ready.to_string(), "--admin-addr", &format!("localhost:{}", admin.port())])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| program.display().to_string())?;
        let pid = child.id();
        Ok(Self { child, pid, dir: dir.to_owned(), grpc, stats, ready })
    }

    /// Waits until it serves the whole mesh.
    pub(crate) async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !matches!(get(self.ready, "/ready").await, Ok(answer) if answer.starts_with("HTTP/1.1 200")) {
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("weir-control ended with {status}\n{}", self.log());
            }
            ensure!(Instant::now() < deadline, "weir-control is not ready after {PATIENCE:?}\n{}", self.log());
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// The end of what it wrote.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("control.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// How the agent of a node calls it.
    pub(crate) fn called(&self, node: u32) -> Called {
        Called {
            target: format!("https://{}", self.grpc),
            roots: self.dir.join("ca/root-cert.pem"),
            token: token_file(&self.dir, node),
            node: node_name(node),
        }
    }

    /// As [`Self::called`], to be dialled.
    pub(crate) fn dial(&self, node: u32) -> anyhow::Result<Dial> {
        self.called(node).dial()
    }

    /// Processor time so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        probe::cpu_of(self.pid)
    }

    /// Memory, in MiB: a field of `/proc/PID/status`.
    pub(crate) fn mib(&self, field: &str) -> anyhow::Result<f64> {
        Ok(f64::from(probe::kib_of(self.pid, field)?) / 1024.0)
    }

    /// The sum of a metric over its labels.
    pub(crate) async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = get(self.stats, "/metrics").await?;
        let of = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let own = series.split('{').next()? == name;
            own.then(|| value.parse::<f64>().ok()).flatten()
        };
        let values: Vec<f64> = text.lines().filter_map(of).collect();
        ensure!(!values.is_empty(), "there is no metric {name}");
        Ok(values.iter().sum())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // One that has ended is as good as killed.
        let _gone = self.child.kill().is_err();
        let _reaped = self.child.wait().is_ok();
    }
}

fn token_file(dir: &Path, node: u32) -> PathBuf {
    dir.join(format!("token-{node}"))
}

/// Ports of the loopback that nobody listens on now.
fn free_ports() -> anyhow::Result<[SocketAddr; 4]> {
    let listeners: Vec<_> = (0..4).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let addresses: Vec<_> = listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    addresses.try_into().ok().context("there are four")
}

async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: scale\r\nconnection: close\r\n\r\n").as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    };
    timeout(Duration::from_secs(10), asked).await?
}
