//! What the servers answer. Paths and methods as ztunnel has them.

use std::{fmt, pin::Pin, str::FromStr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Response, StatusCode,
    body::Bytes,
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HOST, HeaderValue, ORIGIN},
    http::request::Parts,
};

use tokio::time::timeout;

use crate::{Exposition, LogHandle, Metrics, Readiness};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const PLAIN_METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a server is for.
#[derive(Debug, Clone)]
pub enum Routes {
    /// `/metrics`, `/stats/prometheus`. Port 15020.
    Stats(Arc<Metrics>),
    /// `/healthz/ready`, and `/ready` as istiod has it. Port 15021.
    Ready(Readiness),
    /// Pages such as `/config_dump`, and `/logging`, `/quitquitquit`, `/healthz/ready`. Port 15000, loopback only.
    Admin(Arc<Admin>),
}

/// A page of JSON, made when it is asked for.
pub type Page = Box<dyn Fn() -> serde_json::Value + Send + Sync>;

/// A page of JSON that answers what its query asks, or says what is wrong with that.
pub type Question = Box<dyn Fn(&Query) -> Result<serde_json::Value, String> + Send + Sync>;

/// A question whose answer others have to be asked for.
pub type Inquiry = Box<dyn Fn(Query) -> Answering + Send + Sync>;

/// Its answer, on its way.
pub type Answering = Pin<Box<dyn Future<Output = Result<serde_json::Value, String>> + Send>>;

/// How long those others may take.
const INQUIRY: Duration = Duration::from_secs(5);

/// What the admin server shows and does.
pub struct Admin {
    /// What the program knows, each page by its path; no keys.
    pub pages: Vec<(&'static str, Page)>,
    /// What it can be asked, each by its path.
    pub questions: Vec<(&'static str, Question)>,
    /// What it has to ask others for, each by its path.
    pub inquiries: Vec<(&'static str, Inquiry)>,
    /// The log filter.
    pub logging: LogHandle,
    /// Told of each new filter, once it is in force.
    pub filtered: Box<dyn Fn(&str) + Send + Sync>,
    /// Whether the program is ready.
    pub readiness: Readiness,
    /// Begins to end the program.
    pub quit: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("logging", &self.logging)
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}

pub(crate) type Answer = Response<Full<Bytes>>;

impl Routes {
    /// The answer to a request; its body is never read.
    pub(crate) async fn answer(&self, request: &Parts) -> Answer {
        match self {
            Self::Stats(metrics) => stats(metrics, request),
            Self::Ready(readiness) => match request.uri.path() {
                "/healthz/ready" | "/ready" => get(request, || ready(readiness)),
                _ => not_found("/healthz/ready, /ready"),
            },
            Self::Admin(admin) => match (foreign(request), admin.inquiry(request)) {
                (Some(refused), _) => refused,
                (None, Some(inquiry)) => inquire(inquiry, request).await,
                (None, None) => admin.answer(request),
            },
        }
    }
}

impl Admin {
    fn inquiry(&self, request: &Parts) -> Option<&Inquiry> {
        let path = request.uri.path();
        self.inquiries.iter().find(|(at, _)| *at == path).map(|(_, inquiry)| inquiry)
    }

    fn answer(&self, request: &Parts) -> Answer {
        let path = request.uri.path();
        if let Some((_, page)) = self.pages.iter().find(|(at, _)| *at == path) {
            return get(request, || json(&page()));
        }
        if let Some((_, question)) = self.questions.iter().find(|(at, _)| *at == path) {
            let query = request.uri.query().unwrap_or_default();
            return get(request, || answered(query.parse().and_then(|query| question(&query))));
        }
        match path {
            "/logging" if request.method == Method::POST => self.set_logging(request.uri.query().unwrap_or_default()),
            "/logging" => get(request, || {
                answer(StatusCode::OK, TEXT, format!("current log filter: {}\n", self.logging.current()))
            }),
            "/quitquitquit" if request.method == Method::POST => {
                (self.quit)();
                answer(StatusCode::OK, TEXT, "shutting down\n".to_owned())
            }
            "/quitquitquit" => not_allowed("POST"),
            "/healthz/ready" => get(request, || ready(&self.readiness)),
            _ => {
                let pages = self.pages.iter().map(|(at, _)| at).chain(self.questions.iter().map(|(at, _)| at));
                let pages = pages.chain(self.inquiries.iter().map(|(at, _)| at));
                let pages: String = pages.map(|at| format!("{at}, ")).collect();
                not_found(&format!("{pages}/logging, /quitquitquit, /healthz/ready"))
            }
        }
    }

    /// `?level=<filter>`, once.
    fn set_logging(&self, query: &str) -> Answer {
        let bad = |reason: String| answer(StatusCode::BAD_REQUEST, TEXT, reason + "\n");
        let Some(level) = query.strip_prefix("level=").filter(|level| !level.is_empty() && !level.contains('&')) else {
            return bad("expected ?level=<filter>, for example ?level=debug or ?level=info,weir_hbone=trace".to_owned());
        };
        let Some(filter) = percent_decoded(level) else {
            return bad(format!("{level:?} is not percent-encoded UTF-8"));
        };
        match self.logging.set(&filter) {
            Ok(()) => {
                (self.filtered)(&filter);
                answer(StatusCode::OK, TEXT, format!("current log filter: {}\n", self.logging.current()))
            }
            Err(error) => bad(error.to_string()),
        }
    }
}

/// The fields of a query, each once. RFC 3986 §3.4, written `name=value&name=value`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// The values of these fields.
    ///
    /// # Errors
    /// If there is another field.
    pub fn fields<const N: usize>(&self, names: [&str; N]) -> Result<[Option<&str>; N], String> {
        match self.0.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            Some((name, _)) => Err(format!("{name:?} is no field of this query, there is: {}", names.join(", "))),
            None => Ok(names.map(|name| self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str()))),
        }
    }
}

