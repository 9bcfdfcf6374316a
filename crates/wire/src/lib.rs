//! Bytes to types and back: HTTP/2 frames, HPACK, the HBONE head, ZDS, the PROXY protocol.
//!
//! In: bytes as they came off the wire, in any pieces. Out: frames, header lists, CONNECT heads. It never opens a socket,
//! waits, or logs; every reader has a size bound and an error that says what was wrong.

pub mod baggage;
pub mod client_hello;
pub mod frame;
pub mod head;
pub mod hpack;
pub mod parser;
pub mod proxy_v1;
pub mod proxy_v2;
pub mod trace;
pub mod zds;
