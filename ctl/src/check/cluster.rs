//! A cluster, before a mesh is installed and after.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;
use weir_kube::Deed;

use super::{Finding, node};
use crate::{
    cli::Place,
    cluster::Cluster,
    out::{at, list, number},
};

/// The first Kubernetes whose containers have every field that the manifests set: `securityContext.appArmorProfile` was the last to come.
const KUBERNETES: (u32, u32) = (1, 30);
/// The port that agents take connections of the mesh on.
const HBONE: u64 = 15008;
/// Names that are listed; of more, how many there are.
const NAMED: usize = 5;
/// What an install does that is not always allowed.
const DEEDS: [(&str, &str, &str); 6] = [
    ("create", "", "namespaces"),
    ("create", "apps", "daemonsets"),
    ("create", "apps", "deployments"),
    ("create", "rbac.authorization.k8s.io", "clusterroles"),
    ("create", "rbac.authorization.k8s.io", "clusterrolebindings"),
    ("create", "apiextensions.k8s.io", "customresourcedefinitions"),
];
/// Programs of others, by the names of their DaemonSets.
const OTHERS: [(&str, &str); 5] = [
    ("istio-cni-node", "Istio's CNI plugin"),
    ("ztunnel", "Istio's ztunnel"),
    ("linkerd-cni", "Linkerd's CNI plugin"),
    ("kuma-cni-node", "Kuma's CNI plugin"),
    ("cilium", "Cilium"),
];

/// Looks at the cluster.
pub(super) async fn look(place: &Place) -> Result<Vec<Finding>> {
    let cluster = place.cluster().await?;
    let version = cluster.get("/version").await?.unwrap_or_default();
    let mut findings = vec![server(at(&version, "/gitVersion"), cluster.url())];
    findings.push(may(&cluster).await?);
    findings.push(gateway_api(&cluster).await?);
    findings.push(nodes(&cluster).await?);
    findings.extend(others(&cluster).await?);
    findings.push(namespaces(&cluster).await?);
    findings.push(policies(&cluster, &place.mesh_namespace).await?);
    findings.push(may_look(&cluster, &place.mesh_namespace).await?);
    findings.push(installed(&cluster, &place.mesh_namespace).await?);
    Ok(findings)
}

/// Whether the API server knows all that is installed.
fn server(version: &str, url: &str) -> Finding {
    let (major, minor) = KUBERNETES;
    let next = || format!("the manifests need Kubernetes {major}.{minor} or later: bring the cluster up to date");
    match node::release(version.strip_prefix('v').unwrap_or(version)) {
        Some(known) if known >= KUBERNETES => Finding::good("API server", format!("{version} at {url}")),
        Some(_) => Finding::bad("API server", format!("{version} at {url}"), next()),
        None => Finding::doubtful("API server", format!("{version:?} at {url} is no version of Kubernetes"), next()),
    }
}

/// Whether whoever asks may install.
async fn may(cluster: &Cluster) -> Result<Finding> {
    let mut forbidden = Vec::new();
    for (verb, group, resource) in DEEDS {
        if !cluster.may(&Deed { verb, group, resource, part: "", namespace: None }).await? {
            forbidden.push(format!(
                "{verb} {resource}{}",
                if group.is_empty() { String::new() } else { format!(".{group}") }
            ));
        }
    }
    Ok(match forbidden.as_slice() {
        [] => Finding::good("permissions", "you may install"),
        all => Finding::bad(
            "permissions",
            format!("you may not {}", all.join(", ")),
            "ask for a role with these verbs, such as cluster-admin",
        ),
    })
}

/// Whether whoever asks may ask the programs of the mesh.
async fn may_look(cluster: &Cluster, namespace: &str) -> Result<Finding> {
    let mut forbidden = Vec::new();
    for (verb, part) in [("list", ""), ("get", "portforward"), ("create", "portforward")] {
        if !cluster.may(&Deed { verb, group: "", resource: "pods", part, namespace: Some(namespace) }).await? {
            forbidden.push(format!("{verb} pods{}{part}", if part.is_empty() { "" } else { "/" }));
        }
    }
    Ok(match forbidden.as_slice() {
        [] => Finding::good("looking", format!("you may ask the programs in {namespace}")),
        all => Finding::doubtful(
            "looking",
            format!("you may not {} in {namespace}", all.join(", ")),
            "weirctl reaches admin ports by the API server's port-forward: ask for these verbs to look at the mesh",
        ),
    })
}

async fn gateway_api(cluster: &Cluster) -> Result<Finding> {
    let group = cluster.get("/apis/gateway.networking.k8s.io/v1").await?.unwrap_or_default();
    let kinds: Vec<&str> = list(&group, "/resources").iter().map(|one| at(one, "/name")).collect();
    let missing: Vec<&str> =
        ["gateways", "httproutes", "grpcroutes"].into_iter().filter(|one| !kinds.contains(one)).collect();
    Ok(match missing.as_slice() {
        [] => Finding::good("Gateway API", "v1"),
        missing => Finding::doubtful(
            "Gateway API",
            format!("no {}", missing.join(", ")),
            "waypoints need its CRDs: gateway-api.sigs.k8s.io/guides says how to install them; without, policies on connections work",
        ),
    })
}

