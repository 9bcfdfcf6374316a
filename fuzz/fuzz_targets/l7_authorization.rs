//! An AuthorizationPolicy over a service and a request: whatever they say, what would be admitted is denied if the same is denied, the path that
//! is asked for is denied however it is written, and the explanation is of the decision.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use weir_authz::{
    Destination, Peer, Ruling,
    http::{HttpClause, HttpFacts, HttpField, HttpMatch, HttpPolicies, HttpPolicy, HttpRule, Part, PathPattern},
};
use weir_compile::{Compiler, Served, WaypointName};
use weir_fuzz::settings;
use weir_manifest::{FileName, parse};
use weir_model::{PolicyAction, Port, Sides, SpiffeId, TextMatch};
use weir_request::{Header, Normalization, Parts, Request};

const LEVELS: [Normalization; 3] =
    [Normalization::Base, Normalization::MergeSlashes, Normalization::DecodeAndMergeSlashes];

fuzz_target!(|text: &str| {
    // A line of method, authority, path, and a value of the header `x`; then manifests.
    let Some((line, manifests)) = text.split_once('\n') else { return };
    let mut words = line.splitn(4, ' ');
    let [method, authority, target, value] = [(); 4].map(|()| words.next().unwrap_or_default());
    let policies = policies(manifests);
    let headers = [Header { name: "x", value: value.as_bytes() }];
    for level in LEVELS {
        let Ok(request) = Request::read(Parts { method, scheme: "http", authority, target, headers: &headers }, level)
        else {
            continue;
        };
        check(&request, &policies, level);
    }
});

/// The policies over the service `a/s`.
fn policies(manifests: &str) -> Vec<Arc<HttpPolicy>> {
    let Ok(objects) = parse(&[(FileName::new("f.yaml"), manifests)]) else { return Vec::new() };
    let mut compiler = Compiler::new(settings());
    objects.into_objects().for_each(|object| compiler.set(object));
    let namespace = || "a".parse().expect("a namespace");
    let served = Served::Service { namespace: namespace(), name: "s".into() };
    compiler.covering(&served, &WaypointName { namespace: namespace(), name: "w".into() })
}

fn check(request: &Request<'_>, policies: &[Arc<HttpPolicy>], level: Normalization) {
    let identity: SpiffeId = "spiffe://cluster.local/ns/web/sa/front".parse().expect("an identity");
    let address = "10.0.0.1".parse().expect("an address");
    let facts = HttpFacts {
        peer: Peer { identity: Some(&identity), address },
        destination: Destination { address, port: Port::new(80).expect("not zero") },
        request,
        token: None,
        remote: address,
        sni: None,
    };
    let set = |action: Option<PolicyAction>| {
        let all = policies.iter().map(|one| match action {
            Some(action) => Arc::new(HttpPolicy { action, ..HttpPolicy::clone(one) }),
            None => one.clone(),
        });
        all.collect::<Vec<_>>()
    };
    let decided = |policies: Vec<Arc<HttpPolicy>>| HttpPolicies::new(policies, level).decide(&facts).ruling;
    let force = |action| set(Some(action)).into_iter().filter(|one| !one.dry_run).collect::<Vec<_>>();
    let allows = force(PolicyAction::Allow);
    if !allows.is_empty() && decided(allows) == Ruling::Allow {
        assert_eq!(decided(force(PolicyAction::Deny)), Ruling::Deny, "what admits does not refuse");
    }
    let whole = HttpPolicies::new(set(None), level);
    let (decision, explanation) = (whole.decide(&facts), whole.explain(&facts));
    assert_eq!((explanation.verdict, &explanation.reason), (decision.ruling, &decision.ground.to_string()));
    assert!(explanation.to_string().lines().all(|line| line.chars().count() < 120), "a line too long");
    let path = request.path().as_str();
    if let Ok(pattern) = PathPattern::text(TextMatch::Exact(path.into())) {
        let fields = vec![HttpField::Paths(Sides::any([pattern]))];
        let clauses = vec![HttpClause { part: Part::To, alternatives: vec![HttpMatch(fields)] }];
        let rules = vec![HttpRule { clauses, ..HttpRule::default() }];
        let denies = policies.iter().map(|one| {
            let (action, rules) = (PolicyAction::Deny, rules.clone());
            Arc::new(HttpPolicy { action, dry_run: false, rules, rejected: None, ..HttpPolicy::clone(one) })
        });
        let denies: Vec<_> = denies.collect();
        assert!(denies.is_empty() || decided(denies) == Ruling::Deny, "{path} is not denied as it is written");
    }
}
