//! Whether a connection somebody asks about may enter, by the code that lets connections in.

use std::net::{IpAddr, SocketAddr};

use weir_authz::{Destination, Explanation, Peer, Ruling};
use weir_model::{Namespace, SpiffeId, Tunnel, Workload, hint, nearest};

use crate::{
    inbound::{Inbound, Source, Verdict},
    outbound::HBONE_PORT,
    question::{Client, Target, Who},
    refusal::Refusal,
    world::World,
};

/// The port a client is said to connect from: none of any meaning.
const SOME_PORT: u16 = 49152;

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// The mesh does not know the pod.
    #[error("the mesh knows no pod {pod} in namespace {namespace}{}", hint(.meant.as_deref()))]
    UnknownPod {
        /// The namespace.
        namespace: Namespace,
        /// The pod.
        pod: String,
        /// The pod that may have been meant, `namespace/name`.
        meant: Option<String>,
    },
    /// The pod is outside the mesh.
    #[error(
        "{namespace}/{pod} is not enrolled in the mesh: no agent stands before it, and no policy is enforced on it"
    )]
    NotEnrolled {
        /// The namespace.
        namespace: Namespace,
        /// The pod.
        pod: String,
    },
    /// Nobody runs as the client, so that its address is not known.
    #[error("no workload with an address runs as {identity}; say one: {client}@ADDRESS")]
    NobodyRuns {
        /// Who it would prove to be.
        identity: SpiffeId,
        /// As asked.
        client: Client,
    },
    /// Of a client without an identity only the address says anything.
    #[error("a client that proves nothing is known by its address only; say it: {client}@ADDRESS")]
    NoAddress {
        /// As asked.
        client: Client,
    },
    /// The pod cannot be reached over the client's kind of address.
    #[error("{namespace}/{pod} has no address of the family of {client}")]
    Family {
        /// The namespace.
        namespace: Namespace,
        /// The pod.
        pod: String,
        /// The client's address.
        client: IpAddr,
    },
}

impl World {
    /// Whether the connection may enter, and everything that was looked at.
    ///
    /// # Errors
    /// Why the question has no answer.
    pub fn explain(&self, client: &Client, target: &Target) -> Result<Explanation, ExplainError> {
        let Target { namespace, pod, port } = target;
        let (mut destination, mut peers) = (None, Vec::new());
        for workload in self.workloads() {
            if workload.namespace == *namespace && &*workload.name == pod.as_str() && destination.is_none() {
                destination = Some(workload);
            } else if client.who.as_ref().is_some_and(|who| runs_as(&workload, who)) {
                peers.push(workload);
            }
        }
        let (namespace, pod) = (namespace.clone(), pod.clone());
        let Some(destination) = destination else {
            let known = self.workloads().map(|one| format!("{}/{}", one.namespace, one.name));
            let meant = nearest(&format!("{namespace}/{pod}"), known);
            return Err(ExplainError::UnknownPod { namespace, pod, meant });
        };
        if destination.tunnel != Tunnel::Hbone {
            return Err(ExplainError::NotEnrolled { namespace, pod });
        }
        let identity = client.who.as_ref().map(|who| who.identity(&destination.trust_domain));
        if client.who.as_ref().is_some_and(|who| runs_as(&destination, who)) {
            peers.push(destination.clone());
        }
        let (from, of) = client_address(client, &destination, &peers, identity.as_ref())?;
        let Some(to) = destination.addresses.iter().copied().find(|ip| ip.is_ipv4() == from.is_ipv4()) else {
            return Err(ExplainError::Family { namespace, pod, client: from });
        };
        let to = SocketAddr::new(to, port.number());
        let inbound = Inbound {
            tcp_destination: match identity {
                Some(_) => SocketAddr::new(to.ip(), HBONE_PORT),
                None => to,
            },
            source: identity.map_or(Source::Plaintext, Source::Mesh),
            client: SocketAddr::new(from, SOME_PORT),
            target: to,
            own_ports: &[],
        };
        let verdict = self.inbound(&destination.uid, &inbound);
        let policies = self.policies_of(&destination.uid).unwrap_or_default();
        let proven = match &inbound.source {
            Source::Mesh(identity) => Some(identity),
            Source::Plaintext => None,
        };
        let place = Destination { address: to.ip(), port: *port };
        let mut explanation = policies.explain(&Peer { identity: proven, address: from }, &place);
        if let Verdict::Refuse(refusal) = verdict
            && !matches!(refusal, Refusal::Policy { .. })
        {
            explanation.verdict = Ruling::Deny;
            explanation.reason = refusal.to_string();
            explanation.decided_by = None;
            explanation.notes.push("it is refused before any policy is asked".to_owned());
        }
        if let Some(of) = of {
            explanation.notes.push(format!("the client's address is that of {of}; say another behind an '@'"));
        }
        Ok(explanation)
    }
}

