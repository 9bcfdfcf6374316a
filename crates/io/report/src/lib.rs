//! Which pods an agent has caught, told to the control plane: `weir.v1.Enrolment`, both ends of it.
//!
//! In: pods that are caught on a node, and who says so. Out: the same on the control plane's side, from nobody but an agent that proved its node.
//! It knows neither how a pod is caught nor what is done with the news.

mod client;
mod messages;
mod server;
#[cfg(test)]
mod tests;

pub use client::{ReportError, Reporter};
pub use messages::Caught;
pub use server::{Reports, Sink};
