//! Every field, what it is compared with, and what comes of it where there is nothing to compare.

use weir_authz::http::{HttpField, Part};
use weir_model::PolicyAction;

use super::scene::{Checked, Scene, allow, claim, deny, header, paths, policy, rule, scene, sides, to};

fn of(who: &str) -> Scene {
    let identity = (who != "plain").then(|| format!("spiffe://{who}").parse().unwrap());
    Scene { identity, ..scene() }
}

fn token(principal: &str, audiences: &str, presenter: &str, claims: &[(&str, &str)]) -> Scene {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let token = Checked {
        principal: some(principal),
        audiences: words(audiences),
        presenter: some(presenter),
        claims: claims.iter().map(|(path, texts)| ((*path).to_owned(), words(texts))).collect(),
    };
    Scene { token: Some(token), ..scene() }
}

fn for_host(authority: &str) -> Scene {
    Scene { authority: authority.into(), ..scene() }
}

/// Each row is asked of ALLOW, DENY and AUDIT, which must agree.
fn check(rows: Vec<(HttpField, Scene, bool)>) {
    for (field, scene, want) in rows {
        let asks = |action| vec![policy("p", action, vec![to(vec![field.clone()])])];
        assert_eq!(scene.admitted(&asks(PolicyAction::Allow)), want, "ALLOW {field:?} {scene:?}");
        assert_eq!(!scene.admitted(&asks(PolicyAction::Deny)), want, "DENY {field:?} {scene:?}");
        let set = super::scene::set(&asks(PolicyAction::Audit), scene.level);
        let audited = scene.see(|facts| set.decide(facts).audit.is_some()).unwrap();
        assert_eq!(audited, want, "AUDIT {field:?} {scene:?}");
    }
}

#[test]
fn a_peer_is_who_it_proves_to_be() {
    use HttpField::{Namespaces, Principals, ServiceAccounts, TrustDomains};
    let front = || of("cluster.local/ns/web/sa/front");
    let accounts = |any: &[(&str, &str)], none: &[(&str, &str)]| {
        ServiceAccounts(crate::scene::accounts(any, none).service_accounts)
    };
    let mut rows = vec![
        (accounts(&[("web", "front")], &[]), front(), true),
        (accounts(&[("web", "back"), ("shop", "front")], &[]), front(), false),
        (accounts(&[], &[("web", "front")]), front(), false),
        (accounts(&[], &[("web", "back")]), front(), true),
        (accounts(&[("web", "front")], &[]), of("plain"), false),
        (accounts(&[], &[("web", "front")]), of("plain"), true),
    ];
    for (words, want) in [
        ("cluster.local/ns/web/sa/front", true),
        ("cluster.local/ns/web/*", true),
        ("*/sa/front", true),
        ("*", true),
        ("x cluster.local/ns/web/sa/front", true),
        ("cluster.local/ns/web/sa/fron", false),
        ("Cluster.local/ns/web/sa/front", false),
        ("!cluster.local/ns/web/sa/front", false),
        ("!x !*/sa/front", false),
        ("!x", true),
        ("*/sa/front !*/ns/web/sa/front", false),
    ] {
        rows.push((Principals(sides(words)), front(), want));
    }
    for (words, want) in [("web", true), ("we*", true), ("*", true), ("shop", false), ("!web", false), ("!shop", true)]
    {
        rows.push((Namespaces(sides(words)), front(), want));
    }
    for (words, want) in
        [("cluster.local", true), ("*.local", true), ("other", false), ("!cluster.local", false), ("!other", true)]
    {
        rows.push((TrustDomains(sides(words)), front(), want));
    }
    // In plaintext nobody is any of them.
    for (words, want) in [("*", false), ("x", false), ("!*", true), ("!x", true)] {
        rows.push((Principals(sides(words)), of("plain"), want));
        rows.push((Namespaces(sides(words)), of("plain"), want));
        rows.push((TrustDomains(sides(words)), of("plain"), want));
    }
    check(rows);
}

