//! Whether a request is traced, and what the next hop is told.

use proptest::prelude::*;

use super::*;

const PARENT_SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const PARENT_NOT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
/// Its chance is 99 of 10,000; nobody decided.
const ID: &str = "00000063-0000-4000-8000-000000000000";
/// The same, traced by who made it.
const ID_TRACED: &str = "0000270f-0000-9000-8000-000000000000";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
}

/// Bits in which every number is different and none is zero.
fn random() -> impl FnMut() -> u64 {
    let mut last = 0x0123_4567_0000_0000;
    move || {
        last += 0x0000_0001_0000_0001;
        last
    }
}

fn settings(sampling: u32) -> TracingSettings {
    TracingSettings { sampling, ..TracingSettings::default() }
}

fn told(context: &TraceContext, mut headers: HeaderMap) -> Vec<String> {
    context.apply(&mut headers);
    let mut lines: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort();
    lines
}

#[test]
fn who_decided_before_is_right_then_who_asks_then_the_id_then_chance() {
    let by_chance = TracingSettings { by_request_id: false, ..settings(0) };
    for (pairs, settings, want) in [
        (vec![], settings(0), false),
        (vec![], settings(SAMPLES_OF), true),
        (vec![("traceparent", PARENT_SAMPLED)], settings(0), true),
        (vec![("traceparent", PARENT_NOT)], settings(SAMPLES_OF), false),
        (vec![("traceparent", PARENT_NOT), ("x-envoy-force-trace", "true")], settings(SAMPLES_OF), false),
        (vec![("traceparent", "rubbish")], settings(SAMPLES_OF), true),
        (vec![("b3", "0")], settings(SAMPLES_OF), false),
        (vec![("b3", "d")], settings(0), true),
        (vec![("x-b3-sampled", "1")], settings(0), true),
        (vec![("x-envoy-force-trace", "true")], settings(0), true),
        (vec![("x-client-trace-id", "mine")], settings(0), true),
        (vec![("x-request-id", ID)], settings(99), false),
        (vec![("x-request-id", ID)], settings(100), true),
        (vec![("x-request-id", ID_TRACED)], settings(0), true),
        (vec![("x-request-id", ID_TRACED)], by_chance.clone(), false),
        (vec![("x-request-id", "my own")], settings(0), false),
        (vec![("x-request-id", "my own")], settings(SAMPLES_OF), true),
    ] {
        let context = TraceContext::begin(&headers(&pairs), Some(&settings), random());
        assert_eq!(context.is_reported(), want, "{pairs:?} at {}", settings.sampling);
    }
}

#[test]
fn the_next_hop_is_told() {
    let begin = |pairs: &[(&'static str, &str)], settings: Option<&TracingSettings>| {
        let headers = headers(pairs);
        let context = TraceContext::begin(&headers, settings, random());
        told(&context, headers)
    };
    let all = settings(SAMPLES_OF);
    // Without traces there is an id, and what came passes as it came.
    let lines = begin(&[("traceparent", PARENT_NOT), ("tracestate", "?")], None);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0] == format!("traceparent: {PARENT_NOT}") && lines[1] == "tracestate: ?", "{lines:?}");
    assert_eq!(&lines[2][..14], "x-request-id: ");
    assert_eq!(&lines[2][28..29], "4", "not traced: {}", lines[2]);
    // An id that came is kept, whatever it is.
    assert_eq!(begin(&[("x-request-id", "my own")], None), ["x-request-id: my own"]);
    assert!(begin(&[("x-request-id", ID)], Some(&all)).contains(&format!("x-request-id: {ID}")));
    // The same trace, another span.
    let lines = begin(&[("traceparent", PARENT_SAMPLED), ("tracestate", "a=1")], Some(&all));
    assert!(lines[0].starts_with("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-0123"), "{lines:?}");
    assert!(lines[0].ends_with("-01") && !lines[0].contains("00f067aa0ba902b7"), "{lines:?}");
    assert_eq!(lines[1], "tracestate: a=1");
    // A new trace, told in W3C's form, and in the id.
    let lines = begin(&[], Some(&all));
    assert!(lines[0].starts_with("traceparent: 00-") && lines[0].ends_with("-01"), "{lines:?}");
    assert_eq!(&lines[1][28..29], "9", "{lines:?}");
    let lines = begin(&[("x-envoy-force-trace", "1")], Some(&settings(0)));
    assert!(lines.iter().any(|line| line.starts_with("x-request-id: ") && &line[28..29] == "a"), "{lines:?}");
    // B3 in its own form; what is not legal is taken out.
    let lines = begin(&[("b3", "1"), ("tracestate", "a=1")], Some(&all));
    assert!(lines[0].starts_with("b3: 0123") && lines[0].ends_with("-1") && lines.len() == 2, "{lines:?}");
    // Nothing is told where nothing is to be.
    let quiet = TracingSettings { no_propagation: true, ..all.clone() };
    assert_eq!(
        begin(&[("b3", "1"), ("x-request-id", ID)], Some(&quiet)),
        ["b3: 1".to_owned(), format!("x-request-id: {ID}")]
    );
}

#[test]
fn a_span_is_made_only_where_it_is_to_be_reported() {
    let all = settings(SAMPLES_OF);
    let silent = TracingSettings { silent: true, ..all.clone() };
    let begin = |settings| TraceContext::begin(&HeaderMap::new(), settings, random());
    assert!(begin(Some(&all)).is_reported());
    let silent = begin(Some(&silent));
    assert!(!silent.is_reported());
    let lines = told(&silent, HeaderMap::new());
    assert!(lines[0].ends_with("-01"), "the trace goes on all the same: {lines:?}");
    assert!(!begin(None).is_reported());
}

#[test]
fn one_in_a_hundred_is_sampled_unless_something_else_is_asked_for() {
    let standard = TracingSettings::default();
    let ids = (0..SAMPLES_OF).map(|i| format!("{i:08x}-0000-4000-8000-000000000000"));
    let traced = ids.filter(|id| {
        let headers = headers(&[("x-request-id", id)]);
        TraceContext::begin(&headers, Some(&standard), random()).is_reported()
    });
    assert_eq!(traced.count(), 100);
}

proptest! {
    #[test]
    fn noise_in_headers_is_no_panic(values in proptest::collection::vec("[ -~]{0,60}", 11), bits: u64) {
        let names = ["traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled",
            "x-b3-flags", "x-request-id", "x-client-trace-id", "x-envoy-force-trace"];
        let pairs: Vec<(&'static str, &str)> = names.into_iter().zip(values.iter().map(String::as_str)).collect();
        let mut headers = headers(&pairs);
        TraceContext::begin(&headers.clone(), Some(&settings(5_000)), || bits).apply(&mut headers);
    }
}
