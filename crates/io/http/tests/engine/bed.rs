//! What the tests put the engine into: endpoints that a test names, a configuration it writes, and what was recorded. Backends are scripts on raw sockets,
//! so that what arrives there is seen byte for byte.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use http::HeaderMap;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{LocalSet, spawn_local},
    time::{Instant, timeout},
};
use weir_balance::{Client, Place, Weight};
use weir_http::{
    Admission, Around, Arrival, ConnectError, Dial, Edits, Endpoint, Engine, Flags, Record, Settings, Snapshot, Speaks,
    Target,
};
use weir_model::{AppProtocol, Health, Hostname, Port};
use weir_request::Request;
use weir_serving::{Host, Serving, Subset};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The host that clients ask for.
pub(crate) const SHOP: &str = "shop.default.svc.cluster.local";

/// What was recorded of a request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    pub(crate) flags: String,
    pub(crate) details: String,
    pub(crate) attempts: u32,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) call: Option<weir_http::Call>,
}

/// What the engine is put into.
pub(crate) struct Bed {
    snapshot: RefCell<Rc<Snapshot>>,
    endpoints: RefCell<HashMap<Hostname, Vec<Endpoint>>>,
    pub(crate) seen: RefCell<Vec<Seen>>,
    /// Where connections that are no HTTP got to.
    pub(crate) opened: RefCell<Vec<SocketAddr>>,
    pub(crate) connects: Cell<u32>,
    pub(crate) dialed: RefCell<Vec<(Option<Hostname>, Speaks)>>,
    pub(crate) refuse: Cell<Option<u16>>,
    /// What a refused request waits for before it is asked about once more.
    pub(crate) later: RefCell<Option<Rc<Notify>>>,
    /// What is changed of the next request.
    pub(crate) edits: RefCell<Edits>,
}

impl Around for Bed {
    type Io = TcpStream;
    type Span = ();

    fn snapshot(&self) -> Rc<Snapshot> {
        Rc::clone(&self.snapshot.borrow())
    }

    fn place(&self) -> Client {
        Client::default()
    }

    fn endpoints(&self, host: &Hostname, _: Port, _: Option<&Subset>) -> Vec<Endpoint> {
        self.endpoints.borrow().get(host).cloned().unwrap_or_default()
    }

    fn original(&self, arrival: &Arrival) -> Option<Endpoint> {
        match arrival.target {
            Target::Pod { address } => Some(endpoint(address, AppProtocol::Unknown)),
            Target::Service { .. } => None,
        }
    }

    async fn connect(&self, to: &Endpoint, dial: Dial<'_>) -> Result<TcpStream, ConnectError> {
        self.dialed.borrow_mut().push((dial.host.cloned(), dial.speaks));
        self.connects.set(self.connects.get() + 1);
        let stream = TcpStream::connect(to.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn admit(&self, _: &Arrival, _: Option<&Host>, _: &Request<'_>) -> Admission {
        let Some(status) = self.refuse.get() else { return Admission::Pass(self.edits.take()) };
        let refusal = Box::new(weir_http::Refusal {
            status,
            body: "RBAC: access denied".into(),
            headers: Vec::new(),
            flags: Flags::NONE,
            details: "rbac_access_denied_matched_policy[none]".into(),
        });
        match self.later.borrow().clone() {
            Some(told) => Admission::Later(Box::pin(async move { told.notified().await }), refusal),
            None => Admission::Answer(refusal),
        }
    }

    fn admit_connection(&self, _: &Arrival, _: Option<&Host>) -> Result<(), Box<str>> {
        match self.refuse.get() {
            None => Ok(()),
            Some(_) => Err("rbac_access_denied_matched_policy[none]".into()),
        }
    }

    fn begin(&self, _: &Arrival, _: &mut HeaderMap) {}

    fn opened(&self, (): &mut (), record: &Record<'_>) {
        assert_eq!((record.received, record.sent, record.flags.are_none()), (0, 0, true), "{record:?}");
        self.opened.borrow_mut().extend(record.upstream_host());
    }

    fn end(&self, (): (), record: &Record<'_>) {
        self.seen.borrow_mut().push(Seen {
            status: record.status,
            flags: record.flags.to_string(),
            details: record.details.to_owned(),
            attempts: record.attempts,
            received: record.received,
            sent: record.sent,
            upstream: record.upstream_host(),
            call: record.call,
        });
    }
}

pub(crate) fn endpoint(address: SocketAddr, protocol: AppProtocol) -> Endpoint {
    Endpoint {
        name: address.to_string().into(),
        address,
        weight: Weight::ONE,
        health: Health::Healthy,
        place: Arc::new(Place::default()),
        protocol,
    }
}

/// An engine, and what it is put into.
pub(crate) struct Mesh {
    pub(crate) bed: Rc<Bed>,
    pub(crate) engine: Rc<Engine<Bed>>,
    address: SocketAddr,
}

/// Runs a test on a runtime such as a worker has.
pub(crate) fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { timeout(PATIENCE * 3, test).await.expect("the test came to its end") });
}

