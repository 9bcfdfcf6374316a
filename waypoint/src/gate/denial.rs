//! Which policy denied, in the details of an answer: as Envoy writes them, and read again by who tells of refusals.

use weir_authz::http::HttpGround;

/// Envoy: `rbac_access_denied_matched_policy[ns[NAMESPACE]-policy[NAME]-rule[N]]`, `none` where no ALLOW matched.
pub(super) fn details(ground: &HttpGround<'_>) -> String {
    let matched = match (ground.policy(), ground.rule()) {
        (Some(policy), Some(rule)) => {
            let index = rule.place.index.unwrap_or_default();
            format!("ns[{}]-policy[{}]-rule[{index}]", policy.name.namespace, policy.name.name())
        }
        (Some(policy), None) => format!("ns[{}]-policy[{}]", policy.name.namespace, policy.name.name()),
        (None, _) => "none".to_owned(),
    };
    format!("rbac_access_denied_matched_policy[{matched}]")
}

/// Namespace and name of the policy in what [`details`] has written, if one denied.
pub(crate) fn denied_by(details: &str) -> Option<(&str, &str)> {
    let matched = details.strip_prefix("rbac_access_denied_matched_policy[ns[")?;
    let (namespace, rest) = matched.split_once(']')?;
    let (name, _) = rest.strip_prefix("-policy[")?.split_once(']')?;
    Some((namespace, name))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weir_authz::http::{HttpPolicy, HttpRule};
    use weir_model::{PolicyAction, PolicyKind, PolicyName, PolicySource, RulePlace};

    use super::*;

    fn policy(namespace: &str, name: &str) -> HttpPolicy {
        HttpPolicy {
            name: PolicyName::new(namespace.parse().unwrap(), name).unwrap(),
            action: PolicyAction::Deny,
            dry_run: false,
            rules: Vec::new(),
            rejected: None,
            source: PolicySource { kind: PolicyKind::Authorization, name: name.into(), file: None },
        }
    }

    #[test]
    fn the_policy_that_denied_is_read_as_it_is_written() {
        for (namespace, name) in [("shop", "no-web"), ("a", "b.c-policy-rule"), ("istio-system", &"x".repeat(253))] {
            let policy = policy(namespace, name);
            for index in [None, Some(0), Some(17)] {
                let rule = HttpRule { place: RulePlace { index, line: None }, clauses: Vec::new() };
                let said = details(&HttpGround::Rule { policy: &policy, rule: &rule });
                assert_eq!(denied_by(&said), Some((namespace, name)), "{said}");
            }
            let said = details(&HttpGround::Rejected { policy: &policy, why: "CUSTOM" });
            assert_eq!(denied_by(&said), Some((namespace, name)), "{said}");
        }
    }

    #[test]
    fn where_no_policy_denied_none_is_read() {
        let policies = [Arc::new(policy("shop", "allow-web"))];
        for ground in [HttpGround::NotAllowed { policies: &policies }, HttpGround::NothingAsked] {
            let said = details(&ground);
            assert_eq!((&*said, denied_by(&said)), ("rbac_access_denied_matched_policy[none]", None), "{ground}");
        }
    }
}
