//! Routes of the Gateway API as YAML, to what becomes of a request and what is said of the route.

mod backends;
mod bad;
mod fields;
mod gateways;
mod laws;
mod mesh;
mod parents;

use rand::{SeedableRng, rngs::SmallRng};
use weir_manifest::{FileName, parse};
use weir_model::{Hostname, Namespace, Port};
use weir_request::{Header, Normalization, Parts, Request};
use weir_route::{Asker, MESH, RetryPolicy};

use super::*;
use crate::{Compiled, Compiler, Settings, default_root_namespace};

const DOMAIN: &str = ".svc.cluster.local";

/// Services of the tests: namespace, name, the last part of its address, and its ports.
const SERVICES: &[(&str, &str, u8, &str)] = &[
    ("shop", "web", 1, "{name: http, port: 80}, {name: admin, port: 8080}, {name: grpc, port: 9000}"),
    ("shop", "v1", 2, "{port: 80}"),
    ("shop", "v2", 3, "{port: 80}"),
    ("shop", "v3", 4, "{port: 80}"),
    ("shop", "secure", 5, "{name: https, port: 443}"),
    ("other", "web", 6, "{port: 80}"),
];

fn settings() -> Settings {
    Settings {
        trust_domain: "td.example".parse().unwrap(),
        cluster: "Kubernetes".parse().unwrap(),
        network: "net1".parse().unwrap(),
        node: None,
        cluster_domain: Default::default(),
        root_namespace: default_root_namespace(),
    }
}

fn services() -> String {
    let one = |(namespace, name, octet, ports): &(&str, &str, u8, &str)| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{clusterIPs: [10.96.0.{octet}, 'fd00::{octet}'], ports: [{ports}]}}\n---\n"
        )
    };
    SERVICES.iter().map(one).collect()
}

/// An object of the Gateway API.
fn object(kind: &str, namespace: &str, name: &str, meta: &str, spec: &str) -> String {
    let version = if kind == "ReferenceGrant" { "v1beta1" } else { "v1" };
    format!(
        "apiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: {namespace}, generation: 7{meta}}}\nspec: {spec}\n---\n"
    )
}

/// An HTTPRoute `r` of the service `web` with these rules, of its own namespace.
fn http(rules: &str) -> String {
    object("HTTPRoute", "shop", "r", "", &format!("{{parentRefs: [{WEB}], rules: {rules}}}"))
}

const WEB: &str = "{group: '', kind: Service, name: web}";

/// What all services and these objects come to.
fn compiled(objects: &str) -> Compiled {
    let text = format!("{}{objects}", services());
    let objects = match parse(&[(FileName::new("f.yaml"), &text)]) {
        Ok(objects) => objects,
        Err(errors) => panic!("{:#?}", errors.iter().map(ToString::to_string).collect::<Vec<_>>()),
    };
    let mut compiler = Compiler::new(settings());
    objects.into_objects().for_each(|object| compiler.set(object));
    compiler.take();
    compiler.routes()
}

/// A request to a service, from a client.
#[derive(Clone, Copy)]
struct Ask<'a> {
    host: &'a str,
    port: u16,
    from: Option<&'a str>,
    method: &'a str,
    target: &'a str,
    headers: &'a [(&'a str, &'a str)],
}

const GET: Ask<'_> = Ask { host: "web.shop", port: 80, from: None, method: "GET", target: "/", headers: &[] };

fn get(target: &str) -> Ask<'_> {
    Ask { target, ..GET }
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

fn call(target: &str) -> Ask<'_> {
    Ask { method: "POST", target, headers: &[GRPC], ..GET }
}

impl Ask<'_> {
    fn with<R>(
        &self,
        compiled: &Compiled,
        then: impl FnOnce(weir_route::Decision<'_>, &Request<'_>) -> R,
        seed: u64,
    ) -> R {
        let host: Hostname = format!("{}{DOMAIN}", self.host).parse().unwrap();
        let headers: Vec<Header<'_>> =
            self.headers.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
        let parts =
            Parts { method: self.method, scheme: "http", authority: self.host, target: self.target, headers: &headers };
        let request = Request::read(parts, Normalization::Base).unwrap();
        let namespace: Option<Namespace> = self.from.map(|from| from.parse().unwrap());
        let port = Port::new(self.port).unwrap();
        let asker = Asker { namespace: namespace.as_ref(), labels: None, gateway: MESH, port };
        let table = &compiled.serving.host(&host).expect("something is said of the service").http;
        then(table.decide(&request, &asker, &mut SmallRng::seed_from_u64(seed)), &request)
    }

    /// What becomes of it, in short.
    fn goes(&self, compiled: &Compiled) -> String {
        self.with(compiled, |decision, _| short(&decision.action.to_string()), 1)
    }

    /// What becomes of it and why, in short.
    fn why(&self, compiled: &Compiled) -> String {
        self.with(compiled, |decision, _| short(&decision.to_string()), 1)
    }
}

/// Without what every service's name ends in, and every rule without retries of its own has.
fn short(text: &str) -> String {
    text.replace(DOMAIN, "").replace(&format!("; {}", RetryPolicy::default()), "")
}

/// `parent type=status reason: message` of each condition of a route.
fn conditions(compiled: &Compiled, kind: &str, name: &str) -> Vec<String> {
    let of = |status: &&RouteStatus| status.kind == kind && format!("{}/{}", status.namespace, status.name) == name;
    let status = compiled.statuses.iter().find(of).expect("the route has a status");
    assert_eq!(status.generation, Some(7));
    let all = status.parents.iter().flat_map(|parent| parent.conditions.iter().map(move |one| (parent.parent, one)));
    all.map(|(parent, one)| format!("{parent} {:?}={} {:?}: {}", one.kind, one.holds, one.reason, one.message))
        .collect()
}

/// The conditions of the HTTPRoute `shop/r`.
fn of_r(objects: &str) -> Vec<String> {
    conditions(&compiled(objects), "HTTPRoute", "shop/r")
}

fn findings(compiled: &Compiled) -> Vec<String> {
    compiled.findings.iter().map(|one| format!("{:?} {one}", one.reason)).collect()
}

const ACCEPTED: &str = "0 Accepted=true Accepted: attached to Service shop/web";
const RESOLVED: &str = "0 ResolvedRefs=true ResolvedRefs: all references are resolved";
