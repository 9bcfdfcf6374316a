//! What browsers are told: requests in, headers out.

use super::*;
use crate::{
    pattern::Pattern,
    testing::{parts, request_of},
};

fn exact(text: &str) -> OriginMatch {
    OriginMatch::text(StringMatch::Exact(text.into()))
}

fn policy() -> Cors {
    Cors { origins: vec![exact("https://ui.example.com")], ..Cors::default() }
}

/// What a request with these headers is told: nothing, or what it is and the headers.
fn told(cors: &Cors, method: &str, headers: &[(&str, &str)]) -> String {
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| weir_request::Header { name, value: value.as_bytes() }).collect();
    let request = request_of(weir_request::Parts { headers: &headers, ..parts(method, "/") });
    let (what, fields) = match cors.answer(&request) {
        CorsAnswer::Silent => return "silent".to_owned(),
        CorsAnswer::Preflight(fields) => ("preflight", fields),
        CorsAnswer::Actual(fields) => ("actual", fields),
    };
    let short = |name: &str| name.trim_start_matches("access-control-").to_owned();
    let fields = fields.0.iter().map(|(name, value)| format!(" {}={value}", short(name)));
    format!("{what}{}", fields.collect::<String>())
}

const ORIGIN: (&str, &str) = ("origin", "https://ui.example.com");
const OTHER: (&str, &str) = ("origin", "https://evil.example.com");
const PUT: (&str, &str) = ("access-control-request-method", "PUT");

#[test]
fn a_browser_is_told_what_the_policy_says() {
    let full = Cors {
        methods: vec!["GET".into(), "PUT".into()],
        request_headers: vec!["x-a".into(), "x-b".into()],
        exposed_headers: vec!["x-c".parse().unwrap(), "x-d".parse().unwrap()],
        max_age: Some(Duration::from_secs(86_400)),
        credentials: Credentials::Allowed,
        ..policy()
    };
    let wild = Cors { methods: vec!["*".into()], request_headers: vec!["*".into()], ..policy() };
    let wild_with = Cors { credentials: Credentials::Allowed, ..wild.clone() };
    let strict = Cors { unmatched: Unmatched::Answered, ..policy() };
    let asked = [ORIGIN, PUT, ("access-control-request-headers", "x-z, x-y")];
    for (cors, method, headers, want) in [
        (&policy(), "GET", &[][..], "silent"),
        (&policy(), "GET", &[("origin", "")], "silent"),
        (&policy(), "GET", &[ORIGIN], "actual allow-origin=https://ui.example.com vary=origin"),
        (&policy(), "GET", &[OTHER], "silent"),
        // Not a preflight without the method it asks for, nor with another method.
        (&policy(), "OPTIONS", &[ORIGIN], "actual allow-origin=https://ui.example.com vary=origin"),
        (&policy(), "GET", &[ORIGIN, PUT], "actual allow-origin=https://ui.example.com vary=origin"),
        (&policy(), "OPTIONS", &[ORIGIN, PUT], "preflight allow-origin=https://ui.example.com vary=origin"),
        (&policy(), "OPTIONS", &[OTHER, PUT], "silent"),
        (&strict, "OPTIONS", &[OTHER, PUT], "preflight"),
        (&strict, "GET", &[OTHER], "silent"),
        // Two origins are none.
        (&policy(), "GET", &[ORIGIN, ORIGIN], "silent"),
        (
            &full,
            "GET",
            &[ORIGIN],
            "actual allow-origin=https://ui.example.com allow-credentials=true vary=origin expose-headers=x-c,x-d",
        ),
        (
            &full,
            "OPTIONS",
            &asked,
            "preflight allow-origin=https://ui.example.com allow-credentials=true vary=origin allow-methods=GET,PUT \
             allow-headers=x-a,x-b max-age=86400",
        ),
        (
            &wild,
            "OPTIONS",
            &asked,
            "preflight allow-origin=https://ui.example.com vary=origin allow-methods=* allow-headers=*",
        ),
        (
            &wild_with,
            "OPTIONS",
            &asked,
            "preflight allow-origin=https://ui.example.com allow-credentials=true vary=origin allow-methods=PUT \
             allow-headers=x-z, x-y",
        ),
        (
            &wild_with,
            "OPTIONS",
            &[ORIGIN, PUT],
            "preflight allow-origin=https://ui.example.com allow-credentials=true vary=origin allow-methods=PUT",
        ),
    ] {
        assert_eq!(told(cors, method, headers), want, "{method} {headers:?}");
    }
}

#[test]
fn what_the_application_says_of_cors_gives_way() {
    let own = [("vary", "accept"), ("access-control-allow-origin", "*"), ("x", "y")];
    let own = Fields(own.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec());
    let headers = [weir_request::Header { name: ORIGIN.0, value: ORIGIN.1.as_bytes() }];
    let answer = policy().answer(&request_of(weir_request::Parts { headers: &headers, ..parts("GET", "/") }));
    let mut told = own.clone();
    answer.apply(&mut told);
    let want = [("vary", "accept"), ("x", "y"), ("access-control-allow-origin", ORIGIN.1), ("vary", "origin")];
    assert_eq!(told.0, want.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let mut untold = own.clone();
    CorsAnswer::Silent.apply(&mut untold);
    assert_eq!(untold, own);
}

#[test]
fn origins_are_compared_as_their_kind_says() {
    let pattern = |text: &str| OriginMatch::pattern(text).unwrap();
    for (wanted, origin, want) in [
        (exact("https://a.b"), "https://a.b", true),
        (exact("https://a.b"), "https://a.b:443", false),
        (exact("*"), "null", true),
        (OriginMatch::text(StringMatch::Prefix("https://a".into())), "https://a.evil", true),
        (OriginMatch::text(StringMatch::Regex(Pattern::new("https://a[.]b").unwrap())), "https://a.b.evil", false),
        (pattern("*"), "null", true),
        (pattern("https://a.b"), "https://a.b", true),
        (pattern("https://a.b"), "https://a.b:443", true),
        (pattern("http://a.b:80"), "http://a.b", true),
        (pattern("https://a.b"), "http://a.b", false),
        (pattern("https://a.b"), "https://a.b:8443", false),
        (pattern("https://*.a.b"), "https://x.y.a.b", true),
        (pattern("https://*.a.b"), "https://a.b", false),
        (pattern("https://*.a.b"), "https://x.a.b.evil", false),
        (pattern("https://*.a.b:8443"), "https://x.a.b:8443", true),
        (pattern("https://*"), "https://anything", true),
        (pattern("https://*"), "http://anything", false),
        (pattern("http://[::1]"), "http://[::1]", true),
        (pattern("http://[::1]:81"), "http://[::1]:81", true),
        (pattern("https://a.b"), "null", false),
    ] {
        assert_eq!(wanted.matches(origin), want, "{wanted:?} {origin}");
    }
    for bad in ["", "a.b", "ftp://a.b", "https://", "https://a.*.b", "https://a.b:0", "https://a.b/c", "https://**"] {
        assert!(OriginMatch::pattern(bad).is_err(), "{bad}");
    }
}
