//! What runs in the pods: servers to talk to, and clients that talk and measure.

mod connect;
mod histogram;
mod hold;
mod http_answer;
mod reactor;
mod request;
mod serve_http;
mod serve_tcp;
mod stream;

pub use connect::{ConnectLoad, ConnectReport};
pub use histogram::{Histogram, Latency};
pub use hold::{Hold, HoldReport};
pub(crate) use http_answer::message_length;
pub(crate) use request::request_bytes;
pub use request::{RequestLoad, RequestReport, as_float};
pub use serve_http::HttpServer;
pub use serve_tcp::{TcpMode, TcpServer};
pub use stream::{Direction, StreamLoad, StreamReport};

/// Raises the limit of open files as far as the kernel lets it.
///
/// # Errors
/// When the limit cannot even be read.
pub fn raise_file_limit() -> anyhow::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}
