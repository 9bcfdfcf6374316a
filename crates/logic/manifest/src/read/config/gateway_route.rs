//! gateway.networking.k8s.io HTTPRoute, GRPCRoute and TCPRoute: parents, rules and backends. What stands in a rule is read in files of its own.

mod filters;
mod matches;
mod policies;

use std::sync::Arc;

use weir_model::Hostname;
use weir_route::Timeouts;

use super::{
    gateway::{SCOPE, SCOPES},
    references::{BACKEND, backend, distinct, number, optional, parent, subdomain, word},
};
use crate::{
    error::Cause,
    object::{ConfigKind, GatewayRouteRule, GatewayRouteSpec, ParentRef, RouteBackend, RouteFilters},
    read::Meta,
    reader::{At, Fields, Reader},
};
use filters::{Speaks, filters};
use matches::Matches;

const MAX_PARENTS: usize = 32;
const MAX_HOSTNAMES: usize = 16;
const MAX_RULES: usize = 16;
const MAX_BACKENDS: usize = 16;
const MAX_MATCHES: usize = 128;
const MAX_WEIGHT: u32 = 1_000_000;

/// `spec`.
pub(super) fn spec(reader: &mut Reader, at: &At<'_>, _meta: &Meta<'_>, kind: ConfigKind) -> Option<GatewayRouteSpec> {
    let known: &[&str] = match speaks(kind) {
        Some(_) => &["hostnames", "parentRefs", "rules", "useDefaultGateways"],
        None => &["parentRefs", "rules", "useDefaultGateways"],
    };
    let fields = reader.fields(at, known)?;
    let hostnames = reader.few(fields.field("hostnames"), "hostnames", MAX_HOSTNAMES);
    let hostnames = hostnames.iter().filter_map(|at| reader.name::<Hostname>(at)).collect();
    let parents = parents(reader, &fields);
    let defaults = optional(reader, &fields, "useDefaultGateways", |reader, at| word(reader, at, SCOPES, SCOPE));
    let rules = rules(reader, &fields, kind);
    Some(GatewayRouteSpec { parents, hostnames, default_gateways: defaults?, rules })
}

/// What requests of a route speak; nothing for one of connections.
fn speaks(kind: ConfigKind) -> Option<Speaks> {
    match kind {
        ConfigKind::HttpRoute => Some(Speaks::Http),
        ConfigKind::GrpcRoute => Some(Speaks::Grpc),
        ConfigKind::TcpRoute
        | ConfigKind::VirtualService
        | ConfigKind::DestinationRule
        | ConfigKind::ServiceEntry
        | ConfigKind::Telemetry
        | ConfigKind::Gateway
        | ConfigKind::ReferenceGrant => None,
    }
}

