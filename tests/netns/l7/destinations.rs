//! What leaves the mesh through a waypoint: with TLS of its own, and to names that a server of DNS knows.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use weir_testbed::{Process, Waypoint, binary, write_atomically};
use weir_tests::{PATIENCE, eventually};

use crate::scene::{Scene, python};

/// What clients of the mesh ask for: addresses that nobody has.
const ASKED: [&str; 2] = ["198.18.7.1", "2001:db8:7::1"];

/// Files of the world outside, and of who may enter it, made by openssl.
struct Files(PathBuf);

impl Files {
    fn new(dir: PathBuf) -> Self {
        fs::create_dir_all(&dir).unwrap();
        let files = Self(dir);
        files.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=outside",
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
        ]);
        files.sign("bank", "subjectAltName=DNS:bank.example,URI:spiffe://outside/bank");
        files.sign("teller", "subjectAltName=DNS:teller.example");
        files
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").args(arguments).current_dir(&self.0).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A certificate of that common name, and its key; both files are there at once.
    fn sign(&self, name: &str, extension: &str) {
        let [key, request, certificate, made] = ["key", "csr", "pem", "ext"].map(|end| format!("{name}.{end}"));
        fs::write(self.path(&made), format!("{extension}\nextendedKeyUsage=serverAuth,clientAuth\n")).unwrap();
        self.openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            &format!("/CN={name}"),
            "-keyout",
            &key,
            "-out",
            &request,
        ]);
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            &made,
            "-out",
            &certificate,
        ]);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// A program that is outside, at a port of all addresses of a node.
fn outside(scene: &Scene, name: &str, mut command: Command, node: usize, port: u16) -> Process {
    let node = &scene.bed.topology.nodes()[node];
    let at = node.addresses().map(|ip| SocketAddr::new(ip, port));
    command.args(at.map(|at| at.to_string()));
    let logs = scene.bed.topology.work_dir().join("logs");
    Process::start(node.netns(), name, command, &logs).unwrap()
}

fn listening(mut process: Process, scene: &Scene, node: usize, port: u16) -> Process {
    for ip in scene.bed.topology.nodes()[node].addresses() {
        process.wait_listening(SocketAddr::new(ip, port), PATIENCE).unwrap();
    }
    process
}

/// A ServiceEntry of one host, bound to the waypoint.
fn entry(host: &str, addresses: &str, ports: &str, more: &str) -> String {
    let name = host.split('.').next().unwrap();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: {name}\n  namespace: default\n  \
         labels: {{istio.io/use-waypoint: waypoint}}\nspec:\n  hosts: [{host}]\n  addresses: [{addresses}]\n  ports: [{ports}]\n  {more}\n---\n"
    )
}

fn quoted(ips: &[impl ToString]) -> String {
    ips.iter().map(|ip| format!("'{}'", ip.to_string())).collect::<Vec<_>>().join(", ")
}

fn asked(port: u16) -> [SocketAddr; 2] {
    ASKED.map(|ip| SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port))
}

/// What the server says it was told, once it is answered at all.
fn told(scene: &Scene, at: SocketAddr, want: &Value) {
    eventually(&format!("{at} says {want}"), || {
        let heard = scene.curl("client", at, "/told", &["--header", "host: bank.example"])?;
        let told: Value = serde_json::from_str(&heard.body).unwrap_or_default();
        Ok(want.as_object().unwrap().iter().all(|(key, value)| told[key] == *value))
    })
    .unwrap_or_else(|error| {
        let last = scene.curl("client", at, "/told", &[]);
        panic!("{at}: {error:#}: {last:?}\n{}", scene.logs())
    });
}

/// What is refused, and why.
fn refused(scene: &Scene, at: SocketAddr, why: &str) {
    let heard = scene.curl("client", at, "/refused", &[]).unwrap();
    assert!(heard.status == 503 && heard.body.contains(why), "{at}: {heard:?}\n{}", scene.logs());
}

fn rule(files: &Files) -> String {
    let ca = files.text("ca.pem");
    let own = |name: &str| {
        format!(
            "clientCertificate: {}, privateKey: {}",
            files.text(&format!("{name}.pem")),
            files.text(&format!("{name}.key"))
        )
    };
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: bank, namespace: default}}\nspec:\n  host: bank.example\n  \
         trafficPolicy:\n    portLevelSettings:\n    \
         - {{port: {{number: 80}}, tls: {{mode: SIMPLE, caCertificates: {ca}}}}}\n    \
         - {{port: {{number: 81}}, tls: {{mode: MUTUAL, caCertificates: {ca}, {}, sni: bank.example, subjectAltNames: ['spiffe://outside/bank']}}}}\n    \
         - {{port: {{number: 82}}, tls: {{mode: SIMPLE, caCertificates: {ca}, subjectAltNames: [other.example]}}}}\n    \
         - {{port: {{number: 83}}, tls: {{mode: SIMPLE, caCertificates: {}}}}}\n    \
         - {{port: {{number: 84}}, tls: {{mode: SIMPLE}}}}\n    \
         - {{port: {{number: 85}}, tls: {{mode: SIMPLE, credentialName: bank}}}}\n    \
         - {{port: {{number: 86}}, tls: {{mode: SIMPLE, caCertificates: {ca}}}}}\n",
        own("own"),
        files.text("absent.pem"),
    )
}

