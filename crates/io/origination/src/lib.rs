//! TLS that a proxy opens itself, to endpoints outside of the mesh.
//!
//! In: how it is to be opened ([`ClientTls`](weir_model::ClientTls)), a connection, and whom it leads to. Out: that connection with TLS on it, whose server
//! has proven to be who was expected, or the reason why not. Files are read when they are first needed and followed from then on: a certificate that is
//! renewed counts from the next connection on, and one that cannot be read leaves the last good one in force. It never opens a socket, and believes nobody
//! that it was not told to believe.

mod error;
mod files;
mod originator;
mod verifier;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use originator::{Alpn, Originator, Peer, TlsStream};
