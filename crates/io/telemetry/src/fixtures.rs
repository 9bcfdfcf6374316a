//! For tests: two workloads and a service.

use std::sync::Arc;

use weir_model::{
    Health, HealthPolicy, Locality, Network, NetworkMode, Service, Termination, Tunnel, Workload, WorkloadKind,
};

pub(crate) fn workload(name: &str, namespace: &str) -> Workload {
    Workload {
        uid: format!("Kubernetes//v1/Pod/{namespace}/{name}-0").parse().unwrap(),
        incarnation: "1".into(),
        name: format!("{name}-0").into(),
        namespace: namespace.parse().unwrap(),
        trust_domain: "cluster.local".parse().unwrap(),
        service_account: name.parse().unwrap(),
        addresses: vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
        network: Network::default(),
        tunnel: Tunnel::Hbone,
        network_mode: NetworkMode::Standard,
        node: Some("node-1".parse().unwrap()),
        locality: Locality { region: "eu".into(), zone: "eu-1".into(), subzone: "".into() },
        health: Health::Healthy,
        cluster: "Kubernetes".parse().unwrap(),
        kind: WorkloadKind::Deployment,
        workload_name: name.into(),
        canonical_name: name.into(),
        canonical_revision: "v2".into(),
        services: Vec::new(),
        policies: Vec::new(),
        termination: Termination::default(),
        waypoint: None,
        unsupported: None,
    }
}

pub(crate) fn service(short_name: &str, namespace: &str) -> Service {
    Service {
        name: format!("{namespace}/{short_name}.{namespace}.svc.cluster.local").parse().unwrap(),
        short_name: Arc::from(short_name),
        vips: Vec::new(),
        ports: Vec::new(),
        health_policy: HealthPolicy::OnlyReady,
        waypoint: None,
        unsupported: None,
    }
}
