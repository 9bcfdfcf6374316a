//! One access log line, in ztunnel's words.

use std::{
    io::Write,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use time::OffsetDateTime;
use weir_model::{Hostname, SpiffeId, Workload};

use crate::LogFormat;

/// What happened to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessEvent {
    /// `connection opened`, level debug.
    Opened,
    /// `connection complete`, level info.
    Complete,
    /// `connection failed`, level warn.
    Failed,
}

/// Which way the connection goes, seen from the pod of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the pod.
    Inbound,
    /// From the pod.
    Outbound,
}

/// One side of a connection.
#[derive(Debug, Clone, Copy)]
pub struct AccessParty<'a> {
    /// Its address.
    pub address: SocketAddr,
    /// The workload there, if the mesh knows one.
    pub workload: Option<&'a Workload>,
    /// Who it proved to be.
    pub identity: Option<&'a SpiffeId>,
}

/// What an access log line says.
#[derive(Debug, Clone, Copy)]
pub struct AccessEntry<'a> {
    /// When it happened.
    pub at: SystemTime,
    /// What happened.
    pub event: AccessEvent,
    /// The client.
    pub source: AccessParty<'a>,
    /// The server; with a tunnel, the address the tunnel goes to.
    pub destination: AccessParty<'a>,
    /// The `:authority` of the tunnel.
    pub hbone_address: Option<&'a str>,
    /// The service that was addressed.
    pub service: Option<&'a Hostname>,
    /// Which way.
    pub direction: Direction,
    /// Bytes sent, as ztunnel counts them for this direction.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// How long it was open.
    pub duration: Duration,
    /// Why it failed. May hold what a peer wrote: it is escaped.
    pub error: Option<&'a str>,
}

impl AccessEntry<'_> {
    /// Appends the line with its line end.
    pub fn write(&self, format: LogFormat, line: &mut Vec<u8>) {
        let (level, message) = match self.event {
            AccessEvent::Opened => ("debug", "connection opened"),
            AccessEvent::Complete => ("info", "connection complete"),
            AccessEvent::Failed => ("warn", "connection failed"),
        };
        let mut fields = Fields { format, line, first: true };
        match format {
            LogFormat::Text => {
                write_time(fields.line, self.at);
                for part in [level, "access", message] {
                    fields.line.push(b'\t');
                    fields.line.extend_from_slice(part.as_bytes());
                }
                fields.line.push(b'\t');
            }
            LogFormat::Json => {
                fields.line.extend_from_slice(b"{\"level\":\"");
                fields.line.extend_from_slice(level.as_bytes());
                fields.line.extend_from_slice(b"\",\"time\":\"");
                write_time(fields.line, self.at);
                fields.line.extend_from_slice(b"\",\"scope\":\"access\",\"message\":\"");
                fields.line.extend_from_slice(message.as_bytes());
                fields.line.push(b'"');
                fields.first = false;
            }
        }
        self.write_fields(&mut fields);
        if format == LogFormat::Json {
            fields.line.push(b'}');
        }
        fields.line.push(b'\n');
    }

    fn write_fields(&self, fields: &mut Fields<'_>) {
        let (source, destination) = (self.source.workload, self.destination.workload);
        fields.address("src.addr", self.source.address);
        fields.text("src.workload", source.map(|w| &*w.name));
        fields.text("src.namespace", source.map(|w| w.namespace.as_str()));
        fields.identity("src.identity", self.source.identity);
        fields.text("src.cluster", source.map(|w| w.cluster.as_str()));
        fields.address("dst.addr", self.destination.address);
        fields.text("dst.hbone_addr", self.hbone_address);
        fields.text("dst.service", self.service.map(Hostname::as_str));
        fields.text("dst.workload", destination.map(|w| &*w.name));
        fields.text("dst.namespace", destination.map(|w| w.namespace.as_str()));
        fields.identity("dst.identity", self.destination.identity);
        fields.text("dst.cluster", destination.map(|w| w.cluster.as_str()));
        let direction = match self.direction {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        };
        fields.text("direction", Some(direction));
        match self.event {
            AccessEvent::Opened => {}
            AccessEvent::Complete | AccessEvent::Failed => {
                fields.number("bytes_sent", self.bytes_sent);
                fields.number("bytes_recv", self.bytes_received);
                fields.key("duration");
                put(fields.line, format_args!("\"{}ms\"", self.duration.as_millis()));
            }
        }
        fields.text("error", self.error);
    }
}

/// `key=value key=value`, or the inside of a JSON object.
struct Fields<'a> {
    format: LogFormat,
    line: &'a mut Vec<u8>,
    first: bool,
}

impl Fields<'_> {
    fn key(&mut self, key: &str) {
        let first = std::mem::replace(&mut self.first, false);
        match self.format {
            LogFormat::Text => {
                if !first {
                    self.line.push(b' ');
                }
                self.line.extend_from_slice(key.as_bytes());
                self.line.push(b'=');
            }
            LogFormat::Json => {
                if !first {
                    self.line.push(b',');
                }
                self.line.push(b'"');
                self.line.extend_from_slice(key.as_bytes());
                self.line.extend_from_slice(b"\":");
            }
        }
    }

    /// A quoted text; nothing at all if there is none.
    fn text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.key(key);
            write_quoted(self.line, value);
        }
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        put(self.line, format_args!("{value}"));
    }

    /// Bare in text, as ztunnel has it; JSON has no bare addresses.
    fn address(&mut self, key: &str, address: SocketAddr) {
        self.key(key);
        match self.format {
            LogFormat::Text => put(self.line, format_args!("{address}")),
            LogFormat::Json => put(self.line, format_args!("\"{address}\"")),
        }
    }

    /// An identity has no character that would need escaping: its type saw to that.
    fn identity(&mut self, key: &str, identity: Option<&SpiffeId>) {
        if let Some(id) = identity {
            self.key(key);
            self.line.extend_from_slice(b"\"spiffe://");
            for part in
                [id.trust_domain().as_str(), "/ns/", id.namespace().as_str(), "/sa/", id.service_account().as_str()]
            {
                self.line.extend_from_slice(part.as_bytes());
            }
            self.line.push(b'"');
        }
    }
}

fn put(line: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    line.write_fmt(text).expect("writing to a Vec does not fail");
}

/// A JSON string, in both formats: no value can end its quotes, begin a line, or send a terminal a command.
pub(crate) fn write_quoted(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    if text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\') {
        line.extend_from_slice(text.as_bytes());
    } else {
        for c in text.chars() {
            match c {
                '"' => line.extend_from_slice(b"\\\""),
                '\\' => line.extend_from_slice(b"\\\\"),
                '\n' => line.extend_from_slice(b"\\n"),
                '\r' => line.extend_from_slice(b"\\r"),
                '\t' => line.extend_from_slice(b"\\t"),
                // Controls, line separators and direction marks: what a viewer may act on instead of show.
                c if c.is_control()
                    || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
                {
                    put(line, format_args!("\\u{:04x}", u32::from(c)));
                }
                c => line.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
    line.push(b'"');
}

/// RFC 3339, UTC, microseconds.
fn write_time(line: &mut Vec<u8>, at: SystemTime) {
    let at = OffsetDateTime::from(at);
    put(
        line,
        format_args!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.microsecond()
        ),
    );
}

#[cfg(test)]
mod tests;
