//! `istio.security.Authorization`, and what ours has beside it.
//!
//! Rules, clauses and matches are kept as bytes: a match is large in memory and two bytes on the wire, so they are counted before they
//! are read, one at a time.

use bytes::Bytes;

use super::workload::Extension;

/// `Authorization`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Authorization {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) namespace: String,
    #[prost(enumeration = "Scope", tag = "3")]
    pub(crate) scope: i32,
    #[prost(enumeration = "Action", tag = "4")]
    pub(crate) action: i32,
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub(crate) rules: Vec<Bytes>,
    #[prost(bool, tag = "6")]
    pub(crate) dry_run: bool,
    #[prost(message, repeated, tag = "7")]
    pub(crate) extensions: Vec<Extension>,
}

/// `Scope`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Scope {
    Global = 0,
    Namespace = 1,
    WorkloadSelector = 2,
}

/// `Action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Action {
    Allow = 0,
    Deny = 1,
}

/// `Rule`: any of a policy's. Without clauses it matches everything.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Rule {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(crate) clauses: Vec<Bytes>,
}

/// `Clause`: all of a rule's. Without matches it matches everything.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Clause {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) matches: Vec<Bytes>,
}

/// `Match`: any of a clause's. One that says nothing matches nothing.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Match {
    #[prost(message, repeated, tag = "1")]
    pub(crate) namespaces: Vec<StringMatch>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) not_namespaces: Vec<StringMatch>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) principals: Vec<StringMatch>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) not_principals: Vec<StringMatch>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) source_ips: Vec<AddressRange>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) not_source_ips: Vec<AddressRange>,
    #[prost(message, repeated, tag = "7")]
    pub(crate) destination_ips: Vec<AddressRange>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) not_destination_ips: Vec<AddressRange>,
    #[prost(uint32, repeated, tag = "9")]
    pub(crate) destination_ports: Vec<u32>,
    #[prost(uint32, repeated, tag = "10")]
    pub(crate) not_destination_ports: Vec<u32>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) service_accounts: Vec<ServiceAccountMatch>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) not_service_accounts: Vec<ServiceAccountMatch>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) extensions: Vec<Extension>,
    /// Ours, and only in an exact rule.
    #[prost(message, repeated, tag = "1001")]
    pub(crate) trust_domains: Vec<StringMatch>,
    /// Ours, and only in an exact rule.
    #[prost(message, repeated, tag = "1002")]
    pub(crate) not_trust_domains: Vec<StringMatch>,
}

/// `StringMatch`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StringMatch {
    #[prost(oneof = "StringMatchType", tags = "1, 2, 3, 4")]
    pub(crate) match_type: Option<StringMatchType>,
}

/// How a text is compared.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum StringMatchType {
    #[prost(string, tag = "1")]
    Exact(String),
    #[prost(string, tag = "2")]
    Prefix(String),
    #[prost(string, tag = "3")]
    Suffix(String),
    #[prost(message, tag = "4")]
    Presence(()),
}

/// `Address` of this package: a range.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AddressRange {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) address: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(crate) length: u32,
}

/// `ServiceAccountMatch`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ServiceAccountMatch {
    #[prost(string, tag = "1")]
    pub(crate) namespace: String,
    #[prost(string, tag = "2")]
    pub(crate) service_account: String,
}

/// What our extension holds: the policy, but for its scope and for those rules that the plain form has as they are.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OwnPolicy {
    #[prost(enumeration = "OwnKind", tag = "1")]
    pub(crate) kind: i32,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(string, optional, tag = "3")]
    pub(crate) file: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(crate) rejected: Option<String>,
    #[prost(enumeration = "OwnAction", tag = "5")]
    pub(crate) action: i32,
    #[prost(bool, tag = "6")]
    pub(crate) dry_run: bool,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub(crate) rules: Vec<Bytes>,
}

/// Of a rule of ours, what is not in the plain rule of the same place.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OwnRule {
    #[prost(uint32, optional, tag = "1")]
    pub(crate) index: Option<u32>,
    #[prost(uint32, optional, tag = "2")]
    pub(crate) line: Option<u32>,
    /// A `Rule`. None where the plain one is exact.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) exact: Option<Bytes>,
}

/// The kind of object that a policy of ours was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum OwnKind {
    Authorization = 0,
    PeerAuthentication = 1,
    RequestAuthentication = 2,
    RequiredWaypoint = 3,
}

/// The action of a policy of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum OwnAction {
    Allow = 0,
    Deny = 1,
    Audit = 2,
}
