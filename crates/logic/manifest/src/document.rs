//! An object as one line of JSON: what a waypoint is told of it, to be read there as it was read here.
//!
//! Objects that shape requests and policies are whole, but for what servers note beside them; of a pod there is what it is called and its labels.

use std::sync::Arc;

use crate::{
    object::ConfigKind,
    read::policy::Which,
    reader::Fields,
    tree::{Node, Value},
};

/// What of an object is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Everything that says something.
    Whole,
    /// What it is called, and its labels.
    Labels,
    /// Nothing.
    Nothing,
}

impl From<ConfigKind> for Telling {
    fn from(_: ConfigKind) -> Self {
        Self::Whole
    }
}

impl From<Which> for Telling {
    fn from(which: Which) -> Self {
        match which {
            Which::Authorization | Which::RequestAuthentication => Self::Whole,
            // A matter of connections: agents are told.
            Which::PeerAuthentication => Self::Nothing,
        }
    }
}

/// Parts of `metadata` that are told.
const META: &[&str] = &["annotations", "creationTimestamp", "generation", "labels", "name", "namespace"];
/// An annotation that repeats the object.
const REPEATED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The object as JSON, if anything of it is told.
pub(crate) fn document(
    object: &Fields<'_>,
    kind: &str,
    version: &str,
    namespace: &str,
    telling: Telling,
) -> Option<Arc<str>> {
    let meta: &[&str] = match telling {
        Telling::Whole => META,
        Telling::Labels => &["labels", "name", "namespace"],
        Telling::Nothing => return None,
    };
    let mut out = String::with_capacity(512);
    out.push_str("{\"apiVersion\":");
    text(&mut out, version);
    out.push_str(",\"kind\":");
    text(&mut out, kind);
    out.push_str(",\"metadata\":{");
    let mut comma = "";
    let (mut named, fields) = (false, object.field("metadata"));
    if let Some(Node { value: Value::Map(fields), .. }) = fields.as_ref().map(|at| at.node) {
        for (key, node) in fields.iter().filter(|(key, _)| meta.contains(&key.as_str())) {
            named |= key == "namespace";
            out.push_str(comma);
            text(&mut out, key);
            out.push(':');
            value(&mut out, node);
            comma = ",";
        }
    }
    if !named {
        // A file need not say the default; a server does.
        out.push_str(comma);
        out.push_str("\"namespace\":");
        text(&mut out, namespace);
    }
    out.push('}');
    if let (Telling::Whole, Some(spec)) = (telling, object.field("spec")) {
        out.push_str(",\"spec\":");
        value(&mut out, spec.node);
    }
    out.push('}');
    Some(out.into())
}

fn value(out: &mut String, node: &Node) {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::Number(number) => match number.parse::<serde_json::Number>() {
            Ok(number) => out.push_str(&number.to_string()),
            // What JSON has no number for, infinity for one, is read as what it is not.
            Err(_) => text(out, number),
        },
        Value::Text(string) => text(out, string),
        Value::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                value(out, item);
            }
            out.push(']');
        }
        Value::Map(fields) => {
            out.push('{');
            let fields = fields.iter().filter(|(key, _)| key != REPEATED);
            for (at, (key, node)) in fields.enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                text(out, key);
                out.push(':');
                value(out, node);
            }
            out.push('}');
        }
    }
}

fn text(out: &mut String, string: &str) {
    out.push_str(&serde_json::Value::from(string).to_string());
}

#[cfg(test)]
mod tests {
    use crate::{FileName, Kind, Object, PolicySpec, Sent, parse};

    const FILE: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: p
  namespace: shop
  annotations: {istio.io/dry-run: "true", kubectl.kubernetes.io/last-applied-configuration: "{}"}
  generation: 3
  managedFields: [{manager: x}]
spec:
  targetRefs: [{group: "", kind: Service, name: web}]
  rules:
  - to: [{operation: {methods: ["GET"], paths: ["/a\"b\n\u00e9"]}}]
status: {conditions: []}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict}
spec: {mtls: {mode: STRICT}}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}, annotations: {a: b}}
spec: {containers: [{name: c, env: [{name: SECRET, value: s}]}]}
status: {podIPs: [{ip: 10.0.0.1}]}
"#;

    #[test]
    fn what_is_told_is_read_again_as_it_was() {
        let objects = parse(&[(FileName::new("a.yaml"), FILE)]).unwrap();
        let told: Vec<_> = objects.documents.iter().map(|(key, json)| (key.to_string(), json.to_string())).collect();
        let of = |kind: &str| told.iter().find(|(key, _)| key.starts_with(kind)).map(|(_, json)| json.as_str());
        assert_eq!(of("PeerAuthentication"), None);
        assert_eq!(
            of("Pod"),
            Some(
                r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-1","labels":{"app":"web"},"namespace":"default"}}"#
            )
        );
        let json = of("AuthorizationPolicy").unwrap();
        assert!(
            !json.contains("managedFields") && !json.contains("last-applied") && !json.contains("status"),
            "{json}"
        );
        let sent: Sent = serde_json::from_str(json).unwrap();
        let Ok(Object::Policy(again)) = sent.read(Kind::AuthorizationPolicy, &FileName::new("told")) else { panic!() };
        let first = &objects.policies[0];
        assert_eq!((&again.target, again.generation), (&first.target, first.generation));
        let (PolicySpec::Authorization(one), PolicySpec::Authorization(other)) = (&again.spec, &first.spec) else {
            panic!("{again:?}")
        };
        assert_eq!((one.dry_run, one.rules[0].to[0].paths.clone()), (true, other.rules[0].to[0].paths.clone()));
        // And told once more it is the same.
        assert_eq!(sent.document(Kind::AuthorizationPolicy).as_deref(), Some(json));
    }
}
