//! Tunnels over real sockets: with ourselves on both sides, with the `h2` crate on one, and with peers that misbehave.
#![expect(clippy::unwrap_used, reason = "a test may stop where its world is not as it must be")]

mod hostile;
mod mesh;
mod ours;
mod theirs;
