//! A rule of a route, to a rule of a service's table; and what of it cannot be done.

use weir_manifest::{CookieLifetime, GatewayRouteRule, RouteBackend, RouteFilters, SessionCarrier};
use weir_model::Port;
use weir_route::{
    Act, AskerMatch, Backend, Backends, Carrier, Destination, Forwarding, Held, Match, Mirror, Rule, Session, Target,
    TcpMatch, TcpRule,
};

use super::{
    backends::{Resolver, Unresolved},
    status::RouteReason,
};

/// What is wrong with the rules of a route at one parent.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// References that lead nowhere.
    pub(super) references: Vec<(RouteReason, String)>,
    /// Rules that answer every request with 500.
    pub(super) dropped: Vec<String>,
    /// What is not done of rules that are served all the same.
    pub(super) less: Vec<String>,
}

/// A rule of requests. `port` is that of the parent, if the route is for one.
pub(super) fn rule(
    resolver: &Resolver<'_>,
    index: usize,
    said: &GatewayRouteRule,
    port: Option<Port>,
    faults: &mut Faults,
) -> Rule {
    let place = format!("spec.rules[{index}]");
    let act = act(resolver, (index, &place), said, faults);
    let matches = said.matches.iter().map(|matched| on_port(matched, port)).collect();
    let (request, response) = (said.filters.request.clone(), said.filters.response.clone());
    let cors = lone(said).and_then(|lone| lone.cors.clone());
    Rule {
        name: said.name.as_deref().map(Box::from),
        line: u32::try_from(said.line).ok().filter(|line| *line > 0),
        matches,
        request,
        response,
        cors: said.filters.cors.clone().or(cors),
        ..Rule::new(index, act)
    }
}

/// A rule of connections.
pub(super) fn tcp_rule(
    resolver: &Resolver<'_>,
    index: usize,
    said: &GatewayRouteRule,
    port: Option<Port>,
    faults: &mut Faults,
) -> TcpRule {
    let place = format!("spec.rules[{index}]");
    let asker = |port| AskerMatch { port: Some(port), ..AskerMatch::default() };
    TcpRule {
        index,
        line: u32::try_from(said.line).ok().filter(|line| *line > 0),
        matches: port.map(|port| TcpMatch { asker: asker(port), ..TcpMatch::default() }).into_iter().collect(),
        backends: backends(resolver, &place, said, faults),
    }
}

fn on_port(matched: &Match, port: Option<Port>) -> Match {
    Match { asker: AskerMatch { port, ..matched.asker.clone() }, ..matched.clone() }
}

/// The filters of the only backend, which are as good as the rule's.
fn lone(said: &GatewayRouteRule) -> Option<&RouteFilters> {
    match said.backends.as_slice() {
        [only] => Some(&only.filters),
        _ => None,
    }
}

fn act(resolver: &Resolver<'_>, (index, place): (usize, &str), said: &GatewayRouteRule, faults: &mut Faults) -> Act {
    if let Some(why) = unsupported(place, &said.filters, faults) {
        // Gateway API v1 `HTTPRouteFilter`: a filter that cannot be done is not skipped, its requests are answered with an error.
        faults.dropped.push(why.clone());
        return Act::Forward(Box::new(Forwarding::to(nowhere(why))));
    }
    if let Some(redirect) = &said.filters.redirect {
        return Act::Redirect(redirect.clone());
    }
    let own = lone(said);
    let mirrors =
        said.filters.mirrors.iter().enumerate().map(|(at, one)| (format!("{place}.filters, mirror {at}"), one));
    let of_backend = own.into_iter().flat_map(|own| own.mirrors.iter().enumerate());
    let of_backend = of_backend.map(|(at, one)| (format!("{place}.backendRefs[0].filters, mirror {at}"), one));
    let mirrors: Vec<Mirror> = mirrors
        .chain(of_backend)
        .map(|(place, one)| Mirror { target: target(resolver.resolve(&one.to), &place, faults), percent: one.percent })
        .collect();
    let rewrite = said.filters.rewrite.clone().or_else(|| own?.rewrite.clone()).unwrap_or_default();
    Act::Forward(Box::new(Forwarding {
        backends: backends(resolver, place, said, faults),
        rewrite,
        timeouts: said.timeouts,
        retries: said.retry.clone().unwrap_or_default(),
        mirrors,
        session: session(resolver, (index, place), said, faults),
    }))
}

