//! Policies over requests, and requests, in few words.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use weir_authz::{
    Destination, Peer, Ruling,
    http::{
        HttpClause, HttpDecision, HttpFacts, HttpField, HttpGround, HttpMatch, HttpPolicies, HttpPolicy, HttpRule,
        Part, PathPattern, Token,
    },
};
use weir_model::{PolicyAction, PolicyKind, PolicyName, PolicySource, Port, RulePlace, Sides, SpiffeId};
use weir_request::{Header, Normalization, Parts, Request};

pub(crate) fn policy(name: &str, action: PolicyAction, rules: Vec<HttpRule>) -> HttpPolicy {
    HttpPolicy {
        name: PolicyName::new("shop".parse().unwrap(), name).unwrap(),
        action,
        dry_run: false,
        rules,
        rejected: None,
        source: PolicySource { kind: PolicyKind::Authorization, name: name.into(), file: None },
    }
}

pub(crate) fn allow(name: &str, rules: Vec<HttpRule>) -> HttpPolicy {
    policy(name, PolicyAction::Allow, rules)
}

pub(crate) fn deny(name: &str, rules: Vec<HttpRule>) -> HttpPolicy {
    policy(name, PolicyAction::Deny, rules)
}

pub(crate) fn audit(name: &str, rules: Vec<HttpRule>) -> HttpPolicy {
    policy(name, PolicyAction::Audit, rules)
}

pub(crate) fn dry(policy: HttpPolicy) -> HttpPolicy {
    HttpPolicy { dry_run: true, ..policy }
}

pub(crate) fn rejected(policy: HttpPolicy) -> HttpPolicy {
    HttpPolicy {
        rejected: Some("CUSTOM asks the provider \"oauth\", and this version cannot ask any".into()),
        ..policy
    }
}

/// In the file `shop.yaml`, with its rules on the lines 10, 20, 30, …
pub(crate) fn filed(mut policy: HttpPolicy) -> HttpPolicy {
    policy.source.file = Some("shop.yaml".into());
    for (rule, n) in policy.rules.iter_mut().zip(0..) {
        rule.place = RulePlace { index: Some(n), line: Some((n + 1) * 10) };
    }
    policy
}

/// A rule of parts, each of alternatives of fields.
pub(crate) fn rule(clauses: Vec<(Part, Vec<Vec<HttpField>>)>) -> HttpRule {
    let clauses = clauses.into_iter().map(|(part, alternatives)| HttpClause {
        part,
        alternatives: alternatives.into_iter().map(HttpMatch).collect(),
    });
    HttpRule { place: RulePlace { index: Some(0), line: None }, clauses: clauses.collect() }
}

/// A rule of one alternative.
pub(crate) fn to(fields: Vec<HttpField>) -> HttpRule {
    rule(vec![(Part::To, vec![fields])])
}

pub(crate) fn anything() -> HttpRule {
    rule(Vec::new())
}

/// Both sides, from words of which those that begin with `!` are not to be.
pub(crate) fn sides<T: std::str::FromStr>(words: &str) -> Sides<T>
where
    T::Err: std::fmt::Debug,
{
    crate::scene::sides(&words.split_whitespace().collect::<Vec<_>>())
}

pub(crate) fn pattern(text: &str) -> PathPattern {
    match text.contains('{') {
        true => PathPattern::template(text.into()).unwrap(),
        false => PathPattern::text(text.parse().unwrap()).unwrap(),
    }
}

pub(crate) fn paths(words: &str) -> HttpField {
    let Sides { any, none } = sides::<String>(words);
    let all = |texts: Vec<String>| texts.iter().map(|text| pattern(text)).collect();
    HttpField::Paths(Sides { any: all(any), none: all(none) })
}

pub(crate) fn header(name: &str, words: &str) -> HttpField {
    HttpField::Header { name: name.into(), values: sides(words) }
}

pub(crate) fn claim(path: &[&str], words: &str) -> HttpField {
    HttpField::Claim { path: path.iter().map(|name| (*name).into()).collect(), values: sides(words) }
}

/// A token, checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checked {
    pub(crate) principal: Option<String>,
    pub(crate) audiences: Vec<String>,
    pub(crate) presenter: Option<String>,
    /// By their names with a `/` between.
    pub(crate) claims: BTreeMap<String, Vec<String>>,
}

