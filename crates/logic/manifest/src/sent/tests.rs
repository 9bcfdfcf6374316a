//! Objects of an API server: the same as from files, without what is big, and never one for another.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::object::Phase;

fn source() -> FileName {
    FileName::new("kubernetes")
}

fn sent(json: &Json) -> Sent {
    serde_json::from_slice(json.to_string().as_bytes()).unwrap()
}

fn pod() -> Json {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "ui", "namespace": "todo", "uid": "u1", "resourceVersion": "7",
            "labels": {"app": "ui"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "weir.dev/netns": "/run/netns/ui"},
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:spec": {}}}],
        },
        "spec": {
            "nodeName": "n1", "newInKubernetes": {"a": 1.5},
            "volumes": [{"name": "v"}],
            "containers": [{"name": "app", "image": "i", "env": [{"name": "A", "value": "secret"}],
                "ports": [{"name": "web", "containerPort": 8090, "protocol": "TCP"}]}],
        },
        "status": {"phase": "Running", "podIP": "fd00::7", "podIPs": [{"ip": "fd00::7"}, {"ip": "10.0.0.7"}],
            "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{"name": "app"}]},
    })
}

#[test]
fn a_pod_is_read_and_what_is_big_is_dropped_on_arrival() {
    let sent = sent(&pod());
    assert_eq!((sent.uid(), sent.resource_version()), (Some("u1"), Some("7")));
    let kept = format!("{:?}", sent.tree.root);
    for dropped in ["secret", "managedFields", "last-applied", "volumes", "containerStatuses"] {
        assert!(!kept.contains(dropped), "{dropped} in {kept}");
    }
    let Object::Pod(read) = sent.read(Kind::Pod, &source()).unwrap() else { panic!("no pod") };
    assert_eq!(read.addresses, ["fd00::7".parse::<std::net::IpAddr>().unwrap(), "10.0.0.7".parse().unwrap()]);
    assert_eq!((read.phase, read.ports.len(), &*read.incarnation), (Phase::Running, 1, "u1"));
    assert_eq!(Some(Object::Pod(read).key()), sent.key(Kind::Pod));
}

#[test]
fn what_a_file_says_and_what_a_server_says_is_read_alike() {
    let text = pod().to_string().replace("\"newInKubernetes\":{\"a\":1.5},", "");
    let objects = crate::parse(&[(source(), &text)]).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let Object::Pod(mut read) = sent(&pod()).read(Kind::Pod, &source()).unwrap() else { panic!("no pod") };
    read.origin.line = 1;
    assert_eq!(objects.pods, [read]);
}

#[test]
fn items_of_a_list_need_not_say_their_kind_but_may_not_say_another() {
    let mut item = pod();
    item.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
    assert!(sent(&item).read(Kind::Pod, &source()).is_ok());
    for (field, value) in [("kind", "Secret"), ("apiVersion", "v2")] {
        let mut item = pod();
        item[field] = json!(value);
        assert!(sent(&item).read(Kind::Pod, &source()).is_err(), "{field}");
    }
}

#[test]
fn an_error_names_the_object_and_the_path() {
    let mut bad = pod();
    bad["status"]["podIPs"][1]["ip"] = json!("10.0.0");
    let errors = sent(&bad).read(Kind::Pod, &source()).unwrap_err();
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let want =
        "kubernetes: Pod todo/ui: status.podIPs[1].ip: expected an IPv4 or IPv6 address, found \"10.0.0\"".to_owned();
    assert_eq!(errors, [want]);
}

#[test]
fn a_bound_refuses_one_object_and_not_the_list_around_it() {
    let mut tower = String::from("1");
    for _ in 0..200 {
        tower = format!("[{tower}]");
    }
    let text = pod().to_string();
    let bad = text.replace("\"nodeName\":\"n1\"", &format!("\"x\":{tower}"));
    assert_ne!(bad, text);
    let list: Vec<Sent> = serde_json::from_str(&format!("[{bad},{text}]")).unwrap();
    let errors = list[0].read(Kind::Pod, &source()).unwrap_err();
    assert_eq!(errors[0].cause, Cause::TooDeep { max: 120 });
    assert!(list[0].key(Kind::Pod).is_some());
    assert!(list[1].read(Kind::Pod, &source()).is_ok());
}

#[test]
fn every_kind_is_read_from_its_least_form() {
    for (kind, body) in [
        (Kind::Namespace, json!({})),
        (Kind::Node, json!({})),
        (Kind::Service, json!({"spec": {"ports": [{"port": 80}], "clusterIP": "10.96.0.1"}})),
        (Kind::EndpointSlice, json!({"addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1"]}], "ports": null})),
    ] {
        let mut object = body;
        object["metadata"] = json!({"name": "a", "namespace": "b"});
        let sent = sent(&object);
        let read = sent.read(kind, &source()).unwrap_or_else(|errors| panic!("{errors:#?}"));
        assert_eq!(Some(read.key()), sent.key(kind));
    }
}

/// Any JSON, no deeper than a few levels.
fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "[a-z0-9.:]{0,8}".prop_map(Json::from)
    ];
    let key = prop::sample::select(vec![
        "metadata",
        "spec",
        "status",
        "name",
        "namespace",
        "containers",
        "ports",
        "labels",
        "podIPs",
        "selector",
        "env",
    ]);
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            prop::collection::hash_map(key.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_a_server_says_is_an_object_or_an_error_and_never_a_panic(json in any_json()) {
        let sent = sent(&json);
        for kind in Kind::ALL {
            match sent.read(kind, &source()) {
                Ok(object) => prop_assert_eq!(Some(object.key()), sent.key(kind)),
                Err(errors) => prop_assert!(!errors.is_empty()),
            }
        }
    }

    #[test]
    fn a_damaged_field_of_a_pod_never_becomes_another_pod(json in any_json(), field in prop::sample::select(vec!["metadata", "spec", "status"])) {
        let mut damaged = pod();
        damaged[field] = json;
        let sent = sent(&damaged);
        match sent.read(Kind::Pod, &source()) {
            Ok(object) => prop_assert_eq!(Some(object.key()), sent.key(Kind::Pod)),
            Err(errors) => prop_assert!(!errors.is_empty()),
        }
    }
}
