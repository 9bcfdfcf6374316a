//! Objects as people write them, and what becomes of requests.

mod delegates;
mod fields;
mod hosts;
mod limits;
mod refused;
mod tcp;

use rand::{SeedableRng, rngs::SmallRng};
use weir_manifest::{FileName, Object, parse};
use weir_request::{Header, Normalization, Parts, Request};
use weir_route::{Asker, Decision, Fields, HeaderList, MESH};
use weir_world::World;

use super::*;
use crate::{Compiled, Finding, Settings, compile};

/// Services that rules are about: `web` and `pay` have one port, `multi` and `twin` have two, `db` speaks TCP and TLS.
pub(super) const SERVICES: &str = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}}
- {apiVersion: v1, kind: Service, metadata: {name: canary, namespace: shop}, spec: {ports: [{port: 8080}]}}
- {apiVersion: v1, kind: Service, metadata: {name: multi, namespace: shop}, spec: {ports: [{name: a, port: 80}, {name: b, port: 81}]}}
- {apiVersion: v1, kind: Service, metadata: {name: twin, namespace: shop}, spec: {ports: [{name: a, port: 80}, {name: b, port: 81}]}}
- {apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, spec: {clusterIP: 'fd00::5', ports: [{name: tcp, port: 5432}, {name: tls, port: 443}, {name: tcp-b, port: 9}]}}
- {apiVersion: v1, kind: Service, metadata: {name: pay, namespace: other}, spec: {ports: [{port: 80}]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
";

pub(super) fn settings() -> Settings {
    Settings {
        trust_domain: "cluster.local".parse().unwrap(),
        cluster: "Kubernetes".parse().unwrap(),
        network: "".parse().unwrap(),
        node: None,
        cluster_domain: crate::ClusterDomain::default(),
        root_namespace: crate::default_root_namespace(),
    }
}

/// What comes of objects beside the services.
pub(super) fn made(objects: &str) -> Compiled {
    let files = [(FileName::new("services.yaml"), SERVICES), (FileName::new("f.yaml"), objects)];
    let objects = parse(&files).unwrap_or_else(|errors| panic!("{objects}: {errors:#?}"));
    let mut configs = Configs::default();
    for object in objects.clone().into_objects() {
        if let Object::Config(object) = object {
            configs.set(object);
        }
    }
    let world = World::new(compile(objects, &settings()));
    crate::routes(&settings(), &world, &configs)
}

/// A VirtualService.
pub(super) fn named(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

/// A VirtualService of `web`, with these rules.
pub(super) fn of_web(rules: &str) -> String {
    named("v", "shop", &format!("{{hosts: [web], http: [{rules}]}}"))
}

/// What is told of objects.
pub(super) fn told(objects: &str) -> Vec<String> {
    made(objects).findings.iter().map(ToString::to_string).collect()
}

pub(super) fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

/// A request, and who asks.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) parts: Parts<'static>,
    pub(super) port: u16,
    pub(super) namespace: Option<&'static str>,
    pub(super) labels: Option<&'static [(&'static str, &'static str)]>,
}

pub(super) fn get(target: &'static str) -> Ask {
    let parts = Parts { method: "GET", scheme: "http", authority: "web", target, headers: &[] };
    Ask { parts, port: 80, namespace: None, labels: None }
}

impl Ask {
    pub(super) fn with(self, change: impl FnOnce(&mut Parts<'static>)) -> Self {
        let mut parts = self.parts;
        change(&mut parts);
        Self { parts, ..self }
    }

    pub(super) fn headers(self, headers: &'static [Header<'static>]) -> Self {
        self.with(|parts| parts.headers = headers)
    }

    pub(super) fn from(self, namespace: &'static str) -> Self {
        Self { namespace: Some(namespace), ..self }
    }

    pub(super) fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// What becomes of it, at the service of that name in `shop`.
    pub(super) fn decided<T>(
        &self,
        compiled: &Compiled,
        service: &str,
        then: impl FnOnce(&Request<'_>, Decision<'_>) -> T,
    ) -> T {
        let request = Request::read(self.parts, Normalization::Base).unwrap();
        let namespace = self.namespace.map(|namespace| namespace.parse().unwrap());
        let asker = Asker { namespace: namespace.as_ref(), labels: self.labels, gateway: MESH, port: port(self.port) };
        let host: Hostname = format!("{service}.svc.cluster.local").parse().unwrap();
        let table = compiled.serving.host(&host).map(|host| host.http.clone()).unwrap_or_default();
        then(&request, table.decide(&request, &asker, &mut SmallRng::seed_from_u64(7)))
    }

    /// What becomes of it at `web`, in words, without why.
    pub(super) fn at_web(&self, compiled: &Compiled) -> String {
        self.decided(compiled, "web.shop", |_, decision| decision.action.to_string())
    }

    /// What becomes of it there, and why.
    pub(super) fn at(&self, compiled: &Compiled, service: &str) -> String {
        self.decided(compiled, service, |_, decision| decision.to_string())
    }
}

/// Headers after changes.
pub(super) fn headers(change: impl FnOnce(&mut Fields)) -> Vec<String> {
    let mut fields = Fields::default();
    for (name, value) in [("a", "1"), ("b", "2")] {
        fields.append(name, value);
    }
    change(&mut fields);
    fields.0.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

#[test]
fn the_published_sample_is_served_as_it_is() {
    let app = "apiVersion: v1\nkind: Service\nmetadata: {name: todoui}\nspec: {ports: [{name: http, port: 8090}]}\n";
    let compiled = made(&format!("{app}---\n{}", include_str!("testdata/todo.yaml")));
    let host = compiled.serving.host(&"todoui.default.svc.cluster.local".parse().unwrap()).unwrap();
    let mut rng = SmallRng::seed_from_u64(90);
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let ask = get("/todos").port(8090);
    let request = Request::read(ask.parts, Normalization::Base).unwrap();
    for _ in 0..10_000 {
        let asker = Asker { namespace: None, labels: None, gateway: MESH, port: port(8090) };
        *counts.entry(host.http.decide(&request, &asker, &mut rng).to_string()).or_default() += 1;
    }
    let text = |version: &str, share: &str| {
        format!(
            "VirtualService default/todoui, spec.http[0].match[0] (f.yaml:43): to todoui.default.svc.cluster.local:8090 subset {version} ({share} of \
             100); up to 2 retries on connect-failure,refused-stream,cancelled,unavailable"
        )
    };
    let (old, new) = (counts.remove(&text("v0-1", "90")), counts.remove(&text("v0-2", "10")));
    assert_eq!(counts, BTreeMap::new(), "{old:?} {new:?}");
    assert!((8_910..=9_090).contains(&old.unwrap()), "{old:?} {new:?}");
    let findings: Vec<&Finding> = compiled.findings.iter().filter(|one| one.kind == "VirtualService").collect();
    assert!(findings.is_empty(), "{findings:?}");
}
