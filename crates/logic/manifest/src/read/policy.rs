//! Policies of Istio: whom they cover, and PeerAuthentication. Rules are read in `authorization`, those about tokens in `token`.
//!
//! Fields and bounds are those of Istio's CustomResourceDefinitions (security.istio.io/v1). Where a list is empty, Istio takes it
//! as not said.

use std::{collections::BTreeMap, sync::Arc};

use weir_model::{Namespace, PolicyKind, Port};

use crate::{
    error::{Cause, Found, lines},
    known,
    object::{Labels, MtlsMode, PeerAuthenticationSpec, PolicyObject, PolicySpec, PolicyTarget, TargetRef},
    read::{Meta, authorization::authorization, metadata, token::request_authentication},
    reader::{At, Fields, Reader},
    tree::Value,
};

/// Most bytes of [`PolicySpec::Rejected`].
pub(crate) const MAX_REJECTED: usize = 4_096;

const MAX_LABELS: usize = 4_096;
const MAX_LABEL_CHARS: usize = 63;
/// Most bytes of a label's name with its prefix: none has more in Kubernetes.
const MAX_LABEL_NAME: usize = 317;
const MAX_TARGETS: usize = 16;

const MODE: &str = "\"UNSET\", \"DISABLE\", \"PERMISSIVE\" or \"STRICT\"";

/// Groups and kinds that a policy may be attached to. Istio, `targetRefs`.
const TARGETS: &[(&str, &str)] = &[
    ("", "Service"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("networking.istio.io", "ServiceEntry"),
];

/// A kind of policy that is an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Authorization,
    PeerAuthentication,
    RequestAuthentication,
}

impl Which {
    /// The policy of that `kind`.
    pub(crate) fn named(kind: &str) -> Option<Self> {
        [Self::Authorization, Self::PeerAuthentication, Self::RequestAuthentication]
            .into_iter()
            .find(|which| which.kind().to_string() == kind)
    }

    fn kind(self) -> PolicyKind {
        match self {
            Self::Authorization => PolicyKind::Authorization,
            Self::PeerAuthentication => PolicyKind::PeerAuthentication,
            Self::RequestAuthentication => PolicyKind::RequestAuthentication,
        }
    }

    fn known(self) -> &'static [&'static str] {
        match self {
            Self::Authorization => known::AUTHORIZATION_SPEC,
            Self::PeerAuthentication => known::PEER_AUTHENTICATION_SPEC,
            Self::RequestAuthentication => known::REQUEST_AUTHENTICATION_SPEC,
        }
    }
}

/// What a policy says, as far as it can be read.
#[derive(Default)]
struct Said {
    created: Option<Arc<str>>,
    generation: Option<i64>,
    target: Option<PolicyTarget>,
    spec: Option<PolicySpec>,
}

/// A policy of a file.
pub(crate) fn policy(reader: &mut Reader, object: &Fields<'_>, meta: &Meta<'_>, which: Which) -> Option<PolicyObject> {
    let name = meta.subdomain(reader);
    let said = said(reader, object, meta, which);
    Some(PolicyObject {
        origin: reader.origin.clone(),
        kind: which.kind(),
        namespace: meta.namespace.clone()?,
        name: name?,
        created: said.created,
        generation: said.generation,
        target: said.target?,
        spec: said.spec?,
    })
}

/// A policy of an API server; without an object it is one that cannot be read at all, and the reader knows why.
pub(crate) fn sent(
    mut reader: Reader,
    object: Option<&Fields<'_>>,
    which: Which,
    namespace: Namespace,
    name: Arc<str>,
) -> PolicyObject {
    let mut said = Said::default();
    if let Some(object) = object
        && let Some(meta) = metadata(&mut reader, object)
    {
        reader.strictly();
        said = self::said(&mut reader, object, &meta, which);
    }
    let spec = match said.spec {
        Some(spec) if reader.errors.is_empty() => spec,
        Some(_) | None => PolicySpec::Rejected(lines(&reader.errors, MAX_REJECTED).into()),
    };
    PolicyObject {
        origin: reader.origin,
        kind: which.kind(),
        namespace,
        name,
        created: said.created,
        generation: said.generation,
        target: said.target.unwrap_or(PolicyTarget::Unknown),
        spec,
    }
}

