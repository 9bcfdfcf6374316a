//! Routes of the Gateway API for services, with backends of other namespaces, for clients of one namespace, for calls of gRPC and for connections.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use weir_testbed::{NamespaceSpec, PodSpec, ServiceSpec, Topology, labels};
use weir_tests::{client_seen, connect, eventually};

use crate::scene::{By, ECHO, GRPC, LINE, Scene, python};

/// A route's object.
fn route(kind: &str, namespace: &str, name: &str, port: u16, rules: &str) -> String {
    let version = if kind == "TCPRoute" { "v1alpha2" } else { "v1" };
    format!(
        "apiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
         parentRefs: [{{group: '', kind: Service, name: web, namespace: default, port: {port}}}]\n  rules:\n{rules}---\n"
    )
}

/// Services `one` and `two`, each a pod of `web`; `api` in the namespace `back`; and a client in `front`.
fn more(topology: &mut Topology) {
    for name in ["back", "front"] {
        let labels = labels([("istio.io/dataplane-mode", "ambient")]);
        topology.set_namespace(NamespaceSpec { name: name.into(), labels }).unwrap();
    }
    let of = |namespace: &str, spec: PodSpec| PodSpec { namespace: namespace.into(), ..spec };
    topology.add_pod(of("back", PodSpec::new("api", 1))).unwrap();
    topology.add_pod(of("front", PodSpec::new("guest", 0))).unwrap();
    for (namespace, name, selector) in [
        ("default", "one", labels([("app", "web"), ("version", "1")])),
        ("default", "two", labels([("app", "web"), ("version", "2")])),
        ("back", "api", labels([("app", "api")])),
    ] {
        let ports = [("http", 81, 8081), ("grpc", 82, 8082), ("tcp-line", 84, 8080)];
        let ports = ports.map(|(name, port, target)| (name.to_owned(), port, target)).into();
        topology.add_service(ServiceSpec { name: name.into(), namespace: namespace.into(), selector, ports }).unwrap();
    }
}

#[test]
fn an_http_route_leads_to_other_namespaces_where_they_let_it() {
    let mut scene = Scene::by(By::Folder, &[], more);
    scene.start_echo("api");
    let rules = "  - matches: [{path: {value: /api}}]\n    backendRefs: [{name: api, namespace: back, port: 81}]\n  \
                 - matches: [{path: {value: /mixed}}]\n    backendRefs: [{name: api, namespace: back, port: 81, weight: 1}, {name: one, port: 81, weight: 3}]\n  \
                 - matches: [{headers: [{name: x-version, value: '2'}]}]\n    backendRefs: [{name: two, port: 81}]\n  \
                 - backendRefs: [{name: one, port: 81}]\n";
    let producer = route("HTTPRoute", "default", "web", ECHO, rules);
    scene.bed.topology.add_manifest("route.yaml", &producer).unwrap();
    // Nobody in `back` lets it.
    scene.wait_status("client", "/api", &[], 500);
    let tally = |path: &str| {
        let mut tally: BTreeMap<String, u32> = BTreeMap::new();
        for at in scene.at(ECHO) {
            for _ in 0..100 {
                let heard = scene.curl("client", at, path, &[]).unwrap();
                let by = match heard.status {
                    200 => serde_json::from_str::<serde_json::Value>(&heard.body).unwrap()["name"]
                        .as_str()
                        .unwrap()
                        .to_owned(),
                    other => other.to_string(),
                };
                *tally.entry(by).or_default() += 1;
            }
        }
        tally
    };
    // Its share of the requests is refused, and no other: 50 of 200, five deviations of chance are 31.
    let refused = tally("/mixed");
    assert!(refused.len() == 2 && (19..=81).contains(&refused["500"]) && refused.contains_key("web-1"), "{refused:?}");
    let grant = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: in, namespace: back}\nspec:\n  \
                 from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}]\n  to: [{group: '', kind: Service, name: api}]\n";
    scene.bed.topology.add_manifest("grant.yaml", grant).unwrap();
    scene.wait_status("client", "/api", &[], 200);
    let mixed = tally("/mixed");
    assert!(mixed.len() == 2 && (19..=81).contains(&mixed["api"]), "{mixed:?}");
    for at in scene.at(ECHO) {
        for (path, more, want) in
            [("/api/x", &[][..], "api"), ("/x", &[], "web-1"), ("/x", &["-H", "x-version: 2"], "web-2")]
        {
            assert_eq!(scene.asked(at, path, more)["name"], want, "{path} {more:?}");
        }
    }
    only_for_its_own_namespace(&scene, &producer);
    scene.stop();
}

/// A route in the clients' namespace is about those clients alone, and goes before that of the service's.
fn only_for_its_own_namespace(scene: &Scene, producer: &str) {
    let rules = "  - matches: [{path: {type: Exact, value: /own}}]\n    \
                 filters: [{type: RequestRedirect, requestRedirect: {statusCode: 302, path: {type: ReplaceFullPath, replaceFullPath: /theirs}}}]\n  \
                 - backendRefs: [{name: web, namespace: default, port: 81}]\n    \
                   filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-guest, value: 'yes'}]}}]\n";
    let mut both = producer.to_owned();
    both += &route("HTTPRoute", "front", "own", ECHO, rules);
    both.push_str(
        "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: in, namespace: default}\nspec:\n  \
         from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: front}]\n  to: [{group: '', kind: Service, name: web}]\n",
    );
    scene.bed.topology.add_manifest("route.yaml", &both).unwrap();
    scene.wait_status("guest", "/own", &[], 302);
    for at in scene.at(ECHO) {
        assert_eq!(scene.status("client", at, "/own", &[]), 200, "{}", scene.logs());
        let heard = scene.curl("guest", at, "/x", &[]).unwrap();
        assert!(heard.status == 200 && heard.body.contains("\"x-guest\": \"yes\""), "{heard:?}\n{}", scene.logs());
        assert!(scene.asked(at, "/x", &[])["headers"]["x-guest"].is_null());
    }
}