/// Whether the workload has that identity. A trust domain that was not said is any.
fn runs_as(workload: &Workload, who: &Who) -> bool {
    who.identity(&workload.trust_domain) == workload.identity()
}

/// The client's address; and the pod it was taken from, if it was not said.
fn client_address(
    client: &Client,
    destination: &Workload,
    peers: &[Workload],
    identity: Option<&SpiffeId>,
) -> Result<(IpAddr, Option<String>), ExplainError> {
    if let Some(address) = client.address {
        return Ok((address, None));
    }
    let Some(identity) = identity else { return Err(ExplainError::NoAddress { client: client.clone() }) };
    let reached = |ip: &&IpAddr| destination.addresses.iter().any(|own| own.is_ipv4() == ip.is_ipv4());
    let mut known = peers.iter().filter_map(|peer| Some((peer, peer.addresses.iter().find(reached)?)));
    match known.next() {
        Some((peer, address)) => Ok((*address, Some(format!("{}/{}", peer.namespace, peer.name)))),
        None => Err(ExplainError::NobodyRuns { identity: identity.clone(), client: client.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn asked(world: &World, from: &str, to: &str) -> Result<Explanation, String> {
        world.explain(&from.parse().unwrap(), &to.parse().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_refused_without_any_policy_is_refused_here_too() {
        let world = world();
        for from in ["ns/a@10.9.0.1", "ns/a@fd09::1", "plaintext@10.9.0.1"] {
            let fine = asked(&world, from, "ns/b:8080").unwrap();
            assert_eq!((fine.verdict, fine.notes.len()), (Ruling::Allow, 0), "{from}");
        }
        for (from, to, why) in [
            ("spiffe://other.example/ns/ns/sa/a@10.9.0.1", "ns/b:8080", "is not of the trust domain"),
            ("ns/a@10.9.0.1", "ns/b:15008", "belongs to the mesh"),
        ] {
            let refused = asked(&world, from, to).unwrap();
            assert_eq!(refused.verdict, Ruling::Deny, "{from} {to}");
            assert!(refused.reason.contains(why), "{}", refused.reason);
            assert_eq!(refused.notes, ["it is refused before any policy is asked"]);
        }
    }

    #[test]
    fn without_an_address_it_is_that_of_one_who_runs_so() {
        for (from, to, of) in [("ns/a", "ns/b:8080", "ns/a"), ("ns/b", "ns/b:8080", "ns/b")] {
            let answer = asked(&world(), from, to).unwrap();
            let note = format!("the client's address is that of {of}; say another behind an '@'");
            assert_eq!((answer.verdict, answer.notes), (Ruling::Allow, vec![note]));
        }
    }

    #[test]
    fn what_cannot_be_answered_says_what_is_missing() {
        for (from, to, why) in [
            ("ns/a", "ns/nobody:80", "the mesh knows no pod nobody in namespace ns"),
            ("ns/a", "other/b:80", "the mesh knows no pod b in namespace other"),
            ("ns/a", "ns/foure:80", "the mesh knows no pod foure in namespace ns; did you mean ns/four?"),
            ("ns/a", "ns/c:80", "ns/c is not enrolled in the mesh"),
            ("ns/other", "ns/b:80", "say one: ns/other@ADDRESS"),
            ("plaintext", "ns/b:80", "say it: plaintext@ADDRESS"),
            ("ns/a@fd00::9", "ns/four:80", "ns/four has no address of the family of fd00::9"),
        ] {
            let error = asked(&world(), from, to).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
