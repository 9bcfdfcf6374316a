//! A cluster that is made up: objects as an API server sends them, with all that nobody reads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

/// Container ports of every pod.
const PORTS: [u16; 2] = [8080, 9090];
/// What the label of a changed pod begins with; its number follows.
pub(crate) const MARK: &str = "push-";
/// Digits of that number.
pub(crate) const MARK_DIGITS: usize = 8;

/// How large it is.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Shape {
    /// Pods.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) pods: u32,
    /// Services, each with an EndpointSlice.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) services: u32,
    /// Authorization policies.
    #[arg(long, default_value_t = 1000)]
    pub(crate) policies: u32,
    /// Nodes.
    #[arg(long, default_value_t = 500)]
    pub(crate) nodes: u32,
    /// Namespaces.
    #[arg(long, default_value_t = 100)]
    pub(crate) namespaces: u32,
}

/// The name of a node.
pub(crate) fn node_name(node: u32) -> String {
    format!("ip-10-250-{}-{}.eu-central-1.compute.internal", node / 250, node % 250)
}

impl Shape {
    fn service_of(&self, pod: u32) -> u32 {
        pod % self.services
    }

    fn namespace_of(&self, service: u32) -> String {
        format!("team-{:03}", service % self.namespaces)
    }

    /// The node of a pod. The pods of a service are spread; of the first pods each is on the node of its number.
    fn node_of(&self, pod: u32) -> u32 {
        (pod + pod / self.services) % self.nodes
    }

    /// The identity of a pod that runs on the node.
    pub(crate) fn identity_on(&self, node: u32) -> String {
        let service = self.service_of(node);
        format!("spiffe://cluster.local/ns/{}/sa/app-{service:05}", self.namespace_of(service))
    }

