//! What is wrong or without effect in what users declare, and what to do about it.
//!
//! In: objects, with the errors of those that cannot be read. Out: findings, each with a code, the object, a field, a line and advice. What
//! becomes of routes and policies it asks the compiler, and never judges it a second time. It never does I/O.

mod analyze;
mod code;
mod compiled;
mod finding;
mod ground;
mod meant;
mod review;
mod rules;
mod suppress;

pub use analyze::{analyze, judge};
pub use code::{Code, Severity};
pub use finding::Finding;
pub use review::{MAX_REVIEW, Review, ReviewError, Verdict};
pub use suppress::{Suppression, SuppressionError, suppressed};
