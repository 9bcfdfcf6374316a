//! What a Gateway of a waypoint's class asks for, as objects: a plain function of the Gateway, of what this control plane was started with, and
//! of the ConfigMap that the Gateway names.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Value, json};
use weir_kube::AnyKind;
use weir_manifest::Infrastructure;
use weir_model::Namespace;

use super::parameters::{Meta, Parameters};

/// Who runs it: tools find waypoints by this label. Istio `gateway.istio.io/managed`.
pub(super) const MANAGED: (&str, &str) = ("gateway.istio.io/managed", "istio.io-mesh-controller");
/// Which Gateway it is of. Gateway API, GEP-1762.
pub(super) const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// The same. Gateway API, GEP-1762.
const GATEWAY_CLASS: &str = "gateway.networking.k8s.io/gateway-class-name";
/// The user that the waypoint runs as: nobody of the image.
const USER: u32 = 65_532;
/// Most letters of a Service's name. RFC 1035 label.
const MAX_NAME: usize = 63;
/// How long a stopping waypoint may take: longer than its `--drain`, 20 s when nothing is said.
const TERMINATION: u32 = 30;

/// What all waypoints of this control plane have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The image.
    pub(crate) image: String,
    /// Where waypoints find this control plane, as `https://HOST:PORT`.
    pub(crate) control: String,
    /// Flags that say what mesh it is: those that are not as a waypoint takes them by itself.
    pub(crate) flags: Vec<String>,
}

/// A Gateway that is to be a waypoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waypoint<'g> {
    pub(super) namespace: &'g Namespace,
    pub(super) name: &'g str,
    pub(super) uid: &'g str,
    pub(super) class: &'g str,
    pub(super) infrastructure: &'g Infrastructure,
}

/// The kinds of objects that a Gateway may have, in the order they are deleted in.
pub(super) fn kinds() -> [AnyKind; 5] {
    [
        AnyKind::new("autoscaling/v2", "HorizontalPodAutoscaler"),
        AnyKind::new("policy/v1", "PodDisruptionBudget"),
        AnyKind::new("apps/v1", "Deployment"),
        AnyKind::new("v1", "Service"),
        AnyKind::new("v1", "ServiceAccount"),
    ]
}

/// Whether an object is that of the Gateway with the uid.
pub(super) fn is_owned(object: &Value, gateway: &str) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == gateway))
}

/// Where a Service is reached within the cluster.
pub(super) fn addresses(service: &Value) -> Vec<IpAddr> {
    let listed = service.pointer("/spec/clusterIPs").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(|one| one.as_str()?.parse().ok()).collect()
}

/// The objects, in the order they are made in; or why the Gateway cannot be deployed.
pub(super) fn objects(
    waypoint: &Waypoint<'_>,
    settings: &Settings,
    parameters: &Parameters,
) -> Result<Vec<Value>, String> {
    let name = waypoint.name;
    let is_label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.len() > MAX_NAME || !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(is_label) {
        return Err(format!(
            "the name {name:?} cannot be that of a Service: expected at most {MAX_NAME} small letters, digits and '-', a letter first"
        ));
    }
    let mut objects = vec![
        object(waypoint, "v1", "ServiceAccount", &Meta::default(), json!({"automountServiceAccountToken": false})),
        object(waypoint, "v1", "Service", &parameters.service.metadata, service(waypoint, parameters)),
        object(
            waypoint,
            "apps/v1",
            "Deployment",
            &parameters.deployment.metadata,
            deployment(waypoint, settings, parameters),
        ),
    ];
    if let Some(autoscaler) = &parameters.autoscaler {
        let mut spec = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}});
        set(&mut spec, "minReplicas", autoscaler.spec.min_replicas);
        set(&mut spec, "maxReplicas", autoscaler.spec.max_replicas);
        set(&mut spec, "metrics", autoscaler.spec.metrics.as_ref());
        set(&mut spec, "behavior", autoscaler.spec.behavior.as_ref());
        let (kind, meta) = ("HorizontalPodAutoscaler", &autoscaler.metadata);
        objects.push(object(waypoint, "autoscaling/v2", kind, meta, json!({"spec": spec})));
    }
    if let Some(budget) = &parameters.budget {
        let mut spec = json!({"selector": {"matchLabels": {GATEWAY_NAME: name}}});
        set(&mut spec, "minAvailable", budget.spec.min_available.as_ref());
        set(&mut spec, "maxUnavailable", budget.spec.max_unavailable.as_ref());
        set(&mut spec, "unhealthyPodEvictionPolicy", budget.spec.unhealthy_pod_eviction_policy.as_ref());
        let (kind, meta) = ("PodDisruptionBudget", &budget.metadata);
        objects.push(object(waypoint, "policy/v1", kind, meta, json!({"spec": spec})));
    }
    Ok(objects)
}

