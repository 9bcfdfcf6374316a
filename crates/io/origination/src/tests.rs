//! Handshakes with servers that are who they should be, and with others.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::{
    HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    server::WebPkiClientVerifier,
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsAcceptor;
use weir_model::{ClientTls, Hostname, KeyFiles, Proof, ServerTrust};

use crate::{Alpn, Error, Originator, Peer};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names, and its key.
    fn sign(&self, names: &[&str], serial: u64) -> Pair {
        self.sign_but(names, serial, |_| {})
    }

    fn sign_but(&self, names: &[&str], serial: u64, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.iter().map(|name| san(name)).collect();
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Pair { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }

    /// What it has revoked.
    fn revokes(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2999, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

fn san(name: &str) -> SanType {
    match (name.contains("://"), name.parse()) {
        (true, _) => SanType::URI(name.try_into().unwrap()),
        (false, Ok(ip)) => SanType::IpAddress(ip),
        (false, Err(_)) => SanType::DnsName(name.try_into().unwrap()),
    }
}

struct Pair {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Pair {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }

    fn secret(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// Its two files.
    fn write(&self, dir: &Path) -> KeyFiles {
        let files = KeyFiles { certificate: dir.join("cert.pem"), key: dir.join("key.pem") };
        fs::write(&files.certificate, self.certificate.pem()).unwrap();
        fs::write(&files.key, self.key.serialize_pem()).unwrap();
        files
    }
}

/// A server that answers with what it has been told by TLS: the name, the protocol, and how many certificates.
fn serve(own: &Pair, clients: Option<&Authority>, alpn: &[&str]) -> DuplexStream {
    serve_by(Arc::new(server(own, clients, alpn, ALL)))
}

const ALL: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// How it is served: with the certificate, whether the key is its own or not.
fn server(
    own: &Pair,
    clients: Option<&Authority>,
    alpn: &[&str],
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = aws_lc_rs::sign::any_supported_type(&own.secret()).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(own.chain(), key));
    let mut config = builder.with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

fn serve_by(config: Arc<ServerConfig>) -> DuplexStream {
    let (ours, theirs) = duplex(64 << 10);
    tokio::spawn(async move {
        let Ok(mut stream) = TlsAcceptor::from(config).accept(theirs).await else { return };
        let connection = stream.get_ref().1;
        let alpn = String::from_utf8_lossy(connection.alpn_protocol().unwrap_or(b"-")).into_owned();
        let certificates = connection.peer_certificates().map_or(0, <[_]>::len);
        let again = if connection.handshake_kind() == Some(HandshakeKind::Resumed) { " resumed" } else { "" };
        let said = format!("{} {alpn} {certificates}{again}", connection.server_name().unwrap_or("-"));
        stream.write_all(said.as_bytes()).await.unwrap_or_default();
        stream.shutdown().await.unwrap_or_default();
    });
    ours
}

/// What the server was told, or why it was not.
async fn ask(
    originator: &Arc<Originator>,
    to: DuplexStream,
    tls: &ClientTls,
    host: &str,
    names: &[&str],
) -> Result<String, Error> {
    ask_for(originator, to, tls, host, names, Alpn::Http1).await
}

async fn ask_for(
    originator: &Arc<Originator>,
    to: DuplexStream,
    tls: &ClientTls,
    host: &str,
    names: &[&str],
    alpn: Alpn,
) -> Result<String, Error> {
    let host: Hostname = host.parse().unwrap();
    let names: Arc<[Arc<str>]> = names.iter().map(|name| Arc::from(*name)).collect();
    let peer = Peer { host: Some(&host), names: &names, alpn };
    let mut stream = originator.connect(to, &Arc::new(tls.clone()), peer).await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await.map_err(|error| Error::Handshake(error.to_string()))?;
    Ok(said)
}

fn proven(roots: &Path, names: &[&str]) -> Proof {
    let names = names.iter().map(|name| Arc::from(*name)).collect();
    Proof { roots: Some(roots.to_owned()), revoked: None, names }
}

fn tls(proof: Proof) -> ClientTls {
    ClientTls { own: None, server: ServerTrust::Proven(proof), sni: None }
}

fn file(dir: &Path, name: &str, content: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    path
}

#[tokio::test]
async fn a_server_is_believed_if_its_certificate_leads_to_a_root_and_is_for_a_name_that_is_expected() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new("right"), Authority::new("wrong"));
    let (roots, wrong) = (file(dir.path(), "ca.pem", &authority.pem()), file(dir.path(), "other.pem", &other.pem()));
    let presented = ["a.example", "*.wild.example", "spiffe://td/ns/a/sa/b", "192.0.2.7"];
    let own = authority.sign(&presented, 1);
    let originator = Arc::default();
    for (roots, names, of_entry, host, why) in [
        (&roots, vec![], vec![], "a.example", None),
        (&roots, vec![], vec![], "one.wild.example", None),
        (
            &roots,
            vec![],
            vec![],
            "b.example",
            Some("is for a.example, *.wild.example, spiffe://td/ns/a/sa/b, expected b.example"),
        ),
        // What the rule says goes before what the entry says, and that before the host.
        (&roots, vec![], vec!["a.example"], "b.example", None),
        (&roots, vec![], vec!["c.example"], "a.example", Some("expected c.example")),
        (&roots, vec!["a.example"], vec!["c.example"], "b.example", None),
        (&roots, vec!["c.example", "d.example"], vec![], "a.example", Some("expected c.example, d.example")),
        (&roots, vec!["c.example", "spiffe://td/ns/a/sa/b"], vec![], "b.example", None),
        (&roots, vec!["spiffe://td/ns/a/sa/bc"], vec![], "a.example", Some("expected spiffe://td/ns/a/sa/bc")),
        (&roots, vec!["192.0.2.7"], vec![], "b.example", None),
        (&roots, vec!["192.0.2.8"], vec![], "a.example", Some("expected 192.0.2.8")),
        (&wrong, vec![], vec![], "a.example", Some("the server's certificate is not believed")),
        (&wrong, vec!["a.example"], vec![], "a.example", Some("the server's certificate is not believed")),
    ] {
        let told = ask(&originator, serve(&own, None, &[]), &tls(proven(roots, &names)), host, &of_entry).await;
        match (&told, why) {
            (Ok(told), None) => assert_eq!(*told, format!("{host} - 0"), "{names:?} {of_entry:?}"),
            (Err(error), Some(why)) => assert!(error.to_string().contains(why), "{host} {names:?}: {error}"),
            (Ok(_) | Err(_), _) => panic!("{host} {names:?} {of_entry:?}: {told:?}"),
        }
    }
}

#[tokio::test]
async fn with_insecure_skip_verify_anybody_is_believed_who_has_his_key() {
    let own = Authority::new("unknown").sign(&["z.example"], 1);
    let any = ClientTls { own: None, server: ServerTrust::Anybody, sni: None };
    let told = ask(&Arc::default(), serve(&own, None, &[]), &any, "a.example", &[]).await;
    assert_eq!(told.unwrap(), "a.example - 0");
}

#[tokio::test]
async fn a_certificate_without_its_key_proves_nothing_to_anybody() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("right");
    let roots = file(dir.path(), "ca.pem", &authority.pem());
    let any = ClientTls { own: None, server: ServerTrust::Anybody, sni: None };
    let known = tls(proven(&roots, &[]));
    let told = async |own: &Pair, versions: &[&'static SupportedProtocolVersion], trust: &ClientTls| {
        ask(&Arc::default(), serve_by(Arc::new(server(own, None, &[], versions))), trust, "a.example", &[]).await
    };
    for (versions, trust) in [([&TLS12], &any), ([&TLS12], &known), ([&TLS13], &any), ([&TLS13], &known)] {
        let (own, other) = (authority.sign(&["a.example"], 1), authority.sign(&["a.example"], 2));
        assert_eq!(told(&own, &versions, trust).await.unwrap(), "a.example - 0", "{versions:?}");
        let stolen = Pair { certificate: own.certificate, key: other.key };
        let why = told(&stolen, &versions, trust).await.unwrap_err().to_string();
        assert!(why.contains("BadSignature"), "{versions:?} {trust:?}: {why}");
    }
}

