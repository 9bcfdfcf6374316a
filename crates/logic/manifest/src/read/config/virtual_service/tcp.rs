//! Rules for connections. Istio `TCPRoute`, `TLSRoute`.

use std::net::IpAddr;

use ipnet::IpNet;
use weir_request::HostPattern;
use weir_route::TcpMatch;

use super::Reading;
use crate::{
    error::Cause,
    object::{VirtualRoute, VirtualTcp, VirtualTcpMatch, VirtualTls, VirtualTlsMatch},
    read::authorization::canonical,
    reader::{At, Fields},
};

const SUBNET: &str = "an IP address or a CIDR";
const ROUTE: &[&str] = &["destination", "weight"];

impl Reading<'_> {
    /// One of `tcp`.
    pub(super) fn tcp(&mut self, at: &At<'_>) -> Option<VirtualTcp> {
        let fields = self.reader.fields(at, &["match", "route"])?;
        let matches = self.matches(&fields, Self::tcp_match);
        let routes = self.required_routes(&fields);
        Some(VirtualTcp { line: at.node.line, matches, routes })
    }

    /// One of `tls`.
    pub(super) fn tls(&mut self, at: &At<'_>) -> Option<VirtualTls> {
        let fields = self.reader.fields(at, &["match", "route"])?;
        let matches = self.matches(&fields, Self::tls_match);
        if fields.field("match").is_none_or(|at| at.node.is_empty_list()) {
            let cause = Cause::Missing { expected: "at least one match with sniHosts" };
            self.reader.fail_at(fields.path("match"), fields.line("match"), cause);
        }
        let routes = self.required_routes(&fields);
        Some(VirtualTls { line: at.node.line, matches, routes })
    }

    fn required_routes(&mut self, fields: &Fields<'_>) -> Vec<VirtualRoute> {
        if fields.field("route").is_none_or(|at| at.node.is_empty_list()) {
            let cause = Cause::Missing { expected: "at least one destination" };
            self.reader.fail_at(fields.path("route"), fields.line("route"), cause);
        }
        self.routes(fields, ROUTE)
    }

    fn tcp_match(&mut self, at: &At<'_>) -> Option<VirtualTcpMatch> {
        self.counts_match(at)?;
        let known = &["destinationSubnets", "gateways", "port", "sourceLabels", "sourceNamespace", "sourceSubnet"];
        let fields = self.reader.fields(at, known)?;
        let source = match self.reader.some_text(fields.field("sourceSubnet")) {
            Some((text, at)) => Some(self.subnet(&at, text)?),
            None => None,
        };
        Some(VirtualTcpMatch { asked: self.asked(&fields), source })
    }

    fn tls_match(&mut self, at: &At<'_>) -> Option<VirtualTlsMatch> {
        self.counts_match(at)?;
        let known = &["destinationSubnets", "gateways", "port", "sniHosts", "sourceLabels", "sourceNamespace"];
        let fields = self.reader.fields(at, known)?;
        if fields.field("sniHosts").is_none_or(|at| at.node.is_empty_list()) {
            let cause = Cause::Missing { expected: "at least one host" };
            self.reader.fail_at(fields.path("sniHosts"), fields.line("sniHosts"), cause);
        }
        let sni_hosts =
            self.list(fields.field("sniHosts"), |reading, at, text| reading.usable(at, text.parse::<HostPattern>()));
        Some(VirtualTlsMatch { sni_hosts, asked: self.asked(&fields) })
    }

    fn asked(&mut self, fields: &Fields<'_>) -> TcpMatch {
        let destinations = self.list(fields.field("destinationSubnets"), Self::subnet);
        TcpMatch { destinations, asker: self.asker(fields), ..TcpMatch::default() }
    }

    fn subnet(&mut self, at: &At<'_>, text: &str) -> Option<IpNet> {
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.ok().map(canonical).or_else(|| self.reader.expected(at, SUBNET))
    }
}
