//! All routes of one service.

use std::{collections::HashMap, sync::Arc};

use rand::Rng;
use weir_model::Namespace;
use weir_request::Request;

use crate::{
    asker::Asker,
    backend::{Picked, Share, Target},
    decision::{Action, Chosen, Decision, Forward, Ground},
    layer::Layer,
    rule::{Act, Audience, Family, Forwarding, RouteObject},
};

/// Most matches of all routes of a service.
pub const MAX_ENTRIES: usize = 100_000;

/// Why objects make no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// More than can be kept.
    #[error("{count} matches in the routes of one service, at most {MAX_ENTRIES} are allowed")]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

/// All routes of one service. Those of the client's namespace are asked before those of the service; of these, VirtualServices only where there is no route of
/// the Gateway API.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    objects: Arc<[RouteObject]>,
    of_clients: HashMap<Namespace, Layer>,
    of_service: Option<Layer>,
    /// Those that are never asked, because there are others.
    unasked: Vec<usize>,
}

impl RouteTable {
    /// The table of these objects, in whatever order they come.
    ///
    /// # Errors
    /// When there are too many.
    pub fn new(objects: Vec<RouteObject>) -> Result<Self, TableError> {
        let rules = objects.iter().flat_map(|object| &object.rules);
        let count = rules.fold(0_usize, |count, rule| count.saturating_add(rule.matches.len().max(1)));
        if count > MAX_ENTRIES {
            return Err(TableError::TooMany { count });
        }
        let mut of_clients: HashMap<Namespace, [Vec<usize>; 2]> = HashMap::new();
        let mut of_service: [Vec<usize>; 2] = Default::default();
        for (at, object) in objects.iter().enumerate() {
            let [gateway, virtual_service] = match object.audience {
                Audience::Everyone => &mut of_service,
                Audience::OwnNamespace => of_clients.entry(object.namespace.clone()).or_default(),
            };
            match object.kind.family() {
                Family::GatewayApi => gateway.push(at),
                Family::VirtualService => virtual_service.push(at),
            }
        }
        let mut unasked = Vec::new();
        let mut layer = |[gateway, virtual_service]: [Vec<usize>; 2]| {
            if gateway.is_empty() {
                return Layer::new(&objects, &virtual_service);
            }
            unasked.extend(virtual_service);
            Layer::new(&objects, &gateway)
        };
        let is_any = of_service.iter().any(|members| !members.is_empty());
        let of_service = is_any.then(|| layer(of_service));
        let of_clients = of_clients.into_iter().map(|(namespace, members)| (namespace, layer(members))).collect();
        unasked.sort_unstable();
        Ok(Self { objects: objects.into(), of_clients, of_service, unasked })
    }

    /// All objects.
    pub fn objects(&self) -> &[RouteObject] {
        &self.objects
    }

    /// VirtualServices without effect, because there are routes of the Gateway API for the same service and the same clients.
    pub fn unasked(&self) -> impl Iterator<Item = &RouteObject> {
        self.unasked.iter().filter_map(|at| self.objects.get(*at))
    }

    /// What becomes of a request. Draws only where backends have weights.
    pub fn decide<'t>(&'t self, request: &Request<'_>, asker: &Asker<'_>, rng: &mut impl Rng) -> Decision<'t> {
        let mut layers = self.layers(asker).peekable();
        if layers.peek().is_none() {
            return Decision { ground: Ground::NoRoutes, action: Action::Service };
        }
        match layers.find_map(|layer| layer.find(&self.objects, request, asker)) {
            Some(chosen) => Decision { ground: Ground::Rule(chosen), action: action(chosen, rng) },
            None => Decision { ground: Ground::NoMatch, action: Action::NotFound },
        }
    }

    /// What is asked for this client and port, in order.
    pub(crate) fn layers(&self, asker: &Asker<'_>) -> impl Iterator<Item = &Layer> {
        let own = asker.namespace.and_then(|namespace| self.of_clients.get(namespace));
        let all = own.into_iter().chain(&self.of_service);
        all.filter(|layer| layer.is_for(asker.port))
    }
}

fn action<'t>(chosen: Chosen<'t>, rng: &mut impl Rng) -> Action<'t> {
    match &chosen.rule.act {
        Act::Redirect(redirect) => Action::Redirect(redirect),
        Act::Respond(response) => Action::Respond(response),
        Act::Forward(forwarding) => forward(chosen, forwarding, rng),
    }
}

fn forward<'t>(chosen: Chosen<'t>, forwarding: &'t Forwarding, rng: &mut impl Rng) -> Action<'t> {
    sent(chosen, forwarding, forwarding.backends.choose(rng))
}

fn sent<'t>(chosen: Chosen<'t>, forwarding: &'t Forwarding, picked: Picked<'t>) -> Action<'t> {
    // Gateway API v1 `HTTPRouteRule.backendRefs`; Envoy answers so for a VirtualService.
    let status = match chosen.object.kind.family() {
        Family::GatewayApi => 500,
        Family::VirtualService => 503,
    };
    match picked {
        Picked::Valid(share, backend, destination) => {
            Action::Forward(Forward { chosen, forwarding, backend, destination, share })
        }
        Picked::Invalid(why) => Action::Invalid { status, why },
    }
}

impl<'t> Chosen<'t> {
    /// All that [`RouteTable::decide`] draws from, each with its share of the requests: none if its rule sends nothing on, or nowhere at all.
    pub fn drawn_from(self) -> impl Iterator<Item = (Share, Action<'t>)> {
        let forwarding = match &self.rule.act {
            Act::Forward(forwarding) => Some(&**forwarding),
            Act::Redirect(_) | Act::Respond(_) => None,
        };
        let backends = forwarding.into_iter().flat_map(|one| one.backends.iter().map(move |backend| (one, backend)));
        backends.filter(|(_, (share, _))| share.weight > 0).map(move |(forwarding, (share, backend))| {
            let picked = match &backend.target {
                Target::Valid(destination) => Picked::Valid(share, backend, destination),
                Target::Invalid(why) => Picked::Invalid(why),
            };
            (share, sent(self, forwarding, picked))
        })
    }
}

#[cfg(test)]
mod tests;
