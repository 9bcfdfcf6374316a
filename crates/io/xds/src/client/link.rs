//! One stream to a control plane.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::uri::PathAndQuery;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming, body::Body, client::Grpc, client::GrpcService, codegen};
use tonic_prost::ProstCodec;
use weir_world::World;

use super::{Mode, PATIENCE, held::Held};
use crate::{
    kind::Kind,
    proto::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Status, VersionEntry},
    request::{ALL, Node},
    response::MORE,
    server::DELTA,
};

/// Most a response may have, in bytes: istiod sends the whole mesh in one. As in ztunnel.
const MAX_RESPONSE: usize = 200 << 20;
/// Requests that wait to be sent. A control plane that lets so many wait is lost.
const MAX_WAITING: usize = 256;
/// Most the text of a refusal may have, in bytes, about.
const MAX_REFUSAL: usize = 4096;
/// Length of the list of what is held, in bytes: with the names that are asked for it stays below what a control plane reads.
const MAX_LIST: usize = 768 << 10;
/// `google.rpc.Code.INVALID_ARGUMENT`.
const INVALID_ARGUMENT: i32 = 3;

/// A stream that is open.
pub(super) struct Link {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    /// The kinds whose first answer is not complete.
    missing: Vec<Kind>,
    /// When they must be.
    pub(super) answer_by: Option<Instant>,
}

/// The requests a link begins with: one for each kind.
pub(super) fn first(
    mode: Mode,
    node: &Node,
    (held, known): (&mut Held, &World),
    asked: &BTreeSet<(Kind, String)>,
) -> Vec<DeltaDiscoveryRequest> {
    let mut room = MAX_LIST.saturating_sub(asked.iter().map(|(_, name)| name.len() + 4).sum());
    let mut request = |kind: Kind| {
        let mut request = DeltaDiscoveryRequest {
            node: Some(node.to_wire()),
            type_url: kind.type_url().to_owned(),
            initial_resource_versions: held.list(kind, known, &mut room),
            ..DeltaDiscoveryRequest::default()
        };
        match (kind, mode) {
            (Kind::Address, Mode::OnDemand) | (Kind::Object, _) => {
                // Subscribed to everything and in the same breath not any more: the way to begin with names, or with none.
                let own = asked.iter().filter(|(of, _)| *of == kind).map(|(_, name)| name.clone());
                request.resource_names_subscribe = std::iter::once(ALL.to_owned()).chain(own).collect();
                request.resource_names_unsubscribe = vec![ALL.to_owned()];
            }
            (Kind::Address, Mode::Wildcard | Mode::Waypoint)
            | (Kind::Authorization, Mode::OnDemand | Mode::Wildcard | Mode::Waypoint) => {
                if let Some(version) = held.sum(kind) {
                    request.initial_resource_versions.push(VersionEntry { name: ALL.to_owned(), version });
                }
            }
        }
        request
    };
    mode.kinds().into_iter().map(&mut request).collect()
}

/// Whether no other response of the same answer follows.
pub(super) fn is_last(version: &str) -> bool {
    !version.ends_with(MORE)
}

impl Link {
    /// Opens a stream that begins with these requests.
    pub(super) async fn open<S>(service: S, mode: Mode, first: Vec<DeltaDiscoveryRequest>) -> Result<Self, String>
    where
        S: GrpcService<Body>,
        S::ResponseBody: codegen::Body<Data = Bytes> + Send + 'static,
        <S::ResponseBody as codegen::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (requests, stream) = mpsc::channel(MAX_WAITING);
        for request in first {
            requests.try_send(request).map_err(|error| error.to_string())?;
        }
        let mut grpc = Grpc::new(service).max_decoding_message_size(MAX_RESPONSE);
        grpc.ready().await.map_err(|error| error.into().to_string())?;
        let codec = ProstCodec::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>::default();
        let call = grpc.streaming(Request::new(ReceiverStream::new(stream)), PathAndQuery::from_static(DELTA), codec);
        let responses = call.await.map_err(|status| status.to_string())?.into_inner();
        Ok(Self { requests, responses, missing: mode.kinds().into(), answer_by: Some(Instant::now() + PATIENCE) })
    }

    /// The next response. It may be dropped and called again.
    pub(super) async fn receive(&mut self) -> Result<DeltaDiscoveryResponse, String> {
        match self.responses.message().await {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err("the control plane ended the stream".to_owned()),
            Err(status) => Err(status.to_string()),
        }
    }

    /// Asks for names, and for others not any more.
    pub(super) fn ask(&mut self, kind: Kind, wanted: Vec<String>, unwanted: Vec<String>) -> Result<(), String> {
        if wanted.is_empty() && unwanted.is_empty() {
            return Ok(());
        }
        self.send(DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: wanted,
            resource_names_unsubscribe: unwanted,
            ..DeltaDiscoveryRequest::default()
        })
    }

    /// Says what became of a response: taken, or these resources not.
    pub(super) fn answer(&mut self, kind: Kind, nonce: String, rejected: &[(String, String)]) -> Result<(), String> {
        let error_detail = (!rejected.is_empty()).then(|| {
            let mut message = String::new();
            for (place, (_, why)) in rejected.iter().enumerate() {
                if message.len() + why.len() > MAX_REFUSAL && place > 0 {
                    message.push_str(&format!("; and {} more", rejected.len() - place));
                    break;
                }
                message.push_str(if place == 0 { "" } else { "; " });
                message.push_str(why);
            }
            Status { code: INVALID_ARGUMENT, message }
        });
        self.send(DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            response_nonce: nonce,
            error_detail,
            ..DeltaDiscoveryRequest::default()
        })
    }

    /// The answer to the first request of the kind is complete. Whether it was not before.
    pub(super) fn first_answer(&mut self, kind: Kind) -> bool {
        let before = self.missing.len();
        self.missing.retain(|missing| *missing != kind);
        self.missing.len() < before
    }

    /// Somebody is there: the first answers have some more time, once they have come nothing has to.
    pub(super) fn heard(&mut self) {
        self.answer_by = (!self.is_synced()).then(|| Instant::now() + PATIENCE);
    }

    /// Whether all first answers are complete.
    pub(super) fn is_synced(&self) -> bool {
        self.missing.is_empty()
    }

    fn send(&self, request: DeltaDiscoveryRequest) -> Result<(), String> {
        self.requests.try_send(request).map_err(|_| "the control plane takes no requests any more".to_owned())
    }
}
