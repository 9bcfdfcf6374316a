//! The labels of Istio's metrics at a waypoint: which there are, in which order, and what they say of a request.

use std::{
    borrow::Cow,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use weir_model::{Flags, MetricChange, Service, SpiffeId, TagChange, Workload};

use super::{HttpParty, HttpRecord, HttpSecurity, TcpSubject};
use crate::traffic::Escaped;

/// What a label says when nobody knows. Istio's word.
const UNKNOWN: &str = "unknown";

/// What a request is counted by, as it stands in the objects it is about.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) source: HttpParty<'a>,
    pub(crate) destination: HttpParty<'a>,
    pub(crate) service: Option<&'a Arc<Service>>,
    pub(crate) rest: Rest,
}

/// The part of it that is no object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Rest {
    protocol: Protocol,
    code: u16,
    grpc_status: Option<u32>,
    flags: Flags,
    security: HttpSecurity,
}

/// Label `request_protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Protocol {
    Http,
    Grpc,
    Tcp,
}

impl<'a> View<'a> {
    pub(crate) fn of_request(record: &HttpRecord<'a>) -> Self {
        let rest = Rest {
            protocol: if record.grpc.is_some() { Protocol::Grpc } else { Protocol::Http },
            code: record.code.unwrap_or(0),
            grpc_status: record.grpc.and_then(|grpc| grpc.status),
            flags: record.flags,
            security: record.security,
        };
        Self { source: record.source, destination: record.destination, service: record.service, rest }
    }

    pub(crate) fn of_connection(subject: &TcpSubject<'a>) -> Self {
        let rest = Rest {
            protocol: Protocol::Tcp,
            code: 0,
            grpc_status: None,
            flags: subject.flags,
            security: subject.security,
        };
        Self { source: subject.source, destination: subject.destination, service: subject.service, rest }
    }
}

impl Hash for View<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for party in [&self.source, &self.destination] {
            if let Some(workload) = party.workload {
                (&workload.workload_name, workload.namespace.as_str(), &workload.canonical_revision).hash(state);
            }
            if let Some(identity) = party.identity {
                identity.service_account().as_str().hash(state);
            }
        }
        if let Some(service) = self.service {
            service.name.hostname.as_str().hash(state);
        }
        self.rest.hash(state);
    }
}

/// The same, kept.
#[derive(Debug)]
pub(crate) struct Kept {
    source: (Option<Arc<Workload>>, Option<SpiffeId>),
    destination: (Option<Arc<Workload>>, Option<SpiffeId>),
    service: Option<Arc<Service>>,
    rest: Rest,
}

impl From<&View<'_>> for Kept {
    fn from(view: &View<'_>) -> Self {
        let party = |party: &HttpParty<'_>| (party.workload.cloned(), party.identity.cloned());
        Self {
            source: party(&view.source),
            destination: party(&view.destination),
            service: view.service.cloned(),
            rest: view.rest,
        }
    }
}

impl Kept {
    /// Whether both have the same labels.
    pub(crate) fn is(&self, view: &View<'_>) -> bool {
        let party = |kept: &(Option<Arc<Workload>>, Option<SpiffeId>), party: &HttpParty<'_>| {
            let workload = match (&kept.0, party.workload) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b) || are_alike(a, b),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            workload && kept.1.as_ref() == party.identity
        };
        let service = match (&self.service, view.service) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || (a.name == b.name && a.short_name == b.short_name),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.rest == view.rest
            && service
            && party(&self.source, &view.source)
            && party(&self.destination, &view.destination)
    }
}

/// Whether nothing that is in a label is different.
fn are_alike(a: &Workload, b: &Workload) -> bool {
    a.workload_name == b.workload_name
        && a.namespace == b.namespace
        && a.service_account == b.service_account
        && a.trust_domain == b.trust_domain
        && a.canonical_name == b.canonical_name
        && a.canonical_revision == b.canonical_revision
        && a.cluster == b.cluster
}

/// The labels of one series, in their order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tags(Arc<[(Cow<'static, str>, Arc<str>)]>);

impl Tags {
    /// What Istio's standard says of it.
    pub(crate) fn standard(view: &View<'_>) -> Self {
        let mut tags = Vec::with_capacity(25);
        source(view, &mut tags);
        destination(view, &mut tags);
        let rest = &view.rest;
        let protocol = match rest.protocol {
            Protocol::Http => "http",
            Protocol::Grpc => "grpc",
            Protocol::Tcp => "tcp",
        };
        let mut tag = |key: &'static str, value: &str| tags.push((Cow::Borrowed(key), Arc::from(value)));
        tag("request_protocol", protocol);
        match rest.protocol {
            Protocol::Http | Protocol::Grpc => {
                tag("response_code", &rest.code.to_string());
                // Empty, as Envoy has it, for what is no gRPC or ended without a status.
                tag("grpc_response_status", &rest.grpc_status.map_or_else(String::new, |status| status.to_string()));
            }
            Protocol::Tcp => {}
        }
        tag("response_flags", &rest.flags.to_string());
        let security = match rest.security {
            HttpSecurity::MutualTls => "mutual_tls",
            HttpSecurity::None => "none",
        };
        tag("connection_security_policy", security);
        Self(tags.into())
    }