#[tokio::test]
async fn a_certificate_that_ended_or_is_for_clients_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("right");
    let tls = tls(proven(&file(dir.path(), "ca.pem", &authority.pem()), &[]));
    let now = SystemTime::now();
    let day = Duration::from_secs(86_400);
    let but = |change: &dyn Fn(&mut CertificateParams)| authority.sign_but(&["a.example"], 1, |params| change(params));
    for (n, (own, believed)) in [
        (but(&|params| params.not_after = (now + day).into()), true),
        (but(&|params| params.not_after = (now - day).into()), false),
        (but(&|params| params.not_before = (now + day).into()), false),
        (but(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]), true),
        (but(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]), false),
    ]
    .into_iter()
    .enumerate()
    {
        let told = ask(&Arc::default(), serve(&own, None, &[]), &tls, "a.example", &[]).await;
        assert_eq!(told.is_ok(), believed, "{n}: {told:?}");
    }
}

#[tokio::test]
async fn every_handshake_looks_at_the_certificate_anew() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("right");
    let tls = tls(proven(&file(dir.path(), "ca.pem", &authority.pem()), &[]));
    for versions in [[&TLS12], [&TLS13]] {
        let (originator, own) = (Arc::default(), authority.sign(&["a.example"], 1));
        // One that gives out tickets, and would take them.
        let config = Arc::new(server(&own, None, &[], &versions));
        for _ in 0..3 {
            let told = ask(&originator, serve_by(config.clone()), &tls, "a.example", &[]).await;
            assert_eq!(told.unwrap(), "a.example - 0", "{versions:?}");
        }
    }
}

