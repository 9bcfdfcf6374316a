//! One rule for requests.

use std::collections::BTreeSet;

use weir_manifest::{VirtualMatch, VirtualRoute};
use weir_model::{Port, Service};
use weir_route::{
    Act, AskerMatch, Backend, Backends, Destination, Forwarding, Match, Mirror, RouteObject, Rule, Speech, Target,
    Timeouts,
};

use super::{
    delegate::{Does, Expanded, Written},
    target::{At, Targets},
};
use crate::routes::FindingReason;

const REFUSED: &str = "its share of requests is refused with 503";

impl Targets<'_> {
    /// The rule, for requests to one service.
    pub(super) fn http_rule(&mut self, expanded: &Expanded<'_>, service: &Service) -> Rule {
        let asked = asked_ports(&expanded.matches, service);
        let act = match expanded.does {
            Does::Redirect(redirect) => Act::Redirect(redirect.clone()),
            Does::Respond(response) => Act::Respond(response.clone()),
            Does::Route(routes) => Act::Forward(Box::new(self.forwarding(expanded, routes, &asked))),
        };
        let headers = expanded.said(|rule| rule.headers.as_ref()).map(|(_, headers)| headers.clone());
        let headers = headers.unwrap_or_default();
        Rule {
            name: expanded.name(),
            index: expanded.index,
            line: line(expanded.root.rule.line),
            matches: expanded.matches.iter().map(matched).collect(),
            request: headers.request,
            response: headers.response,
            fault: expanded.said(|rule| rule.fault.as_ref()).map(|(_, fault)| *fault),
            cors: expanded.said(|rule| rule.cors.as_ref()).map(|(_, cors)| cors.clone()),
            act,
        }
    }

    fn forwarding(&mut self, expanded: &Expanded<'_>, routes: &[VirtualRoute], asked: &[Port]) -> Forwarding {
        let author = expanded.author();
        let field = format!("spec.http[{}]", author.index);
        let backends = self.backends(author, &field, routes, asked);
        let timeout = expanded.said(|rule| rule.timeout.as_ref()).map(|(_, timeout)| *timeout);
        let retries = expanded.said(|rule| rule.retries.as_ref()).map(|(_, retries)| retries);
        let mirrors = expanded.said(|rule| rule.mirrors.as_ref());
        let mirrors = mirrors.map(|(written, mirrors)| {
            let at = At {
                object: written.object,
                line: written.rule.line,
                field: format!("spec.http[{}]", written.index),
                then: "no copies are sent there",
            };
            let mut mirror = |mirror: &weir_manifest::VirtualMirror| Mirror {
                target: self.target(&at, &mirror.destination, asked),
                percent: mirror.percent,
            };
            mirrors.iter().map(&mut mirror).collect()
        });
        Forwarding {
            backends,
            rewrite: expanded.said(|rule| rule.rewrite.as_ref()).map(|(_, one)| one.clone()).unwrap_or_default(),
            timeouts: Timeouts::new(timeout, retries.and_then(|retries| retries.attempt)),
            retries: retries.map(|retries| retries.policy.clone()).unwrap_or_default(),
            mirrors: mirrors.unwrap_or_default(),
            session: None,
        }
    }

    fn backends(&mut self, author: Written<'_>, field: &str, routes: &[VirtualRoute], asked: &[Port]) -> Backends {
        let mut backends = Vec::with_capacity(routes.len());
        for (index, route) in routes.iter().enumerate() {
            let field = format!("{field}.route[{index}].destination");
            let at = At { object: author.object, line: route.line, field, then: REFUSED };
            let target = self.target(&at, &route.destination, asked);
            let (request, response) = (route.headers.request.clone(), route.headers.response.clone());
            backends.push((route.weight, Backend { target, request, response }));
        }
        if has_no_weight(routes) {
            let message = "the weights add up to 0, expected at least one of 1 or more: requests are refused with 503";
            let field = format!("{field}.route");
            self.told.tell(author.object, author.rule.line, field, FindingReason::Invalid, message);
        }
        Backends::of_virtual_service(backends)
    }
}

/// Whether there are several destinations, and none has a weight.
pub(super) fn has_no_weight(routes: &[VirtualRoute]) -> bool {
    routes.len() > 1 && routes.iter().all(|route| route.weight.unwrap_or(0) == 0)
}

/// The line of a rule, if it came from a file.
pub(super) fn line(line: usize) -> Option<u32> {
    u32::try_from(line).ok().filter(|line| *line > 0)
}

/// The ports of a service that matches may be about.
fn asked_ports(matches: &[VirtualMatch], service: &Service) -> Vec<Port> {
    let is_asked = |port: &Port| {
        matches.is_empty() || matches.iter().any(|asked| asked.asker.port.is_none_or(|asked| asked == *port))
    };
    service.ports.iter().map(|port| port.port).filter(is_asked).collect()
}

/// A match, as routes ask it.
pub(super) fn matched(asked: &VirtualMatch) -> Match {
    Match {
        name: asked.name.clone().or_else(|| asked.stat_prefix.clone()),
        speech: Speech::Http,
        path: asked.uri.as_ref().map(|uri| uri.path().clone()),
        method: asked.method.clone(),
        scheme: asked.scheme.clone(),
        authority: asked.authority.clone(),
        headers: asked.headers.clone(),
        without_headers: asked.without_headers.clone(),
        query: asked.query.clone(),
        asker: asked.asker.clone(),
    }
}

/// Whether a rule is for requests to a port.
pub(super) fn is_for(rule: &Rule, port: Port) -> bool {
    rule.matches.is_empty() || rule.matches.iter().any(|asked| asked.asker.port.is_none_or(|asked| asked == port))
}

/// A rule that refuses everything.
pub(super) fn refused(why: String) -> Rule {
    let nowhere = Backend::new(Target::Invalid(why.into()));
    Rule::new(0, Act::Forward(Box::new(Forwarding::to(Backends::of_virtual_service(vec![(None, nowhere)])))))
}

/// Behind the rules there are: requests to these ports, for which there is none, go to the service itself, as without any.
pub(super) fn open(object: &mut RouteObject, service: &Service, ports: &BTreeSet<Port>) {
    if ports.is_empty() {
        return;
    }
    let itself = Destination { host: service.name.hostname.clone(), port: None, subset: None };
    let backends = Backends::of_virtual_service(vec![(None, Backend::new(Target::Valid(itself)))]);
    let to_port =
        |port: &Port| Match { asker: AskerMatch { port: Some(*port), ..AskerMatch::default() }, ..Match::default() };
    object.rules.push(Rule {
        name: Some("no rule is for this port".into()),
        matches: ports.iter().map(to_port).collect(),
        ..Rule::new(object.rules.len(), Act::Forward(Box::new(Forwarding::to(backends))))
    });
}
