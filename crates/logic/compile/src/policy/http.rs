//! AuthorizationPolicy at a waypoint: every field of it, as it is asked of a request.
//!
//! What cannot be asked rejects the policy, which then denies what it covers: a key that only Envoy's filters know, and a path that no
//! request can have, of which nobody can say whether its author meant to admit or to forbid.

use std::sync::Arc;

use weir_authz::http::{HttpClause, HttpField, HttpMatch, HttpRule, Part, PathPattern};
use weir_manifest::{AuthorizationRule, Condition, Operation, PathMatch, Source};
use weir_model::{RulePlace, Sides, TextMatch};

/// The rules as a waypoint enforces them.
///
/// # Errors
/// Everything in them that it cannot, with its place.
pub(super) fn rules(written: Vec<AuthorizationRule>) -> Result<Vec<HttpRule>, String> {
    let mut errors = Vec::new();
    let mut rules = Vec::new();
    for (index, rule) in (0_u32..).zip(written) {
        let place = RulePlace { index: Some(index), line: u32::try_from(rule.line).ok().filter(|line| *line > 0) };
        let mut reading = Reading { at: format!("spec.rules[{index}]"), errors: &mut errors };
        let clauses = reading.clauses(rule);
        rules.push(HttpRule { place, clauses });
    }
    if errors.is_empty() { Ok(rules) } else { Err(errors.join("; ")) }
}

/// A walk over a rule.
struct Reading<'e> {
    at: String,
    errors: &'e mut Vec<String>,
}

impl Reading<'_> {
    fn clauses(&mut self, rule: AuthorizationRule) -> Vec<HttpClause> {
        let AuthorizationRule { line: _, from, to, when } = rule;
        let mut clauses = Vec::new();
        if !from.is_empty() {
            clauses.push(HttpClause { part: Part::From, alternatives: from.into_iter().map(source).collect() });
        }
        if !to.is_empty() {
            let operation = |(index, one)| self.operation(index, one);
            let alternatives = to.into_iter().enumerate().map(operation).collect();
            clauses.push(HttpClause { part: Part::To, alternatives });
        }
        for (index, one) in when.into_iter().enumerate() {
            let alternatives = self.condition(index, one).map(|one| HttpMatch(vec![one])).into_iter().collect();
            clauses.push(HttpClause { part: Part::When, alternatives });
        }
        clauses
    }

    fn operation(&mut self, index: usize, operation: Operation) -> HttpMatch {
        let Operation { hosts, ports, methods, paths } = operation;
        let mut fields = Vec::new();
        add(&mut fields, hosts, HttpField::Hosts);
        add(&mut fields, ports, HttpField::DestinationPorts);
        add(&mut fields, methods, HttpField::Methods);
        let at = format!("to[{index}].operation");
        let any = self.paths(&format!("{at}.paths"), paths.any);
        let none = self.paths(&format!("{at}.notPaths"), paths.none);
        add(&mut fields, Sides { any, none }, HttpField::Paths);
        HttpMatch(fields)
    }

    fn paths(&mut self, at: &str, written: Vec<PathMatch>) -> Vec<PathPattern> {
        let mut patterns = Vec::new();
        for one in written {
            let (text, pattern) = match one {
                PathMatch::Text(text) => (text.to_string(), PathPattern::text(text)),
                PathMatch::Template(text) => (text.to_string(), PathPattern::template(text)),
            };
            match pattern {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.fail(at, &format!("{text:?}, which no request asks for: {error}")),
            }
        }
        patterns
    }

    fn condition(&mut self, index: usize, condition: Condition) -> Option<HttpField> {
        Some(match condition {
            Condition::SourceIp(sides) => HttpField::SourceIps(sides),
            Condition::SourceNamespace(sides) => HttpField::Namespaces(sides),
            Condition::SourcePrincipal(sides) => HttpField::Principals(sides),
            Condition::SourceServiceAccount(sides) => HttpField::ServiceAccounts(sides),
            Condition::SourceTrustDomain(sides) => HttpField::TrustDomains(sides),
            Condition::DestinationIp(sides) => HttpField::DestinationIps(sides),
            Condition::DestinationPort(sides) => HttpField::DestinationPorts(sides),
            Condition::RemoteIp(sides) => HttpField::RemoteIps(sides),
            Condition::Request { key, values } => {
                let field = of_request(&key, values);
                if field.is_none() {
                    let what = format!("{key:?} is known to filters of Envoy only, and this version has none");
                    self.fail(&format!("when[{index}].key"), &what);
                }
                return field;
            }
        })
    }

    fn fail(&mut self, at: &str, what: &str) {
        self.errors.push(format!("{}.{at}: {what}", self.at));
    }
}

/// What a key asks for. Istio, "Authorization Policy Conditions".
fn of_request(key: &str, values: Sides<TextMatch>) -> Option<HttpField> {
    let (name, brackets) = key.find('[').map_or((key, ""), |at| key.split_at(at));
    let inner = brackets.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match (name, inner) {
        ("request.auth.principal", None) => Some(HttpField::RequestPrincipals(values)),
        ("request.auth.audiences", None) => Some(HttpField::Audiences(values)),
        ("request.auth.presenter", None) => Some(HttpField::Presenter(values)),
        ("connection.sni", None) => Some(HttpField::Sni(values)),
        ("request.headers", Some(name)) => Some(HttpField::Header { name: name.into(), values }),
        ("request.auth.claims", Some(names)) => {
            Some(HttpField::Claim { path: names.split("][").map(Arc::from).collect(), values })
        }
        _ => None,
    }
}

fn source(source: Source) -> HttpMatch {
    let Source {
        principals,
        request_principals,
        namespaces,
        service_accounts,
        trust_domains,
        ip_blocks,
        remote_ip_blocks,
    } = source;
    let mut fields = Vec::new();
    add(&mut fields, principals, HttpField::Principals);
    add(&mut fields, request_principals, HttpField::RequestPrincipals);
    add(&mut fields, namespaces, HttpField::Namespaces);
    add(&mut fields, service_accounts, HttpField::ServiceAccounts);
    add(&mut fields, trust_domains, HttpField::TrustDomains);
    add(&mut fields, ip_blocks, HttpField::SourceIps);
    add(&mut fields, remote_ip_blocks, HttpField::RemoteIps);
    HttpMatch(fields)
}

fn add<T>(fields: &mut Vec<HttpField>, sides: Sides<T>, field: fn(Sides<T>) -> HttpField) {
    if !sides.is_empty() {
        fields.push(field(sides));
    }
}

#[cfg(test)]
#[path = "http/tests.rs"]
mod tests;
