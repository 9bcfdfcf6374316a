//! Who is no peer is refused at the door, with a log line that names the reason.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use weir_testbed::run_to_end;
use weir_tests::peers::{Ca, Http2, Leaf, Signed, client, tls_client};

use crate::scene::{HBONE, Scene};

const PATIENCE: Duration = Duration::from_secs(30);
const REFUSED: &str = "HBONE connection refused";

/// Sends bytes that are no TLS, and reads to the end of the connection.
fn say(scene: &Scene, to: SocketAddr, bytes: &[u8]) -> SocketAddr {
    let mut stream = scene.topology.pod("stranger").netns().run(|| TcpStream::connect(to)).unwrap().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let local = stream.local_addr().unwrap();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{bytes:?}"),
    }
    // At most a TLS alert.
    assert!(answer.len() <= 7, "an answer to {bytes:?}: {answer:?}");
    local
}

/// A TLS client that must not get as far as HTTP/2. With TLS 1.3 it may believe for a moment that it has.
fn knock(scene: &Scene, to: SocketAddr, config: &Arc<rustls::ClientConfig>) {
    let netns = scene.topology.pod("stranger").netns();
    if let Ok(mut peer) = Http2::open(netns, None, to, config) {
        assert!(peer.connect(&to.to_string()).is_err(), "an answer to a peer that must be refused");
    }
}

/// The `openssl` program as client, from a port of one's choice. Gives all it prints, whether it is refused or not.
fn openssl(scene: &Scene, from: SocketAddr, to: SocketAddr, more: &[&str]) -> String {
    let mut command = Command::new("bash");
    command.args(["-c", "openssl s_client -connect \"$1\" -bind \"$2\" -alpn h2 \"${@:3}\" </dev/null 2>&1 || true"]);
    command.arg("openssl").args([to.to_string(), from.to_string()]).args(more);
    run_to_end(scene.topology.pod("stranger").netns(), command, PATIENCE).unwrap()
}

fn signed_by(ca: &Ca, leaf: &Leaf) -> Signed {
    ca.sign(leaf).unwrap()
}

#[test]
fn what_speaks_no_tls_is_refused() {
    let scene = Scene::new();
    for server in scene.server() {
        let to = SocketAddr::new(*server, HBONE);
        for bytes in [
            &b"\x00\x01\x02\x03 garbage \xff\xfe and more of it"[..],
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            let from = say(&scene, to, bytes);
            scene.logged(&[REFUSED, &from.to_string(), "does not speak TLS"]);
        }
        // Framed as TLS, and no handshake inside.
        let from = say(&scene, to, b"\x16\x03\x01\x00\x04\x09\x09\x09\x09");
        scene.logged(&[REFUSED, &from.to_string(), "TLS handshake"]);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", "--local-port", "41999", &format!("http://{to}/")]);
        let error = run_to_end(scene.topology.pod("stranger").netns(), curl, PATIENCE).unwrap_err();
        let from = SocketAddr::new(scene.address("stranger", *server), 41999);
        scene.logged(&[REFUSED, &from.to_string(), "does not speak TLS"]);
        assert!(!error.to_string().contains("timed out"), "{error}");
    }
    scene.all_is_well();
}

#[test]
fn whose_certificate_is_not_of_this_mesh_is_refused_by_name_and_reason() {
    let scene = Scene::new();
    let (ca, other) = (scene.ca(), Ca::stranger("cluster.local").unwrap());
    let leaf = |account: &str| Leaf::new("cluster.local", account);
    let server_only = Leaf { usages: vec![ExtendedKeyUsagePurpose::ServerAuth], ..leaf("serveronly") };
    let nameless = Leaf { names: vec![], ..leaf("x") };
    let twofold = Leaf { names: [leaf("one").names, leaf("two").names].concat(), ..leaf("x") };
    let odd = Leaf { names: vec!["spiffe://cluster.local/odd".into()], ..leaf("x") };
    for server in scene.server().to_vec() {
        let to = SocketAddr::new(server, HBONE);
        let family = if server.is_ipv4() { "4" } else { "6" };
        // Names differ by family, so that a line of one is not taken for the other's.
        let named = |what: &str| leaf(&format!("{what}{family}"));
        let foreign = Leaf::new(&format!("evil{family}.example"), "client");
        for (signed, words) in [
            (signed_by(&other, &named("other-root")), vec!["other-root", "not signed by a root of this mesh"]),
            (signed_by(&ca, &foreign), vec!["spiffe://evil", "not of trust domain cluster.local"]),
            // 7200 s ago or a second more: time goes on.
            (signed_by(&ca, &named("late").expired()), vec!["sa/late", "it expired 72"]),
            (signed_by(&ca, &named("early").not_yet_valid()), vec!["sa/early", "not valid for another"]),
            (signed_by(&ca, &server_only), vec!["serveronly", "extended key usage"]),
            (signed_by(&ca, &nameless), vec!["no URI SAN"]),
            (signed_by(&ca, &twofold), vec!["2 URI SANs"]),
            (signed_by(&ca, &odd), vec!["is no identity"]),
        ] {
            let before = scene.log().matches(REFUSED).count();
            knock(&scene, to, &client(&signed).unwrap());
            let address = scene.address("stranger", server).to_string();
            let line = scene.logged(&[&[REFUSED, &address][..], &words].concat());
            // Its own line, not one from before.
            assert!(scene.log().matches(REFUSED).count() > before, "{line}");
        }
    }
    scene.all_is_well();
}

