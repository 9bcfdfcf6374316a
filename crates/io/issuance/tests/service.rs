//! The service, called in memory by tonic's own client, by callers that may and by callers that may not.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which fail by it")]

use std::{
    ops::ControlFlow,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use http::uri::PathAndQuery;
use proptest::prelude::*;
use prost_types::{Struct, Value, value::Kind};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tempfile::TempDir;
use tokio::sync::watch;
use tonic::{Code, Request, Status, body::Body, client::Grpc};
use tonic_prost::ProstCodec;
use tower::ServiceExt;
use weir_authority::{Authority, CaFiles, LivePod, MAX_REQUEST_BYTES};
use weir_issuance::{
    Certificates, IstioCertificateRequest, IstioCertificateResponse, NodeAgents, Pods, Reason, Settings,
};
use weir_model::{Namespace, NodeName, ServiceAccount, SpiffeId};
use weir_rpc::{Caller, Credential};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

const HOUR: Duration = Duration::from_secs(3600);
const PATH: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
const AGENT: &str = "istio-system/ztunnel";

/// `namespace/account` as an identity of the mesh.
fn id(account: &str) -> SpiffeId {
    let (namespace, name) = account.split_once('/').unwrap();
    format!("spiffe://cluster.local/ns/{namespace}/sa/{name}").parse().unwrap()
}

/// What runs where, as namespace/account and node.
struct Cluster(Mutex<Vec<(&'static str, &'static str)>>);

impl Pods for Cluster {
    fn on_node(&self, node: &NodeName, visit: &mut dyn FnMut(LivePod<'_>) -> ControlFlow<()>) {
        for (account, at) in self.0.lock().unwrap().iter() {
            let (namespace, name) = account.split_once('/').unwrap();
            let (namespace, service_account): (Namespace, ServiceAccount) =
                (namespace.parse().unwrap(), name.parse().unwrap());
            let at: NodeName = at.parse().unwrap();
            let pod = LivePod { namespace: &namespace, service_account: &service_account, node: &at };
            if at == *node && visit(pod).is_break() {
                return;
            }
        }
    }
}

struct Bed {
    service: Certificates,
    cluster: Arc<Cluster>,
    authority: watch::Sender<Arc<Authority>>,
}

fn authority() -> Arc<Authority> {
    let (mesh, now) = ("cluster.local".parse().unwrap(), SystemTime::now());
    let files = CaFiles::make(&mesh, now).unwrap();
    Arc::new(Authority::open(&files, &mesh, 48 * HOUR, now).unwrap())
}

impl Bed {
    fn new(settings: Settings) -> Self {
        let cluster =
            Arc::new(Cluster(Mutex::new(vec![("shop/till", "n1"), ("shop/store", "n2"), ("bank/till", "n2")])));
        let (sender, receiver) = watch::channel(authority());
        Self { service: Certificates::new(receiver, cluster.clone(), settings), cluster, authority: sender }
    }

    async fn ask(&self, caller: Option<Caller>, request: IstioCertificateRequest) -> Result<Vec<String>, Status> {
        let service = self.service.clone().map_request(move |mut call: http::Request<Body>| {
            call.extensions_mut().extend(caller.iter().fold(http::Extensions::new(), |mut all, caller| {
                all.insert(caller.clone());
                all
            }));
            call
        });
        let codec: ProstCodec<IstioCertificateRequest, IstioCertificateResponse> = ProstCodec::default();
        let answer = Grpc::new(service).unary(Request::new(request), PathAndQuery::from_static(PATH), codec).await?;
        Ok(answer.into_inner().cert_chain)
    }
}

fn caller(account: &str, node: Option<&str>, credential: Credential) -> Caller {
    let node = node.map(|node| node.parse().unwrap());
    Caller { identity: id(account), pod: node.as_ref().map(|_| "pod-1".into()), node, credential }
}

fn agent(node: &str) -> Option<Caller> {
    Some(caller(AGENT, Some(node), Credential::Token))
}

/// A signing request for these URI names, changed by `change`.
fn csr(uris: &[&str], change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    change(&mut params);
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

fn impersonating(kind: Kind) -> Option<Struct> {
    Some(Struct { fields: [("ImpersonatedIdentity".to_owned(), Value { kind: Some(kind) })].into() })
}

/// As a node's agent asks.
fn for_pod(account: &str) -> IstioCertificateRequest {
    let name = id(account).to_string();
    let csr = csr(&[&name], |_| {});
    IstioCertificateRequest { csr, validity_duration: 3600, metadata: impersonating(Kind::StringValue(name)) }
}

fn with_csr(csr: String) -> IstioCertificateRequest {
    IstioCertificateRequest { csr, ..for_pod("shop/till") }
}

fn openssl(dir: &Path, arguments: &str) -> String {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn rsa_512() -> String {
    let dir = TempDir::new().unwrap();
    openssl(dir.path(), "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:512 -out key.pem");
    openssl(dir.path(), "req -new -key key.pem -subj /O=x")
}

/// The identity of a certificate, which must be its only name.
fn identity(chain: &[String]) -> SpiffeId {
    let der = CertificateDer::from_pem_slice(chain[0].as_bytes()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap().value;
    let [GeneralName::URI(name)] = names.general_names.as_slice() else { panic!("{names:?}") };
    name.parse().unwrap()
}

#[tokio::test]
async fn what_comes_out_is_what_openssl_expects_of_a_workload() {
    let bed = Bed::new(Settings::default());
    for (seconds, valid) in
        [(3600, HOUR), (0, 24 * HOUR), (-7, 24 * HOUR), (i64::MAX, 48 * HOUR), (i64::MIN, 24 * HOUR)]
    {
        let request = IstioCertificateRequest { validity_duration: seconds, ..for_pod("shop/till") };
        let (chain, began) = (bed.ask(agent("n1"), request).await.unwrap(), SystemTime::now());
        assert_eq!((chain.len(), identity(&chain)), (2, id("shop/till")));
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("leaf.pem"), &chain[0]).unwrap();
        std::fs::write(dir.path().join("roots.pem"), &chain[1]).unwrap();
        for purpose in ["sslserver", "sslclient"] {
            let verify = format!("verify -x509_strict -purpose {purpose} -CAfile roots.pem leaf.pem");
            assert_eq!(openssl(dir.path(), &verify).trim(), "leaf.pem: OK");
        }
        let left = valid.as_secs() - began.elapsed().unwrap().as_secs();
        for (from_now, code) in [(left - 60, Some(0)), (left + 60, Some(1))] {
            let check = Command::new("openssl")
                .args(["x509", "-in", "leaf.pem", "-noout", "-checkend", &from_now.to_string()])
                .current_dir(dir.path())
                .output()
                .unwrap();
            assert_eq!(check.status.code(), code, "{seconds} s asked for, {from_now} s from now");
        }
        let text = openssl(dir.path(), "x509 -in leaf.pem -noout -text");
        for (name, value) in [
            ("X509v3 Subject Alternative Name: critical", "URI:spiffe://cluster.local/ns/shop/sa/till"),
            ("X509v3 Key Usage: critical", "Digital Signature"),
            ("X509v3 Extended Key Usage:", "TLS Web Server Authentication, TLS Web Client Authentication"),
            ("X509v3 Basic Constraints: critical", "CA:FALSE"),
        ] {
            let mut lines = text.lines().map(str::trim).skip_while(|line| *line != name);
            assert_eq!((lines.next(), lines.next()), (Some(name), Some(value)), "{text}");
        }
    }
    let stats = bed.service.stats();
    assert_eq!((stats.requests.load(Relaxed), stats.issued.load(Relaxed)), (5, 5));
}

#[tokio::test]
async fn whoever_asks_for_its_own_gets_it_however_it_says_so() {
    let bed = Bed::new(Settings::default());
    let (waypoint, name) = ("shop/waypoint", id("shop/waypoint").to_string());
    for credential in [Credential::Token, Credential::Certificate] {
        for (csr, metadata) in [
            (csr(&[], |_| {}), None),
            (csr(&[&name], |_| {}), None),
            (csr(&[], |_| {}), impersonating(Kind::StringValue(name.clone()))),
        ] {
            let request = IstioCertificateRequest { csr, validity_duration: 0, metadata };
            let chain = bed.ask(Some(caller(waypoint, None, credential)), request).await.unwrap();
            assert_eq!(identity(&chain), id(waypoint));
        }
    }
}

/// An attack, how it is refused, and in what words.
type Attack = (&'static str, Option<Caller>, IstioCertificateRequest, (Code, Reason), &'static str);

const NOT_ENTITLED: (Code, Reason) = (Code::PermissionDenied, Reason::NotEntitled);
const BAD_REQUEST: (Code, Reason) = (Code::InvalidArgument, Reason::BadRequest);
const BAD_IDENTITY: (Code, Reason) = (Code::InvalidArgument, Reason::BadIdentity);
const NOT_ITS_OWN: &str = "may not have the identity spiffe://cluster.local/ns/shop/sa/till, only its own";
const NO_POD: &str = "no live pod of that service account runs there";

fn named(kind: Kind) -> IstioCertificateRequest {
    IstioCertificateRequest { metadata: impersonating(kind), ..for_pod("shop/till") }
}

/// By those who may not ask, or not for that.
fn by_the_wrong() -> Vec<Attack> {
    use Credential::{Certificate, Token};
    let by = |account, node, credential| Some(caller(account, node, credential));
    let till = || for_pod("shop/till");
    let bare = IstioCertificateRequest { metadata: None, ..till() };
    let foreign = "spiffe://other.example/ns/shop/sa/till";
    let elsewhere =
        IstioCertificateRequest { csr: csr(&[foreign], |_| {}), ..named(Kind::StringValue(foreign.to_owned())) };
    vec![
        ("nobody", None, till(), (Code::Unauthenticated, Reason::Unproven), "the caller proved nothing"),
        ("another node's", agent("n1"), for_pod("shop/store"), NOT_ENTITLED, NO_POD),
        ("another namespace's", agent("n1"), for_pod("bank/till"), NOT_ENTITLED, NO_POD),
        ("a node without pods", agent("n3"), till(), NOT_ENTITLED, "on node n3"),
        ("an agent by certificate", by(AGENT, None, Certificate), till(), NOT_ENTITLED, NOT_ITS_OWN),
        ("an agent by certificate, with a node", by(AGENT, Some("n1"), Certificate), till(), NOT_ENTITLED, NOT_ITS_OWN),
        ("an agent's token without a pod", by(AGENT, None, Token), till(), NOT_ENTITLED, NOT_ITS_OWN),
        ("an account that is no agent", by("shop/store", Some("n1"), Token), till(), NOT_ENTITLED, NOT_ITS_OWN),
        ("an agent's name elsewhere", by("shop/ztunnel", Some("n1"), Token), till(), NOT_ENTITLED, NOT_ITS_OWN),
        ("another's by the request alone", by("shop/store", None, Token), bare, NOT_ENTITLED, NOT_ITS_OWN),
        ("another mesh", agent("n1"), elsewhere, NOT_ENTITLED, "not of the trust domain cluster.local"),
    ]
}

/// By who may, with what may not be signed.
fn with_the_wrong() -> Vec<Attack> {
    let (till, store) = (id("shop/till").to_string(), id("shop/store").to_string());
    let asks = |csr| (agent("n1"), with_csr(csr));
    let with = |what, (caller, request), says| (what, caller, request, BAD_REQUEST, says);
    let dns = |params: &mut CertificateParams| {
        params.subject_alt_names.push(SanType::DnsName("bank.example".try_into().unwrap()));
    };
    let ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let oversized = format!("{}{}", csr(&[], |_| {}), "\n".repeat(MAX_REQUEST_BYTES));
    let bare = IstioCertificateRequest { metadata: None, ..with_csr("rubbish".to_owned()) };
    let only_till = "may only ask for spiffe://cluster.local/ns/shop/sa/till";
    let unreadable = (Code::OutOfRange, Reason::Unreadable);
    vec![
        with("one name said, another asked for", asks(csr(&[&store], |_| {})), only_till),
        with("a name more", asks(csr(&[&till, &store], |_| {})), only_till),
        with("a DNS name more", asks(csr(&[&till], dns)), "DNSName(bank.example)"),
        with("a CA", asks(csr(&[&till], ca)), "asks for a CA certificate"),
        with("a small key", asks(rsa_512()), "of RSA with 512 bits"),
        with("a long request", asks(oversized), "at most 16384 are read"),
        with("rubbish", asks("rubbish".to_owned()), "there is none"),
        with("rubbish of a workload", (Some(caller("shop/till", None, Credential::Token)), bare), "there is none"),
        ("a long message", agent("n1"), with_csr("x".repeat(100_000)), unreadable, "message length too large"),
        ("a number", agent("n1"), named(Kind::NumberValue(1.0)), BAD_IDENTITY, "ImpersonatedIdentity is no text"),
        ("no identity", agent("n1"), named(Kind::StringValue("till".to_owned())), BAD_IDENTITY, "cannot be read"),
        ("no name", agent("n1"), named(Kind::StringValue(String::new())), BAD_IDENTITY, "cannot be read"),
        ("a long name", agent("n1"), named(Kind::StringValue("\n".repeat(9999))), BAD_IDENTITY, "cannot be read"),
    ]
}

#[tokio::test]
async fn each_attack_is_refused_by_its_name_and_counted() {
    let bed = Bed::new(Settings::default());
    let stats = bed.service.stats();
    for (what, caller, request, (code, reason), says) in by_the_wrong().into_iter().chain(with_the_wrong()) {
        let before = Reason::ALL.map(|reason| stats.refused(reason));
        let status = bed.ask(caller, request).await.expect_err(what);
        assert_eq!(status.code(), code, "{what}: {status:?}");
        assert!(status.message().contains(says) && status.message().len() < 700, "{what}: {status:?}");
        let after = Reason::ALL.map(|other| stats.refused(other) - u64::from(other == reason));
        assert_eq!(before, after, "{what} is counted as {}", reason.as_str());
    }
    assert_eq!(stats.issued.load(Relaxed), 0);
}

#[tokio::test]
async fn when_its_pod_is_over_an_identity_is_refused() {
    let bed = Bed::new(Settings::default());
    bed.ask(agent("n1"), for_pod("shop/till")).await.unwrap();
    bed.cluster.0.lock().unwrap().retain(|(account, _)| *account != "shop/till");
    let status = bed.ask(agent("n1"), for_pod("shop/till")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
}

#[tokio::test]
async fn who_asks_too_often_waits_and_nobody_else_does() {
    let settings = Settings { per_second: 1, burst: 3, ..Settings::default() };
    let bed = Bed::new(settings);
    for _ in 0..3 {
        bed.ask(agent("n2"), for_pod("shop/store")).await.unwrap();
    }
    let status = bed.ask(agent("n2"), for_pod("shop/store")).await.unwrap_err();
    assert_eq!((status.code(), bed.service.stats().refused(Reason::Throttled)), (Code::ResourceExhausted, 1));
    // The agent of another node has the same service account.
    bed.ask(agent("n1"), for_pod("shop/till")).await.unwrap();
    let full = Bed::new(Settings { at_once: 0, ..Settings::default() });
    let status = full.ask(agent("n1"), for_pod("shop/till")).await.unwrap_err();
    assert_eq!((status.code(), full.service.stats().refused(Reason::Busy)), (Code::ResourceExhausted, 1));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_come_is_not_waited_for() {
    let bed = Bed::new(Settings::default());
    let service = bed.service.clone().map_request(|mut call: http::Request<Body>| {
        call.extensions_mut().insert(caller(AGENT, Some("n1"), Credential::Token));
        call
    });
    let codec: ProstCodec<IstioCertificateRequest, IstioCertificateResponse> = ProstCodec::default();
    let never = Request::new(futures_util::stream::pending());
    let status = Grpc::new(service).client_streaming(never, PathAndQuery::from_static(PATH), codec).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(bed.service.stats().refused(Reason::Unreadable), 1);
}

#[tokio::test]
async fn another_ca_signs_from_the_next_call_on() {
    let bed = Bed::new(Settings::default());
    let before = bed.ask(agent("n1"), for_pod("shop/till")).await.unwrap();
    let ends = bed.service.root_not_after();
    bed.authority.send_replace(authority());
    let after = bed.ask(agent("n1"), for_pod("shop/till")).await.unwrap();
    assert_ne!(before[1], after[1]);
    assert!(bed.service.root_not_after() >= ends);
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("leaf.pem"), &after[0]).unwrap();
    std::fs::write(dir.path().join("roots.pem"), &after[1]).unwrap();
    openssl(dir.path(), "verify -CAfile roots.pem leaf.pem");
}

#[tokio::test]
async fn a_slow_key_signs_beside_the_runtime() {
    let bed = Bed::new(Settings::default());
    let dir = TempDir::new().unwrap();
    openssl(dir.path(), "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem");
    let usage = "-addext keyUsage=critical,keyCertSign";
    openssl(dir.path(), &format!("req -x509 -new -key key.pem -out cert.pem -days 30 -subj /O=Root {usage}"));
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    let files =
        CaFiles { certificate: read("cert.pem"), key: read("key.pem").into(), roots: read("cert.pem"), chain: vec![] };
    let authority = Authority::open(&files, &"cluster.local".parse().unwrap(), HOUR, SystemTime::now()).unwrap();
    assert!(authority.is_slow() && !bed.authority.borrow().is_slow());
    bed.authority.send_replace(Arc::new(authority));
    let asked = (0..20).map(|_| bed.ask(agent("n1"), for_pod("shop/till")));
    for answer in futures_util::future::join_all(asked).await {
        std::fs::write(dir.path().join("leaf.pem"), &answer.unwrap()[0]).unwrap();
        openssl(dir.path(), "verify -CAfile cert.pem leaf.pem");
    }
}

#[tokio::test]
async fn what_the_service_does_not_have_is_said_to_be_so() {
    let bed = Bed::new(Settings::default());
    let call = http::Request::post("/istio.v1.auth.IstioCertificateService/Other").body(Body::empty()).unwrap();
    let answer = bed.service.oneshot(call).await.unwrap();
    assert_eq!(Status::from_header_map(answer.headers()).unwrap().code(), Code::Unimplemented);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_refusal_is_logged_with_who_asked_for_what_and_why_but_not_each_of_thousands() {
    let (log, bed) = (Log::default(), Bed::new(Settings { burst: 10_000, ..Settings::default() }));
    let writer = log.clone();
    // Without one for all threads, a line that another test writes first would be off for this one, too.
    let unread = tracing_subscriber::fmt().with_writer(std::io::sink).finish();
    tracing::subscriber::set_global_default(unread).unwrap();
    let _logging = tracing::subscriber::set_default(
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish(),
    );
    let request = for_pod("shop/store");
    for _ in 0..1000 {
        bed.ask(agent("n1"), request.clone()).await.unwrap_err();
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let first = text.lines().next().unwrap();
    for says in [
        "caller=spiffe://cluster.local/ns/istio-system/sa/ztunnel",
        "node=n1",
        "pod=\"pod-1\"",
        "credential=Token",
        "asked=spiffe://cluster.local/ns/shop/sa/store",
        "reason=\"not_entitled\"",
        "no live pod of that service account runs there",
    ] {
        assert!(first.contains(says), "{says}: {first}");
    }
    // 50 at once and 10 a second: a machine that takes 40 s for this is not ours.
    assert!((50..450).contains(&text.lines().count()), "{} lines", text.lines().count());
    assert_eq!(bed.service.stats().refused(Reason::NotEntitled), 1000);
}

fn account() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "shop/till",
        "shop/store",
        "bank/till",
        "shop/waypoint",
        AGENT,
        "weir-system/weir-agent",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_is_asked_a_certificate_is_the_callers_own_or_that_of_a_pod_on_its_node(
        who in account(),
        node in proptest::option::of(proptest::sample::select(vec!["n1", "n2", "n3"])),
        token: bool,
        said in proptest::option::of(account()),
        asked in proptest::collection::vec(account(), 0..3),
    ) {
        let bed = Bed::new(Settings::default());
        let credential = if token { Credential::Token } else { Credential::Certificate };
        let names: Vec<String> = asked.iter().map(|account| id(account).to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let request = IstioCertificateRequest {
            csr: csr(&names, |_| {}),
            validity_duration: 60,
            metadata: said.and_then(|account| impersonating(Kind::StringValue(id(account).to_string()))),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let answer = runtime.block_on(bed.ask(Some(caller(who, node, credential)), request));
        let wanted = said.or(if let [one] = asked.as_slice() { Some(*one) } else { None }).unwrap_or(who);
        let agent = token && ["istio-system/ztunnel", "weir-system/weir-agent"].contains(&who);
        let runs = |account| bed.cluster.0.lock().unwrap().iter().any(|(pod, at)| *pod == account && Some(*at) == node);
        let may = wanted == who || (agent && runs(wanted));
        let fits = asked.is_empty() || asked == [wanted];
        match answer {
            Ok(chain) => {
                prop_assert!(may && fits);
                prop_assert_eq!(identity(&chain), id(wanted));
            }
            Err(status) => prop_assert!(!(may && fits), "{status:?}"),
        }
    }
}

#[test]
fn the_default_agents_are_istios_and_ours() {
    let agents = NodeAgents::default();
    for account in [AGENT, "weir-system/weir-agent"] {
        let (namespace, name) = account.split_once('/').unwrap();
        assert!(agents.include(&namespace.parse().unwrap(), &name.parse().unwrap()));
    }
}
