//! Ports of pods, forwarded over WebSocket as Kubernetes does: each message begins with its channel, an even one for bytes and the odd one behind it for
//! an error; the first message of each says its port.

use std::{net::SocketAddr, sync::PoisonError, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::OwnedReadHalf},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use crate::{
    access::{self, Wish},
    reply::{Body, Refusal, json},
    request::Path,
    server::{State, user},
};

/// The protocol whose messages have channels.
const CHANNELS: &str = "v4.channel.k8s.io";
/// How long the client may take to become a WebSocket, and the pod to take a connection.
const BEGINS: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The pod whose ports a path asks for.
pub(crate) fn asked(path: &str) -> Option<(String, String)> {
    let path = Path::parse(path)?;
    let forward = path.group.is_empty() && path.plural == "pods" && path.part.as_deref() == Some("portforward");
    forward.then_some((path.namespace?, path.name?))
}

/// Answers by becoming a WebSocket, if whoever asks may and the pod is there.
pub(crate) fn answer(
    state: &State,
    namespace: &str,
    pod: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let user = user(state, request.headers())?;
    let wish = Wish {
        // A WebSocket begins by GET, and that is the verb Kubernetes asks for.
        verb: "get".to_owned(),
        resource: "pods/portforward".to_owned(),
        namespace: Some(namespace.to_owned()),
        name: Some(pod.to_owned()),
        ..Wish::default()
    };
    access::check(&state.store(), &user, &wish)?;
    let there = (namespace.to_owned(), pod.to_owned());
    let to = state.forwards.lock().unwrap_or_else(PoisonError::into_inner).get(&there).copied();
    let to = to.ok_or_else(|| Refusal::not_found("pods", pod))?;
    let query = request.uri().query().unwrap_or_default();
    let port = query.split('&').find_map(|pair| pair.strip_prefix("ports=")?.parse().ok());
    let port: u16 = port.ok_or_else(|| Refusal::bad("this server forwards exactly one port: ports=PORT"))?;
    let headers = request.headers();
    let given = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !given(header::SEC_WEBSOCKET_PROTOCOL).split(',').any(|protocol| protocol.trim() == CHANNELS) {
        return Err(Refusal::bad(format!("this server forwards over {CHANNELS} only")));
    }
    let accept = derive_accept_key(given(header::SEC_WEBSOCKET_KEY).as_bytes());
    let upgrading = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        // A client that goes before it is one is no news, nor is one that goes while it is served.
        if let Ok(Ok(upgraded)) = timeout(BEGINS, upgrading).await {
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            drop(serve(socket, port, to).await);
        }
    });
    let mut answer = json(200, &serde_json::Value::Null);
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.body_mut() = Body::Left(http_body_util::Full::new(Bytes::new()));
    *answer.headers_mut() = HeaderMap::from_iter([
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(CHANNELS)),
        (
            header::SEC_WEBSOCKET_ACCEPT,
            HeaderValue::from_str(&accept).map_err(|error| Refusal::bad(error.to_string()))?,
        ),
    ]);
    Ok(answer)
}

async fn serve(socket: Socket, port: u16, to: SocketAddr) -> anyhow::Result<()> {
    let (mut sink, mut source) = socket.split();
    let [low, high] = port.to_le_bytes();
    for channel in [0, 1] {
        sink.send(Message::binary(vec![channel, low, high])).await?;
    }
    let stream = match timeout(BEGINS, TcpStream::connect(to)).await {
        Ok(Ok(stream)) => stream,
        refused => {
            let why = format!("error forwarding port {port} to pod: {refused:?}");
            sink.send(Message::binary([&[1], why.as_bytes()].concat())).await?;
            return Ok(sink.close().await?);
        }
    };
    let (from_pod, mut to_pod) = stream.into_split();
    let back = tokio::spawn(answers(from_pod, sink));
    while let Some(message) = source.next().await {
        match message? {
            Message::Binary(bytes) if bytes.first() == Some(&0) => to_pod.write_all(&bytes[1..]).await?,
            Message::Close(_) => break,
            Message::Binary(_) | Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    to_pod.shutdown().await?;
    back.await?
}

/// What the pod says, until it ends.
async fn answers(mut from_pod: OwnedReadHalf, mut sink: SplitSink<Socket, Message>) -> anyhow::Result<()> {
    let mut bytes = vec![0; 16 << 10];
    loop {
        let read = from_pod.read(&mut bytes).await?;
        if read == 0 {
            return Ok(sink.close().await?);
        }
        sink.send(Message::binary([&[0], &bytes[..read]].concat())).await?;
    }
}