/// `parentRefs`: several to one object name different sections or ports of it, all of them.
fn parents(reader: &mut Reader, spec: &Fields<'_>) -> Vec<ParentRef> {
    const ALIKE: &str = "sectionName and port as on the other reference to the same parent: on both or on none";
    let items = reader.few(spec.field("parentRefs"), "parentRefs", MAX_PARENTS);
    let parents: Vec<(ParentRef, At<'_>)> =
        items.into_iter().filter_map(|at| Some((parent(reader, &at)?, at))).collect();
    let whole = |one: &ParentRef| (one.group.clone(), one.kind.clone(), one.namespace.clone(), one.name.clone());
    let keys: Vec<_> =
        parents.iter().map(|(one, at)| ((whole(one), one.section.clone(), one.port), at.clone())).collect();
    distinct(reader, &keys, "parent");
    for (index, (one, at)) in parents.iter().enumerate() {
        let parts = |one: &ParentRef| (one.section.is_some(), one.port.is_some());
        let before = parents.iter().take(index).find(|(other, _)| whole(other) == whole(one));
        if before.is_some_and(|(other, _)| parts(other) != parts(one)) {
            reader.expected::<()>(at, ALIKE);
        }
    }
    parents.into_iter().map(|(parent, _)| parent).collect()
}

fn rules(reader: &mut Reader, spec: &Fields<'_>, kind: ConfigKind) -> Vec<GatewayRouteRule> {
    let told = reader.told;
    let items = reader.few(spec.field("rules"), "rules", MAX_RULES);
    let rules: Vec<(GatewayRouteRule, At<'_>)> =
        items.into_iter().filter_map(|at| Some((rule(reader, &at, kind)?, at))).collect();
    let named = rules.iter().filter_map(|(rule, at)| Some((rule.name.clone()?, at.clone())));
    distinct(reader, &named.collect::<Vec<_>>(), "name");
    if rules.iter().map(|(rule, _)| rule.matches.len()).sum::<usize>() > MAX_MATCHES
        && let Some(at) = spec.field("rules")
    {
        reader.fail(&at, Cause::Exceeds { what: "matches in all rules", max: MAX_MATCHES });
    }
    let mut rules: Vec<GatewayRouteRule> = rules.into_iter().map(|(rule, _)| rule).collect();
    if rules.is_empty() && reader.told == told {
        match kind {
            // What an API server fills in: a rule for everything, without backends.
            ConfigKind::HttpRoute => rules.push(GatewayRouteRule {
                line: 0,
                name: None,
                matches: matches::everything(Speaks::Http),
                filters: RouteFilters::default(),
                backends: Vec::new(),
                timeouts: Timeouts::default(),
                retry: None,
                persistence: None,
            }),
            ConfigKind::TcpRoute => {
                let line = spec.line("rules");
                reader.fail_at(spec.path("rules"), line, Cause::Missing { expected: "a list of at least one rule" });
            }
            ConfigKind::GrpcRoute
            | ConfigKind::VirtualService
            | ConfigKind::DestinationRule
            | ConfigKind::ServiceEntry
            | ConfigKind::Telemetry
            | ConfigKind::Gateway
            | ConfigKind::ReferenceGrant => {}
        }
    }
    rules
}

fn rule(reader: &mut Reader, at: &At<'_>, kind: ConfigKind) -> Option<GatewayRouteRule> {
    let speaks = speaks(kind);
    let known: &[&str] = match speaks {
        Some(Speaks::Http) => &["backendRefs", "filters", "matches", "name", "retry", "sessionPersistence", "timeouts"],
        Some(Speaks::Grpc) => &["backendRefs", "filters", "matches", "name", "sessionPersistence"],
        None => &["backendRefs", "name"],
    };
    let fields = reader.fields(at, known)?;
    let name = optional(reader, &fields, "name", subdomain);
    let matches = match speaks {
        Some(speaks) => matches::matches(reader, &fields, speaks),
        None => Matches::default(),
    };
    let own = match speaks {
        Some(speaks) => filters(reader, fields.field("filters"), speaks, &matches),
        None => RouteFilters::default(),
    };
    let backends = backends(reader, &fields, speaks, &matches);
    let timeouts = optional(reader, &fields, "timeouts", policies::timeouts);
    let retry = optional(reader, &fields, "retry", policies::retry);
    let persistence = optional(reader, &fields, "sessionPersistence", policies::persistence);
    if own.redirect.is_some()
        && !backends.is_empty()
        && let Some(at) = fields.field("backendRefs")
    {
        reader.fail(&at, Cause::NotWith { other: "a filter of type RequestRedirect" });
    }
    Some(GatewayRouteRule {
        line: at.node.line,
        name: name?,
        matches: matches.all,
        filters: own,
        backends,
        timeouts: timeouts?.unwrap_or_default(),
        retry: retry?,
        persistence: persistence?,
    })
}

fn backends(reader: &mut Reader, rule: &Fields<'_>, speaks: Option<Speaks>, matches: &Matches) -> Vec<RouteBackend> {
    const SOME: &str = "a list of at least one backend";
    let at = match speaks {
        Some(_) => rule.field("backendRefs"),
        None => reader.required(rule, "backendRefs", SOME),
    };
    let told = reader.told;
    let items = reader.few(at.clone(), "backendRefs", MAX_BACKENDS);
    if let (None, Some(at), true) = (speaks, &at, items.is_empty() && reader.told == told) {
        reader.expected::<()>(at, SOME);
    }
    items.iter().filter_map(|at| route_backend(reader, at, speaks, matches)).collect()
}

fn route_backend(reader: &mut Reader, at: &At<'_>, speaks: Option<Speaks>, matches: &Matches) -> Option<RouteBackend> {
    let own: &[&str] = if speaks.is_some() { &["filters", "weight"] } else { &["weight"] };
    let fields = reader.fields(at, &[BACKEND, own].concat())?;
    let to = backend(reader, &fields);
    let weight = |reader: &mut Reader, at: &At<'_>| number(reader, at, 0..=MAX_WEIGHT, "a weight, 0 to 1000000");
    let weight = optional(reader, &fields, "weight", weight);
    let filters = match speaks {
        Some(speaks) => filters(reader, fields.field("filters"), speaks, matches),
        None => RouteFilters::default(),
    };
    Some(RouteBackend { to: to?, weight: weight?, filters })
}

/// Text as it is kept.
fn kept(text: &str) -> Arc<str> {
    text.into()
}

#[cfg(test)]
#[cfg(test)]
mod tests;
