//! Requests over kept-alive connections: as fast as the answers come, or at a fixed rate.
//!
//! At a fixed rate a latency is counted from when the request was due, not from when it could be sent: a server that stalls does not
//! hide the requests it held up.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use serde::{Deserialize, Serialize};

use super::histogram::{Histogram, Latency};
use super::http_answer::message_length;
use super::reactor::{Interest, Reactor};

/// Patience with connecting, and with the answers still out at the end.
const PATIENCE: Duration = Duration::from_secs(10);
/// The timer's key in the reactor.
const TIMER: usize = usize::MAX;

/// A run.
#[derive(Debug, Clone)]
pub struct RequestLoad {
    /// The HTTP server.
    pub to: SocketAddr,
    /// Path to ask for.
    pub path: String,
    /// Connections, each with one request out at most.
    pub connections: usize,
    /// How long to send.
    pub time: Duration,
    /// Requests per second over all connections; none: as fast as the answers come.
    pub rate: Option<u32>,
    /// Stop after so many requests, if sooner.
    pub most: Option<u64>,
}

/// What came out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RequestReport {
    /// Requests answered with status 200.
    pub ok: u64,
    /// Requests answered otherwise, or not at all.
    pub failed: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Good answers per second.
    pub rps: f64,
    /// How long answers took.
    pub latency: Latency,
}

/// A count as a floating-point number; exact up to 2^53.
pub fn as_float(count: u64) -> f64 {
    let (high, low) =
        (u32::try_from(count >> 32).expect("32 bits"), u32::try_from(count & 0xffff_ffff).expect("32 bits"));
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

pub(crate) fn request_bytes(to: SocketAddr, path: &str, connection: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {to}\r\nuser-agent: weir-testbed\r\nconnection: {connection}\r\n\r\n")
        .into_bytes()
}

struct Connection {
    stream: Option<TcpStream>,
    /// When the request that is out was due.
    due: Option<Instant>,
    waiting: VecDeque<Instant>,
    input: Vec<u8>,
}

struct Run<'l> {
    load: &'l RequestLoad,
    request: Vec<u8>,
    connections: Vec<Connection>,
    histogram: Histogram,
    sent: u64,
    failed: u64,
}

impl RequestLoad {
    /// Runs it.
    ///
    /// # Errors
    /// When a connection cannot be opened in the first place, or epoll fails.
    pub fn run(&self) -> anyhow::Result<RequestReport> {
        let mut run = Run {
            load: self,
            request: request_bytes(self.to, &self.path, "keep-alive"),
            connections: Vec::new(),
            histogram: Histogram::default(),
            sent: 0,
            failed: 0,
        };
        let mut reactor = Reactor::new()?;
        for key in 0..self.connections {
            let stream =
                TcpStream::connect_timeout(&self.to, PATIENCE).with_context(|| format!("connect to {}", self.to))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            reactor.watch(&stream, key, Interest::Read)?;
            let (due, waiting) = (None, VecDeque::new());
            run.connections.push(Connection { stream: Some(stream), due, waiting, input: Vec::new() });
        }
        let start = Instant::now();
        match self.rate {
            None => run.closed_loop(&mut reactor, start)?,
            Some(0) => bail!("a rate of zero sends nothing"),
            Some(rate) => run.fixed_rate(&mut reactor, start, rate)?,
        }
        run.drain(&mut reactor)?;
        let (seconds, ok) = (start.elapsed().as_secs_f64(), run.histogram.total());
        Ok(RequestReport {
            ok,
            failed: run.failed,
            seconds,
            rps: as_float(ok) / seconds,
            latency: run.histogram.latency(),
        })
    }
}

