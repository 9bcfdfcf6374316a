//! What a decision on a request costs with twenty policies of five rules over its service. One JSON object out.
#![expect(clippy::unwrap_used, reason = "a benchmark may stop where its world is not as it must be")]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use weir_authz::{
    Destination, Peer, Ruling,
    http::{HttpClause, HttpFacts, HttpField, HttpMatch, HttpPolicies, HttpPolicy, HttpRule, Part, PathPattern},
};
use weir_model::{PolicyAction, PolicyKind, PolicyName, PolicySource, Port, RulePlace, Sides, SpiffeId, TextMatch};
use weir_request::{Header, Normalization, Parts, Request};

const POLICIES: u32 = 20;
/// Decisions of one sample, and samples.
const ROUND: u32 = 1_000;
const SAMPLES: usize = 200;

fn main() {
    let rounds = if std::env::args().any(|argument| argument == "--quick") { 10 } else { SAMPLES };
    let policies = HttpPolicies::new((0..POLICIES).map(|n| Arc::new(policy(n))), Normalization::Base);
    let identity: SpiffeId = "spiffe://cluster.local/ns/web/sa/front".parse().unwrap();
    let peer = Peer { identity: Some(&identity), address: "10.1.2.3".parse().unwrap() };
    let destination = Destination { address: "10.0.0.7".parse().unwrap(), port: Port::new(80).unwrap() };
    let names = ["accept", "user-agent", "x-request-id", "x-forwarded-for", "x-forwarded-proto", "cookie", "x-tenant"];
    let headers = names.map(|name| Header { name, value: b"some value of a header" });
    let mut row = serde_json::Map::new();
    for (name, target, want) in [
        ("admitted_last_us", "/api/v19/orders/7", Ruling::Allow),
        ("refused_us", "/nowhere", Ruling::Deny),
        ("respelt_us", "/api/v19/orders;x=1/%40me", Ruling::Allow),
    ] {
        let parts = Parts { method: "GET", scheme: "http", authority: "shop.shop:80", target, headers: &headers };
        let request = Request::read(parts, Normalization::Base).unwrap();
        let facts =
            HttpFacts { peer, destination, request: &request, token: None, remote: peer.address, sni: Some("shop") };
        assert_eq!(policies.decide(&facts).ruling, want, "{target}");
        row.insert(name.to_owned(), micros(median(rounds, || policies.decide(black_box(&facts)).ruling)).into());
    }
    println!("{}", serde_json::Value::Object(row));
}

/// A third each asks for peers, for headers and for the path; the last admits.
fn policy(n: u32) -> HttpPolicy {
    let text = |text: &str| -> Sides<TextMatch> { Sides::any([text.parse().unwrap()]) };
    let path = |text: String| HttpField::Paths(Sides::any([PathPattern::text(text.parse().unwrap()).unwrap()]));
    let get = || HttpField::Methods(text("GET"));
    let fields = [
        vec![HttpField::Principals(text(&format!("cluster.local/ns/tenant-{n}/sa/*"))), get()],
        vec![get(), HttpField::Header { name: "x-tenant".into(), values: text(&format!("tenant-{n}")) }],
        vec![path(format!("/internal/v{n}/*"))],
        vec![HttpField::Hosts(text(&format!("*.tenant-{n}.example.com"))), path("/*".to_owned())],
        vec![get(), path(format!("/api/v{n}/*"))],
    ];
    let name = format!("policy-{n:02}");
    let deny = n < POLICIES / 2;
    HttpPolicy {
        name: PolicyName::new("shop".parse().unwrap(), &name).unwrap(),
        action: if deny { PolicyAction::Deny } else { PolicyAction::Allow },
        dry_run: false,
        rules: (0..).zip(fields).map(rule).collect(),
        rejected: None,
        source: PolicySource { kind: PolicyKind::Authorization, name: name.into(), file: None },
    }
}

fn rule((index, fields): (u32, Vec<HttpField>)) -> HttpRule {
    let clauses = vec![HttpClause { part: Part::To, alternatives: vec![HttpMatch(fields)] }];
    HttpRule { place: RulePlace { index: Some(index), line: None }, clauses }
}

fn median<T>(samples: usize, work: impl Fn() -> T) -> Duration {
    let mut times: Vec<Duration> = (0..samples)
        .map(|_| {
            let start = Instant::now();
            (0..ROUND).for_each(|_| drop(black_box(work())));
            start.elapsed() / ROUND
        })
        .collect();
    times.sort_unstable();
    times.get(samples / 2).copied().unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
