//! Every field of a Telemetry is read; everything else is an error with its place.

use super::*;
use crate::{
    FileName,
    object::{ConfigSpec, Labels, PolicyTarget, TargetRef},
    parse,
};

fn document(spec: &str) -> String {
    format!(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: t, namespace: shop}}\nspec: {spec}\n"
    )
}

fn read(spec: &str) -> TelemetrySpec {
    let text = document(spec);
    let mut objects = parse(&[(FileName::new("f.yaml"), &text)]).unwrap_or_else(|errors| panic!("{spec}: {errors:#?}"));
    let ConfigSpec::Telemetry(spec) = objects.configs.remove(0).spec else { panic!("no Telemetry: {spec}") };
    *spec
}

fn refused(spec: &str) -> Vec<String> {
    let errors = parse(&[(FileName::new("f.yaml"), &document(spec))]).expect_err(spec);
    errors.iter().map(|error| format!("{}: {}", error.field, error.cause)).collect()
}

const WHOLE: &str = "
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}, {kind: Service, name: db}]
  metrics:
  - providers: [{name: prometheus}]
    reportingInterval: 1m30.5s
    overrides:
    - match: {metric: REQUEST_COUNT, mode: SERVER}
      disabled: false
      tagOverrides:
        source_app: {operation: REMOVE}
        method: {operation: UPSERT, value: request.method}
        team: {value: \"'a'\"}
    - match: {customMetric: mine, mode: CLIENT}
      disabled: true
    - disabled: true
  accessLogging:
  - match: {mode: CLIENT_AND_SERVER}
    providers: [{name: envoy}]
    disabled: true
    filter: {expression: response.code >= 400}
  tracing:
  - match: {mode: SERVER}
    providers: [{name: otel}]
    randomSamplingPercentage: 12.346
    disableSpanReporting: true
    disableContextPropagation: false
    useRequestIdForTraceSampling: false
    enableIstioTags: true
    customTags:
      a: {literal: {value: x}}
      b: {environment: {name: HOME, defaultValue: none}}
      c: {header: {name: X-Team}}
      d: {formatter: {value: '%PROTOCOL%'}}
";

#[test]
fn every_field_is_read() {
    let spec = read(WHOLE);
    let text = |text: &str| Arc::<str>::from(text);
    let target =
        |group: &str, kind: &str, name: &str| TargetRef { group: text(group), kind: text(kind), name: text(name) };
    let change = |metric, mode, disabled, tags: Vec<(&str, TagOverride)>| MetricsOverride {
        metric,
        mode,
        disabled,
        tags: tags.into_iter().map(|(name, tag)| (text(name), tag)).collect(),
    };
    let tags = [
        ("a", CustomTag::Literal(text("x"))),
        ("b", CustomTag::Environment { name: text("HOME"), default: Some(text("none")) }),
        ("c", CustomTag::Header { name: text("x-team"), default: None }),
        ("d", CustomTag::Formatter(text("%PROTOCOL%"))),
    ];
    let want = TelemetrySpec {
        target: PolicyTarget::Refs(vec![
            target("gateway.networking.k8s.io", "Gateway", "waypoint"),
            target("", "Service", "db"),
        ]),
        metrics: vec![MetricsEntry {
            providers: vec![text("prometheus")],
            overrides: vec![
                change(
                    MetricSelector::Standard(Metric::RequestCount),
                    WorkloadMode::Server,
                    Some(false),
                    vec![
                        ("source_app", TagOverride::Remove),
                        ("method", TagOverride::Upsert(text("request.method"))),
                        ("team", TagOverride::Upsert(text("'a'"))),
                    ],
                ),
                change(MetricSelector::Custom(text("mine")), WorkloadMode::Client, Some(true), vec![]),
                change(MetricSelector::All, WorkloadMode::ClientAndServer, Some(true), vec![]),
            ],
            reporting_interval: Some(Duration::from_millis(90_500)),
        }],
        access_logging: vec![AccessLoggingEntry {
            mode: WorkloadMode::ClientAndServer,
            providers: vec![text("envoy")],
            disabled: Some(true),
            filter: Some(text("response.code >= 400")),
        }],
        traces: vec![TracingEntry {
            mode: WorkloadMode::Server,
            providers: vec![text("otel")],
            sampling: Some(1_235),
            disable_span_reporting: Some(true),
            disable_context_propagation: Some(false),
            use_request_id: Some(false),
            enable_istio_tags: Some(true),
            custom_tags: Some(tags.into_iter().map(|(name, tag)| (text(name), tag)).collect()),
        }],
    };
    assert_eq!(spec, want);
}

#[test]
fn a_telemetry_that_says_little_is_legal() {
    let nothing = TelemetrySpec { target: PolicyTarget::All, metrics: vec![], access_logging: vec![], traces: vec![] };
    assert_eq!(read("{}"), nothing);
    assert_eq!(read("{tracing: [{}]}").traces, [TracingEntry::default()]);
    assert_eq!(read("{accessLogging: [{}]}").access_logging, [AccessLoggingEntry::default()]);
    assert_eq!(read("{metrics: [{}]}").metrics, [MetricsEntry::default()]);
    let labels: Labels = [("app".into(), "x".into())].into();
    assert_eq!(read("{selector: {matchLabels: {app: x}}}").target, PolicyTarget::Selector(labels));
    for (text, want) in
        [("0", 0), ("0.0", 0), ("1", 100), ("0.01", 1), ("99.999", 10_000), ("1e1", 1_000), ("100", 10_000)]
    {
        let spec = read(&format!("{{tracing: [{{randomSamplingPercentage: {text}}}]}}"));
        assert_eq!(spec.traces[0].sampling, Some(want), "{text}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (spec, want) in [
        ("[]", vec!["spec: expected a map, found a list of 0"]),
        ("{metric: []}", vec!["spec.metric: unknown field, did you mean \"metrics\"?"]),
        (
            "{selector: {matchLabels: {app: x}}, targetRefs: [{kind: Service, name: db}]}",
            vec!["spec.selector: not together with targetRef or targetRefs"],
        ),
        (
            "{metrics: [{overrides: [{match: {metric: REQUESTS}}]}]}",
            vec!["spec.metrics[0].overrides[0].match.metric: expected \"ALL_METRICS\""],
        ),
        (
            "{metrics: [{overrides: [{match: {metric: REQUEST_COUNT, customMetric: mine}}]}]}",
            vec!["spec.metrics[0].overrides[0].match.customMetric: not together with metric"],
        ),
        (
            "{metrics: [{overrides: [{tagOverrides: {a: {operation: UPSERT}, b: {operation: REMOVE, value: x}, c: {operation: SET}}}]}]}",
            vec![
                "spec.metrics[0].overrides[0].tagOverrides.a.value: missing, expected an expression",
                "spec.metrics[0].overrides[0].tagOverrides.b.value: not together with operation REMOVE",
                "spec.metrics[0].overrides[0].tagOverrides.c.operation: expected \"UPSERT\" or \"REMOVE\", found \"SET\"",
            ],
        ),
        (
            "{metrics: [{overrides: [{tagOverrides: {le: {value: x}}}]}]}",
            vec!["spec.metrics[0].overrides[0].tagOverrides.le: expected a label of a metric"],
        ),
        (
            "{metrics: [{overrides: [{tagOverrides: {a-b: {value: x}}}]}]}",
            vec!["spec.metrics[0].overrides[0].tagOverrides.a-b: expected a label of a metric"],
        ),
        (
            "{metrics: [{reportingInterval: 100us}]}",
            vec!["spec.metrics[0].reportingInterval: expected a duration of at least \"1ms\""],
        ),
        (
            "{metrics: [{reportingInterval: 5}]}",
            vec!["spec.metrics[0].reportingInterval: expected text, found the number 5"],
        ),
        (
            "{metrics: [{providers: [{name: ''}]}]}",
            vec!["spec.metrics[0].providers[0].name: expected the provider's name"],
        ),
        (
            "{accessLogging: [{match: {mode: BOTH}}]}",
            vec!["spec.accessLogging[0].match.mode: expected \"CLIENT_AND_SERVER\", \"CLIENT\" or \"SERVER\""],
        ),
        ("{accessLogging: [{disabled: 'no'}]}", vec!["spec.accessLogging[0].disabled: expected true or false"]),
        (
            "{tracing: [{randomSamplingPercentage: 100.1}, {randomSamplingPercentage: -1}, {randomSamplingPercentage: .nan}]}",
            vec![
                "spec.tracing[0].randomSamplingPercentage: expected a number, 0 to 100",
                "spec.tracing[1].randomSamplingPercentage: expected a number, 0 to 100",
                "spec.tracing[2].randomSamplingPercentage: expected a number, 0 to 100",
            ],
        ),
        (
            "{tracing: [{customTags: {a: {}, b: {literal: {value: ''}}, c: {literal: {value: x}, header: {name: y}}}}]}",
            vec![
                "spec.tracing[0].customTags.a: expected one of literal, environment, header or formatter",
                "spec.tracing[0].customTags.b.literal.value: expected text that is not empty",
                "spec.tracing[0].customTags.c.literal: not together with header",
            ],
        ),
        (
            "{tracing: [{customTags: {a: {header: {name: 'x y'}}}}]}",
            vec!["spec.tracing[0].customTags.a.header.name: expected a header's name"],
        ),
    ] {
        let found = refused(spec);
        assert_eq!(found.len(), want.len(), "{spec}: {found:#?}");
        for (found, want) in found.iter().zip(want) {
            assert!(found.starts_with(want), "{spec}: {found} does not begin with {want}");
        }
    }
}

#[test]
fn lists_and_texts_are_bounded() {
    let many = vec!["{}"; MAX_LIST + 1].join(", ");
    assert_eq!(refused(&format!("{{tracing: [{many}]}}")), ["spec.tracing: more than 64 entries of tracing"]);
    let long = "x".repeat(MAX_VALUE + 1);
    let found = refused(&format!("{{accessLogging: [{{filter: {{expression: {long}}}}}]}}"));
    assert!(
        found[0].starts_with("spec.accessLogging[0].filter.expression: expected text of at most 4096"),
        "{found:?}"
    );
}

#[test]
fn durations_are_read_as_go_writes_them() {
    for (text, want) in [
        ("5s", Some(Duration::from_secs(5))),
        ("1h2m3s", Some(Duration::from_secs(3_723))),
        ("1.25ms", Some(Duration::from_micros(1_250))),
        ("0s", Some(Duration::ZERO)),
        ("", None),
        ("5", None),
        ("s", None),
        ("-1s", None),
        ("1d", None),
        ("99999999999999999999h", None),
        ("9999999999h", None),
    ] {
        assert_eq!(duration(text), want, "{text:?}");
    }
}
