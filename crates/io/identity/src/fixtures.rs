//! For tests: a CA that signs whatever it is told to, and handshakes in memory.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use weir_model::SpiffeId;

use crate::{WorkloadCertificate, no_server_name};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A CA that this one signed, for these purposes.
    pub(crate) fn intermediate(&self, purposes: Vec<ExtendedKeyUsagePurpose>) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "intermediate");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages = purposes;
        Self(CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    /// Its own certificate.
    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A certificate for `names`, valid now and for an hour, changed by `change`.
    pub(crate) fn sign(
        &self,
        names: Vec<SanType>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (Vec<CertificateDer<'static>>, PrivatePkcs8KeyDer<'static>) {
        let now = SystemTime::now();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (now - HOUR).into();
        params.not_after = (now + HOUR).into();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (vec![certificate.into()], key.into())
    }

    pub(crate) fn workload(&self, identity: &str, roots: &[&Authority]) -> WorkloadCertificate {
        let (chain, key) = self.sign(vec![uri(identity)], |_| {});
        WorkloadCertificate::new(chain, key, roots.iter().map(|a| a.root()).collect()).unwrap()
    }
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(crate) fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

/// A client's configuration with any certificate, believing any server: what an attacker would run.
pub(crate) fn careless_client(
    like: &ClientConfig,
    certificate: Option<(Vec<CertificateDer<'static>>, PrivatePkcs8KeyDer<'static>)>,
) -> ClientConfig {
    let mut config = like.clone();
    config.client_auth_cert_resolver = match certificate {
        Some((chain, key)) => Arc::new(shown(chain, key)),
        None => Arc::new(NoCertificate),
    };
    config
}

/// A server's configuration with any certificate.
pub(crate) fn careless_server(
    like: &ServerConfig,
    (chain, key): (Vec<CertificateDer<'static>>, PrivatePkcs8KeyDer<'static>),
) -> ServerConfig {
    let mut config = like.clone();
    config.cert_resolver = Arc::new(shown(chain, key));
    config
}

/// A certificate with a key, whether that is its own or not.
fn shown(chain: Vec<CertificateDer<'static>>, key: PrivatePkcs8KeyDer<'static>) -> rustls::sign::SingleCertAndKey {
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&PrivateKeyDer::Pkcs8(key)).unwrap();
    rustls::sign::CertifiedKey::new(chain, key).into()
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// Which side noticed, and what.
#[derive(Debug)]
pub(crate) enum Failed {
    Client(rustls::Error),
    Server(rustls::Error),
}

impl Failed {
    /// Our own reason, in words; rustls's if it was not ours.
    pub(crate) fn reason(&self) -> String {
        let (Self::Client(error) | Self::Server(error)) = self;
        crate::refusal(error).map_or_else(|| error.to_string(), ToString::to_string)
    }
}

/// A whole handshake in memory.
pub(crate) fn handshake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), Failed> {
    let mut client = ClientConnection::new(client, no_server_name()).map_err(Failed::Client)?;
    let mut server = ServerConnection::new(server).map_err(Failed::Server)?;
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().map_err(Failed::Server)?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().map_err(Failed::Client)?;
        }
    }
    Ok((client, server))
}
