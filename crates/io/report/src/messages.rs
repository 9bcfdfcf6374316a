//! The messages, written by hand: there is nobody else who speaks them.

/// The service, and its method.
pub(crate) const SERVICE: &str = "weir.v1.Enrolment";
pub(crate) const REPORT: &str = "/weir.v1.Enrolment/Report";

/// A pod that is caught.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Message)]
pub struct Caught {
    /// `metadata.namespace`.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// `metadata.name`.
    #[prost(string, tag = "2")]
    pub name: String,
    /// `metadata.uid`.
    #[prost(string, tag = "3")]
    pub uid: String,
}

/// All pods that are caught on the caller's node.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Report {
    #[prost(message, repeated, tag = "1")]
    pub(crate) pods: Vec<Caught>,
}

/// It was heard.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Heard {}
