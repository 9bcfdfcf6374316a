//! Keys fetched from issuers on loopback that rotate, fail, hang and lie.
#![expect(clippy::unwrap_used, reason = "a test may stop where its scene is not as it must be")]

mod server;

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use server::{Answer, FIRST, Issuer, SECOND, Version, certificate, keys};
use tempfile::NamedTempFile;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tracing::{Subscriber, field::Visit};
use weir_jwks::{Allowed, Config, Fetcher, Handle, Roots, RootsError};
use weir_manifest::KeySource;
use weir_token::{KeySet, Keys};

const PATIENCE: Duration = Duration::from_secs(20);

fn loopback() -> Allowed {
    Allowed::new(["127.0.0.0/8", "::1"]).unwrap()
}

/// Impatient: nothing is fetched again by itself, and an unknown key causes a fetch at once.
fn config() -> Config {
    let hour = Duration::from_secs(3_600);
    Config { allowed: loopback(), refresh: hour, pause: Duration::ZERO, retry: hour, ..Config::default() }
}

/// A fetcher that runs until the handle is dropped.
fn fetcher(config: Config) -> (Handle, JoinHandle<()>) {
    let (fetcher, handle) = Fetcher::new(config).unwrap();
    (handle, tokio::spawn(fetcher.run()))
}

fn uri(url: &str) -> KeySource {
    KeySource::Uri(url.parse().unwrap())
}

/// Waits until a thing is so.
async fn until<T>(what: &str, mut is_so: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = is_so() {
            return value;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// The name of the only key.
fn kid(keys: &KeySet) -> String {
    format!("{keys:?}")
}

fn now(handle: &Handle, source: &KeySource) -> Option<String> {
    handle.keys(source).map(|keys| kid(&keys))
}

fn named(name: &str) -> String {
    format!("[Some({name:?})]")
}

#[tokio::test]
async fn keys_are_fetched_and_fetched_anew_when_a_token_has_an_unknown_one() {
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let issuer = Issuer::new(bind, keys("a", FIRST), None).await;
        let source = uri(&format!("http://{}/keys?x=1", issuer.address));
        let (handle, task) = fetcher(config());
        assert!(handle.keys(&source).is_none());
        // Who is not followed is not asked.
        handle.renew(&source).await;
        assert_eq!(issuer.asked(), 0);
        handle.follow([(&source, PATIENCE)]);
        // The first token may come before the first keys.
        handle.renew(&source).await;
        assert_eq!(now(&handle, &source), Some(named("a")));
        let head = issuer.heads()[0].to_ascii_lowercase();
        assert!(head.starts_with("get /keys?x=1 http/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nhost: {}\r\n", issuer.address)), "{head}");
        let first = handle.keys(&source).unwrap();
        handle.renew(&source).await;
        assert!(Arc::ptr_eq(&first, &handle.keys(&source).unwrap()), "the same keys are the same");
        issuer.answers(keys("b", SECOND));
        handle.renew(&source).await;
        assert_eq!(now(&handle, &source), Some(named("b")));
        // Followed no more, it is known no more.
        handle.follow([]);
        until("the keys are forgotten", || handle.keys(&source).is_none().then_some(())).await;
        drop(handle);
        timeout(PATIENCE, task).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn many_that_want_the_same_cause_one_fetch_and_soon_after_none() {
    let issuer = Issuer::new("127.0.0.1:0", Answer::Silence, None).await;
    let source = uri(&format!("http://{}/", issuer.address));
    let pause = Duration::from_secs(3_600);
    let (handle, _task) = fetcher(Config { pause, retry: Duration::from_millis(1), ..config() });
    handle.follow([(&source, Duration::from_millis(200))]);
    until("the issuer is asked", || (issuer.asked() == 1).then_some(())).await;
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let (handle, source) = (handle.clone(), source.clone());
            tokio::spawn(async move { handle.renew(&source).await })
        })
        .collect();
    issuer.answers(keys("a", FIRST));
    for waiting in waiting {
        timeout(PATIENCE, waiting).await.unwrap().unwrap();
    }
    until("the keys come", || handle.keys(&source)).await;
    // The one that hung, and the one after it; more only if a fetch on a busy machine takes too long.
    let asked = issuer.asked();
    for _ in 0..50 {
        handle.renew(&source).await;
    }
    assert!((2..10).contains(&asked), "{asked}");
    assert_eq!(issuer.asked(), asked);
}