#[test]
fn a_grpc_route_leads_calls() {
    let scene = Scene::by(By::Folder, &[], more);
    let library = ["setup-grpc.sh"];
    let _server = scene.serve("web-1", python("grpc_peer.py", &library, &["serve"]), 8082);
    let calls = |kind: &str| {
        for at in scene.at(GRPC) {
            let ask = || scene.run("client", python("grpc_peer.py", &library, &[kind, &at.to_string()]));
            eventually(kind, || ask().map(|_| true))
                .unwrap_or_else(|error| panic!("{at}: {error:#}\n{}", scene.logs()));
            ask().unwrap_or_else(|error| panic!("{at}: {error:#}\n{}", scene.logs()));
        }
    };
    let rule = |method: &str| {
        let rules = format!(
            "  - matches: [{{method: {{service: test.Peer{method}}}}}]\n    backendRefs: [{{name: one, port: 82}}]\n"
        );
        scene.bed.topology.add_manifest("route.yaml", &route("GRPCRoute", "default", "calls", GRPC, &rules)).unwrap();
    };
    rule("");
    calls("call");
    // One method alone: the others are led nowhere.
    rule(", method: Unary");
    calls("only-unary");
    scene.stop();
}

#[test]
fn a_tcp_route_shares_out_connections() {
    let scene = Scene::by(By::Folder, &[], more);
    let web = |at| client_seen(scene.bed.topology.pod("client").netns(), at, "/").map(|(name, _)| name);
    let rules = "  - backendRefs: [{name: one, port: 84, weight: 3}, {name: two, port: 84, weight: 1}]\n";
    scene.bed.topology.add_manifest("route.yaml", &route("TCPRoute", "default", "line", LINE, rules)).unwrap();
    let shares = || {
        let mut tally: BTreeMap<String, u32> = BTreeMap::new();
        for at in scene.at(LINE) {
            for _ in 0..100 {
                *tally.entry(web(at)?).or_default() += 1;
            }
        }
        Ok::<_, anyhow::Error>(tally)
    };
    // 50 of 200, five deviations of chance are 31; without the route they are alike, 100 of 200.
    let shared = || Ok(shares()?.get("web-2").is_some_and(|count| (19..=81).contains(count)));
    eventually("connections are shared out", shared).unwrap_or_else(|error| panic!("{error:#}\n{}", scene.logs()));
    // To another namespace, which does not let it and then does.
    let rules = "  - backendRefs: [{name: api, namespace: back, port: 84}]\n";
    scene.bed.topology.add_manifest("route.yaml", &route("TCPRoute", "default", "line", LINE, rules)).unwrap();
    for at in scene.at(LINE) {
        eventually("it leads nowhere", || Ok(web(at).is_err())).unwrap();
    }
    let grant = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: in, namespace: back}\nspec:\n  \
                 from: [{group: gateway.networking.k8s.io, kind: TCPRoute, namespace: default}]\n  to: [{group: '', kind: Service}]\n";
    scene.bed.topology.add_manifest("grant.yaml", grant).unwrap();
    for at in scene.at(LINE) {
        eventually("it leads to the other namespace", || Ok(web(at)? == "api"))
            .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.logs()));
    }
    counted_while_open(&scene);
    scene.stop();
}

/// A connection is counted when it opens, and its bytes and its end when it closes.
fn counted_while_open(scene: &Scene) {
    let rules = "  - backendRefs: [{name: one, port: 84}]\n";
    scene.bed.topology.add_manifest("route.yaml", &route("TCPRoute", "default", "line", LINE, rules)).unwrap();
    let labels = ["reporter=\"waypoint\"", "destination_workload=\"web-1\"", "destination_service_name=\"one\""];
    let count = |what: &str| scene.waypoint().metric(&format!("istio_tcp_{what}_total"), &labels).map(|sum| sum.value);
    let open = || Ok::<_, anyhow::Error>(count("connections_opened")? - count("connections_closed")?);
    for at in scene.at(LINE) {
        let netns = scene.bed.topology.pod("client").netns();
        eventually("the route is there", || Ok(client_seen(netns, at, "/")?.0 == "web-1"))
            .and_then(|()| eventually("all have ended", || Ok(open()? == 0)))
            .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.logs()));
        let before = (count("sent_bytes").unwrap(), count("received_bytes").unwrap());
        let mut client = connect(netns, at).unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: web\r\n\r\n";
        client.write_all(request).unwrap();
        assert_ne!(client.read(&mut [0; 64]).unwrap(), 0);
        eventually("it is counted as open", || Ok(open()? == 1))
            .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.logs()));
        assert_eq!((count("sent_bytes").unwrap(), count("received_bytes").unwrap()), before);
        drop(client);
        eventually("its end is counted", || Ok(open()? == 0))
            .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.logs()));
        let after = (count("sent_bytes").unwrap(), count("received_bytes").unwrap());
        assert!(
            after.0 > before.0 && after.1 - before.1 == u64::try_from(request.len()).unwrap(),
            "{before:?} {after:?}"
        );
    }
}
