//! One message to a collector: by gRPC over HTTP/2, or by HTTP/1.1.

use std::{io, time::Duration};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::{http1, http2},
    header::{CONTENT_TYPE, HOST, HeaderValue, TE},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use crate::spans::{OtlpEndpoint, endpoint::Form, otlp};

/// Most bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;

/// Why a message did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// Nobody is there.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// The connection broke.
    #[error("the connection broke")]
    Http(#[from] hyper::Error),
    /// It took too long.
    #[error("not done within {within:?}")]
    Deadline {
        /// How long it may take.
        within: Duration,
    },
    /// The collector refused it.
    #[error("answered with status {status}")]
    Status {
        /// Its answer.
        status: StatusCode,
    },
    /// The collector refused it, in gRPC.
    #[error("answered with gRPC status {status}: {message:?}")]
    Grpc {
        /// `grpc-status`; 2, unknown, if there was none.
        status: u32,
        /// `grpc-message`.
        message: String,
    },
    /// The answer is too long.
    #[error("an answer of more than {MAX_ANSWER} bytes")]
    TooLong,
    /// The request could not be put together.
    #[error("no request could be made")]
    Request(#[from] hyper::http::Error),
}

impl SendError {
    /// Whether it may pass when it is tried again. OTLP Specification, "Failures" and "OTLP/HTTP Response".
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Http(_) | Self::Deadline { .. } => true,
            Self::Status { status } => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Grpc { status, .. } => matches!(status, 1 | 4 | 10 | 11 | 14 | 15),
            Self::TooLong | Self::Request(_) => false,
        }
    }
}

/// Sends a message; how many of its spans the collector threw away.
pub(super) async fn send(endpoint: &OtlpEndpoint, message: Vec<u8>, within: Duration) -> Result<u64, SendError> {
    let exchange = async {
        let address = (endpoint.host.as_str(), endpoint.port);
        let stream = TcpStream::connect(address).await.map_err(SendError::Connect)?;
        match endpoint.form {
            Form::Grpc => grpc(endpoint, stream, message).await,
            Form::Http => http(endpoint, stream, message).await,
        }
    };
    timeout(within, exchange).await.unwrap_or(Err(SendError::Deadline { within }))
}

async fn http(endpoint: &OtlpEndpoint, stream: TcpStream, message: Vec<u8>) -> Result<u64, SendError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with this function, whatever comes of it.
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri(&endpoint.path)
        .header(HOST, endpoint.authority())
        .header(CONTENT_TYPE, "application/x-protobuf")
        .body(Full::new(Bytes::from(message)))?;
    let (head, body, _) = whole(sender.send_request(request).await?).await?;
    if head != StatusCode::OK {
        return Err(SendError::Status { status: head });
    }
    Ok(rejected(&body))
}

async fn grpc(endpoint: &OtlpEndpoint, stream: TcpStream, message: Vec<u8>) -> Result<u64, SendError> {
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    // A message of gRPC: not compressed, its length, itself.
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    let framed = [&[0][..], &length, &message].concat();
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{}{}", endpoint.authority(), endpoint.path))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .body(Full::new(Bytes::from(framed)))?;
    let response = sender.send_request(request).await?;
    let of_head = grpc_status(response.headers());
    let (status, body, trailers) = whole(response).await?;
    match of_head.or_else(|| grpc_status(&trailers)) {
        Some((0, _)) => Ok(rejected(body.get(5..).unwrap_or_default())),
        Some((status, message)) => Err(SendError::Grpc { status, message }),
        None if status == StatusCode::OK => Err(SendError::Grpc { status: 2, message: "no grpc-status".to_owned() }),
        None => Err(SendError::Status { status }),
    }
}

/// `grpc-status` and `grpc-message`.
fn grpc_status(headers: &HeaderMap) -> Option<(u32, String)> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let status = text("grpc-status")?.parse().unwrap_or(2);
    Some((status, text("grpc-message").unwrap_or_default().chars().take(200).collect()))
}

/// How many spans an answer says were thrown away. One that cannot be read says nothing.
fn rejected(answer: &[u8]) -> u64 {
    let partial = otlp::Response::decode(answer).ok().and_then(|answer| answer.partial_success);
    partial.and_then(|partial| u64::try_from(partial.rejected_spans).ok()).unwrap_or(0)
}

async fn whole(response: Response<Incoming>) -> Result<(StatusCode, Bytes, HeaderMap<HeaderValue>), SendError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| {
        match error.downcast::<hyper::Error>() {
            Ok(error) => SendError::Http(*error),
            Err(other) => {
                debug_assert!(other.is::<LengthLimitError>(), "{other}");
                SendError::TooLong
            }
        }
    })?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    Ok((status, body.to_bytes(), trailers))
}
