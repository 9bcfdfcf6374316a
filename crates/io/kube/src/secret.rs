//! Secrets as the bytes they hold.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use weir_model::Namespace;
use zeroize::Zeroizing;

use crate::{
    Error,
    error::within,
    write::{FIELD_MANAGER, Made, secret_create_or_get, secret_get},
};

/// How long a write may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// A Secret's data, and the version they are of.
pub type Versioned = (BTreeMap<String, Vec<u8>>, String);

/// A Secret's data; none if there is no such Secret.
///
/// # Errors
/// When the server refuses, or does not say in time.
pub async fn secret_read(client: &Client, namespace: &Namespace, name: &str) -> Result<Option<Versioned>, Error> {
    Ok(secret_get(client, namespace, name).await?.map(versioned))
}

/// Makes a Secret of these data unless it is there, and answers with the one that is.
///
/// # Errors
/// When the server refuses, or does not say in time. It may have been made nevertheless: ask again.
pub async fn secret_make(
    client: &Client,
    namespace: &Namespace,
    name: &str,
    data: BTreeMap<String, Zeroizing<Vec<u8>>>,
) -> Result<Made<Versioned>, Error> {
    let secret = Secret { data: Some(bytes(data)), ..Secret::default() };
    Ok(match secret_create_or_get(client, namespace, name, secret).await? {
        Made::Ours(secret) => Made::Ours(versioned(secret)),
        Made::Theirs(secret) => Made::Theirs(versioned(secret)),
    })
}

/// Replaces a Secret's data, if they are still of that version.
///
/// # Errors
/// With status 409 when they are not any more; when the server refuses, or does not say in time.
pub async fn secret_replace(
    client: &Client,
    namespace: &Namespace,
    name: &str,
    version: &str,
    data: BTreeMap<String, Zeroizing<Vec<u8>>>,
) -> Result<Versioned, Error> {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace.as_str());
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_string()),
        resource_version: Some(version.to_owned()),
        ..ObjectMeta::default()
    };
    let secret = Secret { metadata, data: Some(bytes(data)), ..Secret::default() };
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let replace = async { secrets.replace(name, &params, &secret).await };
    within(DEADLINE, || format!("replace Secret {namespace}/{name}"), replace).await.map(versioned)
}

fn bytes(data: BTreeMap<String, Zeroizing<Vec<u8>>>) -> BTreeMap<String, ByteString> {
    data.into_iter().map(|(name, bytes)| (name, ByteString(bytes.to_vec()))).collect()
}

fn versioned(secret: Secret) -> Versioned {
    let data = secret.data.unwrap_or_default().into_iter().map(|(name, bytes)| (name, bytes.0)).collect();
    (data, secret.metadata.resource_version.unwrap_or_default())
}
