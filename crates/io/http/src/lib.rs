//! Requests moved from a client to an endpoint, and answers back.
//!
//! In: a connection that was accepted and whose other end is known ([`Arrival`]), and what is served ([`Snapshot`]). Out: requests routed, balanced, retried
//! and limited as the configuration says, on connections of a pool; connections that are not HTTP relayed; and a [`Record`] of each. HTTP/1.1 and
//! HTTP/2 on both sides, in any combination. It never decides by itself who may do what, never opens a socket and never reads configuration:
//! for that it asks what it is put into ([`Around`]). Everything here belongs to one worker; what an answer needs is polled where the answer is written, so
//! that a request over HTTP/1.1 costs no task and no timer.

mod answer;
mod around;
mod attempt;
mod cluster;
mod engine;
mod exchange;
mod forward;
mod grpc;
mod headers;
mod journey;
mod link;
mod log;
mod meter;
mod mirror;
mod mux;
mod record;
mod relay;
mod reply;
mod serve;
mod settings;
mod sniff;
mod upload;
mod wire;

pub use around::{
    Admission, Around, Arrival, ConnectError, Dial, Edit, Edits, Endpoint, Later, QueryEdit, Refusal, Snapshot, Speaks,
    Target,
};
pub use engine::Engine;
pub use link::{Malformed, Part, Reader};
pub use record::{Call, Flag, Flags, Protocol, Record, Times};
pub use settings::{Breakers, Settings};
