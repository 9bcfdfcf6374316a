//! Short ways to routes and requests, for tests.

use weir_model::Port;
use weir_request::{Normalization, Parts, Request};

use crate::{
    asker::{Asker, MESH},
    backend::{Backend, Backends, Destination, Target},
    matching::Match,
    path::PathMatch,
    rule::{Act, Audience, Forwarding, ObjectKind, RouteObject, Rule},
};

pub(crate) const BASE: Normalization = Normalization::Base;

pub(crate) fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

pub(crate) fn parts<'r>(method: &'r str, target: &'r str) -> Parts<'r> {
    Parts { method, scheme: "http", authority: "shop:8080", target, headers: &[] }
}

pub(crate) fn request_of(parts: Parts<'_>) -> Request<'_> {
    Request::read(parts, BASE).unwrap()
}

pub(crate) fn get(target: &str) -> Request<'_> {
    request_of(parts("GET", target))
}

/// Nobody in particular.
pub(crate) fn anyone() -> Asker<'static> {
    Asker { namespace: None, labels: None, gateway: MESH, port: port(80) }
}

pub(crate) fn destination(host: &str) -> Destination {
    Destination { host: host.parse().unwrap(), port: Some(port(80)), subset: None }
}

pub(crate) fn valid(host: &str) -> Target {
    Target::Valid(destination(host))
}

/// Sends everything to one place.
pub(crate) fn to(host: &str) -> Act {
    Act::Forward(Box::new(Forwarding::to(Backends::of_gateway_route(vec![(None, Backend::new(valid(host)))]))))
}

/// A rule with these matches.
pub(crate) fn rule(index: usize, matches: Vec<Match>, act: Act) -> Rule {
    Rule { matches, ..Rule::new(index, act) }
}

pub(crate) fn object(kind: ObjectKind, name: &str, rules: Vec<Rule>) -> RouteObject {
    RouteObject {
        kind,
        namespace: "shop".parse().unwrap(),
        name: name.into(),
        file: None,
        created: None,
        audience: Audience::Everyone,
        rules,
    }
}

pub(crate) fn on(path: PathMatch) -> Match {
    Match { path: Some(path), ..Match::default() }
}

pub(crate) fn segments(text: &str) -> PathMatch {
    PathMatch::segments(text, BASE).unwrap()
}
