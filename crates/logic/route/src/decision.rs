//! What was decided, and why.

use std::fmt;

use rand::Rng;
use weir_request::Request;

use crate::{
    backend::{Backend, Destination, Share, Target},
    cors::Cors,
    header::HeaderList,
    matching::Match,
    path::PathMatch,
    redirect::Redirect,
    respond::DirectResponse,
    rewrite::RewriteError,
    rule::{Act, Forwarding, RouteObject, Rule},
};

/// What becomes of a request, and why.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'t> {
    /// Why.
    pub ground: Ground<'t>,
    /// What.
    pub action: Action<'t>,
}

/// Why.
#[derive(Debug, Clone, Copy)]
pub enum Ground<'t> {
    /// A rule says so.
    Rule(Chosen<'t>),
    /// No route is for this client and port.
    NoRoutes,
    /// There are routes, and no rule of theirs is for this request.
    NoMatch,
}

/// A rule, and the match by which it is for a request.
#[derive(Debug, Clone, Copy)]
pub struct Chosen<'t> {
    /// The object it stands in.
    pub object: &'t RouteObject,
    /// The rule. Its fault and its changes of headers hold whatever its action is.
    pub rule: &'t Rule,
    /// The match and its place; none if the rule is for everything.
    pub matched: Option<(usize, &'t Match)>,
}

impl<'t> Chosen<'t> {
    /// What a browser is told of other origins. As with Envoy nothing is where the rule itself answers or redirects.
    pub fn cors(&self) -> Option<&'t Cors> {
        match self.rule.act {
            Act::Forward(_) => self.rule.cors.as_ref(),
            Act::Redirect(_) | Act::Respond(_) => None,
        }
    }

    /// How much of the path, in bytes, is the prefix that was asked for; none if it was not asked for one.
    pub fn prefix(&self) -> Option<usize> {
        self.matched.and_then(|(_, matched)| matched.path.as_ref()).and_then(PathMatch::prefix_len)
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
pub enum Action<'t> {
    /// It is sent to the service that was asked for, with the default policy of retries.
    Service,
    /// It is sent on.
    Forward(Forward<'t>),
    /// The client is sent elsewhere.
    Redirect(&'t Redirect),
    /// It is answered at once.
    Respond(&'t DirectResponse),
    /// It would be sent on to nowhere, and is refused.
    Invalid {
        /// The status: 500, or 503 for a VirtualService.
        status: u16,
        /// Why it leads nowhere.
        why: &'t str,
    },
    /// No rule is for it: 404.
    NotFound,
}

/// A request sent on.
#[derive(Debug, Clone, Copy)]
pub struct Forward<'t> {
    pub(crate) chosen: Chosen<'t>,
    pub(crate) forwarding: &'t Forwarding,
    pub(crate) backend: &'t Backend,
    pub(crate) destination: &'t Destination,
    pub(crate) share: Share,
}

impl<'t> Forward<'t> {
    /// Where to.
    pub fn destination(&self) -> &'t Destination {
        self.destination
    }

    /// How: timeouts and retries.
    pub fn forwarding(&self) -> &'t Forwarding {
        self.forwarding
    }

    /// The same, to the backend that its client holds on to, if that leads somewhere and gets anything at all.
    #[must_use]
    pub fn holding(self, is_held: impl Fn(&Destination) -> bool) -> Option<Self> {
        self.forwarding.backends.iter().find_map(|(share, backend)| match &backend.target {
            Target::Valid(destination) if share.weight > 0 && is_held(destination) => {
                Some(Self { backend, destination, share, ..self })
            }
            Target::Valid(_) | Target::Invalid(_) => None,
        })
    }

    /// The share of requests that goes there.
    pub fn share(&self) -> Share {
        self.share
    }

    /// Path and query to send instead of [`Request::target`]; none if they stay.
    ///
    /// # Errors
    /// When the path comes out as none, or as one that leads elsewhere: the request is refused with 400.
    pub fn target(&self, request: &Request<'_>) -> Result<Option<String>, RewriteError> {
        let Some(rewrite) = &self.forwarding.rewrite.path else { return Ok(None) };
        let path = rewrite.apply(request.path().as_str(), self.chosen.prefix())?;
        Ok(Some(request.target_with(&path)))
    }

    /// The authority to send instead of the request's; none if it stays. What a rule does to the header counts before what it rewrites, and the rule's own before that of
    /// its backend, as for other headers.
    pub fn authority(&self) -> Option<&'t str> {
        let by_header = self.chosen.rule.request.host().or(self.backend.request.host());
        by_header.or(self.forwarding.rewrite.authority())
    }

    /// Changes the headers of the request: first as the backend says, then as the rule says, as Envoy does.
    pub fn change_request(&self, headers: &mut impl HeaderList) {
        self.backend.request.apply(headers);
        self.chosen.rule.request.apply(headers);
    }

    /// Changes the headers of the answer, in the same order.
    pub fn change_response(&self, headers: &mut impl HeaderList) {
        self.backend.response.apply(headers);
        self.chosen.rule.response.apply(headers);
    }

    /// Where copies of this request go. Each is drawn by itself; one that leads nowhere is not sent.
    pub fn mirrors(&self, rng: &mut impl Rng) -> impl Iterator<Item = &'t Destination> {
        self.forwarding.mirrors.iter().filter_map(move |mirror| match &mirror.target {
            Target::Valid(destination) => mirror.percent.draw(rng).then_some(destination),
            Target::Invalid(_) => None,
        })
    }
}

