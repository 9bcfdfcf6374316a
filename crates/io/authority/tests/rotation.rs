//! A mesh lived through hour by hour while its CA changes: every certificate that is still valid is checked by every bundle that somebody may
//! still hold, by webpki each hour and by OpenSSL at each change.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which fail by it")]

use std::{
    process::Command,
    time::{Duration, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use tempfile::TempDir;
use weir_authority::{Authority, Bundle, CaFiles, CaSecret, Change, Step, Timing};
use weir_model::{SpiffeId, TrustDomain};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn mesh() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

fn name() -> SpiffeId {
    "spiffe://cluster.local/ns/shop/sa/till".parse().unwrap()
}

/// A root of the operator's.
struct Root {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn ca(name: &str, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = ((now - DAY).into(), (now + YEAR).into());
    params
}

impl Root {
    fn new(name: &str, now: SystemTime) -> Self {
        let (key, params) = (KeyPair::generate().unwrap(), ca(name, now));
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A new intermediate of this root, as it would be plugged in; `roots` are to be believed.
    fn plug(&self, roots: &str, now: SystemTime) -> CaFiles {
        let key = KeyPair::generate().unwrap();
        let certificate = ca("intermediate", now).signed_by(&key, &self.issuer).unwrap().pem();
        CaFiles {
            chain: certificate.clone().into(),
            certificate: certificate.into(),
            key: key.serialize_pem().into_bytes().into(),
            roots: roots.into(),
        }
    }
}

/// A certificate somebody holds.
struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    until: SystemTime,
}

struct Mesh {
    secret: CaSecret,
    timing: Timing,
    now: SystemTime,
    /// What was published, and until when it was the newest.
    published: Vec<(Bundle, Option<SystemTime>)>,
    leaves: Vec<Leaf>,
    changes: Vec<Change>,
}

impl Mesh {
    fn new(secret: CaSecret, timing: Timing, now: SystemTime) -> Self {
        let published = vec![(secret.bundle().clone(), None)];
        Self { secret, timing, now, published, leaves: Vec::new(), changes: Vec::new() }
    }

    /// Goes on hour by hour. What is refused by somebody is the error.
    fn live(&mut self, hours: u32, plugged: Option<&CaFiles>) -> Result<(), String> {
        for _ in 0..hours {
            self.steps(plugged);
            let ca = Authority::open(self.secret.files(), &mesh(), DAY, self.now).unwrap();
            let key = KeyPair::generate().unwrap();
            let leaf = ca.leaf(&key, &name(), DAY, self.now).unwrap();
            let between = CertificateDer::pem_slice_iter(&self.secret.files().chain).map(Result::unwrap);
            self.leaves.push(Leaf { chain: std::iter::once(leaf).chain(between).collect(), until: self.now + DAY });
            self.check()?;
            self.now += HOUR;
        }
        Ok(())
    }

    /// What the writing replica does, and another that reads what was written.
    fn steps(&mut self, plugged: Option<&CaFiles>) {
        while let Step::Write(secret, change) = self.secret.step(plugged, self.timing, &mesh(), self.now).unwrap() {
            let data = secret.data().into_iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect();
            self.secret = CaSecret::read(&data).unwrap();
            assert_eq!(self.secret.data(), secret.data());
            let newest = self.published.last_mut().unwrap();
            if newest.0 != *self.secret.bundle() {
                newest.1 = Some(self.now);
                self.published.push((self.secret.bundle().clone(), None));
            }
            self.changes.push(change);
            assert!(self.changes.len() < 20, "it never ends: {:?}", self.changes);
            self.openssl();
        }
    }

    /// Bundles that were the newest within the last day, for that long somebody may be behind; and the certificates that are valid.
    fn held(&self) -> impl Iterator<Item = (&Bundle, &Leaf)> {
        let bundles = self.published.iter().filter(|(_, until)| until.is_none_or(|until| until + DAY > self.now));
        bundles.flat_map(|(bundle, _)| {
            self.leaves.iter().filter(|leaf| leaf.until > self.now).map(move |leaf| (bundle, leaf))
        })
    }

    fn check(&self) -> Result<(), String> {
        let now = UnixTime::since_unix_epoch(self.now.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        for (bundle, leaf) in self.held() {
            let anchors: Vec<_> =
                bundle.roots().iter().map(|root| webpki::anchor_from_trusted_cert(root).unwrap()).collect();
            let end = webpki::EndEntityCert::try_from(&leaf.chain[0]).unwrap();
            let algorithms = &[webpki::aws_lc_rs::ECDSA_P256_SHA256];
            let usage = webpki::KeyUsage::client_auth();
            end.verify_for_usage(algorithms, &anchors, &leaf.chain[1..], now, usage, None, None)
                .map_err(|error| format!("after {:?}: {error}", self.changes))?;
        }
        Ok(())
    }

    fn openssl(&self) {
        let dir = TempDir::new().unwrap();
        let at = self.now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().to_string();
        let pem = |der: &[u8]| pem::encode(&pem::Pem::new("CERTIFICATE", der));
        // The oldest and the newest say as much as all those between.
        let all: Vec<_> = self.held().collect();
        for (bundle, leaf) in all.first().into_iter().chain(all.last()) {
            std::fs::write(dir.path().join("roots.pem"), bundle.pem()).unwrap();
            std::fs::write(dir.path().join("leaf.pem"), pem(&leaf.chain[0])).unwrap();
            let between: String = leaf.chain[1..].iter().map(|der| pem(der)).collect();
            // OpenSSL wants something in it.
            let between = if between.is_empty() { pem(&leaf.chain[0]) } else { between };
            std::fs::write(dir.path().join("between.pem"), between).unwrap();
            let done = Command::new("openssl")
                .args(["verify", "-attime", &at, "-purpose", "sslclient", "-CAfile", "roots.pem"])
                .args(["-untrusted", "between.pem", "leaf.pem"])
                .current_dir(dir.path())
                .output()
                .unwrap();
            let said = [done.stdout, done.stderr].concat();
            assert!(done.status.success(), "{:?}: {}", self.changes, String::from_utf8_lossy(&said));
        }
    }
}

#[test]
fn a_root_of_our_own_is_followed_by_the_next_before_it_ends() {
    let start = SystemTime::now();
    let secret = CaSecret::make(&mesh(), start).unwrap();
    let old = secret.bundle().clone();
    let mut young = Mesh::new(secret.clone(), Timing::of(DAY), start);
    young.live(48, None).unwrap();
    assert_eq!(young.changes, []);
    let mut mesh = Mesh::new(secret, Timing::of(DAY), start + 7 * YEAR);
    mesh.live(1, None).unwrap();
    assert_eq!((mesh.changes.as_slice(), mesh.secret.bundle().roots().len()), (&[Change::Announced][..], 2));
    assert!(mesh.secret.bundle().has_all_of(&old));
    let signer = mesh.secret.files().certificate.clone();
    mesh.live(23, None).unwrap();
    assert_eq!((mesh.changes.len(), &mesh.secret.files().certificate), (1, &signer), "the old one signs for a day");
    mesh.live(1, None).unwrap();
    assert_eq!(mesh.changes[1..], [Change::Switched, Change::Leaving]);
    assert_ne!(mesh.secret.files().certificate, signer);
    mesh.live(24, None).unwrap();
    assert_eq!(mesh.secret.bundle().roots().len(), 2, "certificates of the old one live");
    mesh.live(48, None).unwrap();
    assert_eq!(mesh.changes, [Change::Announced, Change::Switched, Change::Leaving, Change::Retired]);
    assert!(!mesh.secret.bundle().has_all_of(&old) && mesh.secret.bundle().roots().len() == 1);
    assert_eq!(mesh.secret.data().len(), 5, "nothing is left of the rotation: {:?}", mesh.secret.data().keys());
}

#[test]
fn in_a_hurry_handshakes_are_lost_and_this_test_bed_notices() {
    let start = SystemTime::now();
    let secret = CaSecret::make(&mesh(), start).unwrap();
    for timing in [Timing { spread: Duration::ZERO, retire: DAY + HOUR }, Timing { spread: DAY, retire: HOUR }] {
        let mut mesh = Mesh::new(secret.clone(), timing, start + 7 * YEAR);
        let hasty = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| mesh.live(72, None)));
        assert!(!matches!(hasty, Ok(Ok(()))), "{timing:?} lost nothing");
        assert!(mesh.changes.contains(&Change::Switched), "{:?}", mesh.changes);
    }
}

#[test]
fn a_plugged_in_ca_that_is_replaced_is_followed_as_soon_as_it_is_believed() {
    let start = SystemTime::now();
    let (one, two) = (Root::new("one", start), Root::new("two", start));
    let first = one.plug(&one.pem, start);
    let mut mesh = Mesh::new(CaSecret::plugged_in(&first, &mesh(), start).unwrap(), Timing::of(DAY), start);
    mesh.live(30, Some(&first)).unwrap();
    assert_eq!(mesh.changes, []);
    // Another intermediate of a root that all believe signs at once.
    let renewed = one.plug(&one.pem, mesh.now);
    mesh.live(1, Some(&renewed)).unwrap();
    assert_eq!(mesh.changes, [Change::Switched]);
    assert_eq!(mesh.secret.files().certificate, renewed.certificate);
    // One of another root waits.
    let other = two.plug(&two.pem, mesh.now);
    mesh.live(24, Some(&other)).unwrap();
    assert_eq!(mesh.changes[1..], [Change::Announced]);
    assert_eq!(mesh.secret.files().certificate, renewed.certificate);
    // That the Secret is deleted meanwhile changes nothing.
    mesh.live(40, None).unwrap();
    assert_eq!(mesh.changes[2..], [Change::Switched, Change::Leaving, Change::Retired][..mesh.changes.len() - 2]);
    assert_eq!(mesh.secret.files().certificate, other.certificate);
    mesh.live(40, Some(&other)).unwrap();
    assert_eq!(mesh.changes.last(), Some(&Change::Retired));
    assert_eq!(mesh.secret.bundle().pem(), Bundle::parse("x", two.pem.as_bytes()).unwrap().pem());
}

#[test]
fn an_operator_who_thinks_twice_breaks_nothing() {
    let start = SystemTime::now();
    let (one, two, three) = (Root::new("one", start), Root::new("two", start), Root::new("three", start));
    let secret = CaSecret::make(&mesh(), start).unwrap();
    let mut mesh = Mesh::new(secret, Timing::of(DAY), start);
    mesh.live(5, None).unwrap();
    // From a root of our own to one of the operator's, to another before that signed, back, and with a root more.
    let [a, b, c] = [&one, &two, &three].map(|root| root.plug(&root.pem, start));
    for (hours, plugged) in [(3, &a), (30, &b), (10, &c), (2, &b), (60, &b)] {
        mesh.live(hours, Some(plugged)).unwrap();
    }
    assert!(mesh.changes.contains(&Change::Withdrawn), "{:?}", mesh.changes);
    let more = CaFiles { roots: [two.pem.as_str(), &one.pem].concat().into(), ..b.clone() };
    mesh.live(1, Some(&more)).unwrap();
    assert_eq!(mesh.changes.last(), Some(&Change::Replaced));
    // The root that was added was out for a day already when one of its intermediates comes: at once.
    mesh.live(24, Some(&more)).unwrap();
    let last = CaFiles { roots: [two.pem.as_str(), &one.pem].concat().into(), ..a };
    mesh.live(60, Some(&last)).unwrap();
    assert_eq!(mesh.changes.last(), Some(&Change::Switched));
    assert_eq!(mesh.secret.bundle().roots().len(), 2);
}

#[test]
fn who_goes_back_while_the_old_root_is_leaving_waits_for_the_new_one_too() {
    let start = SystemTime::now();
    let (one, two) = (Root::new("one", start), Root::new("two", start));
    let [first, second] = [one.plug(&one.pem, start), two.plug(&two.pem, start)];
    let mut mesh = Mesh::new(CaSecret::plugged_in(&first, &mesh(), start).unwrap(), Timing::of(DAY), start);
    mesh.live(2, Some(&first)).unwrap();
    mesh.live(24 + 20, Some(&second)).unwrap();
    assert_eq!(mesh.changes, [Change::Announced, Change::Switched, Change::Leaving]);
    mesh.live(24, Some(&first)).unwrap();
    assert_eq!(mesh.changes[3..], [Change::Switched, Change::Leaving]);
    mesh.live(24, Some(&first)).unwrap();
    assert_eq!(mesh.changes[5..], [Change::Retired]);
    assert_eq!(mesh.secret.bundle(), &Bundle::parse("x", one.pem.as_bytes()).unwrap());
}

#[test]
fn what_cannot_sign_is_refused_and_what_was_goes_on() {
    let start = SystemTime::now();
    let secret = CaSecret::make(&mesh(), start).unwrap();
    let (one, two) = (Root::new("one", start), Root::new("two", start));
    let bad = CaFiles { roots: two.pem.clone().into(), ..one.plug(&one.pem, start) };
    let error = secret.step(Some(&bad), Timing::of(DAY), &mesh(), start).unwrap_err();
    assert!(error.to_string().starts_with("cert-chain.pem: expected certificates that lead"), "{error}");
    assert!(matches!(secret.step(None, Timing::of(DAY), &mesh(), start), Ok(Step::Keep(None))));
    // With an expired signer there is nothing to wait for.
    let (late, fresh) = (start + 11 * YEAR, Root::new("fresh", start + 11 * YEAR));
    let plugged = fresh.plug(&fresh.pem, late);
    for plugged in [None, Some(&plugged)] {
        let Step::Write(_, change) = secret.step(plugged, Timing::of(DAY), &mesh(), late).unwrap() else {
            panic!("nothing is written")
        };
        assert_eq!(change, Change::Switched);
    }
}

#[test]
fn the_secrets_of_istio_are_read_and_bad_ones_refused_by_the_file() {
    let start = SystemTime::now();
    let made = CaFiles::make(&mesh(), start).unwrap();
    let data =
        |files: &[(&str, &[u8])]| files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
    let istio = data(&[
        ("ca-cert.pem", &made.certificate),
        ("ca-key.pem", &made.key),
        ("cert-chain.pem", b""),
        ("key.pem", b""),
        ("root-cert.pem", b""),
    ]);
    let secret = CaSecret::read(&istio).unwrap();
    assert!(Authority::open(secret.files(), &mesh(), DAY, start).is_ok());
    assert!(matches!(secret.step(None, Timing::of(DAY), &mesh(), start), Ok(Step::Keep(None))));
    let whole =
        [("ca-cert.pem", made.certificate.as_slice()), ("ca-key.pem", &made.key), ("root-cert.pem", &made.roots)];
    let with = |name, bytes| [whole.as_slice(), &[(name, bytes)]].concat();
    for (what, files, want) in [
        ("nothing", vec![], "ca-cert.pem: expected to be there"),
        ("no key", vec![whole[0], whole[2]], "ca-key.pem: expected to be there"),
        (
            "a next one without key",
            with("next-ca-cert.pem", &made.certificate),
            "next-ca-key.pem: expected to be there",
        ),
        (
            "a state of others",
            with("weir-rotation", b"stage=3"),
            "weir-rotation: expected origin, next-origin, bundle-grown or roots-leaving",
        ),
        (
            "a time that is none",
            with("weir-rotation", b"bundle-grown=-1"),
            "weir-rotation: expected a time in Unix seconds",
        ),
        ("no lines", with("weir-rotation", b"x"), "weir-rotation: expected lines of name=value"),
        ("no text", with("weir-rotation", b"\xff"), "weir-rotation: expected text"),
    ] {
        assert_eq!(CaSecret::read(&data(&files)).unwrap_err().to_string(), want, "{what}");
    }
    assert!(!format!("{secret:?}").contains("PRIVATE"));
}
