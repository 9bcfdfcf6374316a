//! What the agent lets people see: metrics, access log, readiness, the admin pages, and who may not see them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admin;
mod exposition;
mod logs;
mod metrics;
mod readiness;
mod scene;
mod weirctl;
