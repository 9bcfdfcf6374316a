//! What the control plane counts, by istiod's names where it has them.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::UNIX_EPOCH,
};

use weir_issuance::{Certificates, Reason};
use weir_kube::Leadership;
use weir_telemetry::{
    Histogram,
    Kind::{Bare, Counter, Gauge},
    Metrics, Sample, Value,
};
use weir_xds::{Discovery, Kind, Push};

use crate::{admission::Known, source::Mesh};

/// Seconds. Istiod's own bounds.
const SECONDS: &[f64] = &[0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0];
/// Bytes. Istiod's own bounds.
const BYTES: &[f64] = &[1.0, 10_000.0, 1_000_000.0, 4_000_000.0, 10_000_000.0, 40_000_000.0];

/// What each push is measured by.
pub(crate) struct Pushes {
    convergence: Histogram,
    sizes: Histogram,
}

impl Pushes {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            convergence: metrics.histogram(
                "pilot_proxy_convergence_time",
                "Delay in seconds between a change and its being sent to an agent",
                SECONDS,
            ),
            sizes: metrics.histogram("pilot_xds_config_size_bytes", "Size of what is sent to agents at once", BYTES),
        }
    }

    pub(crate) fn saw(&self, push: &Push) {
        if let Some(latency) = push.latency {
            self.convergence.observe(latency.as_secs_f64());
        }
        self.sizes.observe(f64::from(u32::try_from(push.bytes).unwrap_or(u32::MAX)));
    }
}

fn one(number: u64) -> Vec<Sample> {
    vec![Sample { labels: Vec::new(), value: Value::Whole(number) }]
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Address => "workload",
        Kind::Authorization => "authorization",
        Kind::Object => "object",
    }
}

/// Of discovery.
pub(crate) fn discovery(metrics: &Metrics, discovery: &Discovery) {
    let by_kind = |read: fn(&weir_xds::Stats, Kind) -> u64| {
        let discovery = discovery.clone();
        move || {
            let sample = |kind: &Kind| Sample {
                labels: vec![("type", word(*kind).to_owned())],
                value: Value::Whole(read(discovery.stats(), *kind)),
            };
            Kind::ALL.iter().map(sample).collect()
        }
    };
    let of = discovery.clone();
    metrics.collect("pilot_xds", "Agents connected by XDS", Gauge, move || one(of.stats().connected()));
    metrics.collect("pilot_xds_pushes", "Responses sent to agents", Bare, by_kind(weir_xds::Stats::pushes));
    metrics.collect("pilot_total_xds_rejects", "Responses that agents refused", Bare, by_kind(weir_xds::Stats::nacks));
    metrics.collect("weir_xds_acks", "Responses that agents took", Counter, by_kind(weir_xds::Stats::acks));
    metrics.collect(
        "weir_xds_resources_sent",
        "Resources sent to agents",
        Counter,
        by_kind(weir_xds::Stats::resources),
    );
    let of = discovery.clone();
    metrics.collect("weir_xds_refused", "Streams and requests that were refused", Counter, move || {
        one(of.stats().refused())
    });
}

/// Of the source.
pub(crate) fn source(metrics: &Metrics, mesh: &Mesh) {
    let of = mesh.clone();
    metrics.collect("pilot_k8s_reg_events", "Changes of objects that were read", Bare, move || {
        let events = of.state.events.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = |(kind, count): (&String, &u64)| Sample {
            labels: vec![("type", kind.clone())],
            value: Value::Whole(*count),
        };
        events.iter().map(sample).collect()
    });
    let of = mesh.clone();
    metrics.collect("weir_objects_refused", "Objects that cannot be read now", Gauge, move || {
        let refused = of.state.refused.lock().unwrap_or_else(PoisonError::into_inner);
        one(u64::try_from(refused.len()).unwrap_or(u64::MAX))
    });
    let of = mesh.clone();
    metrics.collect("weir_kinds_not_followed", "Kinds of objects that cannot be followed now", Gauge, move || {
        let lost = of.state.lost.lock().unwrap_or_else(PoisonError::into_inner);
        one(u64::try_from(lost.len()).unwrap_or(u64::MAX))
    });
    let of = mesh.clone();
    metrics.collect("weir_mesh_resources", "Resources of the mesh", Gauge, move || {
        let sample = |kind: &Kind| Sample {
            labels: vec![("type", word(*kind).to_owned())],
            value: Value::Whole(u64::try_from(of.store.len(*kind)).unwrap_or(u64::MAX)),
        };
        Kind::ALL.iter().map(sample).collect()
    });
}

