//! What a ConfigMap says of how a waypoint is deployed: `infrastructure.parametersRef` of its Gateway, in the form that Istio gave it: under
//! the keys `deployment`, `service`, `horizontalPodAutoscaler` and `podDisruptionBudget` stands YAML that is laid over each.
//!
//! Only what decides how and where a waypoint runs may be said. Whoever may write a Gateway and a ConfigMap is not by that allowed to run
//! images, mount Secrets or act as other accounts, as he could if anything might be laid over a Deployment.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// Most bytes of one key.
const MAX_BYTES: usize = 64 << 10;
/// The container, by its name here and in Istio.
const CONTAINER: [&str; 2] = ["weir-waypoint", "istio-proxy"];

/// What is laid over the objects of a waypoint.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Parameters {
    /// Over the Deployment.
    pub(super) deployment: Deployment,
    /// Over the Service.
    pub(super) service: Service,
    /// The HorizontalPodAutoscaler, if there is to be one.
    pub(super) autoscaler: Option<Autoscaler>,
    /// The PodDisruptionBudget, if there is to be one.
    pub(super) budget: Option<Budget>,
}

/// Labels and annotations.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Meta {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

/// apps/v1 `Deployment`, as much of it as may be said.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Deployment {
    pub(super) metadata: Meta,
    pub(super) spec: DeploymentSpec,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct DeploymentSpec {
    pub(super) replicas: Option<u32>,
    pub(super) strategy: Option<Value>,
    pub(super) min_ready_seconds: Option<u32>,
    pub(super) template: Template,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Template {
    pub(super) metadata: Meta,
    pub(super) spec: PodSpec,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct PodSpec {
    pub(super) affinity: Option<Value>,
    pub(super) node_selector: Option<Value>,
    pub(super) tolerations: Option<Value>,
    pub(super) topology_spread_constraints: Option<Value>,
    pub(super) priority_class_name: Option<String>,
    pub(super) runtime_class_name: Option<String>,
    pub(super) termination_grace_period_seconds: Option<u32>,
    pub(super) dns_policy: Option<String>,
    pub(super) dns_config: Option<Value>,
    containers: Vec<Container>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Container {
    name: String,
    #[serde(default)]
    resources: Option<Value>,
}

impl PodSpec {
    /// The resources of the waypoint's container.
    pub(super) fn resources(&self) -> Option<&Value> {
        self.containers.iter().rev().find_map(|container| container.resources.as_ref())
    }
}

/// core/v1 `Service`, as much of it as may be said.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Service {
    pub(super) metadata: Meta,
    pub(super) spec: ServiceSpec,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct ServiceSpec {
    pub(super) ip_family_policy: Option<String>,
    pub(super) ip_families: Option<Vec<String>>,
    pub(super) traffic_distribution: Option<String>,
}

/// autoscaling/v2 `HorizontalPodAutoscaler`, without whom it scales.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Autoscaler {
    pub(super) metadata: Meta,
    pub(super) spec: AutoscalerSpec,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct AutoscalerSpec {
    pub(super) min_replicas: Option<u32>,
    pub(super) max_replicas: Option<u32>,
    pub(super) metrics: Option<Value>,
    pub(super) behavior: Option<Value>,
}

/// policy/v1 `PodDisruptionBudget`, without whom it protects.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Budget {
    pub(super) metadata: Meta,
    pub(super) spec: BudgetSpec,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(super) struct BudgetSpec {
    pub(super) min_available: Option<Value>,
    pub(super) max_unavailable: Option<Value>,
    pub(super) unhealthy_pod_eviction_policy: Option<String>,
}

impl Parameters {
    /// Reads the data of a ConfigMap; or says which key is not as it should be, and why.
    pub(super) fn read(data: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut read = Self::default();
        for (key, text) in data {
            match key.as_str() {
                "deployment" => read.deployment = parsed(key, text)?,
                "service" => read.service = parsed(key, text)?,
                "horizontalPodAutoscaler" => read.autoscaler = Some(parsed(key, text)?),
                "podDisruptionBudget" => read.budget = Some(parsed(key, text)?),
                other => {
                    let known = "deployment, service, horizontalPodAutoscaler, podDisruptionBudget";
                    return Err(format!("{other}: no such key; there are {known}"));
                }
            }
        }
        let strange = |container: &&Container| !CONTAINER.contains(&container.name.as_str());
        if let Some(container) = read.deployment.spec.template.spec.containers.iter().find(strange) {
            let name = &container.name;
            return Err(format!("deployment: container {name:?}: there is only {:?}", CONTAINER[0]));
        }
        if let Some(autoscaler) = &read.autoscaler
            && autoscaler.spec.max_replicas.is_none()
        {
            return Err("horizontalPodAutoscaler: spec.maxReplicas is missing".to_owned());
        }
        if read.autoscaler.is_some() && read.deployment.spec.replicas.is_some() {
            return Err("deployment: spec.replicas: not with a horizontalPodAutoscaler, which sets it".to_owned());
        }
        Ok(read)
    }
}

fn parsed<T: DeserializeOwned>(key: &str, text: &str) -> Result<T, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("{key}: more than {MAX_BYTES} bytes"));
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let first = error.to_string();
        format!("{key}: {}", first.lines().next().unwrap_or("not YAML"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[(&str, &str)]) -> Result<Parameters, String> {
        Parameters::read(&texts.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn what_may_be_said_is_read() {
        let read = read(&[
            ("deployment", "metadata: {labels: {team: a}}\nspec:\n  replicas: 3\n  template:\n    spec:\n      nodeSelector: {disk: ssd}\n      containers: [{name: istio-proxy, resources: {limits: {memory: 2Gi}}}]\n"),
            ("service", "spec: {trafficDistribution: PreferClose}"),
            ("podDisruptionBudget", "spec: {minAvailable: 1}"),
        ])
        .unwrap();
        assert_eq!(read.deployment.spec.replicas, Some(3));
        assert_eq!(read.deployment.spec.template.spec.resources().unwrap()["limits"]["memory"], "2Gi");
        assert_eq!(read.service.spec.traffic_distribution.as_deref(), Some("PreferClose"));
        assert_eq!((read.autoscaler, read.budget.unwrap().spec.min_available), (None, Some(1.into())));
    }

    #[test]
    fn what_would_give_rights_or_is_misspelt_is_refused_with_its_place() {
        for (key, text, want) in [
            ("deployment", "spec: {template: {spec: {serviceAccountName: admin}}}", "serviceAccountName"),
            ("deployment", "spec: {template: {spec: {volumes: []}}}", "volumes"),
            ("deployment", "spec: {template: {spec: {hostNetwork: true}}}", "hostNetwork"),
            ("deployment", "spec: {template: {spec: {containers: [{name: weir-waypoint, image: other}]}}}", "image"),
            ("deployment", "spec: {template: {spec: {containers: [{name: other}]}}}", "\"other\""),
            ("deployment", "spec: {selector: {}}", "selector"),
            ("service", "spec: {externalName: other.example}", "externalName"),
            ("service", "spec: {selector: {app: other}}", "selector"),
            ("horizontalPodAutoscaler", "spec: {minReplicas: 1}", "maxReplicas"),
            ("deploy", "", "no such key"),
            ("deployment", "spec: [", "deployment: "),
        ] {
            let why = read(&[(key, text)]).expect_err(text);
            assert!(why.contains(want), "{text}: {why}");
        }
        let both = [("deployment", "spec: {replicas: 2}"), ("horizontalPodAutoscaler", "spec: {maxReplicas: 3}")];
        assert!(read(&both).expect_err("both").contains("spec.replicas"));
        assert!(read(&[("service", &"#".repeat(MAX_BYTES + 1))]).expect_err("long").contains("bytes"));
    }
}
