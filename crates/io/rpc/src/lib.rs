//! gRPC over TLS: who calls, the server that lets them, and the client that calls.
//!
//! In: listeners, credentials, services. Out: calls that carry their proven [`Caller`]. It knows nothing of what is called, and
//! lets nobody in who proved nothing.

mod caller;

pub use caller::{Caller, Credential, Unproven, Verify, Verifying};
