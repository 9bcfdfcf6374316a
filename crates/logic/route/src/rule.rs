//! A rule, and the object it stands in: what a compiler makes of VirtualService, HTTPRoute and GRPCRoute.

use std::{fmt, sync::Arc, time::Duration, time::SystemTime};

use weir_model::Namespace;

use crate::{
    backend::Backends,
    cors::Cors,
    fault::{Fault, Mirror},
    header::HeaderChanges,
    matching::Match,
    redirect::Redirect,
    respond::DirectResponse,
    retry::RetryPolicy,
    rewrite::Rewrite,
    session::Session,
};

/// What an object that routes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// Gateway API `HTTPRoute`.
    HttpRoute,
    /// Gateway API `GRPCRoute`.
    GrpcRoute,
    /// Istio `VirtualService`.
    VirtualService,
}

/// Whose rules of precedence an object follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// The most specific match.
    GatewayApi,
    /// The first match.
    VirtualService,
}

impl ObjectKind {
    /// Whose rules of precedence it follows.
    pub fn family(self) -> Family {
        match self {
            Self::HttpRoute | Self::GrpcRoute => Family::GatewayApi,
            Self::VirtualService => Family::VirtualService,
        }
    }

    /// Where its rules stand, and where their matches do.
    pub(crate) fn fields(self) -> (&'static str, &'static str) {
        match self.family() {
            Family::GatewayApi => ("spec.rules", "matches"),
            Family::VirtualService => ("spec.http", "match"),
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::VirtualService => "VirtualService",
        })
    }
}

/// Whose requests an object routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Audience {
    /// Everyone's: it belongs to the service (producer route).
    Everyone,
    /// Those from its own namespace: it belongs to a client (consumer route). Gateway API GEP-1426.
    OwnNamespace,
}

/// An object that routes.
#[derive(Debug, Clone)]
pub struct RouteObject {
    /// What it is.
    pub kind: ObjectKind,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name there.
    pub name: Box<str>,
    /// The file it came from, if it came from one.
    pub file: Option<Arc<str>>,
    /// When it was made, if that is known: the oldest goes first, and one that is not known before all.
    pub created: Option<SystemTime>,
    /// Whose requests it routes.
    pub audience: Audience,
    /// Its rules, in its order.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What its author calls it.
    pub name: Option<Box<str>>,
    /// Its place among the rules of its object as that was written.
    pub index: usize,
    /// The line it begins on, if it came from a file.
    pub line: Option<u32>,
    /// Any of these is enough. None means everything.
    pub matches: Vec<Match>,
    /// What is done to the headers of requests.
    pub request: HeaderChanges,
    /// What is done to the headers of answers.
    pub response: HeaderChanges,
    /// Faults on purpose.
    pub fault: Option<Fault>,
    /// What a browser is told of other origins.
    pub cors: Option<Cors>,
    /// What becomes of a request.
    pub act: Act,
}

impl Rule {
    /// A rule that does this with everything.
    pub fn new(index: usize, act: Act) -> Self {
        Self {
            name: None,
            index,
            line: None,
            matches: Vec::new(),
            request: HeaderChanges::default(),
            response: HeaderChanges::default(),
            fault: None,
            cors: None,
            act,
        }
    }
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Act {
    /// It is sent on.
    Forward(Box<Forwarding>),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// It is answered at once.
    Respond(DirectResponse),
}

/// How a request is sent on.
#[derive(Debug, Clone, Default)]
pub struct Forwarding {
    /// Where.
    pub backends: Backends,
    /// What becomes of its path and authority.
    pub rewrite: Rewrite,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// Whether it is sent once more.
    pub retries: RetryPolicy,
    /// Copies of it.
    pub mirrors: Vec<Mirror>,
    /// Whether its client goes on with the endpoint it went to first. Gateway API v1 `sessionPersistence`.
    pub session: Option<Session>,
}

impl Forwarding {
    /// Sends on to one of these, with nothing else said.
    pub fn to(backends: Backends) -> Self {
        Self { backends, ..Self::default() }
    }
}

/// How long a request may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeouts {
    request: Option<Duration>,
    attempt: Option<Duration>,
}

impl Timeouts {
    /// The time for all of a request, and for each attempt. Zero and absent are no limit, but an attempt never takes longer than the request may.
    pub fn new(request: Option<Duration>, attempt: Option<Duration>) -> Self {
        let limit = |time: Option<Duration>| time.filter(|time| !time.is_zero());
        let (request, attempt) = (limit(request), limit(attempt));
        let attempt = match (request, attempt) {
            (Some(request), Some(attempt)) => Some(attempt.min(request)),
            (request, attempt) => attempt.or(request),
        };
        Self { request, attempt }
    }

    /// For all of it, retries included.
    pub fn request(self) -> Option<Duration> {
        self.request
    }

    /// For each attempt.
    pub fn attempt(self) -> Option<Duration> {
        self.attempt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_limit_and_an_attempt_ends_with_its_request() {
        let seconds = |n: Option<u64>| n.map(Duration::from_secs);
        for (request, attempt, want) in [
            (None, None, (None, None)),
            (Some(0), Some(0), (None, None)),
            (Some(5), None, (Some(5), Some(5))),
            (Some(5), Some(2), (Some(5), Some(2))),
            (Some(5), Some(9), (Some(5), Some(5))),
            (Some(0), Some(2), (None, Some(2))),
        ] {
            let timeouts = Timeouts::new(seconds(request), seconds(attempt));
            let got = (timeouts.request(), timeouts.attempt());
            assert_eq!(got, (seconds(want.0), seconds(want.1)), "{request:?} {attempt:?}");
        }
    }
}
