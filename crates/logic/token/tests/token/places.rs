//! Where tokens are looked for, several of them, and what becomes of the request.

use weir_token::{Changes, QueryChange};

use super::*;
use signer::{ED25519, P256};

fn token(issuer: &str) -> String {
    ED25519.token("EdDSA", &format!(r#"{{"iss":"{issuer}","sub":"s"}}"#))
}

/// The changes of a request, as text.
fn shown(changes: &Changes) -> String {
    let remove: Vec<&str> = changes.remove.iter().map(|name| name.as_str()).collect();
    let set = changes.set.iter().map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)));
    let query = match &changes.query {
        QueryChange::None => String::new(),
        QueryChange::To(query) => format!(" ?{query}"),
        QueryChange::Gone => " ?".to_owned(),
    };
    format!("-[{}] +[{}]{query}", remove.join(","), set.collect::<Vec<_>>().join(","))
}

#[test]
fn a_token_is_found_where_the_rule_says_and_taken_out() {
    let good_one = token("i");
    let bad = format!("{good_one}A");
    let key = [ED25519.jwk("")];
    let (none, ok, no) = (Ok(None), good("i/s"), |words: &str| refused(words));
    let signature = "Jwt verification fails";
    let form = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections";
    let nothing = "-[] +[]";
    for (more, target, headers, want, changes) in [
        ("", "/", vec![], none.clone(), nothing),
        ("", "/", vec![("authorization", "Bearer $T")], ok.clone(), "-[authorization] +[]"),
        ("", "/", vec![("authorization", "bearer   $T ")], ok.clone(), "-[authorization] +[]"),
        ("", "/", vec![("authorization", "Bearer")], none.clone(), nothing),
        ("", "/", vec![("authorization", "Bearer ")], none.clone(), nothing),
        ("", "/", vec![("authorization", "Basic $T")], none.clone(), nothing),
        ("", "/", vec![("authorization", "$T")], none.clone(), nothing),
        ("", "/", vec![("x-token", "$T")], none.clone(), nothing),
        ("", "/?access_token=$T", vec![], ok.clone(), "-[] +[] ?"),
        ("", "/?a=%20&access_token=$T&b", vec![], ok.clone(), "-[] +[] ?a=%20&b"),
        ("", "/?access%5ftoken=$T", vec![], ok.clone(), "-[] +[] ?"),
        ("", "/?access_token=", vec![], none.clone(), nothing),
        ("", "/?access_token=x", vec![], no(form), ""),
        // Each occurrence counts.
        ("", "/?access_token=$T&access_token=$B", vec![], no(signature), ""),
        ("", "/", vec![("authorization", "Bearer $T"), ("authorization", "Bearer $B")], no(signature), ""),
        ("", "/?access_token=$B", vec![("authorization", "Bearer $T")], no(signature), ""),
        ("", "/", vec![("authorization", "Bearer $T, Bearer $T")], no(form), ""),
        ("", "/?access_token=$T", vec![("authorization", "Bearer $T")], ok.clone(), "-[authorization] +[] ?"),
        (
            ", forwardOriginalToken: true",
            "/?access_token=$T",
            vec![("authorization", "Bearer $T")],
            ok.clone(),
            nothing,
        ),
        // A rule that says where looks nowhere else.
        (
            ", fromHeaders: [{name: X-Token}]",
            "/",
            vec![("authorization", "Bearer $B"), ("x-token", "$T")],
            ok.clone(),
            "-[x-token] +[]",
        ),
        (", fromHeaders: [{name: X-Token}]", "/", vec![("authorization", "Bearer $T")], none.clone(), nothing),
        (", fromHeaders: [{name: x, prefix: 'JWT '}]", "/", vec![("x", "JWT $T")], ok.clone(), "-[x] +[]"),
        (", fromHeaders: [{name: x, prefix: 'JWT '}]", "/", vec![("x", "jwt $T")], none.clone(), nothing),
        (", fromHeaders: [{name: x, prefix: 'JWT '}, {name: x}]", "/", vec![("x", "JWT $T")], ok.clone(), "-[x] +[]"),
        (", fromHeaders: [{name: x, prefix: 'JWT '}, {name: x}]", "/", vec![("x", "$T")], ok.clone(), "-[x] +[]"),
        (", fromParams: [t]", "/?t=$T&access_token=$B", vec![], ok.clone(), "-[] +[] ?access_token=$B"),
        (", fromCookies: [c]", "/", vec![("cookie", "a=b; c=$T;d=e")], ok.clone(), "-[] +[cookie=a=b; d=e]"),
        (", fromCookies: [c]", "/", vec![("cookie", "c=\"$T\"")], ok.clone(), "-[cookie] +[]"),
        (", fromCookies: [c]", "/", vec![("cookie", "a=b"), ("cookie", "c=$T")], ok.clone(), "-[] +[cookie=a=b]"),
        (", fromCookies: [c]", "/", vec![("cookie", "c=$T; c=$B")], no(signature), ""),
        (", fromCookies: [c]", "/", vec![("cookie", "C=$B; cc=$B; c")], none.clone(), nothing),
        (", fromCookies: [c], forwardOriginalToken: true", "/", vec![("cookie", "c=$T")], ok.clone(), nothing),
    ] {
        let filled = |text: &str| text.replace("$T", &good_one).replace("$B", &bad);
        let rules = rule(&key, more);
        let headers: Vec<(&str, String)> = headers.into_iter().map(|(name, value)| (name, filled(value))).collect();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let outcome = check(&rules, &filled(target), &headers);
        let made = outcome.as_ref().map_or(String::new(), |checked| shown(&checked.changes));
        assert_eq!((said(outcome), made), (want, filled(changes)), "{more} {target} {headers:?}");
    }
}

