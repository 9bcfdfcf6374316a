//! Each algorithm, the vectors of the RFCs, and which keys are tried.

use weir_manifest::KeySource;
use weir_token::{Algorithm, KeySet};

use super::*;
use signer::{ED25519, OTHER_RSA, P256, P384, P521, RSA, SHORT_RSA, Signer};

const PAYLOAD: &str = r#"{"iss":"i","sub":"s"}"#;

fn signer_of(algorithm: Algorithm) -> &'static Signer {
    match algorithm {
        Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 => &RSA,
        Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Ps512 => &RSA,
        Algorithm::Es256 => &P256,
        Algorithm::Es384 => &P384,
        Algorithm::Es512 => &P521,
        Algorithm::EdDsa => &ED25519,
    }
}

#[test]
fn a_token_of_each_algorithm_is_good_with_its_own_key_and_with_no_other() {
    let keys = [&*RSA, &P256, &P384, &P521, &ED25519].map(|signer| signer.jwk(""));
    let all = rule(&keys, "");
    for algorithm in Algorithm::ALL {
        let (name, signer) = (algorithm.name(), signer_of(algorithm));
        let token = signer.token(name, PAYLOAD);
        assert_eq!(bearer(&all, &token), good("i/s"), "{name}");
        // The key says for which algorithm it is.
        let only = |algorithm: &str| rule(&[signer.jwk(&format!(r#","alg":"{algorithm}""#)), OTHER_RSA.jwk("")], "");
        assert_eq!(bearer(&only(name), &token), good("i/s"), "{name}");
        let others = keys.iter().filter(|key| **key != signer.jwk("")).cloned().collect::<Vec<_>>();
        let want = refused("Jwks doesn't have key to match kid or alg from Jwt");
        assert_eq!(bearer(&rule(&others, ""), &token), want, "{name}");
        // Another name for the same signature.
        for other in Algorithm::ALL.into_iter().filter(|other| *other != algorithm) {
            let [_, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
            let header = signer::base64url(format!(r#"{{"alg":"{}"}}"#, other.name()));
            let token = format!("{header}.{payload}.{signature}");
            assert_eq!(bearer(&all, &token), refused("Jwt verification fails"), "{name} as {}", other.name());
        }
    }
    // A key that is for one algorithm is not taken for another of its type.
    let token = RSA.token("RS256", PAYLOAD);
    let rules = rule(&[RSA.jwk(r#","alg":"PS256""#)], "");
    assert_eq!(bearer(&rules, &token), refused("Jwks doesn't have key to match kid or alg from Jwt"));
}

#[test]
fn the_examples_of_the_rfcs_are_good() {
    // RFC 7515 Appendix A.2 and A.3.
    let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let rsa = r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#;
    let rs256 = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let ec = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    let es256 = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    for (key, header, signature) in [(rsa, "eyJhbGciOiJSUzI1NiJ9", rs256), (ec, "eyJhbGciOiJFUzI1NiJ9", es256)] {
        let rules = rules(&[&rule_text("joe", &[key.to_owned()], "")]);
        let value = format!("Bearer {header}.{payload}.{signature}");
        let at = |seconds| {
            let headers = [("authorization", value.as_str())];
            check_at(&rules, &Fetched::new(), "/", &headers, seconds, &mut Proven::new(0))
        };
        let checked = at(1_300_819_380).unwrap();
        let verified = checked.verified.unwrap();
        assert_eq!((verified.principal, verified.claims.all().len()), (None, 3), "{header}");
        assert_eq!(said(at(1_300_819_380 + 61)), refused("Jwt is expired"), "{header}");
    }
}

#[test]
fn the_key_that_a_token_names_is_asked_and_those_without_a_name() {
    let named = |signer: &Signer, kid: &str| signer.jwk(&format!(r#","kid":"{kid}""#));
    let token = |kid: &str| RSA.token_of("RS256", &format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#), PAYLOAD);
    let unnamed = RSA.token("RS256", PAYLOAD);
    let (fails, none) = ("Jwt verification fails", "Jwks doesn't have key to match kid or alg from Jwt");
    let many: Vec<String> = (0..16).map(|_| OTHER_RSA.jwk("")).collect();
    for (keys, token, want) in [
        (vec![named(&OTHER_RSA, "a"), named(&RSA, "b")], &token("b"), good("i/s")),
        (vec![named(&OTHER_RSA, "a"), named(&RSA, "b")], &unnamed, good("i/s")),
        (vec![named(&OTHER_RSA, "a"), named(&RSA, "b")], &token("a"), refused(fails)),
        (vec![named(&OTHER_RSA, "a"), named(&RSA, "b")], &token("c"), refused(none)),
        (vec![named(&OTHER_RSA, "a"), RSA.jwk("")], &token("c"), good("i/s")),
        (vec![named(&OTHER_RSA, "a"), named(&RSA, "a")], &token("a"), good("i/s")),
        (vec![named(&OTHER_RSA, "a"), named(&RSA, "b")], &token(""), good("i/s")),
        (vec![named(&OTHER_RSA, "a"), named(&RSA, "")], &token("c"), good("i/s")),
        // No more than so many are tried.
        (many[1..].iter().cloned().chain([RSA.jwk("")]).collect(), &unnamed, good("i/s")),
        (many.into_iter().chain([RSA.jwk("")]).collect(), &unnamed, refused(fails)),
    ] {
        assert_eq!(bearer(&rule(&keys, ""), token), want, "{}", keys.len());
    }
}

#[test]
fn a_key_nobody_should_use_is_none() {
    let off_the_curve = P256.jwk("").replacen("\"y\":\"", "\"y\":\"AAAA", 1).replacen("AAAA", "", 0);
    let y_at = off_the_curve.find("AAAA").unwrap();
    let off_the_curve = format!("{}{}", &off_the_curve[..y_at + 4], &off_the_curve[y_at + 8..]);
    for key in [SHORT_RSA.jwk(""), off_the_curve, RSA.jwk(r#","alg":"ES256""#), RSA.jwk(r#","alg":"RSA-OAEP""#)] {
        let set = format!("{{\"keys\":[{key}]}}");
        assert!(KeySet::read(set.as_bytes()).is_err(), "{key}");
        // A set that is legal as text, and of which no key is of use: every token is refused, and somebody is told.
        let rules = rule(&[key], "");
        assert_eq!(rules.problems().map(|(issuer, _)| issuer).collect::<Vec<_>>(), ["i"]);
        assert_eq!(bearer(&rules, &RSA.token("RS256", PAYLOAD)), refused("Jwks doesn't have any valid public key"));
        assert_eq!(said(check(&rules, "/", &[])), Ok(None));
    }
}

#[test]
fn fetched_keys_are_asked_for_and_wanted_anew_when_they_may_be_old() {
    let rules =
        rules(&["  - {issuer: i, jwksUri: 'https://i.example/keys', timeout: 2s}\n  - {issuer: 'https://j.example'}"]);
    let source = KeySource::Uri("https://i.example/keys".parse().unwrap());
    let discovered = KeySource::of_issuer("https://j.example").unwrap();
    let sources: Vec<_> = rules.sources().map(|(source, wait)| (source.clone(), wait.as_secs())).collect();
    assert_eq!(sources, [(source.clone(), 2), (discovered.clone(), 5)]);
    let old: Fetched = [(source.clone(), OTHER_RSA.jwk(r#","kid":"a""#))]
        .map(|(source, key)| (source, Arc::new(KeySet::read(format!("{{\"keys\":[{key}]}}").as_bytes()).unwrap())))
        .into();
    let token = |kid: &str| RSA.token_of("RS256", &format!(r#"{{"alg":"RS256"{kid}}}"#), PAYLOAD);
    let foreign = RSA.token("RS256", r#"{"iss":"https://j.example"}"#);
    let (fails, none) = ("Jwt verification fails", "Jwks doesn't have key to match kid or alg from Jwt");
    for (fetched, token, words, wants) in [
        (&Fetched::new(), &token(""), "Jwks remote fetch is failed", Some(&source)),
        (&old, &token(r#","kid":"b""#), none, Some(&source)),
        (&old, &token(""), fails, Some(&source)),
        // The issuer has a key of that name, and it did not sign this.
        (&old, &token(r#","kid":"a""#), fails, None),
        (&old, &foreign, "Jwks remote fetch is failed", Some(&discovered)),
    ] {
        let value = format!("Bearer {token}");
        let outcome =
            check_at(&rules, fetched, "/", &[("authorization", &value)], NOW, &mut Proven::new(0)).unwrap_err();
        assert_eq!((outcome.to_string().as_str(), outcome.wants.as_ref()), (words, wants), "{token}");
    }
}

#[test]
fn what_was_proven_is_not_proven_for_other_keys_times_or_rules() {
    let set =
        |signer: &Signer| Arc::new(KeySet::read(format!("{{\"keys\":[{}]}}", signer.jwk("")).as_bytes()).unwrap());
    let rules = rules(&["  - {issuer: i, jwksUri: 'https://i.example/keys', audiences: [a]}"]);
    let strict = self::rules(&["  - {issuer: i, jwksUri: 'https://i.example/keys', audiences: [b]}"]);
    let source = KeySource::Uri("https://i.example/keys".parse().unwrap());
    let (now, rotated): (Fetched, Fetched) = ([(source.clone(), set(&RSA))].into(), [(source, set(&OTHER_RSA))].into());
    let value = format!("Bearer {}", RSA.token("RS256", &format!(r#"{{"iss":"i","sub":"s","aud":"a","exp":{NOW}}}"#)));
    let headers = [("authorization", value.as_str())];
    for bytes in [0, 1 << 20] {
        let mut proven = Proven::new(bytes);
        let mut ask = |rules, keys, seconds| said(check_at(rules, keys, "/", &headers, seconds, &mut proven));
        for _ in 0..3 {
            assert_eq!(ask(&rules, &now, NOW), good("i/s"));
        }
        assert_eq!(ask(&rules, &now, NOW + 61), refused("Jwt is expired"));
        assert_eq!(ask(&strict, &now, NOW), refused("Audiences in Jwt are not allowed"));
        assert_eq!(ask(&rules, &rotated, NOW), refused("Jwt verification fails"));
        assert_eq!(ask(&rules, &now, NOW), good("i/s"));
    }
}

#[test]
fn a_proven_token_costs_no_signature_and_old_ones_go() {
    let rules = rule(&[RSA.jwk("")], "");
    let tokens: Vec<String> =
        (0..6).map(|n| format!("Bearer {}", RSA.token("RS256", &format!(r#"{{"iss":"i","sub":"{n}"}}"#)))).collect();
    let mut proven = Proven::new(tokens[0].len() * 2);
    for _ in 0..2 {
        for (n, token) in tokens.iter().enumerate() {
            let outcome = check_at(&rules, &Fetched::new(), "/", &[("authorization", token)], NOW, &mut proven);
            assert_eq!(said(outcome), good(&format!("i/{n}")));
        }
    }
    // Two generations of at most two tokens each.
    assert!(format!("{proven:?}").matches("Kept").count() <= 4);
    assert!(format!("{proven:?}").matches("Kept").count() >= 2);
}
