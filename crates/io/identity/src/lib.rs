//! Workload certificates: issue, hold, renew; TLS configurations.
//!
//! In: identities of the node's pods, and something that signs for them ([`Issuer`]). Out: rustls configurations that speak
//! nothing but mutual TLS 1.3 and believe nobody whose identity was not proven. It never opens a socket, never writes a
//! workload's key to disk, and never hands out an expired certificate.

mod certificate;
mod development_ca;
mod error;
mod expiry;
mod holder;
mod issuer;
mod published;
mod renewal;
mod root_files;
mod tls;
mod verifier;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod rotation_tests;

pub use certificate::{WorkloadCertificate, peer_identity};
pub use development_ca::DevelopmentCa;
pub use error::{Error, causes, handshake_failure, refusal};
pub use expiry::{backoff, renew_at};
pub use holder::{CertificateReport, CertificateState, Identities};
pub use issuer::{Issuer, Issuing};
pub use published::follow_roots;
pub use tls::{WorkloadTls, no_server_name, require_h2};
