//! What a good token says, as policies ask for it.

use super::*;
use signer::ED25519;

#[test]
fn claims_are_found_by_their_names() {
    let payload = r#"{"iss":"i","sub":"s","azp":"app","aud":["a","b"],"group":"g h","scope":"read write","permission":"x",
        "roles":"r1  r2","list":["l1",7,"l2"],"nested":{"key":"v w","list":["n1","n2"],"scope":"c d","deep":{"er":"e"}},
        "number":7,"yes":true,"nothing":null,"empty":"","a.b":"dots","":"no name"}"#;
    let rules = rule(&[ED25519.jwk("")], ", spaceDelimitedClaims: [roles, nested]");
    let value = format!("Bearer {}", ED25519.token("EdDSA", payload));
    let verified = check(&rules, "/", &[("authorization", &value)]).unwrap().verified.unwrap();
    assert_eq!(verified.principal.as_deref(), Some("i/s"));
    assert_eq!(verified.audiences().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(verified.presenter(), Some("app"));
    for (path, want) in [
        (&["iss"][..], &["i"][..]),
        (&["aud"], &["a", "b"]),
        (&["group"], &["g h"]),
        (&["scope"], &["read", "write"]),
        (&["permission"], &["x"]),
        (&["roles"], &["r1", "r2"]),
        (&["list"], &["l1", "l2"]),
        (&["nested", "key"], &["v w"]),
        (&["nested", "list"], &["n1", "n2"]),
        // Only of the outermost claims is the text a list.
        (&["nested", "scope"], &["c d"]),
        (&["nested", "deep", "er"], &["e"]),
        (&["nested"], &[]),
        (&["nested", "none"], &[]),
        (&["group", "x"], &[]),
        (&["list", "0"], &[]),
        (&["number"], &[]),
        (&["yes"], &[]),
        (&["nothing"], &[]),
        (&["empty"], &[""]),
        (&["a.b"], &["dots"]),
        (&["a", "b"], &[]),
        (&[""], &["no name"]),
        (&["GROUP"], &[]),
        (&[], &[]),
    ] {
        assert_eq!(verified.claims.values(path), want, "{path:?}");
    }
}

#[test]
fn a_token_without_a_subject_has_no_principal() {
    let rules = rule(&[ED25519.jwk("")], "");
    let value = format!("Bearer {}", ED25519.token("EdDSA", r#"{"iss":"i","aud":"one","azp":7}"#));
    let verified = check(&rules, "/", &[("authorization", &value)]).unwrap().verified.unwrap();
    assert_eq!((verified.principal.as_deref(), verified.presenter()), (None, None));
    assert_eq!(verified.audiences().collect::<Vec<_>>(), ["one"]);
}
