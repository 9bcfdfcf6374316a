//! However a path is written, a policy over it is not walked around.

use proptest::{collection::vec, prelude::*, sample::select};
use weir_authz::http::HttpField;
use weir_request::Normalization;

use super::scene::{Scene, allow, deny, header, paths, pattern, sides, to};

#[test]
fn a_deny_looks_at_every_reading_and_an_allow_must_match_each() {
    for (target, denied_by, not_allowed_by) in [
        // As the route reads it.
        ("/%61dmin", "/admin", "/x"),
        ("/x/../admin", "/admin", "/x*"),
        ("/x/%2e%2E/admin", "/admin", "/x*"),
        ("/x\\..\\admin", "/admin", "/x*"),
        ("/a%2fb", "/a%2Fb", "/a/b"),
        // Without parameters, and with escapes resolved.
        ("/admin;v=1", "/admin", "/admin;*"),
        ("/admin;v=1/x", "/admin/*", "/admin;v=1/*"),
        ("/;v/admin", "/admin", "/;v*"),
        ("/%40me", "/@me", "/%40me"),
        ("/admin;v=1", "/admin;v=1", "/admin"),
        // `/public;x` may be served as `/public`, and what follows the parameter not at all.
        ("/pub;lic", "/pub", "/pub;lic"),
        // With slashes folded: it refuses, but nothing is admitted for it.
        ("//admin", "/admin", "/admin"),
        ("/admin//x", "/admin/x", "/admin/x"),
        ("/admin%2Fx", "/admin/*", "/admin/*"),
        ("/admin%5cx", "/admin/{*}", "/admin/{*}"),
        ("/admin;v%2Fx", "/admin/x", "/admin/x"),
    ] {
        let deny = [deny("d", vec![to(vec![paths(denied_by)])])];
        assert_eq!(Scene::target(target).decided(&deny), "deny by d[0]", "{target} {denied_by}");
        let allow = [allow("a", vec![to(vec![paths(not_allowed_by)])])];
        assert_eq!(Scene::target(target).decided(&allow), "deny", "{target} {not_allowed_by}");
    }
    for (target, spared) in [
        ("/a", "!/a"),
        // What is spared as the route has it is spared.
        ("/group%2Fproject", "!/{*}"),
        ("/a//b", "!/a//b"),
    ] {
        let deny = [deny("d", vec![to(vec![paths(spared)])])];
        assert_eq!(Scene::target(target).decided(&deny), "allow", "{target} {spared}");
    }
    for (target, admitted) in [("/group%2Fproject", "/{*}"), ("/a//b", "/a//b"), ("/a;x", "/a*")] {
        let allow = [allow("a", vec![to(vec![paths(admitted)])])];
        assert_eq!(Scene::target(target).decided(&allow), "allow by a[0]", "{target} {admitted}");
    }
    // What ALLOW excludes is excluded however it is written.
    for target in ["/admin", "//admin", "/x%2F%2Fadmin", "/admin;x", "/x/..//admin/x"] {
        let allow = [allow("a", vec![to(vec![paths("!/admin* !*/admin")])])];
        assert_eq!(Scene::target(target).decided(&allow), "deny", "{target}");
    }
}

/// One way to write a character of a path.
fn written(plain: char) -> BoxedStrategy<String> {
    let escape = |upper: bool| match upper {
        true => format!("%{:02X}", u32::from(plain)),
        false => format!("%{:02x}", u32::from(plain)),
    };
    match plain {
        '/' => {
            const SLASHES: [&str; 13] =
                ["/", "/", "/", "//", "\\", "/./", "/x/../", "/%2e/", "/x/%2E%2e/", "%2F", "%5c", ";v=1/", "/;v/"];
            select(&SLASHES[..]).prop_map(str::to_owned).boxed()
        }
        _ => prop_oneof![3 => Just(plain.to_string()), 1 => Just(escape(true)), 1 => Just(escape(false))].boxed(),
    }
}

/// A path, written in some way: the first slash as itself, and perhaps a parameter at its end.
fn spelling(path: &'static str) -> impl Strategy<Value = String> {
    let rest: Vec<BoxedStrategy<String>> = path.chars().skip(1).map(written).collect();
    let first = select(&["/", "\\", "//", "/./", "/x/../"][..]);
    (first, rest, select(&["", ";v=1", "?x=/public"][..]))
        .prop_map(|(first, rest, end)| format!("{first}{}{end}", rest.concat()))
}

fn level() -> impl Strategy<Value = Normalization> {
    select(vec![Normalization::Base, Normalization::MergeSlashes, Normalization::DecodeAndMergeSlashes])
}

/// Pieces of which paths are made that mean something else to others.
fn any_target() -> impl Strategy<Value = String> {
    const PIECES: [&str; 22] = [
        "/", "/", "/", "//", "\\", "public", "public", "admin", ".", "..", "%2e", "%2E", "%2F", "%5c", ";", ";x=1",
        "%3b", "%61dmin", "a", "%252f", "%C3%A9", "*",
    ];
    vec(select(&PIECES[..]), 0..9).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_path_is_denied_however_it_is_written(target in spelling("/admin/secret"), level in level()) {
        for pattern in ["/admin/secret", "/admin*", "/admin/*", "*/secret", "/admin/{*}", "/{*}/secret", "/admin/{**}"] {
            let rule = to(vec![HttpField::Methods(sides("GET")), paths(pattern)]);
            let policies = [allow("a", vec![to(vec![header("x", "!*")])]), deny("d", vec![rule])];
            let scene = Scene { level, ..Scene::target(&target) };
            prop_assert!(!scene.admitted(&policies), "{} {}", target, pattern);
        }
    }

    #[test]
    fn what_the_route_sees_is_what_is_denied(target in any_target(), level in level()) {
        let scene = Scene { level, ..Scene::target(&target) };
        let seen = scene.see(|facts| facts.request.path().as_str().to_owned());
        if let Some(path) = seen.filter(|path| !path.contains('*')) {
            prop_assert!(!scene.admitted(&[deny("d", vec![to(vec![HttpField::Paths(weir_model::Sides::any([pattern(&path)]))])])]));
            let admits = allow("a", vec![to(vec![HttpField::Paths(weir_model::Sides::none([pattern(&path)]))])]);
            prop_assert!(!scene.admitted(&[admits]));
        }
    }

    #[test]
    fn what_is_admitted_is_served_where_it_was_allowed(target in any_target(), level in level()) {
        let scene = Scene { level, ..Scene::target(&target) };
        let outside = |path: &str| !path.starts_with("/public");
        if scene.admitted(&[allow("a", vec![to(vec![paths("/public*")])])]) {
            let served = scene.see(|facts| facts.request.path().as_served().into_owned()).unwrap();
            let seen = scene.see(|facts| facts.request.path().as_str().to_owned()).unwrap();
            prop_assert!(!outside(&served) && !outside(&seen), "{}: {} {}", target, seen, served);
        }
        // And what is denied outside is not served outside.
        if scene.admitted(&[deny("d", vec![to(vec![paths("!/public*")])])]) {
            let served = scene.see(|facts| facts.request.path().as_served().into_owned()).unwrap();
            prop_assert!(!outside(&served), "{}: {}", target, served);
        }
    }
}