#[test]
fn requests_leave_the_mesh_with_tls_of_the_waypoints_own_or_not_at_all() {
    let scene = Scene::new(&[]);
    let topology = &scene.bed.topology;
    let files = Files::new(topology.work_dir().join("outside"));
    files.sign("own", "subjectAltName=DNS:waypoint.example");
    let node = topology.nodes()[0].addresses();
    let endpoints = node.map(|ip| format!("{{address: '{ip}'}}")).join(", ");
    let serve = |name: &str, clients: &str, port| {
        let command = python("outside.py", &[], &["tls", &files.text("bank.pem"), &files.text("bank.key"), clients]);
        listening(outside(&scene, name, command, 0, port), &scene, 0, port)
    };
    let (simple, mutual) = (serve("bank", "-", 8443), serve("bank-mutual", &files.text("ca.pem"), 8444));
    let port = |number: u16, target: u16| format!("{{number: {number}, name: http-{number}, targetPort: {target}}}");
    let ports = [
        port(80, 8443),
        port(81, 8444),
        port(82, 8443),
        port(83, 8443),
        port(84, 8443),
        port(85, 8443),
        port(86, 8444),
    ]
    .join(", ");
    let entry =
        entry("bank.example", &quoted(&ASKED), &ports, &format!("resolution: STATIC\n  endpoints: [{endpoints}]"));
    topology.add_manifest("bank.yaml", &format!("{entry}{}", rule(&files))).unwrap();

    for at in asked(80) {
        told(
            &scene,
            at,
            &json!({"sni": "bank.example", "alpn": "http/1.1", "version": "TLSv1.3", "client": null, "path": "/told"}),
        );
    }
    for at in asked(81) {
        told(&scene, at, &json!({"sni": "bank.example", "client": "own"}));
    }
    for at in asked(82) {
        refused(&scene, at, "is for bank.example, spiffe://outside/bank, expected other.example");
    }
    for [port, why] in [
        ["83", "absent.pem cannot be read"],
        ["84", "the server's certificate is not believed"],
        ["85", "by the Secret \"bank\" (credentialName), which this version does not do"],
        // The server wants to know who is there, and is not told. It says so when the handshake is over for the client.
        ["86", "upstream connect error"],
    ] {
        for at in asked(port.parse().unwrap()) {
            refused(&scene, at, why);
        }
    }
    let log = scene.waypoint().log();
    assert!(log.lines().any(|line| line.contains("/refused") && line.contains("UF")), "{log}");
    // Another certificate, put in the place of the first as a volume of Kubernetes does it.
    files.sign("next", "subjectAltName=DNS:waypoint.example");
    for end in ["key", "pem"] {
        fs::rename(files.path(&format!("next.{end}")), files.path(&format!("own.{end}"))).unwrap();
    }
    for at in asked(81) {
        told(&scene, at, &json!({"client": "next"}));
    }
    drop((simple, mutual));
    scene.stop();
}

fn say(path: &Path, names: &Value) {
    write_atomically(path, &names.to_string()).unwrap();
}

