//! Policies: how they are named in the mesh, whom they cover, and what agents enforce of them.

use std::sync::Arc;

use weir_authz::http::{HttpPolicy, HttpRule};
use weir_manifest::{
    AuthorizationAction, AuthorizationSpec, Labels, ObjectKey, Origin, PolicyObject, PolicySpec, PolicyTarget,
};
use weir_model::{
    NameError, Namespace, Policy, PolicyAction, PolicyKind, PolicyName, PolicyRule, PolicyScope, PolicySource,
};

use crate::Settings;

pub(crate) mod attached;
pub(crate) mod authorization;
mod http;
pub(crate) mod mtls;
pub(crate) mod status;
pub(crate) mod waypoint;

use attached::{AtWaypoint, Attached, TokenPolicy};
use authorization::OfRequests;
use mtls::Modes;
use status::shortened;

/// A policy object, as much of it as is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) kind: PolicyKind,
    pub(crate) own: Arc<str>,
    pub(crate) created: Option<Arc<str>>,
    pub(crate) generation: Option<i64>,
    /// The namespace it reaches, none for all of the mesh.
    pub(crate) over: Option<Namespace>,
    /// Absent for everything there. A selector that asks for nothing selects everything, as in Kubernetes.
    pub(crate) selector: Option<Labels>,
    pub(crate) says: Says,
    /// What it is to waypoints; none of what is for agents.
    pub(crate) attached: Option<Attached>,
    /// Why the object as it is now counts for nothing, and the one before it still does.
    pub(crate) stale: Option<Arc<str>>,
}

/// What a policy comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Says {
    /// Rules.
    Rules {
        /// As agents enforce them.
        policy: Box<Policy>,
        /// How many its author wrote.
        written: u32,
        /// Those that agents cannot enforce as they were written.
        of_requests: Vec<OfRequests>,
    },
    /// Who must prove who they are.
    Modes(Box<Modes>),
    /// Nothing for agents: it is about what a waypoint does.
    Waypoints,
    /// Nothing that agents can do: what it covers is denied.
    Unsupported(Box<Policy>),
    /// Nothing, for it is not legal: what it covers is denied, if that is for agents to do.
    Illegal {
        /// Every error.
        why: Arc<str>,
        /// What denies.
        policy: Option<Box<Policy>>,
    },
}

/// Where two of one level differ, the lesser counts: the older. What says nothing of its age is as old as can be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    created: Option<Arc<str>>,
    own: Arc<str>,
    pub(crate) name: PolicyName,
}

impl Declared {
    /// What an object comes to that was so `before`. A policy of the root namespace reaches all others. One whose target cannot be
    /// made out stays what it was; if it never was legal, nobody knows whom it does not cover.
    pub(crate) fn new(settings: &Settings, object: PolicyObject, before: Option<&Self>) -> Self {
        let PolicyObject { origin, kind, namespace, name: own, created, generation, target, mut spec } = object;
        if target == PolicyTarget::Unknown {
            let why: Arc<str> = match spec {
                PolicySpec::Rejected(why) => why,
                PolicySpec::Authorization(_)
                | PolicySpec::PeerAuthentication(_)
                | PolicySpec::RequestAuthentication(_) => "its target cannot be made out".into(),
            };
            if let Some(before) = before.filter(|before| before.is_legal()) {
                return Self { generation, stale: Some(why), ..before.clone() };
            }
            spec = PolicySpec::Rejected(why);
        }
        let over = (namespace != settings.root_namespace).then(|| namespace.clone());
        let (selector, to) = match target {
            PolicyTarget::Selector(labels) => (Some(labels).filter(|labels| !labels.is_empty()), None),
            PolicyTarget::All | PolicyTarget::Unknown => (None, None),
            PolicyTarget::Refs(to) => (None, Some(to)),
        };
        let made = Blank { origin: &origin, kind, namespace: &namespace, own: &own, scope: scope(&over, &selector) };
        let (says, attached) = match to {
            Some(to) => {
                let (says, at_waypoint) = made.for_waypoints(spec);
                (says, at_waypoint.map(|says| Attached { to, says }))
            }
            None => (made.for_agents(spec, selector.is_some()), None),
        };
        Self { kind, own, created, generation, over, selector, says, attached, stale: None }
    }

    /// What a waypoint makes of it, if that is only to deny what it covers, though it is legal.
    pub(crate) fn unsupported_at_waypoint(&self) -> Option<&HttpPolicy> {
        match &self.attached.as_ref()?.says {
            AtWaypoint::Policy(policy) => Some(&**policy).filter(|policy| policy.rejected.is_some()),
            AtWaypoint::Tokens(_) => None,
        }
    }

