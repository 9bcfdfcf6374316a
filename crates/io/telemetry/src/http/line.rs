//! One line of an access log, as Istio configures Envoy: the default text format, or the default keys in JSON.
//!
//! Envoy writes what a client sent as it came. Here quotes, backslashes, controls and marks that turn a terminal around are
//! escaped as in JSON, and what stands without quotes has no blank in it: each line has the columns it should have.

use std::{borrow::Cow, io::Write, net::SocketAddr, time::SystemTime};

use time::OffsetDateTime;

use super::{HttpRecord, UpstreamRecord};
use crate::{LogFormat, access::write_quoted};

impl HttpRecord<'_> {
    /// Appends the line with its line end.
    pub(crate) fn write(&self, format: LogFormat, line: &mut Vec<u8>) {
        match format {
            LogFormat::Text => self.write_text(line),
            LogFormat::Json => self.write_json(line),
        }
        line.push(b'\n');
    }

    fn upstream(&self) -> UpstreamRecord<'_> {
        self.upstream.unwrap_or_default()
    }

    fn write_text(&self, line: &mut Vec<u8>) {
        let upstream = self.upstream();
        line.push(b'[');
        write_time(line, self.at);
        line.extend_from_slice(b"] \"");
        word(line, self.method);
        line.push(b' ');
        word(line, self.original_path.unwrap_or(self.path));
        put(line, format_args!(" {}\" {} {} ", self.protocol.as_str(), self.code.unwrap_or(0), self.flags));
        bare(line, self.code_details);
        line.push(b' ');
        bare(line, self.termination_details);
        line.push(b' ');
        quoted(line, upstream.failure);
        let millis = self.duration.as_millis();
        put(line, format_args!(" {} {} {millis} ", self.bytes_received, self.bytes_sent));
        match upstream.service_time {
            Some(time) => put(line, format_args!("{} ", time.as_millis())),
            None => line.extend_from_slice(b"- "),
        }
        for value in [self.forwarded_for, self.user_agent, self.request_id, self.authority.map(str::as_bytes)] {
            quoted(line, value.map(String::from_utf8_lossy).as_deref());
            line.push(b' ');
        }
        match upstream.host {
            Some(host) => put(line, format_args!("\"{host}\" ")),
            None => line.extend_from_slice(b"\"-\" "),
        }
        bare(line, upstream.cluster);
        line.push(b' ');
        match upstream.local {
            Some(local) => put(line, format_args!("{local}")),
            None => line.push(b'-'),
        }
        put(line, format_args!(" {} {} ", self.downstream_local, self.downstream_remote));
        bare(line, self.server_name);
        line.push(b' ');
        bare(line, self.route_name);
    }

    /// Keys in their order: Envoy sorts them.
    fn write_json(&self, line: &mut Vec<u8>) {
        let upstream = self.upstream();
        let mut object = Object { line, first: true };
        object.text("authority", self.authority);
        object.number("bytes_received", self.bytes_received);
        object.number("bytes_sent", self.bytes_sent);
        object.text("connection_termination_details", self.termination_details);
        object.address("downstream_local_address", Some(self.downstream_local));
        object.address("downstream_remote_address", Some(self.downstream_remote));
        object.number("duration", u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX));
        object.text("method", Some(self.method));
        object.text("path", Some(self.original_path.unwrap_or(self.path)));
        object.text("protocol", Some(self.protocol.as_str()));
        object.text("request_id", self.request_id.map(String::from_utf8_lossy).as_deref());
        object.text("requested_server_name", self.server_name);
        object.number("response_code", self.code.unwrap_or(0).into());
        object.text("response_code_details", self.code_details);
        object.text("response_flags", Some(&self.flags.to_string()));
        object.text("route_name", self.route_name);
        object.key("start_time");
        object.line.push(b'"');
        write_time(object.line, self.at);
        object.line.push(b'"');
        object.text("upstream_cluster", upstream.cluster);
        object.address("upstream_host", upstream.host);
        object.address("upstream_local_address", upstream.local);
        // The value of a header, and so a text.
        let service_time = upstream.service_time.map(|time| time.as_millis().to_string());
        object.text("upstream_service_time", service_time.as_deref());
        object.text("upstream_transport_failure_reason", upstream.failure);
        object.text("user_agent", self.user_agent.map(String::from_utf8_lossy).as_deref());
        object.text("x_forwarded_for", self.forwarded_for.map(String::from_utf8_lossy).as_deref());
        line.push(b'}');
    }
}

/// A JSON object being written.
struct Object<'a> {
    line: &'a mut Vec<u8>,
    first: bool,
}

impl Object<'_> {
    fn key(&mut self, key: &str) {
        let before: &[u8] = if std::mem::replace(&mut self.first, false) { b"{\"" } else { b",\"" };
        self.line.extend_from_slice(before);
        self.line.extend_from_slice(key.as_bytes());
        self.line.extend_from_slice(b"\":");
    }

    fn text(&mut self, key: &str, value: Option<&str>) {
        self.key(key);
        match value {
            Some(value) => write_quoted(self.line, value),
            None => self.line.extend_from_slice(b"null"),
        }
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        put(self.line, format_args!("{value}"));
    }

    fn address(&mut self, key: &str, value: Option<SocketAddr>) {
        self.key(key);
        match value {
            Some(value) => put(self.line, format_args!("\"{value}\"")),
            None => self.line.extend_from_slice(b"null"),
        }
    }
}

fn put(line: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    line.write_fmt(text).expect("writing to a Vec does not fail");
}

fn quoted(line: &mut Vec<u8>, value: Option<&str>) {
    write_quoted(line, value.unwrap_or("-"));
}

/// A value without quotes: one column, whatever is in it.
fn bare(line: &mut Vec<u8>, value: Option<&str>) {
    match value.filter(|text| text.contains(['"', '\\'])) {
        Some(value) => word(line, &value.replace(['"', '\\'], "_")),
        None => word(line, value.unwrap_or("-")),
    }
}

/// A value inside of quotes that stand around others, too: it ends neither them nor its own place among the others.
fn word(line: &mut Vec<u8>, value: &str) {
    let value = if value.is_empty() { "-" } else { value };
    let blank = |c: char| c.is_whitespace();
    let value = if value.contains(blank) { Cow::from(value.replace(blank, "_")) } else { value.into() };
    let start = line.len();
    write_quoted(line, &value);
    // The quotes that were written around it.
    line.remove(start);
    line.pop();
}

/// RFC 3339, UTC, milliseconds: Envoy's `%START_TIME%`.
fn write_time(line: &mut Vec<u8>, at: SystemTime) {
    let at = OffsetDateTime::from(at);
    let (month, millis) = (u8::from(at.month()), at.millisecond());
    put(line, format_args!("{:04}-{month:02}-{:02}T", at.year(), at.day()));
    put(line, format_args!("{:02}:{:02}:{:02}.{millis:03}Z", at.hour(), at.minute(), at.second()));
}

#[cfg(test)]
mod tests;
