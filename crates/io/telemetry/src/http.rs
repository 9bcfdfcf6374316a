//! What is told of each request at a waypoint: Istio's metrics, and a line of Envoy's access log.
//!
//! In: one [`HttpRecord`] for each request that ended, and what the Telemetry API asks for. Out: counters, each worker's its own,
//! added up at a scrape; and a log line, in which nothing a peer wrote can end a value or begin a line.

pub(crate) mod fact;
mod labels;
mod line;
mod meter;
mod record;
mod series;

pub use meter::{HttpMeter, TcpCounts};
pub use record::{GrpcRecord, HttpParty, HttpProtocol, HttpRecord, HttpSecurity, TcpSubject, UpstreamRecord};
pub(crate) use series::Requests;
