//! The mesh's CA, as far as it needs nobody else.
//!
//! In: signing requests as strangers write them, the CA's own certificates and key, and who asks. Out: a certificate for exactly the
//! identity that was allowed, or the reason why not; and step by step what the CA's Secret is to hold while one root follows another. It
//! opens no socket, reads no file and no clock, and tells nobody its key.

mod authority;
mod bundle;
mod chain;
mod entitlement;
mod files;
mod refusal;
mod request;
mod rotation;
mod secret;
mod serving;

pub use authority::Authority;
pub use bundle::{Bundle, MAX_CERTIFICATES, MAX_FILE_BYTES};
pub use entitlement::{LivePod, Requester, entitled};
pub use files::{AuthorityError, CaFiles};
pub use refusal::Refusal;
pub use request::{MAX_REQUEST_BYTES, SigningRequest};
pub use rotation::{Change, Step, Timing};
pub use secret::CaSecret;
pub use serving::Serving;
