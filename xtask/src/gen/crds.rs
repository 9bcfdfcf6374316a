//! The definitions of Istio's kinds, as far as the mesh reads them: for clusters that never had Istio. Fields and bounds are those that
//! `crates/logic/manifest` reads; a test asks it for each of them. No field is defaulted: what is not said is not there.

mod networking;
mod policies;
mod shape;

use serde_json::{Value, json};

use shape::{Shape, open};

/// A kind.
struct Kind {
    group: &'static str,
    /// The newest first; that is also what is kept.
    versions: &'static [&'static str],
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    about: &'static str,
    columns: &'static [(&'static str, &'static str, &'static str)],
    spec: Shape,
}

/// All definitions, by name.
pub(crate) fn all() -> Vec<Value> {
    kinds().iter().map(Kind::definition).collect()
}

fn kinds() -> Vec<Kind> {
    let mut all = of_security();
    all.extend(of_networking());
    all.push(Kind {
        group: "telemetry.istio.io",
        versions: &["v1", "v1alpha1"],
        kind: "Telemetry",
        plural: "telemetries",
        short: &["telemetry"],
        about: "What is counted, logged and traced. https://istio.io/docs/reference/config/telemetry.html",
        columns: &[],
        spec: policies::telemetry(),
    });
    all
}

fn of_security() -> Vec<Kind> {
    let security = |kind, plural, short, about, columns, spec| Kind {
        group: "security.istio.io",
        versions: &["v1", "v1beta1"],
        kind,
        plural,
        short,
        about,
        columns,
        spec,
    };
    vec![
        security(
            "AuthorizationPolicy",
            "authorizationpolicies",
            &["ap"],
            "Who may do what. https://istio.io/docs/reference/config/security/authorization-policy.html",
            &[("Action", ".spec.action", "The action.")],
            policies::authorization(),
        ),
        security(
            "PeerAuthentication",
            "peerauthentications",
            &["pa"],
            "Whether connections must be mutual TLS. https://istio.io/docs/reference/config/security/peer_authentication.html",
            &[("Mode", ".spec.mtls.mode", "The mode of the workloads' ports.")],
            policies::peer_authentication(),
        ),
        security(
            "RequestAuthentication",
            "requestauthentications",
            &["ra"],
            "Which tokens are good. https://istio.io/docs/reference/config/security/request_authentication.html",
            &[],
            policies::request_authentication(),
        ),
    ]
}

fn of_networking() -> Vec<Kind> {
    let networking = |kind, plural, short, about, columns, spec| Kind {
        group: "networking.istio.io",
        versions: &["v1", "v1beta1", "v1alpha3"],
        kind,
        plural,
        short,
        about,
        columns,
        spec,
    };
    vec![
        networking(
            "VirtualService",
            "virtualservices",
            &["vs"],
            "Where requests go. https://istio.io/docs/reference/config/networking/virtual-service.html",
            &[
                ("Gateways", ".spec.gateways", "The gateways it is for."),
                ("Hosts", ".spec.hosts", "The hosts it is for."),
            ],
            networking::virtual_service(),
        ),
        networking(
            "DestinationRule",
            "destinationrules",
            &["dr"],
            "How endpoints are treated. https://istio.io/docs/reference/config/networking/destination-rule.html",
            &[("Host", ".spec.host", "The host it is for.")],
            networking::destination_rule(),
        ),
        networking(
            "ServiceEntry",
            "serviceentries",
            &["se"],
            "Services that Kubernetes does not know. https://istio.io/docs/reference/config/networking/service-entry.html",
            &[
                ("Hosts", ".spec.hosts", "Its hosts."),
                ("Location", ".spec.location", "Whether it is in the mesh."),
                ("Resolution", ".spec.resolution", "How its endpoints are found."),
            ],
            networking::service_entry(),
        ),
    ]
}

impl Kind {
    fn definition(&self) -> Value {
        let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
        let column = |&(name, path, about): &(&str, &str, &str)| json!({"name": name, "type": "string", "jsonPath": path, "description": about});
        let columns: Vec<Value> = self.columns.iter().map(column).chain([age]).collect();
        let schema = json!({"type": "object", "description": self.about, "properties": {
            "spec": self.spec.schema(),
            "status": open().schema(),
        }});
        let version = |(at, name): (usize, &&str)| {
            json!({
                "name": name, "served": true, "storage": at == 0, "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}}, "additionalPrinterColumns": columns,
            })
        };
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": format!("{}.{}", self.plural, self.group),
                "labels": {"app.kubernetes.io/part-of": "weir"},
                // What is deleted with a definition is every object of the kind.
                "annotations": {"helm.sh/resource-policy": "keep"},
            },
            "spec": {
                "group": self.group,
                "names": {
                    "kind": self.kind, "listKind": format!("{}List", self.kind), "plural": self.plural,
                    "singular": self.kind.to_lowercase(), "shortNames": self.short, "categories": ["istio-io"],
                },
                "scope": "Namespaced",
                "versions": self.versions.iter().enumerate().map(version).collect::<Vec<_>>(),
            },
        })
    }
}

/// A path to each field of a kind, and an object that has just that one; for holding them against the reader.
#[cfg(test)]
pub(crate) fn samples() -> Vec<(&'static str, String, Value)> {
    let mut all = Vec::new();
    for kind in kinds() {
        for (path, spec) in kind.spec.samples() {
            let api_version = format!("{}/{}", kind.group, kind.versions[0]);
            let object = json!({"apiVersion": api_version, "kind": kind.kind, "metadata": {"name": "a", "namespace": "b"}, "spec": spec});
            all.push((kind.kind, path, object));
        }
    }
    all
}
