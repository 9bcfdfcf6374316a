//! OpenSSL asks, and OpenSSL reads what it is given.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which fail by it")]

use std::{
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use weir_authority::{Authority, CaFiles, MAX_REQUEST_BYTES, SigningRequest};
use weir_model::{SpiffeId, TrustDomain};

const DAY: Duration = Duration::from_secs(24 * 3600);
const NAME: &str = "spiffe://cluster.local/ns/shop/sa/till";

fn openssl(dir: &Path, arguments: &str) -> String {
    let words = arguments.split_ascii_whitespace().map(|word| word.replace('~', " "));
    let done = Command::new("openssl").args(words).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn asked() -> SpiffeId {
    NAME.parse().unwrap()
}

fn mesh() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

/// A signing request as OpenSSL makes it.
fn request(key: &str, extensions: &[&str]) -> String {
    let dir = TempDir::new().unwrap();
    openssl(dir.path(), &format!("genpkey -algorithm {key} -out key.pem"));
    let extensions: String = extensions.iter().map(|e| format!(" -addext {e}")).collect();
    openssl(dir.path(), &format!("req -new -key key.pem -subj /O=anything{extensions}"))
}

const P256: &str = "EC -pkeyopt ec_paramgen_curve:P-256";

fn verdict(pem: &str) -> String {
    SigningRequest::parse(pem.as_bytes(), &asked()).err().map_or("signed".to_owned(), |refusal| refusal.to_string())
}

#[test]
fn each_kind_of_key_is_signed_or_refused_by_name() {
    let refused = |what: &str| {
        format!("a key {what} is not signed: ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits are")
    };
    for (key, want) in [
        (P256, "signed".to_owned()),
        ("EC -pkeyopt ec_paramgen_curve:P-384", "signed".to_owned()),
        ("ED25519", "signed".to_owned()),
        ("RSA -pkeyopt rsa_keygen_bits:2048", "signed".to_owned()),
        ("RSA -pkeyopt rsa_keygen_bits:512", refused("of RSA with 512 bits")),
        ("RSA -pkeyopt rsa_keygen_bits:1024", refused("of RSA with 1024 bits")),
        ("EC -pkeyopt ec_paramgen_curve:secp256k1", refused("on the curve 1.3.132.0.10")),
        ("ED448", refused("of the algorithm 1.3.101.113")),
    ] {
        assert_eq!(verdict(&request(key, &[])), want, "{key}");
    }
}

#[test]
fn a_request_may_ask_for_its_identity_and_for_nothing_else() {
    let names = |found: &str| format!("the signing request asks for {found}, and may only ask for {NAME}");
    for (extensions, want) in [
        (&["subjectAltName=critical,URI:spiffe://cluster.local/ns/shop/sa/till"][..], "signed".to_owned()),
        (
            &["basicConstraints=CA:FALSE", "keyUsage=digitalSignature", "extendedKeyUsage=clientAuth"],
            "signed".to_owned(),
        ),
        (
            &["subjectAltName=URI:spiffe://cluster.local/ns/bank/sa/vault"],
            names("URI(spiffe://cluster.local/ns/bank/sa/vault)"),
        ),
        (
            &["subjectAltName=URI:spiffe://cluster.local/ns/shop/sa/till,DNS:bank.example"],
            names("URI(spiffe://cluster.local/ns/shop/sa/till), DNSName(bank.example)"),
        ),
        (&["subjectAltName=DNS:bank.example"], names("DNSName(bank.example)")),
        (&["basicConstraints=CA:TRUE"], "the signing request asks for a CA certificate".to_owned()),
        (&["keyUsage=keyCertSign"], "the signing request asks for the key usage keyCertSign".to_owned()),
        (&["keyUsage=cRLSign"], "the signing request asks for the key usage cRLSign".to_owned()),
        (
            &["1.2.3.4=ASN1:UTF8String:let~me~in"],
            "the signing request asks for the extension 1.2.3.4, which is not known here".to_owned(),
        ),
    ] {
        assert_eq!(verdict(&request(P256, extensions)), want, "{extensions:?}");
    }
}

#[test]
fn what_is_not_one_whole_request_is_refused() {
    let good = request(P256, &[]);
    assert_eq!(verdict(&good), "signed");
    assert_eq!(verdict(&format!("\n\n{}\r\n \n", good.trim())), "signed");
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("good.pem"), &good).unwrap();
    openssl(dir.path(), "req -in good.pem -outform DER -out good.der");
    let der = std::fs::read(dir.path().join("good.der")).unwrap();
    let again = |der: &[u8]| pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der));
    let mut other = der.clone();
    // The organisation of the subject: still a request, but not the one that was signed.
    let at = other.windows(8).position(|window| window == b"anything").unwrap();
    other[at] = b'A';
    let certificate = openssl(dir.path(), "req -x509 -newkey ed25519 -nodes -keyout ca.pem -subj /O=x");
    let not_one = "the signing request is not one PEM block CERTIFICATE REQUEST: ";
    let no_pkcs10 = "the signing request is no PKCS#10 (RFC 2986): ";
    for (what, pem, want) in [
        ("nothing", String::new(), format!("{not_one}there is none")),
        ("two", format!("{good}{good}"), format!("{not_one}there is more than one")),
        ("a certificate", certificate.clone(), format!("{not_one}it is of another kind")),
        ("a certificate behind it", format!("{good}{certificate}"), format!("{not_one}there is more than one")),
        ("text before it", format!("Certificate Request:\n{good}"), format!("{not_one}there is text around it")),
        ("text behind it", format!("{good}# mine"), format!("{not_one}there is text around it")),
        ("half of it", good[..good.len() / 2].to_owned(), format!("{not_one}it is damaged")),
        ("bytes behind it", again(&[&der[..], b"\0"].concat()), format!("{no_pkcs10}bytes follow it")),
        ("its first half", again(&der[..der.len() / 2]), format!("{no_pkcs10}it cannot be parsed")),
        ("one changed", again(&other), "the signing request is not signed by the key it is for".to_owned()),
        (
            "a long one",
            format!("{good}{}", " ".repeat(MAX_REQUEST_BYTES)),
            format!(
                "the signing request has {} bytes, at most {MAX_REQUEST_BYTES} are read",
                good.len() + MAX_REQUEST_BYTES
            ),
        ),
    ] {
        assert_eq!(verdict(&pem), want, "{what}");
    }
}

