//! For tests: two workloads and a service.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use weir_model::{
    Flags, Health, HealthPolicy, Locality, Network, NetworkMode, Service, SpiffeId, Termination, Tunnel, Workload,
    WorkloadKind,
};

use crate::{HttpParty, HttpProtocol, HttpRecord, HttpSecurity, UpstreamRecord};

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
        seen: Default::default(),
        unsupported: None,
    }
}

/// What the record of a request borrows from.
pub(crate) struct Scene {
    pub(crate) ui: Arc<Workload>,
    pub(crate) db: Arc<Workload>,
    pub(crate) ui_id: SpiffeId,
    pub(crate) service: Arc<Service>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let (ui, db) = (workload("ui", "todo"), workload("db", "todo"));
        let ui_id = ui.identity();
        Self { ui: Arc::new(ui), db: Arc::new(db), ui_id, service: Arc::new(service("db", "todo")) }
    }

    /// A request that went well.
    pub(crate) fn record(&self) -> HttpRecord<'_> {
        HttpRecord {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_714_995_859_042),
            duration: Duration::from_micros(12_900),
            method: "GET",
            path: "/v2/items?limit=3",
            original_path: Some("/items?limit=3"),
            authority: Some("db.todo:8080"),
            protocol: HttpProtocol::Http11,
            grpc: None,
            code: Some(200),
            flags: Flags::NONE,
            code_details: Some("via_upstream"),
            termination_details: None,
            bytes_received: 84,
            bytes_sent: 358,
            wire_received: 300,
            wire_sent: 600,
            upstream: Some(UpstreamRecord {
                host: Some("10.0.1.9:8080".parse().unwrap()),
                cluster: Some("inbound-vip|8080|http|db.todo.svc.cluster.local"),
                local: Some("10.0.0.3:41000".parse().unwrap()),
                service_time: Some(Duration::from_micros(11_400)),
                failure: None,
            }),
            downstream_local: "10.96.0.9:8080".parse().unwrap(),
            downstream_remote: "[fd00::7]:40001".parse().unwrap(),
            forwarded_for: None,
            user_agent: Some(b"curl/8.5.0"),
            request_id: Some(b"b2d4e9a0-7c11-9f3e-8a55-0c6a4f0d2e11"),
            server_name: None,
            route_name: Some("default"),
            request_headers: None,
            response_headers: None,
            source: HttpParty { workload: Some(&self.ui), identity: Some(&self.ui_id) },
            destination: HttpParty { workload: Some(&self.db), identity: None },
            service: Some(&self.service),
            security: HttpSecurity::MutualTls,
        }
    }
}