#[test]
fn addresses_and_ports_are_those_of_peer_client_and_service() {
    use HttpField::{DestinationIps, DestinationPorts, RemoteIps, SourceIps};
    let proxied =
        |peer: &str, client: &str| Scene { address: peer.parse().unwrap(), remote: client.parse().unwrap(), ..scene() };
    let v6 = || {
        let mut scene = proxied("fd00::1", "2001:db8::9");
        scene.destination.address = "fd00::7".parse().unwrap();
        scene
    };
    check(vec![
        (SourceIps(sides("10.1.0.0/16")), proxied("10.1.2.3", "192.0.2.1"), true),
        (SourceIps(sides("192.0.2.0/24")), proxied("10.1.2.3", "192.0.2.1"), false),
        (SourceIps(sides("!192.0.2.0/24")), proxied("10.1.2.3", "192.0.2.1"), true),
        (SourceIps(sides("10.1.2.3/32")), proxied("::ffff:10.1.2.3", "192.0.2.1"), true),
        (SourceIps(sides("fd00::/8 10.0.0.0/8")), v6(), true),
        (RemoteIps(sides("192.0.2.0/24")), proxied("10.1.2.3", "192.0.2.1"), true),
        (RemoteIps(sides("10.1.0.0/16")), proxied("10.1.2.3", "192.0.2.1"), false),
        (RemoteIps(sides("!192.0.2.1/32")), proxied("10.1.2.3", "::ffff:192.0.2.1"), false),
        (RemoteIps(sides("2001:db8::/32")), v6(), true),
        (RemoteIps(sides("0.0.0.0/0")), v6(), false),
        (DestinationIps(sides("10.0.0.7/32")), scene(), true),
        (DestinationIps(sides("!10.0.0.7/32")), scene(), false),
        (DestinationIps(sides("fd00::7/128")), v6(), true),
        (DestinationPorts(sides("80")), scene(), true),
        (DestinationPorts(sides("8080 443")), scene(), false),
        (DestinationPorts(sides("!80")), scene(), false),
        (DestinationPorts(sides("!8080")), scene(), true),
    ]);
}

#[test]
fn a_host_is_one_in_any_case_and_at_any_port_unless_one_is_named() {
    let mut rows = Vec::new();
    for (words, authority, want) in [
        ("shop.example.com", "shop.example.com", true),
        ("shop.example.com", "SHOP.Example.com", true),
        ("Shop.Example.COM", "shop.example.com", true),
        ("shop.example.com", "shop.example.com:8080", true),
        ("shop.example.com", "shop.example.com.", true),
        ("shop.example.com.", "shop.example.com", true),
        ("shop.example.com", "a.shop.example.com", false),
        ("*.example.com", "Shop.example.com:1", true),
        ("*.example.com.", "shop.example.com", true),
        ("*.example.com", "example.com", false),
        ("shop.*", "shop.example.com:80", true),
        ("shop.*", "Xshop.example.com", false),
        ("*", "anything:80", true),
        ("shop:80", "shop:80", true),
        ("shop:80", "SHOP.:80", true),
        ("shop:80", "shop:0080", true),
        ("shop:80", "shop", false),
        ("shop:80", "shop:81", false),
        ("shop:*", "shop:81", true),
        ("shop:*", "shop", false),
        ("*:81", "shop:81", true),
        ("*:81", "shop:8181", false),
        ("10.0.0.1", "10.0.0.1:80", true),
        ("10.0.0.1", "[::ffff:10.0.0.1]:80", true),
        ("10.0.*", "10.0.0.1", true),
        ("[fd00::1]", "[FD00:0::1]:80", true),
        ("[fd00:0::1]:80", "[fd00::1]:80", true),
        ("[fd00::1]:80", "[fd00::1]", false),
        ("[fd00:*", "[fd00::1]:80", true),
        ("*::1]", "[fd00::1]:80", true),
        ("!shop", "shop:80", false),
        ("!SHOP", "shop", false),
        ("!shop:81", "shop:80", true),
        ("!*.example.com", "shop", true),
        ("no_host/at-all", "shop", false),
    ] {
        rows.push((HttpField::Hosts(sides(words)), for_host(authority), want));
    }
    check(rows);
}

