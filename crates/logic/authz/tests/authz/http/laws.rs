//! What holds of any policies and requests.

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{Index, select},
};
use weir_authz::{
    Ruling,
    http::{HttpClause, HttpExplanation, HttpField, HttpMatch, HttpPolicy, HttpRule, Part},
};
use weir_model::{PolicyAction, RulePlace, Sides, TextMatch};

use super::{
    naive,
    scene::{Checked, Scene, allow, deny, pattern, policy, rejected, scene, set, short},
};

fn either<T: Clone + std::fmt::Debug + 'static>(values: Vec<T>) -> BoxedStrategy<Sides<T>> {
    let some = vec(select(values), 1..3);
    prop_oneof![
        4 => some.clone().prop_map(Sides::any),
        2 => some.clone().prop_map(Sides::none),
        1 => (some.clone(), some).prop_map(|(any, none)| Sides { any, none }),
    ]
    .boxed()
}

fn texts(words: &[&str]) -> BoxedStrategy<Sides<TextMatch>> {
    either(words.iter().map(|word| word.parse().unwrap()).collect())
}

fn a_field() -> impl Strategy<Value = HttpField> {
    let nets =
        || either(["10.0.0.0/8", "10.0.0.1/32", "192.0.2.0/24", "::/0"].map(|net| net.parse().unwrap()).to_vec());
    let accounts =
        [("a", "x"), ("b", "x")].map(|(namespace, name)| (namespace.parse().unwrap(), name.parse().unwrap()));
    let patterns =
        ["/a", "/a*", "/a/*", "*/b", "*", "/a/{*}", "/{*}/b", "/{**}", "/a/{**}", "/a/{**}/b", "/a;p", "/a%2Fb"];
    prop_oneof![
        1 => texts(&["td/ns/a/sa/x", "td/*", "*/sa/x", "*"]).prop_map(HttpField::Principals),
        1 => texts(&["a", "b", "*"]).prop_map(HttpField::Namespaces),
        1 => either(accounts.to_vec()).prop_map(HttpField::ServiceAccounts),
        1 => texts(&["td", "t*"]).prop_map(HttpField::TrustDomains),
        1 => nets().prop_map(HttpField::SourceIps),
        1 => nets().prop_map(HttpField::RemoteIps),
        1 => nets().prop_map(HttpField::DestinationIps),
        1 => either([80, 81].into_iter().filter_map(weir_model::Port::new).collect()).prop_map(HttpField::DestinationPorts),
        1 => texts(&["i/s", "i/*", "*"]).prop_map(HttpField::RequestPrincipals),
        1 => texts(&["shop", "Shop:80", "*.shop", "s*", "*:80", "*"]).prop_map(HttpField::Hosts),
        1 => texts(&["GET", "P*", "*T", "*"]).prop_map(HttpField::Methods),
        3 => either(patterns.map(pattern).to_vec()).prop_map(HttpField::Paths),
        1 => (select(&["x", "y"][..]), texts(&["1", "1*", "*2", "*"]))
            .prop_map(|(name, values)| HttpField::Header { name: name.into(), values }),
        1 => texts(&["m", "n"]).prop_map(HttpField::Audiences),
        1 => texts(&["m", "*"]).prop_map(HttpField::Presenter),
        1 => (select(&["a", "b"][..]), texts(&["1", "2", "*"]))
            .prop_map(|(name, values)| HttpField::Claim { path: vec![name.into()], values }),
        1 => texts(&["shop", "Sh*"]).prop_map(HttpField::Sni),
    ]
}

fn a_rule() -> impl Strategy<Value = HttpRule> {
    let one = prop_oneof![30 => vec(a_field(), 1..3), 1 => Just(Vec::new())].prop_map(HttpMatch);
    let clause = (select(vec![Part::From, Part::To, Part::When]), vec(one, 0..3))
        .prop_map(|(part, alternatives)| HttpClause { part, alternatives });
    vec(clause, 0..3).prop_map(|clauses| HttpRule { place: RulePlace::default(), clauses })
}

/// Policies of different names, in no order.
fn policies() -> impl Strategy<Value = Vec<HttpPolicy>> {
    let actions = [PolicyAction::Allow, PolicyAction::Allow, PolicyAction::Deny, PolicyAction::Audit];
    let one = (select(actions.to_vec()), vec(a_rule(), 0..4), 0..30_u8);
    vec(one, 0..6).prop_map(|all| {
        let all = all.into_iter().enumerate().map(|(n, (action, rules, flags))| {
            let name = format!("p{}", n * 5 % 6);
            let made = HttpPolicy { dry_run: flags % 5 == 1, ..policy(&name, action, rules) };
            if flags == 0 { rejected(made) } else { made }
        });
        all.collect()
    })
}

