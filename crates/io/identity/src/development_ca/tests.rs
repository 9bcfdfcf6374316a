//! The root in its folder, and what it signs.

use std::{fs, os::unix::fs::PermissionsExt, sync::Barrier, thread};

use x509_parser::extensions::ParsedExtension;

use super::*;
use crate::{
    WorkloadTls,
    fixtures::{handshake, id},
};

const UI: &str = "spiffe://cluster.local/ns/todo/sa/ui";

fn mesh() -> TrustDomain {
    TrustDomain::default()
}

#[test]
fn a_root_is_made_once_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let ca_dir = dir.path().join("deep/ca");
    let first = DevelopmentCa::open(&ca_dir, &mesh()).unwrap();
    let second = DevelopmentCa::open(&ca_dir, &mesh()).unwrap();
    assert_eq!(first.roots(), second.roots());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&ca_dir), mode(&ca_dir.join("root-key.pem"))), (0o700, 0o600));
    // What one agent's root signed, the other's believes.
    let now = SystemTime::now();
    let a = WorkloadTls::new(&first.issue(&id(UI), now).unwrap()).unwrap();
    let b = WorkloadTls::new(&second.issue(&id(UI), now).unwrap()).unwrap();
    assert!(handshake(a.client(&[id(UI)]), b.server()).is_ok());
}

#[test]
fn agents_that_start_at_the_same_moment_end_with_one_root() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let start = Barrier::new(6);
        let roots: Vec<_> = thread::scope(|scope| {
            let agents: Vec<_> = (0..6)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        DevelopmentCa::open(dir.path(), &mesh()).unwrap().roots().to_vec()
                    })
                })
                .collect();
            agents.into_iter().map(|agent| agent.join().unwrap()).collect()
        });
        assert!(roots.iter().all(|root| root == &roots[0]), "several roots were made");
    }
}

#[test]
fn what_died_while_writing_does_not_stop_the_next() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("root-cert.pem.new"), "half").unwrap();
    DevelopmentCa::open(dir.path(), &mesh()).unwrap();
}

#[test]
fn a_root_in_a_bad_state_is_refused_with_its_file_and_what_to_do() {
    type Change = fn(&Path);
    let cases: [(&str, Change, &[&str]); 7] = [
        (
            "exposed",
            |d| fs::set_permissions(d.join("root-key.pem"), fs::Permissions::from_mode(0o640)).unwrap(),
            &["root-key.pem", "chmod 600", "0640"],
        ),
        ("no key", |d| fs::remove_file(d.join("root-key.pem")).unwrap(), &["root-key.pem is missing", "restore"]),
        ("no certificate", |d| fs::remove_file(d.join("root-cert.pem")).unwrap(), &["root-cert.pem is missing"]),
        ("bad key", |d| fs::write(d.join("root-key.pem"), "rubbish").unwrap(), &["root-key.pem", "PRIVATE KEY"]),
        (
            "bad certificate",
            |d| {
                fs::write(d.join("root-cert.pem"), "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n")
                    .unwrap()
            },
            &["root-cert.pem", "CERTIFICATE"],
        ),
        (
            "empty certificate",
            |d| fs::write(d.join("root-cert.pem"), "").unwrap(),
            &["root-cert.pem", "root-key.pem", "belongs"],
        ),
        (
            "another's certificate",
            |d| {
                let other = tempfile::tempdir().unwrap();
                DevelopmentCa::open(other.path(), &mesh()).unwrap();
                fs::copy(other.path().join("root-cert.pem"), d.join("root-cert.pem")).unwrap();
            },
            &["root-cert.pem", "root-key.pem", "belongs"],
        ),
    ];
    for (what, change, says) in cases {
        let dir = tempfile::tempdir().unwrap();
        DevelopmentCa::open(dir.path(), &mesh()).unwrap();
        change(dir.path());
        let error = DevelopmentCa::open(dir.path(), &mesh()).expect_err(what).to_string();
        assert!(says.iter().all(|say| error.contains(say)), "{what}: {error}");
    }
}

