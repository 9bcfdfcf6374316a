//! A `weir-control` of its own: the program itself, its ports, its log, its pages.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as Bound},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

/// How long anything may take to become so.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// Between two looks at something that is awaited.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long a page may take.
const PAGE: Duration = Duration::from_secs(10);

/// Looks again and again until there is an answer.
///
/// # Errors
/// When there is none in time.
pub async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await.with_context(|| what.to_owned())? {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(LOOK_AGAIN).await;
    }
}

/// Four ports that nobody has, below those the kernel gives out by itself.
pub(crate) fn ports() -> Result<[u16; 4]> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 9_000)?;
    let free = |port: u16| {
        Bound::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && Bound::bind((Ipv6Addr::LOCALHOST, port)).is_ok()
    };
    let mut found = Vec::new();
    for _ in 0..2_000 {
        let port = 20_000 + (start + NEXT.fetch_add(1, Relaxed)) % 10_000;
        if free(port) {
            found.push(port);
        }
        if let Ok(four) = <[u16; 4]>::try_from(found.as_slice()) {
            return Ok(four);
        }
    }
    bail!("no free ports")
}

/// How a control plane is started: what stays the same when it is started again.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its flags but for those of the ports.
    pub flags: Vec<String>,
    /// Where agents are served.
    pub agents: SocketAddr,
    stats: u16,
    ready: u16,
    admin: u16,
}

impl Plan {
    /// With ports of its own.
    ///
    /// # Errors
    /// When there are none.
    pub fn new(flags: Vec<String>) -> Result<Self> {
        let [agents, stats, ready, admin] = ports()?;
        Ok(Self { flags, agents: (Ipv4Addr::LOCALHOST, agents).into(), stats, ready, admin })
    }

    /// Agents are served under IPv6.
    pub fn over_ipv6(mut self) -> Self {
        self.agents = (Ipv6Addr::LOCALHOST, self.agents.port()).into();
        self
    }

    /// The command, for whoever starts it in an unusual way.
    ///
    /// # Errors
    /// When the program was not built.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(weir_testbed::binary("weir-control")?);
        command.args(&self.flags).arg(format!("--grpc-addr={}", self.agents));
        command.arg(format!("--stats-addr=[::1]:{}", self.stats)).arg(format!("--ready-addr=127.0.0.1:{}", self.ready));
        command.arg(format!("--admin-addr=localhost:{}", self.admin)).env_remove("RUST_LOG").env_remove("KUBECONFIG");
        Ok(command)
    }

    /// Starts it, with what it says in a file of the folder.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn start(&self, folder: &Path) -> Result<Control> {
        Control::run(self.clone(), self.command()?, folder)
    }
}

/// A control plane that runs. Dropping it kills it.
pub struct Control {
    /// How it was started.
    pub plan: Plan,
    child: Child,
    log: PathBuf,
    /// Where what this run says begins in the log.
    from: usize,
}

impl Control {
    /// Runs the command of a plan.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn run(plan: Plan, mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("control-{}.log", plan.agents.port()));
        let output = File::options().create(true).append(true).open(&log)?;
        let from = usize::try_from(output.metadata()?.len())?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().context("weir-control")?;
        Ok(Self { plan, child, log, from })
    }

    /// What it has said in this run.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.get(self.from..).unwrap_or_default().to_owned()
    }

    /// Waits until it says all of these in one line, and answers with that.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn says(&self, words: &[&str]) -> Result<String> {
        let said = eventually("a line of the log", || async {
            let log = self.log();
            Ok(log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned))
        });
        said.await.with_context(|| format!("{words:?} in:\n{}", self.log()))
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it ends before, or is not in time: with what it said.
    pub async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.get("/ready", self.plan.ready).await.map(|(status, _)| status).ok() != Some(200) {
            if let Some(status) = self.child.try_wait()? {
                bail!("weir-control ended with {status}\n{}", self.log());
            }
            ensure!(Instant::now() < deadline, "weir-control is not ready:\n{}", self.log());
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// The answer of `/ready`; nothing when nobody answers.
    pub async fn readiness(&self) -> Option<u16> {
        self.get("/ready", self.plan.ready).await.ok().map(|(status, _)| status)
    }

    /// Waits for its end by itself, and answers with its exit code.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ended(&mut self) -> Result<Option<i32>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            ensure!(Instant::now() < deadline, "weir-control still runs:\n{}", self.log());
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Kills it, so that it cannot say farewell to anybody.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// When it does not end, or not well.
    pub async fn stop(mut self) -> Result<()> {
        let asked = request("POST", "/quitquitquit", (Ipv4Addr::LOCALHOST, self.plan.admin).into()).await?;
        ensure!(asked.0 == 200, "quitquitquit answers {}", asked.0);
        let code = self.ended().await?;
        ensure!(code == Some(0), "it ended with {code:?}:\n{}", self.log());
        Ok(())
    }

    /// A page for people.
    ///
    /// # Errors
    /// When it does not answer with one.
    pub async fn page(&self, path: &str) -> Result<Value> {
        let (status, text) = self.get(path, self.plan.admin).await?;
        ensure!(status == 200, "{path} answers {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// All metrics, as text.
    ///
    /// # Errors
    /// When it does not answer with them.
    pub async fn metrics(&self) -> Result<String> {
        let address = (Ipv6Addr::LOCALHOST, self.plan.stats).into();
        let (status, text) = request("GET", "/metrics", address).await?;
        ensure!(status == 200, "/metrics answers {status}");
        Ok(text)
    }

    /// The sum of a metric over the labels that have this text in them.
    ///
    /// # Errors
    /// When there is none such.
    pub async fn metric(&self, name: &str, label: &str) -> Result<f64> {
        let text = self.metrics().await?;
        let mut found = None;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').context("a sample has a value")?;
            let (own, labels) = series.split_once('{').unwrap_or((series, ""));
            if own == name && labels.contains(label) {
                *found.get_or_insert(0.0) += value.parse::<f64>()?;
            }
        }
        found.with_context(|| format!("no {name} with {label:?} in:\n{text}"))
    }

    async fn get(&self, path: &str, port: u16) -> Result<(u16, String)> {
        request("GET", path, (Ipv4Addr::LOCALHOST, port).into()).await
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // One that has ended already is as good as killed.
        let _killed = self.child.kill().is_ok() && self.child.wait().is_ok();
    }
}

/// Asks a server of HTTP once, and answers with the status and the body.
pub(crate) async fn request(verb: &str, path: &str, address: SocketAddr) -> Result<(u16, String)> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let head =
            format!("{verb} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8(answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no end of the head")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        ensure!(!head.to_ascii_lowercase().contains("transfer-encoding"), "a body in chunks");
        Ok((status, body.to_owned()))
    };
    timeout(PAGE, asked).await.with_context(|| format!("{path} does not answer"))?
}
