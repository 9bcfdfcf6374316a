//! Agents that all want certificates at once.

use std::time::{Duration, Instant};

use anyhow::Context;
use http::uri::PathAndQuery;
use prost_types::{Struct, Value, value::Kind};
use tokio::task::JoinSet;
use tonic::{Code, client::Grpc};
use tonic_prost::ProstCodec;
use weir_issuance::{IstioCertificateRequest, IstioCertificateResponse};

use crate::{cluster::Shape, control::Control};

/// `IstioCertificateService`.
const CREATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
/// Agents that ask, one call each at a time, each on a node of its own: a node is allowed a burst, then some in a second.
const AGENTS: u32 = 100;

/// What was given.
pub(crate) struct Given {
    /// Certificates in a second of processor time of the control plane.
    pub(crate) per_core: f64,
    /// Certificates in a second.
    pub(crate) per_second: f64,
}

/// Asks for so long.
pub(crate) async fn ask(control: &Control, shape: Shape, time: Duration) -> anyhow::Result<Given> {
    // One key for all: making keys is the agents' work, which is not measured.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut agents = Vec::new();
    for node in 0..AGENTS.min(shape.nodes) {
        let identity = shape.identity_on(node);
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![rcgen::SanType::URI(identity.as_str().try_into()?)];
        let name = Value { kind: Some(Kind::StringValue(identity)) };
        let request = IstioCertificateRequest {
            csr: params.serialize_request(&key)?.pem()?,
            validity_duration: 3600,
            metadata: Some(Struct { fields: [("ImpersonatedIdentity".to_owned(), name)].into() }),
        };
        agents.push((Grpc::new(control.dial(node)?.connect().await?), request));
    }
    let (before, start) = (control.cpu()?, Instant::now());
    let mut asking = JoinSet::new();
    for (mut grpc, request) in agents {
        asking.spawn(async move {
            let mut given = 0_u32;
            while start.elapsed() < time {
                grpc.ready().await?;
                let codec: ProstCodec<_, IstioCertificateResponse> = ProstCodec::default();
                let call = tonic::Request::new(request.clone());
                let answer = grpc.unary(call, PathAndQuery::from_static(CREATE), codec).await;
                match answer {
                    Ok(_) => given += 1,
                    // Its burst is used up: from now on it would measure the rate it is allowed.
                    Err(status) if status.code() == Code::ResourceExhausted => break,
                    Err(status) => return Err(status).context("a certificate was refused"),
                }
            }
            anyhow::Ok(given)
        });
    }
    let mut given = 0;
    while let Some(asked) = asking.join_next().await {
        given += asked??;
    }
    let (used, took) = (control.cpu()? - before, start.elapsed());
    Ok(Given { per_core: f64::from(given) / used.as_secs_f64(), per_second: f64::from(given) / took.as_secs_f64() })
}
