//! Who may enter.
//!
//! In: the policies over a workload, and what is proven of a connection; or those over a service at a waypoint, and a request ([`http`]).
//! Out: a `Decision`, with the policy and the rule that took it, or an `Explanation` of it. It never does I/O, and a decision on a
//! connection allocates nothing.

mod compiled;
mod explain;
mod facts;
mod ground;
pub mod http;
mod index;
mod keys;
mod peer;
mod ranges;
mod rule;
mod set;
mod texts;

pub use compiled::Compiled;
pub use explain::{Action, Considered, Decider, Explanation, Foreseen, Missed, Outcome, Peered, Ruling, labelled};
pub use ground::{Decision, Ground};
pub use peer::{Destination, Peer};
pub use set::PolicySet;
