//! What the rules for one host come to, together. Istio `mergeDestinationRule` and `MergeTrafficPolicy`.
//!
//! Of several rules for a host the oldest traffic policy counts, and of each subset the oldest. A subset's own policy stands over that, field by
//! field of the top level. What is said of a port stands in place of load balancer, connection pool, outlier detection and TLS, all four of them:
//! what it leaves out is as if nobody had said anything.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use weir_balance::{Engaged, Failover, Limits, LocalityPolicy, Policy, Retries, RetryBudget};
use weir_manifest::{
    ConnectionPool, HttpVersion, LoadBalancer, PortPolicy, ProxyVersion, SubsetSpec, TlsSettings, TrafficPolicy,
    TunnelProtocol, TunnelSettings,
};
use weir_model::Port;
use weir_serving::{
    ClusterPolicy, Destinations, ForwardTunnel, HttpPool, Keepalive, PortPolicies, ProxyProtocol, Subset, TcpPool,
    Upgrade, UpstreamTls,
};

use super::{Finding, FindingReason, Rule};

/// What the rules for one host come to, of the ports there are; the oldest rule first.
pub(super) fn merge(rules: &[&Rule<'_>], ports: &BTreeSet<Port>, findings: &mut Vec<Finding>) -> Destinations {
    let Some(first) = rules.first() else { return Destinations::default() };
    let mut policy: Option<(&Rule<'_>, &TrafficPolicy)> = None;
    let mut subsets: BTreeMap<&Arc<str>, (&Rule<'_>, &SubsetSpec)> = BTreeMap::new();
    for rule in rules {
        match (&policy, &rule.spec.policy) {
            (None, Some(own)) => policy = Some((rule, own)),
            (Some((other, _)), Some(_)) => findings.push(conflict(rule, "spec.trafficPolicy".to_owned(), other)),
            (None | Some(_), None) => {}
        }
        for (i, subset) in rule.spec.subsets.iter().enumerate() {
            match subsets.entry(&subset.name) {
                Entry::Vacant(entry) => drop(entry.insert((rule, subset))),
                Entry::Occupied(entry) => findings.push(conflict(rule, format!("spec.subsets[{i}]"), entry.get().0)),
            }
        }
    }
    if let Some((rule, policy)) = policy {
        findings.extend(idle_failover(rule, policy));
    }
    let of_host = policy.map(|(_, policy)| policy);
    let subset = |(name, (_, subset)): (&Arc<str>, (&Rule<'_>, &SubsetSpec))| {
        let policies = policies(&[of_host, subset.policy.as_ref()], ports);
        (Box::from(&**name), Subset { labels: subset.labels.clone(), policies })
    };
    let origin = &first.object.origin;
    Destinations {
        object: Some(format!("{}/{}", first.object.namespace, first.object.name).into()),
        file: (origin.line > 0).then(|| format!("{}:{}", origin.file, origin.line).into()),
        policies: policies(&[of_host], ports),
        subsets: subsets.into_iter().map(subset).collect(),
    }
}

fn conflict(rule: &Rule<'_>, field: String, other: &Rule<'_>) -> Finding {
    let (namespace, name) = (&other.object.namespace, &other.object.name);
    let message = format!("DestinationRule {namespace}/{name} says it of {} already, and counts", rule.spec.host);
    Finding::new(rule.object, field, FindingReason::Conflicted, message)
}

/// Failover is asked for, and nobody would find out that an endpoint is not well.
fn idle_failover(rule: &Rule<'_>, policy: &TrafficPolicy) -> Option<Finding> {
    let LocalityPolicy::Failover(failover) = policy.own.load_balancer.as_ref()?.locality.as_ref()? else { return None };
    let Failover { regions, priority, engaged } = failover;
    let asked = !regions.is_empty() || !priority.is_empty();
    let idle = asked && *engaged == Engaged::WithOutlierDetection && policy.own.outlier.is_none();
    let (field, reason) = ("spec.trafficPolicy.loadBalancer.localityLbSetting", FindingReason::NoEffect);
    idle.then(|| Finding::new(rule.object, field, reason, "endpoints fail over only with outlierDetection"))
}

/// What counts of the policies, the widest first, for all ports and for those that any of them speaks of.
fn policies(levels: &[Option<&TrafficPolicy>], ports: &BTreeSet<Port>) -> PortPolicies {
    let at = |port: Option<Port>| {
        let levels = levels.iter().copied().flatten();
        Arc::new(levels.fold(Effective::default(), |wider, policy| wider.under(policy, port)).cluster())
    };
    let own = levels.iter().copied().flatten().flat_map(|policy| policy.ports.keys());
    let own: BTreeSet<Port> = own.filter(|port| ports.contains(port)).copied().collect();
    PortPolicies { all: at(None), ports: own.into_iter().map(|port| (port, at(Some(port)))).collect() }
}

/// What counts, field by field.
#[derive(Clone, Default)]
struct Effective {
    own: PortPolicy,
    tunnel: Option<TunnelSettings>,
    proxy_protocol: Option<ProxyVersion>,
    retry_budget: Option<RetryBudget>,
}

impl Effective {
    /// What counts when a narrower policy is laid over this one.
    fn under(self, policy: &TrafficPolicy, port: Option<Port>) -> Self {
        let PortPolicy { load_balancer, pool, outlier, tls } = &policy.own;
        let own = match port.and_then(|port| policy.ports.get(&port)) {
            Some(settings) => settings.clone(),
            None => PortPolicy {
                load_balancer: load_balancer.clone().or(self.own.load_balancer),
                pool: pool.clone().or(self.own.pool),
                outlier: outlier.clone().or(self.own.outlier),
                tls: tls.clone().or(self.own.tls),
            },
        };
        Self {
            own,
            tunnel: policy.tunnel.clone().or(self.tunnel),
            proxy_protocol: policy.proxy_protocol.or(self.proxy_protocol),
            retry_budget: policy.retry_budget.or(self.retry_budget),
        }
    }

    fn cluster(self) -> ClusterPolicy {
        let tls = self.tls();
        let LoadBalancer { algorithm, warmup, locality } = self.own.load_balancer.unwrap_or_default();
        let pool = self.own.pool.unwrap_or_default();
        let balance = Policy {
            algorithm,
            warmup,
            locality: locality.unwrap_or_default(),
            outlier: self.own.outlier,
            limits: limits(&pool, self.retry_budget),
            requests_per_connection: pool.requests_per_connection,
        };
        ClusterPolicy {
            balance,
            tcp: tcp(&pool),
            http: http(&pool),
            tls,
            proxy_protocol: self.proxy_protocol.map(|version| match version {
                ProxyVersion::V1 => ProxyProtocol::V1,
                ProxyVersion::V2 => ProxyProtocol::V2,
            }),
            tunnel: self.tunnel.map(|one| Arc::new(ForwardTunnel { host: one.host, port: one.port })),
        }
    }

    fn tls(&self) -> UpstreamTls {
        let refused = |what: &str| UpstreamTls::Refused(format!("{what}, which this version does not do").into());
        match self.tunnel.as_ref().map(|tunnel| tunnel.protocol) {
            Some(TunnelProtocol::Post) => return refused("its DestinationRule asks for a tunnel by POST"),
            Some(TunnelProtocol::Connect) | None => {}
        }
        match &self.own.tls {
            Some(TlsSettings::Own(tls)) => UpstreamTls::Own(tls.clone()),
            Some(TlsSettings::Secret(name)) => {
                refused(&format!("its DestinationRule asks for TLS by the Secret {name:?} (credentialName)"))
            }
            Some(TlsSettings::Disable) => UpstreamTls::Off,
            Some(TlsSettings::IstioMutual) | None => UpstreamTls::Mesh,
        }
    }
}

fn limits(pool: &ConnectionPool, budget: Option<RetryBudget>) -> Limits {
    let unlimited = Limits::default();
    Limits {
        connections: pool.max_connections.map_or(unlimited.connections, Into::into),
        pending: pool.max_pending.map_or(unlimited.pending, Into::into),
        requests: pool.max_requests.map_or(unlimited.requests, Into::into),
        retries: match (budget, pool.max_retries) {
            (Some(budget), _) => Retries::Budget(budget),
            (None, Some(most)) => Retries::AtMost(most.get()),
            (None, None) => unlimited.retries,
        },
    }
}

fn tcp(pool: &ConnectionPool) -> TcpPool {
    let unsaid = TcpPool::default();
    TcpPool {
        connect_timeout: pool.connect_timeout.unwrap_or(unsaid.connect_timeout),
        keepalive: pool.keepalive.map(|one| Keepalive { probes: one.probes, time: one.time, interval: one.interval }),
        max_duration: pool.max_connection_duration,
        idle_timeout: match pool.tcp_idle_timeout {
            Some(length) => Some(length).filter(|length| !length.is_zero()),
            None => unsaid.idle_timeout,
        },
    }
}

fn http(pool: &ConnectionPool) -> HttpPool {
    HttpPool {
        upgrade: match pool.version {
            HttpVersion::OfPort => Upgrade::Default,
            HttpVersion::Http2 => Upgrade::Http2,
            HttpVersion::OfClient => Upgrade::AsClient,
        },
        idle_timeout: pool.http_idle_timeout.unwrap_or(HttpPool::default().idle_timeout),
        max_streams: pool.max_streams,
    }
}
