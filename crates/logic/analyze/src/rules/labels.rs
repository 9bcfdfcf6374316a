//! Labels and annotations: misspelt, contradicting, or naming a waypoint that is not there.

use std::collections::BTreeMap;

use weir_manifest::{ConfigSpec, DataplaneMode, Labels, ObjectRef, Origin, WaypointLabels, WaypointUse, WhyIgnored};
use weir_model::Namespace;

use crate::{
    Code, Finding,
    ground::{Ground, namespace},
    meant::meant,
};

/// Labels with a meaning to a mesh: Istio's and ours.
const LABELS: &[&str] = &[
    "gateway.istio.io/managed",
    "istio.io/dataplane-mode",
    "istio.io/global",
    "istio.io/ingress-use-waypoint",
    "istio.io/rev",
    "istio.io/tag",
    "istio.io/use-waypoint",
    "istio.io/use-waypoint-namespace",
    "istio.io/waypoint-for",
    "networking.istio.io/gatewayPort",
    "networking.istio.io/tunnel",
    "security.istio.io/tlsMode",
    "service.istio.io/canonical-name",
    "service.istio.io/canonical-revision",
    "service.istio.io/workload-name",
    "sidecar.istio.io/inject",
    "topology.istio.io/cluster",
    "topology.istio.io/network",
    "topology.istio.io/subzone",
    "weir.dev/waypoint",
];

/// Annotations that Istio knows, and ours.
const ANNOTATIONS: &[&str] = &[
    "ambient.istio.io/bypass-inbound-capture",
    "ambient.istio.io/dns-capture",
    "ambient.istio.io/redirection",
    "ambient.istio.io/waypoint-inbound-binding",
    "ambient.istio.io/xfcc-include-client-identity",
    "galley.istio.io/analyze-suppress",
    "gateway.istio.io/controller-version",
    "gateway.istio.io/name-override",
    "gateway.istio.io/service-account",
    "inject.istio.io/templates",
    "istio.io/autoRegistrationGroup",
    "istio.io/connect-strategy",
    "istio.io/connectedAt",
    "istio.io/disconnectedAt",
    "istio.io/dry-run",
    "istio.io/reroute-virtual-interfaces",
    "istio.io/rev",
    "istio.io/use-waypoint-canary-weight",
    "istio.io/workloadController",
    "networking.istio.io/address-type",
    "networking.istio.io/exportTo",
    "networking.istio.io/service-type",
    "networking.istio.io/traffic-distribution",
    "prometheus.istio.io/merge-metrics",
    "proxy.istio.io/config",
    "proxy.istio.io/overrides",
    "topology.istio.io/controlPlaneClusters",
    "traffic.istio.io/nodeSelector",
    "weir.dev/netns",
];

/// Domains all of whose annotations are taken for known: those of sidecars, of installers and of Istio's own parts.
const DOMAINS: &[&str] = &[
    "alpha.istio.io",
    "install.operator.istio.io",
    "internal.istio.io",
    "readiness.status.sidecar.istio.io",
    "sidecar.istio.io",
    "status.sidecar.istio.io",
    "traffic.sidecar.istio.io",
];

/// Of Namespaces, pods, services and ServiceEntries; and objects of kinds that no part of this mesh reads.
pub(super) fn all(ground: &Ground<'_>, findings: &mut Vec<Finding>) {
    let objects = ground.objects;
    for one in &objects.namespaces {
        let object = namespace(&one.name);
        misspelt(&object, &one.labels, &one.origin, findings);
        waypoint(ground, (&object, &one.origin), &one.waypoint, &one.name, findings);
        enrolment(ground, one, findings);
    }
    for one in &objects.pods {
        misspelt(&one.object(), &one.labels, &one.origin, findings);
        waypoint(ground, (&one.object(), &one.origin), &one.waypoint, &one.namespace, findings);
    }
    for one in &objects.services {
        waypoint(ground, (&one.object(), &one.origin), &one.waypoint, &one.namespace, findings);
    }
    for one in &objects.configs {
        if let ConfigSpec::ServiceEntry(spec) = &one.spec {
            waypoint(ground, (&one.object(), &one.origin), &spec.waypoint, &one.namespace, findings);
        }
    }
    for one in &objects.ignored {
        match one.why {
            WhyIgnored::OtherProxy | WhyIgnored::NeedsWaypoint if one.field.is_empty() => {
                let message = format!("the policy has no impact: {}", one.why);
                let origin = Some(one.origin.clone());
                findings.push(Finding::new(one.object.clone(), "", Code::IneffectivePolicy, message, origin));
            }
            WhyIgnored::OtherProxy
            | WhyIgnored::NeedsWaypoint
            | WhyIgnored::PodsOnly
            | WhyIgnored::NotTraffic
            | WhyIgnored::NetworkPlugin => {}
        }
    }
}

