//! Which way a connection goes whose bytes nobody reads: VirtualService `tcp`, and TCPRoute.

use std::{collections::HashSet, fmt, net::IpAddr, sync::Arc, time::SystemTime};

use ipnet::IpNet;
use rand::Rng;
use weir_model::{Namespace, Port};
use weir_request::{Host, HostPattern};

use crate::{
    asker::{Asker, AskerMatch},
    backend::{Backends, Destination, Picked, Share},
    decision::write_place,
    rule::Audience,
    table::{MAX_ENTRIES, TableError},
};

/// What an object that routes connections is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TcpKind {
    /// Gateway API `TCPRoute`: the oldest one counts, for its rules ask for nothing.
    TcpRoute,
    /// Istio `VirtualService`, its `tcp`.
    VirtualService,
    /// Istio `VirtualService`, its `tls`.
    VirtualServiceTls,
}

/// What is known of a connection whose bytes nobody reads. Addresses are canonical.
#[derive(Debug, Clone, Copy)]
pub struct TcpFacts<'f> {
    /// Where it was going.
    pub destination: IpAddr,
    /// Where it comes from.
    pub client: IpAddr,
    /// The host that its client asks for by TLS; none if it is none of TLS, or asks for none. It is what the client says, and proves nothing.
    pub name: Option<&'f str>,
}

/// One match of a rule. Istio `L4MatchAttributes`, `TLSMatchAttributes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TcpMatch {
    /// Where the connection was going, any of these; empty for anywhere. Istio `destinationSubnets`.
    pub destinations: Vec<IpNet>,
    /// Where it comes from, any of these; empty for anywhere. Istio `sourceSubnet`.
    pub sources: Vec<IpNet>,
    /// The host that it asks for by TLS, any of these; empty for whatever it asks for. Istio `sniHosts`.
    pub names: Vec<HostPattern>,
    /// Who asks, and for which port.
    pub asker: AskerMatch,
}

impl TcpMatch {
    /// Whether all it asks for holds.
    pub fn holds(&self, facts: &TcpFacts<'_>, asker: &Asker<'_>) -> bool {
        let within = |ranges: &[IpNet], ip| ranges.is_empty() || ranges.iter().any(|range| range.contains(&ip));
        let is_named = |name| self.names.iter().any(|pattern| pattern.matches(Host::Name(name)));
        self.asker.holds(asker)
            && within(&self.destinations, facts.destination)
            && within(&self.sources, facts.client)
            && (self.names.is_empty() || facts.name.is_some_and(is_named))
    }
}

/// A rule.
#[derive(Debug, Clone)]
pub struct TcpRule {
    /// Its place among the rules of its object as that was written.
    pub index: usize,
    /// The line it begins on, if it came from a file.
    pub line: Option<u32>,
    /// Any of these is enough. None means every connection.
    pub matches: Vec<TcpMatch>,
    /// Where connections go.
    pub backends: Backends,
}

/// An object that routes connections.
#[derive(Debug, Clone)]
pub struct TcpObject {
    /// What it is.
    pub kind: TcpKind,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name there.
    pub name: Box<str>,
    /// The file it came from, if it came from one.
    pub file: Option<Arc<str>>,
    /// When it was made, if that is known.
    pub created: Option<SystemTime>,
    /// Whose connections it routes.
    pub audience: Audience,
    /// Its rules, in its order.
    pub rules: Vec<TcpRule>,
}

impl TcpObject {
    /// Whether it is attached to this port. Gateway API `ParentReference.port`: at all others of the service it is as if there was no TCPRoute.
    fn is_for(&self, port: Port) -> bool {
        match self.kind {
            TcpKind::TcpRoute => {
                let is_on = |matched: &TcpMatch| matched.asker.port.is_none_or(|asked| asked == port);
                self.rules.iter().any(|rule| rule.matches.is_empty() || rule.matches.iter().any(is_on))
            }
            TcpKind::VirtualService | TcpKind::VirtualServiceTls => true,
        }
    }
}

/// All routes of the connections to one service, in the order they are asked in: those of the client's namespace first, then the oldest, then by name.
/// VirtualServices only where there is no TCPRoute for the same clients.
#[derive(Debug, Clone, Default)]
pub struct TcpTable {
    objects: Vec<TcpObject>,
}

/// What becomes of a connection, and why.
#[derive(Debug, Clone, Copy)]
pub struct TcpDecision<'t> {
    /// Why.
    pub ground: TcpGround<'t>,
    /// What.
    pub action: TcpAction<'t>,
}

/// Why.
#[derive(Debug, Clone, Copy)]
pub enum TcpGround<'t> {
    /// A rule says so.
    Rule {
        /// The object it stands in.
        object: &'t TcpObject,
        /// The rule.
        rule: &'t TcpRule,
    },
    /// No route is for this client and port.
    NoRoutes,
    /// There are routes, and no rule of theirs is for this connection.
    NoMatch,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy)]