#[test]
fn the_name_a_request_asks_for_is_read_if_it_is_the_only_one() {
    for (extensions, want) in [
        (&[][..], None),
        (&["subjectAltName=URI:spiffe://cluster.local/ns/shop/sa/till"][..], Some(NAME)),
        (&["subjectAltName=URI:spiffe://cluster.local/ns/shop/sa/till,DNS:a.b"], Some(NAME)),
        (&["subjectAltName=URI:spiffe://cluster.local/ns/shop/sa/till,URI:x:y"], None),
        (&["subjectAltName=DNS:a.b"], None),
    ] {
        let name = SigningRequest::name(request(P256, extensions).as_bytes()).unwrap();
        assert_eq!(name.as_deref(), want, "{extensions:?}");
    }
    assert!(SigningRequest::name(b"rubbish").is_err());
}

/// What OpenSSL reads in a leaf that the CA signed.
fn read(chain: &[String], what: &str) -> String {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("leaf.pem"), &chain[0]).unwrap();
    std::fs::write(dir.path().join("root.pem"), chain.last().unwrap()).unwrap();
    std::fs::write(dir.path().join("between.pem"), chain[1..].concat()).unwrap();
    let verified =
        openssl(dir.path(), "verify -x509_strict -purpose sslserver -CAfile root.pem -untrusted between.pem leaf.pem");
    assert_eq!(verified.trim(), "leaf.pem: OK");
    openssl(dir.path(), &format!("x509 -in leaf.pem -noout {what}"))
}

