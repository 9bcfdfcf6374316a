//! What holds for a service, out of what several objects say.

use weir_manifest::{FileName, parse};
use weir_model::{Fact, SAMPLES_OF};

use super::*;

/// The objects of a file, each `namespace/name` with its spec.
fn compiled(objects: &[(&str, &str)]) -> (Telemetries, Vec<String>) {
    let text: String = objects
        .iter()
        .enumerate()
        .map(|(i, (name, spec))| {
            let (namespace, name) = name.split_once('/').unwrap();
            format!(
                "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\n\
                 metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: \"2026-01-01T00:00:{i:02}Z\"}}\n\
                 spec: {spec}\n"
            )
        })
        .collect();
    let parsed = parse(&[(FileName::new("f.yaml"), &text)]).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let mut configs = Configs::default();
    parsed.configs.into_iter().for_each(|object| configs.set(object));
    let ground = Settings {
        trust_domain: "cluster.local".parse().unwrap(),
        cluster: "Kubernetes".parse().unwrap(),
        network: weir_model::Network::default(),
        node: None,
        cluster_domain: crate::ClusterDomain::default(),
        root_namespace: crate::default_root_namespace(),
    };
    let (all, findings) = Telemetries::new(&ground, &configs);
    let told = findings
        .iter()
        .map(|one| format!("{}/{} {}: {:?}: {}", one.namespace, one.name, one.field, one.reason, one.message));
    (all, told.collect())
}

/// What holds for `shop/db` at the waypoint `shop/w`.
fn settings(objects: &[(&str, &str)]) -> TelemetrySettings {
    let (all, findings) = compiled(objects);
    assert_eq!(findings, Vec::<String>::new());
    of_db(&all)
}

fn of_db(all: &Telemetries) -> TelemetrySettings {
    let namespace = "shop".parse().unwrap();
    let waypoint = WaypointRef { namespace: &namespace, name: "w", class: "weir-waypoint" };
    let service = "shop/db.shop.svc.cluster.local".parse().unwrap();
    TelemetrySettings::clone(&all.settings(waypoint, Some(&service)))
}

fn sampled(percent: u32) -> String {
    format!("{{tracing: [{{randomSamplingPercentage: {percent}}}]}}")
}

fn sampled_for(percent: u32, target: &str) -> String {
    format!("{{targetRefs: [{target}], tracing: [{{randomSamplingPercentage: {percent}}}]}}")
}

#[test]
fn without_any_telemetry_istios_standard_holds() {
    let standard = settings(&[]);
    assert_eq!(standard, TelemetrySettings::default());
    assert_eq!(standard.traces.sampling, SAMPLES_OF / 100);
}

#[test]
fn what_is_narrower_says_what_is_different() {
    const SERVICE: &str = "{kind: Service, name: db}";
    const WAYPOINT: &str = "{group: gateway.networking.k8s.io, kind: Gateway, name: w}";
    const CLASS: &str = "{group: gateway.networking.k8s.io, kind: GatewayClass, name: weir-waypoint}";
    let of_service = ("shop/s".to_owned(), sampled_for(6, SERVICE));
    let of_waypoint = ("shop/w".to_owned(), sampled_for(5, WAYPOINT));
    let of_namespace = ("shop/n".to_owned(), sampled(4));
    let of_class = ("istio-system/c".to_owned(), sampled_for(3, CLASS));
    let of_mesh = ("istio-system/m".to_owned(), sampled(2));
    let all = [of_service, of_waypoint, of_namespace, of_class, of_mesh];
    for from in 0..all.len() {
        let objects: Vec<(&str, &str)> = all[from..].iter().map(|(name, spec)| (&**name, &**spec)).collect();
        let percent = 6 - u32::try_from(from).unwrap();
        assert_eq!(settings(&objects).traces.sampling, percent * 100, "{objects:?}");
    }
    // What is about others has no say.
    for (name, spec) in [
        ("else/n", sampled(9)),
        ("else/s", sampled_for(9, SERVICE)),
        ("shop/s", sampled_for(9, "{kind: Service, name: ui}")),
        ("else/w", sampled_for(9, WAYPOINT)),
        ("shop/w", sampled_for(9, "{group: gateway.networking.k8s.io, kind: Gateway, name: v}")),
        ("istio-system/c", sampled_for(9, "{group: gateway.networking.k8s.io, kind: GatewayClass, name: other}")),
    ] {
        assert_eq!(settings(&[(name, &spec)]), TelemetrySettings::default(), "{name} {spec}");
    }
}

