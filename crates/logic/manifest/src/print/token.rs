//! What a RequestAuthentication says, on its way to text.

use std::{sync::Arc, time::Duration};

use super::{Out, field, map, text};
use crate::object::{KeySource, Presence, RequestAuthenticationSpec, TokenRule};

/// `spec`, without what it is about.
pub(super) fn request_authentication(said: &RequestAuthenticationSpec, spec: &mut Vec<(String, Out)>) {
    if !said.rules.is_empty() {
        spec.push(field("jwtRules", Out::List(said.rules.iter().map(rule).collect())));
    }
}

fn rule(rule: &TokenRule) -> Out {
    let mut fields = vec![field("issuer", text(&rule.issuer))];
    values(&mut fields, "audiences", &rule.audiences);
    match &rule.keys {
        KeySource::Inline(jwks) => fields.push(field("jwks", text(jwks.as_str()))),
        KeySource::Uri(url) => fields.push(field("jwksUri", text(url.as_str()))),
        KeySource::Discovery(_) => {}
    }
    let headers = rule.from_headers.iter().map(|header| {
        let prefix = (!header.prefix.is_empty()).then(|| field("prefix", text(&header.prefix)));
        map([field("name", text(header.name.as_str()))].into_iter().chain(prefix))
    });
    list(&mut fields, "fromHeaders", headers.collect());
    values(&mut fields, "fromParams", &rule.from_params);
    values(&mut fields, "fromCookies", &rule.from_cookies);
    fields
        .extend(rule.output_payload_to_header.as_ref().map(|name| field("outputPayloadToHeader", text(name.as_str()))));
    if rule.forward_original_token {
        fields.push(field("forwardOriginalToken", Out::Boolean(true)));
    }
    let claims = rule.output_claim_to_headers.iter();
    let claims = claims.map(|one| map([field("header", text(one.header.as_str())), field("claim", text(&one.claim))]));
    list(&mut fields, "outputClaimToHeaders", claims.collect());
    fields.extend(rule.timeout.map(|time| field("timeout", Out::Text(seconds(time)))));
    values(&mut fields, "spaceDelimitedClaims", &rule.space_delimited_claims);
    match rule.presence {
        Presence::Optional => {}
        Presence::Required => fields.push(field("presence", text("REQUIRED"))),
    }
    Out::Map(fields)
}

fn values(fields: &mut Vec<(String, Out)>, name: &str, values: &[Arc<str>]) {
    list(fields, name, values.iter().map(|value| text(value)).collect());
}

fn list(fields: &mut Vec<(String, Out)>, name: &str, items: Vec<Out>) {
    if !items.is_empty() {
        fields.push(field(name, Out::List(items)));
    }
}

/// A time as protobuf's JSON has it: seconds, and what is left of one.
fn seconds(time: Duration) -> String {
    let nanos = format!("{:09}", time.subsec_nanos());
    match nanos.trim_end_matches('0') {
        "" => format!("{}s", time.as_secs()),
        fraction => format!("{}.{fraction}s", time.as_secs()),
    }
}
