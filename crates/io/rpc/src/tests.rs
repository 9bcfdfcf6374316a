//! A real server and a real client, over TLS on loopback.

use std::{
    convert::Infallible,
    io::Write,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body_util::BodyExt;
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tempfile::NamedTempFile;
use tokio::{net::TcpListener, sync::watch};
use tonic::{Code, Status, body::Body, server::NamedService};
use tower::{Service, ServiceExt};

use crate::{
    Answer, Call, Caller, Credential, Dial, Limits, Server, ServerTls, Services, Target, TlsFiles, Unproven, Verify,
    Verifying,
};

/// Answers who called, as a status' message.
#[derive(Clone)]
struct WhoAmI;

impl NamedService for WhoAmI {
    const NAME: &'static str = "test.WhoAmI";
}

impl Service<Call> for WhoAmI {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let caller = call.extensions().get::<Caller>().expect("nobody gets here unproven").clone();
        let node = caller.node.map_or_else(|| "-".to_owned(), |node| node.to_string());
        let text = format!("{} on {node} by {:?}", caller.identity, caller.credential);
        Box::pin(async move { Ok(Status::already_exists(text).into_http()) })
    }
}

/// Knows the token `good`, and nothing at all when asked for `later`.
struct Tokens;

impl Verify for Tokens {
    fn verify<'a>(&'a self, token: &'a str) -> Verifying<'a> {
        Box::pin(async move {
            match token {
                "good" | "foreign" => Ok(Caller {
                    identity: match token {
                        "good" => "spiffe://cluster.local/ns/mesh/sa/agent".parse().unwrap(),
                        _ => "spiffe://other.domain/ns/mesh/sa/agent".parse().unwrap(),
                    },
                    node: Some("n1".parse().unwrap()),
                    pod: Some("agent-1".into()),
                    credential: Credential::Token,
                }),
                "later" => Err(Unproven::Unavailable("the API server is away".to_owned())),
                _ => Err(Unproven::Refused("unknown".to_owned())),
            }
        })
    }
}

/// A CA, and a server with a certificate of it for `control.test`.
struct Bed {
    address: SocketAddr,
    root: String,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
}

fn ca() -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap();
    (root.pem(), Issuer::new(params, key))
}

impl Bed {
    async fn start(listen: &str) -> Self {
        let (root, issuer) = ca();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.subject_alt_names = vec![SanType::DnsName("control.test".try_into().unwrap())];
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let (chain, key) = (leaf.pem(), key.serialize_pem());
        let files = TlsFiles { chain: chain.as_bytes(), key: key.as_bytes(), roots: root.as_bytes() };
        let tls = ServerTls::new(files, &"cluster.local".parse().unwrap()).unwrap();
        let (_keep, tls) = watch::channel(Arc::new(tls));
        let server = Server::new(Services::default().with(WhoAmI), tls, Some(Arc::new(Tokens)), Limits::default());
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, mut stopping) = watch::channel(false);
        let serving = tokio::spawn(server.serve(listener, async move { drop(stopping.wait_for(|stop| *stop).await) }));
        Self { address, root, stop, serving }
    }

    fn dial(&self, name: &str, token: Option<&NamedTempFile>, roots: &NamedTempFile) -> Dial {
        Dial {
            target: Target::parse(&self.address.to_string(), Some(name)).unwrap(),
            roots: roots.path().to_owned(),
            token: token.map(|file| file.path().to_owned()),
        }
    }
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// What came back: the status' code and message.
async fn ask(dial: &Dial, path: &str) -> (Code, String) {
    let channel = dial.connect().await.unwrap();
    let call = http::Request::post(path).header("content-type", "application/grpc").body(Body::empty()).unwrap();
    let answer = channel.oneshot(call).await.unwrap();
    let (parts, body) = answer.into_parts();
    let status = Status::from_header_map(&parts.headers).expect("a status stands in the head");
    body.collect().await.unwrap();
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn a_call_carries_who_proved_to_be_there() {
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let bed = Bed::start(listen).await;
        let (roots, token) = (file(&bed.root), file("good\n"));
        let answer = ask(&bed.dial("control.test", Some(&token), &roots), "/test.WhoAmI/Ask").await;
        let want = "spiffe://cluster.local/ns/mesh/sa/agent on n1 by Token";
        assert_eq!(answer, (Code::AlreadyExists, want.to_owned()), "{listen}");
    }
}

#[tokio::test]
async fn who_proves_nothing_is_refused() {
    let bed = Bed::start("127.0.0.1:0").await;
    let roots = file(&bed.root);
    for (token, code, says) in [
        (None, Code::Unauthenticated, "neither a certificate"),
        (Some("bad"), Code::Unauthenticated, "not accepted: unknown"),
        (Some("later"), Code::Unavailable, "the API server is away"),
        (Some(""), Code::Unauthenticated, "expected \"authorization: Bearer"),
        (Some("foreign"), Code::Unauthenticated, "of another trust domain"),
    ] {
        let token = token.map(file);
        let (found, message) = ask(&bed.dial("control.test", token.as_ref(), &roots), "/test.WhoAmI/Ask").await;
        assert_eq!(found, code, "{message}");
        assert!(message.contains(says), "{message}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_so() {
    let bed = Bed::start("127.0.0.1:0").await;
    let (roots, token) = (file(&bed.root), file("good"));
    for path in ["/", "/x", "/test.WhoAmI", "/test.Other/Ask"] {
        let (code, _) = ask(&bed.dial("control.test", Some(&token), &roots), path).await;
        assert_eq!(code, Code::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_prove_its_name_is_not_talked_to() {
    let bed = Bed::start("127.0.0.1:0").await;
    let (other, _) = ca();
    let (roots, others) = (file(&bed.root), file(&other));
    for (name, roots) in [("another.test", &roots), ("control.test", &others)] {
        let error = bed.dial(name, None, roots).connect().await.unwrap_err();
        assert!(matches!(error, crate::DialError::Tls { .. }), "{error:?}");
    }
    let nothing = file("");
    let error = bed.dial("control.test", None, &nothing).connect().await.unwrap_err();
    assert!(matches!(error, crate::DialError::Roots { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_stops() {
    let bed = Bed::start("127.0.0.1:0").await;
    let (roots, token) = (file(&bed.root), file("good"));
    let dial = bed.dial("control.test", Some(&token), &roots);
    let channel = dial.connect().await.unwrap();
    bed.stop.send_replace(true);
    tokio::time::timeout(std::time::Duration::from_secs(10), bed.serving).await.unwrap().unwrap();
    let call = http::Request::post("/test.WhoAmI/Ask").body(Body::empty()).unwrap();
    assert!(channel.oneshot(call).await.is_err(), "the connection outlived its server");
}
