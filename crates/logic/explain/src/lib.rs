//! Where a connection or a request goes, hop by hop, which object and rule says so, and why.
//!
//! In: a [`Question`] as a person types it, and the mesh as whoever is asked knows it ([`Scene`]). Out: [`Explained`], the same for people and for
//! programs. Everything is asked of the code that decides on the data path: the agent's plan and verdict, the waypoint's tokens, policies, routes
//! and destinations. Nothing is decided here, no key is fetched, and of what is drawn by lot all that may come out is told.

mod agents;
mod ends;
mod explain;
mod explained;
mod http;
pub mod listing;
mod onward;
mod outside;
mod question;
mod request;
mod scene;
mod tcp;
mod text;
mod waypoint;

pub use ends::ExplainError;
pub use explain::explain;
pub use explained::{About, Asked, Asking, At, Declared, Explained, Hop, Place, ReachedBy, Routed, Step, Verdict};
pub use question::{AskError, FIELDS, Question, QuestionError, Wanted};
pub use request::{RequestText, RequestTextError};
pub use scene::{Scene, Served};