impl Run<'_> {
    fn closed_loop(&mut self, reactor: &mut Reactor, start: Instant) -> anyhow::Result<()> {
        let end = start + self.load.time;
        for key in 0..self.connections.len() {
            self.due(key, Instant::now());
        }
        let (mut ready, mut scratch) = (Vec::new(), vec![0; 64 << 10]);
        while Instant::now() < end && self.is_allowed_more() && self.connections.iter().any(|c| c.stream.is_some()) {
            reactor.wait(&mut ready, Some(end.saturating_duration_since(Instant::now())))?;
            for key in &ready {
                if self.read(*key, &mut scratch) && self.is_allowed_more() {
                    self.due(*key, Instant::now());
                }
            }
        }
        Ok(())
    }

    fn fixed_rate(&mut self, reactor: &mut Reactor, start: Instant, rate: u32) -> anyhow::Result<()> {
        let gap = Duration::from_secs(1) / rate;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        // Ticks need not be finer than what can be felt; a coarser one makes bursts.
        let tick = TimeSpec::from_duration(gap.max(Duration::from_micros(50)));
        timer.set(Expiration::Interval(tick), TimerSetTimeFlags::empty())?;
        reactor.watch(timer.as_fd(), TIMER, Interest::Read)?;
        let (mut ready, mut scratch) = (Vec::new(), vec![0; 64 << 10]);
        let (mut next, mut turn) = (start, 0);
        let end = start + self.load.time;
        while Instant::now() < end && self.is_allowed_more() {
            reactor.wait(&mut ready, Some(end.saturating_duration_since(Instant::now())))?;
            for key in &ready {
                if *key == TIMER {
                    let _ticks = timer.wait();
                } else {
                    self.read(*key, &mut scratch);
                }
            }
            while next <= Instant::now() && self.is_allowed_more() {
                self.due(turn, next);
                turn = (turn + 1) % self.connections.len();
                next += gap;
            }
        }
        Ok(())
    }

    fn is_allowed_more(&self) -> bool {
        self.load.most.is_none_or(|most| self.sent < most)
    }

    /// Waits for the answers that are still out.
    fn drain(&mut self, reactor: &mut Reactor) -> anyhow::Result<()> {
        let (mut ready, mut scratch) = (Vec::new(), vec![0; 64 << 10]);
        let end = Instant::now() + PATIENCE;
        while self.connections.iter().any(|connection| connection.due.is_some()) && Instant::now() < end {
            reactor.wait(&mut ready, Some(Duration::from_millis(100)))?;
            for key in ready.iter().filter(|key| **key != TIMER) {
                self.read(*key, &mut scratch);
            }
        }
        for connection in &mut self.connections {
            let lost = connection.waiting.len() + usize::from(connection.due.take().is_some());
            self.failed += u64::try_from(lost).expect("64 bits at most");
        }
        Ok(())
    }

    /// A request is due on a connection: sent at once when it is idle.
    fn due(&mut self, key: usize, when: Instant) {
        self.sent += 1;
        let connection = &mut self.connections[key];
        connection.waiting.push_back(when);
        self.send(key);
    }

    fn send(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if connection.due.is_some() {
            return;
        }
        let Some(when) = connection.waiting.pop_front() else { return };
        // One small request on an idle connection always fits the socket's buffer.
        let sent = connection.stream.as_mut().map(|stream| stream.write(&self.request));
        if matches!(sent, Some(Ok(length)) if length == self.request.len()) {
            connection.due = Some(when);
        } else {
            connection.stream = None;
            self.failed += 1;
        }
    }

    /// Takes in what came; true when that completed an answer.
    fn read(&mut self, key: usize, scratch: &mut [u8]) -> bool {
        let connection = &mut self.connections[key];
        let Some(stream) = &mut connection.stream else { return false };
        let length = match stream.read(scratch) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Ok(0) | Err(_) => {
                connection.stream = None;
                self.failed += u64::from(connection.due.take().is_some());
                return false;
            }
            Ok(length) => length,
        };
        let answer = if connection.input.is_empty() {
            &scratch[..length]
        } else {
            connection.input.extend_from_slice(&scratch[..length]);
            connection.input.as_slice()
        };
        if message_length(answer).is_none_or(|whole| answer.len() < whole) {
            if connection.input.is_empty() {
                connection.input.extend_from_slice(&scratch[..length]);
            }
            return false;
        }
        match (connection.due.take(), answer.starts_with(b"HTTP/1.1 200")) {
            (Some(due), true) => self.histogram.record(due.elapsed()),
            (Some(_), false) | (None, _) => self.failed += 1,
        }
        connection.input.clear();
        self.send(key);
        true
    }
}
