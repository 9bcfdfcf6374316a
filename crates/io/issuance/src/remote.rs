//! The agent's end: a CA elsewhere, as an issuer of certificates.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use http::uri::PathAndQuery;
use prost_types::{Struct, Value, value::Kind};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use tokio::sync::Mutex;
use tonic::{Code, Request, Status, client::Grpc};
use tonic_prost::ProstCodec;
use weir_identity::{Error, Issuer, Issuing, WorkloadCertificate};
use weir_model::SpiffeId;
use weir_rpc::{Channel, Dial, DialError};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    IstioCertificateRequest, IstioCertificateResponse,
    messages::{CREATE, IMPERSONATED},
};

/// Most an answer may have, in bytes: a bundle of many roots.
const MAX_ANSWER: usize = 1 << 20;
/// Most certificates in an answer.
const MAX_CERTIFICATES: usize = 64;

/// A CA that speaks `IstioCertificateService`: `weir-control`, or istiod.
///
/// Nothing it answers is taken on trust but which roots there are. It holds one connection, made when it is needed and again when it broke.
pub struct RemoteCa {
    dial: Dial,
    lifetime: Duration,
    channel: Mutex<Option<Channel>>,
}

impl RemoteCa {
    /// The CA behind `dial`, which is asked for certificates that are valid for `lifetime`.
    pub fn new(dial: Dial, lifetime: Duration) -> Self {
        Self { dial, lifetime, channel: Mutex::default() }
    }

    async fn ask(&self, identity: &SpiffeId) -> Result<WorkloadCertificate, Error> {
        let remote = |source: RemoteError| Error::Remote { identity: identity.clone(), source: Box::new(source) };
        let (key, csr) = signing_request(identity).map_err(|source| remote(RemoteError::Key(source)))?;
        let answer = self.create(identity, csr).await.map_err(remote)?;
        let (chain, roots) = certificates(&answer).map_err(remote)?;
        WorkloadCertificate::proven(chain, PrivatePkcs8KeyDer::from(key.to_vec()), roots, identity, SystemTime::now())
    }

    async fn create(&self, identity: &SpiffeId, csr: String) -> Result<IstioCertificateResponse, RemoteError> {
        let name = Value { kind: Some(Kind::StringValue(identity.to_string())) };
        let request = IstioCertificateRequest {
            csr,
            validity_duration: i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX),
            metadata: Some(Struct { fields: [(IMPERSONATED.to_owned(), name)].into() }),
        };
        let mut grpc = Grpc::new(self.channel().await?).max_decoding_message_size(MAX_ANSWER);
        if let Err(error) = grpc.ready().await {
            // It broke while nobody used it.
            tracing::debug!(%error, "the connection to the CA is gone, another is made");
            self.forget().await;
            grpc = Grpc::new(self.channel().await?).max_decoding_message_size(MAX_ANSWER);
            grpc.ready().await.map_err(RemoteError::Dial)?;
        }
        let answer = grpc.unary(Request::new(request), PathAndQuery::from_static(CREATE), ProstCodec::default()).await;
        match answer {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => {
                if may_be_the_connection(status.code()) {
                    self.forget().await;
                }
                Err(RemoteError::Refused(Box::new(status)))
            }
        }
    }

    /// The connection; who comes while it is being made waits for it.
    async fn channel(&self) -> Result<Channel, RemoteError> {
        let mut held = self.channel.lock().await;
        match &*held {
            Some(channel) => Ok(channel.clone()),
            None => Ok(held.insert(self.dial.connect().await.map_err(RemoteError::Dial)?).clone()),
        }
    }

    async fn forget(&self) {
        *self.channel.lock().await = None;
    }
}

impl Issuer for RemoteCa {
    fn certify<'a>(&'a self, identity: &'a SpiffeId) -> Issuing<'a> {
        Box::pin(self.ask(identity))
    }
}

impl fmt::Debug for RemoteCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteCa").field("target", &self.dial.target).finish_non_exhaustive()
    }
}

/// Why a CA elsewhere gave no certificate. What is wrong with one that it gave, [`Error`] says.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// There is no connection.
    #[error("the CA cannot be reached")]
    Dial(#[source] DialError),
    /// It refused, or the call broke off.
    #[error("the call to the CA failed")]
    Refused(#[source] Box<Status>),
    /// Key or signing request could not be made.
    #[error("key or signing request cannot be made")]
    Key(#[source] rcgen::Error),
    /// The answer is no chain.
    #[error("the CA's answer: expected {0}")]
    Answer(&'static str),
}

/// Whether a call may have failed because of its connection: a server says these too, and then a new one does no harm.
fn may_be_the_connection(code: Code) -> bool {
    match code {
        Code::Unknown | Code::Unavailable | Code::Internal | Code::Cancelled | Code::DeadlineExceeded => true,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

/// A new key, PKCS#8, and the request to have it signed for the identity, PEM.
fn signing_request(identity: &SpiffeId) -> Result<(Zeroizing<Vec<u8>>, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(identity.to_string().as_str().try_into()?)];
    let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let request = params.serialize_request(&key).and_then(|request| request.pem());
    let der = Zeroizing::new(key.serialized_der().to_vec());
    key.zeroize();
    Ok((der, request?))
}

type Certificates = Vec<CertificateDer<'static>>;

/// The chain, and the roots of the last element: a CA puts its whole bundle there.
fn certificates(answer: &IstioCertificateResponse) -> Result<(Certificates, Certificates), RemoteError> {
    let (roots, chain) =
        answer.cert_chain.split_last().ok_or(RemoteError::Answer("a certificate and a root, it is empty"))?;
    let mut read = [Vec::new(), Vec::new()];
    for (into, text) in chain.iter().map(|text| (0, text)).chain([(1, roots)]) {
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            read[into].push(certificate.map_err(|_| RemoteError::Answer("certificates in PEM, one is damaged"))?);
            if read[into].len() > MAX_CERTIFICATES {
                return Err(RemoteError::Answer("at most 64 certificates"));
            }
        }
    }
    let [chain, roots] = read;
    match chain.is_empty() || roots.is_empty() {
        true => Err(RemoteError::Answer("a certificate, and last the roots")),
        false => Ok((chain, roots)),
    }
}
