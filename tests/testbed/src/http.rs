//! One HTTP GET from inside a namespace, for readiness, metrics and admin pages.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use socket2::{Domain, Socket, Type};
use weir_netlink::NetNs;

/// Patience with one answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code. RFC 9110 §15.
    pub status: u16,
    /// The body, chunks put together.
    pub body: String,
}

/// Gets `path` from the server at `to`, connecting from inside `netns`.
///
/// # Errors
/// When there is no connection, no answer in five seconds, or the answer is not HTTP/1.1.
pub fn http_get(netns: &NetNs, to: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    get(netns, None, to, path)
}

/// As [`http_get`], with a source address of one's choice among those of the namespace.
///
/// # Errors
/// As [`http_get`]; also when the address is not there.
pub fn http_get_from(netns: &NetNs, from: IpAddr, to: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    get(netns, Some(from), to, path)
}

fn get(netns: &NetNs, from: Option<IpAddr>, to: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    let connect = || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        if let Some(ip) = from {
            socket.bind(&SocketAddr::new(ip, 0).into())?;
        }
        socket.connect_timeout(&to.into(), PATIENCE)?;
        std::io::Result::Ok(TcpStream::from(socket))
    };
    let mut stream = netns.run(connect)?.with_context(|| format!("connect to {to}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\r\n").context("send")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).with_context(|| format!("read {path} of {to}"))?;
    parse(&String::from_utf8_lossy(&bytes)).with_context(|| format!("{path} of {to}"))
}

fn parse(text: &str) -> anyhow::Result<Answer> {
    ensure!(text.starts_with("HTTP/1."), "not an HTTP/1.1 answer: {:?}", text.get(..40).unwrap_or(text));
    let (head, body) = text.split_once("\r\n\r\n").context("the head never ends")?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).context("no status code")?;
    let head = head.to_ascii_lowercase();
    let body = if head.contains("transfer-encoding: chunked") { unchunk(body)? } else { body.to_owned() };
    Ok(Answer { status, body })
}

fn unchunk(mut rest: &str) -> anyhow::Result<String> {
    let mut body = String::new();
    loop {
        let (length, after) = rest.split_once("\r\n").context("a chunk without a length")?;
        let length = usize::from_str_radix(length.trim(), 16).context("a chunk's length")?;
        if length == 0 {
            return Ok(body);
        }
        body.push_str(after.get(..length).context("a chunk that is cut off")?);
        rest = after.get(length + 2..).context("a chunk without an end")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_whole_whether_chunked_or_not() {
        for (text, want) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Some((200, "ok"))),
            (
                "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n",
                Some((503, "abc0123456789")),
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", None),
            ("garbage", None),
        ] {
            let found = parse(text).ok();
            assert_eq!(found.as_ref().map(|answer| (answer.status, answer.body.as_str())), want, "{text}");
        }
    }
}
