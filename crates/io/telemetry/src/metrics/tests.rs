//! The text Prometheus reads.

use weir_model::ResponseFlag;

use super::*;
use crate::{
    Reporter, SecurityPolicy,
    fixtures::{service, workload},
};

fn metrics() -> Metrics {
    let metrics = Metrics::new("weir-agent", "1.2.3");
    let (ui, db) = (workload("ui", "todo"), workload("db", "todo"));
    let store = service("db", "todo");
    let good = TcpLabels::new(
        Reporter::Source,
        Some(&ui),
        Some(&db),
        Some(&store),
        ResponseFlag::None,
        SecurityPolicy::MutualTls,
    );
    let series = metrics.series(&good);
    series.opened();
    series.opened();
    series.closed();
    series.sent(1000);
    series.received(20);
    let denied = TcpLabels::new(
        Reporter::Destination,
        Some(&ui),
        Some(&db),
        None,
        ResponseFlag::Deny,
        SecurityPolicy::MutualTls,
    );
    metrics.series(&denied).failed();
    let stranger =
        TcpLabels::new(Reporter::Destination, None, Some(&db), None, ResponseFlag::None, SecurityPolicy::Unknown);
    metrics.series(&stranger).opened();
    metrics.active_proxies.set(2);
    metrics.proxies_started.inc_by(3);
    metrics.open_inbound.inc();
    metrics.config_last_good.set(1_700_000_000);
    metrics.collect("weir_certificate_expiry_timestamp_seconds", "When a certificate expires", Kind::Gauge, || {
        vec![Sample { labels: vec![("identity", "odd\"\\\nname".to_owned())], value: Value::Whole(1_800_000_000) }]
    });
    metrics.collect("weir_ebpf_redirected", "Connections caught", Kind::Counter, || {
        vec![Sample { labels: Vec::new(), value: Value::Whole(7) }]
    });
    metrics
}

#[test]
fn the_open_metrics_text_is_as_istios_dashboards_read_it() {
    insta::assert_snapshot!(metrics().render(Exposition::OpenMetrics));
}

#[test]
fn the_plain_text_is_as_older_readers_want_it() {
    insta::assert_snapshot!(metrics().render(Exposition::Plain));
}

#[test]
fn labels_come_in_istios_order_and_total_is_not_doubled() {
    let text = metrics().render(Exposition::OpenMetrics);
    let line = text.lines().find(|l| l.starts_with("istio_tcp_sent_bytes_total{reporter=\"source\"")).unwrap();
    let inside = line.split_once('{').unwrap().1.split_once('}').unwrap().0;
    let names: Vec<_> = inside.split("\",").map(|label| label.split_once('=').unwrap().0).collect();
    let want = "reporter source_workload source_canonical_service source_canonical_revision source_workload_namespace \
        source_principal source_app source_version source_cluster destination_workload destination_workload_namespace \
        destination_principal destination_app destination_version destination_service destination_canonical_service \
        destination_canonical_revision destination_service_name destination_service_namespace destination_cluster \
        request_protocol response_flags connection_security_policy source_region source_zone destination_region \
        destination_zone";
    assert_eq!(names, want.split_ascii_whitespace().collect::<Vec<_>>());
    assert!(!text.contains("total_total"), "{text}");
}

#[test]
fn the_same_labels_are_the_same_series() {
    let metrics = Metrics::new("a", "b");
    let labels = |flag| {
        TcpLabels::new(Reporter::Source, Some(&workload("ui", "todo")), None, None, flag, SecurityPolicy::Unknown)
    };
    let (one, two) = (metrics.series(&labels(ResponseFlag::None)), metrics.series(&labels(ResponseFlag::None)));
    assert!(Arc::ptr_eq(&one, &two));
    assert!(!Arc::ptr_eq(&one, &metrics.series(&labels(ResponseFlag::Connect))));
}

#[test]
fn idle_series_are_forgotten_and_those_in_use_are_not() {
    let metrics = Metrics::new("a", "b");
    let labels = |name| {
        TcpLabels::new(
            Reporter::Source,
            Some(&workload(name, "todo")),
            None,
            None,
            ResponseFlag::None,
            SecurityPolicy::Unknown,
        )
    };
    let shown = |name: &str| metrics.render(Exposition::Plain).contains(&format!("source_workload=\"{name}\""));
    let held = metrics.series(&labels("held"));
    held.opened();
    metrics.series(&labels("busy")).opened();
    metrics.series(&labels("gone")).opened();
    metrics.forget_idle();
    metrics.series(&labels("busy")).opened();
    assert!(shown("gone"), "counted on since the sweep before");
    metrics.forget_idle();
    assert_eq!((shown("held"), shown("busy"), shown("gone")), (true, true, false));
}

#[test]
fn the_kernels_numbers_of_this_process_are_there() {
    let text = Metrics::new("a", "b").with_process().render(Exposition::OpenMetrics);
    for name in [
        "process_cpu_seconds_total ",
        "process_resident_memory_bytes ",
        "process_open_fds ",
        "process_start_time_seconds ",
    ] {
        let value: f64 = text.lines().find_map(|l| l.strip_prefix(name)).expect(name).parse().unwrap();
        assert!(value >= 0.0 && value.is_finite());
    }
}

#[test]
fn a_source_whose_workload_is_not_known_has_the_principal_it_proved_and_no_other() {
    let db = workload("db", "todo");
    let proven = workload("ui", "todo").identity();
    for (security, want) in [
        (SecurityPolicy::MutualTls, format!("source_principal=\"{proven}\"")),
        (SecurityPolicy::Unknown, "source_principal=\"unknown\"".to_owned()),
    ] {
        let metrics = Metrics::new("a", "b");
        let labels = TcpLabels::new(Reporter::Destination, None, Some(&db), None, ResponseFlag::None, security)
            .proven(proven.clone());
        metrics.series(&labels).opened();
        let text = metrics.render(Exposition::Plain);
        assert!(text.contains(&want) && text.contains("source_workload=\"unknown\""), "{text}");
    }
}