/// Annotations of all objects, of every kind.
pub(crate) fn annotations(all: &BTreeMap<ObjectRef, (Origin, Labels)>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (object, (origin, own)) in all {
        for key in own.keys() {
            let domain = key.split_once('/').map_or("", |(domain, _)| domain);
            let is_of_mesh = ["istio.io", "weir.dev"].iter().any(|mesh| domain == *mesh || is_below(domain, mesh));
            if !is_of_mesh || DOMAINS.contains(&domain) || ANNOTATIONS.contains(&&**key) {
                continue;
            }
            let field = format!("metadata.annotations[{key:?}]");
            // What is only read as a label is no annotation that nobody knows.
            let (code, message) = match LABELS.contains(&&**key) {
                true => (Code::MisplacedAnnotation, "it is read as a label only"),
                false => (Code::UnknownAnnotation, "nobody knows this annotation"),
            };
            let finding = Finding::new(object.clone(), field, code, message, Some(origin.clone()));
            findings.push(finding.meaning(meant(key, ANNOTATIONS.iter().copied())));
        }
    }
    findings
}

fn is_below(domain: &str, parent: &str) -> bool {
    domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
}

fn misspelt(object: &ObjectRef, labels: &Labels, origin: &Origin, findings: &mut Vec<Finding>) {
    let of_mesh = |key: &str| key.contains("istio") || key.contains("weir") || key.contains("waypoint");
    for key in labels.keys().filter(|key| key.contains('/') && of_mesh(key) && !LABELS.contains(&&***key)) {
        if let Some(meant) = meant(key, LABELS.iter().copied()) {
            let field = format!("metadata.labels[{key:?}]");
            let message = "the label means nothing to the mesh";
            let finding = Finding::new(object.clone(), field, Code::MisspeltLabel, message, Some(origin.clone()));
            findings.push(finding.meaning(Some(meant)));
        }
    }
}

/// A label that names a Gateway which is not there.
fn waypoint(
    ground: &Ground<'_>,
    (object, origin): (&ObjectRef, &Origin),
    labels: &WaypointLabels,
    home: &Namespace,
    findings: &mut Vec<Finding>,
) {
    let Some(WaypointUse::Gateway { namespace, name }) = &labels.uses else { return };
    let there = namespace.as_ref().unwrap_or(home);
    if ground.gateways.contains(&(there, &**name)) {
        return;
    }
    let names = ground.gateways.iter().filter(|(namespace, _)| *namespace == there).map(|(_, name)| *name);
    let message = format!("there is no Gateway {there}/{name}: connections to what is bound to it are refused");
    let field = "metadata.labels[\"istio.io/use-waypoint\"]";
    let finding = Finding::new(object.clone(), field, Code::WaypointNotFound, message, Some(origin.clone()));
    findings.push(finding.meaning(meant(name, names.chain(["none"]))));
}

/// Whether a Namespace is in the mesh, and in one mesh alone.
fn enrolment(ground: &Ground<'_>, one: &weir_manifest::NamespaceObject, findings: &mut Vec<Finding>) {
    let (object, origin) = (namespace(&one.name), Some(one.origin.clone()));
    let field = "metadata.labels";
    let injection = ["istio-injection", "istio.io/rev"];
    let injected: Vec<&str> = injection.into_iter().filter(|key| one.labels.contains_key(*key)).collect();
    let is_injected = one.labels.get("istio-injection").is_none_or(|value| &**value == "enabled");
    match (one.mode, injected.is_empty()) {
        (Some(DataplaneMode::Ambient), false) if is_injected => {
            let message = format!(
                "{} and istio.io/dataplane-mode are both there: pods with a sidecar are not caught",
                injected.join(", ")
            );
            findings.push(Finding::new(object, field, Code::NamespaceMultipleInjectionLabels, message, origin));
        }
        (Some(DataplaneMode::Ambient | DataplaneMode::None), _) | (None, false) => {}
        (None, true) => {
            let name = one.name.as_str();
            let is_system = name.starts_with("kube-") || name == "istio-system" || name == "weir-system";
            let caught = |pod: &&weir_manifest::PodObject| pod.mode.is_some();
            let pods = ground.pods(&one.name);
            if !is_system && !pods.is_empty() && !pods.iter().any(caught) {
                let message = "the namespace is not in the mesh, and has pods";
                findings.push(Finding::new(object, field, Code::NamespaceNotInjected, message, origin));
            }
        }
    }
}
