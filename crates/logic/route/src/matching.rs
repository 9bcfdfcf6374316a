//! One match of a rule: everything it asks of a request must hold.

use weir_request::Request;

use crate::{
    asker::{Asker, AskerMatch},
    header::HeaderName,
    path::PathMatch,
    text::StringMatch,
};

/// Which requests a match is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Speech {
    /// All of HTTP.
    #[default]
    Http,
    /// Calls of gRPC. Those of a GRPCRoute.
    Grpc,
}

/// One match of a rule. What it does not ask for may be anything. Istio `HTTPMatchRequest`, Gateway API v1 `HTTPRouteMatch`, `GRPCRouteMatch`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// What its author calls it.
    pub name: Option<Box<str>>,
    /// Which requests.
    pub speech: Speech,
    /// The path.
    pub path: Option<PathMatch>,
    /// The method.
    pub method: Option<StringMatch>,
    /// The scheme.
    pub scheme: Option<StringMatch>,
    /// The authority as sent, with its port.
    pub authority: Option<StringMatch>,
    /// Headers, all of them.
    pub headers: Vec<(HeaderName, StringMatch)>,
    /// Headers that must not be so. One that is not there is not.
    pub without_headers: Vec<(HeaderName, StringMatch)>,
    /// Parameters of the query, all of them, by their name as an application reads it.
    pub query: Vec<(Box<str>, StringMatch)>,
    /// Who asks, and for which port.
    pub asker: AskerMatch,
}

impl Match {
    /// Whether all it asks for holds. What is cheap is asked first.
    pub fn holds(&self, request: &Request<'_>, asker: &Asker<'_>) -> bool {
        self.asker.holds(asker)
            && self.path.as_ref().is_none_or(|path| path.matches(request.path().as_str()))
            && text(&self.method, request.method())
            && text(&self.scheme, request.scheme())
            && text(&self.authority, request.authority().as_str())
            && (self.speech == Speech::Http || request.is_grpc())
            && self.headers.iter().all(|(name, wanted)| header(request, name, wanted))
            && !self.without_headers.iter().any(|(name, wanted)| header(request, name, wanted))
            && self.query.iter().all(|(name, wanted)| parameter(request, name, wanted))
    }
}

fn text(wanted: &Option<StringMatch>, text: &str) -> bool {
    wanted.as_ref().is_none_or(|wanted| wanted.matches(Some(text.as_bytes())))
}

fn header(request: &Request<'_>, name: &HeaderName, wanted: &StringMatch) -> bool {
    wanted.matches(request.header(name.as_str()).as_deref())
}

fn parameter(request: &Request<'_>, name: &str, wanted: &StringMatch) -> bool {
    let value = request.query().and_then(|query| query.first(name)).map(weir_request::Value::decoded);
    wanted.matches(value.as_deref())
}

#[cfg(test)]
mod tests;
