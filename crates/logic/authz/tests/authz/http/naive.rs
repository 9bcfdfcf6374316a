//! The meaning of policies over requests, written down as plainly as it can be: what the prepared form is compared with.

use std::sync::Arc;

use weir_authz::http::{HttpClause, HttpFacts, HttpField, HttpMatch, HttpPolicy, HttpRule, Token};
use weir_model::{PolicyAction, Sides, TextMatch};

use crate::naive::has;

/// What is decided, as [`super::scene::short`] says it.
pub(crate) fn decide(policies: &[HttpPolicy], facts: &HttpFacts<'_>) -> String {
    let mut all: Vec<&HttpPolicy> = policies.iter().filter(|one| !one.dry_run).collect();
    all.sort_by_key(|one| &one.name);
    for one in all.iter().filter(|one| one.action == PolicyAction::Deny || one.rejected.is_some()) {
        if one.rejected.is_some() {
            return format!("deny by {}, rejected", one.name.name());
        }
        if let Some(index) = matching(one, facts) {
            return format!("deny by {}[{index}]", one.name.name());
        }
    }
    let allows: Vec<_> = all.iter().filter(|one| one.action == PolicyAction::Allow).collect();
    for one in &allows {
        if let Some(index) = matching(one, facts) {
            return format!("allow by {}[{index}]", one.name.name());
        }
    }
    if allows.is_empty() { "allow".to_owned() } else { "deny".to_owned() }
}

/// The first rule that matches.
pub(crate) fn matching(policy: &HttpPolicy, facts: &HttpFacts<'_>) -> Option<usize> {
    let (path, served) = (facts.request.path().as_str(), facts.request.path().as_served());
    let folded = folded(path);
    let (plain, served) = ((path, path), (&*served, &*served));
    policy.rules.iter().position(|rule| match policy.action {
        PolicyAction::Allow => [plain, served, (path, &folded)].into_iter().all(|read| rule_matches(rule, facts, read)),
        PolicyAction::Deny | PolicyAction::Audit => {
            [plain, served, (&folded, path)].into_iter().any(|read| rule_matches(rule, facts, read))
        }
    })
}

/// Slashes first, then parameters.
fn folded(path: &str) -> String {
    let plain = path.replace("%2F", "/").replace("%5C", "/");
    if plain == path && !path.contains("//") {
        return path.to_owned();
    }
    let last = plain.ends_with('/') || plain.rsplit('/').next().is_some_and(|name| name.starts_with(';'));
    let names = plain.split('/').filter_map(|segment| segment.split(';').next()).filter(|name| !name.is_empty());
    let joined: String = names.map(|name| format!("/{name}")).collect();
    if last { format!("{joined}/") } else { joined }
}

fn rule_matches(rule: &HttpRule, facts: &HttpFacts<'_>, read: (&str, &str)) -> bool {
    let holds = |HttpMatch(fields): &HttpMatch| !fields.is_empty() && fields.iter().all(|one| field(one, facts, read));
    rule.clauses.iter().all(|HttpClause { alternatives, .. }| alternatives.iter().any(holds))
}

