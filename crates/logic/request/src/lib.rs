//! What a request says, read once, so that a route and a policy cannot read it differently.
//!
//! In: the head of a request as an HTTP library found it. Out: a [`Request`] whose path has one spelling only, or the reason why the
//! request is refused (400). It never does I/O, knows no HTTP library, and allocates only when the path must be spelt anew.

mod host;
mod path;
mod query;
mod request;

pub use host::{Authority, Host, HostError, HostPattern};
pub use path::{LevelError, MAX_TARGET, NormalPath, Normalization, PathError, spelt};
pub use query::{Query, Value};
pub use request::{Header, MAX_HEADERS, MAX_METHOD, Parts, Request, RequestError};
