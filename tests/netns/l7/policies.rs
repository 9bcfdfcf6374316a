//! Who may ask for what: by proven identity, method and path, and by token.

use std::fmt::Write;
use std::process::Command;

use serde_json::Value;

use crate::scene::{ECHO, Scene, python};

const POLICIES: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: open, namespace: default}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  action: ALLOW
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/client]}}]
    to: [{operation: {methods: [GET, HEAD], paths: ['/open*', '/items/{*}/name']}}]
  - from: [{source: {principals: [cluster.local/ns/default/sa/other]}}]
    to: [{operation: {methods: [POST], paths: [/inbox]}}]
  - to: [{operation: {paths: [/reached]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: shut, namespace: default}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  action: DENY
  rules:
  - to: [{operation: {paths: ['/open/secret*']}}]
";

#[test]
fn requests_are_let_in_by_identity_method_and_path() {
    let scene = Scene::new(&[("policies.yaml", POLICIES)]);
    scene.wait_status("client", "/closed", &[], 403);
    for at in scene.at(ECHO) {
        for flag in ["--http1.1", "--http2-prior-knowledge"] {
            for (from, path, more, want) in [
                ("client", "/open", &[][..], 200),
                ("client", "/open/a?x=/secret", &[], 200),
                ("client", "/open", &["--head"], 200),
                ("client", "/items/7/name", &[], 200),
                ("client", "/items/7/8/name", &[], 403),
                ("client", "/items/7/price", &[], 403),
                ("client", "/open", &["--data", "x"], 403),
                ("client", "/inbox", &["--data", "x"], 403),
                ("client", "/", &[], 403),
                ("other", "/open", &[], 403),
                ("other", "/inbox", &["--data", "x"], 200),
                ("other", "/inbox", &[], 403),
                // However it is spelled.
                ("client", "/open/secret", &[], 403),
                ("client", "/open/secret/7", &[], 403),
                ("client", "/open//secret", &[], 403),
                ("client", "//open/secret", &[], 403),
                ("client", "/open/./secret", &[], 403),
                ("client", "/open/x/../secret", &[], 403),
                ("client", "/open/%73ecret", &[], 403),
                ("client", "/open%2Fsecret", &[], 403),
                ("client", "/open%2fsecret", &[], 403),
                // No way to read it is the right one.
                ("client", "/open/x/..%2fsecret", &[], 400),
                ("client", "/open/..;/open/secret", &[], 400),
                ("client", "/open/../closed", &[], 403),
                // Nobody is who he says.
                (
                    "other",
                    "/open",
                    &["-H", "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/default/sa/client"],
                    403,
                ),
                ("other", "/open", &["-H", "baggage: k8s.service.account.name=client"], 403),
            ] {
                let more = [&[flag], more].concat();
                assert_eq!(scene.status(from, at, path, &more), want, "{from} {path} {more:?}\n{}", scene.logs());
            }
            let heard = scene.curl("other", at, "/open", &[flag]).unwrap();
            assert_eq!(heard.body, "RBAC: access denied", "{heard:?}");
        }
    }
    for pod in ["web-1", "web-2"] {
        let arrived = scene.counts(pod);
        assert!(arrived.keys().all(|what| !what.contains("ecret") || what.contains("?x=")), "{arrived:?}");
    }
    // Who was kept out is counted by name, and the log says by which policy.
    let by = |who: &str, code: u16| {
        let (code, who) = (
            format!("response_code=\"{code}\""),
            format!("source_principal=\"spiffe://cluster.local/ns/default/sa/{who}\""),
        );
        scene
            .waypoint()
            .metric("istio_requests_total", &["reporter=\"waypoint\"", "destination_service_name=\"web\"", &code, &who])
            .unwrap()
            .value
    };
    assert!(by("client", 403) >= 60 && by("client", 200) >= 16, "{}", scene.waypoint().metrics().unwrap());
    assert!(by("other", 403) >= 20 && by("other", 200) >= 4, "{}", scene.waypoint().metrics().unwrap());
    for policy in [
        "rbac_access_denied_matched_policy[none]",
        "rbac_access_denied_matched_policy[ns[default]-policy[shut]-rule[0]]",
    ] {
        let said = || Ok(scene.waypoint().log().lines().any(|line| line.contains(" 403 ") && line.contains(policy)));
        weir_tests::eventually(policy, said).unwrap_or_else(|error| panic!("{error:#}\n{}", scene.logs()));
    }
    scene.stop();
}

fn tokens(jwks: &Value) -> String {
    let mut text = format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: tokens, namespace: default}}\nspec:\n  \
         targetRefs: [{{group: '', kind: Service, name: web}}]\n  jwtRules:\n  - issuer: https://issuer.example\n    audiences: [web]\n    \
         jwks: '{jwks}'\n    outputClaimToHeaders: [{{header: x-user, claim: sub}}]\n---\n"
    );
    text.write_str(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: alice, namespace: default}\nspec:\n  \
         targetRefs: [{group: '', kind: Service, name: web}]\n  action: ALLOW\n  rules:\n  \
         - from: [{source: {requestPrincipals: [https://issuer.example/alice]}}]\n  - to: [{operation: {paths: [/reached, /free]}}]\n",
    )
    .unwrap();
    text
}

#[test]
fn requests_are_let_in_by_token() {
    let scene = Scene::new(&[]);
    let mut command: Command = python("tokens.py", &[], &[]);
    command.arg(scene.bed.topology.work_dir());
    let made: Value = serde_json::from_str(&scene.run("client", command).unwrap()).unwrap();
    scene.bed.topology.add_manifest("tokens.yaml", &tokens(&made["jwks"])).unwrap();
    scene.wait_status("client", "/", &[], 403);
    let bearer = |kind: &str| format!("authorization: Bearer {}", made[kind].as_str().unwrap());
    for at in scene.at(ECHO) {
        for flag in ["--http1.1", "--http2-prior-knowledge"] {
            let good = bearer("good");
            let seen = scene.asked(at, "/", &[flag, "-H", &good, "-H", "x-user: mallory"]);
            assert_eq!(seen["headers"]["x-user"], "alice", "{seen}");
            assert!(
                seen["headers"]["authorization"].is_null(),
                "a token is not handed on unless it is asked for: {seen}"
            );
            for (kind, want) in [
                ("somebody else", 403),
                ("expired", 401),
                ("for another", 403),
                ("by another key", 401),
                ("unsigned", 401),
                ("cut off", 401),
            ] {
                // Even where nobody needs one, a bad one is refused.
                let free = if want == 401 { 401 } else { 200 };
                let audience = if kind == "for another" { 403 } else { free };
                let header = bearer(kind);
                assert_eq!(scene.status("client", at, "/", &[flag, "-H", &header]), want, "{kind}\n{}", scene.logs());
                assert_eq!(
                    scene.status("client", at, "/free", &[flag, "-H", &header]),
                    audience,
                    "{kind}\n{}",
                    scene.logs()
                );
            }
            assert_eq!(scene.status("client", at, "/free", &[flag]), 200);
            assert_eq!(scene.status("client", at, "/", &[flag]), 403);
        }
    }
    scene.stop();
}