#[test]
fn a_method_is_what_was_sent() {
    let mut rows = Vec::new();
    for (words, method, want) in [
        ("GET", "GET", true),
        ("GET HEAD", "HEAD", true),
        ("GET", "get", false),
        ("P*", "PATCH", true),
        ("*T", "POST", true),
        ("*", "BREW", true),
        ("!GET", "GET", false),
        ("!GET", "get", true),
        ("!*", "GET", false),
        ("P* !PUT", "PUT", false),
    ] {
        rows.push((HttpField::Methods(sides(words)), Scene { method: method.into(), ..scene() }, want));
    }
    check(rows);
}

#[test]
fn a_path_is_compared_without_its_query() {
    let mut rows = Vec::new();
    for (words, target, want) in [
        ("/a", "/a?b=/c", true),
        ("/a*", "/abc", true),
        ("*.jpg", "/a/b.jpg?x", true),
        ("*", "/", true),
        ("/a/{*}/c", "/a/b/c", true),
        ("/a/{**}", "/a/b/c", true),
        ("/a/{*}", "/a/b/c", false),
        ("!/a", "/a", false),
        ("!/a", "/b", true),
        ("/a* !/a/{*}", "/a/b", false),
        ("/a* !/a/{*}", "/a/b/c", true),
        ("/shop.Cart/Add", "/shop.Cart/Add", true),
        ("/%61", "/a", true),
        ("/a%2Fb", "/a%2fb", true),
    ] {
        rows.push((paths(words), Scene::target(target), want));
    }
    check(rows);
}

#[test]
fn a_header_is_compared_joined_and_absent_it_is_nothing() {
    let x = |values: &[&str]| values.iter().fold(scene(), |scene, value| scene.with_header("x", value));
    let mut rows = Vec::new();
    for (words, values, want) in [
        ("a", &["a"][..], true),
        ("A", &["a"], false),
        ("a*", &["ab"], true),
        ("*b", &["ab"], true),
        ("*", &["ab"], true),
        // Envoy `present_match`: it is there.
        ("*", &[""], true),
        ("!*", &[""], false),
        ("a", &["a", "b"], false),
        ("a*", &["a", "b"], true),
        ("a,b", &["a", "b"], true),
        ("!a", &["a"], false),
        ("!b", &["a"], true),
        ("b !a", &["b"], true),
        // Envoy: what is not there matches no value, and thus no `not_id` fails for it.
        ("a", &[], false),
        ("*", &[], false),
        ("!a", &[], true),
        ("!*", &[], true),
    ] {
        rows.push((header("X", words), x(values), want));
    }
    rows.extend([
        (header("x", "a*"), scene().with_header("x", b"a\xff"), true),
        (header("x", "a"), scene().with_header("x", b"a\xff"), false),
        (header("x", "!a*"), scene().with_header("x", b"a\xff"), false),
        (header("Host", "shop:80"), scene(), true),
        (header(":authority", "!shop:80"), scene(), false),
        (header(":method", "GET"), scene(), true),
        (header(":scheme", "https"), scene(), false),
        (header(":path", "/a?b"), Scene::target("/%61?b"), true),
        (header(":status", "*"), scene(), false),
    ]);
    check(rows);
}

