//! Who may do what: RBAC over the roles and bindings in the store.

use serde_json::{Value, json};

use crate::{
    reply::Refusal,
    store::{Store, text},
    token::User,
};

/// Something somebody wants to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    pub(crate) verb: String,
    pub(crate) group: String,
    /// With its part, as `pods/status`.
    pub(crate) resource: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
}

/// Refuses what no role allows.
pub(crate) fn check(store: &Store, user: &User, wish: &Wish) -> Result<(), Refusal> {
    if allowed(store, &user.name, &user.groups, wish) {
        return Ok(());
    }
    let place = match &wish.namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let Wish { verb, group, resource, .. } = wish;
    let (plural, who) = (resource.split('/').next().unwrap_or_default(), &user.name);
    let message = format!(
        "{plural} is forbidden: User {who:?} cannot {verb} resource {resource:?} in API group {group:?} {place}"
    );
    Err(Refusal::new(403, "Forbidden", message))
}

fn allowed(store: &Store, user: &str, groups: &[String], wish: &Wish) -> bool {
    if groups.iter().any(|group| group == "system:masters") {
        return true;
    }
    let of = |plural: &'static str| {
        store.objects.iter().filter(move |(key, _)| key.0 == format!("{plural}.rbac.authorization.k8s.io"))
    };
    let cluster = of("clusterrolebindings").map(|(_, binding)| (None, &binding.object));
    let local = of("rolebindings").map(|(key, binding)| (Some(key.1.as_str()), &binding.object));
    cluster.chain(local).any(|(namespace, binding)| {
        let here = namespace.is_none() || namespace == wish.namespace.as_deref();
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        let meant = subjects.into_iter().any(|subject| match text(subject, "/kind") {
            "ServiceAccount" => {
                user == format!("system:serviceaccount:{}:{}", text(subject, "/namespace"), text(subject, "/name"))
            }
            "Group" => groups.iter().any(|group| group == text(subject, "/name")),
            "User" => user == text(subject, "/name"),
            _ => false,
        });
        here && meant && rules(store, binding, namespace).iter().any(|rule| grants(rule, wish))
    })
}

fn rules(store: &Store, binding: &Value, namespace: Option<&str>) -> Vec<Value> {
    let (plural, namespace) = match text(binding, "/roleRef/kind") {
        "Role" => ("roles", namespace.unwrap_or_default()),
        _ => ("clusterroles", ""),
    };
    let key = (
        format!("{plural}.rbac.authorization.k8s.io"),
        namespace.to_owned(),
        text(binding, "/roleRef/name").to_owned(),
    );
    let role = store.objects.get(&key);
    role.and_then(|role| role.object["rules"].as_array().cloned()).unwrap_or_default()
}

fn grants(rule: &Value, wish: &Wish) -> bool {
    let lists = |field: &str, wanted: &str| {
        rule[field].as_array().into_iter().flatten().filter_map(Value::as_str).any(|one| one == "*" || one == wanted)
    };
    let names = rule["resourceNames"].as_array().filter(|names| !names.is_empty());
    let named = names.is_none_or(|names| wish.name.as_ref().is_some_and(|name| names.contains(&json!(name))));
    lists("verbs", &wish.verb) && lists("apiGroups", &wish.group) && lists("resources", &wish.resource) && named
}

/// SelfSubjectAccessReview.
pub(crate) fn review_of(store: &Store, user: &User, mut body: Value) -> Value {
    body["spec"]["user"] = json!(user.name);
    body["spec"]["groups"] = json!(user.groups);
    let mut body = review(store, body);
    if let Some(spec) = body["spec"].as_object_mut() {
        spec.remove("user");
        spec.remove("groups");
    }
    body
}

/// SubjectAccessReview.
pub(crate) fn review(store: &Store, mut body: Value) -> Value {
    let asked = &body["spec"]["resourceAttributes"];
    let given = |field: &str| asked[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let resource = given("resource").unwrap_or_default();
    let wish = Wish {
        verb: given("verb").unwrap_or_default(),
        group: given("group").unwrap_or_default(),
        resource: given("subresource").map_or(resource.clone(), |part| format!("{resource}/{part}")),
        namespace: given("namespace"),
        name: given("name"),
    };
    let groups: Vec<String> =
        body["spec"]["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let allowed = allowed(store, text(&body, "/spec/user"), &groups, &wish);
    body["status"] = json!({"allowed": allowed});
    body
}
