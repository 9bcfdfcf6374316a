//! What is to become of a request, with all that had to be read off it before it is taken apart.

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue, uri::PathAndQuery};
use rand::Rng;
use weir_model::{Namespace, Port};
use weir_request::Request;
use weir_route::{
    Action, Asker, Chosen, CorsAnswer, Destination, Forward, Ground, Held, Injected, MESH, RetryPolicy, RouteTable,
    Session, Timeouts,
};

use crate::{around::Arrival, headers::Changed, record::Flag, reply::Reply};

/// What is to become of a request.
pub(crate) struct Journey<'t> {
    pub(crate) action: Action<'t>,
    chosen: Option<Chosen<'t>>,
    pub(crate) injected: Injected,
    pub(crate) cors: CorsAnswer,
    /// Path and query to send, if they are not as they came.
    pub(crate) target: Option<PathAndQuery>,
    /// Where a client is sent instead.
    pub(crate) location: Option<HeaderValue>,
    /// What its client holds on to.
    pub(crate) held: Option<Held>,
}

/// The retries of requests that no rule is about.
static RETRIES: LazyLock<RetryPolicy> = LazyLock::new(RetryPolicy::default);

impl<'t> Journey<'t> {
    /// That of a request to a service. Gives the answer at once if it has no place to go, or cannot be sent there.
    pub(crate) fn plan(
        table: Option<&'t RouteTable>,
        request: &Request<'_>,
        (arrival, port): (&Arrival, Port),
        rng: &mut impl Rng,
    ) -> Result<Self, Reply> {
        let mut journey = Self {
            action: Action::Service,
            chosen: None,
            injected: Injected::default(),
            cors: CorsAnswer::Silent,
            target: None,
            location: None,
            held: None,
        };
        if let Some(table) = table.filter(|table| !table.objects().is_empty()) {
            let labels: Option<Vec<(&str, &str)>> =
                arrival.labels.as_ref().map(|labels| labels.iter().map(|(key, value)| (&**key, &**value)).collect());
            let namespace: Option<&Namespace> = arrival.identity.as_ref().map(|identity| identity.namespace());
            let asker = Asker { namespace, labels: labels.as_deref(), gateway: MESH, port };
            let decision = table.decide(request, &asker, rng);
            journey.action = decision.action;
            if let Ground::Rule(chosen) = decision.ground {
                journey.follow(chosen, request, port, rng)?;
            }
        }
        if journey.target.is_none() && !request.path().is_as_sent() {
            journey.target = Some(path(&request.target())?);
        }
        Ok(journey)
    }

    fn follow(
        &mut self,
        chosen: Chosen<'t>,
        request: &Request<'_>,
        port: Port,
        rng: &mut impl Rng,
    ) -> Result<(), Reply> {
        self.chosen = Some(chosen);
        self.injected = chosen.rule.fault.map(|fault| fault.draw(rng)).unwrap_or_default();
        self.cors = chosen.cors().map_or(CorsAnswer::Silent, |cors| cors.answer(request));
        match self.action {
            Action::Forward(forward) => {
                let forward = self.hold(forward, request);
                let target = forward.target(request).map_err(|error| Reply::bad_request(error.to_string()))?;
                self.target = target.as_deref().map(path).transpose()?;
            }
            Action::Redirect(redirect) => {
                let location = redirect.location(request, port, chosen.prefix());
                let location = location.map_err(|error| Reply::bad_request(error.to_string()))?;
                let bad = |_| Reply::bad_request("a location that is no header");
                self.location = Some(HeaderValue::from_str(&location).map_err(bad)?);
            }
            Action::Service | Action::Respond(_) | Action::Invalid { .. } | Action::NotFound => {}
        }
        Ok(())
    }

    /// To the backend that the client holds on to, if it does.
    fn hold(&mut self, forward: Forward<'t>, request: &Request<'_>) -> Forward<'t> {
        let session = forward.forwarding().session.as_ref();
        let Some(held) = session.and_then(|session| session.held(request, seconds())) else { return forward };
        let Some(holding) = forward.holding(|to| Held::hash(&to.to_string()) == held.backend) else { return forward };
        self.held = Some(held);
        self.action = Action::Forward(holding);
        holding
    }

    /// The header by which the client is to hold on to an endpoint, unless it does already.
    pub(crate) fn session(&self, endpoint: &str) -> Option<(HeaderName, HeaderValue)> {
        let forward = self.forward()?;
        let session: &Session = forward.forwarding().session.as_ref()?;
        let endpoint = Held::hash(endpoint);
        if self.held.is_some_and(|held| held.endpoint == endpoint) {
            return None;
        }
        let held = Held { backend: Held::hash(&forward.destination().to_string()), endpoint, since: seconds() };
        let (name, value) = session.told(&held);
        Some((name.parse().ok()?, value.parse().ok()?))
    }

    pub(crate) fn forward(&self) -> Option<&Forward<'t>> {
        match &self.action {
            Action::Forward(forward) => Some(forward),
            Action::Service | Action::Redirect(_) | Action::Respond(_) | Action::Invalid { .. } | Action::NotFound => {
                None
            }
        }
    }

    /// The name its author gave the rule.
    pub(crate) fn name(&self) -> Option<Box<str>> {
        self.chosen.and_then(|chosen| chosen.rule.name.clone())
    }

    pub(crate) fn retries(&self) -> &'t RetryPolicy {
        match self.action {
            Action::Forward(forward) => &forward.forwarding().retries,
            Action::Service | Action::Redirect(_) | Action::Respond(_) | Action::Invalid { .. } | Action::NotFound => {
                &RETRIES
            }
        }
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        self.forward().map(|forward| forward.forwarding().timeouts).unwrap_or_default()
    }

    pub(crate) fn destination(&self) -> Option<&'t Destination> {
        match self.action {
            Action::Forward(forward) => Some(forward.destination()),
            Action::Service | Action::Redirect(_) | Action::Respond(_) | Action::Invalid { .. } | Action::NotFound => {
                None
            }
        }
    }

    /// Changes the headers of an answer as the rule says.
    pub(crate) fn dress(&self, headers: &mut HeaderMap) {
        match (self.forward(), self.chosen) {
            (Some(forward), _) => forward.change_response(&mut Changed(headers)),
            (None, Some(chosen)) => chosen.rule.response.apply(&mut Changed(headers)),
            (None, None) => {}
        }
        match &self.cors {
            CorsAnswer::Silent => {}
            CorsAnswer::Preflight(_) | CorsAnswer::Actual(_) => self.cors.apply(&mut Changed(headers)),
        }
    }

    /// How long it waits on purpose.
    pub(crate) fn delay(&self) -> Option<Duration> {
        self.injected.delay
    }
}

/// Since 1970.
fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn path(text: &str) -> Result<PathAndQuery, Reply> {
    text.parse().map_err(|_| Reply::bad_request("a path that cannot be sent on"))
}

/// The answer to a request that leads nowhere.
pub(crate) fn nowhere(action: &Action<'_>) -> Option<Reply> {
    match action {
        Action::NotFound => Some(Reply::new(404, "", Flag::NoRoute, "route_not_found")),
        Action::Invalid { status, why } => {
            Some(Reply::new(*status, "", Flag::NoCluster, format!("cluster_not_found{{{}}}", why.replace(' ', "_"))))
        }
        Action::Service | Action::Forward(_) | Action::Redirect(_) | Action::Respond(_) => None,
    }
}
