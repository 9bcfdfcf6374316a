//! The whole way: the client's side, a waypoint if there is one, and the agents before the pods it may come to.

use rand::Rng;

use crate::{
    agents::{End, Peer, enter},
    ends::{Comer, ExplainError, Goal, named, principal},
    explained::{Asked, Asking, Explained, Hop, Verdict},
    onward::{Onward, leave},
    question::Question,
    scene::Scene,
    waypoint::{Came, pass},
};

/// Where it goes and why. What is drawn by lot beside a waypoint's workload is told in full.
///
/// # Errors
/// If the mesh does not have what was asked about.
pub fn explain<S: Scene>(scene: &S, question: &Question, rng: &mut impl Rng) -> Result<Explained, ExplainError> {
    let world = scene.world();
    let from = Comer::find(world, &question.from)?;
    let to = Goal::find(world, &question.to, &from)?;
    let (hop, onward) = leave(scene, &from, &to, rng);
    let mut hops = vec![hop];
    let straight = Peer { identity: from.identity.as_ref(), addresses: &from.addresses };
    let ends = match onward {
        Onward::Nowhere => refused(&hops),
        Onward::Outside => vec![(Verdict::Allow, "it leaves the mesh in the clear".to_owned())],
        Onward::Endpoints(endpoints) => {
            let (agents, ends) = enter(world, &straight, &endpoints);
            hops.extend(agents);
            ends
        }
        Onward::Waypoint(waypoint) => {
            let (hop, came) = pass(scene, (&from, &to), question.request.as_ref(), &waypoint, rng);
            hops.push(hop);
            let identity = waypoint.identity();
            let peer = Peer { identity: Some(&identity), addresses: &waypoint.addresses };
            through(scene, &peer, came, &mut hops)
        }
    };
    let (verdict, reason) = sum(ends);
    let address = from.address(weir_world::Family::of(to.address.ip()));
    let address = address.or(from.addresses.first().copied()).unwrap_or(to.address.ip());
    Ok(Explained {
        verdict,
        reason,
        from: Asking {
            identity: from.identity.as_ref().map(principal),
            address,
            workload: from.workload.as_ref().map(named),
        },
        request: question.request.as_ref().map(|request| request.words(&to.authority)),
        to: Asked { name: to.name, address: to.address },
        notes: from.notes.into_iter().chain(to.notes).collect(),
        hops,
    })
}

fn refused(hops: &[Hop]) -> Vec<End> {
    hops.iter().map(|hop| (hop.verdict, hop.reason.clone())).collect()
}

/// What comes of what a waypoint sends on.
fn through<S: Scene>(scene: &S, peer: &Peer<'_>, came: Came, hops: &mut Vec<Hop>) -> Vec<End> {
    let sent = match came {
        Came::Ended(verdict, reason) => {
            let of = hops.last().map(|hop| hop.of.join(", ")).unwrap_or_default();
            return vec![(verdict, format!("the waypoint {of}: {reason}"))];
        }
        Came::Sent(sent) => sent,
    };
    let mut ends = Vec::new();
    for one in sent {
        if one.verdict != Verdict::Allow {
            ends.push((one.verdict, one.reason));
            continue;
        }
        if one.endpoints.is_empty() {
            ends.push((one.verdict, one.reason));
            continue;
        }
        let (agents, of_these) = enter(scene.world(), peer, &one.endpoints);
        ends.extend(of_these);
        for hop in agents {
            let is_known = |other: &Hop| other.at == hop.at && other.of == hop.of && other.reason == hop.reason;
            if !hops.iter().any(is_known) {
                hops.push(hop);
            }
        }
    }
    ends
}

/// What comes of it all, and why: of what gets there where, of what does not the first reason.
fn sum(ends: Vec<End>) -> End {
    let verdict = Verdict::of_any(ends.iter().map(|(verdict, _)| *verdict));
    let counts = |one: Verdict| match verdict {
        Verdict::Partly => one != Verdict::Allow,
        Verdict::Allow | Verdict::Deny | Verdict::Unknown => one == verdict,
    };
    let mut reasons: Vec<String> = Vec::new();
    for (_, reason) in ends.into_iter().filter(|(one, _)| counts(*one)) {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    let more = reasons.len().saturating_sub(1);
    let reason = reasons.into_iter().next().unwrap_or_else(|| "there is nobody to reach".to_owned());
    match (verdict, more) {
        (_, 0) => (verdict, reason),
        (Verdict::Allow, 1) => (verdict, format!("{reason}, or another")),
        (Verdict::Allow, more) => (verdict, format!("{reason}, or one of {more} others")),
        (Verdict::Deny | Verdict::Partly | Verdict::Unknown, more) => {
            (verdict, format!("{reason} (the first reason of {})", more + 1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_says_where_it_gets_or_why_it_does_not() {
        use Verdict::{Allow, Deny, Partly, Unknown};
        for (ends, verdict, reason) in [
            (&[][..], Deny, "there is nobody to reach"),
            (&[(Allow, "a")], Allow, "a"),
            (&[(Allow, "a"), (Allow, "a")], Allow, "a"),
            (&[(Allow, "a"), (Allow, "b")], Allow, "a, or another"),
            (&[(Allow, "a"), (Allow, "b"), (Allow, "c")], Allow, "a, or one of 2 others"),
            (&[(Allow, "a"), (Deny, "b")], Partly, "b"),
            (&[(Deny, "a"), (Deny, "b")], Deny, "a (the first reason of 2)"),
            (&[(Deny, "a"), (Unknown, "b")], Unknown, "b"),
        ] {
            let given = ends.iter().map(|(verdict, reason)| (*verdict, (*reason).to_owned())).collect();
            assert_eq!(sum(given), (verdict, reason.to_owned()), "{ends:?}");
        }
    }
}
