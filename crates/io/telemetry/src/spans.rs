//! Traces: which request belongs to which, whether it is recorded, and the record of it on its way to a collector.
//!
//! In: the headers of a request, what the Telemetry API asks for, and later the [`crate::HttpRecord`]. Out: headers for the next
//! hop, and spans by OTLP, in batches, from a queue with a bound: a collector that is slow or gone costs spans, never a request.

mod context;
mod endpoint;
mod export;
mod otlp;
mod request_id;
mod span;

pub use context::TraceContext;
pub use endpoint::{EndpointError, OtlpEndpoint};
pub use export::{Exporter, Pace, SpanLog, exporter};
pub use request_id::RequestId;
pub use span::{Proxy, Span};