/// Who answers, once that is as wanted.
fn answers(scene: &Scene, at: SocketAddr, want: &str) {
    eventually(&format!("{at} is {want}"), || {
        let heard = scene.curl("client", at, "/", &[])?;
        Ok(serde_json::from_str::<Value>(&heard.body).unwrap_or_default()["name"] == want)
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:?}\n{}", scene.curl("client", at, "/", &[]), scene.logs()));
}

/// ServiceEntries whose endpoint is where nobody else is.
fn nobodys(ports: &str) -> String {
    [
        ("lo4.example", "198.18.7.5", "127.0.0.1"),
        ("lo6.example", "'2001:db8:7::5'", "::1"),
        ("mapped.example", "198.18.7.6", "::ffff:127.0.0.1"),
        ("any4.example", "198.18.7.7", "0.0.0.0"),
        ("any6.example", "'2001:db8:7::7'", "::"),
        ("cloud.example", "198.18.7.8", "169.254.169.254"),
    ]
    .map(|(host, at, endpoint)| {
        entry(host, at, ports, &format!("resolution: STATIC\n  endpoints: [{{address: '{endpoint}'}}]"))
    })
    .concat()
}

#[test]
fn endpoints_with_names_are_where_a_server_of_dns_says_and_stay_there_when_it_is_gone() {
    let mut scene = Scene::new(&[]);
    let names = scene.bed.topology.work_dir().join("names.json");
    let nodes = [0, 1].map(|node| scene.bed.topology.nodes()[node].addresses());
    let inside = scene.bed.topology.pod("web-1").addresses().to_vec();
    let found = |at: &[IpAddr; 2]| at.map(|ip| ip.to_string()).to_vec();
    let known = |far: &[IpAddr; 2]| json!({"far.example": found(far), "own.example": ["127.0.0.1", "::1"], "web.example": inside});
    say(&names, &known(&nodes[0]));
    let mut server = outside(&scene, "dns", python("outside.py", &[], &["dns", names.to_str().unwrap()]), 0, 5_300);
    server.wait_log("listening", PATIENCE).unwrap();
    let serve = |name: &'static str, node: usize| {
        let mut command = weir_tests::bed_command(&["serve-http", "--name", name]).unwrap();
        let at = &scene.bed.topology.nodes()[node];
        for ip in at.addresses() {
            command.arg("--listen").arg(SocketAddr::new(ip, 9_000).to_string());
        }
        let process = Process::start(at.netns(), name, command, &scene.bed.topology.work_dir().join("logs")).unwrap();
        listening(process, &scene, node, 9_000)
    };
    let (near, further) = (serve("near", 0), serve("further", 1));
    let ports = "{number: 80, name: http, targetPort: 9000}, {number: 81, name: http-web, targetPort: 8080}";
    let admin = "{number: 80, name: http, targetPort: 15000}";
    let entries = [
        entry("far.example", &quoted(&ASKED), ports, "resolution: DNS"),
        entry(
            "first.example",
            "198.18.7.2, '2001:db8:7::2'",
            ports,
            "resolution: DNS_ROUND_ROBIN\n  endpoints: [{address: far.example}]",
        ),
        entry("own.example", "198.18.7.3, '2001:db8:7::3'", admin, "resolution: DNS"),
        entry("web.example", "198.18.7.4, '2001:db8:7::4'", ports, "resolution: DNS"),
        entry("any.example", &quoted(&nodes[1]), "{number: 9000, name: http}", "resolution: NONE"),
    ];
    scene.bed.topology.add_manifest("far.yaml", &(entries.concat() + &nobodys(admin))).unwrap();
    scene.waypoint = None;
    let program = binary("weir-waypoint").unwrap();
    let dns = nodes[0].map(|ip| format!("--dns-server={}", SocketAddr::new(ip, 5_300)));
    let flags: Vec<&str> = dns.iter().map(String::as_str).collect();
    scene.waypoint = Some(Waypoint::start_with(&scene.bed.topology, &program, "waypoint", &flags).unwrap());

    let at = |last: u16, port: u16| {
        [format!("198.18.7.{last}"), format!("2001:db8:7::{last}")].map(|ip| SocketAddr::new(ip.parse().unwrap(), port))
    };
    for at in at(1, 80).into_iter().chain(at(2, 80)) {
        answers(&scene, at, "near");
    }
    // A name that leads into the mesh leads there over HBONE: the pod is told who asks.
    for at in at(4, 81) {
        answers(&scene, at, "web-1");
    }
    // And none to what listens in the waypoint for itself, nor does an address.
    let [[five4, five6], [six4, _], [seven4, seven6], [eight4, _]] = [at(5, 80), at(6, 80), at(7, 80), at(8, 80)];
    for (at, why) in at(3, 80)
        .map(|at| (at, ""))
        .into_iter()
        .chain([five4, five6, six4, seven4, seven6, eight4].map(|at| (at, "an address of this very pod or its link")))
    {
        let asked = ["--request", "POST", "--header", "host: localhost"];
        let heard = scene.curl("client", at, "/quitquitquit", &asked).unwrap();
        assert!(heard.status == 503 && heard.body.contains(why), "{at}: {heard:?}\n{}", scene.logs());
    }
    // The very address that was asked for, and through the waypoint.
    for ip in nodes[1] {
        answers(&scene, SocketAddr::new(ip, 9_000), "further");
    }
    let log = scene.waypoint().log();
    assert!(log.contains(&format!("{}:9000", nodes[1][0])), "{log}");

    say(&names, &known(&nodes[1]));
    for at in at(1, 80).into_iter().chain(at(2, 80)) {
        answers(&scene, at, "further");
    }
    drop(server);
    // Longer than an answer holds, counted in requests that are answered all the same.
    eventually("the server is missed", || {
        for at in at(1, 80) {
            assert_eq!(scene.status("client", at, "/", &[]), 200);
        }
        Ok(scene.waypoint().log().contains("not resolved: what was known last stays"))
    })
    .unwrap();
    for at in at(1, 80).into_iter().chain(at(2, 80)) {
        answers(&scene, at, "further");
    }
    drop((near, further));
    scene.stop();
}