#[tokio::test]
async fn the_name_that_is_asked_for_may_be_another_and_is_then_the_one_that_is_expected() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("right");
    let roots = file(dir.path(), "ca.pem", &authority.pem());
    let (originator, own) = (Arc::default(), authority.sign(&["a.example"], 1));
    let with = |sni: &str| ClientTls { sni: Some(sni.parse().unwrap()), ..tls(proven(&roots, &[])) };
    let told = ask(&originator, serve(&own, None, &[]), &with("a.example"), "b.example", &[]).await;
    assert_eq!(told.unwrap(), "a.example - 0");
    let told = ask(&originator, serve(&own, None, &[]), &with("b.example"), "a.example", &[]).await;
    assert!(told.unwrap_err().to_string().contains("expected b.example"));
    let wild = ask(&originator, serve(&own, None, &[]), &tls(proven(&roots, &[])), "*.example", &[]).await;
    assert!(wild.unwrap_err().to_string().contains("\"*.example\" is no host name"));
}

#[tokio::test]
async fn what_is_going_to_be_spoken_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("right");
    let tls = tls(proven(&file(dir.path(), "ca.pem", &authority.pem()), &[]));
    let (originator, own) = (Arc::default(), authority.sign(&["a.example"], 1));
    for (alpn, theirs, want) in [
        (Alpn::Unsaid, vec!["h2", "http/1.1"], Some("-")),
        (Alpn::Http1, vec!["h2", "http/1.1"], Some("http/1.1")),
        (Alpn::Http2, vec!["http/1.1", "h2"], Some("h2")),
        (Alpn::Http2, vec![], Some("-")),
        (Alpn::Http2, vec!["http/1.1"], None),
    ] {
        let told = ask_for(&originator, serve(&own, None, &theirs), &tls, "a.example", &[], alpn).await;
        let want = want.map(|want| format!("a.example {want} 0"));
        assert_eq!(told.as_ref().ok(), want.as_ref(), "{alpn:?} {theirs:?}: {told:?}");
    }
}

#[tokio::test]
async fn a_server_that_asks_who_is_there_is_told_only_if_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, clients) = (Authority::new("right"), Authority::new("clients"));
    let roots = file(dir.path(), "ca.pem", &authority.pem());
    let own = authority.sign(&["a.example"], 1);
    let originator = Arc::default();
    let simple = tls(proven(&roots, &[]));
    let refused = ask(&originator, serve(&own, Some(&clients), &[]), &simple, "a.example", &[]).await;
    assert!(refused.is_err(), "{refused:?}");
    let mutual = ClientTls { own: Some(clients.sign(&["me.example"], 2).write(dir.path())), ..simple.clone() };
    let told = ask(&originator, serve(&own, Some(&clients), &[]), &mutual, "a.example", &[]).await;
    assert_eq!(told.unwrap(), "a.example - 1");
}

