//! What is legal in a RequestAuthentication, and what is not.

use std::time::Duration;

use super::{refused::table, *};
use crate::{
    Jwks,
    object::{ClaimToHeader, KeySource, Presence, RequestAuthenticationSpec, TokenHeader, TokenRule},
};

const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// A rule that says nothing but whose tokens it means.
fn rule(issuer: &str, keys: KeySource) -> TokenRule {
    TokenRule {
        line: 0,
        issuer: issuer.into(),
        audiences: vec![],
        keys,
        from_headers: vec![],
        from_params: vec![],
        from_cookies: vec![],
        output_payload_to_header: None,
        forward_original_token: false,
        output_claim_to_headers: vec![],
        timeout: None,
        space_delimited_claims: vec![],
        presence: Presence::Optional,
    }
}

fn uri(url: &str) -> KeySource {
    KeySource::Uri(url.parse().unwrap())
}

#[test]
fn every_field_is_read() {
    let inline = format!("{{jwtRules: [{{issuer: i, jwks: '{KEYS}'}}]}}");
    let base = rule("i", uri("https://i/k"));
    let with = |change: fn(&mut TokenRule)| {
        let mut rule = base.clone();
        change(&mut rule);
        vec![rule]
    };
    let header = |name: &str, prefix: &str| TokenHeader { name: name.parse().unwrap(), prefix: prefix.into() };
    for (fields, want) in [
        ("jwksUri: 'https://i/k'", vec![base.clone()]),
        ("jwks_uri: 'https://i/k', jwks: '', audiences: [], outputPayloadToHeader: ''", vec![base.clone()]),
        ("jwksUri: 'https://i/k', audiences: [a, b]", with(|rule| rule.audiences = vec!["a".into(), "b".into()])),
        ("jwksUri: 'https://i/k', fromParams: ['a b']", with(|rule| rule.from_params = vec!["a b".into()])),
        ("jwksUri: 'https://i/k', fromCookies: [c]", with(|rule| rule.from_cookies = vec!["c".into()])),
        (
            "jwksUri: 'https://i/k', outputPayloadToHeader: X-Payload",
            with(|rule| rule.output_payload_to_header = Some("x-payload".parse().unwrap())),
        ),
        ("jwksUri: 'https://i/k', forwardOriginalToken: true", with(|rule| rule.forward_original_token = true)),
        ("jwksUri: 'https://i/k', forwardOriginalToken: false", vec![base.clone()]),
        (
            "jwksUri: 'https://i/k', outputClaimToHeaders: [{header: X-A, claim: a.b}]",
            with(|rule| {
                let header = "x-a".parse().unwrap();
                rule.output_claim_to_headers = vec![ClaimToHeader { header, claim: "a.b".into() }];
            }),
        ),
        ("jwksUri: 'https://i/k', timeout: 1.5s", with(|rule| rule.timeout = Some(Duration::from_millis(1_500)))),
        (
            "jwksUri: 'https://i/k', spaceDelimitedClaims: [roles]",
            with(|rule| rule.space_delimited_claims = vec!["roles".into()]),
        ),
        ("jwksUri: 'https://i/k', presence: REQUIRED", with(|rule| rule.presence = Presence::Required)),
        ("jwksUri: 'https://i/k', presence: OPTIONAL", vec![base.clone()]),
    ] {
        let policy = read(REQUEST, "", &format!("{{jwtRules: [{{issuer: i, {fields}}}]}}"));
        let want = PolicySpec::RequestAuthentication(RequestAuthenticationSpec { rules: want });
        assert_eq!((policy.spec, policy.kind), (want, PolicyKind::RequestAuthentication), "{fields}");
    }
    let mut headers = base.clone();
    headers.from_headers = vec![header("authorization", "JWT "), header("x-token", "")];
    let jwks = KeySource::Inline(Jwks::read(KEYS.as_bytes()).unwrap());
    let discovered = KeySource::of_issuer("https://a.example").unwrap();
    for (spec, target, want) in [
        ("", PolicyTarget::All, vec![]),
        ("{jwtRules: []}", PolicyTarget::All, vec![]),
        (&inline, PolicyTarget::All, vec![rule("i", jwks)]),
        (
            "{targetRefs: [{kind: Service, name: s}], jwtRules: [{issuer: 'https://a.example'}, {issuer: j, jwksUri: 'http://j'}]}",
            PolicyTarget::Refs(vec![TargetRef { group: "".into(), kind: "Service".into(), name: "s".into() }]),
            vec![rule("https://a.example", discovered), rule("j", uri("http://j"))],
        ),
        (
            "{selector: {matchLabels: {a: b}}, jwtRules: [{issuer: i, jwksUri: 'https://i/k', \
             fromHeaders: [{name: Authorization, prefix: 'JWT '}, {name: x-token}]}]}",
            PolicyTarget::Selector([("a".into(), "b".into())].into()),
            vec![headers],
        ),
    ] {
        let policy = read(REQUEST, "", spec);
        let want = PolicySpec::RequestAuthentication(RequestAuthenticationSpec { rules: want });
        assert_eq!((policy.spec, policy.target), (want, target), "{spec}");
    }
}

