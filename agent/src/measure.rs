//! Metrics that are read when they are asked for.

use std::sync::{Arc, Mutex, PoisonError};

use weir_ebpf_loader::{Counter, Counters, Redirect};
use weir_identity::CertificateReport;
use weir_telemetry::{AccessLog, CertificateSpan, Certificates, Kind, Sample, Value};

use crate::{install::Repairs, worker::Shared};

/// What the kernel programs counted, as of the last look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decisions(Arc<Mutex<Option<Counters>>>);

impl Decisions {
    /// Looks again.
    pub(crate) fn update(&self, redirect: &Redirect) {
        match redirect.counters() {
            Ok(counters) => *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(counters),
            Err(error) => tracing::warn!(%error, "the kernel's counters cannot be read"),
        }
    }

    fn samples(&self) -> Vec<Sample> {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(counters) = *counters else { return Vec::new() };
        Counter::ALL
            .iter()
            .map(|c| Sample { labels: vec![("decision", name(*c).to_owned())], value: Value::Whole(counters.of(*c)) })
            .collect()
    }
}

/// Label `decision`.
pub(crate) fn name(counter: Counter) -> &'static str {
    match counter {
        Counter::Caught => "caught",
        Counter::RefusedNoListener => "refused_no_listener",
        Counter::RefusedNoMemory => "refused_no_memory",
        Counter::RefusedToListener => "refused_to_listener",
        Counter::OriginLost => "origin_lost",
        Counter::FlowLost => "flow_lost",
        Counter::ToHbone => "to_hbone",
        Counter::ToInbound => "to_inbound",
        Counter::DroppedNoListener => "dropped_no_listener",
        Counter::DroppedUnknownAddress => "dropped_unknown_address",
        Counter::PassedAgent => "passed_agent",
        Counter::PassedHost => "passed_host",
        Counter::PassedSelf => "passed_self",
    }
}

/// Registers them all.
pub(crate) fn collect(shared: &Shared, access: Option<AccessLog>, decisions: Decisions, repairs: Repairs) {
    let metrics = &shared.metrics;
    metrics.collect(
        "weir_kernel_decisions",
        "Connections the kernel programs decided on, by what they decided",
        Kind::Counter,
        move || decisions.samples(),
    );
    let identities = shared.identities.clone();
    metrics.certificates(move || Certificates {
        issued: identities.issued(),
        failed: identities.failed(),
        held: identities.snapshot().into_iter().filter_map(span).collect(),
    });
    let shadows = shared.shadows.clone();
    metrics.collect(
        "weir_policy_audit",
        "Connections that a policy with action AUDIT matched",
        Kind::Counter,
        move || shadows.audits(),
    );
    let shadows = shared.shadows.clone();
    metrics.collect(
        "weir_policy_dry_run",
        "What would have become of connections if policies that are tried out (dry run) were in force, by the policy that decided",
        Kind::Counter,
        move || shadows.dry_runs(),
    );
    metrics.collect(
        "weir_cni_repairs",
        "How often the CNI plugin was put back into the chain that somebody took it out of",
        Kind::Counter,
        move || one(repairs.count()),
    );
    if let Some(access) = access {
        let access = Mutex::new(access);
        metrics.collect(
            "weir_access_log_dropped",
            "Access log lines dropped because standard output took none",
            Kind::Counter,
            move || one(access.lock().map_or(0, |access| access.dropped())),
        );
    }
}

fn one(value: u64) -> Vec<Sample> {
    vec![Sample { labels: Vec::new(), value: Value::Whole(value) }]
}

fn span(report: CertificateReport) -> Option<CertificateSpan> {
    let (from, until) = (report.not_before?, report.not_after?);
    Some(CertificateSpan { identity: report.identity.to_string(), from, until })
}