#[test]
fn a_token_is_compared_by_what_it_says_and_absent_it_says_nothing() {
    use HttpField::{Audiences, Presenter, RequestPrincipals};
    let claims = [("groups", "dev ops"), ("realm/role", "admin"), ("empty", "")];
    let some = || token("iss/sub", "a b", "me", &claims);
    let (bare, none) = (|| token("", "", "", &[]), scene);
    let mut rows = Vec::new();
    for (words, with, without) in [
        ("iss/sub", true, false),
        ("iss/*", true, false),
        ("*/sub", true, false),
        ("*", true, false),
        ("iss/other", false, false),
        ("!iss/sub", false, true),
        ("!*", false, true),
        ("!iss/other", true, true),
    ] {
        let field = || RequestPrincipals(sides(words));
        rows.extend([(field(), some(), with), (field(), bare(), without), (field(), none(), without)]);
    }
    for (words, with, without) in
        [("b", true, false), ("c", false, false), ("*", true, false), ("!a", false, true), ("!c", true, true)]
    {
        let field = || Audiences(sides(words));
        rows.extend([(field(), some(), with), (field(), bare(), without), (field(), none(), without)]);
    }
    for (words, with, without) in
        [("me", true, false), ("you", false, false), ("!me", false, true), ("!you", true, true)]
    {
        let field = || Presenter(sides(words));
        rows.extend([(field(), some(), with), (field(), bare(), without), (field(), none(), without)]);
    }
    for (path, words, with, without) in [
        (&["groups"][..], "ops", true, false),
        (&["groups"], "d*", true, false),
        (&["groups"], "*", true, false),
        (&["groups"], "admin", false, false),
        (&["groups"], "!dev", false, true),
        (&["groups"], "!admin", true, true),
        (&["realm", "role"], "admin", true, false),
        (&["realm"], "*", false, false),
        (&["empty"], "*", false, false),
        (&["empty"], "!*", true, true),
        (&["missing"], "!x", true, true),
    ] {
        let field = || claim(path, words);
        rows.extend([(field(), some(), with), (field(), bare(), without), (field(), none(), without)]);
    }
    check(rows);
}

#[test]
fn a_name_of_tls_is_one_in_any_case() {
    let mut rows = Vec::new();
    for (words, sni, want) in [
        ("shop.example.com", Some("Shop.example.com"), true),
        ("Shop.example.com", Some("shop.example.com"), true),
        ("*.example.com", Some("shop.example.com"), true),
        ("*", Some("shop"), true),
        ("!shop", Some("shop"), false),
        ("!shop", Some("other"), true),
        ("shop", None, false),
        ("*", None, false),
        ("!shop", None, true),
    ] {
        rows.push((HttpField::Sni(sides(words)), Scene { sni: sni.map(str::to_owned), ..scene() }, want));
    }
    check(rows);
}

#[test]
fn entries_or_fields_and_parts_and() {
    let get = || HttpField::Methods(sides("GET"));
    let web = || HttpField::Namespaces(sides("web"));
    let other = || HttpField::Namespaces(sides("other"));
    for (rule, want) in [
        (rule(vec![]), true),
        (rule(vec![(Part::To, vec![])]), false),
        (rule(vec![(Part::To, vec![vec![]])]), false),
        (rule(vec![(Part::From, vec![vec![other()], vec![web()]])]), true),
        (rule(vec![(Part::From, vec![vec![other(), web()]])]), false),
        (rule(vec![(Part::From, vec![vec![web()]]), (Part::To, vec![vec![get(), paths("/")]])]), true),
        (rule(vec![(Part::From, vec![vec![web()]]), (Part::To, vec![vec![get(), paths("/a")]])]), false),
        (rule(vec![(Part::From, vec![vec![web()]]), (Part::When, vec![vec![header("x", "*")]])]), false),
        (rule(vec![(Part::When, vec![vec![header("x", "!*")]]), (Part::When, vec![vec![get()]])]), true),
    ] {
        assert_eq!(scene().admitted(&[allow("a", vec![rule.clone()])]), want, "{rule:?}");
        assert_eq!(!scene().admitted(&[deny("d", vec![rule.clone()])]), want, "{rule:?}");
    }
}
