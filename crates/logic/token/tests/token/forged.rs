//! Tokens that are wrong, by mistake or on purpose, and the words they are refused with.

use proptest::{collection::vec, prelude::*};

use super::*;
use signer::{ED25519, OTHER_RSA, P256, RSA, base64url, hmac};

const PAYLOAD: &str = r#"{"iss":"i","sub":"s"}"#;

#[test]
fn no_algorithm_without_a_key_of_the_issuer() {
    let rules = rule(&[RSA.jwk(""), P256.jwk("")], "");
    let payload = base64url(PAYLOAD);
    let unsupported = "Jwt header [alg] is not supported";
    for name in ["none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "rs256", "RS1", "ES256K", "RSA-OAEP"] {
        let header = base64url(format!(r#"{{"alg":"{name}"}}"#));
        for signature in ["", "AAAA"] {
            assert_eq!(bearer(&rules, &format!("{header}.{payload}.{signature}")), refused(unsupported), "{name}");
        }
    }
    // The public key of RSA, which everybody has, as the secret of HMAC: in each form an issuer's library could take it.
    let signed = format!("{}.{payload}", base64url(r#"{"alg":"HS256"}"#));
    for secret in [RSA.public_pem(), RSA.jwk("").into_bytes()] {
        let token = format!("{signed}.{}", base64url(hmac(&secret, signed.as_bytes())));
        assert_eq!(bearer(&rules, &token), refused(unsupported));
        // And as if it were one of RSA.
        let signed = format!("{}.{payload}", base64url(r#"{"alg":"RS256"}"#));
        let token = format!("{signed}.{}", base64url(hmac(&secret, signed.as_bytes())));
        assert_eq!(bearer(&rules, &token), refused("Jwt verification fails"));
    }
    // Unsigned, with an algorithm that is known.
    let header = base64url(r#"{"alg":"RS256"}"#);
    assert_eq!(bearer(&rules, &format!("{header}.{payload}.")), refused("Jwt verification fails"));
}

#[test]
fn what_a_token_brings_along_is_not_believed() {
    // Keys in the token itself, or where it says they are. RFC 7515 §4.1.2 and §4.1.3.
    let rules = rule(&[RSA.jwk("")], "");
    for member in [
        format!(r#""jwk":{}"#, OTHER_RSA.jwk("")),
        r#""jku":"https://evil.example/keys""#.to_owned(),
        r#""x5u":"https://evil.example/chain""#.to_owned(),
    ] {
        let token = OTHER_RSA.token_of("RS256", &format!(r#"{{"alg":"RS256",{member}}}"#), PAYLOAD);
        assert_eq!(bearer(&rules, &token), refused("Jwt verification fails"), "{member}");
    }
}

#[test]
fn a_signature_is_for_what_was_signed() {
    let rules = rule(&[RSA.jwk(""), P256.jwk(""), ED25519.jwk("")], "");
    for token in [RSA.token("RS256", PAYLOAD), P256.token("ES256", PAYLOAD), ED25519.token("EdDSA", PAYLOAD)] {
        assert_eq!(bearer(&rules, &token), good("i/s"));
        let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
        let admin = base64url(r#"{"iss":"i","sub":"admin"}"#);
        let longer = format!("{signature}AAAA");
        let zeros = base64url(vec![0; 64]);
        for (payload, signature) in
            [(admin.as_str(), signature), (payload, &*longer), (payload, &*zeros), (payload, "")]
        {
            let token = format!("{header}.{payload}.{signature}");
            assert_eq!(bearer(&rules, &token), refused("Jwt verification fails"), "{token}");
        }
        assert!(bearer(&rules, &token[..token.len() - 4]).is_err());
    }
}

#[test]
fn one_other_letter_anywhere_and_it_is_no_token_of_the_issuer() {
    let rules = rule(&[ED25519.jwk("")], "");
    let token = ED25519.token("EdDSA", PAYLOAD);
    for at in 0..token.len() {
        for letter in ["A", "B", "g", "w", "_", "-", ".", "=", " ", "\u{e9}", ""] {
            let other = format!("{}{letter}{}", &token[..at], &token[at + 1..]);
            if other != token {
                assert!(bearer(&rules, &other).is_err(), "{other}");
            }
        }
    }
}

proptest! {
    #[test]
    fn nobody_is_anybody_by_what_no_key_signed(header in any::<String>(), payload in any::<String>(), signature in vec(any::<u8>(), 0..100), text in "[A-Za-z0-9._=-]{0,60}") {
        let rules = rule(&[ED25519.jwk("")], "");
        for header in [header.as_str(), r#"{"alg":"EdDSA"}"#] {
            for payload in [payload.as_str(), PAYLOAD] {
                let token = format!("{}.{}.{}", base64url(header), base64url(payload), base64url(&signature));
                prop_assert!(bearer(&rules, &token).is_err());
            }
        }
        prop_assert!(!matches!(bearer(&rules, &text), Ok(Some(_))));
    }
}

#[test]
fn what_is_no_token_is_refused_in_envoys_words() {
    let rules = rule(&[RSA.jwk("")], "");
    let header = base64url(r#"{"alg":"RS256"}"#);
    let body = base64url(PAYLOAD);
    let form = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";
    let with = |header: &str| format!("{}.{body}.AAAA", base64url(header));
    let says = |payload: &str| format!("{header}.{}.AAAA", base64url(payload));
    for (token, words) in [
        ("x".to_owned(), form),
        ("a.b".to_owned(), form),
        ("a.b.c.d".to_owned(), form),
        ("\u{e9}.b.c".to_owned(), "Jwt header is an invalid Base64url encoded"),
        (format!("{header}!.{body}.AAAA"), "Jwt header is an invalid Base64url encoded"),
        (format!("{header}=.{body}.AAAA"), "Jwt header is an invalid Base64url encoded"),
        (with("x"), "Jwt header is an invalid JSON"),
        (with("[\"RS256\"]"), "Jwt header is an invalid JSON"),
        (with("{}"), "Jwt header [alg] field is required and must be a string"),
        (with(r#"{"alg":7}"#), "Jwt header [alg] field is required and must be a string"),
        (with(r#"{"alg":"RS256","kid":7}"#), "Jwt header [kid] field is not a string"),
        (with(r#"{"alg":"RS256","crit":["exp"]}"#), "Jwt header [crit] is not supported"),
        (with(r#"{"alg":"RS256","crit":null}"#), "Jwt header [crit] is not supported"),
        (format!("{header}.{body}+.AAAA"), "Jwt payload is an invalid Base64url encoded"),
        (says("x"), "Jwt payload is an invalid JSON"),
        (says("[]"), "Jwt payload is an invalid JSON"),
        (says(&"[".repeat(200)), "Jwt payload is an invalid JSON"),
        (says(&format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200))), "Jwt payload is an invalid JSON"),
        (says(r#"{"iss":7}"#), "Jwt payload [iss] field is not a string"),
        (says(r#"{"iss":"i","sub":7}"#), "Jwt payload [sub] field is not a string"),
        (says(r#"{"iss":"i","jti":7}"#), "Jwt payload [jti] field is not a string"),
        (says(r#"{"iss":"i","iat":"7"}"#), "Jwt payload [iat] field is not an integer"),
        (says(r#"{"iss":"i","nbf":-1}"#), "Jwt payload [nbf] field is not an integer"),
        (says(r#"{"iss":"i","exp":"9999999999"}"#), "Jwt payload [exp] field is not an integer"),
        (says(r#"{"iss":"i","exp":1e300}"#), "Jwt payload [exp] field is not an integer"),
        (says(r#"{"iss":"i","exp":null}"#), "Jwt payload [exp] field is not an integer"),
        (says(r#"{"iss":"i","aud":7}"#), "Jwt payload [aud] field is not a string or string list"),
        (says(r#"{"iss":"i","aud":["a",7]}"#), "Jwt payload [aud] field is not a string or string list"),
        (format!("{header}.{body}.A"), "Jwt signature is an invalid Base64url encoded"),
        (says("{}"), "Jwt issuer is not configured"),
        (says(r#"{"iss":"I"}"#), "Jwt issuer is not configured"),
        (says(r#"{"iss":"i "}"#), "Jwt issuer is not configured"),
        (format!("{header}.{}.AAAA", "A".repeat(16 << 10)), "Jwt is longer than 16384 bytes"),
        (format!("{header}.{body}.AAAA,x"), "Jwt signature is an invalid Base64url encoded"),
    ] {
        assert_eq!(bearer(&rules, &token), refused(words), "{token:.200}");
    }
}

#[test]
fn a_token_has_its_time_give_or_take_a_minute() {
    let rules = rule(&[ED25519.jwk("")], "");
    for (claims, want) in [
        (String::new(), good("i/s")),
        (format!(r#","exp":{}"#, NOW - 60), good("i/s")),
        (format!(r#","exp":{}"#, NOW - 61), refused("Jwt is expired")),
        (format!(r#","exp":{}.5"#, NOW - 61), refused("Jwt is expired")),
        (r#","exp":0"#.to_owned(), refused("Jwt is expired")),
        (format!(r#","exp":{}"#, u64::MAX), good("i/s")),
        (format!(r#","nbf":{}"#, NOW + 60), good("i/s")),
        (format!(r#","nbf":{}"#, NOW + 61), refused("Jwt not yet valid")),
        (format!(r#","nbf":{}"#, u64::MAX), refused("Jwt not yet valid")),
        (format!(r#","iat":{},"nbf":0,"exp":{}"#, NOW + 1_000, NOW + 1_000), good("i/s")),
    ] {
        let token = ED25519.token("EdDSA", &format!(r#"{{"iss":"i","sub":"s"{claims}}}"#));
        assert_eq!(bearer(&rules, &token), want, "{claims}");
    }
}

#[test]
fn a_token_is_for_one_of_the_audiences() {
    let not = || refused("Audiences in Jwt are not allowed");
    for (wanted, claims, want) in [
        ("", r#","aud":"x""#, good("i/s")),
        ("", "", good("i/s")),
        (", audiences: []", r#","aud":"x""#, good("i/s")),
        (", audiences: [a, b]", r#","aud":"b""#, good("i/s")),
        (", audiences: [a, b]", r#","aud":["x","a"]"#, good("i/s")),
        (", audiences: [a, b]", r#","aud":["x"]"#, not()),
        (", audiences: [a, b]", r#","aud":[]"#, not()),
        (", audiences: [a, b]", "", not()),
        (", audiences: [a]", r#","aud":"A""#, not()),
        (", audiences: [a]", r#","aud":"aa""#, not()),
        (", audiences: ['https://a/']", r#","aud":"a""#, good("i/s")),
        (", audiences: [a]", r#","aud":"http://a/""#, good("i/s")),
        (", audiences: [a]", r#","aud":"ftp://a""#, not()),
    ] {
        let token = ED25519.token("EdDSA", &format!(r#"{{"iss":"i","sub":"s"{claims}}}"#));
        assert_eq!(bearer(&rule(&[ED25519.jwk("")], wanted), &token), want, "{wanted} {claims}");
    }
}

#[test]
fn the_answer_says_what_is_wrong_and_no_more() {
    let rules = rule(&[ED25519.jwk("")], ", audiences: [a], presence: REQUIRED");
    let foreign = ED25519.token("EdDSA", PAYLOAD);
    let target = "/a%20b/%22x?access_token=secret";
    for (header, status, want) in [
        (None, 401, r#"Bearer realm="http://shop:80/a%20b/%22x", error="invalid_token""#),
        (Some(format!("Bearer {foreign}")), 403, r#"Bearer realm="http://shop:80/a%20b/%22x", error="invalid_token""#),
    ] {
        let target = if header.is_none() { target } else { "/a%20b/%22x" };
        let headers: Vec<_> =
            header.iter().map(|value| Header { name: "authorization", value: value.as_bytes() }).collect();
        let parts = Parts { method: "GET", scheme: "http", authority: "shop:80", target, headers: &headers };
        let request = Request::read(parts, Normalization::Base).unwrap();
        let rejected = rules.check(&request, &Fetched::new(), at(NOW)).unwrap_err();
        assert_eq!((rejected.status(), rejected.www_authenticate(&request).as_str()), (status, want));
    }
    let parts = Parts { method: "GET", scheme: "https", authority: "shop", target: "/", headers: &[] };
    let request = Request::read(parts, Normalization::Base).unwrap();
    let rejected = rules.check(&request, &Fetched::new(), at(NOW)).unwrap_err();
    assert_eq!(rejected.to_string(), "Jwt is missing");
    assert_eq!(
        (rejected.status(), rejected.www_authenticate(&request)),
        (401, "Bearer realm=\"https://shop/\"".into())
    );
    let long = format!("/{}", "a".repeat(1_000));
    let request = Request::read(Parts { target: &long, ..parts }, Normalization::Base).unwrap();
    assert_eq!(rejected.www_authenticate(&request).len(), "Bearer realm=\"\"".len() + 256);
}
