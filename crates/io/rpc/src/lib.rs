//! gRPC over TLS: who calls, the server that lets them, and the client that calls.
//!
//! In: listeners, credentials, services. Out: calls that carry their proven [`Caller`]. It knows nothing of what is called, and
//! lets nobody in who proved nothing, but for short questions that anybody may ask ([`serve_https`]).

mod caller;
mod channel;
mod https;
mod server;
mod services;
mod target;
#[cfg(test)]
mod tests;
mod tls;

pub use caller::{Caller, Credential, Unproven, Verify, Verifying};
pub use channel::{Channel, Dial, DialError};
pub use https::{Question, Reply, serve_https};
pub use server::{Limits, Server, Stats};
pub use services::{Answer, Call, Services};
pub use target::{Target, TargetError};
pub use tls::{ServerTls, TlsError, TlsFiles};
