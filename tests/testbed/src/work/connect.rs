//! A new connection for every request, so many at a time. The server closes first, so the client's ports are free again at once.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use super::histogram::{Histogram, Latency};
use super::reactor::{Interest, Reactor};
use super::request::{as_float, request_bytes};

/// A connection that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A run.
#[derive(Debug, Clone)]
pub struct ConnectLoad {
    /// The HTTP server.
    pub to: SocketAddr,
    /// Path to ask for.
    pub path: String,
    /// Connections at a time.
    pub at_once: usize,
    /// How long to start new ones.
    pub time: Duration,
}

/// What came out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectReport {
    /// Connections whose request was answered with status 200.
    pub ok: u64,
    /// The others.
    pub failed: u64,
    /// What the first of the others died of.
    pub first_failure: Option<String>,
    /// From the first to the last.
    pub seconds: f64,
    /// Good ones per second.
    pub per_second: f64,
    /// From connect to the server's close.
    pub latency: Latency,
}

struct Attempt {
    stream: TcpStream,
    start: Instant,
    input: Vec<u8>,
    asked: bool,
}

enum Step {
    Goes,
    Ends(Result<(), String>),
}

impl ConnectLoad {
    /// Runs it.
    ///
    /// # Errors
    /// When epoll fails.
    pub fn run(&self) -> anyhow::Result<ConnectReport> {
        let request = request_bytes(self.to, &self.path, "close");
        let mut reactor = Reactor::new()?;
        let mut attempts: Vec<Option<Attempt>> = (0..self.at_once).map(|_| None).collect();
        let (mut histogram, mut failed, mut first_failure) = (Histogram::default(), 0, None);
        let mut fail = |reason: String| {
            failed += 1;
            first_failure.get_or_insert(reason);
        };
        let (mut ready, mut scratch) = (Vec::new(), vec![0; 16 << 10]);
        let start = Instant::now();
        let end = start + self.time;
        loop {
            let goes_on = Instant::now() < end;
            for (key, slot) in attempts.iter_mut().enumerate().filter(|(_, slot)| slot.is_none()) {
                if goes_on {
                    match self.begin(&reactor, key) {
                        Ok(attempt) => *slot = Some(attempt),
                        Err(error) => fail(error.to_string()),
                    }
                }
            }
            if !goes_on && attempts.iter().all(Option::is_none) {
                break;
            }
            reactor.wait(&mut ready, Some(Duration::from_millis(100)))?;
            for key in &ready {
                let Some(attempt) = &mut attempts[*key] else { continue };
                if let Step::Ends(outcome) = attempt.step(&reactor, *key, &request, &mut scratch) {
                    match outcome {
                        Ok(()) => histogram.record(attempt.start.elapsed()),
                        Err(reason) => fail(reason),
                    }
                    attempts[*key] = None;
                }
            }
            for slot in attempts.iter_mut().filter(|slot| slot.as_ref().is_some_and(|a| a.start.elapsed() > PATIENCE)) {
                *slot = None;
                fail("timed out".into());
            }
        }
        let (seconds, ok) = (start.elapsed().as_secs_f64(), histogram.total());
        let per_second = as_float(ok) / seconds;
        Ok(ConnectReport { ok, failed, first_failure, seconds, per_second, latency: histogram.latency() })
    }

    fn begin(&self, reactor: &Reactor, key: usize) -> std::io::Result<Attempt> {
        let socket = Socket::new(Domain::for_address(self.to), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        let start = Instant::now();
        match socket.connect(&self.to.into()) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        reactor.watch(&socket, key, Interest::Write)?;
        Ok(Attempt { stream: socket.into(), start, input: Vec::new(), asked: false })
    }
}

impl Attempt {
    fn step(&mut self, reactor: &Reactor, key: usize, request: &[u8], scratch: &mut [u8]) -> Step {
        if !self.asked {
            return match self.stream.write(request) {
                Ok(length) if length == request.len() => {
                    self.asked = true;
                    match reactor.rewatch(&self.stream, key, Interest::Read) {
                        Ok(()) => Step::Goes,
                        Err(error) => Step::Ends(Err(error.to_string())),
                    }
                }
                Ok(length) => Step::Ends(Err(format!("only {length} bytes of the request were taken"))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Step::Goes,
                Err(error) => Step::Ends(Err(error.to_string())),
            };
        }
        match self.stream.read(scratch) {
            Ok(0) if self.input.starts_with(b"HTTP/1.1 200") => Step::Ends(Ok(())),
            Ok(0) => Step::Ends(Err("closed without an answer".into())),
            Ok(length) => {
                self.input.extend_from_slice(&scratch[..length]);
                Step::Goes
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Step::Goes,
            Err(error) => Step::Ends(Err(error.to_string())),
        }
    }
}
