//! What policies mean, that they mean it fast, and what is said of it.
#![expect(clippy::unwrap_used, reason = "a test may stop where its scene is not as it must be")]

mod allocations;
mod generated;
mod golden;
mod http;
mod laws;
mod naive;
mod scene;
mod semantics;
