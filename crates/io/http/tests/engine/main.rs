//! The engine between clients and backends on loopback: raw sockets on both sides, so that what passes is seen byte for byte.
#![expect(clippy::unwrap_used, reason = "a test may stop where its world is not as it must be")]

mod bed;
mod faults;
mod http1;
mod http2;
mod life;
mod routes;
mod wishes;