fn a_token() -> impl Strategy<Value = Checked> {
    let word = || option::of(select(&["i/s", "m", "n"][..]).prop_map(str::to_owned));
    let claims = prop::collection::btree_map(
        select(&["a", "b"][..]).prop_map(str::to_owned),
        vec(select(&["1", "2", ""][..]).prop_map(str::to_owned), 0..3),
        0..3,
    );
    (word(), vec(select(&["m", "n"][..]).prop_map(str::to_owned), 0..3), word(), claims)
        .prop_map(|(principal, audiences, presenter, claims)| Checked { principal, audiences, presenter, claims })
}

fn a_scene() -> impl Strategy<Value = Scene> {
    let identity = option::weighted(0.8, select(&["td/ns/a/sa/x", "td/ns/b/sa/y", "t/ns/b/sa/x"][..]));
    let address = || select(&["10.0.0.1", "10.9.9.9", "192.0.2.1", "::ffff:10.0.0.1", "fd00::1"][..]);
    let target = vec(select(&["/", "/a", "/a", "/b", "//", ";p", "%2F", "%62", "/..", "?q"][..]), 1..5);
    let request = (select(&["GET", "POST", "PUT"][..]), select(&["shop", "Shop:80", "a.shop:81", "other"][..]), target);
    let header = (select(&["x", "y"][..]), select(&["1", "2", "12", ""][..]));
    let headers = vec(header, 0..4);
    let sni = option::of(select(&["shop", "SHOP", "x"][..]));
    (identity, (address(), address(), address()), select(&[80, 81][..]), request, headers, option::of(a_token()), sni)
        .prop_map(|(identity, (from, remote, to), port, (method, authority, target), headers, token, sni)| {
            let mut made = scene();
            made.identity = identity.map(|text| format!("spiffe://{text}").parse().unwrap());
            (made.address, made.remote) = (from.parse().unwrap(), remote.parse().unwrap());
            made.destination.address = to.parse().unwrap();
            made.destination.port = weir_model::Port::new(port).unwrap();
            (made.method, made.authority, made.target) =
                (method.into(), authority.into(), format!("/{}", target.concat()));
            made.sni = sni.map(str::to_owned);
            made.token = token;
            headers.into_iter().fold(made, |made, (name, value)| made.with_header(name, value))
        })
}

