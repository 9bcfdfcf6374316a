//! One review of admission: what an API server asks before it keeps an object, and what it is answered.
//!
//! `admission.k8s.io/v1`. An object is refused that the mesh would reject later, and fail closed by; of everything else its author is told in
//! warnings. What is not the mesh's, what goes away, and what did not change passes unseen.

use serde::Deserialize;
use serde_json::{Value, json};
use weir_compile::{Settings, is_of_waypoints};
use weir_manifest::{
    ConfigKind, ConfigObject, ConfigSpec, FileName, Kind, Labels, Object, ObjectKey, ObjectRef, Objects, Sent,
};

use crate::{Finding, Severity, analyze, suppress};

/// Most bytes of a review: an object, what it was before, each as large as etcd keeps, and what stands around them.
pub const MAX_REVIEW: usize = 4 << 20;
/// Most reasons of a refusal that are told, and most characters of each.
const REASONS: (usize, usize) = (8, 400);
/// Most characters of a warning: clients may cut longer ones. Kubernetes, "Dynamic Admission Control".
const WARNING: usize = 120;
/// Most bytes of all warnings: the server drops what is beyond. The same.
const WARNINGS: usize = 4096;
/// Most characters of an uid: it is one of RFC 9562, which has 36.
const UID: usize = 128;
/// HTTP's status of a refusal. RFC 9110 §15.5.21.
const UNPROCESSABLE: u16 = 422;