#[test]
fn a_leaf_of_a_root_of_our_own_is_what_a_workload_needs_and_no_more() {
    let now = SystemTime::now();
    let files = CaFiles::make(&mesh(), now).unwrap();
    let ca = Authority::open(&files, &mesh(), DAY, now).unwrap();
    for key in [P256, "RSA -pkeyopt rsa_keygen_bits:2048", "ED25519"] {
        let wanted = SigningRequest::parse(request(key, &[]).as_bytes(), &asked()).unwrap();
        let chain = ca.sign(&wanted, &asked(), DAY / 2, now).unwrap();
        assert_eq!(chain.len(), 2, "leaf and root");
        let text = read(&chain, "-text");
        for (name, value) in [
            ("X509v3 Subject Alternative Name: critical", "URI:spiffe://cluster.local/ns/shop/sa/till"),
            ("X509v3 Key Usage: critical", "Digital Signature"),
            ("X509v3 Extended Key Usage:", "TLS Web Server Authentication, TLS Web Client Authentication"),
            ("X509v3 Basic Constraints: critical", "CA:FALSE"),
        ] {
            let mut lines = text.lines().map(str::trim).skip_while(|line| *line != name);
            assert_eq!((lines.next(), lines.next()), (Some(name), Some(value)), "{key}: {text}");
        }
        // Nothing of the request but its key.
        assert!(!text.contains("anything"), "{text}");
        assert_eq!(read(&chain, "-subject").trim(), "subject=");
    }
}

#[test]
fn a_lifetime_is_no_longer_than_allowed_and_than_the_ca_lives() {
    let now = SystemTime::now();
    let files = CaFiles::make(&mesh(), now).unwrap();
    let wanted = SigningRequest::parse(request(P256, &[]).as_bytes(), &asked()).unwrap();
    let year = 365 * DAY;
    for (longest, lifetime, at, valid_for) in
        [(DAY, DAY / 4, now, DAY / 4), (DAY, 1000 * DAY, now, DAY), (DAY, DAY, now + 10 * year - DAY / 2, DAY / 2)]
    {
        let ca = Authority::open(&files, &mesh(), longest, now).unwrap();
        let chain = ca.sign(&wanted, &asked(), lifetime, at).unwrap();
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("leaf.pem"), &chain[0]).unwrap();
        let end = openssl(dir.path(), "x509 -in leaf.pem -noout -enddate -dateopt iso_8601");
        let end = end.trim().trim_start_matches("notAfter=").replace(' ', "T");
        let end = time::OffsetDateTime::parse(&end, &time::format_description::well_known::Rfc3339).unwrap();
        let off = (end - time::OffsetDateTime::from(at + valid_for)).whole_seconds().abs();
        assert!(off <= 1, "{lifetime:?} of {longest:?}: {end}, {off} s off");
    }
    let ca = Authority::open(&files, &mesh(), DAY, now).unwrap();
    let late = ca.sign(&wanted, &asked(), DAY, now + 10 * year).unwrap_err();
    assert_eq!(late.to_string(), "the CA's own certificate is not valid now");
    let other = "spiffe://other.example/ns/shop/sa/till".parse().unwrap();
    let foreign = ca.sign(&wanted, &other, DAY, now).unwrap_err();
    assert_eq!(foreign.to_string(), format!("{other} is not of the trust domain cluster.local"));
}

/// A root and an intermediate in the layout of Istio's `cacerts`, made by OpenSSL as Istio's own Makefile would.
fn cacerts(key: &str) -> CaFiles {
    cacerts_under(key, "keyUsage=critical,keyCertSign,cRLSign")
}

fn cacerts_under(key: &str, root: &str) -> CaFiles {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    openssl(dir.path(), &format!("genpkey -algorithm {key} -out root-key.pem"));
    openssl(
        dir.path(),
        &format!("req -x509 -new -key root-key.pem -out root-cert.pem -days 30 -subj /O=Root -addext {root}"),
    );
    openssl(dir.path(), &format!("genpkey -algorithm {key} -out ca-key.pem"));
    openssl(dir.path(), "req -new -key ca-key.pem -out ca.csr -subj /O=Intermediate");
    std::fs::write(
        dir.path().join("ext"),
        "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n",
    )
    .unwrap();
    openssl(
        dir.path(),
        "x509 -req -in ca.csr -CA root-cert.pem -CAkey root-key.pem -days 10 -extfile ext -out ca-cert.pem",
    );
    CaFiles {
        certificate: at("ca-cert.pem"),
        key: at("ca-key.pem").into(),
        roots: at("root-cert.pem"),
        chain: [at("ca-cert.pem"), at("root-cert.pem")].concat(),
    }
}

