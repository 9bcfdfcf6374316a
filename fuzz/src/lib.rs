//! What several targets begin with: a mesh to put objects into, and how a text is read as such.

use weir_compile::{ClusterDomain, Settings, compile, default_root_namespace};
use weir_manifest::{ConfigKind, ConfigObject, ConfigSpec, FileName, Kind, Object, Sent, parse};
use weir_world::World;

/// The settings of a usual mesh.
pub fn settings() -> Settings {
    Settings {
        trust_domain: "cluster.local".parse().expect("a trust domain"),
        cluster: "Kubernetes".parse().expect("a cluster"),
        network: "".parse().expect("a network"),
        node: None,
        cluster_domain: ClusterDomain::default(),
        root_namespace: default_root_namespace(),
    }
}

/// A usual mesh of these manifests.
pub fn ground(manifests: &str) -> (Settings, World) {
    let settings = settings();
    let objects = parse(&[(FileName::new("ground.yaml"), manifests)]).expect("they are legal");
    let world = World::new(compile(objects, &settings));
    (settings, world)
}

/// Hands over the objects of a text that is manifests, and the one of a text that a server sends as such an object. One that is refused has reasons,
/// and one that is rejected has reasons that are bounded.
pub fn readings(text: &str, kind: ConfigKind, judge: impl Fn(Vec<ConfigObject>)) {
    let file = FileName::new("fuzz.yaml");
    match parse(&[(file.clone(), text)]) {
        Ok(objects) => judge(objects.configs),
        Err(errors) => assert!(!errors.is_empty(), "refused without a reason"),
    }
    let Ok(sent) = serde_json::from_str::<Sent>(text) else { return };
    match sent.read(Kind::Config(kind), &file) {
        Ok(Object::Config(object)) => {
            if let ConfigSpec::Rejected(why) = &object.spec {
                assert!(!why.is_empty() && why.len() <= 4_096, "{why}");
            }
            judge(vec![object]);
        }
        Ok(other) => panic!("not of {kind:?}: {other:?}"),
        Err(errors) => assert!(!errors.is_empty(), "refused without a reason"),
    }
}
