//! What a request asks for: a resource, an object, a part of it.

use std::collections::HashMap;

use http::Method;
use serde_json::Value;

/// A kind the server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    /// Whether its status is a resource of its own.
    pub(crate) status: bool,
    /// Whether a definition brought it.
    pub(crate) custom: bool,
}

impl Resource {
    /// `apiVersion` of its objects.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Its name among all.
    pub(crate) fn id(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }
}

/// The kinds every server has: group, version, plural, kind, namespaced, status.
const BUILT_IN: &[(&str, &str, &str, &str, bool, bool)] = &[
    ("", "v1", "namespaces", "Namespace", false, true),
    ("", "v1", "nodes", "Node", false, true),
    ("", "v1", "pods", "Pod", true, true),
    ("", "v1", "services", "Service", true, true),
    ("", "v1", "secrets", "Secret", true, false),
    ("", "v1", "configmaps", "ConfigMap", true, false),
    ("", "v1", "serviceaccounts", "ServiceAccount", true, false),
    ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", true, false),
    ("apps", "v1", "deployments", "Deployment", true, true),
    ("apps", "v1", "daemonsets", "DaemonSet", true, true),
    ("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", true, true),
    ("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", true, true),
    ("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", true, false),
    ("coordination.k8s.io", "v1", "leases", "Lease", true, false),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", false, true),
    (
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        false,
        false,
    ),
    ("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", false, false),
    ("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", false, false),
    ("rbac.authorization.k8s.io", "v1", "roles", "Role", true, false),
    ("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", true, false),
];

/// The kinds every server has.
pub(crate) fn built_in() -> Vec<Resource> {
    let row = |&(group, version, plural, kind, namespaced, status): &(&str, &str, &str, &str, bool, bool)| Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: plural.to_owned(),
        kind: kind.to_owned(),
        namespaced,
        status,
        custom: false,
    };
    BUILT_IN.iter().map(row).collect()
}

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Path {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) part: Option<String>,
}

impl Path {
    /// Of a URL's path; nothing for one that names no resource.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let owned = |text: &str| Some(text.to_owned());
        let (namespace, rest) = match rest {
            // A namespace itself, or a part of it.
            ["namespaces"] | ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => (None, rest),
            ["namespaces", namespace, rest @ ..] => (owned(namespace), rest),
            rest => (None, rest),
        };
        let (plural, name, part) = match rest {
            [plural] => (*plural, None, None),
            [plural, name] => (*plural, owned(name), None),
            [plural, name, part] => (*plural, owned(name), owned(part)),
            _ => return None,
        };
        let (group, version, plural) = (group.to_owned(), version.to_owned(), plural.to_owned());
        Some(Self { group, version, plural, namespace, name, part })
    }

    /// The verb RBAC knows the request by.
    pub(crate) fn verb(&self, method: &Method, query: &Query) -> &'static str {
        match (method.as_str(), &self.name) {
            ("GET", _) if query.watch => "watch",
            ("GET", None) => "list",
            ("GET", Some(_)) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", None) => "deletecollection",
            (_, _) => "delete",
        }
    }
}

/// The query, as far as the server knows it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Query {
    pub(crate) watch: bool,
    pub(crate) bookmarks: bool,
    pub(crate) force: bool,
    pub(crate) limit: Option<usize>,
    pub(crate) token: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) timeout: Option<u64>,
    pub(crate) manager: Option<String>,
    /// The name all objects of a list or a watch are to have: of the selectors of fields the only one that is known here.
    pub(crate) name: Option<String>,
    /// Labels that objects of a list or a watch are to have, each with its value or with any: no other selector of labels is known here.
    pub(crate) labels: Vec<(String, Option<String>)>,
    /// Whether nothing is to be done: the answer is what it would be.
    pub(crate) dry: bool,
    /// Something that would change the answer and is not known here.
    pub(crate) unknown: Option<String>,
}

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let pairs: HashMap<&str, String> = pairs.map(|(key, value)| (key, decoded(value))).collect();
        let text = |key: &str| pairs.get(key).filter(|value| !value.is_empty()).cloned();
        let flag = |key: &str| pairs.get(key).is_some_and(|value| value == "true" || value == "1");
        let unknown = ["sendInitialEvents"];
        let labelled = text("labelSelector").unwrap_or_default();
        let labels: Option<Vec<(String, Option<String>)>> = labelled
            .split(',')
            .filter(|one| !one.is_empty())
            .map(|one| match one.split_once('=') {
                Some((key, value)) if !key.ends_with('!') && !value.starts_with('=') => {
                    Some((key.to_owned(), Some(value.to_owned())))
                }
                None if !one.contains(['!', ' ']) => Some((one.to_owned(), None)),
                Some(_) | None => None,
            })
            .collect();
        let other_labels = labels.is_none().then(|| "labelSelector".to_owned());
        let (selector, named) =
            (text("fieldSelector"), |text: &str| text.strip_prefix("metadata.name=").map(str::to_owned));
        let name = selector.as_deref().and_then(named);
        let other_selector = (selector.is_some() && name.is_none()).then(|| "fieldSelector".to_owned());
        Self {
            watch: flag("watch"),
            dry: text("dryRun").is_some(),
            bookmarks: flag("allowWatchBookmarks"),
            force: flag("force"),
            limit: text("limit").and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0),
            token: text("continue"),
            resource_version: text("resourceVersion"),
            timeout: text("timeoutSeconds").and_then(|seconds| seconds.parse().ok()),
            manager: text("fieldManager"),
            unknown: unknown
                .iter()
                .find(|key| text(key).is_some())
                .map(ToString::to_string)
                .or(other_selector)
                .or(other_labels),
            name,
            labels: labels.unwrap_or_default(),
        }
    }

    /// Whether an object is one of those that are asked for.
    pub(crate) fn selects(&self, object: &Value) -> bool {
        let named = self.name.as_deref().is_none_or(|name| object["metadata"]["name"] == name);
        let has = |key: &String, value: &Option<String>| match (&object["metadata"]["labels"][key], value) {
            (Value::String(said), Some(value)) => said == value,
            (said, None) => said.is_string(),
            (_, Some(_)) => false,
        };
        named && self.labels.iter().all(|(key, value)| has(key, value))
    }
}

/// `%41` and `+` undone.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => {
                std::str::from_utf8(&[*high, *low]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_resource_an_object_or_a_part() {
        for (path, want) in [
            ("/api/v1/pods", "pods - - -"),
            ("/api/v1/namespaces", "namespaces - - -"),
            ("/api/v1/namespaces/a", "namespaces - a -"),
            ("/api/v1/namespaces/a/status", "namespaces - a status"),
            ("/api/v1/namespaces/a/pods", "pods a - -"),
            ("/api/v1/namespaces/a/serviceaccounts/b/token", "serviceaccounts a b token"),
            ("/apis/security.istio.io/v1/authorizationpolicies", "authorizationpolicies - - -"),
        ] {
            let Path { plural, namespace, name, part, .. } = Path::parse(path).unwrap();
            let text = |part: Option<String>| part.unwrap_or_else(|| "-".to_owned());
            assert_eq!(format!("{plural} {} {} {}", text(namespace), text(name), text(part)), want, "{path}");
        }
        assert_eq!(Path::parse("/version"), None);
    }

    #[test]
    fn a_query_is_decoded() {
        let query = Query::parse("limit=500&continue=a%3Ab%2fc&watch=true&resourceVersion=");
        assert_eq!((query.limit, query.token.as_deref(), query.watch), (Some(500), Some("a:b/c"), true));
        assert_eq!(query.resource_version, None);
    }
}