pub enum TcpAction<'t> {
    /// It goes to the service that was asked for.
    Service,
    /// It goes there.
    Forward(&'t Destination, Share),
    /// It is closed, for this reason.
    Refuse(&'t str),
}

impl TcpTable {
    /// The table of these objects, in whatever order they come.
    ///
    /// # Errors
    /// When there are too many.
    pub fn new(mut objects: Vec<TcpObject>) -> Result<Self, TableError> {
        let rules = objects.iter().flat_map(|object| &object.rules);
        let count = rules.fold(0_usize, |count, rule| count.saturating_add(rule.matches.len().max(1)));
        if count > MAX_ENTRIES {
            return Err(TableError::TooMany { count });
        }
        let client = |object: &TcpObject| match object.audience {
            Audience::Everyone => None,
            Audience::OwnNamespace => Some(object.namespace.clone()),
        };
        let routes = objects.iter().filter(|object| object.kind == TcpKind::TcpRoute);
        let routed: HashSet<Option<Namespace>> = routes.map(client).collect();
        objects.retain(|object| object.kind == TcpKind::TcpRoute || !routed.contains(&client(object)));
        objects.sort_by(|one, other| {
            let rank = |object: &TcpObject| (object.audience == Audience::Everyone, object.created);
            let name = |object: &TcpObject| (object.namespace.clone(), object.name.clone());
            rank(one).cmp(&rank(other)).then_with(|| name(one).cmp(&name(other)))
        });
        Ok(Self { objects })
    }

    /// All objects that are asked.
    pub fn objects(&self) -> &[TcpObject] {
        &self.objects
    }

    /// Whether what becomes of connections to a port depends on the host that they ask for by TLS.
    pub fn asks_for_names(&self, port: Port) -> bool {
        let matches = self.objects.iter().flat_map(|object| &object.rules).flat_map(|rule| &rule.matches);
        let is_on = |asked: &TcpMatch| asked.asker.port.is_none_or(|asked| asked == port);
        matches.into_iter().any(|asked| !asked.names.is_empty() && is_on(asked))
    }

    /// What becomes of a connection. Draws only where backends have weights.
    pub fn decide<'t>(&'t self, facts: &TcpFacts<'_>, asker: &Asker<'_>, rng: &mut impl Rng) -> TcpDecision<'t> {
        let mut of_client = self.objects.iter().filter(|object| match object.audience {
            Audience::Everyone => true,
            Audience::OwnNamespace => asker.namespace == Some(&object.namespace),
        });
        let mut asked = of_client.clone().flat_map(|object| object.rules.iter().map(move |rule| (object, rule)));
        let holds =
            |rule: &TcpRule| rule.matches.is_empty() || rule.matches.iter().any(|matched| matched.holds(facts, asker));
        let Some((object, rule)) = asked.find(|(_, rule)| holds(rule)) else {
            if !of_client.any(|object| object.is_for(asker.port)) {
                return TcpDecision { ground: TcpGround::NoRoutes, action: TcpAction::Service };
            }
            return TcpDecision {
                ground: TcpGround::NoMatch,
                action: TcpAction::Refuse("no rule of any route is for this connection"),
            };
        };
        let action = match rule.backends.choose(rng) {
            Picked::Valid(share, _, destination) => TcpAction::Forward(destination, share),
            Picked::Invalid(why) => TcpAction::Refuse(why),
        };
        TcpDecision { ground: TcpGround::Rule { object, rule }, action }
    }
}

impl fmt::Display for TcpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TcpRoute => "TCPRoute",
            Self::VirtualService | Self::VirtualServiceTls => "VirtualService",
        })
    }
}

impl fmt::Display for TcpGround<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoutes => f.write_str("no route is for this client and port"),
            Self::NoMatch => f.write_str("there are routes"),
            Self::Rule { object, rule } => {
                let rules = match object.kind {
                    TcpKind::TcpRoute => "spec.rules",
                    TcpKind::VirtualService => "spec.tcp",
                    TcpKind::VirtualServiceTls => "spec.tls",
                };
                write!(f, "{} {}/{}, {rules}[{}]", object.kind, object.namespace, object.name, rule.index)?;
                write_place(f, object.file.as_deref(), rule.line)
            }
        }
    }
}

impl fmt::Display for TcpDecision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ground.fmt(f)?;
        match self.action {
            TcpAction::Service => f.write_str(": to the service itself"),
            TcpAction::Forward(destination, share) => write!(f, ": to {destination}{share}"),
            TcpAction::Refuse(why) => write!(f, ": closed: {why}"),
        }
    }
}

#[cfg(test)]
mod tests;
