//! Which way a request goes.
//!
//! In: the routes of one service, a request, who asks, a source of randomness. Out: a [`Decision`], with the object, the rule and the match
//! that took it; and, for each thing a rule may ask for, the function that does it to a request's parts. It never does I/O, reads no clock, knows no
//! HTTP library and no format of configuration: a compiler makes the routes, a proxy acts on the decision.

mod asker;
mod backend;
mod cors;
mod decision;
mod fault;
mod grpc;
mod header;
mod index;
mod layer;
mod matching;
mod path;
mod pattern;
mod rank;
mod redirect;
mod respond;
mod retry;
mod rewrite;
mod rule;
mod session;
mod table;
mod tcp;
#[cfg(test)]
mod testing;
mod text;

pub use asker::{Asker, AskerMatch, MESH};
pub use backend::{Backend, Backends, Destination, Share, Target};
pub use cors::{Cors, CorsAnswer, Credentials, OriginError, OriginMatch, Unmatched};
pub use decision::{Action, Chosen, Decision, Forward, Ground};
pub use fault::{Abort, Delay, Fault, FaultError, Injected, Mirror, Percent, PercentError};
pub use grpc::{GrpcStatus, GrpcStatusError};
pub use header::{Fields, HeaderChanges, HeaderError, HeaderList, HeaderName, HeaderValue};
pub use matching::{Match, Speech};
pub use path::{Case, PathMatch};
pub use pattern::{MAX_PATTERN, Pattern, PatternError};
pub use redirect::{Redirect, RedirectError, RedirectPort, Scheme};
pub use respond::{DirectResponse, MAX_BODY, ResponseError};
pub use retry::{
    Body, Condition, Load, Localities, Outcome, Retry, RetryBudget, RetryError, RetryOn, RetryPolicy, SameEndpoint,
    WhyNot,
};
pub use rewrite::{PathRewrite, RegexRewrite, Rewrite, RewriteError, SubstitutionError};
pub use rule::{Act, Audience, Family, Forwarding, ObjectKind, RouteObject, Rule, Timeouts};
pub use session::{Carrier, Held, Session, SessionError};
pub use table::{MAX_ENTRIES, RouteTable, TableError};
pub use tcp::{TcpAction, TcpDecision, TcpFacts, TcpGround, TcpKind, TcpMatch, TcpObject, TcpRule, TcpTable};
pub use text::StringMatch;
