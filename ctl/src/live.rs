//! Questions to admin servers: at a URL, or in a pod of a cluster.

use std::{fmt, fmt::Write, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Method, Request, Uri,
    body::Bytes,
    client::conn::http1,
    header::{HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use crate::cluster::Cluster;

/// How long an answer may take.
const WAIT: Duration = Duration::from_secs(10);
/// Most it may have, in bytes.
const MAX_ANSWER: usize = 16 << 20;
/// Where programs have their admin servers, inside their pods.
pub(crate) const ADMIN_PORT: u16 = 15000;

/// An admin server.
#[derive(Clone)]
pub(crate) enum Server {
    /// At a URL.
    Url(String),
    /// In a pod, reached through the API server, as it listens on the pod's loopback only.
    Pod { cluster: Arc<Cluster>, namespace: String, name: String },
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::Pod { namespace, name, .. } => write!(f, "pod {namespace}/{name}"),
        }
    }
}

impl Server {
    /// What it answers to a question, as JSON.
    ///
    /// # Errors
    /// If it cannot be reached, has no such page, or does not answer it.
    pub(crate) async fn ask(&self, path: &str, query: &[(&str, String)]) -> Result<Value> {
        let (status, body) = self.send(Method::GET, path, query).await?;
        match status {
            200 => serde_json::from_str(&body)
                .with_context(|| format!("{self} answers {path} with what is no JSON: is it a program of Weir?")),
            404 => bail!(
                "{self} has no {path}: it is no program of Weir, or of a version before it (compare with weirctl version)"
            ),
            _ => bail!("{self} answers {path} with {status}: {}", body.trim()),
        }
    }

    /// The status and the text of an answer.
    ///
    /// # Errors
    /// If the server cannot be reached, or answers too much, too late or no text.
    pub(crate) async fn send(&self, method: Method, path: &str, query: &[(&str, String)]) -> Result<(u16, String)> {
        let mut target = path.to_owned();
        for (i, (key, value)) in query.iter().enumerate() {
            write!(target, "{}{key}={}", if i == 0 { '?' } else { '&' }, encoded(value))?;
        }
        let asked = async {
            match self {
                Self::Url(url) => {
                    let (stream, authority) = dial(url).await?;
                    over(stream, &authority, method, &target).await
                }
                Self::Pod { cluster, namespace, name } => {
                    let stream = cluster.forward(namespace, name, ADMIN_PORT).await?;
                    over(stream, &format!("localhost:{ADMIN_PORT}"), method, &target).await
                }
            }
        };
        let answer = timeout(WAIT, asked).await.with_context(|| format!("no answer within {WAIT:?}"));
        answer.and_then(|answer| answer).with_context(|| format!("cannot ask {self} ({})", self.hint()))
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Url(_) => "is the program running, and is this the port of its --admin-addr?",
            Self::Pod { .. } => {
                "is it running? its admin port is reached by a port-forward: verbs get and create on pods/portforward"
            }
        }
    }
}

/// The status and the text of the answer of a server at a URL.
///
/// # Errors
/// If the server cannot be reached, or answers too much, too late or no text.
pub(crate) fn get(server: &str, path: &str, query: &[(&str, String)]) -> Result<(u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Server::Url(server.to_owned()).send(Method::GET, path, query))
}

async fn dial(url: &str) -> Result<(TcpStream, String)> {
    let uri: Uri = url.parse().with_context(|| format!("{url:?} is no URL"))?;
    ensure!(uri.scheme_str() == Some("http"), "{url:?}: expected http://HOST:PORT");
    let Some(authority) = uri.authority() else { bail!("{url:?}: expected http://HOST:PORT") };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
    Ok((stream, authority.to_string()))
}

async fn over<S>(stream: S, host: &str, method: Method, target: &str) -> Result<(u16, String)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let talking = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(target).body(Empty::<Bytes>::new())?;
    request.headers_mut().insert(HOST, HeaderValue::from_str(host)?);
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer cannot be read: {error}"))?.to_bytes();
    drop(sender);
    talking.abort();
    Ok((status, String::from_utf8(body.into()).context("the answer is no text")?))
}
/// Percent-encoded, but for what RFC 3986 §2.3 calls unreserved.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write as _},
        net::TcpListener,
        thread,
    };

    use super::*;

    #[test]
    fn what_is_asked_arrives_and_the_answer_comes_back() {
        let server = TcpListener::bind("[::1]:0").unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let serving = thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnone").unwrap();
            String::from_utf8(head).unwrap()
        });
        let answer = get(&url, "/debug/authz", &[("from", "a/b@fd00::1".to_owned()), ("to", "c/d:80".to_owned())]);
        assert_eq!(answer.unwrap(), (404, "none".to_owned()));
        let head = serving.join().unwrap();
        assert!(head.starts_with("GET /debug/authz?from=a%2Fb%40fd00%3A%3A1&to=c%2Fd%3A80 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: {}\r\n", &url["http://".len()..])), "{head}");
    }

    #[test]
    fn a_server_that_is_not_there_or_no_server_at_all_is_told() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(format!("{:#}", get(&format!("http://{closed}"), "/", &[]).unwrap_err()).contains("refused"));
        for bad in ["", "localhost:15000", "https://localhost:15000"] {
            let error = format!("{:#}", get(bad, "/", &[]).unwrap_err());
            assert!(error.contains("http://HOST:PORT") || error.contains("is no URL"), "{bad:?}: {error}");
        }
    }
}
