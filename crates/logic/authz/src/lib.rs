//! Who may enter.
//!
//! In: the policies over a workload, and what is proven of a connection. Out: a `Decision`, with the policy and the rule that took it.
//! It never does I/O, and a decision allocates nothing.

mod compiled;
mod ground;
mod peer;
mod set;

pub use compiled::Compiled;
pub use ground::{Decision, Ground};
pub use peer::{Destination, Peer};
pub use set::PolicySet;