#[test]
fn a_root_of_another_time_or_trust_domain_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    DevelopmentCa::open_at(dir.path(), &mesh(), now).unwrap();
    for wrong in [now + 3651 * DAY, now - DAY] {
        let error = DevelopmentCa::open_at(dir.path(), &mesh(), wrong).expect_err("wrong time").to_string();
        assert!(error.contains("root-cert.pem") && error.contains("is valid from"), "{error}");
    }
    let error = DevelopmentCa::open(dir.path(), &"else.local".parse().unwrap()).expect_err("wrong domain").to_string();
    assert!(error.contains("spiffe://cluster.local") && error.contains("--trust-domain"), "{error}");
}

#[test]
fn a_second_root_in_the_file_is_believed_but_does_not_sign() {
    let (dir, next) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = DevelopmentCa::open(dir.path(), &mesh()).unwrap();
    let other = DevelopmentCa::open(next.path(), &mesh()).unwrap();
    let both = [next.path(), dir.path()].map(|d| fs::read(d.join("root-cert.pem")).unwrap()).concat();
    fs::write(dir.path().join("root-cert.pem"), both).unwrap();
    let rotating = DevelopmentCa::open(dir.path(), &mesh()).unwrap();
    let now = SystemTime::now();
    let tls = |ca: &DevelopmentCa| WorkloadTls::new(&ca.issue(&id(UI), now).unwrap()).unwrap();
    assert_eq!(rotating.roots().len(), 2);
    assert!(handshake(tls(&first).client(&[id(UI)]), tls(&rotating).server()).is_ok());
    assert!(handshake(tls(&other).client(&[id(UI)]), tls(&rotating).server()).is_err(), "signed by the first root");
}

#[test]
fn a_workload_certificate_has_one_critical_uri_name_both_purposes_and_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let ca = DevelopmentCa::open(dir.path(), &mesh()).unwrap();
    let now = SystemTime::now();
    let issued = ca.issue(&id(UI), now).unwrap();
    assert_eq!(issued.identity(), &id(UI));
    assert_eq!(issued.not_after().duration_since(now).unwrap().as_secs().div_ceil(3600), 24);
    assert!(issued.not_before() < now && now.duration_since(issued.not_before()).unwrap() <= Duration::from_secs(121));
    let parsed = parse(&issued.chain()[0]).unwrap();
    let san = parsed.subject_alternative_name().unwrap().unwrap();
    assert!(san.critical && san.value.general_names.len() == 1);
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert_eq!(usage.flags, 1, "digitalSignature and nothing else");
    let purposes = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.client_auth && purposes.server_auth && !purposes.any);
    assert!(!parsed.is_ca());
    assert!(
        parsed.iter_extensions().any(|e| matches!(e.parsed_extension(), ParsedExtension::AuthorityKeyIdentifier(_)))
    );
    let again = ca.issue(&id(UI), now).unwrap();
    assert_ne!(again.serial, issued.serial);
    assert_ne!(again.chain(), issued.chain());
}

#[test]
fn no_certificate_outlives_its_root_and_none_is_for_a_foreign_identity() {
    let dir = tempfile::tempdir().unwrap();
    let ca = DevelopmentCa::open(dir.path(), &mesh()).unwrap();
    let late = ca.authority.root_not_after() - DAY / 2;
    assert_eq!(ca.issue(&id(UI), late).unwrap().not_after(), ca.authority.root_not_after());
    assert!(matches!(ca.issue(&id("spiffe://else/ns/todo/sa/ui"), late), Err(Error::ForeignIdentity { .. })));
}

#[test]
fn webpki_agrees_with_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let ca = DevelopmentCa::open(dir.path(), &mesh()).unwrap();
    let issued = ca.issue(&id(UI), SystemTime::now()).unwrap();
    let anchors = [webpki::anchor_from_trusted_cert(&ca.roots()[0]).unwrap()];
    let leaf = webpki::EndEntityCert::try_from(&issued.chain()[0]).unwrap();
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
    for usage in [webpki::KeyUsage::server_auth(), webpki::KeyUsage::client_auth()] {
        leaf.verify_for_usage(algorithms, &anchors, &[], rustls_pki_types::UnixTime::now(), usage, None, None).unwrap();
    }
}
