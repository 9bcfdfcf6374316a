//! What a waypoint does with a connection whose bytes nobody reads.

use rand::Rng;
use weir_authz::{Destination, Peer};
use weir_model::canonical_ip;
use weir_route::{Share, Target, TcpAction, TcpFacts, TcpGround, TcpKind, TcpObject, TcpRule};

use crate::{
    explained::{About, Declared, Hop, Place, Routed, Step, Verdict},
    scene::Scene,
    waypoint::{Arrival, Came, Sent, Whither, nowhere, refuse, ruled, sent_to, sent_to_pod},
};

/// What becomes of it.
pub(crate) fn relay<S: Scene>(scene: &S, at: &Arrival<'_>, hop: &mut Hop, rng: &mut impl Rng) -> Came {
    let guard = at.serving.guard(at.service.as_ref().map(|service| &service.name.hostname));
    if !guard.policies.is_empty() {
        let peer = Peer { identity: Some(at.identity), address: at.client };
        let place = Destination { address: at.to.address.ip(), port: at.port };
        if let Err(came) = ruled(guard.policies.explain_connection(&peer, &place, None), "closed", hop) {
            return came;
        }
    }
    let Some(service) = &at.service else { return Came::Sent(vec![noted(sent_to_pod(scene, at), hop)]) };
    if let Some(why) = at.host().and_then(|host| host.refused.as_ref()) {
        return Came::Ended(Verdict::Deny, format!("closed, {why}"));
    }
    let all =
        Whither { host: &service.name.hostname, port: at.port, subset: None, share: Share { weight: 1, total: 1 } };
    let Some(host) = at.host() else { return Came::Sent(vec![noted(sent_to(scene, at, &all), hop)]) };
    // Of TLS it is said what becomes of a client that asks for the very service.
    let name = host.tcp.asks_for_names(at.port).then(|| service.name.hostname.as_str());
    if let Some(name) = name {
        hop.step(About::Note, format!("this is for a client that asks for {name} by TLS (SNI)"));
    }
    let facts = TcpFacts { destination: canonical_ip(at.to.address.ip()), client: canonical_ip(at.client), name };
    let decision = host.tcp.decide(&facts, &at.asker(), rng);
    let (object, says) = match decision.ground {
        TcpGround::Rule { object, rule } => (Some(declared(object, rule)), said(object, rule, &decision.ground)),
        TcpGround::NoRoutes | TcpGround::NoMatch => (None, decision.ground.to_string()),
    };
    hop.steps.push(Step { about: About::Route, says, object });
    let rule = match decision.ground {
        TcpGround::Rule { rule, .. } => Some(rule),
        TcpGround::NoRoutes | TcpGround::NoMatch => None,
    };
    let shares = rule.into_iter().flat_map(|rule| rule.backends.iter()).filter(|(share, _)| share.weight > 0);
    let sent: Vec<Sent> = shares
        .map(|(share, backend)| match &backend.target {
            Target::Invalid(why) => noted(refuse(nowhere(share, "nowhere".to_owned()), why.to_string()), hop),
            Target::Valid(to) => {
                let port = to.port.unwrap_or(at.port);
                let whither = Whither { host: &to.host, port, subset: to.subset.as_deref(), share };
                noted(sent_to(scene, at, &whither), hop)
            }
        })
        .collect();
    match (sent.is_empty(), decision.action) {
        (false, _) => Came::Sent(sent),
        (true, TcpAction::Refuse(why)) => Came::Ended(Verdict::Deny, format!("closed, {why}")),
        (true, TcpAction::Service | TcpAction::Forward(..)) => Came::Sent(vec![noted(sent_to(scene, at, &all), hop)]),
    }
}

/// The rule; or, of one that its author did not write, that it is none of those.
fn said(object: &TcpObject, rule: &TcpRule, ground: &TcpGround<'_>) -> String {
    match (&object.file, rule.line) {
        (Some(file), None) => {
            format!(
                "none of the rules of {} {}/{} ({file}) is for this port",
                object.kind, object.namespace, object.name
            )
        }
        (Some(_), Some(_)) | (None, _) => ground.to_string(),
    }
}

fn noted((routed, sent): (Routed, Sent), hop: &mut Hop) -> Sent {
    hop.destinations.push(routed);
    sent
}

fn declared(object: &TcpObject, rule: &TcpRule) -> Declared {
    let kind = match object.kind {
        TcpKind::TcpRoute => "TCPRoute",
        TcpKind::VirtualService | TcpKind::VirtualServiceTls => "VirtualService",
    };
    Declared {
        kind: kind.to_owned(),
        namespace: object.namespace.to_string(),
        name: object.name.to_string(),
        rule: Some(rule.index),
        rule_name: None,
        matched: None,
        place: object.file.as_ref().map(|file| Place { file: file.to_string(), line: rule.line }),
    }
}
