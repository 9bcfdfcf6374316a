//! Many requests over few connections, and who answered how often.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use serde_json::Value;
use weir_netlink::NetNs;

use crate::http::PATIENCE;
use crate::work::{message_length, request_bytes};

/// Connections that share the requests.
const CONNECTIONS: u64 = 4;
/// The largest answer that is read, in bytes.
const LARGEST: usize = 64 << 10;

/// Requests for one page, all alike.
#[derive(Debug, Clone, Copy)]
pub struct Tally<'a> {
    /// The HTTP server.
    pub to: SocketAddr,
    /// Path to ask for.
    pub path: &'a str,
    /// How many.
    pub requests: u64,
    /// What to count of the JSON that is answered with.
    pub field: &'a str,
}

impl Tally<'_> {
    /// Sends them from inside a namespace. The answer is how often each value of the field came with status 200; other answers are
    /// counted by their status.
    ///
    /// # Errors
    /// When a connection is refused or ends before all of its requests are answered, or an answer with status 200 lacks the field.
    pub fn run(&self, netns: &NetNs) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut sum = BTreeMap::new();
        thread::scope(|scope| {
            let shares =
                (0..CONNECTIONS).map(|n| self.requests / CONNECTIONS + u64::from(n < self.requests % CONNECTIONS));
            let runs: Vec<_> = shares.map(|share| scope.spawn(move || self.over_one(netns, share))).collect();
            for run in runs {
                for (value, count) in run.join().map_err(|_panic| anyhow!("a connection's thread panicked"))?? {
                    *sum.entry(value).or_insert(0) += count;
                }
            }
            Ok(sum)
        })
    }

    fn over_one(&self, netns: &NetNs, requests: u64) -> anyhow::Result<BTreeMap<String, u64>> {
        let connected = netns.run(|| TcpStream::connect_timeout(&self.to, PATIENCE))?;
        let mut stream = connected.with_context(|| format!("connect to {}", self.to))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        let request = request_bytes(self.to, self.path, "keep-alive");
        let mut sum = BTreeMap::new();
        for number in 0..requests {
            let value = self.ask(&mut stream, &request).with_context(|| format!("request {number} to {}", self.to))?;
            *sum.entry(value).or_insert(0) += 1;
        }
        Ok(sum)
    }

    fn ask(&self, stream: &mut TcpStream, request: &[u8]) -> anyhow::Result<String> {
        stream.write_all(request).context("send")?;
        let (mut bytes, mut piece) = (Vec::new(), [0; 4 << 10]);
        let whole = loop {
            if let Some(length) = message_length(&bytes).filter(|length| *length <= bytes.len()) {
                break length;
            }
            ensure!(bytes.len() <= LARGEST, "an answer of more than {LARGEST} bytes");
            let length = stream.read(&mut piece).context("read")?;
            ensure!(length > 0, "the connection ended after {:?}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&piece[..length]);
        };
        let text = String::from_utf8_lossy(&bytes[..whole]);
        let (head, body) = text.split_once("\r\n\r\n").context("the head never ends")?;
        let status = head.split(' ').nth(1).context("no status")?;
        if status != "200" {
            return Ok(status.to_owned());
        }
        let seen: Value = serde_json::from_str(body).with_context(|| format!("answered with {body:?}"))?;
        let value = seen[self.field].as_str().with_context(|| format!("no {} in {seen}", self.field))?;
        Ok(value.to_owned())
    }
}
