//! Any RequestAuthentication.

use std::time::Duration;

use super::*;
use crate::{
    Jwks,
    object::{ClaimToHeader, HeaderName, KeySource, Presence, RequestAuthenticationSpec, TokenHeader, TokenRule},
};

const KEY: &str = r#"{ "kty":"OKP", "crv":"Ed25519", "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }"#;

fn header() -> impl Strategy<Value = HeaderName> + Clone {
    "x-[a-z0-9_.!-]{1,8}".prop_map(|name| name.parse().unwrap())
}

fn shared_words() -> impl Strategy<Value = Arc<str>> {
    words().prop_map(Into::into)
}

/// A source, and an issuer that has such a one.
fn keys() -> impl Strategy<Value = (Arc<str>, KeySource)> {
    let url = "(https?|HTTPS)://([a-z]{1,5}\\.example|10\\.0\\.0\\.1|\\[fd00::1\\])(:80)?(/[a-z%20]{0,5})?(\\?x=1)?";
    let inline = (words(), vec(Just(KEY), 1..3), "[ \n]{0,3}");
    let inline = inline.prop_map(|(issuer, keys, space)| {
        let text = format!("{{\"keys\":{space}[{}]}}", keys.join(","));
        (issuer.into(), KeySource::Inline(Jwks::read(text.as_bytes()).unwrap()))
    });
    prop_oneof![
        (words(), url).prop_map(|(issuer, url)| (issuer.into(), KeySource::Uri(url.parse().unwrap()))),
        inline,
        "https://[a-z]{1,5}(/[a-z]{1,5})?/?".prop_map(|issuer| {
            let keys = KeySource::of_issuer(&issuer).unwrap();
            (issuer.into(), keys)
        }),
    ]
}

fn claims() -> impl Strategy<Value = Vec<ClaimToHeader>> {
    vec((header(), shared_words()), 0..3).prop_map(|claims| {
        let by_header: BTreeMap<_, _> = claims.into_iter().collect();
        by_header.into_iter().map(|(header, claim)| ClaimToHeader { header, claim }).collect()
    })
}

pub(super) fn any_request_authentication() -> impl Strategy<Value = PolicySpec> {
    let prefix = prop_oneof![Just(Arc::<str>::from("")), shared_words()];
    let from_headers = vec((header(), prefix).prop_map(|(name, prefix)| TokenHeader { name, prefix }), 0..3);
    let texts = || vec(shared_words(), 0..3);
    let cookies = vec("[a-zA-Z0-9_.~-]{1,8}".prop_map(Into::into), 0..3);
    let from = (from_headers, texts(), cookies, texts(), texts());
    let out = (prop::option::of(header()), any::<bool>(), claims());
    let timeout = prop::option::of((1_000_000..=3_600_000_000_000_u64).prop_map(Duration::from_nanos));
    let presence = select(vec![Presence::Optional, Presence::Required]);
    let rule = (keys(), from, out, timeout, presence).prop_map(|((issuer, keys), from, out, timeout, presence)| {
        let (from_headers, from_params, from_cookies, audiences, space_delimited_claims) = from;
        let (output_payload_to_header, forward_original_token, output_claim_to_headers) = out;
        TokenRule {
            line: 0,
            issuer,
            audiences,
            keys,
            from_headers,
            from_params,
            from_cookies,
            output_payload_to_header,
            forward_original_token,
            output_claim_to_headers,
            timeout,
            space_delimited_claims,
            presence,
        }
    });
    vec(rule, 0..3).prop_map(|rules| PolicySpec::RequestAuthentication(RequestAuthenticationSpec { rules }))
}
