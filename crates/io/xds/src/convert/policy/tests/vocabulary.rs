//! Policies and connections of few words, so that they meet often.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::{collection::vec, option, prelude::*, sample::select};
use weir_authz::{Compiled, Decision, Destination, Peer, PolicySet};
use weir_model::{
    Clause, Match, Policy, PolicyAction, PolicyKind, PolicyName, PolicyRule, PolicyScope, PolicySource, Port,
    RulePlace, Sides, SpiffeId, TextMatch,
};

/// A connection, with all that is proven of it.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) identity: Option<SpiffeId>,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) port: Port,
}

impl Connection {
    /// Whether it may enter where these policies hold.
    pub(super) fn may_enter(&self, policies: impl IntoIterator<Item = Policy>) -> bool {
        let policies = policies.into_iter().map(|policy| Compiled::new(policy).into());
        let peer = Peer { identity: self.identity.as_ref(), address: self.source };
        let destination = Destination { address: self.destination, port: self.port };
        match PolicySet::new(policies, None).decide(&peer, &destination) {
            Decision::Allow(_) => true,
            Decision::Deny(_) => false,
        }
    }
}

pub(super) fn connections() -> impl Strategy<Value = Connection> {
    let names = (select(vec!["cluster.local", "cluster", "other"]), select(vec!["a", "b"]), select(vec!["x", "y"]));
    let identity = names.prop_map(|(domain, namespace, account)| {
        format!("spiffe://{domain}/ns/{namespace}/sa/{account}").parse().unwrap()
    });
    let address = || select(vec!["10.0.0.1", "10.1.0.1", "192.168.0.1", "fd00::1", "::1"]);
    (option::weighted(0.8, identity), address(), address(), ports()).prop_map(
        |(identity, source, destination, port)| {
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            Connection { identity, source, destination, port }
        },
    )
}

fn ports() -> impl Strategy<Value = Port> + Clone {
    select(vec![80, 8080]).prop_map(|port| Port::new(port).unwrap())
}

fn sides<T: std::fmt::Debug + Clone>(values: impl Strategy<Value = T> + Clone) -> impl Strategy<Value = Sides<T>> {
    let list = |most: usize| prop_oneof![3 => Just(Vec::new()), 1 => vec(values.clone(), 1..most)];
    (list(4), list(3)).prop_map(|(any, none)| Sides { any, none })
}

/// A text of these words, whole or as one end.
fn texts(words: &[&'static str]) -> impl Strategy<Value = TextMatch> + Clone + use<> {
    let word = select(words.to_vec());
    prop_oneof![
        word.clone().prop_map(|word| TextMatch::Exact(word.into())),
        word.clone().prop_map(|word| TextMatch::Prefix(word.into())),
        word.prop_map(|word| TextMatch::Suffix(word.into())),
        Just(TextMatch::Present),
    ]
}

fn ranges() -> impl Strategy<Value = IpNet> + Clone {
    let all = ["10.0.0.0/8", "10.0.0.1/32", "::ffff:10.0.0.0/104", "fd00::7/8", "::/0", "0.0.0.0/0", "::ffff:0:0/90"];
    select(all.to_vec()).prop_map(|range| range.parse().unwrap())
}

fn matches() -> impl Strategy<Value = Match> {
    let principals = [
        "cluster.local/ns/a/sa/x",
        "other/ns/b/sa/y",
        "cluster.local/ns/a/",
        "cluster.local/",
        "cluster.local",
        "clu",
        "/sa/x",
        "local/ns/b/sa/y",
        "",
    ];
    let domains = ["cluster.local", "cluster", "other", "clu", "local", "cluster.local/ns", "/x", ""];
    let account = (select(vec!["a", "b"]), select(vec!["x", "y"]));
    let account = account.prop_map(|(namespace, name)| (namespace.parse().unwrap(), name.parse().unwrap()));
    (
        sides(texts(&["a", "b", "ab", ""])),
        sides(texts(&principals)),
        sides(account),
        sides(texts(&domains)),
        sides(ranges()),
        sides(ranges()),
        sides(ports()),
    )
        .prop_map(|fields| Match {
            namespaces: fields.0,
            principals: fields.1,
            service_accounts: fields.2,
            trust_domains: fields.3,
            source_ips: fields.4,
            destination_ips: fields.5,
            destination_ports: fields.6,
        })
}

pub(super) fn rules() -> impl Strategy<Value = PolicyRule> {
    let clause = vec(prop_oneof![9 => matches(), 1 => Just(Match::default())], 0..3).prop_map(Clause);
    let place = (option::of(any::<u32>()), option::of(any::<u32>()));
    (vec(clause, 0..3), place)
        .prop_map(|(clauses, (index, line))| PolicyRule { place: RulePlace { index, line }, clauses })
}

/// Any policy at all.
pub(super) fn policies() -> impl Strategy<Value = Policy> {
    let scopes = select(vec![PolicyScope::Mesh, PolicyScope::Namespace, PolicyScope::Workloads]);
    let actions = select(vec![PolicyAction::Allow, PolicyAction::Allow, PolicyAction::Deny, PolicyAction::Audit]);
    let kinds = select(vec![
        PolicyKind::Authorization,
        PolicyKind::PeerAuthentication,
        PolicyKind::RequestAuthentication,
        PolicyKind::RequiredWaypoint,
    ]);
    let source = (kinds, ".{0,9}", option::of(".{0,9}")).prop_map(|(kind, name, file)| PolicySource {
        kind,
        name: name.into(),
        file: file.map(Into::into),
    });
    let rejected = option::weighted(0.1, ".{0,9}");
    ("[a-z_.]{1,9}", scopes, actions, prop::bool::weighted(0.2), vec(rules(), 0..4), rejected, source).prop_map(
        |(name, scope, action, dry_run, rules, rejected, source)| {
            let (name, rejected) =
                (PolicyName::new("default".parse().unwrap(), &name).unwrap(), rejected.map(Into::into));
            Policy { name, scope, action, dry_run, rules, rejected, source }
        },
    )
}
