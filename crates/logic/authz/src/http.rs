//! Who may ask for what, at a waypoint.
//!
//! In: the policies over one service, and the facts of a request: who is proven to ask, from where, what for, with which token. Out: an
//! [`HttpDecision`] with the policy and the rule that took it, or an [`HttpExplanation`] of it. It reads no token and no header
//! `X-Forwarded-For`: what they say must be proven before. A decision allocates only where a request is spelt so that it must be spelt
//! anew to be compared.
//!
//! **Paths.** A policy reads the path as a route does ([`NormalPath`](weir_request::NormalPath)), and beside it as an application may that
//! drops parameters and resolves escapes ([`as_served`](weir_request::NormalPath::as_served)): a DENY rule that matches one of the two
//! denies, an ALLOW rule must match both. An application may also take `%2F` and `%5C` for slashes, and several slashes for one. That
//! reading can only refuse: `paths` of DENY and `notPaths` of ALLOW are compared with it too. AUDIT is read as DENY is.
//!
//! **What is not there** is none of any values: what must be one of them fails, and what must not be holds, as Envoy's `not_id` and
//! `not_rule` of what is absent do. So DENY with `notRequestPrincipals: ["*"]` denies requests without a token.

mod ask;
mod decision;
mod explain;
mod facts;
mod path;
mod policy;
mod rule;
mod set;
mod words;

pub use decision::{HttpDecision, HttpForeseen, HttpGround};
pub use explain::{HttpExplanation, Requested};
pub use facts::{HttpFacts, Token};
pub use path::PathPattern;
pub use policy::{HttpClause, HttpField, HttpMatch, HttpPolicy, HttpRule, Part};
pub use set::HttpPolicies;