#[tokio::test]
async fn a_certificate_that_was_revoked_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new("right"), Authority::new("other"));
    let roots = file(dir.path(), "ca.pem", &authority.pem());
    let own = authority.sign(&["a.example"], 7);
    for (name, lists, believed) in [
        ("none.pem", authority.revokes(&[]), true),
        ("others.pem", authority.revokes(&[8]), true),
        ("own.pem", authority.revokes(&[7]), false),
        // Of this authority nothing is known then.
        ("elsewhere.pem", other.revokes(&[]), false),
        ("both.pem", other.revokes(&[]) + &authority.revokes(&[8]), true),
    ] {
        let revoked = Some(file(dir.path(), name, &lists));
        let proof = Proof { revoked, ..proven(&roots, &["a.example"]) };
        let told = ask(&Arc::default(), serve(&own, None, &[]), &tls(proof), "a.example", &[]).await;
        assert_eq!(told.is_ok(), believed, "{name}: {told:?}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_refuses_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("right");
    let roots = file(dir.path(), "ca.pem", &authority.pem());
    let empty = file(dir.path(), "empty.pem", "");
    let absent = dir.path().join("absent.pem");
    let pair = authority.sign(&["me.example"], 2).write(dir.path());
    let alien = file(dir.path(), "alien.pem", &KeyPair::generate().unwrap().serialize_pem());
    let simple = tls(proven(&roots, &[]));
    let mutual = |certificate: &Path, key: &Path| ClientTls {
        own: Some(KeyFiles { certificate: certificate.to_owned(), key: key.to_owned() }),
        ..simple.clone()
    };
    let revoked = |path: &Path| tls(Proof { revoked: Some(path.to_owned()), ..proven(&roots, &[]) });
    let own = authority.sign(&["a.example"], 1);
    for (tls, want) in [
        (tls(proven(&absent, &[])), "absent.pem cannot be read"),
        (tls(proven(dir.path(), &[])), "is no file"),
        (tls(proven(&empty, &[])), "empty.pem holds no certificates in PEM"),
        (mutual(&absent, &pair.key), "absent.pem cannot be read"),
        (mutual(&pair.certificate, &empty), "empty.pem holds no private key in PEM"),
        (mutual(&pair.certificate, &alien), "alien.pem is not the key of"),
        (revoked(&roots), "ca.pem holds no certificate revocation lists in PEM"),
        (revoked(&absent), "absent.pem cannot be read"),
    ] {
        let told = ask(&Arc::default(), serve(&own, None, &[]), &tls, "a.example", &[]).await;
        let error = told.expect_err(want).to_string();
        assert!(error.contains(want), "{error}");
        assert!(!error.contains("BEGIN"), "what a file holds is not told: {error}");
    }
}

#[tokio::test]
async fn files_that_change_count_from_the_next_look_on_and_bad_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let roots = file(dir.path(), "ca.pem", &first.pem());
    let tls = tls(proven(&roots, &[]));
    let originator: Arc<Originator> = Arc::default();
    let of = async |authority: &Authority| {
        let own = authority.sign(&["a.example"], 1);
        ask(&originator, serve(&own, None, &[]), &tls, "a.example", &[]).await.is_ok()
    };
    assert!(of(&first).await && !of(&second).await);
    for (content, want) in [(second.pem(), [false, true]), (String::new(), [false, true]), (first.pem(), [true, false])]
    {
        // As a volume of Kubernetes is changed: another file in its place.
        fs::rename(file(dir.path(), "new.pem", &content), &roots).unwrap();
        originator.look_now();
        assert_eq!([of(&first).await, of(&second).await], want);
    }
    fs::remove_file(&roots).unwrap();
    originator.look_now();
    assert!(of(&first).await, "the last good ones stay");
}
