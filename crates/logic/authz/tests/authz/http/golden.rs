//! What people read, as they read it.

use weir_authz::http::{HttpField, HttpPolicy, Part};

use super::scene::{
    Checked, Scene, allow, anything, audit, claim, deny, dry, filed, header, paths, rejected, rule, scene, set, sides,
    to,
};

fn explain(title: &str, policies: &[HttpPolicy], scene: &Scene) -> String {
    let set = set(policies, scene.level);
    format!("# {title}\n{}\n", scene.see(|facts| set.explain(facts)).unwrap())
}

#[test]
fn an_explanation_says_the_verdict_first_and_then_everything_that_was_looked_at() {
    let get = || HttpField::Methods(sides("GET HEAD"));
    let from = |field: HttpField| (Part::From, vec![vec![field]]);
    let public = || filed(allow("public", vec![to(vec![get(), paths("/public*")])]));
    let full = || {
        filed(allow(
            "full",
            vec![
                rule(vec![from(HttpField::Principals(sides("td/ns/a/sa/b *x"))), (Part::To, vec![vec![get()]])]),
                to(vec![HttpField::Hosts(sides("!shop other:80 !a b c d e f g h"))]),
                rule(vec![(Part::To, vec![vec![paths("/a /b/{*}")], vec![HttpField::Methods(sides("!G*"))]])]),
                rule(vec![from(HttpField::RemoteIps(sides("!10.0.0.0/8")))]),
                rule(vec![from(HttpField::RequestPrincipals(sides("other/*")))]),
                rule(vec![(Part::When, vec![vec![header("x-user", "admin root")]])]),
                rule(vec![(Part::When, vec![vec![header("x-team", "!a*")]])]),
                rule(vec![(Part::When, vec![vec![claim(&["realm", "role"], "admin")]])]),
                rule(vec![(Part::When, vec![vec![HttpField::Audiences(sides("shop"))]])]),
                rule(vec![(Part::When, vec![vec![HttpField::Sni(sides("!*"))]])]),
                rule(vec![(Part::When, vec![vec![HttpField::DestinationPorts(sides("443"))]])]),
                rule(vec![(Part::When, vec![])]),
            ],
        ))
    };
    let token = |principal: &str| Checked {
        principal: Some(principal.into()),
        claims: [("realm/role".to_owned(), vec!["dev".to_owned(), "ops".to_owned()])].into(),
        ..Checked::default()
    };
    let asked = Scene { token: Some(token("iss/sub")), sni: Some("Shop".into()), ..Scene::target("/public;x=1/%41?y") }
        .with_header("x-team", "a\u{1b}[31m");
    let mut text = String::new();
    for one in [
        explain("nothing covers it", &[], &scene()),
        explain("an ALLOW rule matches", &[public()], &Scene::target("/public/a")),
        explain(
            "read in another way it is elsewhere",
            &[filed(allow("p", vec![to(vec![paths("/public/*")])]))],
            &Scene::target("/public/;x"),
        ),
        explain("and so it is not allowed", &[filed(allow("p", vec![to(vec![paths("/public;*")])]))], &asked),
        explain("everything else is told", &[full()], &asked),
        explain(
            "nothing is there to compare",
            &[full()],
            &Scene { identity: None, sni: Some("x".into()), ..scene().with_header("x-team", "a") },
        ),
        explain(
            "DENY decides, and what decides nothing is told of",
            &[
                public(),
                filed(deny("admin", vec![to(vec![paths("/admin*")])])),
                audit("all", vec![anything()]),
                dry(filed(deny("stricter", vec![anything()]))),
                rejected(allow("oauth", vec![])),
            ],
            &Scene::target("//admin"),
        ),
    ] {
        text.push_str(&one);
    }
    let connection = set(&[full(), deny("get", vec![to(vec![get()])])], scene().level);
    let explained = connection.explain_connection(&scene().peer(), &scene().destination, Some("x"));
    text.push_str(&format!("# no HTTP\n{explained}"));
    insta::assert_snapshot!(text);
}

#[test]
fn a_program_reads_the_same() {
    let policies = [filed(deny("admin", vec![to(vec![paths("/x")]), to(vec![paths("/admin*")])]))];
    let explanation = Scene::target("/admin;x").see(|facts| set(&policies, scene().level).explain(facts)).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&explanation).unwrap());
}
