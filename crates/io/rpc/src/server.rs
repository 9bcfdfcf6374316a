//! The server: TLS, HTTP/2, and nobody who proved nothing.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::header::AUTHORIZATION;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tonic::{Status, body::Body};
use weir_model::SpiffeId;

use crate::{Answer, Caller, Credential, ServerTls, Services, Unproven, Verify};

/// How long to wait when no connection can be accepted: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long calls under way may take once the server is to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// Most a request's head may have, in bytes: a token and some metadata.
const HEAD_SIZE: u32 = 32 << 10;
/// Between signs of life that are asked for, and how long one may take.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// What clients can stretch, and how far.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; more wait in the listener's queue.
    pub connections: usize,
    /// Calls of one connection at once.
    pub calls: u32,
    /// Tokens being checked at once; more wait.
    pub verifications: usize,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long checking a token may take, waiting included.
    pub verification: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            calls: 64,
            verifications: 64,
            handshake: Duration::from_secs(10),
            verification: Duration::from_secs(10),
        }
    }
}

/// What the server counted.
#[derive(Debug, Default)]
pub struct Stats {
    /// Connections open now.
    pub connections: AtomicU64,
    /// TLS handshakes that failed.
    pub handshakes_failed: AtomicU64,
    /// Calls refused for what they did not prove.
    pub unauthenticated: AtomicU64,
}

/// A server.
pub struct Server {
    services: Services,
    verify: Option<Arc<dyn Verify>>,
    tls: watch::Receiver<Arc<ServerTls>>,
    limits: Limits,
    verifications: Semaphore,
    stats: Arc<Stats>,
}

impl Server {
    /// A server of `services`. What `tls` holds at the time counts for a new connection. Without `verify` only certificates prove something.
    pub fn new(
        services: Services,
        tls: watch::Receiver<Arc<ServerTls>>,
        verify: Option<Arc<dyn Verify>>,
        limits: Limits,
    ) -> Self {
        let verifications = Semaphore::new(limits.verifications);
        Self { services, verify, tls, limits, verifications, stats: Arc::default() }
    }

    /// What it counts.
    pub fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    /// Serves until `ended`, then lets calls under way finish for a moment.
    pub async fn serve(self, listener: TcpListener, ended: impl Future<Output = ()>) {
        let server = Arc::new(self);
        let (stop, stopping) = watch::channel(());
        let free = Arc::new(Semaphore::new(server.limits.connections));
        let mut connections = JoinSet::new();
        let mut ended = std::pin::pin!(ended);
        loop {
            tokio::select! {
                () = &mut ended => break,
                // Ended tasks are let go of; `None`, when there are none, only disables this branch.
                Some(_) = connections.join_next() => {}
                (stream, address, permit) = accept(&listener, &free) => {
                    connections.spawn(server.clone().connection(stream, address, stopping.clone(), permit));
                }
            }
        }
        drop(listener);
        drop(stop);
        // Those that are not done by then are ended with the set.
        let all = async { while connections.join_next().await.is_some() {} };
        let _ended_in_time = timeout(STOP_DEADLINE, all).await.is_ok();
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        mut stopping: watch::Receiver<()>,
        permit: OwnedSemaphorePermit,
    ) {
        let tls = self.tls.borrow().clone();
        let handshake = async {
            stream.set_nodelay(true)?;
            TlsAcceptor::from(tls.config.clone()).accept(stream).await
        };
        let shaken = tokio::select! {
            shaken = timeout(self.limits.handshake, handshake) => shaken,
            _ = stopping.changed() => return,
        };
        let refused = |reason: &dyn std::fmt::Display| {
            self.stats.handshakes_failed.fetch_add(1, Relaxed);
            tracing::debug!(%address, %reason, "TLS handshake failed");
        };
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return refused(&error),
            Err(_) => return refused(&"no handshake in time"),
        };
        let proven = match tls.client(stream.get_ref().1.peer_certificates()) {
            Ok(proven) => proven,
            Err(reason) => return refused(&reason),
        };
        let _open = Open::new(self.stats.clone());
        let limits = self.limits;
        let (server, trust) = (self.clone(), tls);
        let service = service_fn(move |call| {
            let (server, proven, trust) = (server.clone(), proven.clone(), trust.clone());
            async move { Ok::<_, Infallible>(server.call(call, proven, &trust, address).await) }
        });
        let mut serving = std::pin::pin!(
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(PING.0)
                .keep_alive_timeout(PING.1)
                .max_concurrent_streams(limits.calls)
                .max_header_list_size(HEAD_SIZE)
                .max_send_buf_size(64 << 10)
                .serve_connection(TokioIo::new(stream), service)
        );
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            _ = stopping.changed() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%address, %error, "a connection ended badly");
        }
        drop(permit);
    }

    async fn call(
        &self,
        call: http::Request<Incoming>,
        proven: Option<SpiffeId>,
        tls: &ServerTls,
        address: SocketAddr,
    ) -> Answer {
        let caller = match self.authenticate(&call, proven, tls).await {
            Ok(caller) => caller,
            Err(status) => {
                self.stats.unauthenticated.fetch_add(1, Relaxed);
                tracing::warn!(%address, call = call.uri().path(), reason = status.message(), "a call was refused");
                return status.into_http();
            }
        };
        let mut call = call.map(Body::new);
        call.extensions_mut().insert(caller);
        call.extensions_mut().insert(address);
        self.services.call(call).await
    }

    /// By its token if it has one, for that says more; else by the certificate.
    async fn authenticate(
        &self,
        call: &http::Request<Incoming>,
        proven: Option<SpiffeId>,
        tls: &ServerTls,
    ) -> Result<Caller, Status> {
        let mut tokens = call.headers().get_all(AUTHORIZATION).iter();
        let token = match (tokens.next(), tokens.next()) {
            (_, Some(_)) => return Err(Status::unauthenticated("several authorization headers")),
            (Some(header), None) => Some(header),
            (None, None) => None,
        };
        let Some(header) = token else {
            let identity = proven.ok_or_else(|| {
                Status::unauthenticated("neither a certificate of the mesh nor a service account's token was shown")
            })?;
            return Ok(Caller { identity, node: None, pod: None, credential: Credential::Certificate });
        };
        let bearer =
            header.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")).filter(|token| !token.is_empty());
        let token = bearer.ok_or_else(|| Status::unauthenticated("expected \"authorization: Bearer <token>\""))?;
        let verify = self.verify.as_ref().ok_or_else(|| Status::unauthenticated("tokens are not accepted here"))?;
        let checked = timeout(self.limits.verification, async {
            let _turn = self.verifications.acquire().await.ok();
            verify.verify(token).await
        });
        match checked.await {
            Ok(Ok(caller)) if caller.identity.trust_domain() == tls.trust_domain() => Ok(caller),
            Ok(Ok(caller)) => Err(Status::unauthenticated(format!("{} is of another trust domain", caller.identity))),
            Ok(Err(error @ Unproven::Refused(_))) => Err(Status::unauthenticated(error.to_string())),
            Ok(Err(error @ Unproven::Unavailable(_))) => Err(Status::unavailable(error.to_string())),
            Err(_) => Err(Status::unavailable("the token could not be checked in time")),
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("services", &self.services).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Counts a connection while it lives.
struct Open(Arc<Stats>);

impl Open {
    fn new(stats: Arc<Stats>) -> Self {
        stats.connections.fetch_add(1, Relaxed);
        Self(stats)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

pub(crate) async fn accept(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let permit = free.clone().acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return (stream, address, permit),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
