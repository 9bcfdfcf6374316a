//! `istio.security.Authorization`, whole: what a policy says is read even where it is not enforced.

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
    #[prost(message, repeated, tag = "5")]
    pub(crate) rules: Vec<Rule>,
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

/// `Rule`: any of a policy's.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Rule {
    #[prost(message, repeated, tag = "1")]
    pub(crate) clauses: Vec<Clause>,
}

/// `Clause`: all of a rule's.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Clause {
    #[prost(message, repeated, tag = "2")]
    pub(crate) matches: Vec<Match>,
}

/// `Match`: any of a clause's.
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