    /// Whether it could be read as a whole.
    pub(crate) fn is_legal(&self) -> bool {
        match self.says {
            Says::Rules { .. } | Says::Modes(_) | Says::Waypoints | Says::Unsupported(_) => true,
            Says::Illegal { .. } => false,
        }
    }

    /// The policies that agents are told, in no order.
    pub(crate) fn policies(&self) -> Vec<Policy> {
        match &self.says {
            Says::Rules { policy, .. } | Says::Unsupported(policy) => vec![Policy::clone(policy)],
            Says::Illegal { policy, .. } => policy.iter().map(|policy| Policy::clone(policy)).collect(),
            Says::Modes(modes) => modes.policies(),
            Says::Waypoints => Vec::new(),
        }
    }

    /// The names of those.
    pub(crate) fn names(&self) -> Vec<PolicyName> {
        match &self.says {
            Says::Rules { policy, .. } | Says::Unsupported(policy) => vec![policy.name.clone()],
            Says::Illegal { policy, .. } => policy.iter().map(|policy| policy.name.clone()).collect(),
            Says::Modes(modes) => modes.policies().into_iter().map(|policy| policy.name).collect(),
            Says::Waypoints => Vec::new(),
        }
    }

    /// The policy that the pods name that it selects; none if it selects none, or other things decide which one that is.
    pub(crate) fn selecting(&self) -> Option<&PolicyName> {
        self.selector.as_ref()?;
        match &self.says {
            Says::Rules { policy, .. } | Says::Unsupported(policy) => Some(&policy.name),
            Says::Illegal { policy, .. } => policy.as_ref().map(|policy| &policy.name),
            Says::Modes(_) | Says::Waypoints => None,
        }
    }

    /// What it says of who must prove who they are, if that is what it is about.
    pub(crate) fn modes(&self) -> Option<&Modes> {
        match &self.says {
            Says::Modes(modes) => Some(modes),
            Says::Rules { .. } | Says::Waypoints | Says::Unsupported(_) | Says::Illegal { .. } => None,
        }
    }

    /// Its place among those of its level. `name` is that of the object.
    pub(crate) fn rank(&self, name: &PolicyName) -> Rank {
        Rank { created: self.created.clone(), own: self.own.clone(), name: name.clone() }
    }
}

fn scope(over: &Option<Namespace>, selector: &Option<Labels>) -> PolicyScope {
    match (selector, over) {
        (Some(_), _) => PolicyScope::Workloads,
        (None, None) => PolicyScope::Mesh,
        (None, Some(_)) => PolicyScope::Namespace,
    }
}

/// A policy of which it is known whose it is.
struct Blank<'o> {
    origin: &'o Origin,
    kind: PolicyKind,
    namespace: &'o Namespace,
    own: &'o Arc<str>,
    scope: PolicyScope,
}

