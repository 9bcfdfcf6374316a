//! The agent's end against the service itself, over TLS on loopback; and against CAs that answer anything but what was asked for.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which fail by it")]

use std::{
    convert::Infallible,
    error::Error as _,
    io::Write,
    net::SocketAddr,
    ops::ControlFlow,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer as Signer, KeyPair};
use tempfile::NamedTempFile;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
};
use tonic_prost::ProstCodec;
use tower::Service;
use weir_authority::{Authority, Bundle, CaFiles, LivePod, SigningRequest};
use weir_identity::{Identities, Issuer};
use weir_issuance::{
    Certificates, IstioCertificateRequest, IstioCertificateResponse, Pods, RemoteCa, RemoteError, Settings,
};
use weir_model::{NodeName, SpiffeId, TrustDomain};
use weir_rpc::{
    Caller, Credential, Dial, Limits, Server, ServerTls, Services, Target, TlsFiles, Unproven, Verify, Verifying,
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const TILL: &str = "spiffe://cluster.local/ns/shop/sa/till";

fn mesh() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

fn till() -> SpiffeId {
    TILL.parse().unwrap()
}

/// `shop/till` runs on every node, and nothing else does.
struct Till;

impl Pods for Till {
    fn on_node(&self, node: &NodeName, visit: &mut dyn FnMut(LivePod<'_>) -> ControlFlow<()>) {
        let identity = till();
        let pod = LivePod { namespace: identity.namespace(), service_account: identity.service_account(), node };
        assert!(visit(pod).is_break() || visit(pod).is_continue());
    }
}

/// The token `agent` is that of a node's agent.
struct Tokens;

impl Verify for Tokens {
    fn verify<'a>(&'a self, token: &'a str) -> Verifying<'a> {
        Box::pin(async move {
            match token {
                "agent" => Ok(Caller {
                    identity: "spiffe://cluster.local/ns/istio-system/sa/ztunnel".parse().unwrap(),
                    node: Some("n1".parse().unwrap()),
                    pod: Some("ztunnel-1".into()),
                    credential: Credential::Token,
                }),
                _ => Err(Unproven::Refused("unknown".to_owned())),
            }
        })
    }
}

fn authority() -> Arc<Authority> {
    let now = SystemTime::now();
    Arc::new(Authority::open(&CaFiles::make(&mesh(), now).unwrap(), &mesh(), DAY, now).unwrap())
}

/// A CA below a root, as an operator plugs it in.
fn plugged_in() -> Arc<Authority> {
    let ca = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let root = ca("root").self_signed(&root_key).unwrap().pem();
    let certificate = ca("between").signed_by(&key, &Signer::new(ca("root"), root_key)).unwrap().pem();
    let other = CaFiles::make(&mesh(), SystemTime::now()).unwrap().roots;
    let files = CaFiles {
        certificate: certificate.into_bytes(),
        key: key.serialize_pem().into_bytes().into(),
        // Two are believed, as in the middle of a rotation.
        roots: [root.as_bytes(), &other].concat(),
        chain: Vec::new(),
    };
    Arc::new(Authority::open(&files, &mesh(), DAY, SystemTime::now()).unwrap())
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// A server, and what is needed to call it.
struct Bed {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    roots: NamedTempFile,
    token: NamedTempFile,
}

impl Bed {
    async fn start(services: Services, listen: &str) -> Self {
        let door = authority();
        let shown = door.serve(&["control.test".to_owned()], DAY, SystemTime::now()).unwrap();
        let roots = door.roots().pem();
        let files = TlsFiles { chain: shown.chain.as_bytes(), key: shown.key.as_bytes(), roots: roots.as_bytes() };
        let (_keep, tls) = watch::channel(Arc::new(ServerTls::new(files, &mesh()).unwrap()));
        let server = Server::new(services, tls, Some(Arc::new(Tokens)), Limits::default());
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, mut stopping) = watch::channel(false);
        let serving = tokio::spawn(server.serve(listener, async move { drop(stopping.wait_for(|stop| *stop).await) }));
        Self { address, stop, serving, roots: file(&roots), token: file("agent") }
    }

    fn remote(&self) -> RemoteCa {
        let dial = Dial {
            target: Target::parse(&self.address.to_string(), Some("control.test")).unwrap(),
            roots: self.roots.path().to_owned(),
            token: Some(self.token.path().to_owned()),
        };
        RemoteCa::new(dial, DAY)
    }
}

fn certificates(authority: Arc<Authority>) -> Services {
    let (_keep, receiver) = watch::channel(authority);
    Services::default().with(Certificates::new(receiver, Arc::new(Till), Settings::default()))
}

/// An error and its causes.
fn in_full(error: &weir_identity::Error) -> String {
    let first: &(dyn std::error::Error + 'static) = error;
    let causes = std::iter::successors(Some(first), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[tokio::test]
async fn an_agent_holds_what_the_service_gives_out() {
    for (listen, authority) in [("127.0.0.1:0", authority()), ("[::1]:0", plugged_in())] {
        let bed = Bed::start(certificates(authority.clone()), listen).await;
        let remote = bed.remote();
        let certificate = remote.certify(&till()).await.unwrap();
        assert_eq!(certificate.identity(), &till());
        let left = certificate.not_after().duration_since(SystemTime::now()).unwrap();
        assert!(left <= DAY && left > DAY - Duration::from_secs(60), "{left:?}");
        // And the holder takes it.
        let identities = Identities::new(Arc::new(remote));
        let tls = identities.fetch(&till()).await.unwrap();
        assert_eq!(tls.identity(), &till());
        let other = "spiffe://cluster.local/ns/shop/sa/other".parse().unwrap();
        let error = in_full(&identities.fetch(&other).await.unwrap_err());
        assert!(error.contains("no live pod of that service account runs there"), "{error}");
    }
}

#[tokio::test]
async fn a_connection_that_broke_while_nobody_used_it_costs_no_call() {
    let authority = authority();
    let mut bed = Bed::start(certificates(authority.clone()), "127.0.0.1:0").await;
    let remote = bed.remote();
    let mut last = String::new();
    // That the connection is over may be seen only by the call; not each time, though.
    for _ in 0..20 {
        remote.certify(&till()).await.unwrap();
        bed.stop.send_replace(true);
        (&mut bed.serving).await.unwrap();
        // Another server in its place, with another certificate: its root is in the file by now.
        let again = Bed::start(certificates(authority.clone()), &bed.address.to_string()).await;
        std::fs::copy(again.roots.path(), bed.roots.path()).unwrap();
        drop(TcpStream::connect(again.address).await.unwrap());
        match remote.certify(&till()).await {
            Ok(_) => return,
            Err(error) => last = in_full(&error),
        }
        (bed.stop, bed.serving) = (again.stop, again.serving);
    }
    panic!("{last}");
}

#[tokio::test]
async fn a_server_that_is_gone_is_said_to_be() {
    let bed = Bed::start(certificates(authority()), "127.0.0.1:0").await;
    let remote = bed.remote();
    remote.certify(&till()).await.unwrap();
    bed.stop.send_replace(true);
    bed.serving.await.unwrap();
    let (began, mut last) = (Instant::now(), String::new());
    // At first it may be the call that breaks.
    while began.elapsed() < Duration::from_secs(10) {
        let error = remote.certify(&till()).await.unwrap_err();
        assert!(error.source().is_some_and(|cause| cause.is::<RemoteError>()), "{}", in_full(&error));
        last = in_full(&error);
        if last.contains("the CA cannot be reached: cannot connect to https://127.0.0.1") {
            return;
        }
    }
    panic!("{last}");
}

#[tokio::test]
async fn another_connection_is_tried_if_it_may_be_the_connection() {
    for (code, same) in [
        (Code::Unavailable, false),
        (Code::Internal, false),
        (Code::PermissionDenied, true),
        (Code::InvalidArgument, true),
        (Code::ResourceExhausted, true),
    ] {
        let from = Arc::new(Mutex::new(Vec::new()));
        let seen = from.clone();
        let liar = Liar(Arc::new(move |request: Request<IstioCertificateRequest>| {
            seen.lock().unwrap().push(*request.extensions().get::<SocketAddr>().unwrap());
            Err(Status::new(code, "no"))
        }));
        let bed = Bed::start(Services::default().with(liar), "127.0.0.1:0").await;
        let remote = bed.remote();
        for _ in 0..2 {
            remote.certify(&till()).await.unwrap_err();
        }
        let from = from.lock().unwrap();
        assert_eq!((from.len(), from[0] == from[1]), (2, same), "{code:?}");
    }
}

#[tokio::test]
async fn what_keeps_it_from_asking_is_said() {
    let bed = Bed::start(certificates(authority()), "127.0.0.1:0").await;
    std::fs::write(bed.token.path(), "stolen").unwrap();
    let error = in_full(&bed.remote().certify(&till()).await.unwrap_err());
    assert!(error.contains(TILL) && error.contains("not accepted: unknown"), "{error}");
    std::fs::remove_file(bed.roots.path()).unwrap();
    let error = in_full(&bed.remote().certify(&till()).await.unwrap_err());
    assert!(error.contains("the CA cannot be reached") && error.contains("No such file"), "{error}");
}

/// What a CA answers to a request.
type Answer = dyn Fn(Request<IstioCertificateRequest>) -> Result<Vec<String>, Status> + Send + Sync;

/// A CA that answers what it likes.
#[derive(Clone)]
struct Liar(Arc<Answer>);

impl NamedService for Liar {
    const NAME: &'static str = "istio.v1.auth.IstioCertificateService";
}

impl Service<http::Request<Body>> for Liar {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: http::Request<Body>) -> Self::Future {
        let liar = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(liar, call).await) })
    }
}

impl UnaryService<IstioCertificateRequest> for Liar {
    type Response = IstioCertificateResponse;
    type Future = std::future::Ready<Result<Response<IstioCertificateResponse>, Status>>;

    fn call(&mut self, request: Request<IstioCertificateRequest>) -> Self::Future {
        std::future::ready((self.0)(request).map(|cert_chain| Response::new(IstioCertificateResponse { cert_chain })))
    }
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_asked_for_is_refused() {
    fn sign(request: &IstioCertificateRequest, ca: &Authority) -> Vec<String> {
        let asked = SigningRequest::parse(request.csr.as_bytes(), &till()).unwrap();
        ca.sign(&asked, &till(), DAY, SystemTime::now()).unwrap()
    }
    fn lie(lie: impl Fn(&IstioCertificateRequest) -> Vec<String> + Send + Sync + 'static) -> Arc<Answer> {
        Arc::new(move |request: Request<_>| Ok(lie(request.get_ref())))
    }
    let (ca, other) = (authority(), authority());
    let with = |change: fn(Vec<String>) -> Vec<String>| {
        let ca = ca.clone();
        lie(move |request| change(sign(request, &ca)))
    };
    let own_key = {
        let ca = ca.clone();
        lie(move |_| {
            let key = KeyPair::generate().unwrap();
            let leaf = ca.leaf(&key, &till(), DAY, SystemTime::now()).unwrap();
            vec![Bundle::from(leaf).pem(), ca.roots().pem()]
        })
    };
    let another = {
        let ca = ca.clone();
        lie(move |request| {
            let asked = SigningRequest::parse(request.csr.as_bytes(), &till()).unwrap();
            let name = "spiffe://cluster.local/ns/bank/sa/vault".parse().unwrap();
            ca.sign(&asked, &name, DAY, SystemTime::now()).unwrap()
        })
    };
    let elsewhere = {
        let ca = ca.clone();
        lie(move |request| vec![sign(request, &ca).remove(0), other.roots().pem()])
    };
    for (what, answer, says) in [
        ("what was asked for", with(|chain| chain), None),
        ("a key of the CA's own", own_key, Some("TLS does not accept the key")),
        ("another identity", another, Some("a certificate for spiffe://cluster.local/ns/bank/sa/vault instead")),
        ("another root", elsewhere, Some("not signed by a root of this mesh")),
        ("nothing", with(|_| Vec::new()), Some("expected a certificate and a root, it is empty")),
        ("no root", with(|mut chain| vec![chain.remove(0)]), Some("expected a certificate, and last the roots")),
        ("no certificate", with(|chain| vec![String::new(), chain[1].clone()]), Some("expected a certificate, and")),
        ("rubbish", with(|_| vec!["rubbish".to_owned(), "rubbish".to_owned()]), Some("expected a certificate, and")),
        (
            "half of one",
            with(|chain| vec![chain[0][..200].to_owned(), chain[1].clone()]),
            Some("expected certificates in PEM, one is damaged"),
        ),
        ("far too many", with(|chain| vec![chain[0].clone(), chain[1].repeat(65)]), Some("at most 64 certificates")),
        ("a long answer", with(|chain| vec!["x".repeat(2 << 20), chain[0].clone()]), Some("message length too large")),
    ] {
        let bed = Bed::start(Services::default().with(Liar(answer)), "127.0.0.1:0").await;
        let answer = bed.remote().certify(&till()).await;
        match (answer, says) {
            (Ok(certificate), None) => assert_eq!(certificate.identity(), &till()),
            (Ok(_), Some(_)) => panic!("{what} was taken"),
            (Err(error), None) => panic!("{what}: {}", in_full(&error)),
            (Err(error), Some(says)) => assert!(in_full(&error).contains(says), "{what}: {}", in_full(&error)),
        }
    }
}