#[test]
fn of_several_rules_each_has_its_issuer_and_its_places() {
    let (i, j, k) = (token("i"), token("j"), token("k"));
    let key = [ED25519.jwk("")];
    let text =
        [rule_text("i", &key, ""), rule_text("j", &key, ", fromHeaders: [{name: x}], forwardOriginalToken: true")];
    let both = rules(&[&text.join("\n")]);
    let apart = rules(&[&text[0], &text[1]]);
    let bearer = |token: &str| format!("Bearer {token}");
    for (headers, want) in [
        (vec![], Ok(None)),
        (vec![("authorization", bearer(&i))], good("i/s")),
        (vec![("x", j.clone())], good("j/s")),
        // The first rule says who it is.
        (vec![("x", j.clone()), ("authorization", bearer(&i))], good("i/s")),
        // Not where its rule looks.
        (vec![("authorization", bearer(&j))], refused("Jwt issuer is not configured")),
        (vec![("x", i.clone())], refused("Jwt issuer is not configured")),
        (vec![("authorization", bearer(&i)), ("x", k.clone())], refused("Jwt issuer is not configured")),
    ] {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        for rules in [&both, &apart] {
            assert_eq!(said(check(rules, "/", &headers)), want, "{headers:?}");
        }
    }
    // Two rules for one issuer: one of them must find it good.
    let other = [P256.jwk("")];
    let twice = [rule_text("i", &other, ""), rule_text("i", &key, ", audiences: [a]"), rule_text("i", &key, "")];
    assert_eq!(super::bearer(&rules(&[&twice.join("\n")]), &i), good("i/s"));
    assert_eq!(
        super::bearer(&rules(&[&twice[..2].join("\n")]), &i),
        refused("Jwks doesn't have key to match kid or alg from Jwt")
    );
    // No more than so many tokens.
    let names: Vec<String> = (0..9).map(|n| format!("t{n}")).collect();
    let many = rule(&key, &format!(", fromParams: [{}]", names.join(",")));
    let query: Vec<String> = names.iter().map(|name| format!("{name}=a.b.{name}")).collect();
    assert_eq!(said(check(&many, &format!("/?{}", query.join("&")), &[])), refused("Found multiple Jwt tokens"));
    let same: Vec<String> = names.iter().map(|name| format!("{name}={i}")).collect();
    assert_eq!(said(check(&many, &format!("/?{}", same.join("&")), &[])), good("i/s"));
}

