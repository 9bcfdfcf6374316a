//! What is seen of a mesh at work: a Prometheus scrapes it, and is asked everything that dashboards, Istio's included, and alerts ask.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod faults;
mod istio;
mod panels;
mod pictures;
mod prometheus;
mod scene;
mod shipped;