impl Blank<'_> {
    /// An object of a cluster has no lines, and its file is none.
    fn line(&self) -> Option<u32> {
        u32::try_from(self.origin.line).ok().filter(|line| *line > 0)
    }

    fn file(&self) -> Option<Arc<str>> {
        self.line().map(|_| self.origin.file.as_str().into())
    }

    fn policy(&self, action: PolicyAction, dry_run: bool, rules: Vec<PolicyRule>) -> Policy {
        Policy { name: self.name(), scope: self.scope, action, dry_run, rules, rejected: None, source: self.source() }
    }

    fn rejected(&self, dry_run: bool, why: &str) -> Policy {
        Policy { rejected: Some(why.into()), ..self.policy(PolicyAction::Deny, dry_run, Vec::new()) }
    }

    fn for_agents(&self, spec: PolicySpec, has_selector: bool) -> Says {
        match spec {
            PolicySpec::Rejected(why) => self.illegal(why),
            PolicySpec::PeerAuthentication(spec) if !has_selector && !spec.ports.is_empty() => {
                self.illegal("spec.portLevelMtls: needs spec.selector".into())
            }
            PolicySpec::PeerAuthentication(spec) => Says::Modes(Box::new(Modes {
                namespace: self.namespace.clone(),
                own: self.own.clone(),
                file: self.file(),
                line: self.line(),
                spec,
            })),
            PolicySpec::Authorization(spec) => self.authorization(spec),
            PolicySpec::RequestAuthentication(_) => {
                let why =
                    "agents see connections and no tokens of requests, and what has no targetRefs is no waypoint's";
                Says::Unsupported(Box::new(self.rejected(false, why)))
            }
        }
    }

    /// What it says to waypoints; nothing if it is of no kind that they know.
    fn for_waypoints(&self, spec: PolicySpec) -> (Says, Option<AtWaypoint>) {
        let denies = |dry_run, why: &str| {
            let rejected = Some(why.into());
            AtWaypoint::Policy(Arc::new(HttpPolicy { rejected, ..self.http(PolicyAction::Deny, dry_run, Vec::new()) }))
        };
        match spec {
            PolicySpec::Rejected(why) => {
                let denies = denies(false, &in_a_line(&why));
                (Says::Illegal { why, policy: None }, Some(denies))
            }
            PolicySpec::Authorization(AuthorizationSpec { action: written, dry_run, rules }) => {
                let policy = match (authorization::action(&written), http::rules(rules)) {
                    (None, _) => denies(dry_run, &nobody_to_ask(&written)),
                    (Some(_), Err(why)) => denies(dry_run, &shortened(&why)),
                    (Some(action), Ok(rules)) => AtWaypoint::Policy(Arc::new(self.http(action, dry_run, rules))),
                };
                (Says::Waypoints, Some(policy))
            }
            PolicySpec::RequestAuthentication(spec) => {
                let (name, source) = (self.name(), self.source());
                (Says::Waypoints, Some(AtWaypoint::Tokens(Arc::new(TokenPolicy { name, spec, source }))))
            }
            PolicySpec::PeerAuthentication(_) => (Says::Waypoints, None),
        }
    }

    fn http(&self, action: PolicyAction, dry_run: bool, rules: Vec<HttpRule>) -> HttpPolicy {
        HttpPolicy { name: self.name(), action, dry_run, rules, rejected: None, source: self.source() }
    }

    fn name(&self) -> PolicyName {
        name(&self.kind.to_string(), self.namespace, self.own)
            .expect("kind and name of an object are visible ASCII and short")
    }

    fn source(&self) -> PolicySource {
        PolicySource { kind: self.kind, name: self.own.clone(), file: self.file() }
    }

    fn illegal(&self, why: Arc<str>) -> Says {
        let policy = Some(Box::new(self.rejected(false, &in_a_line(&why))));
        Says::Illegal { why, policy }
    }

    fn authorization(&self, spec: AuthorizationSpec) -> Says {
        let AuthorizationSpec { action: written, dry_run, rules } = spec;
        let Some(action) = authorization::action(&written) else {
            return Says::Unsupported(Box::new(self.rejected(dry_run, &nobody_to_ask(&written))));
        };
        let written = count(&rules);
        let (rules, of_requests) = authorization::rules(action, rules);
        Says::Rules { policy: Box::new(self.policy(action, dry_run, rules)), written, of_requests }
    }
}

fn nobody_to_ask(action: &AuthorizationAction) -> String {
    let provider = match action {
        AuthorizationAction::Custom { provider } => format!(" {provider:?}"),
        AuthorizationAction::Allow | AuthorizationAction::Deny | AuthorizationAction::Audit => String::new(),
    };
    format!("CUSTOM asks the provider{provider}, and this version cannot ask any")
}

/// Errors, shortened to what a reason may hold.
fn in_a_line(why: &str) -> String {
    shortened(&why.lines().collect::<Vec<_>>().join("; "))
}

fn count<T>(rules: &[T]) -> u32 {
    u32::try_from(rules.len()).unwrap_or(u32::MAX)
}

/// The name of a policy object in the mesh. An AuthorizationPolicy bears its own, as on Istio's wire; the others have their
/// kind before it, `requestauthentication~jwt`: no object's name has a `~` (RFC 1123), so that none is taken for another.
pub(crate) fn name(kind: &str, namespace: &Namespace, name: &str) -> Result<PolicyName, NameError> {
    match kind {
        "AuthorizationPolicy" => PolicyName::new(namespace.clone(), name),
        other => PolicyName::new(namespace.clone(), &format!("{}~{name}", other.to_ascii_lowercase())),
    }
}

/// The object that is known under that name.
pub(crate) fn object(name: &PolicyName) -> ObjectKey {
    let kinds = [PolicyKind::PeerAuthentication, PolicyKind::RequestAuthentication].map(|kind| kind.to_string());
    let own = kinds.iter().find_map(|kind| {
        let (before, own) = name.name().split_once('~')?;
        kind.eq_ignore_ascii_case(before).then_some((kind.as_str(), own))
    });
    let authorization = PolicyKind::Authorization.to_string();
    let (kind, own) = own.unwrap_or((&authorization, name.name()));
    ObjectKey { kind: kind.into(), namespace: Some(name.namespace.clone()), name: own.into() }
}
