//! A small HTTP/1 server with bounds on everything a client can stretch.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{Error, Routes};

/// What a client can stretch, and how far.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// How many connections are served at once; more wait in the listener's queue.
    at_once: usize,
    /// How long a client may take to send its request's head, and how long a connection may be idle.
    head: Duration,
    /// How long a connection may live, however slowly its client reads.
    connection: Duration,
}

const LIMITS: Limits = Limits { at_once: 64, head: Duration::from_secs(5), connection: Duration::from_secs(30) };
/// The largest request head, in bytes.
const HEAD_SIZE: usize = 16 << 10;
/// How long answers under way may take once the server is to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(2);
/// How long to wait when no connection can be accepted: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens on an address; `[::]` serves IPv4 too, and where the kernel has no IPv6 stands for `0.0.0.0`.
///
/// # Errors
/// The address cannot be listened on.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen { address, source };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await.map_err(failed)
        }
        Err(source) => Err(failed(source)),
    }
}

/// A port of an admin server, written `localhost:PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminPort(u16);

impl FromStr for AdminPort {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let port = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        port.map(Self).ok_or_else(|| Error::AdminPort { text: text.to_owned() })
    }
}

/// A port at every address, of both families.
pub fn everywhere(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}

/// Listens on the loopback addresses of both families, or of the one that is there.
///
/// # Errors
/// Neither can be listened on, or one is taken by somebody else: half a server would be a riddle.
pub async fn bind_loopback(AdminPort(port): AdminPort) -> Result<Vec<TcpListener>, Error> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let first = TcpListener::bind(v4).await;
    // With port 0 both families get the same port.
    let port = first.as_ref().ok().and_then(|listener| listener.local_addr().ok()).map_or(port, |a| a.port());
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let mut listeners = Vec::new();
    let mut missing = None;
    for (address, listener) in [(v4, first), (v6, TcpListener::bind(v6).await)] {
        match listener {
            Ok(listener) => listeners.push(listener),
            Err(source) if source.kind() == io::ErrorKind::AddrInUse => return Err(Error::Listen { address, source }),
            Err(source) => missing = Some(Error::Listen { address, source }),
        }
    }
    match missing {
        Some(error) if listeners.is_empty() => Err(error),
        Some(_) | None => Ok(listeners),
    }
}

/// Serves until `shutdown` is done, then lets answers under way finish for a moment.
///
/// # Errors
/// The admin routes would be reachable from other hosts.
pub async fn serve(listener: TcpListener, routes: Routes, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    serve_within(LIMITS, listener, routes, shutdown).await
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    routes: Routes,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    check_exposure(&listener, &routes)?;
    let (stop, stopping) = watch::channel(());
    let free = Arc::new(Semaphore::new(limits.at_once));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            // Ended tasks are let go of; `None`, when there are none, only disables this branch.
            Some(_) = connections.join_next() => {}
            (stream, permit) = accept(&listener, &free) => {
                connections.spawn(connection(limits, stream, routes.clone(), stopping.clone(), permit));
            }
        }
    }
    drop(listener);
    drop(stop);
    // Those that are not done by then are ended with the set.
    let all = async { while connections.join_next().await.is_some() {} };
    let _ended_in_time = timeout(STOP_DEADLINE, all).await.is_ok();
    Ok(())
}

fn check_exposure(listener: &TcpListener, routes: &Routes) -> Result<(), Error> {
    let address = listener
        .local_addr()
        .map_err(|source| Error::Listen { address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), source })?;
    match routes {
        Routes::Admin(_) if !address.ip().to_canonical().is_loopback() => Err(Error::AdminExposed { address }),
        Routes::Admin(_) | Routes::Stats(_) | Routes::Ready(_) => Ok(()),
    }
}

async fn accept(listener: &TcpListener, free: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let permit = free.clone().acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    limits: Limits,
    stream: TcpStream,
    routes: Routes,
    mut stopping: watch::Receiver<()>,
    permit: OwnedSemaphorePermit,
) {
    let answer = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let routes = routes.clone();
        async move { Ok::<_, Infallible>(routes.answer(&request.into_parts().0).await) }
    });
    let mut serving = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(HEAD_SIZE)
            .serve_connection(TokioIo::new(stream), answer)
    );
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = sleep(limits.connection) => Ok(()),
        _ = stopping.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client of the admin, stats or readiness server went wrong");
    }
    drop(permit);
}

#[cfg(test)]
mod tests;
