//! The Kubernetes objects of a topology, as YAML in a folder that agents watch.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::Context;

use crate::topology::{Node, Pod};

/// A namespace and its labels.
#[derive(Debug, Clone, Default)]
pub struct NamespaceSpec {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// Which address families a pod has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stack {
    /// IPv4 and IPv6.
    Dual,
    /// IPv4 alone; IPv6 is off in the pod.
    V4,
    /// IPv6 alone.
    V6,
}

/// A pod to be.
#[derive(Debug, Clone)]
pub struct PodSpec {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Which node, counted from zero.
    pub node: usize,
    /// Its service account.
    pub service_account: String,
    /// Its labels; `istio.io/dataplane-mode: none` keeps it out of the mesh.
    pub labels: BTreeMap<String, String>,
    /// Its families.
    pub stack: Stack,
    /// Addresses of each family, one at least.
    pub addresses: u8,
    /// Whether it lives in the node's own namespace.
    pub host_network: bool,
    /// Whether its Ready condition is true.
    pub ready: bool,
    /// Whether its object says where its network namespace is.
    pub annotated: bool,
}

impl PodSpec {
    /// A dual-stack, ready pod in `default`, with its own name for service account and `app` label.
    #[must_use]
    pub fn new(name: &str, node: usize) -> Self {
        Self {
            name: name.into(),
            namespace: "default".into(),
            node,
            service_account: name.into(),
            labels: [("app".to_owned(), name.to_owned())].into(),
            stack: Stack::Dual,
            addresses: 1,
            host_network: false,
            ready: true,
            annotated: true,
        }
    }

    /// The same with one more label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// The same, without a word of its network namespace.
    #[must_use]
    pub fn unannotated(mut self) -> Self {
        self.annotated = false;
        self
    }

    /// The same, out of the mesh.
    #[must_use]
    pub fn unenrolled(self) -> Self {
        self.label("istio.io/dataplane-mode", "none")
    }
}

/// A service with cluster IPs of both families.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Labels of its pods.
    pub selector: BTreeMap<String, String>,
    /// Name, port, and target port.
    pub ports: Vec<(String, u16, u16)>,
}

/// Cluster IPs of a service that somebody else's file defines.
#[derive(Debug)]
pub(crate) struct Allotment {
    pub(crate) namespace: String,
    pub(crate) service: String,
    pub(crate) ips: [IpAddr; 2],
}

/// Writes a file so that a watcher sees the old one or the new one, never a part.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_atomically(path: &Path, content: &str) -> anyhow::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).context("a file's path has a name")?;
    let part = path.with_file_name(format!(".{name}.part"));
    fs::write(&part, content).with_context(|| format!("write {}", part.display()))?;
    fs::rename(&part, path).with_context(|| format!("rename to {}", path.display()))
}

pub(crate) fn namespace_yaml(namespace: &NamespaceSpec) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {}\n{}",
        namespace.name,
        labels("  ", "labels", &namespace.labels)
    )
}

pub(crate) fn node_yaml(node: &Node) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: {}\n  labels:\n    topology.kubernetes.io/region: testbed\n    \
         topology.kubernetes.io/zone: {0}\nstatus:\n  addresses:\n",
        node.name()
    );
    for ip in node.addresses() {
        push(&mut text, format_args!("  - type: InternalIP\n    address: {}\n", quoted(ip)));
    }
    text
}

pub(crate) fn pod_yaml(pod: &Pod, node: &Node) -> String {
    let spec = pod.spec();
    let mut text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {}\n  namespace: {}\n  uid: {}\n",
        spec.name,
        spec.namespace,
        pod.uid(),
    );
    if spec.annotated {
        push(&mut text, format_args!("  annotations:\n    weir.dev/netns: {}\n", pod.netns_path().display()));
    }
    text.push_str(&labels("  ", "labels", &spec.labels));
    push(
        &mut text,
        format_args!("spec:\n  nodeName: {}\n  serviceAccountName: {}\n", node.name(), spec.service_account),
    );
    if spec.host_network {
        text.push_str("  hostNetwork: true\n");
    }
    push(&mut text, format_args!("  containers:\n  - name: {}\n    image: weir-testbed\n", spec.name));
    let ready = if spec.ready { "True" } else { "False" };
    push(
        &mut text,
        format_args!(
            "status:\n  phase: Running\n  conditions:\n  - type: Ready\n    status: \"{ready}\"\n  podIP: {}\n  podIPs:\n",
            pod.addresses().first().map(quoted).unwrap_or_default()
        ),
    );
    for ip in pod.addresses() {
        push(&mut text, format_args!("  - ip: {}\n", quoted(ip)));
    }
    text
}

pub(crate) fn service_yaml(service: &ServiceSpec, cluster_ips: &[IpAddr]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {}\n  namespace: {}\nspec:\n  type: ClusterIP\n  ipFamilyPolicy: PreferDualStack\n",
        service.name, service.namespace
    );
    push(
        &mut text,
        format_args!("  clusterIP: {}\n  clusterIPs:\n", cluster_ips.first().map(quoted).unwrap_or_default()),
    );
    for ip in cluster_ips {
        push(&mut text, format_args!("  - {}\n", quoted(ip)));
    }
    text.push_str(&labels("  ", "selector", &service.selector));
    text.push_str("  ports:\n");
    for (name, port, target) in &service.ports {
        push(
            &mut text,
            format_args!("  - name: {name}\n    port: {port}\n    targetPort: {target}\n    protocol: TCP\n"),
        );
    }
    text
}

pub(crate) fn allotment_yaml(allotment: &Allotment) -> String {
    let Allotment { namespace, service, ips } = allotment;
    let one = |ip: &IpAddr| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: IPAddress\nmetadata:\n  name: \"{ip}\"\nspec:\n  parentRef:\n    group: \"\"\n    \
             resource: services\n    namespace: {namespace}\n    name: {service}\n"
        )
    };
    ips.each_ref().map(one).join("---\n")
}

fn labels(indent: &str, key: &str, labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let mut text = format!("{indent}{key}:\n");
    for (key, value) in labels {
        push(&mut text, format_args!("{indent}  {key}: {}\n", quoted(value)));
    }
    text
}

/// In quotes: an IPv6 address and a version such as 0.1 mean something else to YAML without.
fn quoted(value: impl ToString) -> String {
    format!("\"{}\"", value.to_string())
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a String takes all");
}
