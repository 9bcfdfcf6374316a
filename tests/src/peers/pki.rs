//! Certificates: what the mesh's root signs, and what it never would.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

const HOUR: Duration = Duration::from_secs(3600);

/// A root that signs whatever it is asked to.
#[derive(Debug)]
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate shall say.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// Its URI names; a legal one has exactly one.
    pub names: Vec<String>,
    /// From when it is valid.
    pub from: SystemTime,
    /// Until when.
    pub until: SystemTime,
    /// What for.
    pub usages: Vec<ExtendedKeyUsagePurpose>,
}

impl Leaf {
    /// A legal one for `spiffe://TRUST_DOMAIN/ns/default/sa/ACCOUNT`.
    #[must_use]
    pub fn new(trust_domain: &str, account: &str) -> Self {
        let now = SystemTime::now();
        Self {
            names: vec![format!("spiffe://{trust_domain}/ns/default/sa/{account}")],
            from: now - HOUR,
            until: now + HOUR,
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        }
    }

    /// The same, of the past.
    #[must_use]
    pub fn expired(self) -> Self {
        Self { from: self.from - 2 * HOUR, until: self.from - HOUR, ..self }
    }

    /// The same, of the future.
    #[must_use]
    pub fn not_yet_valid(self) -> Self {
        Self { from: self.until + HOUR, until: self.until + 2 * HOUR, ..self }
    }
}

/// A certificate and its key.
#[derive(Debug)]
pub struct Signed {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    /// The certificate, in PEM.
    pub certificate_pem: String,
    /// The key, in PEM.
    pub key_pem: String,
}

impl Ca {
    /// The root of a mesh: the two files in its `--ca-dir`.
    ///
    /// # Errors
    /// When they are not there.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let read =
            |name: &str| std::fs::read_to_string(dir.join(name)).with_context(|| format!("read {name} of {dir:?}"));
        let key = KeyPair::from_pem(&read("root-key.pem")?)?;
        Ok(Self { issuer: Issuer::from_ca_cert_pem(&read("root-cert.pem")?, key)? })
    }

    /// A root nobody trusts, which says of itself what the mesh's own says.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn stranger(trust_domain: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, trust_domain);
        params.distinguished_name.push(DnType::CommonName, "Weir development root");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ok(Self { issuer: Issuer::new(params, KeyPair::generate()?) })
    }

    /// Signs it.
    ///
    /// # Errors
    /// When a name is no URI.
    pub fn sign(&self, leaf: &Leaf) -> anyhow::Result<Signed> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for name in &leaf.names {
            params.subject_alt_names.push(SanType::URI(name.as_str().try_into()?));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages.clone_from(&leaf.usages);
        params.not_before = leaf.from.into();
        params.not_after = leaf.until.into();
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Signed {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            key: key.serialize_der().into(),
            certificate: certificate.into(),
        })
    }
}

/// A legal client: this certificate, ALPN `h2`, AES-GCM.
///
/// # Errors
/// When rustls does not take the certificate.
pub fn client(own: &Signed) -> anyhow::Result<Arc<ClientConfig>> {
    tls_client(Some(own), aws_lc_rs::default_provider(), &["h2"])
}

/// A client as one likes it. It takes any server: it is the server that is under test.
///
/// # Errors
/// When rustls does not take the certificate.
pub fn tls_client(own: Option<&Signed>, provider: CryptoProvider, alpn: &[&str]) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(provider);
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider)));
    let mut config = match own {
        Some(own) => {
            let key = PrivateKeyDer::Pkcs8(own.key.clone_key());
            builder.with_client_auth_cert(vec![own.certificate.clone()], key)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.enable_sni = false;
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, leaf, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
