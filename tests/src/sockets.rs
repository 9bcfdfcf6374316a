//! Both ends of a connection between pods, in the hands of one test.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use weir_netlink::NetNs;
use weir_testbed::{Pod, Sniffer, WireReport, http_get};

use crate::wait::{PATIENCE, eventually};

/// A listening socket inside a pod.
#[derive(Debug)]
pub struct Server(TcpListener);

impl Server {
    /// Listens at an address of the pod.
    ///
    /// # Errors
    /// When it is taken, or not an address of the pod.
    pub fn open(pod: &Pod, at: SocketAddr) -> anyhow::Result<Self> {
        let listener = pod.netns().run(|| TcpListener::bind(at))?.with_context(|| format!("listen at {at}"))?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// Takes the next connection.
    ///
    /// # Errors
    /// When none comes.
    pub fn accept(&self) -> anyhow::Result<TcpStream> {
        let mut accepted = None;
        eventually("a connection arrives at the application", || {
            accepted = self.waiting()?;
            Ok(accepted.is_some())
        })?;
        accepted.context("just seen")
    }

    /// Takes a connection if one waits.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn waiting(&self) -> anyhow::Result<Option<TcpStream>> {
        match self.0.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                Ok(Some(patient(stream)?))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Connects from inside a namespace.
///
/// # Errors
/// What connect(2) says.
pub fn connect(netns: &NetNs, to: SocketAddr) -> anyhow::Result<TcpStream> {
    let connected = netns.run(|| TcpStream::connect_timeout(&to, PATIENCE / 2))?;
    Ok(patient(connected.with_context(|| format!("connect to {to}"))?)?)
}

fn patient(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends `words` there and back.
///
/// # Errors
/// When anything else arrives, or nothing.
pub fn talk(one: &mut TcpStream, other: &mut TcpStream, words: &str) -> anyhow::Result<()> {
    let mut heard = vec![0; words.len()];
    for _ in 0..2 {
        one.write_all(words.as_bytes()).context("say")?;
        other.read_exact(&mut heard).context("hear")?;
        ensure!(heard == words.as_bytes(), "{words:?} was said, {:?} heard", String::from_utf8_lossy(&heard));
        other.write_all(words.as_bytes()).context("answer")?;
        one.read_exact(&mut heard).context("hear the answer")?;
        ensure!(heard == words.as_bytes(), "{words:?} was answered, {:?} heard", String::from_utf8_lossy(&heard));
    }
    Ok(())
}

/// Reads to the end of the stream, and says how many bytes came before it.
///
/// # Errors
/// When it does not end as a peer ends that has said all: with a reset, or not at all.
pub fn clean_end(stream: &mut TcpStream) -> anyhow::Result<usize> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).context("wait for the end")
}

/// Reads until the connection is reset.
///
/// # Errors
/// When it ends as if all had been said, or not at all.
pub fn reset(stream: &mut TcpStream) -> anyhow::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => bail!("a clean end, where a reset was due"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error).context("neither data nor a reset"),
        }
    }
}

/// Makes sure that a connection is refused: not served, not cut off in the middle, and not left hanging.
///
/// # Errors
/// When it is one of these.
pub fn refused(netns: &NetNs, to: SocketAddr) -> anyhow::Result<()> {
    let error = match http_get(netns, to, "/") {
        Ok(answer) => bail!("{to} answered with {answer:?}, and should refuse"),
        Err(error) => error,
    };
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    match cause {
        Some(
            ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::PermissionDenied
            | ErrorKind::BrokenPipe,
        ) => Ok(()),
        _ => Err(error).with_context(|| format!("{to} does not refuse")),
    }
}

/// Whom a `serve-http` takes for its client.
///
/// # Errors
/// When it does not answer.
pub fn client_seen(netns: &NetNs, to: SocketAddr, path: &str) -> anyhow::Result<(String, IpAddr)> {
    let answer = http_get(netns, to, path)?;
    let seen: Value = serde_json::from_str(&answer.body).with_context(|| format!("{answer:?}"))?;
    let field = |name: &str| seen[name].as_str().with_context(|| format!("no {name} in {seen}"));
    let client: SocketAddr = field("client")?.parse()?;
    Ok((field("name")?.to_owned(), client.ip()))
}

/// Runs `work` while somebody listens on a link for `needle`.
///
/// # Errors
/// When the work fails, or the listener missed a packet.
pub fn unheard<T>(
    netns: &NetNs,
    link: &str,
    needle: &str,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(T, WireReport)> {
    let ear = Sniffer::start(netns, link, needle.as_bytes())?;
    let done = work();
    let heard = ear.stop()?;
    let done = done?;
    ensure!(heard.lost == 0, "packets passed unheard: {heard:?}");
    Ok((done, heard))
}