#[tokio::test]
async fn keys_are_refreshed_by_themselves_and_outlive_outages() {
    let issuer = Issuer::new("127.0.0.1:0", keys("a", FIRST), None).await;
    let source = uri(&format!("http://{}/", issuer.address));
    let soon = Duration::from_millis(10);
    let (handle, _task) = fetcher(Config { refresh: soon, retry: soon, ..config() });
    handle.follow([(&source, Duration::from_millis(100))]);
    until("the keys come", || handle.keys(&source)).await;
    let first = handle.keys(&source).unwrap();
    for answer in [
        Answer::Status(500, "x: y"),
        Answer::Silence,
        Answer::Endless { said: true },
        Answer::Noise,
        Answer::Half,
        Answer::Body("{\"keys\":[]}".to_owned()),
        Answer::Body("<html>".to_owned()),
    ] {
        issuer.answers(answer.clone());
        let asked = issuer.asked();
        until("it fails twice", || (issuer.asked() > asked + 2).then_some(())).await;
        assert!(Arc::ptr_eq(&first, &handle.keys(&source).unwrap()), "{answer:?}");
    }
    issuer.answers(keys("b", SECOND));
    until("the keys come", || (now(&handle, &source) == Some(named("b"))).then_some(())).await;
}

#[tokio::test]
async fn every_failure_is_told_and_leaves_no_keys() {
    let (said, _guard) = Said::listen();
    let other = Issuer::new("127.0.0.1:0", keys("a", FIRST), None).await;
    let location: &'static str = Box::leak(format!("location: http://{}/", other.address).into_boxed_str());
    for (answer, want) in [
        (Answer::Status(404, "x: y"), "status 404, expected 200"),
        (Answer::Status(204, "x: y"), "status 204, expected 200"),
        (Answer::Status(302, location), "status 302, expected 200"),
        (Answer::Status(307, location), "status 307, expected 200"),
        (Answer::Silence, "no answer in time"),
        (Answer::Endless { said: true }, "more than 1048576 bytes"),
        (Answer::Endless { said: false }, "more than 1048576 bytes"),
        (Answer::Noise, "HTTP: invalid HTTP version parsed"),
        (Answer::Half, "HTTP: "),
        (Answer::Body("x".to_owned()), "no JSON Web Key Set: no JSON at line 1, column 1"),
        (Answer::Body("{}".to_owned()), "no JSON Web Key Set: no object with a list \"keys\""),
    ] {
        let issuer = Issuer::new("127.0.0.1:0", answer.clone(), None).await;
        let source = uri(&format!("http://{}/", issuer.address));
        let (handle, _task) = fetcher(config());
        // Only one that says nothing takes the time it has.
        let wait = if matches!(answer, Answer::Silence) { Duration::from_millis(50) } else { PATIENCE };
        handle.follow([(&source, wait)]);
        let text = until("the failure is told", || said.about(&issuer.address.to_string())).await;
        assert!(text.contains(want), "{answer:?}: {text}");
        assert!(handle.keys(&source).is_none(), "{answer:?}");
    }
    assert_eq!(other.asked(), 0, "a redirect was followed");
}

#[tokio::test]
async fn addresses_that_are_not_allowed_are_not_asked() {
    let (said, _guard) = Said::listen();
    for (bind, host) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "[::1]"), ("127.0.0.1:0", "localhost")] {
        let issuer = Issuer::new(bind, keys("a", FIRST), None).await;
        let port = issuer.address.port();
        let source = uri(&format!("http://{host}:{port}/"));
        // A name that is allowed does not open loopback: whoever owns it says where it leads.
        let allowed = Allowed::new(["localhost"]).unwrap();
        let (handle, _task) = fetcher(Config { allowed, ..config() });
        handle.follow([(&source, PATIENCE)]);
        let text = until("the failure is told", || said.about(&format!(":{port}/"))).await;
        assert!(text.contains("is not to be asked: it is loopback, and its network is not allowed"), "{text}");
        assert_eq!((issuer.asked(), handle.keys(&source).is_none()), (0, true), "{host}");
        let (handle, _task) = fetcher(config());
        handle.follow([(&source, PATIENCE)]);
        until("the keys come", || handle.keys(&source)).await;
        assert_eq!(issuer.asked(), 1, "{host}");
    }
    let metadata = uri("http://169.254.169.254/latest/meta-data");
    let allowed = Allowed::new(["0.0.0.0/0"]).unwrap();
    let (handle, _task) = fetcher(Config { allowed, ..config() });
    handle.follow([(&metadata, PATIENCE)]);
    let text = until("the failure is told", || said.about("169.254.169.254/")).await;
    assert!(text.contains("it is link-local, or of a cloud's metadata"), "{text}");
}

