//! Connections that are opened, prove that they work, and then stay idle.

use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use super::http_answer::message_length;
use super::request::request_bytes;

/// Patience with one connection.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connections to hold.
#[derive(Debug, Clone)]
pub struct Hold {
    /// The HTTP server.
    pub to: SocketAddr,
    /// How many.
    pub connections: usize,
}

/// Printed, as a line, once all are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldReport {
    /// How many are open.
    pub open: usize,
}

impl Hold {
    /// Opens them, writes a [`HoldReport`] to `out`, and holds them until `until` ends.
    ///
    /// # Errors
    /// When one cannot be opened or does not answer.
    pub fn run(&self, out: &mut impl Write, until: &mut impl BufRead) -> anyhow::Result<()> {
        let request = request_bytes(self.to, "/", "keep-alive");
        let mut streams = Vec::new();
        for number in 1..=self.connections {
            streams.push(self.open(&request).with_context(|| format!("connection {number} to {}", self.to))?);
        }
        writeln!(out, "{}", serde_json::to_string(&HoldReport { open: streams.len() })?)?;
        out.flush()?;
        until.read_until(0, &mut Vec::new())?;
        Ok(())
    }

    fn open(&self, request: &[u8]) -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&self.to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request)?;
        let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
        while message_length(&answer).is_none_or(|whole| answer.len() < whole) {
            let length = stream.read(&mut buffer)?;
            ensure!(length > 0, "closed before the answer was complete");
            answer.extend_from_slice(&buffer[..length]);
        }
        Ok(stream)
    }
}
