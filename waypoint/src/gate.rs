//! Whether a request may go on: its token, then who may ask for what. What decides is in `crates/logic`; here it is asked, and answered in Envoy's words.

mod denial;

use std::{
    cell::RefCell,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderName, HeaderValue, header};
use tokio::time::timeout;
use weir_authz::{
    Destination, Peer, Ruling,
    http::{HttpFacts, Token},
};
use weir_http::{Admission, Arrival, Edits, Flag, Flags, QueryEdit, Refusal, Target};
use weir_jwks::Handle;
use weir_model::{Port, canonical_ip};
use weir_request::Request;
use weir_serving::Guard;
use weir_token::{Changes, Checked, Proven, QueryChange, Rejected, Verified};

pub(crate) use self::denial::denied_by;
use self::denial::details;
use crate::shadow::Shadows;

/// Bytes of tokens whose signatures a worker remembers to be good.
const PROVEN: usize = 1 << 20;

/// How long a request waits for keys of its issuer, however long those may take to come. Istio fetches them beside requests.
const FETCH: Duration = Duration::from_secs(5);

/// What one worker asks before a request goes on.
pub(crate) struct Gate {
    keys: Handle,
    shadows: Arc<Shadows>,
    proven: RefCell<Proven>,
}

impl Gate {
    pub(crate) fn new(keys: Handle, shadows: Arc<Shadows>) -> Self {
        Self { keys, shadows, proven: RefCell::new(Proven::new(PROVEN)) }
    }

    /// Whether the request may go on.
    pub(crate) fn ask(&self, guard: &Guard, arrival: &Arrival, request: &Request<'_>) -> Admission {
        let mut verified = None;
        let mut edits = Edits::default();
        if !guard.tokens.is_empty() {
            let checked =
                guard.tokens.check_with(request, &self.keys, SystemTime::now(), &mut self.proven.borrow_mut());
            match checked {
                Ok(Checked { verified: who, changes }) => {
                    verified = who;
                    edits = made(changes);
                }
                Err(rejected) => {
                    let refusal = Box::new(unauthenticated(&rejected, request));
                    let Some(source) = rejected.wants else { return Admission::Answer(refusal) };
                    // The issuer may have other keys by now. All who ask wait for one fetch, and none is made soon after another.
                    let keys = self.keys.clone();
                    let fetched = async move { drop(timeout(FETCH, keys.renew(&source)).await) };
                    return Admission::Later(Box::pin(fetched), refusal);
                }
            }
        }
        if guard.policies.is_empty() {
            return Admission::Pass(edits);
        }
        let Some(port) = port(arrival) else { return Admission::Answer(Box::new(forbidden("port 0"))) };
        let token = verified.as_ref().map(Bearer);
        let facts = HttpFacts {
            peer: Peer { identity: arrival.identity.as_ref(), address: arrival.client.ip() },
            destination: Destination { address: arrival.destination.ip(), port },
            request,
            token: token.as_ref().map(|token| -> &dyn Token { token }),
            remote: remote(arrival, request),
            sni: None,
        };
        let decision = guard.policies.decide(&facts);
        if decision.audit.is_some() || decision.dry_run.is_some() {
            self.shadows.look(&decision, arrival, Instant::now());
        }
        match decision.ruling {
            Ruling::Allow => Admission::Pass(edits),
            Ruling::Deny => Admission::Answer(Box::new(forbidden(&details(&decision.ground)))),
        }
    }
}

impl Gate {
    /// Whether a connection that is no HTTP may go on. Tokens are a matter of requests: who requires one has a policy that says so.
    ///
    /// # Errors
    /// With the reason to close it.
    pub(crate) fn ask_connection(&self, guard: &Guard, arrival: &Arrival) -> Result<(), Box<str>> {
        if guard.policies.is_empty() {
            return Ok(());
        }
        let port = port(arrival).ok_or("port 0 is asked for")?;
        let peer = Peer { identity: arrival.identity.as_ref(), address: arrival.client.ip() };
        let destination = Destination { address: arrival.destination.ip(), port };
        let decision = guard.policies.decide_connection(&peer, &destination, None);
        if decision.audit.is_some() || decision.dry_run.is_some() {
            self.shadows.look(&decision, arrival, Instant::now());
        }
        match decision.ruling {
            Ruling::Allow => Ok(()),
            Ruling::Deny => Err(details(&decision.ground).into()),
        }
    }
}

/// A token, as policies ask it.
struct Bearer<'v>(&'v Verified);

impl Token for Bearer<'_> {
    fn principal(&self) -> Option<&str> {
        self.0.principal.as_deref()
    }

    fn audiences(&self) -> Vec<&str> {
        self.0.audiences().collect()
    }

    fn presenter(&self) -> Option<&str> {
        self.0.presenter()
    }

    fn claim(&self, path: &[Arc<str>]) -> Vec<&str> {
        let path: Vec<&str> = path.iter().map(|part| &**part).collect();
        self.0.claims.values(&path)
    }
}

/// The port that was asked for: the service's, or the pod's.
fn port(arrival: &Arrival) -> Option<Port> {
    match &arrival.target {
        Target::Service { port, .. } => Some(*port),
        Target::Pod { address } => Port::new(address.port()),
    }
}

/// The client behind the proxies that are believed: so many from the end of `x-forwarded-for`. Envoy `xff_num_trusted_hops`.
fn remote(arrival: &Arrival, request: &Request<'_>) -> IpAddr {
    let peer = arrival.client.ip();
    let Ok(hops @ 1..) = usize::try_from(arrival.trusted_hops) else { return peer };
    let Some(value) = request.header("x-forwarded-for") else { return peer };
    let mut behind = value.rsplit(|byte| *byte == b',');
    let text = behind.nth(hops - 1).and_then(|text| std::str::from_utf8(text.trim_ascii()).ok());
    text.and_then(|text| text.parse().ok()).map_or(peer, canonical_ip)
}

/// What a token changes of the head, as the engine makes it: first what goes, then what comes.
fn made(changes: Changes) -> Edits {
    let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).ok();
    let gone = changes.remove.iter().filter_map(|one| Some((name(one.as_str())?, None)));
    let come = changes
        .set
        .iter()
        .filter_map(|(one, value)| Some((name(one.as_str())?, Some(HeaderValue::from_bytes(value).ok()?))));
    let headers = gone.chain(come).collect();
    let query = match changes.query {
        QueryChange::None => QueryEdit::None,
        QueryChange::To(query) => QueryEdit::To(query),
        QueryChange::Gone => QueryEdit::Gone,
    };
    Edits { headers, query }
}

fn unauthenticated(rejected: &Rejected, request: &Request<'_>) -> Refusal {
    let text = rejected.to_string();
    let asked = HeaderValue::from_str(&rejected.www_authenticate(request));
    Refusal {
        status: rejected.status(),
        headers: asked.into_iter().map(|value| (header::WWW_AUTHENTICATE, value)).collect(),
        flags: Flags::from(Flag::Unauthorized),
        details: format!("jwt_authn_access_denied{{{}}}", text.replace(' ', "_")).into(),
        body: text.into(),
    }
}

fn forbidden(details: &str) -> Refusal {
    Refusal {
        status: 403,
        body: "RBAC: access denied".into(),
        headers: Vec::new(),
        // Envoy's RBAC filter sets none.
        flags: Flags::NONE,
        details: details.into(),
    }
}

#[cfg(test)]
mod tests;