fn with(policies: &[HttpPolicy], one: HttpPolicy) -> Vec<HttpPolicy> {
    policies.iter().cloned().chain([one]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_prepared_means_what_was_written(policies in policies(), scenes in vec(a_scene(), 1..6)) {
        let set = set(&policies, scene().level);
        for scene in &scenes {
            let both = scene.see(|facts| (short(&set.decide(facts)), naive::decide(&policies, facts)));
            let Some((found, wanted)) = both else { continue };
            prop_assert_eq!(found, wanted, "{:?}", scene);
            let audited = scene.see(|facts| {
                let in_force = |one: &&HttpPolicy| one.action == PolicyAction::Audit && !one.dry_run && one.rejected.is_none();
                let wanted = policies.iter().filter(in_force).any(|one| naive::matching(one, facts).is_some());
                (set.decide(facts).audit.is_some(), wanted)
            });
            let (found, wanted) = audited.unwrap();
            prop_assert_eq!(found, wanted, "{:?}", scene);
        }
    }

    #[test]
    fn a_deny_that_matches_always_refuses(policies in policies(), rules in vec(a_rule(), 1..4), scene in a_scene()) {
        let denying = deny("denies", rules);
        if scene.see(|facts| naive::matching(&denying, facts).is_some()) == Some(true) {
            prop_assert!(!scene.admitted(&with(&policies, denying)));
        }
    }

    #[test]
    fn one_more_allow_rule_refuses_nothing_that_an_allow_rule_admitted(
        policies in policies(), rule in a_rule(), place in any::<Index>(), scene in a_scene()
    ) {
        if scene.decided(&policies).starts_with("allow by") {
            prop_assert!(scene.admitted(&with(&policies, allow("one-more", vec![rule.clone()]))));
            let mut more = policies;
            let allows: Vec<&mut HttpPolicy> =
                more.iter_mut().filter(|one| one.action == PolicyAction::Allow && one.rejected.is_none()).collect();
            let at = place.index(allows.len());
            allows.into_iter().nth(at).unwrap().rules.insert(0, rule);
            prop_assert!(scene.admitted(&more));
        }
    }

    #[test]
    fn one_more_field_never_widens_an_allow_rule_nor_one_less_narrows_a_deny_rule(
        fields in vec(a_field(), 2..4), at in any::<Index>(), scene in a_scene()
    ) {
        let mut less = fields.clone();
        less.remove(at.index(fields.len()));
        let rules = |fields: Vec<HttpField>| vec![super::scene::to(fields)];
        if scene.admitted(&[allow("a", rules(fields.clone()))]) {
            prop_assert!(scene.admitted(&[allow("a", rules(less.clone()))]));
        }
        if scene.decided(&[deny("d", rules(fields))]) == "deny by d[0]" {
            prop_assert!(!scene.admitted(&[deny("d", rules(less))]));
        }
    }

    #[test]
    fn a_rule_that_admits_would_refuse_if_it_denied(rules in vec(a_rule(), 1..4), scene in a_scene()) {
        if scene.admitted(&[allow("a", rules.clone())]) {
            prop_assert!(!scene.admitted(&[deny("d", rules)]));
        }
    }

    #[test]
    fn a_dry_run_decides_nothing_and_foresees_what_would_be_decided(policies in policies(), scene in a_scene()) {
        let earnest: Vec<HttpPolicy> = policies.iter().cloned().map(|one| HttpPolicy { dry_run: false, ..one }).collect();
        let forced: Vec<HttpPolicy> = policies.iter().filter(|one| !one.dry_run).cloned().collect();
        prop_assert_eq!(scene.decided(&policies), scene.decided(&forced));
        let set = set(&policies, scene.level);
        let foreseen = scene.see(|facts| set.decide(facts).dry_run.map(|one| one.ruling == Ruling::Allow));
        match foreseen {
            Some(Some(admitted)) => prop_assert_eq!(admitted, scene.admitted(&earnest)),
            Some(None) => prop_assert!(policies.iter().all(|one| !one.dry_run)),
            None => {}
        }
    }

    #[test]
    fn without_http_nothing_is_admitted_that_a_request_could_not_be(rules in vec(a_rule(), 1..4), scene in a_scene()) {
        let connection = |policy: HttpPolicy| {
            let set = set(&[policy], scene.level);
            set.decide_connection(&scene.peer(), &scene.destination, scene.sni.as_deref()).ruling
        };
        let scene = Scene { remote: scene.address, ..scene.clone() };
        if connection(allow("a", rules.clone())) == Ruling::Allow && scene.see(|_| ()).is_some() {
            prop_assert!(scene.admitted(&[allow("a", rules.clone())]));
        }
        if scene.decided(&[deny("d", rules.clone())]).starts_with("deny by") {
            prop_assert_eq!(connection(deny("d", rules)), Ruling::Deny);
        }
    }

    #[test]
    fn the_order_of_policies_does_not_matter(policies in policies(), scene in a_scene(), turn in any::<Index>()) {
        let mut turned = policies.clone();
        turned.reverse();
        let by = turn.index(turned.len().max(1));
        turned.rotate_left(by);
        prop_assert_eq!(scene.decided(&turned), scene.decided(&policies));
    }

    #[test]
    fn an_explanation_is_of_the_decision(policies in policies(), scene in a_scene()) {
        let set = set(&policies, scene.level);
        let both = scene.see(|facts| (set.explain(facts), set.decide(facts).ruling, set.decide(facts).ground.to_string()));
        let connection = set.explain_connection(&scene.peer(), &scene.destination, None);
        for explanation in both.iter().map(|(one, ..)| one).chain([&connection]) {
            prop_assert_eq!(explanation.policies.len(), policies.len());
            let json = serde_json::to_string(explanation).unwrap();
            prop_assert_eq!(&serde_json::from_str::<HttpExplanation>(&json).unwrap(), explanation);
            for line in explanation.to_string().lines() {
                prop_assert!(line.chars().count() < 120, "{}", line);
                prop_assert_eq!(line.trim_end(), line);
            }
        }
        let Some((explanation, ruling, reason)) = both else { return Ok(()) };
        prop_assert_eq!((explanation.verdict, &explanation.reason), (ruling, &reason));
        for considered in &explanation.policies {
            let one = policies.iter().find(|one| *one.source.name == *considered.name).unwrap();
            let json = serde_json::to_value(considered).unwrap();
            let expected = match (&one.rejected, scene.see(|facts| naive::matching(one, facts)).unwrap()) {
                (Some(_), _) => "rejected",
                (None, Some(_)) => "matches",
                (None, None) => {
                    let why = json["rules"].as_array().unwrap().iter().all(|rule| rule["why"] != "");
                    prop_assert!(why, "{}", json);
                    "doesNotMatch"
                }
            };
            prop_assert_eq!(json["outcome"].as_str(), Some(expected));
        }
    }
}
