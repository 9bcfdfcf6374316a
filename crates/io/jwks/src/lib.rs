//! The keys of issuers of tokens, fetched from where their rules say, and kept fresh.
//!
//! In: which sources of keys the rules of the moment name. Out: a snapshot of key sets that workers read without a lock. Whoever writes a rule can name
//! any URL, so addresses that only this program can reach are refused unless the operator allows them. A redirect is never followed, and keys
//! that were fetched once stay until others are: an issuer that is away lets nobody down.

mod error;
mod fetcher;
mod get;
mod guard;
mod state;
mod tls;

pub use error::{FetchError, RootsError};
pub use fetcher::{Config, Fetcher, Handle};
pub use get::MAX_RESPONSE;
pub use guard::{Allowed, NotAllowed, Refused};
pub use tls::Roots;
