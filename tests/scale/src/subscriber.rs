//! A subscriber to everything, as cheap as can be: TLS and HTTP/2 are real, resources are counted and not read.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tower::{Service, ServiceExt};
use weir_rpc::Dial;

use crate::wire::{ADDRESS, AUTHORIZATION, DELTA, Node, Request, Resource, Response, Version, frame, unframe};

/// Patience with an answer that must come.
const PATIENCE: Duration = Duration::from_secs(120);

/// The sums of all resources of the two kinds, as `weir-control` takes them for the list of all; or nothing is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    sums: Option<[String; 2]>,
}

/// One stream.
pub(crate) struct Subscriber {
    requests: mpsc::Sender<Result<Frame<Bytes>, std::convert::Infallible>>,
    body: Incoming,
    buffer: BytesMut,
}

/// What the first answers held.
pub(crate) struct Everything {
    /// Resources that were sent.
    pub(crate) resources: usize,
    /// Their sums.
    pub(crate) known: Known,
}

impl Subscriber {
    /// Connects and asks for everything but what is known.
    ///
    /// # Errors
    /// When there is no connection, or the call is refused.
    pub(crate) async fn open(dial: &Dial, node: &str, known: &Known) -> anyhow::Result<Self> {
        let mut channel = dial.connect().await?;
        let (requests, stream) = mpsc::channel(8);
        for (place, type_url) in [ADDRESS, AUTHORIZATION].into_iter().enumerate() {
            let sum = |sums: &[String; 2]| Version { name: "*".to_owned(), version: sums[place].clone() };
            let request = Request {
                node: Some(Node { id: format!("ztunnel~10.0.0.1~agent.weir-system~{node}") }),
                type_url: type_url.to_owned(),
                subscribe: vec!["*".to_owned()],
                versions: known.sums.iter().map(sum).collect(),
                nonce: String::new(),
            };
            requests.send(Ok(Frame::data(frame(&request)))).await?;
        }
        let call = http::Request::post(DELTA)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::new(StreamBody::new(ReceiverStream::new(stream))))?;
        let answer = timeout(PATIENCE, channel.ready().await?.call(call)).await??;
        let status = answer.headers().get("grpc-status");
        ensure!(status.is_none(), "the stream was refused: {status:?} {:?}", answer.headers().get("grpc-message"));
        Ok(Self { requests, body: answer.into_body(), buffer: BytesMut::new() })
    }

    /// The next response, which is taken at once.
    ///
    /// # Errors
    /// When the stream has ended.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Response> {
        loop {
            if let Some(message) = unframe(&mut self.buffer) {
                let response = Response::decode(message)?;
                let (type_url, nonce) = (response.type_url.clone(), response.nonce.clone());
                let taken = Request { type_url, nonce, ..Request::default() };
                self.requests.send(Ok(Frame::data(frame(&taken)))).await.context("the call is over")?;
                return Ok(response);
            }
            let frame = self.body.frame().await.context("the stream ended")??;
            match frame.into_data() {
                Ok(bytes) => self.buffer.extend_from_slice(&bytes),
                Err(frame) => anyhow::bail!("the stream ended: {:?}", frame.trailers_ref()),
            }
        }
    }

    /// Everything that is sent until both first answers are complete.
    ///
    /// # Errors
    /// When the stream ends before, or nothing comes for long.
    pub(crate) async fn first_answers(&mut self) -> anyhow::Result<Everything> {
        let mut sums = [[0_u64; 4]; 2];
        let (mut missing, mut resources) = (vec![ADDRESS, AUTHORIZATION], 0);
        while !missing.is_empty() {
            let response = timeout(PATIENCE, self.next()).await.context("no answer")??;
            resources += response.resources.len();
            let place = usize::from(response.type_url == AUTHORIZATION);
            for bytes in &response.resources {
                add(&mut sums[place], &Resource::decode(bytes.clone())?)?;
            }
            if response.is_last() {
                missing.retain(|kind| *kind != response.type_url);
            }
        }
        let text = |sum: [u64; 4]| sum.iter().map(|word| format!("{word:016x}")).collect::<String>();
        Ok(Everything { resources, known: Known { sums: Some(sums.map(text)) } })
    }
}

/// One resource more in a sum: the hash of its version and its name.
fn add(sum: &mut [u64; 4], resource: &Resource) -> anyhow::Result<()> {
    let version = u64::from_str_radix(&resource.version, 16).context("a version of weir-control's")?;
    let hash = Sha256::new().chain_update(version.to_be_bytes()).chain_update(&resource.name).finalize();
    for (word, bytes) in sum.iter_mut().zip(hash.chunks(8)) {
        *word = word.wrapping_add(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
    }
    Ok(())
}
