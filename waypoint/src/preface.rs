//! What is said on a connection to an endpoint before anything of its client: whose it is, and where a forward proxy is to lead it.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use weir_serving::{ForwardTunnel, ProxyProtocol};
use weir_wire::{proxy_v1, proxy_v2::Header};

/// The longest answer of a forward proxy, in bytes.
const ANSWER: usize = 8_192;

/// Says whose connection it is.
pub(crate) async fn introduce<Io: AsyncWrite + Unpin>(
    io: &mut Io,
    version: ProxyProtocol,
    client: SocketAddr,
    target: SocketAddr,
) -> Result<(), String> {
    let header = match version {
        ProxyProtocol::V1 => proxy_v1::encode(client, target).into_bytes(),
        // Who the client is proven to be is the mesh's matter: what is outside is not told.
        ProxyProtocol::V2 => Header { client, target, identity: None, service: None }.encode(),
    };
    let written = async {
        io.write_all(&header).await?;
        io.flush().await
    };
    written.await.map_err(|error| format!("the PROXY header was not taken: {error}"))
}

/// Has a forward proxy lead the connection on. Istio `tunnel`, `CONNECT`; RFC 9110 §9.3.6.
pub(crate) async fn lead<Io: AsyncRead + AsyncWrite + Unpin>(io: &mut Io, to: &ForwardTunnel) -> Result<(), String> {
    let authority = match to.host.contains(':') && !to.host.starts_with('[') {
        true => format!("[{}]:{}", to.host, to.port),
        false => format!("{}:{}", to.host, to.port),
    };
    let broken = |error: std::io::Error| format!("CONNECT {authority}: {error}");
    let head = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    io.write_all(head.as_bytes()).await.map_err(broken)?;
    io.flush().await.map_err(broken)?;
    let mut answer = Vec::with_capacity(256);
    // What comes after the head is the other side's already: not a byte too many is read.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= ANSWER {
            return Err(format!("CONNECT {authority}: an answer of more than {ANSWER} bytes"));
        }
        answer.push(io.read_u8().await.map_err(broken)?);
    }
    let line: String = String::from_utf8_lossy(&answer).chars().take_while(|c| !c.is_control()).take(120).collect();
    let mut words = line.split(' ');
    let version = words.next().is_some_and(|version| matches!(version, "HTTP/1.1" | "HTTP/1.0"));
    match words.next() {
        Some(status) if version && status.len() == 3 && status.starts_with('2') => Ok(()),
        Some(_) | None => Err(format!("CONNECT {authority}: expected 200, the proxy says {line:?}")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use weir_model::Port;
    use weir_wire::proxy_v2;

    use super::*;

    fn to(host: &str) -> ForwardTunnel {
        ForwardTunnel { host: host.into(), port: Port::new(443).unwrap() }
    }

    #[tokio::test]
    async fn a_forward_proxy_is_asked_and_must_agree() {
        let long = format!("HTTP/1.1 200 OK\r\na: {}", "a".repeat(ANSWER));
        for (host, answer, want) in [
            (
                "a.example",
                "HTTP/1.1 200 OK\r\n\r\nhello",
                Ok("CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n"),
            ),
            (
                "2001:db8::1",
                "HTTP/1.0 200 Fine\r\na: b\r\n\r\nhello",
                Ok("CONNECT [2001:db8::1]:443 HTTP/1.1\r\nhost: [2001:db8::1]:443\r\n\r\n"),
            ),
            ("a.example", "HTTP/1.1 407 Who\r\n\r\nhello", Err("expected 200, the proxy says \"HTTP/1.1 407 Who\"")),
            ("a.example", "SSH-2.0-x\r\n\r\nhello", Err("expected 200, the proxy says \"SSH-2.0-x\"")),
            ("a.example", "HTTP/1.1 200", Err("end of file")),
            ("a.example", &long, Err("an answer of more than 8192 bytes")),
        ] {
            let (mut ours, mut theirs) = duplex(64 << 10);
            theirs.write_all(answer.as_bytes()).await.unwrap();
            if matches!(want, Err("end of file")) {
                theirs.shutdown().await.unwrap();
            }
            let led = lead(&mut ours, &to(host)).await;
            match want {
                Ok(want) => {
                    assert_eq!(led, Ok(()), "{answer}");
                    let mut rest = [0; 5];
                    ours.read_exact(&mut rest).await.unwrap();
                    assert_eq!(&rest, b"hello", "what comes after the answer is the client's");
                    drop(ours);
                    let mut asked = String::new();
                    theirs.read_to_string(&mut asked).await.unwrap();
                    assert_eq!(asked, want);
                }
                Err(want) => assert!(led.as_ref().is_err_and(|why| why.contains(want)), "{led:?} {want}"),
            }
        }
    }

    #[tokio::test]
    async fn a_header_says_whose_connection_it_is() {
        let (client, target) = ("192.0.2.1:5".parse().unwrap(), "[2001:db8::2]:443".parse().unwrap());
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            let (mut ours, mut theirs) = duplex(4_096);
            introduce(&mut ours, version, client, target).await.unwrap();
            drop(ours);
            let mut said = Vec::new();
            theirs.read_to_end(&mut said).await.unwrap();
            match version {
                ProxyProtocol::V1 => assert_eq!(said, proxy_v1::encode(client, target).as_bytes()),
                ProxyProtocol::V2 => {
                    let (preface, length) = proxy_v2::parse(&said).unwrap().unwrap();
                    assert_eq!(length, said.len());
                    let proxy_v2::Preface::Handed(header) = preface else { panic!("{preface:?}") };
                    assert_eq!((header.target, header.identity, header.service), (target, None, None));
                }
            }
        }
    }
}
