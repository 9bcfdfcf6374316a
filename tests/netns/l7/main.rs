//! Requests through a waypoint, with real agents, by programs that are not ours: who is served, by whom, and who is not.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod clients;
mod controlled;
mod destinations;
mod faults;
mod gateway;
mod handed;
mod looked;
mod policies;
mod replicas;
mod routes;
mod scene;
mod seen;
