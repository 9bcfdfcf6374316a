//! Reviews as API servers send them: what is answered, what passes, what is refused; and the law that holds for whatever they hold.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, sync::LazyLock};

use proptest::prelude::*;
use weir_compile::Compiler;
use weir_manifest::{ConfigSpec, PolicySpec, parse};

use super::*;

const MESH: &str = include_str!("../../cases/mesh.yaml");

fn settings() -> Settings {
    Settings {
        trust_domain: "cluster.local".parse().unwrap(),
        cluster: "Kubernetes".parse().unwrap(),
        network: "".parse().unwrap(),
        node: None,
        cluster_domain: "cluster.local".parse().unwrap(),
        root_namespace: "istio-system".parse().unwrap(),
    }
}

fn mesh() -> Vec<Object> {
    parse(&[(FileName::new("mesh.yaml"), MESH)]).unwrap().into_objects().collect()
}

/// A review of an object, with changes of the request.
fn body(kind: Kind, object: &Value, changes: &Value) -> Vec<u8> {
    let mut request = json!({
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": kind.group(), "version": kind.version(), "kind": kind.name()},
        "namespace": "shop", "operation": "CREATE", "object": object, "oldObject": null, "dryRun": false,
    });
    for (key, value) in changes.as_object().unwrap() {
        request[key] = value.clone();
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string().into_bytes()
}

fn judged(body: &[u8], among: Vec<Object>) -> Verdict {
    Review::read(body).unwrap().judge(&settings(), |_| among)
}

fn object(kind: Kind, name: &str, spec: &Value) -> Value {
    let group = kind.group();
    let version = if group.is_empty() { kind.version().to_owned() } else { format!("{group}/{}", kind.version()) };
    json!({"apiVersion": version, "kind": kind.name(), "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

fn virtual_service() -> Kind {
    Kind::ALL.into_iter().find(|kind| kind.name() == "VirtualService").unwrap()
}

#[test]
fn what_is_answered_is_what_kubectl_shows() {
    let service = virtual_service();
    let to = |host: &str| json!({"route": [{"destination": {"host": host}}]});
    let policy = |rules: Value| object(Kind::AuthorizationPolicy, "p", &json!({"rules": rules}));
    let labelled =
        |labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": labels}});
    let mut answers = String::new();
    for (name, kind, object) in [
        ("good", service, object(service, "good", &json!({"hosts": ["stock"], "http": [to("stock")]}))),
        ("unknown host", service, object(service, "v", &json!({"hosts": ["stock"], "http": [to("stcok")]}))),
        (
            "weights of 0",
            service,
            object(
                service,
                "v",
                &json!({"hosts": ["stock"], "http": [{"route": [{"destination": {"host": "stock"}, "weight": 0},
                {"destination": {"host": "cart"}, "weight": 0}]}]}),
            ),
        ),
        ("wrong type", service, object(service, "v", &json!({"hosts": "stock", "http": [{"timeout": "soon"}]}))),
        (
            "unknown field of a policy",
            Kind::AuthorizationPolicy,
            policy(json!([{"from": [{"source": {"ipBlock": ["10.0.0.0/8"]}}]}])),
        ),
        (
            "paths without a waypoint",
            Kind::AuthorizationPolicy,
            policy(json!([{"to": [{"operation": {"paths": ["/a"]}}]}])),
        ),
        ("misspelt mode", Kind::Namespace, labelled(json!({"istio.io/dataplane-mode": "ambinet"}))),
        ("misspelt label", Kind::Namespace, labelled(json!({"istio.io/dataplane-mod": "ambient"}))),
        ("absent waypoint", Kind::Namespace, labelled(json!({"istio.io/use-waypoint": "gate"}))),
    ] {
        let review = Review::read(&body(kind, &object, &json!({}))).unwrap();
        let answer: Value = serde_json::from_slice(&review.answer(&review.judge(&settings(), |_| mesh()))).unwrap();
        let response = &answer["response"];
        writeln!(answers, "# {name}\nallowed: {}", response["allowed"]).unwrap();
        if let Some(message) = response["status"]["message"].as_str() {
            writeln!(answers, "{} {message}", response["status"]["code"]).unwrap();
        }
        for warning in response["warnings"].as_array().into_iter().flatten() {
            writeln!(answers, "Warning: {}", warning.as_str().unwrap()).unwrap();
        }
        assert_eq!(answer["response"]["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
    }
    insta::assert_snapshot!("answers", answers);
}

#[test]
fn what_is_nobodys_goes_away_or_is_as_it_was_passes() {
    let service = virtual_service();
    let bad = object(service, "v", &json!({"hosts": 1}));
    let mut ending = bad.clone();
    ending["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
    let mut labelled = bad.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    for (changes, object, passes) in [
        (json!({}), &bad, false),
        (json!({"operation": "UPDATE", "oldObject": labelled}), &bad, false),
        (json!({"operation": "UPDATE", "oldObject": bad}), &bad, true),
        (json!({"operation": "UPDATE", "oldObject": labelled}), &ending, true),
        (json!({"operation": "DELETE", "object": null, "oldObject": bad}), &bad, true),
        (json!({"operation": "DELETE"}), &bad, true),
        (json!({"operation": "CONNECT"}), &bad, true),
        (json!({"subResource": "status", "operation": "UPDATE"}), &bad, true),
        (json!({"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}}), &bad, true),
        (json!({"kind": {"group": "example.com", "version": "v1", "kind": "VirtualService"}}), &bad, true),
        (json!({"kind": {"version": "v1", "kind": "Pod"}}), &bad, true),
        (json!({"dryRun": true}), &bad, false),
    ] {
        let body = body(service, object, &changes);
        assert_eq!(Review::read(&body).unwrap().passes(), passes, "{changes}");
        assert_eq!(judged(&body, mesh()).refused.is_empty(), passes, "{changes}");
    }
}

#[test]
fn what_is_no_review_is_refused() {
    let good = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "u", "kind": {"kind": "X"}, "operation": "CREATE"}});
    assert!(Review::read(good.to_string().as_bytes()).unwrap().passes());
    for (pointer, value) in [
        ("apiVersion", json!("admission.k8s.io/v1beta1")),
        ("kind", json!("ConversionReview")),
        ("request", json!(null)),
        ("request", json!({"uid": "", "kind": {"kind": "X"}, "operation": "CREATE"})),
        ("request", json!({"uid": "u".repeat(129), "kind": {"kind": "X"}, "operation": "CREATE"})),
        ("request", json!([])),
    ] {
        let mut bad = good.clone();
        bad[pointer] = value;
        assert!(Review::read(bad.to_string().as_bytes()).is_err(), "{bad}");
    }
    let large = " ".repeat(MAX_REVIEW + 1);
    assert!(matches!(Review::read(large.as_bytes()), Err(ReviewError::TooLarge { .. })));
    assert!(Review::read(b"").is_err() && Review::read("[".repeat(1_000_000).as_bytes()).is_err());
}

#[test]
fn warnings_are_short_and_few_and_so_are_reasons() {
    let service = virtual_service();
    let routes: Vec<Value> = (0..200)
        .map(|n| {
            json!({"match": [{"uri": {"exact": format!("/{n}")}}],
        "route": [{"destination": {"host": format!("{}{n}.shop.svc.cluster.local", "long-".repeat(8))}}]})
        })
        .collect();
    let verdict =
        judged(&body(service, &object(service, "v", &json!({"hosts": ["stock"], "http": routes})), &json!({})), mesh());
    assert!(verdict.warnings.len() > 20, "{verdict:?}");
    assert!(verdict.warnings.iter().all(|warning| warning.chars().count() <= WARNING));
    assert!(verdict.warnings.iter().map(String::len).sum::<usize>() <= WARNINGS);
    assert_eq!(plain("a\nb\u{7f}", 10), "a b ");
    assert_eq!(plain("äöü", 2), "ä…");
}

#[test]
fn an_object_is_judged_in_place_of_what_it_was_and_by_its_own_annotations() {
    let service = virtual_service();
    let mut better =
        object(service, "cart", &json!({"hosts": ["cart"], "http": [{"route": [{"destination": {"host": "cart"}}]}]}));
    assert_eq!(judged(&body(service, &better, &json!({})), mesh()), Verdict::default());
    better["spec"]["http"][0]["route"][0]["destination"]["host"] = json!("crat");
    assert_eq!(judged(&body(service, &better, &json!({})), mesh()).warnings.len(), 1);
    better["metadata"]["annotations"] = json!({"galley.istio.io/analyze-suppress": "IST0101"});
    assert_eq!(judged(&body(service, &better, &json!({})), mesh()), Verdict::default());
    better["metadata"].as_object_mut().unwrap().remove("name");
    better["metadata"]["generateName"] = json!("cart-");
    assert_eq!(judged(&body(service, &better, &json!({})), mesh()).refused, Vec::<String>::new());
}

#[test]
fn what_another_controller_reads_is_theirs_to_judge() {
    let of = |name: &str| Kind::ALL.into_iter().find(|kind| kind.name() == name).unwrap();
    let route = |parents: Value| object(of("HTTPRoute"), "r", &json!({"parentRefs": parents, "rules": "wrong"}));
    let gateway = |class: &str| object(of("Gateway"), "g", &json!({"gatewayClassName": class, "listeners": "wrong"}));
    for (kind, object, passes) in [
        ("Gateway", gateway("nginx"), true),
        ("Gateway", gateway("istio-waypoint"), false),
        ("HTTPRoute", route(json!([{"name": "ingress"}])), true),
        ("HTTPRoute", route(json!([{"name": "waypoint"}])), false),
        ("HTTPRoute", route(json!([{"name": "waypoint", "namespace": "other"}])), true),
        ("HTTPRoute", route(json!([{"name": "ingress"}, {"kind": "Service", "group": "", "name": "cart"}])), false),
    ] {
        let verdict = judged(&body(of(kind), &object, &json!({})), mesh());
        assert_eq!(verdict == Verdict::default(), passes, "{object} {verdict:?}");
    }
}

/// Every document of the cases that an API server would be sent.
static DOCUMENTS: LazyLock<Vec<(Kind, Value)>> = LazyLock::new(|| {
    let mut all = BTreeMap::new();
    for name in ["mesh", "routes", "policies", "effects"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("cases/{name}.yaml"));
        let text = fs::read_to_string(path).unwrap();
        all.extend(parse(&[(FileName::new(name), &text)]).unwrap().documents);
    }
    let kind = |key: &ObjectKey| Kind::ALL.into_iter().find(|kind| kind.name() == &*key.kind).unwrap();
    let all = all.iter().map(|(key, json)| (kind(key), serde_json::from_str(json).unwrap()));
    all.filter(|(kind, _)| *kind != Kind::Pod).collect()
});

/// The paths of all values in a value.
fn pointers(value: &Value, path: &str, all: &mut Vec<String>) {
    all.push(path.to_owned());
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| pointers(item, &format!("{path}/{n}"), all))
        }
        Value::Object(fields) => {
            let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
            fields.iter().for_each(|(key, item)| pointers(item, &format!("{path}/{}", escaped(key)), all));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// What passes without a word the compiler takes without one, and what the reader refuses is refused.
    #[test]
    fn what_is_admitted_is_taken_and_what_cannot_be_read_is_refused(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), by in 0usize..8,
    ) {
        let (kind, mut document) = DOCUMENTS[which.index(DOCUMENTS.len())].clone();
        let mut all = Vec::new();
        pointers(&document["spec"], "/spec", &mut all);
        let pointer = all[at.index(all.len())].clone();
        let values = [json!(null), json!(7), json!(-1), json!("x"), json!([]), json!({}), json!(true), json!(["x", {"y": 1}])];
        *document.pointer_mut(&pointer).unwrap() = values[by].clone();
        // What is somebody else's is theirs to judge.
        prop_assume!(gateways(&document).is_none() && !is_foreign_gateway(kind, &document));
        let sent = Sent::deserialize(document.clone()).unwrap();
        let read = sent.read(kind, &FileName::new(""));
        let is_legal = match &read {
            Err(_) => false,
            Ok(Object::Policy(one)) => !matches!(one.spec, PolicySpec::Rejected(_)),
            Ok(Object::Config(one)) => !matches!(one.spec, ConfigSpec::Rejected(_)),
            Ok(_) => true,
        };
        let verdict = judged(&body(kind, &document, &json!({})), mesh());
        prop_assert!(is_legal || !verdict.refused.is_empty(), "{pointer} {document}: {verdict:?}");
        if verdict == Verdict::default() && let Ok(object) = read {
            let key = object.key();
            let mut compiler = Compiler::new(settings());
            mesh().into_iter().filter(|other| other.key() != key).for_each(|other| compiler.set(other));
            compiler.set(object);
            compiler.take();
            let told = compiler.routes().findings;
            let told: Vec<_> = told.iter().filter(|one| *one.name == *key.name && *one.kind == *key.kind).collect();
            prop_assert!(told.is_empty(), "{pointer} {document}: {told:?}");
            let unlike: Vec<_> = compiler.statuses();
            let unlike: Vec<_> = unlike.iter().filter(|one| *one.name == *key.name && *one.kind == *key.kind && !one.is_as_written()).collect();
            prop_assert!(unlike.is_empty(), "{pointer} {document}: {unlike:?}");
        }
    }
}
