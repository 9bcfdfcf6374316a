//! Policies. This version enforces none, so one is sent that denies all it covers, and of one that comes only its scope counts.

use prost::Message;
use weir_model::{Policy, PolicyAction, PolicyKind, PolicyName, PolicyScope, PolicySource};

use super::{ConvertError, Named, read};
use crate::proto;

/// The policy as it is sent: it allows, and has no rule by which it would.
pub(crate) fn policy_to(policy: &Policy) -> Vec<u8> {
    let scope = match policy.scope {
        PolicyScope::Mesh => proto::Scope::Global,
        PolicyScope::Namespace => proto::Scope::Namespace,
        PolicyScope::Workloads => proto::Scope::WorkloadSelector,
    };
    let message = proto::Authorization {
        name: policy.name.name().to_owned(),
        namespace: policy.name.namespace.to_string(),
        scope: scope.into(),
        action: proto::Action::Allow.into(),
        ..proto::Authorization::default()
    };
    message.encode_to_vec()
}

/// The policy in a resource called `name`; none if it is a dry run. A scope that is not known is the whole mesh: a policy that
/// cannot be read denies.
///
/// # Errors
/// When it is no policy, or its name is none.
pub(crate) fn policy_from(name: &str, bytes: &[u8]) -> Result<(PolicyName, Option<Policy>), ConvertError> {
    let message: proto::Authorization = read(name, "istio.security.Authorization", bytes)?;
    let resource = Named(name);
    let namespace = message.namespace.parse().map_err(resource.bad("namespace"))?;
    let own = PolicyName::new(namespace, &message.name).map_err(resource.bad("name"))?;
    resource.is(&own.to_string(), "name")?;
    let scope = match proto::Scope::try_from(message.scope) {
        Ok(proto::Scope::Global) | Err(_) => PolicyScope::Mesh,
        Ok(proto::Scope::Namespace) => PolicyScope::Namespace,
        Ok(proto::Scope::WorkloadSelector) => PolicyScope::Workloads,
    };
    let source = PolicySource { kind: PolicyKind::Authorization, name: message.name.as_str().into(), file: None };
    let rejected = Some("this version does not enforce policies".into());
    let (action, dry_run, rules) = (PolicyAction::Deny, false, Vec::new());
    let policy = Policy { name: own.clone(), scope, action, dry_run, rules, rejected, source };
    Ok((own, (!message.dry_run).then_some(policy)))
}
