//! What a span says.

use std::{fmt::Write, sync::Arc};

use weir_model::{Fact, Flag};

use super::*;
use crate::{GrpcRecord, fixtures::Scene};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn proxy() -> Proxy {
    Proxy {
        node: "waypoint~10.0.0.3~w-0.todo~todo.svc.cluster.local".to_owned(),
        mesh: "cluster.local".to_owned(),
        cluster: "Kubernetes".to_owned(),
        namespace: "todo".to_owned(),
        canonical_service: "w".to_owned(),
        canonical_revision: "latest".to_owned(),
    }
}

fn context(settings: &TracingSettings) -> TraceContext {
    let headers: HeaderMap = [("traceparent", PARENT), ("tracestate", "a=1")]
        .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
        .into_iter()
        .collect();
    TraceContext::begin(&headers, Some(settings), || 0x1111_2222_3333_4444)
}

fn text(span: &Span) -> String {
    let mut text = format!("{} in {:032x}, {:016x} after {:016x?}", span.name, span.trace, span.id, span.parent);
    writeln!(text, ", state {:?}, {:?}, error {}", span.state, span.duration, span.error).unwrap();
    for (key, value) in &span.attributes {
        writeln!(text, "{key} = {value:?}").unwrap();
    }
    text
}

fn attribute<'s>(span: &'s Span, name: &str) -> Vec<&'s Attribute> {
    span.attributes.iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect()
}

#[test]
fn spans_say_what_istios_envoy_says_and_what_open_telemetry_asks_for() {
    let (scene, settings) = (Scene::new(), TracingSettings::default());
    let span = Span::of(&scene.record(), &context(&settings), &settings, &proxy()).unwrap();
    let failed = HttpRecord {
        grpc: Some(GrpcRecord { status: Some(14), ..GrpcRecord::default() }),
        code: None,
        flags: Flag::UpstreamConnectionFailure.into(),
        upstream: None,
        service: None,
        destination: HttpParty::default(),
        user_agent: None,
        request_id: None,
        ..scene.record()
    };
    let plain = TracingSettings { istio_tags: false, ..settings };
    let failed = Span::of(&failed, &context(&plain), &plain, &proxy()).unwrap();
    insta::assert_snapshot!("spans", text(&span) + "\n" + &text(&failed));
}

#[test]
fn custom_tags_are_added_and_stand_in_place_of_others() {
    let scene = Scene::new();
    let headers: HeaderMap = [("x-team".parse().unwrap(), "blue".parse().unwrap())].into_iter().collect();
    let record = HttpRecord { request_headers: Some(&headers), ..scene.record() };
    let default = Some(Arc::from("none"));
    let header = |name: &str, default| SpanTag::Header { name: name.into(), default };
    let environment = |name: &str, default| SpanTag::Environment { name: name.into(), default };
    let format = SpanTag::Format(vec![Fact::Method, Fact::Literal("/".into()), Fact::ServerName]);
    let path = std::env::var("PATH").unwrap();
    for (tag, want) in [
        (SpanTag::Literal("x".into()), Some("x")),
        (header("x-team", None), Some("blue")),
        (header("x-none", default.clone()), Some("none")),
        (header("x-none", None), None),
        (environment("PATH", None), Some(&path)),
        (environment("WEIR_NO_SUCH_VARIABLE", default), Some("none")),
        (environment("WEIR_NO_SUCH_VARIABLE", None), None),
        (format, Some("GET/-")),
    ] {
        for name in ["mine", "http.method"] {
            let settings = TracingSettings { tags: [(name.into(), tag.clone())].into(), ..TracingSettings::default() };
            let span = Span::of(&record, &context(&settings), &settings, &proxy()).unwrap();
            let want = want.map(|text| Attribute::Text(text.to_owned()));
            let standard = (name == "http.method").then(|| Attribute::Text("GET".to_owned()));
            let want = want.or(standard);
            assert_eq!(attribute(&span, name), want.iter().collect::<Vec<_>>(), "{name}: {tag:?}");
        }
    }
}

#[test]
fn what_a_peer_writes_is_cut() {
    let (scene, settings) = (Scene::new(), TracingSettings::default());
    let long = "ä".repeat(10_000);
    let path = format!("/{long}?{long}");
    let record = HttpRecord {
        path: &path,
        original_path: None,
        authority: Some(&long),
        user_agent: Some(long.as_bytes()),
        request_id: Some(long.as_bytes()),
        method: &long,
        ..scene.record()
    };
    let span = Span::of(&record, &context(&settings), &settings, &proxy()).unwrap();
    for (key, value) in &span.attributes {
        if let Attribute::Text(text) = value {
            assert!(text.len() <= 600, "{key} has {} bytes", text.len());
        }
    }
}

#[test]
fn a_request_that_is_not_sampled_has_no_span() {
    let (scene, settings) = (Scene::new(), TracingSettings { sampling: 0, ..TracingSettings::default() });
    let context = TraceContext::begin(&HeaderMap::new(), Some(&settings), || 7);
    assert_eq!(Span::of(&scene.record(), &context, &settings, &proxy()), None);
}