#[test]
fn who_speaks_another_tls_is_refused_and_openssl_with_ours_is_not() {
    let scene = Scene::new();
    let legal = scene.ca().sign(&Leaf::new("cluster.local", "client")).unwrap();
    let (certificate, key) = (scene.topology.work_dir().join("own.pem"), scene.topology.work_dir().join("own-key.pem"));
    std::fs::write(&certificate, &legal.certificate_pem).unwrap();
    std::fs::write(&key, &legal.key_pem).unwrap();
    let mut chacha = default_provider();
    chacha.cipher_suites = vec![cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];
    let own = ["-cert", certificate.to_str().unwrap(), "-key", key.to_str().unwrap()];
    for server in scene.server() {
        let (to, local) = (SocketAddr::new(*server, HBONE), scene.address("stranger", *server));
        let address = local.to_string();
        for (config, reason) in [
            (tls_client(None, default_provider(), &["h2"]).unwrap(), "peer sent no certificates"),
            (tls_client(Some(&legal), chacha.clone(), &["h2"]).unwrap(), "NoCipherSuitesInCommon"),
            (tls_client(Some(&legal), default_provider(), &[]).unwrap(), "did not choose ALPN h2"),
            (tls_client(Some(&legal), default_provider(), &["http/1.1"]).unwrap(), "any known protocol"),
        ] {
            let before = scene.log().matches(reason).count();
            knock(&scene, to, &config);
            scene.logged(&[REFUSED, &address, reason]);
            weir_tests::peers::until("its own line", || Ok(scene.log().matches(reason).count() > before)).unwrap();
        }
        for (port, more, reason) in [
            (42001, &["-tls1_2"][..], "SupportedVersionsExtensionRequired"),
            (42002, &["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"][..], "NoCipherSuitesInCommon"),
            (42003, &["-groups", "P-521"][..], "NoKxGroupsInCommon"),
        ] {
            let from = SocketAddr::new(local, port);
            let said = openssl(&scene, from, to, &[&own[..], more].concat());
            scene.logged(&[REFUSED, &from.to_string(), reason]);
            assert!(said.contains("Cipher is (NONE)"), "{said}");
        }
    }
    accepted_by_openssl(&scene, &own);
    scene.all_is_well();
}

/// What `openssl` says of a handshake we do take.
fn accepted_by_openssl(scene: &Scene, own: &[&str]) {
    let root = scene.topology.work_dir().join("ca/root-cert.pem");
    for (number, server) in (0..).zip(scene.server()) {
        let (to, local) = (SocketAddr::new(*server, HBONE), scene.address("stranger", *server));
        for (group, shown, port) in [
            ("X25519", "Server Temp Key: X25519", 43000 + number),
            ("P-256", "Server Temp Key: ECDH, prime256v1", 43010 + number),
        ] {
            let verify = ["-CAfile", root.to_str().unwrap(), "-groups", group, "-verify_return_error"];
            let said = openssl(scene, SocketAddr::new(local, port), to, &[own, &verify].concat());
            for words in ["New, TLSv1.3, Cipher is TLS_AES_", "ALPN protocol: h2", "Verify return code: 0 (ok)"] {
                assert!(said.contains(words), "{words}:\n{said}");
            }
            // Asked for a certificate, and with which signatures.
            assert!(said.contains("Requested Signature Algorithms") && said.contains(shown), "{shown}:\n{said}");
        }
    }
}
