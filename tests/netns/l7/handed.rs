//! Our waypoint behind an agent that ends HBONE for it, as behind a ztunnel: it believes that agent, and nobody else.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weir_netlink::NetNs;
use weir_testbed::{PodSpec, ServiceSpec, Waypoint, binary, labels};
use weir_tests::{connect, eventually, pod_state, refused};
use weir_wire::proxy_v2::Header;

use crate::scene::{By, ECHO, HANDED, LINE, QUICK, Scene};

const POLICY: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: open, namespace: default}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  action: ALLOW
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/client]}}]
    to: [{operation: {methods: [GET], paths: [/open]}}]
  - to: [{operation: {paths: [/reached]}}]
  - to: [{operation: {ports: ['84']}}]
";
/// A route for connections that leads into the waypoint's own pod, to where headers are believed.
const LOOP: &str = "apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: loop, namespace: default}
spec:
  parentRefs: [{group: '', kind: Service, name: web, port: 84}]
  rules: [{backendRefs: [{name: loop, port: 84}]}]
";
/// The same by an endpoint that anybody may name: to connect to it is to connect to oneself.
const SELF: [&str; 2] = ["198.18.7.1", "2001:db8:7::1"];
const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";

/// A request of that path behind these bytes, and what comes of it: nothing where nobody is served.
fn tell(netns: &NetNs, at: SocketAddr, header: &[u8], path: &str) -> String {
    let mut stream = connect(netns, at).unwrap();
    // Who is not served may be gone before all is written.
    let request = format!("GET {path} HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n");
    stream.write_all(&[header, request.as_bytes()].concat()).unwrap_or_default();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap_or_default();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Entries bound to the waypoint whose endpoints are the unspecified addresses.
fn entries() -> String {
    let one = |(name, (ip, to)): (&str, (&str, &str))| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: {name}\n  namespace: default\n  \
             labels: {{istio.io/use-waypoint: waypoint}}\nspec:\n  hosts: [{name}.example]\n  addresses: ['{ip}']\n  \
             ports: [{{number: {LINE}, name: tcp, targetPort: {HANDED}}}, {{number: {ECHO}, name: http, targetPort: {HANDED}}}]\n  resolution: STATIC\n  endpoints: [{{address: '{to}'}}]\n---\n"
        )
    };
    ["self4", "self6"].into_iter().zip(SELF.into_iter().zip(["0.0.0.0", "::"])).map(one).collect()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

/// A header of a client that is somebody, or nobody.
fn header(client: IpAddr, target: SocketAddr, identity: Option<&str>) -> Vec<u8> {
    let identity = identity.map(|identity| identity.parse().unwrap());
    Header { client: SocketAddr::new(client, 4_000), target, identity, service: None }.encode()
}

#[test]
fn who_the_agent_says_it_is_is_who_it_is() {
    let manifests = [("policy.yaml", POLICY), ("loop.yaml", LOOP), ("self.yaml", &entries())];
    let mut scene = Scene::by(By::Agent, &manifests, |topology| {
        topology.hand_over("waypoint", HANDED).unwrap();
        for name in ["plain", "bare"] {
            topology.add_pod(PodSpec::new(name, 1).unenrolled()).unwrap();
        }
        let (selector, ports) = (labels([("app", "waypoint")]), vec![("tcp".to_owned(), LINE, HANDED)]);
        let spec = ServiceSpec { name: "loop".into(), namespace: "default".into(), selector, ports };
        topology.add_service(spec).unwrap();
    });
    let state = pod_state(&scene.bed.topology, 1, "waypoint").unwrap().unwrap();
    assert_eq!(state.0, "Enrolled", "{state:?}");
    scene.wait_status("client", "/open", &[], 200);
    scene.wait_status("other", "/open", &[], 403);
    for at in scene.at(ECHO) {
        for flag in ["--http1.1", "--http2-prior-knowledge"] {
            for (from, path, want) in [("client", "/open", 200), ("client", "/shut", 403), ("other", "/open", 403)] {
                assert_eq!(scene.status(from, at, path, &[flag]), want, "{from} {path} {flag}\n{}", scene.logs());
            }
        }
        // It goes on in the mesh, as the waypoint.
        let seen = scene.asked(at, "/open", &[]);
        let from: SocketAddr = seen["client"].as_str().unwrap().parse().unwrap();
        assert!(scene.bed.topology.pod("waypoint").addresses().contains(&from.ip()), "{seen}");
    }
    for code in ["200", "403"] {
        let code = format!("response_code=\"{code}\"");
        let labels = ["reporter=\"waypoint\"", "connection_security_policy=\"mutual_tls\"", &code, CLIENT];
        let counted = || Ok(scene.waypoint().metric("istio_requests_total", &labels)?.value >= 4);
        eventually("requests are counted by name", counted)
            .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.waypoint().metrics().unwrap()));
    }
    nobody_else_is_believed(&scene);
    who_is_in_the_pod_is_believed(&scene);
    no_route_leads_to_where_headers_are_believed(&scene);
    nothing_leaves_without_an_agent(&mut scene);
    scene.stop();
}