#[tokio::test]
async fn over_tls_the_host_proves_its_name_to_the_roots_of_the_file() {
    let (said, _guard) = Said::listen();
    for (name, host, version, is_good) in [
        ("localhost", "localhost", Version::Tls13, true),
        ("localhost", "localhost", Version::Tls12, true),
        ("127.0.0.1", "127.0.0.1", Version::Tls13, true),
        ("other.example", "localhost", Version::Tls13, false),
    ] {
        let (root, acceptor) = certificate(name, version);
        let issuer = Issuer::new("127.0.0.1:0", keys("a", FIRST), Some(acceptor)).await;
        let port = issuer.address.port();
        let source = uri(&format!("https://{host}:{port}/"));
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(root.as_bytes()).unwrap();
        let roots = Roots { file: Some(file.path().to_owned()) };
        let (handle, _task) = fetcher(Config { roots, ..config() });
        handle.follow([(&source, PATIENCE)]);
        if is_good {
            until("the keys come", || handle.keys(&source)).await;
        }
        // The system's own roots know nothing of it.
        let (handle, _task) = fetcher(config());
        handle.follow([(&source, PATIENCE)]);
        let text = until("the failure is told", || said.about(&format!(":{port}/"))).await;
        assert!(text.contains("TLS: invalid peer certificate"), "{text}");
        assert!(handle.keys(&source).is_none());
    }
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let empty = NamedTempFile::new().unwrap();
    for path in [file.path(), empty.path()] {
        let roots = Roots { file: Some(path.to_owned()) };
        let error = Fetcher::new(Config { roots, ..config() }).unwrap_err();
        assert!(matches!(error, RootsError::Pem { .. }), "{error}");
    }
    let roots = Roots { file: Some("/nowhere/roots.pem".into()) };
    let error = Fetcher::new(Config { roots, ..config() }).unwrap_err();
    assert!(matches!(error, RootsError::File { .. }), "{error}");
}

#[tokio::test]
async fn an_issuer_says_itself_where_its_keys_are() {
    let (said, _guard) = Said::listen();
    let holder = Issuer::new("127.0.0.1:0", keys("a", FIRST), None).await;
    let issuer = Issuer::new("127.0.0.1:0", Answer::Silence, None).await;
    let name = format!("http://{}", issuer.address);
    let jwks_uri = format!("http://{}/keys", holder.address);
    issuer.answers(Answer::Body(format!(r#"{{"issuer":"{name}","jwks_uri":"{jwks_uri}"}}"#)));
    let source = KeySource::of_issuer(&name).unwrap();
    let (handle, _task) = fetcher(config());
    handle.follow([(&source, PATIENCE)]);
    until("the keys come", || handle.keys(&source)).await;
    assert!(
        issuer.heads()[0].starts_with("GET /.well-known/openid-configuration HTTP/1.1\r\n"),
        "{:?}",
        issuer.heads()
    );
    assert!(holder.heads()[0].starts_with("GET /keys HTTP/1.1\r\n"), "{:?}", holder.heads());
    // Where it leads is judged as well.
    for (answer, want) in [
        (r#"{"issuer":"http://other","jwks_uri":"http://127.0.0.1/"}"#.to_owned(), "no configuration of that issuer"),
        (
            format!(r#"{{"issuer":"{name}","jwks_uri":"http://169.254.169.254/"}}"#),
            "169.254.169.254 is not to be asked",
        ),
        (format!(r#"{{"issuer":"{name}","jwks_uri":"http://10.0.0.1/"}}"#), "10.0.0.1 is not to be asked"),
    ] {
        issuer.answers(Answer::Body(answer));
        said.forget();
        handle.renew(&source).await;
        let text = until("the failure is told", || said.about(&name)).await;
        assert!(text.contains(want), "{text}");
        assert_eq!(now(&handle, &source), Some(named("a")));
    }
}

#[tokio::test]
async fn sources_that_hang_hold_up_no_others_for_long() {
    let silent = Issuer::new("127.0.0.1:0", Answer::Silence, None).await;
    let good = Issuer::new("127.0.0.1:0", keys("a", FIRST), None).await;
    let hanging: Vec<KeySource> = (0..20).map(|n| uri(&format!("http://{}/{n}", silent.address))).collect();
    let source = uri(&format!("http://{}/", good.address));
    let (handle, _task) = fetcher(config());
    let short = Duration::from_millis(50);
    handle.follow(hanging.iter().map(|source| (source, short)).chain([(&source, PATIENCE)]));
    until("the keys come", || handle.keys(&source)).await;
    until("all are asked", || (silent.asked() == 20).then_some(())).await;
}

/// What is logged in this thread.
#[derive(Debug, Clone, Default)]
struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        // Without one for all threads, a line that another test writes first would be off for this one, too.
        drop(tracing::subscriber::set_global_default(Self::default()));
        let said = Self::default();
        (said.clone(), tracing::subscriber::set_default(said))
    }

    /// A line about a place.
    fn about(&self, place: &str) -> Option<String> {
        self.0.lock().unwrap().iter().find(|line| line.contains(place) && line.contains("error")).cloned()
    }

    fn forget(&self) {
        self.0.lock().unwrap().clear();
    }
}

impl Subscriber for Said {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("weir_jwks")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }

    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.0.push_str(&format!("{field}={value} "));
    }
}