fn field(field: &HttpField, facts: &HttpFacts<'_>, (any, none): (&str, &str)) -> bool {
    let id = facts.peer.identity;
    let token = |text: fn(&dyn Token) -> Vec<&str>| facts.token.map(text).unwrap_or_default();
    match field {
        HttpField::Principals(sides) => {
            let principal = id.map(|id| id.to_string().trim_start_matches("spiffe://").to_owned());
            texts(sides, principal.as_slice())
        }
        HttpField::Namespaces(sides) => texts(sides, id.map(|id| id.namespace().as_str()).as_slice()),
        HttpField::TrustDomains(sides) => texts(sides, id.map(|id| id.trust_domain().as_str()).as_slice()),
        HttpField::ServiceAccounts(sides) => within(sides, |(namespace, name)| {
            id.is_some_and(|id| id.namespace() == namespace && id.service_account() == name)
        }),
        HttpField::SourceIps(sides) => within(sides, |range| has(range, facts.peer.address)),
        HttpField::RemoteIps(sides) => within(sides, |range| has(range, facts.remote)),
        HttpField::DestinationIps(sides) => within(sides, |range| has(range, facts.destination.address)),
        HttpField::DestinationPorts(sides) => within(sides, |port| *port == facts.destination.port),
        HttpField::RequestPrincipals(sides) => texts(sides, &token(|token| token.principal().into_iter().collect())),
        HttpField::Presenter(sides) => texts(sides, &token(|token| token.presenter().into_iter().collect())),
        HttpField::Audiences(sides) => texts(sides, &token(|token| token.audiences())),
        HttpField::Claim { path, values } => texts(values, &claims(facts, path)),
        HttpField::Hosts(sides) => within(sides, |pattern| host(pattern, facts.request.authority().as_str())),
        HttpField::Methods(sides) => texts(sides, &[facts.request.method()]),
        HttpField::Sni(sides) => within(sides, |pattern| facts.sni.is_some_and(|sni| same_case(pattern, sni))),
        HttpField::Paths(sides) => {
            let is = |pattern: &weir_authz::http::PathPattern, path: &str| path_is(&pattern.to_string(), path);
            (sides.any.is_empty() || sides.any.iter().any(|one| is(one, any)))
                && !sides.none.iter().any(|one| is(one, none))
        }
        HttpField::Header { name, values } => {
            let found: Vec<String> = facts
                .request
                .headers()
                .iter()
                .filter(|one| *one.name == **name)
                .map(|one| String::from_utf8_lossy(one.value).into_owned())
                .collect();
            let joined = (!found.is_empty()).then(|| found.join(","));
            within(values, |pattern| {
                joined.as_ref().is_some_and(|text| *pattern == TextMatch::Present || pattern.matches(text))
            })
        }
    }
}

fn claims<'a>(facts: &HttpFacts<'a>, path: &[Arc<str>]) -> Vec<&'a str> {
    facts.token.map(|token| token.claim(path)).unwrap_or_default()
}

fn texts<T: AsRef<str>>(sides: &Sides<TextMatch>, found: &[T]) -> bool {
    within(sides, |pattern| found.iter().any(|text| pattern.matches(text.as_ref())))
}

fn within<T>(sides: &Sides<T>, is: impl Fn(&T) -> bool) -> bool {
    (sides.any.is_empty() || sides.any.iter().any(&is)) && !sides.none.iter().any(&is)
}

fn same_case(pattern: &TextMatch, text: &str) -> bool {
    pattern.to_string().to_lowercase().parse::<TextMatch>().unwrap().matches(&text.to_lowercase())
}

/// Of names alone: the generated ones.
fn host(pattern: &TextMatch, authority: &str) -> bool {
    let named = pattern.to_string().contains(':');
    let text = if named { authority } else { authority.split(':').next().unwrap() };
    same_case(pattern, text)
}

/// A pattern of segments without anything that could be spelt otherwise.
fn path_is(pattern: &str, path: &str) -> bool {
    fn segments(pattern: &[&str], path: &[&str]) -> bool {
        match (pattern, path) {
            ([], []) => true,
            // Any number of segments, but the slash before them must be there.
            (["{**}", rest @ ..], [_, ..]) => (0..=path.len()).any(|n| {
                let ends = rest.is_empty() && n == path.len();
                ends || (n > 0 && !rest.is_empty() && segments(rest, &path[n..]))
            }),
            (["{*}", rest @ ..], [one, others @ ..]) => !one.is_empty() && segments(rest, others),
            ([name, rest @ ..], [one, others @ ..]) => name == one && segments(rest, others),
            _ => false,
        }
    }
    match pattern.contains('{') {
        true => segments(&pattern.split('/').collect::<Vec<_>>(), &path.split('/').collect::<Vec<_>>()),
        false => pattern.parse::<TextMatch>().unwrap().matches(path),
    }
}
