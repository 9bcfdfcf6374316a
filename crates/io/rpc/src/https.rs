//! Short questions over HTTPS: whoever trusts the server's certificate asks, and proves nothing. For an API server's webhooks, which speak
//! HTTP/1.1 (Kubernetes issue 75791).

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{ServerTls, server};

/// Connections at once; more wait in the listener's queue.
const CONNECTIONS: usize = 32;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long the head of a question may take, and how long a connection may be idle.
const HEAD: Duration = Duration::from_secs(30);
/// How long its body may take.
const BODY: Duration = Duration::from_secs(5);
/// How long a connection may live, whatever it does.
const LIFE: Duration = Duration::from_secs(300);
/// Most of a head, in bytes.
const HEAD_SIZE: usize = 16 << 10;
/// How long answers under way may take once the server is to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// What is asked, by POST.
#[derive(Debug)]
pub struct Question {
    /// The path of the URL.
    pub path: String,
    /// The body.
    pub body: Bytes,
}

/// What is answered: a status of HTTP, and JSON, or the reason why not as plain text.
pub type Reply = Result<Vec<u8>, (StatusCode, String)>;

/// Serves until `ended`. A body larger than `max_body` bytes is refused; `answer` has its own deadline.
pub async fn serve_https<F>(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerTls>>,
    max_body: usize,
    answer: impl Fn(Question) -> F + Clone + Send + Sync + 'static,
    ended: impl Future<Output = ()>,
) where
    F: Future<Output = Reply> + Send + 'static,
{
    let (stop, stopping) = watch::channel(());
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut ended = std::pin::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => break,
            // Ended tasks are let go of; `None`, when there are none, only disables this branch.
            Some(_) = connections.join_next() => {}
            (stream, address, permit) = server::accept(&listener, &free) => {
                let tls = tls.borrow().clone();
                let (answer, stopping) = (answer.clone(), stopping.clone());
                connections.spawn(connection(stream, address, tls, max_body, answer, stopping, permit));
            }
        }
    }
    drop(listener);
    drop(stop);
    // Those that are not done by then are ended with the set.
    let all = async { while connections.join_next().await.is_some() {} };
    let _ended_in_time = timeout(STOP_DEADLINE, all).await.is_ok();
}

async fn connection<F>(
    stream: TcpStream,
    address: SocketAddr,
    tls: Arc<ServerTls>,
    max_body: usize,
    answer: impl Fn(Question) -> F + Clone + Send + Sync,
    mut stopping: watch::Receiver<()>,
    permit: OwnedSemaphorePermit,
) where
    F: Future<Output = Reply> + Send,
{
    let handshake = async {
        stream.set_nodelay(true)?;
        TlsAcceptor::from(tls.https.clone()).accept(stream).await
    };
    let shaken = tokio::select! {
        shaken = timeout(HANDSHAKE, handshake) => shaken,
        _ = stopping.changed() => return,
    };
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%address, %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!(%address, "no handshake in time"),
    };
    let service = service_fn(move |request| {
        let answer = answer.clone();
        async move { Ok::<_, Infallible>(replied(request, max_body, answer).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_SIZE);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = timeout(LIFE, serving.as_mut()) => ended,
        _ = stopping.changed() => {
            serving.as_mut().graceful_shutdown();
            timeout(STOP_DEADLINE, serving).await
        }
    };
    if let Ok(Err(error)) = ended {
        tracing::debug!(%address, %error, "a connection ended badly");
    }
    drop(permit);
}

async fn replied<F>(
    request: Request<Incoming>,
    max_body: usize,
    answer: impl Fn(Question) -> F,
) -> Response<Full<Bytes>>
where
    F: Future<Output = Reply>,
{
    let reply = match question(request, max_body).await {
        Ok(question) => answer(question).await,
        Err(refused) => Err(refused),
    };
    let (status, form, body) = match reply {
        Ok(json) => (StatusCode::OK, "application/json", json),
        Err((status, why)) => (status, "text/plain; charset=utf-8", (why + "\n").into_bytes()),
    };
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form));
    response
}

async fn question(request: Request<Incoming>, max_body: usize) -> Result<Question, (StatusCode, String)> {
    let refused = |status, why: String| Err((status, why));
    if request.method() != Method::POST {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "expected POST".to_owned());
    }
    let path = request.uri().path().to_owned();
    match timeout(BODY, Limited::new(request.into_body(), max_body).collect()).await {
        Ok(Ok(body)) => Ok(Question { path, body: body.to_bytes() }),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            refused(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {max_body} bytes"))
        }
        Ok(Err(error)) => refused(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}")),
        Err(_) => refused(StatusCode::REQUEST_TIMEOUT, format!("no whole body within {} s", BODY.as_secs())),
    }
}