async fn nodes(cluster: &Cluster) -> Result<Finding> {
    let (mut all, mut old, mut foreign) = (0_usize, Vec::new(), 0_usize);
    cluster
        .each("/api/v1/nodes", |one| {
            all += 1;
            let system = at(one, "/status/nodeInfo/operatingSystem");
            let kernel = at(one, "/status/nodeInfo/kernelVersion");
            if system != "linux" && system != "-" {
                foreign += 1;
            } else if node::release(kernel).is_some_and(|release| release < node::KERNEL) {
                old.push(format!("{} ({kernel})", at(one, "/metadata/name")));
            }
            Ok(())
        })
        .await?;
    let (major, minor) = node::KERNEL;
    Ok(match (old.is_empty(), foreign) {
        (false, _) => Finding::bad(
            "nodes",
            format!("too old a kernel: {}", some(&old)),
            format!(
                "the agent needs Linux {major}.{minor} or later; keep it off these nodes, or bring them up to date"
            ),
        ),
        (true, 0) => Finding::good(
            "nodes",
            format!("{all}, all of Linux {major}.{minor} or later; weirctl check --node says more on each"),
        ),
        (true, foreign) => Finding::doubtful(
            "nodes",
            format!("{foreign} of {all} are not of Linux"),
            "pods there stay outside the mesh",
        ),
    })
}

