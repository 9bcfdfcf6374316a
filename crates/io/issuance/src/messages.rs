//! The messages of `istio.v1.auth`, proto3. Field numbers as in Istio API `security/v1alpha1/ca.proto`.

/// The full name of the service.
pub(crate) const SERVICE: &str = "istio.v1.auth.IstioCertificateService";
/// Its only method, as HTTP/2 calls it.
pub(crate) const CREATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";
/// The field of the metadata that names the identity asked for, when that is not the caller's own.
pub(crate) const IMPERSONATED: &str = "ImpersonatedIdentity";

/// What is asked for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateRequest {
    /// The signing request, PEM.
    #[prost(string, tag = "1")]
    pub csr: String,
    /// How long the certificate shall be valid, in seconds; nothing or less means the CA may choose.
    #[prost(int64, tag = "3")]
    pub validity_duration: i64,
    /// For whom, if it is not for the caller.
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<prost_types::Struct>,
}

/// What is given.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IstioCertificateResponse {
    /// The certificate, what lies between, and last the text of all roots; each PEM.
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
}
