//! Policies: whom they select, whether that is in the mesh, and who cannot call any more.

use std::collections::BTreeMap;

use weir_manifest::{Labels, MtlsMode, PodObject, PolicyObject, PolicySpec, PolicyTarget};
use weir_model::Namespace;

use crate::{
    Code, Finding,
    ground::{GATEWAY_NAME, Ground, written},
};

pub(super) fn all(ground: &Ground<'_>, findings: &mut Vec<Finding>) {
    let outside = Outside::new(ground);
    for one in &ground.objects.policies {
        match &one.target {
            PolicyTarget::Selector(labels) => selector(ground, one, labels, findings),
            PolicyTarget::All => covered(ground, one, &Labels::new(), findings),
            PolicyTarget::Refs(_) | PolicyTarget::Unknown => {}
        }
        strict(one, &outside, findings);
    }
}

/// The pods that are not in the mesh: how many, the first of all, and the first of each namespace.
#[derive(Default)]
struct Outside<'o> {
    count: usize,
    first: Option<&'o PodObject>,
    first_of: BTreeMap<&'o Namespace, &'o PodObject>,
}

impl<'o> Outside<'o> {
    fn new(ground: &Ground<'o>) -> Self {
        let mut all = Self::default();
        for pod in ground.objects.pods.iter().filter(|pod| is_outside(ground, pod)) {
            all.count += 1;
            all.first.get_or_insert(pod);
            all.first_of.entry(&pod.namespace).or_insert(pod);
        }
        all
    }
}

/// A pod that is not in the mesh, and is no part of it.
fn is_outside(ground: &Ground<'_>, pod: &PodObject) -> bool {
    let space = pod.namespace.as_str();
    let is_system = space.starts_with("kube-") || space == "istio-system" || space == "weir-system";
    !pod.is_over() && !is_system && !pod.labels.contains_key(GATEWAY_NAME) && !ground.is_enrolled(pod)
}

fn selector(ground: &Ground<'_>, one: &PolicyObject, labels: &Labels, findings: &mut Vec<Finding>) {
    let (object, origin) = (one.object(), Some(one.origin.clone()));
    let field = "spec.selector.matchLabels";
    if labels.contains_key(GATEWAY_NAME) {
        let message = "a selector has no effect on the pods of a waypoint";
        findings.push(Finding::new(object, field, Code::IneffectiveSelector, message, origin));
        return;
    }
    if one.namespace == ground.settings.root_namespace || !ground.knows_pods(&one.namespace) {
        return;
    }
    if ground.selected(&one.namespace, labels).next().is_some() {
        covered(ground, one, labels, findings);
    } else {
        let message = format!("no pod of {} has the labels {}", one.namespace, written(labels));
        findings.push(Finding::new(object, field, Code::NoMatchingWorkloadsFound, message, origin));
    }
}

/// Whether any of the pods it covers is in the mesh, where there are some.
fn covered(ground: &Ground<'_>, one: &PolicyObject, labels: &Labels, findings: &mut Vec<Finding>) {
    if one.namespace == ground.settings.root_namespace || !ground.knows_pods(&one.namespace) {
        return;
    }
    let pods = || ground.selected(&one.namespace, labels);
    if pods().any(|pod| ground.is_enrolled(pod)) {
        return;
    }
    if let Some(first) = pods().next() {
        let count = pods().count();
        let message =
            format!("of the pods it covers ({count}, such as {}) none is in the mesh: nobody enforces it", first.name);
        let origin = Some(one.origin.clone());
        findings.push(Finding::new(one.object(), "spec.selector", Code::PolicyOutsideMesh, message, origin));
    }
}

/// Whom a STRICT shuts out: it is told once for each policy, with one of them for an example.
fn strict(one: &PolicyObject, outside: &Outside<'_>, findings: &mut Vec<Finding>) {
    let PolicySpec::PeerAuthentication(spec) = &one.spec else { return };
    let ports: Vec<String> =
        spec.ports.iter().filter(|(_, mode)| **mode == MtlsMode::Strict).map(|(port, _)| port.to_string()).collect();
    let where_to = match (spec.mode == MtlsMode::Strict, ports.is_empty()) {
        (true, _) => "what it covers".to_owned(),
        (false, false) => format!("port {} of what it covers", ports.join(", ")),
        (false, true) => return,
    };
    // Those that call are not known; those beside what it covers are the likeliest.
    let Some(first) = outside.first_of.get(&one.namespace).copied().or(outside.first) else { return };
    let message = format!(
        "pods outside the mesh ({}, such as {}/{}) cannot connect to {where_to}",
        outside.count, first.namespace, first.name
    );
    let field = if spec.mode == MtlsMode::Strict { "spec.mtls.mode" } else { "spec.portLevelMtls" };
    findings.push(Finding::new(one.object(), field, Code::StrictShutsOut, message, Some(one.origin.clone())));
}
