//! Which policy decides, and what is left of policies where there is no HTTP.

use weir_authz::{
    Destination,
    http::{HttpField, HttpPolicy, Part},
};
use weir_model::Port;

use super::scene::{
    Scene, allow, anything, audit, deny, dry, header, paths, rejected, rule, said, scene, set, short, sides, to,
};

#[test]
fn deny_comes_before_allow_and_silence_admits_unless_something_allows() {
    let nobody = || vec![to(vec![paths("/nowhere")])];
    for (policies, want) in [
        (vec![], "allow"),
        (vec![deny("d", vec![])], "allow"),
        (vec![deny("d", nobody())], "allow"),
        (vec![deny("d", vec![anything()])], "deny by d[0]"),
        (vec![allow("a", vec![])], "deny"),
        (vec![allow("a", nobody())], "deny"),
        (vec![allow("a", nobody()), allow("b", vec![to(vec![paths("/x")]), anything()])], "allow by b[1]"),
        (vec![allow("a", vec![anything()]), deny("d", vec![anything()])], "deny by d[0]"),
        (vec![allow("b", vec![anything()]), allow("a", vec![anything()])], "allow by a[0]"),
        (vec![allow("a", vec![anything()]), rejected(allow("r", vec![]))], "deny by r, rejected"),
        (vec![rejected(audit("r", vec![]))], "deny by r, rejected"),
        (vec![audit("u", vec![anything()])], "allow"),
        (vec![audit("u", vec![anything()]), allow("a", vec![])], "deny"),
        (vec![dry(deny("d", vec![anything()])), dry(allow("a", vec![])), dry(rejected(deny("r", vec![])))], "allow"),
    ] {
        assert_eq!(scene().decided(&policies), want, "{policies:?}");
    }
}

#[test]
fn what_decides_nothing_is_told_of() {
    let foreseen = |policies: &[HttpPolicy]| {
        let set = set(policies, scene().level);
        scene().see(|facts| set.decide(facts).dry_run.map(|one| said(one.ruling, &one.ground))).unwrap()
    };
    let (all, none) = (|| vec![anything()], || vec![to(vec![paths("/nowhere")])]);
    for (policies, want) in [
        (vec![allow("a", all()), audit("u", all())], None),
        (vec![dry(audit("u", all()))], Some("allow")),
        (vec![dry(deny("d", all()))], Some("deny by d[0]")),
        (vec![dry(deny("d", none()))], Some("allow")),
        (vec![allow("a", all()), dry(deny("d", all()))], Some("deny by d[0]")),
        (vec![allow("a", all()), dry(allow("b", none()))], Some("allow by a[0]")),
        (vec![allow("a", none()), dry(allow("b", all()))], Some("allow by b[0]")),
        (vec![dry(allow("b", none()))], Some("deny")),
        (vec![deny("d", all()), dry(deny("b", all()))], Some("deny by d[0]")),
        (vec![allow("a", none()), dry(deny("b", none()))], Some("deny")),
        (vec![dry(rejected(deny("r", none())))], Some("deny by r, rejected")),
    ] {
        assert_eq!(foreseen(&policies).as_deref(), want, "{policies:?}");
    }
    let audited = [audit("x", none()), audit("u", vec![to(vec![paths("/nowhere")]), anything()]), audit("v", all())];
    let set = set(&audited, scene().level);
    let first = scene().see(|facts| set.decide(facts).audit.map(|ground| ground.to_string())).unwrap();
    assert_eq!(first.as_deref(), Some("AuthorizationPolicy shop/u, spec.rules[0]"));
}

#[test]
fn without_http_what_admits_must_not_ask_for_it_and_what_denies_goes_by_the_rest() {
    let web = || HttpField::Namespaces(sides("web"));
    let port = |words: &str| HttpField::DestinationPorts(sides(words));
    let whole = |from: HttpField, operations: Vec<Vec<HttpField>>| {
        rule(vec![(Part::From, vec![vec![from]]), (Part::To, operations)])
    };
    let other = || HttpField::Namespaces(sides("other"));
    for (rule, allows, denies) in [
        (anything(), true, true),
        (whole(web(), vec![vec![port("80")]]), true, true),
        (whole(other(), vec![vec![port("80")]]), false, false),
        (whole(web(), vec![vec![paths("/a")]]), false, true),
        (whole(other(), vec![vec![paths("/a")]]), false, false),
        (whole(web(), vec![vec![paths("!/a"), port("80")]]), false, true),
        (whole(web(), vec![vec![paths("/a"), port("81")]]), false, false),
        (whole(web(), vec![vec![port("80")], vec![paths("/a")]]), false, true),
        (to(vec![HttpField::Hosts(sides("x"))]), false, true),
        (to(vec![HttpField::Methods(sides("!GET"))]), false, true),
        (to(vec![HttpField::RequestPrincipals(sides("!*"))]), false, true),
        (to(vec![header("x", "a")]), false, true),
        (to(vec![HttpField::RemoteIps(sides("10.1.2.3/32"))]), true, true),
        (to(vec![HttpField::RemoteIps(sides("!10.1.2.3/32"))]), false, false),
        (to(vec![HttpField::Sni(sides("shop"))]), true, true),
        (to(vec![HttpField::Sni(sides("!shop"))]), false, false),
    ] {
        let scene = Scene { remote: "192.0.2.1".parse().unwrap(), ..scene() };
        let destination = Destination { port: Port::new(80).unwrap(), ..scene.destination };
        let decided = |policy: HttpPolicy| {
            let set = set(&[policy], scene.level);
            let decision = set.decide_connection(&scene.peer(), &destination, Some("Shop"));
            (short(&decision), decision.audit.is_some())
        };
        let want = if allows { "allow by a[0]" } else { "deny" };
        assert_eq!(decided(allow("a", vec![rule.clone()])).0, want, "{rule:?}");
        let want = if denies { "deny by d[0]" } else { "allow" };
        assert_eq!(decided(deny("d", vec![rule.clone()])).0, want, "{rule:?}");
        assert_eq!(decided(audit("u", vec![rule.clone()])).1, allows, "{rule:?}");
    }
    let refusing = set(&[rejected(deny("r", vec![]))], scene().level);
    let decision = refusing.decide_connection(&scene().peer(), &scene().destination, None);
    assert_eq!(short(&decision), "deny by r, rejected");
}
