//! Tokens and sets of keys: nobody is anybody by a token that no key of the issuer signed, whatever stands in it and wherever it stands; a set of keys
//! is read or refused; and what was proven once is found the same again.
#![no_main]

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use weir_manifest::{FileName, Jwks, KeySource, PolicySpec, parse};
use weir_request::{Header, Normalization, Parts, Request};
use weir_token::{Checked, KeySet, Proven, Rejected, TokenRules};

/// Rules for an issuer whose key nobody here has, RFC 8037 Appendix A.2, and for one whose keys are what the input says.
const RULES: &str = r#"
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: a}
spec:
  jwtRules:
  - issuer: closed
    jwks: '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
    outputPayloadToHeader: x-payload
    outputClaimToHeaders: [{header: x-user, claim: sub}, {header: x-deep, claim: a.b}]
  - {issuer: open, jwksUri: 'https://open.example/', fromHeaders: [{name: x}, {name: authorization, prefix: 'Bearer '}]}
  - {issuer: open, jwksUri: 'https://open.example/', fromCookies: [c], fromParams: [c], spaceDelimitedClaims: [a]}
"#;

static CHECKED: LazyLock<TokenRules> = LazyLock::new(|| {
    let objects = parse(&[(FileName::new("fuzz.yaml"), RULES)]).expect("the rules are legal");
    let specs: Vec<_> = objects.policies.into_iter().map(|policy| policy.spec).collect();
    TokenRules::new(specs.iter().map(|spec| match spec {
        PolicySpec::RequestAuthentication(spec) => spec,
        other => panic!("{other:?}"),
    }))
});

fn check(
    token: &[u8],
    keys: &HashMap<KeySource, Arc<KeySet>>,
    target: &str,
    proven: &mut Proven,
) -> Option<Result<Checked, Rejected>> {
    let bearer = [b"Bearer ", token].concat();
    let cookie = [b"a=b; c=", token].concat();
    let values = [("authorization", bearer.as_slice()), ("x", token), ("cookie", &cookie), ("x-user", b"forged")];
    let headers = values.map(|(name, value)| Header { name, value });
    let parts = Parts { method: "GET", scheme: "http", authority: "a", target, headers: &headers };
    let request = Request::read(parts, Normalization::Base).ok()?;
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
    let outcome = CHECKED.check_with(&request, keys, now, proven);
    match &outcome {
        Ok(checked) => {
            assert!(checked.changes.remove.iter().any(|name| name.as_str() == "x-user"), "a forged header stays");
            if let Some(verified) = &checked.verified {
                assert_eq!(verified.claims.values(&["iss"]), ["open"], "a token that nobody signed");
                for path in [&["a"][..], &["a", "b"], &["scope"]] {
                    verified.claims.values(path);
                }
            }
        }
        Err(rejected) => {
            assert!(matches!(rejected.status(), 401 | 403) && !rejected.to_string().is_empty());
            let header = rejected.www_authenticate(&request);
            assert!(header.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{header}");
        }
    }
    Some(outcome)
}

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(4, |byte| *byte == b'\n');
    let [first, second, third, set] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let mut keys = HashMap::new();
    match (Jwks::read(set), KeySet::read(set)) {
        (Ok(jwks), Ok(read)) => {
            assert!((1..=jwks.keys().len()).contains(&read.len()));
            keys.insert(KeySource::Uri("https://open.example/".parse().expect("a URL")), Arc::new(read));
        }
        (Ok(_), Err(_)) => {}
        (Err(_), read) => assert!(read.is_err()),
    }
    let made = [first, second, third].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    for token in [first, made.as_bytes()] {
        let mut proven = Proven::new(1 << 16);
        let text = String::from_utf8_lossy(token);
        for target in ["/", &format!("/?a=b&c={text}&access_token={text}")] {
            let once = check(token, &keys, target, &mut proven);
            assert_eq!(once, check(token, &keys, target, &mut proven), "another answer the second time");
            assert_eq!(
                once,
                check(token, &keys, target, &mut Proven::new(0)),
                "another answer without what was proven"
            );
        }
    }
});
