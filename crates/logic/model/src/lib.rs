//! The nouns of the mesh: identities, workloads, services, ports, addresses.
//!
//! In: text and numbers from the edges. Out: types whose every value is legal. It never does I/O, reads a clock, or logs.

mod address;
mod client_tls;
mod flag;
mod flags;
mod identity;
mod name;
mod nearest;
mod policy;
mod service;
mod telemetry;
mod waypoint;
mod workload;

pub use address::{AddressError, OrigDst, Port, canonical_ip, canonical_socket};
pub use client_tls::{ClientTls, KeyFiles, Proof, ServerTrust};
pub use flag::ResponseFlag;
pub use flags::{Flag, Flags};
pub use identity::{SpiffeId, SpiffeIdError, TrustDomain};
pub use name::{
    ClusterId, Hostname, NameError, Namespace, Network, NodeName, ServiceAccount, ServiceName, WorkloadUid,
};
pub use nearest::{hint, nearest};
pub use policy::{
    Clause, Match, Policy, PolicyAction, PolicyKind, PolicyName, PolicyRule, PolicyScope, PolicySource, RulePlace,
    Sides, TextMatch, TextMatchError,
};
pub use service::{AppProtocol, HealthPolicy, Seen, Service, ServicePort};
pub use telemetry::{
    AccessLogging, Fact, Metric, MetricChange, MetricSettings, SAMPLES_OF, SpanTag, TagChange, TelemetrySettings,
    TracingSettings,
};
pub use waypoint::{Termination, WaypointAddress, WaypointDestination};
pub use workload::{Enrolment, Health, LocalPod, Locality, Membership, NetworkMode, Tunnel, Workload, WorkloadKind};
