//! networking.istio.io/v1 DestinationRule.

mod load_balancer;
mod pool;
mod tls;

use std::collections::{BTreeMap, btree_map::Entry};

use weir_model::{Hostname, Port};

use super::scalar::{Remarks, export_to};
use crate::{
    object::{DestinationRuleSpec, Labels, PortPolicy, SubsetSpec, TrafficPolicy},
    read::Meta,
    reader::{At, Fields, Reader},
};

const SPEC: &[&str] = &["exportTo", "host", "subsets", "trafficPolicy", "workloadSelector"];
const SUBSET: &[&str] = &["labels", "name", "trafficPolicy"];
const POLICY: &[&str] = &[
    "connectionPool",
    "loadBalancer",
    "outlierDetection",
    "portLevelSettings",
    "proxyProtocol",
    "retryBudget",
    "tls",
    "tunnel",
];
const PORT_POLICY: &[&str] = &["connectionPool", "loadBalancer", "outlierDetection", "port", "tls"];

/// Most subsets of a rule. Ours.
const MAX_SUBSETS: usize = 1_024;
/// Most ports with a policy of their own.
const MAX_PORTS: usize = 4_096;
/// Most labels of a selector or a subset.
const MAX_LABELS: usize = 4_096;
const MAX_LABEL_CHARS: usize = 63;

/// `spec`.
pub(super) fn spec(reader: &mut Reader, at: &At<'_>, _meta: &Meta<'_>) -> Option<DestinationRuleSpec> {
    let spec = reader.fields(at, SPEC)?;
    let mut remarks = Remarks::default();
    let host = reader.required(&spec, "host", "the host it is for").and_then(|at| host(reader, &at));
    let export_to = export_to(reader, &spec);
    let workload_selector = spec.field("workloadSelector").and_then(|at| selector(reader, &at));
    let policy = spec.field("trafficPolicy").and_then(|at| policy(reader, &mut remarks, &at));
    let subsets = subsets(reader, &mut remarks, &spec);
    Some(DestinationRuleSpec { host: host?, export_to, workload_selector, policy, subsets, remarks: remarks.0 })
}

fn host(reader: &mut Reader, at: &At<'_>) -> Option<std::sync::Arc<str>> {
    let text = reader.text(at)?;
    if text != "*" {
        reader.name::<Hostname>(at)?;
    }
    Some(text.into())
}

fn selector(reader: &mut Reader, at: &At<'_>) -> Option<Labels> {
    let fields = reader.fields(at, &["matchLabels"])?;
    Some(labels(reader, fields.field("matchLabels")))
}

fn labels(reader: &mut Reader, at: Option<At<'_>>) -> Labels {
    let texts = reader.texts(at.clone()).owned();
    let legal = |(key, value): (&std::sync::Arc<str>, &std::sync::Arc<str>)| {
        !key.is_empty() && !key.contains('*') && !value.contains('*') && value.chars().count() <= MAX_LABEL_CHARS
    };
    if let Some(at) = at
        && (texts.len() > MAX_LABELS || !texts.iter().all(legal))
    {
        reader.expected::<()>(&at, "at most 4096 labels without '*', each value of at most 63 characters");
    }
    texts
}

fn subsets(reader: &mut Reader, remarks: &mut Remarks, spec: &Fields<'_>) -> Vec<SubsetSpec> {
    let mut subsets: Vec<SubsetSpec> = Vec::new();
    for at in reader.few(spec.field("subsets"), "subsets", MAX_SUBSETS) {
        let Some(subset) = subset(reader, remarks, &at) else { continue };
        if subsets.iter().any(|other| other.name == subset.name) {
            remarks.no_effect(at.path, "a subset of that name stands before it, and counts");
        } else {
            subsets.push(subset);
        }
    }
    subsets
}

fn subset(reader: &mut Reader, remarks: &mut Remarks, at: &At<'_>) -> Option<SubsetSpec> {
    let fields = reader.fields(at, SUBSET)?;
    let name = reader.required(&fields, "name", "the subset's name").and_then(|at| {
        let text = reader.text(&at)?;
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let ends = !text.starts_with('-') && !text.ends_with('-');
        if (1..=63).contains(&text.len()) && ends && text.bytes().all(inside) {
            return Some(text.into());
        }
        reader.expected(&at, "1 to 63 letters and digits, '-' inside")
    });
    let labels = labels(reader, fields.field("labels"));
    let policy = fields.field("trafficPolicy").and_then(|at| policy(reader, remarks, &at));
    Some(SubsetSpec { name: name?, labels, policy })
}

fn policy(reader: &mut Reader, remarks: &mut Remarks, at: &At<'_>) -> Option<TrafficPolicy> {
    let fields = reader.fields(at, POLICY)?;
    let own = port_policy(reader, remarks, &fields);
    let mut ports = BTreeMap::new();
    for at in reader.few(fields.field("portLevelSettings"), "ports", MAX_PORTS) {
        let Some(settings) = reader.fields(&at, PORT_POLICY) else { continue };
        let policy = port_policy(reader, remarks, &settings);
        let Some(port) = port(reader, &settings) else { continue };
        match ports.entry(port) {
            Entry::Vacant(entry) => drop(entry.insert(policy)),
            Entry::Occupied(_) => remarks.no_effect(at.path, "settings of that port stand before it, and count"),
        }
    }
    let tunnel = fields.field("tunnel").and_then(|at| pool::tunnel(reader, remarks, &at));
    let proxy_protocol = fields.field("proxyProtocol").and_then(|at| pool::proxy_protocol(reader, &at));
    let retry_budget = fields.field("retryBudget").and_then(|at| pool::retry_budget(reader, remarks, &at));
    Some(TrafficPolicy { own, ports, tunnel, proxy_protocol, retry_budget })
}

fn port(reader: &mut Reader, settings: &Fields<'_>) -> Option<Port> {
    let at = reader.required(settings, "port", "the service's port that it is for")?;
    let fields = reader.fields(&at, &["number"])?;
    let at = reader.required(&fields, "number", "a port, 1 to 65535")?;
    reader.port(&at)
}

fn port_policy(reader: &mut Reader, remarks: &mut Remarks, fields: &Fields<'_>) -> PortPolicy {
    PortPolicy {
        load_balancer: fields.field("loadBalancer").and_then(|at| load_balancer::load_balancer(reader, remarks, &at)),
        pool: fields.field("connectionPool").and_then(|at| pool::connection_pool(reader, remarks, &at)),
        outlier: fields.field("outlierDetection").and_then(|at| pool::outlier(reader, remarks, &at)),
        tls: fields.field("tls").and_then(|at| tls::tls(reader, remarks, &at)),
    }
}

#[cfg(test)]
mod tests;
