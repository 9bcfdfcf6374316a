//! Which of several matches goes first.

use std::{cmp::Reverse, time::SystemTime};

use crate::{
    matching::Match,
    path::PathRank,
    rule::{Family, ObjectKind, RouteObject},
};

/// The place of a match among all: the least goes first. No two have one place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank<'t> {
    /// Nothing but for the Gateway API: of VirtualServices the first match counts.
    specific: Option<Specific>,
    created: Option<SystemTime>,
    namespace: &'t str,
    name: &'t str,
    kind: ObjectKind,
    /// Where the object was given: two of one name are one too many, but still in an order.
    object: usize,
    rule: usize,
    matched: usize,
}

/// Field order is the precedence of Gateway API v1, `HTTPRouteRule.matches`. That of `GRPCRouteRule.matches` is the same, for the length of service and
/// method is that of the path.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Specific {
    path: PathRank,
    without_method: bool,
    headers: Reverse<usize>,
    query: Reverse<usize>,
}

impl<'t> Rank<'t> {
    /// The rank of a match, of one of the rules, of one of the objects.
    pub(crate) fn of(objects: &'t [RouteObject], object: usize, rule: usize, matched: Option<usize>) -> Option<Self> {
        let at = objects.get(object)?;
        let asked = matched.and_then(|matched| at.rules.get(rule)?.matches.get(matched));
        let specific = match at.kind.family() {
            Family::GatewayApi => Some(Specific::of(asked)),
            Family::VirtualService => None,
        };
        Some(Self {
            specific,
            created: at.created,
            namespace: at.namespace.as_str(),
            name: &at.name,
            kind: at.kind,
            object,
            rule,
            matched: matched.unwrap_or(0),
        })
    }
}

impl Specific {
    fn of(asked: Option<&Match>) -> Self {
        let Some(asked) = asked else {
            return Self { path: PathRank::Any, without_method: true, headers: Reverse(0), query: Reverse(0) };
        };
        Self {
            path: asked.path.as_ref().map_or(PathRank::Any, |path| path.rank()),
            without_method: asked.method.is_none(),
            headers: Reverse(asked.headers.len()),
            query: Reverse(asked.query.len()),
        }
    }
}
