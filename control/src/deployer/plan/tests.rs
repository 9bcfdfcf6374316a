//! Gateways and what is laid over them in, the objects they ask for out.

use weir_manifest::{ConfigSpec, FileName, Object, parse};

use super::*;

fn settings() -> Settings {
    Settings {
        image: "registry.example/weir-waypoint:1".to_owned(),
        control: "https://weir-control.weir-system.svc:15012".to_owned(),
        flags: vec!["--log-format=json".to_owned()],
    }
}

fn infrastructure(text: &str) -> Infrastructure {
    let text = format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: w, namespace: shop}}, spec: \
         {{gatewayClassName: weir-waypoint, infrastructure: {text}, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}}}"
    );
    let objects = parse(&[(FileName::new("g.yaml"), &text)]).unwrap();
    let Some(Object::Config(object)) = objects.into_objects().next() else { panic!("a Gateway") };
    let ConfigSpec::Gateway(spec) = object.spec else { panic!("a Gateway") };
    spec.infrastructure
}

fn planned(name: &str, said: &str, parameters: &[(&str, &str)]) -> Result<Vec<Value>, String> {
    let texts = parameters.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    let (namespace, infrastructure) = ("shop".parse().unwrap(), infrastructure(said));
    let waypoint =
        Waypoint { namespace: &namespace, name, uid: "u1", class: "weir-waypoint", infrastructure: &infrastructure };
    objects(&waypoint, &settings(), &Parameters::read(&texts)?)
}

/// With fields by name, also where serde_json keeps the order they were written in.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<&String, Value> = fields.iter().map(|(key, value)| (key, sorted(value))).collect();
            json!(fields)
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[test]
fn a_plain_gateway_asks_for_these_objects() {
    let objects = planned("w", "{}", &[]).unwrap();
    let sorted: Vec<Value> = objects.iter().map(sorted).collect();
    insta::assert_snapshot!(serde_json::to_string_pretty(&sorted).unwrap());
}

#[test]
fn what_is_laid_over_is_there_and_what_is_ours_stays() {
    let objects = planned(
        "w",
        "{labels: {team: a, gateway.networking.k8s.io/gateway-name: other}, annotations: {note: x}}",
        &[
            ("deployment", "spec: {replicas: 2, template: {metadata: {labels: {istio.io/dataplane-mode: ambient, own: y}}, spec: {priorityClassName: high}}}"),
            ("service", "metadata: {labels: {team: b}}\nspec: {trafficDistribution: PreferClose}"),
            ("podDisruptionBudget", "spec: {minAvailable: 1}"),
        ],
    )
    .unwrap();
    let of = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
    let (service, deployment, budget) = (of("Service"), of("Deployment"), of("PodDisruptionBudget"));
    assert_eq!(
        (&service["metadata"]["labels"]["team"], &service["metadata"]["annotations"]["note"]),
        (&json!("a"), &json!("x"))
    );
    assert_eq!(service["spec"]["trafficDistribution"], "PreferClose");
    assert_eq!(deployment["metadata"]["labels"][GATEWAY_NAME], "w");
    let template = &deployment["spec"]["template"];
    assert_eq!(
        (&template["metadata"]["labels"]["istio.io/dataplane-mode"], &template["metadata"]["labels"]["own"]),
        (&json!("none"), &json!("y"))
    );
    assert_eq!((&deployment["spec"]["replicas"], &template["spec"]["priorityClassName"]), (&json!(2), &json!("high")));
    assert_eq!(
        (&budget["spec"]["minAvailable"], &budget["spec"]["selector"]["matchLabels"][GATEWAY_NAME]),
        (&json!(1), &json!("w"))
    );
}

#[test]
fn an_autoscaler_scales_the_deployment_which_says_no_number() {
    let objects = planned("w", "{}", &[("horizontalPodAutoscaler", "spec: {minReplicas: 2, maxReplicas: 9}")]).unwrap();
    let scaler = objects.iter().find(|object| object["kind"] == "HorizontalPodAutoscaler").unwrap();
    assert_eq!((&scaler["spec"]["scaleTargetRef"]["name"], &scaler["spec"]["maxReplicas"]), (&json!("w"), &json!(9)));
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    assert!(deployment["spec"].get("replicas").is_none());
}

#[test]
fn a_name_that_no_service_can_have_is_refused() {
    for bad in ["a.b", "1a", &"a".repeat(64)] {
        assert!(planned(bad, "{}", &[]).is_err(), "{bad} was taken");
    }
    assert!(planned(&"a".repeat(63), "{}", &[]).is_ok());
}

#[test]
fn what_is_the_gateways_is_known_by_its_uid() {
    let object = planned("w", "{}", &[]).unwrap().remove(0);
    assert!(is_owned(&object, "u1") && !is_owned(&object, "u2") && !is_owned(&json!({}), "u1"));
}

#[test]
fn a_service_is_reached_at_its_addresses_of_both_families() {
    let service = json!({"spec": {"clusterIPs": ["10.96.0.7", "fd00::7"]}});
    assert_eq!(addresses(&service).len(), 2);
    assert!(addresses(&json!({"spec": {"clusterIPs": ["None"]}})).is_empty());
}
