//! Telemetry objects, to what holds for the requests to one service at one waypoint.
//!
//! What is wider holds first and what is narrower says what is different: the root namespace, the class of the waypoint, the
//! waypoint's namespace, that of the service, the waypoint itself, the service itself. Of several objects for the same, the oldest
//! counts. An object that asks for something this version does not do has no effect at all.

mod expression;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use weir_manifest::{
    AccessLoggingEntry, ConfigKind, ConfigObject, ConfigSpec, CustomTag, MetricSelector, MetricsEntry, PolicyTarget,
    TagOverride, TelemetrySpec, TracingEntry, WorkloadMode,
};
use weir_model::{
    AccessLogging, Metric, MetricChange, MetricSettings, Namespace, ServiceName, SpanTag, TagChange, TelemetrySettings,
};

use crate::{Configs, Finding, FindingReason, Settings};

/// The provider of metrics that is always there. Istio's name for it.
const PROMETHEUS: &str = "prometheus";
/// The provider of access logs that is always there. Istio's name for it.
const ENVOY: &str = "envoy";

/// Every Telemetry that has an effect on waypoints.
#[derive(Debug, Clone, Default)]
pub struct Telemetries {
    levels: BTreeMap<Level, Arc<Says>>,
    standard: Arc<TelemetrySettings>,
}

/// A waypoint, as Telemetry objects name it.
#[derive(Debug, Clone, Copy)]
pub struct WaypointRef<'a> {
    /// The namespace of its Gateway.
    pub namespace: &'a Namespace,
    /// The name of its Gateway.
    pub name: &'a str,
    /// The class of its Gateway.
    pub class: &'a str,
}

/// What an object is about, the widest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Mesh,
    Class(Arc<str>),
    Namespace(Namespace),
    Waypoint(Namespace, Arc<str>),
    /// By its host name.
    Service(Arc<str>),
}

/// What one object says, compiled.
#[derive(Debug, Clone, Default, PartialEq)]
struct Says {
    metrics: Vec<Override>,
    access_log: Option<AccessLogging>,
    traces: Vec<Traced>,
}

/// What one of `overrides` says.
#[derive(Debug, Clone, PartialEq)]
struct Override {
    of: MetricSelector,
    disabled: Option<bool>,
    tags: BTreeMap<Arc<str>, TagChange>,
}

/// What one of `tracing` says.
#[derive(Debug, Clone, PartialEq)]
struct Traced {
    entry: TracingEntry,
    tags: Option<BTreeMap<Arc<str>, SpanTag>>,
}

/// Something that this version does not do: the field's path, and what it is.
type Undone = (String, String);

impl Telemetries {
    /// Compiles all Telemetry objects there are; and what is to be told to their authors.
    pub fn new(settings: &Settings, configs: &Configs) -> (Self, Vec<Finding>) {
        let mut objects: Vec<(&Arc<ConfigObject>, &TelemetrySpec)> = configs
            .of(ConfigKind::Telemetry)
            .filter_map(|object| match &object.spec {
                ConfigSpec::Telemetry(spec) => Some((object, &**spec)),
                ConfigSpec::VirtualService(_)
                | ConfigSpec::DestinationRule(_)
                | ConfigSpec::ServiceEntry(_)
                | ConfigSpec::Gateway(_)
                | ConfigSpec::Route(_)
                | ConfigSpec::ReferenceGrant(_)
                | ConfigSpec::Rejected(_) => None,
            })
            .collect();
        objects.sort_by_key(|(object, _)| (&object.created, &object.namespace, &object.name));
        let (mut all, mut findings) = (Self::default(), Vec::new());
        for (object, spec) in objects {
            let mut tell = |field: &str, reason, message: String| {
                findings.push(Finding::new(object, field, reason, message));
            };
            match says(spec, &mut tell) {
                Ok(says) => all.place(settings, object, spec, Arc::new(says), &mut tell),
                Err((field, what)) => {
                    tell(&field, FindingReason::Unsupported, format!("{what}: the object has no effect"));
                }
            }
        }
        (all, findings)
    }

