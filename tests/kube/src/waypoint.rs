//! A `weir-waypoint` of its own, in front of a backend: the program itself, its ports, its log.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::control::{LOOK_AGAIN, PATIENCE, eventually, ports, request};

/// A server that answers every request with 200 and its own word, at an address of loopback that is nobody else's.
pub struct Backend {
    /// Where it is.
    pub address: Ipv4Addr,
    task: JoinHandle<()>,
}

impl Backend {
    /// The port it listens on.
    pub const PORT: u16 = 8080;

    /// One that says `word`.
    ///
    /// # Errors
    /// When no address is free.
    pub async fn start(word: &'static str) -> Result<Self> {
        for _ in 0..100 {
            let [second, third, fourth]: [u8; 3] = rand::random();
            let address = Ipv4Addr::new(127, second, third, fourth.clamp(2, 254));
            let Ok(listener) = TcpListener::bind((address, Self::PORT)).await else { continue };
            let task = tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    tokio::spawn(async move {
                        let mut head = Vec::new();
                        while !head.ends_with(b"\r\n\r\n")
                            && stream.read_buf(&mut head).await.is_ok_and(|read| read > 0)
                        {}
                        let length = word.len();
                        let answer =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{word}");
                        // Who is gone needs no answer.
                        let _sent = stream.write_all(answer.as_bytes()).await.is_ok();
                    });
                }
            });
            return Ok(Self { address, task });
        }
        bail!("no address of loopback is free")
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A waypoint that runs. Dropping it kills it.
pub struct Waypoint {
    child: Child,
    log: PathBuf,
    plain: u16,
    ready: u16,
    admin: u16,
}

impl Waypoint {
    /// Starts one with these flags, that takes requests in the clear for `service`, `HOST:PORT`.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn start(folder: &Path, service: &str, flags: &[String]) -> Result<Self> {
        let ([plain, ready, admin, hbone], [stats, ..]) = (ports()?, ports()?);
        let log = folder.join(format!("waypoint-{plain}.log"));
        let output = File::create(&log)?;
        let mut command = Command::new(weir_testbed::binary("weir-waypoint")?);
        command.args(flags).arg("--workers=1").arg(format!("--plain=127.0.0.1:{plain}={service}"));
        command.arg(format!("--hbone-addr=127.0.0.1:{hbone}")).arg(format!("--stats-addr=127.0.0.1:{stats}"));
        command.arg(format!("--ready-addr=127.0.0.1:{ready}")).arg(format!("--admin-addr=localhost:{admin}"));
        command.env_remove("RUST_LOG").env_remove("XDS_ADDRESS").env_remove("CA_ADDRESS");
        let child = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn()?;
        Ok(Self { child, log, plain, ready, admin })
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The answer of `/healthz/ready`; nothing when nobody answers.
    pub async fn readiness(&self) -> Option<u16> {
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, self.ready).into();
        request("GET", "/healthz/ready", address).await.ok().map(|(status, _)| status)
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it ends before, or is not in time: with what it said.
    pub async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.readiness().await != Some(200) {
            let ended = self.child.try_wait()?;
            ensure!(ended.is_none(), "weir-waypoint ended with {ended:?}:\n{}", self.log());
            ensure!(Instant::now() < deadline, "weir-waypoint is not ready:\n{}", self.log());
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// What it answers in the clear.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn ask(&self, path: &str) -> Result<(u16, String)> {
        request("GET", path, (Ipv4Addr::LOCALHOST, self.plain).into()).await
    }

    /// Waits until it answers so.
    ///
    /// # Errors
    /// When it does not in time, with what it said.
    pub async fn answers(&self, path: &str, want: u16) -> Result<()> {
        let answered = eventually("it is answered so", || async {
            let status = self.ask(path).await.ok().map(|(status, _)| status);
            Ok((status == Some(want)).then_some(()))
        });
        answered.await.with_context(|| format!("{want} for {path}; it said:\n{}", self.log()))
    }

    /// What it serves, as it says.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn dump(&self) -> Result<Value> {
        let (status, text) = request("GET", "/config_dump", (Ipv4Addr::LOCALHOST, self.admin).into()).await?;
        ensure!(status == 200, "/config_dump answers {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }
}

impl Drop for Waypoint {
    fn drop(&mut self) {
        // One that has ended already is as good as killed.
        let _killed = self.child.kill().is_ok() && self.child.wait().is_ok();
    }
}
