//! Definitions in, and what people write: whether both, and who reads them, agree.

use std::path::PathBuf;

use serde_json::json;
use weir_manifest::{FileName, parse};

use super::*;

#[test]
fn what_is_committed_is_what_would_be_written() {
    let findings: Vec<String> = check(&root()).unwrap().iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{findings:#?}");
}

/// What else is wrong with a value that has one field alone does not matter: that the field is not known would.
#[test]
fn every_field_of_a_definition_is_known_to_who_reads_the_kind() {
    let samples = crds::samples();
    assert!(samples.len() > 300, "{} fields", samples.len());
    for (kind, path, object) in samples {
        let text = object.to_string();
        let Err(errors) = parse(&[(FileName::new("sample.yaml"), &text)]) else { continue };
        for error in errors {
            let said = error.to_string();
            assert!(!said.contains("unknown field"), "{kind} {path}: {said}\n{text}");
        }
    }
}

/// The definition of a kind, and the schema of what it keeps.
fn schema(kind: &str) -> Option<Value> {
    let definition = crds::all().into_iter().find(|one| one["spec"]["names"]["kind"] == kind)?;
    Some(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
}

/// Everything in which a value is not as a schema says.
fn violations(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let mut fail = |why: String| found.push(format!("{path}: {why}"));
    if schema["x-kubernetes-int-or-string"] == true || value.is_null() {
        return;
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        fail(format!("{value} is none of {words:?}"));
    }
    match (schema["type"].as_str().unwrap_or_default(), value) {
        ("object", Value::Object(fields)) => {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !fields.contains_key(name) {
                    fail(format!("{name} is missing"));
                }
            }
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                let of = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                if !of.is_null() {
                    violations(of, value, &path, found);
                } else if schema["x-kubernetes-preserve-unknown-fields"] != true {
                    found.push(format!("{path}: no such field"));
                }
            }
        }
        ("array", Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                violations(&schema["items"], item, &format!("{path}[{at}]"), found);
            }
        }
        ("string", Value::String(_)) | ("boolean", Value::Bool(_)) => {}
        ("integer" | "number", Value::Number(number)) => {
            let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
            let number = number.as_f64();
            if least.is_some_and(|least| number < Some(least)) || most.is_some_and(|most| number > Some(most)) {
                fail(format!("{value} is out of bounds"));
            }
        }
        (kind, value) => fail(format!("{value} is no {kind}")),
    }
}

/// The documents of the repository that have one of these kinds, with their files.
fn written() -> Vec<(PathBuf, Value)> {
    let root = root();
    let files = crate::tidy::tracked(&root).unwrap();
    let mut found = Vec::new();
    for file in files.iter().filter(|file| {
        file.ends_with(".yaml") && (file.starts_with("tests/explain/") || file.starts_with("deploy/samples/"))
    }) {
        let text = fs::read_to_string(root.join(file)).unwrap();
        // What is meant to be illegal YAML is not for this.
        for document in kustomize::documents(&text).unwrap_or_default() {
            found.push((PathBuf::from(file), document));
        }
    }
    found
}

#[test]
fn what_people_write_fits_the_definitions() {
    let mut seen = std::collections::BTreeSet::new();
    for (file, document) in written() {
        let kind = document["kind"].as_str().unwrap_or_default();
        let is_istios = document["apiVersion"].as_str().unwrap_or_default().contains("istio.io/");
        let Some(schema) = schema(kind).filter(|_| is_istios) else { continue };
        let mut found = Vec::new();
        violations(&schema["properties"]["spec"], &document["spec"], "spec", &mut found);
        assert!(found.is_empty(), "{}: {kind} {}: {found:?}", file.display(), document["metadata"]["name"]);
        seen.insert(kind.to_owned());
    }
    assert!(seen.len() > 4, "only {seen:?} were looked at");
}

#[test]
fn what_does_not_fit_is_found() {
    let schema = schema("PeerAuthentication").unwrap();
    for (spec, want) in [
        (json!({"mtls": {"mode": "STRICT"}, "portLevelMtls": {"80": {"mode": "DISABLE"}}}), None),
        (json!({"mtls": {"mode": "strict"}}), Some("spec.mtls.mode: \"strict\" is none of")),
        (json!({"mtls": {"mod": "STRICT"}}), Some("spec.mtls.mod: no such field")),
        (json!({"mtls": []}), Some("spec.mtls: [] is no object")),
    ] {
        let mut found = Vec::new();
        violations(&schema["properties"]["spec"], &spec, "spec", &mut found);
        match want {
            None => assert!(found.is_empty(), "{found:?}"),
            Some(want) => assert!(found.iter().any(|one| one.starts_with(want)), "{found:?}"),
        }
    }
}

/// Every level says what it is, and says nothing that a structural schema may not. Kubernetes, `apiextensions.k8s.io/v1`.
fn assert_structural(schema: &Value, path: &str) {
    let either = schema["x-kubernetes-int-or-string"] == true;
    assert!(either || schema["type"].is_string(), "{path} has no type");
    for key in schema.as_object().unwrap().keys() {
        let known = [
            "additionalProperties",
            "description",
            "enum",
            "format",
            "items",
            "maxItems",
            "maxLength",
            "maximum",
            "minLength",
            "minimum",
            "properties",
            "required",
            "type",
            "x-kubernetes-int-or-string",
            "x-kubernetes-preserve-unknown-fields",
        ];
        assert!(known.contains(&key.as_str()), "{path} says {key}");
    }
    assert!(schema["properties"].is_null() || schema["additionalProperties"].is_null(), "{path} has both");
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        assert_structural(below, &format!("{path}.{name}"));
    }
    for name in ["items", "additionalProperties"] {
        if !schema[name].is_null() {
            assert_structural(&schema[name], &format!("{path}.{name}"));
        }
    }
}

#[test]
fn definitions_are_structural_and_keep_one_version() {
    let all = crds::all();
    assert_eq!(all.len(), 7);
    for definition in all {
        let spec = &definition["spec"];
        let name = format!("{}.{}", spec["names"]["plural"], spec["group"]).replace('"', "");
        assert_eq!(definition["metadata"]["name"], *name);
        let versions = spec["versions"].as_array().unwrap();
        assert_eq!(versions.iter().filter(|version| version["storage"] == true).count(), 1, "{name}");
        for version in versions {
            assert_structural(&version["schema"]["openAPIV3Schema"], &name);
        }
    }
}