#[test]
fn a_service_of_another_namespace_is_told_apart_by_its_own() {
    let (all, _) = compiled(&[("shop/n", &sampled(4)), ("infra/n", &sampled(7))]);
    let namespace = "infra".parse().unwrap();
    let waypoint = WaypointRef { namespace: &namespace, name: "w", class: "weir-waypoint" };
    let service = "shop/db.shop.svc.cluster.local".parse().unwrap();
    assert_eq!(all.settings(waypoint, Some(&service)).traces.sampling, 400);
    assert_eq!(all.settings(waypoint, None).traces.sampling, 700);
}

#[test]
fn overrides_of_metrics_add_up_and_the_last_word_counts() {
    let made = settings(&[
        (
            "istio-system/m",
            "{metrics: [{providers: [{name: prometheus}], overrides: [
                {match: {metric: ALL_METRICS}, tagOverrides: {a: {value: \"'1'\"}, b: {operation: REMOVE}}},
                {match: {metric: REQUEST_SIZE}, disabled: true},
                {match: {metric: TCP_SENT_BYTES, mode: CLIENT}, disabled: true}]}]}",
        ),
        (
            "shop/n",
            "{metrics: [{overrides: [
                {match: {metric: REQUEST_COUNT}, tagOverrides: {a: {value: request.method}, b: {value: response.code}}},
                {match: {metric: REQUEST_SIZE, mode: SERVER}, disabled: false}]}]}",
        ),
    ]);
    let literal = TagChange::Set(Fact::Literal("1".into()));
    for metric in Metric::ALL {
        let change = &made.metrics.changed[&metric];
        let (a, b) = match metric {
            Metric::RequestCount => (TagChange::Set(Fact::Method), TagChange::Set(Fact::ResponseCode)),
            Metric::RequestDuration
            | Metric::RequestSize
            | Metric::ResponseSize
            | Metric::RequestMessages
            | Metric::ResponseMessages
            | Metric::TcpOpened
            | Metric::TcpClosed
            | Metric::TcpSent
            | Metric::TcpReceived => (literal.clone(), TagChange::Remove),
        };
        let want = MetricChange { disabled: false, tags: [("a".into(), a), ("b".into(), b)].into() };
        assert_eq!(*change, want, "{metric:?}");
    }
    let undone = settings(&[
        ("istio-system/m", "{metrics: [{overrides: [{disabled: true}]}]}"),
        ("shop/n", "{metrics: [{overrides: [{disabled: false}]}]}"),
    ]);
    assert_eq!(*undone.metrics, MetricSettings::default(), "nothing is left of it");
}

#[test]
fn access_logs_are_switched_by_the_last_entry_that_is_about_servers() {
    for (spec, want) in [
        ("{accessLogging: []}", AccessLogging::AsStarted),
        ("{accessLogging: [{}]}", AccessLogging::On),
        ("{accessLogging: [{providers: [{name: envoy}]}]}", AccessLogging::On),
        ("{accessLogging: [{disabled: true}]}", AccessLogging::Off),
        ("{accessLogging: [{disabled: true}, {disabled: false}]}", AccessLogging::On),
        ("{accessLogging: [{match: {mode: CLIENT}, disabled: true}]}", AccessLogging::AsStarted),
        ("{accessLogging: [{match: {mode: SERVER}, disabled: true}]}", AccessLogging::Off),
    ] {
        assert_eq!(settings(&[("shop/n", spec)]).access_log, want, "{spec}");
    }
    let both = [("istio-system/m", "{accessLogging: [{disabled: true}]}"), ("shop/n", "{accessLogging: [{}]}")];
    assert_eq!(settings(&both).access_log, AccessLogging::On);
}

