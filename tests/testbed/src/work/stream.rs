//! Throughput of a few streams in one direction, counted where the bytes arrive.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};

use super::serve_tcp::STREAM_BUFFER;

/// Patience with a peer that neither takes nor gives, beyond the time of the run.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From client to a sink.
    Up,
    /// From a source to the client.
    Down,
}

/// A run.
#[derive(Debug, Clone)]
pub struct StreamLoad {
    /// A sink for [`Direction::Up`], an endless source for [`Direction::Down`].
    pub to: SocketAddr,
    /// Connections at once.
    pub streams: usize,
    /// How long to send.
    pub time: Duration,
    /// Which way.
    pub direction: Direction,
}

/// What came out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamReport {
    /// Payload that arrived, in bytes.
    pub bytes: u64,
    /// From the first connection to the last arrival.
    pub seconds: f64,
    /// Payload, in 10^9 bits per second.
    pub gbps: f64,
}

impl StreamLoad {
    /// Runs it.
    ///
    /// # Errors
    /// When any of the streams fails.
    pub fn run(&self) -> anyhow::Result<StreamReport> {
        let start = Instant::now();
        let end = start + self.time;
        let counts: Vec<anyhow::Result<u64>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.streams).map(|_| scope.spawn(|| self.one(end))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a stream panicked"))))
                .collect()
        });
        let seconds = start.elapsed().as_secs_f64();
        let bytes = counts.into_iter().sum::<anyhow::Result<u64>>()?;
        Ok(StreamReport { bytes, seconds, gbps: super::request::as_float(bytes) * 8.0 / seconds / 1e9 })
    }

    fn one(&self, end: Instant) -> anyhow::Result<u64> {
        let mut stream =
            TcpStream::connect_timeout(&self.to, PATIENCE).with_context(|| format!("connect to {}", self.to))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut buffer = vec![b'w'; STREAM_BUFFER];
        match self.direction {
            Direction::Up => {
                while Instant::now() < end {
                    stream.write_all(&buffer).context("send")?;
                }
                stream.shutdown(Shutdown::Write)?;
                let mut count = [0; 8];
                stream.read_exact(&mut count).context("wait for the sink's count")?;
                Ok(u64::from_be_bytes(count))
            }
            Direction::Down => {
                let mut count = 0;
                while Instant::now() < end {
                    match stream.read(&mut buffer).context("receive")? {
                        0 => return Err(anyhow!("the source closed after {count} bytes")),
                        length => count += u64::try_from(length).expect("64 bits at most"),
                    }
                }
                Ok(count)
            }
        }
    }
}
