//! Objects of any kind, as JSON: applied, read, deleted, listed, each with a deadline. For what is made by description: a waypoint's
//! Deployment, the manifests of the mesh itself.

use std::{fmt, time::Duration};

use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions, PropagationPolicy},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::Value;

use crate::{Error, error::within};

/// How long a request may take. Webhooks of others may stand in its way, each of them for ten seconds.
const DEADLINE: Duration = Duration::from_secs(30);
/// Objects asked for at once.
const PAGE: u32 = 500;

/// A kind of object. Kubernetes `GroupVersionKind`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnyKind {
    /// `apiVersion` up to the stroke; empty for the core.
    pub group: String,
    /// `apiVersion` after it.
    pub version: String,
    /// `kind`.
    pub kind: String,
}

/// Which object: its kind, where it is, and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnyName {
    /// Its kind.
    pub kind: AnyKind,
    /// `metadata.namespace`; nothing for what has none.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
}

/// As whom, and how an object is applied.
#[derive(Debug, Clone, Copy)]
pub struct Applying<'a> {
    /// `fieldManager`.
    pub manager: &'a str,
    /// Whether fields of others are taken over; else that is a conflict, 409.
    pub others: Others,
    /// Whether it is done, or only tried.
    pub run: Run,
}

/// What becomes of fields that somebody else applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// They are ours now.
    Taken,
    /// They are theirs: 409.
    Kept,
}

/// Whether the server does what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// It does.
    Real,
    /// It answers as if it had. Kubernetes `dryRun=All`.
    Dry,
}

/// What a deletion came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone, or goes.
    Deleted,
    /// It was not there.
    Absent,
}

impl AnyKind {
    /// By `apiVersion` and `kind`.
    pub fn new(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() }
    }

    /// The object of this kind.
    pub fn named(self, namespace: Option<&str>, name: &str) -> AnyName {
        AnyName { kind: self, namespace: namespace.map(str::to_owned), name: name.to_owned() }
    }

    fn resource(&self) -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk(&self.group, &self.version, &self.kind))
    }

    pub(crate) fn api(&self, client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &self.resource()),
            None => Api::all_with(client.clone(), &self.resource()),
        }
    }

    /// Its objects in RBAC's words, such as `deployments.apps`: what somebody has to be allowed.
    pub fn resource_name(&self) -> String {
        let plural = self.resource().plural;
        if self.group.is_empty() { plural } else { format!("{plural}.{}", self.group) }
    }
}

impl AnyName {
    /// Of an object, as it describes itself. Nothing if it has no kind or no name.
    pub fn of(object: &Value) -> Option<Self> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        let kind = AnyKind::new(text("/apiVersion")?, text("/kind")?);
        Some(kind.named(text("/metadata/namespace"), text("/metadata/name")?))
    }

    fn api(&self, client: &Client) -> Api<DynamicObject> {
        self.kind.api(client, self.namespace.as_deref())
    }
}

impl fmt::Display for AnyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        match namespace {
            Some(namespace) => write!(f, "{} {namespace}/{name}", kind.kind),
            None => write!(f, "{} {name}", kind.kind),
        }
    }
}

/// An object, if it is there. 404 of a kind that is not installed is an object that is not there.
///
/// # Errors
/// When the server refuses, or does not say in time.
pub async fn object_get(client: &Client, name: &AnyName) -> Result<Option<Value>, Error> {
    let api = name.api(client);
    let found = within(DEADLINE, || format!("get {name}"), api.get_opt(&name.name)).await?;
    found.map(|object| json(name, &object)).transpose()
}

/// Sees to it by server-side apply that an object has the fields that are named, and those named before and no longer are gone. The answer is
/// the object as it is then.
///
/// # Errors
/// When the object has no name, the server refuses, or does not say in time; status 409 when a field is another's that is to be kept.
pub async fn object_apply(client: &Client, object: &Value, how: Applying<'_>) -> Result<Value, Error> {
    let missing = || Error::Incomplete { what: "apply an object".to_owned(), field: "metadata.name" };
    let name = AnyName::of(object).ok_or_else(missing)?;
    let api = name.api(client);
    let params = PatchParams {
        dry_run: how.run == Run::Dry,
        force: how.others == Others::Taken,
        field_manager: Some(how.manager.to_owned()),
        ..PatchParams::default()
    };
    let apply = async { api.patch(&name.name, &params, &Patch::Apply(object)).await };
    json(&name, &within(DEADLINE, || format!("apply {name}"), apply).await?)
}

/// Deletes an object, and in the background what it owns; with a uid only the one that has it.
///
/// # Errors
/// When the server refuses, or does not say in time; status 409 when it is another one by now.
pub async fn object_delete(client: &Client, name: &AnyName, uid: Option<&str>) -> Result<Deleted, Error> {
    let api = name.api(client);
    let preconditions = uid.map(|uid| Preconditions { uid: Some(uid.to_owned()), resource_version: None });
    let propagation = Some(PropagationPolicy::Background);
    let params = DeleteParams { preconditions, propagation_policy: propagation, ..DeleteParams::default() };
    let delete = async { api.delete(&name.name, &params).await };
    match within(DEADLINE, || format!("delete {name}"), delete).await {
        Ok(_) => Ok(Deleted::Deleted),
        Err(error) if error.status() == Some(404) => Ok(Deleted::Absent),
        Err(error) => Err(error),
    }
}

/// All objects of a kind with labels `a=b,c=d`, in one namespace or all; at most `most` of them.
///
/// # Errors
/// When the server refuses, does not say in time, or has more.
pub async fn objects_list(
    client: &Client,
    kind: &AnyKind,
    namespace: Option<&str>,
    labels: &str,
    most: usize,
) -> Result<Vec<Value>, Error> {
    let api = kind.api(client, namespace);
    let what = || format!("list {}", kind.resource_name());
    let (mut all, mut token) = (Vec::new(), None);
    loop {
        let selector = Some(labels.to_owned()).filter(|labels| !labels.is_empty());
        let params =
            ListParams { label_selector: selector, limit: Some(PAGE), continue_token: token, ..ListParams::default() };
        let page = within(DEADLINE, what, api.list(&params)).await?;
        if all.len() + page.items.len() > most {
            return Err(Error::TooMany { what: what(), max: most });
        }
        for object in &page.items {
            all.push(serde_json::to_value(object).map_err(|source| Error::Malformed { what: what(), source })?);
        }
        token = page.metadata.continue_.filter(|token| !token.is_empty());
        if token.is_none() {
            return Ok(all);
        }
    }
}

fn json(name: &AnyName, object: &DynamicObject) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(|source| Error::Malformed { what: name.to_string(), source })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_named_by_what_it_says_of_itself() {
        for (object, want) in [
            (
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "b"}}),
                Some(("Deployment b/a", "deployments.apps")),
            ),
            (
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}),
                Some(("Namespace a", "namespaces")),
            ),
            (
                json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "a"}}),
                Some(("NetworkPolicy a", "networkpolicies.networking.k8s.io")),
            ),
            (json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {}}), None),
            (json!({"kind": "Namespace", "metadata": {"name": "a"}}), None),
        ] {
            let found = AnyName::of(&object).map(|name| (name.to_string(), name.kind.resource_name()));
            assert_eq!(found, want.map(|(name, kind)| (name.to_owned(), kind.to_owned())), "{object}");
        }
    }
}
