//! What the tests stand on: certificates, sockets, an echo application, a server that tunnels to it.

use std::{
    cell::RefCell,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::PrivateKeyDer, server::WebPkiClientVerifier};
use weir_hbone::{Closer, Incoming, Role, Settings, Unmetered};
use weir_model::Hostname;
use weir_net::Stream;
use weir_wire::{
    head::{Authority, Connect},
    trace::Traceparent,
};

/// How long any test may wait for anything.
pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// One root and a certificate for both sides; identities are the business of another crate.
pub(crate) struct Pki {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(Ipv4Addr::UNSPECIFIED.into())];
        let leaf = params.signed_by(&key, &root).unwrap();
        let chain = vec![leaf.der().clone()];
        let der = || PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut roots = RootCertStore::empty();
        roots.add(root.as_ref().der().clone()).unwrap();
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder(roots.clone()).build().unwrap();
        let mut server = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), der())
            .unwrap();
        server.alpn_protocols = vec![b"h2".to_vec()];
        server.enable_secret_extraction = true;
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, der())
            .unwrap();
        client.alpn_protocols = vec![b"h2".to_vec()];
        client.enable_secret_extraction = true;
        client.enable_sni = false;
        Self { server: Arc::new(server), client: Arc::new(client) }
    }
}

/// Runs a test on one thread, as a worker would, with a deadline.
pub(crate) fn worker<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(async { tokio::time::timeout(3 * SOON, test).await.expect("the test hangs") }));
}

pub(crate) fn listen(ip: IpAddr) -> (tokio::net::TcpListener, SocketAddr) {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap();
    (tokio::net::TcpListener::from_std(listener).unwrap(), at)
}

pub(crate) fn registered(stream: TcpStream) -> Stream {
    stream.set_nonblocking(true).unwrap();
    Stream::register(stream).unwrap()
}

pub(crate) async fn dial(to: SocketAddr) -> Stream {
    let stream = tokio::net::TcpStream::connect(to).await.unwrap();
    registered(stream.into_std().unwrap())
}

/// An application that sends back what it gets, half-closes included, on threads of its own.
pub(crate) fn echo(ip: IpAddr) -> SocketAddr {
    application(ip, |mut stream| {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    if stream.write_all(&buffer[..n]).is_err() {
                        return;
                    }
                }
            }
        }
    })
}

pub(crate) fn application(ip: IpAddr, serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    at
}

/// What the server did, for tests to look at.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) closers: RefCell<Vec<Closer>>,
    pub(crate) ended: RefCell<Vec<String>>,
    pub(crate) relayed: RefCell<Vec<String>>,
}

/// An HBONE server that tunnels to whatever address is asked for; port 1 is refused with 401.
pub(crate) fn server(ip: IpAddr, pki: &Pki, settings: Settings) -> (SocketAddr, Rc<Seen>) {
    let (listener, at) = listen(ip);
    let config = pki.server.clone();
    let seen = Rc::new(Seen::default());
    let log = seen.clone();
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (config, log) = (config.clone(), log.clone());
            tokio::task::spawn_local(async move {
                let stream = registered(stream.into_std().unwrap());
                match weir_hbone::accept(stream, config, settings.handshake).await {
                    Ok(established) => {
                        let streams = log.clone();
                        let (closer, run) = weir_hbone::serve(established, settings, move |incoming| {
                            tokio::task::spawn_local(tunnel(incoming, streams.clone()));
                        });
                        log.closers.borrow_mut().push(closer);
                        let lost = run.await;
                        log.ended.borrow_mut().push(lost.to_string());
                    }
                    Err(error) => log.ended.borrow_mut().push(error.to_string()),
                }
            });
        }
    });
    (at, seen)
}

async fn tunnel(mut incoming: Incoming, seen: Rc<Seen>) {
    let request = match incoming.request() {
        Ok(request) => request,
        Err(_) => return incoming.refuse(400),
    };
    let Authority::Address(target) = request.authority else { return incoming.refuse(400) };
    if target.port() == 1 {
        return incoming.refuse(401);
    }
    match tokio::net::TcpStream::connect(target).await {
        Ok(app) => {
            let app = registered(app.into_std().unwrap());
            let how = incoming.accept(Some("service.name=echo")).relay(app, &Unmetered).await;
            seen.relayed.borrow_mut().push(format!("{how:?}"));
        }
        Err(_) => incoming.refuse(503),
    }
}

pub(crate) fn settings(role: Role) -> Settings {
    Settings::new(role)
}

/// What a client asks for.
pub(crate) struct Ask {
    pub(crate) authority: Authority,
    host: Option<Hostname>,
}

impl Ask {
    pub(crate) fn of(target: SocketAddr) -> Self {
        Self { authority: Authority::Address(target), host: None }
    }

    pub(crate) fn head(&self) -> Connect<'_> {
        Connect {
            authority: &self.authority,
            baggage: "service.name=test",
            source: "10.0.0.1:4000".parse().unwrap(),
            host: self.host.as_ref(),
            trace: Traceparent { trace: 1, span: 1, flags: 0 },
        }
    }
}

/// A connected pair: what an application holds, and what the agent holds of it.
pub(crate) async fn pair(ip: IpAddr) -> (tokio::net::TcpStream, Stream) {
    let (listener, at) = listen(ip);
    let (ours, theirs) = tokio::join!(tokio::net::TcpStream::connect(at), listener.accept());
    (ours.unwrap(), registered(theirs.unwrap().0.into_std().unwrap()))
}

/// Polls a condition until it holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + SOON;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not come to pass");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