    /// The series of all that are one too many: the same labels, none of which says anything.
    pub(crate) fn overflow(&self) -> Self {
        let unknown: Arc<str> = UNKNOWN.into();
        let says = |(key, value): &(Cow<'static, str>, Arc<str>)| match &**key {
            "reporter" | "request_protocol" => (key.clone(), value.clone()),
            _ => (key.clone(), unknown.clone()),
        };
        Self(self.0.iter().map(says).collect())
    }

    /// With one metric's own changes. `value` says what is known of the request.
    pub(crate) fn changed(&self, change: &MetricChange, mut value: impl FnMut(&Arc<str>) -> Option<Arc<str>>) -> Self {
        let mut tags = Vec::with_capacity(self.0.len() + change.tags.len());
        for (key, old) in self.0.iter() {
            match change.tags.get(&**key) {
                None => tags.push((key.clone(), old.clone())),
                Some(TagChange::Remove) => {}
                Some(TagChange::Set(_)) => tags.push((key.clone(), value(&Arc::from(&**key)).unwrap_or_else(unknown))),
            }
        }
        for (key, tag) in &change.tags {
            match tag {
                TagChange::Set(_) if !self.0.iter().any(|(old, _)| **old == **key) => {
                    tags.push((Cow::Owned(key.to_string()), value(key).unwrap_or_else(unknown)));
                }
                TagChange::Set(_) | TagChange::Remove => {}
            }
        }
        Self(tags.into())
    }
}

fn unknown() -> Arc<str> {
    UNKNOWN.into()
}

impl EncodeLabelSet for Tags {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        self.0.iter().try_for_each(|(key, value)| (&**key, Escaped(value)).encode(encoder.encode_label()))
    }
}

type List = Vec<(Cow<'static, str>, Arc<str>)>;

/// Adds a label; what is not known or empty is told as `otherwise`.
fn add(tags: &mut List, key: &'static str, value: Option<Arc<str>>, otherwise: &str) {
    let value = value.filter(|text| !text.is_empty()).unwrap_or_else(|| otherwise.into());
    tags.push((Cow::Borrowed(key), value));
}

/// As Istio's `ServerGateway` reports: the namespace is the proven one, if one is proven.
fn source(view: &View<'_>, tags: &mut List) {
    let HttpParty { workload, identity } = view.source;
    let name = workload.map(|w| w.canonical_name.clone());
    let revision = workload.map(|w| w.canonical_revision.clone());
    let namespace = identity.map(SpiffeId::namespace).or(workload.map(|w| &w.namespace));
    add(tags, "reporter", Some("waypoint".into()), UNKNOWN);
    add(tags, "source_workload", workload.map(|w| w.workload_name.clone()), UNKNOWN);
    add(tags, "source_canonical_service", name.clone(), UNKNOWN);
    add(tags, "source_canonical_revision", revision.clone(), "latest");
    add(tags, "source_workload_namespace", namespace.map(|n| n.as_str().into()), UNKNOWN);
    add(tags, "source_principal", identity.map(|id| id.to_string().into()), UNKNOWN);
    add(tags, "source_app", name, UNKNOWN);
    add(tags, "source_version", revision, UNKNOWN);
    add(tags, "source_cluster", workload.map(|w| w.cluster.as_str().into()), UNKNOWN);
}

fn destination(view: &View<'_>, tags: &mut List) {
    let HttpParty { workload, identity } = view.destination;
    let name = workload.map(|w| w.canonical_name.clone());
    let revision = workload.map(|w| w.canonical_revision.clone());
    let identity = identity.cloned().or_else(|| workload.map(|w| w.identity()));
    let service = view.service;
    add(tags, "destination_workload", workload.map(|w| w.workload_name.clone()), UNKNOWN);
    add(tags, "destination_workload_namespace", workload.map(|w| w.namespace.as_str().into()), UNKNOWN);
    add(tags, "destination_principal", identity.map(|id| id.to_string().into()), UNKNOWN);
    add(tags, "destination_app", name.clone(), UNKNOWN);
    add(tags, "destination_version", revision.clone(), UNKNOWN);
    add(tags, "destination_service", service.map(|s| s.name.hostname.as_str().into()), UNKNOWN);
    add(tags, "destination_canonical_service", name, UNKNOWN);
    add(tags, "destination_canonical_revision", revision, UNKNOWN);
    add(tags, "destination_service_name", service.map(|s| s.short_name.clone()), UNKNOWN);
    add(tags, "destination_service_namespace", service.map(|s| s.name.namespace.as_str().into()), UNKNOWN);
    add(tags, "destination_cluster", workload.map(|w| w.cluster.as_str().into()), UNKNOWN);
}