/// A header is worth nothing from outside of the pod, with an agent before it or without.
fn nobody_else_is_believed(scene: &Scene) {
    let topology = &scene.bed.topology;
    for from in ["plain", "client", "web-1"] {
        for ip in topology.pod("waypoint").addresses() {
            let at = SocketAddr::new(*ip, HANDED);
            refused(topology.pod(from).netns(), at)
                .unwrap_or_else(|error| panic!("{from}: {error:#}\n{}", scene.logs()));
        }
    }
    let (manifests, at) = (topology.manifests_dir(), format!("[::]:{HANDED}"));
    let flags: [&OsStr; 4] = ["--manifests".as_ref(), manifests.as_ref(), "--proxy-addr".as_ref(), at.as_ref()];
    let bare = Waypoint::start_from(topology, &binary("weir-waypoint").unwrap(), "bare", &flags).unwrap();
    for (ip, target) in topology.pod("bare").addresses().iter().zip(scene.at(QUICK)) {
        let client = topology.pod("client").addresses().iter().find(|own| own.is_ipv4() == ip.is_ipv4()).unwrap();
        let header = header(*client, target, Some(CLIENT));
        let answer = tell(topology.pod("plain").netns(), SocketAddr::new(*ip, HANDED), &header, "/open");
        assert_eq!(answer, "", "a stranger was believed\n{}", bare.log());
    }
    let said = |line: &str| line.contains("not from this pod") && line.contains("refused");
    let both = || Ok(bare.log().lines().filter(|line| said(line)).count() == 2);
    eventually("the log says why", both).unwrap_or_else(|error| panic!("{error:#}\n{}", bare.log()));
    bare.stop().unwrap();
}

/// From within the pod, where only its own programs and its agent are, what a header says counts, and nothing but a header is taken.
fn who_is_in_the_pod_is_believed(scene: &Scene) {
    let topology = &scene.bed.topology;
    let netns = topology.pod("waypoint").netns();
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    for ((ip, target), client) in loopback.into_iter().zip(scene.at(QUICK)).zip(topology.pod("client").addresses()) {
        let at = SocketAddr::new(ip, HANDED);
        let of = |identity| header(*client, target, identity);
        let elsewhere = header(*client, SocketAddr::new(*client, 80), Some(CLIENT));
        let mut local = of(None);
        local.splice(12.., [0x20, 0, 0, 0]);
        for (header, path, want) in [
            (of(Some(CLIENT)), "/open", "200"),
            (of(Some(CLIENT)), "/shut", "403"),
            (of(Some("spiffe://cluster.local/ns/default/sa/other")), "/open", "403"),
            // Nobody proven is a client in plaintext.
            (of(None), "/open", "403"),
            (of(None), "/reached", "200"),
            // What is not bound to it, its agent's own probe, and no header at all.
            (elsewhere, "/open", "none"),
            (local, "/open", "none"),
            (Vec::new(), "/open", "none"),
        ] {
            let answer = tell(netns, at, &header, path);
            assert_eq!(status(&answer), want, "{at} {path} {header:?}: {answer}\n{}", scene.logs());
        }
    }
}

/// Who writes routes could else have the waypoint itself bring a header of his own making.
fn no_route_leads_to_where_headers_are_believed(scene: &Scene) {
    let topology = &scene.bed.topology;
    let (netns, client_addresses) = (topology.pod("other").netns(), topology.pod("client").addresses());
    // It gets there, from the pod's own address, and says nothing.
    let cut = |line: &str| line.contains("refused peer=") && line.contains("it ends before its PROXY header does");
    let cuts = || scene.waypoint().log().lines().filter(|line| cut(line)).count();
    for ((at, target), client) in scene.at(LINE).into_iter().zip(scene.at(QUICK)).zip(client_addresses) {
        let before = cuts();
        let header = header(*client, target, Some(CLIENT));
        eventually("the way is cut", || {
            let answer = tell(netns, at, &header, "/open");
            assert_eq!(answer, "", "{at}: a header that came by a route is believed\n{}", scene.logs());
            Ok(cuts() > before)
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.logs()));
    }
    for ((ip, target), client) in SELF.into_iter().zip(scene.at(QUICK)).zip(client_addresses) {
        let at = |port| SocketAddr::new(ip.parse().unwrap(), port);
        eventually("nobody is connected to", || {
            let heard = scene.curl("other", at(ECHO), "/", &[])?;
            Ok(heard.status == 503 && heard.body.contains("an address of this very pod or its link"))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.logs()));
        let answer = tell(netns, at(LINE), &header(*client, target, Some(CLIENT)), "/open");
        assert_eq!(answer, "", "{ip}: a header that came by an endpoint is believed\n{}", scene.logs());
    }
}

/// While its agent is away, what the waypoint sends goes nowhere.
fn nothing_leaves_without_an_agent(scene: &mut Scene) {
    scene.bed.kill_agent(1).unwrap();
    let netns = scene.bed.topology.pod("waypoint").netns();
    for (target, client) in scene.at(QUICK).into_iter().zip(scene.bed.topology.pod("client").addresses()) {
        let at = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), HANDED);
        let answer = tell(netns, at, &header(*client, target, Some(CLIENT)), "/open");
        assert_eq!(status(&answer), "503", "{answer}\n{}", scene.logs());
    }
    scene.bed.restart_agent(1, &[]).unwrap();
    scene.reached();
}