/// Of the CA.
pub(crate) fn certificates(metrics: &Metrics, certificates: &Certificates) {
    let stats = certificates.stats();
    let count = |name, help, read: fn(&weir_issuance::Stats) -> u64| {
        let stats = stats.clone();
        metrics.collect(name, help, Bare, move || one(read(&stats)));
    };
    count("citadel_server_csr_count", "Signing requests received", |stats| stats.requests.load(Relaxed));
    count("citadel_server_success_cert_issuance_count", "Certificates issued", |stats| stats.issued.load(Relaxed));
    count("citadel_server_authentication_failure_count", "Callers that may not have what they asked for", |stats| {
        stats.authentication_failures()
    });
    count("citadel_server_csr_parsing_err_count", "Signing requests that were bad", |stats| stats.parsing_errors());
    count("citadel_server_id_extraction_err_count", "Identities that could not be read", |stats| {
        stats.id_extraction_errors()
    });
    count("citadel_server_csr_sign_err_count", "Signatures that failed", |stats| stats.sign_errors());
    let of = stats.clone();
    metrics.collect("weir_certificates_refused", "Certificates that were refused, by reason", Counter, move || {
        let sample = |reason: &Reason| Sample {
            labels: vec![("reason", reason.as_str().to_owned())],
            value: Value::Whole(of.refused(*reason)),
        };
        Reason::ALL.iter().map(sample).collect()
    });
    let of = certificates.clone();
    metrics.collect(
        "citadel_server_root_cert_expiry_timestamp",
        "When the root expires, in Unix seconds",
        Gauge,
        move || one(of.root_not_after().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())),
    );
}

/// Of the gRPC server.
pub(crate) fn server(metrics: &Metrics, stats: Arc<weir_rpc::Stats>) {
    let of = stats.clone();
    metrics.collect("weir_grpc_connections", "Connections of agents open now", Gauge, move || {
        one(of.connections.load(Relaxed))
    });
    let of = stats.clone();
    metrics.collect("weir_grpc_handshakes_failed", "TLS handshakes that failed", Counter, move || {
        one(of.handshakes_failed.load(Relaxed))
    });
    metrics.collect("weir_grpc_unauthenticated", "Calls refused for what they did not prove", Counter, move || {
        one(stats.unauthenticated.load(Relaxed))
    });
}

/// Of admission.
pub(crate) fn reviews(metrics: &Metrics, known: &Arc<Known>) {
    let of = known.clone();
    metrics.collect(
        "weir_admission_reviews",
        "Objects that API servers asked about, by what was answered",
        Counter,
        move || {
            let counts = &of.reviews;
            let sample = |(verdict, count): (&str, &AtomicU64)| Sample {
                labels: vec![("verdict", verdict.to_owned())],
                value: Value::Whole(count.load(Relaxed)),
            };
            [("admitted", &counts.admitted), ("warned", &counts.warned), ("refused", &counts.refused)]
                .map(sample)
                .into()
        },
    );
}

/// Of the election.
pub(crate) fn leader(metrics: &Metrics, leadership: Leadership) {
    metrics.collect("weir_leader", "Whether this replica writes to the cluster", Gauge, move || {
        one(u64::from(leadership.is_leader()))
    });
}
