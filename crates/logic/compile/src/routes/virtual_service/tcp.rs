//! Rules for connections that are not HTTP: `tcp` and `tls`.

use std::collections::BTreeSet;

use ipnet::IpNet;
use weir_manifest::{ConfigObject, VirtualRoute, VirtualTcp, VirtualTls};
use weir_model::{AppProtocol, Port, Service};
use weir_route::{AskerMatch, Audience, Backend, Backends, Destination, Target, TcpKind, TcpMatch, TcpObject, TcpRule};

use super::{
    Making, Root,
    http::{has_no_weight, line},
    target::{At, Targets},
};
use crate::routes::FindingReason;

const CLOSED: &str = "its share of connections is closed";

impl Making<'_, '_> {
    /// The rules for connections to one service. Those of TLS are asked first, as in Istio.
    pub(super) fn tcp(&mut self, at: usize, root: &Root<'_>, service: &Service, audience: Audience) -> Vec<TcpObject> {
        let (object, spec) = (root.declared.object, root.declared.spec);
        let ports = service.ports.len().max(1);
        let of_tls = spec.tls.iter().map(|rule| rule.matches.len().saturating_mul(ports));
        let count = spec.tcp.iter().map(|rule| rule.matches.len().max(1)).chain(of_tls).sum();
        let made = |kind, rules| TcpObject {
            kind,
            namespace: object.namespace.clone(),
            name: (*object.name).into(),
            file: root.declared.file(),
            created: root.created,
            audience,
            rules,
        };
        if !self.has_room(at, count) {
            let why = self.tell_no_room(root, service, "spec.tcp", "connections to it are closed");
            let backends = Backends::of_virtual_service(vec![(None, Backend::new(Target::Invalid(why.into())))]);
            let rule = TcpRule { index: 0, line: None, matches: Vec::new(), backends };
            return vec![made(TcpKind::VirtualService, vec![rule])];
        }
        let mut tls = Vec::new();
        for (index, rule) in spec.tls.iter().enumerate() {
            if let Some(rule) = self.targets.tls_rule(object, index, rule, service) {
                self.tls.insert((at, index));
                tls.push(rule);
            }
        }
        let tcp = spec.tcp.iter().enumerate();
        let tcp = tcp.map(|(index, rule)| self.targets.tcp_rule(object, index, rule, service)).collect();
        vec![made(TcpKind::VirtualServiceTls, tls), made(TcpKind::VirtualService, tcp)]
    }
}

impl Targets<'_> {
    fn tcp_rule(&mut self, object: &ConfigObject, index: usize, rule: &VirtualTcp, service: &Service) -> TcpRule {
        let from = |source: &Option<IpNet>| source.iter().copied().collect();
        let matches = rule.matches.iter().map(|one| TcpMatch { sources: from(&one.source), ..one.asked.clone() });
        let matches: Vec<TcpMatch> = matches.collect();
        self.rule(object, (index, rule.line), format!("spec.tcp[{index}]"), matches, &rule.routes, service)
    }

    /// None if it is for no port where the service speaks TLS: nobody's first bytes are read anywhere else.
    fn tls_rule(
        &mut self,
        object: &ConfigObject,
        index: usize,
        rule: &VirtualTls,
        service: &Service,
    ) -> Option<TcpRule> {
        let of_tls = service.ports.iter().filter(|port| port.protocol == AppProtocol::Tls).map(|port| port.port);
        let of_tls: Vec<Port> = of_tls.collect();
        let mut matches = Vec::new();
        for asked in &rule.matches {
            let on = |port: &Port| {
                let asker = AskerMatch { port: Some(*port), ..asked.asked.asker.clone() };
                TcpMatch { asker, names: asked.sni_hosts.clone(), ..asked.asked.clone() }
            };
            matches.extend(
                of_tls.iter().filter(|port| asked.asked.asker.port.is_none_or(|asked| asked == **port)).map(on),
            );
        }
        if matches.is_empty() {
            return None;
        }
        Some(self.rule(object, (index, rule.line), format!("spec.tls[{index}]"), matches, &rule.routes, service))
    }

    fn rule(
        &mut self,
        object: &ConfigObject,
        (index, at): (usize, usize),
        field: String,
        matches: Vec<TcpMatch>,
        routes: &[VirtualRoute],
        service: &Service,
    ) -> TcpRule {
        let is_asked = |port: &Port| matches.is_empty() || matches.iter().any(|asked| is_on(asked, *port));
        let asked: Vec<Port> = service.ports.iter().map(|port| port.port).filter(is_asked).collect();
        let mut backends = Vec::with_capacity(routes.len());
        for (index, route) in routes.iter().enumerate() {
            let field = format!("{field}.route[{index}].destination");
            let at = At { object, line: route.line, field, then: CLOSED };
            backends.push((route.weight, Backend::new(self.target(&at, &route.destination, &asked))));
        }
        if has_no_weight(routes) {
            let message = "the weights add up to 0, expected at least one of 1 or more: connections are closed";
            self.told.tell(object, at, format!("{field}.route"), FindingReason::Invalid, message);
        }
        TcpRule { index, line: line(at), matches, backends: Backends::of_virtual_service(backends) }
    }
}

fn is_on(asked: &TcpMatch, port: Port) -> bool {
    asked.asker.port.is_none_or(|asked| asked == port)
}

/// Whether a rule is for connections to a port.
pub(super) fn is_for(rule: &TcpRule, port: Port) -> bool {
    rule.matches.is_empty() || rule.matches.iter().any(|asked| is_on(asked, port))
}

/// Behind the rules there are: connections to these ports, for which there is none, go to the service itself, as without any.
pub(super) fn open(object: &mut TcpObject, service: &Service, ports: &BTreeSet<Port>) {
    if ports.is_empty() {
        return;
    }
    let itself = Destination { host: service.name.hostname.clone(), port: None, subset: None };
    let backends = Backends::of_virtual_service(vec![(None, Backend::new(Target::Valid(itself)))]);
    let to_port = |port: &Port| TcpMatch {
        asker: AskerMatch { port: Some(*port), ..AskerMatch::default() },
        ..TcpMatch::default()
    };
    let index = object.rules.len();
    object.rules.push(TcpRule { index, line: None, matches: ports.iter().map(to_port).collect(), backends });
}
