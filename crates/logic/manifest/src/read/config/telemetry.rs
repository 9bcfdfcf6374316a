//! telemetry.istio.io/v1 Telemetry.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use weir_model::{Metric, SAMPLES_OF};

use crate::{
    error::{Cause, Found},
    object::{
        AccessLoggingEntry, CustomTag, MetricSelector, MetricsEntry, MetricsOverride, TagOverride, TelemetrySpec,
        TracingEntry, WorkloadMode,
    },
    read::{Meta, policy},
    reader::{At, Fields, Reader},
    tree::Value,
};

const SPEC: &[&str] = &["accessLogging", "metrics", "selector", "targetRef", "targetRefs", "tracing"];
const METRICS: &[&str] = &["overrides", "providers", "reportingInterval"];
const OVERRIDE: &[&str] = &["disabled", "match", "tagOverrides"];
const METRIC_MATCH: &[&str] = &["customMetric", "metric", "mode"];
const TAG_OVERRIDE: &[&str] = &["operation", "value"];
const ACCESS_LOGGING: &[&str] = &["disabled", "filter", "match", "providers"];
const TRACING: &[&str] = &[
    "customTags",
    "disableContextPropagation",
    "disableSpanReporting",
    "enableIstioTags",
    "match",
    "providers",
    "randomSamplingPercentage",
    "useRequestIdForTraceSampling",
];
const CUSTOM_TAG: &[&str] = &["environment", "formatter", "header", "literal"];

/// Most entries of a list, and most tags of one of them.
const MAX_LIST: usize = 64;
/// Most bytes of a value.
const MAX_VALUE: usize = 4_096;
/// Most bytes of a tag's name.
const MAX_NAME: usize = 128;

const LABEL: &str =
    "a label of a metric as the key: letters, digits and '_', no digit first, at most 128 and not \"le\" or \"__…\"";

/// `spec`.
pub(super) fn spec(reader: &mut Reader, at: &At<'_>, _meta: &Meta<'_>) -> Option<TelemetrySpec> {
    let fields = reader.fields(at, SPEC)?;
    let target = policy::target(reader, &fields);
    let metrics = reader.few(fields.field("metrics"), "metrics", MAX_LIST);
    let metrics = metrics.iter().filter_map(|at| metrics_entry(reader, at)).collect();
    let logging = reader.few(fields.field("accessLogging"), "entries of accessLogging", MAX_LIST);
    let access_logging = logging.iter().filter_map(|at| logging_entry(reader, at)).collect();
    let traces = reader.few(fields.field("tracing"), "entries of tracing", MAX_LIST);
    let traces = traces.iter().filter_map(|at| tracing_entry(reader, at)).collect();
    Some(TelemetrySpec { target: target?, metrics, access_logging, traces })
}

fn metrics_entry(reader: &mut Reader, at: &At<'_>) -> Option<MetricsEntry> {
    let fields = reader.fields(at, METRICS)?;
    let providers = providers(reader, &fields);
    let overrides = reader.few(fields.field("overrides"), "overrides", MAX_LIST);
    let overrides = overrides.iter().filter_map(|at| metrics_override(reader, at)).collect();
    let interval = reader.some_text(fields.field("reportingInterval"));
    let reporting_interval = interval.and_then(|(text, at)| {
        let interval = duration(text).filter(|interval| *interval >= Duration::from_millis(1));
        interval.or_else(|| reader.expected(&at, "a duration of at least \"1ms\", such as \"5s\""))
    });
    Some(MetricsEntry { providers, overrides, reporting_interval })
}

fn metrics_override(reader: &mut Reader, at: &At<'_>) -> Option<MetricsOverride> {
    let fields = reader.fields(at, OVERRIDE)?;
    let (mut metric, mut mode) = (Some(MetricSelector::All), Some(WorkloadMode::default()));
    if let Some(at) = fields.field("match") {
        let fields = reader.fields(&at, METRIC_MATCH)?;
        mode = self::mode(reader, &fields);
        metric = match (fields.field("metric"), reader.some_text(fields.field("customMetric"))) {
            (Some(_), Some((_, at))) => {
                reader.fail(&at, Cause::NotWith { other: "metric" });
                None
            }
            (Some(at), None) => self::metric(reader, &at),
            (None, Some((name, at))) => bounded(reader, &at, name).map(MetricSelector::Custom),
            (None, None) => Some(MetricSelector::All),
        };
    }
    let disabled = reader.boolean(fields.field("disabled"));
    let mut tags = BTreeMap::new();
    for (name, at) in named(reader, fields.field("tagOverrides"), "tagOverrides") {
        let tag = tag_override(reader, &at);
        if !is_label(name) {
            reader.fail(&at, Cause::Expected { expected: LABEL, found: Found::text(name) });
        }
        tags.extend(tag.map(|tag| (Arc::from(name), tag)));
    }
    Some(MetricsOverride { metric: metric?, mode: mode?, disabled, tags })
}