/// An object of the Gateway's, with labels and annotations: the ConfigMap's, over those the Gateway's, over those ours.
fn object(waypoint: &Waypoint<'_>, api_version: &str, kind: &str, meta: &Meta, rest: Value) -> Value {
    let Waypoint { namespace, name, uid, .. } = waypoint;
    let owner = json!([{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": name, "uid": uid, "controller": true}]);
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {
        "name": name, "namespace": namespace.as_str(), "labels": labels(waypoint, meta), "ownerReferences": owner,
    }});
    let annotations = annotations(waypoint, meta);
    if !annotations.is_empty() {
        object["metadata"]["annotations"] = json!(annotations);
    }
    if let (Some(object), Value::Object(rest)) = (object.as_object_mut(), rest) {
        object.extend(rest);
    }
    object
}

fn labels(waypoint: &Waypoint<'_>, meta: &Meta) -> BTreeMap<String, String> {
    let mut labels = meta.labels.clone();
    labels.extend(waypoint.infrastructure.labels.iter().map(|(key, value)| (key.to_string(), value.to_string())));
    let own = [(MANAGED.0, MANAGED.1), (GATEWAY_NAME, waypoint.name), (GATEWAY_CLASS, waypoint.class)];
    labels.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    labels
}

fn annotations(waypoint: &Waypoint<'_>, meta: &Meta) -> BTreeMap<String, String> {
    let mut annotations = meta.annotations.clone();
    let gateways = &waypoint.infrastructure.annotations;
    annotations.extend(gateways.iter().map(|(key, value)| (key.to_string(), value.to_string())));
    annotations
}

fn service(waypoint: &Waypoint<'_>, parameters: &Parameters) -> Value {
    let said = &parameters.service.spec;
    let mut spec = json!({
        "type": "ClusterIP",
        "ipFamilyPolicy": said.ip_family_policy.as_deref().unwrap_or("PreferDualStack"),
        "selector": {GATEWAY_NAME: waypoint.name},
        "ports": [
            {"name": "status-port", "port": 15021, "targetPort": 15021, "protocol": "TCP"},
            {"name": "mesh", "port": 15008, "targetPort": 15008, "protocol": "TCP", "appProtocol": "hbone"},
        ],
    });
    set(&mut spec, "ipFamilies", said.ip_families.as_ref());
    set(&mut spec, "trafficDistribution", said.traffic_distribution.as_ref());
    json!({"spec": spec})
}

fn deployment(waypoint: &Waypoint<'_>, settings: &Settings, parameters: &Parameters) -> Value {
    let said = &parameters.deployment.spec;
    let mut labels = labels(waypoint, &said.template.metadata);
    // It carries the mesh, and is not carried by it; and what telemetry calls it. Istio.
    let own = [
        ("istio.io/dataplane-mode", "none"),
        ("service.istio.io/canonical-name", waypoint.name),
        ("service.istio.io/canonical-revision", "latest"),
        ("app.kubernetes.io/name", "weir-waypoint"),
        ("app.kubernetes.io/part-of", "weir"),
    ];
    labels.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let scraped =
        [("prometheus.io/scrape", "true"), ("prometheus.io/port", "15020"), ("prometheus.io/path", "/metrics")];
    let mut annotations = annotations(waypoint, &said.template.metadata);
    for (key, value) in scraped {
        annotations.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    let mut spec = json!({
        "selector": {"matchLabels": {GATEWAY_NAME: waypoint.name}},
        "strategy": said.strategy.clone().unwrap_or_else(|| json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}})),
        "template": {
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": pod(waypoint, settings, parameters),
        },
    });
    // Without a word on it the number is left to whoever scales.
    set(&mut spec, "replicas", said.replicas);
    set(&mut spec, "minReadySeconds", said.min_ready_seconds);
    json!({"spec": spec})
}