#[test]
fn a_token_that_is_required_must_be_there() {
    let key = [ED25519.jwk("")];
    let (required, optional) = (", presence: REQUIRED", ", fromHeaders: [{name: x}]");
    let text = [rule_text("i", &key, required), rule_text("j", &key, optional), rule_text("k", &key, required)];
    let rules = rules(&[&text.join("\n")]);
    let missing = || refused("Jwt is missing");
    for (bearer, x, want) in [
        (None, None, missing()),
        (None, Some("j"), missing()),
        (Some("i"), None, good("i/s")),
        (Some("k"), None, good("k/s")),
        (Some("i"), Some("j"), good("i/s")),
        // The first rule says who it is, required or not.
        (Some("k"), Some("j"), good("j/s")),
    ] {
        let bearer = bearer.map(|issuer| format!("Bearer {}", token(issuer)));
        let x = x.map(token);
        let headers = bearer.iter().map(|value| ("authorization", value.as_str()));
        let headers: Vec<_> = headers.chain(x.iter().map(|value| ("x", value.as_str()))).collect();
        assert_eq!(said(check(&rules, "/", &headers)), want, "{headers:?}");
    }
}

#[test]
fn what_only_a_token_may_say_is_never_what_a_client_says() {
    let key = [ED25519.jwk("")];
    let more = ", outputPayloadToHeader: x-payload, outputClaimToHeaders: [{header: x-user, claim: sub}, \
                {header: x-group, claim: a.group}, {header: x-admin, claim: admin}, {header: x-none, claim: none}]";
    let rules = rule(&key, more);
    let forged = [
        ("x-user", "admin"),
        ("x-user", "root"),
        ("x-payload", "e30"),
        ("x-group", "g"),
        ("x-admin", "true"),
        ("x-none", "1"),
        ("x-other", "kept"),
    ];
    let all = "x-payload,x-user,x-group,x-admin,x-none";
    let checked = check(&rules, "/", &forged).unwrap();
    assert_eq!((checked.verified, shown(&checked.changes)), (None, format!("-[{all}] +[]")));
    let payload = r#"{"iss":"i","sub":"s","a":{"group":7},"admin":false,"none":["x"]}"#;
    let value = format!("Bearer {}", ED25519.token("EdDSA", payload));
    let headers: Vec<_> = forged.into_iter().chain([("authorization", value.as_str())]).collect();
    let checked = check(&rules, "/", &headers).unwrap();
    let set = format!("x-payload={},x-user=s,x-group=7,x-admin=false", signer::base64url(payload));
    assert_eq!(shown(&checked.changes), format!("-[{all},authorization] +[{set}]"));
    // Of what nobody sent, nothing is taken out.
    let checked = check(&rules, "/", &headers[7..]).unwrap();
    assert_eq!(shown(&checked.changes), format!("-[authorization] +[{set}]"));
}

#[test]
fn a_claim_cannot_begin_another_header() {
    let rules = rule(&[ED25519.jwk("")], ", outputClaimToHeaders: [{header: x, claim: sub}]");
    for (sub, want) in [
        ("s", "-[authorization] +[x=s]"),
        ("s\\r\\nx-admin: 1", "-[authorization] +[]"),
        ("s\\n", "-[authorization] +[]"),
        (" s", "-[authorization] +[]"),
        ("\\u0000", "-[authorization] +[]"),
        ("\\u00e9", "-[authorization] +[x=\u{e9}]"),
    ] {
        let value = format!("Bearer {}", ED25519.token("EdDSA", &format!(r#"{{"iss":"i","sub":"{sub}"}}"#)));
        let checked = check(&rules, "/", &[("authorization", &value)]).unwrap();
        assert_eq!(shown(&checked.changes), want, "{sub}");
    }
}

#[test]
fn without_a_rule_nothing_is_asked() {
    let rules = TokenRules::new([]);
    assert!(rules.is_empty());
    assert_eq!(bearer(&rules, "x"), Ok(None));
}
