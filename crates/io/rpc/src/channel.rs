//! A connection to a control plane, for tonic's clients.

use std::{
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Uri, header::AUTHORIZATION, uri::Scheme};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tower::Service;

use crate::{Target, TlsError, tls};

/// How long the name, one TCP connection, and the TLS handshake may take, each.
const STEP: Duration = Duration::from_secs(5);
/// Between signs of life that are asked for, and how long one may take.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// Most a file of roots or a token may have, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Where to call, whom to believe, and what proves who we are. Files are read again each time: they are rotated.
#[derive(Debug, Clone)]
pub struct Dial {
    /// Where.
    pub target: Target,
    /// File of the roots its certificate must lead to, PEM.
    pub roots: PathBuf,
    /// File of our service account's token, read at each call.
    pub token: Option<PathBuf>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// A file cannot be read.
    #[error("{path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The roots are no roots.
    #[error("{path}")]
    Roots {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// Nobody knows the name, or nobody is there.
    #[error("cannot connect to {target}")]
    Connect {
        /// Where.
        target: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server did not prove the name.
    #[error("TLS with {target}")]
    Tls {
        /// Where.
        target: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// HTTP/2 did not begin, or the connection is over.
    #[error("HTTP/2 with {target}")]
    Http {
        /// Where.
        target: String,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// The token is no header.
    #[error("{path}: the token has characters no token has")]
    Token {
        /// The file.
        path: PathBuf,
    },
}

impl Dial {
    /// Connects.
    ///
    /// # Errors
    /// With the step that failed.
    pub async fn connect(&self) -> Result<Channel, DialError> {
        let target = || self.target.to_string();
        let roots = read(&self.roots)?;
        let config = tls::client(&roots).map_err(|source| DialError::Roots { path: self.roots.clone(), source })?;
        let stream = self.tcp().await.map_err(|source| DialError::Connect { target: target(), source })?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(self.target.name.clone(), stream);
        let stream = within(handshake).await.map_err(|source| DialError::Tls { target: target(), source })?;
        let agreed = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if !agreed {
            let source = io::Error::other("the server does not speak HTTP/2");
            return Err(DialError::Tls { target: target(), source });
        }
        let (send, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| DialError::Http { target: target(), source })?;
        // It ends by itself when the last channel and the last call are gone, or a sign of life is missing.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the control plane ended");
            }
        });
        Ok(Channel { send, target: self.target.clone(), token: self.token.as_deref().map(Arc::from) })
    }

    /// To the first address that answers.
    async fn tcp(&self) -> io::Result<TcpStream> {
        let host = self.target.host.clone();
        let addresses: Vec<SocketAddr> = within(lookup_host((host, self.target.port))).await?.collect();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match within(TcpStream::connect(address)).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

async fn within<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(STEP, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn read(path: &Path) -> Result<Vec<u8>, DialError> {
    let failed = |source| DialError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

/// One connection, shared by its clones. When it has broken every call fails, and it is time to dial again.
#[derive(Debug, Clone)]
pub struct Channel {
    send: SendRequest<Body>,
    target: Target,
    token: Option<Arc<Path>>,
}

impl Channel {
    /// Puts where and who into a call.
    fn prepare(&self, call: &mut http::Request<Body>) -> Result<(), DialError> {
        let mut parts = std::mem::take(call.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(self.target.authority.clone());
        *call.uri_mut() = Uri::from_parts(parts).expect("scheme and authority stand before the path that was there");
        let Some(path) = &self.token else { return Ok(()) };
        let token = read(path)?;
        let bad = || DialError::Token { path: path.to_path_buf() };
        let mut value = HeaderValue::from_bytes(&[b"Bearer ", token.trim_ascii()].concat()).map_err(|_| bad())?;
        value.set_sensitive(true);
        call.headers_mut().insert(AUTHORIZATION, value);
        Ok(())
    }
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        let target = &self.target;
        self.send.poll_ready(context).map_err(|source| DialError::Http { target: target.to_string(), source })
    }

    fn call(&mut self, mut call: http::Request<Body>) -> Self::Future {
        if let Err(error) = self.prepare(&mut call) {
            return Box::pin(async { Err(error) });
        }
        let (answer, target) = (self.send.send_request(call), self.target.to_string());
        Box::pin(async move { answer.await.map_err(|source| DialError::Http { target, source }) })
    }
}