fn pod(waypoint: &Waypoint<'_>, settings: &Settings, parameters: &Parameters) -> Value {
    let said = &parameters.deployment.spec.template.spec;
    let spread = json!([{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {GATEWAY_NAME: waypoint.name}}}]);
    let mut spec = json!({
        "serviceAccountName": waypoint.name,
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": said.termination_grace_period_seconds.unwrap_or(TERMINATION),
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "topologySpreadConstraints": said.topology_spread_constraints.clone().unwrap_or(spread),
        "securityContext": {"runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container(waypoint, settings, said.resources())],
        "volumes": [
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"audience": "istio-ca", "expirationSeconds": 43_200, "path": "istio-token"}}]}},
            {"name": "roots", "configMap": {"name": "istio-ca-root-cert"}},
        ],
    });
    set(&mut spec, "affinity", said.affinity.as_ref());
    set(&mut spec, "nodeSelector", said.node_selector.as_ref());
    set(&mut spec, "tolerations", said.tolerations.as_ref());
    set(&mut spec, "priorityClassName", said.priority_class_name.as_ref());
    set(&mut spec, "runtimeClassName", said.runtime_class_name.as_ref());
    set(&mut spec, "dnsPolicy", said.dns_policy.as_ref());
    set(&mut spec, "dnsConfig", said.dns_config.as_ref());
    spec
}

fn container(waypoint: &Waypoint<'_>, settings: &Settings, resources: Option<&Value>) -> Value {
    let ready = json!({"path": "/healthz/ready", "port": 15021});
    let of_pod = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let usual = json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}});
    json!({
        "name": "weir-waypoint",
        "image": settings.image,
        "args": arguments(waypoint, settings),
        "env": [of_pod("POD_NAME", "metadata.name"), of_pod("NODE_NAME", "spec.nodeName")],
        "ports": [
            {"name": "mesh", "containerPort": 15008, "protocol": "TCP"},
            {"name": "http-metrics", "containerPort": 15020, "protocol": "TCP"},
            {"name": "status-port", "containerPort": 15021, "protocol": "TCP"},
        ],
        "startupProbe": {"httpGet": ready, "periodSeconds": 1, "failureThreshold": 120},
        "readinessProbe": {"httpGet": ready, "periodSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {"tcpSocket": {"port": 15021}, "periodSeconds": 10, "failureThreshold": 6},
        "resources": resources.cloned().unwrap_or(usual),
        "securityContext": {"privileged": false, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "token", "mountPath": "/var/run/secrets/tokens", "readOnly": true},
            {"name": "roots", "mountPath": "/var/run/secrets/istio", "readOnly": true},
        ],
    })
}

/// The flags of the program.
fn arguments(waypoint: &Waypoint<'_>, settings: &Settings) -> Vec<String> {
    let mut flags =
        vec![format!("--gateway={}/{}", waypoint.namespace, waypoint.name), format!("--control={}", settings.control)];
    flags.extend(settings.flags.iter().cloned());
    flags
}

/// Sets a field, if there is something to set.
fn set(object: &mut Value, field: &str, value: Option<impl serde::Serialize>) {
    if let (Some(value), Some(object)) = (value, object.as_object_mut()) {
        object.insert(field.to_owned(), json!(value));
    }
}

#[cfg(test)]
mod tests;
