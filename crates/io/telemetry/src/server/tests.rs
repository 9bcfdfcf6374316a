//! Servers over real sockets, both families, and clients that do not behave.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    task::JoinHandle,
    time::Instant,
};

use super::*;
use crate::{Admin, LogFormat, Metrics, Readiness};

const V4: &str = "127.0.0.1:0";
const V6: &str = "[::1]:0";

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

async fn start(address: &str, routes: Routes) -> Running {
    start_within(LIMITS, address, routes).await
}

async fn start_within(limits: Limits, address: &str, routes: Routes) -> Running {
    let listener = bind(address.parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(serve_within(limits, listener, routes, async move { drop(stopped.await) }));
    Running { address, stop, task }
}

impl Running {
    /// Sends bytes as they are; everything that comes back until the server closes.
    async fn send(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn ask(&self, line: &str, headers: &str) -> String {
        self.send(&format!("{line} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n")).await
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(Duration::from_secs(10), self.task).await.unwrap().unwrap().unwrap();
        assert!(TcpStream::connect(self.address).await.is_err(), "nobody listens any more");
    }
}

#[tokio::test]
async fn metrics_are_served_in_the_format_asked_for() {
    for address in [V4, V6] {
        let server = start(address, Routes::Stats(Arc::new(Metrics::new("weir-agent", "1")))).await;
        let plain = server.ask("GET /metrics", "Host: x\r\n").await;
        assert!(plain.contains("text/plain; version=0.0.4") && plain.contains("istio_build{"), "{plain}");
        assert!(!plain.contains("# EOF"));
        let accept = "Host: x\r\nAccept: application/openmetrics-text;version=1.0.0;q=0.75,text/plain;q=0.5\r\n";
        let open = server.ask("GET /stats/prometheus", accept).await;
        assert!(open.contains("application/openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n"), "{open}");
        assert!(server.ask("GET /other", "Host: x\r\n").await.starts_with("HTTP/1.1 404"));
        assert!(server.ask("POST /metrics", "Host: x\r\n").await.starts_with("HTTP/1.1 405"));
        server.stop().await;
    }
}

#[tokio::test]
async fn readiness_says_what_it_waits_for() {
    for address in [V4, V6] {
        let readiness = Readiness::default();
        let config = readiness.wait_for("config");
        let server = start(address, Routes::Ready(readiness)).await;
        let answer = server.ask("GET /healthz/ready", "Host: 10.0.0.1:15021\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("waiting for: config"), "{answer}");
        config.done();
        let answer = server.ask("GET /healthz/ready", "Host: 10.0.0.1:15021\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        server.stop().await;
    }
}

fn admin(quits: Arc<AtomicU32>) -> Routes {
    // A handle works for as long as its subscriber lives.
    let (subscriber, logging) = crate::logging::subscriber(LogFormat::Text, "info", io::sink).unwrap();
    std::mem::forget(subscriber);
    Routes::Admin(Arc::new(Admin {
        pages: vec![("/config_dump", Box::new(|| serde_json::json!({ "workloads": [] })))],
        questions: vec![(
            "/asked",
            Box::new(|query| query.fields(["what"]).map(|[what]| serde_json::json!({ "what": what }))),
        )],
        inquiries: vec![(
            "/sought",
            Box::new(|query| {
                Box::pin(async move {
                    tokio::task::yield_now().await;
                    query.fields(["what"]).map(|[what]| serde_json::json!({ "found": what }))
                })
            }),
        )],
        logging,
        filtered: Box::new(|_| {}),
        readiness: Readiness::default(),
        quit: Box::new(move || {
            quits.fetch_add(1, SeqCst);
        }),
    }))
}

#[tokio::test]
async fn the_admin_server_shows_and_sets_and_quits() {
    for address in [V4, V6] {
        let quits = Arc::new(AtomicU32::new(0));
        let server = start(address, admin(quits.clone())).await;
        let host = "Host: localhost:15000\r\n";
        for (line, status, part) in [
            ("GET /config_dump", "200", "\"workloads\": []"),
            ("GET /healthz/ready", "200", "ready"),
            ("GET /logging", "200", "current log filter: info"),
            ("POST /logging?level=warn%2Cweir_hbone%3Dtrace", "200", "weir_hbone=trace,warn"),
            ("GET /logging", "200", "weir_hbone=trace,warn"),
            ("POST /logging?level=weir_hbone=shout", "400", "is no log filter"),
            ("POST /logging?level=inffo", "400", "did you mean info?"),
            ("POST /logging", "400", "expected ?level="),
            ("POST /logging?level=", "400", "expected ?level="),
            ("POST /logging?level=a&level=b", "400", "expected ?level="),
            ("POST /logging?level=%zz", "400", "percent"),
            ("GET /asked?what=a%20b", "200", "\"what\": \"a b\""),
            ("GET /asked?who=a", "400", "there is: what"),
            ("POST /asked", "405", "GET"),
            ("DELETE /logging", "405", "GET"),
            ("GET /quitquitquit", "405", "POST"),
            ("GET /sought?what=a%20b", "200", "\"found\": \"a b\""),
            ("GET /sought?who=a", "400", "there is: what"),
            ("GET /sought?what=%zz", "400", "percent"),
            ("POST /sought", "405", "GET"),
            ("GET /", "404", "/config_dump, /asked, /sought, /logging"),
        ] {
            let answer = server.ask(line, host).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(part), "{line}: {answer}");
        }
        assert_eq!(quits.load(SeqCst), 0);
        assert!(server.ask("POST /quitquitquit", host).await.starts_with("HTTP/1.1 200"));
        assert_eq!(quits.load(SeqCst), 1);
        server.stop().await;
    }
}

#[tokio::test]
async fn web_pages_cannot_reach_the_admin_server() {
    let quits = Arc::new(AtomicU32::new(0));
    let server = start(V4, admin(quits.clone())).await;
    for headers in [
        "Host: evil.example\r\n",
        "Host: evil.example:15000\r\n",
        "Host: localhost\r\nOrigin: https://evil.example\r\n",
        "Host: localhost\r\nHost: evil.example\r\n",
        "",
    ] {
        let answer = server.ask("POST /quitquitquit", headers).await;
        assert!(answer.starts_with("HTTP/1.1 40"), "{headers:?}: {answer}");
    }
    let absolute = server.ask("POST http://evil.example/quitquitquit", "Host: localhost\r\n").await;
    assert!(absolute.starts_with("HTTP/1.1 403"), "{absolute}");
    assert_eq!(quits.load(SeqCst), 0);
    server.stop().await;
}

#[tokio::test]
async fn the_admin_server_does_not_listen_where_others_can_reach_it() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let listener = bind(address.parse().unwrap()).await.unwrap();
        let refused = serve(listener, admin(Arc::default()), std::future::pending()).await;
        assert!(matches!(refused, Err(Error::AdminExposed { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn loopback_is_both_families_on_one_port() {
    let listeners = bind_loopback("localhost:0".parse().unwrap()).await.unwrap();
    let addresses: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    assert!(addresses[0].is_ipv4() && addresses[1].is_ipv6() && addresses[0].port() == addresses[1].port());
    assert!(matches!(bind_loopback(AdminPort(addresses[0].port())).await, Err(Error::Listen { .. })), "taken");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = start(V6, Routes::Ready(Readiness::default())).await;
    let answer = server.ask("GET /healthz/ready", &format!("Host: x\r\nX: {}\r\n", "y".repeat(HEAD_SIZE * 2))).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn clients_that_send_nothing_are_closed_and_others_are_served() {
    let limits = Limits { at_once: 8, head: Duration::from_millis(300), ..LIMITS };
    for address in [V4, V6] {
        let server = start_within(limits, address, Routes::Ready(Readiness::default())).await;
        let began = Instant::now();
        let mut slow = Vec::new();
        for _ in 0..limits.at_once {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(b"GET /healthz/ready HTTP/1.1\r\nX-Slow: ").await.unwrap();
            slow.push(stream);
        }
        // Every place is taken; this one waits in the queue until the slow ones are thrown out.
        let answer = server.ask("GET /healthz/ready", "Host: x\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(began.elapsed() >= limits.head.mul_f64(0.9), "there was a free place: the bound does not hold");
        for mut stream in slow {
            let mut rest = Vec::new();
            // Closed or reset: both end the read.
            let closed = timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
            assert!(closed.is_ok(), "a slow client is still connected");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_never_stops_asking_is_closed_in_the_end() {
    let limits = Limits { connection: Duration::from_millis(300), ..LIMITS };
    let server = start_within(limits, V6, Routes::Ready(Readiness::default())).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let endless = async {
        let mut answer = [0; 1024];
        loop {
            let asked = stream.write_all(b"GET /healthz/ready HTTP/1.1\r\nHost: x\r\n\r\n").await;
            if asked.is_err() || stream.read(&mut answer).await.is_ok_and(|n| n == 0) {
                break;
            }
        }
    };
    timeout(Duration::from_secs(10), endless).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_client_that_never_ends() {
    let server = start(V6, Routes::Ready(Readiness::default())).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /healthz/ready HTTP/1.1\r\n").await.unwrap();
    server.stop().await;
}

#[test]
fn the_admin_port_is_on_localhost_or_nowhere() {
    assert_eq!("localhost:15000".parse::<AdminPort>().unwrap(), AdminPort(15000));
    for bad in ["0.0.0.0:15000", "[::]:15000", "15000", "localhost", "localhost:x"] {
        assert!(bad.parse::<AdminPort>().is_err(), "{bad:?} was taken");
    }
}
