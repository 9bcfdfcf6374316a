//! What a token in a request proves: where it is looked for, whose it is, whether it is good, and what it says.
//!
//! In: rules of RequestAuthentications, a [`Request`](weir_request::Request), the keys of issuers and the time. Out: who the request is from
//! and what its headers become, or the reason to refuse it. It never fetches a key and never reads a clock; signatures are checked by aws-lc.
//!
//! What differs from Envoy's `jwt_authn` as Istio configures it: every token that stands where a rule looks must be good, not one of them; a
//! token that is not forwarded is taken out of queries and cookies, too; `crit` is refused; a token that says when it expires expires, also
//! at 0; `bearer` is a scheme in any case of its letters; a prefix is one only at the beginning of a value.

mod algorithm;
mod keys;
mod place;
mod proven;
mod rejected;
mod rules;
mod token;
mod verified;

pub use algorithm::Algorithm;
pub use keys::{KeySet, KeySetError, Keys};
pub use proven::Proven;
pub use rejected::{Reason, Rejected};
pub use rules::{DEFAULT_TIMEOUT, SKEW, TokenRules};
pub use token::MAX_TOKEN;
pub use verified::{Changes, Checked, Claims, QueryChange, Verified};