fn said(reader: &mut Reader, object: &Fields<'_>, meta: &Meta<'_>, which: Which) -> Said {
    let mut said = Said { created: created(reader, meta), generation: generation(reader, meta), ..Said::default() };
    let spec = match object.field("spec") {
        Some(at) => reader.fields(&at, which.known()),
        None => Some(Fields::absent("spec", object.line("spec"))),
    };
    let Some(spec) = spec else { return said };
    said.target = target(reader, &spec);
    said.spec = match which {
        Which::Authorization => authorization(reader, &spec, meta).map(PolicySpec::Authorization),
        Which::PeerAuthentication => peer_authentication(reader, &spec).map(PolicySpec::PeerAuthentication),
        Which::RequestAuthentication => request_authentication(reader, &spec).map(PolicySpec::RequestAuthentication),
    };
    said
}

/// `metadata.creationTimestamp`, in the one form Kubernetes writes.
pub(crate) fn created(reader: &mut Reader, meta: &Meta<'_>) -> Option<Arc<str>> {
    const FORM: &[u8] = b"0000-00-00T00:00:00Z";
    let at = meta.created.as_ref()?;
    let text = reader.text(at)?;
    let alike = |(byte, form): (u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == *form };
    if text.len() == FORM.len() && text.bytes().zip(FORM).all(alike) {
        Some(text.into())
    } else {
        reader.expected(at, "a time such as \"2026-08-01T10:00:00Z\"")
    }
}

pub(crate) fn generation(reader: &mut Reader, meta: &Meta<'_>) -> Option<i64> {
    let at = meta.generation.as_ref()?;
    match &at.node.value {
        Value::Int(number) => Some(*number),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
            reader.expected(at, "a whole number")
        }
    }
}

/// `selector`, `targetRef` or `targetRefs`, one of them at most.
pub(crate) fn target(reader: &mut Reader, spec: &Fields<'_>) -> Option<PolicyTarget> {
    let (selector, one, several) = (spec.field("selector"), spec.field("targetRef"), spec.field("targetRefs"));
    match (selector, one, several) {
        (None, None, None) => Some(PolicyTarget::All),
        (Some(at), None, None) => self::selector(reader, &at),
        (None, Some(at), None) => target_ref(reader, &at).map(|target| PolicyTarget::Refs(vec![target])),
        (None, None, Some(at)) => target_refs(reader, at),
        (_, Some(at), Some(_)) => {
            reader.fail(&at, Cause::NotWith { other: "targetRefs" });
            None
        }
        (Some(at), _, _) => {
            reader.fail(&at, Cause::NotWith { other: "targetRef or targetRefs" });
            None
        }
    }
}

fn selector(reader: &mut Reader, at: &At<'_>) -> Option<PolicyTarget> {
    let errors = reader.told;
    let fields = reader.fields(at, known::SELECTOR)?;
    let mut labels = Labels::new();
    if let Some(at) = fields.field("matchLabels") {
        let map = reader.map(&at)?;
        if map.len() > MAX_LABELS {
            reader.fail(&at, Cause::Exceeds { what: "labels", max: MAX_LABELS });
            return None;
        }
        for (key, at) in map.all() {
            let Some(value) = reader.text(&at) else { continue };
            if key.is_empty() || key.contains('*') || key.len() > MAX_LABEL_NAME {
                reader.fail(
                    &at,
                    Cause::Expected { expected: "a label's whole name as the key", found: Found::text(key) },
                );
            } else if value.contains('*') || value.chars().count() > MAX_LABEL_CHARS {
                reader.expected::<()>(&at, "a label's whole value, at most 63 characters and without '*'");
            }
            labels.insert(key.into(), value.into());
        }
    }
    match (reader.told == errors, labels.is_empty()) {
        (true, true) => Some(PolicyTarget::All),
        (true, false) => Some(PolicyTarget::Selector(labels)),
        (false, _) => None,
    }
}