#[test]
fn a_plugged_in_ca_signs_and_its_chain_leads_to_the_root() {
    for key in [P256, "RSA -pkeyopt rsa_keygen_bits:2048"] {
        let files = cacerts(key);
        // Not before it was made: keys take their time.
        let now = SystemTime::now();
        let ca = Authority::open(&files, &mesh(), DAY, now).unwrap();
        let wanted = SigningRequest::parse(request(P256, &[]).as_bytes(), &asked()).unwrap();
        let chain = ca.sign(&wanted, &asked(), DAY, now).unwrap();
        assert_eq!(chain.len(), 3, "leaf, intermediate, root");
        assert_eq!(chain[1].trim(), String::from_utf8(files.certificate.clone()).unwrap().trim());
        assert_eq!(chain[2].trim(), String::from_utf8(files.roots.clone()).unwrap().trim());
        assert_eq!(read(&chain, "-issuer").trim(), "issuer=O = Intermediate");
        // The chain may be left out: the root alone says where it leads.
        let bare = CaFiles { chain: Vec::new(), ..files };
        assert!(Authority::open(&bare, &mesh(), DAY, now).is_ok());
        assert!(!format!("{bare:?} {ca:?}").contains("PRIVATE"));
    }
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let (good, other) = (cacerts(P256), cacerts(P256));
    let shallow = cacerts_under(P256, "basicConstraints=critical,CA:TRUE,pathlen:0");
    let leaf = {
        let dir = TempDir::new().unwrap();
        openssl(dir.path(), &format!("genpkey -algorithm {P256} -out key.pem"));
        openssl(
            dir.path(),
            "req -x509 -new -key key.pem -out cert.pem -subj /O=x -addext basicConstraints=critical,CA:FALSE",
        );
        let at = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        CaFiles { certificate: at("cert.pem"), key: at("key.pem").into(), roots: at("cert.pem"), chain: Vec::new() }
    };
    let deep = cacerts_under(P256, "basicConstraints=critical,CA:TRUE,pathlen:1");
    let (none, now) = (Vec::new, SystemTime::now());
    assert!(Authority::open(&deep, &mesh(), DAY, now).is_ok(), "a root that may sign for one intermediate");
    for (what, files, at, want) in [
        (
            "no certificate",
            CaFiles { certificate: none(), ..good.clone() },
            now,
            "ca-cert.pem: expected exactly one certificate",
        ),
        (
            "two certificates",
            CaFiles { certificate: [good.certificate.clone(), good.roots.clone()].concat(), ..good.clone() },
            now,
            "ca-cert.pem: expected exactly one certificate",
        ),
        (
            "a root that may not sign for intermediates",
            shallow,
            now,
            "cert-chain.pem: expected certificates that lead from ca-cert.pem to one of root-cert.pem, none signed O=Intermediate",
        ),
        ("no root", CaFiles { roots: none(), ..good.clone() }, now, "root-cert.pem: expected at least one certificate"),
        (
            "no key",
            CaFiles { key: none().into(), ..good.clone() },
            now,
            "ca-key.pem: expected a private key in PEM, of a kind that signs",
        ),
        (
            "another's key",
            CaFiles { key: other.key.clone(), ..good.clone() },
            now,
            "ca-key.pem: expected the key of ca-cert.pem, it belongs to another certificate",
        ),
        (
            "another's root",
            CaFiles { roots: other.roots.clone(), ..good.clone() },
            now,
            "cert-chain.pem: expected certificates that lead from ca-cert.pem to one of root-cert.pem, none signed O=Root",
        ),
        ("no CA", leaf, now, "ca-cert.pem: expected a CA certificate (basicConstraints CA, keyUsage keyCertSign)"),
        (
            "too late",
            good.clone(),
            now + 20 * DAY,
            "ca-cert.pem: O=Intermediate: expected a certificate that is valid now",
        ),
        (
            "too early",
            good.clone(),
            now - 2 * DAY,
            "ca-cert.pem: O=Intermediate: expected a certificate that is valid now",
        ),
    ] {
        let error = Authority::open(&files, &mesh(), DAY, at).unwrap_err().to_string();
        assert!(error.starts_with(want), "{what}: {error}");
    }
}