/// How clients hold on to where they went. Without a name of its own it has one that no other rule has.
fn session(
    resolver: &Resolver<'_>,
    (index, place): (usize, &str),
    said: &GatewayRouteRule,
    faults: &mut Faults,
) -> Option<Session> {
    let persistence = said.persistence.as_ref()?;
    let own = || {
        let route = resolver.route;
        let rule = said.name.as_deref().map_or_else(|| index.to_string(), ToOwned::to_owned);
        format!("weir-session-{:016x}", Held::hash(&format!("{}/{}/{rule}", route.namespace, route.name)))
    };
    let name = persistence.name.as_deref().map_or_else(own, ToOwned::to_owned);
    let carrier = match (persistence.carrier, persistence.lifetime) {
        (SessionCarrier::Header, _) => Carrier::Header,
        (SessionCarrier::Cookie, CookieLifetime::Permanent) => Carrier::PermanentCookie,
        (SessionCarrier::Cookie, CookieLifetime::Session) => Carrier::SessionCookie,
    };
    let made = Session::new(&name, carrier, persistence.absolute_timeout);
    made.inspect_err(|why| {
        faults.less.push(format!("{place}.sessionPersistence: {why}: requests are balanced without it"))
    })
    .ok()
}

/// What of some filters is not done.
fn unsupported(place: &str, filters: &RouteFilters, faults: &mut Faults) -> Option<String> {
    if let Some(extension) = filters.extensions.first() {
        let why = format!("{place}.filters: ExtensionRef to {extension}, a kind that is not known");
        faults.references.push((RouteReason::InvalidKind, why.clone()));
        return Some(why);
    }
    filters.external_auth.as_ref().map(|to| format!("{place}.filters: ExternalAuth by {to} is not supported"))
}

/// Everything is refused, for this reason.
fn nowhere(why: String) -> Backends {
    Backends::of_gateway_route(vec![(None, Backend::new(Target::Invalid(why.into())))])
}

fn backends(resolver: &Resolver<'_>, place: &str, said: &GatewayRouteRule, faults: &mut Faults) -> Backends {
    let all = said.backends.iter().enumerate().map(|(index, one)| {
        let place = format!("{place}.backendRefs[{index}]");
        (one.weight, backend(resolver, &place, said, one, faults))
    });
    Backends::of_gateway_route(all.collect())
}

fn backend(
    resolver: &Resolver<'_>,
    place: &str,
    said: &GatewayRouteRule,
    one: &RouteBackend,
    faults: &mut Faults,
) -> Backend {
    let mut target = target(resolver.resolve(&one.to), place, faults);
    let not_done = unsupported(place, &one.filters, faults).or_else(|| misplaced(place, said, &one.filters));
    if let Some(why) = not_done {
        faults.less.push(format!("{why}: its share of requests is answered with 500"));
        target = Target::Invalid(why.into());
    }
    Backend { target, request: one.filters.request.clone(), response: one.filters.response.clone() }
}

/// A filter of a backend that only a rule can have, or its only backend when the rule has none like it. The API leaves to implementations what they take
/// there.
fn misplaced(place: &str, said: &GatewayRouteRule, filters: &RouteFilters) -> Option<String> {
    let is_lone = said.backends.len() == 1;
    let what = match filters {
        RouteFilters { redirect: Some(_), .. } => "RequestRedirect at a backend",
        RouteFilters { rewrite: Some(_), .. } if said.filters.rewrite.is_some() => "URLRewrite beside that of the rule",
        RouteFilters { rewrite: Some(_), .. } if !is_lone => "URLRewrite at one of several backends",
        RouteFilters { cors: Some(_), .. } if said.filters.cors.is_some() => "CORS beside that of the rule",
        RouteFilters { cors: Some(_), .. } if !is_lone => "CORS at one of several backends",
        RouteFilters { mirrors, .. } if !mirrors.is_empty() && !is_lone => "RequestMirror at one of several backends",
        RouteFilters { .. } => return None,
    };
    Some(format!("{place}.filters: {what} is not supported"))
}

fn target(resolved: Result<Destination, Unresolved>, place: &str, faults: &mut Faults) -> Target {
    match resolved {
        Ok(destination) => Target::Valid(destination),
        Err(Unresolved { reason, why }) => {
            faults.references.push((reason, format!("{place}: {why}")));
            Target::Invalid(why.into())
        }
    }
}
