//! What a real server fills in and refuses, as far as the suite relies on it.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::{
    reply::Refusal,
    request::Resource,
    store::{Store, text},
};

/// Whether a name is a DNS subdomain.
fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        let inside = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inside && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// A new object, made whole: what its creator may not say is taken out, what they did not say is filled in.
pub(crate) fn complete(
    store: &Store,
    resource: &Resource,
    namespace: Option<&str>,
    mut object: Value,
) -> Result<Value, Refusal> {
    let name = text(&object, "/metadata/name").to_owned();
    // Real servers let role names have more.
    if !is_name(&name) && !resource.group.starts_with("rbac.") {
        return Err(Refusal::invalid(format!(
            "metadata.name: Invalid value: {name:?}: a lowercase RFC 1123 subdomain"
        )));
    }
    match namespace {
        Some(namespace) => {
            let there = store.find("namespaces", "", namespace);
            let there = there.ok_or_else(|| Refusal::not_found("namespaces", namespace))?;
            if text(there, "/status/phase") == "Terminating" {
                return Err(Refusal::new(403, "Forbidden", format!("namespace {namespace} is being terminated")));
            }
            let said = text(&object, "/metadata/namespace");
            if !said.is_empty() && said != namespace {
                return Err(Refusal::bad(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
            object["metadata"]["namespace"] = json!(namespace);
        }
        None if resource.namespaced => {
            return Err(Refusal::new(405, "MethodNotAllowed", "an object of this kind is made in a namespace"));
        }
        None => {}
    }
    if !text(&object, "/metadata/resourceVersion").is_empty() {
        return Err(Refusal::bad("resourceVersion should not be set on objects to be created"));
    }
    if resource.status
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    match resource.kind.as_str() {
        "Namespace" => object["status"] = json!({"phase": "Active"}),
        "Pod" => pod(&mut object),
        "Service" => service(store, &mut object),
        _ => {}
    }
    check(resource, &object)?;
    Ok(object)
}

fn pod(object: &mut Value) {
    object["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
    if text(object, "/spec/serviceAccountName").is_empty() {
        object["spec"]["serviceAccountName"] = json!("default");
    }
    object["spec"]["serviceAccount"] = object["spec"]["serviceAccountName"].clone();
}

fn service(store: &Store, object: &mut Value) {
    object["status"] = json!({"loadBalancer": {}});
    if text(object, "/spec/type").is_empty() {
        object["spec"]["type"] = json!("ClusterIP");
    }
    if text(object, "/spec/clusterIP").is_empty() {
        let free = store.version;
        object["spec"]["clusterIP"] = json!(format!("10.96.{}.{}", free / 250 % 250, free % 250 + 1));
    }
    object["spec"]["clusterIPs"] = json!([object["spec"]["clusterIP"]]);
}

/// Refuses addresses a real server refuses: those that lead back to whoever connects.
pub(crate) fn check(resource: &Resource, object: &Value) -> Result<(), Refusal> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let addresses: Vec<Value> = match resource.kind.as_str() {
        "Pod" => {
            let all = list(&object["status"]["podIPs"]).into_iter().map(|item| item["ip"].clone());
            all.chain(object["status"].get("podIP").cloned()).collect()
        }
        "EndpointSlice" => {
            list(&object["endpoints"]).iter().flat_map(|endpoint| list(&endpoint["addresses"])).collect()
        }
        _ => return Ok(()),
    };
    for address in addresses {
        let said = address.as_str().unwrap_or_default();
        match said.parse::<IpAddr>() {
            Ok(ip) if ip.is_loopback() => {
                let range = "may not be in the loopback range (127.0.0.0/8, ::1/128)";
                return Err(Refusal::invalid(format!("Invalid value: {said:?}: {range}")));
            }
            Ok(_) => {}
            Err(_) => return Err(Refusal::invalid(format!("Invalid value: {said:?}: must be a valid IP address"))),
        }
    }
    Ok(())
}

/// The resource a CustomResourceDefinition brings.
pub(crate) fn defined(definition: &Value) -> Result<Resource, Refusal> {
    let versions = definition["spec"]["versions"].as_array().cloned().unwrap_or_default();
    let served = versions.iter().find(|version| version["served"] == true);
    let served = served.ok_or_else(|| Refusal::invalid("spec.versions: Required value: one that is served"))?;
    let (plural, group) = (text(definition, "/spec/names/plural"), text(definition, "/spec/group"));
    if text(definition, "/metadata/name") != format!("{plural}.{group}") {
        return Err(Refusal::invalid("metadata.name: must be spec.names.plural+\".\"+spec.group"));
    }
    Ok(Resource {
        group: group.to_owned(),
        version: text(served, "/name").to_owned(),
        plural: plural.to_owned(),
        kind: text(definition, "/spec/names/kind").to_owned(),
        namespaced: text(definition, "/spec/scope") == "Namespaced",
        status: !served["subresources"]["status"].is_null(),
        custom: true,
    })
}
