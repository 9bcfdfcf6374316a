//! The first hop: where the client's agent takes a connection, or where it goes without one.

use std::{net::SocketAddr, sync::Arc};

use rand::Rng;
use weir_model::{
    Health, HealthPolicy, Namespace, Network, OrigDst, Port, Service, WaypointAddress, WaypointDestination, Workload,
};
use weir_world::{Endpoint, Family, Plan, Thing, World};

use crate::{
    ends::{Comer, Goal, named},
    explained::{About, At, Hop, Verdict},
    scene::Scene,
};

/// Where it goes from the client.
pub(crate) enum Onward {
    /// Nowhere.
    Nowhere,
    /// To an address that nobody of the mesh has.
    Outside,
    /// To one of these, straight.
    Endpoints(Vec<Endpoint>),
    /// To a waypoint.
    Waypoint(Arc<Workload>),
}

/// What becomes of it on the client's side.
pub(crate) fn leave<S: Scene>(scene: &S, from: &Comer, to: &Goal, rng: &mut impl Rng) -> (Hop, Onward) {
    let mut hop = Hop::new(At::Client, from.name());
    match (&from.workload, &from.identity) {
        (Some(workload), Some(_)) => {
            hop.step(About::Asked, asked(to));
            let onward = planned(scene, workload, to, &mut hop, rng);
            (hop, onward)
        }
        (_, None) | (None, _) => {
            hop.step(About::Asked, asked(to));
            let onward = plain(scene.world(), from, to, &mut hop);
            (hop, onward)
        }
    }
}

fn asked(to: &Goal) -> String {
    match (&to.service, &to.name) {
        (Some(service), _) => format!("{} of service {}", to.address, service.name),
        (None, Some(name)) => format!("{} of {name}", to.address),
        (None, None) => format!("{}, which nobody in the mesh has", to.address),
    }
}

/// As the agent of the client's node plans it.
fn planned<S: Scene>(scene: &S, from: &Workload, to: &Goal, hop: &mut Hop, rng: &mut impl Rng) -> Onward {
    let world = scene.world();
    let bound = bound(world, Some(&from.namespace), &from.network, to.address);
    if let Some((thing, waypoint)) = &bound {
        let by = scene.binding(thing).map(|by| format!(", {by}")).unwrap_or_default();
        hop.step(About::Bound, format!("to the waypoint {waypoint}{by}"));
    }
    match world.outbound(&from.uid, OrigDst::new(to.address), rng) {
        Plan::Refuse(refusal) => {
            hop.ends(Verdict::Deny, refusal.to_string());
            Onward::Nowhere
        }
        Plan::Tunnel(plan)
            if world.bound_to(&plan.destination.uid, Some(&from.namespace), plan.authority).is_some() =>
        {
            hop.step(About::Next, format!("{} at {}, over HBONE", named(&plan.destination), plan.next_hop));
            hop.ends(Verdict::Allow, "it goes through its waypoint");
            Onward::Waypoint(plan.destination)
        }
        Plan::Tunnel(plan) => straight(world, &from.network, (to, plan.service.as_ref()), hop),
        Plan::Passthrough(plan) if plan.destination.is_some() => {
            straight(world, &from.network, (to, plan.service.as_ref()), hop)
        }
        Plan::Passthrough(plan) => {
            hop.step(About::Next, format!("{}, in the clear", plan.target));
            hop.ends(Verdict::Allow, "its destination is outside the mesh");
            Onward::Outside
        }
    }
}

/// To whatever may be chosen, without a waypoint.
fn straight(world: &World, network: &Network, (to, service): (&Goal, Option<&Arc<Service>>), hop: &mut Hop) -> Onward {
    let all = endpoints(world, network, to.address, service);
    let told: Vec<String> =
        all.iter().take(5).map(|one| format!("{} at {}", named(&one.workload), one.target)).collect();
    let more = all.len().saturating_sub(told.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let one_of = if all.len() > 1 { format!("one of {} that are ready: ", all.len()) } else { String::new() };
    hop.step(About::Next, format!("{one_of}{}{more}", told.join(", ")));
    hop.ends(Verdict::Allow, "it goes straight to its destination");
    Onward::Endpoints(all)
}

/// As the node's own network takes it, where no agent is asked.
fn plain(world: &World, from: &Comer, to: &Goal, hop: &mut Hop) -> Onward {
    let network = from.network();
    if let Some((_, waypoint)) = bound(world, from.namespace(), &network, to.address) {
        hop.step(About::Note, format!("it is bound to the waypoint {waypoint}: plaintext goes past that"));
    }
    let all = endpoints(world, &network, to.address, to.service.as_ref());
    match (all.is_empty(), &to.service) {
        (false, _) => {
            hop.ends(Verdict::Allow, "it is in plaintext, and no agent leads it");
            Onward::Endpoints(all)
        }
        (true, Some(service)) => {
            hop.ends(Verdict::Deny, format!("no ready endpoint of service {} accepts it", service.name));
            Onward::Nowhere
        }
        (true, None) => {
            hop.ends(Verdict::Allow, "neither it nor its destination is in the mesh");
            Onward::Outside
        }
    }
}

/// What the destination is bound to.
fn bound(
    world: &World,
    client: Option<&Namespace>,
    network: &Network,
    to: SocketAddr,
) -> Option<(Thing, WaypointAddress)> {
    match world.service_for(client, network, to.ip()) {
        Some(service) => Some((Thing::Service(service.name.clone()), service.waypoint.clone()?)),
        None => {
            let workload = world.workload_at(network, to.ip())?;
            Some((Thing::Workload(workload.uid.clone()), workload.waypoint.clone()?))
        }
    }
}

/// The Gateway of the waypoint that the destination is bound to: namespace and name.
pub(crate) fn gateway_of(world: &World, from: &Comer, to: SocketAddr) -> Option<(Namespace, String)> {
    let (_, waypoint) = bound(world, from.namespace(), &from.network(), to)?;
    let name = match waypoint.destination {
        WaypointDestination::Service(name) => name,
        WaypointDestination::Address(network, ip) => world.service_at(&network, ip)?.name.clone(),
    };
    // Istio: the Service of a waypoint has its Gateway's name.
    let gateway = name.hostname.as_str().split('.').next()?.to_owned();
    Some((name.namespace, gateway))
}

/// Those that may be chosen.
fn endpoints(world: &World, network: &Network, to: SocketAddr, service: Option<&Arc<Service>>) -> Vec<Endpoint> {
    let Some(port) = Port::new(to.port()) else { return Vec::new() };
    let Some(service) = service else {
        return world.pod_endpoint(network, to.ip(), port).into_iter().collect();
    };
    let family = Family::of(to.ip());
    let all = world.endpoints(network, &service.name, port, family);
    all.filter(|one| {
        is_ready(service, one) && Family::of(one.target.ip()) == family && one.workload.network == *network
    })
    .collect()
}

/// Whether an endpoint of a service may be chosen.
pub(crate) fn is_ready(service: &Service, endpoint: &Endpoint) -> bool {
    match service.health_policy {
        HealthPolicy::OnlyReady => endpoint.health == Health::Healthy,
        HealthPolicy::All => true,
    }
}