fn metric(reader: &mut Reader, at: &At<'_>) -> Option<MetricSelector> {
    let text = reader.text(at)?;
    if text == "ALL_METRICS" {
        return Some(MetricSelector::All);
    }
    let metric = Metric::ALL.into_iter().find(|metric| metric.as_str() == text);
    metric.map(MetricSelector::Standard).or_else(|| {
        let expected = "\"ALL_METRICS\", \"REQUEST_COUNT\", \"REQUEST_DURATION\", \"REQUEST_SIZE\", \"RESPONSE_SIZE\", \
                        \"TCP_OPENED_CONNECTIONS\", \"TCP_CLOSED_CONNECTIONS\", \"TCP_SENT_BYTES\", \
                        \"TCP_RECEIVED_BYTES\", \"GRPC_REQUEST_MESSAGES\" or \"GRPC_RESPONSE_MESSAGES\"";
        reader.expected(at, expected)
    })
}

fn tag_override(reader: &mut Reader, at: &At<'_>) -> Option<TagOverride> {
    let fields = reader.fields(at, TAG_OVERRIDE)?;
    let operation = match fields.field("operation") {
        Some(at) => Some((reader.text(&at)?, at)),
        None => None,
    };
    let value = reader.some_text(fields.field("value"));
    match (operation, value) {
        (None | Some(("UPSERT", _)), Some((text, at))) => bounded(reader, &at, text).map(TagOverride::Upsert),
        (None | Some(("UPSERT", _)), None) => {
            let cause = Cause::Missing { expected: "an expression, as the operation is UPSERT" };
            reader.fail_at(fields.path("value"), fields.line("value"), cause);
            None
        }
        (Some(("REMOVE", _)), None) => Some(TagOverride::Remove),
        (Some(("REMOVE", _)), Some((_, at))) => {
            reader.fail(&at, Cause::NotWith { other: "operation REMOVE" });
            None
        }
        (Some((_, at)), _) => reader.expected(&at, "\"UPSERT\" or \"REMOVE\""),
    }
}

fn logging_entry(reader: &mut Reader, at: &At<'_>) -> Option<AccessLoggingEntry> {
    let fields = reader.fields(at, ACCESS_LOGGING)?;
    let mode = mode_of_match(reader, &fields);
    let providers = providers(reader, &fields);
    let disabled = reader.boolean(fields.field("disabled"));
    let mut filter = None;
    if let Some(at) = fields.field("filter") {
        let fields = reader.fields(&at, &["expression"])?;
        let text = reader.some_text(fields.field("expression"));
        filter = text.and_then(|(text, at)| bounded(reader, &at, text));
    }
    Some(AccessLoggingEntry { mode: mode?, providers, disabled, filter })
}

fn tracing_entry(reader: &mut Reader, at: &At<'_>) -> Option<TracingEntry> {
    let fields = reader.fields(at, TRACING)?;
    let mode = mode_of_match(reader, &fields);
    let providers = providers(reader, &fields);
    let sampling = fields.field("randomSamplingPercentage").and_then(|at| percentage(reader, &at));
    let mut tags = BTreeMap::new();
    for (name, at) in named(reader, fields.field("customTags"), "customTags") {
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            let expected = "the attribute's name as the key, at most 128 bytes";
            reader.fail(&at, Cause::Expected { expected, found: Found::text(name) });
        }
        tags.extend(custom_tag(reader, &at).map(|tag| (Arc::from(name), tag)));
    }
    let mut flag = |name| reader.boolean(fields.field(name));
    Some(TracingEntry {
        mode: mode?,
        providers,
        sampling,
        disable_span_reporting: flag("disableSpanReporting"),
        disable_context_propagation: flag("disableContextPropagation"),
        use_request_id: flag("useRequestIdForTraceSampling"),
        enable_istio_tags: flag("enableIstioTags"),
        custom_tags: Some(tags).filter(|tags| !tags.is_empty()),
    })
}