impl fmt::Display for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.ground, self.action)?;
        let Ground::Rule(Chosen { rule, .. }) = self.ground else { return Ok(()) };
        match &rule.fault {
            Some(fault) => write!(f, "; {fault}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Ground<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(chosen) => chosen.fmt(f),
            Self::NoRoutes => f.write_str("no route is for this client and port"),
            Self::NoMatch => f.write_str("no rule of any route is for this request"),
        }
    }
}

impl fmt::Display for Chosen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, rule, matched } = self;
        let (rules, matches) = object.kind.fields();
        write!(f, "{} {}/{}, {rules}[{}]", object.kind, object.namespace, object.name, rule.index)?;
        if let Some(name) = &rule.name {
            write!(f, " {name:?}")?;
        }
        if let Some((index, matched)) = matched {
            write!(f, ".{matches}[{index}]")?;
            if let Some(name) = &matched.name {
                write!(f, " {name:?}")?;
            }
        }
        write_place(f, object.file.as_deref(), rule.line)
    }
}

/// Where a rule was written, if it came from a file.
pub(crate) fn write_place(f: &mut fmt::Formatter<'_>, file: Option<&str>, line: Option<u32>) -> fmt::Result {
    match (file, line) {
        (Some(file), Some(line)) => write!(f, " ({file}:{line})"),
        (Some(file), None) => write!(f, " ({file})"),
        (None, _) => Ok(()),
    }
}

impl fmt::Display for Action<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service => f.write_str("to the service itself"),
            Self::Forward(forward) => forward.fmt(f),
            Self::Redirect(redirect) => write!(f, "redirected with {}", redirect.code()),
            Self::Respond(response) => write!(f, "answered with {}", response.status()),
            Self::Invalid { status, why } => write!(f, "refused with {status}: {why}"),
            Self::NotFound => f.write_str("refused with 404"),
        }
    }
}

impl fmt::Display for Forward<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to {}{}", self.destination, self.share)?;
        if let Some(path) = &self.forwarding.rewrite.path {
            write!(f, "; rewrites {path}")?;
        }
        if let Some(authority) = self.authority() {
            write!(f, "; rewrites the authority to {authority}")?;
        }
        if let Some(time) = self.forwarding.timeouts.request() {
            write!(f, "; within {time:?}")?;
        }
        if let Some(time) =
            self.forwarding.timeouts.attempt().filter(|time| self.forwarding.timeouts.request() != Some(*time))
        {
            write!(f, "; each attempt within {time:?}")?;
        }
        write!(f, "; {}", self.forwarding.retries)?;
        if let Some(session) = &self.forwarding.session {
            write!(f, "; {session}")?;
        }
        for mirror in &self.forwarding.mirrors {
            match &mirror.target {
                Target::Valid(destination) => write!(f, "; copies {} to {destination}", mirror.percent)?,
                Target::Invalid(why) => write!(f, "; copies nothing: {why}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
