//! Calls that no agent of ours would make, by messages written here.

use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::stream;
use prost_types::{Struct, Value, value::Kind};
use tokio::time::timeout;
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;
use weir_issuance::{IstioCertificateRequest, IstioCertificateResponse};
use weir_rpc::Channel;

const CREATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// `envoy.config.core.v3.Node`, of which only the id is said.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Node {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
}

/// `envoy.service.discovery.v3.DeltaDiscoveryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ask {
    #[prost(message, optional, tag = "1")]
    pub(crate) node: Option<Node>,
    #[prost(string, tag = "2")]
    pub(crate) type_url: String,
    #[prost(string, repeated, tag = "3")]
    pub(crate) subscribe: Vec<String>,
    #[prost(string, tag = "6")]
    pub(crate) nonce: String,
}

/// `envoy.service.discovery.v3.DeltaDiscoveryResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Told {
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(crate) resources: Vec<Vec<u8>>,
    #[prost(string, tag = "5")]
    pub(crate) nonce: String,
    #[prost(string, repeated, tag = "6")]
    pub(crate) removed: Vec<String>,
}

impl Ask {
    pub(crate) fn addresses(subscribe: Vec<String>) -> Self {
        let node = Some(Node { id: "stranger".to_owned() });
        Self {
            node,
            type_url: "type.googleapis.com/istio.workload.Address".to_owned(),
            subscribe,
            nonce: String::new(),
        }
    }
}

/// Asks for a certificate.
pub(crate) async fn create(channel: &Channel, csr: &str, asked: Option<&str>) -> Result<Vec<String>, Status> {
    let named = |name: &str| Value { kind: Some(Kind::StringValue(name.to_owned())) };
    let metadata = asked.map(|name| Struct { fields: [("ImpersonatedIdentity".to_owned(), named(name))].into() });
    let request = IstioCertificateRequest { csr: csr.to_owned(), validity_duration: 3600, metadata };
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<IstioCertificateRequest, IstioCertificateResponse>::default();
    let call = grpc.unary(Request::new(request), PathAndQuery::from_static(CREATE), codec);
    let answer = timeout(PATIENCE, call).await.map_err(|_| Status::deadline_exceeded("no answer"))?;
    Ok(answer?.into_inner().cert_chain)
}

/// Sends all of these over one stream, and answers with how that ended.
pub(crate) async fn discover(channel: &Channel, requests: Vec<Ask>) -> Result<(Code, String)> {
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(64 << 20);
    grpc.ready().await?;
    // The stream stays open at our end.
    let requests = stream::StreamExt::chain(stream::iter(requests), stream::pending());
    let codec = ProstCodec::<Ask, Told>::default();
    let ended = async {
        let answer = grpc.streaming(Request::new(requests), PathAndQuery::from_static(DELTA), codec).await?;
        let mut told = answer.into_inner();
        while told.message().await?.is_some() {}
        Ok::<(), Status>(())
    };
    let ended = timeout(PATIENCE, ended).await.context("the stream goes on")?;
    Ok(ended.map_or_else(|status| (status.code(), status.message().to_owned()), |()| (Code::Ok, String::new())))
}
