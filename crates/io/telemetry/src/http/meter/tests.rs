//! What is counted, and under which labels.

use std::{collections::BTreeMap, time::Duration};

use hyper::HeaderMap;
use weir_model::{Fact, Flag, MetricChange};

use super::*;
use crate::{Exposition, GrpcRecord, HttpParty, HttpSecurity, Metrics, fixtures::Scene, http::series::MAX_SERIES};

fn metrics() -> Metrics {
    Metrics::for_requests("waypoint", "test")
}

fn standard() -> Arc<MetricSettings> {
    Arc::default()
}

fn changed(changes: impl IntoIterator<Item = (Metric, MetricChange)>) -> Arc<MetricSettings> {
    Arc::new(MetricSettings { changed: changes.into_iter().collect() })
}

fn tags(tags: impl IntoIterator<Item = (&'static str, TagChange)>) -> MetricChange {
    let tags: BTreeMap<Arc<str>, TagChange> = tags.into_iter().map(|(key, tag)| (key.into(), tag)).collect();
    MetricChange { disabled: false, tags }
}

/// The lines of one metric.
fn lines(metrics: &Metrics, name: &str) -> Vec<String> {
    let text = metrics.render(Exposition::Plain);
    text.lines().filter(|line| line.starts_with(&format!("{name}{{"))).map(str::to_owned).collect()
}

#[test]
fn metrics_read_as_istios_do() {
    let (metrics, scene) = (metrics(), Scene::new());
    let mut meter = metrics.meter();
    let record = scene.record();
    meter.count(&record, &standard());
    meter.count(&HttpRecord { duration: Duration::from_secs(7_200), ..record }, &standard());
    let grpc = GrpcRecord { status: Some(14), request_messages: 3, response_messages: 2 };
    meter.count(&HttpRecord { grpc: Some(grpc), ..record }, &standard());
    meter.count(
        &HttpRecord {
            grpc: Some(GrpcRecord::default()),
            code: None,
            flags: [Flag::UpstreamRetryLimitExceeded, Flag::UpstreamConnectionFailure].into_iter().collect(),
            source: HttpParty { workload: None, identity: Some(&scene.ui_id) },
            destination: HttpParty::default(),
            service: None,
            security: HttpSecurity::None,
            ..record
        },
        &standard(),
    );
    let tcp = meter.connection(
        &TcpSubject {
            source: record.source,
            destination: record.destination,
            service: record.service,
            flags: weir_model::Flags::NONE,
            security: HttpSecurity::MutualTls,
        },
        &standard(),
    );
    tcp.opened();
    tcp.sent(1_000);
    tcp.received(70);
    tcp.closed();
    let text = metrics.render(Exposition::Plain);
    insta::assert_snapshot!("requests", text);
}

#[test]
fn workers_count_apart_and_are_added_up_and_nothing_is_lost_when_one_leaves() {
    let (metrics, scene) = (metrics(), Scene::new());
    let record = scene.record();
    let mut meters = [metrics.meter(), metrics.meter()];
    let total = |metrics: &Metrics| {
        let lines = lines(metrics, "istio_requests_total");
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines[0].rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    for (round, want) in [(1, 2), (2, 4), (3, 6)] {
        for meter in &mut meters {
            meter.count(&record, &standard());
        }
        assert_eq!(total(&metrics), want, "round {round}");
        meters[0].forget();
    }
    drop(meters);
    metrics.forget_idle();
    assert_eq!(total(&metrics), 6, "counted on since the last time");
    metrics.forget_idle();
    assert_eq!(lines(&metrics, "istio_requests_total"), Vec::<String>::new(), "nobody counts there any more");
}

#[test]
fn a_change_of_one_metric_leaves_the_others_as_they_are() {
    let scene = Scene::new();
    let mut headers = HeaderMap::new();
    headers.insert("x-team", "a\"b\n".replace('\n', " ").parse().unwrap());
    let record = HttpRecord { request_headers: Some(&headers), ..scene.record() };
    let set = |fact| TagChange::Set(fact);
    let header = |name: &str| set(Fact::RequestHeader(name.into()));
    for (change, present, absent) in [
        (tags([("source_app", TagChange::Remove)]), vec![], vec!["source_app"]),
        (tags([("source_app", set(Fact::Method))]), vec!["source_app=\"GET\",source_version"], vec![]),
        (tags([("team", header("x-team"))]), vec!["mutual_tls\",team=\"a\\\"b \"}"], vec![]),
        (tags([("team", header("x-none"))]), vec!["team=\"unknown\""], vec![]),
        (
            tags([
                ("b", set(Fact::ResponseCode)),
                ("a", set(Fact::Literal("x".into()))),
                ("source_app", TagChange::Remove),
            ]),
            vec!["a=\"x\",b=\"200\"}"],
            vec!["source_app"],
        ),
    ] {
        let metrics = metrics();
        let mut meter = metrics.meter();
        let other = tags([("kind", set(Fact::Protocol))]);
        let settings = changed([(Metric::RequestCount, change.clone()), (Metric::ResponseSize, other)]);
        meter.count(&record, &settings);
        meter.count(&record, &settings);
        let counted = lines(&metrics, "istio_requests_total");
        assert_eq!(counted.len(), 1, "{change:?}: {counted:?}");
        assert!(counted[0].ends_with(" 2"), "{counted:?}");
        for part in present {
            assert!(counted[0].contains(part), "{part} is not in {counted:?}");
        }
        for part in absent {
            assert!(!counted[0].contains(part), "{part} is in {counted:?}");
        }
        let sizes = lines(&metrics, "istio_response_bytes_count");
        assert!(sizes[0].contains("kind=\"HTTP/1.1\"") && sizes[0].contains("source_app=\"ui\""), "{sizes:?}");
        let durations = lines(&metrics, "istio_request_duration_milliseconds_count");
        assert!(durations[0].contains("source_app=\"ui\"") && !durations[0].contains("kind"), "{durations:?}");
    }
}

#[test]
fn a_metric_that_is_disabled_is_not_counted() {
    let (metrics, scene) = (metrics(), Scene::new());
    let disabled = MetricChange { disabled: true, tags: BTreeMap::new() };
    let settings = changed([(Metric::RequestSize, disabled.clone()), (Metric::TcpSent, disabled)]);
    let mut meter = metrics.meter();
    let record = scene.record();
    meter.count(&record, &settings);
    let tcp = TcpSubject {
        source: record.source,
        destination: record.destination,
        service: record.service,
        flags: record.flags,
        security: record.security,
    };
    let tcp = meter.connection(&tcp, &settings);
    tcp.sent(5);
    tcp.received(6);
    assert_eq!(lines(&metrics, "istio_request_bytes_count"), Vec::<String>::new());
    assert_eq!(lines(&metrics, "istio_tcp_sent_bytes_total"), Vec::<String>::new());
    assert_eq!(lines(&metrics, "istio_response_bytes_count").len(), 1);
    assert_eq!(lines(&metrics, "istio_tcp_received_bytes_total").len(), 1);
}

#[test]
fn labels_that_coincide_once_one_is_removed_are_one_series() {
    let (metrics, scene) = (metrics(), Scene::new());
    let settings = changed([(Metric::RequestCount, tags([("response_code", TagChange::Remove)]))]);
    let mut meter = metrics.meter();
    for code in [200, 404, 503] {
        meter.count(&HttpRecord { code: Some(code), ..scene.record() }, &settings);
    }
    let counted = lines(&metrics, "istio_requests_total");
    assert_eq!(counted.len(), 1, "{counted:?}");
    assert!(counted[0].ends_with(" 3"), "{counted:?}");
    assert_eq!(lines(&metrics, "istio_response_bytes_count").len(), 3);
}

#[test]
fn series_are_bounded_and_what_is_beyond_is_counted_all_the_same() {
    let (metrics, scene) = (metrics(), Scene::new());
    let settings = changed([(Metric::RequestCount, tags([("path", TagChange::Set(Fact::Path))]))]);
    let mut meter = metrics.meter();
    // Two sets of labels for each request: the changed metric's own, and one that they share.
    let requests = MAX_SERIES + 100;
    for i in 0..requests {
        meter.count(&HttpRecord { path: &format!("/{i}"), ..scene.record() }, &settings);
    }
    let counted = lines(&metrics, "istio_requests_total");
    let total: usize = counted.iter().map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum();
    assert_eq!((counted.len(), total), (MAX_SERIES, requests));
    let beyond = counted.iter().find(|line| line.contains("path=\"unknown\"")).expect("a series of what is beyond");
    assert!(beyond.contains("reporter=\"waypoint\",source_workload=\"unknown\""), "{beyond}");
    assert!(beyond.ends_with(" 101"), "{beyond}");
    let text = metrics.render(Exposition::Plain);
    assert!(text.contains("weir_requests_beyond_series_total 101"), "how many were beyond is told");
}

#[test]
fn what_was_seen_before_is_counted_without_an_allocation() {
    let (metrics, scene, settings) = (metrics(), Scene::new(), standard());
    let mut meter = metrics.meter();
    let grpc = Some(GrpcRecord { status: Some(0), request_messages: 1, response_messages: 1 });
    let records =
        [scene.record(), HttpRecord { code: Some(404), ..scene.record() }, HttpRecord { grpc, ..scene.record() }];
    let mut count = || records.iter().for_each(|record| meter.count(record, &settings));
    count();
    let counted = allocation_counter::measure(|| (0..100).for_each(|_| count()));
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

#[test]
fn every_metric_and_every_label_of_requests_is_in_telemetry_md() {
    const DOCUMENT: &str = include_str!("../../../../../../docs/telemetry.md");
    let (metrics, scene) = (metrics(), Scene::new());
    metrics.meter().count(&scene.record(), &standard());
    let text = metrics.render(Exposition::Plain);
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for name in names.filter(|name| *name != "istio_build") {
        assert!(DOCUMENT.contains(&format!("| `{name}` |")), "docs/telemetry.md does not explain {name}");
    }
    let line = lines(&metrics, "istio_requests_total").remove(0);
    let (_, labels) = line.split_once('{').unwrap();
    let mut rest = DOCUMENT.split_once("Labels, in their order: ").unwrap().1;
    for label in labels.split("\",").filter_map(|label| label.split_once('=')) {
        let name = format!("`{}`", label.0);
        assert!(rest.starts_with(&name), "docs/telemetry.md has another label than {name} at {:.40}", rest);
        rest = rest[name.len()..].trim_start_matches([',', '\n', ' ']);
    }
    assert!(rest.starts_with(". What is not known"), "docs/telemetry.md has a label that is not there: {rest:.40}");
}