fn target_refs(reader: &mut Reader, at: At<'_>) -> Option<PolicyTarget> {
    let errors = reader.told;
    let items = reader.few(Some(at), "targetRefs", MAX_TARGETS);
    let mut refs = Vec::new();
    let mut whole = reader.told == errors;
    for at in &items {
        match target_ref(reader, at) {
            Some(target) => refs.push(target),
            None => whole = false,
        }
    }
    match (whole, refs.is_empty()) {
        (true, true) => Some(PolicyTarget::All),
        (true, false) => Some(PolicyTarget::Refs(refs)),
        (false, _) => None,
    }
}

/// A reference; one to a kind that no policy is attached to is an error, and still says that no pod is meant.
fn target_ref(reader: &mut Reader, at: &At<'_>) -> Option<TargetRef> {
    let fields = reader.fields(at, known::TARGET_REF)?;
    if let Some((_, at)) = reader.some_text(fields.field("namespace")) {
        reader.expected::<()>(&at, "no namespace: a policy is attached to objects of its own");
    }
    let group = match fields.field("group") {
        Some(at) => Some((reader.text(&at)?, at)),
        None => None,
    };
    // The core group has two names in Istio.
    let group = group.filter(|(text, _)| *text != "core").map_or("", |(text, _)| text);
    let kind_at = reader.required(&fields, "kind", "the object's kind");
    let name = reader.required(&fields, "name", "the object's name");
    let (kind_at, name) = (kind_at?, name?);
    let kind = reader.text(&kind_at)?;
    if !TARGETS.contains(&(group, kind)) {
        let expected =
            "Service, ServiceEntry of networking.istio.io, or Gateway or GatewayClass of gateway.networking.k8s.io";
        let found = Found::text(format!("{kind}.{group}").trim_end_matches('.'));
        reader.fail(&kind_at, Cause::Expected { expected, found });
    }
    let text = reader.text(&name)?;
    if text.is_empty() || text.len() > 253 {
        return reader.expected(&name, "a name of 1 to 253 bytes");
    }
    Some(TargetRef { group: group.into(), kind: kind.into(), name: text.into() })
}

fn peer_authentication(reader: &mut Reader, spec: &Fields<'_>) -> Option<PeerAuthenticationSpec> {
    let mode = match spec.field("mtls") {
        Some(at) => mtls(reader, &at),
        None => Some(MtlsMode::Unset),
    };
    let mut ports = BTreeMap::new();
    if let Some(at) = spec.field("portLevelMtls") {
        let map = reader.map(&at)?;
        if map.len() == 0 {
            reader.expected::<()>(&at, "at least one port, or no such field");
        }
        if !selects(spec) {
            reader.fail(&at, Cause::OnlyWith { other: "labels in selector" });
        }
        for (key, at) in map.all() {
            let mode = mtls(reader, &at);
            match port(key) {
                Some(port) => ports.extend(mode.map(|mode| (port, mode))),
                None => {
                    let expected = "a port, 1 to 65535, as the key";
                    reader.fail(&at, Cause::Expected { expected, found: Found::text(key) });
                }
            }
        }
    }
    Some(PeerAuthenticationSpec { mode: mode?, ports })
}

/// Whether a selector asks for any label.
fn selects(spec: &Fields<'_>) -> bool {
    let Some(At { node, .. }) = spec.field("selector") else { return false };
    let Value::Map(fields) = &node.value else { return false };
    fields.iter().any(|(key, node)| key == "matchLabels" && matches!(&node.value, Value::Map(map) if !map.is_empty()))
}

/// A port as text, in the one way to write it.
pub(crate) fn port(text: &str) -> Option<Port> {
    let port: Port = text.parse().ok()?;
    (port.number().to_string() == text).then_some(port)
}

fn mtls(reader: &mut Reader, at: &At<'_>) -> Option<MtlsMode> {
    let fields = reader.fields(at, known::MTLS)?;
    let Some(at) = fields.field("mode") else { return Some(MtlsMode::Unset) };
    match reader.text(&at)? {
        "UNSET" => Some(MtlsMode::Unset),
        "DISABLE" => Some(MtlsMode::Disable),
        "PERMISSIVE" => Some(MtlsMode::Permissive),
        "STRICT" => Some(MtlsMode::Strict),
        _ => reader.expected(&at, MODE),
    }
}

#[cfg(test)]
#[path = "policy/tests.rs"]
mod tests;