#[test]
fn a_rule_knows_its_line() {
    let text = document(REQUEST, "", "\n  jwtRules:\n  - issuer: https://a.example\n  - issuer: https://b.example");
    let objects = parse(&[(file(), &text)]).unwrap();
    let PolicySpec::RequestAuthentication(spec) = &objects.policies[0].spec else { panic!("{objects:?}") };
    assert_eq!(spec.rules.iter().map(|rule| rule.line).collect::<Vec<_>>(), [6, 7]);
}

#[test]
fn what_is_illegal_is_refused_where_it_stands() {
    let url = "expected an http or https URL of at most 2048 bytes, without user and fragment, found";
    let header = "expected the name of a header that says nothing of where a message goes or ends, found";
    let text = "expected text of 1 to 4096 bytes, found";
    let time = "expected a time from 1ms to 1h, such as \"5s\" or \"1m30s\", found";
    let set = "no JSON Web Key Set:";
    let nowhere = "missing, expected this or jwks, as the issuer is no URL under which it could say where its keys are";
    let rows: Vec<(String, String)> = [
        ("{isser: i}", ".isser: unknown field, did you mean \"issuer\"?".to_owned()),
        ("{fromHeaders: [{name: n, nam: i}]}", ".fromHeaders[0].nam: unknown field, did you mean \"name\"?".to_owned()),
        (
            "{outputClaimToHeaders: [{header: h, claim: c, claims: i}]}",
            ".outputClaimToHeaders[0].claims: unknown field, did you mean \"claim\"?".to_owned(),
        ),
        ("{issuer: ''}", format!(".issuer: {text} \"\"")),
        ("{issuer: 7}", ".issuer: expected text, found the number 7".to_owned()),
        ("{issuer: null}", ".issuer: missing, expected whose tokens are meant, the \"iss\" in them".to_owned()),
        ("{jwksUri: null}", format!(".jwksUri: {nowhere}")),
        ("{jwksUri: 'ftp://a/b'}", format!(".jwksUri: {url} \"ftp://a/b\"")),
        ("{jwksUri: null, jwks_uri: 'https://u@a'}", format!(".jwks_uri: {url} \"https://u@a\"")),
        ("{jwks: '{}'}", ".jwks: not together with jwksUri".to_owned()),
        ("{jwks_uri: 'https://a'}", ".jwks_uri: not together with jwksUri, its other name".to_owned()),
        ("{jwksUri: null, jwks: 'x'}", format!(".jwks: {set} no JSON at line 1, column 1")),
        ("{jwksUri: null, jwks: '[]'}", format!(".jwks: {set} no object with a list \"keys\"")),
        (
            "{jwksUri: null, jwks: '{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"}]}'}",
            format!(
                ".jwks: {set} no key in it is a public one of type RSA, EC or OKP for signatures; the first: its \"kty\" is \
                 not RSA, EC or OKP"
            ),
        ),
        ("{jwksUri: null, jwks: {keys: []}}", ".jwks: expected text, found a map of 1 fields".to_owned()),
        ("{audiences: ['']}", format!(".audiences[0]: {text} \"\"")),
        ("{audiences: a}", ".audiences: expected a list, found \"a\"".to_owned()),
        ("{fromHeaders: [{prefix: p}]}", ".fromHeaders[0].name: missing, expected the name of a header".to_owned()),
        ("{fromHeaders: [{name: 'a b'}]}", format!(".fromHeaders[0].name: {header} \"a b\"")),
        ("{fromHeaders: [{name: Host}]}", format!(".fromHeaders[0].name: {header} \"Host\"")),
        ("{fromParams: ['']}", format!(".fromParams[0]: {text} \"\"")),
        ("{fromCookies: ['a=b']}", ".fromCookies[0]: expected the name of a cookie, found \"a=b\"".to_owned()),
        ("{outputPayloadToHeader: content-length}", format!(".outputPayloadToHeader: {header} \"content-length\"")),
        ("{forwardOriginalToken: 'true'}", ".forwardOriginalToken: expected true or false, found \"true\"".to_owned()),
        (
            "{outputClaimToHeaders: [{header: h}]}",
            ".outputClaimToHeaders[0].claim: missing, expected the name of a claim".to_owned(),
        ),
        ("{outputClaimToHeaders: [{header: ':a', claim: c}]}", format!(".outputClaimToHeaders[0].header: {header} \":a\"")),
        (
            "{outputClaimToHeaders: [{header: h, claim: c}, {header: H, claim: d}]}",
            ".outputClaimToHeaders[1]: the same header as spec.jwtRules[0].outputClaimToHeaders[0]".to_owned(),
        ),
        ("{timeout: 0s}", format!(".timeout: {time} \"0s\"")),
        ("{timeout: 2h}", format!(".timeout: {time} \"2h\"")),
        ("{timeout: soon}", format!(".timeout: {time} \"soon\"")),
        ("{timeout: 5}", ".timeout: expected text, found the number 5".to_owned()),
        ("{presence: MAYBE}", ".presence: expected \"OPTIONAL\" or \"REQUIRED\", found \"MAYBE\"".to_owned()),
        (
            &format!("{{spaceDelimitedClaims: [{}]}}", vec!["a"; 65].join(",")),
            ".spaceDelimitedClaims: more than 64 spaceDelimitedClaims".to_owned(),
        ),
    ]
    .into_iter()
    .map(|(fields, want)| {
        let own = fields.strip_prefix('{').unwrap();
        let base = ["issuer", "jwksUri"].into_iter().zip(["issuer: i, ", "jwksUri: 'https://i/k', "]);
        let base: String = base.filter(|(name, _)| !own.contains(&format!("{name}:"))).map(|(_, field)| field).collect();
        (format!("{{jwtRules: [{{{base}{own}]}}"), format!("spec.jwtRules[0]{want}"))
    })
    .collect();
    let rows: Vec<(&str, &str)> = rows.iter().map(|(spec, want)| (spec.as_str(), want.as_str())).collect();
    table(REQUEST, &rows);
    table(
        REQUEST,
        &[
            ("{jwtRules: {}}", "spec.jwtRules: expected a list, found a map of 0 fields"),
            ("{jwtRules: [i]}", "spec.jwtRules[0]: expected a map, found \"i\""),
        ],
    );
}

#[test]
fn an_alias_does_not_make_a_policy_larger_than_it_may_be() {
    let rows: Vec<String> = (0..1_100).map(|_| "{issuer: *long, jwksUri: 'https://i/k'}".to_owned()).collect();
    let long = "x".repeat(4_096);
    let text = document(
        REQUEST,
        "",
        &format!("{{jwtRules: [{{issuer: &long {long}, jwksUri: 'https://i/k'}}, {}]}}", rows.join(", ")),
    );
    let errors = parse(&[(file(), &text)]).unwrap_err();
    let told: Vec<String> = errors.iter().map(|error| error.cause.to_string()).collect();
    assert_eq!(told, ["more than 4194304 bytes in the values of one policy"]);
}