    fn place(
        &mut self,
        settings: &Settings,
        object: &ConfigObject,
        spec: &TelemetrySpec,
        says: Arc<Says>,
        tell: &mut impl FnMut(&str, FindingReason, String),
    ) {
        let is_root = object.namespace == settings.root_namespace;
        let levels = match &spec.target {
            PolicyTarget::All if is_root => vec![Level::Mesh],
            PolicyTarget::All => vec![Level::Namespace(object.namespace.clone())],
            PolicyTarget::Selector(_) | PolicyTarget::Unknown => {
                let why = "agents make no telemetry of requests, and a waypoint is named by targetRefs, not by labels";
                return tell("spec.selector", FindingReason::NoEffect, why.to_owned());
            }
            PolicyTarget::Refs(refs) => {
                let mut levels = Vec::new();
                for (i, one) in refs.iter().enumerate() {
                    match (&*one.kind, is_root) {
                        ("Service", _) => {
                            let host = format!("{}.{}.svc.{}", one.name, object.namespace, settings.cluster_domain);
                            levels.push(Level::Service(host.into()));
                        }
                        ("Gateway", _) => levels.push(Level::Waypoint(object.namespace.clone(), one.name.clone())),
                        ("GatewayClass", true) => levels.push(Level::Class(one.name.clone())),
                        ("GatewayClass", false) => {
                            let why =
                                format!("a class is named from {}, the root namespace, only", settings.root_namespace);
                            tell(&format!("spec.targetRefs[{i}]"), FindingReason::NotPermitted, why);
                        }
                        (kind, _) => {
                            let why = format!("telemetry for a {kind} is not told apart in this version");
                            tell(&format!("spec.targetRefs[{i}]"), FindingReason::Unsupported, why);
                        }
                    }
                }
                levels
            }
        };
        for level in levels {
            match self.levels.entry(level) {
                Entry::Vacant(place) => drop(place.insert(says.clone())),
                Entry::Occupied(place) => {
                    let message = format!("an older Telemetry says what holds for {}", place.key().words());
                    tell("", FindingReason::Conflicted, message);
                }
            }
        }
    }

    /// What holds for requests to a service at a waypoint; without a service, for what is sent to a workload itself. To be kept:
    /// it is put together anew for each question.
    pub fn settings(&self, waypoint: WaypointRef<'_>, service: Option<&ServiceName>) -> Arc<TelemetrySettings> {
        let mut levels = vec![
            Level::Mesh,
            Level::Class(waypoint.class.into()),
            Level::Namespace(waypoint.namespace.clone()),
            Level::Waypoint(waypoint.namespace.clone(), waypoint.name.into()),
        ];
        if let Some(service) = service {
            if service.namespace != *waypoint.namespace {
                levels.insert(3, Level::Namespace(service.namespace.clone()));
            }
            levels.push(Level::Service(service.hostname.as_str().into()));
        }
        let says: Vec<&Says> = levels.iter().filter_map(|level| self.levels.get(level)).map(|says| &**says).collect();
        if says.is_empty() {
            return self.standard.clone();
        }
        let mut settings = TelemetrySettings::default();
        let mut metrics = MetricSettings::default();
        for says in says {
            says.apply(&mut settings, &mut metrics);
        }
        metrics.changed.retain(|_, change| *change != MetricChange::default());
        settings.metrics = Arc::new(metrics);
        Arc::new(settings)
    }
}

impl Level {
    fn words(&self) -> String {
        match self {
            Self::Mesh => "the mesh".to_owned(),
            Self::Class(class) => format!("the class {class}"),
            Self::Namespace(namespace) => format!("the namespace {namespace}"),
            Self::Waypoint(namespace, name) => format!("the waypoint {namespace}/{name}"),
            Self::Service(host) => format!("the service {host}"),
        }
    }
}

impl Says {
    fn apply(&self, settings: &mut TelemetrySettings, metrics: &mut MetricSettings) {
        for Override { of, disabled, tags } in &self.metrics {
            let of: &[Metric] = match of {
                MetricSelector::All => &Metric::ALL,
                MetricSelector::Standard(metric) => std::slice::from_ref(metric),
                MetricSelector::Custom(_) => &[],
            };
            for metric in of {
                let change = metrics.changed.entry(*metric).or_default();
                change.disabled = disabled.unwrap_or(change.disabled);
                change.tags.extend(tags.iter().map(|(name, tag)| (name.clone(), tag.clone())));
            }
        }
        settings.access_log = self.access_log.unwrap_or(settings.access_log);
        let traces = &mut settings.traces;
        for Traced { entry, tags } in &self.traces {
            traces.sampling = entry.sampling.unwrap_or(traces.sampling);
            traces.silent = entry.disable_span_reporting.unwrap_or(traces.silent);
            traces.no_propagation = entry.disable_context_propagation.unwrap_or(traces.no_propagation);
            traces.by_request_id = entry.use_request_id.unwrap_or(traces.by_request_id);
            traces.istio_tags = entry.enable_istio_tags.unwrap_or(traces.istio_tags);
            // Taken as a whole, as in Istio: tags of what is narrower stand in place of the others.
            if let Some(tags) = tags {
                traces.tags.clone_from(tags);
            }
        }
    }
}

