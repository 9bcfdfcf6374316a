//! The last hop: whether the agent before a pod lets it in.

use std::net::IpAddr;

use weir_authz::Ruling;
use weir_model::{Port, SpiffeId};
use weir_world::{Client, Endpoint, Family, Target, Way, Who, World};

use crate::{
    ends::named,
    explained::{About, At, Hop, Verdict},
};

/// The most endpoints whose agents are asked: each reads the whole mesh.
const MOST: usize = 20;

/// Who comes.
pub(crate) struct Peer<'p> {
    /// Who it proves to be. None in plaintext.
    pub(crate) identity: Option<&'p SpiffeId>,
    /// Its addresses.
    pub(crate) addresses: &'p [IpAddr],
}

/// One way it may end, and why.
pub(crate) type End = (Verdict, String);

/// What comes of it at each of these, which may be chosen. Agents that say the same are one hop.
pub(crate) fn enter(world: &World, peer: &Peer<'_>, endpoints: &[Endpoint]) -> (Vec<Hop>, Vec<End>) {
    let (mut hops, mut ends): (Vec<Hop>, Vec<End>) = (Vec::new(), Vec::new());
    for endpoint in endpoints.iter().take(MOST) {
        let name = named(&endpoint.workload);
        match &endpoint.way {
            Way::Unreachable(refusal) => ends.push((Verdict::Deny, refusal.to_string())),
            Way::Plain => {
                ends.push((Verdict::Allow, format!("it reaches {name}, which is outside the mesh, in the clear")));
            }
            Way::Tunnel { .. } => {
                let hop = admitted(world, peer, endpoint);
                ends.push(match hop.verdict {
                    Verdict::Allow => (Verdict::Allow, format!("it reaches {name}")),
                    Verdict::Deny | Verdict::Partly | Verdict::Unknown => {
                        (hop.verdict, format!("the agent of {name}: {}", hop.reason))
                    }
                });
                match hops.iter_mut().find(|other| says_the_same(other, &hop)) {
                    Some(other) if other.of.contains(&name) => {}
                    Some(other) => other.of.push(name),
                    None => hops.push(hop),
                }
            }
        }
    }
    if let (Some(last), true) = (hops.last_mut(), endpoints.len() > MOST) {
        last.step(About::Note, format!("the first {MOST} endpoints of {} were asked", endpoints.len()));
    }
    (hops, ends)
}

fn says_the_same(one: &Hop, other: &Hop) -> bool {
    (one.verdict, &one.reason, &one.steps, &one.policies)
        == (other.verdict, &other.reason, &other.steps, &other.policies)
}

fn admitted(world: &World, peer: &Peer<'_>, to: &Endpoint) -> Hop {
    let mut hop = Hop::new(At::Destination, named(&to.workload));
    let family = Family::of(to.target.ip());
    let address = peer.addresses.iter().copied().find(|ip| Family::of(*ip) == family);
    let (Some(address), Some(port)) = (address, Port::new(to.target.port())) else {
        hop.ends(Verdict::Deny, format!("it is reached over {family}, and the client has no such address"));
        return hop;
    };
    let who = peer.identity.map(|identity| Who {
        trust_domain: Some(identity.trust_domain().clone()),
        namespace: identity.namespace().clone(),
        service_account: identity.service_account().clone(),
    });
    let target = Target { namespace: to.workload.namespace.clone(), pod: to.workload.name.to_string(), port };
    match world.explain(&Client { who, address: Some(address) }, &target) {
        Err(error) => hop.ends(Verdict::Deny, error.to_string()),
        Ok(said) => {
            let identity = said.peer.identity.as_deref().unwrap_or("no identity (plaintext)");
            hop.step(About::Identity, format!("{identity}, at {}", said.peer.address));
            hop.step(About::Policy, format!("{}: {}", said.verdict, said.reason));
            if let Some(foreseen) = &said.dry_run {
                hop.step(About::Note, format!("dry run: {}: {}", foreseen.verdict, foreseen.reason));
            }
            said.notes.iter().for_each(|note| hop.step(About::Note, note));
            hop.policies = said.policies;
            let verdict = match said.verdict {
                Ruling::Allow => Verdict::Allow,
                Ruling::Deny => Verdict::Deny,
            };
            hop.ends(verdict, said.reason);
        }
    }
    hop
}
