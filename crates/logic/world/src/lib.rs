//! The mesh as one immutable value, and the decisions taken on it.
//!
//! In: a `Mesh` from any source. Out: for a connection a pod makes, a `Plan`; for one that wants in, a `Verdict` whose
//! `Permit` is the only right to deliver. It never does I/O, and a decision allocates nothing but what its answer holds.

mod endpoint;
mod explain;
mod inbound;
mod mesh;
mod moves;
mod outbound;
mod policies;
mod question;
mod record;
mod refusal;
mod remedy;
mod slab;
mod table;
#[cfg(test)]
mod testing;
mod waypoint;
mod world;

pub use endpoint::{Endpoint, Family, Way};
pub use explain::ExplainError;
pub use inbound::{Handover, Inbound, Permit, Source, Verdict};
pub use mesh::{Delta, Mesh};
pub use outbound::{HBONE_PORT, PassthroughPlan, Plan, TunnelPlan};
pub use question::{Client, QuestionError, Target, Who};
pub use refusal::{Refusal, Unmet};
pub use waypoint::{Bound, Thing};
pub use world::World;
