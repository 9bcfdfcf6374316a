//! Whom API servers trust when they ask a webhook.

use std::time::Duration;

use k8s_openapi::{ByteString, api::admissionregistration::v1::ValidatingWebhookConfiguration};
use kube::{Api, Client, api::PostParams};

use crate::{Applied, Error, error::within, write::FIELD_MANAGER};

/// How long a request may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Sees to it that every webhook of a configuration is asked by who trusts these roots, PEM. Nothing else of it is touched, and one that is not
/// there is not made: whether there is a webhook is its deployer's to say.
///
/// # Errors
/// With status 409 when it has just changed; when the server refuses, or does not say in time.
pub async fn webhook_trust(client: &Client, name: &str, roots: &str) -> Result<Option<Applied>, Error> {
    let all = Api::<ValidatingWebhookConfiguration>::all(client.clone());
    let what = |verb: &str| format!("{verb} ValidatingWebhookConfiguration {name}");
    let Some(mut there) = within(DEADLINE, || what("get"), all.get_opt(name)).await? else { return Ok(None) };
    let bundle = ByteString(roots.as_bytes().to_vec());
    let mut applied = Applied::Same;
    for webhook in there.webhooks.iter_mut().flatten() {
        if webhook.client_config.ca_bundle.as_ref() != Some(&bundle) {
            webhook.client_config.ca_bundle = Some(bundle.clone());
            applied = Applied::Changed;
        }
    }
    if applied == Applied::Changed {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        // Of the version that was read: what somebody else changed meanwhile stays.
        let replace = async { all.replace(name, &params, &there).await };
        within(DEADLINE, || what("replace"), replace).await?;
    }
    Ok(Some(applied))
}
