//! An issuer on loopback, which does what it is told to, and its keys.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::{ServerConfig, version::TLS12, version::TLS13};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// Two public keys: of RFC 8037 Appendix A.2 and of RFC 8032 §7.1, test 2.
pub(crate) const FIRST: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
pub(crate) const SECOND: &str = "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw";

/// What it answers.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// 200 with this body.
    Body(String),
    /// Another status, with this header.
    Status(u16, &'static str),
    /// Nothing, forever.
    Silence,
    /// As many bytes as are taken, with their length said or not.
    Endless { said: bool },
    /// Bytes that are no HTTP.
    Noise,
    /// Half an answer, and the end.
    Half,
}

/// The connections it had.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn keys(kid: &str, key: &str) -> Answer {
    Answer::Body(format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{key}"}}]}}"#))
}

/// A root in PEM, and a server that it vouches for, by this name.
pub(crate) fn certificate(name: &str, version: Version) -> (String, TlsAcceptor) {
    let mut params = CertificateParams::new(vec!["root".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &root).unwrap();
    let version = match version {
        Version::Tls12 => &TLS12,
        Version::Tls13 => &TLS13,
    };
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    (root.pem(), TlsAcceptor::from(Arc::new(config)))
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

impl Issuer {
    pub(crate) async fn new(bind: &str, answer: Answer, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(bind).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(answer));
        let (asked, heads) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (own, count, seen) = (answer.clone(), asked.clone(), heads.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = own.lock().unwrap().clone();
                let (tls, seen) = (tls.clone(), seen.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, answer, &seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, answer, &seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, answer, asked, heads, task }
    }

    pub(crate) fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// How many connections it had.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// The heads of the requests it had.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: Answer, heads: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8_192 {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
    let text = match &answer {
        Answer::Body(body) => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
        Answer::Status(status, header) => format!("HTTP/1.1 {status} X\r\n{header}\r\ncontent-length: 0\r\n\r\n"),
        Answer::Silence => std::future::pending().await,
        Answer::Endless { said: true } => "HTTP/1.1 200 OK\r\ncontent-length: 10485760\r\n\r\n".to_owned(),
        Answer::Endless { said: false } => "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
        Answer::Noise => "SSH-2.0-OpenSSH\r\n".to_owned(),
        Answer::Half => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned(),
    };
    // The other end may have gone: then there is nothing to do.
    if stream.write_all(text.as_bytes()).await.is_err() {
        return;
    }
    if let Answer::Endless { .. } = answer {
        for _ in 0..160 {
            if stream.write_all(&[b' '; 65_536]).await.is_err() {
                return;
            }
        }
    }
    drop(stream.shutdown().await);
}