#[test]
fn tracing_is_taken_field_by_field_and_its_tags_as_a_whole() {
    let made = settings(&[
        (
            "istio-system/m",
            "{tracing: [{randomSamplingPercentage: 50, disableSpanReporting: true, enableIstioTags: false,
                useRequestIdForTraceSampling: false, disableContextPropagation: true,
                customTags: {a: {literal: {value: x}}, b: {environment: {name: HOME}}}}]}",
        ),
        (
            "shop/n",
            "{tracing: [{providers: [{name: my-collector}], disableSpanReporting: false,
                customTags: {c: {formatter: {value: '%REQ(:METHOD)%!'}}, d: {header: {name: X, defaultValue: y}}}},
                {match: {mode: CLIENT}, randomSamplingPercentage: 1}]}",
        ),
    ]);
    let format = SpanTag::Format(vec![Fact::Method, Fact::Literal("!".into())]);
    let header = SpanTag::Header { name: "x".into(), default: Some("y".into()) };
    let want = weir_model::TracingSettings {
        sampling: 5_000,
        silent: false,
        no_propagation: true,
        by_request_id: false,
        istio_tags: false,
        tags: [("c".into(), format), ("d".into(), header)].into(),
    };
    assert_eq!(made.traces, want);
}

#[test]
fn what_is_not_done_is_told_and_has_no_effect() {
    for (spec, want) in [
        (
            "{accessLogging: [{filter: {expression: response.code >= 400}}], tracing: [{randomSamplingPercentage: 5}]}",
            "shop/n spec.accessLogging[0].filter.expression: Unsupported: filter.expression is not supported: the object has no effect",
        ),
        (
            "{metrics: [{overrides: [{tagOverrides: {a: {value: \"request.headers['a'] + 'b'\"}}}]}]}",
            "shop/n spec.metrics[0].overrides[0].tagOverrides.a.value: Unsupported: \"request.headers['a'] + 'b'\" is not supported",
        ),
        (
            "{tracing: [{customTags: {a: {formatter: {value: '%START_TIME%'}}}}]}",
            "shop/n spec.tracing[0].customTags.a: Unsupported: the operator %START_TIME% is not supported",
        ),
        (
            "{metrics: [{providers: [{name: stackdriver}], overrides: [{disabled: true}]}]}",
            "shop/n spec.metrics[0].providers[0]: Unsupported: there is no provider \"stackdriver\", only \"prometheus\"; the entry has no effect",
        ),
        (
            "{accessLogging: [{providers: [{name: otel}], disabled: true}]}",
            "shop/n spec.accessLogging[0].providers[0]: Unsupported: there is no provider \"otel\", only \"envoy\"",
        ),
        (
            "{metrics: [{overrides: [{match: {customMetric: mine}, disabled: true}]}]}",
            "shop/n spec.metrics[0].overrides[0].match.customMetric: NoEffect: nobody counts \"mine\"",
        ),
        (
            "{selector: {matchLabels: {app: db}}, tracing: [{randomSamplingPercentage: 5}]}",
            "shop/n spec.selector: NoEffect: agents make no telemetry of requests",
        ),
        (
            "{targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: weir-waypoint}], accessLogging: [{}]}",
            "shop/n spec.targetRefs[0]: NotPermitted: a class is named from istio-system, the root namespace, only",
        ),
        (
            "{targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: e}], accessLogging: [{}]}",
            "shop/n spec.targetRefs[0]: Unsupported: telemetry for a ServiceEntry is not told apart",
        ),
    ] {
        let (all, findings) = compiled(&[("shop/n", spec)]);
        assert_eq!(findings.len(), 1, "{spec}: {findings:#?}");
        assert!(findings[0].starts_with(want), "{findings:#?} does not begin with {want}");
        assert_eq!(of_db(&all), TelemetrySettings::default(), "{spec}");
    }
}

#[test]
fn of_several_for_the_same_the_oldest_counts() {
    let (all, findings) = compiled(&[("shop/z", &sampled(4)), ("shop/a", &sampled(9))]);
    assert_eq!(of_db(&all).traces.sampling, 400);
    assert_eq!(findings, ["shop/a : Conflicted: an older Telemetry says what holds for the namespace shop"]);
}