fn custom_tag(reader: &mut Reader, at: &At<'_>) -> Option<CustomTag> {
    let fields = reader.fields(at, CUSTOM_TAG)?;
    let mut said = CUSTOM_TAG.iter().filter_map(|name| Some((*name, fields.field(name)?)));
    let Some((kind, inner)) = said.next() else {
        return reader.expected(at, "one of literal, environment, header or formatter");
    };
    if let Some((_, other)) = said.next() {
        reader.fail(&other, Cause::NotWith { other: kind });
        return None;
    }
    let (value, known): (&str, &[&str]) = match kind {
        "literal" | "formatter" => ("value", &["value"]),
        _ => ("name", &["defaultValue", "name"]),
    };
    let fields = reader.fields(&inner, known)?;
    let at = reader.required(&fields, value, "text that is not empty")?;
    let text = reader.text(&at)?;
    if text.is_empty() {
        return reader.expected(&at, "text that is not empty");
    }
    let text = bounded(reader, &at, text)?;
    let default = reader.some_text(fields.field("defaultValue"));
    let default = default.and_then(|(text, at)| bounded(reader, &at, text));
    match kind {
        "literal" => Some(CustomTag::Literal(text)),
        "formatter" => Some(CustomTag::Formatter(text)),
        "environment" => Some(CustomTag::Environment { name: text, default }),
        _ if is_token(&text) => Some(CustomTag::Header { name: text.to_ascii_lowercase().into(), default }),
        _ => reader.expected(&at, "a header's name"),
    }
}

fn providers(reader: &mut Reader, fields: &Fields<'_>) -> Vec<Arc<str>> {
    let items = reader.few(fields.field("providers"), "providers", MAX_LIST);
    let mut names = Vec::new();
    for at in &items {
        let Some(fields) = reader.fields(at, &["name"]) else { continue };
        let Some(at) = reader.required(&fields, "name", "the provider's name") else { continue };
        match reader.text(&at) {
            Some("") => drop(reader.expected::<()>(&at, "the provider's name")),
            Some(text) => names.extend(bounded(reader, &at, text)),
            None => {}
        }
    }
    names
}

fn mode_of_match(reader: &mut Reader, fields: &Fields<'_>) -> Option<WorkloadMode> {
    let Some(at) = fields.field("match") else { return Some(WorkloadMode::default()) };
    let fields = reader.fields(&at, &["mode"])?;
    mode(reader, &fields)
}

fn mode(reader: &mut Reader, fields: &Fields<'_>) -> Option<WorkloadMode> {
    let Some(at) = fields.field("mode") else { return Some(WorkloadMode::default()) };
    match reader.text(&at)? {
        "CLIENT_AND_SERVER" => Some(WorkloadMode::ClientAndServer),
        "CLIENT" => Some(WorkloadMode::Client),
        "SERVER" => Some(WorkloadMode::Server),
        _ => reader.expected(&at, "\"CLIENT_AND_SERVER\", \"CLIENT\" or \"SERVER\""),
    }
}

/// The entries of a map that are not null, if they are not too many.
fn named<'n>(reader: &mut Reader, at: Option<At<'n>>, what: &'static str) -> Vec<(&'n str, At<'n>)> {
    let Some(at) = at else { return Vec::new() };
    let Some(map) = reader.map(&at) else { return Vec::new() };
    if map.len() > MAX_LIST {
        reader.fail(&at, Cause::Exceeds { what, max: MAX_LIST });
        return Vec::new();
    }
    map.all().collect()
}

fn bounded(reader: &mut Reader, at: &At<'_>, text: &str) -> Option<Arc<str>> {
    if text.len() > MAX_VALUE {
        return reader.expected(at, "text of at most 4096 bytes");
    }
    Some(text.into())
}

/// 0 to 100, as hundredths: what is finer is rounded.
fn percentage(reader: &mut Reader, at: &At<'_>) -> Option<u32> {
    let number: Option<f64> = match &at.node.value {
        Value::Int(number) => number.to_string().parse().ok(),
        Value::Number(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    let hundredths =
        number.filter(|number| (0.0..=100.0).contains(number)).map(|number| format!("{:.0}", number * 100.0));
    let hundredths = hundredths.and_then(|text| text.parse().ok()).filter(|count| *count <= SAMPLES_OF);
    hundredths.or_else(|| reader.expected(at, "a number, 0 to 100"))
}

/// Whether it is a legal name of a label that nobody else gives a meaning. Prometheus, Data model.
fn is_label(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let first = name.chars().next().is_some_and(|c| !c.is_ascii_digit());
    first && name.len() <= MAX_NAME && name.chars().all(word) && name != "le" && !name.starts_with("__")
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A duration as Go writes it: `1h30m`, `1.5s`, `100ms`.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 7] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let (mut rest, mut nanos) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(after.find(|c: char| !c.is_ascii_digit())?),
            None => ("", after),
        };
        let unit_len = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let mut part = number.parse::<u64>().ok()?.checked_mul(*scale)?;
        let mut place = *scale;
        for digit in fraction.chars().filter_map(|c| c.to_digit(10)) {
            place /= 10;
            part = part.checked_add(place * u64::from(digit))?;
        }
        nanos = nanos.checked_add(part)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests;
