//! `baggage`: what one side of a tunnel says of itself, for telemetry only. W3C Baggage; keys as Istio writes them.
//!
//! A peer can write here whatever it likes: nothing read from it may ever decide anything.

use std::fmt::Write;

use weir_model::{Workload, WorkloadKind};

/// The most bytes of a baggage header that are read. W3C Baggage §3.3.2.
pub const MAX_BYTES: usize = 8_192;

/// What a baggage header says, unproven.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baggage {
    /// `k8s.cluster.name`.
    pub cluster: Option<String>,
    /// `k8s.namespace.name`.
    pub namespace: Option<String>,
    /// `k8s.{deployment,cronjob,job,pod}.name`.
    pub workload: Option<String>,
    /// `service.name`: the canonical name.
    pub service: Option<String>,
    /// `service.version`: the canonical revision.
    pub version: Option<String>,
    /// `cloud.region`.
    pub region: Option<String>,
    /// `cloud.availability_zone`.
    pub zone: Option<String>,
}

/// What a workload says of itself.
pub fn describe(workload: &Workload) -> String {
    let kind = match workload.kind {
        WorkloadKind::Deployment => "deployment",
        WorkloadKind::CronJob => "cronjob",
        WorkloadKind::Job => "job",
        WorkloadKind::Pod => "pod",
    };
    let mut out = String::with_capacity(256);
    let mut member = |key: &str, value: &str| {
        if value.is_empty() {
            return;
        }
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(key);
        out.push('=');
        escape(value, &mut out);
    };
    member("k8s.cluster.name", workload.cluster.as_str());
    member("k8s.namespace.name", workload.namespace.as_str());
    member(&format!("k8s.{kind}.name"), &workload.workload_name);
    member("service.name", &workload.canonical_name);
    member("service.version", &workload.canonical_revision);
    member("cloud.region", &workload.locality.region);
    member("cloud.availability_zone", &workload.locality.zone);
    out
}

/// Percent-encodes what may not stand in a value. W3C Baggage §3.3.1.
fn escape(value: &str, out: &mut String) {
    for byte in value.bytes() {
        match byte {
            0x21 | 0x23..=0x24 | 0x26..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").expect("a String takes everything"),
        }
    }
}

fn unescape(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (hex, tail) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

impl Baggage {
    /// Reads a header; members that are not legal or not known are passed over, as the standard asks.
    pub fn parse(header: &[u8]) -> Self {
        let mut baggage = Self::default();
        let Some(text) = std::str::from_utf8(header).ok().filter(|t| t.len() <= MAX_BYTES) else {
            return baggage;
        };
        for member in text.split(',') {
            let Some((key, value)) = member.split_once('=') else { continue };
            let slot = match key.trim() {
                "k8s.cluster.name" => &mut baggage.cluster,
                "k8s.namespace.name" => &mut baggage.namespace,
                "k8s.deployment.name" | "k8s.cronjob.name" | "k8s.job.name" | "k8s.pod.name" => &mut baggage.workload,
                "service.name" => &mut baggage.service,
                "service.version" => &mut baggage.version,
                "cloud.region" => &mut baggage.region,
                "cloud.availability_zone" => &mut baggage.zone,
                _ => continue,
            };
            let value = value.split_once(';').map_or(value, |(value, _properties)| value);
            *slot = unescape(value.trim()).filter(|v| !v.is_empty());
        }
        baggage
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_istio_writes_is_read() {
        let header = b"k8s.cluster.name=Kubernetes,k8s.namespace.name=todo,k8s.deployment.name=ui,service.name=ui;x=y, service.version=0.1,other=1";
        let baggage = Baggage::parse(header);
        assert_eq!(baggage.namespace.as_deref(), Some("todo"));
        assert_eq!(baggage.workload.as_deref(), Some("ui"));
        assert_eq!(baggage.service.as_deref(), Some("ui"));
        assert_eq!(baggage.version.as_deref(), Some("0.1"));
        assert_eq!(baggage.region, None);
    }

    proptest! {
        #[test]
        fn any_value_comes_back_as_it_went(value in "\\PC{1,40}") {
            let mut header = "service.name=".to_owned();
            escape(&value, &mut header);
            prop_assert_eq!(Baggage::parse(header.as_bytes()).service, Some(value));
        }

        #[test]
        fn noise_never_panics(header in proptest::collection::vec(any::<u8>(), 0..200)) {
            Baggage::parse(&header);
        }
    }
}
