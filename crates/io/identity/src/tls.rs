//! The rustls configurations of one workload certificate. TLS 1.3 and HTTP/2, both sides proven, nothing resumed.

use std::{
    collections::VecDeque,
    fmt,
    net::Ipv4Addr,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::SystemTime,
};

use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::{PrivateKeyDer, ServerName, UnixTime};
use weir_model::SpiffeId;
use zeroize::Zeroize;

use crate::{
    Error, WorkloadCertificate,
    verifier::{ClientVerifier, MeshRoots, ServerVerifier, Source},
};

/// The only protocol spoken. RFC 9113 §3.2.
const H2: &[u8] = b"h2";
/// How many sets of expected identities are remembered per certificate.
const CLIENTS: usize = 128;

/// What both sides agree on: AES-GCM only, the cheaper key size first, and a hybrid key exchange before classic ones.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![
            aws_lc_rs::kx_group::X25519MLKEM768,
            aws_lc_rs::kx_group::X25519,
            aws_lc_rs::kx_group::SECP256R1,
        ],
        ..aws_lc_rs::default_provider()
    })
});

/// One certificate, ready for handshakes in both directions.
pub struct WorkloadTls {
    identity: SpiffeId,
    serial: String,
    not_before: SystemTime,
    not_after: SystemTime,
    own: Arc<SingleCertAndKey>,
    roots: Arc<MeshRoots>,
    server: Arc<ServerConfig>,
    clients: Mutex<VecDeque<Client>>,
}

/// The configuration for one set of expected identities.
struct Client {
    /// Sorted, without repetition.
    expected: Box<[SpiffeId]>,
    config: Arc<ClientConfig>,
}

impl WorkloadTls {
    /// Makes the configurations. Once `certificate` is dropped, only the crypto library holds the key.
    ///
    /// # Errors
    /// The key does not belong to the certificate, or a root cannot be read.
    pub fn new(certificate: &WorkloadCertificate) -> Result<Self, Error> {
        Self::sharing(certificate, &no_roots())
    }

    /// The same, believing what `roots` come to believe, to which the certificate's are told.
    pub(crate) fn sharing(certificate: &WorkloadCertificate, roots: &Arc<MeshRoots>) -> Result<Self, Error> {
        let identity = certificate.identity.clone();
        let own = Arc::new(SingleCertAndKey::from(certified_key(certificate)?));
        told(roots, certificate)?;
        let roots = roots.clone();
        let tls = |what| {
            let identity = identity.clone();
            move |source| Error::Tls { what, identity, source: Box::new(source) }
        };
        let verifier = ClientVerifier { roots: roots.clone(), trust_domain: identity.trust_domain().clone() };
        let mut server = ServerConfig::builder_with_provider(PROVIDER.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(tls("protocol version"))?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(own.clone());
        server.alpn_protocols = vec![H2.to_vec()];
        server.ignore_client_order = true;
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        // Records are sealed in place by the data path, with the secrets of the finished handshake.
        server.enable_secret_extraction = true;
        Ok(Self {
            identity,
            serial: certificate.serial.clone(),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            own,
            roots,
            server: Arc::new(server),
            clients: Mutex::default(),
        })
    }

    /// Whose certificate it is.
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// The certificate's serial number: hexadecimal octets with colons between.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// When the certificate begins to be valid.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// When the certificate ends to be valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// For inbound connections: any client of the own trust domain, none without a certificate.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// For outbound connections to a server that is one of `expect`. With nobody expected, every handshake fails.
    pub fn client(&self, expect: &[SpiffeId]) -> Arc<ClientConfig> {
        let mut key = expect.to_vec();
        key.sort_unstable();
        key.dedup();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = clients.iter().find(|client| *client.expected == *key) {
            return found.config.clone();
        }
        if clients.len() >= CLIENTS {
            clients.pop_front();
        }
        let expected = key.into_boxed_slice();
        let config = Arc::new(self.make_client(expected.clone()));
        clients.push_back(Client { expected, config: config.clone() });
        config
    }

    fn make_client(&self, expected: Box<[SpiffeId]>) -> ClientConfig {
        let verifier = ServerVerifier { roots: self.roots.clone(), expected };
        let mut client = ClientConfig::builder_with_provider(PROVIDER.clone())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has TLS 1.3 suites and groups: the server side was built with them")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.own.clone());
        client.alpn_protocols = vec![H2.to_vec()];
        client.enable_sni = false;
        client.resumption = Resumption::disabled();
        client.enable_secret_extraction = true;
        client
    }
}

impl fmt::Debug for WorkloadTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadTls")
            .field("identity", &self.identity)
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Roots that believe nobody yet.
pub(crate) fn no_roots() -> Arc<MeshRoots> {
    Arc::new(MeshRoots::new(PROVIDER.signature_verification_algorithms))
}

/// Whether peers that hold the same roots would believe the certificate now, whoever made it; and whether its key is its own.
pub(crate) fn prove(certificate: &WorkloadCertificate, now: SystemTime) -> Result<(), Error> {
    certified_key(certificate)?;
    let roots = no_roots();
    told(&roots, certificate)?;
    let (leaf, intermediates) = certificate.chain.split_first().ok_or(Error::NoCertificate)?;
    let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    roots.believe(leaf, intermediates, now).map(drop)
}

fn told(roots: &MeshRoots, certificate: &WorkloadCertificate) -> Result<(), Error> {
    roots.set(Source::Issued, &certificate.roots).map_err(|reason| Error::Root { reason: Box::new(reason) })
}

fn certified_key(certificate: &WorkloadCertificate) -> Result<CertifiedKey, Error> {
    let refused = |source| Error::Tls { what: "key", identity: certificate.identity.clone(), source: Box::new(source) };
    let mut key = PrivateKeyDer::Pkcs8(certificate.key.clone_key());
    let signer = aws_lc_rs::sign::any_supported_type(&key);
    key.zeroize();
    let own = CertifiedKey::new(certificate.chain.clone(), signer.map_err(refused)?);
    own.keys_match().map_err(refused)?;
    Ok(own)
}

/// The name rustls wants for a client connection. It is neither sent nor checked: identities are.
pub fn no_server_name() -> ServerName<'static> {
    ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into())
}

/// To be called when a handshake is done: rustls goes on when the peer offers no ALPN at all.
///
/// # Errors
/// Anything but `h2` was agreed on.
pub fn require_h2(agreed: Option<&[u8]>) -> Result<(), Error> {
    match agreed {
        Some(H2) => Ok(()),
        Some(_) | None => Err(Error::Alpn { found: agreed.map(|a| a.escape_ascii().to_string()) }),
    }
}