impl FromStr for Query {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for field in text.split('&').filter(|field| !field.is_empty()) {
            let (name, value) = field.split_once('=').ok_or_else(|| format!("expected NAME=VALUE, found {field:?}"))?;
            let decoded =
                |text: &str| percent_decoded(text).ok_or_else(|| format!("{text:?} is not percent-encoded UTF-8"));
            let (name, value) = (decoded(name)?, decoded(value)?);
            if fields.iter().any(|(other, _)| *other == name) {
                return Err(format!("{name:?} is there twice"));
            }
            fields.push((name, value));
        }
        Ok(Self(fields))
    }
}

/// Asks on, for a bounded time.
async fn inquire(inquiry: &Inquiry, request: &Parts) -> Answer {
    if request.method != Method::GET && request.method != Method::HEAD {
        return not_allowed("GET, HEAD");
    }
    match request.uri.query().unwrap_or_default().parse() {
        Err(why) => answered(Err(why)),
        Ok(query) => match timeout(INQUIRY, inquiry(query)).await {
            Ok(result) => answered(result),
            Err(_late) => answer(StatusCode::GATEWAY_TIMEOUT, TEXT, format!("no answer within {INQUIRY:?}\n")),
        },
    }
}

/// The answer to a question, or what is wrong with it.
fn answered(result: Result<serde_json::Value, String>) -> Answer {
    match result {
        Ok(value) => json(&value),
        Err(why) => answer(StatusCode::BAD_REQUEST, TEXT, why + "\n"),
    }
}

fn json(value: &serde_json::Value) -> Answer {
    serde_json::to_string_pretty(value).map_or_else(
        |error| answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        |page| answer(StatusCode::OK, JSON, page + "\n"),
    )
}

fn stats(metrics: &Metrics, request: &Parts) -> Answer {
    match request.uri.path() {
        "/metrics" | "/stats/prometheus" => get(request, || {
            let accepts = request.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
            match accepts.into_iter().any(|value| value.contains("application/openmetrics-text")) {
                true => answer(StatusCode::OK, OPEN_METRICS, metrics.render(Exposition::OpenMetrics)),
                false => answer(StatusCode::OK, PLAIN_METRICS, metrics.render(Exposition::Plain)),
            }
        }),
        _ => not_found("/metrics, /stats/prometheus"),
    }
}