/// The first few names, and how many more there are.
fn some(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Other meshes, and plugins that must be told of one.
async fn others(cluster: &Cluster) -> Result<Vec<Finding>> {
    let mut found: BTreeMap<&str, String> = BTreeMap::new();
    cluster
        .each("/apis/apps/v1/daemonsets", |set| {
            let (namespace, name) = (at(set, "/metadata/namespace"), at(set, "/metadata/name"));
            if let Some((_, whose)) = OTHERS.iter().find(|(known, _)| *known == name) {
                found.insert(whose, namespace.to_owned());
            }
            Ok(())
        })
        .await?;
    let mut findings = Vec::new();
    for (whose, namespace) in &found {
        findings.push(match *whose {
            "Cilium" => cilium(cluster, namespace).await?,
            _ => Finding::bad(
                "other meshes",
                format!("{whose} runs in namespace {namespace}"),
                "two meshes catch the same connections: take one away first",
            ),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::good("other meshes", "none"));
    }
    Ok(findings)
}

/// Cilium must leave room for another plugin, and let addresses of services be.
async fn cilium(cluster: &Cluster, namespace: &str) -> Result<Finding> {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/cilium-config");
    let config = cluster.get(&path).await?.unwrap_or_default();
    let mut wrong = Vec::new();
    if at(&config, "/data/cni-exclusive") != "false" {
        wrong.push("cni.exclusive=false, else it takes weir-cni out of the chain");
    }
    let replaces = matches!(at(&config, "/data/kube-proxy-replacement"), "true" | "strict" | "probe" | "partial");
    if replaces && at(&config, "/data/bpf-lb-sock-hostns-only") != "true" {
        wrong.push(
            "socketLB.hostNamespaceOnly=true, else it translates addresses of services before the agent sees them",
        );
    }
    Ok(match wrong.as_slice() {
        [] => Finding::good("Cilium", "leaves room for the mesh"),
        wrong => Finding::bad("Cilium", "is in the way of the mesh", format!("set {}", wrong.join("; and "))),
    })
}

/// Sidecars of others.
async fn namespaces(cluster: &Cluster) -> Result<Finding> {
    let mut injected = Vec::new();
    cluster
        .each("/api/v1/namespaces", |one| {
            let istio = at(one, "/metadata/labels/istio-injection") == "enabled";
            let linkerd = at(one, "/metadata/annotations/linkerd.io~1inject") == "enabled";
            if istio || linkerd {
                injected.push(at(one, "/metadata/name").to_owned());
            }
            Ok(())
        })
        .await?;
    Ok(match injected.is_empty() {
        true => Finding::good("sidecars", "no namespace asks for them"),
        false => Finding::doubtful(
            "sidecars",
            format!("asked for by {}", some(&injected)),
            "pods with a sidecar stay outside; take the label off where they are to be in this mesh",
        ),
    })
}

/// NetworkPolicies that let nothing in from the mesh. Those in the mesh's own namespace govern its programs, which no agent stands before.
async fn policies(cluster: &Cluster, own: &str) -> Result<Finding> {
    let mut blocking = Vec::new();
    cluster
        .each("/apis/networking.k8s.io/v1/networkpolicies", |policy| {
            if at(policy, "/metadata/namespace") != own && blocks(policy) {
                blocking.push(format!("{}/{}", at(policy, "/metadata/namespace"), at(policy, "/metadata/name")));
            }
            Ok(())
        })
        .await?;
    Ok(match blocking.is_empty() {
        true => Finding::good("NetworkPolicies", format!("none blocks port {HBONE}")),
        false => Finding::doubtful(
            "NetworkPolicies",
            format!("{} may block port {HBONE}", some(&blocking)),
            format!(
                "pods in the mesh are reached at port {HBONE}: add it, for TCP, to the ingress rules of these policies where they cover such pods and no other policy admits it"
            ),
        ),
    })
}

/// Whether a policy governs what comes in, and lets port 15008 in from nobody. networking.k8s.io/v1 `NetworkPolicySpec`.
fn blocks(policy: &Value) -> bool {
    let types: Vec<&str> = list(policy, "/spec/policyTypes").iter().filter_map(Value::as_str).collect();
    let governs = types.is_empty() || types.contains(&"Ingress");
    let admits = |port: &Value| {
        let tcp = matches!(at(port, "/protocol"), "TCP" | "-");
        let first = port["port"].as_u64();
        let last = match number(port, "/endPort") {
            0 => first.unwrap_or_default(),
            last => last,
        };
        // A name is one of a container's ports, and 15008 is none.
        let named = port["port"].is_string();
        tcp && !named && first.is_none_or(|first| (first..=last).contains(&HBONE))
    };
    let open = list(policy, "/spec/ingress").iter().any(|rule| {
        let ports = list(rule, "/ports");
        ports.is_empty() || ports.iter().any(admits)
    });
    governs && !open
}

/// Whether the mesh is there, whole, and ready.
async fn installed(cluster: &Cluster, namespace: &str) -> Result<Finding> {
    if cluster.get(&format!("/api/v1/namespaces/{namespace}")).await?.is_none() {
        return Ok(Finding::good(
            "mesh",
            format!("not installed: there is no namespace {namespace}; weirctl install installs it"),
        ));
    }
    let programs = match cluster.programs(namespace).await {
        Ok(programs) => programs,
        Err(error) => {
            return Ok(Finding::bad(
                "mesh",
                format!("half installed: {error:#}"),
                "run weirctl install again: it goes on where it stopped",
            ));
        }
    };
    let missing: Vec<&str> = ["weir-control", "weir-agent"]
        .into_iter()
        .filter(|one| !programs.iter().any(|program| program.component == *one))
        .collect();
    let unready: Vec<String> = programs
        .iter()
        .filter_map(|program| Some(format!("{} on {}: {}", program.pod, program.node, program.unready.as_ref()?)))
        .collect();
    Ok(match (missing.as_slice(), unready.as_slice()) {
        ([], []) => {
            Finding::good("mesh", format!("{} programs run in {namespace}; weirctl status asks each", programs.len()))
        }
        (missing @ [_, ..], _) => Finding::bad(
            "mesh",
            format!("half installed: no {} in {namespace}", missing.join(" and no ")),
            "run weirctl install again: it goes on where it stopped",
        ),
        ([], unready) => Finding::bad(
            "mesh",
            format!("not ready: {}", some(unready)),
            format!("kubectl -n {namespace} describe pod says why"),
        ),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::State, *};

    #[test]
    fn a_policy_blocks_the_mesh_if_it_governs_what_comes_in_and_admits_the_port_from_nobody() {
        for (spec, want) in [
            (json!({ "policyTypes": ["Ingress"] }), true),
            (json!({ "policyTypes": ["Egress"] }), false),
            (json!({}), true),
            (json!({ "ingress": [{}] }), false),
            (json!({ "ingress": [{ "ports": [{ "port": 80 }] }] }), true),
            (json!({ "ingress": [{ "ports": [{ "port": 80 }] }, { "ports": [{ "port": 15008 }] }] }), false),
            (json!({ "ingress": [{ "ports": [{ "port": 15008, "protocol": "UDP" }] }] }), true),
            (json!({ "ingress": [{ "ports": [{ "port": 15000, "endPort": 15010 }] }] }), false),
            (json!({ "ingress": [{ "ports": [{ "port": 80, "endPort": 90 }] }] }), true),
            (json!({ "ingress": [{ "ports": [{ "port": "http" }] }] }), true),
            (json!({ "ingress": [{ "ports": [{ "protocol": "TCP" }] }] }), false),
        ] {
            assert_eq!(blocks(&json!({ "spec": spec })), want, "{spec}");
        }
    }

    #[test]
    fn a_server_will_do_from_the_version_on_that_knows_every_field() {
        for (version, want) in [
            ("v1.30.0", State::Good),
            ("v1.30.5-eks-ce1d5eb", State::Good),
            ("v1.36.4+k3s1", State::Good),
            ("v2.0.0", State::Good),
            ("v1.29.14", State::Bad),
            ("v1.9.1", State::Bad),
            ("-", State::Doubtful),
            ("", State::Doubtful),
        ] {
            let found = server(version, "https://h");
            assert_eq!(found.state, want, "{version}");
            assert!(want == State::Good || found.next.contains("1.30"), "{version}");
        }
    }

    #[test]
    fn of_many_names_the_first_few_are_told() {
        let names: Vec<String> = (0..7).map(|number| number.to_string()).collect();
        assert_eq!(some(&names), "0, 1, 2, 3, 4 and 2 more");
        assert_eq!(some(&names[..1]), "0");
    }
}
