//! What is asked of a request: its facts, made ready once for all rules.

use std::{borrow::Cow, cell::OnceCell, net::IpAddr, sync::Arc};

use weir_model::canonical_ip;
use weir_request::{Host, Request};

use super::path::folded;
use crate::{
    facts::{Facts, Room},
    peer::{Destination, Peer},
};

/// A token that was checked: all it says is true.
pub trait Token {
    /// `iss/sub`; none if it lacks one of the two.
    fn principal(&self) -> Option<&str>;

    /// `aud`, whether that is a text or a list.
    fn audiences(&self) -> Vec<&str>;

    /// `azp`.
    fn presenter(&self) -> Option<&str>;

    /// The texts of the claim that these names lead to: itself, or those of a list; none if it is neither. A claim that is said to be
    /// delimited by spaces (`scope`) is a list.
    fn claim(&self, path: &[Arc<str>]) -> Vec<&str>;
}

/// What is proven of a request.
#[derive(Clone, Copy)]
pub struct HttpFacts<'a> {
    /// Who asks.
    pub peer: Peer<'a>,
    /// What was asked for: the address, and the service's port.
    pub destination: Destination,
    /// The request, as the route reads it.
    pub request: &'a Request<'a>,
    /// Its token. None if it has none.
    pub token: Option<&'a dyn Token>,
    /// The client's address, behind the proxies that are believed (`X-Forwarded-For`). The peer's, if there are none.
    pub remote: IpAddr,
    /// The name that TLS asked for, if the waypoint sees such.
    pub sni: Option<&'a str>,
}

/// Whether a policy asks for paths: only then are the other readings of one made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spellings {
    Needed,
    Unneeded,
}

/// The facts, ready to be asked.
pub(super) struct Seen<'f> {
    pub(super) connection: Facts<'f>,
    pub(super) remote: IpAddr,
    /// In lower case.
    pub(super) sni: Option<Cow<'f, str>>,
    /// None of a connection that is no HTTP.
    pub(super) request: Option<Asked<'f>>,
}

/// A request.
pub(super) struct Asked<'f> {
    pub(super) request: &'f Request<'f>,
    pub(super) token: Option<&'f dyn Token>,
    /// In lower case, an address in its one spelling.
    pub(super) host: Cow<'f, str>,
    /// The host with its port, once somebody asks.
    authority: OnceCell<String>,
    /// As it is served, if that is something else than the path.
    served: Option<Cow<'f, str>>,
    /// With its slashes folded, if it has some to fold.
    folded: Option<String>,
}

/// A way to read a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<'f> {
    /// What the path must be one of is compared with this.
    pub(super) any: &'f str,
    /// What it must not be, with this.
    pub(super) none: &'f str,
}

impl<'f> Seen<'f> {
    pub(super) fn of_request(facts: &HttpFacts<'f>, spellings: Spellings, room: &'f mut Room) -> Self {
        Self {
            connection: Facts::new(&facts.peer, &facts.destination, room),
            remote: canonical_ip(facts.remote),
            sni: facts.sni.map(lower),
            request: Some(Asked::new(facts.request, facts.token, spellings)),
        }
    }

    /// Of a connection that is no HTTP: nobody stands before its peer.
    pub(super) fn of_connection(
        peer: &Peer<'f>,
        destination: &Destination,
        sni: Option<&'f str>,
        room: &'f mut Room,
    ) -> Self {
        let connection = Facts::new(peer, destination, room);
        Self { remote: connection.source, connection, sni: sni.map(lower), request: None }
    }

    /// The path as the route has it; nothing of what is no HTTP.
    pub(super) fn plain(&self) -> Reading<'_> {
        let path = self.request.as_ref().map_or("", |asked| asked.request.path().as_str());
        Reading { any: path, none: path }
    }

    /// The path as it is served, if that is something else.
    pub(super) fn served(&self) -> Option<Reading<'_>> {
        let path = self.request.as_ref()?.served.as_deref()?;
        Some(Reading { any: path, none: path })
    }

    /// The path with its slashes folded, if it has some to fold, for what refuses: more is refused for it, and nothing spared.
    pub(super) fn folded_to_refuse(&self) -> Option<Reading<'_>> {
        let path = self.request.as_ref()?.folded.as_deref()?;
        Some(Reading { any: path, ..self.plain() })
    }

    /// The same for what admits: nothing more is admitted for it.
    pub(super) fn folded_to_admit(&self) -> Option<Reading<'_>> {
        let path = self.request.as_ref()?.folded.as_deref()?;
        Some(Reading { none: path, ..self.plain() })
    }
}

impl<'f> Asked<'f> {
    fn new(request: &'f Request<'f>, token: Option<&'f dyn Token>, spellings: Spellings) -> Self {
        let path = request.path();
        let (served, folded) = match spellings {
            Spellings::Needed => {
                let served = Some(path.as_served()).filter(|served| served != path.as_str());
                (served, folded(path.as_str()))
            }
            Spellings::Unneeded => (None, None),
        };
        Self { request, token, host: host(request), authority: OnceCell::new(), served, folded }
    }

    /// The host with its port, if it was asked for with one.
    pub(super) fn authority(&self) -> &str {
        match self.request.authority().port() {
            Some(port) => self.authority.get_or_init(|| format!("{}:{port}", self.host)),
            None => &self.host,
        }
    }
}

fn host<'f>(request: &'f Request<'f>) -> Cow<'f, str> {
    let authority = request.authority();
    match authority.host() {
        Host::Name(name) => lower(name),
        Host::Ip(IpAddr::V4(_)) => {
            let text = authority.as_str();
            Cow::Borrowed(text.split_once(':').map_or(text, |(host, _)| host))
        }
        Host::Ip(ip @ IpAddr::V6(_)) => Cow::Owned(Host::Ip(canonical_ip(ip)).to_string()),
    }
}

fn lower(text: &str) -> Cow<'_, str> {
    match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(text.to_ascii_lowercase()),
        false => Cow::Borrowed(text),
    }
}