/// Why a review cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// It is too large.
    #[error("the review has {len} bytes, at most {MAX_REVIEW} are read")]
    TooLarge {
        /// Bytes it has.
        len: usize,
    },
    /// It is no JSON, or of another form.
    #[error("no AdmissionReview: {0}")]
    Form(#[from] serde_json::Error),
    /// It is of another version.
    #[error("expected an AdmissionReview of admission.k8s.io/v1 with a request, found {kind} of {api_version}")]
    Version {
        /// `apiVersion`.
        api_version: String,
        /// `kind`.
        kind: String,
    },
    /// It has no uid that could be answered.
    #[error("request.uid: expected 1 to {UID} characters, found {len}")]
    Uid {
        /// Characters it has.
        len: usize,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReview {
    api_version: String,
    kind: String,
    request: Option<RawRequest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRequest {
    uid: String,
    kind: RawKind,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    namespace: String,
    operation: String,
    object: Option<Value>,
    old_object: Option<Value>,
}

#[derive(Deserialize)]
struct RawKind {
    #[serde(default)]
    group: String,
    kind: String,
}

/// What is asked.
#[derive(Debug)]
pub struct Review {
    uid: String,
    candidate: Option<Candidate>,
}

/// The object it is asked of.
#[derive(Debug)]
struct Candidate {
    kind: Kind,
    sent: Sent,
    annotations: Labels,
    /// The Gateways that a route is attached to, by namespace and name, if it is attached to nothing else.
    gateways: Option<Vec<(String, String)>>,
}

/// What is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why the object is refused; empty if it is not.
    pub refused: Vec<String>,
    /// What its author should know.
    pub warnings: Vec<String>,
}

impl Review {
    /// Reads a request's body.
    ///
    /// # Errors
    /// If it is none, or too large.
    pub fn read(body: &[u8]) -> Result<Self, ReviewError> {
        if body.len() > MAX_REVIEW {
            return Err(ReviewError::TooLarge { len: body.len() });
        }
        let RawReview { api_version, kind, request } = serde_json::from_slice(body)?;
        let is_review = api_version == "admission.k8s.io/v1" && kind == "AdmissionReview";
        let Some(request) = request.filter(|_| is_review) else {
            return Err(ReviewError::Version { api_version, kind });
        };
        let len = request.uid.chars().count();
        if !(1..=UID).contains(&len) {
            return Err(ReviewError::Uid { len });
        }
        let uid = request.uid.clone();
        Ok(Self { uid, candidate: candidate(request)? })
    }

    /// Whether there is nothing to be judged.
    pub fn passes(&self) -> bool {
        self.candidate.is_none()
    }

    /// What is to be answered. `others` gives the objects that the candidate is to be judged among; one of its own name among them is
    /// what it was before.
    pub fn judge(&self, settings: &Settings, others: impl FnOnce(&Object) -> Vec<Object>) -> Verdict {
        let Some(Candidate { kind, sent, annotations, gateways }) = &self.candidate else { return Verdict::default() };
        let object = match sent.read(*kind, &FileName::new("")) {
            Ok(object) => object,
            Err(errors) => return verdict(errors.iter().map(analyze::unreadable).collect()),
        };
        let key = object.key();
        let about = reference(&key);
        let mut objects = Objects::default();
        for other in others(&object).into_iter().filter(|other| other.key() != key) {
            add(&mut objects, other);
        }
        // A route of somebody else's Gateway is theirs to judge.
        if gateways.as_ref().is_some_and(|named| !objects.configs.iter().any(|one| is_named_waypoint(one, named))) {
            return Verdict::default();
        }
        add(&mut objects, object);
        let mut findings = analyze::judge(&objects, &about, settings);
        findings.retain(|finding| finding.code.refuses() || !suppress::by_annotation(finding, annotations));
        verdict(findings)
    }

    /// The answer's body.
    pub fn answer(&self, verdict: &Verdict) -> Vec<u8> {
        let mut response = json!({"uid": self.uid, "allowed": verdict.refused.is_empty()});
        if !verdict.refused.is_empty() {
            let message = verdict.refused.join("; ");
            response["status"] =
                json!({"status": "Failure", "code": UNPROCESSABLE, "reason": "Invalid", "message": message});
        }
        if !verdict.warnings.is_empty() {
            response["warnings"] = json!(verdict.warnings);
        }
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        review.to_string().into_bytes()
    }
}

/// The object to be judged, if there is one.
fn candidate(request: RawRequest) -> Result<Option<Candidate>, ReviewError> {
    let RawRequest { kind, sub_resource, namespace, operation, object, old_object, uid: _ } = request;
    let known = Kind::ALL.into_iter().find(|one| one.name() == kind.kind && one.group() == kind.group);
    let (Some(kind), Some(mut object)) = (known.filter(|kind| is_declared(*kind)), object) else { return Ok(None) };
    let is_kept = matches!(operation.as_str(), "CREATE" | "UPDATE") && sub_resource.is_empty();
    let is_ending = object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null());
    let is_same = old_object.is_some_and(|old| {
        // A controller that takes its finalizer away is not to be held up by what somebody wrote long ago.
        let fields = ["/spec", "/metadata/labels", "/metadata/annotations"];
        fields.iter().all(|field| old.pointer(field) == object.pointer(field))
    });
    if !is_kept || is_ending || is_same || is_foreign_gateway(kind, &object) {
        return Ok(None);
    }
    let generated = object.pointer("/metadata/generateName").and_then(Value::as_str).map(|start| format!("{start}0"));
    if let Some(Value::Object(meta)) = object.get_mut("metadata") {
        if !namespace.is_empty() && kind != Kind::Namespace {
            meta.entry("namespace").or_insert_with(|| namespace.into());
        }
        if let Some(name) = generated {
            meta.entry("name").or_insert_with(|| name.into());
        }
    }
    let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
    let annotations = annotations.into_iter().flatten();
    let annotations =
        annotations.filter_map(|(key, value)| Some((key.as_str().into(), value.as_str()?.into()))).collect();
    let gateways = gateways(&object);
    Ok(Some(Candidate { kind, sent: Sent::deserialize(object)?, annotations, gateways }))
}

/// Whether it is a Gateway of a class that is no waypoint's: another controller reads it.
fn is_foreign_gateway(kind: Kind, object: &Value) -> bool {
    let class = object.pointer("/spec/gatewayClassName").and_then(Value::as_str);
    kind == Kind::Config(ConfigKind::Gateway) && class.is_some_and(|class| !is_of_waypoints(class))
}

/// The Gateways that `parentRefs` names, if there are some and nothing else is named. Gateway API v1, `ParentReference`.
fn gateways(object: &Value) -> Option<Vec<(String, String)>> {
    let parents = object.pointer("/spec/parentRefs")?.as_array().filter(|parents| !parents.is_empty())?;
    let own = object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
    let gateway = |parent: &Value| {
        let text = |field: &str| match parent.get(field) {
            None | Some(Value::Null) => Some(None),
            Some(value) => value.as_str().map(Some),
        };
        let is_gateway = text("kind")?.is_none_or(|kind| kind == "Gateway");
        let (namespace, name) = (text("namespace")?.unwrap_or(own), text("name")??);
        is_gateway.then(|| (namespace.to_owned(), name.to_owned()))
    };
    parents.iter().map(gateway).collect()
}

fn is_named_waypoint(one: &ConfigObject, named: &[(String, String)]) -> bool {
    let is_waypoint = match &one.spec {
        ConfigSpec::Gateway(spec) => is_of_waypoints(&spec.class),
        ConfigSpec::VirtualService(_)
        | ConfigSpec::DestinationRule(_)
        | ConfigSpec::ServiceEntry(_)
        | ConfigSpec::Telemetry(_)
        | ConfigSpec::Route(_)
        | ConfigSpec::ReferenceGrant(_)
        | ConfigSpec::Rejected(_) => false,
    };
    is_waypoint && named.iter().any(|(namespace, name)| namespace == one.namespace.as_str() && **name == *one.name)
}

/// Whether people declare it, rather than controllers again and again.
fn is_declared(kind: Kind) -> bool {
    match kind {
        Kind::Namespace
        | Kind::Service
        | Kind::AuthorizationPolicy
        | Kind::PeerAuthentication
        | Kind::RequestAuthentication
        | Kind::Config(_) => true,
        Kind::Node | Kind::Pod | Kind::EndpointSlice => false,
    }
}

fn reference(key: &ObjectKey) -> ObjectRef {
    let namespace = key.namespace.as_ref().map(|namespace| namespace.as_str().into());
    ObjectRef { kind: key.kind.clone(), namespace, name: key.name.clone() }
}

fn add(objects: &mut Objects, object: Object) {
    match object {
        Object::Namespace(one) => objects.namespaces.push(one),
        Object::Node(one) => objects.nodes.push(one),
        Object::Pod(one) => objects.pods.push(one),
        Object::Service(one) => objects.services.push(one),
        Object::EndpointSlice(one) => objects.endpoint_slices.push(one),
        Object::Policy(one) => objects.policies.push(one),
        Object::Config(one) => objects.configs.push(one),
    }
}

fn verdict(findings: Vec<Finding>) -> Verdict {
    let (bad, rest): (Vec<Finding>, Vec<Finding>) = findings.into_iter().partition(|one| one.code.refuses());
    let mut refused: Vec<String> = Vec::new();
    for finding in bad.iter().take(REASONS.0) {
        refused.push(plain(&format!("{}: {}", finding.subject(), finding.text()), REASONS.1));
    }
    if bad.len() > REASONS.0 {
        refused.push(format!("and {} more", bad.len() - REASONS.0));
    }
    let mut left = WARNINGS;
    let warnings = rest.iter().filter(|finding| finding.severity() > Severity::Info);
    let warnings = warnings.map(|finding| plain(&format!("[{}] {}", finding.code, finding.text()), WARNING));
    let told = warnings.take_while(|warning| {
        let fits = left.checked_sub(warning.len());
        left = fits.unwrap_or(0);
        fits.is_some()
    });
    Verdict { warnings: told.collect(), refused }
}

/// One line of at most that many characters, as it may stand in a header.
fn plain(text: &str, longest: usize) -> String {
    let is_long = text.chars().count() > longest;
    let kept = if is_long { longest - 1 } else { longest };
    let mut line: String = text.chars().take(kept).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if is_long {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests;
