//! The mesh's CA, as far as it needs nobody else.
//!
//! In: signing requests as strangers write them, the CA's own certificates and key, and who asks. Out: a certificate for exactly the
//! identity that was allowed, or the reason why not. It opens no socket, reads no file and no clock, and tells nobody its key.

mod authority;
mod entitlement;
mod refusal;
mod request;
mod serving;

pub use authority::{Authority, AuthorityError, CaFiles};
pub use entitlement::{LivePod, Requester, entitled};
pub use refusal::Refusal;

pub use request::{MAX_REQUEST_BYTES, SigningRequest};
pub use serving::Serving;
