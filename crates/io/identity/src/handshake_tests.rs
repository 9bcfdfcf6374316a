//! Whole handshakes: who gets through, who does not, and what the refusal says.

use std::{
    io,
    sync::{Arc, LazyLock},
    time::SystemTime,
};

use proptest::prelude::*;
use rcgen::{CustomExtension, ExtendedKeyUsagePurpose, SanType};
use rustls::{CipherSuite, NamedGroup, ProtocolVersion, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::{
    WorkloadTls,
    fixtures::{Authority, Failed, HOUR, careless_client, careless_server, dns, handshake, id, uri},
    handshake_failure, peer_identity, require_h2,
};

const UI: &str = "spiffe://cluster.local/ns/todo/sa/ui";
const DB: &str = "spiffe://cluster.local/ns/todo/sa/db";

struct Pair {
    authority: Authority,
    ui: WorkloadTls,
    db: WorkloadTls,
}

fn pair() -> Pair {
    let authority = Authority::new("mesh");
    let ui = WorkloadTls::new(&authority.workload(UI, &[&authority])).unwrap();
    let db = WorkloadTls::new(&authority.workload(DB, &[&authority])).unwrap();
    Pair { authority, ui, db }
}

#[test]
fn two_workloads_prove_themselves_to_each_other() {
    let Pair { ui, db, .. } = pair();
    let (client, server) = handshake(ui.client(&[id(DB)]), db.server()).unwrap();
    assert_eq!(peer_identity(client.peer_certificates().unwrap()).unwrap(), id(DB));
    assert_eq!(peer_identity(server.peer_certificates().unwrap()).unwrap(), id(UI));
    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(client.negotiated_cipher_suite().unwrap().suite(), CipherSuite::TLS13_AES_128_GCM_SHA256);
    assert_eq!(client.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
    require_h2(client.alpn_protocol()).unwrap();
    require_h2(server.alpn_protocol()).unwrap();
    assert_eq!(server.server_name(), None, "no SNI");
    assert_eq!(client.tls13_tickets_received(), 0, "nothing to resume with");
    assert!(client.dangerous_extract_secrets().is_ok() && server.dangerous_extract_secrets().is_ok());
}

type Signed = (Vec<CertificateDer<'static>>, PrivatePkcs8KeyDer<'static>);

/// The names of `UI`, and a URI that is no ASCII. RFC 5280 §4.2.1.6.
fn unreadable() -> CustomExtension {
    let name = |bytes: &[u8]| [&[0x86, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let names = [name(UI.as_bytes()), name(b"spiffe://\xff")].concat();
    let list = [&[0x30, u8::try_from(names.len()).unwrap()], names.as_slice()].concat();
    CustomExtension::from_oid_content(&[2, 5, 29, 17], list)
}

/// Certificates nobody may get through with, and what the refusal must say.
fn bad_certificates(authority: &Authority) -> Vec<(&'static str, Signed, &'static str)> {
    let now = SystemTime::now();
    let sign = |names: Vec<SanType>| authority.sign(names, |_| {});
    vec![
        ("of another root", Authority::new("mesh").sign(vec![uri(UI)], |_| {}), "not signed by a root of this mesh"),
        (
            "of a root of another name",
            Authority::new("else").sign(vec![uri(UI)], |_| {}),
            "not signed by a root of this mesh",
        ),
        ("expired", authority.sign(vec![uri(UI)], |p| p.not_after = (now - HOUR / 2).into()), "expired"),
        (
            "not valid yet",
            authority.sign(vec![uri(UI)], |p| p.not_before = (now + HOUR / 2).into()),
            "not valid for another",
        ),
        // Whoever saw a certificate can show it.
        ("of which the key is somebody else's", (sign(vec![uri(UI)]).0, sign(vec![uri(UI)]).1), "BadSignature"),
        ("of two identities", sign(vec![uri(UI), uri(DB)]), "2 URI SANs"),
        // What is skipped could be the second identity.
        (
            "of a name that cannot be read",
            authority.sign(vec![], |p| p.custom_extensions.push(unreadable())),
            "unreadable SAN",
        ),
        ("of a DNS name only", sign(vec![dns("ui.todo.svc.cluster.local")]), "no URI SAN"),
        ("of no name", sign(vec![]), "no URI SAN"),
        ("of a URI that is no identity", sign(vec![uri("https://cluster.local/ns/todo/sa/ui")]), "no identity"),
        ("without any purpose", authority.sign(vec![uri(UI)], |p| p.extended_key_usages.clear()), "extended key usage"),
        (
            "for signing code",
            authority.sign(vec![uri(UI)], |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]),
            "extended key usage",
        ),
    ]
}

#[test]
fn a_client_with_a_bad_certificate_is_refused_with_the_reason() {
    let Pair { authority, ui, db } = pair();
    let other = (
        "of another trust domain",
        authority.sign(vec![uri("spiffe://else/ns/todo/sa/ui")], |_| {}),
        "not of trust domain",
    );
    for (what, certificate, reason) in bad_certificates(&authority).into_iter().chain([other]) {
        let client = careless_client(&ui.client(&[id(DB)]), Some(certificate));
        let failed = handshake(Arc::new(client), db.server()).expect_err(what);
        assert!(matches!(failed, Failed::Server(_)), "{what}: {failed:?}");
        assert!(failed.reason().contains(reason), "{what}: {}", failed.reason());
    }
}

#[test]
fn a_server_with_a_bad_certificate_is_refused_with_the_reason() {
    let Pair { authority, ui, db } = pair();
    // Were it judged by the name alone, each but the nameless would be the expected one.
    for (what, certificate, reason) in bad_certificates(&authority) {
        let server = careless_server(&db.server(), certificate);
        let failed = handshake(ui.client(&[id(UI), id(DB)]), Arc::new(server)).expect_err(what);
        assert!(matches!(failed, Failed::Client(_)), "{what}: {failed:?}");
        assert!(failed.reason().contains(reason), "{what}: {}", failed.reason());
    }
}

#[test]
fn a_good_server_that_is_not_the_expected_one_is_refused_by_name() {
    let Pair { ui, db, .. } = pair();
    for (expect, said) in [
        (vec![], "expected nobody"),
        (vec![id(UI)], "expected spiffe://cluster.local/ns/todo/sa/ui"),
        (vec![id("spiffe://else/ns/todo/sa/db")], "expected spiffe://else/ns/todo/sa/db"),
    ] {
        let reason = handshake(ui.client(&expect), db.server()).expect_err("wrong server").reason();
        assert!(reason.contains(DB) && reason.contains(said), "{reason}");
    }
}

#[test]
fn every_handshake_is_a_whole_one() {
    let Pair { ui, db, .. } = pair();
    for _ in 0..3 {
        let (client, _) = handshake(ui.client(&[id(DB)]), db.server()).unwrap();
        assert!(matches!(client.handshake_kind(), Some(rustls::HandshakeKind::Full)), "{:?}", client.handshake_kind());
    }
}

#[test]
fn a_failed_handshake_says_why_in_words() {
    let Pair { authority, ui, db } = pair();
    for (name, want) in [
        (uri("https://x/"), "the certificate's URI SAN is no identity: \"https://x/\" is not of the form"),
        (dns("x"), "the certificate names no identity: it has no URI SAN"),
    ] {
        let client = careless_client(&ui.client(&[id(DB)]), Some(authority.sign(vec![name], |_| {})));
        let Failed::Server(error) = handshake(Arc::new(client), db.server()).unwrap_err() else {
            panic!("the client failed")
        };
        let said = handshake_failure(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert!(said.starts_with(want), "{said}");
    }
    let reset = io::Error::from(io::ErrorKind::ConnectionReset);
    assert_eq!(handshake_failure(&reset), reset.to_string());
}

proptest! {
    #[test]
    fn a_damaged_certificate_is_an_error_and_no_panic(at in 0usize..400, byte: u8, cut in 0usize..400) {
        static LEAF: LazyLock<CertificateDer<'static>> =
            LazyLock::new(|| Authority::new("mesh").sign(vec![uri(UI)], |_| {}).0.remove(0));
        let mut bytes = LEAF.to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        // Whatever it reads as, it reads as one identity or none; proven is another matter.
        let read = peer_identity(&[bytes.clone().into()]);
        prop_assert!(read.is_err() || read.is_ok_and(|id| id.to_string().starts_with("spiffe://")));
        bytes.truncate(cut % bytes.len());
        prop_assert!(peer_identity(&[bytes.into()]).is_err());
    }
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let Pair { ui, db, .. } = pair();
    let failed = handshake(Arc::new(careless_client(&ui.client(&[id(DB)]), None)), db.server()).unwrap_err();
    assert!(failed.reason().contains("no certificates"), "{}", failed.reason());
}

#[test]
fn a_purpose_of_one_side_does_not_serve_the_other() {
    let Pair { authority, ui, db } = pair();
    let only = |eku| authority.sign(vec![uri(DB)], |p| p.extended_key_usages = vec![eku]);
    let server = careless_server(&db.server(), only(ExtendedKeyUsagePurpose::ClientAuth));
    assert!(handshake(ui.client(&[id(DB)]), Arc::new(server)).is_err());
    let client = careless_client(&ui.client(&[id(DB)]), Some(only(ExtendedKeyUsagePurpose::ServerAuth)));
    assert!(handshake(Arc::new(client), db.server()).is_err());
}

#[test]
fn an_intermediate_need_not_name_a_purpose_but_must_not_name_another() {
    let Pair { authority, ui, db } = pair();
    for (purposes, passes) in [
        (vec![], true),
        (vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth], true),
        (vec![ExtendedKeyUsagePurpose::CodeSigning], false),
    ] {
        let between = authority.intermediate(purposes.clone());
        let signed = between.sign(vec![uri(DB)], |_| {});
        let server = careless_server(&db.server(), (vec![signed.0[0].clone(), between.root()], signed.1));
        assert_eq!(handshake(ui.client(&[id(DB)]), Arc::new(server)).is_ok(), passes, "server, {purposes:?}");
        let signed = between.sign(vec![uri(UI)], |_| {});
        let shown = (vec![signed.0[0].clone(), between.root()], signed.1);
        let client = careless_client(&ui.client(&[id(DB)]), Some(shown));
        assert_eq!(handshake(Arc::new(client), db.server()).is_ok(), passes, "client, {purposes:?}");
    }
}

#[test]
fn only_h2_is_spoken() {
    let Pair { ui, db, .. } = pair();
    let mut client = (*ui.client(&[id(DB)])).clone();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(handshake(Arc::new(client.clone()), db.server()).is_err());
    client.alpn_protocols.clear();
    let (_, server) = handshake(Arc::new(client), db.server()).unwrap();
    assert!(
        require_h2(server.alpn_protocol()).is_err(),
        "rustls lets a client without ALPN through, require_h2 does not"
    );
}

/// The client of `like` with other suites and groups.
fn client_with(
    like: &WorkloadTls,
    suites: Vec<rustls::SupportedCipherSuite>,
    groups: Vec<&'static dyn rustls::crypto::SupportedKxGroup>,
) -> Arc<rustls::ClientConfig> {
    let good = like.client(&[id(DB)]);
    let provider =
        rustls::crypto::CryptoProvider { cipher_suites: suites, kx_groups: groups, ..aws_lc_rs::default_provider() };
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_client_cert_resolver(good.client_auth_cert_resolver.clone());
    config.dangerous().set_certificate_verifier(Arc::new(Credulous));
    config.alpn_protocols = good.alpn_protocols.clone();
    Arc::new(config)
}

#[test]
fn aes_gcm_is_spoken_and_chacha_is_not() {
    let Pair { ui, db, .. } = pair();
    let group = vec![aws_lc_rs::kx_group::X25519];
    for (suites, want) in [
        (vec![aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256], None),
        (vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384], Some(CipherSuite::TLS13_AES_256_GCM_SHA384)),
        (
            // Our preference decides, not the client's.
            vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384, aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
            Some(CipherSuite::TLS13_AES_128_GCM_SHA256),
        ),
    ] {
        let got = handshake(client_with(&ui, suites, group.clone()), db.server()).ok();
        assert_eq!(got.map(|(c, _)| c.negotiated_cipher_suite().unwrap().suite()), want);
    }
}

#[test]
fn a_peer_without_the_hybrid_group_falls_back_to_a_classic_one() {
    let Pair { ui, db, .. } = pair();
    let suite = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    for (group, want) in [
        (aws_lc_rs::kx_group::X25519, Some(NamedGroup::X25519)),
        (aws_lc_rs::kx_group::SECP256R1, Some(NamedGroup::secp256r1)),
        (aws_lc_rs::kx_group::SECP384R1, None),
    ] {
        let got = handshake(client_with(&ui, suite.clone(), vec![group]), db.server()).ok();
        assert_eq!(got.map(|(c, _)| c.negotiated_key_exchange_group().unwrap().name()), want);
    }
}

/// A TLS 1.2 hello, as `openssl s_client -tls1_2` sends it: no supported_versions extension.
const TLS12_HELLO: &[u8] = &[
    22, 3, 1, 0, 47, // record: handshake
    1, 0, 0, 43, 3, 3, // ClientHello, TLS 1.2
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
    32, 0, // no session id
    0, 4, 0xc0, 0x2b, 0xc0, 0x2f, // ECDHE-ECDSA/RSA-AES128-GCM-SHA256
    1, 0, // null compression
];

#[test]
fn tls_1_2_is_refused() {
    let mut server = rustls::ServerConnection::new(pair().db.server()).unwrap();
    let mut hello = TLS12_HELLO;
    server.read_tls(&mut hello).unwrap();
    let error = server.process_new_packets().unwrap_err();
    assert!(matches!(error, rustls::Error::PeerIncompatible(_)), "{error:?}");
}

#[test]
fn both_roots_are_believed_while_one_replaces_the_other() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let ui = WorkloadTls::new(&old.workload(UI, &[&old, &new])).unwrap();
    let db = WorkloadTls::new(&new.workload(DB, &[&old, &new])).unwrap();
    assert!(handshake(ui.client(&[id(DB)]), db.server()).is_ok());
    let late = WorkloadTls::new(&new.workload(DB, &[&new])).unwrap();
    assert!(handshake(ui.client(&[id(DB)]), late.server()).is_err(), "the old root is gone for this one");
}

#[test]
fn a_key_of_another_certificate_is_not_taken() {
    let authority = Authority::new("mesh");
    let (chain, _) = authority.sign(vec![uri(UI)], |_| {});
    let (_, key) = authority.sign(vec![uri(UI)], |_| {});
    let odd = crate::WorkloadCertificate::new(chain, key, vec![authority.root()]).unwrap();
    assert!(WorkloadTls::new(&odd).is_err());
}

#[test]
fn the_order_of_expected_identities_does_not_matter_and_the_cache_is_bounded() {
    let Pair { ui, .. } = pair();
    assert!(Arc::ptr_eq(&ui.client(&[id(UI), id(DB)]), &ui.client(&[id(DB), id(UI), id(DB)])));
    let first = ui.client(&[id(UI)]);
    for n in 0..200 {
        ui.client(&[id(&format!("spiffe://cluster.local/ns/todo/sa/n{n}"))]);
    }
    assert!(!Arc::ptr_eq(&first, &ui.client(&[id(UI)])), "the oldest was dropped");
}

#[test]
fn no_key_is_ever_printed() {
    let authority = Authority::new("mesh");
    let certificate = authority.workload(UI, &[&authority]);
    let printed = format!("{certificate:?}{:?}", WorkloadTls::new(&certificate).unwrap());
    assert!(printed.contains(UI) && !printed.contains("key"), "{printed}");
}

#[derive(Debug)]
struct Credulous;

impl rustls::client::danger::ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
