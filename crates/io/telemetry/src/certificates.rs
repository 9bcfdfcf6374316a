//! What is told of the certificates a program holds: until when they are good, since when, and how asking for them went.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{Kind, Metrics, Sample, Value};

/// The certificates of a program at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificates {
    /// How many were issued since the start.
    pub issued: u64,
    /// How often the issuer gave none.
    pub failed: u64,
    /// Those that are held.
    pub held: Vec<CertificateSpan>,
}

/// How long one certificate is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSpan {
    /// Whose it is: its SPIFFE ID.
    pub identity: String,
    /// When it begins to be valid.
    pub from: SystemTime,
    /// When it ends to be valid.
    pub until: SystemTime,
}

impl Metrics {
    /// Tells of certificates at each scrape. `read` must not block.
    pub fn certificates(&self, read: impl Fn() -> Certificates + Send + Sync + 'static) {
        let read = Arc::new(read);
        let times = |at: fn(&CertificateSpan) -> SystemTime| {
            let read = read.clone();
            move || read().held.iter().filter_map(|span| sample(span, at(span))).collect::<Vec<_>>()
        };
        let count = |number: fn(&Certificates) -> u64| {
            let read = read.clone();
            move || vec![Sample { labels: Vec::new(), value: Value::Whole(number(&read())) }]
        };
        self.collect(
            "weir_certificate_valid_from_timestamp_seconds",
            "When the certificate of an identity began to be valid",
            Kind::Gauge,
            times(|span| span.from),
        );
        self.collect(
            "weir_certificate_expiry_timestamp_seconds",
            "When the certificate of an identity expires",
            Kind::Gauge,
            times(|span| span.until),
        );
        self.collect("weir_certificates_issued", "Certificates issued", Kind::Counter, count(|all| all.issued));
        self.collect(
            "weir_certificate_failures",
            "Certificates that could not be issued",
            Kind::Counter,
            count(|all| all.failed),
        );
    }
}

/// A time before 1970 is none that a certificate of ours can have.
fn sample(span: &CertificateSpan, at: SystemTime) -> Option<Sample> {
    let seconds = at.duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(Sample { labels: vec![("identity", span.identity.clone())], value: Value::Whole(seconds) })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Exposition;

    #[test]
    fn certificates_are_told_with_both_ends_of_their_time() {
        let metrics = Metrics::of("test", "0");
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let span = |from, until| CertificateSpan { identity: "spiffe://d/ns/a/sa/b".to_owned(), from, until };
        let held = vec![span(at(100), at(200)), span(UNIX_EPOCH - Duration::from_secs(1), at(7))];
        metrics.certificates(move || Certificates { issued: 3, failed: 1, held: held.clone() });
        let text = metrics.render(Exposition::Plain);
        for line in [
            "weir_certificate_valid_from_timestamp_seconds{identity=\"spiffe://d/ns/a/sa/b\"} 100\n",
            "weir_certificate_expiry_timestamp_seconds{identity=\"spiffe://d/ns/a/sa/b\"} 200\n",
            "weir_certificate_expiry_timestamp_seconds{identity=\"spiffe://d/ns/a/sa/b\"} 7\n",
            "weir_certificates_issued_total 3\n",
            "weir_certificate_failures_total 1\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("weir_certificate_valid_from_timestamp_seconds{").count(), 1, "{text}");
    }
}