    /// All namespaces, enrolled.
    pub(crate) fn all_namespaces(&self) -> Vec<Value> {
        let namespace = |number: u32| {
            let name = format!("team-{number:03}");
            json!({"metadata": {"name": name, "uid": uid(1, number), "resourceVersion": "1",
                "labels": {"kubernetes.io/metadata.name": name, "istio.io/dataplane-mode": "ambient"}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
        };
        (0..self.namespaces).map(namespace).collect()
    }

    /// All nodes, in three zones.
    pub(crate) fn all_nodes(&self) -> Vec<Value> {
        let node = |number: u32| {
            let (name, zone) =
                (node_name(number), ["a", "b", "c"][usize::from(number % 3 == 1) + usize::from(number % 3 == 2) * 2]);
            let images: Vec<_> = (0..30)
                .map(|image| json!({"names": [format!("registry.example/team/app-{image}@sha256:{image:064x}")], "sizeBytes": 104_857_600}))
                .collect();
            json!({"metadata": {"name": name, "uid": uid(2, number), "resourceVersion": "1", "labels": {
                "kubernetes.io/hostname": name, "topology.kubernetes.io/region": "eu-central-1",
                "topology.kubernetes.io/zone": format!("eu-central-1{zone}"), "node.kubernetes.io/instance-type": "m7i.8xlarge"}},
                "spec": {"podCIDR": "10.0.0.0/24", "providerID": format!("cloud:///{number}")},
                "status": {"capacity": {"cpu": "32", "memory": "128Gi", "pods": "250"}, "images": images,
                    "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]}})
        };
        (0..self.nodes).map(node).collect()
    }

    /// All services.
    pub(crate) fn all_services(&self) -> Vec<Value> {
        let service = |number: u32| {
            let (name, ip) = (format!("app-{number:05}"), vip(number).to_string());
            json!({"metadata": {"name": name, "namespace": self.namespace_of(number), "uid": uid(3, number),
                "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": name},
                "managedFields": managed("kubectl-client-side-apply", &["f:spec", "f:metadata"])},
                "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": [family(number)],
                    "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None", "selector": {"app": name},
                    "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"},
                        {"name": "metrics", "port": 9090, "targetPort": 9090, "protocol": "TCP"}]},
                "status": {"loadBalancer": {}}})
        };
        (0..self.services).map(service).collect()
    }

    /// The EndpointSlice of each service.
    pub(crate) fn all_slices(&self) -> Vec<Value> {
        let slice = |number: u32| {
            let (name, namespace) = (format!("app-{number:05}"), self.namespace_of(number));
            let pods = (number..self.pods).step_by(usize::try_from(self.services).unwrap_or(usize::MAX));
            let endpoint = |pod: u32| {
                json!({"addresses": [self.address(pod).to_string()], "nodeName": node_name(self.node_of(pod)),
                    "conditions": {"ready": true, "serving": true, "terminating": false}, "zone": "eu-central-1a",
                    "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod_name(number, pod), "uid": uid(4, pod)}})
            };
            json!({"metadata": {"name": format!("{name}-x7k2p"), "namespace": namespace, "uid": uid(5, number),
                "resourceVersion": "1", "generateName": format!("{name}-"),
                "labels": {"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": name, "uid": uid(3, number), "controller": true}],
                "managedFields": managed("kube-controller-manager", &["f:addressType", "f:endpoints", "f:ports"])},
                "addressType": family(number), "endpoints": pods.map(endpoint).collect::<Vec<_>>(),
                "ports": [{"name": "http", "port": PORTS[0], "protocol": "TCP"}, {"name": "metrics", "port": PORTS[1], "protocol": "TCP"}]})
        };
        (0..self.services).map(slice).collect()
    }

    /// All policies: what one service may be asked by another.
    pub(crate) fn all_policies(&self) -> Vec<Value> {
        let policy = |number: u32| {
            let service = number % self.services;
            let (namespace, caller) = (self.namespace_of(service), (service + 1) % self.services);
            let principal = format!("cluster.local/ns/{}/sa/app-{caller:05}", self.namespace_of(caller));
            json!({"metadata": {"name": format!("allow-{number:05}"), "namespace": namespace, "uid": uid(6, number),
                "resourceVersion": "1", "generation": 1, "managedFields": managed("argocd-controller", &["f:spec"])},
                "spec": {"selector": {"matchLabels": {"app": format!("app-{service:05}")}}, "action": "ALLOW",
                    "rules": [{"from": [{"source": {"principals": [principal]}}], "to": [{"operation": {"ports": ["8080"]}}]}]}})
        };
        (0..self.policies).map(policy).collect()
    }

    fn address(&self, pod: u32) -> IpAddr {
        match self.service_of(pod) % 2 {
            0 => Ipv4Addr::from_bits(Ipv4Addr::new(10, 1, 0, 0).to_bits() + pod).into(),
            _ => Ipv6Addr::from_bits("fd00:10::".parse::<Ipv6Addr>().map_or(0, Ipv6Addr::to_bits) + u128::from(pod))
                .into(),
        }
    }

    /// One pod, a Deployment's, as it runs. `change` is what its label `version` says.
    pub(crate) fn pod(&self, pod: u32, version: u64, change: &str) -> Value {
        let service = self.service_of(pod);
        let (app, ip) = (format!("app-{service:05}"), self.address(pod).to_string());
        let env: Vec<_> = (0..12)
            .map(|number| json!({"name": format!("SETTING_{number}"), "value": format!("value-{number}-of-{app}")}))
            .collect();
        let ports = [("http", PORTS[0]), ("metrics", PORTS[1])]
            .map(|(name, port)| json!({"name": name, "containerPort": port, "protocol": "TCP"}));
        let condition = |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-01-01T00:00:00Z"});
        json!({"metadata": {"name": pod_name(service, pod), "namespace": self.namespace_of(service), "uid": uid(4, pod),
            "generateName": format!("{app}-7d4b9c6f5d-"), "resourceVersion": version.to_string(), "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": app, "version": change, "pod-template-hash": "7d4b9c6f5d", "team": self.namespace_of(service)},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9090", "checksum/config": uid(7, service)},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-7d4b9c6f5d"), "uid": uid(8, service), "controller": true, "blockOwnerDeletion": true}],
            "managedFields": [
                managed("kube-controller-manager", &["f:metadata", "f:spec", "f:containers", "f:volumes", "f:tolerations"])[0],
                managed("kubelet", &["f:status", "f:conditions", "f:containerStatuses", "f:podIP", "f:podIPs", "f:startTime"])[0]]},
            "spec": {"serviceAccountName": app, "serviceAccount": app, "nodeName": node_name(self.node_of(pod)),
                "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "enableServiceLinks": true,
                "terminationGracePeriodSeconds": 30, "priority": 0, "preemptionPolicy": "PreemptLowerPriority", "securityContext": {},
                "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
                "volumes": [{"name": "kube-api-access", "projected": {"defaultMode": 420, "sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}]}}],
                "containers": [{"name": "app", "image": format!("registry.example/team/{app}:1.0.0"), "imagePullPolicy": "IfNotPresent",
                    "env": env, "ports": ports, "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": "http", "scheme": "HTTP"}, "periodSeconds": 10},
                    "volumeMounts": [{"name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}],
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": "10.250.0.1", "qosClass": "Burstable",
                "startTime": "2026-01-01T00:00:00Z", "conditions": [condition("PodScheduled"), condition("Initialized"), condition("ContainersReady"), condition("Ready")],
                "containerStatuses": [{"name": "app", "ready": true, "started": true, "restartCount": 0, "image": format!("registry.example/team/{app}:1.0.0"),
                    "imageID": format!("registry.example/team/{app}@sha256:{service:064x}"), "containerID": format!("containerd://{pod:064x}"),
                    "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, "lastState": {}}]}})
    }
}

fn pod_name(service: u32, pod: u32) -> String {
    format!("app-{service:05}-7d4b9c6f5d-{pod:06}")
}

fn vip(service: u32) -> IpAddr {
    match service % 2 {
        0 => Ipv4Addr::from_bits(Ipv4Addr::new(172, 20, 0, 0).to_bits() + service).into(),
        _ => Ipv6Addr::from_bits("fd00:20::".parse::<Ipv6Addr>().map_or(0, Ipv6Addr::to_bits) + u128::from(service))
            .into(),
    }
}

fn family(service: u32) -> &'static str {
    if service.is_multiple_of(2) { "IPv4" } else { "IPv6" }
}

/// A uid as Kubernetes makes them, the same in every run.
fn uid(kind: u32, number: u32) -> String {
    format!("{kind:08x}-6f1c-4c1e-9a52-{number:012x}")
}

fn managed(manager: &str, fields: &[&str]) -> Value {
    let inner = json!({".": {}, "f:name": {}, "f:value": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:resources": {}, "f:type": {}});
    let fields: serde_json::Map<String, Value> =
        fields.iter().map(|field| ((*field).to_owned(), inner.clone())).collect();
    json!([{"manager": manager, "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields}])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Shape = Shape { pods: 2000, services: 100, policies: 10, nodes: 7, namespaces: 3 };

    #[test]
    fn a_pod_is_as_large_as_pods_are() {
        let len = SMALL.pod(17, 1, "v1").to_string().len();
        assert!((3000..=5500).contains(&len), "{len} bytes");
    }

    #[test]
    fn addresses_are_of_one_pod_each_and_endpoints_are_those_of_pods() {
        let mut all: Vec<IpAddr> = (0..SMALL.pods).map(|pod| SMALL.address(pod)).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 2000);
        assert!(all.iter().any(IpAddr::is_ipv4) && all.iter().any(IpAddr::is_ipv6));
        let slices = SMALL.all_slices();
        let endpoints: usize = slices.iter().filter_map(|slice| slice["endpoints"].as_array()).map(Vec::len).sum();
        assert_eq!(endpoints, 2000);
        assert_eq!(slices[3]["endpoints"][0]["addresses"][0], SMALL.address(3).to_string());
    }

    #[test]
    fn an_identity_asked_for_on_a_node_is_that_of_a_pod_there() {
        for node in 0..SMALL.nodes {
            let pod = SMALL.pod(node, 1, "v1");
            assert_eq!(pod["spec"]["nodeName"], node_name(node));
            let account = pod["spec"]["serviceAccountName"].as_str().unwrap();
            assert!(SMALL.identity_on(node).ends_with(&format!("/sa/{account}")), "{account}");
        }
    }
}