pub(crate) fn settings() -> Settings {
    Settings { tick: Duration::from_millis(20), ..Settings::default() }
}

impl Mesh {
    /// An engine that serves `protocol` on loopback, of that family.
    pub(crate) async fn new(family: IpAddr, protocol: AppProtocol, settings: Settings) -> Self {
        let target = Target::Service { host: SHOP.parse().unwrap(), port: Port::new(80).unwrap(), protocol };
        Self::to(family, target, settings).await
    }

    /// An engine whose clients all ask for that.
    pub(crate) async fn to(family: IpAddr, target: Target, settings: Settings) -> Self {
        let bed = Rc::new(Bed {
            snapshot: RefCell::new(Rc::new(Snapshot { serving: Arc::default(), version: 1 })),
            endpoints: RefCell::default(),
            seen: RefCell::default(),
            opened: RefCell::default(),
            later: RefCell::default(),
            connects: Cell::new(0),
            dialed: RefCell::default(),
            refuse: Cell::new(None),
            edits: RefCell::default(),
        });
        let engine = Engine::new(settings, Rc::clone(&bed));
        let listener = TcpListener::bind((family, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = Rc::clone(&engine);
        spawn_local(async move {
            while let Ok((stream, client)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let arrival = Arrival {
                    client,
                    identity: None,
                    workload: None,
                    labels: None,
                    destination: address,
                    target: target.clone(),
                    trusted_hops: 0,
                };
                spawn_local(Rc::clone(&accepting).serve(stream, arrival));
            }
        });
        Self { bed, engine, address }
    }

    /// One that serves HTTP to these backends over IPv4.
    pub(crate) async fn http(backends: &[SocketAddr]) -> Self {
        let mesh = Self::new(Ipv4Addr::LOCALHOST.into(), AppProtocol::Http11, settings()).await;
        mesh.endpoints(SHOP, backends, AppProtocol::Http11);
        mesh
    }

    pub(crate) fn endpoints(&self, host: &str, backends: &[SocketAddr], protocol: AppProtocol) {
        let of = backends.iter().map(|address| endpoint(*address, protocol)).collect();
        self.bed.endpoints.borrow_mut().insert(host.parse().unwrap(), of);
        let serving = Arc::clone(&self.bed.snapshot().serving);
        self.swap(serving);
    }

    /// Another version of what is served.
    pub(crate) fn swap(&self, serving: Arc<Serving>) {
        let version = self.bed.snapshot().version + 1;
        self.bed.snapshot.replace(Rc::new(Snapshot { serving, version }));
    }

    /// What is served to clients of the shop.
    pub(crate) fn serve(&self, host: Host) {
        self.swap(Arc::new(Serving { hosts: [(SHOP.parse().unwrap(), Arc::new(host))].into(), ..Serving::default() }));
    }

    pub(crate) async fn client(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Sends bytes on a connection of their own, and reads to its end.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.client().await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end, too: what came before it counts.
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection ends").unwrap_or_default();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A GET, by itself.
    pub(crate) async fn get(&self, path: &str) -> String {
        self.raw(format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n").as_bytes()).await
    }

    /// What was recorded, once so many have ended.
    pub(crate) async fn seen(&self, count: usize) -> Vec<Seen> {
        until(|| self.bed.seen.borrow().len() >= count).await;
        self.bed.seen.borrow().clone()
    }
}

/// Waits until something is so.
pub(crate) async fn until(mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "it never came to be");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Lets everybody else do what they can do now.
pub(crate) async fn settle() {
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
}

/// What a backend does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Answers, and goes on.
    Answer(&'static str),
    /// Answers, and closes.
    Last(&'static str),
    /// Answers, and resets the connection.
    Reset(&'static str),
    /// Says nothing.
    Hang,
}

/// A plain answer.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A backend that answers by a script, and the requests that it got.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) got: Rc<RefCell<Vec<String>>>,
    pub(crate) connections: Rc<Cell<u32>>,
    /// How many of these are over.
    pub(crate) ended: Rc<Cell<usize>>,
}

impl Backend {
    pub(crate) fn count(&self) -> usize {
        self.got.borrow().len()
    }

    pub(crate) fn last(&self) -> String {
        self.got.borrow().last().cloned().unwrap_or_default()
    }
}

/// A backend on loopback that does with its `n`th request, from 0, what the script says.
pub(crate) async fn backend(script: impl Fn(usize, &str) -> Act + 'static) -> Backend {
    backend_on(Ipv4Addr::LOCALHOST.into(), script).await
}

pub(crate) async fn backend_on(family: IpAddr, script: impl Fn(usize, &str) -> Act + 'static) -> Backend {
    let listener = TcpListener::bind((family, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (got, connections, ended) = (Rc::<RefCell<Vec<String>>>::default(), Rc::new(Cell::new(0)), Rc::default());
    let script = Rc::new(script);
    let (all, opened, over) = (Rc::clone(&got), Rc::clone(&connections), Rc::<Cell<usize>>::clone(&ended));
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            opened.set(opened.get() + 1);
            let (all, script, over) = (Rc::clone(&all), Rc::clone(&script), Rc::clone(&over));
            spawn_local(async move {
                play(stream, &all, &*script).await;
                over.set(over.get() + 1);
            });
        }
    });
    Backend { address, got, connections, ended }
}

async fn play(mut stream: TcpStream, all: &RefCell<Vec<String>>, script: &dyn Fn(usize, &str) -> Act) {
    stream.set_nodelay(true).unwrap();
    let mut rest = Vec::new();
    while let Some(request) = read_message(&mut stream, &mut rest).await {
        let number = all.borrow().len();
        all.borrow_mut().push(request.clone());
        match script(number, &request) {
            Act::Answer(answer) => stream.write_all(answer.as_bytes()).await.unwrap_or_default(),
            Act::Last(answer) => return stream.write_all(answer.as_bytes()).await.unwrap_or_default(),
            Act::Reset(answer) => {
                stream.write_all(answer.as_bytes()).await.unwrap_or_default();
                // A reset throws away what the other side has not read: it is to have read it.
                let (own, peer) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
                until(|| unread(own, peer) == 0).await;
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                return;
            }
            Act::Hang => std::future::pending().await,
        }
    }
}

/// How many bytes from one socket of this machine to another are sent and not read yet. proc_net_tcp: `sl local remote state tx_queue:rx_queue`.
fn unread(from: SocketAddr, to: SocketAddr) -> u64 {
    let table = if from.is_ipv4() { "/proc/self/net/tcp" } else { "/proc/self/net/tcp6" };
    let table = std::fs::read_to_string(table).unwrap();
    let queues = |from: SocketAddr, to: SocketAddr| {
        let ends = format!(" {} {} ", in_hex(from), in_hex(to));
        let (_, row) = table.lines().find_map(|line| line.split_once(&ends))?;
        let (sent, got) = row.split_whitespace().nth(1)?.split_once(':')?;
        Some((u64::from_str_radix(sent, 16).unwrap(), u64::from_str_radix(got, 16).unwrap()))
    };
    // A socket that is gone sends and reads nothing any more.
    let ((sent, _), (_, got)) = (queues(from, to).unwrap_or_default(), queues(to, from).unwrap_or_default());
    sent + got
}

/// An address as the kernel's table has it.
fn in_hex(address: SocketAddr) -> String {
    let word = |bytes: &[u8]| format!("{:08X}", u32::from_ne_bytes(bytes.try_into().unwrap()));
    let ip: String = match address.ip() {
        IpAddr::V4(ip) => word(&ip.octets()),
        IpAddr::V6(ip) => ip.octets().chunks(4).map(word).collect(),
    };
    format!("{ip}:{:04X}", address.port())
}

/// One message of HTTP/1, as it came; none at the end.
pub(crate) async fn read_message(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = message_end(rest) {
            let message: Vec<u8> = rest.drain(..end).collect();
            return Some(String::from_utf8_lossy(&message).into_owned());
        }
        let mut bytes = [0; 4_096];
        match stream.read(&mut bytes).await {
            Ok(count @ 1..) => rest.extend_from_slice(&bytes[..count]),
            Ok(_) | Err(_) => return None,
        }
    }
}

fn message_end(bytes: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(bytes);
    let head = text.find("\r\n\r\n")? + 4;
    let lower = text[..head].to_ascii_lowercase();
    if lower.contains("transfer-encoding: chunked") {
        let body = &text[head..];
        if body.starts_with("0\r\n\r\n") {
            return Some(head + 5);
        }
        let last = body.find("\r\n0\r\n")?;
        let end = body[last + 5..].find("\r\n").map(|at| if at == 0 { 2 } else { 0 });
        return match end {
            Some(2) => Some(head + last + 7),
            _ => body[last + 5..].find("\r\n\r\n").map(|at| head + last + 5 + at + 4),
        };
    }
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    (bytes.len() >= head + length).then_some(head + length)
}

/// The addresses of loopback.
pub(crate) const FAMILIES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// The body of an answer.
pub(crate) fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// The status of an answer; 0 if there is none.
pub(crate) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}
