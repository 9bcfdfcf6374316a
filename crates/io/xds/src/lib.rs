//! Discovery on Istio's wire format: delta ADS, server and client.
//!
//! In: deltas of the mesh. Out, over gRPC: resources to whoever subscribed; and at the other end deltas again. It knows
//! nothing of TLS, of Kubernetes, or of where deltas come from. A subscriber's view (`subscription`) and the tables it looks at
//! (`table`) are plain values; [`Store`] shares the tables, [`Discovery`] serves them, and [`Client`] is the other end.

mod client;
mod convert;
mod kind;
mod proto;
mod rehearsal;
mod request;
mod response;
mod server;
mod session;
mod store;
mod subscription;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod texts;

pub use client::{Client, Demand, DemandError, Event, MAX_OBJECT_BYTES, Mode, ObjectChange};
pub use convert::{Address, Authorization, ConvertError, MAX_POLICY_BYTES, MAX_RESOURCE_BYTES};
pub use kind::{Kind, Version, VersionError};
pub use rehearsal::rehearse;
pub use request::{MAX_NAME_BYTES, MAX_NAMES, MAX_NAMES_PER_REQUEST, MAX_VERSIONS, Node, RequestError};
pub use server::{Discovery, Limits, Push, Refused, Report, Stats, Subscriber};
pub use store::{Object, Store, group};
pub use subscription::Standing;
