//! What the server counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why somebody got no certificate, as metrics group it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The caller proved nothing.
    Unproven,
    /// The message was too long, damaged, or not there in time.
    Unreadable,
    /// The caller asks too often.
    Throttled,
    /// Too many ask at once, or for more than can be signed.
    Busy,
    /// The identity asked for cannot be read.
    BadIdentity,
    /// The caller may not have it.
    NotEntitled,
    /// The signing request is bad, or asks for more.
    BadRequest,
    /// The CA cannot sign.
    Signing,
}

impl Reason {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Unproven,
        Self::Unreadable,
        Self::Throttled,
        Self::Busy,
        Self::BadIdentity,
        Self::NotEntitled,
        Self::BadRequest,
        Self::Signing,
    ];

    /// One word, for a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unproven => "unproven",
            Self::Unreadable => "unreadable",
            Self::Throttled => "throttled",
            Self::Busy => "busy",
            Self::BadIdentity => "bad_identity",
            Self::NotEntitled => "not_entitled",
            Self::BadRequest => "bad_request",
            Self::Signing => "signing",
        }
    }
}

/// What the server counted since it began. The names in the lines below are those of Istio's metrics.
#[derive(Debug, Default)]
pub struct Stats {
    /// Signing requests that were read. `citadel_server_csr_count`.
    pub requests: AtomicU64,
    /// Certificates given out. `citadel_server_success_cert_issuance_count`.
    pub issued: AtomicU64,
    /// In the order of [`Reason::ALL`].
    refused: [AtomicU64; Reason::ALL.len()],
}

impl Stats {
    /// How many were refused for this reason.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.count(reason).load(Relaxed)
    }

    /// Callers that proved nothing or asked for what they may not have. `citadel_server_authentication_failure_count`.
    pub fn authentication_failures(&self) -> u64 {
        self.refused(Reason::Unproven) + self.refused(Reason::NotEntitled)
    }

    /// Signing requests that were bad. `citadel_server_csr_parsing_err_count`.
    pub fn parsing_errors(&self) -> u64 {
        self.refused(Reason::BadRequest)
    }

    /// Identities that could not be read. `citadel_server_id_extraction_err_count`.
    pub fn id_extraction_errors(&self) -> u64 {
        self.refused(Reason::BadIdentity)
    }

    /// Signatures that failed. `citadel_server_csr_sign_err_count`.
    pub fn sign_errors(&self) -> u64 {
        self.refused(Reason::Signing)
    }

    pub(crate) fn refuse(&self, reason: Reason) {
        self.count(reason).fetch_add(1, Relaxed);
    }

    fn count(&self, reason: Reason) -> &AtomicU64 {
        let [unproven, unreadable, throttled, busy, bad_identity, not_entitled, bad_request, signing] = &self.refused;
        match reason {
            Reason::Unproven => unproven,
            Reason::Unreadable => unreadable,
            Reason::Throttled => throttled,
            Reason::Busy => busy,
            Reason::BadIdentity => bad_identity,
            Reason::NotEntitled => not_entitled,
            Reason::BadRequest => bad_request,
            Reason::Signing => signing,
        }
    }
}