/// Waypoints stand on the server's side.
fn is_ours(mode: WorkloadMode) -> bool {
    match mode {
        WorkloadMode::ClientAndServer | WorkloadMode::Server => true,
        WorkloadMode::Client => false,
    }
}

fn says(spec: &TelemetrySpec, tell: &mut impl FnMut(&str, FindingReason, String)) -> Result<Says, Undone> {
    let mut says = Says::default();
    for (i, entry) in spec.metrics.iter().enumerate() {
        let at = format!("spec.metrics[{i}]");
        if is_provided(&entry.providers, PROMETHEUS, &at, tell) {
            metrics(entry, &at, &mut says, tell)?;
        }
    }
    for (i, entry) in spec.access_logging.iter().enumerate() {
        let at = format!("spec.accessLogging[{i}]");
        if is_provided(&entry.providers, ENVOY, &at, tell) {
            access_log(entry, &at, &mut says)?;
        }
    }
    for (i, entry) in spec.traces.iter().enumerate().filter(|(_, entry)| is_ours(entry.mode)) {
        let tag = |(name, tag): (&Arc<str>, &CustomTag)| {
            let tag = span_tag(tag).map_err(|what| (format!("spec.tracing[{i}].customTags.{name}"), what))?;
            Ok((name.clone(), tag))
        };
        let tags = entry.custom_tags.as_ref().map(|tags| tags.iter().map(tag).collect::<Result<_, Undone>>());
        says.traces.push(Traced { entry: entry.clone(), tags: tags.transpose()? });
    }
    Ok(says)
}

/// Whether an entry is about the provider that there is.
fn is_provided(
    providers: &[Arc<str>],
    known: &str,
    at: &str,
    tell: &mut impl FnMut(&str, FindingReason, String),
) -> bool {
    let ours = providers.is_empty() || providers.iter().any(|name| &**name == known);
    for (i, name) in providers.iter().enumerate().filter(|(_, name)| &***name != known) {
        let then = if ours { "the others count" } else { "the entry has no effect" };
        let message = format!("there is no provider {name:?}, only {known:?}; {then}");
        tell(&format!("{at}.providers[{i}]"), FindingReason::Unsupported, message);
    }
    ours
}

fn metrics(
    entry: &MetricsEntry,
    at: &str,
    says: &mut Says,
    tell: &mut impl FnMut(&str, FindingReason, String),
) -> Result<(), Undone> {
    for (i, change) in entry.overrides.iter().enumerate().filter(|(_, change)| is_ours(change.mode)) {
        let at = format!("{at}.overrides[{i}]");
        if let MetricSelector::Custom(name) = &change.metric {
            tell(&format!("{at}.match.customMetric"), FindingReason::NoEffect, format!("nobody counts {name:?}"));
            continue;
        }
        let mut tags = BTreeMap::new();
        for (name, tag) in &change.tags {
            let tag = match tag {
                TagOverride::Remove => TagChange::Remove,
                TagOverride::Upsert(text) => TagChange::Set(expression::expression(text).ok_or_else(|| {
                    let what = format!(
                        "{text:?} is not supported: expected a literal, an attribute such as request.method, or a \
                         header such as request.headers['name']"
                    );
                    (format!("{at}.tagOverrides.{name}.value"), what)
                })?),
            };
            tags.insert(name.clone(), tag);
        }
        says.metrics.push(Override { of: change.metric.clone(), disabled: change.disabled, tags });
    }
    Ok(())
}

fn access_log(entry: &AccessLoggingEntry, at: &str, says: &mut Says) -> Result<(), Undone> {
    if !is_ours(entry.mode) {
        return Ok(());
    }
    if entry.filter.is_some() {
        return Err((format!("{at}.filter.expression"), "filter.expression is not supported".to_owned()));
    }
    let off = entry.disabled.unwrap_or(false);
    says.access_log = Some(if off { AccessLogging::Off } else { AccessLogging::On });
    Ok(())
}

fn span_tag(tag: &CustomTag) -> Result<SpanTag, String> {
    Ok(match tag {
        CustomTag::Literal(text) => SpanTag::Literal(text.clone()),
        CustomTag::Environment { name, default } => {
            SpanTag::Environment { name: name.clone(), default: default.clone() }
        }
        CustomTag::Header { name, default } => SpanTag::Header { name: name.clone(), default: default.clone() },
        CustomTag::Formatter(text) => {
            let facts = expression::format(text);
            SpanTag::Format(facts.map_err(|operator| format!("the operator {operator} is not supported"))?)
        }
    })
}

#[cfg(test)]
mod tests;
