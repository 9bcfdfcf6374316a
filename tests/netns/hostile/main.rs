//! Peers that are no peers, peers with bad manners, and the pod next door: none gets past, none harms the others.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod crowds;
mod manners;
mod neighbours;
mod requests;
mod scene;
mod strangers;
