//! What would let a refused connection through: for people who ask why it was refused.

use weir_model::{Policy, PolicyAction, PolicyKind, SpiffeId};

use crate::{Refusal, Unmet, World};

const ENROL: &str = "label its namespace istio.io/dataplane-mode=ambient (weirctl describe pod says what keeps it out)";

impl World {
    /// What would let it through, by what is known now; nothing where nobody should let it through. `client` is who it proved to be.
    pub fn remedy(&self, refusal: &Refusal, client: Option<&SpiffeId>) -> Option<String> {
        Some(match refusal {
            Refusal::UnknownSource(_) | Refusal::UnknownWorkload(_) => {
                "if the pod is there, its agent is behind: weirctl status says whether agents are in sync".to_owned()
            }
            Refusal::SourceNotEnrolled(uid) | Refusal::NotEnrolled(uid) => format!("{uid}: {ENROL}"),
            Refusal::UnknownPort { service, .. } => match self.service(service) {
                Some(known) => {
                    let ports: Vec<String> = known.ports.iter().map(|one| one.port.to_string()).collect();
                    format!("ask for a port that it has: {}; or add one to the Service", ports.join(", "))
                }
                None => "the Service is gone by now".to_owned(),
            },
            Refusal::NoEndpoint { service, .. } => format!(
                "a pod behind {service} must be ready, have the target port, and an address of that family: weirctl describe service says which are"
            ),
            Refusal::IllegalPort { target } => {
                format!("ask for a port of the application: {} takes connections of the mesh only", target.port())
            }
            Refusal::NoWaypoint { waypoint, why, .. } => match why {
                Unmet::Unknown => {
                    format!("make the Gateway of {waypoint}, or take the label istio.io/use-waypoint off")
                }
                Unmet::Empty | Unmet::Unready { .. } => {
                    format!("a pod of {waypoint} must become ready: weirctl waypoint status says why none is")
                }
            },
            Refusal::TrustDomain { expected, .. } => format!("the client's certificate must be of {expected}"),
            Refusal::Unsupported { why, .. } => format!("change what asks for this: {why}"),
            Refusal::Policy { policy, .. } => match policy.as_ref().and_then(|name| self.policy(name)) {
                Some(policy) => of_policy(policy, client),
                None => "the policy is another by now: weirctl authz explain says what holds".to_owned(),
            },
            Refusal::IpMismatch { .. } | Refusal::NotItsAddress { .. } | Refusal::NotBound { .. } => return None,
        })
    }
}

fn of_policy(policy: &Policy, client: Option<&SpiffeId>) -> String {
    let author = format!("{} {}/{}", policy.source.kind, policy.name.namespace, policy.source.name);
    if policy.rejected.is_some() {
        return format!("correct {author}: until then all that it covers is denied");
    }
    match policy.source.kind {
        PolicyKind::PeerAuthentication => match client {
            Some(_) => format!("{author} does not admit it"),
            None => format!("enrol the client ({ENROL}), or make {author} PERMISSIVE, for this port by portLevelMtls"),
        },
        PolicyKind::RequiredWaypoint => {
            "connect by the service, so that it goes through the waypoint, or take weir.dev/waypoint: required off"
                .to_owned()
        }
        PolicyKind::Authorization | PolicyKind::RequestAuthentication => match (policy.action, client) {
            (PolicyAction::Deny, _) => format!("take it out of what {author} denies: a DENY always wins"),
            (PolicyAction::Allow | PolicyAction::Audit, Some(client)) => {
                let account =
                    format!("{}/ns/{}/sa/{}", client.trust_domain(), client.namespace(), client.service_account());
                format!(
                    "a rule of {author}, or of another ALLOW policy there, with from.source.principals: [\"{account}\"]"
                )
            }
            (PolicyAction::Allow | PolicyAction::Audit, None) => {
                format!(
                    "it proved no identity: enrol the client, or allow its address in {author} by from.source.ipBlocks"
                )
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weir_model::{PolicyName, PolicyScope, PolicySource};

    use super::*;
    use crate::Mesh;

    fn refusal(policy: &str) -> Refusal {
        let policy: PolicyName = policy.parse().unwrap();
        let workload = "Kubernetes//v1/Pod/shop/cart".parse().unwrap();
        Refusal::Policy { workload, policy: Some(policy), why: "no".to_owned() }
    }

    #[test]
    fn what_a_policy_refused_is_let_through_by_what_its_kind_asks_for() {
        let client: SpiffeId = "spiffe://cluster.local/ns/front/sa/web".parse().unwrap();
        let policy = |kind, action, rejected: Option<&str>| Policy {
            name: "shop/p".parse().unwrap(),
            scope: PolicyScope::Namespace,
            action,
            dry_run: false,
            rules: Vec::new(),
            rejected: rejected.map(Arc::from),
            source: PolicySource { kind, name: "p".into(), file: None },
        };
        for (policy, client, want) in [
            (
                policy(PolicyKind::Authorization, PolicyAction::Allow, None),
                Some(&client),
                "principals: [\"cluster.local/ns/front/sa/web\"]",
            ),
            (policy(PolicyKind::Authorization, PolicyAction::Allow, None), None, "by from.source.ipBlocks"),
            (
                policy(PolicyKind::Authorization, PolicyAction::Deny, None),
                Some(&client),
                "take it out of what AuthorizationPolicy shop/p denies",
            ),
            (
                policy(PolicyKind::PeerAuthentication, PolicyAction::Deny, None),
                None,
                "or make PeerAuthentication shop/p PERMISSIVE",
            ),
            (policy(PolicyKind::RequiredWaypoint, PolicyAction::Allow, None), Some(&client), "connect by the service"),
            (
                policy(PolicyKind::Authorization, PolicyAction::Allow, Some("bad")),
                Some(&client),
                "correct AuthorizationPolicy shop/p",
            ),
        ] {
            let world = World::new(Mesh { policies: vec![policy], ..Mesh::default() });
            let remedy = world.remedy(&refusal("shop/p"), client).unwrap();
            assert!(remedy.contains(want), "{remedy}");
            assert!(world.remedy(&refusal("shop/gone"), client).unwrap().contains("another by now"));
        }
    }

    #[test]
    fn what_nobody_should_let_through_has_no_remedy() {
        let asked = "10.0.0.1".parse().unwrap();
        let refusal = Refusal::IpMismatch { asked, connected: asked };
        assert_eq!(World::default().remedy(&refusal, None), None);
    }
}