impl Token for Checked {
    fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }

    fn audiences(&self) -> Vec<&str> {
        self.audiences.iter().map(String::as_str).collect()
    }

    fn presenter(&self) -> Option<&str> {
        self.presenter.as_deref()
    }

    fn claim(&self, path: &[Arc<str>]) -> Vec<&str> {
        let texts = self.claims.get(&path.join("/")).into_iter().flatten();
        texts.map(String::as_str).collect()
    }
}

/// Who asks for what.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) identity: Option<SpiffeId>,
    pub(crate) address: IpAddr,
    pub(crate) remote: IpAddr,
    pub(crate) destination: Destination,
    pub(crate) method: String,
    pub(crate) authority: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) token: Option<Checked>,
    pub(crate) sni: Option<String>,
    pub(crate) level: Normalization,
}

/// `GET shop:80/`, of `cluster.local/ns/web/sa/front` at 10.1.2.3, to 10.0.0.7:80.
pub(crate) fn scene() -> Scene {
    Scene {
        identity: Some("spiffe://cluster.local/ns/web/sa/front".parse().unwrap()),
        address: "10.1.2.3".parse().unwrap(),
        remote: "10.1.2.3".parse().unwrap(),
        destination: Destination { address: "10.0.0.7".parse().unwrap(), port: Port::new(80).unwrap() },
        method: "GET".into(),
        authority: "shop:80".into(),
        target: "/".into(),
        headers: Vec::new(),
        token: None,
        sni: None,
        level: Normalization::Base,
    }
}

impl Scene {
    pub(crate) fn target(target: &str) -> Self {
        Self { target: target.into(), ..scene() }
    }

    pub(crate) fn with_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn peer(&self) -> Peer<'_> {
        Peer { identity: self.identity.as_ref(), address: self.address }
    }

    /// Looks at its facts; None if the request is refused before anybody does.
    pub(crate) fn see<T>(&self, look: impl FnOnce(&HttpFacts<'_>) -> T) -> Option<T> {
        let headers: Vec<Header<'_>> = self.headers.iter().map(|(name, value)| Header { name, value }).collect();
        let parts = Parts {
            method: &self.method,
            scheme: "http",
            authority: &self.authority,
            target: &self.target,
            headers: &headers,
        };
        let request = Request::read(parts, self.level).ok()?;
        Some(look(&HttpFacts {
            peer: self.peer(),
            destination: self.destination,
            request: &request,
            token: self.token.as_ref().map(|token| -> &dyn Token { token }),
            remote: self.remote,
            sni: self.sni.as_deref(),
        }))
    }

    /// What is decided, in short; `refused` if nobody looks.
    pub(crate) fn decided(&self, policies: &[HttpPolicy]) -> String {
        let set = set(policies, self.level);
        self.see(|facts| short(&set.decide(facts))).unwrap_or_else(|| "refused".to_owned())
    }

    pub(crate) fn admitted(&self, policies: &[HttpPolicy]) -> bool {
        self.decided(policies).starts_with("allow")
    }
}

pub(crate) fn set(policies: &[HttpPolicy], level: Normalization) -> HttpPolicies {
    HttpPolicies::new(policies.iter().cloned().map(Arc::new), level)
}

/// What decided, in short: `allow`, `allow by NAME[RULE]`, `deny`, `deny by NAME[RULE]`, `deny by NAME, rejected`.
pub(crate) fn short(decision: &HttpDecision<'_>) -> String {
    said(decision.ruling, &decision.ground)
}

pub(crate) fn said(ruling: Ruling, ground: &HttpGround<'_>) -> String {
    let verdict = ruling.to_string().to_lowercase();
    match ground {
        HttpGround::NothingAsked | HttpGround::NotAllowed { .. } => verdict,
        HttpGround::Rule { policy, rule } => {
            let index = policy.rules.iter().position(|one| std::ptr::eq(one, *rule)).unwrap();
            format!("{verdict} by {}[{index}]", policy.name.name())
        }
        HttpGround::Rejected { policy, .. } => format!("{verdict} by {}, rejected", policy.name.name()),
    }
}
