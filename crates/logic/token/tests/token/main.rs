//! Tokens made by OpenSSL, or by whoever forges them, under rules as people write them.
#![expect(clippy::unwrap_used, reason = "a test may stop where its scene is not as it must be")]

mod claims;
mod forged;
mod places;
mod signatures;
mod signer;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use weir_manifest::{FileName, KeySource, PolicySpec, parse};
use weir_request::{Header, Normalization, Parts, Request};
use weir_token::{Checked, KeySet, Proven, Rejected, TokenRules};

/// The time of all tests, in seconds since 1970.
const NOW: u64 = 1_900_000_000;

type Fetched = HashMap<KeySource, Arc<KeySet>>;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The rules of objects, each given as the items of its `jwtRules`.
fn rules(objects: &[&str]) -> TokenRules {
    let specs: Vec<_> = objects
        .iter()
        .map(|rules| {
            let head = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: a}\n";
            let text = format!("{head}spec:\n  jwtRules:\n{rules}\n");
            let read = parse(&[(FileName::new("f.yaml"), &text)]).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
            let spec = read.policies.into_iter().next().unwrap().spec;
            let PolicySpec::RequestAuthentication(spec) = spec else { panic!("{spec:?}") };
            spec
        })
        .collect();
    TokenRules::new(&specs)
}

/// One rule for the issuer `i` with these keys and more fields.
fn rule(keys: &[String], more: &str) -> TokenRules {
    rules(&[&rule_text("i", keys, more)])
}

fn rule_text(issuer: &str, keys: &[String], more: &str) -> String {
    format!("  - {{issuer: {issuer}, jwks: '{{\"keys\":[{}]}}'{more}}}", keys.join(","))
}

fn check(rules: &TokenRules, target: &str, headers: &[(&str, &str)]) -> Result<Checked, Rejected> {
    check_at(rules, &Fetched::new(), target, headers, NOW, &mut Proven::new(0))
}

fn check_at(
    rules: &TokenRules,
    fetched: &Fetched,
    target: &str,
    headers: &[(&str, &str)],
    seconds: u64,
    proven: &mut Proven,
) -> Result<Checked, Rejected> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
    let parts = Parts { method: "GET", scheme: "http", authority: "shop:80", target, headers: &headers };
    let request = Request::read(parts, Normalization::Base).unwrap();
    rules.check_with(&request, fetched, at(seconds), proven)
}

/// What came of a token in the header that everybody uses: whose it is, or the words to refuse it with.
fn bearer(rules: &TokenRules, token: &str) -> Result<Option<String>, String> {
    let value = format!("Bearer {token}");
    said(check(rules, "/", &[("authorization", &value)]))
}

fn said(outcome: Result<Checked, Rejected>) -> Result<Option<String>, String> {
    let principal = |checked: Checked| checked.verified.and_then(|verified| verified.principal);
    outcome.map(|checked| principal(checked).map(|name| name.to_string())).map_err(|error| error.to_string())
}

fn refused(words: &str) -> Result<Option<String>, String> {
    Err(words.to_owned())
}

fn good(principal: &str) -> Result<Option<String>, String> {
    Ok(Some(principal.to_owned()))
}
