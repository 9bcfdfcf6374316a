//! Agents and waypoint under a real control plane: all of the mesh, what shapes requests and every certificate come from there.

use nix::sys::signal::Signal;
use weir_tests::{PATIENCE, eventually};

use crate::scene::{By, ECHO, Scene};

fn route(path: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
         parentRefs: [{{group: '', kind: Service, name: web, port: {ECHO}}}]\n  rules:\n  \
         - matches: [{{path: {{type: Exact, value: {path}}}}}]\n    \
           filters: [{{type: RequestRedirect, requestRedirect: {{statusCode: 302, path: {{type: ReplaceFullPath, replaceFullPath: /elsewhere}}}}}}]\n  \
         - backendRefs: [{{name: web, port: {ECHO}}}]\n"
    )
}

fn policy(account: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
         targetRefs: [{{group: '', kind: Service, name: web}}]\n  action: ALLOW\n  rules:\n  \
         - from: [{{source: {{principals: [cluster.local/ns/default/sa/{account}]}}}}]\n    \
           to: [{{operation: {{methods: [GET], paths: [/open]}}}}]\n  - to: [{{operation: {{paths: [/reached]}}}}]\n"
    )
}

#[test]
fn what_the_control_plane_is_told_curl_sees() {
    let mut scene = Scene::by(By::Control, &[], |_| {});
    let folder = |scene: &Scene, name: &str, content: &str| scene.bed.topology.add_manifest(name, content).unwrap();
    for at in scene.at(ECHO) {
        for flag in ["--http1.1", "--http2-prior-knowledge"] {
            assert_eq!(scene.status("client", at, "/old", &[flag]), 200, "{}", scene.logs());
        }
    }
    // A route, and another in its place.
    folder(&scene, "route.yaml", &route("/old"));
    scene.wait_status("client", "/old", &[], 302);
    folder(&scene, "route.yaml", &route("/new"));
    scene.wait_status("client", "/new", &[], 302);
    scene.wait_status("client", "/old", &[], 200);
    // A policy on proven identities, and another in its place.
    for (account, [client, other]) in [("client", [200, 403]), ("other", [403, 200])] {
        folder(&scene, "policy.yaml", &policy(account));
        scene.wait_status("client", "/open", &[], client);
        scene.wait_status("other", "/open", &[], other);
        for at in scene.at(ECHO) {
            for flag in ["--http1.1", "--http2-prior-knowledge"] {
                for (from, want) in [("client", client), ("other", other)] {
                    assert_eq!(scene.status(from, at, "/open", &[flag]), want, "{from}\n{}", scene.logs());
                }
            }
        }
    }
    // Endpoints come and go as the control plane says.
    let only = |scene: &Scene, gone: &'static str| {
        eventually("the other one gets it all", || {
            let seen = |at| scene.curl("other", at, "/open", &[]).map(|heard| heard.body.contains(gone));
            Ok(scene.at(ECHO).into_iter().all(|at| (0..10).all(|_| seen(at).is_ok_and(|is| !is))))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.logs()));
    };
    scene.bed.topology.change_pod("web-2", |spec| spec.ready = false).unwrap();
    only(&scene, "\"web-2\"");
    // Away, it takes nothing with it.
    let mut control = scene.control.take().unwrap();
    control.signal(Signal::SIGKILL).unwrap();
    control.wait(PATIENCE).unwrap();
    for at in scene.at(ECHO) {
        for (from, path, want) in [("other", "/open", 200), ("client", "/open", 403), ("other", "/new", 403)] {
            assert_eq!(scene.status(from, at, path, &[]), want, "{from} {path}\n{}", scene.logs());
        }
    }
    scene.stop();
}