fn ready(readiness: &Readiness) -> Answer {
    let waiting = readiness.waiting_for();
    if waiting.is_empty() {
        return answer(StatusCode::OK, TEXT, "ready\n".to_owned());
    }
    answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready, waiting for: {}\n", waiting.join(", ")))
}

/// A page in somebody's browser can reach loopback too: by a name of its own that resolves to it (the Host is then that name), or
/// by a plain cross-site request (which carries an Origin).
fn foreign(request: &Parts) -> Option<Answer> {
    let refused = |reason: &str| Some(answer(StatusCode::FORBIDDEN, TEXT, format!("refused: {reason}\n")));
    if request.headers.contains_key(ORIGIN) {
        return refused("this server is not for web pages (the request has an Origin)");
    }
    let mut hosts = request.headers.get_all(HOST).iter().map(HeaderValue::to_str);
    let host = match (request.uri.authority(), hosts.next(), hosts.next()) {
        (_, _, Some(_)) => return refused("several Host headers"),
        (Some(authority), _, None) => authority.as_str(),
        (None, Some(Ok(host)), None) => host,
        (None, Some(Err(_)) | None, None) => return refused("no Host header that can be read"),
    };
    if is_loopback_name(host) { None } else { refused("the Host is not localhost, 127.0.0.1 or [::1]") }
}

fn is_loopback_name(host: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| {
        let rest = host.get(..name.len()).filter(|head| head.eq_ignore_ascii_case(name)).map(|_| &host[name.len()..]);
        rest.is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
        })
    })
}

fn get(request: &Parts, make: impl FnOnce() -> Answer) -> Answer {
    if request.method == Method::GET || request.method == Method::HEAD { make() } else { not_allowed("GET, HEAD") }
}

fn not_allowed(methods: &'static str) -> Answer {
    let mut answer = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("expected {methods}\n"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}

fn not_found(paths: &str) -> Answer {
    answer(StatusCode::NOT_FOUND, TEXT, format!("not found, there is: {paths}\n"))
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// RFC 3986 §2.1.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        let digits = std::str::from_utf8(&digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        out.push(u8::from_str_radix(digits, 16).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_loopback_pass_as_hosts() {
        for good in ["localhost", "LOCALHOST:15000", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:15000"] {
            assert!(is_loopback_name(good), "{good:?} was refused");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "localhost:",
            "localhost:x",
            "127.0.0.1.evil",
            "localhost@evil",
            "::1",
            "10.0.0.1",
            "ö",
        ] {
            assert!(!is_loopback_name(bad), "{bad:?} was taken");
        }
    }

    #[test]
    fn the_fields_of_a_query_are_those_asked_for_each_once() {
        let fields = |text: &str| {
            let query: Query = text.parse()?;
            query.fields(["from", "to"]).map(|fields| fields.map(|field| field.map(str::to_owned)))
        };
        let some = |text: &str| Some(text.to_owned());
        for (text, want) in [
            ("", Ok([None, None])),
            ("to=a%2Fb:80&from=x/y@fd00::1", Ok([some("x/y@fd00::1"), some("a/b:80")])),
            ("from=", Ok([some(""), None])),
            ("from", Err("expected NAME=VALUE, found \"from\"")),
            ("from=a&from=b", Err("\"from\" is there twice")),
            ("from=%ff", Err("\"%ff\" is not percent-encoded UTF-8")),
            ("form=a", Err("\"form\" is no field of this query, there is: from, to")),
        ] {
            assert_eq!(fields(text), want.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_query_is_decoded_or_refused() {
        for (text, want) in [
            ("info%2Cweir_hbone%3Dtrace", Some("info,weir_hbone=trace")),
            ("debug", Some("debug")),
            ("%", None),
            ("%4", None),
            ("%+1", None),
            ("%ff", None),
        ] {
            assert_eq!(percent_decoded(text).as_deref(), want, "{text}");
        }
    }
}
