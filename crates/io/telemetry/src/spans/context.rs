//! What becomes of a request's trace here: decided once, before it is routed.

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use weir_model::{SAMPLES_OF, TracingSettings};
use weir_wire::trace::{Decision, Incoming, Outgoing};

use super::{RequestId, request_id::Reason};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORCE: HeaderName = HeaderName::from_static("x-envoy-force-trace");
const CLIENT: HeaderName = HeaderName::from_static("x-client-trace-id");

/// One request's place in a trace.
#[derive(Debug, Clone)]
pub struct TraceContext {
    /// The id it gets, if it came without one.
    request_id: Option<RequestId>,
    trace: Option<Trace>,
}

#[derive(Debug, Clone)]
struct Trace {
    outgoing: Outgoing,
    /// The trace's `tracestate`, kept for its span.
    state: Option<HeaderValue>,
    propagated: bool,
    reported: bool,
}

impl TraceContext {
    /// Reads the request's headers and decides. Without settings there are no traces: headers of one pass as they came.
    /// `random` gives bits nobody can guess.
    pub fn begin(headers: &HeaderMap, settings: Option<&TracingSettings>, mut random: impl FnMut() -> u64) -> Self {
        let mut wide = || u128::from(random()) << 64 | u128::from(random());
        let given = headers.get(REQUEST_ID).filter(|id| !id.is_empty());
        let made = given.is_none().then(|| RequestId::random(wide()));
        let Some(settings) = settings else { return Self { request_id: made, trace: None } };
        let incoming = Incoming::read(|name| headers.get(name).map(HeaderValue::as_bytes));
        let facts = Facts {
            before: incoming.decision,
            forced: headers.contains_key(FORCE),
            client: headers.contains_key(CLIENT),
            given: given.and_then(|id| RequestId::read(id.as_bytes())),
            made,
        };
        let chance = wide();
        let (decision, reason) = facts.decide(settings, chance);
        // Neither id may be zero.
        let outgoing = incoming.next(wide().max(1), u64::try_from(wide() >> 64).unwrap_or(1).max(1), decision);
        let sampled = match decision {
            Decision::Sampled | Decision::Debug => true,
            Decision::NotSampled => false,
        };
        let state = headers.get("tracestate").filter(|_| sampled && !incoming.bad_state).cloned();
        let trace =
            Trace { outgoing, state, propagated: !settings.no_propagation, reported: sampled && !settings.silent };
        Self { request_id: made.map(|id| id.because(reason)), trace: Some(trace) }
    }

    /// Writes into the request's headers what the next hop is to know.
    pub fn apply(&self, headers: &mut HeaderMap) {
        let value = |text: &str| HeaderValue::from_str(text).expect("digits, letters and hyphens");
        if let Some(id) = &self.request_id {
            headers.insert(REQUEST_ID, value(id.as_str()));
        }
        let Some(trace) = self.trace.as_ref().filter(|trace| trace.propagated) else { return };
        for (name, text) in trace.outgoing.headers() {
            let name = HeaderName::from_static(name);
            match text {
                Some(text) => drop(headers.insert(name, value(&text))),
                None => drop(headers.remove(name)),
            }
        }
    }

    /// Whether a span is to be made of the request when it has ended.
    pub fn is_reported(&self) -> bool {
        self.trace.as_ref().is_some_and(|trace| trace.reported)
    }

    /// The trace and this hop's span, if the request is traced at all.
    pub fn outgoing(&self) -> Option<&Outgoing> {
        self.trace.as_ref().map(|trace| &trace.outgoing)
    }

    pub(super) fn state(&self) -> Option<&str> {
        self.trace.as_ref()?.state.as_ref()?.to_str().ok()
    }
}

/// What a decision is made from.
struct Facts {
    before: Option<Decision>,
    forced: bool,
    client: bool,
    given: Option<RequestId>,
    made: Option<RequestId>,
}

impl Facts {
    /// Whoever decided before is right; then who asks for this request to be traced; then what its id says; then chance.
    fn decide(&self, settings: &TracingSettings, random: u128) -> (Decision, Reason) {
        let traced = |reason| (Decision::Sampled, reason);
        match self.before {
            Some(Decision::NotSampled) => return (Decision::NotSampled, Reason::NotTraced),
            Some(before) => return (before, Reason::Sampled),
            None => {}
        }
        if self.client {
            return traced(Reason::Client);
        }
        if self.forced {
            return traced(Reason::Service);
        }
        let by_id = self.given.as_ref().filter(|_| settings.by_request_id);
        match by_id.map_or(Reason::NotTraced, RequestId::reason) {
            Reason::NotTraced => {}
            reason @ (Reason::Sampled | Reason::Service | Reason::Client) => return traced(reason),
        }
        let chance = match by_id.or(self.made.as_ref().filter(|_| settings.by_request_id)) {
            Some(id) => id.chance(),
            None => u32::try_from(random % u128::from(SAMPLES_OF)).unwrap_or(0),
        };
        match chance < settings.sampling {
            true => traced(Reason::Sampled),
            false => (Decision::NotSampled, Reason::NotTraced),
        }
    }
}

#[cfg(test)]
mod tests;
