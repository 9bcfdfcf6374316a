//! gRPC over TLS: who calls, the server that lets them, and the client that calls.
//!
//! In: listeners, credentials, services. Out: calls that carry their proven [`Caller`]. It knows nothing of what is called, and
//! lets nobody in who proved nothing.

mod caller;
mod channel;
mod server;
mod services;
mod target;
#[cfg(test)]
mod tests;
mod tls;

pub use caller::{Caller, Credential, Unproven, Verify, Verifying};
pub use channel::{Channel, Dial, DialError};
pub use server::{Limits, Server, Stats};
pub use services::{Answer, Call, Services};
pub use target::{Target, TargetError};
pub use tls::{ServerTls, TlsError, TlsFiles};
