//! A row for each field of a match.

use super::*;
use crate::{
    path::Case,
    pattern::Pattern,
    testing::{BASE, anyone, parts, request_of, segments},
};

fn is(text: &str) -> StringMatch {
    StringMatch::Exact(text.into())
}

fn begins(text: &str) -> StringMatch {
    StringMatch::Prefix(text.into())
}

fn like(text: &str) -> StringMatch {
    StringMatch::Regex(Pattern::new(text).unwrap())
}

fn header(name: &str, wanted: StringMatch) -> Vec<(HeaderName, StringMatch)> {
    vec![(name.parse().unwrap(), wanted)]
}

fn any() -> Match {
    Match::default()
}

/// A row for each field, with a request that it is for and one that it is not for.
#[test]
fn every_field_is_asked() {
    let authority = |authority| weir_request::Parts { authority, ..parts("GET", "/") };
    let scheme = |scheme| weir_request::Parts { scheme, ..parts("GET", "/") };
    let at = |target| parts("GET", target);
    let method = |method| parts(method, "/");
    let query = |wanted| Match { query: vec![("q".into(), wanted)], ..any() };
    let any_case = PathMatch::prefix("/A", Case::Ignored, BASE).unwrap();
    assert!(any().holds(&request_of(at("/")), &anyone()));
    for (name, asked, yes, no) in [
        ("uri", Match { path: Some(segments("/a")), ..any() }, at("/a?b"), at("/b")),
        ("ignoreUriCase", Match { path: Some(any_case), ..any() }, at("/aB"), at("/b")),
        ("uri is normalised", Match { path: Some(segments("/a")), ..any() }, at("/b/../%61"), at("/a/../b")),
        ("scheme", Match { scheme: Some(is("https")), ..any() }, scheme("https"), scheme("http")),
        ("method exact", Match { method: Some(is("POST")), ..any() }, method("POST"), method("post")),
        ("method prefix", Match { method: Some(begins("P")), ..any() }, method("PUT"), method("GET")),
        ("method regex", Match { method: Some(like("GET|PUT")), ..any() }, method("GET"), method("POST")),
        ("authority", Match { authority: Some(is("a:80")), ..any() }, authority("a:80"), authority("a")),
        ("authority prefix", Match { authority: Some(begins("a.")), ..any() }, authority("a.b"), authority("b.a")),
        ("query exact", query(is("a b")), at("/?q=a%20b"), at("/?q=ab")),
        ("query prefix", query(begins("a")), at("/?x&q=ab"), at("/")),
        ("query regex", query(like("a+")), at("/?q=aa"), at("/?q=aab")),
        ("query present", query(StringMatch::Present), at("/?q"), at("/?p")),
        ("query, the first counts", query(is("1")), at("/?q=1&q=2"), at("/?q=2&q=1")),
    ] {
        assert!(asked.holds(&request_of(yes), &anyone()), "{name}");
        assert!(!asked.holds(&request_of(no), &anyone()), "not {name}");
    }
}

#[test]
fn headers_are_asked() {
    let with = |wanted| Match { headers: header("X-a", wanted), ..any() };
    let without = |wanted| Match { without_headers: header("x-a", wanted), ..any() };
    let both = Match { headers: [header("x-a", is("1")), header("x-b", is("2"))].concat(), ..any() };
    let grpc = Match { speech: Speech::Grpc, ..any() };
    for (name, asked, yes, no) in [
        ("exact", with(is("1")), &[("x-a", "1")][..], &[("x-a", "12")][..]),
        ("prefix", with(begins("1")), &[("x-a", "12")], &[("x-a", "21")]),
        ("regex", with(like("[0-9]+")), &[("x-a", "12")], &[("x-a", "12a")]),
        ("present", with(StringMatch::Present), &[("x-a", "")], &[("x-b", "1")]),
        ("given twice", with(is("1")), &[("x-a", "1")], &[("x-a", "1"), ("x-a", "2")]),
        ("given twice, as one", with(is("1,2")), &[("x-a", "1"), ("x-a", "2")], &[("x-a", "2"), ("x-a", "1")]),
        ("all", both, &[("x-a", "1"), ("x-b", "2")], &[("x-a", "1")]),
        ("withoutHeaders", without(is("1")), &[("x-a", "2")], &[("x-a", "1")]),
        ("withoutHeaders absent", without(StringMatch::Present), &[], &[("x-a", "")]),
        ("gRPC", grpc, &[("content-type", "application/grpc")], &[("content-type", "text/html")]),
    ] {
        for (headers, want) in [(yes, true), (no, false)] {
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| weir_request::Header { name, value: value.as_bytes() }).collect();
            let request = request_of(weir_request::Parts { headers: &headers, ..parts("GET", "/") });
            assert_eq!(asked.holds(&request, &anyone()), want, "{name} {headers:?}");
        }
    }
}
